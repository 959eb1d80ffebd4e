package metrics

import "github.com/prometheus/client_golang/prometheus"

// reloads is what is counted of files that are read again when they change.
type reloads struct {
	ok     *prometheus.GaugeVec
	failed *prometheus.CounterVec
}

func newReloads() reloads {
	return reloads{
		ok: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: namespace, Name: "reload_ok",
			Help: "1 where the files (tokens, certificates) could be used when they were read last; 0 where those from before stay in use.",
		}, []string{"files"}),
		failed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "reload_failures_total",
			Help: "How often files (tokens, certificates) were read that could not be used.",
		}, []string{"files"}),
	}
}

// SetReload notes that files of that name were read, and whether they could be used.
func (m *Metrics) SetReload(files string, err error) {
	ok, failed := 1.0, m.reloads.failed.WithLabelValues(files) // exposed as 0 before the first failure
	if err != nil {
		ok = 0
		failed.Inc()
	}
	m.reloads.ok.WithLabelValues(files).Set(ok)
}

// CountRefusal counts a request that was refused for want of a token or a scope, or because there were too many.
func (m *Metrics) CountRefusal(status int) { m.refusals.WithLabelValues(statusText(status)).Inc() }

func newRefusals() *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Name: "requests_refused_total",
		Help: "Requests refused because who sent them may not (401, 403), or not so often (429), or because there was no place for them (503), by status code.",
	}, []string{"code"})
}

// Bound is one that clients reach together.
type Bound string

// The bounds of requests, event streams, and what strangers may use up.
const (
	BoundInFlight         Bound = "in_flight"         // MAX_IN_FLIGHT
	BoundInFlightShare    Bound = "in_flight_share"   // a team's share of it
	BoundSubscribers      Bound = "subscribers"       // MAX_SUBSCRIBERS
	BoundSubscribersShare Bound = "subscribers_share" // a team's share of it
	BoundBodies           Bound = "bodies"            // the bodies of requests in memory
	BoundBodiesShare      Bound = "bodies_share"      // a team's share of it
	BoundStrangers        Bound = "strangers"         // requests of all strangers
	BoundStrangersAddress Bound = "strangers_address" // requests of strangers of one address
	BoundStrangersBytes   Bound = "strangers_bytes"   // bodies of strangers, of one address or of all
)

// CountBound counts a request that was refused or cut off because of a bound.
func (m *Metrics) CountBound(bound Bound) { m.bounds.WithLabelValues(string(bound)).Inc() }

func newBounds() *prometheus.CounterVec {
	bounds := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Name: "request_bound_hits_total",
		Help: "Requests refused, or cut off, because of a bound: MAX_IN_FLIGHT (in_flight) and MAX_SUBSCRIBERS (subscribers), or a team's share of these (…_share); " +
			"requests of strangers at a time (strangers), of one address (strangers_address), and what their bodies take (strangers_bytes).",
	}, []string{"bound"})
	for _, bound := range []Bound{BoundInFlight, BoundInFlightShare, BoundSubscribers, BoundSubscribersShare, BoundBodies, BoundBodiesShare, BoundStrangers, BoundStrangersAddress, BoundStrangersBytes} {
		bounds.WithLabelValues(string(bound)) // so that it is there before the first
	}
	return bounds
}

// AddStrangers adds how many requests of strangers are answered now.
func (m *Metrics) AddStrangers(count func() int) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: namespace, Name: "strangers",
		Help: "Requests that are answered now and of which it is not known yet who sends them.",
	}, func() float64 { return float64(count()) }))
}
