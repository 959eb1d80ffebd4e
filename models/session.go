package models

import "time"

// Session is one task of an agent, as a read shows it.
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
	Idle           bool      `json:"idle,omitzero"` // at an empty prompt, and has done nothing yet; the status is success
	StatusSince    time.Time `json:"status_since"`  // timestamp of the first of the newest statuses, one after another, that are the same; UTC

	OpenQuestions int       `json:"open_question_count,omitzero"`
	Question      *Question `json:"question,omitempty"` // the oldest open one, without its content and choices; never changed
}

// FleetSession is a session in a list over the whole fleet, with the agent that it belongs to.
type FleetSession struct {
	Session
	AgentName   string `json:"agent_name,omitzero"`
	AgentSource string `json:"agent_source,omitzero"` // of the session itself, where it tells one
	AgentHost   string `json:"agent_host,omitzero"`
}

// Needs are the sessions that need somebody.
type Needs struct {
	Pending []FleetSession `json:"pending"` // active ones, longest waiting first
	Lost    []FleetSession `json:"lost"`    // newest first
	Failed  []FleetSession `json:"failed"`  // in the last hour, newest first
	More    bool           `json:"more"`    // there are more than these
}

// Summary counts the fleet.
type Summary struct {
	Agents   int           `json:"agents"`
	Sessions SessionCounts `json:"sessions"`
}

// SessionCounts counts sessions: Total is Active and Expired; Lost are among the expired.
type SessionCounts struct {
	Total    int          `json:"total"`
	Active   int          `json:"active"`
	Expired  int          `json:"expired"`
	Lost     int          `json:"lost"`
	Idle     int          `json:"idle"`      // of the active ones, those at an empty prompt that have done nothing yet
	ByStatus StatusCounts `json:"by_status"` // of the other active ones
}

// StatusCounts counts sessions by their current status.
type StatusCounts struct {
	Running int `json:"running"`
	Pending int `json:"pending"`
	Success int `json:"success"`
	Failed  int `json:"failed"`
}
