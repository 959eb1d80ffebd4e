package store

import "github.com/kubeagents/kubeagents/models"

func keyOf(r *models.StatusReport) SessionKey { return SessionKey{r.AgentID, r.SessionTopic} }

// addID notes the ID of r. It reports false where it is there already.
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

// refuse has reports of a session be refused.
func (ad *admitted) refuse(key SessionKey, outcome Outcome) {
	if ad.refused == nil {
		ad.refused = map[SessionKey]Outcome{}
	}
	ad.refused[key] = outcome
}

// hasBegun reports whether the session of r is one that an admitted report begins.
func (ad *admitted) hasBegun(r *models.StatusReport) bool {
	if _, ok := ad.begun[keyOf(r)]; ok {
		return true
	}
	if r.Event == nil || !r.Event.Find {
		return false
	}
	_, ok := ad.found[toolKeyOf(r)]
	return ok
}

// begin notes that r begins its session.
func (ad *admitted) begin(r *models.StatusReport) {
	if ad.begun == nil {
		ad.begun, ad.found = map[SessionKey]struct{}{}, map[SessionKey]struct{}{}
	}
	ad.begun[keyOf(r)] = struct{}{}
	ad.found[toolKeyOf(r)] = struct{}{}
}

// withdraw notes that an admitted report withdraws the open questions of se.
func (ad *admitted) withdraw(se *session) {
	if ad.withdrawn == nil {
		ad.withdrawn = map[*session]struct{}{}
	}
	ad.withdrawn[se] = struct{}{}
}

// toolKeyOf names the session of r by its tool, in the place of its agent.
func toolKeyOf(r *models.StatusReport) SessionKey { return SessionKey{r.AgentSource, r.SessionTopic} }

// keepFree keeps room for an admitted record of a session, nil where it begins one, of an agent of these teams. The caller holds
// s.mu.
func (s *Store) keepFree(set *teamSet, se *session, n need) {
	if n.bytes = max(0, n.bytes); n == (need{}) {
		return
	}
	if se != nil {
		se.kept += int32(n.bytes)
	}
	for u := range s.usages(set) {
		u.begun += n.sessions
		u.kept += n.bytes
	}
}

// begins gives up the room that is kept for the session of r, which is to be made now, if there is any. The caller holds s.mu.
func (s *Store) begins(r *models.StatusReport) (kept bool) {
	key := keyOf(r)
	if _, kept = s.admitted.begun[key]; !kept {
		return false
	}
	delete(s.admitted.begun, key)
	for u := range s.usages(s.teamsOf(s.agents[r.AgentID], r.AgentID)) {
		u.begun--
	}
	return true
}
