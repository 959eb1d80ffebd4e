package cluster_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/cluster"
	"github.com/kubeagents/kubeagents/internal/natstest"
)

// A password that no log and no error may contain.
const secret = "s3cr3t-of-the-test"

// settingsFor returns settings that reach nodes without credentials.
func settingsFor(urls ...string) cluster.Settings {
	return cluster.Settings{URLs: urls, Stream: "KUBEAGENTS", Replicas: 1}
}

// connected connects, and closes the connection at the end of the test.
func connected(t *testing.T, settings cluster.Settings, l *lines) *cluster.Conn {
	t.Helper()
	c, err := cluster.Connect(t.Context(), settings, l.logger())
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// fileWith writes a file, or writes it anew.
func fileWith(t *testing.T, path, text string) string {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// files are what the tests' users have: passwords, keys and certificates.
type files struct {
	t   *testing.T
	dir string
}

func (f files) write(name, text string) string {
	return fileWith(f.t, filepath.Join(f.dir, name), text)
}

func newFiles(t *testing.T) files { return files{t, t.TempDir()} }

// user makes an NKey, and returns its public key and the file of its seed.
func (f files) user(name string) (public, seedFile string) {
	pair, err := nkeys.CreateUser()
	require.NoError(f.t, err)
	seed, err := pair.Seed()
	require.NoError(f.t, err)
	public, err = pair.PublicKey()
	require.NoError(f.t, err)
	return public, f.write(name, string(seed))
}

// authority signs certificates.
type authority struct {
	files
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	file string
}

func (f files) authority(name string) authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(f.t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(f.t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(f.t, err)
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return authority{f, key, cert, f.write(name+".pem", string(text))}
}

// sign makes a certificate for 127.0.0.1 or, if host is not empty, for that name.
func (a authority) sign(name, host string) (certFile, keyFile string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a.t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if host == "" {
		template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	} else {
		template.DNSNames = []string{host}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	require.NoError(a.t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(a.t, err)
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return a.write(name+".pem", string(cert)),
		a.write(name+".key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
}

// requireTLS has a node serve the certificate that an authority signed, and ask for clients' if verify is true.
func (a authority) requireTLS(host string, verify bool) func(*natsserver.Options) {
	certFile, keyFile := a.sign(rand.Text(), host)
	return func(o *natsserver.Options) {
		config, err := natsserver.GenTLSConfig(&natsserver.TLSConfigOpts{
			CertFile: certFile, KeyFile: keyFile, CaFile: a.file, Verify: verify,
		})
		require.NoError(a.t, err)
		o.TLSConfig, o.TLS, o.TLSVerify, o.TLSTimeout = config, true, verify, 5
	}
}

// jwtUsers sets a node up for users with JWTs, and returns the file of one user's credentials.
func (f files) jwtUsers() (configure func(*natsserver.Options), credsFile string) {
	pair := func(create func() (nkeys.KeyPair, error)) (nkeys.KeyPair, string) {
		pair, err := create()
		require.NoError(f.t, err)
		public, err := pair.PublicKey()
		require.NoError(f.t, err)
		return pair, public
	}
	operator, operatorKey := pair(nkeys.CreateOperator)
	_, systemKey := pair(nkeys.CreateAccount)
	account, accountKey := pair(nkeys.CreateAccount)
	user, userKey := pair(nkeys.CreateUser)

	operatorClaims := jwt.NewOperatorClaims(operatorKey)
	operatorClaims.SystemAccount = systemKey
	accountClaims := jwt.NewAccountClaims(accountKey)
	accountClaims.Limits.DiskStorage, accountClaims.Limits.MemoryStorage = jwt.NoLimit, jwt.NoLimit
	encode := func(claims jwt.Claims, by nkeys.KeyPair) string {
		text, err := claims.Encode(by)
		require.NoError(f.t, err)
		return text
	}
	resolver := &natsserver.MemAccResolver{}
	require.NoError(f.t, resolver.Store(systemKey, encode(jwt.NewAccountClaims(systemKey), operator)))
	require.NoError(f.t, resolver.Store(accountKey, encode(accountClaims, operator)))
	userText := encode(jwt.NewUserClaims(userKey), account)

	seed, err := user.Seed()
	require.NoError(f.t, err)
	creds, err := jwt.FormatUserConfig(userText, seed)
	require.NoError(f.t, err)
	return func(o *natsserver.Options) {
		o.TrustedOperators = []*jwt.OperatorClaims{operatorClaims}
		o.SystemAccount = systemKey
		o.AccountResolver = resolver
	}, f.write("user.creds", string(creds))
}

// withPassword lets in one user.
func withPassword(o *natsserver.Options) { o.Username, o.Password = "kube", secret }

// TestConnectWays connects in each way that the settings offer.
func TestConnectWays(t *testing.T) {
	t.Parallel()
	f := newFiles(t)
	password := f.write("password", secret+"\n")
	public, seed := f.user("seed")
	jwtUsers, creds := f.jwtUsers()
	ca := f.authority("ca")
	certFile, keyFile := ca.sign("client", "")
	for name, way := range map[string]struct {
		node     func(*natsserver.Options)
		settings func(*cluster.Settings)
	}{
		"nothing": {func(*natsserver.Options) {}, func(*cluster.Settings) {}},
		"a user and a password": {withPassword, func(s *cluster.Settings) {
			s.User, s.PasswordFile = "kube", password
		}},
		"a user in the address": {withPassword, func(s *cluster.Settings) {
			s.URLs[0] = strings.Replace(s.URLs[0], "://", "://kube:"+secret+"@", 1)
		}},
		"an NKey": {func(o *natsserver.Options) { o.Nkeys = []*natsserver.NkeyUser{{Nkey: public}} },
			func(s *cluster.Settings) { s.NKeyFile = seed }},
		"credentials": {jwtUsers, func(s *cluster.Settings) { s.CredsFile = creds }},
		"TLS":         {ca.requireTLS("", false), func(s *cluster.Settings) { s.CAFile = ca.file }},
		"TLS by name": {ca.requireTLS("localhost", false), func(s *cluster.Settings) {
			s.CAFile, s.URLs[0] = ca.file, strings.Replace(s.URLs[0], "nats://127.0.0.1", "tls://localhost", 1)
		}},
		"a certificate": {ca.requireTLS("", true), func(s *cluster.Settings) {
			s.CAFile, s.CertFile, s.KeyFile = ca.file, certFile, keyFile
		}},
		"one of several nodes": {func(*natsserver.Options) {}, func(s *cluster.Settings) {
			s.URLs = append([]string{"nats://127.0.0.1:1"}, s.URLs...)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			node := natstest.Start(t, 1, way.node)
			settings := settingsFor(node.URL())
			way.settings(&settings)
			var l lines
			c := connected(t, settings, &l)
			_, err := c.Ensure(t.Context(), cluster.Beginning{})
			require.NoError(t, err)
			assert.Equal(t, "node-0", c.Node())
			assert.Empty(t, l.String())
		})
	}
}

// TestConnectRefused checks what is said if a node can't be used, and that it contains no secret.
func TestConnectRefused(t *testing.T) {
	t.Parallel()
	f := newFiles(t)
	wrong := f.write("wrong", "wrong-"+secret)
	public, seed := f.user("seed")
	_, other := f.user("other")
	jwtUsers, creds := f.jwtUsers()
	_, strange := newFiles(t).jwtUsers()
	ca, stranger := f.authority("ca"), f.authority("stranger")
	certFile, keyFile := stranger.sign("client", "")
	open := func(*natsserver.Options) {}
	nkey := func(o *natsserver.Options) { o.Nkeys = []*natsserver.NkeyUser{{Nkey: public}} }
	for name, refusal := range map[string]struct {
		node     func(*natsserver.Options)
		settings func(*cluster.Settings)
		want     []string
	}{
		"no credentials": {withPassword, func(*cluster.Settings) {},
			[]string{"NATS wants credentials", "NATS_CREDS_FILE"}},
		"a wrong password": {withPassword, func(s *cluster.Settings) { s.User, s.PasswordFile = "kube", wrong },
			[]string{"NATS refuses the credentials in NATS_USER and NATS_PASSWORD_FILE"}},
		"a wrong password in the address": {withPassword, func(s *cluster.Settings) {
			s.URLs[0] = strings.Replace(s.URLs[0], "://", "://kube:wrong-"+secret+"@", 1)
		}, []string{"NATS refuses the credentials in NATS_URL"}},
		"another NKey": {nkey, func(s *cluster.Settings) { s.NKeyFile = other },
			[]string{"NATS refuses the credentials in NATS_NKEY_FILE"}},
		"an NKey that the node does not want": {open, func(s *cluster.Settings) { s.NKeyFile = seed },
			[]string{"NATS refuses the credentials in NATS_NKEY_FILE"}},
		"credentials of another operator": {jwtUsers, func(s *cluster.Settings) { s.CredsFile = strange },
			[]string{"NATS refuses the credentials in NATS_CREDS_FILE"}},
		"files that do not exist": {open, func(s *cluster.Settings) { s.CredsFile = creds + "x" },
			[]string{"NATS_CREDS_FILE: ", "user.credsx"}},
		"a file without a seed": {open, func(s *cluster.Settings) { s.NKeyFile = wrong }, []string{"NATS_NKEY_FILE: "}},
		"a CA file without a certificate": {open, func(s *cluster.Settings) { s.CAFile = wrong },
			[]string{"NATS_CA_FILE: "}},
		"a certificate without its key": {open, func(s *cluster.Settings) { s.CertFile, s.KeyFile = certFile, wrong },
			[]string{"NATS_CERT_FILE and NATS_KEY_FILE: "}},
		"an unknown authority": {ca.requireTLS("", false), func(s *cluster.Settings) { s.CAFile = stranger.file },
			[]string{"authority", "NATS_CA_FILE"}},
		"an unknown authority, and no CA file": {ca.requireTLS("", false), func(s *cluster.Settings) {},
			[]string{"authority", "NATS_CA_FILE"}},
		"another name": {ca.requireTLS("nats.example.com", false), func(s *cluster.Settings) { s.CAFile = ca.file },
			[]string{"another name", "NATS_URL"}},
		"no TLS": {open, func(s *cluster.Settings) { s.CAFile = ca.file }, []string{"does not offer TLS"}},
		"no certificate": {ca.requireTLS("", true), func(s *cluster.Settings) { s.CAFile = ca.file },
			[]string{"set NATS_CERT_FILE and NATS_KEY_FILE"}},
		"a certificate of another authority": {ca.requireTLS("", true), func(s *cluster.Settings) {
			s.CAFile, s.CertFile, s.KeyFile = ca.file, certFile, keyFile
		}, []string{"does not accept the certificate in NATS_CERT_FILE"}},
		"no JetStream": {func(o *natsserver.Options) { o.JetStream = false }, func(*cluster.Settings) {},
			[]string{"JetStream is not enabled on the NATS servers"}},
		"an account without JetStream": {func(o *natsserver.Options) {
			account := natsserver.NewAccount("OTHER")
			o.Accounts = []*natsserver.Account{account}
			o.Users = []*natsserver.User{{Username: "kube", Password: secret, Account: account}}
		}, func(s *cluster.Settings) {
			s.URLs[0] = strings.Replace(s.URLs[0], "://", "://kube:"+secret+"@", 1)
		}, []string{"JetStream is not enabled for the account"}},
		"no permission to ask JetStream": {func(o *natsserver.Options) {
			o.Users = []*natsserver.User{{Username: "kube", Password: secret, Permissions: &natsserver.Permissions{
				Publish: &natsserver.SubjectPermission{Allow: []string{"KUBEAGENTS.log"}},
			}}}
		}, func(s *cluster.Settings) {
			s.URLs[0] = strings.Replace(s.URLs[0], "://", "://kube:"+secret+"@", 1)
		}, []string{"NATS denies this server", "$JS.API.INFO"}},
		"nobody listens": {open, func(s *cluster.Settings) {
			s.URLs = []string{"nats://kube:" + secret + "@127.0.0.1:1", "nats://127.0.0.1:2"}
		}, []string{"127.0.0.1:1: can't be reached", "127.0.0.1:2: can't be reached", "refused"}},
		"the monitoring's port": {open, func(s *cluster.Settings) { s.URLs[0] = "nats" + s.MonitorURLs[0][len("http"):] },
			[]string{"no greeting within"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			node := natstest.Start(t, 1, refusal.node)
			settings := settingsFor(node.URL())
			settings.MonitorURLs = node.MonitorURLs()
			refusal.settings(&settings)
			var l lines
			_, err := cluster.Connect(t.Context(), settings, l.logger())
			require.Error(t, err)
			for _, want := range refusal.want {
				assert.ErrorContains(t, err, want)
			}
			assert.NotContains(t, err.Error()+l.String(), secret)
		})
	}
}

// TestConnectTooOld has a node greet with an old version. It must be refused before anything is sent to it.
func TestConnectTooOld(t *testing.T) {
	t.Parallel()
	for version, refused := range map[string]bool{
		"2.15.1": true, "2.14.9": true, "2.15.2-RC.1": true, "1.99.9": true, "": true, "latest": true,
		"2.15.2": false, "2.15.10": false, "2.16.0-dev": false, "3.0.0": false,
	} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			url, received := greeter(t, version)
			var l lines
			_, err := cluster.Connect(t.Context(), settingsFor(url), l.logger())
			require.Error(t, err, "it is no whole NATS server")
			if refused {
				assert.ErrorContains(t, err, "2.15.2 or later is needed")
				assert.Zero(t, received())
			} else {
				assert.NotContains(t, err.Error(), "is needed")
				assert.NotZero(t, received())
			}
		})
	}
}

// greeter listens, greets as a node of some version, and closes the connection once something arrives. It returns how
// much has arrived until it is asked.
func greeter(t *testing.T, version string) (url string, received func() int) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var total atomic.Int64
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = fmt.Fprintf(connection, "INFO {\"server_name\":\"old\",\"version\":%q}\r\n", version)
			n, _ := connection.Read(make([]byte, 1))
			total.Add(int64(n))
			_ = connection.Close()
		}
	})
	stop := sync.OnceFunc(func() {
		_ = listener.Close()
		serving.Wait()
	})
	t.Cleanup(stop)
	return "nats://" + listener.Addr().String(), func() int {
		stop()
		return int(total.Load())
	}
}

