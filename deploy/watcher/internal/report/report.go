// Package report sends what the watcher sees to a KubeAgents server: in order for each session, in batches, and until
// the server has it.
package report

import "time"

// Report is a status report, as POST /webhook/status takes it.
type Report struct {
	AgentID      string    `json:"agent_id"`
	AgentName    string    `json:"agent_name,omitempty"`
	AgentSource  string    `json:"agent_source,omitempty"`
	AgentHost    string    `json:"agent_host,omitempty"`
	SessionTopic string    `json:"session_topic"`
	SessionTitle string    `json:"session_title,omitempty"`
	Status       string    `json:"status"`
	Timestamp    time.Time `json:"timestamp,omitzero"`
	Message      string    `json:"message,omitempty"`
	Content      string    `json:"content,omitempty"`
	TTLMinutes   int       `json:"ttl_minutes,omitempty"`
	ReportID     string    `json:"report_id,omitempty"`

	// Renew says that the report only renews its session, unless the session has another status or message than the
	// report.
	Renew bool `json:"renew,omitempty"`

	// Idle says that the report says nothing new: the queue may leave it out if it has another one of the session.
	Idle bool `json:"-"`
}
