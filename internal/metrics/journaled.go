package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/kubeagents/kubeagents/internal/journal"
)

// journaled collects what a journal holds and did.
type journaled struct{ journal *journal.Journal }

var (
	writableDesc  = desc("journal_writable", "1 while reports can be made durable, else 0.")
	diskDesc      = desc("journal_disk_bytes", "Bytes on disk that the journal takes; 0 while it can't be written.")
	unfiledDesc   = desc("journal_unfiled_bytes", "Bytes of commits that are not filed in histories yet.")
	committedDesc = desc("journal_committed_bytes_total", "Bytes of commits that were made durable.")
	writtenDesc   = desc("journal_written_bytes_total", "Bytes written to disk for commits and for all that follows from them, since the journal was last opened.")
	failuresDesc  = desc("journal_failures_total", "How often the journal stopped to be writable.")
)

// Describe implements prometheus.Collector.
func (journaled) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{writableDesc, diskDesc, unfiledDesc, committedDesc, writtenDesc, failuresDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c journaled) Collect(ch chan<- prometheus.Metric) {
	stats := c.journal.Stats()
	writable := 1.0
	if c.journal.Failure() != nil {
		writable = 0
	}
	ch <- prometheus.MustNewConstMetric(writableDesc, prometheus.GaugeValue, writable)
	ch <- prometheus.MustNewConstMetric(diskDesc, prometheus.GaugeValue, float64(stats.DiskBytes))
	ch <- prometheus.MustNewConstMetric(unfiledDesc, prometheus.GaugeValue, float64(stats.UnfiledBytes))
	ch <- prometheus.MustNewConstMetric(committedDesc, prometheus.CounterValue, float64(stats.CommittedBytes))
	ch <- prometheus.MustNewConstMetric(writtenDesc, prometheus.CounterValue, float64(stats.WrittenBytes))
	ch <- prometheus.MustNewConstMetric(failuresDesc, prometheus.CounterValue, float64(stats.Failures))
}
