package handlers

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// TestLinesOfOneStatusHideNoOther has very many requests fail with one status: of another one there is a line nevertheless, and the next
// line says of how many there was none.
func TestLinesOfOneStatusHideNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := lines{rate: 1, burst: 2}
		next := func(status int) int64 {
			left, ok := l.next(status)
			if !ok {
				return -1
			}
			return left
		}
		require.Zero(t, next(429))
		require.Zero(t, next(429))
		for range 1000 {
			require.EqualValues(t, -1, next(429))
		}
		require.Zero(t, next(503), "of another status")
		time.Sleep(time.Second)
		require.EqualValues(t, 1000, next(429))
		require.EqualValues(t, -1, next(429))
		time.Sleep(time.Minute)
		require.EqualValues(t, 1, next(429))
		require.Zero(t, next(429), "the burst, and no more of it after a longer time")
		require.EqualValues(t, -1, next(429))
	})
}
