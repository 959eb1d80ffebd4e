package store_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// replica is a server that applies messages: a replicated store and its journal.
type replica struct {
	t       *rapid.T
	opts    store.Options
	team    *store.Team
	store   *store.Store
	journal *memoryJournal
	index   uint64 // of the next record of the message
	message uint64
	clock   time.Time // local, and wrong
}

func newReplica(t *rapid.T, opts store.Options) *replica {
	r := &replica{t: t, opts: opts, store: store.New(opts), journal: newMemoryJournal(), clock: epoch.Add(1000 * time.Hour)}
	r.setTeam()
	return r
}

func (r *replica) setTeam() {
	r.team = store.NewTeam(store.Share{}, func(id string) bool { return id != agentIDs[0] })
	r.store.SetTeams([]*store.Team{r.team})
}

// message is what the stream has, with the time at which it was stored.
type message struct {
	sequence uint64
	now      time.Time
	paused   time.Time // when a pause before the message began; zero for none
	calls    [][]models.StatusReport
	ofTeam   bool              // the calls come from the team
	removed  *store.SessionKey // without a topic: all sessions of the agent
	evicted  []store.SessionKey
	trimmed  []store.SessionKey
	before   time.Time // for trimmed
}

// effect is what a message did, as far as a server tells.
type effect struct {
	Expiry   store.Expiry
	Outcomes []store.Outcome
	Records  []models.Record
	Removed  int
	Evicted  []store.SessionKey
	Changes  []store.Change
}

func (r *replica) apply(m message) (e effect) {
	r.message, r.index = m.sequence, 0
	if !m.paused.IsZero() {
		r.store.Pause(m.paused, m.now)
	}
	e.Expiry = r.store.Begin(m.sequence, m.now)
	r.append(commit{})
	switch {
	case m.removed != nil:
		e.Removed = r.remove(*m.removed)
	case len(m.evicted) > 0:
		e.Evicted = r.store.Evict(m.evicted)
		r.append(commit{evicted: e.Evicted})
	case len(m.trimmed) > 0:
		r.journal.file(r.store, all)
		for _, key := range m.trimmed {
			r.store.TrimHistory(key, m.before)
			r.journal.trim(key, m.before)
		}
	default:
		r.report(m, &e)
	}
	number, ok := r.store.ChangeAfter(m.sequence-1, math.MaxUint32)
	require.True(r.t, ok)
	for _, c := range changesOf(r.t, r.store, number) {
		require.Equal(r.t, m.sequence, c.Message)
		require.EqualValues(r.t, len(e.Changes), c.Index)
		c.Number, c.Teams = 0, nil
		e.Changes = append(e.Changes, c)
	}
	return e
}

// append appends a commit to the journal, with what the store has forgotten.
func (r *replica) append(c commit) {
	c.message, c.forgotten = r.message, append(r.store.TakeForgotten(), c.forgotten...)
	r.journal.log = append(r.journal.log, c)
	r.journal.time, r.journal.pauses = r.store.Time(), r.store.Pauses()
}

// report settles the reports of a message, and applies them, as the recorder does.
func (r *replica) report(m message, e *effect) {
	var team *store.Team
	if m.ofTeam {
		team = r.team
	}
	var ad store.Admission
	r.recall(slices.Concat(m.calls...))
	for i, reports := range m.calls {
		for len(reports) > 0 {
			done := len(ad.Outcomes)
			ok := r.store.Admit(team, slices.Clone(reports), r.clock, &ad)
			reports = reports[len(ad.Outcomes)-done:]
			switch {
			case len(ad.Lookups) > 0:
				for _, l := range ad.Lookups {
					r.store.Answer(l, r.journal.answer(r.t, l))
				}
				ad.Lookups = nil
			case !ok:
				r.settle(&ad, e)
				r.recall(slices.Concat(m.calls[i:]...))
			}
		}
	}
	r.settle(&ad, e)
}

