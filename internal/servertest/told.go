package servertest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/natstest"
	"github.com/kubeagents/kubeagents/internal/notify"
)

// told notes what the servers of a trio send to their destinations.
type told struct {
	mu    sync.Mutex
	got   []string       // since the last look
	times map[string]int // that each message arrived, or was withdrawn
	takes time.Duration  // that a message takes to arrive
	after func(*hub)     // called once when a message has arrived, before its server learns that; nil for nothing
}

// voice is a destination as one server reaches it.
type voice struct {
	*told
	hub  *hub
	life *life
	name string
}

// Send implements notify.Sender.
func (v voice) Send(ctx context.Context, m *notify.Message) (string, error) {
	return m.ID, v.take(ctx, m, "")
}

// Withdraw implements notify.Sender.
func (v voice) Withdraw(ctx context.Context, m *notify.Message) error {
	return v.take(ctx, m, "withdraw ")
}

func (v voice) take(ctx context.Context, m *notify.Message, what string) error {
	v.mu.Lock()
	takes := v.takes
	v.mu.Unlock()
	select {
	case <-time.After(takes):
	case <-ctx.Done():
		return ctx.Err()
	}
	if v.life.over.Load() {
		return context.Canceled // it has been killed meanwhile
	}
	v.mu.Lock()
	v.times[strings.Join([]string{v.name, what, m.ID, m.Remote}, " ")]++
	v.got = append(v.got, v.name+": "+what+contentOf(m))
	after := v.after
	v.after = nil
	v.mu.Unlock()
	if after != nil {
		after(v.hub)
	}
	return nil
}

// contentOf returns what a message is about.
func contentOf(m *notify.Message) string {
	if m.Summary == nil {
		if m.Reminder() {
			return m.Session.AgentID + " " + m.Change.String() + " again"
		}
		return m.Session.AgentID + " " + m.Change.String()
	}
	var counts []string
	for _, change := range slices.Sorted(maps.Keys(m.Summary)) {
		counts = append(counts, fmt.Sprint(m.Summary[change], " ", change))
	}
	return "summary of " + strings.Join(counts, ", ")
}

// arrived returns what has arrived since the last call, sorted.
func (to *told) arrived() []string {
	to.mu.Lock()
	defer to.mu.Unlock()
	got := to.got
	to.got = nil
	slices.Sort(got)
	return got
}

// repeated returns how many messages arrived, or were withdrawn, that had been before.
func (to *told) repeated() (repeats int) {
	to.mu.Lock()
	defer to.mu.Unlock()
	for _, times := range to.times {
		repeats += times - 1
	}
	return repeats
}

// newTellingTrio returns a trio whose rules notify a phone of everything after 10 seconds. What waits is repeated every 5
// minutes, and the boss is told of it after 8. Nobody is notified from half past midnight, until 00:40. The
// bubble begins at midnight.
func (wiring Wiring) newTellingTrio(t *testing.T) (*trio, *told) {
	to := &told{times: map[string]int{}}
	tr := wiring.onThree().newTestServer(t, nil).trio
	quiet := &notify.Quiet{From: 30 * time.Minute, To: 40 * time.Minute, Zone: time.UTC}
	tr.configure = func(h *hub) {
		h.handlers.Notifier.SetConfig(&notify.Config{
			Destinations: map[string]*notify.Destination{
				"phone": {Name: "phone", Kind: "webhook", Sender: voice{to, h, h.life, "phone"}},
				"boss":  {Name: "boss", Kind: "webhook", Sender: voice{to, h, h.life, "boss"}},
			},
			Rules: []notify.Rule{
				{Name: "waits", Changes: []notify.Change{notify.Waits}, Every: 5 * time.Minute, Until: 16 * time.Minute, Quiet: quiet,
					Steps: []notify.Step{{After: 10 * time.Second, To: []string{"phone"}}, {After: 8 * time.Minute, To: []string{"boss"}}}},
				{Name: "others", Changes: []notify.Change{notify.Failed, notify.Lost, notify.Answered}, Quiet: quiet,
					Steps: []notify.Step{{After: 10 * time.Second, To: []string{"phone"}}}},
			},
		})
	}
	for _, h := range tr.hubs {
		tr.configure(h)
	}
	time.Sleep(5 * time.Second) // simulated: the rules apply from then on
	return tr, to
}

// asks has an agent ask a question at a server at random, and answers has it go on because that was answered.
func (tr *trio) asks(t *testing.T, agent string) { tr.event(t, agent, "PermissionRequest") }

func (tr *trio) answers(t *testing.T, agent string) { tr.event(t, agent, "PostToolUse") }

func (tr *trio) event(t *testing.T, agent, name string) {
	t.Helper()
	w := tr.do("POST", "/webhook/claude-code?agent_id="+agent,
		`{"session_id":"`+agent+`","cwd":"/src","hook_event_name":"`+name+`","tool_name":"Bash","tool_input":{"command":"make"}}`)
	require.Equal(t, 200, w.Code, w.Body)
}

// other returns a server that does not hold the lease.
func (tr *trio) other() *hub {
	holder := tr.holder()
	running := slices.DeleteFunc(tr.running(), func(h *hub) bool { return h == holder })
	return running[tr.random.IntN(len(running))]
}

