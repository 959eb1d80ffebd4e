package recorder_test

import (
	"cmp"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/kubeagents/kubeagents/internal/journal"
	"github.com/kubeagents/kubeagents/internal/metrics"
	"github.com/kubeagents/kubeagents/internal/recorder"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

var epoch = time.Date(2026, 11, 20, 7, 0, 0, 0, time.UTC)

// hub is a recorder with its store, its journal, and a clock that the test sets.
type hub struct {
	opts     store.Options
	fs       vfs.FS
	now      time.Time
	store    *store.Store
	journal  *journal.Journal
	recorder *recorder.Recorder
}

func (h *hub) open(t require.TestingT) {
	h.store = store.New(h.opts)
	j, err := journal.Open(journal.Options{Dir: "data", FS: h.fs, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	h.journal = j
	h.recorder = recorder.New(h.store, j, metrics.New(h.store, "test"))
	require.NoError(t, j.Replay(background, h.store, h.opts.HistoryLimit, h.now, func(journal.Progress) {}))
}

func (h *hub) accept(t require.TestingT, reports ...models.StatusReport) []store.Outcome {
	outcomes, err := h.recorder.Accept(nil, reports, h.now, nil)
	require.NoError(t, err)
	require.Len(t, outcomes, len(reports))
	return outcomes
}

// history reads the history of a session, or of an agent if topic is empty, page by page.
func (h *hub) history(t require.TestingT, agentID, topic string, limit int) []models.AgentStatus {
	all := []models.AgentStatus{}
	var after *store.StatusPosition
	for {
		page, ok := h.page(t, agentID, topic, after, limit)
		require.True(t, ok)
		require.LessOrEqual(t, len(page.Items), limit)
		all = append(all, page.Items...)
		if after = page.Next; after == nil {
			return all
		}
		require.Len(t, page.Items, limit)
	}
}

func (h *hub) page(t require.TestingT, agentID, topic string, after *store.StatusPosition, limit int) (page store.HistoryPage, ok bool) {
	if topic == "" {
		if _, page, ok = h.store.AgentStatus(agentID, after, limit); ok && page.Journaled > 0 {
			require.NoError(t, h.journal.CompleteAgent(agentID, &page, after, limit))
		}
		return page, ok
	}
	if _, page, ok = h.store.Session(agentID, topic, after, limit); ok && page.Journaled > 0 {
		key := store.SessionKey{AgentID: agentID, Topic: topic}
		require.NoError(t, h.journal.CompleteSession(key, &page, after, limit))
	}
	return page, ok
}

// state is everything that reads show.
type state struct {
	Summary  models.Summary
	Agents   []models.Agent
	Sessions []models.FleetSession

	Questions [][]models.Question    // for each session
	Histories [][]models.AgentStatus // for each session
}

func (h *hub) state(t require.TestingT) state {
	agents, err := h.store.Agents(background, store.AgentQuery{BySeen: true}, nil, 1000)
	require.NoError(t, err)
	sessions, err := h.store.Sessions(background, store.SessionQuery{}, nil, 1000)
	require.NoError(t, err)
	s := state{Summary: h.store.Summary(), Agents: agents.Items, Sessions: sessions.Items}
	for _, se := range sessions.Items {
		_, questions, _, ok := h.store.SessionInFull(se.AgentID, se.Topic, nil, 1)
		require.True(t, ok)
		s.Questions = append(s.Questions, questions)
		s.Histories = append(s.Histories, h.history(t, se.AgentID, se.Topic, 3))
	}
	return s
}

// forgetful reports whether the journal may have sessions that memory doesn't. A restart loads as many of them as fit.
func (h *hub) forgetful() bool { return h.store.HasCold() }

// requireState compares what reads show after a restart with what they showed before. If memory has forgotten sessions,
// expired sessions may have disappeared or reappeared, and an active one for which there is too little room may be only
// in the journal.
func (h *hub) requireState(t require.TestingT, before, after state, forgetful bool) {
	if !forgetful {
		require.Equal(t, before, after)
		return
	}
	for _, se := range after.Sessions {
		known := slices.ContainsFunc(before.Sessions, func(other models.FleetSession) bool { return other.AgentID == se.AgentID && other.Topic == se.Topic })
		require.True(t, known || se.Expired, "%+v\n%+v", before.Sessions, after.Sessions)
	}
	for i, se := range before.Sessions {
		j := slices.IndexFunc(after.Sessions, func(other models.FleetSession) bool { return other.AgentID == se.AgentID && other.Topic == se.Topic })
		if j < 0 {
			require.True(t, se.Expired || h.holdsCold(t, store.SessionKey{AgentID: se.AgentID, Topic: se.Topic}), "%+v\n%+v", se, after.Sessions)
			continue
		}
		require.Equal(t, se.Session, after.Sessions[j].Session)
		require.Equal(t, before.Questions[i], after.Questions[j])
		require.Equal(t, before.Histories[i], after.Histories[j])
	}
}

// holdsCold reports whether the journal has a session that memory forgot and whose retention is not over.
func (h *hub) holdsCold(t require.TestingT, key store.SessionKey) bool {
	r, err := h.journal.Cold(key, 10)
	require.NoError(t, err)
	return r != nil && h.now.Before(h.store.RetainedUntil(r.Session))
}

// newest returns the current status of the session that was updated last, as a report.
func (h *hub) newest(t require.TestingT) models.StatusReport {
	page, err := h.store.Sessions(background, store.SessionQuery{}, nil, 1)
	require.NoError(t, err)
	se := page.Items[0]
	return models.StatusReport{AgentID: se.AgentID, SessionTopic: se.Topic, Status: se.CurrentStatus, Message: se.CurrentMessage}
}

// storedReport is a report that was stored, numbered in the order of acknowledgement.
type storedReport struct {
	models.StatusReport
	number int
}

// TestAcknowledgedReportsAreKept reports, reads, waits, removes, restarts and crashes at random. Every history must
// contain exactly the acknowledged reports, and after a restart or a crash, reads must show what they showed before.
func TestAcknowledgedReportsAreKept(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		fs := vfs.NewCrashableMem()
		h := &hub{now: epoch, fs: fs, opts: store.Options{
			DefaultTTL: 10 * time.Minute, SessionRetention: time.Hour, Journaled: true,
			HistoryLimit: rapid.IntRange(1, 4).Draw(t, "history limit"), HistoryMaxBytes: 1 << 20, MaxSessions: 12,
		}}
		maxReports := 6 // per call
		normalize := func(s state) state { return s }
		if rapid.Bool().Draw(t, "crowded") {
			// A report can evict the session of another one. The test notices that only if they come one at a time.
			maxReports = 1
			// After a restart, memory may have room for other statuses than before, so ignore the fields that depend on
			// it.
			normalize = func(s state) state {
				for i := range s.Sessions {
					se := &s.Sessions[i]
					se.StatusSince, se.AgentName, se.AgentSource, se.AgentHost = time.Time{}, "", "", ""
				}
				for i := range s.Agents { // a restart brings back what memory forgot of an agent
					a := &s.Agents[i]
					a.Registered, a.Name, a.Source, a.Host = time.Time{}, "", "", ""
				}
				return s
			}
			h.opts.HistoryMaxBytes = rapid.Int64Range(2500, 6000).Draw(t, "history bytes")
			h.opts.MaxSessions = rapid.IntRange(2, 8).Draw(t, "sessions")
		}
		h.open(t)
		defer func() { require.NoError(t, h.journal.Close()) }()
		var all []storedReport
		number := 0
		t.Repeat(map[string]func(*rapid.T){
			"report": func(t *rapid.T) {
				reports := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) models.StatusReport { return drawReport(t, h.now) }), 1, maxReports).Draw(t, "reports")
				for i, outcome := range h.accept(t, reports...) {
					if outcome == store.Stored {
						number++
						all = append(all, storedReport{reports[i], number})
					}
					id, agentID, topic := reports[i].ReportID, reports[i].AgentID, reports[i].SessionTopic
					if outcome == store.Duplicate {
						require.True(t, slices.ContainsFunc(all, func(r storedReport) bool {
							return r.ReportID == id && r.AgentID == agentID && r.SessionTopic == topic
						}))
					}
				}
			},
			"event": func(t *rapid.T) {
				r := drawReport(t, h.now)
				r.ReportID = ""
				r.Event = drawEvent(t)
				if r.Event.FindByToolID = rapid.Bool().Draw(t, "find"); r.Event.FindByToolID {
					r.AgentSource = "claude-code"
				}
				if h.accept(t, r)[0] == store.Stored {
					number++
					all = append(all, storedReport{h.newest(t), number})
				}
			},
			"wait": func(t *rapid.T) {
				h.now = h.now.Add(time.Duration(rapid.IntRange(1, 40).Draw(t, "minutes")) * time.Minute)
				h.recorder.Expire(h.now)
			},
			"remove": func(t *rapid.T) {
				sessions := h.state(t).Sessions
				if len(sessions) == 0 {
					t.Skip("there is nothing to remove")
				}
				se := rapid.SampledFrom(sessions).Draw(t, "session")
				key := store.SessionKey{AgentID: se.AgentID, Topic: se.Topic}
				removed, err := h.recorder.RemoveSession(key, h.now)
				require.NoError(t, err)
				require.Equal(t, 1, removed)
				require.False(t, h.store.Has(key))
				andAgent := rapid.Bool().Draw(t, "and its agent")
				if andAgent {
					ofAgent := slices.DeleteFunc(h.state(t).Sessions, func(other models.FleetSession) bool { return other.AgentID != se.AgentID })
					removed, err := h.recorder.RemoveAgent(background, se.AgentID, h.now)
					require.NoError(t, err)
					require.GreaterOrEqual(t, removed, len(ofAgent))
				}
				all = slices.DeleteFunc(all, func(r storedReport) bool {
					return r.AgentID == key.AgentID && (r.SessionTopic == key.Topic || andAgent)
				})
			},
			"restart": func(t *rapid.T) {
				h.recorder.Expire(h.now)
				before, forgetful := h.state(t), h.forgetful()
				h.journal.MarkAlive(h.now)
				require.NoError(t, h.journal.Close())
				h.open(t)
				h.requireState(t, normalize(before), normalize(h.state(t)), forgetful || h.forgetful())
			},
			"crash": func(t *rapid.T) {
				h.recorder.Expire(h.now)
				before, forgetful := h.state(t), h.forgetful()
				h.journal.MarkAlive(h.now)
				h.fs = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rapid.IntRange(0, 100).Draw(t, "unsynced"), RNG: rng(t)})
				require.NoError(t, h.journal.Close())
				fs = h.fs.(*vfs.MemFS)
				h.open(t)
				h.requireState(t, normalize(before), normalize(h.state(t)), forgetful || h.forgetful())
			},
			"": func(t *rapid.T) {
				// Forget the reports of sessions that the store has forgotten.
				known := map[[2]string]bool{}
				agents := map[string]bool{}
				for _, se := range h.state(t).Sessions {
					known[[2]string{se.AgentID, se.Topic}] = true
					agents[se.AgentID] = true
				}
				all = slices.DeleteFunc(all, func(r storedReport) bool {
					return !known[[2]string{r.AgentID, r.SessionTopic}] && !h.holdsCold(t, store.SessionKey{AgentID: r.AgentID, Topic: r.SessionTopic})
				})
				limit := rapid.IntRange(1, 5).Draw(t, "limit")
				for key := range known {
					requireHistory(t, all, h.history(t, key[0], key[1], limit), func(r storedReport) bool { return r.AgentID == key[0] && r.SessionTopic == key[1] })
				}
				for id := range agents {
					requireHistory(t, all, h.history(t, id, "", limit), func(r storedReport) bool { return r.AgentID == id && known[[2]string{id, r.SessionTopic}] })
				}
			},
		})
	})
}

