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
	st := newStore(func(o *store.Options) { o.EventWindow = 100 })
	for i, topic := range []string{"renewed", "second", "first", "renewed"} {
		r := running("a", topic)
		r.TTLMinutes = map[string]int{"renewed": 20, "second": 19, "first": 17}[topic]
		accept(st, epoch.Add(time.Duration(i)*time.Minute), r)
	}
	before := st.EventPosition()
	st.Expire(epoch.Add(time.Hour))
	var expired []string
	for _, c := range changesOf(t, st, before) {
		require.Equal(t, store.Expired, c.Kind)
		expired = append(expired, c.Session.Topic)
	}
	require.Equal(t, []string{"first", "second", "renewed"}, expired)
}
