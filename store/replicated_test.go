package store_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// newReplicated returns a replicated store with room for 100 changes.
func newReplicated(change func(*store.Options)) *store.Store {
	return newStore(func(o *store.Options) {
		o.EventWindow, o.Journaled, o.Replicated = 100, true, true
		if change != nil {
			change(o)
		}
	})
}

// take lets a replicated store apply a message with reports.
func take(t require.TestingT, st *store.Store, message uint64, now time.Time, reports ...models.StatusReport) store.Admission {
	st.Begin(message, now)
	var ad store.Admission
	require.True(t, st.Admit(nil, reports, now, &ad))
	for i := range ad.Records {
		ad.Records[i].Sequence = message<<24 | uint64(i)
	}
	st.Apply(ad.Records...)
	st.Settle()
	return ad
}

// TestOnlyMessagesMoveTheTime also checks that receipt times are unique and in the order of the messages, even if these
// have the same time.
func TestOnlyMessagesMoveTheTime(t *testing.T) {
	st := newReplicated(nil)
	ahead := epoch.Add(1000 * time.Hour)
	first := take(t, st, 1, epoch, running("a", "1"), running("a", "2"))
	second := take(t, st, 2, epoch, running("a", "3"))
	require.Equal(t, []time.Time{epoch, epoch.Add(1), epoch.Add(1 << 14)},
		[]time.Time{first.Records[0].Received, first.Records[1].Received, second.Records[0].Received})

	require.Zero(t, st.Expire(ahead))
	require.True(t, st.RemoveSession(store.SessionKey{AgentID: "a", Topic: "3"}, ahead))
	var ad store.Admission
	require.True(t, st.Admit(nil, []models.StatusReport{running("a", "1")}, ahead, &ad))
	st.Settle()
	st.ClockSetBack(time.Hour)
	st.Preview(&store.Restored{SessionKey: store.SessionKey{AgentID: "b", Topic: "b"}, Records: first.Records[:1]}, nil, 1, ahead)
	require.Equal(t, epoch.Add(1<<14), st.Time())
	require.Equal(t, 2, st.TeamSummary(nil, ahead).Sessions.Active)
	require.Equal(t, store.Expiry{Expired: 2, Lost: 2}, st.Begin(3, epoch.Add(31*time.Minute)))
	st.Begin(4, epoch)
	require.Equal(t, epoch.Add(31*time.Minute+1<<14), st.Time(), "time never goes back")
}

// TestAnotherStoresSubscriberContinues asks a store with room for three changes where points of the stream are.
func TestAnotherStoresSubscriberContinues(t *testing.T) {
	st := newReplicated(func(o *store.Options) { o.EventWindow = 3 })
	after := func(message uint64, index uint32) any {
		number, ok := st.ChangeAfter(message, index)
		if !ok {
			return "unknown"
		}
		return number
	}
	require.Equal(t, []any{uint64(0), "unknown"}, []any{after(0, math.MaxUint32), after(1, 0)}, "nothing was begun or loaded")
	st.Begin(7, epoch)
	require.Equal(t, []any{"unknown", "unknown", uint64(0), "unknown", "unknown"},
		[]any{after(6, 0), after(6, math.MaxUint32-1), after(6, math.MaxUint32), after(7, 0), after(8, 0)}, "it was loaded with message 6 at the latest")
	take(t, st, 8, epoch, running("a", "1"), running("a", "2"))
	take(t, st, 9, epoch)
	require.Equal(t, []any{uint64(0), uint64(1), uint64(2), uint64(2), uint64(2)},
		[]any{after(7, 5), after(8, 0), after(8, 1), after(8, math.MaxUint32), after(9, math.MaxUint32)})
	require.Equal(t, "unknown", after(9, 0), "there may be such a change, once it is applied")
	take(t, st, 10, epoch, running("a", "3"), running("a", "4"))
	require.Equal(t, []any{"unknown", uint64(1), uint64(2), uint64(2), uint64(3), uint64(4), "unknown", uint64(4), "unknown"},
		[]any{after(7, 5), after(8, 0), after(8, 1), after(9, 4), after(10, 0), after(10, 1), after(10, 2), after(10, math.MaxUint32), after(11, 0)},
		"the first change is no longer kept")
}

