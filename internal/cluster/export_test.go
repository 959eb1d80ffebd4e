package cluster

import (
	"context"

	"github.com/kubeagents/kubeagents/internal/metrics"
)

// SetUnable makes a server unable to publish for a cause, or able to with "".
func (m *Member) SetUnable(cause string) { m.shared.progress.set(&m.shared.progress.journal, cause) }

// KeepSnapshot writes a snapshot if one is due.
func (m *Member) KeepSnapshot(ctx context.Context) error { return m.keepSnapshot(ctx) }

// Measure returns what the metrics of a server show.
func (m *Member) Measure() metrics.Cluster { return m.measure() }
