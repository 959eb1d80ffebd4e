package journal

import (
	"cmp"
	"errors"
	"math"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"

	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// CompleteSession adds to a page of a session's history, which begins after a position or with the newest entry, what
// the journal has and memory does not, until it holds limit entries.
func (j *Journal) CompleteSession(key store.SessionKey, page *store.HistoryPage, after *store.StatusPosition, limit int) error {
	return j.complete(history{key.AgentID, key.Topic}, page, after, limit)
}

// CompleteAgent is [Journal.CompleteSession] for the history of an agent over all its sessions.
func (j *Journal) CompleteAgent(agentID string, page *store.HistoryPage, after *store.StatusPosition, limit int) error {
	return j.complete(history{agentID: agentID}, page, after, limit)
}

// history is that of a session, or of an agent, where topic is empty.
type history struct{ agentID, topic string }

func (h history) has(agentID, topic string) bool {
	return h.agentID == agentID && (h.topic == "" || h.topic == topic)
}

// complete makes sure that all is filed that the page lacks, and merges the page with what is filed. Where nothing can be
// filed, because the disk can't be written, it looks for it in the log.
func (j *Journal) complete(h history, page *store.HistoryPage, after *store.StatusPosition, limit int) error {
	if page.Journaled == 0 {
		return nil
	}
	filing := j.fileUpTo(page.Journaled)
	j.mu.RLock()
	defer j.mu.RUnlock()
	if j.engine == nil {
		return ErrClosed
	}
	m := merge{page: page, items: page.Items[page.Complete:], positions: page.Positions[page.Complete:], limit: limit, full: page.Next != nil}
	page.Truncate(page.Complete)
	if page.Complete > 0 {
		after = &page.Positions[page.Complete-1]
	}
	forgotten := map[string]bool{} // topics of sessions that are forgotten, though what they reported is filed
	var failure *Failure
	if errors.As(filing, &failure) {
		filing = j.addUnfiled(h, after, &m, forgotten)
	}
	if filing != nil {
		return filing
	}
	if err := j.addFiled(h, after, &m, forgotten); err != nil {
		return cmp.Or[error](j.whyUnusable(), err)
	}
	if err := m.memory(nil); err != nil && err != errEnough { //nolint:errorlint // it comes as it is
		return err
	}
	if m.full {
		page.End()
	}
	return nil
}

// whyUnusable returns why the journal can't be written, or nil: what can't be read either has the same reason.
func (j *Journal) whyUnusable() error {
	if f := j.failure.Load(); f != nil {
		return f
	}
	return nil
}

// addFiled merges what is filed after a position with what memory has. The caller holds j.mu.
func (j *Journal) addFiled(h history, after *store.StatusPosition, m *merge, forgotten map[string]bool) error {
	add := func(r *models.Record) error { return m.journaled(view(r), placeOf(r)) }
	addAlone := func(r *models.Record) error { return m.journaled(alone(view(r)), placeOf(r)) }
	if h.topic != "" {
		if forgotten[h.topic] {
			return nil
		}
		return j.engine.eachRecordAfter(store.SessionKey{AgentID: h.agentID, Topic: h.topic}, after, add)
	}
	sessions, held := map[string]*sessionWalk{}, 0
	return j.engine.eachTopicAfter(h.agentID, after, func(at store.StatusPosition, topic string) error {
		walk := sessions[topic]
		if walk == nil {
			key := store.SessionKey{AgentID: h.agentID, Topic: topic}
			walk = &sessionWalk{engine: j.engine, prefix: recordPrefix(key), forgotten: forgotten[topic] || !j.store.Knows(key)}
			sessions[topic] = walk
		}
		if walk.forgotten {
			return nil
		}
		if held > store.PageBytes { // what is needed again is read again
			for _, other := range sessions {
				other.read, other.records = false, nil
			}
			held = 0
		}
		r, bytes, err := walk.record(at)
		held += bytes
		if r == nil || err != nil {
			return err
		}
		return addAlone(r)
	})
}

// addUnfiled adds to what memory has after a position what the log has, and notes which sessions are forgotten by what it
// says. The caller holds j.mu.
func (j *Journal) addUnfiled(h history, after *store.StatusPosition, m *merge, forgotten map[string]bool) error {
	var found []models.Record
	durable := j.durable.Load()
	err := j.engine.eachCommit(j.filedTo.Load().position, func(position uint64, commit string) error {
		if position > durable {
			return errEnough
		}
		return eachDecoded(commit, func(r models.Record, _ string) error {
			if !r.Renewal() && h.has(r.AgentID, r.SessionTopic) && (after == nil || after.Newer(placeOf(&r))) {
				found = append(found, r)
			}
			return nil
		}, func(f store.Forgotten) error {
			if h.has(f.AgentID, f.Topic) {
				forgotten[f.Topic] = true
				found = slices.DeleteFunc(found, func(r models.Record) bool { return r.SessionTopic == f.Topic })
			}
			return nil
		})
	})
	if err != nil && !errors.Is(err, errEnough) {
		return err
	}
	slices.SortFunc(found, func(a, b models.Record) int {
		if placeOf(&a).Newer(placeOf(&b)) {
			return -1
		}
		return 1
	})
	m.interleave(found)
	return nil
}

// merge adds to a page what memory and the journal have, each newest first; what both have, once.
type merge struct {
	page      *store.HistoryPage
	items     []models.AgentStatus // that memory has
	positions []store.StatusPosition
	limit     int
	most      int  // bytes; 0 for store.PageBytes
	full      bool // there is more than the page has room for
}

// journaled adds an entry that the journal has, and what memory has before it.
func (m *merge) journaled(item models.AgentStatus, at store.StatusPosition) error {
	if err := m.memory(&at); err != nil {
		return err
	}
	switch {
	case len(m.positions) > 0 && m.positions[0] == at:
		m.items, m.positions = m.items[1:], m.positions[1:]
	case len(m.positions) == 0 && m.full: // what comes next may be in memory, beyond what came from there
		return errEnough
	}
	return m.add(item, at)
}

// memory adds what memory has before a position, or all the rest of it.
func (m *merge) memory(before *store.StatusPosition) error {
	for len(m.positions) > 0 && (before == nil || m.positions[0].Newer(*before)) {
		if err := m.add(m.items[0], m.positions[0]); err != nil {
			return err
		}
		m.items, m.positions = m.items[1:], m.positions[1:]
	}
	return nil
}

// interleave adds records, newest first, to what memory has.
func (m *merge) interleave(records []models.Record) {
	var page store.HistoryPage
	all := merge{page: &page, items: m.items, positions: m.positions, limit: math.MaxInt, most: math.MaxInt}
	for i := range records {
		all.journaled(view(&records[i]), placeOf(&records[i])) //nolint:errcheck // there is room
	}
	all.memory(nil) //nolint:errcheck // see above
	m.items, m.positions = page.Items, page.Positions
}

// add adds an entry, or returns errEnough where the page is full.
func (m *merge) add(item models.AgentStatus, at store.StatusPosition) error {
	if !m.page.Add(item, at, m.limit, m.most) {
		m.full = true
		return errEnough
	}
	return nil
}

// sessionWalk finds records of a session by where they stand, newest first.
type sessionWalk struct {
	engine  *engine
	prefix  []byte
	records []models.Record // of the chunk read last, newest first, from the one that comes next on
	read    bool            // a chunk was read

	forgotten bool // the journal may not know yet
}

// alone returns st with texts that keep nothing else in memory.
func alone(st models.AgentStatus) models.AgentStatus {
	st.Message, st.Content = strings.Clone(st.Message), strings.Clone(st.Content)
	return st
}

// record returns the record at a position, or nil where there is none: its session was forgotten. It also returns how many bytes
// were read for that.
func (w *sessionWalk) record(at store.StatusPosition) (_ *models.Record, bytes int, _ error) {
	if !w.read || len(w.records) == 0 || comparePositions(placeOf(&w.records[len(w.records)-1]), at) < 0 {
		var err error
		if bytes, err = w.readChunk(at); err != nil {
			return nil, bytes, err
		}
	}
	for len(w.records) > 0 && comparePositions(placeOf(&w.records[0]), at) < 0 {
		w.records = w.records[1:]
	}
	if len(w.records) == 0 || placeOf(&w.records[0]) != at {
		return nil, bytes, nil
	}
	return &w.records[0], bytes, nil
}

// readChunk reads the chunk that a position would be in, from there on. It returns how large that is.
func (w *sessionWalk) readChunk(at store.StatusPosition) (bytes int, err error) {
	w.read, w.records = true, w.records[:0]
	_, chunk, err := w.engine.chunkOf(w.prefix, at)
	if err != nil || chunk == "" {
		return 0, err
	}
	w.records = slices.Grow(w.records, chunkEntries)
	return len(chunk), eachRecord(chunk, func(r *models.Record) error {
		if comparePositions(placeOf(r), at) >= 0 {
			w.records = append(w.records, *r)
		}
		return nil
	})
}

// Holds reports whether a session holds a report with this ID among its records up to a sequence.
func (j *Journal) Holds(key store.SessionKey, reportID string, sequence uint64) (bool, error) {
	if err := j.fileUpTo(sequence); err != nil {
		return false, err
	}
	j.mu.RLock()
	defer j.mu.RUnlock()
	if j.engine == nil {
		return false, ErrClosed
	}
	_, err := j.engine.get(idKey(key, reportID))
	if errors.Is(err, pebble.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}
