package live

import (
	"fmt"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// Type is a type of events that a filter can select.
type Type uint8

// The types of events that tell of a change. A reset and a bye reach every subscriber.
const (
	TypeStatus Type = 1 << iota
	TypeExpired
	TypeRemoved
)

var typeNames = map[string]Type{"status": TypeStatus, "expired": TypeExpired, "removed": TypeRemoved}

// ParseType returns the type with that name. ok is false where there is none.
func ParseType(name string) (t Type, ok bool) {
	t, ok = typeNames[name]
	return t, ok
}

func typeOf(kind store.ChangeKind) (Type, string) {
	switch kind {
	case store.Expired:
		return TypeExpired, "expired"
	case store.Removed:
		return TypeRemoved, "removed"
	}
	return TypeStatus, "status"
}

// Filter selects events. Its zero value selects them all.
type Filter struct {
	Team     *store.Team     // nil for every agent
	Share    store.Share     // of the subscribers that there may be, of the team
	AgentID  string          // "" for any
	Statuses []models.Status // of which the session's is one since; none for any
	Lost     *bool           // nil for either
	Types    Type            // one or more; 0 for any
}

func (f *Filter) selects(c *store.Change) bool {
	if !f.Team.Covers(c.Session.AgentID) {
		return false
	}
	if f.AgentID != "" && f.AgentID != c.Session.AgentID {
		return false
	}
	if t, _ := typeOf(c.Kind); f.Types != 0 && f.Types&t == 0 {
		return false
	}
	if f.Lost != nil && *f.Lost != c.Session.Lost {
		return false
	}
	for _, st := range f.Statuses {
		if st == c.Session.CurrentStatus.OnWire() {
			return true
		}
	}
	return len(f.Statuses) == 0
}

// Event is one event of a stream. It never changes.
type Event struct {
	Frame []byte    // as it is sent
	At    time.Time // when the server made the change; zero for what tells of none
}

// sessionFields is what every event of a change tells of the session: see openapi.yaml.
type sessionFields struct {
	AgentID     string        `json:"agent_id"`
	AgentName   string        `json:"agent_name,omitzero"`
	AgentSource string        `json:"agent_source,omitzero"`
	AgentHost   string        `json:"agent_host,omitzero"`
	Topic       string        `json:"session_topic"`
	Title       string        `json:"title,omitzero"`
	Status      models.Status `json:"status"`
	Idle        bool          `json:"idle,omitzero"`
	Message     string        `json:"message,omitzero"`
	Timestamp   time.Time     `json:"timestamp"`
	StatusSince time.Time     `json:"status_since"`
	Created     time.Time     `json:"created"`
	LastUpdated time.Time     `json:"last_updated"`
	ExpiresAt   time.Time     `json:"expires_at"`
	TTLMinutes  int           `json:"ttl_minutes"`
	Expired     bool          `json:"expired"`
	Lost        bool          `json:"lost"`

	OpenQuestions int              `json:"open_question_count,omitzero"`
	Question      *models.Question `json:"question,omitempty"`
}

type statusFields struct {
	sessionFields
	Previous models.Status `json:"previous_status,omitzero"`
	New      bool          `json:"new"`
	Revived  bool          `json:"revived"`

	Asked  *models.Question        `json:"asked,omitempty"`
	Closed []models.ClosedQuestion `json:"closed_questions,omitempty"`
}

type removedFields struct {
	sessionFields
	AgentRemoved bool `json:"agent_removed"`
}

// eventOf returns the event that tells of c.
func (h *Hub) eventOf(c *store.Change) *Event {
	se := &c.Session
	fields := sessionFields{
		AgentID: se.AgentID, AgentName: se.AgentName, AgentSource: se.AgentSource, AgentHost: se.AgentHost, Topic: se.Topic, Title: se.Title,
		Status: se.CurrentStatus, Idle: se.Idle, Message: se.CurrentMessage, Timestamp: c.Timestamp, StatusSince: se.StatusSince,
		Created: se.Created, LastUpdated: se.LastUpdated, ExpiresAt: se.ExpiresAt, TTLMinutes: se.TTLMinutes,
		Expired: se.Expired, Lost: se.Lost, OpenQuestions: se.OpenQuestions, Question: se.Question,
	}
	var data any = fields
	t, name := typeOf(c.Kind)
	switch t {
	case TypeStatus:
		data = statusFields{fields, c.Previous, c.Previous == 0, c.Revived, c.Asked, c.Closed}
	case TypeRemoved:
		data = removedFields{fields, c.LastOfAgent}
	}
	return &Event{frame(h.id(c.Number), name, data), c.At}
}

// frame returns an event as it is sent. JSON holds no line ends, so that one line of data does.
func frame(id, name string, data any) []byte {
	body, err := json.Marshal(data)
	if err != nil {
		panic("encode event: " + err.Error()) // all that is encoded is plain values
	}
	b := make([]byte, 0, len(id)+len(name)+len(body)+24)
	b = append(append(b, "id: "...), id...)
	b = append(append(b, "\nevent: "...), name...)
	b = append(append(b, "\ndata: "...), body...)
	return append(b, "\n\n"...)
}

type reason struct {
	Reason string `json:"reason"`
}

// resetEvent tells a client to read the lists again; the stream goes on after the change with this number.
func (h *Hub) resetEvent(number uint64, why string) *Event {
	return &Event{Frame: frame(h.id(number), "reset", reason{why})}
}

// byeEvent says that the stream ends because the server stops.
func (h *Hub) byeEvent(number uint64) *Event {
	return &Event{Frame: frame(h.id(number), "bye", reason{"the server is stopping"})}
}

// positionEvent tells a client from where to resume, and keeps proxies awake; no event is dispatched there.
func (h *Hub) positionEvent(number uint64, comment string, retry time.Duration) *Event {
	var b strings.Builder
	fmt.Fprintf(&b, ": %s\n", comment)
	if retry > 0 {
		fmt.Fprintf(&b, "retry: %d\n", retry.Milliseconds())
	}
	fmt.Fprintf(&b, "id: %s\n\n", h.id(number))
	return &Event{Frame: []byte(b.String())}
}
