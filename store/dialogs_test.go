package store_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

// screen is what an agent's tool is doing and which dialogs it shows: the truth that the session must match. It is
// independent of how the store works that out.
type screen struct {
	kind    toolKind
	turn    models.Status // the session's status if no dialog were open
	calls   []*toolCall
	numbers int
}

// toolKind says which IDs a tool's events carry.
type toolKind string

const (
	namesCalls    toolKind = "calls have IDs, questions don't"
	namesRequests toolKind = "questions have their own IDs"
	namesNothing  toolKind = "nothing has an ID"
)

// toolCall is a call whose start the tool has reported, but not its end.
type toolCall struct {
	subagent, id, what string
	asked              int  // number of its question while its dialog is open; 0 for no dialog
	old                bool // started in a turn that has ended: the store knows only the question
	alone              bool // no similar call was in flight when its dialog opened
	hinted             bool // the store only knows that the agent itself asks something
}

// asker returns the subagent known to ask about c, "" for the agent itself.
func (c *toolCall) asker() string {
	if c.hinted {
		return ""
	}
	return c.subagent
}

// question returns the text of the question about c.
func (c *toolCall) question() string {
	if c.hinted {
		return "Permission needed"
	}
	return c.subagent + c.what + "?"
}

func (s *screen) number() int {
	s.numbers++
	return s.numbers
}

// open returns the calls with an open dialog, oldest dialog first.
func (s *screen) open() []*toolCall {
	open := s.callsWhere(func(c *toolCall) bool { return c.asked != 0 })
	slices.SortFunc(open, func(a, b *toolCall) int { return a.asked - b.asked })
	return open
}

func (s *screen) callsWhere(matches func(*toolCall) bool) (some []*toolCall) {
	for _, c := range s.calls {
		if matches(c) {
			some = append(some, c)
		}
	}
	return some
}

// alike returns the calls with the same subagent, tool and input as c.
func (s *screen) alike(c *toolCall) []*toolCall {
	return s.callsWhere(func(other *toolCall) bool { return other.subagent == c.subagent && other.what == c.what })
}

// result returns the call that ends, as far as can be told. Of calls that can't be told apart, that is the one whose
// dialog is oldest or, without a dialog, the one that started first.
func (s *screen) result(c *toolCall) *toolCall {
	alike := s.alike(c)
	asked := slices.DeleteFunc(s.open(), func(other *toolCall) bool { return !slices.Contains(alike, other) })
	if len(asked) > 0 {
		c = asked[0]
	}
	if first := alike[0]; s.kind == namesNothing && c != first {
		c.asked, first.asked, c.hinted, first.hinted = first.asked, c.asked, first.hinted, c.hinted
		return first
	}
	return c
}

// close closes the dialogs that match.
func (s *screen) close(matches func(*toolCall) bool) {
	for _, c := range s.open() {
		if matches(c) {
			c.asked, c.hinted = 0, false
		}
	}
}

// endTurn closes all dialogs except those of subagents that keep running, and forgets all calls without a dialog.
func (s *screen) endTurn(going ...string) {
	s.close(func(c *toolCall) bool { return c.asker() == "" || !slices.Contains(going, c.asker()) })
	s.calls = s.open()
	for _, c := range s.calls {
		c.old = true
	}
}

func (s *screen) atWork() bool { return s.turn == models.Running }

func (s *screen) finished() bool { return s.turn == models.Success || s.turn == models.Failed }

func (c *toolCall) start(kind toolKind) models.StatusReport {
	r := starts(c.subagent, c.id, c.what)
	if kind == namesRequests {
		r.Event.CallIDHash, r.Event.InputHash, r.Event.ResultHash, r.Event.Stage = 0, 0, 0, 0
	}
	return r
}

func (c *toolCall) end(kind toolKind) models.StatusReport {
	r := ends(c.subagent, c.id, c.what)
	if kind == namesRequests {
		r.Event.CallIDHash, r.Event.InputHash, r.Event.ResultHash, r.Event.Stage = 0, 0, hashed("call "+c.id), 0
	}
	return r
}

func (c *toolCall) ask(kind toolKind) models.StatusReport {
	r := asks(c.subagent, "", c.what)
	if kind == namesRequests {
		r.Event.CallIDHash, r.Event.InputHash, r.Event.ResultHash = hashed(fmt.Sprint(c.asked)), 0, hashed("call "+c.id)
	}
	return r
}

