package notify_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/notify"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// TestMutes mutes an agent, a rule and everything, through a restart, and sends what still holds when the mute ends.
func TestMutes(t *testing.T) {
	for name, test := range map[string]struct {
		mute notify.Mute
		want []string // during the mute
		then []string // afterwards, if two agents' questions are still open, and another was answered
	}{
		"agent":      {notify.Mute{Agent: "a"}, []string{"b waits"}, []string{"a waits"}},
		"rule":       {notify.Mute{Rule: "rule"}, nil, []string{"summary: 2 waits"}},
		"other rule": {notify.Mute{Rule: "other"}, []string{"a waits", "b waits", "c waits", "withdraw c waits"}, nil},
		"everything": {notify.Mute{}, nil, []string{"summary: 2 waits"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := open(t, rule(0, notify.Waits))
				test.mute.Until, test.mute.By = time.Now().Add(time.Hour), "anna"
				added, err := o.n.Mute(test.mute)
				require.NoError(t, err)
				require.Equal(t, []notify.Mute{added}, o.n.Mutes())
				if test.mute.Agent == "" {
					o.asks("c", 1)
				}
				o.asks("a", 1)
				o.asks("b", 1)
				o.answered("c", 1)
				o.crash()
				o.wait(59 * time.Minute)
				require.ElementsMatch(t, test.want, o.phone.got())
				o.wait(time.Minute)
				require.Equal(t, test.then, o.phone.got())
				require.Empty(t, o.n.Mutes())
			})
		})
	}
}

// TestUnmute sends what a mute held back at once, but not what the destination's limit holds back.
func TestUnmute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := open(t, rule(0, notify.Waits))
		o.config.Destinations["phone"].Limit = notify.Limit{Messages: 1, Per: time.Hour}
		o.asks("a", 1)
		o.asks("b", 1)
		m, err := o.n.Mute(notify.Mute{Agent: "c", Until: time.Now().Add(10 * time.Hour)})
		require.NoError(t, err)
		o.asks("c", 1)
		require.Equal(t, []string{"a waits"}, o.phone.got())
		ok, err := o.n.Unmute(m.ID)
		require.NoError(t, err)
		require.True(t, ok)
		o.wait(time.Second)
		require.Equal(t, []string{"c waits"}, o.phone.got())
		ok, err = o.n.Unmute(m.ID)
		require.NoError(t, err)
		require.False(t, ok)
		o.wait(time.Hour)
		require.Equal(t, []string{"b waits"}, o.phone.got())
		require.NotContains(t, fmt.Sprint(o.box.copy()), "mute")
	})
}

// TestMutesThatAreOver are not kept in the box, whatever is removed next.
func TestMutesThatAreOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := open(t, rule(0, notify.Waits))
		_, err := o.n.Mute(notify.Mute{Until: time.Now().Add(time.Minute)})
		require.NoError(t, err)
		m, err := o.n.Mute(notify.Mute{Until: time.Now().Add(time.Hour)})
		require.NoError(t, err)
		o.wait(2 * time.Minute)
		_, err = o.n.Unmute(m.ID)
		require.NoError(t, err)
		require.Len(t, o.box.copy(), 1, "only the rule")
	})
}

// TestAMuteThatCantBeStored is not in effect, and neither is one too many.
func TestAMuteThatCantBeStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := open(t, rule(0, notify.Waits))
		o.box.behave(true, 0)
		_, err := o.n.Mute(notify.Mute{Until: time.Now().Add(time.Hour)})
		require.Error(t, err)
		require.Empty(t, o.n.Mutes())
		o.box.behave(false, 0)
		o.asks("a", 1)
		require.Equal(t, []string{"a waits"}, o.phone.got())
		m, err := o.n.Mute(notify.Mute{Agent: "b", Until: time.Now().Add(time.Hour)})
		require.NoError(t, err)
		o.box.behave(true, 0)
		ok, err := o.n.Unmute(m.ID)
		require.Error(t, err)
		require.True(t, ok)
		require.Len(t, o.n.Mutes(), 1, "it is still in effect")
		o.box.behave(false, 0)
		o.crash()
		require.Len(t, o.n.Mutes(), 1)
		ok, err = o.n.Unmute(m.ID)
		require.NoError(t, err)
		require.True(t, ok)
		for range 1000 {
			_, err := o.n.Mute(notify.Mute{Agent: "x", Until: time.Now().Add(time.Hour)})
			require.NoError(t, err)
		}
		_, err = o.n.Mute(notify.Mute{Agent: "x", Until: time.Now().Add(time.Hour)})
		require.ErrorIs(t, err, notify.ErrTooManyMutes)
		o.wait(2 * time.Hour)
		_, err = o.n.Mute(notify.Mute{Agent: "x", Until: time.Now().Add(time.Hour)})
		require.NoError(t, err, "the others are over")
		require.Len(t, o.n.Mutes(), 1)
	})
}

