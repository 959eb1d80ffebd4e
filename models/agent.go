package models

import "time"

// Agent is one that reports, as a read shows it.
type Agent struct {
	ID                 string    `json:"agent_id"`
	Name               string    `json:"name,omitzero"`
	Source             string    `json:"source,omitzero"` // the tool that it runs in, such as claude-code
	Host               string    `json:"host,omitzero"`   // the machine that it runs on
	Registered         time.Time `json:"registered"`      // receipt of its first report; UTC
	LastSeen           time.Time `json:"last_seen"`       // receipt of its newest report; UTC
	SessionCount       int       `json:"session_count"`
	ActiveSessionCount int       `json:"active_session_count"`

	// How many of its sessions are pending and active, and how many are lost.
	WaitingSessionCount int `json:"waiting_session_count"`
	LostSessionCount    int `json:"lost_session_count"`

	LatestStatus  Status `json:"latest_status"`
	LatestIdle    bool   `json:"latest_idle,omitzero"` // the session that told it is idle: see Session
	LatestMessage string `json:"latest_message,omitzero"`
}
