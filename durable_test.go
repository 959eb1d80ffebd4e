package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/config"
	"github.com/kubeagents/kubeagents/handlers"
	"github.com/kubeagents/kubeagents/internal/command"
	"github.com/kubeagents/kubeagents/internal/fleet"
	"github.com/kubeagents/kubeagents/internal/journal"
	"github.com/kubeagents/kubeagents/internal/live"
	"github.com/kubeagents/kubeagents/internal/metrics"
	"github.com/kubeagents/kubeagents/internal/recorder"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// newDurableServer is newTestServer with a journal. It is closed with the test, or by what it returns.
func newDurableServer(t testing.TB, fs vfs.FS, replayed bool) (s *server, closeIt func()) {
	t.Helper()
	st := store.New(store.Options{DefaultTTL: 30 * time.Minute, SessionRetention: 168 * time.Hour, HistoryLimit: 100,
		HistoryMaxBytes: 512 << 20, MaxSessions: 1_000_000, EventWindow: 10_000, Journaled: true})
	logger := slog.New(slog.DiscardHandler)
	j, err := journal.Open(journal.Options{Dir: "data", FS: fs, Logger: logger})
	require.NoError(t, err)
	m := metrics.New(st, "test")
	m.AddJournal(j)
	hub := startHub(t, st, m, live.Options{MaxSubscribers: 10_000, Buffer: 5000})
	h := handlers.New(handlers.Parts{Store: st, Recorder: recorder.New(st, j, m), Journal: j, Hub: hub, Metrics: m, Logger: logger, Version: "test",
		Dashboard: newDashboard(t, st)})
	require.NoError(t, j.Replay(t.Context(), st, 100, time.Now(), func(journal.Progress) {}))
	if replayed {
		h.Replayed()
	}
	closeIt = sync.OnceFunc(func() { require.NoError(t, j.Close()) })
	t.Cleanup(closeIt)
	return &server{st, h, router(h, m, config.Config{CORSAllowedOrigins: config.Origins{"*"}})}, closeIt
}

func TestRecordedDayRestartedAfterEvery500Reports(t *testing.T) {
	fs, stop := vfs.NewMem(), func() {}
	var s *server
	for batch := range slices.Chunk(fleet.Reports(), 500) {
		stop()
		s, stop = newDurableServer(t, fs, true)
		for part := range slices.Chunk(batch, 7) {
			s.report(t, string(bytes.Join(part, []byte("\n"))))
		}
	}
	requireDay(t, s)
	stop()
	s, _ = newDurableServer(t, fs, true)
	requireDay(t, s)
}

// fullDisk refuses all writes while it is full.
type fullDisk struct{ full atomic.Bool }

// MaybeError implements errorfs.Injector.
func (d *fullDisk) MaybeError(op errorfs.Op) error {
	if d.full.Load() && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
		return syscall.ENOSPC
	}
	return nil
}

func (d *fullDisk) String() string { return "full disk" }

