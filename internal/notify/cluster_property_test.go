package notify_test

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/kubeagents/kubeagents/internal/notify"
	"github.com/kubeagents/kubeagents/models"
)

// TestWhatAClusterTells is like TestWhatIsTold for several servers. Terms change, overlap or end at any moment, servers
// that don't act fall behind, crash, and take mutes.
func TestWhatAClusterTells(t *testing.T) {
	for range 2 { // as above
		synctest.Test(t, func(t *testing.T) { rapid.Check(bubbled{t}, checkWhatAClusterTells) })
	}
}

func checkWhatAClusterTells(rt *rapid.T) {
	c := openCluster(rt, 3, rule(10*time.Second, notify.Waits, notify.Failed))
	defer c.close()
	c.servers[0].leads() // the rule applies from now on
	c.settle()
	agent := rapid.SampledFrom([]string{"a", "b"})
	call := rapid.Uint64Range(1, 3)
	server := func(rt *rapid.T) *server { return c.servers[rapid.IntRange(0, 2).Draw(rt, "server")] }
	moment := func(rt *rapid.T) { // at which what comes next happens: in the middle of an attempt, perhaps
		time.Sleep(time.Duration(rapid.IntRange(0, 40).Draw(rt, "hundreds of ms")) * 100 * time.Millisecond)
	}
	cut := 0 // attempts that may have been cut off, or whose outcome may be unknown
	var down atomic.Bool
	var acknowledged bool // it makes a question begin anew if its session asks another one
	rt.Repeat(map[string]func(*rapid.T){
		"asks":     func(rt *rapid.T) { c.asks(agent.Draw(rt, "agent"), call.Draw(rt, "call")) },
		"answered": func(rt *rapid.T) { c.answered(agent.Draw(rt, "agent"), call.Draw(rt, "call")) },
		"fails": func(rt *rapid.T) {
			c.report(models.StatusReport{AgentID: agent.Draw(rt, "agent"), SessionTopic: "t", Status: models.Failed, Event: &models.Event{
				Name: "StopFailure", AppliesIn: models.Anywhere, Closes: models.ClosesAll,
			}})
		},
		"acknowledged": func(rt *rapid.T) {
			acknowledged = true
			c.report(models.StatusReport{AgentID: agent.Draw(rt, "agent"), SessionTopic: "t", Event: &models.Event{Acknowledge: &models.Acknowledgement{At: c.now()}}})
		},
		"time passes": func(rt *rapid.T) { c.wait(time.Duration(rapid.IntRange(1, 15).Draw(rt, "seconds")) * time.Second) },
		"a term begins": func(rt *rapid.T) {
			moment(rt)
			server(rt).leadsWith(&down, 0)
			cut++
		},
		"a term ends": func(rt *rapid.T) {
			moment(rt)
			for _, s := range c.servers {
				s.end()
			}
			cut++
		},
		"a server crashes": func(rt *rapid.T) {
			moment(rt)
			server(rt).crash()
			cut++
		},
		"the majority is lost":  func(*rapid.T) { down.Store(true) },
		"the majority is back":  func(*rapid.T) { down.Store(false) },
		"servers fall behind":   func(*rapid.T) { c.pause(true) },
		"servers catch up":      func(*rapid.T) { c.pause(false) },
		"the destination fails": func(*rapid.T) { c.phone.failWith(func(*notify.Message) error { return errors.New("away") }) },
		"it fails after it got the message": func(*rapid.T) {
			c.phone.failAfterwards(errors.New("cut off"))
			cut++
		},
		"it is slow":            func(*rapid.T) { c.phone.takes(3 * time.Second) },
		"the destination works": func(*rapid.T) { c.phone.failWith(nil); c.phone.takes(0) },
		"mute": func(rt *rapid.T) {
			_, err := server(rt).n.Mute(notify.Mute{Agent: agent.Draw(rt, "agent"), Until: c.now().Add(20 * time.Second)})
			require.NoError(rt, err)
		},
		"unmute": func(rt *rapid.T) {
			s := server(rt)
			for _, m := range s.n.Mutes() {
				_, err := s.n.Unmute(m.ID)
				require.NoError(rt, err)
			}
		},
	})
	down.Store(false)
	c.pause(false)
	c.phone.failWith(nil)
	c.phone.takes(0)
	c.servers[0].leads()
	c.wait(20 * time.Minute) // longer than the retries that are under way

	threads := map[string]map[string]bool{} // by cause
	withdrawn, arrived := map[string]bool{}, map[string]int{}
	for _, d := range c.phone.arrived() {
		cause := fmt.Sprint(d.agent, d.change, d.cause)
		if d.withdraw {
			withdrawn[d.thread] = true
			continue
		}
		require.False(rt, withdrawn[d.thread], "nothing is sent after it was withdrawn")
		if threads[cause] == nil {
			threads[cause] = map[string]bool{}
		}
		threads[cause][d.thread] = true
		require.True(rt, acknowledged || len(threads[cause]) == 1, "one message about %s: %v", cause, c.phone.arrived())
		arrived[d.id]++
	}
	repeats := 0
	for _, times := range arrived {
		repeats += times - 1
	}
	require.LessOrEqual(rt, repeats, cut, "only what was cut off is repeated: %v", c.phone.arrived())
	told := 0
	for cause := range threads {
		maps.DeleteFunc(threads[cause], func(id string, _ bool) bool { return withdrawn[id] })
		require.LessOrEqual(rt, len(threads[cause]), 1, "%s: %v", cause, c.phone.arrived())
		told += len(threads[cause])
	}
	open := 0
	for _, agent := range []string{"a", "b"} {
		session, questions, _, ok := c.servers[1].store.SessionInFull(agent, "t", nil, 1)
		switch {
		case !ok, session.Acknowledged != nil:
		case session.CurrentStatus == models.Failed:
			open++
		default:
			open += len(questions)
		}
	}
	if summarized := strings.Contains(strings.Join(c.phone.got(), "\n"), "summary"); !summarized {
		require.Equal(rt, open, told, "what is open was told, and nothing else is left: %v", c.phone.arrived())
	}
	c.equal()
	records := c.servers[2].records()
	require.Len(rt, records, open)
	for _, key := range records {
		require.Contains(rt, string(c.servers[2].entries[key]), `"sent":`, "by itself, or in a summary")
	}
}
