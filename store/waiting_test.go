package store_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

func TestAWaitingSessionLives24Hours(t *testing.T) {
	f := newFeed(t, nil)
	f.send(prompts("Go"))
	expires := func() time.Duration {
		se, _, _ := f.session()
		require.Equal(t, 30, se.TTLMinutes, "the session's TTL is unchanged")
		return se.ExpiresAt.Sub(f.now)
	}
	require.Equal(t, 30*time.Minute, expires())
	f.send(asks("", "", "rm"))
	require.Equal(t, 24*time.Hour, expires())
	f.send(asks("", "", "ls"), callDenied("", "", "rm"))
	require.Equal(t, 24*time.Hour, expires(), "one is still open")
	f.after(23 * time.Hour)
	require.Equal(t, "pending ls? [ls?]", f.shown())
	f.send(callDenied("", "", "ls"))
	require.Equal(t, 30*time.Minute, expires())
	f.after(31 * time.Minute)
	se, _, _ := f.session()
	require.True(t, se.Expired)
	require.True(t, se.Lost)
}

func TestATTLAbove24HoursIsKept(t *testing.T) {
	f := newFeed(t, func(o *store.Options) { o.DefaultTTL = 48 * time.Hour })
	f.send(prompts("Go"), asks("", "", "rm"))
	f.after(47 * time.Hour)
	require.Equal(t, "pending rm? [rm?]", f.shown())
}

func TestAPendingStatusReportKeepsTheTTL(t *testing.T) {
	st := newStore(nil)
	accept(st, epoch, models.StatusReport{AgentID: "a", SessionTopic: "t", Status: models.Pending})
	st.Expire(epoch.Add(31 * time.Minute))
	se, _, _ := st.Session("a", "t", nil, 1)
	require.True(t, se.Lost)
}

// TestAQuestionExpiresWithItsSession leaves a question unanswered for too long. It stays closed, whatever comes later.
func TestAQuestionExpiresWithItsSession(t *testing.T) {
	for name, test := range map[string]struct {
		event models.StatusReport
		want  string
	}{
		"an event that only renews":      {otherEvent(""), "running Go []"},
		"an event of a subagent":         {otherEvent("sub"), "running Go []"},
		"the result of its call":         {ends("", "", "rm"), "running rm []"},
		"the start of another call":      {starts("", "2", "ls"), "running ls []"},
		"the end of the turn":            {turnEnds(), "success Done []"},
		"the end of the session":         {sessionEnds(), "failed Session ended []"},
		"a new question":                 {asks("", "", "ls"), "pending ls? [ls?]"},
		"the same question, asked again": {asks("", "", "rm"), "pending rm? [rm?]"},
		"a notification":                 {hints("Permission needed"), "pending Permission needed [Permission needed]"},
		"a status report":                {running("claude-code:payments", "s"), "running  []"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFeed(t, nil)
			f.send(prompts("Go"), asks("", "", "rm"))
			_, questions, _ := f.session()
			f.after(24*time.Hour + time.Second)
			require.Equal(t, "expired pending rm? []", f.shown())
			require.Equal(t, 1, f.store.Summary().Sessions.Lost)
			agent, _ := f.store.Agent("claude-code:payments")
			require.Zero(t, agent.WaitingSessionCount)
			require.Equal(t, 1, agent.LostSessionCount)
			f.send(test.event)
			require.Equal(t, test.want, f.shown())
			_, _, history := f.session()
			require.Equal(t, []models.ClosedQuestion{questions[0].Closed(models.Expired, "", "")}, history[0].ClosedQuestions)
			changes := changesOf(t, f.store, 0)
			last := changes[len(changes)-1]
			require.True(t, last.Revived)
			require.Equal(t, history[0].ClosedQuestions, last.Closed)
		})
	}
}

// TestACallBeforeExpiryIsNotInFlight starts a call, lets the session expire, and then asks about the same call again.
func TestACallBeforeExpiryIsNotInFlight(t *testing.T) {
	f := newFeed(t, nil)
	f.send(prompts("Go"), starts("", "", "rm"), asks("", "", "rm"))
	f.after(25 * time.Hour)
	f.send(starts("", "", "rm"), asks("", "", "rm"), asks("", "", "rm"))
	require.Equal(t, "pending rm? [rm?]", f.shown(), "one call is in flight")
}