// TestAPauseIsNotSilence lets sessions with different TTLs and statuses meet two pauses.
func TestAPauseIsNotSilence(t *testing.T) {
	st := newReplicated(nil)
	reports := []models.StatusReport{}
	for _, ttl := range []int{1, 3, 5, 15, 60} {
		r := running("a", fmt.Sprint(ttl))
		r.TTLMinutes = ttl
		reports = append(reports, r)
	}
	done := running("a", "done")
	done.TTLMinutes, done.Status = 3, models.Success
	var records []models.Record
	records = append(records, take(t, st, 1, epoch, append(reports, done)...).Records...)
	minutes := func(n int) time.Time { return epoch.Add(time.Duration(n) * time.Minute) }
	expiry := func(st *store.Store) map[string]string {
		expiries := map[string]string{}
		for _, se := range allSessions(t, st, store.SessionQuery{}, all) {
			expiries[se.Topic] = se.ExpiresAt.Truncate(time.Second).Format("15:04")
			if se.Lost {
				expiries[se.Topic] += " lost"
			}
		}
		return expiries
	}
	st.Begin(2, minutes(2))
	position := st.EventPosition()
	st.Pause(minutes(2), minutes(20))
	require.Equal(t, position, st.EventPosition(), "a pause makes no change")
	require.Equal(t, 1, st.Begin(3, minutes(20)).Expired, "what was done is done")
	require.Equal(t, map[string]string{"1": "07:01 lost", "3": "07:23", "5": "07:25", "15": "07:30", "60": "08:00", "done": "07:03"}, expiry(st))
	st.Begin(4, minutes(24))
	st.Pause(minutes(24), minutes(40))
	st.Begin(5, minutes(44))
	want := map[string]string{"1": "07:01 lost", "3": "07:23 lost", "5": "07:45", "15": "07:50", "60": "08:00", "done": "07:03"}
	require.Equal(t, want, expiry(st))
	require.EqualValues(t, 2, st.Stats().LostTotal)

	loaded := newReplicated(nil)
	loaded.SetPauses(st.Pauses())
	loaded.BeginLoading(st.Time())
	for _, r := range records {
		loaded.Restore(&store.Restored{SessionKey: store.SessionKey{AgentID: "a", Topic: r.SessionTopic}, Records: []models.Record{r}}, epoch)
	}
	loaded.EndLoading(epoch, epoch)
	require.Equal(t, want, expiry(loaded))
	require.Equal(t, st.Pauses(), loaded.Pauses())

	for i := range 255 { // the first pause is dropped
		from := minutes(44).Add(time.Duration(i) * time.Millisecond)
		st.Pause(from, from.Add(time.Millisecond))
	}
	require.Len(t, st.Pauses(), 256)
	require.Equal(t, map[string]string{"1": "07:01 lost", "3": "07:03 lost", "5": "07:05", "15": "07:15", "60": "08:00", "done": "07:03"}, expiry(st))
	require.Equal(t, store.Expiry{Expired: 2, Lost: 2}, st.Begin(6, minutes(44)), "without its pause, a session is lost with the next message")
}

// TestStatusSinceDoesNotDependOnMemory sends reports in and out of order to stores that keep one status and all of them.
func TestStatusSinceDoesNotDependOnMemory(t *testing.T) {
	one, many := newReplicated(func(o *store.Options) { o.HistoryLimit = 1 }), newReplicated(nil)
	for i, step := range []struct {
		status  models.Status
		at      int // minutes
		message string
		since   int
	}{
		{models.Running, 1, "begins", 1},
		{models.Running, 3, "goes on", 1},
		{models.Failed, 2, "late, within the run", 1},
		{models.Pending, 5, "another status", 5},
		{models.Pending, 4, "late, just before the run", 5},
		{models.Pending, 6, "goes on", 5},
		{models.Running, 7, "another status", 7},
	} {
		for _, st := range []*store.Store{one, many} {
			r := running("a", "t")
			r.Status, r.Timestamp, r.Message = step.status, epoch.Add(time.Duration(step.at)*time.Minute), step.message
			take(t, st, uint64(i)+1, epoch.Add(10*time.Minute), r)
			se, _, _ := st.Session("a", "t", nil, 1)
			require.Equal(t, epoch.Add(time.Duration(step.since)*time.Minute), se.StatusSince, step.message)
		}
	}
}

