// Package adapters turns the events that agents' tools post, each in its own format, into status reports.
//
// Each tool is one file with two tables: where to find each field in its JSON, and what each of its events means. The
// rest is common to all tools.
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

// Client is a tool that agents run in, or a protocol that they use, whose events are supported. It is immutable.
type Client struct {
	Name   string // in URLs, and as the source of its agents
	fields *node
	name   func(e *event) string // returns the key of an event in events, and removes misleading fields; nil for fieldEvent
	detail map[string][]field    // by event name, the fields that distinguish its variants; the first that is a key of events counts
	events map[string]meaning    // by name, or by name, a slash and the detail, which takes precedence
	call   func(e *event) about  // which tool call an event is about; nil for ownCall
	shared bool                  // its session IDs are not unique by themselves
	orphan bool                  // a session with only tool events belongs to a subagent, whose parent the events do not name
}

// clients are all supported clients, in the order in which they are listed.
var clients = []*Client{claudeCode, codex, geminiCLI, cursor, copilot, openCode, a2a}

// Named returns the client with this name, nil if there is none.
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

// Knows reports whether the client's table has an event of this name. A server accepts others as well: they renew their
// session.
func (c *Client) Knows(name string) bool {
	_, known := c.meaningOf(&event{fieldEvent: name})
	return known
}

// Capture is how much is kept of what people type and agents answer, which may be private.
type Capture string

const (
	// CaptureFull keeps titles, prompts, answers, and the input of tool calls.
	CaptureFull Capture = "full"
	// CaptureTitles keeps titles. Messages say what happens, such as which tool is called, but contain no text of
	// people, agents or calls.
	CaptureTitles Capture = "titles"
	// CaptureNone is like CaptureTitles, without titles.
	CaptureNone Capture = "none"
)

// Captures are all values of Capture.
var Captures = []Capture{CaptureFull, CaptureTitles, CaptureNone}

// UnmarshalText implements encoding.TextUnmarshaler.
func (c *Capture) UnmarshalText(text []byte) error {
	value := Capture(strings.ToLower(string(text)))
	if !slices.Contains(Captures, value) {
		return errors.New("unknown capture level")
	}
	*c = value
	return nil
}

// Options supply parts of a report that are not in the event. An empty option is taken from the event.
type Options struct {
	Event      string // the name of the event, for clients whose events do not contain it
	AgentID    string
	AgentName  string
	AgentHost  string // the machine that the agent runs on
	TTLMinutes int
	Capture    Capture
	Now        time.Time // the server's time
}

// meaning of an event: what it does to its session, and its text. The table of a client names, for every event that
// starts a state, the events that end it, and in which states of the session an event's status counts.
type meaning struct {
	status     models.Status
	counts     models.States // the session states in which the event sets the status, or opens the question
	silent     bool          // if it does not count, the session is not even renewed
	interrupts bool          // if the session was at work, it was interrupted, whatever its new status
	describe   func(e *event) text

	asks    models.QuestionKind // the event asks a question of this kind
	hints   bool                // the event only says that something is asked
	binds   bool                // its question is about the call that started last
	stage   models.CallStage
	closes  models.Closes
	outcome func(e *event) models.QuestionOutcome // of the questions that it closes
	adapt   func(e *event, m meaning) meaning     // adjusts the meaning to other fields of the event; may be nil
	about   func(e *event) about                  // which call or request the event is about; nil for the client's default
}

// about identifies the call or request that an event is about. Each field is the same for all events about it, and ""
// if unknown.
type about struct {
	call  string // the ID of the call or request
	same  string // the same for calls with the same tool and input
	group string // the same for a question and the results that close it; "" for the value of same
}

// text describes an event.
type text struct {
	label   string // what happens; contains nothing private
	detail  string // with whom or what, in one line
	content string // the full text
	named   bool   // the label is put before the detail, which is unclear without it
	after   string // always appended; contains nothing private
}

// Effect is what an event does.
type Effect int