// TestLostSessionsStayLost checks that a session that was shown as lost is still lost after a restart, however soon the
// server was killed.
func TestLostSessionsStayLost(t *testing.T) {
	for name, downFor := range map[string]time.Duration{"at once": 0, "an hour later": time.Hour} {
		t.Run(name, func(t *testing.T) {
			h := &hub{fs: vfs.NewMem(), now: epoch, opts: store.Options{DefaultTTL: time.Minute, SessionRetention: 24 * time.Hour, HistoryLimit: 10, HistoryMaxBytes: 1 << 20, MaxSessions: 10, Journaled: true}}
			h.open(t)
			h.recorder.Expire(h.now)
			h.accept(t, models.StatusReport{AgentID: "a", SessionTopic: "t", Status: models.Running})
			h.now = h.now.Add(2 * time.Minute)
			require.Equal(t, 1, h.store.Expire(h.now).Lost, "by a read")
			h.recorder.Expire(h.now)
			before := h.state(t)
			require.NoError(t, h.journal.Close())

			h.now = h.now.Add(downFor)
			h.open(t)
			require.Equal(t, before, h.state(t))
			require.NoError(t, h.journal.Close())
		})
	}
}

// TestARetryAndANewReportInOneRequest sends a retry that only the journal can recognize together with a new report,
// which must withdraw an open question.
func TestARetryAndANewReportInOneRequest(t *testing.T) {
	h := &hub{fs: vfs.NewMem(), now: epoch, opts: store.Options{DefaultTTL: time.Hour, SessionRetention: time.Hour, HistoryLimit: 1, HistoryMaxBytes: 1 << 20, MaxSessions: 10, Journaled: true}}
	h.open(t)
	report := func(id string, at time.Time) models.StatusReport {
		return models.StatusReport{AgentID: "a", SessionTopic: "t", Status: models.Running, ReportID: id, Timestamp: at}
	}
	h.accept(t, report("1", epoch))
	h.now = h.now.Add(time.Minute)
	h.accept(t, models.StatusReport{AgentID: "a", SessionTopic: "t", Status: models.Running, Event: &models.Event{
		Name: "PermissionRequest", AppliesIn: models.Anywhere, CallIDHash: 1, Question: &models.Question{Kind: models.Permission, Text: "May I?"},
	}})
	require.Equal(t, 1, h.state(t).Summary.Sessions.ByStatus.Pending)

	outcomes := h.accept(t, report("1", epoch), report("2", epoch.Add(time.Second)))
	require.Equal(t, []store.Outcome{store.Duplicate, store.Stored}, outcomes)
	after := h.state(t)
	require.Equal(t, models.Running, after.Sessions[0].CurrentStatus)
	require.Empty(t, after.Questions[0])
	require.Len(t, after.Histories[0], 3)
	require.Len(t, after.Histories[0][0].ClosedQuestions, 1)
	require.Equal(t, "status report", after.Histories[0][0].ClosedQuestions[0].By)
	require.NoError(t, h.journal.Close())
}

