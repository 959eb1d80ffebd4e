package notify

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	netmail "net/mail"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/wneessen/go-mail"
)

// EmailTLS says how the connection to a mail server is encrypted.
type EmailTLS string

// The values of EmailTLS.
const (
	StartTLS    EmailTLS = "starttls" // the connection begins unencrypted; nothing else is sent unless STARTTLS succeeds
	ImplicitTLS EmailTLS = "implicit" // the connection is encrypted from the beginning
	NoTLS       EmailTLS = "none"     // the connection is not encrypted
)

// defaultPorts are the ports of mail servers (RFC 6409 and RFC 8314).
var defaultPorts = map[EmailTLS]int{StartTLS: 587, ImplicitTLS: 465, NoTLS: 25}

// Email says how to send mail, and to whom.
type Email struct {
	Host     string // of the mail server
	Port     int    // 0 for the one that is usual for TLS
	TLS      EmailTLS
	User     string // "" not to authenticate
	Password string
	From     string   // a mailbox, such as KubeAgents <agents@example.com>
	To       []string // mailboxes
}

// maxPartial is the maximum number of messages of which is known which recipients got them already.
const maxPartial = 1000

// email sends messages by SMTP (RFC 5321), each as one mail to all recipients.
type email struct {
	Email
	from    *netmail.Address
	to      []*netmail.Address // at most maxListed, which are fewer than 64
	address string             // host and port
	dial    dialer
	tls     *tls.Config

	// reached has the recipients that accepted a message that others put off, as bits, by the message's ID. When the
	// message is repeated, it is sent only to the others. This is forgotten when the rules are reloaded, so that the
	// message may arrive twice: with the same Message-ID.
	reached *lru.Cache[string, uint64]
}

// NewEmail returns a Sender that sends mail.
//
// The server's certificate is checked. A password is sent only over an encrypted connection, or to a server on this
// machine: anybody on the way could read it. The Message-ID follows from the message's ID, so that a repetition can be
// recognized. A reminder, and a message that takes another one back, is a reply to the first message. What agents sent
// is plain text.
//
// Replies that begin with 4 are errors after which the message is sent again. After one that begins with 5, the error
// wraps [ErrRefused]. If some recipients are refused and others are not, the others get the message: the error wraps
// [ErrIncomplete] if the rest is refused for good. If some of the rest are only put off, the message is repeated to
// them alone. The error names recipients by their place in the list, and contains no addresses and no password.
func NewEmail(o Email) (Sender, error) {
	if !mailHost.MatchString(o.Host) && !isIP(o.Host) {
		return nil, errors.New("host must be the name of a mail server, such as smtp.example.com, without a port")
	}
	if o.User == "" != (o.Password == "") {
		return nil, errors.New("user and password need each other")
	}
	if o.TLS == NoTLS && o.Password != "" && !isLoopback(o.Host) {
		return nil, errors.New("tls: none can't be used with a password, " +
			"which everybody on the way to the mail server could read")
	}
	e := &email{Email: o, dial: dialTCP, tls: &tls.Config{ServerName: o.Host, MinVersion: tls.VersionTLS12}}
	e.address = joinHostPort(o.Host, cmp.Or(o.Port, defaultPorts[o.TLS]))
	var err error
	if e.from, err = parseMailbox(o.From); err != nil {
		return nil, fmt.Errorf("from must be %w", err)
	}
	if len(o.To) == 0 || len(o.To) > maxListed {
		return nil, fmt.Errorf("to must be 1 to %d addresses", maxListed)
	}
	known := map[string]bool{}
	for i, to := range o.To {
		mailbox, err := parseMailbox(to)
		if err != nil {
			return nil, fmt.Errorf("to: address %d must be %w", i+1, err)
		}
		key := strings.ToLower(mailbox.Address)
		if known[key] {
			return nil, fmt.Errorf("to: address %d is there twice", i+1)
		}
		known[key] = true
		e.to = append(e.to, mailbox)
	}
	e.reached, err = lru.New[string, uint64](maxPartial)
	return e, err
}

