package journal

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// formatVersion is the version of the encoding of all keys and values. It is increased by every change that an earlier
// program could misread.
//
//	1: records and forgotten sessions
//	2: renewals, only in the log
//	3: chunks that encode each record as its difference to the one before
//	4: hosts, records from events, questions, sources of sessions, and when the server last ran
//	5: acknowledgements
//	6: kinds of questions in histories
//	7: a position in a stream that servers share, and what comes with it: see [sharedVersion]
const formatVersion = 6

// The flags of a record. All but flagTimestamp exist from format 4 on, flagAcknowledged from format 5 on, and flagKind
// from format 6 on.
const (
	flagTimestamp    = 1 << iota // the record has its own timestamp
	flagHost                     // the record has a host; in a chunk: its host differs from that of the record before
	flagEvent                    // the record was made from an event
	flagTurn                     // the record has a turn
	flagQuestions                // the record has a shown question, or closed questions
	flagAcknowledged             // the turn has an acknowledgement
	flagKind                     // the kind of the shown question is known
)

// flagLastOfAgent says that the agent of a session was forgotten along with it.
const flagLastOfAgent = 1

// errMalformed is the error for a value that can't be decoded.
var errMalformed = errors.New("malformed value")

// appendString appends the length of a string as a uvarint, then the string.
func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// recordTexts is the number of strings that textsOf returns.
const recordTexts = 8

// textsOf returns pointers to the strings of a record, except its host, in the order in which they are encoded.
func textsOf(r *models.Record) [recordTexts]*string {
	return [...]*string{&r.AgentID, &r.SessionTopic, &r.ReportID, &r.AgentName, &r.AgentSource, &r.SessionTitle, &r.Message, &r.Content}
}

// isComplete reports whether a decoded record has all mandatory fields.
func isComplete(r *models.Record) bool {
	return r.Status.String() != "" && r.AgentID != "" && r.SessionTopic != ""
}

// flagsOf returns the flags of a record, except flagHost.
func flagsOf(r *models.Record) (flags byte) {
	if !r.Timestamp.IsZero() {
		flags |= flagTimestamp
	}
	if r.ByEvent {
		flags |= flagEvent
	}
	if r.Turn != nil {
		flags |= flagTurn
		if r.Turn.Acknowledged != nil {
			flags |= flagAcknowledged
		}
	}
	if r.ShownQuestion != 0 || len(r.Closed) > 0 {
		flags |= flagQuestions
	}
	if r.ShownKind != 0 {
		flags |= flagKind
	}
	return flags
}

// appendRecord appends a record. The encoding is:
//
//   - the flags and the status, a byte each
//   - the sequence, a uvarint
//   - the receipt time in Unix nanoseconds, a varint
//   - with flagTimestamp: the Unix seconds of the timestamp, a varint, and its nanoseconds, a uvarint
//   - the TTL, a uvarint
//   - as strings: agent ID, topic, report ID, agent name, agent source, title, message and content
//   - with flagHost: the host, a string
//   - with flagTurn: see [appendTurn]
//   - with flagQuestions: see [appendShown]
//   - with flagAcknowledged: see [appendAcknowledgement]
//   - with flagKind: the kind of the shown question, a byte
func appendRecord(b []byte, r *models.Record) []byte {
	flags := flagsOf(r)
	if r.AgentHost != "" {
		flags |= flagHost
	}
	b = append(b, flags, byte(r.Status))
	b = binary.AppendUvarint(b, r.Sequence)
	b = binary.AppendVarint(b, r.Received.UnixNano())
	if flags&flagTimestamp != 0 {
		b = binary.AppendVarint(b, r.Timestamp.Unix())
		b = binary.AppendUvarint(b, uint64(r.Timestamp.Nanosecond()))
	}
	b = binary.AppendUvarint(b, uint64(r.TTLMinutes))
	for _, text := range textsOf(r) {
		b = appendString(b, *text)
	}
	if flags&flagHost != 0 {
		b = appendString(b, r.AgentHost)
	}
	if flags&flagTurn != 0 {
		b = appendTurn(b, r.Turn)
	}
	if flags&flagQuestions != 0 {
		b = appendShown(b, r.ShownQuestion, r.Closed)
	}
	if flags&flagAcknowledged != 0 {
		b = appendAcknowledgement(b, r.Turn.Acknowledged)
	}
	if flags&flagKind != 0 {
		b = append(b, byte(r.ShownKind))
	}
	return b
}

