package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/access"
)

// guarded starts a server with limits and this many tokens, and returns requests with one report each, from the working
// sessions. All reports of an agent use the same token. With teams, each token covers only its own agents.
func guarded(b *testing.B, tokens int, teams bool) (process, [][][]byte) {
	var file strings.Builder
	header := make([]string, tokens)
	for i := range tokens {
		token, entry := access.NewToken(fmt.Sprintf("token %d", i))
		entry.Scopes = []string{"report"}
		for agent := i; teams && agent < working/10; agent += tokens {
			entry.Agents = append(entry.Agents, fmt.Sprintf("host-%05d:*", agent))
		}
		fmt.Fprintln(&file, entry)
		header[i] = "Authorization: Bearer " + token
	}
	path := filepath.Join(b.TempDir(), "tokens")
	require.NoError(b, os.WriteFile(path, []byte(file.String()), 0o600))
	server := startServer(b, "TOKENS_FILE="+path, "RATE_LIMIT_REPORTS=10000000", "RATE_LIMIT_READS=10000000")
	return server, workload(1, func(session int) string { return header[session/10%tokens] })
}

// BenchmarkGuarded measures one report per request with tokens and limits: one token compared with none, and 1,000
// compared with one.
func BenchmarkGuarded(b *testing.B) {
	report := func(b *testing.B, ratio, reports float64, unit string) {
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(ratio, unit)
		b.ReportMetric(reports, "reports/s")
	}
	b.Run("one-token", func(b *testing.B) {
		open, openRequests := startServer(b, "MAX_IN_FLIGHT=0"), workload(1, nil)
		closed, closedRequests := guarded(b, 1, false)
		ratio, reports := pairs(b, func() float64 { return rate(b, closed, closedRequests) }, func() float64 { return rate(b, open, openRequests) })
		report(b, ratio, reports, "x_open")
	})
	for name, teams := range map[string]bool{"1000-tokens": false, "1000-tokens-of-teams": true} {
		b.Run(name, func(b *testing.B) {
			one, oneRequests := guarded(b, 1, false)
			many, manyRequests := guarded(b, 1000, teams)
			ratio, reports := pairs(b, func() float64 { return rate(b, many, manyRequests) }, func() float64 { return rate(b, one, oneRequests) })
			report(b, ratio, reports, "x_one_token")
		})
	}
}
