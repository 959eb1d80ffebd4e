package notify

import (
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/kubeagents/kubeagents/internal/journal"
	"github.com/kubeagents/kubeagents/store"
)

// note is what the notifier knows about one cause at one destination. It exists from the moment at which a rule selects
// the cause until the cause is over and, if the destination was notified, the message is withdrawn. There may be
// millions of notes that are not due yet, so these are small.
type note struct {
	session store.SessionKey
	cause   string // ID of the cause
	queue   *queue // of the destination
	next    *note  // another one of the same session; nil for none

	*record       // nil while the note is planned
	since   int64 // when the change happened, in Unix nanoseconds
	due     int64 // next step: the first message, a reminder, or the end of quiet hours or of a full interval; Unix nanoseconds
	rule    *Rule // while the note is planned
	place   int32 // in the schedule, -1 if it isn't in it
	change  Change
	state   state
	held    reason // why it waits longer than its rule says; zero if it doesn't
}

// record is what is known of a note from its first message on.
type record struct {
	savedRecord
	saved bool // the box has it
	job   *job // that its destination works on; nil for none
}

// savedRecord is the part of a record that survives a restart.
type savedRecord struct {
	ID        string    `json:"id"`                 // of the newest message
	Thread    string    `json:"thread"`             // of the first one
	Rule      string    `json:"rule"`               // that it was sent for
	Since     time.Time `json:"since"`              // when the change happened
	Created   time.Time `json:"created"`            // when the newest message became due
	Sent      time.Time `json:"sent,omitzero"`      // when the newest message was delivered; zero while it is not
	Delivered bool      `json:"delivered,omitzero"` // a message was delivered, or may have been before it was given up
	Remote    string    `json:"remote,omitzero"`    // what the destination calls the first message
	Later     []string  `json:"later,omitempty"`    // what it calls the reminders
	Over      bool      `json:"over,omitzero"`      // the cause is over: the message is to be withdrawn
	GivenUp   bool      `json:"given_up,omitzero"`  // the newest message can't be delivered
	Summary   string    `json:"summary,omitzero"`   // ID of the summary that tells of it, instead of a message of its own
	Outcome   Outcome   `json:"outcome,omitzero"`   // how the cause ended
	By        string    `json:"by,omitzero"`        // name of the token of whoever ended it, if it was a person
}

// maxLater is the maximum number of reminders that can be withdrawn: the newest ones.
const maxLater = 20

// state is how far a note has come.
type state uint8

const (
	planned   state = iota // its message is due later
	pending                // its message is to be sent
	collected              // it is to be part of a summary that is being made
	told                   // its message was sent, or is part of a summary that is to be sent
	dropped                // it will not be sent: because of quiet hours, or the destination does not take it
)

func (x *note) dueAt() int64            { return x.due }
func (x *note) placeInSchedule() *int32 { return &x.place }

// same reports whether two notes are about the same cause at the same destination.
func (x *note) same(y *note) bool {
	return x.session == y.session && x.change == y.change && x.cause == y.cause && x.queue == y.queue
}

// isOwed reports whether the note is about an event that is still to be told of. It stays true, however much has happened
// since, and may be too long ago for the history in which it is looked for.
func (x *note) isOwed() bool {
	return x.change == Answered && (x.state == planned || x.state == pending)
}

// begin gives a note a new message, for a rule.
func (x *note) begin(rule string, now time.Time) {
	id := newID(messagePrefix)
	if x.record == nil {
		x.record = &record{savedRecord: savedRecord{Thread: id, Rule: rule, Since: time.Unix(0, x.since).UTC()}}
	}
	x.ID, x.Created, x.Sent, x.GivenUp, x.Summary = id, now.UTC(), time.Time{}, false, ""
}

// summary is a message about several causes that is to be sent.
type summary struct {
	ID          string         `json:"id"`
	Destination string         `json:"destination"`
	Created     time.Time      `json:"created"`
	Rule        string         `json:"rule"` // of its first note
	Counts      map[Change]int `json:"counts"`
}

// Keys of the box. The parts of the key of a note are separated by zero bytes, which none of them contains.
const (
	notePrefix    = "note\x00"
	summaryPrefix = "summary\x00"
	rulePrefix    = "rule\x00"
	mutePrefix    = "mute\x00"

	deliveryPrefix = "delivery\x00" // only in a cluster
)

// Beginnings of IDs.
const (
	messagePrefix = "ntf_"
	muteIDPrefix  = "mut_"
)

// boxKey returns the key of the note's record in the box. It differs from that of an earlier note of the same cause,
// whose message may not be withdrawn yet.
func (x *note) boxKey() string {
	return notePrefix + strings.Join([]string{x.queue.destination.Name, x.session.AgentID, x.session.Topic, x.change.String(), x.cause, x.Thread}, "\x00")
}

// entry returns the note's record as an entry of the box.
func (x *note) entry() journal.Note { return encoded(x.boxKey(), x.savedRecord) }

// noteOf returns a note with what the key of its record says, and the name of its destination.
func noteOf(boxKey string) (x *note, destination string, ok bool) {
	parts := strings.Split(strings.TrimPrefix(boxKey, notePrefix), "\x00")
	if len(parts) != 6 {
		return nil, "", false
	}
	change, ok := parseChange(parts[3])
	return &note{session: store.SessionKey{AgentID: parts[1], Topic: parts[2]}, change: change, cause: parts[4], place: -1}, parts[0], ok
}

// encoded returns a value as an entry of the box.
func encoded(key string, value any) journal.Note {
	text, err := json.Marshal(value)
	if err != nil {
		panic("encode notification: " + err.Error()) // can't happen: all fields are plain values
	}
	return journal.Note{Key: key, Value: text}
}
