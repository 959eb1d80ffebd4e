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

// teamOf is a team that talks to a program by its token.
type teamOf struct {
	accesstest.Holder
	p *process
}

// ask returns the status of an answer, and the answer.
func (team teamOf) ask(t testing.TB, method, target, body string) (int, []byte) {
	t.Helper()
	r, err := http.NewRequest(method, "http://"+team.p.address+target, strings.NewReader(body))
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+team.Token)
	resp, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer resp.Body.Close() //nolint:errcheck // it is read whole
	answer, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, answer
}

// atOnce is so many reports that a request of large ones takes little memory by itself.
const atOnce = 20

// batch reports what report returns for each of n, some at a time. It returns which were stored, and the first error of another.
func (team teamOf) batch(t testing.TB, n int, report func(i int) string) (stored []int, refused string) {
	t.Helper()
	for from := 0; from < n; from += atOnce {
		var lines []string
		for i := from; i < min(n, from+atOnce); i++ {
			lines = append(lines, report(i))
		}
		status, body := team.ask(t, "POST", "/webhook/status", "["+strings.Join(lines, ",")+"]")
		require.Contains(t, []int{200, 207, 503}, status, "%s", body)
		var answer struct {
			Accepted int
			Errors   []struct {
				Index   int
				Message string
			}
		}
		require.NoError(t, json.Unmarshal(body, &answer))
		failed := map[int]bool{}
		for _, e := range answer.Errors {
			failed[e.Index] = true
			refused = cmp.Or(refused, e.Message)
		}
		for i := range lines {
			if !failed[i] {
				stored = append(stored, from+i)
			}
		}
		require.Equal(t, len(lines), answer.Accepted+len(failed), "%s", body)
	}
	return stored, refused
}

// holds requires that a session is read by its ID, with a history of so many statuses.
func (team teamOf) holds(t testing.TB, agentID, topic string, statuses int) (content string) {
	t.Helper()
	status, body := team.ask(t, "GET", "/api/agents/"+url.PathEscape(agentID)+"/sessions/"+topic, "")
	require.Equal(t, 200, status, "%s: %s", topic, body)
	var se struct {
		StatusHistory []models.AgentStatus `json:"status_history"`
	}
	require.NoError(t, json.Unmarshal(body, &se))
	require.Len(t, se.StatusHistory, statuses, "%s: %s", topic, body)
	return se.StatusHistory[0].Content
}

// TestProgramSharesWhatItHas has a team flood the server with large statuses of new sessions, and fill all the sessions that it may:
// another team, which fits into the rest, sees and does what it would on a server of its own, before and after a restart, and
// everything that was acknowledged is there.
func TestProgramSharesWhatItHas(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	lose(t, dir, "quiet/a", "lost")
	path, holders := accesstest.TokensFile(t, map[string]access.Entry{
		"flood": {Scopes: []string{"report", "read"}, Agents: []string{"flood/*"}},
		"quiet": {Scopes: []string{"report", "read"}, Agents: []string{"quiet/*"}},
	})
	environment := []string{"DATA_DIR=" + dir, "TOKENS_FILE=" + path, "HISTORY_MAX_BYTES=16MiB", "MAX_SESSIONS=2000"}
	content := strings.Repeat("𝕏", models.MaxContent)
	report := func(agentID, topic, content string) string {
		return fmt.Sprintf(`{"agent_id":%q,"session_topic":%q,"status":"running","content":%q}`, agentID, topic, content)
	}
	var flood, quiet teamOf
	begin := func() {
		p := start(t, environment...)
		p.ready(t)
		flood, quiet = teamOf{holders["flood"], p}, teamOf{holders["quiet"], p}
	}
	requireQuiet := func(when string) {
		status, body := quiet.ask(t, "GET", "/api/sessions?lost=true", "")
		require.Equal(t, 200, status)
		require.Contains(t, string(body), `"session_topic":"lost"`, when)
		require.NotEmpty(t, quiet.holds(t, "quiet/a", "lost", 3), when)
		for i := range 20 {
			require.Equal(t, content, quiet.holds(t, "quiet/a", fmt.Sprint(i), 2), when)
		}
		status, body = quiet.ask(t, "GET", "/api/summary", "")
		require.Equal(t, 200, status)
		require.Contains(t, string(body), `"total":21`, when)
	}

	begin()
	for range 2 {
		stored, _ := quiet.batch(t, 20, func(i int) string { return report("quiet/a", fmt.Sprint(i), content) })
		require.Len(t, stored, 20)
	}
	requireQuiet("before the flood")
	kept, _ := flood.batch(t, 1200, func(i int) string { return report("flood/a", fmt.Sprint("large ", i), content) })
	require.NotEmpty(t, kept)
	_, refused := flood.batch(t, 3000, func(i int) string { return report("flood/b", fmt.Sprint("small ", i), "") })
	require.Contains(t, refused, "share", "the error names what is used up")
	requireQuiet("after the flood")

	require.Zero(t, quiet.p.stop(t))
	begin()
	requireQuiet("after a restart")
	for _, i := range kept {
		require.Equal(t, content, flood.holds(t, "flood/a", url.PathEscape(fmt.Sprint("large ", i)), 1))
	}
	_, refused = flood.batch(t, 3000, func(i int) string { return report("flood/c", fmt.Sprint("small ", i), "") })
	require.Contains(t, refused, "share")
	requireQuiet("after another flood")
	stored, refused := quiet.batch(t, 100, func(i int) string { return report("quiet/b", fmt.Sprint(i), "") })
	require.Len(t, stored, 100, refused)
	require.Zero(t, quiet.p.stop(t))
}

