package notify_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/journal"
	"github.com/kubeagents/kubeagents/internal/metrics"
	"github.com/kubeagents/kubeagents/internal/notify"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// cluster is some servers that apply the same messages in the same order, in a bubble of synctest. Their clock is some
// minutes off that of the machine.
type cluster struct {
	t       require.TestingT
	phone   *phone
	config  *notify.Config
	servers []*server

	mu      sync.Mutex
	log     []func(*server)
	term    int      // the newest one
	holder  *server  // nil for none
	faults  []string // what must not happen
	pausing bool     // servers apply nothing but what they write
}

const skew = -7 * time.Minute

func (c *cluster) now() time.Time { return time.Now().Add(skew).UTC() }

// server is one of a cluster.
type server struct {
	*cluster
	name    string
	store   *store.Store
	entries map[string][]byte // its copy of the box
	applied int               // messages of the log
	behind  time.Duration     // what its time is behind that of the cluster
	n       *notify.Notifier
	life    *life
	end     context.CancelFunc // of its term
	acts    *sync.WaitGroup
}

// life lasts until a server crashes.
type life struct{ gone bool }

// replica is the box of a server, for a term, or for what people change if that is 0.
type replica struct {
	*server
	life *life
	term int
	down *atomic.Bool
	slow time.Duration // what a write takes
}

func (r replica) WriteNotes(notes []journal.Note) error {
	time.Sleep(r.slow) // simulated
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.life.gone:
		return journal.ErrClosed
	case r.term > 0 && r.term < r.cluster.term:
		return errors.New("another term has begun")
	case r.down != nil && r.down.Load():
		return errors.New("no majority")
	case r.term == 0 && !strings.HasPrefix(notes[0].Key, "mute\x00"):
		r.faults = append(r.faults, fmt.Sprintf("%s writes %q outside of a term", r.name, notes[0].Key))
	}
	r.publish(func(s *server) {
		for _, n := range notes {
			if n.Value == nil {
				delete(s.entries, n.Key)
			} else {
				s.entries[n.Key] = n.Value
			}
		}
		s.n.Applied(notes)
	})
	r.catchUp()
	return nil
}

func (r replica) Notes() (notes []journal.Note, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(r.entries)) {
		notes = append(notes, journal.Note{Key: key, Value: r.entries[key]})
	}
	return notes, nil
}

// publish appends a message to the log. The caller holds c.mu.
func (c *cluster) publish(message func(*server)) {
	c.log = append(c.log, message)
	for _, s := range c.servers {
		if !c.pausing {
			s.catchUp()
		}
	}
}

// catchUp applies what the server has not applied. The caller holds c.mu.
func (s *server) catchUp() {
	for ; s.applied < len(s.log); s.applied++ {
		s.log[s.applied](s)
	}
}

// pause makes servers that don't act fall behind, or catch up.
func (c *cluster) pause(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pausing = on
	for _, s := range c.servers {
		if !on || s == c.holder {
			s.catchUp()
		}
	}
}

// line is a destination as one server sends to it.
type line struct {
	*server
	life *life
}

func (l line) Send(ctx context.Context, m *notify.Message) (string, error) {
	l.check(ctx)
	return l.phone.Send(ctx, m)
}

func (l line) Withdraw(ctx context.Context, m *notify.Message) error {
	l.check(ctx)
	return l.phone.Withdraw(ctx, m)
}

func (l line) check(ctx context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ctx.Err() != nil || l.life.gone || l.holder != l.server {
		l.faults = append(l.faults, l.name+" sends, but does not act")
	}
}

func openCluster(t testingT, count int, rules ...notify.Rule) *cluster {
	c := &cluster{t: t, phone: &phone{}, config: &notify.Config{Rules: rules}}
	for i := range count {
		s := &server{cluster: c, name: fmt.Sprint("hub-", i), entries: map[string][]byte{}, acts: &sync.WaitGroup{}, end: func() {},
			store: store.New(store.Options{DefaultTTL: time.Hour, SessionRetention: 24 * time.Hour, HistoryLimit: 10, HistoryMaxBytes: 64 << 20, MaxSessions: 1000, EventWindow: 100})}
		c.servers = append(c.servers, s)
		s.start()
	}
	t.Cleanup(c.close)
	return c
}

func (c *cluster) close() {
	for _, s := range c.servers {
		s.end()
		s.acts.Wait()
	}
}

// start starts the notifier of a server, as when the server starts.
func (s *server) start() {
	s.open()
	require.NoError(s.t, s.n.Load())
}