// settle makes what is admitted durable, and applies it.
func (r *replica) settle(ad *store.Admission, e *effect) {
	require.Empty(r.t, ad.PossibleDuplicates)
	for i := range ad.Records {
		ad.Records[i].Sequence = r.message<<24 | r.index
		r.index++
	}
	r.append(commit{records: slices.Clone(ad.Records)})
	r.store.Apply(ad.Records...)
	r.store.Settle()
	e.Outcomes = append(e.Outcomes, ad.Outcomes...)
	for _, record := range ad.Records {
		if record.Renewal() {
			record.Content = "" // of the status that it renews, which memory may have dropped
		}
		e.Records = append(e.Records, record)
	}
	*ad = store.Admission{}
}

// recall loads the cold sessions that reports name, and then their agents: once the retention of an agent's last cold
// session is over, nothing is known of the agent.
func (r *replica) recall(reports []models.StatusReport) {
	if !r.store.HasCold() {
		return
	}
	for i := range reports {
		key := store.SessionKey{AgentID: reports[i].AgentID, Topic: reports[i].SessionTopic}
		if r.store.Has(key) {
			continue
		}
		r.journal.file(r.store, all)
		if cold := r.journal.restored(key, r.opts.HistoryLimit); cold != nil {
			require.True(r.t, cold.Session.Cold, "%+v", cold)
			if r.store.Time().Before(r.store.RetainedUntil(cold.Session)) {
				r.store.Recall(cold, r.clock)
			} else {
				r.append(commit{forgotten: []store.Forgotten{{SessionKey: key}}})
				r.journal.file(r.store, all)
			}
		}
	}
	for i := range reports {
		id := reports[i].AgentID
		if _, known := r.store.Agent(id); !known && r.journal.holdsAgent(id) {
			r.store.RecallAgent(id, r.journal.agents[id])
		}
	}
}

func (r *replica) remove(key store.SessionKey) (removed int) {
	r.journal.file(r.store, all)
	defer func() { r.append(commit{}) }()
	if key.Topic == "" {
		held := r.journal.holdsAgent(key.AgentID)
		removed = r.store.RemoveAgent(key.AgentID, r.clock)
		f := store.Forgotten{SessionKey: store.SessionKey{AgentID: key.AgentID, Topic: "-"}, LastOfAgent: true}
		r.store.Remove(f)
		if held {
			r.append(commit{forgotten: []store.Forgotten{f}})
			removed = max(removed, 1)
		}
		return removed
	}
	if r.store.RemoveSession(key, r.clock) {
		return 1
	}
	if r.journal.histories[key] == nil {
		return 0
	}
	r.store.Remove(store.Forgotten{SessionKey: key})
	r.append(commit{forgotten: []store.Forgotten{{SessionKey: key}}})
	return 1
}

// restart throws the store away, and loads a new one from the journal.
func (r *replica) restart() {
	before := r.message
	r.store = store.New(r.opts)
	r.setTeam()
	r.journal.replay(r.store, r.opts.HistoryLimit, r.clock)
	if before > 0 {
		_, ok := r.store.ChangeAfter(before, math.MaxUint32)
		require.False(r.t, ok, "it does not know what changed")
	}
}

// replicaReads is everything that reads of a server show.
type replicaReads struct {
	Summary, OfTeam models.Summary
	Agents, Seen    []models.Agent
	Sessions, Team  []models.FleetSession
	Needs           [3][]models.FleetSession
	Questions       [][]models.Question
	Histories       [][]models.AgentStatus
	OfAgents        [][]models.AgentStatus
	Cold            []any
	Tools           []store.ToolUse
	Retained        []time.Time
	Pauses          []store.Pause
	Time            time.Time
}

