package store_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// requested is an event that asks about a call, with an ID of the request.
func requested(id, call string) models.StatusReport {
	r := asks("", "", call)
	r.Event.CallIDHash, r.Event.InputHash, r.Event.ResultHash = hashed(id), 0, callEvent("", "", call).ResultHash
	return r
}

// notified is an event that asks something without naming the call.
func notified(text string) models.StatusReport {
	r := asks("", "", text)
	r.Event.AboutLastCall = true
	return r
}

// chooses is an event that starts a call and asks its question.
func chooses(subagent, id, call string) models.StatusReport {
	r := asks(subagent, id, call)
	r.Event.Stage = models.CallStarts
	return r
}

// replied is an event that carries the reply to a request.
func replied(id string, outcome models.QuestionOutcome, answer string) models.StatusReport {
	return report(0, "", models.Event{Name: "replied", CallIDHash: hashed(id), Closes: models.ClosesOwn, Outcome: outcome, Answer: answer})
}

// elicits is an event that asks on behalf of a server. Its results name only the server.
func elicits(id, server, text string) models.StatusReport {
	r := asks("", id, server+text)
	r.Event.ResultHash, r.Event.Question.Text, r.Message = hashed(server), text, text
	return r
}

// TestWhatClosesAQuestion sends events, and checks what is shown after the last one and how questions closed.
func TestWhatClosesAQuestion(t *testing.T) {
	const a, d, w = models.Answered, models.Denied, models.Withdrawn
	asked := []models.StatusReport{prompts("Go"), starts("", "1", "rm"), asks("", "", "rm")}
	then := func(first []models.StatusReport, more ...models.StatusReport) []models.StatusReport {
		return append(first[:len(first):len(first)], more...)
	}
	for name, test := range map[string]struct {
		events []models.StatusReport
		want   string
		closed []models.QuestionOutcome
	}{
		"it is open once the event asks":                               {asked, "pending rm? [rm?]", nil},
		"the result of its own call closes it":                         {then(asked, ends("", "1", "rm")), "running rm []", []models.QuestionOutcome{a}},
		"the result of its own call closes it, even with edited input": {then(asked, ends("", "1", "rm -i")), "running rm -i []", []models.QuestionOutcome{a}},
		"a denial of its own call closes it":                           {then(asked, callDenied("", "1", "rm")), "running rm []", []models.QuestionOutcome{d}},
		"the result closes it if the call's start was not reported":    {[]models.StatusReport{prompts("Go"), asks("", "", "rm"), ends("", "1", "rm")}, "running rm []", []models.QuestionOutcome{a}},
		"the result closes it if the result has no ID either":          {[]models.StatusReport{prompts("Go"), asks("", "", "rm"), ends("", "", "rm")}, "running rm []", []models.QuestionOutcome{a}},
		"a new prompt closes it":                                       {then(asked, prompts("No")), "running No []", []models.QuestionOutcome{w}},
		"the end of the turn closes it":                                {then(asked, turnEnds()), "success Done []", []models.QuestionOutcome{w}},
		"the failure of the turn closes it":                            {then(asked, turnFails()), "failed Error []", []models.QuestionOutcome{w}},
		"the tool's empty prompt closes it":                            {then(asked, backAtPrompt()), "failed Interrupted []", []models.QuestionOutcome{w}},
		"the end of the session closes it":                             {then(asked, sessionEnds()), "failed Session ended []", []models.QuestionOutcome{w}},
		"a restart of the process closes it":                           {then(asked, processStarts()), "failed Interrupted []", []models.QuestionOutcome{w}},
		"the end of all calls of the response closes it":               {then(asked, callsEnd("")), "running rm []", []models.QuestionOutcome{d}},
		"a status report closes it":                                    {then(asked, running("claude-code:payments", "s")), "running  []", []models.QuestionOutcome{w}},
		"a pending status report closes it, and asks nothing":          {then(asked, models.StatusReport{AgentID: "claude-code:payments", SessionTopic: "s", Status: models.Pending}), "pending  []", []models.QuestionOutcome{w}},
		"a parallel call leaves it open":                               {then(asked, starts("", "2", "ls"), ends("", "2", "ls")), "pending rm? [rm?]", nil},
		"a denial of a parallel call leaves it open":                   {then(asked, starts("", "2", "ls"), callDenied("", "2", "ls")), "pending rm? [rm?]", nil},
		"the same call of a subagent leaves it open":                   {then(asked, starts("sub", "2", "rm"), ends("sub", "2", "rm")), "pending rm? [rm?]", nil},
		"the end of a subagent leaves it open":                         {then(asked, subagentEnds("sub")), "pending rm? [rm?]", nil},
		"the end of all calls of a subagent leaves it open":            {then(asked, callsEnd("sub")), "pending rm? [rm?]", nil},
		"a late result leaves it open":                                 {then(asked, ends("", "0", "make")), "pending rm? [rm?]", nil},
		"a result without call data leaves it open":                    {then(asked, ends("", "", "")), "pending rm? [rm?]", nil},
		"a notification leaves it open":                                {then(asked, hints("Permission needed")), "pending rm? [rm?]", nil},
		"the end of a hint leaves it open":                             {then(asked, hintEnds()), "pending rm? [rm?]", nil},
		"an event that only renews leaves it open":                     {then(asked, otherEvent("")), "pending rm? [rm?]", nil},
		"repeated events ask only one question":                        {then(asked, asks("", "", "rm"), asks("", "", "rm")), "pending rm? [rm?]", nil},
		"a repeated start of its call leaves it open":                  {then(asked, starts("", "1", "rm")), "pending rm? [rm?]", nil},
		"a reply with its ID closes it":                                {[]models.StatusReport{prompts("Go"), requested("q1", "rm"), replied("q1", a, "yes")}, "running Go []", []models.QuestionOutcome{a}},
		"a reply with another ID leaves it open":                       {[]models.StatusReport{prompts("Go"), requested("q1", "rm"), replied("q2", a, "yes")}, "pending rm? [rm?]", nil},
		"the result of the call of a request closes it":                {[]models.StatusReport{prompts("Go"), requested("q1", "rm"), ends("", "", "rm")}, "running rm []", []models.QuestionOutcome{a}},
		"requests with different IDs are two, even with equal texts":   {[]models.StatusReport{prompts("Go"), requested("q1", "rm"), requested("q2", "rm")}, "pending rm? [rm? rm?]", nil},
		"a repeated request is one":                                    {[]models.StatusReport{prompts("Go"), requested("q1", "rm"), requested("q1", "rm")}, "pending rm? [rm?]", nil},
		"a closed request can be asked again":                          {[]models.StatusReport{prompts("Go"), requested("q1", "rm"), replied("q1", d, ""), requested("q1", "rm")}, "pending rm? [rm?]", []models.QuestionOutcome{d}},
		"an event with an ID joins a question without one":             {[]models.StatusReport{prompts("Go"), asks("", "", "pick"), chooses("", "1", "pick"), ends("", "1", "pick")}, "running pick []", []models.QuestionOutcome{a}},
		"an event without an ID joins a question with one":             {[]models.StatusReport{prompts("Go"), chooses("", "1", "pick"), asks("", "", "pick")}, "pending pick? [pick?]", nil},
		"two calls with equal choices are two questions":               {[]models.StatusReport{prompts("Go"), chooses("", "1", "pick"), chooses("", "2", "pick"), asks("", "", "pick"), asks("", "", "pick")}, "pending pick? [pick? pick?]", nil},
		"a result with less data closes its question":                  {[]models.StatusReport{prompts("Go"), elicits("", "db", "Which?"), report(0, "", models.Event{ResultHash: hashed("db"), Closes: models.ClosesOwn, Outcome: models.Answered})}, "running Go []", []models.QuestionOutcome{a}},
		"a result with less data leaves another question open":         {[]models.StatusReport{prompts("Go"), elicits("", "db", "Which?"), report(0, "", models.Event{ResultHash: hashed("mail"), Closes: models.ClosesOwn, Outcome: models.Answered})}, "pending Which? [Which?]", nil},
		"a subagent asks, and its own result closes it":                {[]models.StatusReport{prompts("Go"), starts("sub", "1", "rm"), asks("sub", "", "rm"), ends("sub", "1", "rm")}, "running Go []", []models.QuestionOutcome{a}},
		"a subagent asks, and its end closes it":                       {[]models.StatusReport{prompts("Go"), asks("sub", "", "rm"), subagentEnds("sub")}, "running Go []", []models.QuestionOutcome{w}},
		"a subagent asks, and keeps running after the turn":            {[]models.StatusReport{prompts("Go"), asks("sub", "", "rm"), turnEnds("sub")}, "pending subrm? [subrm?]", nil},
		"a subagent asks, and does not keep running after the turn":    {[]models.StatusReport{prompts("Go"), asks("sub", "", "rm"), turnEnds("other")}, "success Done []", []models.QuestionOutcome{w}},
		"a hint asks if nothing else does":                             {[]models.StatusReport{prompts("Go"), starts("", "1", "rm"), hints("Permission needed")}, "pending Permission needed [Permission needed]", nil},
		"a hint is about the call that started last":                   {[]models.StatusReport{prompts("Go"), starts("", "1", "rm"), starts("", "2", "ls"), hints("Permission needed"), ends("", "1", "rm")}, "pending Permission needed [Permission needed]", nil},
		"the result of that call closes a hint":                        {[]models.StatusReport{prompts("Go"), starts("", "1", "rm"), starts("", "2", "ls"), hints("Permission needed"), ends("", "2", "ls")}, "running ls []", []models.QuestionOutcome{a}},
		"the result of a call closes a hint and the question itself":   {[]models.StatusReport{prompts("Go"), starts("", "1", "rm"), hints("Permission needed"), asks("", "", "rm"), ends("", "1", "rm")}, "running rm []", []models.QuestionOutcome{a, a}},
		"the end of a hint closes it":                                  {[]models.StatusReport{prompts("Go"), hints("Permission needed"), hintEnds()}, "running Go []", []models.QuestionOutcome{a}},
		"a question without a call is about the one with its input":    {[]models.StatusReport{prompts("Go"), starts("", "", "rm"), starts("", "", "ls"), notified("rm"), ends("", "", "ls")}, "pending rm? [rm?]", nil},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFeed(t, nil)
			f.send(test.events...)
			assert.Equal(t, test.want, f.shown())
			assert.Equal(t, test.closed, f.closed())
		})
	}
}

