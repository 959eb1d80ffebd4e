package command

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"strings"

	"github.com/kubeagents/kubeagents/internal/connect"
)

// shells are the shells that have completions, each with the function that writes its script.
var shells = []struct {
	name   string
	script func([]completable) string
}{{"bash", bashCompletion}, {"zsh", zshCompletion}, {"fish", fishCompletion}}

func shellNames() (names []string) {
	for _, shell := range shells {
		names = append(names, shell.name)
	}
	return names
}

// completion returns the command that prints completions. It is not a variable, because the completions list all
// commands, and so this one.
func completion() command {
	return command{
		name:     "completion",
		argument: "SHELL",
		summary:  "print completions for the shell SHELL: bash, zsh or fish",
		help: "Packages install them. Otherwise, in bash, add this line to ~/.bashrc:\n\n" +
			"  source <(kubeagents completion bash)\n\n" +
			"In zsh, save them as _kubeagents in a folder of $fpath; in fish, as ~/.config/fish/completions/kubeagents.fish.",
		define: func(*flag.FlagSet) action {
			return func(_ context.Context, p Program, arguments []string) error {
				for _, shell := range shells {
					if shell.name == arguments[0] {
						_, err := fmt.Fprint(p.Stdout, shell.script(completables()))
						return err
					}
				}
				return usageError{fmt.Errorf("unknown shell %q: the shells are %s", arguments[0], strings.Join(shellNames(), ", "))}
			}
		},
	}
}

// completable is what completes after a command.
type completable struct {
	name, summary string
	words         []string // the values of its arguments, nil if they are files or if there are none
	files         bool     // whether its arguments are files
	flags         []completableFlag
}

type completableFlag struct {
	name, usage string
	value       string // the name of its value, "" for a flag without one
	files       bool   // whether its value is a file
}

func completables() (all []completable) {
	names := []string{}
	for _, c := range commands() {
		one := completable{name: c.name, summary: c.summary, files: slices.Contains([]string{"DIR", "FILE", "BACKUP"}, c.argument)}
		switch c.argument {
		case "TOOL":
			for _, tool := range connect.Tools() {
				one.words = append(one.words, tool.Name)
			}
		case "SHELL":
			one.words = shellNames()
		}
		flags, _ := c.flags()
		flags.VisitAll(func(f *flag.Flag) {
			value, usage := flag.UnquoteUsage(f)
			one.flags = append(one.flags, completableFlag{f.Name, usage, value, value == "file"})
		})
		names = append(names, c.name)
		all = append(all, one)
	}
	return append(all, completable{name: "help", summary: "list the commands, or describe one", words: names})
}

func bashCompletion(all []completable) string {
	var names []string
	var cases strings.Builder
	for _, c := range all {
		names = append(names, c.name)
		words := c.words
		for _, f := range c.flags {
			words = append(words, "-"+f.name)
		}
		if len(words) > 0 {
			fmt.Fprintf(&cases, "    %s) words='%s' ;;\n", c.name, strings.Join(words, " "))
		}
	}
	return `# Completions of kubeagents for bash. Where there is nothing else to complete, files are.
_kubeagents() {
    local words=
    COMPREPLY=()
    case ${COMP_WORDS[1]} in
` + cases.String() + `    esac
    ((COMP_CWORD > 1)) || words='` + strings.Join(names, " ") + `'
    local word
    for word in $words; do
        [[ $word != "${COMP_WORDS[COMP_CWORD]}"* ]] || COMPREPLY+=("$word")
    done
}
complete -o default -F _kubeagents kubeagents
`
}

func zshCompletion(all []completable) string {
	var names, cases strings.Builder
	for _, c := range all {
		fmt.Fprintf(&names, "        %s\n", quoted(c.name+":"+c.summary))
		fmt.Fprintf(&cases, "    %s) _arguments", c.name)
		for _, f := range c.flags {
			spec := "-" + f.name + "[" + strings.NewReplacer("[", `\[`, "]", `\]`).Replace(f.usage) + "]"
			switch {
			case f.files:
				spec += ":" + f.value + ":_files"
			case f.value != "":
				spec += ":" + f.value + ": "
			}
			fmt.Fprintf(&cases, " \\\n        %s", quoted(spec))
		}
		switch {
		case c.words != nil:
			fmt.Fprintf(&cases, " \\\n        %s", quoted("*:argument:("+strings.Join(c.words, " ")+")"))
		case c.files:
			cases.WriteString(" \\\n        '*:file:_files'")
		}
		cases.WriteString(" ;;\n")
	}
	return `#compdef kubeagents
# Completions of kubeagents for zsh.
_kubeagents() {
    local -a commands=(
` + names.String() + `    )
    if ((CURRENT == 2)); then
        _describe command commands
        return
    fi
    shift words
    ((CURRENT--))
    case $words[1] in
` + cases.String() + `    esac
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _kubeagents "$@"
else
    compdef _kubeagents kubeagents
fi
`
}

func fishCompletion(all []completable) string {
	var script strings.Builder
	script.WriteString("# Completions of kubeagents for fish.\ncomplete -c kubeagents -f\n")
	for _, c := range all {
		fmt.Fprintf(&script, "complete -c kubeagents -n __fish_use_subcommand -a %s -d %s\n", c.name, quoted(c.summary))
		after := "-n '__fish_seen_subcommand_from " + c.name + "'"
		if c.words != nil {
			fmt.Fprintf(&script, "complete -c kubeagents %s -a %s\n", after, quoted(strings.Join(c.words, " ")))
		}
		if c.files {
			fmt.Fprintf(&script, "complete -c kubeagents %s -F\n", after)
		}
		for _, f := range c.flags {
			fmt.Fprintf(&script, "complete -c kubeagents %s -o %s -d %s", after, f.name, quoted(f.usage))
			switch {
			case f.files:
				script.WriteString(" -r -F")
			case f.value != "":
				script.WriteString(" -x")
			}
			script.WriteString("\n")
		}
	}
	return script.String()
}

// quoted returns text as one word of a shell. All texts are the program's own; none has a quote or a backslash.
func quoted(text string) string { return "'" + strings.ReplaceAll(text, "'", "’") + "'" }
