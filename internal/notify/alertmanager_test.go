package notify_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/notify"
)

// postedAlert is a postableAlert. See https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml.
type postedAlert struct {
	Labels       map[string]string `json:"labels"`
	Annotations  map[string]string `json:"annotations"`
	StartsAt     time.Time         `json:"startsAt"`
	EndsAt       time.Time         `json:"endsAt"`
	GeneratorURL string            `json:"generatorURL"`
}

// alerting is an Alertmanager. It keeps alerts as Alertmanager does, as far as that matters here. A request that the
// specification does not allow fails the test.
type alerting struct {
	http.Handler
	alerts map[string]postedAlert // by labels, as JSON
	ahead  time.Duration          // by how much the server's clock is ahead of its own
}

func newAlerting(t *testing.T, root string) *alerting {
	t.Helper()
	a := &alerting{alerts: map[string]postedAlert{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+root+"/api/v2/alerts", func(_ http.ResponseWriter, r *http.Request) {
		assert.True(t, strings.HasPrefix(r.Header.Get("Content-Type"), "application/json"))
		body, err := io.ReadAll(r.Body)
		assert.NoError(t, err)
		decoder := json.NewDecoder(strings.NewReader(string(body)))
		decoder.DisallowUnknownFields()
		var posted []postedAlert
		assert.NoError(t, decoder.Decode(&posted), "%s", body)
		for _, alert := range posted {
			a.merge(t, alert)
		}
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("Alertmanager does not specify %s %s", r.Method, r.RequestURI)
		w.WriteHeader(http.StatusTeapot)
	})
	a.Handler = mux
	return a
}

// merge does what Alertmanager does when it knows an alert with the same labels: while an alert fires, the latest end
// wins.
func (a *alerting) merge(t *testing.T, alert postedAlert) {
	assert.NotEmpty(t, alert.Labels["alertname"])
	for name, value := range alert.Labels {
		assert.NotEmpty(t, value, name)
	}
	assert.False(t, alert.StartsAt.IsZero())
	assert.False(t, alert.EndsAt.Before(alert.StartsAt), "start time must be before end time")
	key, err := json.Marshal(alert.Labels)
	assert.NoError(t, err)
	if old, known := a.alerts[string(key)]; known && !a.resolved(alert) && old.EndsAt.After(alert.EndsAt) {
		alert.EndsAt = old.EndsAt
	}
	a.alerts[string(key)] = alert
}

func (a *alerting) resolved(alert postedAlert) bool {
	return !alert.EndsAt.After(time.Now().Add(-a.ahead))
}

// firing returns the summaries of the alerts that fire.
func (a *alerting) firing() (summaries []string) {
	for _, alert := range a.alerts {
		if !a.resolved(alert) {
			summaries = append(summaries, alert.Annotations["summary"])
		}
	}
	return summaries
}

// RoundTrip lets a test call the Alertmanager without a network, so that it can run with a simulated clock.
func (a *alerting) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	a.ServeHTTP(w, r)
	return w.Result(), nil
}

func (a *alerting) sender(t *testing.T, address string) notify.Sender {
	t.Helper()
	sender, err := notify.NewAlertmanager(address)
	require.NoError(t, err)
	notify.UseClient(sender, &http.Client{Transport: a})
	return sender
}

// now makes a message one about a change that happens now.
func now(m *notify.Message) *notify.Message {
	m.Since = time.Now()
	m.SentAt = m.Since
	return m
}