// TestParallelCallsWithTheSameInput checks that there are as many questions as calls in flight that can't be told
// apart, and that each result closes one.
func TestParallelCallsWithTheSameInput(t *testing.T) {
	for name, ids := range map[string][2]string{"with IDs": {"1", "2"}, "without IDs": {"", ""}} {
		for kind, ask := range map[string]models.StatusReport{"that name their call": asks("", "", "rm"), "that name the call's input": notified("rm")} {
			t.Run(name+", questions "+kind, func(t *testing.T) {
				both := []models.StatusReport{prompts("Go"), starts("", ids[0], "rm"), starts("", ids[1], "rm"), ask}
				f := newFeed(t, nil)
				f.send(both...)
				require.Equal(t, "pending rm? [rm?]", f.shown())
				f.send(ask)
				require.Equal(t, "pending rm? [rm? rm?]", f.shown())
				require.Equal(t, store.Renewed, f.send(ask), "there are only two calls")
				f.send(ends("", ids[1], "rm"))
				require.Equal(t, "pending rm? [rm?]", f.shown())
				f.send(ends("", ids[0], "rm"))
				require.Equal(t, "running rm []", f.shown())

				f = newFeed(t, nil) // one asked after the other
				f.send(append(both, ends("", ids[0], "rm"))...)
				require.Equal(t, "running rm []", f.shown())
				f.send(ask)
				require.Equal(t, "pending rm? [rm?]", f.shown())
				f.send(ends("", ids[1], "rm"))
				require.Equal(t, "running rm []", f.shown())
			})
		}
	}
}

