package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// stream are the metrics of event streams.
type stream struct {
	subscribers                            prometheus.Gauge
	sent, dropped, cutOff, resumes, resets prometheus.Counter
	delivery                               prometheus.Histogram
}

func newStream() stream {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help})
	}
	return stream{
		subscribers: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Name: "subscribers",
			Help: "Open event streams.",
		}),
		sent:    counter("events_sent_total", "Events sent to subscribers."),
		dropped: counter("events_dropped_total", "Events dropped because they were queued for a subscriber that was cut off."),
		cutOff:  counter("subscribers_cut_off_total", "Event streams ended because the subscriber was too slow."),
		resumes: counter("event_resumes_total", "Event streams that resumed after an earlier stream or a list."),
		resets:  counter("event_resets_total", "Reset events, which tell a client to read the lists again."),
		delivery: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Name: "event_delivery_seconds",
			Help:    "Time from a change until its event was written to a subscriber, for the oldest event of each write.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}),
	}
}

func (s *stream) collectors() []prometheus.Collector {
	return []prometheus.Collector{s.subscribers, s.sent, s.dropped, s.cutOff, s.resumes, s.resets, s.delivery}
}

// SetSubscribers sets the number of open event streams.
func (m *Metrics) SetSubscribers(n int) { m.stream.subscribers.Set(float64(n)) }

// CountResume counts an event stream that resumes after an earlier stream or a list.
func (m *Metrics) CountResume() { m.stream.resumes.Inc() }

// CountReset counts a reset event, which tells a client to read the lists again.
func (m *Metrics) CountReset() { m.stream.resets.Inc() }

// CountCutOff counts an event stream that was ended because its subscriber was too slow, and the events in its queue.
func (m *Metrics) CountCutOff(events int) {
	m.stream.cutOff.Inc()
	m.stream.dropped.Add(float64(events))
}

// ObserveDelivery records a write of events to a subscriber. delay is the age of the oldest of them.
func (m *Metrics) ObserveDelivery(events int, delay time.Duration) {
	m.stream.sent.Add(float64(events))
	m.stream.delivery.Observe(delay.Seconds())
}
