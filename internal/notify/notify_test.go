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

// box is a notify.Box in memory.
type box struct {
	mu      sync.Mutex
	entries map[string][]byte
	gone    bool // the server that used it has crashed: nothing is stored any more
	broken  bool // the disk is full
	slow    time.Duration
}

func (b *box) WriteNotes(notes []journal.Note) error {
	b.mu.Lock()
	slow := b.slow
	b.mu.Unlock()
	time.Sleep(slow) // simulated
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.gone:
		return journal.ErrClosed
	case b.broken:
		return errors.New("disk full")
	}
	for _, n := range notes {
		if n.Value == nil {
			delete(b.entries, n.Key)
		} else {
			b.entries[n.Key] = n.Value
		}
	}
	return nil
}

// behave makes later writes fail, or take some time.
func (b *box) behave(broken bool, slow time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.broken, b.slow = broken, slow
}

// copy returns what is stored now.
func (b *box) copy() map[string][]byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.entries)
}

func (b *box) Notes() (notes []journal.Note, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(b.entries)) {
		notes = append(notes, journal.Note{Key: key, Value: b.entries[key]})
	}
	return notes, nil
}

// phone is a notify.Sender that notes what it gets.
type phone struct {
	mu    sync.Mutex
	log   []string
	ids   []string
	tried []attempt
	fails func(m *notify.Message) error // nil if it succeeds
	slow  time.Duration
	after error // of attempts whose message arrives all the same

	deliveries []delivery
	withdrawn  []string // remotes of the messages
	outcomes   []string // of withdrawals
}

// failAfterwards makes the next attempt fail although its message arrives.
func (p *phone) failAfterwards(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.after = err
}

// arrived returns all messages that arrived or were withdrawn.
func (p *phone) arrived() []delivery {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.deliveries)
}

// attempt is one attempt to send a message.
type attempt struct {
	id string
	at time.Time
}

// attempts returns all attempts, failed ones too.
func (p *phone) attempts() []attempt {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.tried)
}

// failWith makes attempts fail as f says, or succeed if f is nil.
func (p *phone) failWith(f func(m *notify.Message) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fails = f
}

func (p *phone) Send(ctx context.Context, m *notify.Message) (string, error) {
	return "remote " + m.ID, p.take(ctx, m, "")
}

func (p *phone) Withdraw(ctx context.Context, m *notify.Message) error {
	p.mu.Lock()
	p.withdrawn = append(p.withdrawn, m.Remote)
	p.mu.Unlock()
	return p.take(ctx, m, "withdraw ")
}

