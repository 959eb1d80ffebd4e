package servertest

import (
	"encoding/base64"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/config"
	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/internal/access/accesstest"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// BenchmarkReads measures the cost of each read in a fleet of 200,000 sessions, and compares it with the cost in a
// fleet of 2,000. In both fleets, four sessions are pending, five are lost and none failed.
func (wiring Wiring) BenchmarkReads(b *testing.B) {
	small, large := wiring.newFleet(b, 2_000, config.Config{}), wiring.newFleet(b, 200_000, config.Config{})
	for _, read := range []fleetRead{
		{"agents", always("/api/agents?limit=100")},
		{"agents-last-seen", always("/api/agents?limit=100&sort=-last_seen")},
		{"agents-pending", always("/api/agents?limit=100&status=pending")},
		{"agents-failed", always("/api/agents?limit=100&status=failed")},
		{"agents-of-source", always("/api/agents?limit=100&source=cursor")},
		{"agents-inactive", always("/api/agents?limit=100&active=false")},
		{"agents-from-the-middle", func(_, agents int) string { return "/api/agents?limit=100&cursor=" + cursorAfter(agents/2-1) }},
		{"agent", func(n, _ int) string { return "/api/agents/" + benchAgent(n) }},
		{"agent-status", func(n, _ int) string { return "/api/agents/" + benchAgent(n) + "/status?limit=100" }},
		{"agent-sessions", func(n, _ int) string { return "/api/agents/" + benchAgent(n) + "/sessions?limit=100" }},
		{"agent-sessions-failed", func(n, _ int) string { return "/api/agents/" + benchAgent(n) + "/sessions?status=failed" }},
		{"session", func(n, _ int) string { return "/api/agents/" + benchAgent(n) + "/sessions/3?limit=100" }},
		{"sessions", always("/api/sessions?limit=100")},
		{"sessions-pending", always("/api/sessions?limit=100&status=pending&expired=false")},
		{"sessions-failed", always("/api/sessions?limit=100&status=failed")},
		{"sessions-lost", always("/api/sessions?limit=100&lost=true")},
		{"sessions-that-wait", always("/api/sessions?limit=100&needs=waiting")},
		{"sessions-of-agent", func(n, _ int) string { return "/api/sessions?limit=100&agent_id=" + benchAgent(n) }},
		{"sessions-of-source-pending", always("/api/sessions?limit=100&source=cursor&status=pending")},
		{"summary", always("/api/summary")},
	} {
		read.compare(b, small, large)
	}
}

// BenchmarkWaitingReads compares reads of the sessions that wait, the longest waiting first, in a fleet of 200,000
// sessions of which 10,000 wait with those in a fleet of 2,000 of which 100 wait: the first page, and pages from
// everywhere in the list. Sessions begin to wait in random order. No session is acknowledged, and nothing is reported
// meanwhile.
func (wiring Wiring) BenchmarkWaitingReads(b *testing.B) {
	small, large := wiring.newWaitingFleet(b, 2_000), wiring.newWaitingFleet(b, 200_000)
	deep := map[int][]string{small.agents: small.pagesOfWaiting(b, 60), large.agents: large.pagesOfWaiting(b, 60)}
	for _, read := range []fleetRead{
		{"first-page", always("/api/sessions?limit=100&needs=waiting")},
		{"deep-page", func(n, agents int) string { return deep[agents][n*len(deep[agents])/agents] }},
		{"latest-first", always("/api/sessions?limit=100&status=pending&expired=false")},
		{"summary", always("/api/summary")},
	} {
		read.compare(b, small, large)
	}
}

// BenchmarkTeamReads compares the cost of reads with a token for 100 agents in a fleet of 20,000 agents with that in a
// fleet of 200.
func (wiring Wiring) BenchmarkTeamReads(b *testing.B) {
	path, holders := accesstest.TokensFile(b, map[string]access.Entry{"team": {Scopes: []string{"read"}, Agents: []string{"host-000*"}}})
	small, large := wiring.newFleet(b, 2_000, config.Config{TokensFile: path}), wiring.newFleet(b, 200_000, config.Config{TokensFile: path})
	for _, f := range []*fleetServer{small, large} {
		f.header = http.Header{"Authorization": {"Bearer " + holders["team"].Token}}
	}
	for _, read := range []fleetRead{
		{"agents", always("/api/agents?limit=100")},
		{"agents-last-seen", always("/api/agents?limit=100&sort=-last_seen")},
		{"agents-of-source", always("/api/agents?limit=50&source=cursor")},
		{"sessions", always("/api/sessions?limit=100")},
		{"sessions-failed", always("/api/sessions?limit=100&status=failed")},
		{"sessions-of-source", always("/api/sessions?limit=100&source=cursor")},
		{"sessions-of-a-search", always("/api/sessions?limit=100&search=00099")},
		{"summary", always("/api/summary")},
	} {
		read.compare(b, small, large)
	}
}

// fleetRead is a read whose cost is compared between two fleets.
type fleetRead struct {
	name   string
	target func(n, agents int) string // target for the n-th agent of a fleet; each agent has ten sessions
}

// compare reports the median cost of the read in the large fleet, in microseconds, and the median ratio to its cost in
// the small fleet.
func (read fleetRead) compare(b *testing.B, small, large *fleetServer) {
	b.Run(read.name, func(b *testing.B) {
		var ratios, costs []float64
		for b.Loop() {
			cost := large.cost(b, read.target)
			ratios = append(ratios, cost.Seconds()/small.cost(b, read.target).Seconds())
			costs = append(costs, cost.Seconds()*1e6)
		}
		slices.Sort(ratios)
		slices.Sort(costs)
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(ratios[len(ratios)/2], "x_small")
		b.ReportMetric(costs[len(costs)/2], "us")
	})
}

func always(target string) func(int, int) string { return func(int, int) string { return target } }

func benchAgent(n int) string { return fmt.Sprintf("host-%05d:claude", n) }

// cursorAfter returns the cursor of the page that starts after the n-th agent.
func cursorAfter(n int) string {
	return base64.RawURLEncoding.EncodeToString(append([]byte{'a', 0, 0}, benchAgent(n)...))
}

// fleetServer is a server with a fleet.
type fleetServer struct {
	*server
	agents int
	header http.Header // sent with each request
}

func (wiring Wiring) newFleet(b *testing.B, sessions int, cfg config.Config) *fleetServer {
	s := wiring.newGuardedServer(b, nil, cfg, nil)
	now := time.Now()
	report := func(n int, st models.Status) models.StatusReport {
		return models.StatusReport{
			AgentID: benchAgent(n / 10), AgentName: "Backend refactor", AgentSource: []string{"claude-code", "cursor"}[n/10%2],
			SessionTopic: fmt.Sprint(n % 10), Status: st, Timestamp: now, TTLMinutes: 60,
			Message: "Running go test ./...", Content: "Reading the repository",
		}
	}
	for n := range 5 { // their TTL has run out, so they become lost
		s.store.Accept(nil, []models.StatusReport{report(n*sessions/5, models.Running)}, now.Add(-2*time.Hour), nil)
	}
	for n := range sessions {
		st := models.Running
		switch {
		case n%(sessions/5) == 0:
			continue
		case n%(sessions/4) == 1:
			st = models.Pending
		}
		s.store.Accept(nil, []models.StatusReport{report(n, st)}, now, nil)
	}
	summary := s.store.Summary().Sessions
	require.Equal(b, []int{sessions, 5, 4}, []int{summary.Total, summary.Lost, summary.ByStatus.Pending})
	return &fleetServer{s, sessions / 10, nil}
}

// newWaitingFleet returns a server with a fleet in which one session of 20 waits for the answer to a question.
func (wiring Wiring) newWaitingFleet(b *testing.B, sessions int) *fleetServer {
	s := wiring.newGuardedServer(b, nil, config.Config{}, nil)
	random := rand.New(rand.NewPCG(1, uint64(sessions)))
	now := time.Now().Add(-10 * time.Minute)
	accept := func(n int, report models.StatusReport) {
		report.AgentID, report.SessionTopic, report.TTLMinutes = benchAgent(n/10), fmt.Sprint(n%10), 60
		report.AgentSource = []string{"claude-code", "cursor"}[n/10%2]
		now = now.Add(time.Millisecond)
		outcomes := s.store.Accept(nil, []models.StatusReport{report}, now, nil)
		require.Equal(b, store.Stored, outcomes[0])
	}
	for _, n := range random.Perm(sessions) {
		accept(n, models.StatusReport{AgentName: "Backend refactor", SessionTitle: fmt.Sprint("Fix test ", n), Status: models.Running,
			Message: fmt.Sprintf("Running go test ./internal/package%d", n), Event: &models.Event{AppliesIn: models.Anywhere}})
	}
	for _, n := range random.Perm(sessions)[:sessions/20] {
		text := fmt.Sprintf("Bash: rm -rf build/%d", n)
		accept(n, models.StatusReport{Status: models.Pending, Event: &models.Event{AppliesIn: models.Anywhere, CallIDHash: uint64(n + 1),
			Question: &models.Question{Kind: models.Permission, Text: text, Content: text + "\n\nRemove what was built before"}}})
	}
	require.Equal(b, models.NeedCounts{Waiting: sessions / 20}, s.store.Summary().Needs)
	return &fleetServer{s, sessions / 10, nil}
}

// pagesOfWaiting returns the targets of n full pages of the sessions that wait, spread over the list.
func (f *fleetServer) pagesOfWaiting(b *testing.B, n int) (targets []string) {
	const list = "/api/sessions?needs=waiting&limit="
	step := f.agents * 10 / 20 / 100 // a hundredth of those that wait
	for cursor := ""; len(targets) < n; {
		var page struct {
			NextCursor string `json:"next_cursor"`
		}
		f.get(b, fmt.Sprint(list, step, cursor), &page)
		cursor = "&cursor=" + page.NextCursor
		targets = append(targets, list+"40"+cursor)
	}
	return targets
}

// cost returns the average time per response over 64 requests spread across the fleet.
func (f *fleetServer) cost(b *testing.B, target func(n, agents int) string) time.Duration {
	const requests = 64
	var list [requests]*http.Request
	for i := range list {
		list[i] = httptest.NewRequest(http.MethodGet, target(i*f.agents/requests, f.agents), nil)
		maps.Copy(list[i].Header, f.header)
	}
	w := &discard{header: http.Header{}}
	started := time.Now()
	for _, r := range list {
		f.ServeHTTP(w, r)
	}
	took := time.Since(started)
	require.Equal(b, http.StatusOK, w.status)
	return took / requests
}

// discard is an http.ResponseWriter that keeps only the status.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header { return d.header }

func (d *discard) WriteHeader(status int) { d.status = status }

func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
