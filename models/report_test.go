package models_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/models"
)

var now = time.Date(2026, 11, 20, 7, 0, 0, 0, time.UTC)

func valid() models.StatusReport {
	return models.StatusReport{AgentID: "a", SessionTopic: "t", Status: models.Running}
}

func TestReportsAtTheirLimitsAreValid(t *testing.T) {
	minimal := valid()
	require.NoError(t, minimal.Validate(now))
	full := models.StatusReport{
		AgentID:      strings.Repeat("代", models.MaxAgentID),
		AgentName:    strings.Repeat("é", models.MaxAgentName),
		AgentSource:  strings.Repeat("s", models.MaxAgentSource),
		SessionTopic: strings.Repeat("🤖", models.MaxSessionTopic),
		SessionTitle: strings.Repeat("t", models.MaxSessionTitle),
		Status:       models.Failed,
		Timestamp:    now.Add(models.MaxClockSkew),
		Message:      strings.Repeat("м", models.MaxMessage),
		Content:      strings.Repeat("\n", models.MaxContent),
		TTLMinutes:   models.MaxTTLMinutes,
		ReportID:     strings.Repeat("r", models.MaxReportID),
	}
	require.NoError(t, full.Validate(now))
	for _, id := range []string{"...", "a/b", "100%", " a ", "~", "\u00a0x"} {
		r := valid()
		r.AgentID, r.SessionTopic = id, id
		require.NoError(t, r.Validate(now), "%q", id)
	}
}

func TestInvalidReportsNameTheField(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*models.StatusReport)
		field  string
		want   string
	}{
		"no agent ID":            {func(r *models.StatusReport) { r.AgentID = "" }, "agent_id", "agent_id is required: 1 to 100 characters"},
		"agent ID too long":      {func(r *models.StatusReport) { r.AgentID = strings.Repeat("é", 101) }, "agent_id", "agent_id must be at most 100 characters, not 101"},
		"blank agent ID":         {func(r *models.StatusReport) { r.AgentID = " \u2003" }, "agent_id", "agent_id must not be blank"},
		"agent ID of one dot":    {func(r *models.StatusReport) { r.AgentID = "." }, "agent_id", `agent_id must not be "." or ".."`},
		"newline in an agent ID": {func(r *models.StatusReport) { r.AgentID = "a\nb" }, "agent_id", "agent_id must not contain control characters"},
		"DEL in an agent ID":     {func(r *models.StatusReport) { r.AgentID = "a\x7f" }, "agent_id", "control characters"},
		"C1 in a topic":          {func(r *models.StatusReport) { r.SessionTopic = "a\u0085b" }, "session_topic", "control characters"},
		"no topic":               {func(r *models.StatusReport) { r.SessionTopic = "" }, "session_topic", "session_topic is required: 1 to 500 characters"},
		"topic of two dots":      {func(r *models.StatusReport) { r.SessionTopic = ".." }, "session_topic", `"." or ".."`},
		"topic too long":         {func(r *models.StatusReport) { r.SessionTopic = strings.Repeat("t", 501) }, "session_topic", "at most 500"},
		"no status":              {func(r *models.StatusReport) { r.Status = 0 }, "status", "status is required: one of running, pending, success, failed"},
		"from the future":        {func(r *models.StatusReport) { r.Timestamp = now.Add(models.MaxClockSkew + 1) }, "timestamp", "more than 5 minutes ahead"},
		"before the year 0":      {func(r *models.StatusReport) { r.Timestamp = time.Date(-1, 12, 31, 23, 59, 59, 0, time.UTC) }, "timestamp", "in the year 0000 or later"},
		"blank name":             {func(r *models.StatusReport) { r.AgentName = " " }, "agent_name", "blank"},
		"name too long":          {func(r *models.StatusReport) { r.AgentName = strings.Repeat("n", 201) }, "agent_name", "at most 200"},
		"source too long":        {func(r *models.StatusReport) { r.AgentSource = strings.Repeat("n", 201) }, "agent_source", "at most 200"},
		"title too long":         {func(r *models.StatusReport) { r.SessionTitle = strings.Repeat("n", 201) }, "session_title", "at most 200"},
		"message too long":       {func(r *models.StatusReport) { r.Message = strings.Repeat("é", 1001) }, "message", "at most 1000 characters, not 1001"},
		"content too long":       {func(r *models.StatusReport) { r.Content = strings.Repeat("é", 10_001) }, "content", "at most 10000 characters"},
		"TTL too long":           {func(r *models.StatusReport) { r.TTLMinutes = 1441 }, "ttl_minutes", "whole number from 1 to 1440, or 0 to keep"},
		"negative TTL":           {func(r *models.StatusReport) { r.TTLMinutes = -1 }, "ttl_minutes", "whole number from 1 to 1440"},
		"report ID too long":     {func(r *models.StatusReport) { r.ReportID = strings.Repeat("r", 101) }, "report_id", "at most 100"},
		"blank report ID":        {func(r *models.StatusReport) { r.ReportID = "\t" }, "report_id", "blank"},
	} {
		t.Run(name, func(t *testing.T) {
			r := valid()
			test.change(&r)
			err := r.Validate(now)
			var known *models.Error
			require.ErrorAs(t, err, &known)
			require.Equal(t, models.CodeBadRequest, known.Code)
			require.Equal(t, test.field, known.Field)
			require.Contains(t, known.Message, test.want)
		})
	}
}

func TestStatusesRoundTrip(t *testing.T) {
	for _, s := range models.Statuses {
		text, err := s.MarshalText()
		require.NoError(t, err)
		var back models.Status
		require.NoError(t, back.UnmarshalText(text))
		require.Equal(t, s, back)
		require.Equal(t, s == models.Running || s == models.Pending, s.Unfinished())
	}
	for _, name := range []string{"", "Running", "done", "running "} {
		_, err := models.ParseStatus("status", name)
		require.EqualError(t, err, "status must be one of running, pending, success, failed", "%q", name)
	}
}