// open is start until the server has caught up.
func (s *server) open() {
	life := &life{}
	n := notify.New(notify.Options{
		Store: s.store, Box: replica{server: s, life: life}, Metrics: metrics.New(s.store, "test"), Logger: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return s.now().Add(-s.behind) }, Link: func(store.SessionKey) string { return "" },
		Cluster: &notify.Cluster{
			Sender: func() string {
				s.mu.Lock()
				defer s.mu.Unlock()
				if s.holder == nil {
					return ""
				}
				return s.holder.name
			},
			Share: func(u notify.Use) {
				for _, n := range s.notifiers() {
					n.Shared(u)
				}
			},
		},
	})
	config := *s.config
	config.Destinations = map[string]*notify.Destination{"phone": {Name: "phone", Kind: "webhook", Sender: line{s, life}}}
	n.SetConfig(&config)
	s.mu.Lock()
	s.life, s.n = life, n
	s.mu.Unlock()
}

// notifiers returns the notifiers of all servers.
func (c *cluster) notifiers() (all []*notify.Notifier) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.servers {
		all = append(all, s.n)
	}
	return all
}

// crash ends a server at once, and starts it again.
func (s *server) crash() {
	s.mu.Lock()
	s.life.gone = true
	if s.holder == s {
		s.holder = nil
	}
	s.mu.Unlock()
	s.end()
	s.acts.Wait()
	s.mu.Lock()
	s.catchUp()
	s.mu.Unlock()
	s.start()
	s.settle()
}

// leads ends the term of whoever acts, and begins one of this server, without waiting for the other.
func (s *server) leads() { s.leadsWith(nil, 0) }

// leadsWith is like leads. The box can't be written while down is set, and a write takes some time.
func (s *server) leadsWith(down *atomic.Bool, slow time.Duration) {
	for _, other := range s.servers {
		other.end()
	}
	s.acts.Wait() // its own
	ctx, end := context.WithCancel(context.Background())
	s.mu.Lock()
	s.cluster.term++
	s.holder, s.end = s, end
	box := replica{s, s.life, s.cluster.term, down, slow}
	s.catchUp()
	s.mu.Unlock()
	s.acts.Go(func() { s.n.Act(ctx, box) })
}

func (c *cluster) settle() {
	time.Sleep(10 * time.Millisecond) // simulated
	synctest.Wait()
}

// wait lets time pass. Sessions expire every second.
func (c *cluster) wait(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		time.Sleep(min(time.Second, time.Until(end)))
		c.mu.Lock()
		now := c.now()
		c.publish(func(s *server) { s.store.Expire(now) })
		c.mu.Unlock()
	}
	c.settle()
}

func (c *cluster) report(r models.StatusReport) {
	c.mu.Lock()
	now := c.now()
	c.publish(func(s *server) { s.store.Accept(nil, []models.StatusReport{r}, now, nil) })
	if c.holder != nil {
		c.holder.catchUp()
	}
	c.mu.Unlock()
	c.settle()
}

func (c *cluster) asks(agent string, call uint64) {
	c.report(models.StatusReport{AgentID: agent, SessionTopic: "t", Status: models.Running, Event: &models.Event{
		Name: "PermissionRequest", AppliesIn: models.Anywhere, CallIDHash: call, ResultHash: call, Question: &models.Question{Kind: models.Permission, Text: "may I?"},
	}})
}

func (c *cluster) answered(agent string, call uint64) {
	c.report(models.StatusReport{AgentID: agent, SessionTopic: "t", Status: models.Running, Event: &models.Event{
		Name: "PostToolUse", AppliesIn: models.Anywhere, CallIDHash: call, ResultHash: call, Closes: models.ClosesOwn, Outcome: models.Answered,
	}})
}

// records returns the keys of the box of a server that are of notifications.
func (s *server) records() (keys []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(s.entries)) {
		if strings.HasPrefix(key, "note\x00") || strings.HasPrefix(key, "summary\x00") {
			keys = append(keys, key)
		}
	}
	return keys
}

// equal checks that all servers have the same box and mutes, and that nothing happened that must not.
func (c *cluster) equal() {
	for _, s := range c.servers[1:] {
		require.Equal(c.t, c.servers[0].entries, s.entries)
		require.Equal(c.t, c.servers[0].n.Mutes(), s.n.Mutes())
		require.Equal(c.t, c.servers[0].n.View(1, nil).Recent, s.n.View(1, nil).Recent)
	}
	require.Empty(c.t, c.faults)
}

