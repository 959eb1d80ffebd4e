package push_test

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/kubeagents/kubeagents/internal/notify"
	"github.com/kubeagents/kubeagents/internal/push"
	"github.com/kubeagents/kubeagents/internal/push/pushtest"
	"github.com/kubeagents/kubeagents/models"
)

var began = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func waiting() *notify.Message {
	return &notify.Message{
		ID: "ntf_12", Thread: "ntf_12", SentAt: began.Add(5 * time.Second), Rule: "mine", Change: notify.Waits, Since: began,
		Session: &models.FleetSession{
			Session: models.Session{
				AgentID: "payments", Topic: "a/b c", Title: "Fix the refunds", CurrentStatus: models.Pending, CurrentMessage: "Run it?",
			},
			AgentName: "Payments", AgentHost: "laptop",
		},
		Question: &models.Question{ID: "q-3", Kind: models.Permission, Text: "Bash: make migrate"},
	}
}

func changed(change notify.Change) *notify.Message {
	m := waiting()
	m.Change, m.Question = change, nil
	return m
}

func summary(counts map[notify.Change]int) *notify.Message {
	return &notify.Message{ID: "ntf_20", Thread: "ntf_20", SentAt: began, Rule: "mine", Summary: counts}
}

func TestPayload(t *testing.T) {
	s := pushtest.NewService(t)
	remote, err := s.Sender().Send(t.Context(), waiting())
	require.NoError(t, err)
	assert.Empty(t, remote)
	assert.JSONEq(t, `{"id": "ntf_12", "tag": "ntf_12", "kind": "waits", "title": "Payments@laptop asks for permission",
		"body": "Bash: make migrate\nFix the refunds", "url": "./?agent=payments&session=a%2Fb+c", "timestamp": 1767323045000, "renotify": true}`, s.One().Raw)
}

func TestSubjects(t *testing.T) {
	for _, subject := range []string{"mailto:ops@example.com", "https://hub.example.com"} {
		s := pushtest.NewService(t)
		s.Subject = subject
		_, err := s.Sender().Send(t.Context(), waiting())
		require.NoError(t, err)
		s.One()
	}
}

func TestMessages(t *testing.T) {
	const day, hours = 24 * 60 * 60, 4 * 60 * 60
	bare := changed(notify.Failed)
	bare.Text, bare.Session.Title, bare.Session.CurrentMessage = notify.NoText, "", ""
	reminder := waiting()
	reminder.ID, reminder.SentAt = "ntf_17", began.Add(35*time.Minute)
	markup := waiting()
	markup.Question.Text = `<img src=x onerror=alert(1)> "quoted" \ & `
	far := waiting()
	far.Session.Topic = strings.Repeat("é", 200)
	farther := waiting()
	farther.Session.AgentID = strings.Repeat("😀", 100)
	long := waiting()
	long.ID, long.Thread = strings.Repeat("n", 65), strings.Repeat("n", 65)
	for name, test := range map[string]struct {
		message *notify.Message
		want    pushtest.Message
		urgency string
		ttl     int
	}{
		"lost":                         {changed(notify.Lost), pushtest.Message{Kind: "lost", Title: "Payments@laptop is lost", Body: "Run it?\nFix the refunds"}, "normal", day},
		"finished":                     {changed(notify.Finished), pushtest.Message{Kind: "finished", Title: "Payments@laptop finished", Body: "Run it?\nFix the refunds"}, "normal", hours},
		"no text":                      {bare, pushtest.Message{Kind: "failed", Title: "Payments@laptop failed"}, "normal", day},
		"reminder":                     {reminder, pushtest.Message{ID: "ntf_17", Title: "Payments@laptop still waits (for 35 minutes)"}, "high", day},
		"markup":                       {markup, pushtest.Message{Body: `<img src=x onerror=alert(1)> "quoted" \ &` + "\nFix the refunds"}, "high", day},
		"long URL of a session":        {far, pushtest.Message{URL: "./?agent=payments"}, "high", day},
		"long URL of an agent":         {farther, pushtest.Message{URL: "./"}, "high", day},
		"long ID":                      {long, pushtest.Message{ID: long.ID, Tag: "Hj-21UWH1wp5TAYKJ4aOClnNHcO1VTan"}, "high", day},
		"summary":                      {summary(map[notify.Change]int{notify.Waits: 7, notify.Lost: 5}), pushtest.Message{ID: "ntf_20", Tag: "ntf_20", Kind: "summary", Title: "12 sessions need you", Body: "7 wait, 5 are lost", URL: "./"}, "high", day},
		"summary of lost sessions":     {summary(map[notify.Change]int{notify.Lost: 5}), pushtest.Message{ID: "ntf_20", Tag: "ntf_20", Kind: "summary", Title: "5 sessions need you", Body: "5 are lost", URL: "./"}, "normal", day},
		"summary of finished sessions": {summary(map[notify.Change]int{notify.Finished: 2}), pushtest.Message{ID: "ntf_20", Tag: "ntf_20", Kind: "summary", Title: "2 sessions finished", URL: "./"}, "normal", hours},
	} {
		t.Run(name, func(t *testing.T) {
			s := pushtest.NewService(t)
			_, err := s.Sender().Send(t.Context(), test.message)
			require.NoError(t, err)
			got := s.One()
			for _, member := range []struct{ want, got string }{
				{test.want.ID, got.ID}, {test.want.Tag, got.Tag}, {test.want.Kind, got.Kind}, {test.want.Title, got.Title}, {test.want.Body, got.Body},
				{test.want.URL, got.URL},
			} {
				if member.want != "" {
					assert.Equal(t, member.want, member.got)
				}
			}
			if test.message == bare {
				assert.Empty(t, got.Body)
			}
			assert.Equal(t, test.urgency, got.Urgency)
			assert.Equal(t, test.ttl, got.TTL)
			assert.NotContains(t, got.Raw, `\u00`, "characters are escaped only where JSON needs it, because room is scarce")
			assert.True(t, got.Renotify)
			assert.False(t, got.Withdrawn)
		})
	}
}