func (r *replica) shown() replicaReads {
	st := r.store
	require.NoError(r.t, st.CheckUsage())
	require.Equal(r.t, store.Expiry{}, st.Expire(r.clock), "the local clock has no effect")
	v := replicaReads{
		Summary: st.TeamSummary(nil, r.clock), OfTeam: st.TeamSummary(r.team, r.clock), Time: st.Time(), Pauses: st.Pauses(),
		Agents: allAgents(r.t, st, store.AgentQuery{}, all), Seen: allAgents(r.t, st, store.AgentQuery{BySeen: true, Team: r.team}, all),
		Sessions: allSessions(r.t, st, store.SessionQuery{}, all), Team: allSessions(r.t, st, store.SessionQuery{Team: r.team, Source: "codex"}, all),
	}
	for need := models.NeedWaiting; need <= models.NeedFailed; need++ {
		v.Needs[need-1] = allSessions(r.t, st, store.SessionQuery{Need: need}, all)
	}
	for _, tool := range []string{"", "cursor", "codex"} {
		v.Tools = append(v.Tools, st.ToolUse(nil, tool), st.ToolUse(r.team, tool))
	}
	for _, se := range v.Sessions {
		full, questions, page, ok := st.SessionInFull(se.AgentID, se.Topic, nil, all)
		require.True(r.t, ok)
		require.Equal(r.t, se, full)
		require.True(r.t, st.KnowsBegin(se.AgentID, se.Topic))
		key := store.SessionKey{AgentID: se.AgentID, Topic: se.Topic}
		v.Questions = append(v.Questions, questions)
		v.Histories = append(v.Histories, r.completed(page, r.journal.records(key)))
	}
	for _, a := range v.Agents {
		var records []models.Record
		for _, se := range v.Sessions {
			if se.AgentID == a.ID {
				records = append(records, r.journal.records(store.SessionKey{AgentID: a.ID, Topic: se.Topic})...)
			}
		}
		_, page, ok := st.AgentStatus(a.ID, nil, all)
		require.True(r.t, ok)
		v.OfAgents = append(v.OfAgents, r.completed(page, records))
	}
	r.addCold(&v)
	return v
}

// addCold adds what a read of each cold session by its ID shows.
func (r *replica) addCold(v *replicaReads) {
	for _, agentID := range agentIDs {
		for _, topic := range topics {
			key := store.SessionKey{AgentID: agentID, Topic: topic}
			if r.store.Has(key) || !r.store.HasCold() {
				continue
			}
			if r.store.IsCooling(key) || r.journal.touches(key) {
				r.journal.file(r.store, all)
			}
			cold := r.journal.restored(key, all)
			if cold == nil {
				continue
			}
			require.True(r.t, cold.Session.Cold)
			session, questions, page, ok := r.store.Preview(cold, nil, all, r.clock)
			if !ok { // its retention is over
				session = models.FleetSession{}
			}
			v.Cold = append(v.Cold, session, questions, page.Items, ok, r.store.RetainedUntil(cold.Session))
		}
	}
}

// completed returns a history with the entries that only the journal has, given its records.
func (r *replica) completed(page store.HistoryPage, records []models.Record) []models.AgentStatus {
	whole := historyOf(r.t, records)
	require.Equal(r.t, whole[:page.Complete], page.Items[:page.Complete])
	if page.Journaled == 0 {
		require.Equal(r.t, whole, page.Items)
	}
	return whole
}

// historyOf returns the entries of some records, newest first.
func historyOf(t require.TestingT, records []models.Record) []models.AgentStatus {
	slices.SortFunc(records, newestFirst)
	entries := []models.AgentStatus{}
	for _, record := range records {
		st := store.New(store.Options{DefaultTTL: time.Minute, HistoryLimit: 1, HistoryMaxBytes: 1 << 30, MaxSessions: 1, EventWindow: 1})
		record.ShownQuestion, record.ShownKind = record.QuestionShown(), record.KindShown()
		record.Turn = nil
		st.Apply(record)
		_, page, ok := st.Session(record.AgentID, record.SessionTopic, nil, 1)
		require.True(t, ok)
		entries = append(entries, page.Items...)
	}
	return entries
}

