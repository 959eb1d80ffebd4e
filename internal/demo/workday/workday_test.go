package workday_test

import (
	"bytes"
	"encoding/json"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/adapters"
	"github.com/kubeagents/kubeagents/internal/demo/workday"
	"github.com/kubeagents/kubeagents/internal/metrics"
	"github.com/kubeagents/kubeagents/internal/recorder"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

var opens = time.Date(2026, 11, 29, 9, 0, 0, 0, time.UTC)

// TestTheFleetIsAlwaysBelievable looks at a server every minute of a day, for several seeds. Recording fails for an
// event that a server would reject.
func TestTheFleetIsAlwaysBelievable(t *testing.T) {
	for seed := range uint64(2) {
		st := store.New(store.Options{DefaultTTL: 30 * time.Minute, SessionRetention: 6 * time.Hour, HistoryLimit: 100,
			HistoryMaxBytes: 64 << 20, MaxSessions: 10_000, EventWindow: 100})
		rec := recorder.New(st, nil, metrics.New(st, "test"))
		day := workday.New(seed, opens)
		seen, running := map[models.QuestionKind]int{}, 0
		for now := opens; now.Sub(opens) < 24*time.Hour; now = now.Add(time.Minute) {
			require.NoError(t, day.Record(rec, now))
			since := now.Sub(opens)
			fleet := st.Summary()
			require.Equal(t, 13, fleet.Agents)
			require.GreaterOrEqual(t, fleet.Sessions.ByStatus.Running, 1, since)
			running += fleet.Sessions.ByStatus.Running
			require.GreaterOrEqual(t, fleet.Sessions.ByStatus.Success, 20, since)
			require.Less(t, fleet.Sessions.Total, 1000, since)
			needs, err := st.Needs(t.Context(), nil, 10)
			require.NoError(t, err)
			requireBetween(t, 2, 4, len(needs.Pending), since)
			requireBetween(t, 1, 2, len(needs.Lost), since)
			requireBetween(t, 1, 2, len(needs.Failed), since)
			kinds := map[models.QuestionKind]bool{}
			for _, se := range needs.Pending {
				if se.Question != nil {
					kinds[se.Question.Kind] = true
					seen[se.Question.Kind]++
				}
			}
			require.GreaterOrEqual(t, len(kinds), 2, since)
			if since == 0 {
				require.Len(t, kinds, 3)
				require.Len(t, needs.Lost, 1)
				require.Len(t, needs.Failed, 1)
			}
		}
		requireBetween(t, 3*24*60, 8*24*60, running, 0) // 3 to 8 on average
		for _, kind := range []models.QuestionKind{models.Permission, models.Choice, models.Plan} {
			require.Greater(t, seen[kind], 24*60/2, "a question of each kind is open most of the time")
		}
	}
}

func requireBetween(t *testing.T, least, most, n int, since time.Duration) {
	t.Helper()
	require.GreaterOrEqual(t, n, least, since)
	require.LessOrEqual(t, n, most, since)
}

// TestEventsAreThoseOfTheTools checks that each tool's adapter knows the tool's events, and that they follow one another
// in the order of time.
func TestEventsAreThoseOfTheTools(t *testing.T) {
	day := workday.New(1, opens)
	var last time.Time
	tools := map[string]int{}
	for range 20_000 {
		e := day.Next()
		require.False(t, e.At.Before(last))
		last = e.At
		name, ok := strings.CutPrefix(e.Path, "/webhook/")
		require.True(t, ok)
		tools[name]++
		client := adapters.Named(name)
		if client == nil {
			require.Equal(t, "status", name)
			require.Empty(t, e.Host)
			continue
		}
		require.NotEmpty(t, e.Host)
		_, effect, err := client.Report(bytes.NewReader(e.Body), adapters.Options{AgentHost: e.Host, Now: e.At})
		require.NoError(t, err)
		require.Contains(t, []adapters.Effect{adapters.Reports, adapters.Renews}, effect, "%s", e.Body)
	}
	for _, name := range []string{"claude-code", "codex", "gemini-cli", "cursor", "opencode", "status"} {
		require.Greater(t, tools[name], 200, name)
	}
	require.Greater(t, last.Sub(opens), 10*time.Hour, "a pace that one can follow")
}

// TestTheSameSeedIsTheSameDay compares two days of the same seed, and two of different ones.
func TestTheSameSeedIsTheSameDay(t *testing.T) {
	first, again, other := workday.New(1, opens), workday.New(1, opens), workday.New(2, opens)
	different := 0
	for range 5000 {
		e := first.Next()
		require.Equal(t, e, again.Next())
		if o := other.Next(); !bytes.Equal(e.Body, o.Body) {
			different++
		}
	}
	require.Greater(t, different, 1000)
}

// TestADayTakesNoMoreMemoryTheLongerItLasts measures the heap after an hour and after three days.
func TestADayTakesNoMoreMemoryTheLongerItLasts(t *testing.T) {
	day := workday.New(1, opens)
	heap := func(until time.Time) int64 {
		for day.Next().At.Before(until) {
		}
		runtime.GC()
		runtime.GC() // frees what pools dropped in the first
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return int64(stats.HeapAlloc)
	}
	hour := heap(opens.Add(time.Hour))
	days := heap(opens.Add(3 * 24 * time.Hour))
	runtime.KeepAlive(day)
	require.Less(t, days-hour, int64(1<<20))
}

// TestTitlesAreOfSeveralScripts checks that titles of other scripts than Latin are among those that people see, but few.
func TestTitlesAreOfSeveralScripts(t *testing.T) {
	day := workday.New(1, opens)
	prompts, other := 0, 0
	for range 5000 {
		var body struct{ Prompt string }
		require.NoError(t, json.Unmarshal(day.Next().Body, &body))
		if body.Prompt == "" {
			continue
		}
		prompts++
		if strings.ContainsFunc(body.Prompt, func(r rune) bool { return r > 0x5FF }) {
			other++
		}
	}
	require.Positive(t, other)
	require.Less(t, other, prompts/10)
}