// TestThreadsReplaceEachOther checks that a reminder and a withdrawal have the tag and the topic of the first message,
// and that others don't.
func TestThreadsReplaceEachOther(t *testing.T) {
	s := pushtest.NewService(t)
	sender := s.Sender()
	reminder, other := waiting(), waiting()
	reminder.ID, other.ID, other.Thread = "ntf_17", "ntf_99", "ntf_99"
	for _, m := range []*notify.Message{waiting(), reminder, other} {
		_, err := sender.Send(t.Context(), m)
		require.NoError(t, err)
	}
	require.NoError(t, sender.Withdraw(t.Context(), reminder))
	taken := s.Taken()
	require.Len(t, taken, 4)
	first := taken[0]
	for i, same := range []bool{true, true, false, true} {
		assert.Equal(t, same, taken[i].Topic == first.Topic)
		assert.Equal(t, same, taken[i].Tag == first.Tag)
	}
	assert.NotContains(t, first.Topic, "ntf")

	withdrawn := taken[3]
	assert.Equal(t, pushtest.Message{ID: "ntf_17-withdrawn", Tag: "ntf_12", Kind: "waits", Title: "Resolved: Payments@laptop still waits (for less than a minute)",
		URL: "./?agent=payments&session=a%2Fb+c", Timestamp: began.UnixMilli(), Withdrawn: true}, withdrawn.Message)
	assert.Equal(t, "normal", withdrawn.Urgency)
	assert.Equal(t, first.TTL, withdrawn.TTL)
}

