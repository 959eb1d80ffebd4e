package store_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

func newStore(change func(*store.Options)) *store.Store {
	opts := store.Options{
		DefaultTTL:       30 * time.Minute,
		SessionRetention: 168 * time.Hour,
		HistoryLimit:     100,
		HistoryMaxBytes:  1 << 40,
		MaxSessions:      2 * million,
	}
	if change != nil {
		change(&opts)
	}
	return store.New(opts)
}

func accept(st *store.Store, now time.Time, reports ...models.StatusReport) []store.Outcome {
	return st.Accept(nil, reports, now, nil)
}

func running(agent, topic string) models.StatusReport {
	return models.StatusReport{AgentID: agent, SessionTopic: topic, Status: models.Running}
}

func TestFullStoreForgetsTheSessionsExpiredLongestAgo(t *testing.T) {
	st := newStore(func(o *store.Options) { o.MaxSessions = 3 })
	for i := range 3 {
		accept(st, epoch.Add(time.Duration(i)*time.Minute), running("a", fmt.Sprint(i)))
	}
	later := epoch.Add(10 * time.Minute)
	require.Equal(t, []store.Outcome{store.OutOfSessions, store.Stored}, accept(st, later, running("b", "new"), running("a", "1")))
	require.EqualValues(t, 1, st.Stats().Bounds.Refused)
	_, ok := st.Agent("b")
	require.False(t, ok, "a refused report does not register its agent")

	later = epoch.Add(33 * time.Minute) // 0 and 2 have expired
	require.Equal(t, []store.Outcome{store.Stored, store.Stored, store.OutOfSessions},
		accept(st, later, running("b", "x"), running("b", "y"), running("b", "z")))
	var topics []string
	for _, se := range allSessions(t, st, store.SessionQuery{}, 10) {
		topics = append(topics, se.Topic)
	}
	require.Equal(t, []string{"y", "x", "1"}, topics)
	require.EqualValues(t, 2, st.Stats().Bounds.MaxSessions)
}

func TestAgentThatMakesRoomForItselfStays(t *testing.T) {
	st := newStore(func(o *store.Options) { o.MaxSessions = 1 })
	accept(st, epoch, running("a", "1"))
	now := epoch.Add(time.Hour)
	require.Equal(t, []store.Outcome{store.Stored}, accept(st, now, running("a", "2")))
	agent, ok := st.Agent("a")
	require.True(t, ok)
	require.Equal(t, 1, agent.SessionCount)
}

func TestHistoryStaysWithinItsBytes(t *testing.T) {
	const bound = 1 << 20
	st := newStore(func(o *store.Options) { o.HistoryMaxBytes = bound; o.HistoryLimit = 1000 })
	r := running("a", "t")
	r.Content = strings.Repeat("c", 1000)
	for i := range 5000 {
		r.SessionTopic = fmt.Sprint(i % 10)
		require.Equal(t, []store.Outcome{store.Stored}, accept(st, epoch, r))
		require.LessOrEqual(t, st.Stats().HistoryBytes, int64(bound))
	}
	stats := st.Stats()
	require.EqualValues(t, 5000-stats.Statuses, stats.Bounds.HistoryMaxBytes)
	_, history, _ := st.Session("a", "9", nil, 1000)
	require.InDelta(t, stats.Statuses/10, len(history.Items), 1, "the newest statuses of each session stay")

	// Current statuses are never dropped: new sessions are refused when those alone fill the bound.
	refused := 0
	for i := range 2000 {
		r.SessionTopic = fmt.Sprint("new ", i)
		if accept(st, epoch, r)[0] == store.OutOfMemory {
			refused++
		}
	}
	stats = st.Stats()
	require.Positive(t, refused)
	require.Equal(t, stats.Sessions.Total, stats.Statuses)
	require.LessOrEqual(t, stats.HistoryBytes, int64(bound))
	r.SessionTopic = "0"
	require.Equal(t, []store.Outcome{store.Stored}, accept(st, epoch, r), "known sessions continue")
	r.SessionTopic = "another day"
	require.Equal(t, []store.Outcome{store.Stored}, accept(st, epoch.Add(time.Hour), r), "expired sessions make room")
}

