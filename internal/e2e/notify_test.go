//go:build unix

package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/natstest"
	"github.com/kubeagents/kubeagents/models"
)

// receiver is an HTTP server that notes the notifications that it gets.
type receiver struct {
	*httptest.Server
	mu   sync.Mutex
	fail bool
	got  []received
}

type received struct {
	Type    string              `json:"type"`
	ID      string              `json:"id"`
	Thread  string              `json:"thread"`
	Change  string              `json:"change"`
	URL     string              `json:"url"`
	Session models.FleetSession `json:"session"`
}

func newReceiver(t *testing.T) *receiver {
	rc := &receiver{}
	rc.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rc.mu.Lock()
		defer rc.mu.Unlock()
		body, err := io.ReadAll(r.Body)
		var m received
		if err != nil || json.Unmarshal(body, &m) != nil || rc.fail {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		rc.got = append(rc.got, m)
	}))
	t.Cleanup(rc.Close)
	return rc
}

// arrived returns what arrived until now.
func (rc *receiver) arrived() []received {
	rc.mu.Lock()
	defer rc.mu.Unlock()
	return append([]received{}, rc.got...)
}

// await waits until the receiver got a number of notifications, and returns them.
func (rc *receiver) await(t *testing.T, count int) []received {
	t.Helper()
	require.Eventually(t, func() bool { return len(rc.arrived()) >= count }, 30*time.Second, 5*time.Millisecond, "%v", rc.arrived())
	return rc.arrived()
}

// TestNotifications runs the program with rules, changes the rules, and restarts it.
func TestNotifications(t *testing.T) {
	rc, dir := newReceiver(t), t.TempDir()
	rules := filepath.Join(dir, "rules.yaml")
	write := func(text string) { require.NoError(t, os.WriteFile(rules, []byte(text), 0o600)) }
	const format = "destinations:\n  hook: {webhook: {url: %q}}\nrules:\n  - {name: mine, on: [waits, failed], agents: ['mine*'], after: 0s, to: [hook]}\n"
	write(fmt.Sprintf(format, "${HOOK}"))
	settings := []string{"DATA_DIR=" + filepath.Join(dir, "data"), "NOTIFY_FILE=" + rules, "HOOK=" + rc.URL + "/secret", "PUBLIC_URL=https://hub.example.com/agents"}
	p := start(t, settings...)
	p.report(t, reportOf("others", "t", "pending"))
	p.report(t, reportOf("mine", "t", "pending"))
	got := rc.await(t, 1)
	require.Equal(t, "waits", got[0].Change)
	require.Equal(t, "mine", got[0].Session.AgentID)
	require.Equal(t, "https://hub.example.com/agents/?agent=mine&session=t", got[0].URL)
	p.report(t, reportOf("mine", "t", "running"))
	got = rc.await(t, 2)
	require.Equal(t, "withdrawn", got[1].Type)
	require.Equal(t, got[0].Thread, got[1].Thread)

	p.report(t, reportOf("mine 2", "t", "failed"))
	rc.await(t, 3)
	p.kill(t)
	p = start(t, settings...)
	write("rules: [{name: bad}]")
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGHUP))
	require.Eventually(t, func() bool {
		return strings.Contains(p.do("GET", "/metrics", "").Body.String(), `kubeagents_reload_ok{files="notification rules"} 0`)
	}, 10*time.Second, 10*time.Millisecond)
	p.report(t, reportOf("mine 3", "t", "pending"))
	told := map[string]string{}
	require.Eventually(t, func() bool {
		for _, m := range rc.arrived()[2:] {
			told[m.ID] = m.Session.AgentID
		}
		return len(told) == 2
	}, 10*time.Second, 10*time.Millisecond, "the old rules stay in use")
	require.ElementsMatch(t, []string{"mine 2", "mine 3"}, slices.Collect(maps.Values(told)), "nothing is told again, except with the same ID")
	require.Zero(t, p.stop(t), "%s", p.stderr)
	require.NotContains(t, p.stderr.String(), "secret", "the address of a destination may be a secret")

	status, output := runProgram(t, []string{"HOST=127.0.0.1", "PORT=0", "NOTIFY_FILE=" + rules})
	require.Equal(t, 2, status)
	require.Contains(t, output, "NOTIFY_FILE="+rules+": line 1: ")
}

// TestMutesSurviveKills mutes everything and an agent, kills the program, and unmutes.
func TestMutesSurviveKills(t *testing.T) {
	rc, dir := newReceiver(t), t.TempDir()
	rules := filepath.Join(dir, "rules.yaml")
	require.NoError(t, os.WriteFile(rules, fmt.Appendf(nil, "destinations:\n  hook: {webhook: {url: %q}}\nrules:\n  - {name: all, on: [waits], after: 0s, to: [hook]}\n", rc.URL), 0o600))
	settings := []string{"DATA_DIR=" + filepath.Join(dir, "data"), "NOTIFY_FILE=" + rules}
	p := start(t, settings...)
	p.report(t, reportOf("quiet", "t", "running"))
	type mute struct {
		ID    string
		Agent string `json:"agent_id"`
	}
	add := func(body string) (added mute) {
		w := p.do("POST", "/api/notifications/mutes", body)
		require.Equal(t, http.StatusOK, w.Code, w.Body)
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &added))
		return added
	}
	everything, agent := add(`{"minutes":600}`), add(`{"agent_id":"quiet","minutes":60}`)
	p.kill(t)
	p = start(t, settings...)
	var list struct{ Mutes []mute }
	require.Eventually(t, func() bool {
		p.get(t, "/api/notifications/mutes", &list)
		return len(list.Mutes) == 2
	}, 10*time.Second, 10*time.Millisecond, "they are read after the journal")
	require.Equal(t, []mute{agent, everything}, list.Mutes, "the one that ends first")
	p.report(t, reportOf("quiet", "t", "pending"))
	p.report(t, reportOf("loud", "t", "pending"))
	held := func(count int) bool {
		return strings.Count(p.do("GET", "/api/notifications", "").Body.String(), `"held":"muted"`) == count
	}
	require.Eventually(t, func() bool { return held(2) }, 10*time.Second, 10*time.Millisecond)
	require.Equal(t, http.StatusNoContent, p.do("DELETE", "/api/notifications/mutes/"+everything.ID, "").Code)
	require.Equal(t, "loud", rc.await(t, 1)[0].Session.AgentID)
	require.True(t, held(1), "the agent is still muted")
	p.kill(t)
	p = start(t, settings...)
	require.Eventually(t, func() bool {
		p.get(t, "/api/notifications/mutes", &list)
		return len(list.Mutes) == 1
	}, 10*time.Second, 10*time.Millisecond)
	require.Equal(t, http.StatusNoContent, p.do("DELETE", "/api/notifications/mutes/"+agent.ID, "").Code)
	require.Eventually(t, func() bool {
		return slices.ContainsFunc(rc.arrived(), func(m received) bool { return m.Session.AgentID == "quiet" })
	}, 10*time.Second, 10*time.Millisecond)
	require.Zero(t, p.stop(t))
}

