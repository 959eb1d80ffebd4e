package connect

import (
	"fmt"
	"strings"
)

// Overview returns a plain-text overview of how to connect tools: the command that does it, which tools have reported,
// unless activity is nil, and for each tool the oldest version, where the lines go, and how to get them.
func Overview(s Server, activity *Activity) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Run this command on the machine where your agents run, and their runs show up at %s:\n\n  %s\n\n", s.Address, s.Command())
	b.WriteString("It finds the tools, shows which settings files it changes, and asks first.\n")
	if s.Tokens {
		fmt.Fprintf(&b, "Put a token with the scope \"report\" into the environment variable %s of your agents.\n", TokenVariable)
	}
	if s.Signed {
		fmt.Fprintf(&b, "This server accepts only webhooks that are signed with its secret (Standard Webhooks 1.0), which these lines can't do.\n"+
			"Sign the reports that you send to %s/webhook/status, or ask whoever runs the server for a token, which needs TOKENS_FILE.\n", s.Address)
	}
	if activity != nil && !s.Signed {
		activity.overview(&b)
	}
	b.WriteString("\nOr paste the lines of each tool that you use into its settings yourself.\n" +
		"If a settings file is there already, add to the entries that are there: keep its other settings and hooks, and where it\n" +
		"has hooks for an event, append to that event's array.\n" +
		"The hooks need sh and curl 7.55 or later.\n")
	for i := range Clients {
		Clients[i].overview(&b, s)
	}
	return b.String()
}

func (c *Client) overview(b *strings.Builder, s Server) {
	fmt.Fprintf(b, "\n%s", c.Title)
	if c.Since != "" {
		fmt.Fprintf(b, " %s or later", c.Since)
	}
	fmt.Fprintf(b, "\n  curl -fsS %s/connect/%s\n", s.Address, c.Name)
	for _, path := range c.Paths {
		fmt.Fprintf(b, "  for %s: %s\n", path.Of, path.Path)
	}
	if c.Note != "" {
		fmt.Fprintf(b, "  %s\n", c.Note)
	}
}
