package bench

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// rulesFile writes a file of notification rules.
func rulesFile(b *testing.B, text string) string {
	path := filepath.Join(b.TempDir(), "rules.yaml")
	require.NoError(b, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// BenchmarkNotificationRules measures one report per request with 100 rules that select no session, compared with no
// rules. A tenth of the reports say that a session waits or has finished, which the rules are about. Half of the rules
// are about agents that don't exist, the others about titles that no session of any agent has.
func BenchmarkNotificationRules(b *testing.B) {
	var rules strings.Builder
	rules.WriteString("destinations: {a: {command: {program: /bin/true}}}\nrules:\n")
	for i := range 100 {
		which := fmt.Sprintf("agents: [\"team-%d/*\", \"*:nobody-%d\"]", i, i)
		if i%2 == 1 {
			which = fmt.Sprintf("title: nowhere-%d", i)
		}
		fmt.Fprintf(&rules, "  - {name: rule-%d, on: [waits, lost, failed, finished], %s, to: [a]}\n", i, which)
	}
	with, without := startServer(b, "NOTIFY_FILE="+rulesFile(b, rules.String())), startServer(b)
	requests := workload(1, nil)
	fill(b, with, working, 1)
	fill(b, without, working, 1)
	ratio, reports := pairs(b, func() float64 { return rate(b, with, requests) }, func() float64 { return rate(b, without, requests) })
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ratio, "x_without")
	b.ReportMetric(reports, "reports/s")
}

// BenchmarkNotificationLatency measures the time from the answer to a report to the request at a webhook, with 100
// sessions a second that start to wait, in memory and with a journal. The webhook runs on the same machine.
func BenchmarkNotificationLatency(b *testing.B) {
	const perSecond = 100
	for _, kind := range []string{"memory", "durable"} {
		b.Run(kind, func(b *testing.B) {
			var mu sync.Mutex
			arrived := map[string]time.Time{}
			hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				now := time.Now()
				var m struct{ Session struct{ Agent_ID string } }
				if json.NewDecoder(r.Body).Decode(&m) == nil {
					mu.Lock()
					defer mu.Unlock()
					arrived[m.Session.Agent_ID] = now
				}
			}))
			defer hook.Close()
			settings := []string{"NOTIFY_FILE=" + rulesFile(b, fmt.Sprintf(
				"destinations: {hook: {at_most: unlimited, webhook: {url: %q}}}\nrules: [{name: all, on: [waits], after: 0s, to: [hook]}]\n", hook.URL))}
			if kind == "durable" {
				settings = append(settings, "DATA_DIR="+filepath.Join(b.TempDir(), "data"))
			}
			server := startServer(b, settings...)
			var p50s, p99s []float64
			round := 0
			for b.Loop() {
				round++
				answered := map[string]time.Time{}
				ticker := time.NewTicker(time.Second / perSecond)
				for i := range int(span().Seconds() * 4 * perSecond) {
					<-ticker.C
					agent := fmt.Sprint("agent ", round, " ", i)
					body := fmt.Sprintf(`{"agent_id":%q,"session_topic":"t","status":"pending","message":"May I?"}`, agent)
					resp, err := http.Post("http://"+server.address+"/webhook/status", "application/json", strings.NewReader(body))
					require.NoError(b, err)
					resp.Body.Close() //nolint:errcheck // only its status matters
					require.Equal(b, http.StatusOK, resp.StatusCode)
					answered[agent] = time.Now()
				}
				ticker.Stop()
				var took []time.Duration
				for agent, at := range answered {
					require.Eventually(b, func() bool {
						mu.Lock()
						defer mu.Unlock()
						return !arrived[agent].IsZero()
					}, 10*time.Second, time.Millisecond)
					mu.Lock()
					took = append(took, max(0, arrived[agent].Sub(at)))
					mu.Unlock()
				}
				slices.Sort(took)
				p50s = append(p50s, took[len(took)/2].Seconds()*1000)
				p99s = append(p99s, took[len(took)*99/100].Seconds()*1000)
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(median(p50s), "ms_p50")
			b.ReportMetric(median(p99s), "ms_p99")
		})
	}
}
