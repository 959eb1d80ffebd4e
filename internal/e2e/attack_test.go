//go:build unix

package e2e

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/internal/access/accesstest"
)

// attackDuration is how long TestOthersAreServedUnderAttack attacks, unless KUBEAGENTS_ATTACK specifies another
// duration, such as 10m.
const attackDuration = 3 * time.Second

// maxGrowthUnderAttack is by how many bytes the program's memory may grow under attack.
const maxGrowthUnderAttack = 384 << 20

// attackPause is how long an attacker pauses after each request. The attackers share the machine's processors with the
// server: without a pause they would use them up on their own.
const attackPause = 5 * time.Millisecond

// TestOthersAreServedUnderAttack attacks a server with a valid token and without one, with the most expensive requests
// and with requests that occupy connections, all at the same time. Every report and read of another team must succeed,
// and after a crash every acknowledged report must be there. The test logs the response times before and during the
// attack.
func TestOthersAreServedUnderAttack(t *testing.T) {
	duration, err := time.ParseDuration(cmp.Or(os.Getenv("KUBEAGENTS_ATTACK"), attackDuration.String()))
	require.NoError(t, err)
	path, holders := accesstest.TokensFile(t, map[string]access.Entry{
		"ours":   {Scopes: []string{"report", "read"}, Agents: []string{"ours/*"}},
		"theirs": {Scopes: []string{"report", "read", "admin"}, Agents: []string{"theirs/*"}},
	})
	settings := []string{"TOKENS_FILE=" + path, "WEBHOOK_SECRET=" + accesstest.Secret, "DATA_DIR=" + filepath.Join(t.TempDir(), "data"),
		"RATE_LIMIT_REPORTS=1000", "RATE_LIMIT_READS=100", "MAX_SESSIONS=4000", "HISTORY_MAX_BYTES=32MiB", "DATA_MAX_BYTES=512MiB", "MAX_IN_FLIGHT=100", "MAX_SUBSCRIBERS=50", "GOGC=50"}
	p := start(t, settings...)
	ours := &reporter{team: teamClient{holders["ours"], p}}

	const alone = 100
	for range alone {
		ours.report(t)
	}
	before := p.peakMemory(t)
	ctx, stop := context.WithTimeout(t.Context(), duration)
	defer stop()
	var attackers sync.WaitGroup
	for _, attack := range attacks(p.address, holders["theirs"].Token) {
		attackers.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				attack(ctx, n)
				time.Sleep(attackPause)
			}
		})
	}
	for ctx.Err() == nil {
		ours.report(t)
		time.Sleep(5 * time.Millisecond) // some 100 requests per second, which is within the limits
	}
	attackers.Wait()
	t.Logf("%d reports: p50 %v and p99 %v before the attack, p50 %v and p99 %v under attack", len(ours.took),
		quantile(ours.took[:alone], 0.5), quantile(ours.took[:alone], 0.99), quantile(ours.took[alone:], 0.5), quantile(ours.took[alone:], 0.99))
	p.requireMemoryGrowth(t, before, maxGrowthUnderAttack)

	p.kill(t)
	p = start(t, settings...)
	ours.team.p = p
	ours.requireAcknowledged(t)
}

// quantile returns a quantile of the durations: 0.5 for the median.
func quantile(durations []time.Duration, q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(durations))
	return sorted[int(q*float64(len(sorted)-1))].Round(10 * time.Microsecond)
}

// reporter is a team that sends one report after another and sometimes reads.
type reporter struct {
	team  teamClient
	acked int
	took  []time.Duration
}

// reporterSessions is the number of sessions of a reporter.
const reporterSessions = 20

// report sends the next report, and after every tenth report reads the list of sessions.
func (r *reporter) report(t *testing.T) {
	t.Helper()
	started := time.Now()
	status, body := r.team.do(t, "POST", "/webhook/status", fmt.Sprintf(`{"agent_id":"ours/a","session_topic":"t%d","status":"running","message":"%d"}`, r.acked%reporterSessions, r.acked))
	r.took = append(r.took, time.Since(started))
	require.Equal(t, 200, status, "report %d: %s", r.acked, body)
	r.acked++
	if r.acked%10 == 0 {
		status, body := r.team.do(t, "GET", "/api/sessions?limit=20", "")
		require.Equal(t, 200, status, "%s", body)
	}
}

