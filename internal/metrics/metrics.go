// Package metrics counts what the server does, for Prometheus. No label takes a value that a client can
// choose.
package metrics

import (
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/kubeagents/kubeagents/internal/journal"
	"github.com/kubeagents/kubeagents/store"
)

const namespace = "kubeagents"

// Metrics are the server's. Its methods are safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry
	requests *prometheus.HistogramVec
	batches  prometheus.Histogram
	expiry   prometheus.Histogram
	commits  prometheus.Histogram
	grouped  prometheus.Histogram
	stream   stream
	reloads  reloads
	answers  answers
	refusals *prometheus.CounterVec
	bounds   *prometheus.CounterVec

	hooks *prometheus.CounterVec

	stored, duplicate, renewed, ignored, invalid, refused, unavailable prometheus.Counter

	acknowledged atomic.Int64
}

// New returns the metrics of a server of that version over st.
func New(st *store.Store, version string) *Metrics {
	reports := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Name: "reports_total",
		Help: "Status reports, by what became of them.",
	}, []string{"outcome"})
	m := &Metrics{
		registry:    prometheus.NewRegistry(),
		stored:      reports.WithLabelValues("stored"),
		duplicate:   reports.WithLabelValues("duplicate"),
		renewed:     reports.WithLabelValues("renewed"),
		ignored:     reports.WithLabelValues("ignored"),
		invalid:     reports.WithLabelValues("invalid"),
		refused:     reports.WithLabelValues("refused"),
		unavailable: reports.WithLabelValues("unavailable"),
		hooks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "hook_events_total",
			Help: "Events that agents' tools posted, by client and by what they are: reports of a status, events that renew their session, unknown ones, which do so as well, and those of no session.",
		}, []string{"client", "effect"}),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Name: "http_request_duration_seconds",
			Help:    "How long requests took, event streams until they began, by route pattern, method and status code.",
			Buckets: []float64{.00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10},
		}, []string{"route", "method", "code"}),
		batches: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Name: "batch_size_reports",
			Help:    "Status reports in one request.",
			Buckets: []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000},
		}),
		expiry: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Name: "expiry_run_duration_seconds",
			Help:    "How long runs of the expiry took.",
			Buckets: prometheus.ExponentialBuckets(1e-6, 10, 8),
		}),
		commits: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Name: "journal_commit_duration_seconds",
			Help:    "How long it took until a commit of the journal was durable.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10},
		}),
		grouped: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Name: "journal_commit_size_reports",
			Help:    "Status reports that shared one commit of the journal.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 13),
		}),
	}
	m.stream, m.reloads, m.refusals, m.bounds, m.answers = newStream(), newReloads(), newRefusals(), newBounds(), newAnswers()
	m.registry.MustRegister(m.stream.collectors()...)
	m.registry.MustRegister(m.answers.crowded, m.answers.late)
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: namespace, Name: "build_info",
		Help:        "1, with the server's version.",
		ConstLabels: prometheus.Labels{"version": version},
	})
	build.Set(1)
	m.registry.MustRegister(m.reloads.ok, m.reloads.failed, m.refusals, m.bounds, reports, m.hooks, m.requests, m.batches, m.expiry, build, fleet{st},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// maxScrapes is how many answers with metrics are made at a time.
const maxScrapes = 16

// Handler serves the metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry, MaxRequestsInFlight: maxScrapes})
}

// Reports counts the reports of one request by what became of them.
type Reports struct{ Stored, Duplicate, Renewed, Ignored, Invalid, Refused, Unavailable int }

// CountReports counts one request's reports.
func (m *Metrics) CountReports(r Reports) {
	acknowledged := r.Stored + r.Duplicate + r.Renewed + r.Ignored
	m.acknowledged.Add(int64(acknowledged))
	m.batches.Observe(float64(acknowledged + r.Invalid + r.Refused + r.Unavailable))
	add := func(c prometheus.Counter, n int) {
		if n > 0 {
			c.Add(float64(n))
		}
	}
	add(m.stored, r.Stored)
	add(m.duplicate, r.Duplicate)
	add(m.renewed, r.Renewed)
	add(m.ignored, r.Ignored)
	add(m.invalid, r.Invalid)
	add(m.refused, r.Refused)
	add(m.unavailable, r.Unavailable)
}

// CountHook counts an event that an agent's tool posted. Both words are the server's own.
func (m *Metrics) CountHook(client, effect string) { m.hooks.WithLabelValues(client, effect).Inc() }

// Acknowledged returns how many reports were accepted, retries included.
func (m *Metrics) Acknowledged() int64 { return m.acknowledged.Load() }

// ObserveRequest notes a request. route is the pattern that took it, "" for none.
func (m *Metrics) ObserveRequest(route, method string, status int, took time.Duration) {
	if route == "" {
		route = "none"
	}
	m.requests.WithLabelValues(route, knownMethod(method), statusText(status)).Observe(took.Seconds())
}

func knownMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return method
	}
	return "other"
}

func statusText(status int) string {
	if status == http.StatusOK {
		return "200"
	}
	return strconv.Itoa(status)
}

// ObserveExpiry notes a run of the expiry.
func (m *Metrics) ObserveExpiry(took time.Duration) { m.expiry.Observe(took.Seconds()) }

// ObserveCommit notes a commit of the journal.
func (m *Metrics) ObserveCommit(reports int, took time.Duration) {
	m.commits.Observe(took.Seconds())
	m.grouped.Observe(float64(reports))
}

// AddJournal adds what the journal does to the metrics.
func (m *Metrics) AddJournal(j *journal.Journal) {
	m.registry.MustRegister(m.commits, m.grouped, journaled{j})
}
