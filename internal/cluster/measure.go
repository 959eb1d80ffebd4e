package cluster

import "github.com/kubeagents/kubeagents/internal/metrics"

// measure returns what the metrics say about this server.
func (m *Member) measure() metrics.Cluster {
	state := m.State()
	measured := metrics.Cluster{
		Position: state.Position.Sequence, Behind: state.Behind, Age: m.shared.progress.age(), Writable: state.Refuses == "",
		LeaseHeld: m.holdsLease(), Servers: len(state.Servers),
	}
	measured.StreamMessages, measured.StreamBytes = m.shared.progress.streamSize()
	if newest := m.newest.Load(); newest != nil && measured.LeaseHeld {
		measured.SnapshotPosition, measured.SnapshotWritten = newest.Position.Sequence, newest.Written
	}
	return measured
}
