package push_test

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/notify"
	"github.com/kubeagents/kubeagents/internal/push"
)

var base64url = base64.RawURLEncoding

// browser is what a browser keeps of a subscription.
type browser struct {
	private *ecdh.PrivateKey
	auth    []byte
}

func newBrowser(t *testing.T) browser {
	t.Helper()
	private, err := ecdh.P256().GenerateKey(rand.Reader)
	require.NoError(t, err)
	auth := make([]byte, 16)
	rand.Read(auth) //nolint:errcheck // never fails
	return browser{private, auth}
}

func (b browser) subscription(endpoint string) push.Subscription {
	return push.Subscription{
		Endpoint: endpoint, P256dh: base64url.EncodeToString(b.private.PublicKey().Bytes()), Auth: base64url.EncodeToString(b.auth),
	}
}

// decrypt returns the content of a body that consists of one record of aes128gcm (RFC 8188), as RFC 8291 describes it.
// It does not use the library that encrypts.
func (b browser) decrypt(t testing.TB, body []byte) []byte {
	t.Helper()
	require.Greater(t, len(body), 21+65)
	salt, size, length := body[:16], binary.BigEndian.Uint32(body[16:20]), int(body[20])
	require.Equal(t, 65, length)
	server, record := body[21:21+length], body[21+length:]
	require.Greater(t, int(size), 18)
	require.LessOrEqual(t, len(record), int(size), "one record")

	serverKey, err := ecdh.P256().NewPublicKey(server)
	require.NoError(t, err)
	shared, err := b.private.ECDH(serverKey)
	require.NoError(t, err)
	derive := func(secret, salt []byte, info string, n int) []byte {
		key, err := hkdf.Key(sha256.New, secret, salt, info, n)
		require.NoError(t, err)
		return key
	}
	input := derive(shared, b.auth, "WebPush: info\x00"+string(b.private.PublicKey().Bytes())+string(server), 32)
	block, err := aes.NewCipher(derive(input, salt, "Content-Encoding: aes128gcm\x00", 16))
	require.NoError(t, err)
	gcm, err := cipher.NewGCM(block)
	require.NoError(t, err)
	padded, err := gcm.Open(nil, derive(input, salt, "Content-Encoding: nonce\x00", 12), record, nil)
	require.NoError(t, err)
	content := strings.TrimRight(string(padded), "\x00")
	require.True(t, strings.HasSuffix(content, "\x02"), "the delimiter of the last record")
	return []byte(strings.TrimSuffix(content, "\x02"))
}

// TestDecryptionOfTheTests checks decrypt with the example of RFC 8291, appendix A.
func TestDecryptionOfTheTests(t *testing.T) {
	of := func(text string) []byte {
		b, err := base64url.DecodeString(text)
		require.NoError(t, err)
		return b
	}
	private, err := ecdh.P256().NewPrivateKey(of("q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94"))
	require.NoError(t, err)
	b := browser{private, of("BTBZMqHH6r4Tts7J_aSIgg")}
	body := of("DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN")
	assert.Equal(t, "When I grow up, I want to be a watermelon", string(b.decrypt(t, body)))
}

// shown is a payload as the service worker reads it.
type shown struct {
	ID, Tag, Kind, Title, Body, URL string
	Timestamp                       int64
	Renotify, Withdrawn             bool
}

// pushed is a message that a push service took.
type pushed struct {
	shown
	ttl            int
	urgency, topic string
	raw            string
}

const subject = "mailto:ops@example.com"

// service is a push service on this machine, with one browser that is subscribed. A request that the RFCs do not allow
// fails the test.
type service struct {
	*httptest.Server
	t       *testing.T
	keys    *push.Keys
	browser browser
	subject string // that the requests must name

	mu    sync.Mutex
	taken []pushed
}

