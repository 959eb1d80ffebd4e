package live_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/kubeagents/kubeagents/internal/live"
	"github.com/kubeagents/kubeagents/internal/metrics"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

var agents = []string{"a", "b", "c"}

func newStore(window int) *store.Store {
	return store.New(store.Options{DefaultTTL: time.Minute, SessionRetention: 3 * time.Minute, HistoryLimit: 3,
		HistoryMaxBytes: 1 << 30, MaxSessions: 1000, EventWindow: window})
}

// start creates a hub for st, and runs it until stop is called.
func start(st *store.Store, opts live.Options) (hub *live.Hub, stop func()) {
	return run(live.New(st, metrics.New(st, "test"), opts))
}

// run runs a hub until stop is called.
func run(h *live.Hub) (hub *live.Hub, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { h.Run(ctx) })
	return h, func() {
		cancel()
		running.Wait()
	}
}

// client follows a stream, and compares the events that it gets with the changes that were made.
type client struct {
	filter live.Filter
	sub    *live.Subscriber // nil while it is not connected
	lastID string
	last   uint64 // the number in lastID
}

// fields returns the fields of an event by name, without comments.
func fields(e *live.Event) map[string]string {
	lines := map[string]string{}
	for line := range strings.Lines(string(e.Frame)) {
		if name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ": "); ok && name != "" {
			lines[name] = value
		}
	}
	return lines
}

func numberOf(t require.TestingT, id string) uint64 {
	_, digits, _ := strings.Cut(id, "-")
	number, err := strconv.ParseUint(digits, 10, 64)
	require.NoError(t, err, "%q", id)
	return number
}

// check checks an event against the changes. It must be the next one that the filter selects, with none left out before
// it and none repeated.
func (c *client) check(t require.TestingT, e *live.Event, changes []store.Change) {
	lines := fields(e)
	number := numberOf(t, lines["id"])
	name := lines["event"]
	if name != "reset" {
		for _, change := range changes {
			if change.Number > c.last && change.Number < number && selects(c.filter, &change) {
				require.Fail(t, "gap", "from %d to %d, without %d (%q)", c.last, number, change.Number, name)
			}
		}
	}
	switch name {
	case "status", "expired", "removed":
		require.Greater(t, number, c.last, "repeated or out of order")
		change := changes[number-1]
		require.True(t, selects(c.filter, &change))
		require.Equal(t, map[store.ChangeKind]string{store.Reported: "status", store.Expired: "expired", store.Removed: "removed"}[change.Kind], name)
		require.Contains(t, lines["data"], strconv.Quote(change.Session.AgentID))
	default:
		require.GreaterOrEqual(t, number, c.last)
		if number > c.last && number <= uint64(len(changes)) && name == "" {
			change := changes[number-1]
			require.False(t, selects(c.filter, &change), "position %d skips an event", number)
		}
	}
	c.last, c.lastID = number, lines["id"]
}

// selects is a second implementation of what a filter selects.
func selects(f live.Filter, c *store.Change) bool {
	kinds := map[store.ChangeKind]live.Type{store.Reported: live.TypeStatus, store.Expired: live.TypeExpired, store.Removed: live.TypeRemoved}
	return f.Team.Covers(c.Session.AgentID) && (f.AgentID == "" || f.AgentID == c.Session.AgentID) &&
		(len(f.Statuses) == 0 || slices.Contains(f.Statuses, c.Session.CurrentStatus)) &&
		(f.Lost == nil || *f.Lost == c.Session.Lost) &&
		(f.Types == 0 || f.Types&kinds[c.Kind] != 0)
}

// read checks all events that are available now. If the stream has ended, it disconnects the client and returns why.
func (c *client) read(t require.TestingT, changes []store.Change) (ended error) {
	now, cancel := context.WithCancel(context.Background())
	cancel()
	for c.sub != nil {
		events, err := c.sub.Next(now)
		if errors.Is(err, context.Canceled) {
			return nil
		}
		if err != nil {
			c.sub.Close()
			c.sub = nil
			return err
		}
		for _, e := range events {
			c.check(t, e, changes)
		}
	}
	return nil
}

func drawFilter(t *rapid.T, teams []*store.Team) live.Filter {
	f := live.Filter{
		Team:     rapid.SampledFrom(append([]*store.Team{nil}, teams...)).Draw(t, "team"),
		AgentID:  rapid.SampledFrom(append([]string{"", ""}, agents...)).Draw(t, "agent"),
		Statuses: rapid.SampledFrom([][]models.Status{nil, nil, {models.Pending}, {models.Failed, models.Running}}).Draw(t, "status"),
		Types:    rapid.SampledFrom([]live.Type{0, 0, live.TypeStatus, live.TypeExpired | live.TypeRemoved}).Draw(t, "types"),
	}
	if rapid.IntRange(0, 4).Draw(t, "by lost") == 0 {
		f.Lost = new(rapid.Bool().Draw(t, "lost"))
	}
	return f
}

