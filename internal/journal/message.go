package journal

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// Message is what a server publishes to the stream that it shares with others. What it changes is settled by each server
// as it is applied, from the state before it. A message with nothing in it says only what time it is.
type Message struct {
	Server string // that published it
	Lease  uint64 // number of the lease under which it was published; 0 for none

	Requests []Request
	Removed  []Removal
	Evicted  []store.SessionKey // sessions to evict from memory, if they have expired
	Over     []store.Forgotten  // sessions to forget that memory evicted, if their retention has ended
	Trim     *Trim
	Notes    []Note
	Settings *Settings // to agree on
	Again    []Applied // messages that the stream has lost, or that come from a journal with a log of its own
}

// IsEmpty reports whether the message changes nothing but the time.
func (m *Message) IsEmpty() bool {
	for i := range m.Requests {
		if len(m.Requests[i].Reports) > 0 {
			return false
		}
	}
	return len(m.Removed)+len(m.Evicted)+len(m.Over)+len(m.Notes)+len(m.Again) == 0 && m.Trim == nil && m.Settings == nil
}

// Request is the reports of one request.
type Request struct {
	Agents  []string // patterns of the agents that its token covers; nil for all
	Reports []models.StatusReport
}

// Removal is a session to remove, or all of an agent's.
type Removal struct {
	AgentID string
	Topic   string // "" for all sessions
}

// Trim is history to delete: the records from before a time, except the current status of each session.
type Trim struct {
	Before    time.Time
	Sessions  []store.SessionKey
	Histories []string // agents; their sessions keep their histories
	Agents    []string // with all their sessions
}

// Settings are the settings that shape the state, as all servers of a cluster must have them. They replace those in
// effect only if these are still From.
type Settings struct {
	From, To []byte // nil for none
}

// MessageVersion is the highest version of the encoding of messages that this program knows, and firstMessageVersion the
// lowest. The version is increased by every change that an earlier program could misread. As long as an earlier program
// takes part, messages are written in the version that it knows.
const (
	MessageVersion      = 1
	FirstMessageVersion = 1
)

// A VersionError is returned for a message in a version that the program does not know.
type VersionError struct{ Version, Known int }

// Error implements error.
func (e *VersionError) Error() string {
	return fmt.Sprintf("it has version %d, but this program reads versions up to %d: run the version of the program that another server runs", e.Version, e.Known)
}

// The parts of a message.
const (
	partRequest = iota + 1
	partRemoval
	partEvicted
	partOver
	partTrim
	partNote
	partAgain
	partSettings
)

// Encode returns a message in a version of the encoding: that version, a uvarint; the server, a string; the lease, a
// uvarint; and its parts, each as an operation of a commit is.
func (m *Message) Encode(version int) []byte {
	b := appendString(binary.AppendUvarint(nil, uint64(version)), m.Server)
	b = binary.AppendUvarint(b, m.Lease)
	for i := range m.Requests {
		b = appendOp(b, partRequest, func(b []byte) []byte { return appendRequest(b, &m.Requests[i]) })
	}
	for _, r := range m.Removed {
		b = appendOp(b, partRemoval, func(b []byte) []byte { return appendString(appendString(b, r.AgentID), r.Topic) })
	}
	for _, key := range m.Evicted {
		b = appendOp(b, partEvicted, func(b []byte) []byte { return appendKey(b, key) })
	}
	for _, f := range m.Over {
		b = appendOp(b, partOver, func(b []byte) []byte { return appendForgotten(b, f) })
	}
	if m.Trim != nil {
		b = appendOp(b, partTrim, func(b []byte) []byte { return appendTrim(b, m.Trim) })
	}
	for _, n := range m.Notes {
		b = appendOp(b, partNote, func(b []byte) []byte { return appendNote(b, n) })
	}
	if m.Settings != nil {
		b = appendOp(b, partSettings, func(b []byte) []byte {
			return appendString(appendString(b, string(m.Settings.From)), string(m.Settings.To))
		})
	}
	for i := range m.Again {
		b = appendOp(b, partAgain, func(b []byte) []byte { return append(b, m.Again[i].Commit...) })
	}
	return b
}

// DecodeMessage is the inverse of [Message.Encode], for versions of the encoding up to known. The message shares the
// memory of value. The error is a *VersionError for another version.
func DecodeMessage(value string, known int) (*Message, error) {
	d := decoder{rest: value}
	if version := d.uvarint(); (version < FirstMessageVersion || version > uint64(known)) && !d.failed {
		return nil, &VersionError{int(version), known}
	}
	m := &Message{Server: d.string(), Lease: d.uvarint()}
	if d.failed {
		return nil, errMalformed
	}
	return m, eachOp(d.rest, m.addPart)
}

