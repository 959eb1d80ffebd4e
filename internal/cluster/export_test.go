package cluster

// SetUnable makes a server unable to publish for a cause, or able to with "".
func (m *Member) SetUnable(cause string) { m.shared.progress.set(&m.shared.progress.journal, cause) }