const (
	// Reports means that the event sets a status, or opens or closes a question.
	Reports Effect = iota
	// Renews means that the event changes nothing, but shows that its session is still active.
	Renews
	// Unknown is like Renews, for an unknown event.
	Unknown
	// Ignored means that the event belongs to no session, so there is nothing to report.
	Ignored
)

// EffectNames are the names of the effects, for metrics.
var EffectNames = []string{"reports", "renews", "unknown", "nothing"}

// Report reads an event, a JSON object, from body until EOF and turns it into a report. The memory it uses does not
// depend on the size of the event. If the effect is Ignored, there is no report. Otherwise the report is valid,
// whatever the body contains. The error is one of body, or a *models.Error if the event is not a JSON object or lacks a
// session ID.
func (c *Client) Report(body io.Reader, o Options) (r models.StatusReport, effect Effect, err error) {
	e := events.Get().(*event)
	defer func() {
		*e = event{}
		events.Put(e)
	}()
	if err := e.decode(body, c.fields); err != nil {
		return r, Ignored, err
	}
	return c.report(e, o)
}

// events pools events, which are larger than their reports.
var events = sync.Pool{New: func() any { return new(event) }}

// report turns an event into a report.
func (c *Client) report(e *event, o Options) (r models.StatusReport, effect Effect, err error) {
	if e[fieldEvent] == "" {
		e[fieldEvent] = o.Event
	}
	m, known := c.meaningOf(e)
	effect = m.effect(known)
	topic := name(e.first(fieldSession, fieldSession2, fieldSession3), models.MaxSessionTopic)
	if topic == "" {
		if effect != Reports {
			return r, Ignored, nil
		}
		return r, Ignored, models.BadRequest("", "the event has no session ID: "+c.fields.names(fieldSession)+" is missing")
	}
	r = models.StatusReport{
		AgentSource:  c.Name,
		AgentHost:    configured(o.AgentHost, models.MaxAgentHost),
		SessionTopic: topic,
		Status:       m.status,
		Timestamp:    e.timestamp(o.Now),
		TTLMinutes:   o.TTLMinutes,
		Event:        c.event(&m, e),
	}
	c.nameAgent(&r, e, o)
	m.addText(&r, e, o.Capture)
	return r, effect, nil
}

// effect returns the effect of an event with this meaning.
func (m *meaning) effect(known bool) Effect {
	switch {
	case !known:
		return Unknown
	case m.status == 0 && m.asks == 0 && m.closes == models.ClosesNone:
		return Renews
	}
	return Reports
}

// nameAgent sets the agent of a report. It is the one that the settings of the tool name. Otherwise it is the agent of
// the session, which the session's first event named after the tool, its working directory and the machine.
func (c *Client) nameAgent(r *models.StatusReport, e *event, o Options) {
	folder := name(lastFolder(e.first(fieldFolder, fieldFolder2)), models.MaxAgentName)
	r.AgentID, r.AgentName = configured(o.AgentID, models.MaxAgentID), configured(o.AgentName, models.MaxAgentName)
	if r.AgentName == "" {
		r.AgentName, r.Event.FirstName = folder, true
	}
	if r.AgentID == "" {
		r.AgentID, r.Event.FindByToolID, r.Event.FallBackToRunning = c.agentID(folder, r.AgentHost), !c.shared, c.orphan
	}
}

// maxHostInID is how many characters of the host an agent's ID contains at most.
const maxHostInID = 50

// agentID returns the ID of an agent that the settings do not name: <client>:<folder>@<host>, without the parts that
// are unknown.
func (c *Client) agentID(folder, host string) string {
	at := ""
	if host != "" {
		at = "@" + cut(host, maxHostInID, false)
	}
	id := strings.TrimSuffix(c.Name+":"+folder, ":")
	return models.WithoutInvisible(cut(id, models.MaxAgentID-utf8.RuneCountInString(at), false) + at) // a cut text may end with a joiner
}