// holdJournal holds what a server with a data directory answers: before its journal is read, while it serves, and while its
// disk is full.
func (c *contract) holdJournal(t *testing.T) {
	disk := new(fullDisk)
	s, _ := newDurableServer(t, errorfs.Wrap(vfs.NewMem(), disk), false)
	report := reportOf("a", "t", "running")
	var detail struct {
		StatusHistory []models.AgentStatus `json:"status_history"`
	}
	ask := func(method, target, body string, status int, says string) {
		t.Helper()
		r := httptest.NewRequest(method, target, strings.NewReader(body))
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		require.Equal(t, status, w.Code, "%s %s: %s", method, target, w.Body)
		require.Contains(t, w.Body.String(), says)
		require.Equal(t, status == 503, w.Header().Get("Retry-After") != "")
		route, _, _ := strings.Cut(target, "?")
		c.hold(t, strings.NewReplacer("/agents/a", "/agents/{agent_id}", "/sessions/t", "/sessions/{session_topic}").Replace(route), r, w)
	}
	ask("GET", "/health/live", "", 200, "ok")
	ask("GET", "/health/ready", "", 503, "reading its journal")
	ask("GET", "/health", "", 503, "reading its journal")
	for _, target := range []string{"/api/agents", "/api/agents/a", "/api/agents/a/status", "/api/agents/a/sessions",
		"/api/agents/a/sessions/t", "/api/sessions", "/api/summary"} {
		ask("GET", target, "", 503, "reading its journal")
	}
	ask("POST", "/webhook/status", report, 503, "reading its journal")

	s.handlers.Replayed()
	ask("GET", "/health/ready", "", 200, "ok")
	ask("GET", "/health", "", 200, `"storage":"journal","disk_bytes":`)
	for range 150 {
		ask("POST", "/webhook/status", report, 200, "success")
	}
	ask("GET", "/api/agents/a/sessions/t?limit=120", "", 200, "next_cursor")

	disk.full.Store(true)
	ask("POST", "/webhook/status", report, 503, "the disk of DATA_DIR is full")
	ask("POST", "/webhook/status", report, 503, "nothing of this request was stored")
	ask("POST", "/webhook/status", report+report+"{}", 503, `"accepted":0,"rejected":3`)
	ask("GET", "/health", "", 503, `"cause":"the disk of DATA_DIR is full: `)
	ask("GET", "/health/ready", "", 200, "ok")
	ask("GET", "/health/live", "", 200, "ok")
	ask("GET", "/api/agents", "", 200, `"agent_id":"a"`)
	ask("GET", "/api/agents/a/sessions/t?limit=1000", "", 200, `"agent_id":"a"`)
	s.get(t, "/api/agents/a/sessions/t?limit=1000", &detail)
	require.Len(t, detail.StatusHistory, 150, "reads go on")
	s.get(t, "/api/agents/a/status?limit=1000", &detail)
	require.Len(t, detail.StatusHistory, 150, "reads go on")
	scrape := s.ask(http.MethodGet, "/metrics", "").Body.String()
	for _, line := range []string{"kubeagents_journal_writable 0", `kubeagents_reports_total{outcome="stored"} 150`, `kubeagents_reports_total{outcome="unavailable"} 4`} {
		assert.Contains(t, scrape, line)
	}

	disk.full.Store(false)
	for s.ask(http.MethodPost, "/webhook/status", report).Code != 200 { //nolint:revive // soon, by itself
	}
	ask("GET", "/health", "", 200, `"storage":"journal"`)
	s.get(t, "/api/agents/a/sessions/t?limit=1000", &detail)
	require.Len(t, detail.StatusHistory, 151)
}

// TestPagingIntoTheJournal walks a history far beyond what memory holds while reports arrive: each entry comes once.
func TestPagingIntoTheJournal(t *testing.T) {
	s, _ := newDurableServer(t, vfs.NewMem(), true)
	const entries = 5000
	number := 0
	more := func(n int) {
		var body bytes.Buffer
		for range n {
			fmt.Fprintf(&body, `{"agent_id":"a","session_topic":"t","status":"running","message":"%d"}`, number)
			number++
		}
		s.report(t, body.String())
	}
	for number < entries {
		more(500)
	}
	s.report(t, `{"agent_id":"a","session_topic":"other","status":"running","timestamp":"2001-01-01T00:00:00Z","message":"late"}`)
	for _, target := range []string{"/api/agents/a/sessions/t?limit=73", "/api/agents/a/status?limit=73"} {
		first := number
		var messages []string
		for target != "" {
			var page struct {
				StatusHistory []models.AgentStatus `json:"status_history"`
			}
			w := s.get(t, target, &page)
			for _, st := range page.StatusHistory {
				messages = append(messages, st.Message)
			}
			target = nextOf(w.Header())
			more(3)
		}
		if messages[len(messages)-1] == "late" {
			messages = messages[:len(messages)-1]
		}
		require.Len(t, messages, first)
		for i, message := range messages {
			require.Equal(t, strconv.Itoa(first-1-i), message)
		}
	}
}

// ready waits until a program that was started answers reads.
func (p *process) ready(t *testing.T) {
	t.Helper()
	for {
		resp, err := http.Get("http://" + p.address + "/health/ready")
		require.NoError(t, err, "%s", p.stderr)
		resp.Body.Close() //nolint:errcheck // only its status is asked for
		if resp.StatusCode == http.StatusOK {
			return
		}
	}
}

// get reads an answer, and returns the target of the next page, "" where there is none.
func (p *process) get(t *testing.T, target string, into any) (next string) {
	t.Helper()
	resp, err := http.Get("http://" + p.address + target)
	require.NoError(t, err)
	defer resp.Body.Close() //nolint:errcheck // it was read
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode, "%s: %s", target, body)
	require.NoError(t, json.Unmarshal(body, into))
	return nextOf(resp.Header)
}