// TestReplicasAgree lets several replicated stores apply the same messages, and checks that all of them show the same
// after each. They hold more or less in memory, and are loaded anew from their journals at any time, which have filed
// more or less of their logs.
func TestReplicasAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		opts := store.Options{
			DefaultTTL: 3 * time.Minute, SessionRetention: 20 * time.Minute, MaxSessions: rapid.IntRange(2, 8).Draw(t, "max sessions"),
			HistoryLimit: 1000, HistoryMaxBytes: 1 << 30, EventWindow: 10_000, Journaled: true, Replicated: true,
		}
		replicas := []*replica{newReplica(t, opts)}
		opts.HistoryLimit, opts.HistoryMaxBytes = 1, 1
		replicas = append(replicas, newReplica(t, opts))
		opts.HistoryLimit, opts.HistoryMaxBytes = rapid.IntRange(1, 4).Draw(t, "history limit"), int64(rapid.IntRange(1, 12).Draw(t, "KiB"))<<10
		replicas = append(replicas, newReplica(t, opts))
		now, sequence := epoch, uint64(0)
		send := func(m message) {
			sequence += uint64(rapid.SampledFrom([]int{1, 1, 1, 2}).Draw(t, "step"))
			m.sequence, m.now = sequence, now
			want := replicas[0].apply(m)
			for i, r := range replicas[1:] {
				require.Equal(t, want, r.apply(m), "replica %d", i+1)
			}
			wanted := replicas[0].shown()
			for i, r := range replicas[1:] {
				require.Equal(t, wanted, r.shown(), "replica %d", i+1)
			}
		}
		pass := func(t *rapid.T) {
			now = now.Add(time.Duration(rapid.SampledFrom([]int{0, 0, 1, 30, 200}).Draw(t, "seconds")) * time.Second)
		}
		t.Repeat(map[string]func(*rapid.T){
			"reports": func(t *rapid.T) {
				pass(t)
				m := message{ofTeam: rapid.Bool().Draw(t, "of the team")}
				for range rapid.IntRange(1, 3).Draw(t, "calls") {
					m.calls = append(m.calls, drawCall(t, now))
				}
				send(m)
			},
			"a renewal": func(t *rapid.T) {
				pass(t)
				list := allSessions(t, replicas[0].store, store.SessionQuery{}, all)
				if len(list) == 0 {
					t.Skip("there are no sessions")
				}
				se := rapid.SampledFrom(list).Draw(t, "session")
				send(message{calls: [][]models.StatusReport{{{AgentID: se.AgentID, SessionTopic: se.Topic, Status: se.CurrentStatus,
					Message: se.CurrentMessage, Renew: true, ReportID: rapid.SampledFrom([]string{"", "r1"}).Draw(t, "ID")}}}})
			},
			"time passes": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(1, 1500).Draw(t, "seconds")) * time.Second)
				send(message{})
			},
			"a pause": func(t *rapid.T) {
				paused := now
				now = now.Add(time.Duration(rapid.IntRange(11, 1500).Draw(t, "seconds")) * time.Second)
				send(message{paused: paused, calls: [][]models.StatusReport{drawCall(t, now)}})
			},
			"a person removes": func(t *rapid.T) {
				key := store.SessionKey{AgentID: rapid.SampledFrom(agentIDs).Draw(t, "agent"),
					Topic: rapid.SampledFrom(append([]string{""}, topics...)).Draw(t, "topic")}
				send(message{removed: &key})
			},
			"an eviction": func(t *rapid.T) {
				pass(t)
				keys := rapid.SampledFrom(replicas).Draw(t, "holder").store.Overflow(rapid.IntRange(1, 5).Draw(t, "limit"))
				for _, se := range allSessions(t, replicas[0].store, store.SessionQuery{}, all) {
					if rapid.IntRange(0, 3).Draw(t, "evict") == 0 {
						keys = append(keys, store.SessionKey{AgentID: se.AgentID, Topic: se.Topic})
					}
				}
				send(message{evicted: keys})
			},
			"a trim": func(t *rapid.T) {
				m := message{before: now.Add(-time.Duration(rapid.IntRange(0, 20).Draw(t, "minutes")) * time.Minute)}
				for _, se := range allSessions(t, replicas[0].store, store.SessionQuery{}, all) {
					m.trimmed = append(m.trimmed, store.SessionKey{AgentID: se.AgentID, Topic: se.Topic})
				}
				send(m)
			},
			"a journal files": func(t *rapid.T) {
				r := rapid.SampledFrom(replicas).Draw(t, "replica")
				r.journal.file(r.store, rapid.IntRange(1, 20).Draw(t, "commits"))
			},
			"a restart": func(t *rapid.T) {
				i := rapid.IntRange(0, len(replicas)-1).Draw(t, "replica")
				replicas[i].restart()
				require.Equal(t, replicas[(i+1)%len(replicas)].shown(), replicas[i].shown())
			},
			"room is asked for": func(t *rapid.T) {
				_, room := rapid.SampledFrom(replicas).Draw(t, "replica").store.Room(nil, drawCall(t, now), nil)
				room.Release()
			},
		})
	})
}

