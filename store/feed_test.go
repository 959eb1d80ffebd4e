package store_test

import (
	"fmt"
	"hash/fnv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// feed sends the events of one session to a store, one minute apart.
type feed struct {
	t     testing.TB
	store *store.Store
	now   time.Time
}

func newFeed(t testing.TB, change func(*store.Options)) *feed {
	return &feed{t: t, now: epoch, store: newStore(func(o *store.Options) {
		o.EventWindow = 1000
		if change != nil {
			change(o)
		}
	})}
}

// report returns what an adapter makes of an event.
func report(status models.Status, message string, e models.Event) models.StatusReport {
	if e.Name == "" {
		e.Name = "Event"
	}
	return models.StatusReport{AgentID: "claude-code:payments", AgentSource: "claude-code", SessionTopic: "s", Status: status, Message: message, Event: &e}
}

// send sends reports one minute apart, and returns the outcome of the last one.
func (f *feed) send(reports ...models.StatusReport) (last store.Outcome) {
	f.t.Helper()
	for _, r := range reports {
		require.NoError(f.t, r.Validate(f.now))
		f.now = f.now.Add(time.Minute)
		last = accept(f.store, f.now, r)[0]
	}
	return last
}

// after advances the time.
func (f *feed) after(d time.Duration) {
	f.now = f.now.Add(d)
	f.store.Expire(f.now)
}

// session returns the session, its open questions, and its history, newest first.
func (f *feed) session() (models.Session, []models.Question, []models.AgentStatus) {
	f.t.Helper()
	se, questions, page, ok := f.store.SessionInFull("claude-code:payments", "s", nil, all)
	require.True(f.t, ok)
	return se.Session, questions, page.Items
}

// shown returns what a person sees of the session: its status, its message, and the texts of its open questions.
func (f *feed) shown() string {
	f.t.Helper()
	se, questions, _ := f.session()
	shown := fmt.Sprintf("%s %s", se.CurrentStatus, se.CurrentMessage)
	if se.Expired {
		shown = "expired " + shown
	}
	texts := []string{}
	for _, q := range questions {
		texts = append(texts, q.Text)
	}
	require.Equal(f.t, len(questions), se.OpenQuestions)
	return fmt.Sprint(shown, " ", texts)
}

// closed returns the outcomes of the session's closed questions in its history, oldest first.
func (f *feed) closed() (outcomes []models.QuestionOutcome) {
	f.t.Helper()
	_, _, history := f.session()
	for i := range history {
		for _, c := range history[len(history)-1-i].ClosedQuestions {
			outcomes = append(outcomes, c.Outcome)
		}
	}
	return outcomes
}

// hashed returns a hash of s, as adapters compute it.
func hashed(s string) uint64 {
	if s == "" {
		return 0
	}
	h := fnv.New64a()
	h.Write([]byte(s)) //nolint:errcheck // it never fails
	return max(1, h.Sum64())
}

// callEvent returns an event about a call with this ID, tool and input; id and call are "" for none. subagent is "" for
// the agent itself.
func callEvent(subagent, id, call string) models.Event {
	e := models.Event{Subagent: subagent, CallIDHash: hashed(id)}
	if call != "" {
		e.InputHash = hashed(subagent + "/" + call)
		e.ResultHash = e.InputHash
	}
	return e
}

const stillGoing = models.AtWork | models.AtPrompt | models.Unknown

// Reports that adapters make of tools' events.

func begins() models.StatusReport {
	return report(models.Idle, "Session started", models.Event{AppliesIn: models.Unknown})
}

func prompts(text string) models.StatusReport {
	return report(models.Running, text, models.Event{AppliesIn: models.Anywhere, Closes: models.ClosesAll, Outcome: models.Withdrawn})
}

func starts(subagent, id, call string) models.StatusReport {
	e := callEvent(subagent, id, call)
	e.AppliesIn, e.Stage = models.Anywhere, models.CallStarts
	return ofSubagent(report(models.Running, call, e))
}

func ends(subagent, id, call string) models.StatusReport {
	e := callEvent(subagent, id, call)
	e.AppliesIn, e.Stage, e.Closes, e.Outcome = stillGoing, models.CallEnds, models.ClosesOwn, models.Answered
	return ofSubagent(report(models.Running, call, e))
}

func asks(subagent, id, call string) models.StatusReport {
	e := callEvent(subagent, id, call)
	e.AppliesIn = models.Anywhere
	e.Question = &models.Question{Kind: models.Permission, Text: subagent + call + "?", AskedBy: subagent}
	return ofSubagent(report(models.Running, e.Question.Text, e))
}

func callDenied(subagent, id, call string) models.StatusReport {
	e := callEvent(subagent, id, call)
	e.Stage, e.Closes, e.Outcome = models.CallEnds, models.ClosesOwn, models.Denied
	return ofSubagent(report(0, "", e))
}

func callsEnd(subagent string) models.StatusReport {
	return report(0, "", models.Event{Subagent: subagent, Closes: models.ClosesAsker, Outcome: models.Denied})
}

func subagentEnds(subagent string) models.StatusReport {
	return report(0, "", models.Event{Subagent: subagent, Closes: models.ClosesAsker, Outcome: models.Withdrawn})
}

func hints(text string) models.StatusReport {
	return report(models.Running, text, models.Event{AppliesIn: models.Anywhere, HintOnly: true, AboutLastCall: true, Question: &models.Question{Kind: models.Permission, Text: text}})
}

func hintEnds() models.StatusReport {
	return report(0, "", models.Event{Closes: models.ClosesHinted, Outcome: models.Answered})
}

func otherEvent(subagent string) models.StatusReport {
	return report(0, "", models.Event{Subagent: subagent})
}

func turnEnds(going ...string) models.StatusReport {
	return report(models.Success, "Done", models.Event{AppliesIn: models.Anywhere, Closes: models.ClosesAll, Outcome: models.Withdrawn, RunningSubagents: going})
}

func turnFails() models.StatusReport {
	return report(models.Failed, "Error", models.Event{AppliesIn: stillGoing, Closes: models.ClosesAll, Outcome: models.Withdrawn})
}

// backAtPrompt is an event which says that the prompt is empty and no dialog is open.
func backAtPrompt() models.StatusReport {
	return report(models.Failed, "Interrupted", models.Event{AppliesIn: models.AtWork, Closes: models.ClosesAll, Outcome: models.Withdrawn})
}

func sessionEnds() models.StatusReport {
	return report(models.Failed, "Session ended", models.Event{AppliesIn: models.AtWork, IgnoreOtherwise: true, Closes: models.ClosesAll, Outcome: models.Withdrawn})
}

// processStarts is an event which says that the session's process has started, possibly again.
func processStarts() models.StatusReport {
	return report(models.Idle, "Session started", models.Event{AppliesIn: models.Unknown, InterruptMessage: "Interrupted", Closes: models.ClosesAll, Outcome: models.Withdrawn})
}

// ofSubagent returns what an adapter makes of an event that may come from a subagent.
func ofSubagent(r models.StatusReport) models.StatusReport {
	if r.Event.Subagent != "" && r.Event.Question == nil {
		r.Event.AppliesIn &= models.Unknown
	}
	return r
}