// bubbled hides the method Deadline of a test, which must not be called in a synctest bubble.
type bubbled struct{ rapid.TB }

// TestNoGapAndNoRepeat has clients connect, read, disconnect and reconnect between changes at random, with small
// buffers and a small event window. Each client gets every event that its filter selects exactly once, or a reset that
// says that some are missing.
func TestNoGapAndNoRepeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(bubbled{t}, func(rt *rapid.T) {
			window := rapid.SampledFrom([]int{4, 20, 10_000}).Draw(rt, "window")
			st, shadow := newStore(window), newStore(10_000) // shadow gets the same reports, and keeps every change
			hub, stop := start(st, live.Options{MaxSubscribers: 100, QueueSize: max(1, window/2)})
			defer stop()
			now := time.Now()
			changes := func() []store.Change {
				all, ok := shadow.Changes(0, make([]store.Change, 0, max(1, shadow.EventPosition())))
				require.True(rt, ok)
				return all
			}
			teams := []*store.Team{ // a team is set when the first of its clients connects
				store.NewTeam(store.Share{}, func(id string) bool { return id == "a" }),
				store.NewTeam(store.Share{}, func(id string) bool { return id != "a" }),
			}
			set := map[*store.Team]bool{}
			setTeams := func(change func()) {
				change()
				st.SetTeams(slices.Collect(maps.Keys(set)))
			}
			clients := make([]*client, 3)
			for i := range clients {
				clients[i] = &client{filter: drawFilter(rt, teams)}
			}
			connect := func(c *client, since string) {
				if of := c.filter.Team; of != nil && !set[of] {
					setTeams(func() { set[of] = true })
				}
				var err error
				c.last = st.EventPosition()
				if since != "" {
					c.last = numberOf(rt, since)
				}
				c.sub, err = hub.Subscribe(c.filter, since, func() {})
				require.NoError(rt, err)
			}
			defer func() {
				for _, c := range clients {
					if c.sub != nil {
						c.sub.Close()
					}
				}
			}()
			for range rapid.IntRange(1, 40).Draw(rt, "steps") {
				c := clients[rapid.IntRange(0, 2).Draw(rt, "client")]
				switch rapid.SampledFrom([]string{"report", "report", "pass", "settle", "read", "leave", "connect", "list", "forget teams"}).Draw(rt, "act") {
				case "report":
					var reports []models.StatusReport
					for range rapid.IntRange(1, 8).Draw(rt, "reports") {
						reports = append(reports, models.StatusReport{AgentID: rapid.SampledFrom(agents).Draw(rt, "of"),
							SessionTopic: rapid.SampledFrom(agents).Draw(rt, "topic"), Status: rapid.SampledFrom(models.Statuses[:]).Draw(rt, "status")})
					}
					st.Accept(nil, reports, now, nil)
					shadow.Accept(nil, reports, now, nil)
				case "pass":
					now = now.Add(time.Duration(rapid.IntRange(0, 200).Draw(rt, "seconds")) * time.Second)
					st.Expire(now)
					shadow.Expire(now)
				case "settle":
					time.Sleep(10 * time.Millisecond)
					synctest.Wait()
				case "read":
					c.read(rt, changes()) //nolint:errcheck // either way of ending is fine here
				case "leave":
					if c.sub != nil {
						c.sub.Close()
						c.sub = nil
					}
				case "connect": // for the first time, or again
					if c.sub == nil {
						connect(c, c.lastID)
					}
				case "forget teams":
					setTeams(func() {
						maps.DeleteFunc(set, func(of *store.Team, _ bool) bool {
							return !slices.ContainsFunc(clients, func(c *client) bool { return c.sub != nil && c.filter.Team == of })
						})
					})
				case "list": // read a list, and follow the stream from there
					if c.sub == nil {
						connect(c, hub.Position())
					}
				}
			}
			for _, c := range clients {
				if c.sub == nil {
					connect(c, c.lastID)
				}
				for {
					time.Sleep(10 * time.Millisecond)
					synctest.Wait()
					if c.read(rt, changes()) == nil {
						break
					}
					connect(c, c.lastID)
				}
				for _, change := range changes() {
					require.False(rt, change.Number > c.last && selects(c.filter, &change), "change %d of %d is missing after %d", change.Number, len(changes()), c.last)
				}
			}
		})
	})
}