func drawReport(t *rapid.T, now time.Time) models.StatusReport {
	r := models.StatusReport{
		AgentID:      rapid.SampledFrom([]string{"a", "a/b", "ü"}).Draw(t, "agent"),
		SessionTopic: rapid.SampledFrom([]string{"t", "t2", "t 3", "~"}).Draw(t, "topic"),
		Status:       rapid.SampledFrom(models.Statuses[:]).Draw(t, "status"),
		Message:      rapid.StringMatching(`[a-c]{0,3}`).Draw(t, "message"),
		AgentName:    rapid.SampledFrom([]string{"", "N", "M"}).Draw(t, "name"),
		AgentSource:  rapid.SampledFrom([]string{"", "", "cursor", "codex"}).Draw(t, "source"),
		SessionTitle: rapid.SampledFrom([]string{"", "", "T"}).Draw(t, "title"),
		TTLMinutes:   rapid.SampledFrom([]int{0, 0, 5, 90}).Draw(t, "TTL"),
		ReportID:     rapid.SampledFrom([]string{"", "", "1", "2", "3", "4", "5", "6"}).Draw(t, "ID"),
	}
	switch rapid.IntRange(0, 5).Draw(t, "timestamp") {
	case 0: // late, or ahead by less than the limit
		r.Timestamp = now.Add(time.Duration(rapid.IntRange(-4000, 200).Draw(t, "seconds")) * time.Second)
	case 1:
		r.Timestamp = time.Date(rapid.IntRange(0, 2026).Draw(t, "year"), 1, 1, 0, 0, 0, 5, time.UTC)
	case 2:
		r.Timestamp = now
	}
	return r
}

