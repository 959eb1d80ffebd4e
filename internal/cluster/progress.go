package cluster

import (
	"cmp"
	"sync"
	"time"

	"github.com/kubeagents/kubeagents/internal/journal"
)

// failureCounts is how long a message that could not be published counts. If nobody reports, nothing else would tell that
// the next one could.
const failureCounts = 30 * time.Second

// catchingUp is why a server that has just started is not ready.
const catchingUp = "the server is catching up with the stream"

// progress is how far a server is with the stream. Times are read from the local monotonic clock only; the stream's time
// is that of its newest message plus what has passed since that was applied.
type progress struct {
	mu              sync.Mutex
	at              journal.Position // of the last message that was applied
	since           time.Time        // local time at which it was applied
	last            uint64           // sequence of the newest message that the stream is known to have
	current         time.Time        // local time at which nothing was known to be missing; zero before the server has caught up
	clock           time.Time        // of NATS, when it was last asked; zero before that
	read            time.Time        // local time at which it was asked
	next            milestone        // what makes the server current next, if there is always something missing
	away            string           // why the stream can't be reached; "" if it can
	halted          string           // why no message is applied any more; "" if they are
	settings        string           // why the server has not agreed to the settings in effect; "" if it has
	lacks           string           // why the next message can't be read, though others can; "" if it can
	journal         string           // why messages can't be applied; "" if they can
	publish         string           // why the last message could not be published; "" if it could
	failed          time.Time        // local time at which it could not
	messages, bytes uint64           // that the stream keeps
	changed         chan struct{}    // closed with the next message
}

// milestone is the newest message that the stream had at a local time. Its sequence is 0 if there is none.
type milestone struct {
	sequence uint64
	asked    time.Time
}

// reached reports whether all of the message with a sequence was applied. The caller holds p.mu.
func (p *progress) reached(sequence uint64) bool {
	return p.at.Sequence > sequence || p.at.Sequence == sequence && !p.at.Partial()
}

func (p *progress) init(at journal.Position) {
	p.at, p.since, p.changed = at, time.Now(), make(chan struct{})
}

// advance notes that a message was applied. The stream is known to have no other after it if last is its sequence.
func (p *progress) advance(at journal.Position, last uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at, p.since, p.lacks = at, time.Now(), ""
	if p.last = max(p.last, last); p.at.Sequence >= p.last {
		p.current = p.since
	}
	if next := p.next; next.sequence > 0 && p.reached(next.sequence) {
		started := !p.current.IsZero() || time.Since(next.asked) < freshFor
		if started && next.asked.After(p.current) {
			p.current = next.asked
		}
		p.next = milestone{}
	}
	close(p.changed)
	p.changed = make(chan struct{})
}

// confirm notes that the stream said that its newest message has this sequence, when asked at a local time. now is the
// time by the clock of NATS.
func (p *progress) confirm(last uint64, asked, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clock, p.read = now, asked
	p.away, p.last = "", last
	switch {
	case !p.reached(last):
		if p.next.sequence == 0 {
			p.next = milestone{last, asked}
		}
	case asked.After(p.current):
		p.current = asked
	}
}

// set notes that something is or is no longer in the way; cause is "" for the latter.
func (p *progress) set(what *string, cause string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	*what = cause
}

// notePublished notes that a message could not be published, and why; cause is "" if it could.
func (p *progress) notePublished(cause string) {
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

// noteSize notes what the stream keeps.
func (p *progress) noteSize(messages, bytes uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.messages, p.bytes = messages, bytes
}

// streamSize returns what the stream keeps, as far as is known.
func (p *progress) streamSize() (messages, bytes uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.messages, p.bytes
}

// position returns the position of the last message that was applied.
func (p *progress) position() journal.Position {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.at
}

// now returns the time of the stream.
func (p *progress) now() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.at.Time.IsZero() {
		return time.Now()
	}
	return p.at.Time.Add(time.Since(p.since))
}

// quiet returns for how long no message was applied.
func (p *progress) quiet() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Since(p.since)
}

// refuses returns why reports can't be accepted, "" if they can.
func (p *progress) refuses() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if cause := cmp.Or(p.halted, p.lacks, p.away, p.journal); cause != "" || !p.current.IsZero() {
		return cmp.Or(cause, p.settings)
	}
	return catchingUp
}

// caughtUp reports whether the server has caught up with the stream since it started.
func (p *progress) caughtUp() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.halted == "" && !p.current.IsZero()
}

// agreed reports whether the server has agreed to the settings in effect.
func (p *progress) agreed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.settings == ""
}

// age returns how old the data may be that the server shows. Before it has caught up, that is about the age of the last message
// that it has applied.
func (p *progress) age() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dataAge()
}

// dataAge is age. The caller holds p.mu.
func (p *progress) dataAge() time.Duration {
	switch {
	case !p.current.IsZero():
		return time.Since(p.current)
	case p.at.Time.IsZero():
		return time.Since(p.since)
	case p.clock.IsZero():
		return max(time.Since(p.at.Time), 0)
	}
	return max(p.clock.Add(time.Since(p.read)).Sub(p.at.Time), 0)
}

// state fills in what is known of the stream. Without news for stale, the server is not ready.
func (p *progress) state(s *State, stale time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.Position = Position{p.at.Sequence, p.at.ID}
	s.Behind = max(p.last, p.at.Sequence) - p.at.Sequence
	if age := p.dataAge(); age > freshFor {
		s.Age = age
	}
	switch {
	case p.halted != "":
		s.Cause = p.halted
	case p.lacks != "":
		s.Cause = p.lacks
	case p.current.IsZero():
		s.Cause = cmp.Or(p.away, catchingUp)
	case p.settings != "":
		s.Cause = p.settings
	case s.Age > stale:
		s.Cause = cmp.Or(p.journal, p.away, "the server has received nothing from the stream for a while")
	}
	s.Caught = s.Cause == ""
	s.Refuses = cmp.Or(s.Cause, p.away, p.journal, p.refusal())
}
