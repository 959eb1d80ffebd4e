package workday

import (
	"math/rand/v2"
	"time"
)

// worker is an agent that asks nothing: its sessions follow one another at random intervals.
type worker struct{ agent }

// scripts returns a function that returns the script of one session after the other, the first of which begins soon
// after from.
func (w *worker) scripts(from time.Time, random *rand.Rand) func() []Event {
	n := random.IntN(len(w.tasks))
	return func() []Event {
		s := w.scriptFrom(from.Add(between(random, 10*time.Second, 60*time.Second)), random)
		w.session(s, &w.tasks[n%len(w.tasks)], n)
		from, n = s.at, n+1
		return s.events
	}
}

// session is one session: a task, and often something that a person asks for afterwards.
func (w *worker) session(s *script, t *task, n int) {
	s.start()
	s.pause(3*time.Second, 20*time.Second)
	s.turn(t)
	for range s.random.IntN(3) {
		s.pause(15*time.Second, 60*time.Second)
		s.turn(&followUps[n%len(followUps)])
		n++
	}
	s.pause(10*time.Second, 30*time.Second)
	s.end()
}

// turn is a task without its question.
func (s *script) turn(t *task) {
	s.prompt(t.prompt)
	s.pause(4*time.Second, 12*time.Second)
	s.work(t.before, 75*time.Second)
	s.work(t.after, 75*time.Second)
	s.finish(t.answer)
}
