package notify_test

import (
	"cmp"
	"crypto/x509"
	"errors"
	"io"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/textproto"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/kubeagents/kubeagents/internal/notify"
)

var wordDecoder mime.WordDecoder

func quotedReader(r io.Reader) io.Reader { return quotedprintable.NewReader(r) }

func TestMails(t *testing.T) {
	const link = "\n\nOpen session: https://hub.example.com/fleet/?agent=payments&session=0198c5f2\n"
	bare := changed(notify.Finished)
	bare.URL, bare.Text, bare.Session.Title, bare.Session.CurrentMessage = "", notify.NoText, "", ""
	foreign := waiting()
	foreign.Session.AgentName, foreign.Question.Text = strings.Repeat("zahlungen für 山田 ", 10), ".\n..\nFrom: 👩\u200d💻"
	hostile := waiting()
	hostile.Session.AgentName = "a\r\nBcc: eve@evil.example\r\n\r\nx"
	hostile.Question.Text, hostile.Session.Title = "<b onclick=x>&amp; =20\r\n.\r\nQUIT", "=?utf-8?q?x?="
	encoded := waiting()
	encoded.Session.AgentName = "=?utf-8?q?=0D=0ABcc:?= =?utf-8?b?4oCu?="
	for name, test := range map[string]struct {
		message *notify.Message
		shown   string
	}{
		"waits":   {waiting(), "Payments@laptop asks for permission\n---\nPayments@laptop asks for permission\n\nBash: make migrate\nFix the refunds" + link},
		"lost":    {changed(notify.Lost), "Payments@laptop is lost\n---\nPayments@laptop is lost\n\nRun the migration?\nFix the refunds" + link},
		"bare":    {bare, "Payments@laptop finished\n---\nPayments@laptop finished\n"},
		"summary": {summary(map[notify.Change]int{notify.Waits: 2}), "2 sessions need you\n---\n2 sessions need you\n\n2 wait\n\nOpen dashboard: https://hub.example.com/fleet/\n"},
		"other languages": {
			foreign, "zahlungen für 山田 zahlungen für 山田 zahlungen für 山田 zahlunge… asks for permission\n---\n" +
				"zahlungen für 山田 zahlungen für 山田 zahlungen für 山田 zahlunge… asks for permission\n\n. .. From: 👩\u200d💻\nFix the refunds" + link,
		},
		"hostile": {
			hostile, "a Bcc: eve@evil.example x@laptop asks for permission\n---\n" +
				"a Bcc: eve@evil.example x@laptop asks for permission\n\n<b onclick=x>&amp; =20 . QUIT\n=?utf-8?q?x?=" + link,
		},
		"encoded words": {
			encoded, "=\u2060?utf-8?q?=0D=0ABcc:?= =\u2060?utf-8?b?4oCu?=@laptop asks for permission\n---\n" +
				"=?utf-8?q?=0D=0ABcc:?= =?utf-8?b?4oCu?=@laptop asks for permission\n\nBash: make migrate\nFix the refunds" + link,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newMailServer(t)
			_, err := s.sender(settings()).Send(t.Context(), test.message)
			require.NoError(t, err)
			require.Len(t, s.arrived(), 1)
			got := s.arrived()[0]
			assert.Equal(t, test.shown, got.shown(t))
			assert.Equal(t, "FROM:<agents@example.com> BODY=8BITMIME", got.from)
			assert.Equal(t, []string{"TO:<ann@example.com>", "TO:<bob@example.com>"}, got.to)
			assert.True(t, got.encrypted)
			assert.Equal(t, "robot", got.user)
			header, _ := got.parse(t)
			assert.Equal(t, `"KubeAgents" <agents@example.com>`, header.Get("From"))
			assert.Equal(t, `<ann@example.com>, "Bob" <bob@example.com>`, header.Get("To"))
			assert.Equal(t, "<"+test.message.ID+"@example.com>", header.Get("Message-Id"))
			assert.Equal(t, test.message.SentAt.Format(time.RFC1123Z), header.Get("Date"))
			assert.Equal(t, "auto-generated", header.Get("Auto-Submitted"))
			assert.Empty(t, header.Get("In-Reply-To"))
			assert.Empty(t, header.Get("Bcc"))
			assert.NotContains(t, got.raw, "go-mail")
		})
	}
}