// asksAs opens a dialog about c. The caller sends the event.
func (s *screen) asksAs(c *toolCall) {
	c.asked, c.alone = s.number(), len(s.alike(c)) == 1
	if c.asker() == "" {
		s.turn = models.Running
	}
}

// TestPendingIsWhatIsOnTheScreen lets tools of every kind work, ask, be answered and be interrupted in random order,
// with repeated and late events. What the store shows of the session must match the open dialogs.
func TestPendingIsWhatIsOnTheScreen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &screen{kind: rapid.SampledFrom([]toolKind{namesCalls, namesRequests, namesNothing}).Draw(t, "tool"), turn: models.Running}
		st := newStore(func(o *store.Options) { o.EventWindow = 1000 })
		now := epoch
		send := func(r models.StatusReport) {
			now = now.Add(time.Minute)
			require.True(t, accept(st, now, r)[0].Acknowledged())
		}
		send(prompts("Go"))
		subagent := rapid.SampledFrom([]string{"", "", "sub", "other"})
		which := func(t *rapid.T, matches func(*toolCall) bool) *toolCall {
			some := s.callsWhere(matches)
			if len(some) == 0 {
				t.Skip("no such call")
			}
			return rapid.SampledFrom(some).Draw(t, "call")
		}
		any := func(*toolCall) bool { return true }
		t.Repeat(map[string]func(*rapid.T){
			"a call starts": func(t *rapid.T) {
				c := &toolCall{subagent: subagent.Draw(t, "subagent"), what: rapid.SampledFrom([]string{"ls", "rm"}).Draw(t, "what")}
				if s.kind != namesNothing {
					c.id = fmt.Sprint("call", s.number())
				}
				s.calls = append(s.calls, c)
				if c.subagent == "" {
					s.turn = models.Running
				}
				send(c.start(s.kind))
			},
			"a dialog opens": func(t *rapid.T) {
				c := which(t, func(c *toolCall) bool {
					return c.asked == 0 && !slices.ContainsFunc(s.alike(c), func(other *toolCall) bool { return other.old })
				})
				s.asksAs(c)
				send(c.ask(s.kind))
			},
			"a question is repeated": func(t *rapid.T) {
				c := which(t, func(c *toolCall) bool {
					return c.asked != 0 && !c.hinted && (s.kind == namesRequests ||
						!slices.ContainsFunc(s.alike(c), func(other *toolCall) bool { return other.asked == 0 || other.hinted }))
				})
				send(c.ask(s.kind))
			},
			"a notification says that something is asked": func(t *rapid.T) {
				which(t, func(c *toolCall) bool { return c.asked != 0 })
				send(hints("Permission needed"))
			},
			"only a notification says that something is asked": func(t *rapid.T) {
				if len(s.calls) == 0 || len(s.open()) > 0 || s.kind == namesRequests || s.calls[len(s.calls)-1].old {
					t.Skip("the store knows no call, or another dialog is open")
				}
				c := s.calls[len(s.calls)-1]
				c.hinted = true
				s.asksAs(c)
				send(hints("Permission needed"))
			},
			"a notification says that it is answered": func(t *rapid.T) {
				s.close(func(c *toolCall) bool { return c.hinted })
				send(hintEnds())
			},
			"a call ends after its input was edited in the dialog": func(t *rapid.T) {
				c := which(t, func(c *toolCall) bool {
					return s.kind == namesCalls && c.asked != 0 && !c.old && c.alone && len(s.alike(c)) == 1
				})
				s.calls = slices.DeleteFunc(s.calls, func(other *toolCall) bool { return other == c })
				if c.subagent == "" && !s.finished() {
					s.turn = models.Running
				}
				edited := *c
				edited.what = "edited"
				send(edited.end(s.kind))
			},
			"a call ends": func(t *rapid.T) {
				c := s.result(which(t, any))
				s.calls = slices.DeleteFunc(s.calls, func(other *toolCall) bool { return other == c })
				if c.subagent == "" && !s.finished() {
					s.turn = models.Running
				}
				send(c.end(s.kind))
			},
			"a question is answered by its ID": func(t *rapid.T) {
				c := which(t, func(c *toolCall) bool { return s.kind == namesRequests && c.asked != 0 })
				send(report(0, "", models.Event{CallIDHash: hashed(fmt.Sprint(c.asked)), ResultHash: hashed("call " + c.id), Closes: models.ClosesOwn, Outcome: models.Answered}))
				c.asked = 0
			},
			"a result comes late": func(t *rapid.T) {
				send(ends("sub", "long ago", "make"))
				send(callDenied("", "long ago", "make"))
			},
			"all calls of a response have ended": func(t *rapid.T) {
				by := subagent.Draw(t, "subagent")
				s.close(func(c *toolCall) bool { return c.asker() == by })
				send(callsEnd(by))
			},
			"a subagent ends": func(t *rapid.T) {
				s.close(func(c *toolCall) bool { return c.asker() == "sub" })
				send(subagentEnds("sub"))
			},
			"a person types a prompt": func(t *rapid.T) {
				s.endTurn()
				s.turn = models.Running
				send(prompts("Go on"))
			},
			"the turn ends": func(t *rapid.T) {
				going := rapid.SampledFrom([][]string{nil, {"sub"}, {"sub", "other"}}).Draw(t, "going")
				s.endTurn(going...)
				s.turn = models.Success
				send(turnEnds(going...))
			},
			"the turn fails": func(t *rapid.T) {
				s.endTurn()
				if !s.finished() {
					s.turn = models.Failed
				}
				send(turnFails())
			},
			"the prompt is empty again, or the process ends or restarts": func(t *rapid.T) {
				s.endTurn()
				if s.atWork() {
					s.turn = models.Failed
				}
				send(rapid.SampledFrom([]models.StatusReport{backAtPrompt(), sessionEnds(), processStarts()}).Draw(t, "event"))
			},
			"something else happens": func(t *rapid.T) {
				send(otherEvent(subagent.Draw(t, "subagent")))
			},
			"the session expires": func(t *rapid.T) {
				now = now.Add(25 * time.Hour)
				st.Expire(now)
				s.endTurn()
				send(otherEvent(""))
			},
			"": func(t *rapid.T) {
				requireScreen(t, s, st)
			},
		})
	})
}

