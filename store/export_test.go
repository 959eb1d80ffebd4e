package store

import (
	"errors"
	"fmt"
)

// CheckUsage recounts what is used, and returns an error if the counts that the store keeps differ.
func (s *Store) CheckUsage() error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	want := map[*usage]usage{&s.used: {}, &s.everyone: {}}
	for _, t := range s.teams.all {
		want[&t.used] = usage{}
	}
	var faults []error
	add := func(set *teamSet, sessions int, bytes int64) {
		for u := range s.usages(set) {
			w := want[u]
			w.sessions, w.bytes = w.sessions+sessions, w.bytes+bytes
			want[u] = w
		}
	}
	of := map[*agent][]*session{}
	for id, se := range s.sessions {
		of[id.agent] = append(of[id.agent], se)
	}
	for _, a := range s.agents {
		bytes, count := a.size(), len(of[a])
		for _, se := range of[a] {
			bytes += se.size() + se.turn.size()
			for _, ref := range se.history {
				bytes += ref.size()
			}
			if err := s.checkDroppable(se); err != nil {
				faults = append(faults, err)
			}
		}
		if bytes != a.bytes || count != int(a.count) {
			faults = append(faults, fmt.Errorf("agent %s: %d bytes and %d sessions, want %d and %d", a.id, a.bytes, a.count, bytes, count))
		}
		add(a.teams.of(), count, bytes)
	}
	for _, src := range s.sources {
		add(src.chargedTo, 0, sizeOfSource(src.name))
	}
	w := want[&s.used]
	for _, r := range s.cold.rounds {
		w.bytes += r.bytes
	}
	want[&s.used] = w
	for u, w := range want {
		if u.bytes != w.bytes || u.sessions != w.sessions {
			faults = append(faults, fmt.Errorf("%d bytes and %d sessions, want %d and %d", u.bytes, u.sessions, w.bytes, w.sessions))
		}
	}
	return errors.Join(faults...)
}

func (s *Store) checkDroppable(se *session) error {
	want := nothingDroppable
	switch {
	case len(se.history) > 1:
		want = statusDroppable
	case se.current().hasContent():
		want = contentDroppable
	}
	if want != se.droppable {
		return fmt.Errorf("session %s: droppable is %d, want %d", se.topic, se.droppable, want)
	}
	return nil
}