// addPart decodes a part of a message and adds it.
func (m *Message) addPart(kind byte, value string) (err error) {
	d := decoder{rest: value}
	switch kind {
	case partRequest:
		m.Requests = append(m.Requests, d.request())
	case partRemoval:
		m.Removed = append(m.Removed, Removal{d.string(), d.string()})
	case partEvicted:
		m.Evicted = append(m.Evicted, d.key())
	case partOver:
		f, err := decodeForgotten(value)
		m.Over = append(m.Over, f)
		return err
	case partTrim:
		m.Trim = d.trim()
	case partNote:
		m.Notes = append(m.Notes, d.note())
	case partSettings:
		m.Settings = &Settings{[]byte(d.string()), []byte(d.string())}
	case partAgain:
		return m.addAgain(value)
	default:
		return fmt.Errorf("%w: part %d of a message", errMalformed, kind)
	}
	if d.rest != "" {
		d.fail()
	}
	return d.err()
}

// addAgain adds a message that is published again.
func (m *Message) addAgain(commit string) error {
	a, err := appliedOf(commit)
	if err == nil && a.Position.ID == "" {
		err = fmt.Errorf("%w: a message published again has no position", errMalformed)
	}
	m.Again = append(m.Again, a)
	return err
}

// appendRequest appends a request: the number of its patterns plus one as a uvarint, 0 for all agents, and the patterns
// as strings; and the number of its reports, a uvarint, and the reports.
func appendRequest(b []byte, r *Request) []byte {
	if r.Agents == nil {
		b = binary.AppendUvarint(b, 0)
	} else {
		b = binary.AppendUvarint(b, uint64(len(r.Agents))+1)
		for _, pattern := range r.Agents {
			b = appendString(b, pattern)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(r.Reports)))
	for i := range r.Reports {
		b = appendReport(b, &r.Reports[i])
	}
	return b
}

func (d *decoder) request() (r Request) {
	if n := d.uvarint(); n > 0 {
		r.Agents = decodeItems(d, n-1, (*decoder).string)
	}
	r.Reports = decodeList(d, (*decoder).report)
	return r
}

func appendTrim(b []byte, t *Trim) []byte {
	b = appendTime(b, t.Before)
	b = binary.AppendUvarint(b, uint64(len(t.Sessions)))
	for _, key := range t.Sessions {
		b = appendKey(b, key)
	}
	return appendStrings(appendStrings(b, t.Histories), t.Agents)
}

func (d *decoder) trim() *Trim {
	return &Trim{Before: d.time(), Sessions: decodeList(d, (*decoder).key), Histories: d.strings(), Agents: d.strings()}
}

// The flags of a report.
const (
	reportTimestamp = 1 << iota // it has a timestamp
	reportRenews                // it asks for a renewal
	reportEvent                 // it was made from an event
)

// appendReport appends a report: its flags and its status, a byte each; with reportTimestamp, its timestamp; the TTL, a
// uvarint; its texts, as strings; and with reportEvent, the event.
func appendReport(b []byte, r *models.StatusReport) []byte {
	flags := byte(0)
	if !r.Timestamp.IsZero() {
		flags |= reportTimestamp
	}
	if r.Renew {
		flags |= reportRenews
	}
	if r.Event != nil {
		flags |= reportEvent
	}
	b = append(b, flags, byte(r.Status))
	if flags&reportTimestamp != 0 {
		b = appendTime(b, r.Timestamp)
	}
	b = binary.AppendUvarint(b, uint64(r.TTLMinutes))
	for _, text := range reportTexts(r) {
		b = appendString(b, *text)
	}
	if flags&reportEvent != 0 {
		b = appendEvent(b, r.Event)
	}
	return b
}

// ReportSize returns about how many bytes a report takes in a message, or a little more.
func ReportSize(r *models.StatusReport) int {
	const fixed, perText, fixedOfEvent, perChoice = 40, 3, 120, 8
	n := fixed
	for _, text := range reportTexts(r) {
		n += len(*text) + perText
	}
	if r.Event == nil {
		return n
	}
	n += fixedOfEvent
	for _, text := range eventTexts(r.Event) {
		n += len(*text) + perText
	}
	for _, id := range r.Event.RunningSubagents {
		n += len(id) + perChoice
	}
	if q := r.Event.Question; q != nil {
		n += fixed + len(q.Text) + len(q.Content) + len(q.AskedBy) + len(q.RequestedAs)
		for _, choice := range q.Choices {
			n += len(choice) + perChoice
		}
	}
	if ack := r.Event.Acknowledge; ack != nil {
		n += fixed + len(ack.By)
	}
	return n
}

