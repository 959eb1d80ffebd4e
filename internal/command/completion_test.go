package command_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/command"
)

// completions are what the shells must offer for lines that end where the Tab key is pressed. A file report.txt is in
// the current directory.
var completions = map[string][]string{
	"kubeagents s":                   {"serve", "status"},
	"kubeagents completion ":         {"bash", "fish", "zsh"},
	"kubeagents connect co":          {"codex", "copilot"},
	"kubeagents token -s":            {"-scopes"},
	"kubeagents status -":            {"-json", "-line", "-n", "-server", "-token-file", "-watch"},
	"kubeagents help vers":           {"version"},
	"kubeagents notify rep":          {"report.txt"},
	"kubeagents restore rep":         {"report.txt"},
	"kubeagents backup -":            {"-keep", "-server", "-token-file"},
	"kubeagents status -token-file ": {"report.txt"},
}

// shell runs a script in a shell, in a directory with the completions for it and report.txt, and returns its output.
// {{LINE}} in the script stands for line.
func shell(t *testing.T, name, script, line string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("%s is missing: install it", name)
	}
	printed := run(t, nil, nil, "completion", name)
	require.Equal(t, command.ExitOK, printed.status, printed.stderr)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "report.txt"), nil, 0o600))
	completionsDir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(completionsDir, "_kubeagents"), []byte(printed.stdout), 0o600))
	cmd := exec.CommandContext(t.Context(), name, "-c", strings.ReplaceAll(script, "{{LINE}}", line))
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "SCRIPTS=" + completionsDir, "TERM=dumb", "LC_ALL=C.UTF-8"}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return string(out)
}

func TestBashCompletion(t *testing.T) {
	const script = `
source "$SCRIPTS/_kubeagents"
read -ra COMP_WORDS <<<'{{LINE}}'
[[ '{{LINE}}' != *' ' ]] || COMP_WORDS+=('')
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_kubeagents
((${#COMPREPLY[@]})) || mapfile -t COMPREPLY < <(compgen -f -- "${COMP_WORDS[COMP_CWORD]}")  # -o default
complete -p kubeagents | grep -q -- '-o default'
printf '%s\n' "${COMPREPLY[@]}"`
	for line, want := range completions {
		if strings.HasSuffix(line, "-token-file ") {
			continue // offers flags too
		}
		require.ElementsMatch(t, want, strings.Fields(shell(t, "bash", script, line)), line)
	}
}

func TestFishCompletion(t *testing.T) {
	const script = `
source $SCRIPTS/_kubeagents
complete -C '{{LINE}}'`
	for line, want := range completions {
		var offered []string
		for offer := range strings.Lines(shell(t, "fish", script, line)) {
			word, _, _ := strings.Cut(strings.TrimSpace(offer), "\t")
			offered = append(offered, word)
		}
		require.ElementsMatch(t, want, offered, line)
	}
}

// TestZshCompletion presses Tab in a zsh on a terminal, which prints what it would offer.
func TestZshCompletion(t *testing.T) {
	const script = `
cat >$SCRIPTS/setup <<'END'
PROMPT=
fpath=($SCRIPTS $fpath)
autoload -U compinit
compinit -u -D
bindkey '^I' complete-word
zstyle ':completion:*' insert-tab false
compadd() {
    if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\ * ]]; then
        builtin compadd "$@"
        return
    fi
    local -a offers
    builtin compadd -A offers "$@"
    print -rl -- '' OFFER:$^offers
    builtin compadd "$@"
}
comppostfuncs=(exit)
print READY
END
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell 'source $SCRIPTS/setup'
while zpty -r shell line && [[ $line != READY* ]]; do :; done
zpty -w -n shell '{{LINE}}'$'\t'
while zpty -r shell line; do print -rn -- $line; done
true
`
	for line, want := range completions {
		out := shell(t, "zsh", script, line)
		var offered []string
		for row := range strings.Lines(out) {
			if _, offer, ok := strings.Cut(strings.TrimSpace(row), "OFFER:"); ok && offer != "" {
				offered = append(offered, offer)
			}
		}
		slices.Sort(offered)
		require.Equal(t, want, slices.Compact(offered), "%s\n%s", line, out)
	}
}

func TestCompletionForUnknownShell(t *testing.T) {
	r := run(t, nil, nil, "completion", "tcsh")
	require.Equal(t, command.ExitUsage, r.status)
	require.Equal(t, "kubeagents: completion: unknown shell \"tcsh\": the shells are bash, zsh, fish\n", r.stderr)
}