func newService(t *testing.T) *service {
	t.Helper()
	keys, err := push.NewKeys()
	require.NoError(t, err)
	s := &service{t: t, keys: keys, browser: newBrowser(t), subject: subject}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(s.take))
	s.EnableHTTP2 = true
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // some tests end connections
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

const secretPath = "/s3cret-endpoint"

// sender returns a sender to the browser. It may connect to this machine.
func (s *service) sender() notify.Sender {
	subscription := s.browser.subscription(s.URL + secretPath)
	require.NoError(s.t, subscription.Check(true))
	return push.NewSender(s.keys, s.subject, subscription, s.client(true))
}

func (s *service) client(allowPrivate bool) *http.Client {
	client := push.NewClient(allowPrivate)
	client.Transport.(*http.Transport).TLSClientConfig = s.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	s.t.Cleanup(client.CloseIdleConnections)
	return client
}

// one returns the only message that the service took.
func (s *service) one() pushed {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	require.Len(s.t, s.taken, 1)
	return s.taken[0]
}

func (s *service) take(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	assert.NoError(s.t, err)
	assert.Equal(s.t, "POST "+secretPath, r.Method+" "+r.URL.Path)
	assert.Equal(s.t, 2, r.ProtoMajor, "HTTP/2, as RFC 8030 asks for")
	assert.Equal(s.t, "aes128gcm", r.Header.Get("Content-Encoding"))
	assert.Regexp(s.t, "^KubeAgents/", r.Header.Get("User-Agent"))
	assert.Len(s.t, body, 2816, "all messages have the same length, which Firefox on Android takes")
	assert.Regexp(s.t, `^[A-Za-z0-9_-]{1,32}$`, r.Header.Get("Topic"))
	s.checkVAPID(r)

	p := pushed{urgency: r.Header.Get("Urgency"), topic: r.Header.Get("Topic"), raw: string(s.browser.decrypt(s.t, body))}
	p.ttl, err = strconv.Atoi(r.Header.Get("TTL"))
	assert.NoError(s.t, err)
	assert.NoError(s.t, json.Unmarshal([]byte(p.raw), &p.shown), p.raw)
	s.mu.Lock()
	s.taken = append(s.taken, p)
	s.mu.Unlock()
	w.WriteHeader(http.StatusCreated)
}

var vapid = regexp.MustCompile(`^vapid t=([\w-]+)\.([\w-]+)\.([\w-]+), k=([\w-]+)$`)

// checkVAPID checks the Authorization header, as RFC 8292 describes it.
func (s *service) checkVAPID(r *http.Request) {
	parts := vapid.FindStringSubmatch(r.Header.Get("Authorization"))
	if !assert.NotNil(s.t, parts, r.Header.Get("Authorization")) {
		return
	}
	var header struct{ Typ, Alg string }
	var claims struct {
		Aud, Sub string
		Exp      int64
	}
	for i, into := range []any{&header, &claims} {
		part, err := base64url.DecodeString(parts[i+1])
		assert.NoError(s.t, err)
		assert.NoError(s.t, json.Unmarshal(part, into))
	}
	assert.Equal(s.t, "ES256", header.Alg)
	assert.Equal(s.t, s.URL, claims.Aud)
	assert.Equal(s.t, s.subject, claims.Sub)
	left := time.Until(time.Unix(claims.Exp, 0))
	assert.True(s.t, 0 < left && left <= 24*time.Hour, "expires in %s", left)

	assert.Equal(s.t, s.keys.Public(), parts[4])
	point, err := base64url.DecodeString(parts[4])
	assert.NoError(s.t, err)
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	assert.NoError(s.t, err)
	signature, err := base64url.DecodeString(parts[3])
	assert.NoError(s.t, err)
	if assert.Len(s.t, signature, 64) {
		sum := sha256.Sum256([]byte(parts[1] + "." + parts[2]))
		r, s2 := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
		assert.True(s.t, ecdsa.Verify(public, sum[:], r, s2), "the signature")
	}
}
