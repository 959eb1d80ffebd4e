package notify_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/mail"
	"net/textproto"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/notify"
)

// mailServer is an SMTP server that a sender reaches without a network.
type mailServer struct {
	t           *testing.T
	certificate tls.Certificate
	authority   *x509.CertPool
	implicit    bool              // TLS from the beginning
	offers      []string          // extensions; until the session is encrypted, also STARTTLS
	answers     map[string]string // to lines that begin so, instead of the usual; "" closes the connection
	conns       sync.WaitGroup

	mu    sync.Mutex
	mails []letter
	lines []string // everything that it got outside of mails
}

// letter is a mail that arrived.
type letter struct {
	from      string
	to        []string
	user      string
	encrypted bool
	raw       string
}

// newMailServer returns a server of the name mail.example.com, which offers STARTTLS and AUTH PLAIN.
func newMailServer(t *testing.T) *mailServer {
	t.Helper()
	s := &mailServer{
		t: t, offers: []string{"8BITMIME", "SMTPUTF8", "AUTH PLAIN LOGIN"}, answers: map[string]string{}, authority: x509.NewCertPool(),
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"mail.example.com"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), // before any synctest bubble begins
		NotAfter:  time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	parsed, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	s.authority.AddCert(parsed)
	s.certificate = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	t.Cleanup(s.conns.Wait)
	return s
}

// settings returns what a sender needs to send mail by the server.
func settings(edit ...func(o *notify.Email)) notify.Email {
	o := notify.Email{
		Host: "mail.example.com", TLS: notify.StartTLS, User: "robot", Password: "p4ssword",
		From: "KubeAgents <agents@example.com>", To: []string{"ann@example.com", "Bob <bob@example.com>"},
	}
	for _, edit := range edit {
		edit(&o)
	}
	return o
}

// sender returns a sender that is connected to the server, whatever the host.
func (s *mailServer) sender(o notify.Email) notify.Sender {
	s.t.Helper()
	sender, err := notify.NewEmail(o)
	require.NoError(s.t, err)
	notify.UseAuthority(sender, s.authority)
	connect(sender, func() net.Conn {
		here, there := net.Pipe()
		s.conns.Go(func() {
			defer there.Close() //nolint:errcheck // a test of what arrived until then
			s.serve(there)
		})
		return here
	})
	return sender
}

// connect makes a sender use connections that dial returns.
func connect(sender notify.Sender, dial func() net.Conn) {
	notify.UseClient(sender, &http.Client{Transport: &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) { return dial(), nil },
	}})
}

// arrived returns the mails that arrived.
func (s *mailServer) arrived() []letter {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]letter{}, s.mails...)
}

// smtpSession is a connection to a mailServer.
type smtpSession struct {
	*mailServer
	conn net.Conn
	text *bufio.Reader
	now  letter
}

func (s *mailServer) serve(conn net.Conn) {
	se := &smtpSession{mailServer: s, conn: conn}
	if s.implicit {
		se.encrypt()
	}
	se.text = bufio.NewReader(se.conn)
	greeting, other := s.answers["greeting"]
	if !other {
		greeting = "220 mail.example.com ready"
	}
	if !se.say(greeting) {
		return
	}
	for {
		line, err := se.text.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSuffix(line, "\r\n")
		s.mu.Lock()
		s.lines = append(s.lines, line)
		s.mu.Unlock()
		if !se.answer(line) {
			return
		}
	}
}

// say sends lines, unless they are empty, and reports whether the session goes on.
func (se *smtpSession) say(lines ...string) bool {
	if lines[0] == "" {
		return false
	}
	_, err := io.WriteString(se.conn, strings.Join(lines, "\r\n")+"\r\n")
	return err == nil
}

func (se *smtpSession) encrypt() {
	// With session tickets, both ends of a pipe could wait for the other one to read.
	config := &tls.Config{Certificates: []tls.Certificate{se.certificate}, SessionTicketsDisabled: true}
	se.conn = tls.Server(se.conn, config)
	se.text, se.now.encrypted = bufio.NewReader(se.conn), true
}

// answer answers a line, and reports whether the session goes on.
func (se *smtpSession) answer(line string) bool {
	for beginning, answer := range se.answers {
		if strings.HasPrefix(line, beginning) {
			return se.say(answer)
		}
	}
	verb, rest, _ := strings.Cut(line, " ")
	switch verb {
	case "EHLO":
		return se.hello()
	case "STARTTLS":
		if se.say("220 go ahead") {
			se.encrypt()
			return true
		}
		return false
	case "AUTH":
		return se.check(rest)
	case "MAIL":
		se.now.from, se.now.to = rest, nil
	case "RCPT":
		se.now.to = append(se.now.to, rest)
	case "DATA":
		return se.data()
	case "QUIT":
		se.say("221 bye")
		return false
	default:
		return se.say("502 what?")
	}
	return se.say("250 ok")
}

func (se *smtpSession) hello() bool {
	offers := append([]string{"mail.example.com"}, se.offers...)
	if !se.now.encrypted && len(se.answers["no STARTTLS"]) == 0 {
		offers = append(offers, "STARTTLS")
	}
	for i, offer := range offers {
		offers[i] = "250-" + offer
	}
	return se.say(append(offers, "250 SIZE 1000000")...)
}

// check checks the user and password.
func (se *smtpSession) check(request string) bool {
	mechanism, first, _ := strings.Cut(request, " ")
	got := decoded64(first)
	if mechanism == "LOGIN" {
		got = ""
		for _, prompt := range []string{"Username:", "Password:"} {
			se.say("334 " + base64.StdEncoding.EncodeToString([]byte(prompt)))
			line, _ := se.text.ReadString('\n')
			got += "\x00" + decoded64(strings.TrimSpace(line))
		}
	}
	if got != "\x00robot\x00p4ssword" {
		return se.say("535 5.7.8 wrong: " + request)
	}
	se.now.user = "robot"
	return se.say("235 welcome")
}

func decoded64(text string) string {
	plain, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return err.Error()
	}
	return string(plain)
}

func (se *smtpSession) data() bool {
	se.say("354 go ahead")
	raw, err := textproto.NewReader(se.text).ReadDotBytes()
	if err != nil {
		return false
	}
	if answer, ok := se.answers["."]; ok {
		return se.say(answer)
	}
	se.now.raw = string(raw)
	se.mu.Lock()
	se.mails = append(se.mails, se.now)
	se.mu.Unlock()
	return se.say("250 queued")
}

// shown returns what people see of a mail: its subject and its text.
func (d letter) shown(t *testing.T) string {
	t.Helper()
	header, body := d.parse(t)
	return header.Get("Subject") + "\n---\n" + body
}

// parse returns the header and the text of a mail, decoded.
func (d letter) parse(t *testing.T) (header textproto.MIMEHeader, text string) {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(d.raw))
	require.NoError(t, err)
	for line := range strings.SplitSeq(d.raw, "\n") {
		require.LessOrEqual(t, len(line), 998)
	}
	header = textproto.MIMEHeader{}
	for name, values := range m.Header {
		require.Len(t, values, 1, name)
		value, err := wordDecoder.DecodeHeader(values[0])
		require.NoError(t, err)
		header[name] = []string{value}
	}
	require.Equal(t, "text/plain; charset=UTF-8", header.Get("Content-Type"))
	require.Equal(t, "quoted-printable", header.Get("Content-Transfer-Encoding"))
	body, err := io.ReadAll(quotedReader(m.Body))
	require.NoError(t, err)
	return header, string(body)
}
