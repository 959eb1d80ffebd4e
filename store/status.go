package store

import (
	"encoding/binary"
	"hash/maphash"
	"slices"
	"strings"
	"time"
	"unsafe"

	"github.com/kubeagents/kubeagents/internal/ordered"
	"github.com/kubeagents/kubeagents/models"
)

// status is one entry of a session's history. It never changes, but for its places in lists.
type status struct {
	session  *session
	sequence uint64
	received int64
	sec      int64 // of the timestamp, since the Unix epoch: RFC 3339 can write years that nanoseconds cannot
	nsec     int32 // of the timestamp
	kind     models.Status
	slot     uint8                 // in inAgent
	text     string                // message, content and report ID, see packText
	inAgent  *ordered.Leaf[status] // of the agent's statuses
}

// newStatus makes a status of what r, received at that time, says. It is in no history yet.
func newStatus(se *session, r *models.StatusReport, sequence uint64, received int64) *status {
	place := placeOf(r, sequence, received)
	return &status{
		session:  se,
		sequence: sequence,
		received: received,
		sec:      place.Time,
		nsec:     place.Nanos,
		kind:     r.Status,
		text:     packText(r.Message, r.Content, r.ReportID),
	}
}

// placeOf returns the place in a history of the status of r, received at that time.
func placeOf(r *models.StatusReport, sequence uint64, received int64) ordered.Place {
	timestamp := r.Timestamp
	if timestamp.IsZero() {
		timestamp = at(received)
	}
	return ordered.Place{Time: timestamp.Unix(), Nanos: int32(timestamp.Nanosecond()), Sequence: sequence}
}

func (st *status) place() ordered.Place {
	return ordered.Place{Time: st.sec, Nanos: st.nsec, Sequence: st.sequence}
}

func (st *status) timestamp() time.Time { return time.Unix(st.sec, int64(st.nsec)).UTC() }

// statusInAgent is how statuses are kept in their agent.
var statusInAgent = ordered.Member[status]{Place: (*status).place,
	Slot: func(st *status) (**ordered.Leaf[status], *uint8) { return &st.inAgent, &st.slot }}

// packText puts the texts of a report into one string: the lengths of the first two as uvarints, then all
// three. One string costs one allocation and one header.
func packText(message, content, reportID string) string {
	var lengths [2 * binary.MaxVarintLen16]byte
	n := binary.PutUvarint(lengths[:], uint64(len(message)))
	n += binary.PutUvarint(lengths[n:], uint64(len(content)))
	var b strings.Builder
	b.Grow(n + len(message) + len(content) + len(reportID))
	b.Write(lengths[:n])
	b.WriteString(message)
	b.WriteString(content)
	b.WriteString(reportID)
	return b.String()
}

// unpack returns the texts of the report.
func (st *status) unpack() (message, content, reportID string) {
	messageLen, rest := cutUvarint(st.text)
	contentLen, rest := cutUvarint(rest)
	return rest[:messageLen], rest[messageLen : messageLen+contentLen], rest[messageLen+contentLen:]
}

// cutUvarint returns the uvarint that s begins with, and what follows.
func cutUvarint(s string) (n int, rest string) {
	for i, shift := 0, 0; ; i, shift = i+1, shift+7 {
		n |= int(s[i]&0x7F) << shift
		if s[i] < 0x80 {
			return n, s[i+1:]
		}
	}
}

func (st *status) message() string {
	message, _, _ := st.unpack()
	return message
}

func (st *status) reportID() string {
	_, _, reportID := st.unpack()
	return reportID
}

// statusOverhead is what a status takes beyond its text: itself, and its places in the history and the
// index.
const statusOverhead = int64(unsafe.Sizeof(status{}) + unsafe.Sizeof(historyRef{}) + 2*unsafe.Sizeof(uintptr(0)))

// size returns the bytes of memory that st takes.
func (st *status) size() int64 { return sizeOf(len(st.text)) }

func sizeOf(textLen int) int64 { return int64(textLen) + statusOverhead }

var idSeed = maphash.MakeSeed()

// hashID returns a hash of a report ID that is never 0, or 0 where there is no ID.
func hashID(reportID string) uint32 {
	if reportID == "" {
		return 0
	}
	return uint32(maphash.String(idSeed, reportID)) | 1
}

// add puts st into the history of its session, at place i. A status beyond the limit of the history is
// dropped: the oldest one, which may be st itself. Where statuses were dropped before, one that is older than
// all that are left is dropped too, so that the history has no gap. The caller holds s.mu.
func (s *Store) add(st *status, i int, idHash uint32) {
	se := st.session
	full := len(se.history) >= s.opts.HistoryLimit
	switch older := i == 0 && len(se.history) > 0; {
	case older && full:
		s.bounds.HistoryLimit++
		se.missing(st)
		return
	case older && se.dropped > 0:
		s.bounds.HistoryMaxBytes++
		se.missing(st)
		return
	case full:
		s.bounds.HistoryLimit++
		s.dropOldest(se)
		i--
	}
	se.history = slices.Insert(se.history, i, historyRef{st, idHash})
	se.countRun(i)
	if len(se.history) > 1 {
		s.trimmable.MoveToBack(se)
	}
	se.agent.statuses.Insert(&statusInAgent, st)
	s.statuses++
	s.historyBytes += st.size()
}

// dropOldest takes the oldest status out of the history of se, which may be the only one for a moment.
// The caller holds s.mu.
func (s *Store) dropOldest(se *session) {
	se.missing(se.history[0].status)
	s.forget(se.history[0].status)
	se.history[0] = historyRef{}
	se.history = se.history[1:] // append makes a new array when this one is used up
	se.run = min(se.run, uint16(len(se.history)))
}

// missing notes that the history does not hold st, which it was to. The caller holds the store's lock.
func (se *session) missing(st *status) {
	se.dropped = max(se.dropped, st.sequence)
	a := se.agent
	if a.dropped == 0 || st.place().Compare(a.floor) > 0 {
		a.floor = st.place()
	}
	a.dropped = max(a.dropped, st.sequence)
}

// forget takes st out of everything but the history of its session. The caller holds s.mu.
func (s *Store) forget(st *status) {
	st.session.agent.statuses.Remove(&statusInAgent, st)
	s.statuses--
	s.historyBytes -= st.size()
}

// view returns st as a read shows it. The caller holds the store's lock.
func (st *status) view() models.AgentStatus {
	message, content, _ := st.unpack()
	return models.AgentStatus{
		AgentID:      st.session.agent.id,
		SessionTopic: st.session.topic,
		Status:       st.kind,
		Timestamp:    st.timestamp(),
		ReceivedAt:   at(st.received),
		Message:      message,
		Content:      content,
	}
}
