//go:build unix

package e2e

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/access/accesstest"
	"github.com/kubeagents/kubeagents/internal/command"
	"github.com/kubeagents/kubeagents/models"
)

// killRounds is how often TestProgramKilled kills the program, unless KUBEAGENTS_KILL_ROUNDS specifies another number.
const killRounds = 5

// rounds returns the number in an environment variable, or the default if the variable is not set.
func rounds(t *testing.T, variable string, byDefault int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return byDefault
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err)
	return n
}

// writer sends reports to its own session, one request after another.
type writer struct {
	agentID, topic, content string
	sent, acked             int // number of reports
	atOnce                  int // number of reports per request; 0 for one
}

// TestProgramKilled repeatedly kills the program at random moments while 32 writers report. Every acknowledged report
// must be there exactly once, and counts and lists must agree with the histories.
func TestProgramKilled(t *testing.T) {
	writers := make([]*writer, 32)
	for i := range writers {
		writers[i] = &writer{agentID: fmt.Sprint("agent ", i%8), topic: fmt.Sprint("topic/", i)}
	}
	settings := []string{"DATA_DIR=" + filepath.Join(t.TempDir(), "data"), "HISTORY_LIMIT=20"}
	for range rounds(t, "KUBEAGENTS_KILL_ROUNDS", killRounds) {
		p := start(t, settings...)
		var acknowledged atomic.Int64
		killAfter := int64(rand.N(3000)) // number of acknowledged reports
		crashed := make(chan struct{})
		kill := sync.OnceFunc(func() { p.kill(t); close(crashed) })
		var wg sync.WaitGroup
		for _, w := range writers {
			wg.Go(func() {
				client := http.Client{Transport: &http.Transport{}}
				defer client.CloseIdleConnections()
				for w.report(&client, p.address) {
					if acknowledged.Add(1) == killAfter+1 {
						go kill()
					}
				}
			})
		}
		wg.Wait()
		<-crashed

		p = start(t, settings...)
		requireWritten(t, p, writers)
		p.kill(t)
	}
}

// report sends the next report, or the last one again if it was not acknowledged. It reports whether this request was
// acknowledged.
func (w *writer) report(client *http.Client, address string) bool {
	status, err := w.post(client, address)
	return err == nil && status == http.StatusOK
}

// post sends the next atOnce reports and returns the status of the response.
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
	defer resp.Body.Close() //nolint:errcheck // it is read to the end
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return 0, err
	}
	if resp.StatusCode == http.StatusOK {
		w.acked = w.sent
	}
	return resp.StatusCode, nil
}

// requireWritten fails the test unless the server has every acknowledged report of writers exactly once, in order. It
// also checks the list of agents and the summary. Reports that were not acknowledged may have been stored or not.
func requireWritten(t *testing.T, p *process, writers []*writer) {
	t.Helper()
	sessions := map[string]int{} // number of sessions by agent
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

func TestDataDirectoryIsLocked(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	p := start(t, "DATA_DIR="+dir)
	status, output := runProgram(t, []string{"DATA_DIR=" + dir, "PORT=0"})
	require.Equal(t, command.ExitFailure, status)
	require.Contains(t, output, "DATA_DIR "+dir+" is in use by another process")
	require.Zero(t, p.stop(t))
}

// TestBackup copies the state of a program while it accepts reports, and starts another program on the copy.
func TestBackup(t *testing.T) {
	dir := t.TempDir()
	data, copied := "DATA_DIR="+filepath.Join(dir, "data"), filepath.Join(dir, "copy")
	p := start(t, data, "HISTORY_LIMIT=20")
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
	status, output := runProgram(t, []string{data}, "backup", copied)
	require.Zero(t, status, output)
	require.Equal(t, "The backup is complete: "+copied+"\n", output)
	close(stop)
	<-done
	status, output = runProgram(t, []string{data}, "backup", copied)
	require.Equal(t, command.ExitFailure, status)
	require.Contains(t, output, copied+" already exists")
	for _, usage := range [][]string{{"backup"}, {"backup", "a", "b"}, {"restore"}} {
		status, _ = runProgram(t, []string{data}, usage...)
		require.Equal(t, command.ExitUsage, status)
	}
	status, output = runProgram(t, nil, "backup", filepath.Join(dir, "none"))
	require.Equal(t, command.ExitUsage, status)
	require.Contains(t, output, "DATA_DIR")
	require.Zero(t, p.stop(t))
	status, output = runProgram(t, []string{data}, "backup", filepath.Join(dir, "late"))
	require.Equal(t, command.ExitFailure, status)
	require.Contains(t, output, "no server runs with DATA_DIR")

	all := w.acked
	w.acked, w.sent = 100, all
	p = start(t, "DATA_DIR="+copied, "HISTORY_LIMIT=20")
	requireWritten(t, p, []*writer{w})
	require.Zero(t, p.stop(t))
	info, err := os.Stat(copied)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
}

// TestBackupDownload downloads a copy of the state of a program with tokens, and starts another program on it.
func TestBackupDownload(t *testing.T) {
	path, holders := accesstest.TokensFile(t, accesstest.EveryKind())
	dir := t.TempDir()
	data, copied := filepath.Join(dir, "data"), filepath.Join(dir, "copy")
	leftover := filepath.Join(data, "sent-backup-LEFT")
	require.NoError(t, os.MkdirAll(leftover, 0o700))
	p := start(t, "DATA_DIR="+data, "TOKENS_FILE="+path)
	request := func(p *process, method, target, holder, body string) (int, []byte) {
		return teamClient{holders[holder], p}.do(t, method, target, body)
	}
	for i := range 100 {
		status, _ := request(p, "POST", "/webhook/status", "reports", reportOf("a", fmt.Sprint(i), "running"))
		require.Equal(t, 200, status)
	}
	status, _ := request(p, "DELETE", "/api/agents/a/sessions/7", "admin", "")
	require.Equal(t, 204, status)
	status, backup := request(p, "GET", "/api/backup", "admin", "")
	require.Equal(t, 200, status)
	require.NoError(t, os.Mkdir(copied, 0o700))
	archive := tar.NewReader(bytes.NewReader(backup))
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
	require.Empty(t, entries, "no temporary copy is left, neither of this backup nor of an earlier one")
	require.Zero(t, p.stop(t))
	p = start(t, "DATA_DIR="+copied, "TOKENS_FILE="+path)
	_, summary := request(p, "GET", "/api/summary", "reads", "")
	require.Contains(t, string(summary), `"total":99`)
	status, _ = request(p, "GET", "/api/agents/a/sessions/7", "reads", "")
	require.Equal(t, 404, status, "a removed session stays removed")
	require.Zero(t, p.stop(t))
}
