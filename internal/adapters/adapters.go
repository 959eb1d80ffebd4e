// Package adapters turns what agents' tools post of themselves, each in its own words, into status reports.
//
// A tool is one file with two tables: where its JSON has what, and what each of its events means. The rest is the same
// for all of them.
package adapters

import (
	"cmp"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/kubeagents/kubeagents/models"
)

// Client is a tool that agents run in, or a protocol that they speak, whose events are understood. It never changes.
type Client struct {
	Name   string // as it stands in an address, and as the source of its agents
	fields *node
	name   func(e *event) string // of an event, for its meaning, with what is not what it seems taken out; nil for its first field
	detail map[string]field      // what tells events of one name apart, by that name
	events map[string]meaning    // by name, and by name, a slash and the detail, which comes first
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
	TTLMinutes int
	Capture    Capture
	Now        time.Time // the server's time
}

// Meaning of an event: what it does to its session, and what there is to say.
type meaning struct {
	status models.Status
	effect models.Effect
	says   func(e *event) text
}

// text is what an event says.
type text struct {
	label   string // what happens; holds nothing private
	detail  string // with whom or what, in one line
	content string // all of it
	named   bool   // the detail does not speak for itself: the label stands before it
}

// Effect is what became of an event that is a report.
type Effect int

const (
	// Reports means that it tells a status.
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
	var e event
	if err := e.decode(body, c.fields); err != nil {
		return r, Nothing, err
	}
	if e[fieldEvent] == "" {
		e[fieldEvent] = o.Event
	}
	m, known := c.meaningOf(&e)
	effect = Reports
	switch {
	case !known:
		effect = Unknown
	case m.status == 0:
		effect = Renews
	}
	topic := name(e.first(fieldSession, fieldSession2, fieldSession3), models.MaxSessionTopic)
	if topic == "" {
		if effect != Reports {
			return r, Nothing, nil
		}
		return r, Nothing, models.BadRequest("", "the event has no ID of a session: "+c.fields.names(fieldSession)+" is missing")
	}

	folder := name(lastFolder(e.first(fieldFolder, fieldFolder2)), models.MaxAgentName)
	r = models.StatusReport{
		AgentID:      name(o.AgentID, models.MaxAgentID),
		AgentName:    cmp.Or(name(o.AgentName, models.MaxAgentName), folder),
		AgentSource:  c.Name,
		SessionTopic: topic,
		Status:       m.status,
		Timestamp:    e.timestamp(o.Now),
		TTLMinutes:   o.TTLMinutes,
		Effect:       m.effect,
	}
	if r.AgentID == "" {
		r.AgentID = name(strings.TrimSuffix(c.Name+":"+folder, ":"), models.MaxAgentID)
	}
	if m.says != nil {
		said := m.says(&e)
		r.Message = said.message(o.Capture)
		if o.Capture == CaptureFull {
			r.Content = content(said.content)
		}
	}
	if o.Capture != CaptureNone {
		r.SessionTitle = title(e[fieldTitle])
		if r.SessionTitle == "" { // the first prompt that the server hears of gives it
			r.SessionTitle = title(e[fieldPrompt])
			r.FirstTitle = r.SessionTitle != ""
		}
	}
	return r, effect, nil
}

// meaningOf returns what an event means. One that is not known renews its session.
func (c *Client) meaningOf(e *event) (m meaning, known bool) {
	name := e[fieldEvent]
	if c.name != nil {
		name = c.name(e)
	}
	m, known = c.events[name]
	if detail, ok := c.detail[name]; ok {
		if special, ok := c.events[name+"/"+e[detail]]; ok {
			m, known = special, true
		}
	}
	if !known || e[fieldSubagent] != "" && (m.status == models.Success || m.status == models.Failed) {
		return meaning{effect: models.Renews}, known // the end of a subagent is not that of its session
	}
	return m, known
}

// message returns what is shown of a text.
func (t text) message(capture Capture) string {
	detail := line(t.detail, models.MaxMessage)
	switch {
	case capture != CaptureFull || detail == "":
		return line(t.label, models.MaxMessage)
	case t.named:
		return line(t.label+": "+detail, models.MaxMessage)
	}
	return detail
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
		asked := e.first(fieldQuestion, fieldPlan, fieldMessage)
		return text{label: label, detail: asked, content: asked}
	}
}

// failure says what went wrong: its kind, which is one of the client's own words, and more.
func failure(e *event) text {
	kind := cmp.Or(line(e[fieldErrorKind], 100), "Error")
	more := e.first(fieldError, fieldAnswer)
	return text{label: kind, named: e[fieldErrorKind] != "", detail: more, content: more}
}

// What most clients' events mean.
var (
	starts   = meaning{models.Success, models.Renews, fixed("Session started")}
	prompts  = meaning{models.Running, models.Sets, says("Prompt", fieldPrompt)}
	works    = meaning{models.Running, models.Repeats, tool}
	asks     = meaning{models.Pending, models.Sets, tool}
	notifies = meaning{models.Pending, models.Alters, says("Permission needed", fieldMessage)}
	answers  = meaning{models.Success, models.Sets, says("Done", fieldAnswer)}
	fails    = meaning{models.Failed, models.Sets, failure}
	ends     = meaning{models.Failed, models.Ends, because("Session ended", fieldReason)}
	renews   = meaning{effect: models.Renews}
)

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
