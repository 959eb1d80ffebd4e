package recorder_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
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

// published is a message in a stream.
type published struct {
	message []byte
	at      journal.Position
}

// replica is a server that applies the messages of a stream.
type replica struct {
	fs      *vfs.MemFS
	shots   []*vfs.MemFS // see shoot
	opts    store.Options
	store   *store.Store
	journal *journal.Journal
	applier *recorder.Applier
}

// start starts the replica with what its disk holds.
func (r *replica) start(t require.TestingT) {
	var err error
	r.journal, err = journal.Open(journal.Options{Dir: "data", FS: r.fs, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	r.store = store.New(r.opts)
	settings, err := r.journal.Note(journal.SettingsKey)
	require.NoError(t, err)
	r.settle(settings)
	require.NoError(t, r.journal.Replay(background, r.store, r.opts.HistoryLimit, time.Now(), func(journal.Progress) {}))
	at, _ := r.journal.Position()
	r.applier = recorder.NewApplier(recorder.NewSettler(r.store, r.journal, metrics.New(r.store, "test")), at, recorder.ApplierOptions{
		Teams: func(patterns []string) *store.Team {
			if patterns == nil {
				return nil
			}
			return store.NewTeam(store.Share{}, func(id string) bool { return strings.HasPrefix(id, patterns[0]) })
		},
		Notes: func([]journal.Note) {}, Trouble: func(error) {}, Settings: r.settle,
	})
}

// settle puts settings into effect: the default TTL and the retention.
func (r *replica) settle(settings []byte) {
	if ttl, retention, ok := strings.Cut(string(settings), " "); ok {
		var l store.Lifetimes
		l.DefaultTTL, _ = time.ParseDuration(ttl)
		l.SessionRetention, _ = time.ParseDuration(retention)
		r.store.SetLifetimes(l)
	}
}

// crash starts the replica again with what a crash of its machine leaves.
func (r *replica) crash(t require.TestingT) { r.restartWith(t, r.fs.CrashClone(vfs.CrashCloneCfg{})) }

func (r *replica) restartWith(t require.TestingT, left *vfs.MemFS) {
	require.NoError(t, r.journal.Close())
	r.fs = left
	r.start(t)
}

// shoot makes the replica keep what its disk has after each commit, until the next call. It returns what was kept before.
func (r *replica) shoot(t require.TestingT) (shots []*vfs.MemFS) {
	shots, r.shots = r.shots, nil
	r.applier.AfterCommits(func() {
		require.NoError(t, r.journal.Sync())
		r.shots = append(r.shots, r.fs.CrashClone(vfs.CrashCloneCfg{}))
	})
	return shots
}

// follow applies the messages of a stream that the replica has not applied yet.
func (r *replica) follow(t require.TestingT, stream []published) (last recorder.Result) {
	for _, p := range stream {
		at := r.applier.At()
		if p.at.Sequence < at.Sequence || p.at.Sequence == at.Sequence && !at.Partial() {
			continue
		}
		m, err := journal.DecodeMessage(string(p.message), journal.MessageVersion)
		require.NoError(t, err)
		last, err = r.applier.Apply(background, m, p.at)
		require.NoError(t, err)
	}
	return last
}

// reads returns what all reads of the replica return.
func (r *replica) reads(t require.TestingT) string {
	var b strings.Builder
	dump := func(v any) {
		text, err := json.Marshal(v)
		require.NoError(t, err)
		b.Write(append(text, '\n'))
	}
	agents, err := r.store.Agents(background, store.AgentQuery{}, nil, 1000)
	require.NoError(t, err)
	dump(agents.Items)
	for _, a := range agents.Items {
		_, page, ok := r.store.AgentStatus(a.ID, nil, 100)
		require.True(t, ok)
		require.NoError(t, r.journal.CompleteAgent(a.ID, &page, nil, 100))
		dump(page.Items)
	}
	sessions, err := r.store.Sessions(background, store.SessionQuery{}, nil, 1000)
	require.NoError(t, err)
	for _, se := range sessions.Items {
		dump(se)
		_, questions, page, _ := r.store.SessionInFull(se.AgentID, se.Topic, nil, 100)
		require.NoError(t, r.journal.CompleteSession(store.SessionKey{AgentID: se.AgentID, Topic: se.Topic}, &page, nil, 100))
		dump(questions)
		dump(page.Items)
	}
	dump(r.store.Summary())
	notes, err := r.journal.Notes()
	require.NoError(t, err)
	dump(notes)
	return b.String()
}

// writer draws the messages that servers publish.
type writer struct {
	*rapid.T
	now time.Time
}

func (w writer) pick(label string, from ...string) string {
	return rapid.SampledFrom(from).Draw(w.T, label)
}

func (w writer) report() models.StatusReport {
	return models.StatusReport{
		AgentID: w.pick("agent", "a1", "a2", "b1"), SessionTopic: w.pick("topic", "s", "t", "u"), AgentName: w.pick("name", "", "", "n1", "n2"),
		SessionTitle: w.pick("title", "", "x", "y"), Status: rapid.SampledFrom(models.Statuses[:]).Draw(w.T, "status"),
		Message: w.pick("message", "", "m", "n"), Content: w.pick("content", "", "c", strings.Repeat("long ", 200)),
		TTLMinutes: rapid.SampledFrom([]int{0, 1, 5, 60}).Draw(w.T, "TTL"), ReportID: w.pick("ID", "", "1", "2", "3"), Renew: rapid.Bool().Draw(w.T, "renews"),
	}
}

func (w writer) event() models.StatusReport {
	r := models.StatusReport{AgentID: w.pick("agent", "a1", "a2", "b1"), AgentSource: w.pick("tool", "codex", "cursor"), SessionTopic: w.pick("topic", "s", "t", "v"),
		Status: rapid.SampledFrom([]models.Status{0, models.Idle, models.Running, models.Success, models.Failed}).Draw(w.T, "status"), Message: w.pick("message", "", "m")}
	r.Event = &models.Event{Name: "Event", FindByToolID: rapid.Bool().Draw(w.T, "finds"), FallBackToRunning: rapid.Bool().Draw(w.T, "adopts"), AppliesIn: models.Anywhere,
		FirstTitle: true, Closes: models.Closes(rapid.Uint8Range(0, uint8(models.ClosesAll)).Draw(w.T, "closes")), Outcome: models.Answered,
		CallIDHash: rapid.Uint64Range(0, 2).Draw(w.T, "call"), Stage: models.CallStage(rapid.Uint8Range(0, uint8(models.CallEnds)).Draw(w.T, "stage"))}
	switch w.pick("what", "", "", "asks", "acknowledges") {
	case "asks":
		r.Event.Question = &models.Question{Kind: models.Choice, Text: w.pick("text", "Which?", "Sure?"), Choices: []string{"yes", "no"}}
	case "acknowledges":
		at := w.now.Add(time.Duration(rapid.IntRange(-10, 10).Draw(w.T, "wrong clock")) * time.Minute)
		r.Event = &models.Event{Acknowledge: &models.Acknowledgement{At: at, By: "ada", Until: at.Add(time.Hour)}}
	}
	return r
}

func (w writer) request() journal.Request {
	var q journal.Request
	if rapid.Bool().Draw(w.T, "team") {
		q.Agents = []string{"a"}
	}
	if rapid.Bool().Draw(w.T, "event") {
		q.Reports = []models.StatusReport{w.event()}
		return q
	}
	for range rapid.IntRange(1, 4).Draw(w.T, "reports") {
		q.Reports = append(q.Reports, w.report())
	}
	return q
}

func (w writer) key() store.SessionKey {
	return store.SessionKey{AgentID: w.pick("agent", "a1", "a2", "b1"), Topic: w.pick("topic", "s", "t", "u", "v")}
}

// message draws a message. first is a server that it may depend on, as what the holder of the lease publishes does.
func (w writer) message(first *replica) *journal.Message {
	m := &journal.Message{Server: "one"}
	switch w.pick("kind", "requests", "requests", "requests", "removal", "evict", "over", "trim", "notes", "settings", "tick") {
	case "requests":
		for range rapid.IntRange(1, 4).Draw(w.T, "requests") {
			m.Requests = append(m.Requests, w.request())
		}
	case "removal":
		m.Removed = []journal.Removal{{AgentID: w.pick("agent", "a1", "a2"), Topic: w.pick("topic", "", "s", "t")}}
	case "evict":
		m.Evicted = append(first.store.Overflow(10), w.key(), w.key())
	case "over":
		m.Over = []store.Forgotten{{SessionKey: w.key()}, {SessionKey: w.key()}}
	case "trim":
		m.Trim = &journal.Trim{Before: w.now.Add(-time.Duration(rapid.IntRange(0, 100).Draw(w.T, "age")) * time.Minute)}
		m.Trim.Sessions, m.Trim.Histories = []store.SessionKey{w.key(), w.key()}, []string{w.pick("agent", "a1", "a2")}
	case "settings":
		m.Server = w.pick("server", "one", "two")
		m.Settings = &journal.Settings{To: []byte(w.pick("settings", "1h 2h", "5m 2h", "1h 10m", "2h 0s"))}
		if rapid.Bool().Draw(w.T, "current") {
			m.Settings.From, _ = first.journal.Note(journal.SettingsKey)
		}
	case "notes":
		m.Notes = []journal.Note{{Key: w.pick("key", "k", "l"), Value: []byte(w.pick("value", "1", "2"))}, {Key: w.pick("key", "k", "l")}}
	}
	return m
}

// TestAKilledReplicaGoesOnInTheMiddle kills a server after each commit of a message with several parts: some depend on
// parts before them, and one reports again what was evicted and whose retention is over.
func TestAKilledReplicaGoesOnInTheMiddle(t *testing.T) {
	opts := store.Options{DefaultTTL: time.Hour, SessionRetention: 5 * time.Minute, HistoryLimit: 3, HistoryMaxBytes: 1 << 30, MaxSessions: 100,
		EventWindow: 100, Journaled: true, Replicated: true}
	report := func(agentID, topic, message string, ttl int) journal.Request {
		return journal.Request{Reports: []models.StatusReport{{AgentID: agentID, SessionTopic: topic, Status: models.Success, Message: message, TTLMinutes: ttl}}}
	}
	asks := report("b", "x", "", 0)
	asks.Reports[0].AgentSource, asks.Reports[0].Status = "codex", 0
	asks.Reports[0].Event = &models.Event{Name: "Ask", AppliesIn: models.Anywhere, Question: &models.Question{Kind: models.Choice, Text: "Which?"}}
	old := store.SessionKey{AgentID: "a", Topic: "old"}
	var stream []published
	publish := func(m *journal.Message) {
		n := len(stream)
		stream = append(stream, published{m.Encode(journal.MessageVersion), journal.Position{Sequence: uint64(n + 1), ID: fmt.Sprint("id", n), Time: epoch.Add(time.Duration(n) * 9 * time.Second)}})
	}
	publish(&journal.Message{Requests: []journal.Request{report("a", "old", "early", 1), report("b", "x", "first", 600)}})
	for len(stream) < 10 {
		publish(&journal.Message{})
	}
	publish(&journal.Message{Evicted: []store.SessionKey{old}})
	for len(stream) < 60 {
		publish(&journal.Message{})
	}
	publish(&journal.Message{Requests: []journal.Request{report("b", "x", "second", 0), asks, asks, report("a", "old", "again", 0), report("b", "x", "third", 0)},
		Notes: []journal.Note{{Key: "k", Value: []byte("v")}}})
	whole := &replica{fs: vfs.NewCrashableMem(), opts: opts}
	whole.start(t)
	whole.shoot(t)
	whole.follow(t, stream)
	want := whole.reads(t)
	require.Contains(t, want, "third")
	require.NotContains(t, want, "early", "its retention was over")
	shots := whole.shoot(t)
	require.Greater(t, len(shots), 6)
	require.NoError(t, whole.journal.Close())
	partly := 0
	for _, shot := range shots {
		r := &replica{fs: shot, opts: opts}
		r.start(t)
		if r.applier.At().Partial() {
			partly++
		}
		r.follow(t, stream)
		require.Equal(t, want, r.reads(t))
		require.NoError(t, r.journal.Close())
	}
	require.Greater(t, partly, 2)
}

// TestReplicasAgree lets servers apply the same messages, of which some fall behind, some crash, some start again, and
// some have little memory. All of them show the same.
func TestReplicasAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		opts := store.Options{DefaultTTL: time.Hour, SessionRetention: 2 * time.Hour, HistoryLimit: 3, HistoryMaxBytes: 1 << 30, MaxSessions: 4,
			EventWindow: 100, Journaled: true, Replicated: true}
		small := opts
		small.HistoryMaxBytes = 1
		replicas := []*replica{{opts: opts}, {opts: small}, {opts: opts}}
		for _, r := range replicas {
			r.fs = vfs.NewCrashableMem()
			r.start(t)
		}
		defer func() {
			for _, r := range replicas {
				require.NoError(t, r.journal.Close())
			}
		}()
		var stream []published
		now := epoch
		agree := func() {
			var all []string
			for _, r := range replicas {
				r.follow(t, stream)
				all = append(all, r.reads(t))
			}
			require.Equal(t, all[0], all[1])
			require.Equal(t, all[0], all[2])
		}
		t.Repeat(map[string]func(*rapid.T){
			"a message": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.SampledFrom([]int{-5, 0, 1, 1, 9, 60, 3600}).Draw(t, "seconds")) * time.Second)
				w := writer{t, now}
				sequence := uint64(len(stream) + 1)
				stream = append(stream, published{w.message(replicas[0]).Encode(journal.MessageVersion), journal.Position{Sequence: sequence, ID: fmt.Sprint("id", sequence), Time: now}})
				replicas[0].follow(t, stream)
			},
			"a replica catches up": func(t *rapid.T) {
				rapid.SampledFrom(replicas[1:]).Draw(t, "replica").follow(t, stream)
			},
			"a replica files": func(t *rapid.T) {
				require.NoError(t, rapid.SampledFrom(replicas).Draw(t, "replica").journal.File())
			},
			"a replica syncs": func(t *rapid.T) {
				require.NoError(t, rapid.SampledFrom(replicas).Draw(t, "replica").journal.Sync())
			},
			"a replica crashes": func(t *rapid.T) {
				rapid.SampledFrom(replicas[1:]).Draw(t, "replica").crash(t)
			},
			"a replica is killed in the middle": func(t *rapid.T) {
				r := rapid.SampledFrom(replicas[1:]).Draw(t, "replica")
				r.shoot(t)
				r.follow(t, stream)
				shots := r.shoot(t)
				r.applier.AfterCommits(nil)
				if len(shots) > 0 {
					r.restartWith(t, shots[rapid.IntRange(0, len(shots)-1).Draw(t, "moment")])
				}
			},
			"a replica starts again": func(t *rapid.T) {
				r := rapid.SampledFrom(replicas).Draw(t, "replica")
				require.NoError(t, r.applier.Record(background))
				require.NoError(t, r.journal.Close())
				r.start(t)
			},
			"all agree": func(*rapid.T) { agree() },
		})
		agree()
	})
}
