// Package fleet contains a recorded working day of 200 agents, and the state at its end. It is used by tests, not by the
// server.
package fleet

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"time"
)

// End is later than every timestamp of the day's reports.
var End = time.Date(2026, time.November, 20, 16, 0, 0, 0, time.UTC)

//go:embed testdata/reports.ndjson
var reports []byte

//go:embed testdata/expected.json
var expected []byte

// Reports returns the day's reports in order of arrival, each as the JSON that its agent sent.
func Reports() [][]byte {
	return bytes.Split(bytes.TrimSuffix(reports, []byte("\n")), []byte("\n"))
}

// State is the state at the end of the day.
type State struct {
	Reports    int              `json:"reports"`    // sent
	Stored     int              `json:"stored"`     // those that were not retries
	Duplicates int              `json:"duplicates"` // retries
	Agents     map[string]Agent `json:"agents"`     // by ID
	Sessions   []Session        `json:"sessions"`
	ByStatus   map[string]int   `json:"by_status"` // sessions by current status
}

// Agent is an agent at the end of the day.
type Agent struct {
	Name          string `json:"name"`
	Source        string `json:"source"`
	SessionCount  int    `json:"session_count"`
	LatestStatus  string `json:"latest_status"`
	LatestMessage string `json:"latest_message"`
}

// Session is a session at the end of the day.
type Session struct {
	AgentID        string      `json:"agent_id"`
	Topic          string      `json:"session_topic"`
	CurrentStatus  string      `json:"current_status"`
	CurrentMessage string      `json:"current_message"`
	TTLMinutes     int         `json:"ttl_minutes"`
	History        [][3]string `json:"history"` // timestamp, status and message, newest first
}

// Expected returns the state at the end of the day.
func Expected() (s State, err error) {
	err = json.Unmarshal(expected, &s)
	return s, err
}
