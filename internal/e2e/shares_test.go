//go:build unix

package e2e

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/internal/access/accesstest"
	"github.com/kubeagents/kubeagents/internal/journal"
	"github.com/kubeagents/kubeagents/internal/metrics"
	"github.com/kubeagents/kubeagents/internal/recorder"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// teamClient sends requests to a program with the token of a team.
type teamClient struct {
	accesstest.Holder
	p *process
}

// do sends a request and returns the status and the body of the response.
func (team teamClient) do(t testing.TB, method, target, body string) (int, []byte) {
	t.Helper()
	r, err := http.NewRequest(method, "http://"+team.p.address+target, strings.NewReader(body))
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+team.Token)
	resp, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer resp.Body.Close() //nolint:errcheck // it is read to the end
	content, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, content
}

// batchSize is the number of reports per request. It is small, so that a request of large reports takes little memory.
const batchSize = 20

// batch sends the n reports that the function report returns, in batches. It returns the numbers of the stored reports
// and the first error.
func (team teamClient) batch(t testing.TB, n int, report func(i int) string) (stored []int, refused string) {
	t.Helper()
	for from := 0; from < n; from += batchSize {
		var lines []string
		for i := from; i < min(n, from+batchSize); i++ {
			lines = append(lines, report(i))
		}
		status, body := team.do(t, "POST", "/webhook/status", "["+strings.Join(lines, ",")+"]")
		require.Contains(t, []int{200, 207, 503}, status, "%s", body)
		var result struct {
			Accepted int
			Errors   []struct {
				Index   int
				Message string
			}
		}
		require.NoError(t, json.Unmarshal(body, &result))
		failed := map[int]bool{}
		for _, e := range result.Errors {
			failed[e.Index] = true
			refused = cmp.Or(refused, e.Message)
		}
		for i := range lines {
			if !failed[i] {
				stored = append(stored, from+i)
			}
		}
		require.Equal(t, len(lines), result.Accepted+len(failed), "%s", body)
	}
	return stored, refused
}

// requireSession fails the test unless a session can be read by its ID and has a history of that many statuses. It
// returns the content of the newest status.
func (team teamClient) requireSession(t testing.TB, agentID, topic string, statuses int) (content string) {
	t.Helper()
	status, body := team.do(t, "GET", "/api/agents/"+url.PathEscape(agentID)+"/sessions/"+topic, "")
	require.Equal(t, 200, status, "%s: %s", topic, body)
	var se struct {
		StatusHistory []models.AgentStatus `json:"status_history"`
	}
	require.NoError(t, json.Unmarshal(body, &se))
	require.Len(t, se.StatusHistory, statuses, "%s: %s", topic, body)
	return se.StatusHistory[0].Content
}