// drawCall draws the reports of a call: some status reports, or one event.
func drawCall(t *rapid.T, now time.Time) (reports []models.StatusReport) {
	if rapid.Bool().Draw(t, "event") {
		return []models.StatusReport{drawEvent(t, now)}
	}
	for range rapid.IntRange(1, 4).Draw(t, "reports") {
		r := drawReport(t, now)
		if r.Event != nil {
			r.Event, r.Status = nil, models.Running
		}
		reports = append(reports, r)
	}
	return reports
}

// commit is an entry of a journal's log.
type commit struct {
	message   uint64
	forgotten []store.Forgotten // before the rest
	records   []models.Record
	evicted   []store.SessionKey
}

// memoryJournal holds what a journal does: a log, and what it has filed of it.
type memoryJournal struct {
	log       []commit // not filed yet
	histories map[store.SessionKey][]models.Record
	states    map[store.SessionKey]store.SessionState
	agents    map[string]store.AgentState
	filedTo   uint64
	pauses    []store.Pause
	time      time.Time
}

func newMemoryJournal() *memoryJournal {
	return &memoryJournal{histories: map[store.SessionKey][]models.Record{}, states: map[store.SessionKey]store.SessionState{},
		agents: map[string]store.AgentState{}}
}

// file files the first commits of the log, at most limit.
func (j *memoryJournal) file(st *store.Store, limit int) {
	n := min(limit, len(j.log))
	touched, agents := map[store.SessionKey]store.StatusPosition{}, map[string]bool{}
	for _, c := range j.log[:n] {
		for _, f := range c.forgotten {
			j.forget(j.histories, f)
			agents[f.AgentID] = true
			for key := range touched {
				if key == f.SessionKey || f.LastOfAgent && key.AgentID == f.AgentID {
					delete(touched, key)
				}
			}
		}
		for _, r := range c.records {
			key := store.SessionKey{AgentID: r.AgentID, Topic: r.SessionTopic}
			j.filedTo = max(j.filedTo, r.Sequence)
			newest := touched[key]
			if !r.Renewal() {
				j.histories[key] = append(j.histories[key], r)
				if at := positionOf(&r); at.Newer(newest) {
					newest = at
				}
			}
			touched[key], agents[key.AgentID] = newest, true
		}
		for _, key := range c.evicted {
			j.filedTo = max(j.filedTo, c.message<<24|(1<<24-1))
			newest := touched[key]
			touched[key], agents[key.AgentID] = newest, true
		}
	}
	var filings []store.Filing
	for key, newest := range touched {
		filings = append(filings, store.Filing{SessionKey: key, Newest: newest})
	}
	st.File(filings)
	for _, f := range filings {
		if f.SessionKnown {
			j.states[f.SessionKey] = f.State
		}
	}
	for id := range agents {
		if state, ok := st.AgentState(id); ok {
			j.agents[id] = state
		}
	}
	j.log = slices.Clone(j.log[n:])
	if n > 0 {
		st.SetFiledTo(j.filedTo)
	}
}

func positionOf(r *models.Record) store.StatusPosition {
	timestamp := when(*r)
	return store.StatusPosition{Seconds: timestamp.Unix(), Nanoseconds: int32(timestamp.Nanosecond()), Sequence: r.Sequence}
}

func (j *memoryJournal) forget(histories map[store.SessionKey][]models.Record, f store.Forgotten) {
	for key := range histories {
		if key == f.SessionKey || f.LastOfAgent && key.AgentID == f.AgentID {
			delete(histories, key)
			delete(j.states, key)
		}
	}
	if f.LastOfAgent {
		delete(j.agents, f.AgentID)
	}
}

