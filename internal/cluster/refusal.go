package cluster

import "time"

// failureCounts is how long a message that could not be published counts. If nobody reports, nothing else would tell that
// the next one could.
const failureCounts = 30 * time.Second

// published notes that a message could not be published, and why; cause is "" if it could.
func (p *progress) published(cause string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.publish, p.failed = cause, time.Now()
}

// refusal returns why the last message could not be published, "" if it could, or if that was a while ago. The caller
// holds p.mu.
func (p *progress) refusal() string {
	if time.Since(p.failed) >= failureCounts {
		return ""
	}
	return p.publish
}
