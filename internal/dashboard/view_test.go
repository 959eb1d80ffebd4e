package dashboard

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestBriefDurations(t *testing.T) {
	for text, d := range map[string]time.Duration{
		"0s": -time.Second, "59s": 59999 * time.Millisecond, "1m": time.Minute, "59m": time.Hour - time.Second, "1h": time.Hour,
		"1h 1m": time.Hour + time.Minute, "23h": 23 * time.Hour, "23h 59m": 24*time.Hour - time.Second, "1d": 24*time.Hour + 59*time.Minute,
		"1d 1h": 25 * time.Hour, "2d": 48 * time.Hour, "10d 23h": 263 * time.Hour,
	} {
		require.Equal(t, text, brief(d), "%v", d)
	}
}
