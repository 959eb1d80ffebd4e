package command

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/diff"
	"golang.org/x/term"

	"github.com/kubeagents/kubeagents/internal/connect"
	"github.com/kubeagents/kubeagents/internal/nearest"
	"github.com/kubeagents/kubeagents/internal/setup"
)

// fileFlags say which settings files a command changes, and whether it asks first.
type fileFlags struct{ project, dryRun, yes *bool }

func defineFiles(flags *flag.FlagSet) fileFlags {
	return fileFlags{
		flags.Bool("project", false, "change the settings of the project in the current directory instead of yours"),
		flags.Bool("dry-run", false, "show every line that would change, and change nothing"),
		flags.Bool("yes", false, "don't ask"),
	}
}

// machine returns this machine.
func (p Program) machine() (connect.Machine, error) {
	m := connect.Machine{OS: cmp.Or(p.OS, runtime.GOOS), Environment: p.Environment}
	variable := "HOME"
	if m.Windows() {
		variable = "USERPROFILE"
	}
	if m.Home = p.Environment[variable]; m.Home == "" {
		return m, usageError{fmt.Errorf("%s is not set: set it to your home directory", variable)}
	}
	return m, nil
}

// workplace is where a command changes settings.
type workplace struct {
	Program
	fileFlags
	machine connect.Machine
	dir     string // the current directory
}

// workplace returns the workplace of a command, and the tools with these names.
func (f fileFlags) workplace(p Program, names []string) (w workplace, tools []*connect.Client, err error) {
	w = workplace{Program: p, fileFlags: f}
	if w.machine, err = p.machine(); err != nil {
		return w, nil, err
	}
	if w.dir, err = os.Getwd(); err != nil {
		return w, nil, err
	}
	tools, err = toolsNamed(names)
	return w, tools, err
}

// toolsNamed returns the tools with these names.
func toolsNamed(names []string) (tools []*connect.Client, err error) {
	for _, name := range names {
		tool := connect.Tool(name)
		if tool == nil {
			return nil, unknownName("tool", name, toolNames())
		}
		if !slices.Contains(tools, tool) {
			tools = append(tools, tool)
		}
	}
	return tools, nil
}

// unknownName returns the error for a name of something that is not among the known names.
func unknownName(what, name string, known []string) error {
	if meant, ok := nearest.To(name, known); ok {
		return usageError{fmt.Errorf("unknown %s %q: did you mean %s?", what, name, meant)}
	}
	return usageError{fmt.Errorf("unknown %s %q: the %ss are %s", what, name, what, strings.Join(known, ", "))}
}

// files returns the settings files of tools. A tool that has none for projects is left out, unless it was named.
func (w workplace) files(tools []*connect.Client, named bool, server connect.Server) (files []setup.File, err error) {
	for _, tool := range tools {
		path := tool.UserFile(w.machine)
		if *w.project {
			path = tool.ProjectFile(w.machine, w.dir)
		}
		switch {
		case path != "":
			files = append(files, setup.NewFile(tool, filepath.Clean(path), *w.project, server))
		case named:
			return nil, usageError{fmt.Errorf("%s has no settings for a project: leave out -project", tool.Title)}
		}
	}
	return files, nil
}

// short returns a path as people write it.
func (w workplace) short(path string) string {
	if rest, ok := strings.CutPrefix(path, w.machine.Home+string(filepath.Separator)); ok {
		return "~" + string(filepath.Separator) + rest
	}
	return path
}

func toolNames() (names []string) {
	for _, tool := range connect.Tools() {
		names = append(names, tool.Name)
	}
	return names
}

func (w workplace) say(format string, args ...any) error {
	_, err := io.WriteString(w.Stdout, printable(fmt.Sprintf(format, args...)))
	return err
}

// change plans a change to each file, shows the plan, asks, and makes the changes. A file that can't be changed does not
// keep the others from it. It returns the changes that were made, and says what failed.
func (w workplace) change(files []setup.File, plan func(setup.File) (setup.Change, error)) (made []setup.Change, err error) {
	changes, failed := w.plan(files, plan)
	if len(changes) == 0 {
		if failed == nil {
			err = w.say("Nothing to change.\n")
		}
		return nil, errors.Join(failed, err)
	}
	if err := w.show(changes); err != nil {
		return nil, err
	}
	if agreed, err := w.agree(changes); !agreed || err != nil {
		return nil, errors.Join(failed, err)
	}
	for _, change := range changes {
		if err := change.Apply(); err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", change.Tool.Title, err))
			continue
		}
		made = append(made, change)
		if err := w.sayDone(change); err != nil {
			return made, err
		}
	}
	return made, failed
}

