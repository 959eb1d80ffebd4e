package journal

import (
	"cmp"
	"errors"
	"math"
	"slices"
	"strings"

	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// CompleteSession fills a page of a session's history with the entries that the journal has and memory doesn't, up to
// limit entries. The page starts after a position, or with the newest entry if after is nil.
func (j *Journal) CompleteSession(key store.SessionKey, page *store.HistoryPage, after *store.StatusPosition, limit int) error {
	return j.complete(history{key.AgentID, key.Topic}, page, after, limit)
}

// CompleteAgent is [Journal.CompleteSession] for the history of an agent over all its sessions.
func (j *Journal) CompleteAgent(agentID string, page *store.HistoryPage, after *store.StatusPosition, limit int) error {
	return j.complete(history{agentID: agentID}, page, after, limit)
}

// history identifies the history of a session, or of an agent if topic is empty.
type history struct{ agentID, topic string }

func (h history) covers(agentID, topic string) bool {
	return h.agentID == agentID && (h.topic == "" || h.topic == topic)
}

// complete files the records that the page lacks, and merges the page with what is filed. If it can't file them,
// because the disk can't be written, it reads them from the log.
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
	forgotten := map[string]bool{} // topics of forgotten sessions whose records are still filed
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
	if err := m.addMemory(nil); err != nil && err != errStop { //nolint:errorlint // never wrapped
		return err
	}
	if m.full {
		page.MarkMore()
	}
	return j.completeContents(page)
}

// completeContents fills in contents that memory has dropped from statuses whose entries in the history of their agent
// are gone, because they are older than the retention: as current statuses, their sessions still have them. The caller
// holds j.mu.
func (j *Journal) completeContents(page *store.HistoryPage) error {
	for i := range page.Items {
		item := &page.Items[i]
		if !item.ContentDropped {
			continue
		}
		content, found, err := j.engine.contentAt(store.SessionKey{AgentID: item.AgentID, Topic: item.SessionTopic}, page.Positions[i])
		if err != nil {
			return cmp.Or[error](j.whyUnusable(), err)
		}
		if found {
			item.Content, item.ContentDropped = strings.Clone(content), false
		}
	}
	return nil
}

// whyUnusable returns the failure of the engine, or nil. It is also the likely reason if a read fails.
func (j *Journal) whyUnusable() error {
	if f := j.failure.Load(); f != nil {
		return f
	}
	return nil
}

