package store

import (
	"encoding/binary"
	"hash/maphash"
	"strings"
	"time"

	"github.com/kubeagents/kubeagents/internal/ordered"
	"github.com/kubeagents/kubeagents/models"
)

// newStatus returns the status of r, with the entry e of r. It is not in a history yet.
func newStatus(se *session, r *models.Record, e entry) *status {
	place := placeOf(&r.StatusReport, e)
	return &status{
		session:  se,
		sequence: e.sequence,
		received: e.received,
		sec:      place.Time,
		nsec:     place.Nanos,
		kind:     r.Status,
		marks:    marksOf(r),
		text:     packText(r),
	}
}

func marksOf(r *models.Record) (m marks) {
	if r.ByEvent {
		m |= byEvent
	}
	if r.QuestionShown() != 0 || len(r.Closed) > 0 {
		m |= hasNotes
	}
	return m
}

func (st *status) is(m marks) bool { return st.marks&m != 0 }

// entryOf returns the entry of the status of r: that of r itself, or of its base if r is a renewal.
func entryOf(r *models.Record) entry {
	if r.Renewal() {
		return entry{r.Renews.Sequence, unixNanos(r.Renews.Received)}
	}
	return entry{r.Sequence, unixNanos(r.Received)}
}

// placeOf returns the place of the status of r in a history.
func placeOf(r *models.StatusReport, e entry) ordered.Place {
	timestamp := r.Timestamp
	if timestamp.IsZero() {
		timestamp = at(e.received)
	}
	return ordered.Place{Time: timestamp.Unix(), Nanos: int32(timestamp.Nanosecond()), Sequence: e.sequence}
}

func (st *status) place() ordered.Place {
	return ordered.Place{Time: st.sec, Nanos: st.nsec, Sequence: st.sequence}
}

func (st *status) timestamp() time.Time { return time.Unix(st.sec, int64(st.nsec)).UTC() }

// statusInAgent is how statuses are indexed in their agent.
var statusInAgent = ordered.Member[status]{Place: (*status).place,
	Slot: func(st *status) (**ordered.Leaf[status], *uint8) { return &st.inAgent, &st.slot }}

// packText packs the texts of a record's status into one string: the lengths of message and content as uvarints, then
// message, content and report ID. If the status mentions questions, the length of the report ID comes third, and the
// questions last. One string costs one allocation and one header.
func packText(r *models.Record) string {
	return pack(r.Message, r.Content, r.ReportID, string(packNotes(r)))
}

func pack(message, content, reportID, notes string) string {
	var lengths [3 * binary.MaxVarintLen16]byte
	n := binary.PutUvarint(lengths[:], uint64(len(message)))
	n += binary.PutUvarint(lengths[n:], uint64(len(content)))
	if notes != "" {
		n += binary.PutUvarint(lengths[n:], uint64(len(reportID)))
	}
	var b strings.Builder
	b.Grow(n + len(message) + len(content) + len(reportID) + len(notes))
	b.Write(lengths[:n])
	b.WriteString(message)
	b.WriteString(content)
	b.WriteString(reportID)
	b.WriteString(notes)
	return b.String()
}

// hasContent reports whether st has content that can be dropped.
func (st *status) hasContent() bool {
	_, rest := cutUvarint(st.text)
	n, _ := cutUvarint(rest)
	return n > 0
}

// dropContent drops the content of st.
func (st *status) dropContent() {
	message, _, reportID, notes := st.parts()
	st.text = pack(message, "", reportID, notes)
	st.marks |= contentDropped
}

// packNotes encodes what the status of a record says about questions: the sequence of the record of the one that is
// open, its kind, and the closed ones, each with its outcome and its texts. It returns nil if there are none.
func packNotes(r *models.Record) []byte {
	shown, closed := r.QuestionShown(), r.Closed
	if shown == 0 && len(closed) == 0 {
		return nil
	}
	b := append(binary.AppendUvarint(nil, shown), byte(r.KindShown()))
	for i := range closed {
		b = append(b, byte(closed[i].Outcome))
		for _, text := range [...]string{closed[i].ID, closed[i].Text, closed[i].By, closed[i].Answer} {
			b = append(binary.AppendUvarint(b, uint64(len(text))), text...)
		}
	}
	return b
}

// notes returns what the status says about questions: see packNotes.
func (st *status) notes() (shown uint64, kind models.QuestionKind, closed []models.ClosedQuestion) {
	_, _, _, rest := st.parts()
	if rest == "" {
		return 0, 0, nil
	}
	n, rest := cutUvarint(rest)
	kind, rest = models.QuestionKind(rest[0]), rest[1:]
	for rest != "" {
		c := models.ClosedQuestion{Outcome: models.QuestionOutcome(rest[0])}
		rest = rest[1:]
		for _, text := range [...]*string{&c.ID, &c.Text, &c.By, &c.Answer} {
			var size int
			size, rest = cutUvarint(rest)
			*text, rest = rest[:size], rest[size:]
		}
		closed = append(closed, c)
	}
	return uint64(n), kind, closed
}

// unpack returns the texts of the report.
func (st *status) unpack() (message, content, reportID string) {
	message, content, reportID, _ = st.parts()
	return message, content, reportID
}

// parts splits what packText packed.
func (st *status) parts() (message, content, reportID, notes string) {
	n, rest := cutUvarint(st.text)
	m, rest := cutUvarint(rest)
	if !st.is(hasNotes) {
		return rest[:n], rest[n : n+m], rest[n+m:], ""
	}
	k, rest := cutUvarint(rest)
	return rest[:n], rest[n : n+m], rest[n+m : n+m+k], rest[n+m+k:]
}

// cutUvarint returns the uvarint at the beginning of s, and the rest.
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

var idSeed = maphash.MakeSeed()

// hashID returns a hash of a report ID that is never 0, or 0 if there is no ID.
func hashID(reportID string) uint32 {
	if reportID == "" {
		return 0
	}
	return uint32(maphash.String(idSeed, reportID)) | 1
}

// view returns st as the API shows it. The caller holds the store's lock.
func (st *status) view() models.AgentStatus {
	message, content, _ := st.unpack()
	shown, kind, notes := st.notes()
	closed, ack := models.SplitNotes(notes)
	v := models.AgentStatus{
		AgentID:      st.session.agent.id,
		SessionTopic: st.session.topic,
		Status:       st.kind,
		Timestamp:    st.timestamp(),
		ReceivedAt:   at(st.received),
		Message:      message,
		Content:      content,
		Idle:         st.kind == models.Idle,

		ContentDropped:  st.is(contentDropped),
		ClosedQuestions: closed,
		Acknowledged:    ack,
	}
	if shown != 0 {
		v.QuestionID, v.QuestionKind = models.QuestionID(shown), kind
	}
	return v
}

// shorten returns s, truncated to the maximum length of a status's content.
func shorten(s string) string {
	n := 0
	for i := range s {
		if n++; n > models.MaxContent {
			return s[:i]
		}
	}
	return s
}

func (st *status) position() StatusPosition {
	return StatusPosition{Seconds: st.sec, Nanoseconds: st.nsec, Sequence: st.sequence}
}