// TestDowntimeIsNotSilence loads records of an earlier run, and checks when the session expires.
func TestDowntimeIsNotSilence(t *testing.T) {
	for name, test := range map[string]struct {
		ran, down time.Duration // after the report
		ttl       int           // minutes
		status    models.Status
		extended  bool
		left      time.Duration // since the start
	}{
		"the TTL ran out while the server was down": {10 * time.Minute, time.Hour, 30, models.Running, true, 10 * time.Minute},
		"the session was waiting for a person":      {10 * time.Minute, time.Hour, 30, models.Pending, true, 10 * time.Minute},
		"the TTL is shorter than the grace":         {time.Minute, time.Hour, 2, models.Running, true, 2 * time.Minute},
		"the session had finished":                  {10 * time.Minute, time.Hour, 30, models.Success, false, 0},
		"the session was lost before":               {40 * time.Minute, time.Hour, 30, models.Running, false, 0},
		"the TTL has not run out":                   {10 * time.Minute, 10 * time.Minute, 30, models.Running, false, 10 * time.Minute},
		"the TTL runs out in a moment":              {10 * time.Minute, 19*time.Minute + 59*time.Second, 30, models.Running, false, time.Second},
		"it is unknown when the server ran last":    {-1, time.Hour, 30, models.Running, true, 10 * time.Minute},
		"the server was down for a long time":       {10 * time.Minute, 100 * time.Hour, 30, models.Running, true, 10 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			st := newStore(nil)
			lastRan := epoch.Add(test.ran)
			start := lastRan.Add(test.down)
			if test.ran < 0 {
				lastRan, start = time.Time{}, epoch.Add(test.down)
			}
			st.BeginLoading(start)
			st.Apply(models.Record{StatusReport: models.StatusReport{AgentID: "a", SessionTopic: "t", Status: test.status, TTLMinutes: test.ttl}, Sequence: 1, Received: epoch})
			extended, ahead := st.EndLoading(lastRan, start)
			st.Expire(start)
			require.Equal(t, test.extended, extended == 1)
			require.Zero(t, ahead)
			se, _, _ := st.Session("a", "t", nil, 1)
			agent, _ := st.Agent("a")
			if test.left == 0 {
				require.True(t, se.Expired)
				return
			}
			require.False(t, se.Expired)
			require.Equal(t, start.Add(test.left), se.ExpiresAt)
			require.Equal(t, 1, agent.ActiveSessionCount)
			require.Zero(t, agent.LostSessionCount)
			require.Equal(t, test.status == models.Pending, agent.WaitingSessionCount == 1)
			st.Expire(start.Add(test.left - 1))
			require.Zero(t, st.Summary().Sessions.Lost)
			st.Expire(start.Add(test.left))
			require.Equal(t, 1, st.Summary().Sessions.Lost)
		})
	}
}

// TestAQuestionOutlivesDowntime has a question open while the server is down for longer than the question's TTL.
func TestAQuestionOutlivesDowntime(t *testing.T) {
	before := newFeed(t, nil)
	records := admit(t, before.store, []models.StatusReport{prompts("Go")}, epoch, 0)
	records = append(records, admit(t, before.store, []models.StatusReport{asks("", "", "rm")}, epoch, 1)...)
	start := epoch.Add(48 * time.Hour)
	f := newFeed(t, nil)
	f.now = start
	f.store.BeginLoading(start)
	f.store.Apply(records...)
	extended, _ := f.store.EndLoading(epoch.Add(time.Minute), start)
	require.Equal(t, 1, extended)
	require.Equal(t, "pending rm? [rm?]", f.shown())
	f.send(ends("", "", "rm"))
	require.Equal(t, "running rm []", f.shown())
	require.Equal(t, []models.QuestionOutcome{models.Answered}, f.closed())
	f.after(29 * time.Minute)
	require.Equal(t, "running rm []", f.shown(), "it has its usual TTL again")
}

