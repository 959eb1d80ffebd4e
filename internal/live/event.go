package live

import (
	"fmt"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// Type is a type of event that a filter can select. Types can be combined with the operator |.
type Type uint8

// The types of events about a change. Filters don't apply to the other events, reset and bye.
const (
	TypeStatus Type = 1 << iota
	TypeExpired
	TypeRemoved
	TypeAcknowledged
)

var typeNames = map[string]Type{"status": TypeStatus, "expired": TypeExpired, "removed": TypeRemoved, "acknowledged": TypeAcknowledged}

// ParseType returns the type with a name. ok is false if there is none.
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
	case store.Acknowledged:
		return TypeAcknowledged, "acknowledged"
	}
	return TypeStatus, "status"
}

// Filter selects events. Its zero value selects all of them.
type Filter struct {
	Team     *store.Team     // only agents of this team; nil for every agent
	Share    store.Share     // the team's share of MaxSubscribers
	AgentID  string          // "" for any
	Statuses []models.Status // the session's status after the change is one of these; none for any
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

// Event is one event of a stream. It is immutable; subscribers may share it.
type Event struct {
	Frame []byte    // the encoded event, as it is sent
	At    time.Time // when the server made the change; zero if the event is not about a change
}

// sessionFields describe the session in every event about a change: see openapi.yaml.
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

	Acknowledged *models.Acknowledgement `json:"acknowledged,omitempty"`
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

// eventOf returns the event for a change.
func (h *Hub) eventOf(c *store.Change) *Event {
	se := &c.Session
	fields := sessionFields{
		AgentID: se.AgentID, AgentName: se.AgentName, AgentSource: se.AgentSource, AgentHost: se.AgentHost, Topic: se.Topic, Title: se.Title,
		Status: se.CurrentStatus, Idle: se.Idle, Message: se.CurrentMessage, Timestamp: c.Timestamp, StatusSince: se.StatusSince,
		Created: se.Created, LastUpdated: se.LastUpdated, ExpiresAt: se.ExpiresAt, TTLMinutes: se.TTLMinutes,
		Expired: se.Expired, Lost: se.Lost, OpenQuestions: se.OpenQuestions, Question: se.Question,
		Acknowledged: se.Acknowledged,
	}
	var data any = fields
	t, name := typeOf(c.Kind)
	switch t {
	case TypeStatus:
		data = statusFields{fields, c.Previous, c.Previous == 0, c.Revived, c.Asked, c.Closed}
	case TypeRemoved:
		data = removedFields{fields, c.LastOfAgent}
	}
	return &Event{frame(h.id(placeOf(c)), name, data), c.At}
}

// frame encodes an event. Its JSON contains no newlines, so one data line is enough.
func frame(id, name string, data any) []byte {
	body, err := json.Marshal(data)
	if err != nil {
		panic("encode event: " + err.Error()) // plain values always encode
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

// resetEvent tells a client to read the lists again. The stream continues after this place.
func (h *Hub) resetEvent(at store.Place, why string) *Event {
	return &Event{Frame: frame(h.id(at), "reset", reason{why})}
}

// byeEvent tells a client that the stream ends because the server is stopping.
func (h *Hub) byeEvent(at store.Place) *Event {
	return &Event{Frame: frame(h.id(at), "bye", reason{"the server is stopping"})}
}

// positionEvent sets the ID from which a client resumes, and keeps proxies from closing the connection. It has no data,
// so clients dispatch no event for it.
func (h *Hub) positionEvent(at store.Place, comment string, retry time.Duration) *Event {
	var b strings.Builder
	fmt.Fprintf(&b, ": %s\n", comment)
	if retry > 0 {
		fmt.Fprintf(&b, "retry: %d\n", retry.Milliseconds())
	}
	fmt.Fprintf(&b, "id: %s\n\n", h.id(at))
	return &Event{Frame: []byte(b.String())}
}
