//go:build unix

package e2e

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/access/accesstest"
)

// TestWebhooksAreRememberedAcrossRestarts replays a signed webhook before and after a restart.
func TestWebhooksAreRememberedAcrossRestarts(t *testing.T) {
	dir := t.TempDir()
	running, failed := reportOf("a", "t", "running"), reportOf("a", "t", "failed")
	now := time.Now()
	send := func(p *process, query, body string, header []string) (int, string) {
		r, err := http.NewRequest("POST", "http://"+p.address+"/webhook/status"+query, strings.NewReader(body))
		require.NoError(t, err)
		for _, line := range header {
			name, value, _ := strings.Cut(line, ": ")
			r.Header.Set(name, value)
		}
		resp, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		defer resp.Body.Close() //nolint:errcheck // it is read to the end
		content, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(content)
	}
	status := func(p *process) string {
		resp, err := http.Get("http://" + p.address + "/api/sessions")
		require.NoError(t, err)
		defer resp.Body.Close() //nolint:errcheck // it is read to the end
		content, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		_, rest, _ := bytes.Cut(content, []byte(`"current_status":"`))
		text, _, _ := strings.Cut(string(rest), `"`)
		return text
	}
	captured := accesstest.Sign(t, accesstest.Secret, "msg_1", now, running)
	p := start(t, "DATA_DIR="+dir, "WEBHOOK_SECRET="+accesstest.Secret)
	code, response := send(p, "", running, captured)
	require.Equal(t, 200, code, response)
	code, response = send(p, "", failed, accesstest.Sign(t, accesstest.Secret, "msg_2", now, failed))
	require.Equal(t, 200, code, response)
	for range 2 {
		for query, want := range map[string]int{"": 200, "?x=1": 200, "?agent_id=b": 400} {
			code, response = send(p, query, running, append(captured, "Idempotency-Key: other"))
			require.Equal(t, want, code, response)
			require.Equal(t, "failed", status(p))
		}
		require.Zero(t, p.stop(t))
		p = start(t, "DATA_DIR="+dir, "WEBHOOK_SECRET="+accesstest.Secret)
	}
	require.Zero(t, p.stop(t))
}
