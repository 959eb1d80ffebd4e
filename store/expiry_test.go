package store_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/store"
)

// TestSessionsExpireInTheOrderOfTheirDeadlines lets three sessions expire at once. The first was renewed, so it is queued
// for an earlier instant than its deadline.
func TestSessionsExpireInTheOrderOfTheirDeadlines(t *testing.T) {
	for name, replicated := range map[string]bool{"a store alone": false, "a replicated store": true} {
		t.Run(name, func(t *testing.T) {
			st := newStore(func(o *store.Options) { o.EventWindow, o.Journaled, o.Replicated = 100, replicated, replicated })
			for i, topic := range []string{"renewed", "second", "first", "renewed"} {
				now := epoch.Add(time.Duration(i) * time.Minute)
				st.Begin(uint64(i)+1, now)
				r := running("a", topic)
				r.TTLMinutes = map[string]int{"renewed": 20, "second": 19, "first": 17}[topic]
				accept(st, now, r)
			}
			before := st.EventPosition()
			later := epoch.Add(time.Hour)
			st.Expire(later)
			st.Begin(5, later)
			var expired []string
			for _, c := range changesOf(t, st, before) {
				require.Equal(t, store.Expired, c.Kind)
				expired = append(expired, c.Session.Topic)
			}
			require.Equal(t, []string{"first", "second", "renewed"}, expired)
		})
	}
}