// TestFloodLeavesOtherTeamsTheirShare has a team flood the server with large statuses of new sessions, until it has
// reached its share of sessions. Another team that stays within its share must see and do the same as on its own
// server, before and after a restart, and all acknowledged reports must be there.
func TestFloodLeavesOtherTeamsTheirShare(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	writeLostSession(t, dir, "quiet/a", "lost")
	path, holders := accesstest.TokensFile(t, map[string]access.Entry{
		"flood": {Scopes: []string{"report", "read"}, Agents: []string{"flood/*"}},
		"quiet": {Scopes: []string{"report", "read"}, Agents: []string{"quiet/*"}},
	})
	environment := []string{"DATA_DIR=" + dir, "TOKENS_FILE=" + path, "HISTORY_MAX_BYTES=16MiB", "MAX_SESSIONS=2000"}
	content := strings.Repeat("𝕏", models.MaxContent)
	report := func(agentID, topic, content string) string {
		return fmt.Sprintf(`{"agent_id":%q,"session_topic":%q,"status":"running","content":%q}`, agentID, topic, content)
	}
	var flood, quiet teamClient
	restart := func() {
		p := start(t, environment...)
		flood, quiet = teamClient{holders["flood"], p}, teamClient{holders["quiet"], p}
	}
	requireQuiet := func(when string) {
		status, body := quiet.do(t, "GET", "/api/sessions?lost=true", "")
		require.Equal(t, 200, status)
		require.Contains(t, string(body), `"session_topic":"lost"`, when)
		require.NotEmpty(t, quiet.requireSession(t, "quiet/a", "lost", 3), when)
		for i := range 20 {
			require.Equal(t, content, quiet.requireSession(t, "quiet/a", fmt.Sprint(i), 2), when)
		}
		status, body = quiet.do(t, "GET", "/api/summary", "")
		require.Equal(t, 200, status)
		require.Contains(t, string(body), `"total":21`, when)
	}

	restart()
	for range 2 {
		stored, _ := quiet.batch(t, 20, func(i int) string { return report("quiet/a", fmt.Sprint(i), content) })
		require.Len(t, stored, 20)
	}
	requireQuiet("before the flood")
	kept, _ := flood.batch(t, 1200, func(i int) string { return report("flood/a", fmt.Sprint("large ", i), content) })
	require.NotEmpty(t, kept)
	_, refused := flood.batch(t, 3000, func(i int) string { return report("flood/b", fmt.Sprint("small ", i), "") })
	require.Contains(t, refused, "share", "the error names the bound that was reached")
	requireQuiet("after the flood")

	require.Zero(t, quiet.p.stop(t))
	restart()
	requireQuiet("after a restart")
	for _, i := range kept {
		require.Equal(t, content, flood.requireSession(t, "flood/a", url.PathEscape(fmt.Sprint("large ", i)), 1))
	}
	_, refused = flood.batch(t, 3000, func(i int) string { return report("flood/c", fmt.Sprint("small ", i), "") })
	require.Contains(t, refused, "share")
	requireQuiet("after another flood")
	stored, refused := quiet.batch(t, 100, func(i int) string { return report("quiet/b", fmt.Sprint(i), "") })
	require.Len(t, stored, 100, refused)
	require.Zero(t, quiet.p.stop(t))
}

