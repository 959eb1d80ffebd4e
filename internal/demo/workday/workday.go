// Package workday makes up what the agents of a small software company report: a dozen agents, most of them in tools
// such as Claude Code, some of them bots of the company's own, on a few machines. It is used by the demo and its tests.
//
// # Invariants
//
// The day has no end, and the same seed always leads to the same day. From the moment at which it opens, at any time,
//
//   - two to four sessions are waiting, for at least two of these: a permission, a choice, the approval of a plan,
//   - some are running,
//   - one is lost, or two while the older one is being resumed,
//   - one has failed, or two until the older one is run again.
//
// The sessions that wait, go silent and fail follow a timetable: see timetable.go. The others are random. A Day holds
// one script for each of its sources, so its memory is bounded.
package workday

import (
	"math/rand/v2"
	"time"
)

// History is how long before its opening a day begins. By then, everything that [Day] promises is true.
const History = 150 * time.Minute

// Event is what an agent sends to the server at one moment.
type Event struct {
	At   time.Time
	Path string // where it is posted: /webhook/status, or /webhook/ and the name of a tool
	Host string // the machine it comes from, for the header X-Agent-Host; "" for a status report, which contains it
	Body []byte // a JSON object
}

// Day is an endless working day. It is not safe for concurrent use.
type Day struct {
	sources []*source
}

// source is a part of a day whose events are made up one script after the other.
type source struct {
	next []Event        // in the order of time
	more func() []Event // returns the script that follows, which is not empty
}

// New returns the day whose history begins [History] before the time opens. The seed is any number.
func New(seed uint64, opens time.Time) *Day {
	opens = opens.UTC()
	d := &Day{}
	add := func(more func() []Event) { d.sources = append(d.sources, &source{more: more}) }
	random := func() *rand.Rand { return rand.New(rand.NewPCG(seed, uint64(len(d.sources)))) }
	for i := range askers {
		add(askers[i].scripts(opens, random()))
	}
	for i := range workers {
		add(workers[i].scripts(opens.Add(-History), random()))
	}
	add(evaluations(opens, random()))
	add(failures(opens))
	add(checks(opens.Add(-History), random()))
	add(deploys(opens, random()))
	return d
}

// Next returns the next event of the day.
func (d *Day) Next() Event {
	s := d.upcoming()
	e := s.next[0]
	s.next = s.next[1:]
	return e
}

// upcoming returns the source of the next event.
func (d *Day) upcoming() (first *source) {
	for _, s := range d.sources {
		if len(s.next) == 0 {
			s.next = s.more()
		}
		if first == nil || s.next[0].At.Before(first.next[0].At) {
			first = s
		}
	}
	return first
}