func (p *phone) take(ctx context.Context, m *notify.Message, what string) error {
	p.mu.Lock()
	slow := p.slow
	p.mu.Unlock()
	if slow > 0 {
		select {
		case <-time.After(slow):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tried = append(p.tried, attempt{m.ID, time.Now()})
	if p.fails != nil {
		if err := p.fails(m); err != nil {
			return err
		}
	}
	p.ids = append(p.ids, m.ID)
	if what != "" {
		p.outcomes = append(p.outcomes, strings.TrimSpace(string(m.Outcome)+" "+m.By))
	}
	if m.Session != nil {
		p.deliveries = append(p.deliveries, deliveryOf(m, what != ""))
	}
	if m.Summary != nil {
		counts := []string{}
		for _, change := range slices.Sorted(maps.Keys(m.Summary)) {
			counts = append(counts, fmt.Sprint(m.Summary[change], " ", change))
		}
		p.log = append(p.log, "summary: "+strings.Join(counts, ", "))
		return nil
	}
	if m.Reminder() {
		what += "again "
	}
	p.log = append(p.log, what+m.Session.AgentID+" "+m.Change.String())
	err := p.after
	p.after = nil
	return err
}

// takes makes later attempts take some time.
func (p *phone) takes(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.slow = d
}

// got returns what arrived since the last call.
func (p *phone) got() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	log := p.log
	p.log = nil
	return log
}

// testingT is a *testing.T or a *rapid.T.
type testingT interface {
	require.TestingT
	Cleanup(func())
}

// office is a store with a notifier, in a bubble of synctest.
type office struct {
	t      require.TestingT
	store  *store.Store
	box    *box
	phone  *phone
	config *notify.Config // nil without a file
	tablet *notify.Device // nil for none
	stop   func()
	n      *notify.Notifier
	logger *slog.Logger
}

func open(t testingT, rules ...notify.Rule) *office {
	o := &office{
		t: t, box: &box{entries: map[string][]byte{}}, phone: &phone{}, logger: slog.New(slog.DiscardHandler),
		store: store.New(store.Options{DefaultTTL: time.Hour, SessionRetention: 24 * time.Hour, HistoryLimit: 10, HistoryMaxBytes: 64 << 20, MaxSessions: 1000, EventWindow: 100}),
	}
	o.config = &notify.Config{Rules: rules, Destinations: map[string]*notify.Destination{"phone": {Name: "phone", Sender: o.phone}}}
	o.start()
	t.Cleanup(func() { o.stop() })
	return o
}

// start starts a notifier, as a server does that starts on the same state.
func (o *office) start() {
	o.n = notify.New(notify.Options{
		Store: o.store, Box: o.box, Metrics: metrics.New(o.store, "test"), Logger: o.logger,
		Link: func(key store.SessionKey) string { return "https://hub.example.com/?session=" + key.Topic },
	})
	if o.config != nil {
		o.n.SetConfig(o.config)
	}
	if o.tablet != nil {
		o.n.AddDevice(o.tablet)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { o.n.Run(ctx) })
	o.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
	o.settle()
}

// crash ends the notifier without letting it store anything any more, and starts another one.
func (o *office) crash() {
	o.box.mu.Lock()
	o.box.gone = true
	o.box.mu.Unlock()
	o.stop()
	o.box.gone = false
	o.start()
}

// settle lets everything happen that is due.
func (o *office) settle() {
	time.Sleep(10 * time.Millisecond) // simulated
	synctest.Wait()
}

// wait lets time pass. Sessions expire every second, as the server's ticker has it.
func (o *office) wait(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		time.Sleep(min(time.Second, time.Until(end)))
		o.store.Expire(time.Now())
	}
	o.settle()
}

// is reports the status of an agent's session.
func (o *office) is(agent string, status models.Status) {
	o.report(models.StatusReport{AgentID: agent, SessionTopic: "t", Status: status, Message: "secret message"})
}

func (o *office) report(r models.StatusReport) {
	require.NotContains(o.t, o.store.Accept(nil, []models.StatusReport{r}, time.Now(), nil), store.Outcome(0))
	o.settle()
}

// asks opens a question, and answered closes it.
func (o *office) asks(agent string, call uint64) {
	o.report(models.StatusReport{AgentID: agent, SessionTopic: "t", Status: models.Running, Event: &models.Event{
		Name: "PermissionRequest", AppliesIn: models.Anywhere, CallIDHash: call, ResultHash: call, Question: &models.Question{Kind: models.Permission, Text: fmt.Sprint("may I do ", call, "?")},
	}})
}

func (o *office) answered(agent string, call uint64) {
	o.report(models.StatusReport{AgentID: agent, SessionTopic: "t", Status: models.Running, Event: &models.Event{
		Name: "PostToolUse", AppliesIn: models.Anywhere, CallIDHash: call, ResultHash: call, Closes: models.ClosesOwn, Outcome: models.Answered,
	}})
}

// rule returns a rule that sends to the phone after a time.
func rule(after time.Duration, changes ...notify.Change) notify.Rule {
	return notify.Rule{Name: "rule", Changes: changes, Steps: []notify.Step{{After: after, To: []string{"phone"}}}}
}

func TestAQuestionThatStillWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := open(t, rule(10*time.Second, notify.Waits))
		o.is("quick", models.Pending)
		o.asks("slow", 1)
		o.wait(9 * time.Second)
		o.is("quick", models.Running)
		require.Empty(t, o.phone.got(), "nobody is told of what is approved at once")
		o.wait(time.Second)
		require.Equal(t, []string{"slow waits"}, o.phone.got())
		o.asks("slow", 2)
		o.wait(time.Hour / 2)
		require.Equal(t, []string{"slow waits"}, o.phone.got(), "the second question of the same session")
		o.answered("slow", 1)
		require.Equal(t, []string{"withdraw slow waits"}, o.phone.got())
		o.answered("slow", 2)
		require.Equal(t, []string{"withdraw slow waits"}, o.phone.got())
		require.Len(t, o.box.entries, 1, "only the rule is left: %v", o.box.entries)
	})
}

func TestEachChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := open(t, rule(0, notify.Waits, notify.Lost, notify.Failed, notify.Finished))
		o.is("a", models.Pending)
		require.Equal(t, []string{"a waits"}, o.phone.got())
		o.is("a", models.Failed)
		require.Equal(t, []string{"withdraw a waits", "a failed"}, o.phone.got())
		o.is("a", models.Running)
		require.Equal(t, []string{"withdraw a failed"}, o.phone.got())
		o.is("a", models.Success)
		require.Equal(t, []string{"a finished"}, o.phone.got())
		o.is("a", models.Success)
		o.is("a", models.Running)
		require.Empty(t, o.phone.got(), "nothing is withdrawn")
		o.wait(2 * time.Hour)
		require.Equal(t, []string{"a lost"}, o.phone.got())
		o.is("a", models.Running)
		require.Equal(t, []string{"withdraw a lost"}, o.phone.got())
		o.report(models.StatusReport{AgentID: "b", SessionTopic: "t", Status: models.Idle})
		require.Empty(t, o.phone.got(), "an idle session has not finished")
		o.store.RemoveAgent("a", time.Now())
		o.wait(2 * time.Hour)
		require.Empty(t, o.phone.got())
		require.Len(t, o.box.entries, 1)
	})
}

// TestARestart restarts the notifier at every point of a notification's life.
func TestARestart(t *testing.T) {
	for name, restart := range map[string]func(*office){
		"after a stop":  func(o *office) { o.stop(); o.start() },
		"after a crash": (*office).crash,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := open(t, rule(10*time.Second, notify.Waits, notify.Failed, notify.Finished))
				o.asks("a", 1)
				o.wait(5 * time.Second)
				restart(o)
				require.Empty(t, o.phone.got())
				o.wait(5 * time.Second)
				require.Equal(t, []string{"a waits"}, o.phone.got())
				restart(o)
				o.wait(time.Minute)
				require.Empty(t, o.phone.got(), "it is not told again")

				o.phone.failWith(func(*notify.Message) error { return errors.New("away") })
				o.is("b", models.Failed)
				o.is("c", models.Success)
				o.wait(time.Minute)
				restart(o)
				o.stop()
				o.answered("a", 1)
				o.phone.failWith(nil)
				o.start()
				o.wait(time.Hour / 2)
				require.ElementsMatch(t, []string{"withdraw a waits", "b failed", "c finished"}, o.phone.got())
				restart(o)
				o.wait(time.Minute)
				require.Empty(t, o.phone.got())
			})
		})
	}
}

func TestADestinationThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := open(t, rule(0, notify.Waits))
		o.phone.failWith(func(*notify.Message) error { return errors.New("away") })
		o.asks("a", 1)
		o.wait(23 * time.Hour)
		tried := o.phone.attempts()
		require.Greater(t, len(tried), 30)
		require.Less(t, len(tried), 60)
		for _, a := range tried {
			require.Equal(t, tried[0].id, a.id)
		}
		require.Less(t, tried[1].at.Sub(tried[0].at), 2*time.Second)
		o.wait(2 * time.Hour)
		count := len(o.phone.attempts())
		o.wait(10 * time.Hour)
		require.Len(t, o.phone.attempts(), count, "it is given up after a day")

		o.phone.failWith(func(*notify.Message) error { return fmt.Errorf("no such topic: %w", notify.ErrRefused) })
		o.asks("b", 1)
		o.phone.failWith(nil)
		o.wait(time.Hour)
		require.Empty(t, o.phone.got(), "what is refused is not repeated")

		o.phone.failWith(func(*notify.Message) error {
			return &notify.RetryError{Err: errors.New("busy"), After: 10 * time.Minute}
		})
		o.asks("c", 1)
		o.phone.failWith(nil)
		o.wait(9 * time.Minute)
		require.Empty(t, o.phone.got())
		o.wait(2 * time.Minute)
		require.Equal(t, []string{"c waits"}, o.phone.got())
	})
}

