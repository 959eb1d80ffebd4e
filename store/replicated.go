package store

import (
	"iter"
	"time"

	"github.com/kubeagents/kubeagents/models"
)

// Replicas
//
// A replicated store is one of several that apply the same messages in the same order: see [Options.Replicated]. Each
// comes to the same state, and shows the same, whatever it holds in memory and however often it was loaded anew.
//
//   - Time is that of the messages. Only [Store.Begin] moves it; the local clock has no effect.
//   - Sessions are in memory, or cold, on all servers alike. Only a message evicts: see [Store.Overflow] and
//     [Store.Evict]. Statuses and contents are dropped locally: the journal completes what reads show.
//   - What a report depends on, and memory has dropped, is looked up in the journal: see [Lookup].
//   - What shapes the state, and is set, is part of it: see [Lifetimes]. Bounds have no effect on messages.
//   - Room is a matter of the server that takes a report: see [Store.Room].
//   - Changes have a place that is the same everywhere: see [Store.ChangeAfter].

// MaxReports is the maximum number of reports in a message.
const MaxReports = 1 << 14

// SequenceBits is the number of lower bits of a record's sequence in which the records of a message differ. The others
// are the message's sequence in the stream.
const SequenceBits = 24

// messageSpan is the minimum time between two messages, in nanoseconds. All receipt times of one message are before
// those of the next.
const messageSpan = MaxReports

// Begin brings a replicated store up to the time of a message, as [Store.Expire] does: what follows is the effect of the
// message with this sequence in the stream. Both the sequence and the time must be at least those of the message before.
// If the time is less than 16,384 ns after that of the message before, it counts as that much later. Each report that is
// admitted gets a receipt time of its own, one nanosecond apart.
func (s *Store) Begin(message uint64, now time.Time) Expiry {
	return s.expire(s.begun(message, now))
}

// Lifetimes are the options of a store on which the effect of reports depends. In a replicated store, a message sets
// them.
type Lifetimes struct {
	DefaultTTL       time.Duration // see [Options]
	SessionRetention time.Duration // see [Options]
}

// Lifetimes returns the lifetimes that are in effect.
func (s *Store) Lifetimes() Lifetimes {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.lifetimes
}

// SetLifetimes sets the lifetimes. Sessions keep the TTL that they have. Those whose retention has ended by that are
// forgotten when [Store.Begin] or [Store.Expire] is called next.
func (s *Store) SetLifetimes(l Lifetimes) {
	s.lock()
	defer s.mu.Unlock()
	s.lifetimes = l
	s.due.Store(s.nextDue())
}

// IsReplicated reports whether the store is one of several: see [Options.Replicated].
func (s *Store) IsReplicated() bool { return s.opts.Replicated }

// LoadMessage says that what is loaded next is the effect of a message.
func (s *Store) LoadMessage(message uint64) {
	s.lock()
	defer s.mu.Unlock()
	s.message = message
}

// LoadedUpTo says that a replicated store was loaded with the state after a message. It has no changes of that message
// and of those before.
func (s *Store) LoadedUpTo(message uint64) {
	s.lock()
	defer s.mu.Unlock()
	s.message, s.changes.next = message, AllMade
	s.changes.whole = s.changes.whole.later(changeAt{message, AllMade})
}

// Resume is Begin for a message of which a number of reports was admitted before the store was loaded. Its time is that
// which the store was loaded with. How many changes the message had made is not known any more, so nobody can continue
// within it: what it still changes gets indexes that are greater than those of other stores.
func (s *Store) Resume(message uint64, admitted int) {
	s.lock()
	defer s.mu.Unlock()
	s.message, s.changes.next = message, AllMade/2
	s.changes.whole = s.changes.whole.later(changeAt{message, AllMade})
	s.received = s.now - 1 + int64(admitted)
}

// SetCutoff sets the time before which the histories of agents were trimmed. What is older is shown in them only as long
// as it is the current status of a session, although memory may have more of it than the journal. The time never goes
// back. SetCutoff returns the time in effect.
func (s *Store) SetCutoff(before time.Time) time.Time {
	s.lock()
	defer s.mu.Unlock()
	if s.cutoff.IsZero() || before.After(s.cutoff) {
		s.cutoff = before
	}
	return s.cutoff
}

// sinceCutoff walks those statuses of an agent's history that are shown. The caller holds the store's lock.
func (s *Store) sinceCutoff(history iter.Seq[*status]) iter.Seq[*status] {
	if s.cutoff.IsZero() {
		return history
	}
	return func(yield func(*status) bool) {
		for st := range history {
			if st.timestamp().Before(s.cutoff) && st != st.session.current() {
				continue
			}
			if !yield(st) {
				return
			}
		}
	}
}

// begun starts a message, and returns its time.
func (s *Store) begun(message uint64, now time.Time) time.Time {
	s.lock()
	defer s.mu.Unlock()
	if s.message == 0 && message > 0 {
		s.changes.whole = s.changes.whole.later(changeAt{message - 1, AllMade})
	}
	s.message, s.changes.next = message, 0
	if t := s.expiryTime(now); s.now == 0 {
		s.now = t
	} else {
		s.now = max(t, s.now+messageSpan)
	}
	s.received = s.now - 1
	return s.wallTime(s.now)
}

// Time returns the time of a replicated store: that of the message begun last. A server that loads the store again
// needs it: see [Store.BeginLoading].
func (s *Store) Time() time.Time {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.wallTime(s.now)
}

