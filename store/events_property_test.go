package store_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// drawEvent draws a report with a random event. Its values come from small sets, so that events collide often.
func drawEvent(t *rapid.T, now time.Time) models.StatusReport {
	r := drawReport(t, now)
	hash := func(label string) uint64 { return rapid.Uint64Range(0, 2).Draw(t, label) }
	e := &models.Event{
		Name:              "Event",
		FindByToolID:      rapid.Bool().Draw(t, "find"),
		FallBackToRunning: rapid.Bool().Draw(t, "orphan"),
		FirstName:         rapid.Bool().Draw(t, "first name"),
		FirstTitle:        rapid.Bool().Draw(t, "first title"),
		AppliesIn:         models.States(rapid.Uint8Range(0, uint8(models.Anywhere)).Draw(t, "counts")),
		IgnoreOtherwise:   rapid.Bool().Draw(t, "silent"),
		InterruptMessage:  rapid.SampledFrom([]string{"", "", "Interrupted"}).Draw(t, "interrupts"),
		Subagent:          rapid.SampledFrom([]string{"", "", "sub"}).Draw(t, "subagent"),
		CallIDHash:        hash("call"), InputHash: hash("same"), ResultHash: hash("group"),
		Stage:            models.CallStage(rapid.Uint8Range(0, uint8(models.CallEnds)).Draw(t, "stage")),
		Closes:           models.Closes(rapid.Uint8Range(0, uint8(models.ClosesAll)).Draw(t, "closes")),
		Outcome:          rapid.SampledFrom([]models.QuestionOutcome{models.Answered, models.Denied, models.Withdrawn}).Draw(t, "outcome"),
		Answer:           rapid.SampledFrom([]string{"", "yes"}).Draw(t, "answer"),
		RunningSubagents: rapid.SampledFrom([][]string{nil, {"sub"}}).Draw(t, "going"),
	}
	if rapid.Bool().Draw(t, "asks") {
		e.Question = &models.Question{Kind: models.Choice, Text: rapid.SampledFrom([]string{"Which?", "Sure?"}).Draw(t, "text"),
			Content: rapid.SampledFrom([]string{"", "all of it"}).Draw(t, "question in full"), Choices: []string{"yes", "no"}, AskedBy: e.Subagent}
		r.Message = e.Question.Text
		e.HintOnly, e.AboutLastCall = rapid.Bool().Draw(t, "hints"), rapid.Bool().Draw(t, "binds")
	}
	if rapid.IntRange(0, 5).Draw(t, "acknowledges") == 0 {
		e.Acknowledge = &models.Acknowledgement{At: now, By: "ada"}
		if hours := rapid.IntRange(0, 3).Draw(t, "snooze"); hours > 0 {
			e.Acknowledge.Until = now.Add(time.Duration(hours) * time.Hour)
		}
	}
	r.AgentSource, r.ReportID, r.Event = rapid.SampledFrom([]string{"cursor", "codex"}).Draw(t, "tool"), "", e
	r.Status = rapid.SampledFrom([]models.Status{0, models.Idle, models.Running, models.Success, models.Failed}).Draw(t, "status of an event")
	return r
}