// TestConcurrentSubscribersAndReports has many subscribers connect and disconnect while several goroutines report.
func TestConcurrentSubscribersAndReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const each, reporters, clients = 500, 4, 20
		st := newStore(100_000)
		hub, stop := start(st, live.Options{MaxSubscribers: clients, QueueSize: 50})
		defer stop()
		beginning := hub.Position()
		var reporting, following sync.WaitGroup
		for i := range reporters {
			reporting.Go(func() {
				for n := range each {
					st.Accept(nil, []models.StatusReport{{AgentID: agents[rand.IntN(len(agents))], SessionTopic: fmt.Sprint(i, n%7), Status: models.Running}}, time.Now(), nil)
					time.Sleep(time.Duration(rand.IntN(1000)) * time.Microsecond)
				}
			})
		}
		got := make([][]uint64, clients)
		filters := make([]live.Filter, clients)
		for i := range clients {
			if i%2 == 0 {
				filters[i].AgentID = agents[i%len(agents)]
			}
			following.Go(func() { got[i] = followAll(t, hub, filters[i], beginning) })
		}
		reporting.Wait()
		time.Sleep(10 * time.Second) // subscribers that were cut off reconnect and catch up
		hub.Close()
		following.Wait()
		changes, ok := st.Changes(0, make([]store.Change, 0, each*reporters))
		require.True(t, ok)
		for i := range clients {
			var want []uint64
			for _, c := range changes {
				if selects(filters[i], &c) {
					want = append(want, c.Number)
				}
			}
			require.Equal(t, want, got[i])
		}
		_, err := hub.Subscribe(live.Filter{}, "", func() {})
		require.ErrorIs(t, err, live.ErrClosed)
	})
}

// followAll follows the stream from an event until the hub closes. It pauses long enough to be cut off, and disconnects
// now and then. It returns the numbers of the changes that it saw.
func followAll(t *testing.T, hub *live.Hub, filter live.Filter, from string) (got []uint64) {
	for {
		sub, err := hub.Subscribe(filter, from, func() {})
		if errors.Is(err, live.ErrClosed) {
			return got
		}
		require.NoError(t, err)
		for range rand.IntN(200) {
			events, err := sub.Next(context.Background())
			if err != nil {
				break
			}
			for _, e := range events {
				lines := fields(e)
				from = lines["id"]
				switch lines["event"] {
				case "status":
					got = append(got, numberOf(t, from))
				case "bye":
					sub.Close()
					return got
				case "":
				default:
					t.Errorf("unexpected %s", e.Frame)
				}
			}
			time.Sleep(time.Duration(rand.IntN(60)) * time.Millisecond)
		}
		sub.Close()
	}
}

func TestASlowSubscriberIsCutOffAndResumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore(100)
		m := metrics.New(st, "test")
		hub, stop := run(live.New(st, m, live.Options{MaxSubscribers: 1, QueueSize: 3}))
		defer stop()
		interrupted := 0
		sub, err := hub.Subscribe(live.Filter{}, "", func() { interrupted++ })
		require.NoError(t, err)
		events, err := sub.Next(t.Context())
		require.NoError(t, err)
		id := fields(events[0])["id"]
		_, err = hub.Subscribe(live.Filter{}, "", nil)
		require.ErrorIs(t, err, live.ErrFull)

		for range 5 {
			st.Accept(nil, []models.StatusReport{{AgentID: "a", SessionTopic: "t", Status: models.Running}}, time.Now(), nil)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, 1, interrupted)
		_, err = sub.Next(t.Context())
		require.ErrorIs(t, err, live.ErrSlow)
		sub.Close()
		w := httptest.NewRecorder()
		m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		require.Contains(t, w.Body.String(), "kubeagents_subscribers_cut_off_total 1\n")
		require.Regexp(t, `kubeagents_events_dropped_total [1-5]\n`, w.Body.String())

		sub, err = hub.Subscribe(live.Filter{}, id, func() {})
		require.NoError(t, err)
		defer sub.Close()
		c := client{sub: sub}
		changes, _ := st.Changes(0, make([]store.Change, 0, 5))
		require.NoError(t, c.read(t, changes))
		require.EqualValues(t, 5, c.last)
	})
}