// TestQuestionsWithoutACallBindToDifferentCalls checks that two questions that name no call are about different calls.
func TestQuestionsWithoutACallBindToDifferentCalls(t *testing.T) {
	f := newFeed(t, nil)
	f.send(prompts("Go"), starts("", "", "edit a"), starts("", "", "edit b"), notified("first"), notified("second"))
	require.Equal(t, "pending first? [first? second?]", f.shown())
	f.send(ends("", "", "edit b"))
	require.Equal(t, "pending second? [second?]", f.shown(), "the first one was about the call that started last")
	f.send(ends("", "", "edit a"))
	require.Equal(t, "running edit a []", f.shown())
}

// TestTheOldestQuestionIsShown checks the history while several questions open and close.
func TestTheOldestQuestionIsShown(t *testing.T) {
	f := newFeed(t, nil)
	f.send(prompts("Go"), asks("", "", "rm"), asks("sub", "", "mv"), asks("", "", "ls"))
	require.Equal(t, "pending rm? [rm? submv? ls?]", f.shown())
	_, questions, _ := f.session()
	id := func(i int) string { return questions[i].ID }
	require.Equal(t, []string{"", "sub", ""}, []string{questions[0].AskedBy, questions[1].AskedBy, questions[2].AskedBy})
	require.Equal(t, epoch.Add(3*time.Minute), questions[1].AskedAt)

	require.Equal(t, store.Renewed, f.send(ends("sub", "", "mv")), "the closed question is not the one shown")
	require.Equal(t, "pending rm? [rm? ls?]", f.shown())
	f.send(ends("", "", "rm"))
	require.Equal(t, "pending ls? [ls?]", f.shown())
	f.send(turnEnds())
	require.Equal(t, "success Done []", f.shown())

	_, _, history := f.session()
	type entry struct {
		status   models.Status
		message  string
		question string
		closed   []models.ClosedQuestion
	}
	var got []entry
	for _, st := range history {
		got = append(got, entry{st.Status, st.Message, st.QuestionID, st.ClosedQuestions})
	}
	require.Equal(t, []entry{
		{models.Success, "Done", "", []models.ClosedQuestion{questions[2].Closed(models.Withdrawn, "Event", "")}},
		{models.Pending, "ls?", id(2), []models.ClosedQuestion{questions[1].Closed(models.Answered, "Event", ""), questions[0].Closed(models.Answered, "Event", "")}},
		{models.Pending, "rm?", id(0), nil},
		{models.Running, "Go", "", nil},
	}, got)
}