// TestEvictedSessionsAreFiledAsCold also checks how long their states are kept.
func TestEvictedSessionsAreFiledAsCold(t *testing.T) {
	st := newReplicated(nil)
	key, other := store.SessionKey{AgentID: "a", Topic: "t"}, store.SessionKey{AgentID: "a", Topic: "active"}
	records := take(t, st, 1, epoch, running("a", "t")).Records
	st.SetFiledTo(1<<24 | (1<<24 - 1))
	take(t, st, 2, epoch.Add(20*time.Minute), running("a", "active"))
	st.Begin(3, epoch.Add(31*time.Minute))
	require.Equal(t, []store.SessionKey{key}, st.Evict([]store.SessionKey{other, {AgentID: "no", Topic: "such"}, key}))
	require.True(t, st.HasCold())
	require.True(t, st.IsCooling(key), "all of its records are filed, but not that it is cold")

	filing := []store.Filing{{SessionKey: key}, {SessionKey: other}}
	st.File(filing)
	require.True(t, filing[0].State.Cold)
	require.False(t, filing[1].State.Cold)
	st.SetFiledTo(3<<24 | (1<<24 - 2))
	require.True(t, st.IsCooling(key))
	st.SetFiledTo(3<<24 | (1<<24 - 1))
	require.False(t, st.IsCooling(key))

	cold := &store.Restored{SessionKey: key, Session: filing[0].State, Records: records}
	loaded := newReplicated(nil)
	loaded.Restore(cold, epoch)
	require.True(t, loaded.HasCold())
	require.False(t, loaded.Has(key))

	before := st.EventPosition()
	st.Recall(cold, epoch)
	require.True(t, st.Has(key))
	st.Settle()
	require.False(t, st.Has(key), "nothing was recorded of it")
	require.Equal(t, before, st.EventPosition())
	require.NoError(t, st.CheckUsage())

	st.Recall(cold, epoch)
	take(t, st, 4, epoch.Add(32*time.Minute), running("a", "t"))
	st.File(filing)
	require.False(t, filing[0].State.Cold, "it has come back")
}

// TestLookups lets a store that drops all it can decide about a retry, and about a question whose session has a status
// with content.
func TestLookups(t *testing.T) {
	st := newReplicated(func(o *store.Options) { o.HistoryMaxBytes = 1 })
	key := store.SessionKey{AgentID: "claude-code:payments", Topic: "s"}
	known := running(key.AgentID, key.Topic)
	known.ReportID = "known"
	take(t, st, 1, epoch, known)
	begun := prompts("Go")
	begun.Content = "all of it"
	current := take(t, st, 2, epoch.Add(time.Minute), begun).Records[0]

	st.Begin(3, epoch.Add(2*time.Minute))
	again, fresh := known, known
	fresh.ReportID = "fresh"
	var ad store.Admission
	require.False(t, st.Admit(nil, []models.StatusReport{running(key.AgentID, "other"), again, fresh}, epoch, &ad))
	require.Equal(t, []store.Outcome{store.Stored}, ad.Outcomes, "it stops before what depends on the journal")
	require.Equal(t, []store.Lookup{{SessionKey: key, ReportID: "known", Dropped: 1 << 24}, {SessionKey: key, ReportID: "fresh", Dropped: 1 << 24}}, ad.Lookups)
	st.Answer(ad.Lookups[0], store.Answer{Held: true})
	st.Answer(ad.Lookups[1], store.Answer{})
	ad.Lookups = nil
	require.True(t, st.Admit(nil, []models.StatusReport{again, fresh}, epoch, &ad))
	require.Equal(t, []store.Outcome{store.Stored, store.Duplicate, store.Stored}, ad.Outcomes)
	require.Empty(t, ad.PossibleDuplicates)
	st.Settle()

	ad = store.Admission{}
	question := asks("", "", "rm")
	require.False(t, st.Admit(nil, []models.StatusReport{question}, epoch, &ad))
	require.Len(t, ad.Lookups, 1)
	require.Equal(t, current.Sequence, ad.Lookups[0].Content.Sequence)
	st.Answer(ad.Lookups[0], store.Answer{Content: "all of it"})
	ad.Lookups = nil
	require.True(t, st.Admit(nil, []models.StatusReport{question}, epoch, &ad))
	require.Equal(t, "all of it", ad.Records[0].Turn.Underlying.Content)
}