// TestTheClockIsSetBack sets the clock back by an hour while sessions are active. What was due in ten minutes still is.
func TestTheClockIsSetBack(t *testing.T) {
	st := newStore(func(o *store.Options) { o.EventWindow = 10 })
	accept(st, epoch, running("a", "before"))
	now := epoch.Add(20 * time.Minute) // ten minutes before it expires
	st.Expire(now)
	const by = time.Hour
	now = now.Add(-by)
	st.ClockSetBack(by)
	se, _, _ := st.Session("a", "before", nil, 1)
	require.Equal(t, now.Add(10*time.Minute), se.ExpiresAt, "on the new clock")
	accept(st, now, running("a", "after"))
	se, _, _ = st.Session("a", "after", nil, 1)
	require.WithinDuration(t, now.Add(30*time.Minute), se.ExpiresAt, time.Second)

	st.Expire(now.Add(9 * time.Minute))
	require.Zero(t, st.Summary().Sessions.Expired)
	st.Expire(now.Add(10*time.Minute + time.Second))
	require.Equal(t, 1, st.Summary().Sessions.Expired)
	changes, ok := st.Changes(0, make([]store.Change, 0, 10))
	require.True(t, ok)
	require.Equal(t, now.Add(10*time.Minute+time.Second), changes[len(changes)-1].At)
	st.Expire(now.Add(29 * time.Minute))
	require.Equal(t, 1, st.Summary().Sessions.Expired)
	st.Expire(now.Add(30*time.Minute + 2*time.Second))
	require.Equal(t, 2, st.Summary().Sessions.Expired)
}

// TestRecordsFromTheFuture loads records of a server whose clock was an hour ahead. The TTL of their sessions counts
// from the start.
func TestRecordsFromTheFuture(t *testing.T) {
	st := newStore(nil)
	record := func(topic string, sequence uint64, received time.Time) models.Record {
		return models.Record{StatusReport: running("a", topic), Sequence: sequence, Received: received}
	}
	st.BeginLoading(epoch)
	st.Apply(record("past", 1, epoch.Add(-10*time.Minute)), record("future", 2, epoch.Add(time.Hour)))
	extended, ahead := st.EndLoading(epoch.Add(time.Hour), epoch)
	require.Zero(t, extended)
	require.Equal(t, 1, ahead)
	for topic, left := range map[string]time.Duration{"past": 20 * time.Minute, "future": 30 * time.Minute} {
		se, _, _ := st.Session("a", topic, nil, 1)
		require.Equal(t, epoch.Add(left), se.ExpiresAt, topic)
	}
	st.Expire(epoch.Add(31 * time.Minute))
	require.Equal(t, 2, st.Summary().Sessions.Lost)
	now := epoch.Add(32 * time.Minute)
	require.Equal(t, []store.Outcome{store.Stored}, accept(st, now, running("a", "future")), "the session continues")
	se, _, _ := st.Session("a", "future", nil, 1)
	require.False(t, se.Expired)
	require.WithinDuration(t, now.Add(30*time.Minute), se.ExpiresAt, 2*time.Second)
}