// decodeRecord is the inverse of appendRecord. The strings of the record share the memory of value.
func decodeRecord(value string) (r models.Record, err error) {
	d := decoder{rest: value}
	flags := d.byte()
	r.Status = models.Status(d.byte())
	r.Sequence = d.uvarint()
	r.Received = time.Unix(0, d.varint()).UTC()
	if flags&flagTimestamp != 0 {
		seconds := d.varint()
		r.Timestamp = time.Unix(seconds, int64(d.uvarint())).UTC()
	}
	r.TTLMinutes = int(d.uvarint())
	for _, text := range textsOf(&r) {
		*text = d.string()
	}
	if flags&flagHost != 0 {
		r.AgentHost = d.string()
	}
	r.ByEvent = flags&flagEvent != 0
	if flags&flagTurn != 0 {
		r.Turn = d.turn()
	}
	if flags&flagQuestions != 0 {
		r.ShownQuestion, r.Closed = d.uvarint(), d.closed()
	}
	if flags&flagAcknowledged != 0 && r.Turn != nil {
		r.Turn.Acknowledged = d.acknowledgement()
	}
	if flags&flagKind != 0 {
		r.ShownKind = models.QuestionKind(d.byte())
	}
	if d.failed || !isComplete(&r) {
		return r, errMalformed
	}
	return r, nil
}

// appendRenewal appends a renewal: the sequence of its base as a uvarint, the receipt time of the base as a varint, and
// the record.
func appendRenewal(b []byte, r *models.Record) []byte {
	b = binary.AppendUvarint(b, r.Renews.Sequence)
	return appendRecord(binary.AppendVarint(b, r.Renews.Received.UnixNano()), r)
}

// decodeRenewal is the inverse of appendRenewal.
func decodeRenewal(value string) (r models.Record, err error) {
	d := decoder{rest: value}
	base := models.RenewedRecord{Sequence: d.uvarint(), Received: time.Unix(0, d.varint()).UTC()}
	if d.failed || base.Sequence == 0 {
		return r, errMalformed
	}
	r, err = decodeRecord(d.rest)
	r.Renews = base
	return r, err
}

// timestampOf returns the timestamp of a record, or its receipt time if it has none.
func timestampOf(r *models.Record) time.Time {
	if r.Timestamp.IsZero() {
		return r.Received
	}
	return r.Timestamp
}

// placeOf returns the position of a record in the histories of its session and its agent.
func placeOf(r *models.Record) store.StatusPosition {
	t := timestampOf(r)
	return store.StatusPosition{Seconds: t.Unix(), Nanoseconds: int32(t.Nanosecond()), Sequence: r.Sequence}
}

// view returns a record in the form in which reads return it.
func view(r *models.Record) models.AgentStatus {
	v := models.AgentStatus{
		AgentID:      r.AgentID,
		SessionTopic: r.SessionTopic,
		Status:       r.Status,
		Timestamp:    timestampOf(r),
		ReceivedAt:   r.Received,
		Message:      r.Message,
		Content:      r.Content,
		Idle:         r.Status == models.Idle,
	}
	v.ClosedQuestions, v.Acknowledged = models.SplitNotes(r.Closed)
	if shown := r.QuestionShown(); shown != 0 {
		v.QuestionID, v.QuestionKind = models.QuestionID(shown), r.KindShown()
	}
	return v
}

// appendAgentState appends the state of an agent. Sequences are uvarints and times are varints (Unix nanoseconds); the
// name and the source follow as strings. The host and its sequence exist from format 4 on.
func appendAgentState(b []byte, a store.AgentState) []byte {
	b = binary.AppendUvarint(b, a.NameSequence)
	b = binary.AppendUvarint(b, a.SourceSequence)
	b = binary.AppendVarint(b, a.Registered)
	b = binary.AppendVarint(b, a.LastSeen)
	b = appendPosition(binary.AppendUvarint(b, a.LastSeenSequence), a.Filed)
	b = appendString(appendString(b, a.Name), a.Source)
	return binary.AppendUvarint(appendString(b, a.Host), a.HostSequence)
}

func decodeAgentState(value string) (a store.AgentState, err error) {
	d := decoder{rest: value}
	a.NameSequence, a.SourceSequence = d.uvarint(), d.uvarint()
	a.Registered, a.LastSeen, a.LastSeenSequence, a.Filed = d.varint(), d.varint(), d.uvarint(), d.position()
	a.Name, a.Source = d.string(), d.string()
	if d.rest != "" {
		a.Host, a.HostSequence = d.string(), d.uvarint()
	}
	return a, d.err()
}

// The flags of a session's state. All but the first exist from format 7 on.
const (
	stateByEvent = 1 << iota // an event began the session
	stateCold                // memory has evicted it
	stateSince               // it is known when its current status began
)

