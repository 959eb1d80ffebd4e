package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"
	"time"

	"github.com/kubeagents/kubeagents/internal/access"
)

var token = command{
	name:     "token",
	argument: "NAME",
	summary:  "make a token named NAME and its line for TOKENS_FILE",
	help: "The token is written to standard error: hand it to its user. Its line for TOKENS_FILE is written to standard output:\n\n" +
		"  kubeagents token -scopes report,read -agents 'team-a/*' team-a >>tokens",
	define: func(flags *flag.FlagSet) action {
		scopes := flags.String("scopes", "report", "what the token allows, separated by commas: report, read, acknowledge, admin")
		agents := flags.String("agents", "", "`patterns` of the agent IDs that the token covers, separated by commas (default every agent)")
		var expires time.Duration
		flags.Func("expires", "how long the token is valid, a `duration` such as 2160h (default forever)", func(text string) (err error) {
			if expires, err = time.ParseDuration(text); err != nil {
				return errors.New("must be a duration such as 2160h")
			}
			return nil
		})
		return func(_ context.Context, p Program, arguments []string) error {
			if *agents == "" && isSet(flags, "agents") {
				return usageError{errors.New("-agents is empty: leave it out to cover every agent")}
			}
			return p.makeToken(arguments[0], *scopes, *agents, expires)
		}
	},
}

func (p Program) makeToken(name, scopes, agents string, expires time.Duration) error {
	text, entry := access.NewToken(name)
	entry.Scopes = strings.Split(scopes, ",")
	if agents != "" {
		entry.Agents = strings.Split(agents, ",")
	}
	switch {
	case expires < 0 || expires > 0 && expires < time.Second:
		return usageError{errors.New("-expires must be at least 1s, or 0 for a token that does not expire")}
	case expires > 0:
		entry.Expires = time.Now().Add(expires).UTC().Truncate(time.Second)
	}
	if err := entry.Validate(); err != nil {
		return usageError{err}
	}
	if _, err := fmt.Fprintln(p.Stderr, text); err != nil {
		return err
	}
	_, err := fmt.Fprintln(p.Stdout, entry)
	return err
}

// isSet reports whether a flag was given.
func isSet(flags *flag.FlagSet, name string) (set bool) {
	flags.Visit(func(f *flag.Flag) { set = set || f.Name == name })
	return set
}
