// Package metrics holds the server's metrics for Prometheus. No label has a value that a client can choose.
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

// Metrics are the metrics of a server. Its methods are safe for concurrent use.
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
	cluster  cluster

	notifications notifications
	refusals      *prometheus.CounterVec
	bounds        *prometheus.CounterVec

	hooks *prometheus.CounterVec

	stored, duplicate, renewed, ignored, invalid, refused, unavailable prometheus.Counter

	acknowledged atomic.Int64
}

// New returns the metrics of a server of this version, including those of st.
func New(st *store.Store, version string) *Metrics {
	reports := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Name: "reports_total",
		Help: "Status reports, by outcome.",
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
			Help: "Events posted by agents' tools, by client and effect: reports (a status), renews (a session), unknown (event of an unknown kind, which renews its session as well), nothing (event of no session).",
		}, []string{"client", "effect"}),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Name: "http_request_duration_seconds",
			Help:    "Duration of requests, by route pattern, method and status code; of event streams, only until they start.",
			Buckets: []float64{.00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10},
		}, []string{"route", "method", "code"}),
		batches: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Name: "batch_size_reports",
			Help:    "Status reports per request.",
			Buckets: []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000},
		}),
		expiry: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Name: "expiry_run_duration_seconds",
			Help:    "Duration of the runs that expire sessions.",
			Buckets: prometheus.ExponentialBuckets(1e-6, 10, 8),
		}),
		commits: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Name: "journal_commit_duration_seconds",
			Help:    "Time until a commit of the journal was durable.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10},
		}),
		grouped: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Name: "journal_commit_size_reports",
			Help:    "Status reports per commit of the journal.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 13),
		}),
	}
	m.stream, m.reloads, m.refusals, m.bounds, m.answers = newStream(), newReloads(), newRefusals(), newBounds(), newAnswers()
	m.cluster = newCluster()
	m.registry.MustRegister(m.stream.collectors()...)
	m.registry.MustRegister(m.answers.refused, m.answers.cutOff)
	m.notifications = newNotifications()
	m.registry.MustRegister(m.notifications.results, m.notifications.suppressed)
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: namespace, Name: "build_info",
		Help:        "Always 1; the label is the server's version.",
		ConstLabels: prometheus.Labels{"version": version},
	})
	build.Set(1)
	m.registry.MustRegister(m.reloads.ok, m.reloads.failed, m.refusals, m.bounds, reports, m.hooks, m.requests, m.batches, m.expiry, build, fleet{st},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// maxScrapes is the maximum number of scrapes served at a time.
const maxScrapes = 16

// Handler serves the metrics: as OpenMetrics to clients that ask for it, and otherwise in Prometheus' text format. It
// answers 503 when [maxScrapes] scrapes are in progress.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry, MaxRequestsInFlight: maxScrapes, EnableOpenMetrics: true})
}

// Reports counts the reports of one request, by outcome.
type Reports struct{ Stored, Duplicate, Renewed, Ignored, Invalid, Refused, Unavailable int }

// CountReports counts the reports of one request.
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

// CountHook counts an event that an agent's tool posted. client and effect must be names that the server defines, not
// values from the request.
func (m *Metrics) CountHook(client, effect string) { m.hooks.WithLabelValues(client, effect).Inc() }

// Acknowledged returns the number of reports that were acknowledged, including retries.
func (m *Metrics) Acknowledged() int64 { return m.acknowledged.Load() }

// ObserveRequest records a request. route is the pattern that matched it, "" if none did.
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

// ObserveExpiry records the duration of a run that expired sessions.
func (m *Metrics) ObserveExpiry(took time.Duration) { m.expiry.Observe(took.Seconds()) }

// ObserveCommit records a commit of the journal: how many reports it held, and how long it took until it was durable.
func (m *Metrics) ObserveCommit(reports int, took time.Duration) {
	m.commits.Observe(took.Seconds())
	m.grouped.Observe(float64(reports))
}

// AddJournal adds the metrics of a journal.
func (m *Metrics) AddJournal(j *journal.Journal) {
	m.registry.MustRegister(m.commits, m.grouped, journalCollector{j})
}
