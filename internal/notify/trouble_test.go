package notify_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/notify"
	"github.com/kubeagents/kubeagents/models"
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