// records returns all records of a session that are in its history, also those that are not filed yet.
func (j *memoryJournal) records(key store.SessionKey) []models.Record {
	records := slices.Clone(j.histories[key])
	for _, c := range j.log {
		for _, f := range c.forgotten {
			if f.SessionKey == key || f.LastOfAgent && f.AgentID == key.AgentID {
				records = nil
			}
		}
		for _, r := range c.records {
			if r.AgentID == key.AgentID && r.SessionTopic == key.Topic && !r.Renewal() {
				records = append(records, r)
			}
		}
	}
	return records
}

// touches reports whether the log says anything about a session.
func (j *memoryJournal) touches(key store.SessionKey) bool {
	return slices.ContainsFunc(j.log, func(c commit) bool {
		return slices.ContainsFunc(c.forgotten, func(f store.Forgotten) bool { return f.AgentID == key.AgentID }) ||
			slices.Contains(c.evicted, key) ||
			slices.ContainsFunc(c.records, func(r models.Record) bool { return r.AgentID == key.AgentID && r.SessionTopic == key.Topic })
	})
}

// holdsAgent reports whether an agent has a session that is filed.
func (j *memoryJournal) holdsAgent(id string) bool {
	for key := range j.histories {
		if key.AgentID == id {
			return true
		}
	}
	return false
}

// restored returns a session as it is filed, with its newest records; nil if there is none.
func (j *memoryJournal) restored(key store.SessionKey, limit int) *store.Restored {
	records := slices.Clone(j.histories[key])
	if len(records) == 0 {
		return nil
	}
	slices.SortFunc(records, newestFirst)
	r := &store.Restored{SessionKey: key, Agent: j.agents[key.AgentID], Session: j.states[key], Records: records}
	if len(records) > limit {
		next := positionOf(&records[limit])
		r.Records, r.Next, r.Dropped = records[:limit], &next, j.filedTo
	}
	return r
}

// trim deletes the records of a session that are older than before, except for the newest one.
func (j *memoryJournal) trim(key store.SessionKey, before time.Time) {
	records := j.histories[key]
	if len(records) == 0 {
		return
	}
	slices.SortFunc(records, newestFirst)
	for len(records) > 1 && when(records[len(records)-1]).Before(before) {
		records = records[:len(records)-1]
	}
	j.histories[key] = records
}

func (j *memoryJournal) answer(t require.TestingT, l store.Lookup) (a store.Answer) {
	found := l.Content == store.StatusPosition{}
	for _, r := range j.records(l.SessionKey) {
		a.Held = a.Held || l.ReportID != "" && r.ReportID == l.ReportID
		if positionOf(&r) == l.Content {
			a.Content, found = r.Content, true
		}
	}
	require.True(t, found, "%+v", l)
	return a
}

// replay loads the journal into a store.
func (j *memoryJournal) replay(st *store.Store, limit int, clock time.Time) {
	st.SetPauses(j.pauses)
	st.BeginLoading(j.time)
	st.SetFiledTo(j.filedTo)
	for key := range j.histories {
		st.Restore(j.restored(key, limit), clock)
	}
	gone, goneAgents := map[store.SessionKey]bool{}, map[string]bool{}
	for _, c := range j.log {
		for _, f := range c.forgotten {
			st.Remove(f)
			gone[f.SessionKey] = true
			goneAgents[f.AgentID] = goneAgents[f.AgentID] || f.LastOfAgent
		}
		for _, r := range c.records {
			key := store.SessionKey{AgentID: r.AgentID, Topic: r.SessionTopic}
			if st.Has(key) {
				continue
			}
			if r := j.restored(key, limit); r != nil && !gone[key] && !goneAgents[key.AgentID] {
				st.Recall(r, clock)
				continue
			}
			for other := range j.histories {
				if other.AgentID == key.AgentID && !gone[other] && !goneAgents[key.AgentID] {
					st.RecallAgent(key.AgentID, j.agents[key.AgentID])
				}
			}
		}
		st.Apply(c.records...)
		st.Evict(c.evicted)
	}
	st.EndLoading(j.time, clock)
	st.TakeForgotten()
}
