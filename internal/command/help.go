package command

import (
	"bytes"
	"flag"
	"fmt"
	"io"
)

// help writes the help for the program, or for the command named in args.
func (p Program) help(args []string) error {
	switch len(args) {
	case 0:
		return writeHelp(p.Stdout)
	case 1:
		c, err := commandNamed(args[0])
		if err != nil {
			return err
		}
		return c.writeHelp(p.Stdout)
	default:
		return usageError{fmt.Errorf("help: unexpected argument %q after %q", args[1], args[0])}
	}
}

func writeHelp(w io.Writer) error {
	var text bytes.Buffer
	text.WriteString("KubeAgents is a status hub for AI agents.\n\nUsage: kubeagents [command]\n\nCommands:\n")
	width := 0
	for _, c := range commands() {
		width = max(width, len(c.title()))
	}
	for _, c := range commands() {
		fmt.Fprintf(&text, "  %-*s  %s\n", width, c.title(), c.summary)
	}
	text.WriteString(`
Run 'kubeagents help <command>' for a command's flags.
Settings come from environment variables. See docs/settings.md.
`)
	_, err := text.WriteTo(w)
	return err
}

func (c command) title() string { return c.name + c.arguments() }

// arguments returns the arguments of the command as its usage shows them, after a space.
func (c command) arguments() string {
	switch {
	case c.argument == "":
		return ""
	case c.several:
		return " [" + c.argument + "...]"
	}
	return " " + c.argument
}

func (c command) writeHelp(w io.Writer) error {
	flags, _ := c.flags()
	usage, hasFlags := c.title(), false
	flags.VisitAll(func(*flag.Flag) { hasFlags = true })
	if hasFlags {
		usage = c.name + " [flags]" + c.arguments()
	}
	var text bytes.Buffer
	fmt.Fprintf(&text, "Usage: kubeagents %s\n\n%s.\n", usage, capitalized(c.summary))
	if c.help != "" {
		fmt.Fprintf(&text, "%s\n", c.help)
	}
	if hasFlags {
		text.WriteString("\nFlags:\n")
		flags.SetOutput(&text)
		flags.PrintDefaults()
	}
	_, err := text.WriteTo(w)
	return err
}

func capitalized(text string) string { return string(text[0]-'a'+'A') + text[1:] }