// TestOneDestinationDelaysNoOther has one destination that never answers.
func TestOneDestinationDelaysNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rule(0, notify.Waits)
		r.Steps[0].To = []string{"stuck", "phone"}
		o := open(t)
		o.config = &notify.Config{Rules: []notify.Rule{r}, Destinations: map[string]*notify.Destination{
			"phone": {Name: "phone", Sender: o.phone}, "stuck": {Name: "stuck", Sender: &phone{slow: time.Hour}},
		}}
		o.n.SetConfig(o.config)
		o.settle()
		for i := range 5 {
			o.asks(fmt.Sprint(i), 1)
			require.Equal(t, []string{fmt.Sprint(i, " waits")}, o.phone.got())
		}
	})
}

func TestReminders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rule(10*time.Second, notify.Waits)
		r.Every, r.Until = 30*time.Minute, 100*time.Minute
		o := open(t, r)
		o.asks("a", 1)
		o.wait(time.Minute)
		require.Equal(t, []string{"a waits"}, o.phone.got())
		o.wait(31 * time.Minute)
		require.Equal(t, []string{"again a waits"}, o.phone.got())
		o.crash()
		o.wait(10 * time.Hour)
		require.Equal(t, []string{"again a waits", "again a waits"}, o.phone.got())
		o.answered("a", 1)
		require.Equal(t, slices.Repeat([]string{"withdraw a waits"}, 4), o.phone.got())
		require.Equal(t, slices.Repeat([]string{o.phone.ids[0]}, 4), o.phone.ids[4:], "by the ID of the first message")
		var sent []string
		for _, id := range o.phone.ids[:4] {
			sent = append(sent, "remote "+id)
		}
		require.ElementsMatch(t, sent, o.phone.withdrawn, "each message")
	})
}

// TestEscalation notifies a second destination if the first one did not help.
func TestEscalation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		boss := &phone{}
		r := rule(0, notify.Waits)
		r.Steps = append(r.Steps, notify.Step{After: 15 * time.Minute, To: []string{"boss"}})
		o := open(t)
		o.config = &notify.Config{Rules: []notify.Rule{r}, Destinations: map[string]*notify.Destination{
			"phone": {Name: "phone", Sender: o.phone}, "boss": {Name: "boss", Sender: boss},
		}}
		o.n.SetConfig(o.config)
		o.settle()
		o.asks("a", 1)
		o.asks("b", 1)
		o.wait(14 * time.Minute)
		o.answered("a", 1)
		o.wait(2 * time.Minute)
		require.Equal(t, []string{"b waits"}, boss.got())
	})
}

func TestAcknowledgedSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := open(t, rule(time.Minute, notify.Waits, notify.Failed))
		acknowledge := func(agent string, until time.Duration) {
			ack := &models.Acknowledgement{At: time.Now()}
			if until > 0 {
				ack.Until = time.Now().Add(until)
			}
			o.report(models.StatusReport{AgentID: agent, SessionTopic: "t", Event: &models.Event{Acknowledge: ack}})
		}
		o.asks("a", 1)
		o.is("b", models.Failed)
		acknowledge("b", 0)
		acknowledge("a", 10*time.Minute)
		o.wait(9 * time.Minute)
		require.Empty(t, o.phone.got())
		o.wait(2 * time.Minute)
		require.Equal(t, []string{"a waits"}, o.phone.got(), "the snooze has ended")
		acknowledge("a", time.Hour)
		require.Equal(t, []string{"withdraw a waits"}, o.phone.got())
	})
}