// TestTerms has servers take turns: each goes on where the one before it was cut off, and the others stand by.
func TestTerms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openCluster(t, 3, rule(10*time.Second, notify.Waits))
		first, second := c.servers[0], c.servers[1]
		c.asks("a", 1)
		c.wait(time.Minute)
		require.Empty(t, c.phone.got(), "nobody acts")
		first.leads()
		c.wait(9 * time.Second)
		require.Equal(t, []string{"a waits"}, c.phone.got())
		c.asks("b", 1)
		c.wait(5 * time.Second)
		second.leads()
		c.wait(4 * time.Second)
		require.Empty(t, c.phone.got(), "it is not due")
		c.wait(time.Second)
		require.Equal(t, []string{"b waits"}, c.phone.got())
		require.True(t, first.n.View(1, nil).Standby)
		require.Zero(t, first.n.Planned(), "nothing is left of its term")
		c.answered("a", 1)
		require.Equal(t, []string{"withdraw a waits"}, c.phone.got(), "which the other has sent")
		second.end()
		c.answered("b", 1)
		c.asks("a", 2)
		c.wait(time.Hour)
		require.Empty(t, c.phone.got(), "nobody acts")
		first.leads()
		c.wait(time.Second)
		require.ElementsMatch(t, []string{"withdraw b waits", "a waits"}, c.phone.got())
		require.Len(t, second.records(), 1)
		c.equal()
	})
}

// TestARuleAppliesFromWhenTheServerHasCaughtUp has a server show the mutes before it has caught up with the others, and then
// act as soon as it has. Its rule is new.
func TestARuleAppliesFromWhenTheServerHasCaughtUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openCluster(t, 1, rule(0, notify.Waits))
		one := c.servers[0]
		_, err := one.n.Mute(notify.Mute{Agent: "b", Until: c.now().Add(time.Hour)})
		require.NoError(t, err)
		c.asks("a", 1)
		one.behind = 30 * time.Minute
		one.open()
		require.NoError(t, one.n.LoadMutes())
		require.Len(t, one.n.Mutes(), 1)
		one.behind = 0
		one.leads()
		c.wait(time.Second)
		require.Empty(t, c.phone.got(), "the session waited before the rule applied")
		c.asks("c", 1)
		require.Equal(t, []string{"c waits"}, c.phone.got())
	})
}

// TestATermThatEndsDuringAnAttempt cuts it off, and the next one repeats it with the same ID.
func TestATermThatEndsDuringAnAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openCluster(t, 2, rule(0, notify.Waits))
		c.servers[0].leads()
		c.phone.slow = 20 * time.Second
		c.asks("a", 1)
		c.asks("b", 1)
		c.wait(5 * time.Second)
		before := c.servers[0].records()
		require.Len(t, before, 1, "only what is being sent is recorded")
		c.servers[1].leads()
		c.wait(time.Minute)
		require.Equal(t, []string{"a waits", "b waits"}, c.phone.got())
		require.Contains(t, before[0], "\x00"+c.phone.ids[0], "the message that was cut off")
		c.equal()
	})
}

// TestATermThatEndsBeforeAnAttempt sends nothing, although the message has been recorded.
func TestATermThatEndsBeforeAnAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openCluster(t, 2, rule(0, notify.Waits))
		c.servers[0].leadsWith(nil, 10*time.Second)
		c.wait(time.Minute)
		c.asks("a", 1)
		c.wait(5 * time.Second)
		c.servers[0].end()
		c.wait(time.Minute)
		require.Len(t, c.servers[1].records(), 1)
		require.Empty(t, c.phone.attempts())
		c.servers[1].leads()
		c.wait(time.Second)
		require.Equal(t, []string{"a waits"}, c.phone.got())
		c.equal()
	})
}

// TestAnOldTermWritesNothing has a server whose attempt goes on when another one acts already.
func TestAnOldTermWritesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openCluster(t, 2, rule(0, notify.Waits))
		slow := &deaf{phone{slow: time.Minute}}
		config := *c.config
		config.Destinations = map[string]*notify.Destination{"phone": {Name: "phone", Sender: slow}}
		c.servers[0].n.SetConfig(&config)
		c.servers[0].leads()
		c.asks("a", 1)
		c.servers[1].leads()
		c.wait(10 * time.Second)
		require.Equal(t, []string{"a waits"}, c.phone.got())
		c.answered("a", 1)
		require.Equal(t, []string{"withdraw a waits"}, c.phone.got())
		c.wait(2 * time.Minute)
		require.Equal(t, c.phone.ids[:1], slow.ids, "it arrived twice, with the same ID")
		require.Empty(t, c.servers[1].records())
		c.servers[0].leads()
		c.wait(2 * time.Minute)
		require.Empty(t, c.phone.got())
		c.equal()
	})
}

