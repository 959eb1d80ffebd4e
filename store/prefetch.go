package store

import "github.com/kubeagents/kubeagents/models"

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
		if a.name != "" {
			read += int(a.name[0])
		}
		if se.title != "" {
			read += int(se.title[0])
		}
		read += int(a.sessions.Newest().class) + int(a.latest().kind)
	}
	for i := range n {
		if oldest := sessions[i].history[0].status; oldest.inAgent.Holds(oldest.slot, oldest) {
			read++
		}
	}
	s.prefetched += read
}