// nextOf returns the target that a Link header names, or "".
func nextOf(header http.Header) string {
	target, _, _ := strings.Cut(strings.TrimPrefix(header.Get("Link"), "<"), ">")
	return target
}

// kill ends the program as a crash would.
func (p *process) kill(t *testing.T) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Kill())
	<-p.read
	p.cmd.Wait() //nolint:errcheck // it was killed
}

// killRounds is how often TestProgramKilled kills the program; KUBEAGENTS_KILL_ROUNDS says another number.
const killRounds = 5

// rounds returns the number that a variable says, or else usual.
func rounds(t *testing.T, variable string, usual int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return usual
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err)
	return n
}

// writer reports on a session of its own, one report after another.
type writer struct {
	agentID, topic, content string
	sent, acked, atOnce     int
}

// TestProgramKilled kills the program again and again, at random, under 32 writers: every acknowledged report is there, none
// twice, and counts and lists agree with the histories.
func TestProgramKilled(t *testing.T) {
	writers := make([]*writer, 32)
	for i := range writers {
		writers[i] = &writer{agentID: fmt.Sprint("agent ", i%8), topic: fmt.Sprint("topic/", i)}
	}
	settings := []string{"DATA_DIR=" + filepath.Join(t.TempDir(), "data"), "HISTORY_LIMIT=20"}
	for range rounds(t, "KUBEAGENTS_KILL_ROUNDS", killRounds) {
		p := start(t, settings...)
		p.ready(t)
		var acknowledged atomic.Int64
		enough := int64(rand.N(3000)) // when it is killed
		crashed := make(chan struct{})
		kill := sync.OnceFunc(func() { p.kill(t); close(crashed) })
		var wg sync.WaitGroup
		for _, w := range writers {
			wg.Go(func() {
				client := http.Client{Transport: &http.Transport{}}
				defer client.CloseIdleConnections()
				for w.report(&client, p.address) {
					if acknowledged.Add(1) == enough+1 {
						go kill()
					}
				}
			})
		}
		wg.Wait()
		<-crashed

		p = start(t, settings...)
		p.ready(t)
		requireWritten(t, p, writers)
		p.kill(t)
	}
}

// report sends the next report, again where it was not acknowledged. It reports whether that was.
func (w *writer) report(client *http.Client, address string) bool {
	status, err := w.post(client, address)
	return err == nil && status == http.StatusOK
}

// post is report, or as many at a time as the writer has. It returns the status of the answer.
func (w *writer) post(client *http.Client, address string) (int, error) {
	w.sent = w.acked + max(w.atOnce, 1)
	var body bytes.Buffer
	for n := w.acked; n < w.sent; n++ {
		fmt.Fprintf(&body, `{"agent_id":%q,"session_topic":%q,"status":"running","message":"%d","report_id":"%d","content":%q}`,
			w.agentID, w.topic, n, n, w.content)
	}
	resp, err := client.Post("http://"+address+"/webhook/status", "application/json", &body)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close() //nolint:errcheck // it was read
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return 0, err
	}
	if resp.StatusCode == http.StatusOK {
		w.acked = w.sent
	}
	return resp.StatusCode, nil
}