// unexpanded matches a variable that a tool should have expanded, but did not: $X, ${X}, $(command), %X% or $env:X.
var unexpanded = regexp.MustCompile(`^(\$(env:)?[A-Za-z_][A-Za-z0-9_]*|\$\{[^}]*\}|\$\([^)]*\)|%[A-Za-z_][A-Za-z0-9_]*%)$`)

// configured returns a value from the settings of a tool as an ID or a name, "" if it is empty or an unexpanded
// variable.
func configured(value string, limit int) string {
	if value = name(value, limit); unexpanded.MatchString(value) {
		return ""
	}
	return value
}

// event returns what an event with this meaning does to its session.
func (c *Client) event(m *meaning, e *event) *models.Event {
	ev := &models.Event{
		Name:            line(e[fieldEvent], 100),
		AppliesIn:       m.counts,
		IgnoreOtherwise: m.silent,
		Subagent:        name(e[fieldSubagent], models.MaxAgentID),
		Stage:           m.stage,
		HintOnly:        m.hints,
		AboutLastCall:   m.binds,
		Closes:          m.closes,
	}
	if m.interrupts {
		ev.InterruptMessage = "Interrupted"
	}
	if m.outcome != nil {
		ev.Outcome = m.outcome(e)
	}
	if going := e.all(fieldBackgroundID); m.closes == models.ClosesAll && len(going) > 0 {
		ev.RunningSubagents = going
	}
	c.identify(m, ev, e)
	return ev
}

// identify sets which call the event is about, if that matters.
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
	ev.CallIDHash = hash(a.call)
	ev.InputHash = hash(a.same, ev.Subagent)
	if ev.ResultHash = ev.InputHash; a.group != "" {
		ev.ResultHash = hash(a.group, ev.Subagent)
	}
}

// ownCall identifies the tool call in the event, by its ID and by its tool and input.
func ownCall(e *event) about {
	a := about{call: e[fieldCall]}
	if e[fieldTool] != "" {
		a.same = e[fieldTool] + "\x00" + e.input()
	}
	return a
}

// commandCall is like ownCall, but identifies a call of a command by the command alone: a question about it may not
// contain the rest of the input.
func commandCall(e *event) about {
	a := ownCall(e)
	if e[fieldCommand] != "" {
		a.same = "command\x00" + e[fieldCommand]
	}
	return a
}

// hash returns a hash of s and more that is never 0, or 0 if s is "".
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

// addText sets the message, content, question and title of a report, as far as capture allows.
func (m *meaning) addText(r *models.StatusReport, e *event, capture Capture) {
	var t text
	if m.describe != nil {
		t = m.describe(e)
		r.Message = t.message(capture)
		if capture == CaptureFull {
			r.Content = content(t.content, maxContent)
		}
	}
	if m.asks != 0 {
		r.Event.Question = m.question(r, e, t, capture)
	}
	if capture == CaptureNone {
		return
	}
	r.SessionTitle = title(e[fieldTitle])
	if r.SessionTitle == "" && r.Event.Subagent == "" { // the first prompt from a person becomes the title
		if typed, injected := promptOf(e[fieldPrompt]); !injected {
			r.SessionTitle = title(typed)
			r.Event.FirstTitle = r.SessionTitle != ""
		}
	}
}

// question returns the question that an event asks.
func (m *meaning) question(r *models.StatusReport, e *event, t text, capture Capture) *models.Question {
	q := &models.Question{Kind: m.asks, Text: r.Message, AskedBy: r.Event.Subagent, RequestedAs: r.Event.Name}
	if capture != CaptureFull {
		return q
	}
	q.Content, q.ContentCut = cutBytes(content(cmp.Or(t.content, t.detail), math.MaxInt), models.MaxQuestionContent)
	if len(e.all(fieldHeader)) > 1 { // the content shows which choices belong to which question
		return q
	}
	for _, choice := range e.all(fieldChoice) {
		if choice = line(choice, models.MaxChoice); choice != "" && len(q.Choices) < models.MaxChoices {
			q.Choices = append(q.Choices, choice)
		}
	}
	return q
}