// TestNothingIsSentThatIsNotRecorded in a cluster, since the next server that acts would not know of it.
func TestNothingIsSentThatIsNotRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openCluster(t, 2, rule(0, notify.Waits))
		down := new(atomic.Bool)
		down.Store(true)
		c.servers[0].leadsWith(down, 0)
		c.asks("a", 1)
		c.wait(time.Minute)
		require.Empty(t, c.phone.attempts())
		down.Store(false)
		c.wait(2 * time.Second)
		require.Equal(t, []string{"a waits"}, c.phone.got())
		down.Store(true)
		c.asks("b", 1)
		c.wait(time.Minute)
		c.servers[1].leads()
		c.wait(2 * time.Second)
		require.Equal(t, []string{"b waits"}, c.phone.got())
		c.equal()
	})
}

// TestStandingBy answers what people ask.
func TestStandingBy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rule(0, notify.Waits)
		r.Quiet = &notify.Quiet{From: 0, To: time.Hour, Zone: time.UTC}
		c := openCluster(t, 2, r)
		c.wait(2 * time.Hour)
		acting, other := c.servers[0], c.servers[1]
		acting.leads()
		c.asks("a", 1)
		c.asks("b", 1)
		c.answered("b", 1)
		c.phone.failWith(func(*notify.Message) error { return errors.New("away") })
		c.asks("c", 1)
		v := other.n.View(10, nil)
		require.True(t, v.Standby)
		require.Equal(t, "hub-0", v.Sender)
		require.Equal(t, "rule", v.Rules[0].Name)
		require.Len(t, v.Destinations, 1)
		require.Equal(t, "webhook", v.Destinations[0].Kind)
		require.Empty(t, v.Pending)
		require.Equal(t, []notify.Result{notify.ResultWithdrawn, notify.ResultSent, notify.ResultSent}, []notify.Result{v.Recent[0].Result, v.Recent[1].Result, v.Recent[2].Result})
		require.Equal(t, acting.n.View(10, nil).Recent, v.Recent)
		require.False(t, acting.n.View(10, nil).Standby)
		require.Len(t, acting.n.View(10, nil).Pending, 1)
		o := &office{n: other.n}
		require.Equal(t, []string{"oldest_seconds 0", "pending 0"}, o.backlog())
		o.n = acting.n
		c.wait(time.Minute)
		var oldest float64
		_, err := fmt.Sscanf(o.backlog()[0], "oldest_seconds %g", &oldest)
		require.NoError(t, err)
		require.InDelta(t, 60, oldest, 1, "whatever the clock of the machine")

		c.faults = nil
		tested := &phone{}
		other.n.AddDevice(&notify.Device{ID: "1", Sender: testable{tested}, Rule: rule(0, notify.Waits)})
		require.NoError(t, other.n.Test(t.Context(), "device:1"))
		require.Equal(t, []string{"device:1", "phone"}, []string{other.n.Destinations()[0].Name, other.n.Destinations()[1].Name})
		c.servers[1].crash()
		require.Equal(t, v.Recent, c.servers[1].n.View(10, nil).Recent, "a restart keeps them")
	})
}

// testable is a phone that takes tests.
type testable struct{ *phone }

func (testable) Send(context.Context, *notify.Message) (string, error) { return "", nil }

// TestMutesOfACluster are in effect whichever server they were added or removed at.
func TestMutesOfACluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openCluster(t, 2, rule(0, notify.Waits))
		acting, other := c.servers[0], c.servers[1]
		acting.leads()
		m, err := other.n.Mute(notify.Mute{Agent: "a", Until: c.now().Add(time.Hour), By: "anna"})
		require.NoError(t, err)
		require.Equal(t, []notify.Mute{m}, acting.n.Mutes())
		require.Equal(t, c.now().Truncate(time.Second), m.Created.Truncate(time.Second))
		c.asks("a", 1)
		c.wait(30 * time.Minute)
		require.Empty(t, c.phone.got())
		ok, err := other.n.Unmute(m.ID)
		require.NoError(t, err)
		require.True(t, ok)
		c.settle()
		require.Equal(t, []string{"a waits"}, c.phone.got(), "at once")

		_, err = acting.n.Mute(notify.Mute{Until: c.now().Add(time.Hour)})
		require.NoError(t, err)
		c.asks("b", 1)
		other.leads()
		c.wait(time.Hour - time.Second)
		require.Empty(t, c.phone.got())
		other.crash()
		other.leads()
		c.wait(2 * time.Second)
		require.Equal(t, []string{"b waits"}, c.phone.got(), "on the clock of the cluster")
		other.leads()
		c.settle()
		require.NotContains(t, fmt.Sprint(slices.Collect(maps.Keys(other.entries))), "mute", "a term begins without those that are over")
		c.equal()
	})
}