// addFiled merges the records that are filed after a position with those in memory. The caller holds j.mu.
func (j *Journal) addFiled(h history, after *store.StatusPosition, m *merge, forgotten map[string]bool) error {
	add := func(r *models.Record) error { return m.addJournaled(view(r), placeOf(r)) }
	addCloned := func(r *models.Record) error { return m.addJournaled(cloneTexts(view(r)), placeOf(r)) }
	if h.topic != "" {
		if forgotten[h.topic] {
			return nil
		}
		return j.engine.eachRecordAfter(store.SessionKey{AgentID: h.agentID, Topic: h.topic}, after, add)
	}
	sessions, held, cutoff := map[string]*sessionWalk{}, 0, j.cutoff.Load()
	return j.engine.eachTopicAfter(h.agentID, after, func(at store.StatusPosition, topic string) error {
		if cutoff != nil && at.Time().Before(*cutoff) {
			return errStop // only current statuses, which memory has, are shown from then on
		}
		walk := sessions[topic]
		if walk == nil {
			key := store.SessionKey{AgentID: h.agentID, Topic: topic}
			walk = &sessionWalk{engine: j.engine, prefix: recordPrefix(key), forgotten: forgotten[topic] || !j.store.Has(key)}
			sessions[topic] = walk
		}
		if walk.forgotten {
			return nil
		}
		if held > store.PageBytes { // drop the chunks read so far; they are read again if needed
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
		return addCloned(r)
	})
}

// addUnfiled adds the records that the log has after a position to those in memory. If the log says that a session was
// forgotten, it adds its topic to the set forgotten. The caller holds j.mu.
func (j *Journal) addUnfiled(h history, after *store.StatusPosition, m *merge, forgotten map[string]bool) error {
	var found []models.Record
	durable := j.durable.Load()
	err := j.engine.eachCommit(j.filedTo.Load().position, func(position uint64, commit string) error {
		if position > durable {
			return errStop
		}
		return visitCommit(commit, visitor{record: func(r models.Record, _ string) error {
			if cutoff := j.cutoff.Load(); h.topic == "" && cutoff != nil && timestampOf(&r).Before(*cutoff) {
				return nil
			}
			if !r.Renewal() && h.covers(r.AgentID, r.SessionTopic) && (after == nil || after.Newer(placeOf(&r))) {
				found = append(found, r)
			}
			return nil
		}, forget: func(f store.Forgotten) error {
			if h.covers(f.AgentID, f.Topic) {
				forgotten[f.Topic] = true
				found = slices.DeleteFunc(found, func(r models.Record) bool { return r.SessionTopic == f.Topic })
			}
			return nil
		}})
	})
	if err != nil && !errors.Is(err, errStop) {
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

// merge adds the entries from memory and from the journal to a page, newest first. An entry that both have is added
// once.
type merge struct {
	page      *store.HistoryPage
	items     []models.AgentStatus   // the remaining entries from memory
	positions []store.StatusPosition // their positions
	limit     int                    // entries
	maxBytes  int                    // 0 for store.PageBytes
	full      bool                   // there are more entries than the page has room for
}

// addJournaled adds an entry from the journal, and before it the entries from memory that come first.
func (m *merge) addJournaled(item models.AgentStatus, at store.StatusPosition) error {
	if err := m.addMemory(&at); err != nil {
		return err
	}
	switch {
	case len(m.positions) > 0 && m.positions[0] == at:
		m.items, m.positions = m.items[1:], m.positions[1:]
	case len(m.positions) == 0 && m.full: // the next entry may be in memory, beyond those that were read from it
		return errStop
	}
	return m.add(item, at)
}

// addMemory adds the entries from memory that come before a position, or all of them if it is nil.
func (m *merge) addMemory(before *store.StatusPosition) error {
	for len(m.positions) > 0 && (before == nil || m.positions[0].Newer(*before)) {
		if err := m.add(m.items[0], m.positions[0]); err != nil {
			return err
		}
		m.items, m.positions = m.items[1:], m.positions[1:]
	}
	return nil
}

// interleave merges records, newest first, into the entries from memory.
func (m *merge) interleave(records []models.Record) {
	var page store.HistoryPage
	all := merge{page: &page, items: m.items, positions: m.positions, limit: math.MaxInt, maxBytes: math.MaxInt}
	for i := range records {
		all.addJournaled(view(&records[i]), placeOf(&records[i])) //nolint:errcheck // there is room
	}
	all.addMemory(nil) //nolint:errcheck // see above
	m.items, m.positions = page.Items, page.Positions
}

// add adds an entry to the page, or returns errStop if the page is full.
func (m *merge) add(item models.AgentStatus, at store.StatusPosition) error {
	if !m.page.Add(item, at, m.limit, m.maxBytes) {
		m.full = true
		return errStop
	}
	return nil
}

// sessionWalk looks up the records of a session by position, newest first.
type sessionWalk struct {
	engine  *engine
	prefix  []byte
	records []models.Record // the remaining records of the chunk read last, newest first
	read    bool            // records are valid

	forgotten bool // the session is forgotten, though its records may still be filed
}

// cloneTexts returns st with copies of its texts, so that it doesn't keep a whole chunk in memory.
func cloneTexts(st models.AgentStatus) models.AgentStatus {
	st.Message, st.Content = strings.Clone(st.Message), strings.Clone(st.Content)
	return st
}

// record returns the record at a position, and how many bytes it read to find it. The record is nil if there is none,
// because its session was forgotten.
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

// readChunk reads the records from a position on, from the chunk that covers it. It returns the size of the chunk in
// bytes.
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

// HasReport reports whether the journal has a report with this ID in a session. It files the records up to a sequence
// first.
func (j *Journal) HasReport(key store.SessionKey, reportID string, sequence uint64) (bool, error) {
	if err := j.fileUpTo(sequence); err != nil {
		return false, err
	}
	j.mu.RLock()
	defer j.mu.RUnlock()
	if j.engine == nil {
		return false, ErrClosed
	}
	_, held, err := j.engine.find(idKey(key, reportID))
	return held, err
}
