package notify_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/notify"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// TestAReminderInASummary withdraws the messages whose reminders became part of a summary.
func TestAReminderInASummary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rule(0, notify.Waits)
		r.Every = time.Minute
		o := open(t, r)
		o.config.Destinations["phone"].Limit = notify.Limit{Messages: 2, Per: 90 * time.Second}
		o.asks("a", 1)
		o.asks("b", 1)
		o.wait(91 * time.Second)
		require.Equal(t, []string{"a waits", "b waits", "summary: 2 waits"}, o.phone.got())
		o.crash()
		o.answered("a", 1)
		o.answered("b", 1)
		require.Equal(t, []string{"withdraw a waits", "withdraw b waits"}, o.phone.got())
		require.Len(t, o.box.entries, 1)
	})
}

// TestAWithdrawalThatFails withdraws a message that was sent more than a day ago, while the destination is away.
func TestAWithdrawalThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := open(t, rule(0, notify.Failed))
		for _, restart := range []func(){func() {}, o.crash} {
			o.is("a", models.Failed)
			require.Equal(t, []string{"a failed"}, o.phone.got())
			for range 30 {
				o.wait(50 * time.Minute)
				o.is("b", models.Running) // the server is in use
				o.is("a", models.Failed)
			}
			o.phone.failWith(func(*notify.Message) error { return errors.New("away") })
			o.is("a", models.Running)
			restart()
			o.wait(20 * time.Hour)
			o.phone.failWith(nil)
			o.wait(2 * time.Hour)
			require.Equal(t, []string{"withdraw a failed"}, o.phone.got())
		}
	})
}

// TestAMessageThatMayHaveArrived withdraws a message that was given up, because it may have arrived.
func TestAMessageThatMayHaveArrived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := open(t, rule(0, notify.Waits))
		o.phone.failWith(func(*notify.Message) error { return errors.New("no answer") })
		o.asks("a", 1)
		o.wait(time.Minute)
		o.phone.failWith(func(*notify.Message) error { return fmt.Errorf("gone: %w", notify.ErrRefused) })
		o.asks("b", 1)
		o.wait(10 * time.Minute)
		o.phone.failWith(nil)
		o.answered("a", 1)
		o.answered("b", 1)
		require.Equal(t, []string{"withdraw a waits"}, o.phone.got(), "b can't have arrived")
		require.Len(t, o.box.entries, 1)
	})
}

// TestAMessageThatDoesNotReachEverybody checks that a message counts as sent if some recipients of its destination got
// it, and that it is taken back.
func TestAMessageThatDoesNotReachEverybody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rule(0, notify.Waits)
		r.Every = time.Hour
		o := open(t, r)
		o.phone.failAfterwards(fmt.Errorf("%w: ann is away", notify.ErrIncomplete))
		o.asks("a", 1)
		o.wait(59 * time.Minute)
		require.Equal(t, []string{"a waits"}, o.phone.got())
		require.Len(t, o.phone.attempts(), 1)
		o.wait(2 * time.Minute)
		require.Equal(t, []string{"again a waits"}, o.phone.got())
		o.phone.failAfterwards(fmt.Errorf("%w: ann is away", notify.ErrIncomplete))
		o.answered("a", 1)
		o.wait(24 * time.Hour)
		require.Equal(t, []string{"withdraw a waits", "withdraw a waits"}, o.phone.got(), "the reminder and the first message")
	})
}

// TestADestinationThatReturns removes a destination that fails from the rules, and adds it again.
func TestADestinationThatReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rule(0, notify.Waits)
		r.Every = time.Minute
		o := open(t, r)
		o.asks("a", 1)
		require.Equal(t, []string{"a waits"}, o.phone.got())
		o.phone.failWith(func(*notify.Message) error { return errors.New("away") })
		o.asks("b", 1)
		o.answered("a", 1)
		o.n.SetConfig(&notify.Config{Destinations: map[string]*notify.Destination{"other": {Name: "other", Sender: &phone{}}}})
		o.settle()
		require.Empty(t, o.box.entries, "nothing is left to do")

		o.phone.failWith(nil)
		o.n.SetConfig(o.config)
		o.crash()
		o.wait(10 * time.Minute)
		require.Empty(t, o.phone.got())
	})
}