func TestAlerts(t *testing.T) {
	const link = "https://hub.example.com/fleet/?agent=payments&session=0198c5f2"
	bare := changed(notify.Finished)
	bare.URL, bare.Text, bare.Session.Title, bare.Session.CurrentMessage = "", notify.NoText, "", ""
	labels := func(name string) map[string]string {
		return map[string]string{"alertname": name, "agent_id": "payments", "session": "0198c5f2", "rule": "on-call", "thread": "n-12"}
	}
	texts := func(summary, description string) map[string]string {
		return map[string]string{"summary": summary, "description": description}
	}
	const week = 8 * 24 * time.Hour
	for name, test := range map[string]struct {
		message             *notify.Message
		labels, annotations map[string]string
		fires               time.Duration
		url                 string
	}{
		"waits":  {waiting(), labels("KubeAgentsWaits"), texts("Payments@laptop asks for permission", "Bash: make migrate\nFix the refunds"), week, link},
		"lost":   {changed(notify.Lost), labels("KubeAgentsLost"), texts("Payments@laptop is lost", "Run the migration?\nFix the refunds"), week, link},
		"failed": {changed(notify.Failed), labels("KubeAgentsFailed"), texts("Payments@laptop failed", "Run the migration?\nFix the refunds"), week, link},
		"bare":   {bare, labels("KubeAgentsFinished"), map[string]string{"summary": "Payments@laptop finished"}, time.Hour, ""},
		"summary": {
			summary(map[notify.Change]int{notify.Waits: 2}), map[string]string{"alertname": "KubeAgentsSummary", "rule": "on-call", "thread": "n-20"},
			texts("2 sessions need you", "2 wait"), time.Hour, "https://hub.example.com/fleet/",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newAlerting(t, "/alerts")
				test.message.SentAt = time.Now()
				if test.message.Summary == nil {
					test.message.Since = time.Now().Add(-time.Minute)
				}
				remote, err := a.sender(t, "http://hub.example.com:9093/alerts/").Send(t.Context(), test.message)
				require.NoError(t, err)
				assert.Empty(t, remote)
				require.Len(t, a.alerts, 1)
				for _, alert := range a.alerts {
					assert.Equal(t, test.labels, alert.Labels)
					assert.Equal(t, test.annotations, alert.Annotations)
					assert.Equal(t, test.url, alert.GeneratorURL)
					assert.Equal(t, time.Now().Add(test.fires).UTC(), alert.EndsAt)
					if test.message.Summary == nil {
						assert.Equal(t, test.message.Since.UTC(), alert.StartsAt)
					} else {
						assert.Equal(t, time.Now().UTC(), alert.StartsAt)
					}
				}
			})
		})
	}
}

// TestAlertsFireUntilTheyAreWithdrawn checks that an alert fires for as long as a change holds, and no longer, even if
// the clocks differ a little.
func TestAlertsFireUntilTheyAreWithdrawn(t *testing.T) {
	for name, ahead := range map[string]time.Duration{"same time": 0, "ahead": 30 * time.Second, "behind": -30 * time.Second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newAlerting(t, "")
				a.ahead = ahead
				sender := a.sender(t, "http://hub.example.com:9093")
				first, other := now(waiting()), now(changed(notify.Waits))
				other.ID, other.Thread = "n-99", "n-99" // another question of the session
				for _, m := range []*notify.Message{first, other} {
					_, err := sender.Send(t.Context(), m)
					require.NoError(t, err)
				}
				require.Len(t, a.firing(), 2)

				time.Sleep(168 * time.Hour) // in a synctest bubble; the longest time between reminders
				require.Len(t, a.firing(), 2)
				_, err := sender.Send(t.Context(), reminder(first, 168*time.Hour))
				require.NoError(t, err)
				require.Len(t, a.alerts, 2, "a reminder is the same alert")
				time.Sleep(168 * time.Hour)
				assert.Equal(t, []string{"Payments@laptop still waits (for 7 days)"}, a.firing())

				require.NoError(t, sender.Withdraw(t.Context(), first))
				assert.Empty(t, a.firing())
			})
		})
	}
}

// TestAlertsThatAreOverAtOnce checks that an alert can be withdrawn as soon as it is sent.
func TestAlertsThatAreOverAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAlerting(t, "")
		sender := a.sender(t, "http://hub.example.com:9093")
		m := now(changed(notify.Lost))
		_, err := sender.Send(t.Context(), m)
		require.NoError(t, err)
		require.NoError(t, sender.Withdraw(t.Context(), m))
		assert.Empty(t, a.firing())
		assert.Len(t, a.alerts, 1)
	})
}

// TestAlertmanagerByItsAddress checks that requests arrive whether or not the address ends with a slash.
func TestAlertmanagerByItsAddress(t *testing.T) {
	for _, path := range []string{"", "/", "/alerts", "/alerts/"} {
		a := newAlerting(t, strings.TrimSuffix(path, "/"))
		server := httptest.NewServer(a)
		sender, err := notify.NewAlertmanager(server.URL + path)
		require.NoError(t, err)
		_, err = sender.Send(t.Context(), now(waiting()))
		require.NoError(t, err, "%q", path)
		assert.Len(t, a.firing(), 1)
		server.Close()
	}
}

func TestAlertmanagerSettings(t *testing.T) {
	const notPage = "the URL of an Alertmanager must be that of its page, such as http://localhost:9093"
	for address, want := range map[string]string{
		"s3cret:9093":                               "the URL of an Alertmanager must be a URL that begins with http:// or https://",
		"http://localhost:9093?key=s3cret":          notPage,
		"http://localhost:9093/#/alerts":            notPage,
		"http://localhost:9093/x/api/v2/alerts/":    notPage,
		"http://user:p4ssword@localhost:9093/x?a=b": notPage,
	} {
		t.Run(address, func(t *testing.T) {
			_, err := notify.NewAlertmanager(address)
			require.EqualError(t, err, want)
		})
	}
}
