package workday

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// agent is an agent in a tool. The server names it after the tool, the folder and the host.
type agent struct {
	tool   tool
	folder string
	host   string
	tasks  []task // one per session, again from the start after the last
}

// task is what a person asks of an agent. Calls are written as a verb (read, edit, search or run) and what it is about.
type task struct {
	prompt string
	before []string // calls before the question
	asks   *question
	after  []string // calls after the answer
	answer string
}

// question is what an agent asks in the middle of a task: a permission if it only has a command, a choice if it has
// choices, else a plan.
type question struct {
	command string
	text    string
	header  string
	choices []string
	plan    string
}

// call is a tool call.
type call struct{ id, verb, object string }

// script is the events of one session of an agent, in the making.
type script struct {
	*agent
	random *rand.Rand
	id     string // of the session
	at     time.Time
	calls  int
	events []Event
}

// scriptFrom returns a script that begins at a time.
func (a *agent) scriptFrom(at time.Time, random *rand.Rand) *script {
	id := fmt.Sprintf("%08x-%04x-4%03x-a%03x-%012x", random.Uint32(), random.Uint32N(1<<16), random.Uint32N(1<<12),
		random.Uint32N(1<<12), random.Uint64N(1<<48)) // a random UUID
	return &script{agent: a, random: random, id: id, at: at}
}

// fields are the members of a JSON object.
type fields = map[string]any

// post adds what the tool posts at this moment.
func (s *script) post(bodies ...fields) {
	for _, body := range bodies {
		s.events = append(s.events, Event{At: s.at, Path: "/webhook/" + s.tool.name(), Host: s.host, Body: encode(body)})
		s.at = s.at.Add(20 * time.Millisecond)
	}
}

func encode(body any) []byte {
	encoded, err := json.Marshal(body)
	if err != nil {
		panic(err) // can't happen: there are only texts, numbers and lists of them
	}
	return encoded
}

// between returns a random duration from shortest to longest.
func between(random *rand.Rand, shortest, longest time.Duration) time.Duration {
	return shortest + time.Duration(random.Int64N(int64(longest-shortest)))
}

// pause lets a time from shortest to longest go by.
func (s *script) pause(shortest, longest time.Duration) {
	s.at = s.at.Add(between(s.random, shortest, longest))
}

// until lets the time go by until at, if that is still to come.
func (s *script) until(at time.Time) {
	if at.After(s.at) {
		s.at = at
	}
}

func (s *script) start()               { s.post(s.tool.start(s)...) }
func (s *script) prompt(text string)   { s.post(s.tool.prompt(s, text)...) }
func (s *script) finish(answer string) { s.post(s.tool.finish(s, answer)...) }
func (s *script) end()                 { s.post(s.tool.end(s)...) }

// work makes the calls, each of which takes up to longest.
func (s *script) work(calls []string, longest time.Duration) {
	for _, text := range calls {
		c := s.call(text)
		s.post(s.tool.before(s, c)...)
		s.pause(longest/4, longest)
		s.post(s.tool.after(s, c)...)
		s.pause(2*time.Second, 6*time.Second)
	}
}

// call returns a call with an ID of its own.
func (s *script) call(text string) call {
	s.calls++
	verb, object, _ := strings.Cut(text, " ")
	return call{fmt.Sprintf("toolu_%s%02d", s.id[24:], s.calls), verb, object}
}

// ask asks a question in a tool, which is open until the time answered.
func (s *script) ask(in asking, q *question, answered time.Time) {
	c := s.call("run " + q.command)
	s.post(in.ask(s, c, q)...)
	s.until(answered)
	s.post(in.answered(s, c, q)...)
	s.pause(2*time.Second, 4*time.Second)
}
