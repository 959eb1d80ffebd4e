package notify

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/textproto"
	"slices"
	"strings"
	"time"

	"github.com/wneessen/go-mail"
	"github.com/wneessen/go-mail/smtp"
)

const (
	// mailTimeout is how long it may take to send a mail. It is as long as possible: some servers scan a mail before they
	// answer, and a mail whose answer comes too late is sent again.
	mailTimeout = sendTimeout - 10*time.Second

	// quitTimeout is how long the end of a connection may take. The mail has arrived by then.
	quitTimeout = time.Second

	// maxMailAnswers is how much is read from a mail server, in bytes, with the certificates of TLS.
	maxMailAnswers = 128 << 10
)

// dialer connects to an address.
type dialer func(ctx context.Context, network, address string) (net.Conn, error)

var dialTCP = (&net.Dialer{}).DialContext

// deliver sends a letter about a message. See [NewEmail] for the error.
func (e *email) deliver(ctx context.Context, m *Message, l *letter) error {
	limited, cancel := context.WithTimeout(ctx, mailTimeout)
	defer cancel()
	err := e.converse(limited, l.id, e.encode(m, l))
	var reply *replyError
	switch {
	case err == nil, errors.As(err, &reply), errors.Is(err, ErrIncomplete):
		return err
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", e.address, ctx.Err())
	case limited.Err() != nil:
		err = limited.Err()
	}
	return fmt.Errorf("%s: %s", e.address, explain(err, "SMTP"))
}

// converse sends a mail over a connection of its own.
func (e *email) converse(ctx context.Context, id string, out *mail.Msg) error {
	conn, err := e.dial(ctx, "tcp", e.address)
	if err != nil {
		return err
	}
	defer conn.Close()                                      //nolint:errcheck // nothing depends on it
	stop := context.AfterFunc(ctx, func() { conn.Close() }) //nolint:errcheck // nothing depends on it
	defer stop()
	client, err := e.greet(conn)
	if err != nil {
		return err
	}
	if err := e.authenticate(client); err != nil {
		return err
	}
	if err := e.transfer(client, id, out); err != nil {
		return err
	}
	if client.UpdateDeadline(quitTimeout) == nil {
		client.Quit() //nolint:errcheck // the mail has arrived
	}
	return nil
}

// greet begins an SMTP session on a connection, encrypted if it has to be.
func (e *email) greet(conn net.Conn) (*smtp.Client, error) {
	name := helloName(conn)
	conn = &boundedConn{Conn: conn, left: maxMailAnswers}
	if e.TLS == ImplicitTLS {
		conn = tls.Client(conn, e.tls)
	}
	client, err := smtp.NewClient(conn, e.Host)
	if err != nil {
		return nil, e.answer(err, "instead of a greeting")
	}
	client.SkipSMTPUTF8(true) // no address needs it
	if err := client.Hello(name); err != nil {
		return nil, e.answer(err, "to EHLO")
	}
	if e.TLS != StartTLS {
		return client, nil
	}
	if offered, _ := client.Extension("STARTTLS"); !offered {
		return nil, errNoStartTLS
	}
	return client, e.answer(client.StartTLS(e.tls), "to STARTTLS")
}

// helloName returns how the program introduces itself on a connection: by its address, because it may have no name that
// means anything to the server (RFC 5321, section 4.1.4).
func helloName(conn net.Conn) string {
	local, err := netip.ParseAddrPort(conn.LocalAddr().String())
	switch ip := local.Addr().Unmap().WithZone(""); {
	case err != nil:
		return "localhost"
	case ip.Is6():
		return "[IPv6:" + ip.String() + "]"
	default:
		return "[" + ip.String() + "]"
	}
}

// authenticate sends the user and password, if there are any.
func (e *email) authenticate(client *smtp.Client) error {
	if e.User == "" {
		return nil
	}
	_, offered := client.Extension("AUTH")
	mechanisms := strings.Fields(strings.ToUpper(offered))
	plaintext := e.TLS == NoTLS // NewEmail checked that nobody can read it
	var auth smtp.Auth
	switch {
	case slices.Contains(mechanisms, "PLAIN"):
		auth = smtp.PlainAuth("", e.User, e.Password, e.Host, plaintext)
	case slices.Contains(mechanisms, "LOGIN"):
		auth = smtp.LoginAuth(e.User, e.Password, e.Host, plaintext)
	default:
		return errNoPassword
	}
	return e.answer(client.Auth(auth), "to the user and password")
}

// transfer sends a mail to the recipients that did not get it yet.
func (e *email) transfer(client *smtp.Client, id string, out *mail.Msg) error {
	if err := client.Mail("<" + e.from.Address + ">"); err != nil {
		return e.answer(err, "to the sender")
	}
	before, _ := e.reached.Get(id)
	after := before
	var refused *replyError // the first one, or one that puts off
	for i, to := range e.to {
		if before&(1<<i) != 0 {
			continue
		}
		err := client.Rcpt("<" + to.Address + ">")
		var reply *replyError
		switch err = e.answer(err, fmt.Sprintf("to recipient %d of %d", i+1, len(e.to))); {
		case err == nil:
			after |= 1 << i
		case !errors.As(err, &reply):
			return err
		case refused == nil || refused.final() && !reply.final():
			refused = reply
		}
	}
	if after != before {
		if err := e.write(client, out); err != nil {
			return err
		}
	}
	return e.outcome(id, after, refused)
}

// write sends the text of a mail.
func (e *email) write(client *smtp.Client, out *mail.Msg) error {
	w, err := client.Data()
	if err != nil {
		return e.answer(err, "to the message")
	}
	if _, err := out.WriteTo(w); err != nil {
		return err
	}
	return e.answer(w.Close(), "to the message")
}

// outcome returns the error of a mail that some recipients accepted, as bits. refused is the answer to another one, nil
// if there is none.
func (e *email) outcome(id string, reached uint64, refused *replyError) error {
	switch {
	case refused == nil:
		e.reached.Remove(id)
		return nil
	case reached == 0:
		return refused
	case refused.final():
		e.reached.Remove(id)
		return fmt.Errorf("%w: %s", ErrIncomplete, refused)
	}
	e.reached.Add(id, reached)
	return refused
}

// Errors of servers that lack what the settings require. They are no refusal: the operator of the server can change it.
const (
	errNoStartTLS ownError = "it does not offer STARTTLS"
	errNoPassword ownError = "it does not offer to check a password (AUTH PLAIN or LOGIN)"
)

// replyError is a reply of a mail server other than the one that was hoped for.
type replyError struct {
	address string
	code    int
	to      string // what it answers, such as "to STARTTLS"
}

func (e *replyError) Error() string { return fmt.Sprintf("%s answers %d %s", e.address, e.code, e.to) }

// final reports whether the same would get the same reply again.
func (e *replyError) final() bool { return e.code >= 500 && e.code < 600 }

// Unwrap returns [ErrRefused] if the reply is final.
func (e *replyError) Unwrap() error {
	if e.final() {
		return ErrRefused
	}
	return nil
}

// answer returns a *replyError if err is a reply of the server, without the reply's text: a server may send back what
// it got. It returns any other error as it is.
func (e *email) answer(err error, to string) error {
	var reply *textproto.Error
	if errors.As(err, &reply) {
		return &replyError{address: e.address, code: reply.Code, to: to}
	}
	return err
}

// boundedConn is a connection from which only so much can be read.
type boundedConn struct {
	net.Conn
	left int // bytes
}

const errTooMuch ownError = "it answers too much"

// Read implements net.Conn.
func (c *boundedConn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errTooMuch
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}