// TestWhatIsToldOnThree goes through everything that a rule does while the same server holds the lease. What people do,
// they do at others.
func (wiring Wiring) TestWhatIsToldOnThree(t *testing.T) {
	natstest.Long(t)
	synctest.Test(t, func(t *testing.T) {
		tr, to := wiring.newTellingTrio(t)
		for _, agent := range []string{"acked", "answered", "muted", "waiting"} {
			tr.asks(t, agent)
		}
		mute := idOf(t, tr.other().on(t, "POST", "/api/notifications/mutes", `{"agent_id":"muted","minutes":60}`))
		tr.report(t, `{"agent_id":"lost","session_topic":"t","status":"running","ttl_minutes":1}`)
		time.Sleep(20 * time.Second)
		require.Equal(t, []string{"phone: acked waits", "phone: answered waits", "phone: waiting waits"}, to.arrived())
		tr.answers(t, "answered")
		tr.other().on(t, "POST", "/api/agents/acked/sessions/acked/acknowledge", "")
		time.Sleep(20 * time.Second)
		require.Equal(t, []string{"phone: answered answered", "phone: withdraw acked waits", "phone: withdraw answered waits"}, to.arrived())
		time.Sleep(time.Minute)
		require.Equal(t, []string{"phone: lost lost"}, to.arrived())
		time.Sleep(4 * time.Minute)
		require.Equal(t, []string{"phone: waiting waits again"}, to.arrived())
		tr.other().on(t, "DELETE", "/api/notifications/mutes/"+mute, "")
		time.Sleep(time.Second)
		require.Equal(t, []string{"phone: muted waits"}, to.arrived(), "it still waits")
		time.Sleep(3 * time.Minute)
		require.Equal(t, []string{"boss: muted waits", "boss: waiting waits"}, to.arrived())
		for _, agent := range []string{"acked", "answered", "muted", "waiting"} {
			tr.event(t, agent, "Stop")
		}
		tr.report(t, reportOf("lost", "t", "success"))
		time.Sleep(30 * time.Second)
		to.arrived() // all of that is withdrawn

		time.Sleep(time.Until(time.Now().Truncate(time.Hour).Add(31 * time.Minute)))
		tr.asks(t, "late")
		tr.report(t, reportOf("broken", "t", "failed"))
		tr.report(t, reportOf("mended", "t", "failed"))
		time.Sleep(5 * time.Minute)
		tr.report(t, reportOf("mended", "t", "running"))
		require.Empty(t, to.arrived(), "these are quiet hours")
		time.Sleep(5 * time.Minute)
		require.Equal(t, []string{"boss: late waits", "phone: summary of 1 waits, 1 failed"}, to.arrived())
		require.Zero(t, to.repeated())
	})
}

// apart keeps the moment at which a server is killed from that at which it writes a snapshot: the client library of NATS
// leaves a goroutine behind if its connection is lost as an upload begins, and a bubble must not end with one.
const apart = 137 * time.Millisecond

// TestTheSenderOfThreeGoesInTheMiddle stops the server that holds the lease, or kills it, at every point in the life of a
// notification. Nothing is missed, and only what was on its way to a destination may be repeated, with the same ID.
func (wiring Wiring) TestTheSenderOfThreeGoesInTheMiddle(t *testing.T) {
	natstest.Long(t)
	for name, goes := range map[string]func(*hub){"stopped": func(h *hub) { h.end() }, "killed": (*hub).kill} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr, to := wiring.newTellingTrio(t)
				replace := func() {
					time.Sleep(apart)
					h := tr.holder()
					goes(h)
					tr.awaitHolder(t)
					h.start(t, wiring)
				}
				tr.asks(t, "a")
				time.Sleep(5 * time.Second)
				replace() // before it is due
				time.Sleep(20 * time.Second)
				require.Equal(t, []string{"phone: a waits"}, to.arrived())

				to.takes = 8 * time.Second
				tr.asks(t, "b")
				time.Sleep(14 * time.Second)
				replace() // while it is sent
				time.Sleep(40 * time.Second)
				require.Equal(t, []string{"phone: b waits"}, to.arrived())
				to.takes = 0
				replace() // before the reminder and the boss
				time.Sleep(8 * time.Minute)
				require.Equal(t, []string{"boss: a waits", "boss: b waits", "phone: a waits again", "phone: b waits again"}, to.arrived())
				require.Zero(t, to.repeated())

				time.Sleep(apart)
				gone := make(chan *hub, 1)
				to.after = func(h *hub) { // when it has arrived
					h.life.over.Store(true)
					h.line.Cut()
					gone <- h
				}
				tr.asks(t, "c")
				h := <-gone
				goes(h)
				tr.awaitHolder(t)
				h.start(t, wiring)
				time.Sleep(30 * time.Second)
				arrived := to.arrived()
				require.Contains(t, arrived, "phone: c waits")
				require.LessOrEqual(t, to.repeated(), 1, "%s", arrived)
				tr.answers(t, "a")
				tr.answers(t, "b")
				replace() // while it is withdrawn
				tr.answers(t, "c")
				time.Sleep(time.Minute)
				arrived = to.arrived()
				for _, agent := range []string{"a", "b", "c"} {
					tr.event(t, agent, "Stop")
					assert.Contains(t, arrived, "phone: withdraw "+agent+" waits")
					assert.Contains(t, arrived, "phone: "+agent+" answered")
				}

				time.Sleep(time.Until(time.Now().Truncate(time.Hour).Add(31 * time.Minute)))
				to.arrived()
				tr.asks(t, "late")
				tr.asks(t, "later")
				replace() // in quiet hours
				time.Sleep(8 * time.Minute)
				require.Empty(t, to.arrived())
				time.Sleep(2 * time.Minute)
				require.Equal(t, []string{"boss: summary of 2 waits", "phone: summary of 2 waits"}, to.arrived())
				require.LessOrEqual(t, to.repeated(), 2)
			})
		})
	}
}