// TestADestinationThatGoesWhileItIsSentTo removes a destination while a message is being sent to it, which arrives.
func TestADestinationThatGoesWhileItIsSentTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := open(t, rule(0, notify.Waits))
		slow := &deaf{phone{slow: time.Minute}}
		o.config.Destinations["phone"].Sender = slow
		o.asks("a", 1)
		o.n.SetConfig(&notify.Config{Rules: []notify.Rule{}, Destinations: map[string]*notify.Destination{}})
		o.wait(2 * time.Minute)
		require.Equal(t, []string{"a waits"}, slow.got())
		require.Empty(t, o.box.entries)
	})
}

// deaf is a phone that sends on although it was told to stop.
type deaf struct{ phone }

func (d *deaf) Send(_ context.Context, m *notify.Message) (string, error) {
	return d.phone.Send(context.Background(), m)
}

// TestADestinationThatIsMendedWhileItIsSentTo replaces the address of a destination while a message is sent to the
// former one, which refuses it.
func TestADestinationThatIsMendedWhileItIsSentTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := open(t, rule(0, notify.Waits))
		wrong := &phone{slow: time.Second}
		wrong.failWith(func(*notify.Message) error { return fmt.Errorf("no such topic: %w", notify.ErrRefused) })
		right := o.config.Destinations["phone"]
		o.config.Destinations = map[string]*notify.Destination{"phone": {Name: "phone", Sender: wrong}}
		o.n.SetConfig(o.config)
		o.settle()
		o.asks("a", 1)
		o.config = &notify.Config{Rules: o.config.Rules, Destinations: map[string]*notify.Destination{"phone": right}}
		o.n.SetConfig(o.config)
		o.wait(2 * time.Second)
		require.Len(t, wrong.attempts(), 1)
		require.Equal(t, []string{"a waits"}, o.phone.got())
	})
}

// TestAPauseThatADestinationAskedFor goes on while devices come and go, and ends when the destination is changed.
func TestAPauseThatADestinationAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := open(t, rule(0, notify.Waits))
		busy := func(*notify.Message) error { return &notify.RetryError{Err: errors.New("busy"), After: time.Hour} }
		tablet := &phone{}
		d := device(tablet)
		o.n.AddDevice(d)
		o.settle()
		o.phone.failWith(busy)
		tablet.failWith(busy)
		o.asks("a", 1)
		for i := range 10 {
			other := device(&phone{})
			other.ID = fmt.Sprint("other ", i)
			o.n.AddDevice(other)
			o.n.AddDevice(d) // as after a change of the tokens
			o.wait(time.Second)
			o.n.RemoveDevice(other.ID)
			o.wait(time.Second)
		}
		require.Len(t, o.phone.attempts(), 1)
		require.Len(t, tablet.attempts(), 1)
		o.config = &notify.Config{Rules: o.config.Rules, Destinations: map[string]*notify.Destination{"phone": {Name: "phone", Sender: o.phone}}}
		o.n.SetConfig(o.config)
		o.n.AddDevice(device(tablet))
		o.settle()
		require.Len(t, o.phone.attempts(), 2)
		require.Len(t, tablet.attempts(), 2)
	})
}

// TestRemindersThatEnd takes the reminders out of a rule whose message was sent.
func TestRemindersThatEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rule(0, notify.Waits)
		r.Every = time.Minute
		o := open(t, r)
		o.asks("a", 1)
		require.Equal(t, []string{"a waits"}, o.phone.got())
		o.config = &notify.Config{Rules: []notify.Rule{rule(0, notify.Waits)}, Destinations: o.config.Destinations}
		o.n.SetConfig(o.config)
		o.wait(10 * time.Minute)
		require.Empty(t, o.phone.got())
	})
}