// TestChangesMentionQuestions checks the changes published as questions open and close.
func TestChangesMentionQuestions(t *testing.T) {
	f := newFeed(t, nil)
	f.send(prompts("Go"), requested("q1", "rm"), requested("q2", "ls"), replied("q2", models.Denied, "no"), replied("q1", models.Answered, "yes"))
	changes := changesOf(t, f.store, 0)
	require.Len(t, changes, 5)
	first, second := changes[1].Asked, changes[2].Asked
	require.Equal(t, "rm?", first.Text)
	require.Equal(t, "ls?", second.Text)
	require.Equal(t, first, changes[2].Session.Question, "the oldest is shown")
	require.Equal(t, 2, changes[2].Session.OpenQuestions)
	require.Equal(t, []models.ClosedQuestion{second.Closed(models.Denied, "replied", "no")}, changes[3].Closed)
	require.Equal(t, models.Pending, changes[3].Session.CurrentStatus)
	require.Equal(t, []models.ClosedQuestion{first.Closed(models.Answered, "replied", "yes")}, changes[4].Closed)
	require.Equal(t, models.Running, changes[4].Session.CurrentStatus)
	require.Nil(t, changes[4].Session.Question)
}

func TestAtMost100QuestionsAreOpen(t *testing.T) {
	f := newFeed(t, nil)
	f.send(prompts("Go"))
	for i := range models.MaxOpenQuestions + 20 {
		f.send(requested(fmt.Sprint(i), fmt.Sprint("call ", i)))
	}
	se, questions, _ := f.session()
	require.Equal(t, models.MaxOpenQuestions, se.OpenQuestions)
	require.Equal(t, "call 0?", questions[0].Text)
	require.Equal(t, "call 99?", questions[99].Text, "the newest ones are not recorded")
	f.send(replied("5", models.Answered, ""), requested("new", "new"))
	_, questions, _ = f.session()
	require.Len(t, questions, models.MaxOpenQuestions)
	require.Equal(t, "new?", questions[99].Text)
	f.send(turnEnds())
	require.Equal(t, "success Done []", f.shown())
	require.Len(t, f.closed(), models.MaxOpenQuestions, "one entry mentions no more than this")
}

