package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/kubeagents/kubeagents/internal/budget"
)

// answers are the metrics of the memory that answers take.
type answers struct{ refused, cutOff prometheus.Counter }

func newAnswers() answers {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help})
	}
	return answers{
		refused: counter("answers_refused_total", "Reads refused (503) because ANSWERS_MAX_BYTES, or a team's share of it, was used up."),
		cutOff:  counter("answers_cut_off_total", "Large responses cut off because the client read them too slowly."),
	}
}

// AddAnswers adds the gauge of the bytes that answers hold of a budget.
func (m *Metrics) AddAnswers(b *budget.Budget) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: namespace, Name: "answers_bytes",
		Help: "Bytes of memory that large responses take until they are sent. ANSWERS_MAX_BYTES limits them.",
	}, func() float64 { return float64(b.Held()) }))
}

// AddBodies adds the gauge of the bytes that request bodies hold of a budget.
func (m *Metrics) AddBodies(b *budget.Budget) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: namespace, Name: "bodies_bytes",
		Help: "Bytes of memory that large request bodies take until their requests are answered. BODIES_MAX_BYTES limits them.",
	}, func() float64 { return float64(b.Held()) }))
}

// CountAnswerRefused counts a read that was refused because the budget of answers, or a team's share of it, is used up.
func (m *Metrics) CountAnswerRefused() { m.answers.refused.Inc() }

// CountAnswerCutOff counts a large answer that was cut off because the client read it too slowly.
func (m *Metrics) CountAnswerCutOff() { m.answers.cutOff.Inc() }