// hub is one server, or several that share a log.
type hub interface {
	// take has a server take a report.
	take(t *testing.T, body string)
	// killSender kills the server that sends notifications, and starts it again.
	killSender(t *testing.T)
	// sender returns the server that sends notifications.
	sender(t *testing.T) *process
}

// alone is a hub of one server.
type alone struct {
	*process
	settings []string
}

func (a *alone) take(t *testing.T, body string) { a.report(t, body) }
func (a *alone) sender(*testing.T) *process     { return a.process }
func (a *alone) killSender(t *testing.T) {
	a.kill(t)
	a.process = start(t, a.settings...)
}

// TestNotificationsSurviveKills kills the program at random moments while sessions start to wait.
func TestNotificationsSurviveKills(t *testing.T) {
	checkNotificationsSurviveKills(t, 5, func(settings ...string) hub {
		settings = append(settings, "DATA_DIR="+t.TempDir())
		return &alone{start(t, settings...), settings}
	})
}

// TestClusterNotificationsSurviveKills is TestNotificationsSurviveKills for three servers, of which the one that sends is
// killed.
func TestClusterNotificationsSurviveKills(t *testing.T) {
	natstest.Long(t)
	checkNotificationsSurviveKills(t, 3, func(settings ...string) hub {
		return startGroup(t, natstest.Start(t, 1), append(settings, "NATS_REPLICAS=1")...)
	})
}

// checkNotificationsSurviveKills kills the server that sends at random moments while sessions start to wait. One of three
// destinations fails until the end. Each destination gets each notification, and repeats have the same ID.
func checkNotificationsSurviveKills(t *testing.T, rounds int, open func(settings ...string) hub) {
	good, slow, bad := newReceiver(t), newReceiver(t), newReceiver(t)
	bad.fail = true
	rules := filepath.Join(t.TempDir(), "rules.yaml")
	require.NoError(t, os.WriteFile(rules, fmt.Appendf(nil, `destinations:
  good: {at_most: unlimited, webhook: {url: %q}}
  slow: {at_most: unlimited, webhook: {url: %q}}
  bad: {at_most: unlimited, webhook: {url: %q}}
rules:
  - {name: all, on: [waits], after: 0s, to: [good, slow, bad]}
`, good.URL, slow.URL, bad.URL), 0o600))
	f := open("NOTIFY_FILE=" + rules)
	const perRound = 40
	total := 0
	for round := range rounds {
		count := 1 + rand.N(perRound)
		for i := range count {
			f.take(t, reportOf(fmt.Sprint("agent ", round, " ", i), "t", "pending"))
		}
		total += count
		if round == rounds-1 {
			requireMetric(t, f.sender(t), "kubeagents_notifications_pending [1-9]")
			requireMetric(t, f.sender(t), "kubeagents_notifications_oldest_seconds [1-9]")
			requireMetric(t, f.sender(t), `kubeagents_notifications_total{destination="bad",result="retried"} [1-9]`)
		}
		f.killSender(t)
	}
	bad.mu.Lock()
	bad.fail = false
	bad.mu.Unlock()
	for name, rc := range map[string]*receiver{"good": good, "slow": slow, "bad": bad} {
		agents := func() map[string]map[string]bool {
			ids := map[string]map[string]bool{}
			for _, m := range rc.arrived() {
				agent := m.Session.AgentID
				if ids[agent] == nil {
					ids[agent] = map[string]bool{}
				}
				ids[agent][m.ID] = true
			}
			return ids
		}
		require.Eventually(t, func() bool { return len(agents()) == total }, 60*time.Second, 10*time.Millisecond, name)
		for agent, ids := range agents() {
			require.Len(t, ids, 1, "%s of %s", agent, name)
		}
	}
	requireMetric(t, f.sender(t), "kubeagents_notifications_pending 0")
	last := f.sender(t)
	require.Zero(t, last.stop(t), "%s", last.stderr)
}

// requireMetric waits until a line of the metrics begins with a pattern.
func requireMetric(t *testing.T, p *process, pattern string) {
	t.Helper()
	line := regexp.MustCompile("(?m)^" + strings.NewReplacer("{", `\{`, "}", `\}`).Replace(pattern))
	require.Eventually(t, func() bool { return line.MatchString(p.do("GET", "/metrics", "").Body.String()) }, 10*time.Second, 10*time.Millisecond, pattern)
}
