package store

import "github.com/kubeagents/kubeagents/models"

func keyOf(r *models.StatusReport) SessionKey { return SessionKey{r.AgentID, r.SessionTopic} }

// addID adds the report ID of r. It returns false if it is already there.
func (ad *admitted) addID(r *models.StatusReport) bool {
	key := reportKey{keyOf(r), r.ReportID}
	if _, ok := ad.ids[key]; ok {
		return false
	}
	if ad.ids == nil {
		ad.ids = map[reportKey]struct{}{}
	}
	ad.ids[key] = struct{}{}
	return true
}

func (ad *admitted) removeID(r *models.StatusReport) { delete(ad.ids, reportKey{keyOf(r), r.ReportID}) }

// refuse makes admission refuse the reports of a session with this outcome.
func (ad *admitted) refuse(key SessionKey, outcome Outcome) {
	if ad.refused == nil {
		ad.refused = map[SessionKey]Outcome{}
	}
	ad.refused[key] = outcome
}

// hasBegun reports whether an admitted report begins the session of r.
func (ad *admitted) hasBegun(r *models.StatusReport) bool {
	if _, ok := ad.begun[keyOf(r)]; ok {
		return true
	}
	if r.Event == nil || !r.Event.FindByToolID {
		return false
	}
	_, ok := ad.found[toolKeyOf(r)]
	return ok
}

// begin records that r begins its session.
func (ad *admitted) begin(r *models.StatusReport) {
	if ad.begun == nil {
		ad.begun, ad.found = map[SessionKey]struct{}{}, map[SessionKey]struct{}{}
	}
	ad.begun[keyOf(r)] = struct{}{}
	ad.found[toolKeyOf(r)] = struct{}{}
}

// withdraw records that an admitted report withdraws the open questions of se.
func (ad *admitted) withdraw(se *session) {
	if ad.withdrawn == nil {
		ad.withdrawn = map[*session]struct{}{}
	}
	ad.withdrawn[se] = struct{}{}
}

// toolKeyOf is keyOf with the session's tool in place of its agent.
func toolKeyOf(r *models.StatusReport) SessionKey { return SessionKey{r.AgentSource, r.SessionTopic} }

// reserve reserves room for an admitted record of an agent with these teams. se is its session, nil if the record
// begins it. The caller holds s.mu.
func (s *Store) reserve(set *teamSet, se *session, n need) {
	if n.bytes = max(0, n.bytes); n == (need{}) {
		return
	}
	if se != nil {
		se.reserved += int32(n.bytes)
	}
	for u := range s.usages(set) {
		u.reservedSessions += n.sessions
		u.reserved += n.bytes
	}
}

// takeReservation releases the room reserved for the session of r, which is about to be created. It returns false if
// none was reserved. The caller holds s.mu.
func (s *Store) takeReservation(r *models.StatusReport) (kept bool) {
	key := keyOf(r)
	if _, kept = s.admitted.begun[key]; !kept {
		return false
	}
	delete(s.admitted.begun, key)
	for u := range s.usages(s.teamsOf(s.agents[r.AgentID], r.AgentID)) {
		u.reservedSessions--
	}
	return true
}