// TestMailsOfAnyText checks that no text of an agent adds a line to the header of a mail, or a character that is
// invisible or does something.
func TestMailsOfAnyText(t *testing.T) {
	s := newMailServer(t)
	sender := s.sender(settings())
	rapid.Check(t, func(r *rapid.T) {
		part := rapid.SampledFrom([]string{"word ", "\r\n", "\r", "=?utf-8?q?=0D=0A?=", "=?", "?=", "=", "\n\n", "\u202e", ": ", "é", "👩\u200d💻", "\n.\n", strings.Repeat("x", 90), strings.Repeat("山", 70)})
		text := rapid.Custom(func(r *rapid.T) string {
			return strings.Join(rapid.SliceOfN(rapid.OneOf(part, rapid.String()), 0, 10).Draw(r, "parts"), "")
		})
		m := waiting()
		m.Session.AgentName, m.Session.Title, m.Question.Text = text.Draw(r, "name"), text.Draw(r, "title"), text.Draw(r, "question")
		_, err := sender.Send(t.Context(), m)
		require.NoError(r, err)
		mails := s.arrived()
		header, body := mails[len(mails)-1].parse(t)
		require.Len(r, header, 10)
		title, rest := notify.TextOf(m)
		require.Equal(r, title, strings.ReplaceAll(header.Get("Subject"), "=\u2060?", "=?"))
		require.False(r, strings.ContainsFunc(header.Get("Subject"), unicode.IsControl))
		require.True(r, strings.HasPrefix(body, strings.TrimSpace(title+"\n\n"+rest)), "%q", body)
	})
}

func TestMailsOfOneConversation(t *testing.T) {
	s := newMailServer(t)
	sender := s.sender(settings())
	first := sendThree(t, sender)
	require.NoError(t, sender.Withdraw(t.Context(), first))
	require.NoError(t, sender.Withdraw(t.Context(), first), "it is not known whether the withdrawal arrived")
	var got []textproto.MIMEHeader
	var texts []string
	for _, d := range s.arrived() {
		header, text := d.parse(t)
		got, texts = append(got, header), append(texts, text)
	}
	require.Len(t, got, 5)
	assert.Equal(t, "Payments@laptop is lost", got[0].Get("Subject"))
	assert.Empty(t, got[1].Get("References"))
	for i, reply := range got[2:] {
		assert.Equal(t, "Re: Payments@laptop asks for permission", reply.Get("Subject"), i)
		assert.Equal(t, "<n-12@example.com>", reply.Get("In-Reply-To"), i)
		assert.Equal(t, "<n-12@example.com>", reply.Get("References"), i)
	}
	assert.Equal(t, "<n-17@example.com>", got[2].Get("Message-Id"))
	assert.Contains(t, texts[2], "Payments@laptop still waits (for 35 minutes)\n")
	assert.Equal(t, "<n-12-withdrawn@example.com>", got[3].Get("Message-Id"))
	assert.Equal(t, got[3].Get("Message-Id"), got[4].Get("Message-Id"))
	assert.True(t, strings.HasPrefix(texts[3], "Resolved: Payments@laptop asks for permission\n"), texts[3])
}

// TestMailsThatReplyToAnUnknownSubject checks the subject of replies to messages that are not known to have arrived, or
// that went elsewhere.
func TestMailsThatReplyToAnUnknownSubject(t *testing.T) {
	s := newMailServer(t)
	for i, remote := range []string{"", "C0123456789/1503435956.000247"} {
		second := reminder(waiting(), time.Hour)
		second.Remote = remote
		_, err := s.sender(settings()).Send(t.Context(), second)
		require.NoError(t, err)
		header, _ := s.arrived()[i].parse(t)
		assert.Equal(t, "Re: Payments@laptop still waits (for 60 minutes)", header.Get("Subject"))
	}
	elsewhere := waiting()
	elsewhere.Remote = "C0123456789/1503435956.000247"
	require.NoError(t, s.sender(settings()).Withdraw(t.Context(), elsewhere))
	require.Len(t, s.arrived(), 2, "nobody got a mail, so nobody gets a reply")
}

// TestMailsAboutWhatIsOver checks that a reply about what is over is sent only if the rule wants it, and only once,
// however many reminders there were.
func TestMailsAboutWhatIsOver(t *testing.T) {
	for wanted, want := range map[bool][]string{
		false: {"a asks for permission", "Re: a asks for permission"},
		true:  {"a asks for permission", "Re: a asks for permission", "Re: a asks for permission"},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newMailServer(t)
			r := rule(0, notify.Waits)
			r.Every, r.FollowUp = time.Hour, wanted
			o := open(t, r)
			o.config.Destinations["phone"].Sender = s.sender(settings())
			o.asks("a", 1)
			o.wait(time.Hour)
			o.answered("a", 1)
			o.wait(time.Minute)
			var subjects []string
			for _, got := range s.arrived() {
				header, _ := got.parse(t)
				subjects = append(subjects, header.Get("Subject"))
			}
			require.Equal(t, want, subjects)
		})
	}
}