var (
	mailHost    = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$`)
	mailAddress = regexp.MustCompile("^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9][A-Za-z0-9.-]{0,180}$")
)

// parseMailbox returns a mailbox, such as ops@example.com or Ops <ops@example.com>. The error does not contain it.
func parseMailbox(text string) (*netmail.Address, error) {
	mailbox, err := netmail.ParseAddress(text)
	if err != nil || !mailAddress.MatchString(mailbox.Address) || visible(mailbox.Name) != mailbox.Name {
		return nil, errors.New("an address such as ops@example.com or Ops <ops@example.com>")
	}
	return mailbox, nil
}

func isIP(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

// isLoopback reports whether a host is this machine, whatever a name server says.
func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && ip.IsLoopback()
}

// Send implements [Sender]. It returns the subject, which replies have to repeat: some mail programs, such as Gmail's,
// show messages with different subjects as different conversations.
func (e *email) Send(ctx context.Context, m *Message) (string, error) {
	title, body := textOf(m)
	l := letter{id: m.ID, subject: title, text: title + "\n\n" + body}
	if m.Reminder() {
		l.replyTo(m, title)
	}
	err := e.deliver(ctx, m, &l)
	if err != nil && !errors.Is(err, ErrIncomplete) {
		return "", err
	}
	return subjectPrefix + strings.TrimPrefix(l.subject, replyPrefix), err
}

// FollowsUp reports that a mail can't be taken back.
func (e *email) FollowsUp() bool { return true }

// Withdraw implements [Sender]. It replies to the first mail, unless m went elsewhere, because the rules have changed
// since.
func (e *email) Withdraw(ctx context.Context, m *Message) error {
	if m.Remote != "" && !strings.HasPrefix(m.Remote, subjectPrefix) {
		return nil
	}
	resolved := resolvedOf(m)
	l := letter{id: m.ID + "-withdrawn", text: resolved}
	l.replyTo(m, resolved)
	l.date = time.Now()
	return e.deliver(ctx, m, &l)
}

const (
	replyPrefix   = "Re: "
	subjectPrefix = "subject: " // of what Send returns
)

// letter is a mail that is to be sent.
type letter struct {
	id       string
	subject  string
	text     string
	threadID string    // ID of the message that it replies to, "" for none
	date     time.Time // zero for that of the message
}

// replyTo makes the letter a reply to the first message about the same change as m. subject is used if the subject of
// that message is not known.
func (l *letter) replyTo(m *Message, subject string) {
	if first, ok := strings.CutPrefix(m.Remote, subjectPrefix); ok {
		subject = first
	}
	l.subject, l.threadID = replyPrefix+subject, m.Thread
}

// encode returns a letter about a message as a mail.
func (e *email) encode(m *Message, l *letter) *mail.Msg {
	text := strings.TrimSpace(l.text)
	if m.URL != "" {
		text += "\n\n" + linkLabelOf(m) + ": " + m.URL
	}
	out := mail.NewMsg(mail.WithNoDefaultUserAgent())
	out.FromMailAddress(e.from)
	out.ToMailAddress(e.to...)
	out.Subject(withoutEncodedWords(l.subject))
	if l.date.IsZero() {
		l.date = m.SentAt
	}
	out.SetDateWithValue(l.date.UTC())
	out.SetMessageIDWithValue(e.messageID(l.id))
	if l.threadID != "" {
		out.SetGenHeader(mail.HeaderInReplyTo, "<"+e.messageID(l.threadID)+">")
		out.SetGenHeader(mail.HeaderReferences, "<"+e.messageID(l.threadID)+">")
	}
	out.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: programs must not answer
	out.SetGenHeader("X-Auto-Response-Suppress", "All")  // the same for Exchange
	out.SetBodyString(mail.TypeTextPlain, text+"\n")
	return out
}

// messageID returns the Message-ID of the mail with an ID.
func (e *email) messageID(id string) string {
	_, domain, _ := strings.Cut(e.from.Address, "@")
	return id + "@" + domain
}

// withoutEncodedWords returns a text in which nothing can be taken for an encoded word (RFC 2047), which could stand
// for characters that textOf removes. As it has a character outside ASCII, it is encoded itself.
func withoutEncodedWords(text string) string {
	return strings.ReplaceAll(text, "=?", "="+wordJoiner+"?")
}

func joinHostPort(host string, port int) string {
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + strconv.Itoa(port)
}