// TestMutesThatAreAppliedWhileTheyAreRead are known, and those that are removed are not.
func TestMutesThatAreAppliedWhileTheyAreRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openCluster(t, 2, rule(0, notify.Waits))
		kept, err := c.servers[0].n.Mute(notify.Mute{Agent: "kept", Until: c.now().Add(time.Hour)})
		require.NoError(t, err)
		gone, err := c.servers[0].n.Mute(notify.Mute{Agent: "gone", Until: c.now().Add(time.Hour)})
		require.NoError(t, err)
		s := c.servers[1]
		slow := &slowBox{replica: replica{server: s, life: s.life}}
		s.n.Box = slow
		slow.meanwhile = func() {
			_, err := c.servers[0].n.Unmute(gone.ID)
			require.NoError(t, err)
			kept.Agent = "kept too"
			kept, err = c.servers[0].n.Mute(kept)
			require.NoError(t, err)
		}
		require.NoError(t, s.n.Load())
		require.Len(t, s.n.Mutes(), 2)
		c.equal()
	})
}

// slowBox is a box that changes while it is read.
type slowBox struct {
	replica
	meanwhile func()
}

func (b *slowBox) Notes() ([]journal.Note, error) {
	notes, err := b.replica.Notes()
	b.meanwhile()
	return notes, err
}

// TestPresenceIsShared has a person look at one server's dashboard while another server acts.
func TestPresenceIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openCluster(t, 3)
		acting, asked := c.servers[0], c.servers[1]
		tablet := &phone{}
		for _, s := range c.servers {
			d := device(tablet)
			d.Added = c.now()
			s.n.AddDevice(d)
		}
		acting.leads()
		c.settle()
		asked.n.Present("anna", notify.Page{ID: "p", AgentID: "a"}, c.now().Add(time.Minute))
		c.asks("a", 1)
		c.asks("b", 1)
		require.Equal(t, []string{"b waits"}, tablet.got())
		acting.n.Shared(notify.Use{Owner: "anna", Page: notify.Page{ID: "p"}, Until: c.now().Add(time.Second)})
		c.wait(30 * time.Second)
		require.Empty(t, tablet.got(), "an older word comes late")
		c.servers[2].leads()
		c.wait(time.Second)
		require.Empty(t, tablet.got(), "every server knows of it")
		asked.n.Absent("anna", "p")
		c.settle()
		require.Equal(t, []string{"a waits"}, tablet.got())
	})
}

// TestAServerWithOlderFiles leaves alone what the box has for rules and destinations that it does not know.
func TestAServerWithOlderFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openCluster(t, 2, rule(0, notify.Waits))
		newer, older := c.servers[0], c.servers[1]
		older.n.SetConfig(&notify.Config{})
		newer.leads()
		c.asks("a", 1)
		require.Equal(t, []string{"a waits"}, c.phone.got())
		older.leads()
		c.wait(time.Minute)
		newer.leads()
		c.wait(time.Minute)
		require.Empty(t, c.phone.got(), "nothing is repeated")
		older.leads()
		c.answered("a", 1)
		c.asks("a", 2)
		c.wait(time.Minute)
		older.n.SetConfig(newer.configured())
		c.wait(time.Minute)
		require.ElementsMatch(t, []string{"withdraw a waits", "a waits"}, c.phone.got(), "once it has the new file")
		older.n.SetConfig(&notify.Config{})
		newer.end()
		c.wait(time.Minute)
		c.wait(25 * time.Hour)
		older.leads()
		c.wait(time.Minute)
		require.Empty(t, older.records(), "after a day, they are dropped")
		require.NotContains(t, older.entries, "rule\x00rule")
	})
}

// TestADeviceThatIsKnownLate has a server that acts, and learns only later of a device whose message is to be withdrawn.
func TestADeviceThatIsKnownLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := openCluster(t, 2)
		tablet := &phone{}
		d := device(tablet)
		d.Added = c.now()
		c.servers[0].n.AddDevice(d)
		c.servers[0].leads()
		c.asks("a", 1)
		c.servers[1].leads()
		c.answered("a", 1)
		require.Equal(t, []string{"a waits"}, tablet.got())
		c.servers[1].n.AddDevice(d)
		c.settle()
		require.Equal(t, []string{"withdraw a waits"}, tablet.got())
		c.equal()
	})
}

// configured returns the configuration of a cluster for a server.
func (s *server) configured() *notify.Config {
	config := *s.config
	config.Destinations = map[string]*notify.Destination{"phone": {Name: "phone", Sender: s.phone}}
	return &config
}