func TestMailServerAnswers(t *testing.T) {
	const refused, repeated = true, false
	for name, test := range map[string]struct {
		answers map[string]string
		want    string
		refused bool
	}{
		"busy":                        {map[string]string{"greeting": "421 later: s3cret"}, "answers 421 instead of a greeting", repeated},
		"no mail here":                {map[string]string{"greeting": "554 go away"}, "answers 554 instead of a greeting", refused},
		"another code":                {map[string]string{"greeting": "250 hm"}, "answers 250 instead of a greeting", repeated},
		"rejects us":                  {map[string]string{"EHLO": "550 no", "HELO": "550 no"}, "answers 550 to EHLO", refused},
		"TLS is off for now":          {map[string]string{"STARTTLS": "454 no"}, "answers 454 to STARTTLS", repeated},
		"TLS is off":                  {map[string]string{"STARTTLS": "502 no"}, "answers 502 to STARTTLS", refused},
		"passwords are off for now":   {map[string]string{"AUTH": "454 no"}, "answers 454 to the user and password", repeated},
		"wrong password":              {map[string]string{"AUTH": "535 no robot p4ssword"}, "answers 535 to the user and password", refused},
		"unexpected challenge":        {map[string]string{"AUTH": "334 cDRzc3dvcmQ="}, ": the connection fails, or the answer is not SMTP", repeated},
		"sender put off":              {map[string]string{"MAIL": "451 no"}, "answers 451 to the sender", repeated},
		"sender refused":              {map[string]string{"MAIL": "550 no agents@example.com"}, "answers 550 to the sender", refused},
		"all recipients put off":      {map[string]string{"RCPT": "450 no"}, "answers 450 to recipient 1 of 2", repeated},
		"all recipients refused":      {map[string]string{"RCPT": "550 no ann@example.com"}, "answers 550 to recipient 1 of 2", refused},
		"one refused, one put off":    {map[string]string{"RCPT TO:<ann": "550 no", "RCPT TO:<bob": "450 no"}, "answers 450 to recipient 2 of 2", repeated},
		"no data now":                 {map[string]string{"DATA": "451 no"}, "answers 451 to the message", repeated},
		"message put off":             {map[string]string{".": "452 full"}, "answers 452 to the message", repeated},
		"message refused":             {map[string]string{".": "554 spam: Bash: make migrate"}, "answers 554 to the message", refused},
		"connection closed":           {map[string]string{".": ""}, ": it closes the connection without an answer", repeated},
		"connection closed at once":   {map[string]string{"greeting": ""}, ": it closes the connection without an answer", repeated},
		"no SMTP":                     {map[string]string{"greeting": "HTTP/1.1 400 Bad Request"}, ": the connection fails, or the answer is not SMTP", repeated},
		"no reply to EHLO":            {map[string]string{"EHLO": "p4ssword", "HELO": "p4ssword"}, ": the connection fails, or the answer is not SMTP", repeated},
		"no STARTTLS":                 {map[string]string{"no STARTTLS": "x"}, ": it does not offer STARTTLS", repeated},
		"no EHLO, and so no STARTTLS": {map[string]string{"EHLO": "502 what?", "HELO": "250 hi"}, ": it does not offer STARTTLS", repeated},
	} {
		t.Run(name, func(t *testing.T) {
			s := newMailServer(t)
			s.answers = test.answers
			sender := s.sender(settings())
			want := "mail.example.com:587" + strings.Replace(" "+test.want, " :", ":", 1)
			_, err := sender.Send(t.Context(), waiting())
			require.EqualError(t, err, want)
			checkRetry(t, err, test.refused, 0)
			require.EqualError(t, sender.Withdraw(t.Context(), waiting()), want)
			assert.Empty(t, s.arrived())
		})
	}
}