// TestQuestionsHaveRoomOrAreRefused fills the memory with current statuses.
func TestQuestionsHaveRoomOrAreRefused(t *testing.T) {
	const bound = 100_000
	asking := func(id string, content int) models.StatusReport {
		r := requested(id, id)
		r.Event.Question.Content = strings.Repeat("x", content)
		return r
	}
	f := newFeed(t, func(o *store.Options) { o.HistoryMaxBytes = bound })
	f.send(prompts("Go"))
	for range 50 {
		f.send(starts("", "", "ls"))
	}
	require.Equal(t, store.Stored, f.send(asking("fits", 60_000)))
	_, questions, _ := f.session()
	require.Len(t, questions[0].Content, 60_000)
	require.False(t, questions[0].ContentCut)

	require.Equal(t, store.Renewed, f.send(asking("does not", 60_000)))
	_, questions, history := f.session()
	require.Empty(t, questions[1].Content, "its content does not fit")
	require.True(t, questions[1].ContentCut, "the question says that its content is cut")
	require.Equal(t, "does not?", questions[1].Text)
	require.Len(t, questions[0].Content, 60_000, "an open question is never dropped for another")
	require.Less(t, len(history), 51, "old statuses are dropped")

	for i := 0; f.send(asking(fmt.Sprint(i), 0)) != store.OutOfMemory; i++ {
		require.Less(t, i, models.MaxOpenQuestions)
		require.LessOrEqual(t, f.store.Stats().HistoryBytes, int64(bound))
	}
	require.EqualValues(t, 1, f.store.Stats().Bounds.Refused)
	before := f.shown()
	require.False(t, store.OutOfMemory.Acknowledged())
	f.send(otherEvent(""))
	require.Equal(t, before, f.shown(), "a refused report changes nothing")
	f.send(turnEnds())
	require.Equal(t, "success Done []", f.shown())
	require.Equal(t, store.Stored, f.send(asking("later", 60_000)), "there is room again")
}

// TestAcknowledgingOftenKeepsTheHistory acknowledges a session with an open question more often than an entry of its
// history can mention. The question that closed before remains in the history.
func TestAcknowledgingOftenKeepsTheHistory(t *testing.T) {
	f := newFeed(t, nil)
	f.send(prompts("Go"), asks("", "1", "make"), asks("", "2", "rm"), ends("", "2", "rm"))
	for range models.MaxOpenQuestions + 1 {
		f.send(report(0, "", models.Event{Acknowledge: &models.Acknowledgement{At: f.now, By: "ada"}}))
	}
	last := f.now.Add(-time.Minute)
	f.send(ends("", "1", "make"))
	_, _, history := f.session()
	require.Len(t, history[0].ClosedQuestions, 2)
	require.Equal(t, last, history[0].Acknowledged.At)
}

