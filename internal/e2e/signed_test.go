//go:build unix

package e2e

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/access/accesstest"
	"github.com/kubeagents/kubeagents/models"
)

// TestWebhooksAreRememberedAcrossRestarts replays a signed webhook before and after a restart.
func TestWebhooksAreRememberedAcrossRestarts(t *testing.T) {
	dir := t.TempDir()
	running, failed := reportOf("a", "t", "running"), reportOf("a", "t", "failed")
	now := time.Now()
	send := func(p *process, query, body string, header []string) (int, string) {
		w := p.do(http.MethodPost, "/webhook/status"+query, body, header...)
		return w.Code, w.Body.String()
	}
	status := func(p *process) models.Status {
		var page struct{ Sessions []models.FleetSession }
		p.get(t, "/api/sessions", &page)
		require.Len(t, page.Sessions, 1)
		return page.Sessions[0].CurrentStatus
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
			require.Equal(t, models.Failed, status(p))
		}
		require.Zero(t, p.stop(t))
		p = start(t, "DATA_DIR="+dir, "WEBHOOK_SECRET="+accesstest.Secret)
	}
	require.Zero(t, p.stop(t))
}
