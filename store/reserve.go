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

// begin keeps room for the session that r begins.
func (ad *admitted) begin(r *models.StatusReport) {
	if ad.begun == nil {
		ad.begun, ad.found = map[SessionKey]struct{}{}, map[SessionKey]struct{}{}
	}
	ad.begun[keyOf(r)] = struct{}{}
	ad.found[toolKeyOf(r)] = struct{}{}
	ad.bytes += reportSize(r)
}

// withdraw notes that an admitted report withdraws the open questions of se.
func (ad *admitted) withdraw(se *session) {
	if ad.withdrawn == nil {
		ad.withdrawn = map[*session]struct{}{}
	}
	ad.withdrawn[se] = struct{}{}
}

// ask keeps room for the question that t opens, if it does.
func (ad *admitted) ask(t *models.Turn) {
	if t != nil && t.Asks != nil {
		ad.bytes += questionRoom(t)
	}
}

// asks gives up the room that is kept for the question that t opens, which is to be opened now.
func (ad *admitted) asks(t *models.Turn) {
	if t != nil && t.Asks != nil {
		ad.bytes = max(0, ad.bytes-questionRoom(t))
	}
}

// toolKeyOf names the session of r by its tool, in the place of its agent.
func toolKeyOf(r *models.StatusReport) SessionKey { return SessionKey{r.AgentSource, r.SessionTopic} }

// begins gives up the room that is kept for the session of r, which is to be made now.
func (ad *admitted) begins(r *models.StatusReport) {
	if _, ok := ad.begun[keyOf(r)]; ok {
		delete(ad.begun, keyOf(r))
		ad.bytes = max(0, ad.bytes-reportSize(r))
	}
}

// reportSize returns the bytes of memory that the status of r takes.
func reportSize(r *models.StatusReport) int64 {
	return sizeOf(len(r.Message) + len(r.Content) + len(r.ReportID))
}