// TestASummaryIsRecordedBeforeItIsSent has a disk that is slow.
func TestASummaryIsRecordedBeforeItIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := open(t, rule(0, notify.Waits))
		o.config.Destinations["phone"].Limit = notify.Limit{Messages: 1, Per: time.Minute}
		o.wait(time.Second)
		o.box.behave(false, 100*time.Millisecond)
		recorded := 0
		o.phone.failWith(func(m *notify.Message) error {
			for key := range o.box.copy() {
				if strings.Contains(key, m.ID) {
					recorded++
				}
			}
			return nil
		})
		for i := range 3 {
			o.asks(fmt.Sprint(i), 1)
		}
		o.wait(2 * time.Minute)
		require.Equal(t, []string{"0 waits", "summary: 2 waits"}, o.phone.got())
		require.Equal(t, 2, recorded)
	})
}

// TestADiskThatIsFull sends while nothing can be recorded, and records it afterwards.
func TestADiskThatIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rule(0, notify.Waits)
		r.Every = time.Minute
		o := open(t, r)
		o.box.behave(true, 0)
		o.asks("a", 1)
		o.asks("b", 1)
		require.Equal(t, []string{"a waits", "b waits"}, o.phone.got())
		o.wait(20 * time.Hour)
		require.Len(t, o.phone.got(), 2*20*60-2)
		require.Less(t, o.n.Unsaved(), 2000, "what is to be recorded doesn't grow with time")
		o.answered("b", 1)
		require.Equal(t, slices.Repeat([]string{"withdraw b waits"}, 21), o.phone.got(), "the first message and the newest reminders")
		o.box.behave(false, 0)
		o.wait(15 * time.Second)
		require.Len(t, o.box.entries, 2)
		o.crash()
		o.wait(2 * time.Minute)
		require.Subset(t, []string{"again a waits"}, o.phone.got(), "nothing but reminders")
		o.answered("a", 1)
		require.Equal(t, slices.Repeat([]string{"withdraw a waits"}, 21), o.phone.got())
	})
}

// TestAMessageThatWaitedForLong is tried for some minutes even if it became due more than a day ago: it was held back, or
// the server did not run.
func TestAMessageThatWaitedForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := open(t, rule(0, notify.Failed))
		away := func(*notify.Message) error { return errors.New("away") }
		for _, waits := range []func(){
			func() {
				_, err := o.n.Mute(notify.Mute{Until: time.Now().Add(25 * time.Hour)})
				require.NoError(t, err)
				for range 25 * 2 {
					o.wait(30 * time.Minute)
					o.is("a", models.Failed)
				}
			},
			func() {
				o.stop()
				for range 25 * 2 {
					o.wait(30 * time.Minute)
					o.is("a", models.Failed)
				}
				o.start()
			},
		} {
			o.phone.failWith(away)
			o.is("a", models.Failed)
			waits()
			o.wait(30 * time.Second)
			require.Empty(t, o.phone.got())
			o.phone.failWith(nil)
			o.wait(3 * time.Minute)
			require.Equal(t, []string{"a failed"}, o.phone.got())
			o.is("a", models.Running)
			require.Equal(t, []string{"withdraw a failed"}, o.phone.got())
		}
	})
}

// TestALongFailure reports a status so often that the store drops the entry with which it began.
func TestALongFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := open(t, rule(0, notify.Waits, notify.Failed))
		for _, again := range []func(){func() { o.n.SetConfig(o.config) }, o.crash} {
			for agent, status := range map[string]models.Status{"a": models.Failed, "b": models.Pending} {
				o.is(agent, models.Running)
				o.is(agent, status)
			}
			require.Len(t, o.phone.got(), 2)
			for range 15 {
				o.wait(time.Minute)
				o.is("a", models.Failed)
				o.is("b", models.Pending)
			}
			again()
			o.wait(time.Minute)
			require.Empty(t, o.phone.got(), "it is the same failure")
			o.is("a", models.Running)
			o.is("a", models.Failed)
			require.Equal(t, []string{"withdraw a failed", "a failed"}, o.phone.got(), "this is another one")
			o.is("a", models.Running)
			o.is("b", models.Running)
			require.Len(t, o.phone.got(), 2)
		}
	})
}

