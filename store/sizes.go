package store

import (
	"unsafe"

	"github.com/kubeagents/kubeagents/models"
)

// Bytes of memory besides texts, including places in maps, lists and indexes. See TestMemoryIsWhatIsCounted.
const (
	agentOverhead   = 480
	sessionOverhead = 472
	teamOverhead    = 96  // for an agent and for a session, per team
	sourceOverhead  = 900 // for the name of a tool

	// statusOverhead is for a status and its places in the history and the index.
	statusOverhead = int64(unsafe.Sizeof(status{}) + 2*unsafe.Sizeof(historyRef{}) + 2*unsafe.Sizeof(uintptr(0)))
)

// sizeOfText returns the maximum number of bytes of memory for a text of n bytes, which depends on the allocator's size
// classes.
func sizeOfText(n int) int64 {
	const small, page, large = 1 << 10, 8 << 10, 32 << 10
	switch {
	case n > large:
		return int64(n+page-1) / page * page
	case n > small:
		return int64(n + n/8)
	}
	return int64(n+15) / 16 * 16
}

// size returns the bytes of memory that st takes.
func (st *status) size() int64 { return sizeOfStatus(len(st.text)) }

func sizeOfStatus(textLen int) int64 { return sizeOfText(textLen) + statusOverhead }

// sizeOfTexts returns the size of the texts of a.
func (a *agent) sizeOfTexts() int64 {
	return sizeOfText(len(a.id)) + sizeOfText(len(a.name)) + sizeOfText(len(a.host))
}

// sizeOfTexts returns the size of the texts of se, without those of its history and its questions.
func (se *session) sizeOfTexts() int64 { return sizeOfText(len(se.topic)) + sizeOfText(len(se.title)) }

// size returns the bytes of memory that a takes, without its sessions.
func (a *agent) size() int64 {
	return agentOverhead + int64(len(a.teams.all()))*teamOverhead + a.sizeOfTexts()
}

// size returns the bytes of memory that se takes, without its history and its questions.
func (se *session) size() int64 {
	return sessionOverhead + int64(len(se.agent.teams.all()))*teamOverhead + se.sizeOfTexts()
}

// leastSize returns the minimum size of the status of r: its content may be dropped at once.
func leastSize(r *models.Record) int64 {
	n := len(r.Message) + len(r.ReportID) + len(packNotes(r))
	return sizeOfStatus(n + 8)
}

// growth returns the minimum number of bytes of memory that a record adds, net of what its session can drop. set is the
// teams of its agent. a and se are nil if the record begins them. The caller holds s.mu.
func (s *Store) growth(r *models.Record, set *teamSet, a *agent, se *session) (n int64) {
	teams := int64(len(set.list())) * teamOverhead
	if a == nil {
		a = &agent{}
		n += agentOverhead + teams + sizeOfText(len(r.AgentID))
	}
	title, before := "", (*turn)(nil)
	if se == nil {
		n += sessionOverhead + teams + sizeOfText(len(r.SessionTopic))
	} else {
		title, before = se.title, se.turn
	}
	if (r.AgentSource != "" || a.id == "") && s.sources[r.AgentSource] == nil {
		n += sizeOfSource(r.AgentSource)
	}
	n += growthOfText(a.name, r.AgentName) + growthOfText(a.host, r.AgentHost) + growthOfText(title, r.SessionTitle)
	if r.Turn != nil {
		n += before.sizeAfter(r.Turn) - before.size()
	}
	if r.Renewal() {
		return n
	}
	n += leastSize(r)
	if se != nil {
		n -= se.current().size()
	}
	return n
}

// growthOfText returns how much larger a text is than the one that it replaces, 0 if there is no new text.
func growthOfText(before, after string) int64 {
	if after == "" {
		return 0
	}
	return sizeOfText(len(after)) - sizeOfText(len(before))
}

func sizeOfSource(name string) int64 { return sourceOverhead + sizeOfText(len(name)) }
