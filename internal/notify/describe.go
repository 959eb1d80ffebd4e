package notify

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/models"
)

// Describe says in plain text, one fact per line, what a rule does.
func (r *Rule) Describe() string {
	var lines []string
	for _, step := range r.Steps {
		var changes []string
		for _, change := range r.Changes {
			text := change.String()
			if after := step.AfterChange(change); after > 0 {
				text += " (after " + shortDuration(after) + ")"
			}
			changes = append(changes, text)
		}
		lines = append(lines, "notifies "+strings.Join(step.To, " and ")+" of: "+strings.Join(changes, ", "))
	}
	if len(r.Agents) > 0 {
		lines = append(lines, "agents: "+strings.Join(r.Agents, ", "))
	}
	if len(r.Sources) > 0 {
		lines = append(lines, "sources: "+strings.Join(r.Sources, ", "))
	}
	if r.Title != "" {
		lines = append(lines, fmt.Sprintf("title: contains %q", r.Title))
	}
	if r.Every > 0 {
		text := "repeats every " + shortDuration(r.Every)
		if r.Until > 0 {
			text += ", until " + shortDuration(r.Until) + " after the change"
		}
		lines = append(lines, text)
	}
	if q := r.Quiet; q != nil {
		what := "holds what is due, and sends a summary afterwards"
		if q.Drop {
			what = "drops what is due"
		}
		lines = append(lines, fmt.Sprintf("from %s to %s (%s): %s", ClockTime(q.From), ClockTime(q.To), q.Zone, what))
	}
	if r.Text != FullText {
		lines = append(lines, map[Text]string{TitleOnly: "sends only the title of the session's text", NoText: "sends nothing of the session's text"}[r.Text])
	}
	if r.FollowUp {
		lines = append(lines, "sends a further message when a change is over, where the first one can't be taken back")
	}
	if r.AtKeyboard {
		lines = append(lines, "notifies devices even of what their owner's dashboard shows")
	}
	return strings.Join(lines, "\n")
}

// WhyNot says why the rule does not select a session, whatever happens to it; "" if it does select it.
func (r *Rule) WhyNot(session *models.FleetSession) string {
	switch {
	case len(r.Agents) > 0 && !access.Matches(r.Agents, session.AgentID):
		return "its agent is not one of " + strings.Join(r.Agents, ", ")
	case !r.selectsSource(session.AgentSource):
		return fmt.Sprintf("its source is %q, not one of %s", session.AgentSource, strings.Join(r.Sources, ", "))
	case !r.selectsSession(session):
		return fmt.Sprintf("neither its title nor its topic contains %q", r.Title)
	}
	return ""
}

// ChangesOf returns the changes that hold for a session now.
func ChangesOf(session *models.FleetSession) (changes []Change) {
	for _, k := range causesOf(session, nil) {
		changes = append(changes, k.change)
	}
	return slices.Compact(changes)
}

// shortDuration returns a duration without units that are zero, such as 10m instead of 10m0s.
func shortDuration(d time.Duration) string {
	text := d.String()
	for _, suffix := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, suffix) {
			text = strings.TrimSuffix(text, suffix[1:])
		}
	}
	return text
}

// ClockTime returns the time on a clock that a duration since midnight stands for.
func ClockTime(d time.Duration) string {
	return fmt.Sprintf("%02d:%02d", int(d.Hours()), int(d.Minutes())%60)
}

// TestMessage returns a message for trying out a destination.
func TestMessage(now time.Time) *Message {
	id := newID(messagePrefix)
	return &Message{
		ID: id, Thread: id, SentAt: now.UTC(), Since: now.UTC(), Rule: "test", Change: Waits,
		Session:  &models.FleetSession{Session: models.Session{AgentID: "kubeagents", Topic: "test", Title: "A test: no agent is waiting", CurrentStatus: models.Pending}},
		Question: &models.Question{ID: "test", Kind: models.Text, Text: "Did this notification arrive?"},
	}
}
