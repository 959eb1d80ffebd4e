package notify

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/internal/nearest"
	"github.com/kubeagents/kubeagents/models"
)

// The bounds of what a rules file contains.
const (
	maxRules        = 100
	maxDestinations = 100
	maxListed       = 50 // texts in a list
	maxSteps        = 10 // of a rule, after the first one
	maxPerTime      = 1_000
)

// defaultLimit applies unless the file says otherwise.
var defaultLimit = Limit{Messages: 10, Per: time.Minute}

// DefaultSettle is how long a session must have waited before anybody is notified, unless a rule says otherwise: it
// often goes on soon, because somebody is there.
const DefaultSettle = 10 * time.Second

// name matches names of rules and destinations. They are shown in errors, in the log and in metrics. The usual tokens and
// secrets are longer.
var name = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,29}$`)

const allowedName = "1 to 30 letters, digits, hyphens, underscores or dots, beginning with a letter or a digit"

// keyName matches unknown keys that an error may repeat, because no secret looks like one.
var keyName = regexp.MustCompile(`^[a-z_]{1,20}$`)

// Parse parses a rules file. lookup returns what a reference stands for: an environment variable such as NTFY_TOKEN, or
// a file such as file:/run/secrets/ntfy. The error names the line of everything that is wrong and what is allowed. It
// repeats nothing from the file, or from what lookup returns, that could be a secret.
func Parse(file []byte, lookup func(reference string) (string, error)) (*Config, error) {
	document, err := parseYAML(file)
	if err != nil {
		return nil, err
	}
	p := fileParser{lookup: lookup, config: &Config{Destinations: map[string]*Destination{}}, ruleLines: map[string]int{}}
	if document.kind == nothing {
		return nil, errors.New("the file has no rules, so nobody would be notified")
	}
	top := p.fields(document, "the file", "destinations", "rules")
	p.require(top, "destinations", "rules")
	p.destinations(top)
	p.rules(top)
	if err := p.err(); err != nil {
		return nil, err
	}
	return p.config, nil
}

// fileParser turns the values in a rules file into a Config. It goes on after a fault, to find the other ones.
type fileParser struct {
	faults
	lookup    func(reference string) (string, error)
	config    *Config
	names     []string       // of the destinations, in the order of the file
	ruleLines map[string]int // lines of the rules' names
}

// fields are the values of a mapping, by key.
type fields struct {
	what   string // "a rule"
	line   int
	ok     bool // it is a mapping
	values map[string]value
}

// fields returns the values of a mapping that may have some keys.
func (p *fileParser) fields(v value, what string, keys ...string) fields {
	f := fields{what: what, line: v.line, ok: v.kind == mapping, values: map[string]value{}}
	if !f.ok {
		p.add(v.line, "%s must have the %s %s", what, either(len(keys), "key", "keys"), enumerate(keys, "and"))
	}
	for _, e := range v.entries {
		_, repeated := f.values[e.key]
		switch {
		case !slices.Contains(keys, e.key):
			p.unknownKey(e, what, keys)
		case repeated:
			p.add(e.line, "%s has %s twice", what, e.key)
		default:
			f.values[e.key] = e.value
		}
	}
	return f
}

func (p *fileParser) unknownKey(e entry, what string, keys []string) {
	key := shown(e.key, keyName)
	if likely, ok := nearest.To(e.key, keys); ok {
		p.add(e.line, "unknown key%s in %s: did you mean %s?", key, what, likely)
		return
	}
	known := either(len(keys), "only key is", "keys are")
	p.add(e.line, "unknown key%s in %s: the %s %s", key, what, known, enumerate(keys, "and"))
}

// require reports which of some keys are missing.
func (p *fileParser) require(f fields, keys ...string) {
	for _, key := range keys {
		if _, given := f.values[key]; !given && f.ok {
			p.add(f.line, "%s must have the key %s", f.what, key)
		}
	}
}

// text returns the value of a key that is a text, and "" if there is none.
func (p *fileParser) text(f fields, key, allowed string) string {
	v, given := f.values[key]
	if !given || v.kind == unresolved {
		return ""
	}
	if v.kind != text || v.text == "" {
		p.add(v.line, "%s must be %s", key, allowed)
		return ""
	}
	return v.text
}

// texts returns the value of a key that is a list of texts, and nil if there is none.
func (p *fileParser) texts(f fields, key, allowed string) (texts []string) {
	v, given := f.values[key]
	if !given {
		return nil
	}
	ok := v.kind == list && 0 < len(v.items) && len(v.items) <= maxListed
	for _, item := range v.items {
		ok = ok && (item.kind == text || item.kind == unresolved)
		texts = append(texts, item.text)
	}
	if !ok {
		p.add(v.line, "%s must be %s", key, allowed)
		return nil
	}
	return texts
}

// choice returns the position in names of a key's value, and 0 if there is none.
func (p *fileParser) choice(f fields, key string, names ...string) int {
	allowed := enumerate(names, "or")
	chosen := p.text(f, key, allowed)
	if chosen == "" {
		return 0
	}
	i := slices.Index(names, chosen)
	if i < 0 {
		p.add(f.values[key].line, "%s must be %s", key, allowed)
	}
	return max(i, 0)
}

// duration returns the value of a key that is a duration, if there is one.
func (p *fileParser) duration(f fields, key string, least, most time.Duration, allowed string) (d time.Duration, ok bool) {
	written := p.text(f, key, allowed)
	if written == "" {
		return 0, false
	}
	d, err := time.ParseDuration(written)
	if err != nil || d < least || d > most {
		p.add(f.values[key].line, "%s must be %s", key, allowed)
		return 0, false
	}
	return d, true
}

const (
	longest       = 7 * 24 * time.Hour
	allowedAfter  = "a duration from 0s to 168h, such as 10s"
	allowedRepeat = "a duration from 1m to 168h, such as 30m"
)

func (p *fileParser) rules(top fields) {
	v, given := top.values["rules"]
	if !given {
		return
	}
	if v.kind != list || len(v.items) == 0 || len(v.items) > maxRules {
		p.add(v.line, "rules must be a list of 1 to %d rules", maxRules)
		return
	}
	for _, item := range v.items {
		p.config.Rules = append(p.config.Rules, p.rule(item))
	}
}

func (p *fileParser) rule(v value) Rule {
	f := p.fields(v, "a rule", "name", "on", "agents", "sources", "title", "after", "to", "then", "every", "until", "quiet", "text", "follow_up", "at_keyboard")
	p.require(f, "name", "on", "to")
	r := Rule{
		Name:    p.ruleName(f),
		Changes: p.changes(f),
		Agents:  p.agents(f),
		Sources: p.sources(f),
		Title:   p.title(f),
		Steps:   p.steps(f),
		Quiet:   p.quiet(f),
		Text:    Text(p.choice(f, "text", TextNames[:]...)),

		FollowUp:   p.choice(f, "follow_up", "false", "true") == 1,
		AtKeyboard: p.choice(f, "at_keyboard", "hold", "send") == 1,
	}
	r.Every, r.Until = p.reminders(f)
	return r
}

func (p *fileParser) ruleName(f fields) string {
	given := p.text(f, "name", allowedName)
	line := f.values["name"].line
	switch earlier := p.ruleLines[given]; {
	case given == "":
	case !name.MatchString(given):
		p.add(line, "name must be %s", allowedName)
	case earlier > 0:
		p.add(line, "name is the same as on line %d", earlier)
	default:
		p.ruleLines[given] = line
	}
	return given
}

func (p *fileParser) changes(f fields) (changes []Change) {
	allowed := "a list of " + enumerate(ChangeNames[:], "or") + ", each at most once"
	for _, name := range p.texts(f, "on", allowed) {
		change, ok := parseChange(name)
		if !ok || slices.Contains(changes, change) {
			p.add(f.values["on"].line, "on must be %s", allowed)
			return nil
		}
		changes = append(changes, change)
	}
	return changes
}

func (p *fileParser) agents(f fields) []string {
	patterns := p.texts(f, "agents", `a list of patterns of agent IDs, such as ["team-a/*"]`)
	if patterns == nil {
		return nil
	}
	if err := access.ValidatePatterns("agents", patterns); err != nil {
		p.add(f.values["agents"].line, "%v", err)
	}
	return patterns
}

func (p *fileParser) sources(f fields) []string {
	sources := p.texts(f, "sources", "a list of sources, such as [claude-code]")
	for _, source := range sources {
		if err := models.ValidateName("sources", source, true, models.MaxAgentSource); err != nil {
			p.add(f.values["sources"].line, "%v", err)
			return nil
		}
	}
	return sources
}

func (p *fileParser) title(f fields) string {
	title := p.text(f, "title", "a text that the session's title or topic contains")
	if err := models.ValidateName("title", title, false, models.MaxSessionTitle); err != nil {
		p.add(f.values["title"].line, "%v", err)
	}
	return title
}

// steps returns the steps of a rule: that of the rule itself, and those in then.
func (p *fileParser) steps(f fields) []Step {
	first := Step{Settle: DefaultSettle, To: p.to(f)}
	if after, ok := p.duration(f, "after", 0, longest, allowedAfter); ok {
		first.After, first.Settle = after, 0
	}
	steps := []Step{first}
	v, given := f.values["then"]
	if given && (v.kind != list || len(v.items) == 0 || len(v.items) > maxSteps) {
		p.add(v.line, "then must be a list of 1 to %d steps, such as [{after: 15m, to: [oncall]}]", maxSteps)
		return steps
	}
	for _, item := range v.items {
		f := p.fields(item, "a step", "after", "to")
		p.require(f, "after", "to")
		step := Step{To: p.to(f)}
		after, ok := p.duration(f, "after", 0, longest, allowedAfter)
		if ok && after <= steps[len(steps)-1].AfterChange(Waits) {
			p.add(f.values["after"].line, "after must be longer than that of the step before")
		}
		step.After = after
		steps = append(steps, step)
	}
	return steps
}

// to returns the destinations of a step.
func (p *fileParser) to(f fields) []string {
	names := p.texts(f, "to", "a list of destinations, such as [phone]")
	for i, name := range names {
		line := f.values["to"].items[i].line
		switch {
		case !slices.Contains(p.names, name):
			p.unknownDestination(line, i+1, name)
		case slices.Contains(names[:i], name):
			p.add(line, "to: destination %d is there twice", i+1)
		}
	}
	return names
}

func (p *fileParser) unknownDestination(line, number int, name string) {
	likely, ok := nearest.To(name, p.names)
	switch {
	case ok:
		p.add(line, "to: destination %d is unknown: did you mean %s?", number, likely)
	case len(p.names) > 0 && len(p.names) <= 10:
		p.add(line, "to: destination %d is unknown: it must be %s", number, enumerate(p.names, "or"))
	default:
		p.add(line, "to: destination %d is unknown: it must be one of those under destinations", number)
	}
}

func (p *fileParser) reminders(f fields) (every, until time.Duration) {
	every, repeated := p.duration(f, "every", time.Minute, longest, allowedRepeat)
	until, ends := p.duration(f, "until", time.Minute, longest, allowedRepeat)
	_, given := f.values["every"]
	switch {
	case ends && !given:
		p.add(f.values["until"].line, "until needs every: how often the notification is repeated")
	case ends && repeated && until < every:
		p.add(f.values["until"].line, "until must be at least as long as every")
	}
	return every, until
}

func (p *fileParser) quiet(f fields) *Quiet {
	v, given := f.values["quiet"]
	if !given {
		return nil
	}
	f = p.fields(v, "quiet", "from", "to", "zone", "do")
	p.require(f, "from", "to", "zone")
	from, begins := p.clock(f, "from")
	to, ends := p.clock(f, "to")
	if begins && ends && from == to {
		p.add(f.values["to"].line, "from and to must differ")
	}
	return &Quiet{From: from, To: to, Zone: p.zone(f), Drop: p.choice(f, "do", "hold", "drop") == 1}
}

func (p *fileParser) clock(f fields, key string) (sinceMidnight time.Duration, ok bool) {
	const allowed = "a time such as 22:00"
	written := p.text(f, key, allowed)
	if written == "" {
		return 0, false
	}
	at, err := time.Parse("15:04", written)
	if err != nil {
		p.add(f.values[key].line, "%s must be %s", key, allowed)
		return 0, false
	}
	return time.Duration(at.Hour())*time.Hour + time.Duration(at.Minute())*time.Minute, true
}

func (p *fileParser) zone(f fields) *time.Location {
	const allowed = "the name of a time zone, such as Europe/Berlin or UTC"
	written := p.text(f, "zone", allowed)
	if written == "" {
		return nil
	}
	zone, err := time.LoadLocation(written)
	if err != nil {
		p.add(f.values["zone"].line, "zone must be %s", allowed)
	}
	return zone
}

// enumerate returns "a, b and c".
func enumerate(items []string, conjunction string) string {
	last := len(items) - 1
	if last < 1 {
		return strings.Join(items, "")
	}
	return strings.Join(items[:last], ", ") + " " + conjunction + " " + items[last]
}
