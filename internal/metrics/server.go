package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// AddReady adds the gauge of whether the server takes reports and reads. ready must be safe for concurrent use.
func (m *Metrics) AddReady(ready func() bool) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: namespace, Name: "ready",
		Help: "Whether the server is ready: 1, or 0 while it reads its journal, catches up with its cluster or stops.",
	}, func() float64 { return oneIf(ready()) }))
}

// AddCertificate adds the gauge of when the TLS certificate in use expires, or the one in its chain that expires first.
// expires must be safe for concurrent use.
func (m *Metrics) AddCertificate(expires func() time.Time) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: namespace, Name: "certificate_expiry_timestamp_seconds",
		Help: "When the TLS certificate in use expires, or the one in its chain that expires first, in Unix seconds.",
	}, func() float64 { return float64(expires().Unix()) }))
}