// reportTexts returns pointers to the texts of a report, in the order in which they are encoded.
func reportTexts(r *models.StatusReport) [9]*string {
	return [...]*string{&r.AgentID, &r.AgentName, &r.AgentSource, &r.AgentHost, &r.SessionTopic, &r.SessionTitle, &r.Message, &r.Content, &r.ReportID}
}

func (d *decoder) report() (r models.StatusReport) {
	flags := d.byte()
	r.Status, r.Renew = models.Status(d.byte()), flags&reportRenews != 0
	if flags&reportTimestamp != 0 {
		r.Timestamp = d.time()
	}
	r.TTLMinutes = int(d.uvarint())
	for _, text := range reportTexts(&r) {
		*text = d.string()
	}
	if flags&reportEvent != 0 {
		r.Event = d.event()
	}
	return r
}

// The flags of an event.
const (
	eventFindByToolID = 1 << iota
	eventFallBackToRunning
	eventFirstName
	eventIgnoreOtherwise
	eventFirstTitle
	eventHintOnly
	eventAboutLastCall
	eventQuestion
	eventAcknowledge
)

// eventFlags returns pointers to the properties of an event, in the order of their flags.
func eventFlags(e *models.Event) [7]*bool {
	return [...]*bool{&e.FindByToolID, &e.FallBackToRunning, &e.FirstName, &e.IgnoreOtherwise, &e.FirstTitle, &e.HintOnly, &e.AboutLastCall}
}

// eventTexts returns pointers to the texts of an event, in the order in which they are encoded.
func eventTexts(e *models.Event) [4]*string {
	return [...]*string{&e.Name, &e.InterruptMessage, &e.Subagent, &e.Answer}
}

// eventHashes returns pointers to the hashes of an event, in the order in which they are encoded.
func eventHashes(e *models.Event) [3]*uint64 {
	return [...]*uint64{&e.CallIDHash, &e.InputHash, &e.ResultHash}
}

// appendEvent appends an event: its flags, a uvarint; the states, the stage, what it closes and the outcome, a byte
// each; its texts; the subagents that keep running; its hashes; and, if it has them, the question that it opens, and the
// acknowledgement with the time up to which the person has seen the session.
func appendEvent(b []byte, e *models.Event) []byte {
	flags := uint64(0)
	for i, is := range eventFlags(e) {
		if *is {
			flags |= 1 << i
		}
	}
	if e.Question != nil {
		flags |= eventQuestion
	}
	if e.Acknowledge != nil {
		flags |= eventAcknowledge
	}
	b = binary.AppendUvarint(b, flags)
	b = append(b, byte(e.AppliesIn), byte(e.Stage), byte(e.Closes), byte(e.Outcome))
	for _, text := range eventTexts(e) {
		b = appendString(b, *text)
	}
	b = appendStrings(b, e.RunningSubagents)
	for _, hash := range eventHashes(e) {
		b = binary.BigEndian.AppendUint64(b, *hash)
	}
	if e.Question != nil {
		b = appendQuestion(b, e.Question)
	}
	if e.Acknowledge != nil {
		b = appendTime(appendAcknowledgement(b, e.Acknowledge), e.AsOf)
	}
	return b
}

func (d *decoder) event() *models.Event {
	e, flags := new(models.Event), d.uvarint()
	for i, is := range eventFlags(e) {
		*is = flags&(1<<i) != 0
	}
	e.AppliesIn, e.Stage = models.States(d.byte()), models.CallStage(d.byte())
	e.Closes, e.Outcome = models.Closes(d.byte()), models.QuestionOutcome(d.byte())
	for _, text := range eventTexts(e) {
		*text = d.string()
	}
	e.RunningSubagents = d.strings()
	for _, hash := range eventHashes(e) {
		*hash = d.hash()
	}
	if flags&eventQuestion != 0 {
		e.Question = d.question()
	}
	if flags&eventAcknowledge != 0 {
		e.Acknowledge, e.AsOf = d.acknowledgement(), d.time()
	}
	return e
}

// appendTime appends whether a time is not zero, as a byte; and if so its Unix seconds, a varint, and its nanoseconds, a
// uvarint.
func appendTime(b []byte, t time.Time) []byte {
	if b = appendBool(b, !t.IsZero()); t.IsZero() {
		return b
	}
	return binary.AppendUvarint(binary.AppendVarint(b, t.Unix()), uint64(t.Nanosecond()))
}

func (d *decoder) time() time.Time {
	if !d.bool() {
		return time.Time{}
	}
	seconds := d.varint()
	return time.Unix(seconds, int64(d.uvarint())).UTC()
}
