package metrics

import "github.com/prometheus/client_golang/prometheus"

// reloads are the metrics of files that are reloaded when they change.
type reloads struct {
	ok     *prometheus.GaugeVec
	failed *prometheus.CounterVec
}

func newReloads() reloads {
	return reloads{
		ok: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: namespace, Name: "reload_ok",
			Help: "Whether the last load of the files (tokens, certificates, notification rules) succeeded: 1, or 0 if the previous files stay in use.",
		}, []string{"files"}),
		failed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "reload_failures_total",
			Help: "Failed loads of files (tokens, certificates, notification rules).",
		}, []string{"files"}),
	}
}

// SetReload records whether the files with this name could be loaded. A nil err is success.
func (m *Metrics) SetReload(files string, err error) {
	ok, failed := 1.0, m.reloads.failed.WithLabelValues(files) // exposed as 0 before the first failure
	if err != nil {
		ok = 0
		failed.Inc()
	}
	m.reloads.ok.WithLabelValues(files).Set(ok)
}

// CountRefusal counts a request that was refused because it lacked a token or a scope, or because there were too many
// requests.
func (m *Metrics) CountRefusal(status int) { m.refusals.WithLabelValues(statusText(status)).Inc() }

func newRefusals() *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Name: "requests_refused_total",
		Help: "Requests refused, by status code: not permitted (401, 403), for another host (421), too frequent (429), or too many at a time (503).",
	}, []string{"code"})
}

// Bound is a limit that all clients share.
type Bound string

// The bounds on requests, event streams, request bodies, and what strangers (clients without a valid token yet) may use
// up.
const (
	BoundInFlight         Bound = "in_flight"         // MAX_IN_FLIGHT
	BoundInFlightShare    Bound = "in_flight_share"   // a team's share of MAX_IN_FLIGHT
	BoundSubscribers      Bound = "subscribers"       // MAX_SUBSCRIBERS
	BoundSubscribersShare Bound = "subscribers_share" // a team's share of MAX_SUBSCRIBERS
	BoundBodies           Bound = "bodies"            // BODIES_MAX_BYTES
	BoundBodiesShare      Bound = "bodies_share"      // a team's share of BODIES_MAX_BYTES
	BoundStrangers        Bound = "strangers"         // requests of all strangers
	BoundStrangersAddress Bound = "strangers_address" // requests of strangers from one address
	BoundStrangersBytes   Bound = "strangers_bytes"   // request bodies of strangers, from one address or from all
)

// CountBound counts a request that was refused or cut off because of a bound.
func (m *Metrics) CountBound(bound Bound) { m.bounds.WithLabelValues(string(bound)).Inc() }

func newBounds() *prometheus.CounterVec {
	bounds := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Name: "request_bound_hits_total",
		Help: "Requests refused or cut off because of a bound: MAX_IN_FLIGHT (in_flight), MAX_SUBSCRIBERS (subscribers), BODIES_MAX_BYTES (bodies), or a team's share of one of these (…_share); " +
			"for requests whose sender is not known yet, their number at a time (strangers), their number from one address (strangers_address), and the bytes of their bodies (strangers_bytes).",
	}, []string{"bound"})
	for _, bound := range []Bound{BoundInFlight, BoundInFlightShare, BoundSubscribers, BoundSubscribersShare, BoundBodies, BoundBodiesShare, BoundStrangers, BoundStrangersAddress, BoundStrangersBytes} {
		bounds.WithLabelValues(string(bound)) // export 0 before the first hit
	}
	return bounds
}

// AddStrangers adds the gauge of requests of strangers that are in progress. count returns that number and must be safe
// for concurrent use.
func (m *Metrics) AddStrangers(count func() int) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: namespace, Name: "strangers",
		Help: "Requests in progress whose sender is not known yet.",
	}, func() float64 { return float64(count()) }))
}