func requireWritten(t *testing.T, p *process, writers []*writer) {
	t.Helper()
	sessions := map[string]int{} // of each agent
	total := 0
	for _, w := range writers {
		target := "/api/agents/" + url.PathEscape(w.agentID) + "/sessions/" + url.PathEscape(w.topic) + "?limit=1000"
		var messages []string
		for w.sent > 0 && target != "" {
			var page struct {
				Session       models.Session
				StatusHistory []models.AgentStatus `json:"status_history"`
			}
			resp, err := http.Get("http://" + p.address + target)
			require.NoError(t, err)
			if resp.StatusCode == http.StatusNotFound && w.acked == 0 {
				break // its first report was never acknowledged
			}
			require.NoError(t, json.NewDecoder(resp.Body).Decode(&page))
			require.NoError(t, resp.Body.Close())
			require.NotEmpty(t, page.StatusHistory)
			if len(messages) == 0 {
				require.Equal(t, page.StatusHistory[0].Message, page.Session.CurrentMessage)
			}
			for _, st := range page.StatusHistory {
				messages = append(messages, st.Message)
			}
			target = nextOf(resp.Header)
		}
		require.GreaterOrEqual(t, len(messages), w.acked, "%s: acknowledged reports are lost", w.topic)
		require.LessOrEqual(t, len(messages), w.sent)
		for i, message := range messages {
			require.Equal(t, strconv.Itoa(len(messages)-1-i), message)
		}
		w.acked = len(messages)
		if len(messages) > 0 {
			sessions[w.agentID]++
			total++
		}
	}
	var agents struct{ Agents []models.Agent }
	p.get(t, "/api/agents", &agents)
	require.Len(t, agents.Agents, len(sessions))
	for _, a := range agents.Agents {
		require.Equal(t, sessions[a.ID], a.SessionCount)
		require.Equal(t, sessions[a.ID], a.ActiveSessionCount)
	}
	var summary models.Summary
	p.get(t, "/api/summary", &summary)
	require.Equal(t, models.SessionCounts{Total: total, Active: total, ByStatus: models.StatusCounts{Running: total}}, summary.Sessions)
}

// TestProgramOnAFullDisk fills the disk of a program, and makes room again.
func TestProgramOnAFullDisk(t *testing.T) {
	dir := t.TempDir()
	err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=16m")
	if err != nil {
		t.Skipf("a file system of its own is needed, and mounting one: %v; run this as root", err)
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	ballast := filepath.Join(dir, "ballast")
	require.NoError(t, os.WriteFile(ballast, make([]byte, 10<<20), 0o600))
	settings := []string{"DATA_DIR=" + filepath.Join(dir, "data"), "HISTORY_LIMIT=10"}
	p := start(t, settings...)
	p.ready(t)

	n, code := 0, 0
	post := func() int {
		body := fmt.Sprintf(`{"agent_id":"a","session_topic":"t","status":"running","message":"%d","content":"%s"}`, n, strings.Repeat("x", 10_000))
		resp, err := http.Post("http://"+p.address+"/webhook/status", "application/json", strings.NewReader(body))
		require.NoError(t, err, "%s", p.stderr)
		defer resp.Body.Close() //nolint:errcheck // only its status is asked for
		if resp.StatusCode == http.StatusOK {
			n++
		} else {
			require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
			require.NotEmpty(t, resp.Header.Get("Retry-After"))
		}
		return resp.StatusCode
	}
	for code != http.StatusServiceUnavailable {
		code = post()
		require.Less(t, n, 5000, "the disk is never full")
	}
	resp, err := http.Get("http://" + p.address + "/health")
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
	require.Contains(t, string(body), "the disk of DATA_DIR is full")
	var detail struct {
		Session       models.Session
		StatusHistory []models.AgentStatus `json:"status_history"`
	}
	p.get(t, "/api/agents/a/sessions/t?limit=10", &detail)
	require.Equal(t, strconv.Itoa(n-1), detail.Session.CurrentMessage)

	require.NoError(t, os.Remove(ballast))
	for code != http.StatusOK {
		code = post()
	}
	for range 20 {
		require.Equal(t, http.StatusOK, post())
	}
	check := func() {
		var all []models.AgentStatus
		for target := "/api/agents/a/sessions/t?limit=100"; target != ""; {
			next := p.get(t, target, &detail)
			all = append(all, detail.StatusHistory...)
			detail.StatusHistory, target = nil, next
		}
		require.Len(t, all, n)
		for i, st := range all {
			require.Equal(t, strconv.Itoa(n-1-i), st.Message)
		}
	}
	check()
	p.kill(t)
	p = start(t, settings...)
	p.ready(t)
	check()
	require.Zero(t, p.stop(t), "%s", p.stderr)
	require.NotContains(t, p.stderr.String(), "panic")
}

// TestProgramAtAFileSizeLimit has a file in the data directory reach the size that the system allows.
func TestProgramAtAFileSizeLimit(t *testing.T) {
	var before, limit syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before))
	limit = before
	limit.Cur = 1 << 20
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit)) // the program inherits it
	p := start(t, "DATA_DIR="+filepath.Join(t.TempDir(), "data"))
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before))
	p.ready(t)
	accepted, refused := 0, 0
	for refused == 0 || accepted == 0 {
		body := fmt.Sprintf(`{"agent_id":"a","session_topic":"t","status":"running","content":"%s"}`, strings.Repeat("y", 9_000))
		resp, err := http.Post("http://"+p.address+"/webhook/status", "application/json", strings.NewReader(body))
		require.NoError(t, err, "%s", p.stderr)
		require.NoError(t, resp.Body.Close())
		if resp.StatusCode == http.StatusOK {
			accepted++
		} else {
			refused++
		}
		require.Less(t, accepted, 5000)
	}
	p.get(t, "/api/agents", new(any))
	require.Zero(t, p.stop(t), "%s", p.stderr)
	require.Contains(t, p.stderr.String(), "reached the size that the system allows")
}