// TestARetryInSilence has a destination that works again while its messages are held back.
func TestARetryInSilence(t *testing.T) {
	silences := map[string]func(*office) (end func()){
		"mute": func(o *office) func() {
			m, err := o.n.Mute(notify.Mute{Until: time.Now().Add(20 * time.Hour)})
			require.NoError(o.t, err)
			return func() { o.n.Unmute(m.ID) } //nolint:errcheck // the box is in memory
		},
		"quiet hours": func(o *office) func() {
			now := time.Now().UTC()
			from := time.Duration(now.Hour())*time.Hour + time.Duration(now.Minute()+5)*time.Minute
			o.config = &notify.Config{Rules: []notify.Rule{rule(0, notify.Waits)}, Destinations: o.config.Destinations}
			o.config.Rules[0].Quiet = &notify.Quiet{From: from, To: from + 3*time.Hour, Zone: time.UTC}
			o.n.SetConfig(o.config)
			o.wait(10 * time.Minute)
			return func() { o.wait(2 * time.Hour) }
		},
	}
	for name, silence := range silences {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := open(t, rule(0, notify.Waits))
				o.phone.failWith(func(*notify.Message) error { return errors.New("away") })
				o.asks("a", 1)
				end := silence(o)
				o.phone.failWith(nil)
				o.wait(2 * time.Hour)
				require.Empty(t, o.phone.got())
				require.Equal(t, []string{"oldest_seconds 0", "pending 1"}, o.backlog(), "what is held back is not late")
				end()
				o.wait(time.Hour)
				require.Equal(t, []string{"a waits"}, o.phone.got())
				require.Equal(t, []string{"oldest_seconds 0", "pending 0"}, o.backlog())
			})
		})
	}
}

// TestABacklogGetsOld has a destination that fails.
func TestABacklogGetsOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := open(t, rule(0, notify.Waits))
		o.phone.failWith(func(*notify.Message) error { return errors.New("away") })
		o.asks("a", 1)
		o.asks("b", 1)
		before := o.backlog()
		o.wait(time.Hour)
		var oldest, later float64
		_, err := fmt.Sscanf(before[0]+" "+o.backlog()[0], "oldest_seconds %g oldest_seconds %g", &oldest, &later)
		require.NoError(t, err)
		require.InDelta(t, oldest+3600, later, 1)
		require.Equal(t, "pending 2", o.backlog()[1])
	})
}

// backlog returns the metrics of the messages that are to be sent.
func (o *office) backlog() (lines []string) {
	w := httptest.NewRecorder()
	o.n.Metrics.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, found := range regexp.MustCompile(`(?m)^kubeagents_notifications_((?:pending|oldest).*)$`).FindAllStringSubmatch(w.Body.String(), -1) {
		lines = append(lines, found[1])
	}
	return lines
}

// TestQuietHoursThatEndWhileTheServerIsDown sends one summary all the same.
func TestQuietHoursThatEndWhileTheServerIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rule(0, notify.Waits)
		r.Quiet = &notify.Quiet{From: 0, To: 7 * time.Hour, Zone: time.UTC}
		o := open(t, r)
		o.wait(time.Until(time.Now().UTC().Truncate(24 * time.Hour).Add(25 * time.Hour)))
		o.asks("a", 1)
		o.asks("b", 1)
		o.stop()
		o.wait(7 * time.Hour)
		o.start()
		o.wait(time.Minute)
		require.Equal(t, []string{"summary: 2 waits"}, o.phone.got())
	})
}