// requireHistory compares a history with the acknowledged reports that belong to it. It checks that the history is
// sorted, but not the timestamps themselves.
func requireHistory(t require.TestingT, all []storedReport, got []models.AgentStatus, belongs func(storedReport) bool) {
	want := map[string]int{}
	n := 0
	for _, r := range all {
		if belongs(r) {
			n++
			want[line(r.AgentID, r.SessionTopic, r.Status, r.Message)]++
		}
	}
	have := map[string]int{}
	for _, st := range got {
		have[line(st.AgentID, st.SessionTopic, st.Status, st.Message)]++
	}
	require.Equal(t, want, have)
	require.Len(t, got, n)
	require.True(t, slices.IsSortedFunc(got, func(a, b models.AgentStatus) int {
		return cmp.Or(b.Timestamp.Compare(a.Timestamp), b.ReceivedAt.Compare(a.ReceivedAt))
	}), "%v", got)
}

func line(parts ...any) string { return fmt.Sprint(parts...) }

// TestConcurrentConditionalReports sends many identical reports of one session at once. The outcome of each depends on
// those before it, whichever group they are in.
func TestConcurrentConditionalReports(t *testing.T) {
	h := &hub{now: epoch, fs: vfs.NewMem(), opts: roomy}
	h.open(t)
	defer func() { require.NoError(t, h.journal.Close()) }()
	together := func(n int, report func(i int) models.StatusReport) map[store.Outcome]int {
		var wg sync.WaitGroup
		outcomes := make([]store.Outcome, n)
		for i := range n {
			wg.Go(func() {
				got, err := h.recorder.Accept(nil, []models.StatusReport{report(i)}, h.now, nil)
				if err == nil && len(got) == 1 {
					outcomes[i] = got[0]
				}
			})
		}
		wg.Wait()
		came := map[store.Outcome]int{}
		for _, outcome := range outcomes {
			came[outcome]++
		}
		return came
	}
	of := func(status models.Status, event models.Event) func(int) models.StatusReport {
		return func(i int) models.StatusReport {
			event := event
			event.FirstTitle = true
			return models.StatusReport{AgentID: "a", SessionTopic: "t", Status: status, Message: "m", Event: &event, SessionTitle: fmt.Sprint(i)}
		}
	}
	asks := models.Event{AppliesIn: models.Anywhere, Question: &models.Question{Kind: models.Text, Text: "m"}, InputHash: 1}
	ends := models.Event{AppliesIn: models.AtWork, IgnoreOtherwise: true, Closes: models.ClosesAll, Outcome: models.Withdrawn}
	require.Equal(t, map[store.Outcome]int{store.Ignored: 5}, together(5, of(models.Failed, ends)))
	require.Equal(t, map[store.Outcome]int{store.Stored: 1, store.Renewed: 199}, together(200, of(models.Running, models.Event{AppliesIn: models.Anywhere})))
	title := h.state(t).Sessions[0].Title
	require.NotEmpty(t, title)
	require.Equal(t, map[store.Outcome]int{store.Stored: 1, store.Renewed: 99}, together(100, of(0, asks)))
	require.Equal(t, map[store.Outcome]int{store.Stored: 1, store.Ignored: 99}, together(100, of(models.Failed, ends)))
	require.Equal(t, map[store.Outcome]int{store.Renewed: 100}, together(100, of(0, models.Event{})))
	require.Equal(t, title, h.state(t).Sessions[0].Title, "the first title stays")
	require.Len(t, h.history(t, "a", "t", 10), 3)

	before := h.state(t)
	require.NoError(t, h.journal.Close())
	h.open(t)
	require.Equal(t, before, h.state(t), "a renewal is as durable as a status")
	require.NoError(t, h.journal.File())
	require.NoError(t, h.journal.Close())
	h.open(t)
	require.Equal(t, before, h.state(t), "also after it is filed")
}