// requireScreen requires that the session matches the screen.
func requireScreen(t *rapid.T, s *screen, st *store.Store) {
	wanted := []string{}
	for _, c := range s.open() {
		wanted = append(wanted, c.question())
	}
	slices.Sort(wanted)
	se, questions, page, ok := st.SessionInFull("claude-code:payments", "s", nil, all)
	require.True(t, ok)
	got := []string{}
	for _, q := range questions {
		got = append(got, q.Text)
	}
	require.True(t, slices.IsSortedFunc(questions, func(a, b models.Question) int { return a.AskedAt.Compare(b.AskedAt) }), "oldest first")
	slices.Sort(got)
	require.Equal(t, wanted, got)
	requireConsistent(t, se.Session, questions, page.Items)
	if len(questions) == 0 {
		require.Equal(t, s.turn, se.CurrentStatus)
	}
}

// requireConsistent requires that a session fed only by events matches its open questions.
func requireConsistent(t require.TestingT, se models.Session, questions []models.Question, history []models.AgentStatus) {
	newest := history[0]
	require.Equal(t, newest.Status, se.CurrentStatus)
	require.Equal(t, newest.Message, se.CurrentMessage)
	require.Equal(t, len(questions), se.OpenQuestions)
	if se.Expired {
		require.Empty(t, questions)
		require.Nil(t, se.Question)
		return
	}
	require.Equal(t, len(questions) > 0, se.CurrentStatus == models.Pending, fmt.Sprint(se, questions))
	if len(questions) == 0 {
		require.Nil(t, se.Question)
		require.Empty(t, newest.QuestionID)
		return
	}
	oldest := questions[0]
	oldest.Content, oldest.Choices = "", nil
	require.Equal(t, &oldest, se.Question)
	require.Equal(t, oldest.ID, newest.QuestionID)
	require.Equal(t, oldest.Text, se.CurrentMessage)
	require.False(t, se.ExpiresAt.Before(se.LastUpdated.Add(models.QuestionTTL)))
}