func TestSilentSessionsLoseTheirHistoryFirst(t *testing.T) {
	const bound = 1 << 20
	st := newStore(func(o *store.Options) { o.HistoryMaxBytes = bound; o.HistoryLimit = 10_000 })
	report := func(agent string, times int) {
		r := running(agent, "t")
		r.Message = strings.Repeat("m", 200)
		for range times {
			accept(st, epoch, r)
		}
	}
	length := func(agent string) (n int) {
		for after, more := (*store.StatusPosition)(nil), true; more; more = after != nil {
			_, history, _ := st.Session(agent, "t", after, all)
			n, after = n+len(history.Items), history.Next
		}
		return n
	}
	report("silent", 50)
	before := int(st.Stats().HistoryBytes)
	report("silent", 50)
	perStatus := (int(st.Stats().HistoryBytes) - before) / 50
	report("busy", 1)
	busy := (bound-int(st.Stats().HistoryBytes))/perStatus + 50 // 50 more than fit
	report("busy", busy)
	require.InDelta(t, 50, length("silent"), 1)
	require.Equal(t, busy+1, length("busy"))
	most := busy + length("silent")
	report("busy", 100)
	require.Equal(t, 1, length("silent"), "the current status stays")
	require.InDelta(t, most, length("busy"), 2)
}

func TestBoundsAreCounted(t *testing.T) {
	st := newStore(func(o *store.Options) { o.HistoryLimit = 2; o.SessionRetention = time.Hour })
	for range 5 {
		accept(st, epoch, running("a", "t"))
	}
	old := running("a", "t")
	old.Timestamp = epoch.AddDate(-2000, 0, 0)
	accept(st, epoch, old)
	require.EqualValues(t, 4, st.Stats().Bounds.HistoryLimit)
	require.Equal(t, store.Expiry{Expired: 1, Lost: 1}, st.Expire(epoch.Add(31*time.Minute)))
	require.Equal(t, store.Expiry{Removed: 1}, st.Expire(epoch.Add(91*time.Minute)))
	stats := st.Stats()
	require.EqualValues(t, 1, stats.Bounds.SessionRetention)
	require.EqualValues(t, 1, stats.ExpiredTotal)
	require.EqualValues(t, 1, stats.LostTotal)
	require.Zero(t, stats.Statuses)
	require.Zero(t, stats.HistoryBytes)
}

func TestTimestampsOfAnyYearKeepTheirNanoseconds(t *testing.T) {
	st := newStore(nil)
	times := []time.Time{epoch, time.Date(1969, 12, 31, 23, 59, 59, 999999999, time.UTC),
		time.Date(1600, 1, 1, 0, 0, 0, 1, time.UTC), time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)}
	for _, at := range times {
		r := running("a", "t")
		r.Timestamp = at
		accept(st, epoch, r)
	}
	_, history, _ := st.AgentStatus("a", nil, 10)
	for i, status := range history.Items {
		require.Equal(t, times[i], status.Timestamp)
	}
}

// TestSourceOfManySessionsChanges changes the source of an agent with more sessions than one hold of the lock can move.
// Lists by source must follow.
func TestSourceOfManySessionsChanges(t *testing.T) {
	st := newStore(nil)
	for i := range 3000 {
		accept(st, epoch, running("a", fmt.Sprint(i)), running("b", fmt.Sprint(i)))
	}
	for _, source := range []string{"cursor", "codex", "cursor"} {
		r := running("a", "7")
		r.AgentSource = source
		accept(st, epoch, r)
		require.Len(t, allSessions(t, st, store.SessionQuery{Source: source}, 1000), 3000)
		other := map[string]string{"cursor": "codex", "codex": "cursor"}[source]
		require.Empty(t, allSessions(t, st, store.SessionQuery{Source: other}, 1000))
	}
}