// TestMailPasswordsStaySecret checks that the password goes only to servers that are who they say, over TLS.
func TestMailPasswordsStaySecret(t *testing.T) {
	for name, test := range map[string]struct {
		settings notify.Email
		server   func(s *mailServer)
		want     string // "" if the mail arrives
	}{
		"STARTTLS":            {settings(), func(*mailServer) {}, ""},
		"AUTH LOGIN":          {settings(), func(s *mailServer) { s.offers = []string{"AUTH LOGIN CRAM-MD5"} }, ""},
		"implicit":            {settings(func(o *notify.Email) { o.TLS = notify.ImplicitTLS }), func(s *mailServer) { s.implicit = true }, ""},
		"this machine":        {settings(func(o *notify.Email) { o.Host, o.TLS = "127.0.0.1", notify.NoTLS }), func(*mailServer) {}, ""},
		"STARTTLS is missing": {settings(), func(s *mailServer) { s.answers["no STARTTLS"] = "x" }, "mail.example.com:587: it does not offer STARTTLS"},
		"no passwords":        {settings(), func(s *mailServer) { s.offers = []string{"AUTH GSSAPI"} }, "mail.example.com:587: it does not offer to check a password (AUTH PLAIN or LOGIN)"},
		"another host":        {settings(func(o *notify.Email) { o.Host = "smtp.example.com" }), func(*mailServer) {}, "smtp.example.com:587: its certificate is for another host"},
		"unknown authority":   {settings(), func(s *mailServer) { *s.authority = *x509.NewCertPool() }, "mail.example.com:587: its certificate is signed by an unknown authority"},
		"unknown authority, implicit": {
			settings(func(o *notify.Email) { o.TLS = notify.ImplicitTLS }), func(s *mailServer) { s.implicit, *s.authority = true, *x509.NewCertPool() },
			"mail.example.com:465: its certificate is signed by an unknown authority",
		},
		"wrong password": {settings(func(o *notify.Email) { o.Password = "wr0ng" }), func(*mailServer) {}, "mail.example.com:587 answers 535 to the user and password"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newMailServer(t)
			sender := s.sender(test.settings)
			test.server(s)
			_, err := sender.Send(t.Context(), waiting())
			if test.want == "" {
				require.NoError(t, err)
				require.Equal(t, "robot", s.arrived()[0].user)
				return
			}
			require.EqualError(t, err, test.want)
			require.Empty(t, s.arrived())
			if test.settings.Password == "p4ssword" {
				s.mu.Lock()
				defer s.mu.Unlock()
				require.NotContains(t, strings.Join(s.lines, "\n"), "AUTH")
			}
		})
	}
}

func TestMailWithoutAPassword(t *testing.T) {
	s := newMailServer(t)
	sender := s.sender(settings(func(o *notify.Email) { o.TLS, o.User, o.Password = notify.NoTLS, "", "" }))
	_, err := sender.Send(t.Context(), waiting())
	require.NoError(t, err)
	require.False(t, s.arrived()[0].encrypted)
	require.Empty(t, s.arrived()[0].user)
}

// TestMailToSomeRecipients checks who gets a mail that the server does not accept for everybody, and how often.
func TestMailToSomeRecipients(t *testing.T) {
	const ann, bob = "RCPT TO:<ann@example.com>", "RCPT TO:<bob@example.com>"
	s := newMailServer(t)
	sender := s.sender(settings())
	send := func(answers map[string]string, m *notify.Message) (string, error) {
		s.answers = answers
		return sender.Send(t.Context(), m)
	}
	got := func() (recipients []string) {
		for _, d := range s.arrived() {
			recipients = append(recipients, strings.Join(d.to, " "))
		}
		s.mails = nil
		return recipients
	}
	for range 2 {
		remote, err := send(map[string]string{ann: "550 no"}, waiting())
		require.EqualError(t, err, "the message was sent, but not to everybody: mail.example.com:587 answers 550 to recipient 1 of 2")
		require.ErrorIs(t, err, notify.ErrIncomplete)
		require.NotErrorIs(t, err, notify.ErrRefused)
		require.Equal(t, "subject: Payments@laptop asks for permission", remote)
		require.Equal(t, []string{"TO:<bob@example.com>"}, got())
	}

	for i := range 3 {
		_, err := send(map[string]string{ann: "452 full"}, waiting())
		require.EqualError(t, err, "mail.example.com:587 answers 452 to recipient 1 of 2")
		checkRetry(t, err, false, 0)
		if i == 0 {
			require.Equal(t, []string{"TO:<bob@example.com>"}, got())
		}
		require.Empty(t, got(), "nobody gets it again")
	}
	other := reminder(waiting(), time.Hour)
	_, err := send(map[string]string{bob: "450 no"}, other)
	require.Error(t, err)
	require.Equal(t, []string{"TO:<ann@example.com>"}, got(), "another message")
	_, err = send(nil, waiting())
	require.NoError(t, err)
	require.Equal(t, []string{"TO:<ann@example.com>"}, got())
	_, err = send(map[string]string{bob: "550 no"}, other)
	require.ErrorIs(t, err, notify.ErrIncomplete)
	require.Empty(t, got())
}

