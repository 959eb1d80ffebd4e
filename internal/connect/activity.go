package connect

import (
	"fmt"
	"strings"
	"time"
)

// Activity says which tools have reported to a server, as far as somebody may know.
type Activity struct {
	Limited bool // to some of the server's agents
	Tools   []ToolActivity
}

// ToolActivity says how many agents run in a tool, and how long ago one of them reported last.
type ToolActivity struct {
	Title  string // of the tool
	Agents int
	Last   time.Duration
}

// String returns a text such as "3 agents, last report 2 minutes ago".
func (t ToolActivity) String() string {
	return count(t.Agents, "agent") + ", last report " + ago(t.Last)
}

// Heading returns what the list of the tools is, as a text that ends with a colon, or that there are none.
func (a *Activity) Heading() string {
	switch {
	case len(a.Tools) == 0 && a.Limited:
		return "None of the agents that you may see has reported from one of these tools yet."
	case len(a.Tools) == 0:
		return "None of these tools has reported yet."
	case a.Limited:
		return "Already reporting, among the agents that you may see:"
	}
	return "Already reporting:"
}

func (a *Activity) overview(b *strings.Builder) {
	fmt.Fprintf(b, "\n%s\n", a.Heading())
	for _, tool := range a.Tools {
		fmt.Fprintf(b, "  %s: %s\n", tool.Title, tool)
	}
}

// ago returns a duration in the past in words, in its largest unit.
func ago(d time.Duration) string {
	switch {
	case d < time.Minute:
		return "just now"
	case d < time.Hour:
		return count(int(d/time.Minute), "minute") + " ago"
	case d < 24*time.Hour:
		return count(int(d/time.Hour), "hour") + " ago"
	}
	return count(int(d/(24*time.Hour)), "day") + " ago"
}

// count returns a number of things in words: 1 agent, 3 agents.
func count(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}
