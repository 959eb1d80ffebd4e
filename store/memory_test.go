package store_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// heapBytes returns the number of bytes in use on the heap.
func heapBytes() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestMemoryIsWhatIsCounted compares the memory that a store takes with what it counts, for sessions of different
// shapes.
func TestMemoryIsWhatIsCounted(t *testing.T) {
	long := func(n, i int) string { return fmt.Sprintf("%0*d", n, i) }
	for name, shape := range map[string]struct {
		sessions, statuses int
		report             func(i int) models.StatusReport
	}{
		"ten sessions per agent": {20_000, 1, func(i int) models.StatusReport { return running(fmt.Sprint("agent ", i/10), fmt.Sprint("task ", i)) }},
		"one session per agent":  {20_000, 1, func(i int) models.StatusReport { return running(fmt.Sprint("agent ", i), "task") }},
		"one tool per session": {5000, 1, func(i int) models.StatusReport {
			r := running(fmt.Sprint("agent ", i), "task")
			r.AgentSource = fmt.Sprint("tool ", i)
			return r
		}},
		"long names": {3000, 1, func(i int) models.StatusReport {
			r := running(long(100, i), long(500, i))
			r.AgentName, r.AgentHost, r.SessionTitle = long(200, i), long(200, i), strings.Repeat("題", 180)+fmt.Sprint(i)
			return r
		}},
		"many statuses": {500, 50, func(i int) models.StatusReport {
			r := running(fmt.Sprint("agent ", i), "task")
			r.Message, r.ReportID = long(60, i), ""
			return r
		}},
		"long contents": {500, 3, func(i int) models.StatusReport {
			r := running(fmt.Sprint("agent ", i), "task")
			r.Content = strings.Repeat("x", 9_999)
			return r
		}},
	} {
		t.Run(name, func(t *testing.T) {
			before := heapBytes()
			st := newStore(func(o *store.Options) { o.MaxSessions, o.EventWindow = 1<<20, 1 })
			for n := range shape.statuses {
				for i := range shape.sessions {
					accept(st, epoch.Add(time.Duration(n)*time.Second), shape.report(i))
				}
			}
			took, counted := heapBytes()-before, st.Stats().HistoryBytes
			t.Logf("%d bytes per session, %d counted: %.2f", took/int64(shape.sessions), counted/int64(shape.sessions), float64(took)/float64(counted))
			require.Less(t, float64(took), 1.1*float64(counted))
			require.Greater(t, float64(took), 0.6*float64(counted), "counting much more would waste memory")
			require.NoError(t, st.CheckUsage())
			runtime.KeepAlive(st)
		})
	}
}