// TestMailServersThatNeverEnd checks that a mail server can't hold up a sender, or fill its memory.
func TestMailServersThatNeverEnd(t *testing.T) {
	dribble := func(begin, more string) func(net.Conn) {
		return func(conn net.Conn) {
			_, err := io.WriteString(conn, begin)
			for err == nil {
				time.Sleep(time.Second) // in a synctest bubble
				_, err = io.WriteString(conn, more)
			}
		}
	}
	flood := func(begin, more string) func(net.Conn) {
		return func(conn net.Conn) {
			_, err := io.WriteString(conn, begin)
			for err == nil {
				_, err = io.WriteString(conn, more)
			}
		}
	}
	begin := func(text string, then func(net.Conn)) func(net.Conn) {
		return func(conn net.Conn) {
			io.WriteString(conn, text) //nolint:errcheck // the client shows it
			then(conn)
		}
	}
	afterHello := func(then func(net.Conn)) func(net.Conn) { return begin("220 hi\r\n", then) }
	quiet := func(net.Conn) { time.Sleep(time.Minute) } // in a synctest bubble
	large := strings.Repeat("x", 1000)
	const inTime, tooMuch = "mail.example.com:587: it does not answer in time", "mail.example.com:587: it answers too much"
	for name, test := range map[string]struct {
		serve func(conn net.Conn)
		want  string
		takes time.Duration
		tls   notify.EmailTLS // "" for starttls
	}{
		"never greets":                    {quiet, inTime, 50 * time.Second, ""},
		"never answers EHLO":              {afterHello(quiet), inTime, 50 * time.Second, ""},
		"a byte every second":             {dribble("220 ", "x"), inTime, 50 * time.Second, ""},
		"a line every second":             {dribble("", "220-x\r\n"), inTime, 50 * time.Second, ""},
		"extensions, one every second":    {afterHello(dribble("", "250-X\r\n")), inTime, 50 * time.Second, ""},
		"10 GB in one line":               {flood("220 ", large), tooMuch, 0, ""},
		"10 GB in lines":                  {flood("", "220-\r\n"), tooMuch, 0, ""},
		"10 GB of extensions":             {afterHello(flood("", "250-"+large+"\r\n")), tooMuch, 0, ""},
		"10 GB instead of TLS":            {afterHello(flood("250-a\r\n250 STARTTLS\r\n220 go\r\n", large)), "mail.example.com:587: it does not speak TLS", 0, ""},
		"never answers the TLS handshake": {afterHello(begin("250-a\r\n250 STARTTLS\r\n220 go\r\n", quiet)), inTime, 50 * time.Second, ""},
		"never answers implicit TLS":      {quiet, inTime, 50 * time.Second, notify.ImplicitTLS},
		"a greeting instead of TLS":       {begin("220 hi\r\n", quiet), "mail.example.com:587: it does not speak TLS", 0, notify.ImplicitTLS},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var written atomic.Int64
				var servers sync.WaitGroup
				defer servers.Wait()
				sender, err := notify.NewEmail(settings(func(o *notify.Email) { o.TLS = cmp.Or(test.tls, o.TLS); o.Port = 587 }))
				require.NoError(t, err)
				connect(sender, func() net.Conn {
					here, there := net.Pipe()
					servers.Go(func() { io.Copy(io.Discard, there) }) //nolint:errcheck // ends with the connection
					servers.Go(func() {
						defer there.Close() //nolint:errcheck // it is a pipe
						test.serve(&countingConn{there, &written})
					})
					return here
				})
				start := time.Now()
				_, err = sender.Send(t.Context(), waiting())
				require.EqualError(t, err, test.want)
				assert.NotErrorIs(t, err, notify.ErrRefused)
				assert.Equal(t, test.takes, time.Since(start))
				assert.Less(t, written.Load(), int64(140<<10))
			})
		})
	}
}