// TestEverythingAgreesWithTheOpenQuestions feeds sessions with events only, and checks every read against the open
// questions.
func TestEverythingAgreesWithTheOpenQuestions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		st := newStore(func(o *store.Options) {
			o.SessionRetention, o.EventWindow = 72*time.Hour, 1000
			o.HistoryLimit = rapid.SampledFrom([]int{1, 2, 1000}).Draw(t, "history limit")
		})
		now := epoch
		seen, position := listed(t, st), st.EventPosition()
		reported := map[[2]string]bool{} // the sessions that have had a report with the ID "known"
		t.Repeat(map[string]func(*rapid.T){
			"event": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(0, 100).Draw(t, "seconds")) * time.Second)
				accept(st, now, drawEvent(t, now))
			},
			"a renewal of a session as it is, or was before it waited": func(t *rapid.T) {
				sessions := allSessions(t, st, store.SessionQuery{}, all)
				if len(sessions) == 0 {
					t.Skip("there are none")
				}
				se := rapid.SampledFrom(sessions).Draw(t, "session")
				before, questions, page, _ := st.SessionInFull(se.AgentID, se.Topic, nil, all)
				r := models.StatusReport{AgentID: se.AgentID, SessionTopic: se.Topic, Status: se.CurrentStatus, Message: se.CurrentMessage,
					Renew: true, ReportID: rapid.SampledFrom([]string{"", "known"}).Draw(t, "report ID")}
				if se.CurrentStatus == models.Pending {
					r.Status, r.Message = models.Running, page.Items[min(1, len(page.Items)-1)].Message
				}
				now = now.Add(time.Second)
				outcome := accept(st, now, r)[0]
				after, stillOpen, _, _ := st.SessionInFull(se.AgentID, se.Topic, nil, all)
				if outcome == store.Duplicate {
					require.Equal(t, models.Pending, se.CurrentStatus, "of what a session is, a report is a renewal and no retry")
					require.True(t, r.ReportID != "" && reported[[2]string{se.AgentID, se.Topic}])
					require.Equal(t, before, after)
					return
				}
				require.Contains(t, []store.Outcome{store.Renewed, store.Stored}, outcome, "it is never without effect")
				if outcome == store.Stored && r.ReportID != "" {
					reported[[2]string{se.AgentID, se.Topic}] = true
				}
				require.False(t, after.Expired)
				require.Equal(t, now, after.LastUpdated)
				if outcome == store.Renewed && !before.Expired {
					require.Equal(t, questions, stillOpen)
					require.Equal(t, before.CurrentMessage, after.CurrentMessage)
					require.Equal(t, before.Acknowledged, after.Acknowledged)
				}
			},
			"time passes": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(1, 30).Draw(t, "hours")) * time.Hour)
				st.Expire(now)
			},
			"": func(t *rapid.T) {
				requireAgreement(t, st)
				follow(seen, changesOf(t, st, position))
				position = st.EventPosition()
				require.Equal(t, listed(t, st), seen, "the changes lead to the current list")
			},
		})
		for _, a := range allAgents(t, st, store.AgentQuery{}, all) {
			st.RemoveAgent(a.ID, now)
		}
		require.Zero(t, st.Stats().HistoryBytes, "questions no longer take room")
	})
}

// requireAgreement requires that lists and counts match the sessions, and that each session matches its open questions
// and its history.
func requireAgreement(t *rapid.T, st *store.Store) {
	sessions := allSessions(t, st, store.SessionQuery{}, all)
	waiting, lost := map[string]int{}, map[string]int{}
	pending := []models.FleetSession{}
	for _, se := range sessions {
		full, questions, page, ok := st.SessionInFull(se.AgentID, se.Topic, nil, all)
		require.True(t, ok)
		require.Equal(t, se, full)
		requireConsistent(t, full.Session, questions, page.Items)
		require.True(t, slices.IsSortedFunc(questions, func(a, b models.Question) int { return a.AskedAt.Compare(b.AskedAt) }))
		require.True(t, slices.IsSortedFunc(page.Items, func(a, b models.AgentStatus) int { return b.ReceivedAt.Compare(a.ReceivedAt) }),
			"later entries come first")
		if se.Lost {
			lost[se.AgentID]++
		}
		if len(questions) > 0 {
			waiting[se.AgentID]++
			pending = append(pending, se)
		}
	}
	require.Equal(t, summaryOf(sessions), st.Summary())
	require.Equal(t, acknowledgedOf(sessions), st.Stats().Acknowledged)
	require.Equal(t, pending, allSessions(t, st, store.SessionQuery{Status: models.Pending, Expired: new(false)}, all))
	for need := models.NeedWaiting; need <= models.NeedFailed; need++ {
		needing := slices.DeleteFunc(slices.Clone(sessions), func(se models.FleetSession) bool { return needOf(&se) != need })
		requireNeeds(t, need, needing, allSessions(t, st, store.SessionQuery{Need: need}, all))
		if need == models.NeedWaiting {
			requireWaits(t, needing, st)
		}
	}
	for _, a := range allAgents(t, st, store.AgentQuery{}, all) {
		require.Equal(t, waiting[a.ID], a.WaitingSessionCount)
		require.Equal(t, lost[a.ID], a.LostSessionCount)
	}
	for _, a := range allAgents(t, st, store.AgentQuery{Waiting: new(true)}, all) {
		require.NotZero(t, waiting[a.ID])
		delete(waiting, a.ID)
	}
	require.Empty(t, waiting, "every waiting agent is found")
}

