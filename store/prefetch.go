package store

import (
	"github.com/kubeagents/kubeagents/internal/ordered"
	"github.com/kubeagents/kubeagents/models"
)

// prefetchSize is the number of reports that are prefetched at a time. Sizes of 32 and 64 were not measurably faster.
const prefetchSize = 16

// prefetch loads what reports of known sessions are about to change into the processor's caches. It changes nothing.
// Applying one report misses the caches about fifty times, one miss after another. Across several reports the loads
// don't depend on each other, so their misses overlap; each loop follows the pointers that the previous one loaded. The
// caller holds s.mu.
func (s *Store) prefetch(reports []models.StatusReport) {
	var agents [prefetchSize]*agent
	var sessions [prefetchSize]*session
	for i := range reports {
		agents[i] = s.agents[reports[i].AgentID]
	}
	n := 0
	for i := range reports {
		if a := agents[i]; a != nil {
			if se := s.sessions[sessionID{a, reports[i].SessionTopic}]; se != nil {
				agents[n], sessions[n] = a, se
				n++
			}
		}
	}
	read := 0 // sum of what is read, so that the compiler keeps the loads
	for i := range n {
		a, se := agents[i], sessions[i]
		read += len(a.name) + int(a.class) + int(a.count) + int(a.filed.Sequence)
		read += len(se.title) + len(se.history) + int(se.class) + int(se.updated)
	}
	for i := range n {
		a, se := agents[i], sessions[i]
		oldest, since := se.history[0].status, se.runStart()
		read += int(oldest.received) + int(oldest.nsec) + int(since.nsec) + int(se.current().nsec)
		read += a.inFleet.Live() + a.inSource.Live() + se.inFleet.Live() + se.inSource.Live() + se.inAgent.Live()
		for _, neighbour := range se.dropLinks.Neighbours() {
			if neighbour != nil {
				read += int(neighbour.droppable)
			}
		}
	}
	for i := range n {
		a, se := agents[i], sessions[i]
		oldest, current := se.history[0].status, se.current()
		read += int(oldest.text[0]) + int(current.text[0]) + oldest.inAgent.Live() + current.inAgent.Live()
		if a.inFleet.Holds(a.slotInFleet, a) && a.inSource.Holds(a.slotInSource, a) &&
			se.inFleet.Holds(se.slotInFleet, se) && se.inSource.Holds(se.slotInSource, se) && se.inAgent.Holds(se.slotInAgent, se) {
			read++
		}
	}
	for i := range n {
		a, se := agents[i], sessions[i]
		read += firstByte(a.name) + firstByte(se.title)
		read += int(a.sessions.Newest().class) + int(a.latest().kind)
	}
	for i := range n {
		if oldest := sessions[i].history[0].status; oldest.inAgent.Holds(oldest.slot, oldest) {
			read++
		}
	}
	s.prefetched += read
}

// ahead returns the sessions of a walk, and loads what a list shows of them into the processor's caches, a few sessions
// at a time. They are scattered across memory: see [Store.prefetch]. The caller holds s.mu for reading.
func ahead(walk ordered.Walk[session]) ordered.Walk[session] {
	var buffer [prefetchSize]*session
	next, n, ended := 0, 0, false
	return func() *session {
		if next == n && !ended {
			for next, n = 0, 0; n < len(buffer); n++ {
				if buffer[n] = walk(); buffer[n] == nil {
					ended = true
					break
				}
			}
			keepLoads(prefetchViews(buffer[:n]))
		}
		if next == n {
			return nil
		}
		next++
		return buffer[next-1]
	}
}

// prefetchViews loads what lists show of sessions, and returns a sum of it. The caller holds s.mu for reading.
func prefetchViews(sessions []*session) (read int) {
	for _, se := range sessions {
		read += len(se.topic) + len(se.history) + int(se.ttl) + int(se.updated) + int(se.class)
	}
	for _, se := range sessions {
		read += len(se.agent.name) + len(se.agent.host) + len(se.source.name) + int(se.current().kind)
		read += firstByte(se.topic) + firstByte(se.title)
		if se.attention != nil {
			read += int(se.attention.order)
		}
		if se.turn.hasOpen() {
			read += len(se.turn.calls)
		}
	}
	var asked [prefetchSize]*models.Question
	for i, se := range sessions {
		read += firstByte(se.agent.id) + firstByte(se.agent.name) + firstByte(se.agent.host)
		read += firstByte(se.current().text) + int(se.runStart().nsec)
		if se.turn.hasOpen() {
			asked[i] = se.turn.open[0].brief
		}
	}
	for _, q := range asked {
		if q != nil {
			read += firstByte(q.Text) + firstByte(q.ID)
		}
	}
	return read
}

func firstByte(text string) int {
	if text == "" {
		return 0
	}
	return int(text[0])
}

// keepLoads keeps the compiler from removing the loads whose sum it is given.
//
//go:noinline
func keepLoads(int) {}