// TestMailServerThatDoesNotSayGoodbye checks that a mail counts as sent, and soon, once the server has accepted it.
func TestMailServerThatDoesNotSayGoodbye(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newMailServer(t)
		s.answers["QUIT"] = "221-wait\r\n221-"
		start := time.Now()
		_, err := s.sender(settings()).Send(t.Context(), waiting())
		require.NoError(t, err)
		require.Len(t, s.arrived(), 1)
		require.Equal(t, time.Second, time.Since(start))
	})
}

func TestMailSettings(t *testing.T) {
	const mailbox = "an address such as ops@example.com or Ops <ops@example.com>"
	for name, test := range map[string]struct {
		edit func(o *notify.Email)
		want string
	}{
		"no host":                  {func(o *notify.Email) { o.Host = "" }, "host must be the name of a mail server, such as smtp.example.com, without a port"},
		"host with a port":         {func(o *notify.Email) { o.Host = "mail.example.com:25" }, "host must be the name of a mail server, such as smtp.example.com, without a port"},
		"host of two lines":        {func(o *notify.Email) { o.Host = "mail\r\nx" }, "host must be the name of a mail server, such as smtp.example.com, without a port"},
		"user without password":    {func(o *notify.Email) { o.Password = "" }, "user and password need each other"},
		"password without user":    {func(o *notify.Email) { o.User = "" }, "user and password need each other"},
		"password in clear":        {func(o *notify.Email) { o.TLS = notify.NoTLS }, "tls: none can't be used with a password, which everybody on the way to the mail server could read"},
		"password in clear, IP":    {func(o *notify.Email) { o.TLS, o.Host = notify.NoTLS, "10.0.0.1" }, "tls: none can't be used with a password, which everybody on the way to the mail server could read"},
		"no sender":                {func(o *notify.Email) { o.From = "" }, "from must be " + mailbox},
		"sender without domain":    {func(o *notify.Email) { o.From = "s3cret-box" }, "from must be " + mailbox},
		"two senders":              {func(o *notify.Email) { o.From = "a@example.com, b@example.com" }, "from must be " + mailbox},
		"quoted sender":            {func(o *notify.Email) { o.From = `"s3cret box"@example.com` }, "from must be " + mailbox},
		"sender with >":            {func(o *notify.Email) { o.From = `"a> SIZE=1"@example.com` }, "from must be " + mailbox},
		"sender of two lines":      {func(o *notify.Email) { o.From = "a\r\nBcc: x@example.com <b@example.com>" }, "from must be " + mailbox},
		"name with invisible text": {func(o *notify.Email) { o.From = "a\u202eb <b@example.com>" }, "from must be " + mailbox},
		"address outside ASCII":    {func(o *notify.Email) { o.From = "é@example.com" }, "from must be " + mailbox},
		"nobody":                   {func(o *notify.Email) { o.To = nil }, "to must be 1 to 50 addresses"},
		"bad recipient":            {func(o *notify.Email) { o.To = []string{"a@example.com", "s3cret-box@"} }, "to: address 2 must be " + mailbox},
		"recipient that repeats":   {func(o *notify.Email) { o.To = []string{"a@example.com", "A <a@EXAMPLE.com>"} }, "to: address 2 is there twice"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := notify.NewEmail(settings(test.edit))
			require.EqualError(t, err, test.want)
		})
	}
	for _, host := range []string{"localhost", "127.0.0.2", "::1"} {
		_, err := notify.NewEmail(settings(func(o *notify.Email) { o.Host, o.TLS = host, notify.NoTLS }))
		require.NoError(t, err, host)
	}
}

// TestErrorsOfMailHaveNoSecrets lets a server answer each command with what it got.
func TestErrorsOfMailHaveNoSecrets(t *testing.T) {
	for _, command := range []string{"EHLO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "."} {
		for _, code := range []string{"451", "550", "p4ssword"} {
			s := newMailServer(t)
			s.answers[command] = code + " AHMzY3JldC1ib3gAcDRzc3dvcmQ= s3cret-box p4ssword make migrate"
			s.answers["HELO"] = s.answers[command]
			sender := s.sender(settings(func(o *notify.Email) {
				o.User, o.From, o.To = "robot", "s3cret-box@x.test", []string{"s3cret-box@y.test", "s3cret-box@z.test"}
			}))
			_, err := sender.Send(t.Context(), waiting())
			require.Error(t, err, command)
			withoutSecrets(t, err)
			assert.NotContains(t, err.Error(), "migrate")
			assert.NotContains(t, err.Error(), "AHMz")
			assert.Equal(t, code == "550", errors.Is(err, notify.ErrRefused), "%s: %v", command, err)
		}
	}
}