// TestReconnectTooOld has only an old node left.
func TestReconnectTooOld(t *testing.T) {
	t.Parallel()
	node := natstest.Start(t, 1)
	old, received := greeter(t, "2.10.0")
	var l lines
	c := connected(t, settingsFor(node.URL(), old), &l)
	node.Node(0).Stop()
	require.Eventually(t, func() bool {
		return strings.Contains(l.String(), "2.15.2 or later is needed")
	}, time.Minute, 10*time.Millisecond)
	assert.False(t, c.NATS().IsConnected())
	assert.Zero(t, received())
}

// TestConnectEnds ends connecting to a node that never greets.
func TestConnectEnds(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = listener.Close() }()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var l lines
	_, err = cluster.Connect(ctx, settingsFor("nats://"+listener.Addr().String()), l.logger())
	require.ErrorIs(t, err, context.Canceled)
}

// TestCredentialsAreReadAgain changes users while a node is down.
func TestCredentialsAreReadAgain(t *testing.T) {
	t.Parallel()
	f := newFiles(t)
	for name, way := range map[string]func(s *cluster.Settings) (change func(*natsserver.Options)){
		"password": func(s *cluster.Settings) func(*natsserver.Options) {
			s.User, s.PasswordFile = "kube", f.write("password", secret)
			return func(o *natsserver.Options) {
				password := rand.Text()
				o.Username, o.Password = "kube", password
				f.write("password", password)
			}
		},
		"NKey": func(s *cluster.Settings) func(*natsserver.Options) {
			_, s.NKeyFile = f.user("changing")
			return func(o *natsserver.Options) {
				public, _ := f.user("changing")
				o.Nkeys = []*natsserver.NkeyUser{{Nkey: public}}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			settings := settingsFor()
			node := natstest.Start(t, 1, way(&settings))
			settings.URLs = node.URLs()
			var l lines
			c := connected(t, settings, &l)
			node.Node(0).Restart()
			require.Eventually(t, func() bool {
				return strings.Contains(l.String(), "connected to NATS again")
			}, time.Minute, 10*time.Millisecond, "%s", &l)
			assert.True(t, c.NATS().IsConnected())
			assert.NotContains(t, l.String(), secret)
		})
	}
}