// TestSubagents checks that events of subagents renew the session, and what else they do to it.
func TestSubagents(t *testing.T) {
	work := func(subagent string) []models.StatusReport {
		return []models.StatusReport{starts(subagent, "9", "ls"), ends(subagent, "9", "ls"), subagentEnds(subagent)}
	}
	for name, test := range map[string]struct {
		before []models.StatusReport
		events []models.StatusReport
		want   string
	}{
		"they don't change the status":                       {[]models.StatusReport{prompts("Go")}, work("sub"), "running Go []"},
		"they don't restart a finished turn":                 {[]models.StatusReport{prompts("Go"), turnEnds("sub")}, work("sub"), "success Done []"},
		"they don't restart a failed turn":                   {[]models.StatusReport{prompts("Go"), turnFails()}, work("sub"), "failed Error []"},
		"they don't start a session at its prompt":           {[]models.StatusReport{begins()}, work("sub"), "success Session started []"},
		"a question of one after the turn is open":           {[]models.StatusReport{prompts("Go"), turnEnds("sub")}, []models.StatusReport{asks("sub", "", "rm")}, "pending subrm? [subrm?]"},
		"once it closes, the turn is finished as before":     {[]models.StatusReport{prompts("Go"), turnEnds("sub")}, []models.StatusReport{asks("sub", "", "rm"), ends("sub", "", "rm")}, "success Done []"},
		"the end of the turn shows once its question closes": {[]models.StatusReport{prompts("Go"), asks("sub", "", "rm")}, []models.StatusReport{turnEnds("sub"), ends("sub", "", "rm")}, "success Done []"},
		"the end of one leaves the agent's question open":    {[]models.StatusReport{prompts("Go"), asks("", "", "rm")}, work("sub"), "pending rm? [rm?]"},
		"if its event is the first, the parent is at work":   {nil, []models.StatusReport{starts("sub", "9", "ls")}, "running ls []"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFeed(t, nil)
			f.send(test.before...)
			f.send(test.events...)
			require.Equal(t, test.want, f.shown())
			se, _, _ := f.session()
			require.Equal(t, f.now, se.LastUpdated, "they renew the session")
		})
	}
}

// TestASnoozeIsAsLongAsItWasMeantToBe sets the clock back by three hours during a snooze of an hour, after it, and before
// a restart that loads it.
func TestASnoozeIsAsLongAsItWasMeantToBe(t *testing.T) {
	const by = 3 * time.Hour
	key := store.SessionKey{AgentID: "a", Topic: "asks"}
	snoozedAt := epoch.Add(time.Minute)
	snooze := models.StatusReport{AgentID: key.AgentID, SessionTopic: key.Topic, Event: &models.Event{
		Acknowledge: &models.Acknowledgement{At: snoozedAt, Until: snoozedAt.Add(time.Hour)}}}
	asks := models.StatusReport{AgentID: key.AgentID, SessionTopic: key.Topic, Status: models.Pending, TTLMinutes: models.MaxTTLMinutes}
	shows := func(st *store.Store, until time.Time) {
		t.Helper()
		se, _, _ := st.Session(key.AgentID, key.Topic, nil, 1)
		page, err := st.Sessions(t.Context(), store.SessionQuery{Need: models.NeedWaiting}, nil, 10)
		require.NoError(t, err)
		if until.IsZero() {
			require.Nil(t, se.Acknowledged)
			require.Len(t, page.Items, 1)
			require.Equal(t, 1, st.Summary().Needs.Waiting)
			return
		}
		require.WithinDuration(t, until, se.Acknowledged.Until, time.Second)
		require.Empty(t, page.Items)
		require.Equal(t, 1, st.Stats().Acknowledged.Waiting)
	}

	st := newStore(nil)
	accept(st, epoch, asks)
	accept(st, snoozedAt, snooze)
	now := snoozedAt.Add(20 * time.Minute).Add(-by)
	st.Expire(now.Add(by))
	st.ClockSetBack(by)
	end := now.Add(40 * time.Minute)
	shows(st, end)
	accept(st, now, models.StatusReport{AgentID: key.AgentID, SessionTopic: key.Topic, Event: &models.Event{Name: "renews"}})
	shows(st, end)
	st.Expire(end.Add(-time.Second))
	shows(st, end)
	st.Expire(end.Add(time.Second))
	shows(st, time.Time{})
	st.ClockSetBack(by)
	shows(st, time.Time{})

	before := newStore(nil)
	records := admit(t, before, []models.StatusReport{asks}, epoch, 0)
	records = append(records, admit(t, before, []models.StatusReport{snooze}, snoozedAt, 1)...)
	start := snoozedAt.Add(-by)
	st = newStore(nil)
	st.BeginLoading(start)
	st.Apply(records...)
	st.EndLoading(start, start)
	shows(st, start.Add(time.Hour))
	st.Expire(start.Add(time.Hour + time.Second))
	shows(st, time.Time{})
}