// TestTheQueueOfASubscriberIsBoundedInBytes queues events of about 8 KB each, and has the subscriber catch up on them
// afterwards.
func TestTheQueueOfASubscriberIsBoundedInBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore(10_000)
		hub, stop := start(st, live.Options{MaxSubscribers: 2, QueueSize: 5000})
		defer stop()
		sub, err := hub.Subscribe(live.Filter{}, "", func() {})
		require.NoError(t, err)
		events, err := sub.Next(t.Context())
		require.NoError(t, err)
		beginning := fields(events[0])["id"]
		report := models.StatusReport{AgentID: "a", SessionTopic: strings.Repeat("𝕏", 500), SessionTitle: strings.Repeat("𝕏", 200),
			Status: models.Running, Message: strings.Repeat("𝕏", 1000)}
		const reports = 2000
		for range reports {
			st.Accept(nil, []models.StatusReport{report}, time.Now(), nil)
		}
		time.Sleep(time.Second)
		_, err = sub.Next(t.Context())
		require.ErrorIs(t, err, live.ErrSlow, "after about 8 MiB, not after 5000 events")
		sub.Close()

		sub, err = hub.Subscribe(live.Filter{}, beginning, func() {})
		require.NoError(t, err)
		defer sub.Close()
		for got := -1; got < reports; {
			events, err := sub.Next(t.Context())
			require.NoError(t, err)
			bytes := 0
			for _, e := range events {
				bytes += len(e.Frame)
			}
			require.LessOrEqual(t, bytes, 32<<10)
			got += len(events)
		}
	})
}

func TestASilentStreamIsKeptAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore(100)
		hub, stop := start(st, live.Options{MaxSubscribers: 2, QueueSize: 3})
		defer stop()
		sub, err := hub.Subscribe(live.Filter{AgentID: "a"}, "", func() {})
		require.NoError(t, err)
		defer sub.Close()
		_, err = sub.Next(t.Context())
		require.NoError(t, err)
		st.Accept(nil, []models.StatusReport{{AgentID: "b", SessionTopic: "t", Status: models.Running}}, time.Now(), nil)
		started := time.Now()
		events, err := sub.Next(t.Context())
		require.NoError(t, err)
		require.Equal(t, live.KeepAlive, time.Since(started))
		require.Equal(t, ": keep-alive\nid: "+hub.Position()+"\n\n", string(events[0].Frame), "it tells the client where to resume")
	})
}

// TestAnIDThatCannotBeResumedCausesAReset tries IDs that no stream can resume from.
func TestAnIDThatCannotBeResumedCausesAReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStore(4)
		other, stopOther := start(st, live.Options{MaxSubscribers: 1, QueueSize: 3})
		stopOther()
		hub, stop := start(st, live.Options{MaxSubscribers: 2, QueueSize: 3})
		defer stop()
		first := hub.Position()
		for range 9 {
			st.Accept(nil, []models.StatusReport{{AgentID: "a", SessionTopic: "t", Status: models.Running}}, time.Now(), nil)
		}
		for _, since := range []string{first, other.Position(), "x", "-", strings.TrimSuffix(first, "0") + "10", strings.TrimSuffix(first, "0") + "-1"} {
			sub, err := hub.Subscribe(live.Filter{Types: live.TypeRemoved}, since, func() {})
			require.NoError(t, err)
			c := client{sub: sub, filter: live.Filter{Types: live.TypeRemoved}}
			var names []string
			for range 2 {
				now, cancel := context.WithTimeout(t.Context(), time.Second)
				events, err := sub.Next(now)
				cancel()
				if err == nil {
					for _, e := range events {
						names = append(names, fields(e)["event"])
						c.lastID = fields(e)["id"]
					}
				}
			}
			require.Equal(t, []string{"", "reset"}, names, since)
			require.Equal(t, hub.Position(), c.lastID)
			sub.Close()
		}
	})
}

// TestATeamHasItsShareOfSubscribers uses up the share of a team, closes a subscriber twice, and uses up the rest.
func TestATeamHasItsShareOfSubscribers(t *testing.T) {
	st := newStore(100)
	hub := live.New(st, metrics.New(st, "test"), live.Options{MaxSubscribers: 4, QueueSize: 3})
	half := store.Share{Fraction: 0.5}
	greedy := live.Filter{Team: store.NewTeam(half, func(string) bool { return true }), Share: half}
	join := func(f live.Filter) (*live.Subscriber, error) { return hub.Subscribe(f, "", func() {}) }
	first, err := join(greedy)
	require.NoError(t, err)
	for range 3 {
		second, err := join(greedy)
		require.NoError(t, err)
		_, err = join(greedy)
		require.ErrorIs(t, err, live.ErrShare)
		second.Close()
		second.Close()
	}
	for range 3 {
		_, err = join(live.Filter{})
		require.NoError(t, err)
	}
	_, err = join(live.Filter{})
	require.ErrorIs(t, err, live.ErrFull)
	_, err = join(greedy)
	require.ErrorIs(t, err, live.ErrFull)
	first.Close()
	_, err = join(greedy)
	require.NoError(t, err)
}
