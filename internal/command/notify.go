package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/kubeagents/kubeagents/internal/notify"
	"github.com/kubeagents/kubeagents/models"
)

var notifyPeople = command{
	name:     "notify",
	argument: "FILE",
	summary:  "check a file of notification rules, and try it out",
	help: "FILE is a file for NOTIFY_FILE. Variables that it refers to must be set. The command says what each rule does.\n" +
		"-test sends a test message to a destination. -agent and -session say which rules select a session of a server, and why others don't.",
	define: func(flags *flag.FlagSet) action {
		c := &notifyCommand{server: defineServer(flags)}
		flags.StringVar(&c.test, "test", "", "the `destination` to send a test message to")
		flags.StringVar(&c.agent, "agent", "", "the `ID` of an agent of the server")
		flags.StringVar(&c.session, "session", "", "the `topic` of a session of that agent (default the one updated last)")
		return c.run
	},
}

// notifyCommand checks and tries out rules.
type notifyCommand struct {
	server               serverFlags
	test, agent, session string
}

func (c *notifyCommand) run(ctx context.Context, p Program, arguments []string) error {
	if c.session != "" && c.agent == "" {
		return usageError{errors.New("-session needs -agent: the agent that the session is of")}
	}
	text, err := os.ReadFile(arguments[0])
	if err != nil {
		return usageError{err}
	}
	rules, err := notify.Parse(text, notify.Resolve(func(name string) (string, bool) {
		value, ok := p.Environment[name]
		return value, ok
	}))
	if err != nil {
		return usageError{fmt.Errorf("%s: %w", arguments[0], err)}
	}
	switch {
	case c.test != "":
		return sendTest(ctx, p, rules, c.test)
	case c.agent != "":
		return c.explain(ctx, p, rules)
	}
	return describe(p, rules)
}

// describe prints what the rules do.
func describe(p Program, rules *notify.Config) error {
	_, err := fmt.Fprintf(p.Stdout, "The rules are valid. Destinations: %s.\n", strings.Join(slices.Sorted(maps.Keys(rules.Destinations)), ", "))
	for i := range rules.Rules {
		rule := &rules.Rules[i]
		_, failed := fmt.Fprintf(p.Stdout, "\n%s\n  %s\n", rule.Name, printable(strings.ReplaceAll(rule.Describe(), "\n", "\n  ")))
		err = errors.Join(err, failed)
	}
	return err
}

// sendTest sends a test message to a destination.
func sendTest(ctx context.Context, p Program, rules *notify.Config, name string) error {
	destination := rules.Destinations[name]
	if destination == nil {
		return unknownName("destination", name, slices.Sorted(maps.Keys(rules.Destinations)))
	}
	if _, err := destination.Sender.Send(ctx, notify.TestMessage(time.Now())); err != nil {
		return fmt.Errorf("the test message could not be sent to %s: %w", name, err)
	}
	_, err := fmt.Fprintf(p.Stdout, "The test message was sent to %s.\n", name)
	return err
}

// explain prints which rules select a session, and why others don't.
func (c *notifyCommand) explain(ctx context.Context, p Program, rules *notify.Config) error {
	session, err := c.findSession(ctx, p)
	if err != nil {
		return err
	}
	changes := notify.ChangesOf(session)
	state := strings.Join(changeNames(changes), ", ")
	if len(changes) == 0 {
		state = "nothing to notify of now: it does not wait, and is not lost, failed or finished"
	}
	_, err = fmt.Fprintf(p.Stdout, "%s of %s: %s\n", printable(session.Topic), printable(session.AgentID), state)
	for i := range rules.Rules {
		rule := &rules.Rules[i]
		text := "selects it, and notifies of: " + strings.Join(changeNames(rule.Changes), ", ")
		if why := rule.WhyNot(session); why != "" {
			text = "does not select it, because " + why
		}
		_, failed := fmt.Fprintf(p.Stdout, "%s: %s\n", rule.Name, printable(text))
		err = errors.Join(err, failed)
	}
	return err
}

func changeNames(changes []notify.Change) (names []string) {
	for _, change := range changes {
		names = append(names, change.String())
	}
	return names
}

// findSession reads the session that the flags name from the server.
func (c *notifyCommand) findSession(ctx context.Context, p Program) (*models.FleetSession, error) {
	hub, err := c.server.client(p.Environment)
	if err != nil {
		return nil, err
	}
	parameters := url.Values{"agent_id": {c.agent}}
	if c.session != "" {
		parameters.Set("search", c.session)
	}
	page, err := hub.Sessions(ctx, parameters)
	if err != nil {
		return nil, unreachable(err)
	}
	for i := range page.Sessions {
		if c.session == "" || page.Sessions[i].Topic == c.session {
			return &page.Sessions[i], nil
		}
	}
	if c.session != "" {
		return nil, fmt.Errorf("the server has no session %q of the agent %q", c.session, c.agent)
	}
	return nil, fmt.Errorf("the server has no session of the agent %q", c.agent)
}