// Lookup is a question about a session that [Store.Admit] needs answered, because memory has dropped what it depends
// on.
type Lookup struct {
	SessionKey

	// ReportID, if not "", asks whether the session has a report with this ID. No status that memory has dropped has a
	// greater sequence than Dropped.
	ReportID string
	Dropped  uint64

	// Content, if not zero, asks for the content of the status at this position, which is the session's current one.
	Content StatusPosition
}

// Answer is the answer to a [Lookup].
type Answer struct {
	Held    bool   // the session has the report
	Content string // of the status
}

// answers are the answers that are known.
type answers struct {
	reports  map[reportKey]bool
	contents map[SessionKey]content
}

// content is the content of the status with this sequence.
type content struct {
	sequence uint64
	text     string
}

// Answer answers a lookup. The answer is in effect until [Store.Settle]. The store keeps a reference to its content.
func (s *Store) Answer(l Lookup, a Answer) {
	s.lock()
	defer s.mu.Unlock()
	known := &s.admitted.answers
	if known.reports == nil {
		known.reports, known.contents = map[reportKey]bool{}, map[SessionKey]content{}
	}
	if l.ReportID != "" {
		known.reports[reportKey{l.SessionKey, l.ReportID}] = a.Held
	}
	if l.Content != (StatusPosition{}) {
		known.contents[l.SessionKey] = content{l.Content.Sequence, a.Content}
	}
}

// lacksAnswer reports whether the effect of a report depends on something that memory has dropped and that is not
// known. The caller holds s.mu.
func (s *Store) lacksAnswer(team *Team, r models.StatusReport) bool {
	_, se, _ := s.locate(team, &r)
	return s.lacksReport(&r, se) || s.lacksContent(&r, se)
}

// addLookups adds what the reports depend on to ad. The caller holds s.mu.
func (s *Store) addLookups(team *Team, reports []models.StatusReport, ad *Admission) {
	for i := range reports {
		r := reports[i] // a copy: locate may set its agent
		_, se, _ := s.locate(team, &r)
		key := SessionKey{r.AgentID, r.SessionTopic}
		if s.lacksReport(&r, se) {
			ad.Lookups = append(ad.Lookups, Lookup{SessionKey: key, ReportID: r.ReportID, Dropped: se.dropped})
		}
		if s.lacksContent(&r, se) {
			ad.Lookups = append(ad.Lookups, Lookup{SessionKey: key, Content: se.current().position()})
		}
	}
}

// lacksReport reports whether the report ID of r may be that of a status that memory has dropped. The caller holds s.mu.
func (s *Store) lacksReport(r *models.StatusReport, se *session) bool {
	if se == nil || se.dropped == 0 || r.ReportID == "" || se.holds(r.ReportID) {
		return false
	}
	_, known := s.admitted.answers.reports[reportKey{keyOf(r), r.ReportID}]
	return !known
}

// lacksContent reports whether r asks a question while a status is current whose content memory has dropped. Once the
// question is closed, the session may have this status again. The caller holds s.mu.
func (s *Store) lacksContent(r *models.StatusReport, se *session) bool {
	if se == nil || r.Event == nil || r.Event.Question == nil || se.turn.hasOpen() || !se.current().is(contentDropped) {
		return false
	}
	return s.admitted.answers.contents[keyOf(r)].sequence != se.current().sequence
}

// holdsReport reports whether se has a report with this ID, as far as memory and answers know. The caller holds s.mu.
func (s *Store) holdsReport(se *session, reportID string) bool {
	return se.holds(reportID) || s.admitted.answers.reports[reportKey{SessionKey{se.agent.id, se.topic}, reportID}]
}

// droppedContent returns the content of the current status of se if memory has dropped it and it was looked up. se may
// be nil. The caller holds s.mu.
func (s *Store) droppedContent(se *session) string {
	if se == nil || !se.current().is(contentDropped) {
		return ""
	}
	found := s.admitted.answers.contents[SessionKey{se.agent.id, se.topic}]
	if found.sequence != se.current().sequence {
		return ""
	}
	return found.text
}

// noteRecalled notes that no record has been applied to se since it was recalled. Without one, the session must be cold
// again, because nothing would tell a server that is loaded anew that it is not. The caller holds s.mu.
func (s *Store) noteRecalled(se *session) {
	if !s.opts.Replicated {
		return
	}
	if s.admitted.recalled == nil {
		s.admitted.recalled = map[*session]struct{}{}
	}
	s.admitted.recalled[se] = struct{}{}
}

// earlierAgent returns what is known from before of an agent that begins. ok is false if nothing is. In a replicated
// store, what is cooling does not count, because how long it cools is a local matter. The caller holds s.mu.
func (s *Store) earlierAgent(id string) (state AgentState, ok bool) {
	if s.opts.Replicated {
		state, ok = s.cold.recalled[id]
		return state, ok
	}
	return s.cold.earlier(id)
}

// evictionSequence returns the sequence of an eviction, for [Store.SetFiledTo]. It is greater than those of the message's
// records. Before the first message, it is at least that of any record that was loaded. The caller holds s.mu.
func (s *Store) evictionSequence() uint64 {
	const lastOfMessage = 1<<SequenceBits - 1
	if s.message == 0 {
		return s.sequence | lastOfMessage
	}
	return s.message<<SequenceBits | lastOfMessage
}

// restoreReplicated sets what a replicated store keeps of a session besides the rest. The caller holds s.mu.
func (s *Store) restoreReplicated(se *session, state *SessionState) {
	if state.Since != (Timestamp{}) {
		se.sinceSec, se.sinceNanos = state.Since.Seconds, state.Since.Nanoseconds
	}
	if state.TTLMinutes > 0 && se.ttlSeq == 0 { // the default at the time
		se.ttl = uint16(state.TTLMinutes)
	}
}
