// Package adapters turns what agents' tools post of themselves, each in its own words, into status reports.
//
// A tool is one file with two tables: where its JSON has what, and what each of its events means. The rest is the same
// for all of them.
package adapters

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/cespare/xxhash/v2"

	"github.com/kubeagents/kubeagents/models"
)

// Client is a tool that agents run in, or a protocol that they speak, whose events are understood. It never changes.
type Client struct {
	Name   string // as it stands in an address, and as the source of its agents
	fields *node
	name   func(e *event) string // of an event, for its meaning, with what is not what it seems taken out; nil for its first field
	detail map[string][]field    // what tells events of one name apart, by that name; the first with a meaning of its own counts
	events map[string]meaning    // by name, and by name, a slash and the detail, which comes first
	call   func(e *event) about  // which tool call an event is about; nil for ownCall
	shared bool                  // IDs of its sessions are not unique by themselves
	orphan bool                  // a session that only tools' events tell of is that of a subagent, whose parent they do not name
}

// clients are all there are, in the order in which people look for them.
var clients = []*Client{claudeCode, codex, geminiCLI, cursor, copilot, openCode, a2a}

// Named returns the client with this name, nil where there is none.
func Named(name string) *Client {
	for _, c := range clients {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// Names returns the names of all clients.
func Names() []string {
	names := make([]string, len(clients))
	for i, c := range clients {
		names[i] = c.Name
	}
	return names
}

// Capture says what is kept of what people type and agents answer, which can be private.
type Capture string

const (
	// CaptureFull keeps titles, the beginnings of prompts and answers, what tools are called with, and prompts and answers as
	// a whole.
	CaptureFull Capture = "full"
	// CaptureTitles keeps titles. Messages say what happens, such as which tool is called, and hold no word of people, agents or
	// calls.
	CaptureTitles Capture = "titles"
	// CaptureNone is as CaptureTitles, without titles.
	CaptureNone Capture = "none"
)

// Captures are all of them.
var Captures = []Capture{CaptureFull, CaptureTitles, CaptureNone}

// UnmarshalText implements encoding.TextUnmarshaler.
func (c *Capture) UnmarshalText(text []byte) error {
	value := Capture(strings.ToLower(string(text)))
	if !slices.Contains(Captures, value) {
		return errors.New("no such extent")
	}
	*c = value
	return nil
}

// Options are what a report says beside what the event does. What is empty is taken from the event.
type Options struct {
	Event      string // the name of the event, for clients that do not say it
	AgentID    string
	AgentName  string
	AgentHost  string // the machine that the agent runs on
	TTLMinutes int
	Capture    Capture
	Now        time.Time // the server's time
}

// meaning of an event: what it does to its session, and what there is to say. Each table of a client names, for every event that
// starts a state, the events that end it, and in which states of the session an event's status counts.
type meaning struct {
	status     models.Status
	counts     models.States // the states of the session in which the status is entered, or the question opened
	silent     bool          // where it does not count, nothing happens; else the session is renewed
	interrupts bool          // a session that is at work was interrupted, whatever it is at now
	says       func(e *event) text

	asks    models.QuestionKind // the event asks a question of this kind
	hints   bool                // it says only that something is asked
	binds   bool                // what it asks is about the call that started last
	stage   models.CallStage
	closes  models.Closes
	outcome func(e *event) models.QuestionOutcome // of what it closes
	adapt   func(e *event, m meaning) meaning     // to what else the event says; nil for no need
	about   func(e *event) about                  // which call or request it is about; nil for what most events say of it
}

// about is which call or request an event is about, by what is the same for all events about it; "" where the event does not say.
type about struct {
	call  string // its ID
	same  string // for calls with the same tool and input
	group string // for a question and the results that close it; same, unless it says otherwise
}

// text is what an event says.
type text struct {
	label   string // what happens; holds nothing private
	detail  string // with whom or what, in one line
	content string // all of it
	named   bool   // the detail does not speak for itself: the label stands before it
	after   string // what follows the detail in any case; holds nothing private
}

// Effect is what became of an event that is a report.
type Effect int

const (
	// Reports means that it tells a status, or opens or closes a question.
	Reports Effect = iota
	// Renews means that it changes nothing, but shows that its session goes on.
	Renews
	// Unknown is Renews for an event of which nothing is known.
	Unknown
	// Nothing means that it is of no session: there is nothing to report.
	Nothing
)

// Effects names all of them, for metrics.
var Effects = []string{"reports", "renews", "unknown", "nothing"}

// Report reads an event, a JSON object, to the end of body and makes a report of it. Memory does not grow with the event. Where the
// effect is Nothing, there is no report. The report is valid, whatever the body holds. The error is one of body, or a *models.Error
// that says that this is no JSON object, or lacks the ID of a session.
func (c *Client) Report(body io.Reader, o Options) (r models.StatusReport, effect Effect, err error) {
	e := events.Get().(*event)
	defer func() {
		*e = event{}
		events.Put(e)
	}()
	if err := e.decode(body, c.fields); err != nil {
		return r, Nothing, err
	}
	return c.report(e, o)
}

// events holds events for those that come next: one is larger than what is reported of it.
var events = sync.Pool{New: func() any { return new(event) }}

// report makes a report of an event.
func (c *Client) report(e *event, o Options) (r models.StatusReport, effect Effect, err error) {
	if e[fieldEvent] == "" {
		e[fieldEvent] = o.Event
	}
	m, known := c.meaningOf(e)
	effect = m.effect(known)
	topic := name(e.first(fieldSession, fieldSession2, fieldSession3), models.MaxSessionTopic)
	if topic == "" {
		if effect != Reports {
			return r, Nothing, nil
		}
		return r, Nothing, models.BadRequest("", "the event has no session ID: "+c.fields.names(fieldSession)+" is missing")
	}
	r = models.StatusReport{
		AgentSource:  c.Name,
		AgentHost:    given(o.AgentHost, models.MaxAgentHost),
		SessionTopic: topic,
		Status:       m.status,
		Timestamp:    e.timestamp(o.Now),
		TTLMinutes:   o.TTLMinutes,
		Event:        c.event(&m, e),
	}
	c.nameAgent(&r, e, o)
	m.say(&r, e, o.Capture)
	return r, effect, nil
}

// effect returns what becomes of an event with this meaning.
func (m *meaning) effect(known bool) Effect {
	switch {
	case !known:
		return Unknown
	case m.status == 0 && m.asks == 0 && m.closes == models.ClosesNone:
		return Renews
	}
	return Reports
}

// nameAgent says of which agent a report is: what the settings of its tool say, or else that of the session, which the first event
// named by the tool, the folder that it works in, and the machine.
func (c *Client) nameAgent(r *models.StatusReport, e *event, o Options) {
	folder := name(lastFolder(e.first(fieldFolder, fieldFolder2)), models.MaxAgentName)
	r.AgentID, r.AgentName = given(o.AgentID, models.MaxAgentID), given(o.AgentName, models.MaxAgentName)
	if r.AgentName == "" {
		r.AgentName, r.Event.FirstName = folder, true
	}
	if r.AgentID == "" {
		r.AgentID, r.Event.Find, r.Event.Orphan = c.agentID(folder, r.AgentHost), !c.shared, c.orphan
	}
}

// maxHostInID is how many characters of a host an agent's ID holds.
const maxHostInID = 50

// agentID returns the ID of an agent that nobody named: <client>:<folder>@<host>, without what is not known.
func (c *Client) agentID(folder, host string) string {
	at := ""
	if host != "" {
		at = "@" + cut(host, maxHostInID, false)
	}
	id := strings.TrimSuffix(c.Name+":"+folder, ":")
	return models.WithoutInvisible(cut(id, models.MaxAgentID-utf8.RuneCountInString(at), false) + at) // what is cut may end with a joiner
}

// unexpanded is a variable that a tool was to expand, and did not: $X, ${X}, $(command), %X% or $env:X.
var unexpanded = regexp.MustCompile(`^(\$(env:)?[A-Za-z_][A-Za-z0-9_]*|\$\{[^}]*\}|\$\([^)]*\)|%[A-Za-z_][A-Za-z0-9_]*%)$`)

// given returns what the settings of a tool say as an ID or a name, "" where that is nothing, or a variable that nobody expanded.
func given(value string, limit int) string {
	if value = name(value, limit); unexpanded.MatchString(value) {
		return ""
	}
	return value
}

// event returns what an event with this meaning does to its session.
func (c *Client) event(m *meaning, e *event) *models.Event {
	ev := &models.Event{
		Name:     line(e[fieldEvent], 100),
		Counts:   m.counts,
		Silent:   m.silent,
		Subagent: name(e[fieldSubagent], models.MaxAgentID),
		Stage:    m.stage,
		Hints:    m.hints,
		Binds:    m.binds,
		Closes:   m.closes,
	}
	if m.interrupts {
		ev.Interrupts = "Interrupted"
	}
	if m.outcome != nil {
		ev.Outcome = m.outcome(e)
	}
	if going := e.all(fieldBackgroundID); m.closes == models.ClosesAll && len(going) > 0 {
		ev.Going = going
	}
	c.identify(m, ev, e)
	return ev
}

// identify says which call the event is about, where that matters.
func (c *Client) identify(m *meaning, ev *models.Event, e *event) {
	if m.stage == 0 && m.asks == 0 && m.closes == models.ClosesNone {
		return
	}
	which := ownCall
	switch {
	case m.about != nil:
		which = m.about
	case c.call != nil:
		which = c.call
	}
	a := which(e)
	ev.Call = hash(a.call)
	ev.Same = hash(a.same, ev.Subagent)
	if ev.Group = ev.Same; a.group != "" {
		ev.Group = hash(a.group, ev.Subagent)
	}
}

// ownCall is about the tool call that the event names: by its ID, and by its tool and input.
func ownCall(e *event) about {
	a := about{call: e[fieldCall]}
	if e[fieldTool] != "" {
		a.same = e[fieldTool] + "\x00" + e.input()
	}
	return a
}

// commandCall is about the tool call that the event names, a command by itself: what is asked about one may be told without the rest of
// the input.
func commandCall(e *event) about {
	a := ownCall(e)
	if e[fieldCommand] != "" {
		a.same = "command\x00" + e[fieldCommand]
	}
	return a
}

// hash returns a hash of s, and of what else there is, that is never 0, or 0 where s is "".
func hash(s string, more ...string) uint64 {
	if s == "" {
		return 0
	}
	var digest xxhash.Digest
	digest.Reset()
	digest.WriteString(s) //nolint:errcheck // it never fails
	for _, part := range more {
		digest.WriteString("\x00") //nolint:errcheck // see above
		digest.WriteString(part)   //nolint:errcheck // see above
	}
	return max(1, digest.Sum64())
}

// say has a report say what its event does, as far as it is to be kept.
func (m *meaning) say(r *models.StatusReport, e *event, capture Capture) {
	var said text
	if m.says != nil {
		said = m.says(e)
		r.Message = said.message(capture)
		if capture == CaptureFull {
			r.Content = content(said.content, maxContent)
		}
	}
	if m.asks != 0 {
		r.Event.Asks = m.question(r, e, said, capture)
	}
	if capture == CaptureNone {
		return
	}
	r.SessionTitle = title(e[fieldTitle])
	if r.SessionTitle == "" && r.Event.Subagent == "" { // the first prompt of a person that the server hears of gives it
		if typed, injected := promptOf(e[fieldPrompt]); !injected {
			r.SessionTitle = title(typed)
			r.Event.FirstTitle = r.SessionTitle != ""
		}
	}
}

// question returns what an event asks.
func (m *meaning) question(r *models.StatusReport, e *event, said text, capture Capture) *models.Question {
	q := &models.Question{Kind: m.asks, Text: r.Message, AskedBy: r.Event.Subagent, RequestedAs: r.Event.Name}
	if capture != CaptureFull {
		return q
	}
	q.Content, q.ContentCut = cutBytes(content(cmp.Or(said.content, said.detail), math.MaxInt), models.MaxQuestionContent)
	if len(e.all(fieldHeader)) > 1 { // the content says which choices are of which question
		return q
	}
	for _, choice := range e.all(fieldChoice) {
		if choice = line(choice, models.MaxChoice); choice != "" && len(q.Choices) < models.MaxChoices {
			q.Choices = append(q.Choices, choice)
		}
	}
	return q
}

// meaningOf returns what an event means. One that is not known renews its session.
func (c *Client) meaningOf(e *event) (m meaning, known bool) {
	name := e[fieldEvent]
	if c.name != nil {
		name = c.name(e)
	}
	m, known = c.events[name]
	for _, f := range c.detail[name] {
		if special, ok := c.events[name+"/"+e[f]]; ok {
			m, known = special, true
			break
		}
	}
	if !known {
		return renews, false
	}
	if m.adapt != nil {
		m = m.adapt(e, m)
	}
	if e[fieldSubagent] != "" {
		return m.ofSubagent(), true
	}
	return m, true
}

// ofSubagent returns what an event means that is of a subagent: it renews its parent's session, and opens and closes questions in
// it. Where the session is not known, its parent is at work.
func (m meaning) ofSubagent() meaning {
	if m.status != models.Running || m.counts&models.Unknown == 0 {
		m.status = 0
	}
	if m.asks == 0 {
		m.counts &= models.Unknown
	}
	m.interrupts = false
	if m.closes == models.ClosesAll {
		m.closes = models.ClosesAsker
	}
	return m
}

// message returns what is shown of a text.
func (t text) message(capture Capture) string {
	limit := models.MaxMessage - utf8.RuneCountInString(t.after)
	detail := line(t.detail, limit)
	switch {
	case capture != CaptureFull || detail == "":
		detail = line(t.label, limit)
	case t.named:
		detail = line(t.label+": "+detail, limit)
	}
	return detail + t.after
}

// What events say.

// fixed says the same always.
func fixed(label string) func(*event) text {
	return func(*event) text { return text{label: label} }
}

// says says what one field holds, or, where private things are not to be kept, the label.
func says(label string, f field) func(*event) text {
	return func(e *event) text { return text{label: label, detail: e[f], content: e[f]} }
}

// because says why something happened, which is one of a client's own words.
func because(label string, f field) func(*event) text {
	return func(e *event) text {
		if reason := line(e[f], 100); reason != "" {
			return text{label: label + ": " + reason}
		}
		return text{label: label}
	}
}

// tool says what a tool does: its name and what it is called with.
func tool(e *event) text { return toolNamed(e[fieldTool])(e) }

func toolNamed(label string) func(*event) text {
	return func(e *event) text {
		return text{label: cmp.Or(line(label, 100), "Tool"), named: true, detail: patched(e.first(fieldQuestion, fieldCommand, fieldPath, fieldPattern,
			fieldQuery, fieldURL, fieldDescription, fieldToolPrompt))}
	}
}

// patched returns which file a patch of Codex's apply_patch begins with, and anything else as it is.
func patched(command string) string {
	for line := range strings.Lines(command) {
		for _, verb := range []string{"*** Update File: ", "*** Add File: ", "*** Delete File: "} {
			if path, ok := strings.CutPrefix(line, verb); ok {
				return path
			}
		}
		if !strings.HasPrefix(line, "***") {
			break
		}
	}
	return command
}

// question says what an agent asks of whoever it works for.
func question(label string) func(*event) text {
	return func(e *event) text {
		asked := e.first(fieldPlan, fieldQuestion, fieldMessage)
		all := asked
		if e[fieldPlan] == "" && e[fieldInput] != "" {
			all = e[fieldInput]
		}
		return text{label: label, detail: strings.TrimLeft(asked, "# "), content: all}
	}
}

// permission says what may be done only if somebody allows it.
func permission(e *event) text {
	t := tool(e)
	t.content = cmp.Or(e[fieldInput], t.detail)
	return t
}

// failure says what went wrong: its kind, which is one of the client's own words, and more.
func failure(e *event) text {
	kind := cmp.Or(line(e[fieldErrorKind], 100), "Error")
	more := e.first(fieldError, fieldAnswer)
	if strings.Contains(e[fieldAnswer], "reset") { // it says when a limit does
		more = e[fieldAnswer]
	}
	return text{label: kind, named: e[fieldErrorKind] != "", detail: more, content: more}
}

// prompted says what a prompt says, in words.
func prompted(e *event) text {
	said, _ := promptOf(e[fieldPrompt])
	return text{label: "Prompt", detail: said, content: said}
}

// done says what an agent answered at the end of its turn, and how much it left at work.
func done(e *event) text {
	t := text{label: "Done", detail: e[fieldAnswer], content: e[fieldAnswer]}
	switch n := e.running(); {
	case n == 1:
		t.after = " · 1 background task still running"
	case n > 1:
		t.after = fmt.Sprintf(" · %d background tasks still running", n)
	}
	return t
}

// What most clients' events mean. Where a state starts, the comment says what ends it.
var (
	renews = meaning{}

	// A session begins at an empty prompt, and has nothing to do until there is one.
	begins = meaning{status: models.Idle, counts: models.Unknown, says: fixed("Session started")}
	// A process starts: what an earlier one of the session was at work on came to no end.
	starts = meaning{status: models.Idle, counts: models.Unknown, says: fixed("Session started"), interrupts: true, closes: models.ClosesAll, outcome: always(models.Withdrawn)}

	// A turn starts; answers, fails, ends, starts or the tool's own interruption ends it.
	prompts = meaning{status: models.Running, counts: models.Anywhere, says: prompted, closes: models.ClosesAll, outcome: always(models.Withdrawn), adapt: prompt}
	// A tool call starts; called or the end of the turn ends it. Some tools tell of no prompts: a call starts a turn, too.
	calls = meaning{status: models.Running, counts: models.Anywhere, says: tool, stage: models.CallStarts}
	// A tool call ended, as the answer to the question whether it may be made. It may come late: it starts no turn.
	called = meaning{status: models.Running, counts: models.AtWork | models.AtPrompt | models.Unknown, says: tool, stage: models.CallEnds, closes: models.ClosesOwn, outcome: always(models.Answered)}
	// Something happens in a turn that is no call. It starts no turn either.
	works = meaning{status: models.Running, counts: models.AtWork | models.AtPrompt | models.Unknown, says: tool}

	// A question is open from here on, whatever the session was at; what closes it is at [models.Closes].
	asks    = meaning{status: models.Running, counts: models.Anywhere, asks: models.Permission, says: permission}
	chooses = meaning{status: models.Running, counts: models.Anywhere, asks: models.Choice, says: question("Question"), stage: models.CallStarts}
	plans   = meaning{status: models.Running, counts: models.Anywhere, asks: models.Plan, says: question("Plan to approve"), stage: models.CallStarts}
	// Somebody is told that a question is open, of which there may be nothing else.
	hints = meaning{status: models.Running, counts: models.Anywhere, asks: models.Permission, hints: true, binds: true, says: says("Permission needed", fieldMessage)}

	// A turn ended.
	answers     = meaning{status: models.Success, counts: models.Anywhere, says: done, closes: models.ClosesAll, outcome: always(models.Withdrawn)}
	fails       = meaning{status: models.Failed, counts: models.AtWork | models.AtPrompt | models.Unknown, says: failure, closes: models.ClosesAll, outcome: always(models.Withdrawn)}
	interrupted = meaning{status: models.Failed, counts: models.AtWork, says: fixed("Interrupted"), closes: models.ClosesAll, outcome: always(models.Withdrawn)}
	// The session ended: a turn that is still under way failed.
	ends = meaning{status: models.Failed, counts: models.AtWork, silent: true, says: because("Session ended", fieldReason), closes: models.ClosesAll, outcome: always(models.Withdrawn)}
	// A subagent ended, and nobody needs to answer it any more.
	subagentEnds = meaning{closes: models.ClosesAsker, outcome: always(models.Withdrawn)}
)

// always returns the same outcome for every event.
func always(o models.QuestionOutcome) func(*event) models.QuestionOutcome {
	return func(*event) models.QuestionOutcome { return o }
}

// known returns m for sessions that are known: it begins none.
func (m meaning) known() meaning {
	m.counts &^= models.Unknown
	return m
}

// with returns m with another status, in the states of m.
func (m meaning) with(status models.Status, says func(*event) text) meaning {
	m.status, m.says = status, says
	return m
}

// prompt adapts what a prompt means: one without a text replaces nothing in the middle of a turn, and one that the tool made itself
// closes no question of a subagent.
func prompt(e *event, m meaning) meaning {
	said, injected := promptOf(e[fieldPrompt])
	switch {
	case said == "":
		m.counts, m.closes = models.Unknown|models.Finished|models.AtPrompt, models.ClosesNone
	case injected:
		m.closes = models.ClosesAsker
	}
	return m
}

// with returns a table with all entries of several; where they meet, the last one counts.
func with[V any](tables ...map[string]V) map[string]V {
	all := map[string]V{}
	for _, table := range tables {
		maps.Copy(all, table)
	}
	return all
}

// lastFolder returns the last folder of a path of any system.
func lastFolder(path string) string {
	parts := strings.FieldsFunc(path, func(r rune) bool { return r == '/' || r == '\\' })
	if len(parts) == 0 {
		return ""
	}
	return parts[len(parts)-1]
}

// first returns the first field, of several, that is not blank.
func (e *event) first(fields ...field) string {
	if i := slices.IndexFunc(fields, func(f field) bool { return strings.TrimSpace(e[f]) != "" }); i >= 0 {
		return e[fields[i]]
	}
	return ""
}