// requireWaits requires that a store knows how long the sessions wait that do, at several times.
func requireWaits(t *rapid.T, waiting []models.FleetSession, st *store.Store) {
	over := []time.Duration{0, time.Minute, time.Hour, 8 * time.Hour}
	for _, now := range []time.Time{epoch.Add(-time.Hour), epoch.Add(time.Hour), epoch.Add(30 * time.Hour)} {
		var longest time.Duration
		counts := make([]int, len(over))
		for _, se := range waiting {
			waited := now.Sub(timeOfNeed(models.NeedWaiting, &se))
			longest = max(longest, waited)
			for i := range over {
				if waited > over[i] {
					counts[i]++
				}
			}
		}
		gotLongest, gotCounts := st.Waits(now, over...)
		require.Equal(t, longest, gotLongest)
		require.Equal(t, counts, gotCounts)
	}
}

// TestAdmittedRecordsApplyInAnyOrder lets one store admit reports and events, and applies the records to another one in
// random order, some more than once. Both must show the same, as must a store that accepts the reports without a
// journal.
func TestAdmittedRecordsApplyInAnyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		change := func(limit int) func(o *store.Options) {
			return func(o *store.Options) { o.HistoryLimit = limit }
		}
		limit := rapid.SampledFrom([]int{1, 2, 5, 1000}).Draw(t, "history limit")
		first, second, atOnce := newStore(change(limit)), newStore(change(limit)), newStore(change(limit))
		now := epoch
		var records []models.Record
		for i := range rapid.IntRange(1, 60).Draw(t, "reports") {
			now = now.Add(time.Duration(rapid.IntRange(0, 3000).Draw(t, "seconds")) * time.Second)
			reports := []models.StatusReport{drawEvent(t, now)}
			if rapid.IntRange(0, 4).Draw(t, "kind") == 0 {
				reports = []models.StatusReport{drawReport(t, now), drawReport(t, now)}
				for n := range reports {
					reports[n].Event, reports[n].Status = nil, rapid.SampledFrom(models.Statuses[:]).Draw(t, "status")
					reports[n].ReportID = fmt.Sprint(i, n) // retries are dropped before they become records
				}
				reports[1].Renew = false // beside a report of the same session that is not applied yet, it would be a plain report
			}
			records = append(records, admit(t, first, reports, now, uint64(len(records)))...)
			accept(atOnce, now, reports...)
		}
		if len(records) == 0 {
			return
		}
		again := append(slices.Clone(records), rapid.SliceOf(rapid.SampledFrom(records)).Draw(t, "repeated")...)
		rnd := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		rnd.Shuffle(len(again), func(i, j int) { again[i], again[j] = again[j], again[i] })
		second.BeginLoading(now)
		second.Apply(again...)
		first.Expire(now)
		second.Expire(now)
		require.Equal(t, readsOf(t, first), readsOf(t, second))
		atOnce.Expire(now)
		require.Equal(t, readsOf(t, first), readsOf(t, atOnce), "the same as when each is applied at once")
	})
}

// admit lets a store admit reports, applies their records with sequences after before, and returns them.
func admit(t require.TestingT, st *store.Store, reports []models.StatusReport, now time.Time, before uint64) []models.Record {
	var ad store.Admission
	require.True(t, st.Admit(nil, reports, now, &ad))
	for i := range ad.Records {
		ad.Records[i].Sequence = before + uint64(i) + 1
	}
	st.Apply(ad.Records...)
	st.Settle()
	return ad.Records
}

// reads is everything that reads show.
type reads struct {
	Summary   models.Summary
	Agents    []models.Agent
	Sessions  []models.FleetSession
	Questions [][]models.Question
	Histories [][]models.AgentStatus
	OfAgents  [][]models.AgentStatus
	Bytes     int64
}

func readsOf(t require.TestingT, st *store.Store) reads {
	r := reads{Summary: st.Summary(), Agents: allAgents(t, st, store.AgentQuery{}, all), Sessions: allSessions(t, st, store.SessionQuery{}, all),
		Bytes: st.Stats().HistoryBytes}
	for _, se := range r.Sessions {
		_, questions, page, ok := st.SessionInFull(se.AgentID, se.Topic, nil, all)
		require.True(t, ok)
		r.Questions, r.Histories = append(r.Questions, questions), append(r.Histories, page.Items)
	}
	for _, a := range r.Agents {
		_, page, ok := st.AgentStatus(a.ID, nil, all)
		require.True(t, ok)
		r.OfAgents = append(r.OfAgents, page.Items)
	}
	return r
}