// writeLostSession writes a journal with a session of three statuses that became lost while a server was running.
func writeLostSession(t *testing.T, dir, agentID, topic string) {
	t.Helper()
	j, err := journal.Open(journal.Options{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	st := store.New(store.Options{DefaultTTL: time.Minute, SessionRetention: 24 * time.Hour, HistoryLimit: 10, HistoryMaxBytes: 1 << 20, MaxSessions: 10, Journaled: true})
	reported := time.Now().Add(-time.Hour)
	require.NoError(t, j.Replay(t.Context(), st, 10, reported, func(journal.Progress) {}))
	rec := recorder.New(st, j, metrics.New(st, "test"))
	for i := range 3 {
		_, err = rec.Accept(nil, []models.StatusReport{{AgentID: agentID, SessionTopic: topic, Status: models.Running, TTLMinutes: 1, Message: fmt.Sprint(i), Content: "what it did"}}, reported, nil)
		require.NoError(t, err)
	}
	j.MarkAlive(reported.Add(30 * time.Minute))
	require.NoError(t, j.Close())
}

// TestMemoryStaysBounded has sessions with small first statuses send large ones, and uses the longest IDs and names.
// What the program keeps of them must stay within HISTORY_MAX_BYTES, and its memory must not grow much more than that.
func TestMemoryStaysBounded(t *testing.T) {
	if underRace {
		t.Skip("memory can only be measured without the race detector: go test ./internal/e2e -run TestMemoryStaysBounded")
	}
	const bound, maxGrowth = 4 << 20, 20 << 20         // the growth includes the memory of requests
	p := start(t, "HISTORY_MAX_BYTES=4MiB", "GOGC=10") // GOGC keeps garbage small
	everyone := teamClient{p: p}
	long := func(n int) string { return strings.Repeat("𝕏", n) }
	report := func(i int, more string) string {
		return fmt.Sprintf(`{"agent_id":"a","session_topic":"%d","status":"running"%s}`, i, more)
	}
	everyone.batch(t, 3000, func(i int) string { return report(i, "") })
	before := p.peakMemory(t)
	everyone.batch(t, 3000, func(i int) string { return report(i, fmt.Sprintf(`,"content":%q`, long(models.MaxContent))) })
	everyone.batch(t, 3000, func(i int) string {
		return report(i, fmt.Sprintf(`,"session_title":%q,"agent_name":%q,"message":%q`, long(models.MaxSessionTitle), long(models.MaxAgentName), long(models.MaxMessage)))
	})
	everyone.batch(t, 3000, func(i int) string {
		return fmt.Sprintf(`{"agent_id":"%d%s","session_topic":%q,"status":"failed"}`, i, long(models.MaxAgentID-4), long(models.MaxSessionTopic))
	})
	found := regexp.MustCompile(`\nkubeagents_history_bytes (\S+)\n`).FindStringSubmatch(metricsOf(http.DefaultClient, "http://"+p.address))
	require.NotNil(t, found)
	held, err := strconv.ParseFloat(found[1], 64)
	require.NoError(t, err)
	require.LessOrEqual(t, held, float64(bound))
	require.Greater(t, held, float64(bound)/2, "the bound was reached")
	p.requireMemoryGrowth(t, before, maxGrowth)
	require.Zero(t, p.stop(t))
}

// TestRequestBodiesAreBounded has a team start many requests with large bodies and finish none. Their memory must stay
// bounded, requests above the bound must be refused with the cause, and a large body of another team must still be
// accepted.
func TestRequestBodiesAreBounded(t *testing.T) {
	path, holders := accesstest.TokensFile(t, map[string]access.Entry{
		"ours":   {Scopes: []string{"report", "read"}, Agents: []string{"ours/*"}},
		"theirs": {Scopes: []string{"report", "read"}, Agents: []string{"theirs/*"}},
	})
	p := start(t, "TOKENS_FILE="+path, "BODIES_MAX_BYTES=32MiB", "METRICS_PUBLIC=true", "GOGC=20")
	ours := teamClient{holders["ours"], p}
	large := func(n int) (text string) {
		for i := range n {
			text += fmt.Sprintf(`{"agent_id":"ours/a","session_topic":"t","status":"running","message":"%d","content":%q}`, i, strings.Repeat("𝕏", models.MaxContent))
		}
		return text
	}(100) // 4 MB
	status, body := ours.do(t, "POST", "/webhook/status", large)
	require.Equal(t, 200, status, "%s", body)

	before := p.peakMemory(t)
	started := requestHead("/webhook/status", 8_000_000, "Authorization: Bearer "+holders["theirs"].Token) + strings.Repeat(" ", 3<<20)
	refused := make(chan string, 100)
	for range cap(refused) {
		conn, err := net.Dial("tcp", p.address)
		require.NoError(t, err)
		t.Cleanup(func() { conn.Close() }) //nolint:errcheck // the server may have closed it
		go io.WriteString(conn, started)   //nolint:errcheck // it may be cut off
		go func() {
			if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err == nil {
				text, _ := io.ReadAll(resp.Body) //nolint:errcheck // the test checks what was read
				refused <- fmt.Sprint(resp.StatusCode, " ", resp.Header.Get("Retry-After") != "", " ", string(text))
			}
		}()
	}
	for range 5 {
		status, body := ours.do(t, "POST", "/webhook/status", large)
		require.Equal(t, 200, status, "%s", body)
	}
	for refusal := range refused {
		require.Contains(t, refusal, "503 true")
		require.Contains(t, refusal, "BODIES_MAX_BYTES")
		if strings.Contains(refusal, "the request bodies of this token's team have reached its share") {
			break
		} // otherwise another of these requests was given up just before
	}
	p.requireMemoryGrowth(t, before, 96<<20)
	require.Contains(t, metricsOf(http.DefaultClient, "http://"+p.address), `kubeagents_request_bound_hits_total{bound="bodies_share"}`)
	require.NotContains(t, metricsOf(http.DefaultClient, "http://"+p.address), `kubeagents_request_bound_hits_total{bound="bodies_share"} 0`)
}
