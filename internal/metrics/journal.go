package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/kubeagents/kubeagents/internal/journal"
)

// journalCollector collects the metrics of a journal.
type journalCollector struct{ journal *journal.Journal }

var (
	writableDesc  = desc("journal_writable", "Whether reports can be made durable: 1, or 0 if not.")
	diskDesc      = desc("journal_disk_bytes", "Bytes that the journal takes on disk; 0 while it can't be written.")
	unfiledDesc   = desc("journal_unfiled_bytes", "Bytes of commits that are not yet filed in histories.")
	committedDesc = desc("journal_committed_bytes_total", "Bytes of commits made durable.")
	writtenDesc   = desc("journal_written_bytes_total", "Bytes written to disk for commits, filing and compaction, since the journal was last opened.")
	failuresDesc  = desc("journal_failures_total", "How often the journal became unwritable.")
)

// Describe implements prometheus.Collector.
func (journalCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{writableDesc, diskDesc, unfiledDesc, committedDesc, writtenDesc, failuresDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c journalCollector) Collect(ch chan<- prometheus.Metric) {
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