// device returns a device of anna's, which covers the agents a and b.
func device(sender notify.Sender) *notify.Device {
	return &notify.Device{
		ID: "1", Owner: "anna", Sender: sender, Added: time.Now(),
		Covers: func(agentID string) bool { return agentID == "a" || agentID == "b" },
		Rule:   notify.Rule{Changes: []notify.Change{notify.Waits}, Steps: []notify.Step{{}}},
	}
}

// TestDevices adds a device to rules, and removes it.
func TestDevices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := open(t)
		o.asks("a", 1)
		o.wait(time.Minute)
		tablet := &phone{}
		o.n.AddDevice(device(tablet))
		o.settle()
		require.Empty(t, tablet.got(), "what happened earlier")
		o.asks("a", 2)
		o.asks("c", 1)
		require.Equal(t, []string{"a waits"}, tablet.got())
		o.answered("a", 2)
		require.Equal(t, []string{"withdraw a waits"}, tablet.got())
		o.asks("b", 1)
		o.n.SetConfig(o.config)
		o.settle()
		require.Equal(t, []string{"b waits"}, tablet.got(), "once, through a reload")
		o.n.RemoveDevice("1")
		o.settle()
		o.answered("b", 1)
		o.asks("a", 3)
		require.Empty(t, tablet.got())
		require.Empty(t, o.box.copy())
	})
}

// TestADeviceAfterARestart notifies a device of what had not held for long enough before the restart, on a server without
// a file of rules.
func TestADeviceAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := open(t)
		o.stop()
		tablet := &phone{}
		o.config, o.tablet = nil, device(tablet)
		o.tablet.Rule.Steps[0].Settle = 10 * time.Second
		o.start()
		asked := models.StatusReport{AgentID: "a", SessionTopic: "t", Status: models.Pending}
		o.report(asked)
		o.stop()
		require.Empty(t, tablet.got())
		o.store = store.New(store.Options{DefaultTTL: time.Hour, SessionRetention: time.Hour, HistoryLimit: 10, HistoryMaxBytes: 64 << 20, MaxSessions: 1000, EventWindow: 100, Journaled: true})
		asked.Timestamp = time.Now()
		o.store.Restore(&store.Restored{
			SessionKey: store.SessionKey{AgentID: "a", Topic: "t"}, Records: []models.Record{{StatusReport: asked, Sequence: 1, Received: time.Now()}},
		}, time.Now())
		o.start()
		o.wait(10 * time.Second)
		require.Equal(t, []string{"a waits"}, tablet.got())
		o.wait(time.Minute)
		require.Empty(t, tablet.got())
	})
}

// TestADeviceThatFollowsARule gets what the rule selects, at its time, and what its owner may read.
func TestADeviceThatFollowsARule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := open(t, rule(10*time.Second, notify.Failed))
		tablet := &phone{}
		d := device(tablet)
		d.Follows = []string{"rule", "none"}
		o.n.AddDevice(d)
		o.settle()
		o.is("a", models.Failed)
		o.is("c", models.Failed)
		require.Empty(t, tablet.got())
		o.wait(10 * time.Second)
		require.Equal(t, []string{"a failed"}, tablet.got())
		require.ElementsMatch(t, []string{"a failed", "c failed"}, o.phone.got())
		m, err := o.n.Mute(notify.Mute{Rule: "rule", Until: time.Now().Add(time.Hour)})
		require.NoError(t, err)
		o.is("b", models.Failed)
		o.wait(time.Minute)
		require.Empty(t, tablet.got())
		_, err = o.n.Unmute(m.ID)
		require.NoError(t, err)
		o.settle()
		require.Equal(t, []string{"b failed"}, tablet.got())
		o.config = &notify.Config{}
		o.n.SetConfig(o.config)
		o.settle()
		o.is("b", models.Running)
		o.is("b", models.Failed)
		o.wait(time.Minute)
		require.Equal(t, []string{"withdraw b failed"}, tablet.got(), "the rule is gone")
		o.config = &notify.Config{Rules: []notify.Rule{rule(0, notify.Failed)}, Destinations: map[string]*notify.Destination{"phone": {Name: "phone", Sender: o.phone}}}
		o.n.SetConfig(o.config)
		o.settle()
		require.Empty(t, tablet.got(), "it happened before the rule came back")
		o.is("b", models.Running)
		o.is("b", models.Failed)
		require.Equal(t, []string{"b failed"}, tablet.got())
	})
}