// TestALimit sends more messages than the destination takes.
func TestALimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := open(t, rule(0, notify.Waits, notify.Failed))
		o.config.Destinations["phone"].Limit = notify.Limit{Messages: 2, Per: time.Minute}
		for i := range 5 {
			o.asks(fmt.Sprint(i), 1)
		}
		o.is("5", models.Failed)
		require.Equal(t, []string{"0 waits", "1 waits"}, o.phone.got())
		o.answered("3", 1)
		o.wait(time.Minute)
		require.Equal(t, []string{"summary: 2 waits, 1 failed"}, o.phone.got())
		o.answered("2", 1)
		o.wait(time.Minute)
		require.Empty(t, o.phone.got(), "a summary is not withdrawn")
		o.crash()
		o.wait(time.Minute)
		require.Empty(t, o.phone.got(), "what a summary told of is not told again")
	})
}

// TestALimitAndOneMessage counts a single message that waited for the end of an interval toward the next one.
func TestALimitAndOneMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := open(t, rule(0, notify.Waits))
		o.config.Destinations["phone"].Limit = notify.Limit{Messages: 1, Per: time.Minute}
		o.asks("a", 1)
		o.asks("b", 1)
		o.wait(time.Minute)
		require.Equal(t, []string{"a waits", "b waits"}, o.phone.got())
		o.asks("c", 1)
		require.Empty(t, o.phone.got())
		o.wait(time.Minute)
		require.Equal(t, []string{"c waits"}, o.phone.got())
	})
}

// TestASummaryOfWhatIsOver leaves out what is over before the summary is sent, through restarts. If all of it is, nothing
// is sent.
func TestASummaryOfWhatIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := open(t, rule(0, notify.Waits, notify.Failed))
		o.config.Destinations["phone"].Limit = notify.Limit{Messages: 1, Per: time.Minute}
		held := func() {
			o.asks("0", 1)
			for _, agent := range []string{"a", "b", "c"} {
				o.asks(agent, 1)
			}
			o.is("d", models.Failed)
			require.Equal(t, []string{"0 waits"}, o.phone.got())
			o.phone.failWith(func(*notify.Message) error { return errors.New("away") })
			o.wait(2 * time.Minute)
			o.answered("0", 1)
			o.answered("a", 1)
			o.crash()
			o.answered("b", 1)
			o.is("d", models.Running)
			o.crash()
		}
		held()
		o.phone.failWith(nil)
		o.wait(10 * time.Minute)
		require.ElementsMatch(t, []string{"withdraw 0 waits", "summary: 1 waits"}, o.phone.got())
		o.answered("c", 1)
		held()
		o.answered("c", 1)
		o.phone.failWith(nil)
		o.wait(10 * time.Minute)
		require.Equal(t, []string{"withdraw 0 waits"}, o.phone.got())
		require.Len(t, o.box.copy(), 1, "only the rule")
	})
}

// TestASummaryOfReminders leaves each of them out once, although their first messages are still to be withdrawn when the
// server crashes.
func TestASummaryOfReminders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rule(0, notify.Waits)
		r.Every = 10 * time.Minute
		o := open(t, r)
		o.asks("a", 1)
		o.asks("b", 1)
		o.asks("c", 1)
		require.Len(t, o.phone.got(), 3)
		m, err := o.n.Mute(notify.Mute{Until: time.Now().Add(15 * time.Minute)})
		require.NoError(t, err)
		o.wait(14 * time.Minute)
		o.phone.failWith(func(*notify.Message) error { return &notify.RetryError{Err: errors.New("busy"), After: time.Minute} })
		_, err = o.n.Unmute(m.ID)
		require.NoError(t, err)
		o.settle()
		o.answered("a", 1)
		o.crash()
		o.phone.failWith(nil)
		o.wait(2 * time.Minute)
		require.ElementsMatch(t, []string{"summary: 2 waits", "withdraw a waits"}, o.phone.got())
	})
}

