package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// NotificationResult is what became of an attempt to send a notification.
type NotificationResult string

// The values of NotificationResult.
const (
	NotificationSent      NotificationResult = "sent"
	NotificationRetried   NotificationResult = "retried" // it failed, and is tried again
	NotificationFailed    NotificationResult = "failed"  // it was given up
	NotificationWithdrawn NotificationResult = "withdrawn"
)

// Suppression is why a notification that a rule selected was not sent.
type Suppression string

// The values of Suppression.
const (
	SuppressedOver    Suppression = "over"    // the change no longer held when it was due
	SuppressedQuiet   Suppression = "quiet"   // quiet hours
	SuppressedSummary Suppression = "summary" // a summary told of it

	// These are held back for now, and sent later if they still hold.
	SuppressedMuted    Suppression = "muted"    // by a person, for a time
	SuppressedKeyboard Suppression = "keyboard" // the device's owner looks at the dashboard
)

// notifications are the metrics of notifications.
type notifications struct{ results, suppressed *prometheus.CounterVec }

func newNotifications() notifications {
	n := notifications{
		results: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "notifications_total",
			Help: "Attempts to send a notification, by destination and result: sent, retried (it failed, and is tried again), failed (it was given up), withdrawn.",
		}, []string{"destination", "result"}),
		suppressed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "notifications_suppressed_total",
			Help: "Notifications not sent, by reason: the change no longer held (over), quiet hours (quiet), a summary was sent instead (summary), held back because it was muted (muted) or because its device's owner was at the dashboard (keyboard).",
		}, []string{"reason"}),
	}
	for _, reason := range []Suppression{SuppressedOver, SuppressedQuiet, SuppressedSummary, SuppressedMuted, SuppressedKeyboard} {
		n.suppressed.WithLabelValues(string(reason)) // exposed as 0 before the first one
	}
	return n
}

// AddDestination makes the counts of a destination appear before the first notification.
func (m *Metrics) AddDestination(destination string) {
	for _, result := range []NotificationResult{NotificationSent, NotificationRetried, NotificationFailed, NotificationWithdrawn} {
		m.notifications.results.WithLabelValues(destination, string(result))
	}
}

// CountNotification counts an attempt to send a notification to a destination.
func (m *Metrics) CountNotification(destination string, result NotificationResult) {
	m.notifications.results.WithLabelValues(destination, string(result)).Inc()
}

// CountSuppressed counts a notification that was not sent.
func (m *Metrics) CountSuppressed(reason Suppression) {
	m.notifications.suppressed.WithLabelValues(string(reason)).Inc()
}

// AddNotifications adds the gauges of messages that are to be sent or withdrawn. pending returns their number, and when
// the oldest one became due that is not held back, zero if there is none; it must be safe for concurrent use.
func (m *Metrics) AddNotifications(pending func() (count int, oldest time.Time)) {
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help}, value)
	}
	m.registry.MustRegister(
		gauge("notifications_pending", "Messages that are to be sent or withdrawn.", func() float64 {
			count, _ := pending()
			return float64(count)
		}),
		gauge("notifications_oldest_seconds", "Age of the oldest message that is to be sent or withdrawn, without those that are held back for now; 0 if there is none.", func() float64 {
			if _, oldest := pending(); !oldest.IsZero() {
				return time.Since(oldest).Seconds()
			}
			return 0
		}))
}
