package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// stream is what the event stream counts.
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
		dropped: counter("events_dropped_total", "Events that waited for a subscriber when its stream was ended because it was too slow."),
		cutOff:  counter("subscribers_cut_off_total", "Event streams that were ended because the subscriber was too slow."),
		resumes: counter("event_resumes_total", "Event streams that went on where an earlier one, or a list, had stopped."),
		resets:  counter("event_resets_total", "Event streams whose client was told to read the lists again."),
		delivery: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Name: "event_delivery_seconds",
			Help:    "How long after its change an event was written to a subscriber: the oldest event of each write.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}),
	}
}

func (s *stream) collectors() []prometheus.Collector {
	return []prometheus.Collector{s.subscribers, s.sent, s.dropped, s.cutOff, s.resumes, s.resets, s.delivery}
}

// SetSubscribers says how many event streams are open.
func (m *Metrics) SetSubscribers(n int) { m.stream.subscribers.Set(float64(n)) }

// CountResume counts an event stream that goes on where another, or a list, stopped.
func (m *Metrics) CountResume() { m.stream.resumes.Inc() }

// CountReset counts a client that was told to read the lists again.
func (m *Metrics) CountReset() { m.stream.resets.Inc() }

// CountCutOff counts an event stream that was ended because its subscriber was too slow, and the events that waited for it.
func (m *Metrics) CountCutOff(events int) {
	m.stream.cutOff.Inc()
	m.stream.dropped.Add(float64(events))
}

// ObserveDelivery notes that events were written to a subscriber, the oldest of which had come that long ago.
func (m *Metrics) ObserveDelivery(events int, delay time.Duration) {
	m.stream.sent.Add(float64(events))
	m.stream.delivery.Observe(delay.Seconds())
}