// TestADeviceThatMayNotReadAnyMore is not told of what was already planned, or was to be sent.
func TestADeviceThatMayNotReadAnyMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := open(t)
		tablet := &phone{}
		d := device(tablet)
		var covers atomic.Bool
		covers.Store(true)
		d.Covers = func(string) bool { return covers.Load() }
		d.Rule.Steps[0].After = time.Minute
		o.n.AddDevice(d)
		o.settle()
		tablet.failWith(func(*notify.Message) error { return errors.New("away") })
		o.asks("a", 1)
		o.wait(2 * time.Minute)
		o.asks("b", 1)
		covers.Store(false)
		tablet.failWith(nil)
		o.wait(time.Hour)
		require.Empty(t, tablet.got())
		require.Empty(t, o.box.copy())
	})
}

// TestAGoneDevice tells whoever added the device.
func TestAGoneDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := open(t)
		tablet := &phone{}
		tablet.failWith(func(*notify.Message) error { return fmt.Errorf("push.example.com: %w", notify.ErrGone) })
		d := device(tablet)
		gone := 0
		d.Gone = func() {
			gone++
			o.n.RemoveDevice("1")
		}
		o.n.AddDevice(d)
		o.settle()
		o.asks("a", 1)
		require.Equal(t, 1, gone)
		require.Empty(t, o.n.View(10, nil).Destinations[1:])
	})
}

// TestAtTheKeyboard holds back what the owner of a device sees on the dashboard, until the owner has left.
func TestAtTheKeyboard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := open(t, rule(0, notify.Waits))
		tablet, loud := &phone{}, &phone{}
		o.n.AddDevice(device(tablet))
		always := device(loud)
		always.ID, always.Rule.AtKeyboard = "2", true
		o.n.AddDevice(always)
		o.settle()
		use := func(p notify.Page) { o.n.Present("anna", p, time.Now().Add(time.Minute)) }

		use(notify.Page{ID: "p1"})
		o.asks("a", 1)
		o.asks("b", 1)
		require.Equal(t, []string{"a waits", "b waits"}, o.phone.got(), "a destination of the file")
		require.Equal(t, []string{"a waits", "b waits"}, loud.got())
		require.Empty(t, tablet.got())
		o.answered("a", 1)
		o.wait(59 * time.Second)
		require.Empty(t, tablet.got())
		o.wait(time.Second)
		require.Equal(t, []string{"b waits"}, tablet.got(), "alone, and not as part of a summary")

		use(notify.Page{ID: "p1", AgentID: "a"})
		o.n.Present("bob", notify.Page{ID: "p2"}, time.Now().Add(time.Hour))
		o.asks("b", 2)
		require.Equal(t, []string{"b waits"}, tablet.got(), "not on the page")
		o.asks("a", 2)
		require.Empty(t, tablet.got())
		o.n.Absent("anna", "p1")
		o.settle()
		require.Equal(t, []string{"a waits"}, tablet.got(), "as soon as the page is left")

		use(notify.Page{ID: "p1"})
		o.asks("b", 3)
		require.Empty(t, tablet.got())
		use(notify.Page{ID: "p1", AgentID: "a", Topic: "other"})
		o.settle()
		require.Equal(t, []string{"b waits"}, tablet.got(), "as soon as the page shows something else")
		o.asks("a", 3)
		require.Equal(t, []string{"a waits"}, tablet.got(), "another session is on the page")
		use(notify.Page{ID: "p1", AgentID: "a", Topic: "t"})
		o.asks("a", 4)
		require.Empty(t, tablet.got())
		for i := range 100 {
			use(notify.Page{ID: fmt.Sprint(i)})
		}
		o.wait(2 * time.Minute)
		require.Equal(t, []string{"a waits"}, tablet.got())
	})
}

