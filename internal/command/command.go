// Package command is the program's command line: which commands there are, their flags, and the help for them.
package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/kubeagents/kubeagents/config"
	"github.com/kubeagents/kubeagents/internal/nearest"
	"github.com/kubeagents/kubeagents/internal/version"
)

// The exit statuses of the program.
const (
	ExitOK      = 0
	ExitFailure = 1
	ExitUsage   = 2 // a setting or an argument is wrong
)

// Program is what a command runs in.
type Program struct {
	Environment    map[string]string
	Stdout, Stderr io.Writer

	// Serve runs the server until ctx ends. It logs the error that it returns; a *config.FileError means a wrong setting.
	Serve func(ctx context.Context, cfg config.Config) error
}

// A command is a word of the command line and what it does.
type command struct {
	name     string
	argument string // the name of its only argument, "" for a command without one
	summary  string
	help     string // what else there is to know, "" for nothing
	// define adds the command's flags, and returns what runs once they are parsed.
	define func(*flag.FlagSet) action
}

// action runs a command. A usageError means that the command line or a setting is wrong, any other error that the command failed.
type action func(ctx context.Context, p Program, argument string) error

// commands are in the order in which help lists them. A command line without a command runs the first one.
var commands = []command{serve, backup, token, showVersion}

var serve = command{
	name:    "serve",
	summary: "run the server (the default)",
	help:    "Settings come from environment variables. See docs/settings.md.",
	define: func(*flag.FlagSet) action {
		return func(ctx context.Context, p Program, _ string) error {
			cfg, err := config.Load(p.Environment)
			if err != nil {
				return usageError{fmt.Errorf("invalid settings:\n%w", err)}
			}
			err = p.Serve(ctx, cfg)
			var file *config.FileError
			switch {
			case errors.As(err, &file):
				return reported{ExitUsage}
			case err != nil:
				return reported{ExitFailure}
			}
			return nil
		}
	},
}

var showVersion = command{
	name:    "version",
	summary: "print the version",
	define: func(*flag.FlagSet) action {
		return func(_ context.Context, p Program, _ string) error {
			_, err := fmt.Fprintln(p.Stdout, version.String())
			return err
		}
	},
}

// usageError is an error in the command line or in a setting.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// reported is an error that has been logged.
type reported struct{ status int }

func (reported) Error() string { return "see the log" }

// Run runs the command that args ask for, which don't include the program's name. It returns the exit status.
func (p Program) Run(ctx context.Context, args []string) int {
	err := p.run(ctx, args)
	var usage usageError
	var logged reported
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &logged):
		return logged.status
	case errors.As(err, &usage):
		fmt.Fprintf(p.Stderr, "kubeagents: %v\n", err) //nolint:errcheck // there is nobody else to tell
		return ExitUsage
	default:
		fmt.Fprintf(p.Stderr, "kubeagents: %v\n", err) //nolint:errcheck // see above
		return ExitFailure
	}
}

func (p Program) run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		args = []string{serve.name}
	}
	name, rest := args[0], args[1:]
	switch strings.TrimLeft(name, "-") {
	case "help", "h":
		return p.help(rest)
	case "version", "v":
		name = showVersion.name
	}
	c, err := commandNamed(name)
	if err != nil {
		return err
	}
	flags, act := c.flags()
	argument, err := c.parse(flags, rest)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return c.writeHelp(p.Stdout)
	case err != nil:
		return usageError{fmt.Errorf("%s: %w\nRun 'kubeagents help %[1]s' for its usage", c.name, err)}
	}
	return prefixed(c.name, act(ctx, p, argument))
}

// prefixed puts the name of a command before its error; the server's errors are known to be its own.
func prefixed(name string, err error) error {
	if err == nil || name == serve.name {
		return err
	}
	return fmt.Errorf("%s: %w", name, err)
}

func commandNamed(name string) (command, error) {
	if i := slices.IndexFunc(commands, func(c command) bool { return c.name == name }); i >= 0 {
		return commands[i], nil
	}
	names := []string{"help"}
	for _, c := range commands {
		names = append(names, c.name)
	}
	slices.Sort(names)
	what := "command"
	if strings.HasPrefix(name, "-") {
		what = "flag"
	}
	if meant, ok := nearest.To(name, names); ok {
		return command{}, usageError{fmt.Errorf("unknown %s %q: did you mean %s?", what, name, meant)}
	}
	return command{}, usageError{fmt.Errorf("unknown %s %q: the commands are %s; settings come from environment variables", what, name, strings.Join(names, ", "))}
}

// flags returns the flags of a command, and what runs once they are parsed.
func (c command) flags() (*flag.FlagSet, action) {
	flags := flag.NewFlagSet(c.name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	return flags, c.define(flags)
}

// parse parses the arguments of a command. Flags may stand before or after its argument, which it returns.
func (c command) parse(flags *flag.FlagSet, args []string) (argument string, err error) {
	var others []string
	for {
		if err := flags.Parse(args); err != nil {
			return "", err
		}
		if flags.NArg() == 0 {
			break
		}
		others, args = append(others, flags.Arg(0)), flags.Args()[1:]
	}
	switch {
	case c.argument == "" && len(others) > 0:
		return "", fmt.Errorf("unexpected argument %q", others[0])
	case c.argument != "" && len(others) == 0:
		return "", fmt.Errorf("%s is missing", c.argument)
	case len(others) > 1:
		return "", fmt.Errorf("unexpected argument %q after %s %q", others[1], c.argument, others[0])
	case len(others) == 1:
		return others[0], nil
	}
	return "", nil
}