// lose has a journal hold a session of three statuses that was lost while a server ran.
func lose(t *testing.T, dir, agentID, topic string) {
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

// TestProgramStaysWithinItsMemory has sessions that began with little send much, and name themselves at length: what the program holds
// of them stays within its bound, and what it takes of the machine's memory follows.
func TestProgramStaysWithinItsMemory(t *testing.T) {
	if underRace {
		t.Skip("memory is measured without the race detector: go test . -run TestProgramStaysWithinItsMemory")
	}
	const bound, most = 4 << 20, 20 << 20              // of which requests take some
	p := start(t, "HISTORY_MAX_BYTES=4MiB", "GOGC=10") // so that little of it is garbage
	p.ready(t)
	everyone := teamOf{p: p}
	long := func(n int) string { return strings.Repeat("𝕏", n) }
	report := func(i int, more string) string {
		return fmt.Sprintf(`{"agent_id":"a","session_topic":"%d","status":"running"%s}`, i, more)
	}
	everyone.batch(t, 3000, func(i int) string { return report(i, "") })
	before := p.peak(t)
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
	p.requireGrowth(t, before, most)
	require.Zero(t, p.stop(t))
}

// TestProgramBoundsBodies has a team begin many large bodies and end none: the memory that they take stays within its bound, those that find no
// room are refused with the cause, and a large body of another team is taken meanwhile.
func TestProgramBoundsBodies(t *testing.T) {
	path, holders := accesstest.TokensFile(t, map[string]access.Entry{
		"ours":   {Scopes: []string{"report", "read"}, Agents: []string{"ours/*"}},
		"theirs": {Scopes: []string{"report", "read"}, Agents: []string{"theirs/*"}},
	})
	p := start(t, "TOKENS_FILE="+path, "BODIES_MAX_BYTES=32MiB", "METRICS_PUBLIC=true", "GOGC=20")
	ours := teamOf{holders["ours"], p}
	large := func(n int) (text string) {
		for i := range n {
			text += fmt.Sprintf(`{"agent_id":"ours/a","session_topic":"t","status":"running","message":"%d","content":%q}`, i, strings.Repeat("𝕏", models.MaxContent))
		}
		return text
	}(100) // 4 MB
	status, body := ours.ask(t, "POST", "/webhook/status", large)
	require.Equal(t, 200, status, "%s", body)

	before := p.peak(t)
	began := announcing("/webhook/status", 8_000_000, "Authorization: Bearer "+holders["theirs"].Token) + strings.Repeat(" ", 3<<20)
	refused := make(chan string, 100)
	for range cap(refused) {
		conn, err := net.Dial("tcp", p.address)
		require.NoError(t, err)
		t.Cleanup(func() { conn.Close() }) //nolint:errcheck // the server may have closed it
		go io.WriteString(conn, began)     //nolint:errcheck // it may be cut off
		go func() {
			if answer, err := http.ReadResponse(bufio.NewReader(conn), nil); err == nil {
				text, _ := io.ReadAll(answer.Body) //nolint:errcheck // it is looked at as it is
				refused <- fmt.Sprint(answer.StatusCode, " ", answer.Header.Get("Retry-After") != "", " ", string(text))
			}
		}()
	}
	for range 5 {
		status, body := ours.ask(t, "POST", "/webhook/status", large)
		require.Equal(t, 200, status, "%s", body)
	}
	for answer := range refused {
		require.Contains(t, answer, "503 true")
		require.Contains(t, answer, "BODIES_MAX_BYTES")
		if strings.Contains(answer, "the request bodies of this token's team have reached its share") {
			break
		} // else another one of them gave up just before
	}
	p.requireGrowth(t, before, 96<<20)
	require.Contains(t, metricsOf(http.DefaultClient, "http://"+p.address), `kubeagents_request_bound_hits_total{bound="bodies_share"}`)
	require.NotContains(t, metricsOf(http.DefaultClient, "http://"+p.address), `kubeagents_request_bound_hits_total{bound="bodies_share"} 0`)
}