// meaningOf returns the meaning of an event. An unknown event renews its session.
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

// ofSubagent returns the meaning of a subagent's event: it renews the parent's session, and opens and closes questions
// in it. If the session is unknown, its parent is at work.
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

// message returns a text as the message of a status.
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

// The functions below describe events.

// fixed returns the same text for every event.
func fixed(label string) func(*event) text {
	return func(*event) text { return text{label: label} }
}

// fieldText returns the text of one field, with a label for when private text is not kept.
func fieldText(label string, f field) func(*event) text {
	return func(e *event) text { return text{label: label, detail: e[f], content: e[f]} }
}

// withReason appends the reason, which is one of the client's keywords and not private, to the label.
func withReason(label string, f field) func(*event) text {
	return func(e *event) text {
		if reason := line(e[f], 100); reason != "" {
			return text{label: label + ": " + reason}
		}
		return text{label: label}
	}
}

// toolText describes a tool call by the name of the tool and its input.
func toolText(e *event) text { return toolNamed(e[fieldTool])(e) }

func toolNamed(label string) func(*event) text {
	return func(e *event) text {
		return text{label: cmp.Or(line(label, 100), "Tool"), named: true, detail: patched(e.first(fieldQuestion, fieldCommand, fieldPath, fieldPattern,
			fieldQuery, fieldURL, fieldDescription, fieldToolPrompt))}
	}
}

// patched returns the first file in the input of Codex's apply_patch. It returns any other command unchanged.
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

// question describes a question that an agent asks its user.
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

// permission describes a call that needs a person's permission.
func permission(e *event) text {
	t := toolText(e)
	t.content = cmp.Or(e[fieldInput], t.detail)
	return t
}

// failure describes an error: its kind, which is one of the client's keywords and not private, and details.
func failure(e *event) text {
	kind := cmp.Or(line(e[fieldErrorKind], 100), "Error")
	more := e.first(fieldError, fieldAnswer)
	if strings.Contains(e[fieldAnswer], "reset") { // it says when a limit resets
		more = e[fieldAnswer]
	}
	return text{label: kind, named: e[fieldErrorKind] != "", detail: more, content: more}
}

// promptText describes a prompt by its text.
func promptText(e *event) text {
	prompt, _ := promptOf(e[fieldPrompt])
	return text{label: "Prompt", detail: prompt, content: prompt}
}

// doneText describes the end of a turn: the agent's answer, and the number of background tasks that are still running.
func doneText(e *event) text {
	t := text{label: "Done", detail: e[fieldAnswer], content: e[fieldAnswer]}
	switch n := e.running(); {
	case n == 1:
		t.after = " · 1 background task still running"
	case n > 1:
		t.after = fmt.Sprintf(" · %d background tasks still running", n)
	}
	return t
}