// TestASummaryThatEndsWhileItIsSent is neither sent again nor kept.
func TestASummaryThatEndsWhileItIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := open(t, rule(0, notify.Waits))
		m, err := o.n.Mute(notify.Mute{Until: time.Now().Add(time.Minute)})
		require.NoError(t, err)
		o.asks("a", 1)
		o.asks("b", 1)
		o.phone.slow = 10 * time.Second
		o.phone.failWith(func(*notify.Message) error { return errors.New("away") })
		_, err = o.n.Unmute(m.ID)
		require.NoError(t, err)
		o.settle()
		o.answered("a", 1)
		o.answered("b", 1)
		o.wait(10 * time.Minute)
		require.Len(t, o.phone.attempts(), 1)
		require.Len(t, o.box.copy(), 1, "only the rule")
	})
}

// TestNewRules adds a rule, takes one away, and changes a destination.
func TestNewRules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := open(t, rule(time.Minute, notify.Waits))
		o.is("old", models.Failed)
		o.asks("a", 1)
		second := rule(0, notify.Failed)
		second.Name = "second"
		o.config = &notify.Config{Rules: []notify.Rule{rule(2*time.Minute, notify.Waits), second}, Destinations: o.config.Destinations}
		o.n.SetConfig(o.config)
		o.is("new", models.Failed)
		require.Equal(t, []string{"new failed"}, o.phone.got(), "a rule is not about what happened before it existed")
		o.wait(90 * time.Second)
		require.Empty(t, o.phone.got())
		o.wait(time.Minute)
		require.Equal(t, []string{"a waits"}, o.phone.got())
		o.n.SetConfig(&notify.Config{})
		o.answered("a", 1)
		require.Empty(t, o.phone.got(), "its destination is gone")
		o.wait(time.Minute)
		require.Empty(t, o.box.entries)
	})
}

// TestQuietHoursOfOneRule has two rules for the same destination, only one of which has quiet hours.
func TestQuietHoursOfOneRule(t *testing.T) {
	for _, drop := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) { // begins at midnight UTC
			quiet, urgent := rule(0, notify.Waits), rule(15*time.Minute, notify.Waits)
			quiet.Quiet = &notify.Quiet{From: 0, To: 7 * time.Hour, Zone: time.UTC, Drop: drop}
			urgent.Name, urgent.Agents = "urgent", []string{"prod*"}
			o := open(t, quiet, urgent)
			o.asks("prod", 1)
			o.asks("test", 1)
			o.wait(14 * time.Minute)
			require.Empty(t, o.phone.got())
			o.n.SetConfig(o.config)
			o.wait(2 * time.Minute)
			require.Equal(t, []string{"prod waits"}, o.phone.got())
			o.wait(7 * time.Hour)
			if drop {
				require.Empty(t, o.phone.got())
			} else {
				require.Equal(t, []string{"test waits"}, o.phone.got(), "prod is not told of again")
			}
			o.answered("prod", 1)
			require.Equal(t, []string{"withdraw prod waits"}, o.phone.got())
		})
	}
}

// TestChangesThatWereMissed changes more sessions at once than the store keeps changes.
func TestChangesThatWereMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := open(t, rule(time.Second, notify.Waits, notify.Lost, notify.Finished))
		reports := []models.StatusReport{}
		for i := range 300 {
			reports = append(reports, models.StatusReport{AgentID: fmt.Sprint(i), SessionTopic: "t", Status: models.Pending})
		}
		reports = append(reports, models.StatusReport{AgentID: "done", SessionTopic: "t", Status: models.Success})
		o.store.Accept(nil, reports, time.Now(), nil)
		o.wait(2 * time.Second)
		require.Len(t, o.phone.got(), 301)
		o.wait(2 * time.Hour)
		require.Len(t, o.phone.got(), 600, "each is withdrawn, and told to be lost")
	})
}
