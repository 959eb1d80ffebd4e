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

// TestEventsCountInTheOrderOfArrival holds which time an event's status gets, after one that came at 07:01.
func TestEventsCountInTheOrderOfArrival(t *testing.T) {
	first := epoch.Add(time.Minute)
	received := epoch.Add(2 * time.Minute)
	for name, test := range map[string]struct{ said, want time.Time }{
		"a time between the newest status and the receipt stays":  {first.Add(30 * time.Second), first.Add(30 * time.Second)},
		"none is that of the receipt":                             {time.Time{}, received},
		"one ahead of the receipt is that of the receipt":         {received.Add(4 * time.Minute), received},
		"that of the receipt stays":                               {received, received},
		"one as late as the newest status is that of the receipt": {first, received},
		"one before the newest status is that of the receipt":     {first.Add(-time.Hour), received},
		"one of another year is that of the receipt":              {time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), received},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFeed(t, nil)
			f.send(prompts("Go"), at(starts("", "1", "ls"), test.said))
			_, _, history := f.session()
			require.Equal(t, "ls", history[0].Message)
			require.Equal(t, test.want, history[0].Timestamp)
			require.Equal(t, received, history[0].ReceivedAt)
		})
	}
}

// TestClosingDependsOnNoTimestamp has a question asked and answered by a tool whose clock says anything.
func TestClosingDependsOnNoTimestamp(t *testing.T) {
	f := newFeed(t, nil)
	f.send(at(prompts("Go"), epoch.Add(5*time.Minute)), at(asks("", "", "rm"), epoch.Add(-time.Hour)))
	require.Equal(t, "pending rm? [rm?]", f.shown())
	f.send(at(ends("", "1", "rm"), epoch.AddDate(-10, 0, 0)))
	require.Equal(t, "running rm []", f.shown())
	f.send(at(answers(), epoch.Add(-time.Second)))
	require.Equal(t, "success Done []", f.shown())
}

// TestEventsAfterAClockThatWasAhead has an event come where the newest status has a time later than its receipt.
func TestEventsAfterAClockThatWasAhead(t *testing.T) {
	st := newStore(nil)
	ahead := prompts("Go")
	ahead.Event = nil
	st.Apply(models.Record{StatusReport: at(ahead, epoch.Add(time.Hour)), Sequence: 1, Received: epoch, ByEvent: true})
	accept(st, epoch.Add(time.Minute), answers())
	se, page, ok := st.Session("claude-code:payments", "s", nil, 10)
	require.True(t, ok)
	require.Equal(t, models.Success, se.CurrentStatus)
	require.Equal(t, epoch.Add(time.Hour+1), page.Items[0].Timestamp)
}

// TestStatusReportsAreOrderedByTheirTimestamps holds that these are at most the time of receipt.
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

// TestALateStatusReportWithdrawsQuestions has a status report come whose time is before the question: it replaces that, too.
func TestALateStatusReportWithdrawsQuestions(t *testing.T) {
	for name, timestamp := range map[string]time.Time{"before it": epoch, "of its moment": epoch.Add(2 * time.Minute), "after it": epoch.Add(150 * time.Second), "none": {}} {
		t.Run(name, func(t *testing.T) {
			f := newFeed(t, nil)
			f.send(prompts("Go"), asks("", "", "rm"), at(models.StatusReport{AgentID: "claude-code:payments", SessionTopic: "s", Status: models.Running, Message: "by itself"}, timestamp))
			require.Equal(t, "running by itself []", f.shown())
			require.Equal(t, []models.QuestionOutcome{models.Withdrawn}, f.closed())
			f.send(at(models.StatusReport{AgentID: "claude-code:payments", SessionTopic: "s", Status: models.Failed, Message: "late"}, epoch))
			require.Equal(t, "running by itself []", f.shown(), "without a question, its time counts")
		})
	}
}

// TestStatusReportsOfOneGroupWithdrawAQuestionOnce has two reports admitted together.
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
		{renews(""), "pending rm? [rm? mv?]", 3},
		{denied("", "", "rm"), "pending mv? [mv?]", 4},
		{denied("", "", "mv"), "running ls []", 5}, // the status beneath
		{renews(""), "running ls []", 5},
		{answers(), "success Done []", 6},
	} {
		f.send(step.report)
		se, questions, history := f.session()
		require.Equal(t, step.want, f.shown(), i)
		require.Len(t, history, step.entries, i)
		require.Equal(t, f.now, se.LastUpdated, "every event renews")
		requireTold(t, se, questions, history)
	}
}

// TestARepeatedStatusEntersNothing has an event tell within a second what the session tells already.
func TestARepeatedStatusEntersNothing(t *testing.T) {
	st := newStore(nil)
	send := func(after time.Duration) store.Outcome { return accept(st, epoch.Add(after), prompts("Go"))[0] }
	require.Equal(t, store.Stored, send(0))
	require.Equal(t, store.Renewed, send(models.RepeatWindow-time.Millisecond))
	require.Equal(t, store.Stored, send(models.RepeatWindow+time.Millisecond))
}