// TestRoom fills a store for four sessions, of which a team may have two.
func TestRoom(t *testing.T) {
	fill := func(o func(*store.Options)) (*store.Store, *store.Team) {
		st := newReplicated(func(opts *store.Options) {
			opts.MaxSessions, opts.HistoryMaxBytes = 4, 1<<20
			if o != nil {
				o(opts)
			}
		})
		team := teamOf("team", 0.5)
		st.SetTeams([]*store.Team{team})
		return st, team
	}
	room := func(st *store.Store, reports ...models.StatusReport) ([]store.Outcome, *store.Reservation) {
		return st.Room(nil, reports, nil)
	}
	long := func(agent, topic string, n int) models.StatusReport {
		r := running(agent, topic)
		r.Message = strings.Repeat("x", n)
		return r
	}
	t.Run("sessions count once they are reserved", func(t *testing.T) {
		st, _ := fill(nil)
		outcomes, first := room(st, running("team", "1"), running("team", "1"), running("team", "2"), running("team", "3"), running("other", "1"))
		require.Equal(t, []store.Outcome{0, 0, 0, store.OutOfSessionShare, 0}, outcomes)
		outcomes, second := room(st, running("other", "1"), running("other", "2"), running("other", "3"))
		require.Equal(t, []store.Outcome{0, 0, store.OutOfSessions}, outcomes, "one of them begins already")
		require.Zero(t, st.Summary().Sessions.Total)
		require.Zero(t, st.EventPosition())
		first.Release()
		first.Release()
		second.Release()
		outcomes, third := room(st, running("other", "1"), running("other", "2"), running("other", "3"), running("team", "1"))
		require.Equal(t, make([]store.Outcome, 4), outcomes)
		third.Release()
		require.NoError(t, st.CheckUsage())
		require.EqualValues(t, 1, st.Stats().Bounds.RefusedShare)
		require.EqualValues(t, 1, st.Stats().Bounds.Refused)
	})
	t.Run("known sessions need no session", func(t *testing.T) {
		st, _ := fill(nil)
		known := running("team", "1")
		known.ReportID = "r"
		take(t, st, 1, epoch, known, running("team", "2"), running("other", "1"), running("other", "2"))
		renewal := running("team", "2")
		renewal.Renew = true
		outcomes, _ := room(st, known, renewal, running("other", "1"), running("other", "3"))
		require.Equal(t, []store.Outcome{0, 0, 0, store.OutOfSessions}, outcomes)
	})
	t.Run("an expired session makes room for one beyond the bound", func(t *testing.T) {
		st, team := fill(nil)
		take(t, st, 1, epoch, running("team", "1"), running("team", "2"))
		take(t, st, 2, epoch.Add(time.Minute), running("other", "1"), running("other", "2"))
		st.Begin(3, epoch.Add(30*time.Minute))
		outcomes, reserved := room(st, running("other", "3"))
		require.Equal(t, []store.Outcome{store.OutOfSessions}, outcomes, "those of a team with a share are not evicted for it")
		reserved.Release()
		outcomes, reserved = st.Room(team, []models.StatusReport{running("team", "3"), running("team", "4"), running("other", "1")}, nil)
		require.Equal(t, []store.Outcome{0, store.OutOfSessionShare, 0}, outcomes, "what is not of the team is not refused for room")
		take(t, st, 4, epoch.Add(30*time.Minute), running("team", "3"))
		reserved.Release()
		require.Equal(t, 5, st.Summary().Sessions.Total, "nothing is evicted")
		overflow := []store.SessionKey{{AgentID: "team", Topic: "1"}}
		require.Equal(t, overflow, st.Overflow(10))
		st.Begin(5, epoch.Add(30*time.Minute))
		require.Equal(t, overflow, st.Evict(st.Overflow(10)))
		require.Empty(t, st.Overflow(10))
	})
	t.Run("memory", func(t *testing.T) {
		st, _ := fill(func(o *store.Options) { o.MaxSessions, o.HistoryMaxBytes = 1000, 64<<10 })
		for i := range 10 {
			r := long("other", "1", 10)
			r.Content = strings.Repeat("y", 9000)
			take(t, st, uint64(i)+1, epoch.Add(time.Duration(i)), r)
		}
		statuses := st.Stats().Statuses
		outcomes, reserved := room(st, long("other", "2", 40_000))
		require.Equal(t, []store.Outcome{0}, outcomes)
		require.Less(t, st.Stats().Statuses, statuses, "statuses are dropped for it")
		outcomes, _ = room(st, long("other", "3", 40_000), long("team", "1", 40_000))
		require.Equal(t, []store.Outcome{store.OutOfMemory, store.OutOfMemoryShare}, outcomes)
		reserved.Release()
		outcomes, _ = room(st, long("other", "3", 40_000))
		require.Equal(t, []store.Outcome{0}, outcomes)
	})
	t.Run("a question loses its content", func(t *testing.T) {
		st, _ := fill(func(o *store.Options) { o.HistoryMaxBytes = 16 << 10 })
		take(t, st, 1, epoch, prompts("Go"))
		question := asks("", "", "rm")
		asked := *question.Event.Question
		asked.Content = strings.Repeat("x", 20_000)
		event := *question.Event
		event.Question, question.Event = &asked, &event
		reports := []models.StatusReport{question}
		outcomes, _ := st.Room(nil, reports, nil)
		require.Equal(t, []store.Outcome{0}, outcomes)
		require.Empty(t, reports[0].Event.Question.Content)
		require.True(t, reports[0].Event.Question.ContentCut)
		require.NotEmpty(t, asked.Content, "the caller's question is not changed")
	})
	t.Run("disk", func(t *testing.T) {
		st, _ := fill(func(o *store.Options) { o.DataMaxBytes = 1000 })
		outcomes, reserved := room(st, long("other", "1", 300), long("team", "1", 500), long("other", "2", 300), long("other", "3", 300))
		require.Equal(t, []store.Outcome{0, store.OutOfDiskShare, 0, store.OutOfDisk}, outcomes)
		take(t, st, 1, epoch, long("other", "1", 300), long("other", "2", 300))
		reserved.Release()
		outcomes, _ = room(st, long("other", "3", 300), long("other", "4", 60))
		require.Equal(t, []store.Outcome{store.OutOfDisk, 0}, outcomes, "applied records count")
		require.Equal(t, []store.Outcome{store.Stored}, take(t, st, 2, epoch, long("other", "3", 300)).Outcomes, "what was published is not refused")
	})
}

