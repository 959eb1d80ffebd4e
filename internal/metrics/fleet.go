package metrics

import (
	"iter"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// fleet collects the metrics of a store. It reads them from the store at each scrape; the cost of that doesn't grow
// with the fleet.
type fleet struct{ store *store.Store }

var (
	agentsDesc   = desc("agents", "Known agents.")
	sessionsDesc = desc("sessions", "Sessions, by current status and by state: active, expired, or lost (expired while running or pending).", "status", "state")
	statusesDesc = desc("history_statuses", "Statuses kept in memory.")
	bytesDesc    = desc("history_bytes", "Bytes of memory that agents, sessions and their statuses take. HISTORY_MAX_BYTES limits them.")
	expiredDesc  = desc("sessions_expired_total", "Sessions that expired.")
	lostDesc     = desc("sessions_lost_total", "Sessions that expired while running or pending.")
	needingDesc  = desc("sessions_needing_attention", "Sessions that need attention, by reason: waiting, lost or failed. Without those that were acknowledged or snoozed.", "need")
	setAsideDesc = desc("sessions_acknowledged", "Sessions that would need attention if nobody had acknowledged or snoozed them, by reason: waiting, lost or failed.", "need")
	waitingDesc  = desc("sessions_waiting", "Sessions that need attention because they have waited for longer than a time: 1m, 10m, 1h or 8h.", "longer_than")
	longestDesc  = desc("longest_wait_seconds", "How long the session has waited that has waited the longest, of those that need attention; 0 if none waits.")
	ackDesc      = desc("acknowledgements_total", "Sessions that a person acknowledged or snoozed, by kind (acknowledged, snoozed) and by reason: waiting, lost or failed.", "kind", "need")
	boundsDesc   = desc("bound_hits_total", "How often a bound took effect: statuses dropped (history_limit, history_max_bytes), "+
		"contents of current statuses dropped (content), sessions forgotten early (max_sessions, history_max_bytes) or at the end of their retention (session_retention), "+
		"reports refused because there was no room (refused) or no room in their team's share (refused_share).", "bound")
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
}

// Describe implements prometheus.Collector.
func (fleet) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{agentsDesc, sessionsDesc, statusesDesc, bytesDesc, expiredDesc, lostDesc, needingDesc, waitingDesc, longestDesc, setAsideDesc, ackDesc, boundsDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (f fleet) Collect(ch chan<- prometheus.Metric) {
	stats := f.store.Stats()
	gauge := func(d *prometheus.Desc, n int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), labels...)
	}
	counter := func(d *prometheus.Desc, n uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	gauge(agentsDesc, int64(stats.Agents))
	gauge(statusesDesc, int64(stats.Statuses))
	gauge(bytesDesc, stats.HistoryBytes)
	sessions := func(status models.Status, state string, n int) {
		gauge(sessionsDesc, int64(n), status.String(), state)
	}
	active, expired := stats.Sessions.ByStatus, stats.ExpiredByStatus
	sessions(models.Running, "active", active.Running)
	sessions(models.Pending, "active", active.Pending)
	sessions(models.Success, "active", active.Success)
	sessions(models.Failed, "active", active.Failed)
	gauge(sessionsDesc, int64(stats.Sessions.Idle), "idle", "active")
	gauge(sessionsDesc, int64(stats.ExpiredIdle), "idle", "expired")
	sessions(models.Running, "lost", expired.Running)
	sessions(models.Pending, "lost", expired.Pending)
	sessions(models.Success, "expired", expired.Success)
	sessions(models.Failed, "expired", expired.Failed)
	counter(expiredDesc, stats.ExpiredTotal)
	counter(lostDesc, stats.LostTotal)
	for need, n := range byNeed(stats.Needs) {
		gauge(needingDesc, int64(n), need)
	}
	f.collectWaits(ch)
	for need, n := range byNeed(stats.Acknowledged) {
		gauge(setAsideDesc, int64(n), need)
	}
	for need, n := range byNeed(stats.Acknowledgements.Acknowledged) {
		counter(ackDesc, uint64(n), "acknowledged", need)
	}
	for need, n := range byNeed(stats.Acknowledgements.Snoozed) {
		counter(ackDesc, uint64(n), "snoozed", need)
	}
	counter(boundsDesc, stats.Bounds.HistoryLimit, "history_limit")
	counter(boundsDesc, stats.Bounds.HistoryMaxBytes, "history_max_bytes")
	counter(boundsDesc, stats.Bounds.Contents, "content")
	counter(boundsDesc, stats.Bounds.RefusedShare, "refused_share")
	counter(boundsDesc, stats.Bounds.MaxSessions, "max_sessions")
	counter(boundsDesc, stats.Bounds.SessionRetention, "session_retention")
	counter(boundsDesc, stats.Bounds.Refused, "refused")
}

// longerThan are the values of the label longer_than.
var (
	longerThan      = []time.Duration{time.Minute, 10 * time.Minute, time.Hour, 8 * time.Hour}
	longerThanNames = []string{"1m", "10m", "1h", "8h"}
)

func (f fleet) collectWaits(ch chan<- prometheus.Metric) {
	longest, counts := f.store.Waits(time.Now(), longerThan...)
	ch <- prometheus.MustNewConstMetric(longestDesc, prometheus.GaugeValue, longest.Seconds())
	for i, n := range counts {
		ch <- prometheus.MustNewConstMetric(waitingDesc, prometheus.GaugeValue, float64(n), longerThanNames[i])
	}
}

// byNeed yields the counts, each with its reason as it appears on the wire.
func byNeed(counts models.NeedCounts) iter.Seq2[string, int] {
	return func(yield func(string, int) bool) {
		for i, n := range [...]int{counts.Waiting, counts.Lost, counts.Failed} {
			if !yield(models.NeedNames[i], n) {
				return
			}
		}
	}
}