// TestAnyTextFits sends texts of any length in any script: what arrives is valid, begins like the text, and is not cut
// without need.
func TestAnyTextFits(t *testing.T) {
	s := pushtest.NewService(t)
	sender := s.Sender()
	texts := rapid.OneOf(rapid.StringN(0, 800, -1), rapid.Map(rapid.IntRange(0, 900), func(n int) string { return strings.Repeat("👩🏽‍🚀", n) }),
		rapid.Map(rapid.IntRange(0, 900), func(n int) string { return strings.Repeat(`"\`, n) }), rapid.Just(strings.Repeat("字", 2000)))
	rapid.Check(t, func(t *rapid.T) {
		m := waiting()
		m.Question.Text, m.Session.Title = texts.Draw(t, "text"), texts.Draw(t, "title")
		m.Session.AgentName = texts.Filter(func(text string) bool { return text != "" }).Draw(t, "name")
		m.Session.Topic = rapid.StringN(1, 500, -1).Draw(t, "topic")
		_, err := sender.Send(context.Background(), m)
		require.NoError(t, err)
		got := s.One()
		title, body := m.Words()
		require.Equal(t, title, got.Title)
		require.True(t, utf8.ValidString(got.Raw) && !strings.ContainsRune(got.Body, utf8.RuneError), "no rune is cut")
		if got.Body == body {
			return
		}
		kept, cut := strings.CutSuffix(got.Body, "…")
		require.True(t, cut && strings.HasPrefix(body, kept), "%q of %q", got.Body, body)
		require.Greater(t, len(got.Raw), 2816-103-30, "nothing more is cut than necessary")
	})
}

func TestAnswers(t *testing.T) {
	for name, test := range map[string]struct {
		status        int
		retryAfter    string
		refused, gone bool
		after         time.Duration
		text          string
	}{
		"no subscription":    {404, "", true, true, 0, " answers 404 Not Found: the browser has ended the subscription"},
		"ended subscription": {410, "", true, true, 0, " answers 410 Gone: the browser has ended the subscription"},
		"too large":          {413, "", true, false, 0, " answers 413 Request Entity Too Large"},
		"other keys":         {403, "", true, false, 0, " answers 403 Forbidden"},
		"redirect":           {307, "", true, false, 0, " answers 307 Temporary Redirect, and redirects are not followed"},
		"too many":           {429, "120", false, false, 2 * time.Minute, " answers 429 Too Many Requests"},
		"overloaded":         {503, "30", false, false, 30 * time.Second, " answers 503 Service Unavailable"},
		"broken":             {500, "", false, false, 0, " answers 500 Internal Server Error"},
	} {
		t.Run(name, func(t *testing.T) {
			s := pushtest.NewService(t)
			var requests atomic.Int32
			s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				requests.Add(1)
				w.Header().Set("Location", s.URL+"/elsewhere")
				w.Header().Set("Retry-After", test.retryAfter)
				w.WriteHeader(test.status)
				io.WriteString(w, "s3cret-answer") //nolint:errcheck // a test of what the sender says about it
			})
			_, sendErr := s.Sender().Send(t.Context(), waiting())
			for _, err := range []error{sendErr, s.Sender().Withdraw(t.Context(), waiting())} {
				require.EqualError(t, err, s.Listener.Addr().String()+test.text)
				assert.Equal(t, test.refused, errors.Is(err, notify.ErrRefused))
				assert.Equal(t, test.gone, errors.Is(err, notify.ErrGone))
				var retry *notify.RetryError
				if test.after == 0 {
					assert.NotErrorAs(t, err, &retry)
				} else if assert.ErrorAs(t, err, &retry) {
					assert.Equal(t, test.after, retry.After)
				}
			}
			assert.EqualValues(t, 2, requests.Load())
		})
	}
}

// TestEndlessAnswer checks that no more than the beginning of an answer is read.
func TestEndlessAnswer(t *testing.T) {
	s := pushtest.NewService(t)
	const tenGigabytes = 10 << 30
	written := make(chan int, 1)
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		sum, chunk := 0, make([]byte, 1<<20)
		for sum < tenGigabytes {
			n, err := w.Write(chunk)
			sum += n
			if err != nil {
				break
			}
		}
		written <- sum
	})
	_, err := s.Sender().Send(t.Context(), waiting())
	require.ErrorContains(t, err, "answers 500")
	assert.Less(t, <-written, 64<<20)
}

// TestSilentService checks that a push service that takes connections but never answers is given up.
func TestSilentService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := push.NewClient(true)
		transport := client.Transport.(*http.Transport)
		transport.DialTLSContext = func(context.Context, string, string) (net.Conn, error) {
			here, there := net.Pipe()
			go io.Copy(io.Discard, there) //nolint:errcheck // ends with the connection
			return here, nil
		}
		keys, err := push.NewKeys()
		require.NoError(t, err)
		started := time.Now()
		_, err = push.NewSender(func() *push.Keys { return keys }, pushtest.Subject, pushtest.NewBrowser(t).Subscription("https://push.example.com/s3cret"), client).Send(t.Context(), waiting())
		require.EqualError(t, err, "push.example.com: it does not answer in time")
		assert.Equal(t, 15*time.Second, time.Since(started))
		client.CloseIdleConnections()
	})
}

// TestStoppedByContext checks that a request ends with its context.
func TestStoppedByContext(t *testing.T) {
	s := pushtest.NewService(t)
	ctx, cancel := context.WithCancel(t.Context())
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	_, err := s.Sender().Send(ctx, waiting())
	require.ErrorIs(t, err, context.Canceled)
	assert.NotContains(t, err.Error(), "s3cret")
}

// TestSubscriptionThatWasNotChecked checks that it is refused without its endpoint in the error.
func TestSubscriptionThatWasNotChecked(t *testing.T) {
	s := pushtest.NewService(t)
	good := s.Subscription()
	for name, edit := range map[string]func(*push.Subscription){
		"endpoint": func(s *push.Subscription) { s.Endpoint = "https://a.example/s3cret\x7f%zz" },
		"p256dh":   func(s *push.Subscription) { s.P256dh = base64.RawURLEncoding.EncodeToString(make([]byte, 65)) },
		"auth":     func(s *push.Subscription) { s.Auth = "!" },
	} {
		bad := good
		edit(&bad)
		_, err := push.NewSender(func() *push.Keys { return s.Keys }, pushtest.Subject, bad, s.PushClient(true)).Send(t.Context(), waiting())
		require.ErrorIs(t, err, notify.ErrRefused, name)
		assert.NotContains(t, err.Error(), "s3cret", name)
	}
	assert.Empty(t, s.Taken())
}

// TestNoRedirect checks that the redirect's target gets nothing.
func TestNoRedirect(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("followed") }))
	t.Cleanup(elsewhere.Close)
	s := pushtest.NewService(t)
	s.Config.Handler = http.RedirectHandler(elsewhere.URL, http.StatusPermanentRedirect)
	_, err := s.Sender().Send(t.Context(), waiting())
	require.ErrorIs(t, err, notify.ErrRefused)
}
