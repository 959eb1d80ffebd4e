package models

import (
	"slices"
	"time"
)

// Session is one task of an agent, as the API shows it.
type Session struct {
	AgentID        string    `json:"agent_id"`
	Topic          string    `json:"session_topic"`
	Title          string    `json:"title,omitzero"`
	Created        time.Time `json:"created"`             // receipt of its first report; UTC
	LastUpdated    time.Time `json:"last_updated"`        // receipt of its newest report; UTC
	ExpiresAt      time.Time `json:"expires_at"`          // UTC
	Expired        bool      `json:"expired"`             // not renewed within its TTL
	ExpiredAt      time.Time `json:"expired_at,omitzero"` // ExpiresAt, once expired
	Lost           bool      `json:"lost"`                // expired while running or pending
	TTLMinutes     int       `json:"ttl_minutes"`
	CurrentStatus  Status    `json:"current_status"`
	CurrentMessage string    `json:"current_message,omitzero"`
	Idle           bool      `json:"idle,omitzero"` // at an empty prompt, has done nothing yet; the status is success
	StatusSince    time.Time `json:"status_since"`  // timestamp of the entry with which CurrentStatus began; UTC

	OpenQuestions int       `json:"open_question_count,omitzero"`
	Question      *Question `json:"question,omitempty"` // oldest open one, without content and choices; never modified

	Acknowledged *Acknowledgement `json:"acknowledged,omitempty"` // nil if it needs attention, or never did; never modified
}

// FleetSession is a session in a list over the whole fleet, with details of its agent.
type FleetSession struct {
	Session
	AgentName   string `json:"agent_name,omitzero"`
	AgentSource string `json:"agent_source,omitzero"` // the session's own source, if it has one
	AgentHost   string `json:"agent_host,omitzero"`
}

// Need is why a session needs a person's attention. The zero value is no reason.
type Need uint8

// The reasons why a session needs attention.
const (
	NeedWaiting Need = iota + 1 // it is active and waits for a person or a resource
	NeedLost                    // it is lost
	NeedFailed                  // it is active and has failed
)

// NeedNames are the names of the reasons on the wire, in the order of their values, beginning with that of NeedWaiting.
var NeedNames = [...]string{"waiting", "lost", "failed"}

// ParseNeed returns the reason with this name. ok is false if there is none.
func ParseNeed(name string) (n Need, ok bool) {
	i := slices.Index(NeedNames[:], name)
	return Need(i + 1), i >= 0
}

// Needs lists the sessions that need attention.
type Needs struct {
	Pending []FleetSession `json:"pending"` // active ones, longest waiting first
	Lost    []FleetSession `json:"lost"`    // the one lost last first
	Failed  []FleetSession `json:"failed"`  // active ones, the one that failed last first
	More    bool           `json:"more"`    // more sessions need attention than are listed
}

// Summary counts the fleet.
type Summary struct {
	Agents   int           `json:"agents"`
	Sessions SessionCounts `json:"sessions"`
	Needs    NeedCounts    `json:"needs"`
}

// NeedCounts counts the sessions that need attention, by reason.
type NeedCounts struct {
	Waiting int `json:"waiting"`
	Lost    int `json:"lost"`
	Failed  int `json:"failed"`

	LostOverADay int `json:"lost_over_a_day"` // those of Lost that were lost more than 24 hours ago
}

// SessionCounts counts sessions. Total is the sum of Active and Expired; Expired includes Lost.
type SessionCounts struct {
	Total    int          `json:"total"`
	Active   int          `json:"active"`
	Expired  int          `json:"expired"`
	Lost     int          `json:"lost"`
	Idle     int          `json:"idle"`      // active sessions at an empty prompt that have done nothing yet
	ByStatus StatusCounts `json:"by_status"` // other active sessions
}

// StatusCounts counts sessions by their current status.
type StatusCounts struct {
	Running int `json:"running"`
	Pending int `json:"pending"`
	Success int `json:"success"`
	Failed  int `json:"failed"`
}
