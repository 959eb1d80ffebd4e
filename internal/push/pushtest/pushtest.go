// Package pushtest is a push service and a browser, for tests. It decrypts and verifies by itself what package push
// encrypts and signs with a library.
package pushtest

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

// Browser is what a browser keeps of a subscription.
type Browser struct {
	Private *ecdh.PrivateKey
	Auth    []byte
}

// NewBrowser returns a browser with new keys.
func NewBrowser(t testing.TB) Browser {
	t.Helper()
	private, err := ecdh.P256().GenerateKey(rand.Reader)
	require.NoError(t, err)
	auth := make([]byte, 16)
	rand.Read(auth) //nolint:errcheck // never fails
	return Browser{private, auth}
}

// Subscription returns the browser's subscription at an endpoint.
func (b Browser) Subscription(endpoint string) push.Subscription {
	return push.Subscription{
		Endpoint: endpoint, P256dh: base64url.EncodeToString(b.Private.PublicKey().Bytes()), Auth: base64url.EncodeToString(b.Auth),
	}
}

// Decrypt returns the content of a body that consists of one record of aes128gcm (RFC 8188), as RFC 8291 describes it.
func (b Browser) Decrypt(t testing.TB, body []byte) []byte {
	t.Helper()
	require.Greater(t, len(body), 21+65)
	salt, size, length := body[:16], binary.BigEndian.Uint32(body[16:20]), int(body[20])
	require.Equal(t, 65, length)
	server, record := body[21:21+length], body[21+length:]
	require.Greater(t, int(size), 18)
	require.LessOrEqual(t, len(record), int(size), "one record")

	serverKey, err := ecdh.P256().NewPublicKey(server)
	require.NoError(t, err)
	shared, err := b.Private.ECDH(serverKey)
	require.NoError(t, err)
	derive := func(secret, salt []byte, info string, n int) []byte {
		key, err := hkdf.Key(sha256.New, secret, salt, info, n)
		require.NoError(t, err)
		return key
	}
	input := derive(shared, b.Auth, "WebPush: info\x00"+string(b.Private.PublicKey().Bytes())+string(server), 32)
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

// Message is a payload as the service worker reads it.
type Message struct {
	ID, Tag, Kind, Title, Body, URL string
	Timestamp                       int64
	Renotify, Withdrawn             bool
}

// Pushed is a message that a push service took.
type Pushed struct {
	Message
	TTL            int // seconds
	Urgency, Topic string
	Raw            string // the payload
}

// Subject is the one that requests to a [Service] must have, unless it says another.
const Subject = "mailto:ops@example.com"

// Service is a push service on this machine, with one browser that is subscribed. A request that the RFCs do not allow
// fails the test.
type Service struct {
	*httptest.Server
	Keys    *push.Keys // that the requests must be signed with
	Browser Browser
	Subject string // that the requests must name

	t     testing.TB
	mu    sync.Mutex
	taken []Pushed
}

// NewService returns a service with HTTPS on a port of this machine, which is closed at the end of the test.
func NewService(t testing.TB) *Service {
	t.Helper()
	keys, err := push.NewKeys()
	require.NoError(t, err)
	s := &Service{t: t, Keys: keys, Browser: NewBrowser(t), Subject: Subject}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(s.take))
	s.EnableHTTP2 = true
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // some tests end connections
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

const path = "/s3cret-endpoint"

// Subscription returns the browser's subscription at this service.
func (s *Service) Subscription() push.Subscription { return s.Browser.Subscription(s.URL + path) }

// Sender returns a sender to the browser. It may connect to this machine.
func (s *Service) Sender() notify.Sender {
	require.NoError(s.t, s.Subscription().Check(true))
	return push.NewSender(s.keys, s.Subject, s.Subscription(), s.PushClient(true))
}

func (s *Service) keys() *push.Keys { return s.Keys }

// PushClient returns [push.NewClient], which trusts the service's certificate.
func (s *Service) PushClient(allowPrivate bool) *http.Client {
	client := push.NewClient(allowPrivate)
	client.Transport.(*http.Transport).TLSClientConfig = s.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	s.t.Cleanup(client.CloseIdleConnections)
	return client
}

// Taken returns the messages that the service took since it was last called.
func (s *Service) Taken() []Pushed {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := s.taken
	s.taken = nil
	return taken
}

// One is like Taken, for a single message.
func (s *Service) One() Pushed {
	s.t.Helper()
	taken := s.Taken()
	require.Len(s.t, taken, 1)
	return taken[0]
}

func (s *Service) take(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	assert.NoError(s.t, err)
	assert.Equal(s.t, "POST "+path, r.Method+" "+r.URL.Path)
	assert.Equal(s.t, 2, r.ProtoMajor, "HTTP/2, as RFC 8030 asks for")
	assert.Equal(s.t, "aes128gcm", r.Header.Get("Content-Encoding"))
	assert.Regexp(s.t, "^KubeAgents/", r.Header.Get("User-Agent"))
	assert.Len(s.t, body, 2816, "all messages have the same length, which Firefox on Android takes")
	assert.Regexp(s.t, `^[A-Za-z0-9_-]{1,32}$`, r.Header.Get("Topic"))
	s.checkVAPID(r)

	p := Pushed{Urgency: r.Header.Get("Urgency"), Topic: r.Header.Get("Topic"), Raw: string(s.Browser.Decrypt(s.t, body))}
	p.TTL, err = strconv.Atoi(r.Header.Get("TTL"))
	assert.NoError(s.t, err)
	assert.NoError(s.t, json.Unmarshal([]byte(p.Raw), &p.Message), p.Raw)
	s.mu.Lock()
	s.taken = append(s.taken, p)
	s.mu.Unlock()
	w.WriteHeader(http.StatusCreated)
}

var vapid = regexp.MustCompile(`^vapid t=([\w-]+)\.([\w-]+)\.([\w-]+), k=([\w-]+)$`)

// checkVAPID checks the Authorization header, as RFC 8292 describes it.
func (s *Service) checkVAPID(r *http.Request) {
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
	assert.Equal(s.t, s.Subject, claims.Sub)
	left := time.Until(time.Unix(claims.Exp, 0))
	assert.True(s.t, 0 < left && left <= 24*time.Hour, "expires in %s", left)

	assert.Equal(s.t, s.Keys.Public(), parts[4])
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
