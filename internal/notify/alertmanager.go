package notify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	// alertFires is for how long an alert fires unless it is withdrawn. Alertmanager resolves an alert that has no end
	// after its resolve_timeout, five minutes by default, unless it is sent again. Alerts here are sent once, so they have
	// an end. It is later than the next reminder can be, so an alert whose rule has reminders fires as long as the
	// change holds. It is there at all so that an alert ends when the server is not started again.
	alertFires = longest + 24*time.Hour

	// alertShows is for how long an alert fires that nothing withdraws: a summary, or one about a session that finished.
	alertShows = time.Hour

	// alertSkew is by how much the clocks of the server and of Alertmanager may differ. If the end of a withdrawn alert
	// were in the future for Alertmanager, the alert would keep its earlier end: the latest end wins while an alert
	// fires.
	alertSkew = time.Minute
)

// alertmanager posts messages as alerts (https://prometheus.io/docs/alerting/latest/alerts_api/).
type alertmanager struct {
	client *http.Client
	alerts *url.URL // /api/v2/alerts
}

// NewAlertmanager returns a Sender that posts messages to an Alertmanager as alerts. address is its URL, such as
// http://alertmanager.example.com:9093, and may have a path, a user and a password.
//
// An alert has the labels alertname, such as KubeAgentsWaits, agent_id, session, rule and thread; a summary has neither
// agent_id nor session. thread tells apart what is open in one session at the same time. A reminder repeats the alert.
// A message that is taken back resolves it. The error does not contain the URL.
func NewAlertmanager(address string) (Sender, error) {
	u, err := parseAddress(address)
	if err != nil {
		return nil, fmt.Errorf("the URL of an Alertmanager %w", err)
	}
	if u.RawQuery != "" || u.Fragment != "" || strings.HasSuffix(strings.TrimSuffix(u.Path, "/"), "/api/v2/alerts") {
		return nil, errors.New("the URL of an Alertmanager must be that of its page, such as http://localhost:9093")
	}
	u.Path = cmp.Or(u.Path, "/") // else JoinPath returns a relative path
	return &alertmanager{client: httpClient, alerts: u.JoinPath("api", "v2", "alerts")}, nil
}

// alert is a postableAlert of Alertmanager's API.
type alert struct {
	Labels       map[string]string `json:"labels"` // the alerts with the same labels are one
	Annotations  map[string]string `json:"annotations"`
	StartsAt     time.Time         `json:"startsAt"`
	EndsAt       time.Time         `json:"endsAt"`
	GeneratorURL string            `json:"generatorURL,omitzero"`
}

// Send implements [Sender]. Alertmanager has no name for an alert but its labels.
func (a *alertmanager) Send(ctx context.Context, m *Message) (string, error) {
	fires := alertFires
	if m.Summary != nil || m.Change.stays() {
		fires = alertShows
	}
	return "", a.post(ctx, alertOf(m, m.now().Add(fires)))
}

// Withdraw implements [Sender].
func (a *alertmanager) Withdraw(ctx context.Context, m *Message) error {
	return a.post(ctx, alertOf(m, m.now().Add(-alertSkew)))
}

func (a *alertmanager) post(ctx context.Context, out alert) error {
	r, err := newJSONRequest(ctx, http.MethodPost, a.alerts, []alert{out})
	if err != nil {
		return err
	}
	return Exchange(a.client, r)
}

// alertNames are the values of the label alertname.
var alertNames = map[Change]string{
	Waits: "KubeAgentsWaits", Lost: "KubeAgentsLost", Failed: "KubeAgentsFailed", Finished: "KubeAgentsFinished", Answered: "KubeAgentsAnswered",
}

// alertOf returns the alert of a message, which begins with the change or, if that is later, when it ends. Its labels
// depend on nothing that can differ when the message is repeated or withdrawn.
func alertOf(m *Message, ends time.Time) alert {
	title, body := textOf(m)
	out := alert{
		Labels:      map[string]string{"rule": m.Rule, "thread": m.Thread},
		Annotations: map[string]string{"summary": title},
		StartsAt:    m.Since.UTC(), EndsAt: ends.UTC(), GeneratorURL: m.URL,
	}
	if body != "" {
		out.Annotations["description"] = body
	}
	if m.Summary != nil {
		out.Labels["alertname"], out.StartsAt = "KubeAgentsSummary", m.SentAt.UTC()
	} else {
		out.Labels["alertname"] = alertNames[m.Change]
		out.Labels["agent_id"], out.Labels["session"] = m.Session.AgentID, m.Session.Topic
	}
	if out.StartsAt.After(out.EndsAt) { // Alertmanager would reject it
		out.StartsAt = out.EndsAt
	}
	return out
}