// TestWrongCredentialsLater takes a user away. The connection must go on trying, say so once, and hold once the user
// is back.
func TestWrongCredentialsLater(t *testing.T) {
	natstest.Long(t)
	t.Parallel()
	password := secret
	node := natstest.Start(t, 1, func(o *natsserver.Options) { o.Username, o.Password = "kube", password })
	settings := settingsFor(node.URL())
	settings.User, settings.PasswordFile = "kube", newFiles(t).write("password", secret)
	var l lines
	c := connected(t, settings, &l)
	password = "another"
	node.Node(0).Restart()
	refusal := "NATS refuses the credentials in NATS_USER and NATS_PASSWORD_FILE"
	require.Eventually(t, func() bool {
		return strings.Contains(l.String(), refusal) && c.NATS().Stats().Reconnects > 3
	}, time.Minute, 10*time.Millisecond, "%s", &l)
	password = secret
	node.Node(0).Restart()
	require.Eventually(t, func() bool { return strings.Contains(l.String(), "connected to NATS again") }, time.Minute, 10*time.Millisecond, "%s", &l)
	assert.Equal(t, 1, strings.Count(l.String(), refusal), "%s", &l)
	assert.Equal(t, 1, strings.Count(l.String(), "lost the connection to NATS"), "%s", &l)
	assert.Equal(t, 1, strings.Count(l.String(), "connected to NATS again"), "%s", &l)
}