func TestConcurrentRetriesAreStoredOnce(t *testing.T) {
	opts := roomy
	opts.MaxSessions = 10
	h := &hub{now: epoch, fs: vfs.NewMem(), opts: opts}
	h.open(t)
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		came = map[store.Outcome]int{}
	)
	count := func(reports ...models.StatusReport) {
		wg.Go(func() {
			outcomes, err := h.recorder.Accept(nil, reports, h.now, nil)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			}
			for _, o := range outcomes {
				came[o]++
			}
		})
	}
	for range 64 {
		count(numbered(1), numbered(1))
	}
	wg.Wait()
	require.Equal(t, map[store.Outcome]int{store.Stored: 1, store.Duplicate: 127}, came)
	require.Len(t, h.history(t, "a", "t", 10), 1)

	clear(came)
	for i := range 64 {
		count(models.StatusReport{AgentID: "b", SessionTopic: fmt.Sprint(i), Status: models.Running})
	}
	wg.Wait()
	require.Equal(t, map[store.Outcome]int{store.Stored: 9, store.OutOfSessions: 55}, came)
	require.Equal(t, 10, h.store.Summary().Sessions.Total)
	require.NoError(t, h.journal.Close())
}

// TestOldRetriesAreRecognized repeats reports whose statuses memory has dropped.
func TestOldRetriesAreRecognized(t *testing.T) {
	h := &hub{now: epoch, fs: vfs.NewMem(), opts: roomy}
	h.open(t)
	for i := range 100 {
		h.accept(t, numbered(i))
	}
	for range 2 {
		for i := range 100 {
			require.Equal(t, []store.Outcome{store.Duplicate}, h.accept(t, numbered(i)))
		}
		require.NoError(t, h.journal.Close())
		h.open(t)
	}
	require.Len(t, h.history(t, "a", "t", 7), 100)
	require.NoError(t, h.journal.Close())
}

