package handlers

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// TestEachStatusIsLoggedSeparately checks that very many failures with one status don't suppress log lines for another
// status, and that the next line says how many requests were not logged.
func TestEachStatusIsLoggedSeparately(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := logLimiter{rate: 1, burst: 2}
		next := func(status int) int64 {
			suppressed, ok := l.next(status)
			if !ok {
				return -1
			}
			return suppressed
		}
		require.Zero(t, next(429))
		require.Zero(t, next(429))
		for range 1000 {
			require.EqualValues(t, -1, next(429))
		}
		require.Zero(t, next(503), "another status")
		time.Sleep(time.Second)
		require.EqualValues(t, 1000, next(429))
		require.EqualValues(t, -1, next(429))
		time.Sleep(time.Minute)
		require.EqualValues(t, 1, next(429))
		require.Zero(t, next(429), "waiting longer allows no more than the burst")
		require.EqualValues(t, -1, next(429))
	})
}
