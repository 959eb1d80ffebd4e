package models

import "time"

// Agent is an agent as the API shows it.
type Agent struct {
	ID                 string    `json:"agent_id"`
	Name               string    `json:"name,omitzero"`
	Source             string    `json:"source,omitzero"` // tool that it runs in, such as claude-code
	Host               string    `json:"host,omitzero"`   // machine that it runs on
	Registered         time.Time `json:"registered"`      // receipt of its first report; UTC
	LastSeen           time.Time `json:"last_seen"`       // receipt of its newest report; UTC
	SessionCount       int       `json:"session_count"`
	ActiveSessionCount int       `json:"active_session_count"`

	// Numbers of sessions: active and pending, and lost.
	WaitingSessionCount int `json:"waiting_session_count"`
	LostSessionCount    int `json:"lost_session_count"`

	LatestStatus  Status `json:"latest_status"`
	LatestIdle    bool   `json:"latest_idle,omitzero"` // the session of LatestStatus is idle: see Session
	LatestMessage string `json:"latest_message,omitzero"`
}
