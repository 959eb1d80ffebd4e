package dashboard

import (
	"cmp"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/models"
)

// shown is how many sessions the page shows before any script has loaded. They fill a screen. More would delay the
// first paint on a slow machine.
const shown = 8

// view is the data of the page.
type view struct {
	Style   template.CSS
	Prefix  string
	Modules []string
	Theme   string
	Now     time.Time
	Viewer  string // the name of the token that the user signed in with, "" if not signed in

	Needs   bool // whether the requested view is "Needs you"
	Summary models.Summary
	Pending []models.FleetSession // longest waiting first
	Lost    []models.FleetSession
	Failed  []models.FleetSession // active ones
}

// view reads the data of the page.
func (d *Dashboard) view(r *http.Request, grant *access.Grant) (v view, err error) {
	v = view{Style: d.style, Prefix: d.prefix, Modules: modules, Theme: theme(r), Now: time.Now()}
	if grant.SignedIn() {
		v.Viewer = grant.Name()
	}
	v.Needs = r.URL.RawQuery == ""
	if !v.Needs {
		return v, nil
	}
	d.store.Expire(v.Now)
	v.Summary = d.store.TeamSummary(grant.Team())
	needs, err := d.store.Needs(r.Context(), grant.Team(), shown)
	v.Pending = needs.Pending
	slices.SortStableFunc(v.Pending, func(a, b models.FleetSession) int { return since(a).Compare(since(b)) })
	v.Lost = needs.Lost[:min(len(needs.Lost), shown-len(v.Pending))]
	v.Failed = needs.Failed[:min(len(needs.Failed), shown-len(v.Pending)-len(v.Lost))]
	return v, err
}

// group is one list of the page.
type group struct {
	Now       time.Time
	ID, Title string
	Sessions  []models.FleetSession
}

var functions = template.FuncMap{
	"group": func(v view, id, title string, sessions []models.FleetSession) group {
		return group{v.Now, id, title, sessions}
	},
	"address": func(se models.FleetSession) string {
		return "?" + url.Values{"agent": {se.AgentID}, "session": {se.Topic}}.Encode()
	},
	"title":   func(se models.FleetSession) string { return inOrder(cmp.Or(se.Title, se.Topic)) },
	"agent":   func(se models.FleetSession) string { return inOrder(cmp.Or(se.AgentName, se.AgentID)) },
	"inOrder": inOrder,
	"state":   state,
	"ago":     func(now, then time.Time) string { return brief(now.Sub(then)) },
	"since":   since,
	"kind":    kind,
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

// state returns the state of a session in one word: its status, or lost or expired.
func state(se models.FleetSession) string {
	switch {
	case se.Lost:
		return "lost"
	case se.Expired:
		return "expired"
	}
	return se.CurrentStatus.String()
}

// since returns the time since which a session has been in its state or, if a question is open, has been waiting for
// the answer.
func since(se models.FleetSession) time.Time {
	switch {
	case se.Expired:
		return se.ExpiredAt
	case se.Question != nil:
		return se.Question.AskedAt
	}
	return se.StatusSince
}

// kinds are the labels of the kinds of questions. parts.js has the same.
var kinds = map[models.QuestionKind]string{models.Permission: "Permission", models.Choice: "Choice", models.Plan: "Plan", models.Text: "Question"}

// kind returns the label of a session's question, or "" if the question's text begins with it.
func kind(se models.FleetSession) string {
	kind, text := kinds[se.Question.Kind], cmp.Or(se.Question.Text, se.CurrentMessage)
	n := len(kind)
	if len(text) >= n && strings.EqualFold(text[:n], kind) && (len(text) == n || strings.ContainsRune(" \t\n:", rune(text[n]))) {
		return ""
	}
	return kind
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