// TestAnswered tells of each question that somebody answered, once, through restarts.
func TestAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := open(t, rule(0, notify.Answered))
		o.asks("a", 1)
		o.asks("a", 2)
		o.answered("a", 1)
		require.Equal(t, []string{"a answered"}, o.phone.got())
		o.crash()
		o.answered("a", 2)
		require.Equal(t, []string{"a answered"}, o.phone.got())
		o.asks("b", 1)
		o.stop()
		o.answered("b", 1)
		o.report(models.StatusReport{AgentID: "b", SessionTopic: "t", Status: models.Running, Message: "goes on", Event: &models.Event{Name: "x", AppliesIn: models.Anywhere}})
		o.start()
		require.Equal(t, []string{"b answered"}, o.phone.got(), "while the server was down")
		o.asks("b", 2)
		o.report(models.StatusReport{AgentID: "b", SessionTopic: "t", Status: models.Success, Event: &models.Event{
			Name: "Stop", AppliesIn: models.Anywhere, Closes: models.ClosesAll, Outcome: models.Withdrawn,
		}})
		for i := range 20 {
			for _, agent := range []string{"a", "b"} {
				o.is(agent, []models.Status{models.Pending, models.Running}[i%2])
			}
			o.wait(time.Second)
		}
		require.Empty(t, o.phone.got(), "nobody answered that, and nothing is withdrawn")
		require.Len(t, o.box.copy(), 1, "only the rule")
	})
}

// TestAnsweredLongAgo tells of an answer that was held back, or could not be sent, although much has happened since.
func TestAnsweredLongAgo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := open(t, rule(0, notify.Answered))
		goesOn := func() {
			for i := range 30 {
				o.is("a", []models.Status{models.Pending, models.Running}[i%2])
			}
		}
		m, err := o.n.Mute(notify.Mute{Until: time.Now().Add(time.Hour)})
		require.NoError(t, err)
		o.asks("a", 1)
		o.answered("a", 1)
		goesOn()
		_, err = o.n.Unmute(m.ID)
		require.NoError(t, err)
		o.settle()
		require.Equal(t, []string{"a answered"}, o.phone.got())
		o.phone.failWith(func(*notify.Message) error { return errors.New("away") })
		o.asks("a", 2)
		o.answered("a", 2)
		goesOn()
		o.crash()
		goesOn()
		o.phone.failWith(nil)
		o.wait(time.Minute)
		require.Equal(t, []string{"a answered"}, o.phone.got())
		goesOn()
		require.Empty(t, o.phone.got())
		require.Len(t, o.box.copy(), 1, "only the rule")
	})
}

// TestOutcomes says how each change ended.
func TestOutcomes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := open(t, rule(0, notify.Waits, notify.Lost, notify.Failed))
		closes := func(outcome models.QuestionOutcome) {
			o.report(models.StatusReport{AgentID: "a", SessionTopic: "t", Status: models.Running, Event: &models.Event{
				Name: "x", AppliesIn: models.Anywhere, Closes: models.ClosesAll, Outcome: outcome,
			}})
		}
		acknowledge := func(a models.Acknowledgement) {
			a.At = time.Now()
			o.report(models.StatusReport{AgentID: "a", SessionTopic: "t", Event: &models.Event{Acknowledge: &a}})
		}
		for _, end := range []struct {
			want  string
			begin func()
			end   func()
		}{
			{"answered", func() { o.asks("a", 1) }, func() { closes(models.Answered) }},
			{"denied", func() { o.asks("a", 2) }, func() { closes(models.Denied) }},
			{"withdrawn", func() { o.asks("a", 3) }, func() { closes(models.Withdrawn) }},
			{"acknowledged anna", func() { o.asks("a", 4) }, func() { acknowledge(models.Acknowledgement{By: "anna"}) }},
			{"snoozed anna", func() { o.asks("a", 5) }, func() { acknowledge(models.Acknowledgement{By: "anna", Until: time.Now().Add(time.Hour)}) }},
			{"continued", func() { o.is("a", models.Failed) }, func() { o.is("a", models.Running) }},
			{"continued", func() { o.wait(2 * time.Hour) }, func() { o.is("a", models.Running) }},
			{"expired", func() { o.is("a", models.Pending) }, func() { o.wait(2 * time.Hour) }},
			{"removed", func() {}, func() { o.store.RemoveAgent("a", time.Now()) }},
		} {
			end.begin()
			o.settle()
			o.phone.outcomes = nil
			end.end()
			o.settle()
			require.Contains(t, o.phone.outcomes, end.want)
		}
	})
}

// chatty is a phone that can't take messages back.
type chatty struct{ phone }

func (*chatty) FollowsUp() bool { return true }

