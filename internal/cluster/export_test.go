package cluster

import "context"

// SetUnable makes a server unable to publish for a cause, or able to with "".
func (m *Member) SetUnable(cause string) { m.shared.progress.set(&m.shared.progress.journal, cause) }

// KeepSnapshot writes a snapshot if one is due.
func (m *Member) KeepSnapshot(ctx context.Context) error { return m.keepSnapshot(ctx) }