// appendSessionState appends the state of a session, as appendAgentState does for an agent. The fields from the source
// on exist from format 4 on: the source, its sequence, the flags, a byte, and the session's turn. With stateSince, the
// timestamp of that, as a varint and a uvarint, comes before the turn.
func appendSessionState(b []byte, s store.SessionState) []byte {
	b = binary.AppendUvarint(b, s.TitleSequence)
	b = binary.AppendUvarint(b, uint64(s.TTLMinutes))
	b = binary.AppendUvarint(b, s.TTLSequence)
	b = binary.AppendVarint(b, s.Created)
	b = binary.AppendVarint(b, s.Updated)
	b = appendPosition(binary.AppendUvarint(b, s.UpdatedSequence), s.Filed)
	b = appendString(b, s.Title)
	b = binary.AppendUvarint(appendString(b, s.Source), s.SourceSequence)
	flags := byte(0)
	if s.ByEvent {
		flags |= stateByEvent
	}
	if s.Cold {
		flags |= stateCold
	}
	since := s.Since != (store.Timestamp{})
	if since {
		flags |= stateSince
	}
	if b = append(b, flags); since {
		b = binary.AppendUvarint(binary.AppendVarint(b, s.Since.Seconds), uint64(s.Since.Nanoseconds))
	}
	return appendTurnState(b, s.Turn)
}

func decodeSessionState(value string) (s store.SessionState, err error) {
	d := decoder{rest: value}
	s.TitleSequence, s.TTLMinutes, s.TTLSequence = d.uvarint(), int(d.uvarint()), d.uvarint()
	s.Created, s.Updated, s.UpdatedSequence, s.Filed = d.varint(), d.varint(), d.uvarint(), d.position()
	s.Title = d.string()
	if d.rest != "" {
		s.Source, s.SourceSequence = d.string(), d.uvarint()
		flags := d.byte()
		s.ByEvent, s.Cold = flags&stateByEvent != 0, flags&stateCold != 0
		if flags&stateSince != 0 {
			s.Since = store.Timestamp{Seconds: d.varint(), Nanoseconds: int32(d.uvarint())}
		}
		s.Turn = d.turnState()
	}
	return s, d.err()
}

// appendPosition appends a position: seconds as a varint, nanoseconds and sequence as uvarints.
func appendPosition(b []byte, p store.StatusPosition) []byte {
	b = binary.AppendUvarint(binary.AppendVarint(b, p.Seconds), uint64(p.Nanoseconds))
	return binary.AppendUvarint(b, p.Sequence)
}

func (d *decoder) position() store.StatusPosition {
	return store.StatusPosition{Seconds: d.varint(), Nanoseconds: int32(d.uvarint()), Sequence: d.uvarint()}
}

// filed says how far the log is filed: all commits up to a position, with all records up to a sequence.
type filed struct{ position, sequence uint64 }

func (f filed) encode() []byte {
	return binary.AppendUvarint(binary.AppendUvarint(nil, f.position), f.sequence)
}

func decodeFiled(value string) (f filed, err error) {
	d := decoder{rest: value}
	f.position, f.sequence = d.uvarint(), d.uvarint()
	return f, d.err()
}

// decoder reads values from a string. When a value is missing or malformed, it fails, and all further reads return zero
// values.
type decoder struct {
	rest   string
	failed bool
}

func (d *decoder) err() error {
	if d.failed {
		return errMalformed
	}
	return nil
}

func (d *decoder) fail() {
	d.failed = true
	d.rest = ""
}

func (d *decoder) byte() byte {
	if len(d.rest) == 0 {
		d.fail()
		return 0
	}
	b := d.rest[0]
	d.rest = d.rest[1:]
	return b
}

func (d *decoder) bytes(n int) string {
	if n < 0 || n > len(d.rest) {
		d.fail()
		return ""
	}
	s := d.rest[:n]
	d.rest = d.rest[n:]
	return s
}

// length reads a length of four bytes, big-endian.
func (d *decoder) length() int {
	b := d.bytes(4)
	if d.failed {
		return 0
	}
	return int(b[0])<<24 | int(b[1])<<16 | int(b[2])<<8 | int(b[3])
}

func (d *decoder) uvarint() (n uint64) {
	for i, shift := 0, 0; i < len(d.rest) && i < binary.MaxVarintLen64; i, shift = i+1, shift+7 {
		b := d.rest[i]
		n |= uint64(b&0x7F) << shift
		if b < 0x80 {
			d.rest = d.rest[i+1:]
			return n
		}
	}
	d.fail()
	return 0
}

func (d *decoder) varint() int64 {
	n := d.uvarint()
	return int64(n>>1) ^ -int64(n&1)
}

func (d *decoder) string() string {
	n := d.uvarint()
	if n > uint64(len(d.rest)) {
		d.fail()
		return ""
	}
	return d.bytes(int(n))
}