// TestFollowUps sends a further message only if the rule wants it.
func TestFollowUps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := open(t, rule(0, notify.Waits))
		mail := &chatty{}
		o.config.Destinations["phone"].Sender = mail
		o.asks("a", 1)
		o.answered("a", 1)
		require.Equal(t, []string{"a waits"}, mail.got())
		r := rule(0, notify.Waits)
		r.FollowUp = true
		o.config = &notify.Config{Rules: []notify.Rule{r}, Destinations: o.config.Destinations}
		o.n.SetConfig(o.config)
		o.settle()
		o.asks("a", 2)
		o.answered("a", 2)
		require.Equal(t, []string{"a waits", "withdraw a waits"}, mail.got())
		require.Len(t, o.box.copy(), 1)
	})
}

// TestView shows what there is, to each who asks only what concerns their agents.
func TestView(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := open(t, rule(time.Minute, notify.Waits))
		started := time.Now()
		o.asks("a", 1)
		o.wait(time.Second)
		o.asks("b", 1)
		v := o.n.View(1, nil)
		require.Equal(t, "rule", v.Rules[0].Name)
		require.Equal(t, 2, v.Planned)
		require.Equal(t, []notify.PendingView{{
			Session: store.SessionKey{AgentID: "a", Topic: "t"}, Change: notify.Waits, Destination: "phone", Rule: "rule", Due: started.Add(time.Minute).UTC(),
		}}, v.Pending)
		v = o.n.View(10, func(agentID string) bool { return agentID == "b" })
		require.Equal(t, 1, v.Planned)
		require.Equal(t, "b", v.Pending[0].Session.AgentID)

		o.phone.failWith(func(*notify.Message) error { return errors.New("away") })
		o.wait(61 * time.Second)
		v = o.n.View(10, func(agentID string) bool { return agentID == "b" })
		require.Equal(t, 1, v.ToSend)
		require.NotZero(t, v.Oldest)
		require.NotZero(t, v.Pending[0].Attempts)
		require.True(t, v.Destinations[0].Failing)
		require.Equal(t, "away", v.Destinations[0].Failure)
		require.Equal(t, 2, v.Destinations[0].ToSend)
		o.phone.failWith(nil)
		o.wait(10 * time.Minute)
		o.answered("b", 1)
		v = o.n.View(10, func(agentID string) bool { return agentID == "b" })
		require.Len(t, v.Recent, 2)
		require.Equal(t, notify.ResultWithdrawn, v.Recent[0].Result)
		require.Equal(t, notify.ResultSent, v.Recent[1].Result)
		require.False(t, v.Destinations[0].Failing)
		require.NotZero(t, v.Destinations[0].Worked)
		require.Len(t, o.n.View(10, nil).Recent, 3)

		require.NoError(t, o.n.Test(context.Background(), "phone"))
		require.ErrorIs(t, o.n.Test(context.Background(), "x"), notify.ErrUnknownDestination)
		o.phone.failWith(func(*notify.Message) error { return errors.New("wrong") })
		require.EqualError(t, o.n.Test(context.Background(), "phone"), "wrong")
		require.Equal(t, "wrong", o.n.View(0, nil).Destinations[0].Failure)
	})
}

// TestViewOfMany shows those that are next among many.
func TestViewOfMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := open(t, rule(0, notify.Waits))
		o.phone.failWith(func(*notify.Message) error { return &notify.RetryError{Err: errors.New("busy"), After: time.Hour} })
		for i := range 300 {
			o.asks(fmt.Sprintf("%c%d", 'a'+i%2, i), 1)
		}
		all := o.n.View(1000, nil).Pending
		require.Len(t, all, 300)
		require.True(t, slices.IsSortedFunc(all, func(a, b notify.PendingView) int { return a.Due.Compare(b.Due) }))
		for _, limit := range []int{0, 1, 7, 149, 150, 299} {
			v := o.n.View(limit, nil)
			require.Equal(t, 300, v.ToSend)
			require.ElementsMatch(t, all[:limit], v.Pending)
		}
		v := o.n.View(2, func(agentID string) bool { return agentID[0] == 'b' })
		require.Equal(t, 150, v.ToSend)
		require.Equal(t, "b1", v.Pending[0].Session.AgentID)
		require.Equal(t, "b3", v.Pending[1].Session.AgentID)
	})
}
