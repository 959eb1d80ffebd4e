// Package command implements the program's command line: the commands, their flags and their help.
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

// The program's exit statuses.
const (
	ExitOK      = 0
	ExitFailure = 1
	ExitUsage   = 2 // invalid setting or argument

	ExitWaiting     = 1 // status: an agent is waiting
	ExitUnreachable = 3 // status, connect, notify, health, backup: the server can't be reached, or refuses
)

// Program is the environment that a command runs in.
type Program struct {
	Environment    map[string]string
	Stdin          io.Reader // gives the answers to questions; a file that is not a terminal gives none, and neither does nil
	Stdout, Stderr io.Writer
	OS             string // the operating system, as [runtime.GOOS]; "" for that of this machine

	// Serve runs the server until ctx ends. It has logged the error that it returns. A *config.SettingError means an
	// invalid setting.
	Serve func(ctx context.Context, cfg config.Config) error
}

// A command is a subcommand of the program.
type command struct {
	name     string
	argument string // the name of its argument, "" for a command without one
	several  bool   // whether it takes any number of arguments, even none, instead of exactly one
	summary  string
	help     string // further help, may be ""
	// define adds the command's flags, and returns the action to run once they are parsed.
	define func(*flag.FlagSet) action
}

// action runs a command. A usageError means an invalid command line or setting, any other error that the command
// failed.
type action func(ctx context.Context, p Program, arguments []string) error

// commands returns the commands, in the order in which the help lists them. The first one is the default.
func commands() []command {
	return []command{serve, connectTools, disconnectTools, status, health, backup, restore, token, notifyPeople, postEvent, completion(), showVersion}
}

var serve = command{
	name:    "serve",
	summary: "run the server (the default)",
	help:    "Settings come from environment variables. See docs/settings.md.",
	define: func(*flag.FlagSet) action {
		return func(ctx context.Context, p Program, _ []string) error {
			cfg, err := config.Load(p.Environment)
			if err != nil {
				return usageError{fmt.Errorf("invalid settings:\n%w", err)}
			}
			err = p.Serve(ctx, cfg)
			var setting *config.SettingError
			switch {
			case errors.As(err, &setting):
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
	summary: "print the version and the commit",
	define: func(*flag.FlagSet) action {
		return func(_ context.Context, p Program, _ []string) error {
			line := version.String()
			if commit := version.Commit(); commit != "" {
				line += " (commit " + commit + ")"
			}
			_, err := fmt.Fprintln(p.Stdout, line)
			return err
		}
	},
}

// usageError is an error in the command line or a setting.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// reported is an error that has already been logged.
type reported struct{ status int }

func (reported) Error() string { return "see the log" }

// statusError is an error with an exit status of its own. err is nil if there is nothing to report.
type statusError struct {
	status int
	err    error
}

func (e statusError) Error() string { return fmt.Sprint(e.err) }

// Run runs the command that args specify and returns the exit status. args does not include the program's name.
func (p Program) Run(ctx context.Context, args []string) int {
	err := p.run(ctx, args)
	var usage usageError
	var logged reported
	var other statusError
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &logged):
		return logged.status
	case errors.As(err, &other):
		if other.err != nil {
			p.printError(err)
		}
		return other.status
	case errors.As(err, &usage):
		p.printError(err)
		return ExitUsage
	default:
		p.printError(err)
		return ExitFailure
	}
}

func (p Program) printError(err error) {
	fmt.Fprintf(p.Stderr, "kubeagents: %s\n", printable(err.Error())) //nolint:errcheck // there is nowhere else to report it
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
	arguments, err := c.parse(flags, rest)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return c.writeHelp(p.Stdout)
	case err != nil:
		return usageError{fmt.Errorf("%s: %w\nRun 'kubeagents help %[1]s' for its usage", c.name, err)}
	}
	return prefixed(c.name, act(ctx, p, arguments))
}

// prefixed puts the name of a command before its error, except for the default command serve.
func prefixed(name string, err error) error {
	if err == nil || name == serve.name {
		return err
	}
	return fmt.Errorf("%s: %w", name, err)
}

func commandNamed(name string) (command, error) {
	names := []string{"help"}
	for _, c := range commands() {
		if c.name == name {
			return c, nil
		}
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

// flags returns the flags of a command, and the action to run once they are parsed.
func (c command) flags() (*flag.FlagSet, action) {
	flags := flag.NewFlagSet(c.name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	return flags, c.define(flags)
}

// parse parses the arguments of a command and returns those that are not flags. Flags may come before, between or after
// them.
func (c command) parse(flags *flag.FlagSet, args []string) (arguments []string, err error) {
	for {
		if err := flags.Parse(args); err != nil {
			return nil, flagError(err)
		}
		if flags.NArg() == 0 {
			return arguments, c.checkNumber(arguments)
		}
		arguments, args = append(arguments, flags.Arg(0)), flags.Args()[1:]
	}
}

// flagError quotes the flag in an error of package flag that repeats it as it is.
func flagError(err error) error {
	for _, before := range []string{"flag provided but not defined: ", "bad flag syntax: "} {
		if name, found := strings.CutPrefix(err.Error(), before); found {
			return fmt.Errorf("%s%q", before, name)
		}
	}
	return err
}

// checkNumber returns an error unless the command takes as many arguments.
func (c command) checkNumber(arguments []string) error {
	switch {
	case c.several:
		return nil
	case c.argument == "" && len(arguments) > 0:
		return fmt.Errorf("unexpected argument %q", arguments[0])
	case c.argument != "" && len(arguments) == 0:
		return fmt.Errorf("%s is missing: the command is kubeagents %s %[1]s", c.argument, c.name)
	case len(arguments) > 1:
		return fmt.Errorf("unexpected argument %q after %s %q", arguments[1], c.argument, arguments[0])
	}
	return nil
}
