package command

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"github.com/mattn/go-runewidth"

	"github.com/kubeagents/kubeagents/models"
)

// jsonWriter writes a fleet as a line of JSON.
type jsonWriter struct {
	out *json.Encoder
	err io.Writer
}

func (w jsonWriter) write(f fleet) error       { return w.out.Encode(f) }
func (w jsonWriter) trouble(cause error) error { return writeTrouble(w.err, cause) }

// lineWriter writes the counts of a fleet as a short line.
type lineWriter struct{ out, err io.Writer }

func (w lineWriter) write(f fleet) error {
	_, err := fmt.Fprintln(w.out, counts(f.Summary))
	return err
}

func (w lineWriter) trouble(cause error) error { return writeTrouble(w.err, cause) }

func writeTrouble(w io.Writer, cause error) error {
	_, err := fmt.Fprintf(w, "kubeagents: status: %s\n", printable(cause.Error()))
	return err
}

// counts says how many sessions there are of each kind that is shown.
func counts(of models.Summary) string {
	var parts []string
	for _, part := range []struct {
		n    int
		what string
	}{{of.Needs.Waiting, "waiting"}, {of.Needs.Lost, "lost"}, {of.Needs.Failed, "failed"}, {of.Sessions.ByStatus.Running, "running"}} {
		if part.n > 0 {
			parts = append(parts, fmt.Sprint(part.n, " ", part.what))
		}
	}
	if len(parts) == 0 {
		return "nothing running"
	}
	return strings.Join(parts, ", ")
}

// overview writes a fleet for people: a list of each kind of sessions.
type overview struct {
	out, err io.Writer
	watched  bool
	colours  bool
	size     func() (width, height int) // of the terminal, in columns and rows; nil for no terminal
	now      func() time.Time
}

// The attributes of text on a terminal: ECMA-48, section 8.3.117.
const (
	plain  = "\x1b[0m"
	bold   = "\x1b[1m"
	dim    = "\x1b[2m"
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
)

// Sequences that redraw a terminal from its top, and clear what is left of a line and of the screen.
const (
	toTop       = "\x1b[H"
	clearLine   = "\x1b[K"
	clearBelow  = "\x1b[J"
	clearScreen = "\x1b[2J"
)

func (o *overview) write(f fleet) error {
	var text bytes.Buffer
	o.list(&text, f)
	return o.show(text.String())
}

// trouble shows the cause in the place of the fleet, which may have changed meanwhile.
func (o *overview) trouble(cause error) error {
	if o.size == nil {
		return writeTrouble(o.err, cause)
	}
	return o.show(o.attribute(red, clean(cause.Error())) + "\n" + o.attribute(dim, "Trying again …") + "\n")
}

// show writes text; on a terminal that is watched, in the place of what was there.
func (o *overview) show(text string) error {
	if o.watched && o.size != nil {
		lines := strings.SplitAfter(text, "\n")
		if _, height := o.size(); height > 1 && len(lines) > height {
			lines = append(lines[:height-2], o.attribute(dim, "…")+"\n")
		}
		text = clearScreen + toTop + strings.ReplaceAll(strings.Join(lines, ""), "\n", clearLine+"\n") + clearBelow
	}
	_, err := io.WriteString(o.out, text)
	return err
}

func (o *overview) attribute(attribute, text string) string {
	if !o.colours {
		return text
	}
	return attribute + text + plain
}

func (o *overview) list(w *bytes.Buffer, f fleet) {
	needs := f.Summary.Needs
	kinds := []struct {
		title, colour string
		n             int
		sessions      []models.FleetSession
		since         func(models.FleetSession) time.Time
	}{
		{"waiting for you", yellow, needs.Waiting, f.Waiting, waitingSince},
		{"lost", red, needs.Lost, f.Lost, func(se models.FleetSession) time.Time { return se.ExpiredAt }},
		{"failed", red, needs.Failed, f.Failed, func(se models.FleetSession) time.Time { return se.StatusSince }},
		{"running", green, f.Summary.Sessions.ByStatus.Running, f.Running, func(se models.FleetSession) time.Time { return se.StatusSince }},
	}
	for _, kind := range kinds {
		if len(kind.sessions) == 0 {
			continue
		}
		if w.Len() > 0 {
			w.WriteByte('\n')
		}
		w.WriteString(o.attribute(bold+kind.colour, fmt.Sprint(kind.n, " ", kind.title)) + "\n")
		rows := make([]tableRow, len(kind.sessions))
		for i, se := range kind.sessions {
			rows[i] = tableRow{age(o.now().Sub(kind.since(se))), clean(nameOf(se)), clean(se.AgentSource), clean(detailOf(se))}
		}
		o.table(w, rows)
		if more := kind.n - len(kind.sessions); more > 0 {
			w.WriteString(o.attribute(dim, fmt.Sprintf("  … and %d more", more)) + "\n")
		}
	}
	if w.Len() == 0 {
		w.WriteString("No agent is running or waiting.\n")
	}
}

// tableRow is a session in a table. source is the tool that its agent runs in.
type tableRow struct{ age, name, source, detail string }

// The widths at which names and sources are cut, and the width of a terminal from which on there is room for sources, in
// columns.
const (
	maxName        = 32
	maxSource      = 12
	minWithSources = 80
)

// table writes rows, cut to the width of the terminal.
func (o *overview) table(w *bytes.Buffer, rows []tableRow) {
	width, names, sources := 0, 0, 0
	if o.size != nil {
		width, _ = o.size()
	}
	for _, row := range rows {
		names = max(names, min(maxName, runewidth.StringWidth(row.name)))
		if width == 0 || width >= minWithSources {
			sources = max(sources, min(maxSource, runewidth.StringWidth(row.source)))
		}
	}
	for _, row := range rows {
		columns := "  " + o.attribute(dim, runewidth.FillLeft(row.age, 4)) + "  " + cell(row.name, names) + "  "
		used := names + 10
		if sources > 0 {
			columns += o.attribute(dim, cell(row.source, sources)) + "  "
			used += sources + 2
		}
		detail := row.detail
		if width > 0 {
			detail = runewidth.Truncate(detail, max(0, width-used), "…")
		}
		w.WriteString(strings.TrimRight(columns+detail, " ") + "\n")
	}
}

// cell returns text with this width, in columns.
func cell(text string, width int) string {
	return runewidth.FillRight(runewidth.Truncate(text, width, "…"), width)
}

func waitingSince(se models.FleetSession) time.Time {
	if se.Question != nil {
		return se.Question.AskedAt
	}
	return se.StatusSince
}

func nameOf(se models.FleetSession) string {
	name := cmp.Or(se.AgentName, se.AgentID)
	if se.AgentHost != "" && se.AgentName != "" {
		name += "@" + se.AgentHost
	}
	return name
}

// detailOf says what a session asks or does, after its title.
func detailOf(se models.FleetSession) string {
	title, detail := cmp.Or(se.Title, se.Topic), se.CurrentMessage
	if se.Question != nil {
		detail = se.Question.Text
		if se.Question.Kind == models.Permission {
			detail = "asks for permission: " + detail
		}
	}
	if detail == "" || detail == title {
		return title
	}
	return title + ": " + detail
}

// age returns a duration in its largest unit, such as 5m.
func age(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", max(0, int(d.Seconds())))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// clean makes text that agents sent safe to print: no control characters, which a terminal would obey, and none that
// are invisible or change the order of text.
func clean(text string) string {
	return strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, models.WithoutInvisible(text))), " ")
}
