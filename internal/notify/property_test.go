package notify_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/kubeagents/kubeagents/internal/notify"
	"github.com/kubeagents/kubeagents/models"
)

// delivery is a message that arrived, or that was withdrawn.
type delivery struct {
	agent    string
	change   notify.Change
	cause    string // the question's ID, or when the change happened
	id       string
	thread   string
	withdraw bool
}

func deliveryOf(m *notify.Message, withdraw bool) delivery {
	d := delivery{m.Session.AgentID, m.Change, m.Since.Format(time.RFC3339Nano), m.ID, m.Thread, withdraw}
	if m.Question != nil {
		d.cause = m.Question.ID
	}
	return d
}

// bubbled hides the method Deadline of a test, which must not be called in a bubble of synctest.
type bubbled struct{ rapid.TB }

// TestWhatIsTold checks what arrives after any sequence of questions, answers, failures, acknowledgements, crashes,
// reloads and troubles of the destination: for each cause one message, repeated only with the same ID and only by a
// crash, and withdrawn if it is over.
func TestWhatIsTold(t *testing.T) {
	for range 2 { // rapid stops after a day, and time passes quickly in a bubble
		synctest.Test(t, func(t *testing.T) { rapid.Check(bubbled{t}, checkWhatIsTold) })
	}
}

func checkWhatIsTold(rt *rapid.T) {
	const settling = 10 * time.Second
	o := open(rt, rule(settling, notify.Waits, notify.Failed))
	defer o.stop()
	agent := rapid.SampledFrom([]string{"a", "b"})
	call := rapid.Uint64Range(1, 3)
	rt.Repeat(map[string]func(*rapid.T){
		"asks":     func(rt *rapid.T) { o.asks(agent.Draw(rt, "agent"), call.Draw(rt, "call")) },
		"answered": func(rt *rapid.T) { o.answered(agent.Draw(rt, "agent"), call.Draw(rt, "call")) },
		"fails": func(rt *rapid.T) {
			o.report(models.StatusReport{AgentID: agent.Draw(rt, "agent"), SessionTopic: "t", Status: models.Failed, Event: &models.Event{
				Name: "StopFailure", AppliesIn: models.Anywhere, Closes: models.ClosesAll,
			}})
		},
		"acknowledged": func(rt *rapid.T) {
			o.report(models.StatusReport{AgentID: agent.Draw(rt, "agent"), SessionTopic: "t", Event: &models.Event{Acknowledge: &models.Acknowledgement{At: time.Now()}}})
		},
		"time passes": func(rt *rapid.T) { o.wait(time.Duration(rapid.IntRange(1, 15).Draw(rt, "seconds")) * time.Second) },
		"the destination fails": func(rt *rapid.T) {
			o.phone.failWith(func(*notify.Message) error { return errors.New("away") })
		},
		"it fails after it got the message": func(rt *rapid.T) {
			o.phone.failAfterwards(errors.New("cut off"))
		},
		"the destination works": func(rt *rapid.T) { o.phone.failWith(nil) },
		"crash":                 func(*rapid.T) { o.crash() },
		"restart": func(rt *rapid.T) {
			o.stop()
			o.start()
		},
		"reload": func(rt *rapid.T) {
			o.n.SetConfig(o.config)
			o.settle()
		},
	})
	o.phone.failWith(nil)
	o.wait(20 * time.Minute) // longer than the retries that are under way

	told := map[string]string{} // from cause to the ID of its first message
	withdrawn := map[string]bool{}
	for _, d := range o.phone.arrived() {
		cause := fmt.Sprint(d.agent, d.change, d.cause)
		if d.withdraw {
			withdrawn[d.thread] = true // also if it may have arrived although the attempt failed
			continue
		}
		require.False(rt, withdrawn[d.thread], "nothing is sent after it was withdrawn")
		told[d.thread] = cause
	}
	threads := map[string]int{}
	for thread, cause := range told {
		if !withdrawn[thread] {
			threads[cause]++
		}
	}
	for cause, count := range threads {
		require.Equal(rt, 1, count, "%s: %v", cause, o.phone.arrived())
	}
	open := 0
	for _, agent := range []string{"a", "b"} {
		session, questions, _, ok := o.store.SessionInFull(agent, "t", nil, 1)
		switch {
		case !ok, session.Acknowledged != nil:
		case session.CurrentStatus == models.Failed:
			open++
		default:
			open += len(questions)
		}
	}
	require.Len(rt, threads, open, "what is open was told, and nothing else is left: %v", o.phone.arrived())
	require.Len(rt, o.box.entries, 1+open)
}