// TestConnectionLost loses connections to nodes that die and to one that is cut off.
func TestConnectionLost(t *testing.T) {
	natstest.Long(t)
	t.Parallel()
	nodes := natstest.Start(t, 3)
	var l lines
	settings := settingsFor(nodes.URLs()...)
	settings.Replicas = 3
	c := connected(t, settings, &l)
	_, err := c.Ensure(t.Context(), cluster.Beginning{})
	require.NoError(t, err)
	nodeOf := func(name string) *natstest.Node {
		for _, node := range nodes.Nodes() {
			if node.Name() == name {
				return node
			}
		}
		require.Fail(t, "no such node", name)
		return nil
	}
	count := func(text string) int { return strings.Count(l.String(), text) }
	await := func(what string, happened func() bool) {
		t.Helper()
		require.Eventually(t, happened, time.Minute, 10*time.Millisecond, "%s: %s", what, &l)
	}

	first := nodeOf(c.Node())
	first.Stop()
	await("it goes to another node", func() bool { return count("connected to NATS again") == 1 })
	assert.Contains(t, l.String(), "lost the connection to NATS\" node="+first.Name())
	assert.NotEqual(t, first.Name(), c.Node())
	first.Restart()
	nodes.AwaitReady()

	second := nodeOf(c.Node())
	second.CutOff()
	await("it goes to another node", func() bool { return count("connected to NATS again") == 2 })
	assert.Contains(t, l.String(), "the node does not answer any more")
	assert.NotEqual(t, second.Name(), c.Node())
	second.Rejoin()
	nodes.AwaitReady()

	for _, node := range nodes.Nodes() {
		node.Stop()
	}
	lost := func() bool { return count("lost the connection to NATS") > count("connected to NATS again") }
	await("it logs that there is no connection", lost)
	err = c.NATS().Publish(settings.Subject(), nil)
	require.ErrorIs(t, err, nats.ErrReconnectBufExceeded, "nothing is kept for later")
	for _, node := range nodes.Nodes() {
		node.Restart()
	}
	await("it comes back", func() bool { return !lost() })
	assert.Equal(t, count("lost the connection to NATS"), count("connected to NATS again"), "%s", &l)
}