// The meanings that most clients' events have. If an event starts a state, the comment says what ends it.
var (
	renews = meaning{}

	// A session begins at an empty prompt, and is idle until the first prompt.
	begins = meaning{status: models.Idle, counts: models.Unknown, describe: fixed("Session started")}
	// A process starts: any turn of an earlier process of the session was interrupted.
	starts = meaning{status: models.Idle, counts: models.Unknown, describe: fixed("Session started"), interrupts: true, closes: models.ClosesAll, outcome: always(models.Withdrawn)}

	// A turn starts. It ends with answers, fails, ends, starts or the tool's own interruption event.
	prompts = meaning{status: models.Running, counts: models.Anywhere, describe: promptText, closes: models.ClosesAll, outcome: always(models.Withdrawn), adapt: prompt}
	// A tool call starts. It ends with called or with the turn. Some tools send no event for prompts, so a call starts
	// a turn as well.
	calls = meaning{status: models.Running, counts: models.Anywhere, describe: toolText, stage: models.CallStarts}
	// A tool call ended, which also answers the question whether it is allowed. The event may be late, so it starts no
	// turn.
	called = meaning{status: models.Running, counts: models.AtWork | models.AtPrompt | models.Unknown, describe: toolText, stage: models.CallEnds, closes: models.ClosesOwn, outcome: always(models.Answered)}
	// Something other than a call happens in a turn. It starts no turn either.
	works = meaning{status: models.Running, counts: models.AtWork | models.AtPrompt | models.Unknown, describe: toolText}

	// A question is opened, whatever the state of the session. See [models.Closes] for what closes it.
	asks    = meaning{status: models.Running, counts: models.Anywhere, asks: models.Permission, describe: permission}
	chooses = meaning{status: models.Running, counts: models.Anywhere, asks: models.Choice, describe: question("Question"), stage: models.CallStarts}
	plans   = meaning{status: models.Running, counts: models.Anywhere, asks: models.Plan, describe: question("Plan to approve"), stage: models.CallStarts}
	// A person is notified of an open question. There may be no other event about it.
	hints = meaning{status: models.Running, counts: models.Anywhere, asks: models.Permission, hints: true, binds: true, describe: fieldText("Permission needed", fieldMessage)}

	// A turn ended.
	answers     = meaning{status: models.Success, counts: models.Anywhere, describe: doneText, closes: models.ClosesAll, outcome: always(models.Withdrawn)}
	fails       = meaning{status: models.Failed, counts: models.AtWork | models.AtPrompt | models.Unknown, describe: failure, closes: models.ClosesAll, outcome: always(models.Withdrawn)}
	interrupted = meaning{status: models.Failed, counts: models.AtWork, describe: fixed("Interrupted"), closes: models.ClosesAll, outcome: always(models.Withdrawn)}
	// The session ended: a turn that is still in progress failed.
	ends = meaning{status: models.Failed, counts: models.AtWork, silent: true, describe: withReason("Session ended", fieldReason), closes: models.ClosesAll, outcome: always(models.Withdrawn)}
	// A subagent ended, so its questions need no answer any more.
	subagentEnds = meaning{closes: models.ClosesAsker, outcome: always(models.Withdrawn)}
)

// always returns the same outcome for every event.
func always(o models.QuestionOutcome) func(*event) models.QuestionOutcome {
	return func(*event) models.QuestionOutcome { return o }
}

// known returns m for known sessions only, so that the event does not start one.
func (m meaning) known() meaning {
	m.counts &^= models.Unknown
	return m
}

// with returns m with another status and text.
func (m meaning) with(status models.Status, describe func(*event) text) meaning {
	m.status, m.describe = status, describe
	return m
}

// prompt adapts the meaning of a prompt. A prompt without text replaces nothing in the middle of a turn. A prompt that
// the tool generated does not close a subagent's questions.
func prompt(e *event, m meaning) meaning {
	prompt, injected := promptOf(e[fieldPrompt])
	switch {
	case prompt == "":
		m.counts, m.closes = models.Unknown|models.Finished|models.AtPrompt, models.ClosesNone
	case injected:
		m.closes = models.ClosesAsker
	}
	return m
}

// with merges tables. If several have an entry, the last one counts.
func with[V any](tables ...map[string]V) map[string]V {
	all := map[string]V{}
	for _, table := range tables {
		maps.Copy(all, table)
	}
	return all
}

// lastFolder returns the last folder of a path, for any operating system.
func lastFolder(path string) string {
	parts := strings.FieldsFunc(path, func(r rune) bool { return r == '/' || r == '\\' })
	if len(parts) == 0 {
		return ""
	}
	return parts[len(parts)-1]
}

// first returns the first of fields that is not blank.
func (e *event) first(fields ...field) string {
	if i := slices.IndexFunc(fields, func(f field) bool { return strings.TrimSpace(e[f]) != "" }); i >= 0 {
		return e[fields[i]]
	}
	return ""
}
