package workday

import (
	"math/rand/v2"
	"time"
)

// The timetable of questions. There are three kinds of them, and two agents that take turns at asking each. The
// question of a cycle is open for seven minutes of eight. The kinds are a third of a cycle apart, so that there is never
// more than one that has no open question.
const (
	cycle    = 8 * time.Minute
	apart    = cycle / 3
	asks     = 100 * time.Second // when the question of a cycle is asked
	answered = 520 * time.Second // when it is answered
	follows  = 660 * time.Second // when a person follows up; the agent's next session begins two cycles after this one
	within   = 10 * time.Second  // how much all of these vary
	opening  = 450 * time.Second // how much of a cycle has passed when the day opens: three questions are open then
)

// The kinds of questions, by their place in a cycle.
const (
	permissions = iota
	choices
	plans
)

// asker is an agent that asks a question in each of its sessions.
type asker struct {
	agent
	tool asking
	kind int
	odd  bool // it asks in every odd cycle, not in every even one
}

// scripts returns a function that returns the script of one session after the other. The day opens at a time.
func (a *asker) scripts(opens time.Time, random *rand.Rand) func() []Event {
	a.agent.tool = a.tool
	from := opens.Add(-opening + time.Duration(a.kind)*apart)
	if a.odd {
		from = from.Add(cycle)
	}
	for from.After(opens.Add(-History)) {
		from = from.Add(-2 * cycle)
	}
	n := 0
	return func() []Event {
		from, n = from.Add(2*cycle), n+1
		return a.session(n, from, random)
	}
}

// session returns the script of the n-th session, whose cycle begins at from.
func (a *asker) session(n int, from time.Time, random *rand.Rand) []Event {
	about := func(d time.Duration) time.Time { return from.Add(d + between(random, -within, within)) }
	t := &a.tasks[n%len(a.tasks)]
	s := a.scriptFrom(from, random)
	s.start()
	s.pause(2*time.Second, 5*time.Second)
	s.prompt(t.prompt)
	s.pause(3*time.Second, 8*time.Second)
	s.work(t.before, 16*time.Second)
	s.until(about(asks))
	s.ask(a.tool, t.asks, about(answered))
	s.work(t.after, 25*time.Second)
	s.finish(t.answer)
	f := &followUps[(n+a.kind)%len(followUps)]
	s.until(about(follows))
	s.prompt(f.prompt)
	s.pause(3*time.Second, 8*time.Second)
	s.work(f.before, 40*time.Second)
	s.finish(f.answer)
	s.pause(20*time.Second, 40*time.Second)
	s.end()
	return s.events
}

// The timetable of what goes wrong. Each goes wrong once per period, and is put right some time after the next one went
// wrong.
const (
	period = 40 * time.Minute

	// An evaluation begins, goes silent, and is resumed in the next period.
	evaluationBegins  = -35 * time.Minute // relative to the opening of the day
	evaluationLasts   = 12 * time.Minute
	evaluationTTL     = 5 * time.Minute
	evaluationResumes = 19 * time.Minute // after the beginning of the next one

	// A test run fails, and is run again in the next period.
	failureBegins = -18 * time.Minute // relative to the opening of the day
	failureAgain  = 6 * time.Minute   // after the beginning of the next one
)

// periods returns a function that returns what happens in one period after the other, starting with the first one of
// the history. The one that is under way when the day opens begins at the time begins.
func periods(opens time.Time, begins time.Duration, in func(n int, from time.Time) []Event) func() []Event {
	n := -int((History + begins) / period)
	first := n
	return func() []Event {
		events := in(n-first, opens.Add(begins+time.Duration(n)*period))
		n++
		return events
	}
}