// requireAcknowledged fails the test unless the server has every acknowledged report exactly once.
func (r *reporter) requireAcknowledged(t *testing.T) {
	t.Helper()
	found, cursor := 0, ""
	for more := true; more; more = cursor != "" {
		status, body := r.team.do(t, "GET", "/api/agents/ours%2Fa/status?limit=1000&cursor="+url.QueryEscape(cursor), "")
		require.Equal(t, 200, status, "%s", body)
		var page struct {
			History []struct{ Message string } `json:"status_history"`
			Next    string                     `json:"next_cursor"`
		}
		require.NoError(t, json.Unmarshal(body, &page))
		for _, status := range page.History {
			found++
			require.Equal(t, fmt.Sprint(r.acked-found), status.Message)
		}
		cursor = page.Next
	}
	require.Equal(t, r.acked, found)
}

// attacks returns the attacks of strangers and of clients with a token. Each function sends the n-th request of an
// attack and ignores the response.
func attacks(address, token string) []func(ctx context.Context, n int) {
	send := func(method, target, contentType string, body []byte, header ...string) func(context.Context, int) {
		return func(ctx context.Context, n int) {
			text := bytes.ReplaceAll(body, []byte("{n}"), []byte(fmt.Sprint(n)))
			r, err := http.NewRequestWithContext(ctx, method, "http://"+address+target, bytes.NewReader(text))
			if err != nil {
				panic(err)
			}
			r.Header.Set("Content-Type", contentType)
			for _, line := range header {
				name, value, _ := strings.Cut(line, ": ")
				r.Header.Set(name, value)
			}
			if resp, err := http.DefaultClient.Do(r); err == nil {
				io.Copy(io.Discard, resp.Body) //nolint:errcheck // attacks ignore errors
				resp.Body.Close()              //nolint:errcheck // attacks ignore errors
			}
		}
	}
	bearer := "Authorization: Bearer " + token
	withToken := func(method, target string, body []byte) func(context.Context, int) {
		return send(method, target, "application/json", body, bearer, "Accept: application/json, text/event-stream")
	}
	// occupy starts requests on up to limit connections and reads nothing. For each further request it closes the
	// oldest connection.
	occupy := func(limit int, text string) func(context.Context, int) {
		var conns []net.Conn
		return func(ctx context.Context, _ int) {
			conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", address)
			if err == nil {
				conn.SetWriteDeadline(time.Now().Add(time.Second)) //nolint:errcheck // attacks ignore errors
				io.WriteString(conn, text)                         //nolint:errcheck // attacks ignore errors
				conns = append(conns, conn)
			}
			for len(conns) > limit || ctx.Err() != nil && len(conns) > 0 {
				conns[0].Close() //nolint:errcheck // attacks ignore errors
				conns = conns[1:]
			}
		}
	}
	var batch, large bytes.Buffer
	for i := range 500 {
		fmt.Fprintf(&batch, `{"agent_id":"theirs/{n}","session_topic":"%d %s","status":"running","message":"m"}`, i, strings.Repeat("a", 400))
	}
	for i := range 100 {
		fmt.Fprintf(&large, `{"agent_id":"theirs/large","session_topic":"%d","status":"running","content":%q}`, i, strings.Repeat("𝕔", 10_000))
	}
	search := strings.Repeat("a", 249) + "b"
	asTheirs := "Host: x\r\n" + bearer + "\r\n"
	return []func(context.Context, int){
		// By strangers.
		occupy(300, requestHead("/sign-in", 100)),
		occupy(300, requestHead("/webhook/status", 8<<20, badSignature...)+"{"),
		occupy(300, "GET /api/agents HTTP/1.1\r\nHost: x\r\nX-Long: "),
		send("GET", "/api/agents", "", nil, "Authorization: Bearer wrong"),
		send("POST", "/sign-in", "application/x-www-form-urlencoded", []byte("token=wrong{n}")),
		send("POST", "/webhook/status", "application/json", large.Bytes(), "webhook-id: {n}", badSignature[1], badSignature[2]),
		// With a token.
		withToken("POST", "/webhook/status", batch.Bytes()),
		withToken("POST", "/webhook/status", large.Bytes()),
		withToken("POST", "/webhook/status", []byte(strings.Repeat(`{"x":`, 9_000)+"1"+strings.Repeat("}", 9_000))),
		withToken("GET", "/api/sessions?limit=1000&search="+search, nil),
		withToken("GET", "/api/agents/theirs%2Flarge/status?limit=1000", nil),
		withToken("POST", "/mcp", []byte(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"list_sessions","arguments":{"search":"`+search+`"}}}`)),
		withToken("DELETE", "/api/agents/theirs%2Flarge", nil),
		occupy(200, "GET /api/events HTTP/1.1\r\n"+asTheirs+"\r\n"+strings.Repeat("x", 1<<10)),
		occupy(100, "GET /api/agents/theirs%2Flarge/status?limit=1000 HTTP/1.1\r\n"+asTheirs+"\r\n"),
		occupy(200, requestHead("/webhook/status", 8_000_000, bearer)+"{"),
	}
}
