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
	ok := 1.0
	if err != nil {
		ok = 0
		m.reloads.failed.WithLabelValues(files).Inc()
	}
	m.reloads.ok.WithLabelValues(files).Set(ok)
}

// CountRefusal counts a request that was refused for want of a token or a scope, or because there were too many.
func (m *Metrics) CountRefusal(status int) { m.refusals.WithLabelValues(statusText(status)).Inc() }

func newRefusals() *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Name: "requests_refused_total",
		Help: "Requests refused because who sent them may not (401, 403), or not so often (429), or because too many were in flight (503), by status code.",
	}, []string{"code"})
}
