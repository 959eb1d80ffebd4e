package notify

import (
	"fmt"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/kubeagents/kubeagents/internal/journal"
)

// Cluster connects a notifier to those of the other servers of a cluster. They share a box: what any of them writes is
// applied on all servers, in the same order. Each must be told of it by [Notifier.Applied] before WriteNotes returns.
type Cluster struct {
	Sender func() string // returns the name of the server whose notifier acts; "" if it is not known
	Share  func(Use)     // tells the other notifiers how a page is used, by [Notifier.Shared]; must not block; nil for no sharing
}

// leftAlone is how long a notifier of a cluster leaves alone what the box has for a rule or destination that its server
// does not have. While files are changed on one server after the other, another server may have it.
const leftAlone = 24 * time.Hour

// isOthers reports whether an entry of the box, of this time, may be for a rule or destination of another server.
func (n *Notifier) isOthers(at, now time.Time) bool {
	return n.Cluster != nil && now.Sub(at) < leftAlone
}

// Acts reports whether the notifier acts now.
func (n *Notifier) Acts() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.acting
}

// Load reads what people see of the box: mutes, and the newest deliveries. It is called in a cluster only, once the
// server has applied what was written before it started. The rules of the file apply from then on, unless they did
// already.
func (n *Notifier) Load() error {
	if err := n.LoadMutes(); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.loaded = true
	n.requests.caughtUp(n.Now())
	return nil
}

// LoadMutes is Load for reads before the server has caught up.
func (n *Notifier) LoadMutes() error {
	n.reading.Lock()
	defer n.reading.Unlock()
	n.mu.Lock()
	n.loading = true
	n.mu.Unlock()
	entries, err := n.Box.Notes()
	n.mu.Lock()
	defer n.mu.Unlock()
	early := n.early
	n.loading, n.early = false, nil
	if err != nil {
		return fmt.Errorf("read the mutes: %w", err)
	}
	n.muted.byID = map[string]Mute{}
	n.learn(entries)
	n.learn(early)
	return nil
}

// loadOnce calls Load, unless that was done.
func (n *Notifier) loadOnce() error {
	n.mu.Lock()
	loaded := n.loaded
	n.mu.Unlock()
	if loaded {
		return nil
	}
	return n.Load()
}

// Applied says that entries of the box were written or deleted, by any server, this one included. It must be called in
// the order in which they were. It does no I/O.
func (n *Notifier) Applied(entries []journal.Note) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.loading {
		n.early = append(n.early, entries...)
	}
	n.learn(entries)
}

// learn takes over mutes and deliveries among entries of the box. If a mute is gone, what it held back is looked at
// again. The caller holds n.mu.
func (n *Notifier) learn(entries []journal.Note) {
	muted, unmuted := false, false
	for _, e := range entries {
		id, isMute := strings.CutPrefix(e.Key, mutePrefix)
		var err error
		switch {
		case isMute && e.Value == nil:
			_, known := n.muted.byID[id]
			unmuted = unmuted || known
			delete(n.muted.byID, id)
		case isMute:
			var m Mute
			if err = json.Unmarshal(e.Value, &m); err == nil {
				n.muted.byID[id] = m
				muted = true
			}
		case strings.HasPrefix(e.Key, deliveryPrefix) && e.Value != nil:
			var d keptDelivery
			if err = json.Unmarshal(e.Value, &d); err == nil {
				n.recent.add(d)
			}
		}
		if err != nil {
			n.Logger.Warn("a mute or a delivery can't be read", "error", err.Error())
		}
	}
	if muted || unmuted {
		n.muted.index(n.Now())
	}
	if unmuted {
		n.release(heldMuted)
	}
}
