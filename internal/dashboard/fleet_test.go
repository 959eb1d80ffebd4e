package dashboard_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/handlers"
	"github.com/kubeagents/kubeagents/internal/dashboard"
	"github.com/kubeagents/kubeagents/internal/devices"
	"github.com/kubeagents/kubeagents/internal/live"
	"github.com/kubeagents/kubeagents/internal/metrics"
	"github.com/kubeagents/kubeagents/internal/notify"
	"github.com/kubeagents/kubeagents/internal/recorder"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// past sends reports to a store at times in the past, so that sessions have been waiting or lost for hours.
type past struct {
	testing.TB
	store *store.Store
	now   time.Time
}

// at applies reports that the server received some time ago. Earlier ones must come first.
func (p past) at(ago time.Duration, reports ...models.StatusReport) {
	p.Helper()
	for i, outcome := range p.store.Accept(nil, reports, p.now.Add(-ago), nil) {
		require.LessOrEqual(p, outcome, store.Renewed, "report %d", i)
	}
}

// servePast serves the dashboard of a server without tokens, in the process of the test, with what fill reports.
func servePast(t testing.TB, fill func(past)) *server {
	t.Helper()
	s, _ := servePastAndNotify(t, fill, nil)
	return s
}

// servePastAndNotify is like servePast, and notifies of what is reported afterwards by the rules in config, if that is not
// nil. It returns the server's notifier and store as well.
func servePastAndNotify(t testing.TB, fill func(past), config *notify.Config) (*server, notified) {
	t.Helper()
	st := store.New(store.Options{DefaultTTL: 30 * time.Minute, SessionRetention: 168 * time.Hour, HistoryLimit: 100,
		HistoryMaxBytes: 64 << 20, MaxSessions: 10_000, EventWindow: 10_000})
	fill(past{t, st, time.Now()})
	st.Expire(time.Now())
	m := metrics.New(st, "test")
	hub := live.New(st, m, live.Options{MaxSubscribers: 100, QueueSize: 5000})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { hub.Run(ctx) })
	page, err := dashboard.New(st)
	require.NoError(t, err)
	logger := slog.New(slog.DiscardHandler)
	notifier := notify.New(notify.Options{Store: st, Metrics: m, Logger: logger, Link: func(store.SessionKey) string { return "" }})
	if config != nil {
		notifier.SetConfig(config)
		running.Go(func() { notifier.Run(ctx) })
	}
	registry, err := devices.Open(devices.Options{Notifier: notifier, Reason: "set DATA_DIR"})
	require.NoError(t, err)
	h := handlers.New(handlers.Options{Store: st, Recorder: recorder.New(st, nil, m), Hub: hub, Metrics: m, Dashboard: page,
		Logger: logger, Version: "test", Notifier: notifier, Devices: registry, HasRules: config != nil})
	h.SetReady()
	web := httptest.NewServer(routes(h))
	t.Cleanup(func() {
		h.Drain()
		web.CloseClientConnections()
		web.Close()
		cancel()
		running.Wait()
	})
	if config != nil {
		require.Eventually(t, func() bool { return len(notifier.View(0, nil).Rules) > 0 }, 10*time.Second, time.Millisecond)
	}
	return &server{address: web.Listener.Addr().String()}, notified{past{t, st, time.Now()}, notifier}
}

// routes returns a handler for what the dashboard requests. The program's own router is in package main.
func routes(h *handlers.Handler) chi.Router {
	r := chi.NewRouter()
	r.Use(h.Observe, handlers.EncodedPath)
	r.Get("/", h.Handle(h.Page))
	r.Get("/connect", h.Handle(h.Connect))
	r.Get("/favicon.svg", h.Handle(h.Dashboard.Icon))
	r.Get("/manifest.webmanifest", h.Handle(h.Dashboard.AppFile))
	r.Get("/icons/{name}", h.Handle(h.Dashboard.AppFile))
	r.Get("/assets/*", h.Handle(h.Dashboard.Asset))
	r.Get("/connect/assets/*", h.Handle(h.Dashboard.PublicAsset))
	r.Get("/api/agents", h.Read(h.Agents))
	r.Get("/api/agents/{agent_id}", h.Read(h.WithoutParameters(h.Agent)))
	r.Get("/api/agents/{agent_id}/sessions/{session_topic}", h.Read(h.Session))
	r.Get("/api/sessions", h.Read(h.Sessions))
	r.Get("/api/summary", h.Read(h.WithoutParameters(h.Summary)))
	r.Get("/api/events", h.AfterReplay(h.Events))
	r.Get("/api/notifications/devices", h.AfterReplay(h.WithoutParameters(h.Devices)))
	r.Post("/api/acknowledge", h.AfterReplay(h.WithoutParameters(h.Acknowledge)))
	r.Get("/api/notifications", h.AfterReplay(h.WithoutParameters(h.Notifications)))
	r.Get("/api/notifications/mutes", h.AfterReplay(h.WithoutParameters(h.Mutes)))
	r.Post("/api/notifications/mutes", h.AfterReplay(h.WithoutParameters(h.Mute)))
	r.Delete("/api/notifications/mutes/{mute_id}", h.AfterReplay(h.WithoutParameters(h.Unmute)))
	r.Post("/api/notifications/test", h.AfterReplay(h.WithoutParameters(h.TestDestination)))
	r.Post("/api/agents/{agent_id}/sessions/{session_topic}/acknowledge", h.AfterReplay(h.WithoutParameters(h.AcknowledgeSession)))
	return r
}

