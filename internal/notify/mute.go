package notify

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/kubeagents/kubeagents/internal/journal"
)

// maxMutes is the maximum number of mutes at a time.
const maxMutes = 1000

// ErrTooManyMutes is the error of [Notifier.Mute] if there are as many mutes as there may be.
var ErrTooManyMutes = errors.New("too many mutes")

// Mute holds back notifications until a time: those about one agent, those of one rule, or all of them. What still holds
// at that time is sent then, as one summary for each destination if there are several. What a mute holds back is not
// lost, and withdrawals are not held back.
type Mute struct {
	ID      string    `json:"id"`
	Agent   string    `json:"agent_id,omitzero"` // ID of the agent; "" for all
	Rule    string    `json:"rule,omitzero"`     // name of the rule; "" for all
	Until   time.Time `json:"until"`             // UTC
	By      string    `json:"by,omitzero"`       // name of the token of whoever muted; "" without tokens
	Created time.Time `json:"created"`           // UTC
}

func (m *Mute) isOver(now time.Time) bool { return !now.Before(m.Until) }

// mutes are the mutes by ID, and what they say.
type mutes struct {
	byID       map[string]Mute
	agents     map[string]time.Time // until when an agent is muted, by its ID
	rules      map[string]time.Time // until when a rule is muted, by its name
	everything time.Time
	reserved   int // mutes that are being written
}

// index brings what the mutes say up to date. It drops those that are over, and returns their IDs.
func (m *mutes) index(now time.Time) (over []string) {
	m.agents, m.rules, m.everything = map[string]time.Time{}, map[string]time.Time{}, time.Time{}
	for id, mute := range m.byID {
		switch {
		case mute.isOver(now):
			delete(m.byID, id)
			over = append(over, id)
		case mute.Agent != "":
			m.agents[mute.Agent] = latest(m.agents[mute.Agent], mute.Until)
		case mute.Rule != "":
			m.rules[mute.Rule] = latest(m.rules[mute.Rule], mute.Until)
		default:
			m.everything = latest(m.everything, mute.Until)
		}
	}
	return over
}

// until returns when the last mute ends that holds back messages about an agent for a rule. It is in the past, or zero,
// if there is none.
func (m *mutes) until(agentID string, rule *Rule) time.Time {
	until := latest(m.everything, m.agents[agentID])
	if rule != nil {
		until = latest(until, m.rules[rule.inFile()])
	}
	return until
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// Mute adds a mute, and returns once that is durable. It sets the mute's ID and the time at which it was created.
func (n *Notifier) Mute(m Mute) (Mute, error) {
	now := n.Now().UTC().Round(0)
	m.ID, m.Created, m.Until = newID(muteIDPrefix), now, m.Until.UTC().Round(0)
	over, ok := n.reserveMute(now)
	if !ok {
		return Mute{}, ErrTooManyMutes
	}
	err := n.writeMutes(append(over, encoded(mutePrefix+m.ID, m)))
	n.mu.Lock()
	defer n.mu.Unlock()
	n.muted.reserved--
	if err != nil {
		if n.Cluster == nil && n.acting { // the box may have it all the same
			n.unsaved = append(n.unsaved, journal.Note{Key: mutePrefix + m.ID})
		}
		return Mute{}, err
	}
	return m, nil
}

// reserveMute makes room for a mute. It returns false if there are too many, and what to write about those that are over.
func (n *Notifier) reserveMute(now time.Time) (over []journal.Note, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	over = n.dropMutes(now)
	if len(n.muted.byID)+n.muted.reserved >= maxMutes {
		return nil, false
	}
	n.muted.reserved++
	return over, true
}

// Unmute removes a mute, and returns once that is durable. ok is false if there is none with this ID. What it held back
// is sent, unless something else holds it back.
func (n *Notifier) Unmute(id string) (ok bool, err error) {
	n.mu.Lock()
	_, ok = n.muted.byID[id]
	over := n.dropMutes(n.Now())
	n.mu.Unlock()
	if !ok {
		return false, nil
	}
	return true, n.writeMutes(append(over, journal.Note{Key: mutePrefix + id}))
}

// writeMutes writes mutes to the box. In a cluster, they are in effect when they are applied.
func (n *Notifier) writeMutes(entries []journal.Note) error {
	if n.Box != nil {
		if err := n.Box.WriteNotes(entries); err != nil {
			return err
		}
	}
	if n.Cluster == nil {
		n.Applied(entries)
	}
	return nil
}

// dropMutes forgets the mutes that are over, and returns what is to be written about them. The caller holds n.mu.
func (n *Notifier) dropMutes(now time.Time) (entries []journal.Note) {
	for _, id := range n.muted.index(now) {
		entries = append(entries, journal.Note{Key: mutePrefix + id})
	}
	return entries
}

// Mutes returns the mutes that are not over, those that end first before others.
func (n *Notifier) Mutes() []Mute {
	now := n.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	mutes := []Mute{}
	for _, m := range n.muted.byID {
		if !m.isOver(now) {
			mutes = append(mutes, m)
		}
	}
	slices.SortFunc(mutes, func(a, b Mute) int { return cmp.Or(a.Until.Compare(b.Until), cmp.Compare(a.ID, b.ID)) })
	return mutes
}
