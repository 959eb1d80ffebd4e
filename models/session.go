package models

import "time"

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
}

// FleetSession is a session in a list over the whole fleet, with details of its agent.
type FleetSession struct {
	Session
	AgentName   string `json:"agent_name,omitzero"`
	AgentSource string `json:"agent_source,omitzero"` // the session's own source, if it has one
	AgentHost   string `json:"agent_host,omitzero"`
}

// Needs lists the sessions that need attention.
type Needs struct {
	Pending []FleetSession `json:"pending"` // active ones, longest waiting first
	Lost    []FleetSession `json:"lost"`    // newest first
	Failed  []FleetSession `json:"failed"`  // updated within the last hour, newest first
	More    bool           `json:"more"`    // more sessions need attention than are listed
}

// Summary counts the fleet.
type Summary struct {
	Agents   int           `json:"agents"`
	Sessions SessionCounts `json:"sessions"`
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