func TestSearchInAnyCase(t *testing.T) {
	st := newStore(nil)
	r := running("Straße-ΣΊΣΥΦΟΣ", "Поднять покрытие")
	r.AgentName, r.SessionTitle = "\u212Aelvin", "İstanbul 100%"
	accept(st, epoch, r)
	for search, found := range map[string]bool{
		"STRAßE": true, "σίσυφος": true, "ПОКРЫТИЕ": true, "kelvin": true, "KELVIN": true, "istanbul": false, "İstan": true, "100%": true,
		"straße-ς": true, "покрытием": false, "": true, "x": false,
	} {
		page, err := st.Sessions(context.Background(), store.SessionQuery{Search: search}, nil, 10)
		require.NoError(t, err)
		require.Equal(t, found, len(page.Items) == 1, search)
	}
}

// TestSearchPagesOverAnyNumber has matches further apart than one hold of the lock examines.
func TestSearchPagesOverAnyNumber(t *testing.T) {
	st := newStore(nil)
	for i := range 10_000 {
		topic := fmt.Sprint(i)
		if i%2500 == 0 {
			topic += " match"
		}
		accept(st, epoch, running(fmt.Sprint("agent ", i%100), topic))
	}
	for _, limit := range []int{1, 2, 4, 5} {
		require.Len(t, allSessions(t, st, store.SessionQuery{Search: "MATCH"}, limit), 4)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := st.Sessions(ctx, store.SessionQuery{Search: "MATCH"}, nil, 1)
	require.ErrorIs(t, err, context.Canceled)
}

// TestEverythingAtOnce runs writers, readers, expiry and retention concurrently, for the race detector. In the end,
// counts and lists must agree.
func TestEverythingAtOnce(t *testing.T) {
	st := newStore(func(o *store.Options) {
		o.SessionRetention = 5 * time.Minute
		o.MaxSessions = 150
		o.HistoryLimit = 5
		o.HistoryMaxBytes = 1 << 20
	})
	var writers, others sync.WaitGroup
	done := make(chan struct{})
	for w := range 4 {
		writers.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(w), 0))
			for i := range 500 {
				now := epoch.Add(time.Duration(i) * time.Second)
				var batch []models.StatusReport
				for range 1 + rnd.IntN(5) {
					batch = append(batch, models.StatusReport{
						AgentID: fmt.Sprint(rnd.IntN(20)), AgentSource: sources[rnd.IntN(len(sources))], SessionTopic: fmt.Sprint(rnd.IntN(20)),
						Status: models.Statuses[rnd.IntN(4)], TTLMinutes: 1 + rnd.IntN(3), Timestamp: now.Add(-time.Duration(rnd.IntN(100)) * time.Second),
					})
				}
				st.Accept(nil, batch, now, nil)
			}
		})
	}
	until := func(f func(i int)) {
		others.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				default:
					f(i)
				}
			}
		})
	}
	until(func(i int) { st.Expire(epoch.Add(time.Duration(i%500) * time.Second)) })
	until(func(i int) {
		page, _ := st.Sessions(context.Background(), store.SessionQuery{Search: fmt.Sprint(i % 20)}, nil, 10)
		for _, se := range page.Items {
			st.Session(se.AgentID, se.Topic, nil, 10)
			st.AgentStatus(se.AgentID, nil, 10)
		}
		st.Agents(context.Background(), store.AgentQuery{BySeen: i%2 == 0, Source: sources[i%len(sources)]}, nil, 10) //nolint:errcheck
		st.Stats()
	})
	writers.Wait()
	close(done)
	others.Wait()

	sessions := allSessions(t, st, store.SessionQuery{}, 7)
	agents := allAgents(t, st, store.AgentQuery{}, 7)
	summary := st.Summary()
	require.Len(t, sessions, summary.Sessions.Total)
	require.Len(t, agents, summary.Agents)
	bySource := 0
	for _, source := range slices.Compact(slices.Sorted(slices.Values(sources))) {
		if source != "" {
			bySource += len(allSessions(t, st, store.SessionQuery{Source: source}, 7))
		}
	}
	for _, se := range sessions {
		if se.AgentSource == "" {
			bySource++
		}
	}
	require.Equal(t, len(sessions), bySource)
	total := 0
	for _, a := range agents {
		total += a.SessionCount
	}
	require.Equal(t, len(sessions), total)
}

