package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Cluster is the state of a server that shares a stream with others.
type Cluster struct {
	Position  uint64        // sequence of the last message that it has applied
	Behind    uint64        // messages that it has not applied yet
	Age       time.Duration // of the data that it shows, at most
	Writable  bool          // it can record reports in the stream
	LeaseHeld bool          // it acts for the cluster
	Servers   int           // that are live

	StreamMessages, StreamBytes uint64 // that the stream keeps

	// Of the newest snapshot. Both are zero if there is none, or if the server does not act for the cluster.
	SnapshotPosition uint64
	SnapshotWritten  time.Time
}

// PublishFailure is why a message could not be published.
type PublishFailure string

// The values of PublishFailure.
const (
	PublishUnreachable PublishFailure = "unreachable" // NATS can't be reached
	PublishNoLeader    PublishFailure = "no_leader"   // the stream does not exist, or most of its nodes are away
	PublishTimeout     PublishFailure = "timeout"     // no answer in time
	PublishNoRoom      PublishFailure = "no_room"     // the stream, or a disk of NATS, is full
	PublishRefused     PublishFailure = "refused"     // for another reason
	PublishNotApplied  PublishFailure = "not_applied" // the stream has it, but this server has not applied it in time
)

// cluster holds what is counted at a server of a cluster. It is exposed once AddCluster is called.
type cluster struct {
	published        prometheus.Histogram
	failures         *prometheus.CounterVec
	snapshotFailures prometheus.Counter
}

func newCluster() cluster {
	c := cluster{
		published: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Name: "cluster_publish_duration_seconds",
			Help:    "Time until the stream had a message that this server published, with further attempts.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "cluster_publish_failures_total",
			Help: "Messages that this server could not publish, by cause: unreachable (NATS can't be reached), no_leader (the stream has none), timeout (no answer), " +
				"no_room (the stream or a disk of NATS is full), refused (for another reason), not_applied (published, but not applied in time).",
		}, []string{"cause"}),
		snapshotFailures: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Name: "cluster_snapshot_failures_total",
			Help: "Attempts to write a snapshot, or to trim the stream, that failed.",
		}),
	}
	for _, cause := range []PublishFailure{PublishUnreachable, PublishNoLeader, PublishTimeout, PublishNoRoom, PublishRefused, PublishNotApplied} {
		c.failures.WithLabelValues(string(cause)) // exposed as 0 before the first failure
	}
	return c
}

// ObservePublished records a message that the stream has, and how long it took until then.
func (m *Metrics) ObservePublished(took time.Duration) { m.cluster.published.Observe(took.Seconds()) }

// CountPublishFailure counts a message that could not be published.
func (m *Metrics) CountPublishFailure(cause PublishFailure) {
	m.cluster.failures.WithLabelValues(string(cause)).Inc()
}

// CountSnapshotFailure counts a failed attempt to write a snapshot, or to trim the stream.
func (m *Metrics) CountSnapshotFailure() { m.cluster.snapshotFailures.Inc() }

// AddCluster adds the metrics of a server that is one of several. state must be safe for concurrent use, and return at
// once.
func (m *Metrics) AddCluster(state func() Cluster) {
	m.registry.MustRegister(m.cluster.published, m.cluster.failures, m.cluster.snapshotFailures, clusterCollector{state})
}

// clusterCollector collects the gauges of a cluster.
type clusterCollector struct{ state func() Cluster }

var (
	positionDesc         = desc("cluster_position", "Sequence of the last message of the stream that this server has applied.")
	behindDesc           = desc("cluster_messages_behind", "Messages of the stream that this server has not applied yet, as far as it knows.")
	ageDesc              = desc("cluster_data_age_seconds", "How old the data that this server shows may be.")
	streamWritableDesc   = desc("cluster_writable", "Whether this server can record reports in the stream: 1, or 0 if not.")
	leaseDesc            = desc("cluster_lease_held", "Whether this server holds the lease, and so acts for the cluster: 1, or 0 if not.")
	serversDesc          = desc("cluster_servers", "Servers that are live, this one included, as far as this server knows.")
	streamMessagesDesc   = desc("cluster_stream_messages", "Messages that the stream keeps.")
	streamBytesDesc      = desc("cluster_stream_bytes", "Bytes that the stream takes on each NATS node that keeps it.")
	snapshotPositionDesc = desc("cluster_snapshot_position", "Position of the newest snapshot; 0 if there is none, or if this server does not hold the lease.")
	snapshotWrittenDesc  = desc("cluster_snapshot_timestamp_seconds", "When the newest snapshot was written, in Unix seconds; 0 if there is none, or if this server does not hold the lease.")
)

// Describe implements prometheus.Collector.
func (clusterCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{positionDesc, behindDesc, ageDesc, streamWritableDesc, leaseDesc, serversDesc,
		streamMessagesDesc, streamBytesDesc, snapshotPositionDesc, snapshotWrittenDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c clusterCollector) Collect(ch chan<- prometheus.Metric) {
	s := c.state()
	gauge := func(d *prometheus.Desc, value float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value)
	}
	gauge(positionDesc, float64(s.Position))
	gauge(behindDesc, float64(s.Behind))
	gauge(ageDesc, s.Age.Seconds())
	gauge(streamWritableDesc, oneIf(s.Writable))
	gauge(leaseDesc, oneIf(s.LeaseHeld))
	gauge(serversDesc, float64(s.Servers))
	gauge(streamMessagesDesc, float64(s.StreamMessages))
	gauge(streamBytesDesc, float64(s.StreamBytes))
	gauge(snapshotPositionDesc, float64(s.SnapshotPosition))
	written := 0.0
	if !s.SnapshotWritten.IsZero() {
		written = float64(s.SnapshotWritten.UnixMilli()) / 1000
	}
	gauge(snapshotWrittenDesc, written)
}

// oneIf returns 1 for true, and 0 for false.
func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