// TestAQuestionWithoutRoomBeginsNoSession sends a question as the first event of a session when there is no room for
// it.
func TestAQuestionWithoutRoomBeginsNoSession(t *testing.T) {
	f := newFeed(t, func(o *store.Options) { o.HistoryMaxBytes = 2000 })
	require.Equal(t, store.OutOfMemory, f.send(asks("", "", "rm")))
	require.Zero(t, f.store.Summary().Sessions.Total)
}

// TestAQuestionEvictsExpiredSessions fills the memory with expired sessions, as on a server that runs for a long time.
// They make room for a question.
func TestAQuestionEvictsExpiredSessions(t *testing.T) {
	asking := asks("", "", "rm")
	asking.Event.Question.Content = strings.Repeat("x", 5000)
	for name, before := range map[string][]models.StatusReport{"of a known session": {prompts("Go")}, "of a new session": nil} {
		t.Run(name, func(t *testing.T) {
			f := newFeed(t, func(o *store.Options) { o.HistoryMaxBytes = 100_000 })
			for i := 0; f.store.Stats().Bounds.Refused == 0; i++ {
				r := running("old", fmt.Sprint(i))
				r.Content, r.TTLMinutes = strings.Repeat("o", 500), 1
				accept(f.store, f.now, r)
			}
			f.after(2 * time.Minute)
			known := f.store.Summary().Sessions.Total
			f.send(before...)
			require.Equal(t, store.Stored, f.send(asking))
			_, questions, _ := f.session()
			require.Len(t, questions[0].Content, 5000)
			require.LessOrEqual(t, f.store.Stats().HistoryBytes, int64(100_000))
			require.Less(t, f.store.Summary().Sessions.Total, known)
		})
	}
}

// TestAQuestionDoesNotEvictItsOwnSession lets the only expired session ask a question when there is no room.
func TestAQuestionDoesNotEvictItsOwnSession(t *testing.T) {
	for name, send := range map[string]func(f *feed, r models.StatusReport) bool{
		"at once": func(f *feed, r models.StatusReport) bool { return f.send(r) == store.OutOfMemory },
		"ahead of the journal": func(f *feed, r models.StatusReport) bool {
			return len(admit(f.t, f.store, []models.StatusReport{r}, f.now, 1)) == 0
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFeed(t, func(o *store.Options) { o.HistoryMaxBytes = 2600 })
			f.send(prompts("Go"))
			f.after(time.Hour)
			require.True(t, send(f, asks("", "", "rm")), "refused")
			require.Equal(t, "expired running Go []", f.shown())
			f.after(200 * time.Hour)
			require.Zero(t, f.store.Summary().Sessions.Total, "it is forgotten at the end of its retention")
		})
	}
}

// TestQuestionsAdmittedTogetherHaveRoom admits questions of several sessions before any of them is applied.
func TestQuestionsAdmittedTogetherHaveRoom(t *testing.T) {
	const bound = 20_000
	st := newStore(func(o *store.Options) { o.HistoryMaxBytes = bound })
	var ad store.Admission
	for i := range 20 {
		r := asks("", "", "rm")
		r.SessionTopic, r.Event.Question.Content = fmt.Sprint(i), strings.Repeat("x", 3000)
		require.True(t, st.Admit(nil, []models.StatusReport{r}, epoch, &ad))
	}
	require.NotEmpty(t, ad.Records)
	for i := range ad.Records {
		ad.Records[i].Sequence = uint64(i) + 1
	}
	st.Apply(ad.Records...)
	st.Settle()
	require.LessOrEqual(t, st.Stats().HistoryBytes, int64(bound))
	require.Equal(t, len(ad.Records), st.Summary().Sessions.Total)
	require.Contains(t, ad.Outcomes, store.OutOfMemory)
}