func TestNeeds(t *testing.T) {
	st := store.New(store.Options{DefaultTTL: 3 * time.Hour, SessionRetention: 1000 * time.Hour, HistoryLimit: 10, HistoryMaxBytes: 1 << 30, MaxSessions: 1000})
	report := func(topic string, status models.Status, at time.Duration, ttl int) {
		r := models.StatusReport{AgentID: "a/" + topic[:1], SessionTopic: topic, Status: status, TTLMinutes: ttl}
		require.Equal(t, []store.Outcome{store.Stored}, st.Accept(nil, []models.StatusReport{r}, epoch.Add(at), nil))
	}
	report("failed long ago", models.Failed, 0, 60)
	report("lost", models.Running, time.Minute, 1)
	report("waits longest", models.Pending, 2*time.Minute, 0)
	report("waits longer", models.Pending, 3*time.Minute, 0)
	report("waits longest", models.Pending, 4*time.Minute, 0)
	report("works", models.Running, 5*time.Minute, 0)
	report("failed", models.Failed, 40*time.Minute, 0)
	report("done", models.Success, 41*time.Minute, 0)
	topics := func(list []models.FleetSession) (topics []string) {
		for _, se := range list {
			topics = append(topics, se.Topic)
		}
		return topics
	}
	now := epoch.Add(61 * time.Minute)
	st.Expire(now)
	needs, err := st.Needs(t.Context(), nil, 2)
	require.NoError(t, err)
	require.Equal(t, []string{"waits longest", "waits longer"}, topics(needs.Pending))
	require.Equal(t, []string{"lost"}, topics(needs.Lost))
	require.Equal(t, []string{"failed"}, topics(needs.Failed))
	require.False(t, needs.More)

	needs, err = st.Needs(t.Context(), nil, 1)
	require.NoError(t, err)
	require.Equal(t, []string{"waits longest"}, topics(needs.Pending))
	require.True(t, needs.More)
	of := store.NewTeam(store.Share{}, func(id string) bool { return id == "a/f" })
	st.SetTeams([]*store.Team{of})
	needs, err = st.Needs(t.Context(), of, 1)
	require.NoError(t, err)
	require.Empty(t, needs.Pending)
	require.Equal(t, []string{"failed"}, topics(needs.Failed))
	require.False(t, needs.More, "the other one has expired")
}

func TestKnowsBegin(t *testing.T) {
	s := store.New(store.Options{DefaultTTL: time.Hour, SessionRetention: time.Hour, HistoryLimit: 3, HistoryMaxBytes: 1 << 20, MaxSessions: 10})
	report := func(status models.Status) {
		s.Accept(nil, []models.StatusReport{{AgentID: "a", SessionTopic: "t", Status: status}}, time.Now(), nil)
	}
	require.False(t, s.KnowsBegin("a", "t"), "there is no session")
	report(models.Running)
	for range 2 {
		report(models.Failed)
		require.True(t, s.KnowsBegin("a", "t"))
	}
	report(models.Failed)
	require.False(t, s.KnowsBegin("a", "t"), "what came before was dropped")
	report(models.Running)
	require.True(t, s.KnowsBegin("a", "t"))
}
