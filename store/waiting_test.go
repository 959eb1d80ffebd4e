package store_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

func TestASessionThatWaitsLives24Hours(t *testing.T) {
	f := newFeed(t, nil)
	f.send(prompts("Go"))
	expires := func() time.Duration {
		se, _, _ := f.session()
		require.Equal(t, 30, se.TTLMinutes, "its own stays")
		return se.ExpiresAt.Sub(f.now)
	}
	require.Equal(t, 30*time.Minute, expires())
	f.send(asks("", "", "rm"))
	require.Equal(t, 24*time.Hour, expires())
	f.send(asks("", "", "ls"), denied("", "", "rm"))
	require.Equal(t, 24*time.Hour, expires(), "one is open still")
	f.after(23 * time.Hour)
	require.Equal(t, "pending ls? [ls?]", f.shown())
	f.send(denied("", "", "ls"))
	require.Equal(t, 30*time.Minute, expires())
	f.after(31 * time.Minute)
	se, _, _ := f.session()
	require.True(t, se.Expired)
	require.True(t, se.Lost)
}

func TestAnOwnTTLBeyond24HoursStays(t *testing.T) {
	f := newFeed(t, func(o *store.Options) { o.DefaultTTL = 48 * time.Hour })
	f.send(prompts("Go"), asks("", "", "rm"))
	f.after(47 * time.Hour)
	require.Equal(t, "pending rm? [rm?]", f.shown())
}

func TestAStatusReportThatIsPendingHasItsOwnTTL(t *testing.T) {
	st := newStore(nil)
	accept(st, epoch, models.StatusReport{AgentID: "a", SessionTopic: "t", Status: models.Pending})
	st.Expire(epoch.Add(31 * time.Minute))
	se, _, _ := st.Session("a", "t", nil, 1)
	require.True(t, se.Lost)
}

