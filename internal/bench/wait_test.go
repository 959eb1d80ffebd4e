package bench

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/internal/load"
)

// twoTeams starts a server with a token for each of two teams, which cover the agents ours-* and theirs-*. Rates are
// not limited.
func twoTeams(b *testing.B) (server process, ours, theirs string) {
	var file strings.Builder
	tokenFor := func(name string) string {
		token, entry := access.NewToken(name)
		entry.Scopes, entry.Agents = []string{"report", "read", "admin"}, []string{name + "-*"}
		fmt.Fprintln(&file, entry)
		return token
	}
	ours, theirs = tokenFor("ours"), tokenFor("theirs")
	path := filepath.Join(b.TempDir(), "tokens")
	require.NoError(b, os.WriteFile(path, []byte(file.String()), 0o600))
	return startServer(b, "TOKENS_FILE="+path), ours, theirs
}

// The size of the other team's fleet.
const (
	theirAgents      = 1_000 // agents
	sessionsPerAgent = 100
	theirBatch       = 10_000 // reports in one request
)

// nearly almost matches searched, which has 250 letters, at every position: only the last letter differs.
var (
	nearly   = strings.Repeat("a", 400)
	searched = nearly[:249] + "b"
)

// theirReports returns, in one request, a report for each of the sessions of an agent. Each has this many letters of
// content, of four bytes each.
func theirReports(agent string, sessions, content int) []byte {
	var body bytes.Buffer
	for n := range sessions {
		fmt.Fprintf(&body, `{"agent_id":%q,"agent_source":"claude-code","session_topic":"%d %s","status":"running","message":"Running go test ./...","content":%q}`,
			agent, n, nearly, strings.Repeat("𝕔", content))
	}
	return body.Bytes()
}

// as sends a request with a token, and reads the response to its end.
func as(token string, server process, method, path string, body []byte) error {
	request, err := http.NewRequest(method, "http://"+server.address+path, bytes.NewReader(body)) //nolint:noctx // the server limits it
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json, text/event-stream")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close() //nolint:errcheck // it is read to the end
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return err
	}
	if response.StatusCode >= http.StatusMultiStatus {
		return fmt.Errorf("%s %s: %s", method, path, response.Status)
	}
	return nil
}

// BenchmarkOthersWait measures how much longer a team's reports wait while another team sends the most expensive
// requests of each kind, one after another. It reports the 99.9th percentile at 1,000 reports per second, and how much
// it increases because of the other team. Server, load and both teams share the machine, so the wait for a processor is
// included.
func BenchmarkOthersWait(b *testing.B) {
	const perSecond = 1000
	server, ours, theirs := twoTeams(b)
	send := func(method, path string, body []byte) func() error {
		return func() error { return as(theirs, server, method, path, body) }
	}
	fleet, large := theirAgents, 1000
	if testing.Short() {
		fleet, large = 20, 100
	}
	for n := range fleet {
		require.NoError(b, send("POST", "/webhook/status", theirReports(fmt.Sprintf("theirs-%d", n), sessionsPerAgent, 0))())
	}
	for range large / 100 {
		require.NoError(b, send("POST", "/webhook/status", theirReports("theirs-large", 100, 10_000))())
	}
	batch := theirReports("theirs-batch", theirBatch, 0)
	reports := make([][][]byte, connections)
	for c := range reports {
		reports[c] = [][]byte{load.Request("POST", "/webhook/status", fmt.Appendf(nil, `{"agent_id":"ours-%d","session_topic":"t","status":"running"}`, c),
			"Authorization: Bearer "+ours)}
	}
	p999 := func() float64 {
		took, err := load.Pace(server.address, reports, perSecond, 4*span())
		require.NoError(b, err)
		slices.Sort(took)
		return took[len(took)*999/1000].Seconds() * 1000
	}
	call := `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"list_sessions","arguments":{"search":"` + searched + `"}}}`
	for _, kind := range []struct {
		name string
		do   func() error
	}{
		{"search", send("GET", "/api/sessions?limit=1000&search="+searched, nil)},
		{"list", send("GET", "/api/sessions?limit=1000", nil)},
		{"agents", send("GET", "/api/agents?limit=1000", nil)},
		{"large-history", send("GET", "/api/agents/theirs-large/status?limit=1000", nil)},
		{"tool", send("POST", "/mcp", []byte(call))},
		{"batch", send("POST", "/webhook/status", batch)},
		{"remove", func() error {
			if err := send("POST", "/webhook/status", batch)(); err != nil {
				return err
			}
			return send("DELETE", "/api/agents/theirs-batch", nil)()
		}},
	} {
		b.Run(kind.name, func(b *testing.B) {
			var added, with []float64
			sent := 0
			for b.Loop() {
				alone := p999()
				stop, stopped := make(chan struct{}), make(chan error)
				go func() {
					for {
						if err := kind.do(); err != nil {
							stopped <- err
							return
						}
						sent++
						select {
						case <-stop:
							stopped <- nil
							return
						default:
						}
					}
				}()
				together := p999()
				close(stop)
				require.NoError(b, <-stopped)
				added, with = append(added, together-alone), append(with, together)
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(sent)/float64(len(with)), "requests")
			b.ReportMetric(median(with), "ms_p999")
			b.ReportMetric(median(added), "ms_p999_added")
		})
	}
}
