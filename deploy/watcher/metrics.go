package main

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/kubeagents/kubeagents/deploy/watcher/internal/report"
	"github.com/kubeagents/kubeagents/deploy/watcher/internal/watch"
)

// metrics are the watcher's metrics.
type metrics struct {
	registry *prometheus.Registry
	reports  *prometheus.CounterVec
	failures prometheus.Counter
	reached  prometheus.Gauge
	dropped  atomic.Int64 // in earlier terms
	queue    atomic.Pointer[report.Queue]
}

func newMetrics(tracker *watch.Tracker) *metrics {
	m := &metrics{registry: prometheus.NewRegistry()}
	m.reports = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kubeagents_watcher_reports_total",
		Help: "Reports sent, by outcome: accepted, rejected (the server will never take them) or delayed (they are sent again)."}, []string{"outcome"})
	for _, outcome := range []string{"accepted", "rejected", "delayed"} {
		m.reports.WithLabelValues(outcome)
	}
	m.failures = prometheus.NewCounter(prometheus.CounterOpts{Name: "kubeagents_watcher_failed_requests_total",
		Help: "Requests of which the server took nothing: it could not be reached, or refused."})
	m.reached = prometheus.NewGauge(prometheus.GaugeOpts{Name: "kubeagents_watcher_last_accepted_timestamp_seconds",
		Help: "When the server last accepted a report, 0 if it has not yet."})
	m.registry.MustRegister(m.reports, m.failures, m.reached, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "kubeagents_watcher_leading", Help: "1 if this replica reports, 0 if it is on standby."}, func() float64 {
			if m.queue.Load() != nil {
				return 1
			}
			return 0
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "kubeagents_watcher_waiting_reports", Help: "Reports that the server has not taken yet."}, func() float64 {
			if q := m.queue.Load(); q != nil {
				return float64(q.Length())
			}
			return 0
		}),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "kubeagents_watcher_dropped_reports_total",
			Help: "Reports dropped because too many waited. Only those that a newer one of the same session had overtaken are dropped."}, func() float64 {
			n := m.dropped.Load()
			if q := m.queue.Load(); q != nil {
				n += int64(q.Dropped())
			}
			return float64(n)
		}),
		sessionsCollector{tracker})
	return m
}

// lead notes that this replica reports from now on; q is nil when it does not any more.
func (m *metrics) lead(q *report.Queue) {
	if before := m.queue.Swap(q); before != nil {
		m.dropped.Add(int64(before.Dropped()))
	}
}

// CountReports implements [report.Counts].
func (m *metrics) CountReports(outcome string, n int) {
	m.reports.WithLabelValues(outcome).Add(float64(n))
}

// CountFailure implements [report.Counts].
func (m *metrics) CountFailure() { m.failures.Inc() }

// SetReached implements [report.Counts].
func (m *metrics) SetReached(at time.Time) { m.reached.Set(float64(at.Unix())) }

var sessionsDesc = prometheus.NewDesc("kubeagents_watcher_sessions", "Pods and Jobs that exist and are reported, by status.", []string{"status"}, nil)

// sessionsCollector counts the tracker's sessions on each scrape.
type sessionsCollector struct{ tracker *watch.Tracker }

func (c sessionsCollector) Describe(ch chan<- *prometheus.Desc) { ch <- sessionsDesc }

func (c sessionsCollector) Collect(ch chan<- prometheus.Metric) {
	counts := c.tracker.Sessions()
	for _, status := range []string{"running", "pending", "success", "failed"} {
		ch <- prometheus.MustNewConstMetric(sessionsDesc, prometheus.GaugeValue, float64(counts[status]), status)
	}
}
