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

// attackFor is how long TestOthersGoOnUnderAttack attacks; KUBEAGENTS_ATTACK says another time, such as 10m.
const attackFor = 3 * time.Second

// mostUnderAttack is how many bytes of memory the program may take more under attack than before.
const mostUnderAttack = 384 << 20

// attackEvery is how long an attacker pauses after each request. Attackers and server share the machine's processors: without a pause
// the attackers alone would use them up.
const attackEvery = 5 * time.Millisecond

// TestOthersGoOnUnderAttack attacks a server with a valid token and without one: the most expensive requests, and requests that hold on
// to what others need, all at the same time. Every report and read of another team must be answered, and after a crash everything
// that was acknowledged must be there. It logs how long the answers took, before and during the attack.
func TestOthersGoOnUnderAttack(t *testing.T) {
	duration, err := time.ParseDuration(cmp.Or(os.Getenv("KUBEAGENTS_ATTACK"), attackFor.String()))
	require.NoError(t, err)
	path, holders := accesstest.TokensFile(t, map[string]access.Entry{
		"ours":   {Scopes: []string{"report", "read"}, Agents: []string{"ours/*"}},
		"theirs": {Scopes: []string{"report", "read", "admin"}, Agents: []string{"theirs/*"}},
	})
	settings := []string{"TOKENS_FILE=" + path, "WEBHOOK_SECRET=" + accesstest.Secret, "DATA_DIR=" + filepath.Join(t.TempDir(), "data"),
		"RATE_LIMIT_REPORTS=1000", "RATE_LIMIT_READS=100", "MAX_SESSIONS=4000", "HISTORY_MAX_BYTES=32MiB", "DATA_MAX_BYTES=512MiB", "MAX_IN_FLIGHT=100", "MAX_SUBSCRIBERS=50", "GOGC=50"}
	p := start(t, settings...)
	p.ready(t)
	ours := &steady{team: teamOf{holders["ours"], p}}

	const alone = 100
	for range alone {
		ours.goOn(t)
	}
	before := p.peak(t)
	ctx, stop := context.WithTimeout(t.Context(), duration)
	defer stop()
	var attackers sync.WaitGroup
	for _, attack := range attacks(p.address, holders["theirs"].Token) {
		attackers.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				attack(ctx, n)
				time.Sleep(attackEvery)
			}
		})
	}
	for ctx.Err() == nil {
		ours.goOn(t)
		time.Sleep(5 * time.Millisecond) // some 100 a second, which is within the limits
	}
	attackers.Wait()
	t.Logf("%d reports: alone half within %v and 99 of 100 within %v; under attack %v and %v", len(ours.took),
		quantile(ours.took[:alone], 0.5), quantile(ours.took[:alone], 0.99), quantile(ours.took[alone:], 0.5), quantile(ours.took[alone:], 0.99))
	p.requireGrowth(t, before, mostUnderAttack)

	p.kill(t)
	p = start(t, settings...)
	p.ready(t)
	ours.team.p = p
	ours.requireAll(t)
}

// quantile returns what a part of the durations is within.
func quantile(durations []time.Duration, part float64) time.Duration {
	sorted := slices.Sorted(slices.Values(durations))
	return sorted[int(part*float64(len(sorted)-1))].Round(10 * time.Microsecond)
}

// steady is a team that reports and reads.
type steady struct {
	team  teamOf
	acked int
	took  []time.Duration
}

const steadySessions = 20

// goOn reports once, and now and then reads.
func (s *steady) goOn(t *testing.T) {
	t.Helper()
	began := time.Now()
	status, body := s.team.ask(t, "POST", "/webhook/status", fmt.Sprintf(`{"agent_id":"ours/a","session_topic":"t%d","status":"running","message":"%d"}`, s.acked%steadySessions, s.acked))
	s.took = append(s.took, time.Since(began))
	require.Equal(t, 200, status, "report %d: %s", s.acked, body)
	s.acked++
	if s.acked%10 == 0 {
		status, body := s.team.ask(t, "GET", "/api/sessions?limit=20", "")
		require.Equal(t, 200, status, "%s", body)
	}
}

// requireAll requires that every report that was acknowledged is there, once.
func (s *steady) requireAll(t *testing.T) {
	t.Helper()
	found, cursor := 0, ""
	for more := true; more; more = cursor != "" {
		status, body := s.team.ask(t, "GET", "/api/agents/ours%2Fa/status?limit=1000&cursor="+url.QueryEscape(cursor), "")
		require.Equal(t, 200, status, "%s", body)
		var page struct {
			History []struct{ Message string } `json:"status_history"`
			Next    string                     `json:"next_cursor"`
		}
		require.NoError(t, json.Unmarshal(body, &page))
		for _, status := range page.History {
			found++
			require.Equal(t, fmt.Sprint(s.acked-found), status.Message)
		}
		cursor = page.Next
	}
	require.Equal(t, s.acked, found)
}

// attacks returns what attackers do, each one after another: strangers, and those who have a token. They ignore the answers.
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
				io.Copy(io.Discard, resp.Body) //nolint:errcheck // see above
				resp.Body.Close()              //nolint:errcheck // see above
			}
		}
	}
	bearer := "Authorization: Bearer " + token
	withToken := func(method, target string, body []byte) func(context.Context, int) {
		return send(method, target, "application/json", body, bearer, "Accept: application/json, text/event-stream")
	}
	// holdOn begins requests on many connections, of which it closes the oldest, and reads nothing.
	holdOn := func(most int, text string) func(context.Context, int) {
		var conns []net.Conn
		return func(ctx context.Context, _ int) {
			conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", address)
			if err == nil {
				conn.SetWriteDeadline(time.Now().Add(time.Second)) //nolint:errcheck // see above
				io.WriteString(conn, text)                         //nolint:errcheck // see above
				conns = append(conns, conn)
			}
			for len(conns) > most || ctx.Err() != nil && len(conns) > 0 {
				conns[0].Close() //nolint:errcheck // see above
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
		// Strangers.
		holdOn(300, announcing("/sign-in", 100)),
		holdOn(300, announcing("/webhook/status", 8<<20, signedHead...)+"{"),
		holdOn(300, "GET /api/agents HTTP/1.1\r\nHost: x\r\nX-Long: "),
		send("GET", "/api/agents", "", nil, "Authorization: Bearer wrong"),
		send("POST", "/sign-in", "application/x-www-form-urlencoded", []byte("token=wrong{n}")),
		send("POST", "/webhook/status", "application/json", large.Bytes(), "webhook-id: {n}", signedHead[1], signedHead[2]),
		// Those with a token.
		withToken("POST", "/webhook/status", batch.Bytes()),
		withToken("POST", "/webhook/status", large.Bytes()),
		withToken("POST", "/webhook/status", []byte(strings.Repeat(`{"x":`, 9_000)+"1"+strings.Repeat("}", 9_000))),
		withToken("GET", "/api/sessions?limit=1000&search="+search, nil),
		withToken("GET", "/api/agents/theirs%2Flarge/status?limit=1000", nil),
		withToken("POST", "/mcp", []byte(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"list_sessions","arguments":{"search":"`+search+`"}}}`)),
		withToken("DELETE", "/api/agents/theirs%2Flarge", nil),
		holdOn(200, "GET /api/events HTTP/1.1\r\n"+asTheirs+"\r\n"+strings.Repeat("x", 1<<10)),
		holdOn(100, "GET /api/agents/theirs%2Flarge/status?limit=1000 HTTP/1.1\r\n"+asTheirs+"\r\n"),
		holdOn(200, announcing("/webhook/status", 8_000_000, bearer)+"{"),
	}
}