// claudeOf returns the reports for events of a Claude Code session on a machine.
func (p past) claudeOf(session, folder, host string, events ...string) []models.StatusReport {
	p.Helper()
	return eventsOf(p, session, folder, host, events...)
}

// own returns a status report of an agent that is no tool.
func own(agent, topic string, status models.Status, message string) models.StatusReport {
	return models.StatusReport{AgentID: agent, AgentSource: "cron", AgentHost: "ops-1", SessionTopic: topic, Status: status, Message: message}
}

// typical is the fleet of a small team.
func typical(p past) {
	p.at(26*time.Hour, own("nightly", "backup of 24 November", models.Success, "412 GB in 38 minutes"))
	p.at(7*time.Hour, p.claudeOf("old", "website", "studio", prompts("Move the blog to the new theme"))...)
	p.at(4*time.Hour, own("importer", "customers from the old shop", models.Running, "31,000 of 52,000 rows"))
	p.at(150*time.Minute, p.claudeOf("migrate", "payments", "laptop-anna", prompts("Fix the flaky test of the payment provider"))...)
	p.at(130*time.Minute, p.claudeOf("migrate", "payments", "laptop-anna", asks("make test", ""))...)
	p.at(125*time.Minute, p.claudeOf("migrate", "payments", "laptop-anna", runs("make test"))...)
	p.at(41*time.Minute, p.claudeOf("migrate", "payments", "laptop-anna", asks("rm -rf build && make integration", ""))...)
	p.at(26*time.Minute, own("nightly", "reports for November", models.Failed, "no space left on device: /var/lib/reports"))
	p.at(24*time.Minute, p.claudeOf("plan", "payments", "laptop-ben", prompts("Replace the queue with the new one"), plans)...)
	p.at(12*time.Minute, p.claudeOf("rates", "billing", "laptop-ben", prompts("Which exchange rates do we use for invoices?"), picks)...)
	p.at(9*time.Minute, p.claudeOf("title", "website", "studio", prompts("תקן את הכותרת של דף הבית"))...)
	p.at(8*time.Minute, own("deploy", "release 4.12 to staging", models.Failed, "the health check of checkout timed out after 120 s"))
	p.at(6*time.Minute, own("deploy", "release 4.12 to production", models.Success, "12 of 12 instances are healthy"))
	p.at(4*time.Minute, p.claudeOf("docs", "handbook", "studio", prompts("Describe how we rotate keys"))...)
	p.at(3*time.Minute, p.claudeOf("fresh", "handbook", "laptop-anna", starts)...)
	p.at(time.Minute, own("importer", "products from the old shop", models.Running, "18,400 of 19,000 rows"))
}

// crowded is a fleet with three-digit numbers of sessions that need attention, namesakes, and long names.
func crowded(p past) {
	name := func(i int) string {
		return []string{"payments", "checkout-service-with-a-long-name", "web", "Übersetzungen", "עדכון מחירים"}[i%5]
	}
	host := func(i int) string {
		return []string{"laptop", "ip-10-23-41-1.eu-central-1.compute.internal.example.com", "studio", ""}[i%4]
	}
	agent := func(kind string, i int) models.StatusReport {
		return models.StatusReport{AgentID: fmt.Sprintf("%s-%d", kind, i%40), AgentName: name(i), AgentHost: host(i), AgentSource: []string{"claude-code", "codex", "github-copilot-cloud-agent"}[i%3],
			SessionTopic: fmt.Sprintf("%s-%d", kind, i), SessionTitle: []string{"Fix the flaky test of the payment provider", "", strings.Repeat("a-very-long-identifier_", 8)}[i%3]}
	}
	add := func(ago time.Duration, kind string, status models.Status, n int, message string) {
		var reports []models.StatusReport
		for i := range n {
			r := agent(kind, i)
			r.Status, r.Message = status, fmt.Sprintf(message, i)
			reports = append(reports, r)
		}
		p.at(ago, reports...)
	}
	add(5*time.Hour, "lost", models.Running, 123, "Step %d of 400: installing packages")
	add(40*time.Minute, "done", models.Success, 60, "Finished run %d")
	for i := range 100 {
		p.at(40*time.Minute-time.Duration(i)*10*time.Second, p.claudeOf(fmt.Sprint("question-", i), name(i), host(i), prompts("Make the build of this package reproducible"),
			asks(strings.Repeat("make all && ", 1+i%9)+"make install", []string{"", "general-purpose"}[i%2]))...)
	}
	add(22*time.Minute, "failed", models.Failed, 234, "exit status %d: "+strings.Repeat("no such file or directory, ", 8))
	add(20*time.Minute, "waiting", models.Pending, 245, "Which of these %d ways shall I take?")
	add(10*time.Minute, "running", models.Running, 80, "Compiling package %d of 512")
	steps := slices.Repeat([]string{prompts("Again"), asks("make", ""), runs("make")}, 20)
	p.at(5*time.Minute, p.claudeOf("long", "web", "studio", append(steps, asks(strings.Repeat("make all ", 300), ""), picks)...)...)
}
