package notify

import (
	"cmp"
	"slices"
	"time"

	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/internal/textsearch"
	"github.com/kubeagents/kubeagents/models"
)

// Change is what happened to a session, as rules select it.
type Change uint8

// The changes. Most of them hold for some time: a notification about one that no longer holds is not sent. The last two
// are events, which stay true.
const (
	Waits    Change = iota + 1 // the session waits for a person or a resource
	Lost                       // the session is lost
	Failed                     // the session failed
	Finished                   // the session's turn ended well; an idle session has not finished anything
	Answered                   // somebody answered a question of the session, or denied what it asked for
)

// ChangeNames are the names of the changes in rules and messages, in the order of their values, beginning with that of
// Waits.
var ChangeNames = [...]string{"waits", "lost", "failed", "finished", "answered"}

const changeCount = Change(len(ChangeNames))

// String returns the name of the change.
func (c Change) String() string { return ChangeNames[c-1] }

// stays reports whether the change is an event, which stays true whatever happens next: a message about it is never
// withdrawn.
func (c Change) stays() bool { return c == Finished || c == Answered }

// parseChange returns the change with a name. ok is false if there is none.
func parseChange(name string) (c Change, ok bool) {
	i := slices.Index(ChangeNames[:], name)
	return Change(i + 1), i >= 0
}

// MarshalText implements encoding.TextMarshaler.
func (c Change) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (c *Change) UnmarshalText(text []byte) error {
	change, ok := parseChange(string(text))
	if !ok {
		return models.BadRequest("on", "must be a list of "+enumerate(ChangeNames[:], "or"))
	}
	*c = change
	return nil
}

// Config is what a rules file contains. It is not modified after it was parsed.
type Config struct {
	Rules        []Rule
	Destinations map[string]*Destination // by name
}

// Destination is where notifications go.
type Destination struct {
	Name   string
	Kind   string // the key in the file that says what it is, such as "ntfy"
	Sender Sender
	Limit  Limit // the zero value for no limit

	device *Device // nil unless it is one
}

// isUnchanged reports whether a destination that is to replace d is the same one. A device is, unless it was added anew.
func (d *Destination) isUnchanged(by *Destination) bool {
	return d == by || d.device != nil && d.device == by.device
}

// inMetrics returns the name of the destination in metrics.
func (d *Destination) inMetrics() string {
	if d.device != nil {
		return deviceDestination
	}
	return d.Name
}

// Limit is how many messages a destination gets in a time. The rest is sent as one summary at the end of that time.
type Limit struct {
	Messages int
	Per      time.Duration
}

// Rule says which changes of which sessions lead to notifications, when, and where they go.
type Rule struct {
	Name    string
	Changes []Change // one or more
	Agents  []string // patterns of agent IDs; none for every agent
	Sources []string // none for every source
	Title   string   // text that the session's title or topic contains, in either case; "" for any

	Steps []Step        // one or more, in the order of their times
	Every time.Duration // how often it is repeated while the change holds; 0 for never
	Until time.Duration // how long it is repeated, from the change on; 0 for as long as it holds
	Quiet *Quiet        // nil for no quiet hours
	Text  Text          // how much of the session's text is sent

	FollowUp   bool // destinations that can't take a message back get a further one when its change is over
	AtKeyboard bool // devices are notified even of what their owner's dashboard shows

	// Of a rule in use.
	title    *textsearch.Pattern       // Title; nil while it is not compiled
	since    time.Time                 // it is not about what happened earlier
	followed string                    // name of the rule in the file that a device follows; "" for none
	within   func(agentID string) bool // the agents that the rule can be about; nil for all
}

// inFile returns the name that the rule has in the file, or that of the rule which it follows.
func (r *Rule) inFile() string { return cmp.Or(r.followed, r.Name) }

// Step is a time at which a rule notifies destinations, unless the change no longer holds.
type Step struct {
	After  time.Duration // from the change on
	Settle time.Duration // the least time from a change to Waits on
	To     []string      // names of destinations
}

// AfterChange returns how long after a change the step is due.
func (s *Step) AfterChange(change Change) time.Duration {
	if change == Waits {
		return max(s.After, s.Settle)
	}
	return s.After
}

// Text says how much of a session's text a notification contains.
type Text uint8

// The values of Text.
const (
	FullText  Text = iota // title, message, and what is asked
	TitleOnly             // title alone
	NoText                // neither: that a session waits, is lost, failed or finished, and a link to it
)

// TextNames are the names of the values of Text, in their order.
var TextNames = [...]string{"full", "title", "nothing"}

// MarshalText implements encoding.TextMarshaler.
func (t Text) MarshalText() ([]byte, error) { return []byte(TextNames[t]), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *Text) UnmarshalText(text []byte) error {
	i := slices.Index(TextNames[:], string(text))
	if i < 0 {
		return models.BadRequest("text", "must be "+enumerate(TextNames[:], "or"))
	}
	*t = Text(i)
	return nil
}

// Selects reports whether the rule is about a change of a session.
func (r *Rule) Selects(change Change, session *models.FleetSession) bool {
	return slices.Contains(r.Changes, change) && r.selectsSession(session)
}

// covers reports whether the rule can be about an agent.
func (r *Rule) covers(agentID string) bool {
	return (len(r.Agents) == 0 || access.Matches(r.Agents, agentID)) && (r.within == nil || r.within(agentID))
}

func (r *Rule) selectsSession(session *models.FleetSession) bool {
	if !r.covers(session.AgentID) || !r.selectsSource(session.AgentSource) {
		return false
	}
	if r.Title == "" {
		return true
	}
	title := r.title
	if title == nil {
		compiled := textsearch.Compile(r.Title)
		title = &compiled
	}
	return title.MatchAny(session.Title, session.Topic)
}

func (r *Rule) selectsSource(source string) bool {
	return len(r.Sources) == 0 || slices.Contains(r.Sources, source)
}
