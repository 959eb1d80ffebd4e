package cluster

import (
	"errors"

	"github.com/kubeagents/kubeagents/internal/journal"
	"github.com/kubeagents/kubeagents/internal/recorder"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// The limits of one message. The sizes of reports are estimated, so there is a margin to [MaxMessageBytes].
const (
	maxShipment = MaxMessageBytes - MaxMessageBytes/8
	maxReports  = 4096
)

// room is a call, what the server has decided about its reports before it publishes them, and what became of them.
type room struct {
	call        *recorder.Call
	reservation *store.Reservation
	refused     []store.Outcome       // by report; 0 for one that is published
	reports     []models.StatusReport // those that are published
	outcomes    []store.Outcome       // of these, so far
	err         error                 // why some were not recorded, for certain or perhaps
}

// roomFor decides for which reports of a call there is room.
func (l *Log) roomFor(c *recorder.Call) *room {
	r := &room{call: c, reports: c.Reports}
	r.refused, r.reservation = l.Store.Room(c.Team, c.Reports, nil)
	for i, outcome := range r.refused {
		if outcome == 0 {
			continue
		}
		r.reports = append(make([]models.StatusReport, 0, len(c.Reports)), c.Reports[:i]...)
		for n := i; n < len(c.Reports); n++ {
			if r.refused[n] == 0 {
				r.reports = append(r.reports, c.Reports[n])
			}
		}
		break
	}
	return r
}

// release gives back the room.
func (r *room) release() {
	if r != nil && r.reservation != nil {
		r.reservation.Release()
	}
}

// finish gives the call its error, or the outcome of each report. If some of its reports were recorded and others not,
// the client can't know which, and may send all of them again.
func (r *room) finish() {
	c := r.call
	var unavailable *recorder.Unavailable
	if errors.As(r.err, &unavailable) && len(r.outcomes) > 0 && !unavailable.Unknown {
		r.err = &recorder.Unavailable{Cause: unavailable.Cause, Unknown: true, Err: unavailable.Err}
	}
	if c.Err = r.err; c.Err != nil {
		return
	}
	published := r.outcomes
	for _, refusal := range r.refused {
		if refusal == 0 {
			refusal, published = published[0], published[1:]
		}
		c.Outcomes = append(c.Outcomes, refusal)
	}
}

// shipment is a message, and whose reports or removals it has.
type shipment struct {
	message journal.Message
	loads   []load // in the order of the message's requests and removals
	bytes   int
	reports int
}

// load is how many reports of a call are in a shipment.
type load struct {
	room    *room
	reports int // 0 for a removal
}

// split puts calls into as few shipments as their sizes allow, in their order. A call whose reports don't fit into one is
// in several.
func split(rooms []*room) []*shipment {
	all := []*shipment{{}}
	for _, r := range rooms {
		last := all[len(all)-1]
		switch {
		case r.call.Removal != nil:
			last.message.Removed = append(last.message.Removed, *r.call.Removal)
			last.loads = append(last.loads, load{room: r})
		case r.call.Over != nil:
			last.message.Over = append(last.message.Over, r.call.Over...)
			last.loads = append(last.loads, load{room: r})
		default:
			all = last.add(r, all)
		}
	}
	if all[0].message.IsEmpty() {
		return nil // everything was refused
	}
	return all
}

// add adds the reports of a call to the last shipment, and further ones as needed.
func (s *shipment) add(r *room, all []*shipment) []*shipment {
	patterns := r.call.Team.Patterns()
	for rest := r.reports; len(rest) > 0; {
		n, bytes := 0, sizeOfPatterns(patterns)
		for n < len(rest) && s.reports+n < maxReports {
			size := journal.ReportSize(&rest[n])
			if s.bytes+bytes+size > maxShipment && s.reports+n > 0 {
				break
			}
			bytes += size
			n++
		}
		if n > 0 {
			s.message.Requests = append(s.message.Requests, journal.Request{Agents: patterns, Reports: rest[:n]})
			s.loads = append(s.loads, load{r, n})
			s.bytes, s.reports, rest = s.bytes+bytes, s.reports+n, rest[n:]
		}
		if len(rest) > 0 {
			s = &shipment{}
			all = append(all, s)
		}
	}
	return all
}

// sizeOfPatterns returns about how many bytes a request takes in a message besides its reports.
func sizeOfPatterns(patterns []string) int {
	n := 20
	for _, pattern := range patterns {
		n += len(pattern) + 5
	}
	return n
}

// fitting returns as many of the keys as fit into a message.
func fitting(keys []store.SessionKey) []store.SessionKey {
	bytes := 0
	for i, key := range keys {
		if bytes += len(key.AgentID) + len(key.Topic) + 20; bytes > maxShipment {
			return keys[:i]
		}
	}
	return keys
}

// calls returns the calls of a shipment.
func (s *shipment) calls() (calls []*recorder.Call) {
	for _, load := range s.loads {
		calls = append(calls, load.room.call)
	}
	return calls
}

// shareOut gives each call of a shipment what became of it.
func (s *shipment) shareOut(result recorder.Result) {
	requests, removals := result.Outcomes, result.Removed
	for _, load := range s.loads {
		switch r := load.room; {
		case r.call.Removal != nil:
			r.call.Removed, removals = removals[0], removals[1:]
		case load.reports > 0:
			r.outcomes, requests = append(r.outcomes, requests[0]...), requests[1:]
		}
	}
}