// TestOverflowIsWhatAStoreAloneEvicts gives a replicated store and another one the same sessions and then tighter
// shares.
func TestOverflowIsWhatAStoreAloneEvicts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bytes := int64(rapid.IntRange(16, 80).Draw(t, "KiB")) << 10 // all sessions fit
		bounds := func(o *store.Options) {
			o.MaxSessions, o.HistoryMaxBytes, o.Journaled, o.EventWindow = 16, bytes, true, 1000
		}
		plain, replicated := newStore(bounds), newReplicated(bounds)
		now, message := epoch, uint64(0)
		for range rapid.IntRange(1, 16).Draw(t, "reports") {
			now, message = now.Add(time.Duration(rapid.IntRange(1, 10).Draw(t, "minutes"))*time.Minute), message+1
			r := drawReport(t, now)
			r.Event, r.Status, r.ReportID, r.Renew = nil, models.Running, "", false
			admit(t, plain, []models.StatusReport{r}, now, message<<24-1)
			take(t, replicated, message, now, r)
		}
		plain.Expire(now)
		replicated.Begin(message+1, now)
		share := store.Share{Fraction: rapid.SampledFrom([]float64{0.05, 0.1, 0.2, 1}).Draw(t, "share of the team")}
		rest := store.Share{Fraction: rapid.SampledFrom([]float64{0.05, 0.1, 0.2, 1}).Draw(t, "share of the rest")}
		before := plain.EventPosition()
		for _, st := range []*store.Store{plain, replicated} {
			st.SetTeams([]*store.Team{store.NewTeam(share, func(id string) bool { return id == "a" || id == "代理" })})
			st.SetEveryone(rest)
		}
		evicted := []store.SessionKey{}
		for _, c := range changesOfAny(t, plain, before) {
			evicted = append(evicted, store.SessionKey{AgentID: c.Session.AgentID, Topic: c.Session.Topic})
		}
		overflow := replicated.Overflow(all)
		require.Equal(t, evicted, append([]store.SessionKey{}, overflow...))
		require.NoError(t, replicated.CheckUsage())
		if len(overflow) > 1 {
			require.Equal(t, overflow[:1], replicated.Overflow(1))
		}
		replicated.Begin(message+2, now)
		require.Equal(t, overflow, replicated.Evict(overflow))
		for key := range listed(t, plain) {
			require.True(t, replicated.Has(key))
		}
		require.Equal(t, plain.Summary(), replicated.Summary())
	})
}

