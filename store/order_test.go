package store_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// at returns r with a timestamp.
func at(r models.StatusReport, timestamp time.Time) models.StatusReport {
	r.Timestamp = timestamp
	return r
}

// TestEventsCountInTheOrderOfArrival checks the timestamp of a status that an event enters, after one that arrived at
// 07:01.
func TestEventsCountInTheOrderOfArrival(t *testing.T) {
	first := epoch.Add(time.Minute)
	received := epoch.Add(2 * time.Minute)
	for name, test := range map[string]struct{ reported, want time.Time }{
		"between the newest status and the receipt: kept": {first.Add(30 * time.Second), first.Add(30 * time.Second)},
		"none: the receipt":                       {time.Time{}, received},
		"ahead of the receipt: the receipt":       {received.Add(4 * time.Minute), received},
		"equal to the receipt: kept":              {received, received},
		"equal to the newest status: the receipt": {first, received},
		"before the newest status: the receipt":   {first.Add(-time.Hour), received},
		"in another year: the receipt":            {time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), received},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFeed(t, nil)
			f.send(prompts("Go"), at(starts("", "1", "ls"), test.reported))
			_, _, history := f.session()
			require.Equal(t, "ls", history[0].Message)
			require.Equal(t, test.want, history[0].Timestamp)
			require.Equal(t, received, history[0].ReceivedAt)
		})
	}
}

// TestClosingIgnoresTimestamps lets a tool with a wrong clock ask a question and report the answer.
func TestClosingIgnoresTimestamps(t *testing.T) {
	f := newFeed(t, nil)
	f.send(at(prompts("Go"), epoch.Add(5*time.Minute)), at(asks("", "", "rm"), epoch.Add(-time.Hour)))
	require.Equal(t, "pending rm? [rm?]", f.shown())
	f.send(at(ends("", "1", "rm"), epoch.AddDate(-10, 0, 0)))
	require.Equal(t, "running rm []", f.shown())
	f.send(at(turnEnds(), epoch.Add(-time.Second)))
	require.Equal(t, "success Done []", f.shown())
}

// TestEventsAfterAClockThatWasAhead sends an event when the newest status has a timestamp later than its receipt.
func TestEventsAfterAClockThatWasAhead(t *testing.T) {
	st := newStore(nil)
	ahead := prompts("Go")
	ahead.Event = nil
	st.Apply(models.Record{StatusReport: at(ahead, epoch.Add(time.Hour)), Sequence: 1, Received: epoch, ByEvent: true})
	accept(st, epoch.Add(time.Minute), turnEnds())
	se, page, ok := st.Session("claude-code:payments", "s", nil, 10)
	require.True(t, ok)
	require.Equal(t, models.Success, se.CurrentStatus)
	require.Equal(t, epoch.Add(time.Hour+1), page.Items[0].Timestamp)
}

// TestStatusReportsAreOrderedByTheirTimestamps also checks that timestamps are capped at the receipt time.
func TestStatusReportsAreOrderedByTheirTimestamps(t *testing.T) {
	st := newStore(nil)
	send := func(message string, timestamp time.Time, received time.Duration) {
		r := at(running("a", "t"), timestamp)
		r.Message = message
		require.Equal(t, []store.Outcome{store.Stored}, accept(st, epoch.Add(received), r))
	}
	send("ahead", epoch.Add(4*time.Minute), time.Minute)
	send("then", epoch.Add(2*time.Minute), 3*time.Minute)
	send("late", epoch.Add(90*time.Second), 4*time.Minute)
	_, page, ok := st.Session("a", "t", nil, 10)
	require.True(t, ok)
	got := map[string]time.Time{}
	var order []string
	for _, status := range page.Items {
		got[status.Message] = status.Timestamp
		order = append(order, status.Message)
	}
	require.Equal(t, []string{"then", "late", "ahead"}, order)
	require.Equal(t, map[string]time.Time{"ahead": epoch.Add(time.Minute), "then": epoch.Add(2 * time.Minute), "late": epoch.Add(90 * time.Second)}, got)
}

// TestALateStatusReportWithdrawsQuestions sends a status report whose timestamp is before the question. It replaces the
// question.
func TestALateStatusReportWithdrawsQuestions(t *testing.T) {
	for name, timestamp := range map[string]time.Time{"before the question": epoch, "at the same time": epoch.Add(2 * time.Minute), "after the question": epoch.Add(150 * time.Second), "none": {}} {
		t.Run(name, func(t *testing.T) {
			f := newFeed(t, nil)
			f.send(prompts("Go"), asks("", "", "rm"), at(models.StatusReport{AgentID: "claude-code:payments", SessionTopic: "s", Status: models.Running, Message: "by itself"}, timestamp))
			require.Equal(t, "running by itself []", f.shown())
			require.Equal(t, []models.QuestionOutcome{models.Withdrawn}, f.closed())
			f.send(at(models.StatusReport{AgentID: "claude-code:payments", SessionTopic: "s", Status: models.Failed, Message: "late"}, epoch))
			require.Equal(t, "running by itself []", f.shown(), "without a question, the timestamp counts")
		})
	}
}

// TestStatusReportsOfOneGroupWithdrawAQuestionOnce admits two reports together.
func TestStatusReportsOfOneGroupWithdrawAQuestionOnce(t *testing.T) {
	f := newFeed(t, nil)
	f.send(prompts("Go"), asks("", "", "rm"))
	f.now = f.now.Add(time.Minute)
	own := models.StatusReport{AgentID: "claude-code:payments", SessionTopic: "s", Status: models.Running, Message: "first"}
	late := at(own, epoch)
	late.Message = "late"
	admit(t, f.store, []models.StatusReport{own, late}, f.now, 2)
	require.Equal(t, []models.QuestionOutcome{models.Withdrawn}, f.closed())
	require.Equal(t, "running first []", f.shown())
}

func TestTheCurrentStatusIsTheNewestEntry(t *testing.T) {
	f := newFeed(t, nil)
	for i, step := range []struct {
		report  models.StatusReport
		want    string
		entries int
	}{
		{begins(), "success Session started []", 1},
		{prompts("Go"), "running Go []", 2},
		{asks("", "", "rm"), "pending rm? [rm?]", 3},
		{starts("", "2", "ls"), "pending rm? [rm?]", 3},
		{ends("", "2", "ls"), "pending rm? [rm?]", 3},
		{asks("", "", "mv"), "pending rm? [rm? mv?]", 3},
		{otherEvent(""), "pending rm? [rm? mv?]", 3},
		{callDenied("", "", "rm"), "pending mv? [mv?]", 4},
		{callDenied("", "", "mv"), "running ls []", 5}, // the status beneath
		{otherEvent(""), "running ls []", 5},
		{turnEnds(), "success Done []", 6},
	} {
		f.send(step.report)
		se, questions, history := f.session()
		require.Equal(t, step.want, f.shown(), i)
		require.Len(t, history, step.entries, i)
		require.Equal(t, f.now, se.LastUpdated, "every event renews")
		requireConsistent(t, se, questions, history)
	}
}

// TestARepeatedStatusEntersNothing repeats an event within a second.
func TestARepeatedStatusEntersNothing(t *testing.T) {
	st := newStore(nil)
	send := func(after time.Duration) store.Outcome { return accept(st, epoch.Add(after), prompts("Go"))[0] }
	require.Equal(t, store.Stored, send(0))
	require.Equal(t, store.Renewed, send(models.RepeatWindow-time.Millisecond))
	require.Equal(t, store.Stored, send(models.RepeatWindow+time.Millisecond))
}