// TestALossAndTheClock sets the clock back after a session was lost.
func TestALossAndTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := open(t, rule(0, notify.Lost))
		o.is("a", models.Running)
		o.wait(2 * time.Hour)
		require.Equal(t, []string{"a lost"}, o.phone.got())
		o.store.ClockSetBack(time.Minute)
		o.n.SetConfig(o.config)
		o.crash()
		require.Empty(t, o.phone.got())
	})
}

// TestAQueueThatIsOver drops what is over before its destination, which is slow, has come to it.
func TestAQueueThatIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := open(t, rule(0, notify.Waits))
		slow := &phone{slow: 30 * time.Second}
		o.config.Destinations["phone"].Sender = slow
		for i := range 100 {
			o.asks(fmt.Sprint(i), 1)
		}
		require.Equal(t, 100, o.n.View(0, nil).ToSend)
		for i := range 99 {
			o.answered(fmt.Sprint(i), 1)
		}
		require.Equal(t, 2, o.n.View(0, nil).ToSend, "the one that is being sent, and the one that is open")
		o.wait(2 * time.Minute)
		require.Equal(t, []string{"0 waits", "99 waits", "withdraw 0 waits"}, slow.got())
		require.Len(t, o.box.copy(), 2)
	})
}

// TestALogOfRefusals has a destination that refuses everything.
func TestALogOfRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := open(t, rule(0, notify.Failed))
		o.stop()
		var log strings.Builder
		o.logger = slog.New(slog.NewTextHandler(&log, nil))
		o.start()
		o.phone.failWith(func(*notify.Message) error { return fmt.Errorf("no such topic: %w", notify.ErrRefused) })
		for i := range 100 {
			o.is(fmt.Sprint(i), models.Failed)
		}
		o.wait(2 * time.Minute)
		o.is("a", models.Failed)
		o.stop()
		require.Equal(t, 2, strings.Count(log.String(), "a notification was given up"))
		require.Contains(t, log.String(), "others_not_logged=99")
	})
}

// TestAFleetThatIsLost loses 100,000 sessions at once: a few messages, and one summary, through a restart.
func TestAFleetThatIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sessions := 100_000
		if underRace {
			sessions /= 10
		}
		o := open(t, rule(0, notify.Lost))
		o.store = store.New(store.Options{DefaultTTL: time.Hour, SessionRetention: 24 * time.Hour, HistoryLimit: 1, HistoryMaxBytes: 1 << 30, MaxSessions: sessions, EventWindow: 100})
		o.config.Destinations["phone"].Limit = notify.Limit{Messages: 10, Per: time.Minute}
		o.stop()
		o.start()
		reports := make([]models.StatusReport, sessions)
		for i := range reports {
			reports[i] = models.StatusReport{AgentID: fmt.Sprint(i), SessionTopic: "t", Status: models.Running}
		}
		o.store.Accept(nil, reports, time.Now(), nil)
		time.Sleep(2 * time.Hour) // simulated; none of it is noticed meanwhile
		o.store.Expire(time.Now())
		o.settle()
		got := o.phone.got()
		require.Len(t, got, 10)
		o.stop()
		o.start()
		o.wait(2 * time.Minute)
		got = append(got, o.phone.got()...)
		total, summaries := 0, 0
		for _, line := range got {
			var count int
			if n, _ := fmt.Sscanf(line, "summary: %d lost", &count); n == 1 {
				total += count
				summaries++
			} else {
				total++
			}
		}
		require.Equal(t, sessions, total, "%v", got)
		require.Equal(t, 1, summaries)
		require.Less(t, len(got), 25)
	})
}