func TestADataDirectoryServesOneProgram(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	p := start(t, "DATA_DIR="+dir)
	p.ready(t)
	status, said := runProgram(t, []string{"DATA_DIR=" + dir, "PORT=0"})
	require.Equal(t, command.ExitFailure, status)
	require.Contains(t, said, "DATA_DIR "+dir+" is in use by another process")
	require.Zero(t, p.stop(t))
}

// runProgram runs the program until it ends, and returns its exit status and what it said.
func runProgram(t *testing.T, environment []string, args ...string) (int, string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), append([]string{programVariable + "=1"}, environment...)...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// TestBackup copies the state of a program that takes reports, and starts another one on the copy.
func TestBackup(t *testing.T) {
	dir := t.TempDir()
	data, copied := "DATA_DIR="+filepath.Join(dir, "data"), filepath.Join(dir, "copy")
	p := start(t, data, "HISTORY_LIMIT=20")
	p.ready(t)
	w := &writer{agentID: "a", topic: "t"}
	for range 100 {
		require.True(t, w.report(http.DefaultClient, p.address))
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				w.report(http.DefaultClient, p.address)
			}
		}
	}()
	status, said := runProgram(t, []string{data}, "backup", copied)
	require.Zero(t, status, said)
	close(stop)
	<-done
	status, said = runProgram(t, []string{data}, "backup", copied)
	require.Equal(t, command.ExitFailure, status)
	require.Contains(t, said, copied+" is there already")
	for _, usage := range [][]string{{"backup"}, {"backup", "a", "b"}, {"restore", "x"}} {
		status, _ = runProgram(t, []string{data}, usage...)
		require.Equal(t, command.ExitUsage, status)
	}
	status, said = runProgram(t, nil, "backup", filepath.Join(dir, "none"))
	require.Equal(t, command.ExitUsage, status)
	require.Contains(t, said, "DATA_DIR")
	require.Zero(t, p.stop(t))
	status, said = runProgram(t, []string{data}, "backup", filepath.Join(dir, "late"))
	require.Equal(t, command.ExitFailure, status)
	require.Contains(t, said, "no server answers")

	all := w.acked
	w.acked, w.sent = 100, all
	p = start(t, "DATA_DIR="+copied, "HISTORY_LIMIT=20")
	p.ready(t)
	requireWritten(t, p, []*writer{w})
	require.Zero(t, p.stop(t))
	info, err := os.Stat(copied)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
}

// TestBackupIsSent downloads a copy of the state of a program with tokens, and starts another one on it.
func TestBackupIsSent(t *testing.T) {
	path, holders := tokensFile(t, everyScope)
	dir := t.TempDir()
	data, copied := filepath.Join(dir, "data"), filepath.Join(dir, "copy")
	left := filepath.Join(data, "sent-backup-LEFT")
	require.NoError(t, os.MkdirAll(left, 0o700))
	p := start(t, "DATA_DIR="+data, "TOKENS_FILE="+path)
	p.ready(t)
	ask := func(p *process, method, target, who, body string) (int, []byte) {
		r, err := http.NewRequest(method, "http://"+p.address+target, strings.NewReader(body))
		require.NoError(t, err)
		r.Header.Set("Authorization", "Bearer "+holders[who].token)
		resp, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		defer resp.Body.Close() //nolint:errcheck // it is read whole
		answer, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, answer
	}
	for i := range 100 {
		status, _ := ask(p, "POST", "/webhook/status", "reports", reportOf("a", fmt.Sprint(i), "running"))
		require.Equal(t, 200, status)
	}
	status, _ := ask(p, "DELETE", "/api/agents/a/sessions/7", "admin", "")
	require.Equal(t, 204, status)
	status, sent := ask(p, "GET", "/api/backup", "admin", "")
	require.Equal(t, 200, status)
	require.NoError(t, os.Mkdir(copied, 0o700))
	archive := tar.NewReader(bytes.NewReader(sent))
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		text, err := io.ReadAll(archive)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(copied, filepath.Base(header.Name)), text, 0o600))
	}
	entries, err := filepath.Glob(filepath.Join(data, "sent-backup-*"))
	require.NoError(t, err)
	require.Empty(t, entries, "nothing of it is left, nor of an earlier one")
	require.Zero(t, p.stop(t))
	p = start(t, "DATA_DIR="+copied, "TOKENS_FILE="+path)
	p.ready(t)
	_, summary := ask(p, "GET", "/api/summary", "reads", "")
	require.Contains(t, string(summary), `"total":99`)
	status, _ = ask(p, "GET", "/api/agents/a/sessions/7", "reads", "")
	require.Equal(t, 404, status, "what was removed stays so")
	require.Zero(t, p.stop(t))
}