// TestAQuestionExpiresWithItsSession has a question that nobody answered in time: it stays closed, whatever comes.
func TestAQuestionExpiresWithItsSession(t *testing.T) {
	for name, test := range map[string]struct {
		event models.StatusReport
		want  string
	}{
		"an event that only renews":      {renews(""), "running Go []"},
		"one of a subagent":              {renews("sub"), "running Go []"},
		"the result of its call":         {ends("", "", "rm"), "running rm []"},
		"the start of another call":      {starts("", "2", "ls"), "running ls []"},
		"the end of the turn":            {answers(), "success Done []"},
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

// TestACallBeforeExpiryIsNotInFlight has a call start, and the session expire, before it is asked about the same once more.
func TestACallBeforeExpiryIsNotInFlight(t *testing.T) {
	f := newFeed(t, nil)
	f.send(prompts("Go"), starts("", "", "rm"), asks("", "", "rm"))
	f.after(25 * time.Hour)
	f.send(starts("", "", "rm"), asks("", "", "rm"), asks("", "", "rm"))
	require.Equal(t, "pending rm? [rm?]", f.shown(), "one call is in flight")
}

// TestDowntimeIsNotSilence loads records of an earlier run, and holds until when a session has to report.
func TestDowntimeIsNotSilence(t *testing.T) {
	for name, test := range map[string]struct {
		ran, down time.Duration // after the report
		ttl       int           // minutes
		status    models.Status
		spared    bool
		left      time.Duration // since the start
	}{
		"the TTL ran out while the server was down":  {10 * time.Minute, time.Hour, 30, models.Running, true, 10 * time.Minute},
		"a person was waited for then":               {10 * time.Minute, time.Hour, 30, models.Pending, true, 10 * time.Minute},
		"the TTL is shorter than the grace":          {time.Minute, time.Hour, 2, models.Running, true, 2 * time.Minute},
		"the session had finished":                   {10 * time.Minute, time.Hour, 30, models.Success, false, 0},
		"the session was lost before":                {40 * time.Minute, time.Hour, 30, models.Running, false, 0},
		"the TTL has not run out":                    {10 * time.Minute, 10 * time.Minute, 30, models.Running, false, 10 * time.Minute},
		"the TTL runs out in a moment":               {10 * time.Minute, 19*time.Minute + 59*time.Second, 30, models.Running, false, time.Second},
		"nobody knows when the server ran last":      {-1, time.Hour, 30, models.Running, true, 10 * time.Minute},
		"the server was down for longer than it ran": {10 * time.Minute, 100 * time.Hour, 30, models.Running, true, 10 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			st := newStore(nil)
			lastRan := epoch.Add(test.ran)
			start := lastRan.Add(test.down)
			if test.ran < 0 {
				lastRan, start = time.Time{}, epoch.Add(test.down)
			}
			st.Loading(start)
			st.Apply(models.Record{StatusReport: models.StatusReport{AgentID: "a", SessionTopic: "t", Status: test.status, TTLMinutes: test.ttl}, Sequence: 1, Received: epoch})
			spared, ahead := st.Loaded(lastRan, start)
			st.Expire(start)
			require.Equal(t, test.spared, spared == 1)
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

// TestAQuestionOutlivesDowntime has a question open while the server is down for longer than it may be.
func TestAQuestionOutlivesDowntime(t *testing.T) {
	before := newFeed(t, nil)
	records := admit(t, before.store, []models.StatusReport{prompts("Go")}, epoch, 0)
	records = append(records, admit(t, before.store, []models.StatusReport{asks("", "", "rm")}, epoch, 1)...)
	start := epoch.Add(48 * time.Hour)
	f := newFeed(t, nil)
	f.now = start
	f.store.Loading(start)
	f.store.Apply(records...)
	spared, _ := f.store.Loaded(epoch.Add(time.Minute), start)
	require.Equal(t, 1, spared)
	require.Equal(t, "pending rm? [rm?]", f.shown())
	f.send(ends("", "", "rm"))
	require.Equal(t, "running rm []", f.shown())
	require.Equal(t, []models.QuestionOutcome{models.Answered}, f.closed())
	f.after(29 * time.Minute)
	require.Equal(t, "running rm []", f.shown(), "it has its own TTL again")
}

// TestTheClockIsSetBack has the clock set back by an hour while sessions are active: what was to expire in ten minutes still does.
func TestTheClockIsSetBack(t *testing.T) {
	st := newStore(func(o *store.Options) { o.EventWindow = 10 })
	accept(st, epoch, running("a", "before"))
	now := epoch.Add(20 * time.Minute) // ten minutes before it expires
	st.Expire(now)
	const by = time.Hour
	now = now.Add(-by)
	st.ClockSetBack(by)
	se, _, _ := st.Session("a", "before", nil, 1)
	require.Equal(t, now.Add(10*time.Minute), se.ExpiresAt, "by the clock as it goes now")
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

// TestRecordsFromTheFuture loads records that a server wrote whose clock was an hour ahead: their sessions expire by their TTL from the
// start on.
func TestRecordsFromTheFuture(t *testing.T) {
	st := newStore(nil)
	record := func(topic string, sequence uint64, received time.Time) models.Record {
		return models.Record{StatusReport: running("a", topic), Sequence: sequence, Received: received}
	}
	st.Loading(epoch)
	st.Apply(record("past", 1, epoch.Add(-10*time.Minute)), record("future", 2, epoch.Add(time.Hour)))
	spared, ahead := st.Loaded(epoch.Add(time.Hour), epoch)
	require.Zero(t, spared)
	require.Equal(t, 1, ahead)
	for topic, left := range map[string]time.Duration{"past": 20 * time.Minute, "future": 30 * time.Minute} {
		se, _, _ := st.Session("a", topic, nil, 1)
		require.Equal(t, epoch.Add(left), se.ExpiresAt, topic)
	}
	st.Expire(epoch.Add(31 * time.Minute))
	require.Equal(t, 2, st.Summary().Sessions.Lost)
	now := epoch.Add(32 * time.Minute)
	require.Equal(t, []store.Outcome{store.Stored}, accept(st, now, running("a", "future")), "it goes on")
	se, _, _ := st.Session("a", "future", nil, 1)
	require.False(t, se.Expired)
	require.WithinDuration(t, now.Add(30*time.Minute), se.ExpiresAt, 2*time.Second)
}

// TestSubagents holds that events of subagents renew the session, and what else they do to it.
func TestSubagents(t *testing.T) {
	work := func(subagent string) []models.StatusReport {
		return []models.StatusReport{starts(subagent, "9", "ls"), ends(subagent, "9", "ls"), subagentEnds(subagent)}
	}
	for name, test := range map[string]struct {
		before []models.StatusReport
		events []models.StatusReport
		want   string
	}{
		"they change no status":                              {[]models.StatusReport{prompts("Go")}, work("sub"), "running Go []"},
		"they restart no finished turn":                      {[]models.StatusReport{prompts("Go"), answers("sub")}, work("sub"), "success Done []"},
		"nor one that failed":                                {[]models.StatusReport{prompts("Go"), fails()}, work("sub"), "failed Error []"},
		"they restart no session at its prompt":              {[]models.StatusReport{begins()}, work("sub"), "success Session started []"},
		"a question of one after the turn is open":           {[]models.StatusReport{prompts("Go"), answers("sub")}, []models.StatusReport{asks("sub", "", "rm")}, "pending subrm? [subrm?]"},
		"after which the turn is as it was":                  {[]models.StatusReport{prompts("Go"), answers("sub")}, []models.StatusReport{asks("sub", "", "rm"), ends("sub", "", "rm")}, "success Done []"},
		"the end of the turn shows once its question closes": {[]models.StatusReport{prompts("Go"), asks("sub", "", "rm")}, []models.StatusReport{answers("sub"), ends("sub", "", "rm")}, "success Done []"},
		"its end leaves the agent's question":                {[]models.StatusReport{prompts("Go"), asks("", "", "rm")}, work("sub"), "pending rm? [rm?]"},
		"where it is heard of first, its parent is at work":  {nil, []models.StatusReport{starts("sub", "9", "ls")}, "running ls []"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFeed(t, nil)
			f.send(test.before...)
			f.send(test.events...)
			require.Equal(t, test.want, f.shown())
			se, _, _ := f.session()
			require.Equal(t, f.now, se.LastUpdated, "they renew it")
		})
	}
}