// changesOfAny returns the changes after a number that a store still has.
func changesOfAny(t require.TestingT, st *store.Store, after uint64) []store.Change {
	if st.EventPosition() == after {
		return nil
	}
	return changesOf(t, st, after)
}

// TestAnAgentIsKnownWhileASessionIsCold removes the last session of an agent that memory has, while another one is cold,
// and lets the agent begin again. The journal has not filed the agent's last name.
func TestAnAgentIsKnownWhileASessionIsCold(t *testing.T) {
	st := newReplicated(nil)
	take(t, st, 1, epoch, running("a", "cold"))
	filed, _ := st.AgentState("a")
	later := epoch.Add(time.Hour)
	st.Begin(2, later)
	st.Evict([]store.SessionKey{{AgentID: "a", Topic: "cold"}})
	st.SetFiledTo(2<<24 | (1<<24 - 1))
	st.RecallAgent("a", filed)
	named := running("a", "removed")
	named.AgentName, named.AgentSource = "Fix", "codex"
	take(t, st, 3, later, named)
	st.Begin(4, later)
	require.True(t, st.RemoveSession(store.SessionKey{AgentID: "a", Topic: "removed"}, later))
	_, known := st.Agent("a")
	require.False(t, known)
	st.RecallAgent("a", filed)
	take(t, st, 5, later, running("a", "new"))
	a, _ := st.Agent("a")
	require.Equal(t, []any{"Fix", "codex", epoch}, []any{a.Name, a.Source, a.Registered})
}

// TestChangesOfManyReportsHaveOneOrder applies a message with more reports than fit into one hold of the lock. They
// change the source of agents with several sessions. One store drops statuses meanwhile.
func TestChangesOfManyReportsHaveOneOrder(t *testing.T) {
	var first, many []models.StatusReport
	for i := range 200 {
		agent, topic := fmt.Sprint("agent ", i%50), fmt.Sprint("task ", i)
		first = append(first, running(agent, topic))
		named := running(agent, topic)
		named.AgentSource, named.Message = fmt.Sprint("tool ", i/50), "x"
		many = append(many, named)
	}
	var all [2][]store.Change
	for i := range all {
		st := newReplicated(func(o *store.Options) {
			o.EventWindow = 10_000
			if i == 1 {
				o.HistoryMaxBytes = 1
			}
		})
		take(t, st, 1, epoch, first...)
		before := st.EventPosition()
		take(t, st, 2, epoch.Add(time.Minute), many...)
		all[i] = changesOf(t, st, before)
	}
	require.Equal(t, all[0], all[1])
}

// TestWaitsAreMeasuredByTheTimeOfTheStore asks a replicated store how long a session has waited, on a machine whose clock
// is wrong.
func TestWaitsAreMeasuredByTheTimeOfTheStore(t *testing.T) {
	now := time.Date(2026, 11, 20, 7, 0, 0, 0, time.UTC)
	st := store.New(store.Options{DefaultTTL: time.Hour, SessionRetention: time.Hour, HistoryLimit: 3, HistoryMaxBytes: 1 << 30, MaxSessions: 10,
		EventWindow: 10, Journaled: true, Replicated: true})
	st.Begin(1, now)
	st.Apply(models.Record{StatusReport: models.StatusReport{AgentID: "a", SessionTopic: "t", Status: models.Pending, Timestamp: now}, Received: now, Sequence: 1})
	st.Begin(2, now.Add(5*time.Minute))
	longest, counts := st.Waits(now.Add(9*time.Hour), time.Minute, 10*time.Minute)
	require.Equal(t, 5*time.Minute, longest)
	require.Equal(t, []int{1, 0}, counts)
}
