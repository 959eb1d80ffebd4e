package dashboard

import (
	"cmp"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/internal/connect"
	"github.com/kubeagents/kubeagents/models"
)

// shown is how many sessions the page shows before any script has loaded. They fill a screen. More would delay the
// first paint on a slow machine.
const shown = 8

// view is the data of the page.
type view struct {
	Style   template.CSS
	Base    string // see Page
	Prefix  string
	Modules []string
	Theme   string
	Now     time.Time
	Viewer  string // the name of the token that the user signed in with, "" if not signed in
	Reports string // what reports need to be accepted: "token", "signature" or "" for nothing
	Current string // the tab of the requested view

	Acknowledges bool // whether the user may acknowledge sessions
	Push         Push

	Needs   bool // whether the requested view is "Needs you"
	Summary models.Summary
	Pending []models.FleetSession // longest waiting first
	Lost    []models.FleetSession // in the last day
	Earlier []models.FleetSession // lost before that
	Failed  []models.FleetSession // active ones
}

// view reads the data of the page.
func (d *Dashboard) view(r *http.Request, grant *access.Grant, server connect.Server, now time.Time) (v view, err error) {
	v = view{Style: d.style, Prefix: d.prefix, Modules: modules, Theme: theme(r), Now: now, Current: tabOf(r.URL.Query())}
	switch {
	case server.Tokens:
		v.Reports = "token"
	case server.Signed:
		v.Reports = "signature"
	}
	if grant.SignedIn() {
		v.Viewer = grant.Name()
	}
	v.Acknowledges = grant.Allows(access.Acknowledge)
	v.Needs = r.URL.RawQuery == ""
	if !v.Needs {
		return v, nil
	}
	v.Summary = d.store.TeamSummary(grant.Team(), v.Now)
	needs, err := d.store.Needs(r.Context(), grant.Team(), shown)
	v.Pending = needs.Pending
	v.Lost, v.Earlier = splitLost(needs.Lost, v.Now)
	v.Lost = v.Lost[:min(len(v.Lost), shown-len(v.Pending))]
	v.Failed = needs.Failed[:min(len(needs.Failed), shown-len(v.Pending)-len(v.Lost))]
	return v, err
}

// splitLost splits lost sessions, the one lost last first, into those of the last day and those before. needs.js does
// the same.
func splitLost(lost []models.FleetSession, now time.Time) (lately, earlier []models.FleetSession) {
	i := slices.IndexFunc(lost, func(se models.FleetSession) bool { return since(se).Before(now.Add(-24 * time.Hour)) })
	if i < 0 {
		return lost, nil
	}
	return lost[:i], lost[i:]
}

// tabOf returns the name of the tab of the view that the query selects. main.js does the same.
func tabOf(query url.Values) string {
	switch view := query.Get("view"); {
	case query.Get("agent") != "" && query.Get("session") != "":
		return "sessions"
	case query.Get("agent") != "":
		return "agents"
	case view == "board":
		return "sessions"
	case view == "sessions" || view == "agents" || view == "notifications":
		return view // the last one has no tab
	}
	return "needs"
}

// group is one list of the page.
type group struct {
	ID, Title string
	Rows      []row
}

// row is a session in a group.
type row struct {
	models.FleetSession
	Alike bool      // another agent in the group has the same name, host and source
	Time  time.Time // by which the group is sorted
	Age   string    // how long ago that was
}

// newGroup returns the group with this ID. needs.js shows the same.
func newGroup(v view, id, title string, sessions []models.FleetSession) group {
	g := group{id, title, make([]row, len(sessions))}
	alike := namesakes(sessions)
	for i, se := range sessions {
		r := row{FleetSession: se, Alike: alike[se.AgentID], Time: since(se)}
		r.Age = brief(v.Now.Sub(r.Time)) + " ago"
		if id == "pending" {
			r.Age = "for " + brief(v.Now.Sub(r.Time))
		}
		g.Rows[i] = r
	}
	return g
}

// namesakes returns the IDs of the agents whose name, host and source another agent in the list has as well.
func namesakes(sessions []models.FleetSession) map[string]bool {
	type look struct{ name, host, source string }
	ids := map[look]map[string]bool{}
	for _, se := range sessions {
		shown := look{cmp.Or(se.AgentName, se.AgentID), se.AgentHost, se.AgentSource}
		if ids[shown] == nil {
			ids[shown] = map[string]bool{}
		}
		ids[shown][se.AgentID] = true
	}
	alike := map[string]bool{}
	for _, same := range ids {
		if len(same) > 1 {
			maps.Copy(alike, same)
		}
	}
	return alike
}

var functions = template.FuncMap{
	"group": newGroup,
	"address": func(se models.FleetSession) string {
		return "?" + url.Values{"agent": {se.AgentID}, "session": {se.Topic}}.Encode()
	},
	"title":   func(se models.FleetSession) string { return inOrder(cmp.Or(se.Title, se.Topic)) },
	"agent":   func(se models.FleetSession) string { return inOrder(cmp.Or(se.AgentName, se.AgentID)) },
	"inOrder": inOrder,
	"kind":    func(kind models.QuestionKind) string { return kinds[kind] },
	// otherQuestions returns how many questions are open in addition to the one that is shown.
	"otherQuestions": func(se models.FleetSession) int { return max(0, se.OpenQuestions-1) },
	"instant":        func(t time.Time) string { return t.Format(time.RFC3339Nano) },
}

// inOrder replaces the characters that change the displayed order of a text with their code points. html.js does the
// same.
func inOrder(text string) string {
	var b strings.Builder
	for _, r := range text {
		if 0x202a <= r && r <= 0x202e || 0x2066 <= r && r <= 0x2069 {
			fmt.Fprintf(&b, "[%U]", r)
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// since returns the time since which a session has been in its state or, if a question is open, has been waiting for
// the answer.
func since(se models.FleetSession) time.Time {
	switch {
	case se.Lost:
		return se.ExpiredAt
	case se.Question != nil:
		return se.Question.AskedAt
	}
	return se.StatusSince
}

// kinds say what each kind of question asks for. parts.js has the same.
var kinds = map[models.QuestionKind]string{
	models.Permission: "Asks for permission", models.Choice: "Asks for a choice", models.Plan: "Asks to approve a plan", models.Text: "Asks a question",
}

// brief formats a duration with its two largest units. time.js does the same.
func brief(d time.Duration) string {
	seconds := int64(max(d, 0) / time.Second)
	minutes, hours, days := seconds/60, seconds/3600, seconds/86400
	switch {
	case seconds < 60:
		return fmt.Sprintf("%ds", seconds)
	case minutes < 60:
		return fmt.Sprintf("%dm", minutes)
	case hours < 24 && minutes%60 > 0:
		return fmt.Sprintf("%dh %dm", hours, minutes%60)
	case hours < 24:
		return fmt.Sprintf("%dh", hours)
	case hours%24 > 0:
		return fmt.Sprintf("%dd %dh", days, hours%24)
	}
	return fmt.Sprintf("%dd", days)
}