// TestHistoryIsDroppedAfterItsRetention drops old statuses from memory and from disk, but not the current status of a
// session.
func TestHistoryIsDroppedAfterItsRetention(t *testing.T) {
	opts := roomy
	opts.DefaultTTL, opts.HistoryLimit = 24*time.Hour, 50
	h := &hub{now: epoch, fs: vfs.NewMem(), opts: opts}
	h.open(t)
	h.accept(t, models.StatusReport{AgentID: "a", SessionTopic: "once", Status: models.Pending})
	for i := range 100 {
		h.accept(t, numbered(i))
		h.now = h.now.Add(time.Minute)
	}
	h.history(t, "a", "t", 10) // files the log
	deleted, err := h.recorder.TrimHistory(background, epoch.Add(90*time.Minute))
	require.NoError(t, err)
	require.Equal(t, 90, deleted)
	for range 2 {
		require.Len(t, h.history(t, "a", "t", 3), 10)
		require.Len(t, h.history(t, "a", "once", 3), 1)
		require.Equal(t, 2, h.state(t).Summary.Sessions.Active)
		require.NoError(t, h.journal.Close())
		h.open(t)
	}
	require.NoError(t, h.journal.Close())
}

// drawEvent draws a random event. Its IDs come from small ranges, so that events often concern the same call or
// question.
func drawEvent(t *rapid.T) *models.Event {
	e := &models.Event{
		Name:              "Event",
		FallBackToRunning: rapid.Bool().Draw(t, "orphan"),
		AppliesIn:         models.States(rapid.Uint8Range(0, uint8(models.Anywhere)).Draw(t, "counts")),
		IgnoreOtherwise:   rapid.Bool().Draw(t, "silent"),
		InterruptMessage:  rapid.SampledFrom([]string{"", "", "Interrupted"}).Draw(t, "interrupts"),
		FirstName:         rapid.Bool().Draw(t, "first name"),
		FirstTitle:        rapid.Bool().Draw(t, "first title"),
		Subagent:          rapid.SampledFrom([]string{"", "", "sub"}).Draw(t, "subagent"),
		CallIDHash:        rapid.Uint64Range(0, 2).Draw(t, "call"),
		InputHash:         rapid.Uint64Range(0, 2).Draw(t, "same"),
		ResultHash:        rapid.Uint64Range(0, 2).Draw(t, "group"),
		Stage:             models.CallStage(rapid.Uint8Range(0, 2).Draw(t, "stage")),
		Closes:            models.Closes(rapid.Uint8Range(0, uint8(models.ClosesAll)).Draw(t, "closes")),
		Outcome:           rapid.SampledFrom([]models.QuestionOutcome{models.Answered, models.Denied, models.Withdrawn}).Draw(t, "outcome"),
		Answer:            rapid.SampledFrom([]string{"", "yes"}).Draw(t, "answer"),
		RunningSubagents:  rapid.SampledFrom([][]string{nil, {"sub"}}).Draw(t, "going"),
	}
	if rapid.Bool().Draw(t, "asks") {
		e.AppliesIn = models.Anywhere
		e.Question = &models.Question{Kind: models.Choice, Text: rapid.SampledFrom([]string{"Which?", "Sure?"}).Draw(t, "text"), Content: "all of it",
			Choices: []string{"yes", "no"}, AskedBy: e.Subagent, RequestedAs: "Ask"}
		e.HintOnly, e.AboutLastCall = rapid.Bool().Draw(t, "hints"), rapid.Bool().Draw(t, "binds")
	}
	if rapid.IntRange(0, 5).Draw(t, "acknowledges") == 0 {
		e.Acknowledge = &models.Acknowledgement{At: epoch, By: rapid.SampledFrom([]string{"", "ada"}).Draw(t, "by"),
			Until: rapid.SampledFrom([]time.Time{{}, epoch.Add(time.Hour)}).Draw(t, "until")}
	}
	return e
}