// plan returns the changes that there are to make, and says which are not possible.
func (w workplace) plan(files []setup.File, plan func(setup.File) (setup.Change, error)) (changes []setup.Change, failed error) {
	for _, file := range files {
		change, err := plan(file)
		switch {
		case err != nil:
			failed = errors.Join(failed, fmt.Errorf("%s: %w", file.Tool.Title, err))
		case !change.IsNone():
			changes = append(changes, change)
		}
	}
	return changes, failed
}

// show shows what planned changes do. A dry run shows their lines first.
func (w workplace) show(changes []setup.Change) error {
	if *w.dryRun {
		if err := w.showLines(changes); err != nil {
			return err
		}
	}
	for _, c := range changes {
		if err := w.say("%s: %s: %s\n", c.Tool.Title, w.short(c.Path), summaryOf(c)); err != nil {
			return err
		}
	}
	return nil
}

// showLines shows the lines of changes as unified diffs. There can be hundreds, because a tool has a hook for each event.
func (w workplace) showLines(changes []setup.Change) error {
	for _, c := range changes {
		text := diff.Diff(nameIfExists(c.Old, c.Path), c.Old, nameIfExists(c.New, c.Path), c.New)
		if err := w.say("%s", bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))); err != nil {
			return err
		}
	}
	return nil
}

// nameIfExists returns the name of a file as unified diffs have it.
func nameIfExists(text []byte, path string) string {
	if text == nil {
		return os.DevNull
	}
	return printable(path)
}

// summaryOf says what a change does.
func summaryOf(c setup.Change) string {
	count := func(verb string, events []string) string {
		return fmt.Sprintf("%s for %d %s", verb, len(events), plural(len(events), "event"))
	}
	var parts []string
	for _, part := range []struct {
		verb   string
		events []string
	}{{"add hooks", c.Events.Added}, {"update hooks", c.Events.Updated}, {"remove hooks", c.Events.Removed}} {
		if len(part.events) > 0 {
			parts = append(parts, count(part.verb, part.events))
		}
	}
	switch {
	case len(parts) == 0 && bytes.Equal(c.Old, c.New):
		return "remove what connecting left beside it"
	case c.New == nil:
		return "remove the file: nothing else is in it"
	case c.Old == nil:
		return strings.Join(append([]string{"create the file"}, parts...), ", ")
	}
	return cmp.Or(strings.Join(parts, ", "), map[bool]string{true: "update the plugin", false: "remove the hooks"}[c.Tool.Script])
}

func plural(n int, noun string) string {
	if n == 1 {
		return noun
	}
	return noun + "s"
}

// agree reports whether changes may be made. Whoever is asked can see their lines first.
func (w workplace) agree(changes []setup.Change) (bool, error) {
	switch {
	case *w.dryRun:
		return false, w.say("Nothing was changed: this was a dry run.\n")
	case *w.yes:
		return true, nil
	case !w.canAsk():
		return false, usageError{errors.New("nothing was changed: standard input is not a terminal, so nobody can be asked; pass -yes to make these changes, or -dry-run to only see them")}
	}
	question := fmt.Sprintf("Change %d %s? [y/N, or d to see every line] ", len(changes), plural(len(changes), "file"))
	for answers := bufio.NewReader(w.Stdin); ; {
		answer, err := w.answer(answers, question)
		switch {
		case err != nil:
			return false, err
		case isYes(answer):
			return true, nil
		case answer != "d":
			return false, w.say("Nothing was changed.\n")
		}
		if err := w.showLines(changes); err != nil {
			return false, err
		}
	}
}

// ask asks a question, and reports whether the answer is yes.
func (w workplace) ask(question string) (bool, error) {
	answer, err := w.answer(bufio.NewReader(w.Stdin), question+" [y/N] ")
	return isYes(answer), err
}

// answer asks a question, and returns the answer in lower case. The end of the input is the answer "".
func (w workplace) answer(answers *bufio.Reader, question string) (string, error) {
	if err := w.say("%s", question); err != nil {
		return "", err
	}
	answer, err := answers.ReadString('\n')
	if err != nil && err != io.EOF {
		return "", err
	}
	return strings.ToLower(strings.TrimSpace(answer)), nil
}

func isYes(answer string) bool { return answer == "y" || answer == "yes" }

// canAsk reports whether there is somebody who can answer a question.
func (p Program) canAsk() bool {
	file, ok := p.Stdin.(*os.File)
	return p.Stdin != nil && (!ok || term.IsTerminal(int(file.Fd()))) //nolint:gosec // a file descriptor fits into an int
}

// sayDone says that a change was made, and where the backup is.
func (w workplace) sayDone(c setup.Change) error {
	switch backup := c.Backup(); {
	case c.New == nil:
		return w.say("Removed %s\n", w.short(c.Path))
	case backup != "":
		return w.say("Changed %s (as it was: %s)\n", w.short(c.Path), w.short(backup))
	}
	return w.say("Changed %s\n", w.short(c.Path))
}
