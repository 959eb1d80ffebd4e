package notify

import (
	"encoding/json"
	"time"

	"github.com/kubeagents/kubeagents/models"
)

// The types of payloads.
const (
	typeNotification = "notification" // about one session
	typeSummary      = "summary"      // about several sessions
	typeWithdrawn    = "withdrawn"    // an earlier notification or summary no longer holds
)

// payload is what webhooks and commands get, as JSON. Members without a value are left out:
//
//	{
//	  "type": "notification",                    // or "summary" or "withdrawn"
//	  "id": "n-17",                              // the same when the payload is sent again
//	  "thread": "n-12",                          // ID of the first notification about this change
//	  "withdraws": "n-17",                       // withdrawn only: ID of what no longer holds
//	  "outcome": "answered",                     // withdrawn only: how it ended, if that is known; see Outcome
//	  "by": "anna",                              // withdrawn only: who ended it, if it was a person with a token
//	  "change": "waits",                         // or another of ChangeNames; not in a summary
//	  "since": "2026-01-02T03:04:05Z",           // when it happened; not in a summary
//	  "session": {                               // not in a summary
//	    "agent_id": "payments",
//	    "agent_name": "Payments",
//	    "agent_source": "claude-code",
//	    "agent_host": "laptop",
//	    "session_topic": "0198c5f2",
//	    "title": "Fix the refunds",
//	    "status": "pending",                     // now; not if the server has forgotten the session
//	    "message": "Run the migration?"
//	  },
//	  "question": {                              // if the session asks one
//	    "id": "q-3",
//	    "kind": "permission",                    // or "choice", "plan", "text"
//	    "text": "Bash: make migrate",
//	    "choices": ["yes", "no"]
//	  },
//	  "summary": {"waits": 7, "lost": 5},        // summary only: how many sessions changed in which way
//	  "url": "https://hub.example.com/?agent=…", // of the session, or of the fleet, on the dashboard
//	  "rule": "on-call",
//	  "sent_at": "2026-01-02T03:09:05Z"          // when the notification was first sent
//	}
//
// A withdrawn payload has the members of what it withdraws, but a type and an ID of its own.
type payload struct {
	Type      string           `json:"type"`
	ID        string           `json:"id"`
	Thread    string           `json:"thread"`
	Withdraws string           `json:"withdraws,omitzero"`
	Outcome   Outcome          `json:"outcome,omitzero"`
	By        string           `json:"by,omitzero"`
	Change    Change           `json:"change,omitzero"`
	Since     time.Time        `json:"since,omitzero"`
	Session   *payloadSession  `json:"session,omitempty"`
	Question  *payloadQuestion `json:"question,omitempty"`
	Summary   map[Change]int   `json:"summary,omitempty"`
	URL       string           `json:"url,omitzero"`
	Rule      string           `json:"rule"`
	SentAt    time.Time        `json:"sent_at"`
}

type payloadSession struct {
	AgentID     string        `json:"agent_id"`
	AgentName   string        `json:"agent_name,omitzero"`
	AgentSource string        `json:"agent_source,omitzero"`
	AgentHost   string        `json:"agent_host,omitzero"`
	Topic       string        `json:"session_topic"`
	Title       string        `json:"title,omitzero"`
	Status      models.Status `json:"status,omitzero"`
	Message     string        `json:"message,omitzero"`
}

type payloadQuestion struct {
	ID      string              `json:"id"`
	Kind    models.QuestionKind `json:"kind"`
	Text    string              `json:"text,omitzero"`
	Choices []string            `json:"choices,omitempty"`
}

// payloadOf returns what a message is sent as.
func payloadOf(m *Message) *payload {
	p := &payload{
		Type: typeNotification, ID: m.ID, Thread: m.Thread,
		URL: m.URL, Rule: m.Rule, SentAt: m.SentAt.UTC(),
	}
	if m.Summary != nil {
		p.Type, p.Summary = typeSummary, m.Summary
		return p
	}
	p.Change, p.Since = m.Change, m.Since.UTC()
	se := m.Session
	p.Session = &payloadSession{
		AgentID: se.AgentID, AgentName: se.AgentName, AgentSource: se.AgentSource, AgentHost: se.AgentHost,
		Topic: se.Topic, Title: se.Title, Status: se.CurrentStatus, Message: se.CurrentMessage,
	}
	if q := m.Question; q != nil {
		p.Question = &payloadQuestion{ID: q.ID, Kind: q.Kind, Text: q.Text, Choices: q.Choices}
	}
	return p
}

// withdrawalOf returns what the withdrawal of a message is sent as. Its ID follows from that of the message, so that it
// is the same when the withdrawal is repeated.
func withdrawalOf(m *Message) *payload {
	p := payloadOf(m)
	p.Type, p.ID, p.Withdraws, p.Outcome, p.By = typeWithdrawn, m.ID+"-withdrawn", m.ID, m.Outcome, m.By
	return p
}

func (p *payload) encode() ([]byte, error) { return json.Marshal(p) }
