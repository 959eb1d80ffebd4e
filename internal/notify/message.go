package notify

import (
	"context"
	"errors"
	"time"

	"github.com/kubeagents/kubeagents/models"
)

// Sender sends messages to a destination, such as a webhook or a topic of ntfy. Its methods may be called concurrently.
type Sender interface {
	// Send delivers a message, and returns the name by which the destination knows it, "" if it has none. An error
	// says in plain words what is wrong, without any secret. Send may be repeated if it is not known to have succeeded.
	Send(ctx context.Context, m *Message) (remote string, err error)

	// Withdraw takes back a message that was delivered, because what it tells no longer holds. m is what [Sender.Send]
	// got, with Remote set to what it returned. A destination that can't take messages back does nothing.
	Withdraw(ctx context.Context, m *Message) error
}

// followsUp is a sender that can say that its Withdraw sends one more message, because the first one can't be taken
// back. People get it only if the rule wants it.
type followsUp interface{ FollowsUp() bool }

// Message is what a destination gets: a notification about one session, or a summary of several.
type Message struct {
	ID     string    // unique; stays the same when the message is repeated because nobody knows whether it arrived
	Thread string    // ID of the first message about the same change: later ones are reminders
	Remote string    // what the destination calls the message; "" before it was sent
	SentAt time.Time // when it was first sent, in UTC

	Rule     string               // name of the rule
	Change   Change               // what happened
	Since    time.Time            // when it happened, in UTC
	Text     Text                 // how much of the session's text the rule allows
	Session  *models.FleetSession // as it is now, with as much text as the rule allows; nil for a summary
	Question *models.Question     // the question that the session asks, nil for none; without text if the rule allows none
	URL      string               // of the session, or of the fleet, on the dashboard; "" if PUBLIC_URL is not set

	Outcome Outcome // how the change ended, in a withdrawal; "" if that is not known
	By      string  // name of the token of whoever ended it, in a withdrawal, if it was a person

	Ahead time.Duration // by how much the clock of sessions is ahead of that of the machine

	Summary map[Change]int // how many sessions changed in which way; nil unless it is a summary
}

// Reminder reports whether the message repeats an earlier one.
func (m *Message) Reminder() bool { return m.Thread != m.ID }

// now returns the time by the clock of sessions.
func (m *Message) now() time.Time { return time.Now().Add(m.Ahead) }

// RetryError is an error after which a message should be sent again no sooner than After says.
type RetryError struct {
	Err   error
	After time.Duration // at least this long from now
}

// Error implements error.
func (e *RetryError) Error() string { return e.Err.Error() }

// Unwrap returns the underlying error.
func (e *RetryError) Unwrap() error { return e.Err }

// ErrRefused is wrapped by errors after which a message is not sent again, because the destination will refuse it again.
var ErrRefused = errors.New("the destination refuses the message")

// ErrIncomplete is wrapped by errors of messages that were delivered, but not to all recipients of the destination. They
// are not sent again.
var ErrIncomplete = errors.New("the message was sent, but not to everybody")