// TestClocksAndDowntimeAtTheStart starts a server on the journal of an earlier one, which took a report at another time and ran for a
// minute more, and holds what the log says, and until when the session has to report.
func TestClocksAndDowntimeAtTheStart(t *testing.T) {
	for name, test := range map[string]struct {
		reported time.Duration // since the start
		log      string
		expires  time.Duration // since the start
	}{
		"it went on a moment ago":                         {-2 * time.Minute, "", 28 * time.Minute},
		"the TTL ran out while the server was down":       {-time.Hour, "sessions whose TTL ran out while the server was down get some more time to report\" sessions=1", 10 * time.Minute},
		"the clock has been set back by an hour and more": {time.Hour, "the clock was set back: some sessions were last updated in the future; their TTL counts from now\" sessions=1", 30 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			fs, started := vfs.NewMem(), time.Now()
			open := func() (*store.Store, *journal.Journal) {
				j, err := journal.Open(journal.Options{Dir: "data", FS: fs, Logger: slog.New(slog.DiscardHandler)})
				require.NoError(t, err)
				return store.New(store.Options{DefaultTTL: 30 * time.Minute, SessionRetention: time.Hour, HistoryLimit: 10, HistoryMaxBytes: 1 << 20, MaxSessions: 10, Journaled: true}), j
			}
			reported := started.Add(test.reported)
			st, j := open()
			require.NoError(t, j.Replay(t.Context(), st, 10, reported, func(journal.Progress) {}))
			_, err := recorder.New(st, j, metrics.New(st, "test")).Accept(nil, []models.StatusReport{{AgentID: "a", SessionTopic: "t", Status: models.Running}}, reported, nil)
			require.NoError(t, err)
			j.Alive(reported.Add(time.Minute))
			require.NoError(t, j.Close())

			st, j = open()
			var log bytes.Buffer
			require.NoError(t, replay(t.Context(), j, st, config.Config{HistoryLimit: 10}, slog.New(slog.NewTextHandler(&log, nil))))
			require.NoError(t, j.Close())
			for _, line := range []string{"some more time", "set back"} {
				require.Equal(t, strings.Contains(test.log, line), strings.Contains(log.String(), line), log.String())
			}
			require.Contains(t, log.String(), test.log)
			se, _, ok := st.Session("a", "t", nil, 1)
			require.True(t, ok)
			require.False(t, se.Expired)
			require.WithinDuration(t, started.Add(test.expires), se.ExpiresAt, 10*time.Second)
		})
	}
}

func TestHowFarAClockWasSetBack(t *testing.T) {
	noon := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	for name, test := range map[string]struct {
		to            time.Time
		elapsed, want time.Duration
	}{
		"it went on":                            {noon.Add(time.Second), time.Second, 0},
		"it was adjusted by a little":           {noon.Add(100 * time.Millisecond), time.Second, 0},
		"it was set forward":                    {noon.Add(time.Hour), time.Second, 0},
		"it was set back by an hour":            {noon.Add(time.Second - time.Hour), time.Second, time.Hour},
		"it was set back by less than passed":   {noon.Add(time.Second), 3 * time.Second, 2 * time.Second},
		"the machine slept, and its clock went": {noon.Add(8 * time.Hour), time.Second, 0},
	} {
		require.Equal(t, test.want, setBack(noon, test.to, test.elapsed), name)
	}
}
