package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/kubeagents/kubeagents/internal/budget"
)

// answers is what is counted of the memory that answers take.
type answers struct{ crowded, late prometheus.Counter }

func newAnswers() answers {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help})
	}
	return answers{
		crowded: counter("answers_refused_total", "Reads refused (503) because ANSWERS_MAX_BYTES, or a team's share of it, was used up."),
		late:    counter("answers_cut_off_total", "Large answers that were cut off because the client read them too slowly."),
	}
}

// AddAnswers adds what answers take of a budget to the metrics.
func (m *Metrics) AddAnswers(b *budget.Budget) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: namespace, Name: "answers_bytes",
		Help: "Bytes of memory that large answers take until they are sent, which ANSWERS_MAX_BYTES bounds.",
	}, func() float64 { return float64(b.Held()) }))
}

// AddBodies adds what bodies take of a budget to the metrics.
func (m *Metrics) AddBodies(b *budget.Budget) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: namespace, Name: "bodies_bytes",
		Help: "Bytes of memory that large bodies of requests take until they are answered, which BODIES_MAX_BYTES bounds.",
	}, func() float64 { return float64(b.Held()) }))
}

// CountCrowded counts a read that was refused because the answers in memory take as much as they may.
func (m *Metrics) CountCrowded() { m.answers.crowded.Inc() }

// CountSlowReader counts a large answer that was cut off because the client read it too slowly.
func (m *Metrics) CountSlowReader() { m.answers.late.Inc() }
