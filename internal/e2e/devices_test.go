//go:build linux

package e2e

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/internal/access/accesstest"
	"github.com/kubeagents/kubeagents/internal/push"
	"github.com/kubeagents/kubeagents/internal/push/pushtest"
)

// screen is the browser at a push service. It shows a message once, even if that is sent again with the same ID.
type screen struct {
	*pushtest.Service
	t     *testing.T
	shown map[string]bool
}

// requireNext waits for the next message, which must have a title.
func (s *screen) requireNext(title string, why ...any) {
	s.t.Helper()
	var next []string
	require.Eventually(s.t, func() bool {
		for _, m := range s.Taken() {
			if !s.shown[m.ID] {
				s.shown[m.ID] = true
				next = append(next, m.Title)
			}
		}
		return len(next) > 0
	}, 30*time.Second, 5*time.Millisecond)
	require.Equal(s.t, []string{title}, next, why...)
}

// TestDevices subscribes a browser by the API, at a real push service, and follows it through a restart, a person at the
// keyboard, another subscription, and the end of its token.
func TestDevices(t *testing.T) {
	const privateKey = "8LN5azNlkwX_F33Z0CeErpr9iFjMW9CSkvM3sNFE9_M"
	service, dir := screen{pushtest.NewService(t), t, map[string]bool{}}, t.TempDir()
	var err error
	service.Keys, err = push.ParseKeys(privateKey)
	require.NoError(t, err)
	ca := filepath.Join(dir, "ca.pem")
	require.NoError(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: service.Certificate().Raw}), 0o600))
	tokens, holders := accesstest.TokensFile(t, map[string]access.Entry{
		"anna": {Scopes: []string{"read"}, Agents: []string{"a*"}}, "bob": {Scopes: []string{"read", "admin"}}, "agents": {Scopes: []string{"report"}},
	})
	rules := filepath.Join(dir, "rules.yaml")
	require.NoError(t, os.WriteFile(rules, []byte("destinations: {local: {command: {program: /bin/true}}}\nrules:\n  - {name: quick, on: [waits], after: 0s, to: [local]}\n"), 0o600))
	settings := []string{"SSL_CERT_FILE=" + ca, "PUSH_ALLOW_PRIVATE=true", "VAPID_PRIVATE_KEY=" + privateKey, "VAPID_SUBJECT=" + pushtest.Subject,
		"DATA_DIR=" + filepath.Join(dir, "data"), "TOKENS_FILE=" + tokens, "NOTIFY_FILE=" + rules}
	p := start(t, settings...)
	anna, bob := holders["anna"].Header(), holders["bob"].Header()
	report := func(agent, status string) {
		t.Helper()
		require.Equal(t, 200, p.do("POST", "/webhook/status", reportOf(agent, "t", status), holders["agents"].Header()...).Code)
	}
	type device struct {
		ID, Name, Failure string
		Delivered         time.Time `json:"delivered_at"`
	}
	type list struct {
		PublicKey string `json:"public_key"`
		Off       string
		Devices   []device
		Rules     []string
	}
	devicesOf := func(header []string) (l list) {
		t.Helper()
		w := p.do("GET", "/api/notifications/devices", "", header...)
		require.Equal(t, 200, w.Code, "%s", w.Body)
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &l))
		return l
	}
	subscription := func(s push.Subscription) map[string]any {
		return map[string]any{"endpoint": s.Endpoint, "expirationTime": nil, "keys": map[string]string{"p256dh": s.P256dh, "auth": s.Auth}}
	}
	post := func(target string, body map[string]any, header []string) (status int, answer string) {
		t.Helper()
		w := p.do("POST", target, string(must(json.Marshal(body))), header...)
		return w.Code, w.Body.String()
	}
	const all = "/api/notifications/devices"

	require.Equal(t, list{PublicKey: service.Keys.Public(), Devices: []device{}, Rules: []string{}}, devicesOf(anna))
	require.Equal(t, []string{"quick"}, devicesOf(bob).Rules)
	status, answer := post(all, map[string]any{"subscription": subscription(service.Subscription()), "rules": []string{"quick"}}, anna)
	require.Equal(t, 403, status, answer)
	status, answer = post(all, map[string]any{"subscription": map[string]any{"endpoint": "http://x", "keys": map[string]any{}}}, anna)
	require.Equal(t, 400, status, answer)
	status, answer = post(all, map[string]any{"subscription": subscription(service.Subscription()), "rules": []string{"none"}}, bob)
	require.Equal(t, 400, status, answer)
	status, answer = post(all, map[string]any{"subscription": subscription(service.Subscription()), "on": []string{"waits", "failed"}, "name": "Chrome on Linux"}, anna)
	require.Equal(t, 201, status, answer)
	require.NotContains(t, answer, service.URL+"/")
	mine := devicesOf(anna).Devices
	require.Len(t, mine, 1)
	require.Equal(t, "Chrome on Linux", mine[0].Name)
	require.Empty(t, devicesOf(bob).Devices)

	status, answer = post(all+"/"+mine[0].ID+"/test", nil, anna)
	require.Equal(t, 200, status, answer)
	service.requireNext("kubeagents asks a question")
	status, _ = post(all+"/"+mine[0].ID+"/test", nil, bob)
	require.Equal(t, 404, status)

	report("b", "failed")
	report("a1", "failed")
	service.requireNext("a1 failed")
	p.kill(t)
	p = start(t, settings...)
	report("a2", "failed")
	service.requireNext("a2 failed")
	require.NotZero(t, devicesOf(anna).Devices[0].Delivered)

	status, answer = post("/api/presence", map[string]any{"page": "p"}, anna)
	require.Equal(t, 204, status, answer)
	report("a3", "failed")
	status, answer = post("/api/presence", map[string]any{"page": "p", "agent_id": "a2"}, anna)
	require.Equal(t, 204, status, answer)
	service.requireNext("a3 failed", "it is not on the page any more")
	report("a2", "running")
	service.requireNext("Resolved: a2 failed")
	report("a2", "failed")
	status, answer = post("/api/presence", map[string]any{"page": "p", "agent_id": "a2", "left": true}, anna)
	require.Equal(t, 204, status, answer)
	service.requireNext("a2 failed", "it still holds when the page is left")

	renewed := service.Subscription()
	renewed.Endpoint += "?renewed"
	status, answer = post(all, map[string]any{"subscription": subscription(renewed), "renews": service.URL}, anna)
	require.Equal(t, 404, status, answer)
	status, answer = post(all, map[string]any{"subscription": subscription(renewed), "renews": service.Subscription().Endpoint}, anna)
	require.Equal(t, 201, status, answer)
	require.Equal(t, mine[0].ID, devicesOf(anna).Devices[0].ID)

	text := must(os.ReadFile(tokens))
	var kept []byte
	for line := range bytes.Lines(text) {
		var e access.Entry
		require.NoError(t, json.Unmarshal(line, &e))
		if e.Name != "anna" {
			kept = append(kept, line...)
		}
	}
	require.NoError(t, os.WriteFile(tokens, kept, 0o600))
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGHUP))
	require.Eventually(t, func() bool { return p.do("GET", all, "", anna...).Code == 401 }, 10*time.Second, 10*time.Millisecond)
	require.NoError(t, os.WriteFile(tokens, text, 0o600))
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGHUP))
	require.Eventually(t, func() bool { return p.do("GET", all, "", anna...).Code == 200 }, 10*time.Second, 10*time.Millisecond)
	require.Empty(t, devicesOf(anna).Devices, "a device ends with its token")

	status, answer = post(all, map[string]any{"subscription": subscription(service.Subscription()), "rules": []string{"quick"}}, bob)
	require.Equal(t, 201, status, answer)
	report("b", "pending")
	service.requireNext("b waits", "at the rule's time")
	id := devicesOf(bob).Devices[0].ID
	require.Equal(t, 404, p.do("DELETE", all+"/"+id, "", anna...).Code)
	require.Equal(t, 204, p.do("DELETE", all+"/"+id, "", bob...).Code)
	require.Equal(t, 404, p.do("DELETE", all+"/"+id, "", bob...).Code)
	require.Zero(t, p.stop(t))
	require.Empty(t, service.Taken())
	for _, secret := range []string{"s3cret-endpoint", privateKey, service.Subscription().Auth} {
		require.NotContains(t, p.stderr.String(), secret)
	}
}
