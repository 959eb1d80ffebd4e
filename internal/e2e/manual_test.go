//go:build unix

package e2e

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/access/accesstest"
)

// mostREADMELines is how long the README may be: it is for those who see the project for the first time.
const mostREADMELines = 250

// manual returns the README and the pages of docs, by path.
func manual(t *testing.T) map[string]string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(root, "docs/*.md"))
	require.NoError(t, err)
	require.Greater(t, len(paths), 10)
	pages := map[string]string{}
	for _, path := range append(paths, filepath.Join(root, "README.md")) {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		path, err = filepath.Rel(root, path)
		require.NoError(t, err)
		pages[path] = string(text)
	}
	return pages
}

var (
	fence   = regexp.MustCompile("(?ms)^```.*?^```$")
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	unnamed = regexp.MustCompile(`[^\p{L}\p{N}_\- ]`)
)

// anchors returns the anchors that GitHub gives to the headings of a page.
func anchors(text string) (names []string) {
	for _, found := range heading.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		names = append(names, strings.ReplaceAll(unnamed.ReplaceAllString(strings.ToLower(found[1]), ""), " ", "-"))
	}
	return names
}

// TestLinksOfTheManual follows each link of the manual to a file, and to a heading where it names one, and each page from the README.
func TestLinksOfTheManual(t *testing.T) {
	pages := manual(t)
	for path, text := range pages {
		for _, found := range link.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
			to, anchor, named := strings.Cut(found[1], "#")
			if strings.Contains(to, "://") {
				continue
			}
			target := path
			if to != "" {
				target = filepath.Join(filepath.Dir(path), to)
			}
			_, err := os.Stat(filepath.Join(root, target))
			require.NoError(t, err, "%s: %s", path, found[1])
			if named {
				require.Contains(t, anchors(pages[target]), anchor, "%s: %s", path, found[1])
			}
		}
		if path != "README.md" {
			require.Contains(t, pages["README.md"], "]("+path+")", "the README has no link to it")
		}
	}
	require.LessOrEqual(t, strings.Count(pages["README.md"], "\n"), mostREADMELines)
}

// TestTheManualNamesEveryMetric compares the metrics of a server that has a journal and tokens with those that the manual names.
func TestTheManualNamesEveryMetric(t *testing.T) {
	path, holders := accesstest.TokensFile(t, accesstest.EveryKind())
	p := serve(t, "DATA_DIR="+t.TempDir(), "TOKENS_FILE="+path)
	// Some metrics are exposed once they have counted something.
	require.Equal(t, http.StatusUnauthorized, p.ask(http.MethodGet, "/metrics", "").Code)
	require.Equal(t, http.StatusOK, p.ask(http.MethodPost, "/webhook/codex", `{"hook_event_name":"Stop","session_id":"t"}`, holders["reports"].Header()...).Code)
	scraped := p.ask(http.MethodGet, "/metrics", "", holders["reads"].Header()...).Body.String()
	exposed := map[string]bool{}
	pages := manual(t)
	for _, found := range regexp.MustCompile(`(?m)^# TYPE (kubeagents_\w+) `).FindAllStringSubmatch(scraped, -1) {
		exposed[found[1]] = true
		require.Contains(t, pages["docs/operate.md"], "`"+found[1], "docs/operate.md lacks a metric")
	}
	require.Greater(t, len(exposed), 25)
	for path, text := range pages {
		for _, named := range regexp.MustCompile(`\bkubeagents_[a-z_]+`).FindAllString(text, -1) {
			require.True(t, exposed[named], "%s has %s, which is no metric", path, named)
		}
	}
	require.Zero(t, p.stop(t))
}

// needsTools skips a test on a machine that lacks a tool.
func needsTools(t *testing.T, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s: install it, then run go test -run %s .", tool, t.Name())
		}
	}
}

// block is a block of code of the manual.
type block struct {
	language, code string
	notRun         string // the reason why a test does not run it
}

var fenced = regexp.MustCompile("(?ms)(?:^<!-- not run: ([^\n]*) -->\n)?^```(\\w*)\n(.*?)^```$")

// blocksOf returns the code of a page.
func blocksOf(text string) (all []block) {
	for _, found := range fenced.FindAllStringSubmatch(text, -1) {
		all = append(all, block{found[2], found[3], found[1]})
	}
	return all
}

// notRun is how many blocks of commands the manual says can't run in a test.
const notRun = 6

// TestTheCommandsOfTheManual runs the commands of each page, one after another, in one shell and an empty folder, and requires of
// their output what the page shows after them, or else that nothing is refused.
func TestTheCommandsOfTheManual(t *testing.T) {
	needsTools(t, "bash", "base64", "curl", "od", "openssl", "sha256sum", "tar")
	pages := manual(t)
	_, quickStart, _ := strings.Cut(pages["README.md"], "## Quick Start")
	quickStart, _, _ = strings.Cut(quickStart, "\n## ")
	pages["docs/tour.md"] = quickStart + pages["docs/tour.md"] // where it begins
	var left atomic.Int32
	t.Run("pages", func(t *testing.T) {
		for path, text := range pages {
			t.Run(path, func(t *testing.T) {
				t.Parallel()
				left.Add(int32(runPage(t, blocksOf(text)))) //nolint:gosec // there are few
			})
		}
	})
	left.Add(-int32(strings.Count(quickStart, "<!-- not run"))) //nolint:gosec // as above
	require.EqualValues(t, notRun, left.Load())
}

// runPage runs the commands of a page, and returns how many of its blocks it left out.
func runPage(t *testing.T, blocks []block) (left int) {
	dir := t.TempDir()
	shell := newManualShell(t, dir)
	var script strings.Builder
	for i, b := range blocks {
		if b.notRun != "" {
			left++
		}
		if b.language == "sh" && b.notRun == "" {
			fmt.Fprintf(&script, "echo; echo '== %d'\n%s\n", i, b.code)
		}
	}
	if script.Len() == 0 {
		return left
	}
	outputs := shell.run(t, script.String())
	for i, output := range outputs {
		if i+1 < len(blocks) && blocks[i+1].language == "json" {
			want := strings.ReplaceAll(blocks[i+1].code, "\n ", "") // lines are broken there to be read
			require.Equal(t, withoutTimes(want), withoutTimes(output), blocks[i].code)
		}
		require.Equal(t, i+1 < len(blocks) && strings.Contains(blocks[i+1].code, `"error":`), strings.Contains(output, `"error":`), "%s\n%s", blocks[i].code, output)
	}
	return left
}

// withoutTimes blanks what is different in every response, and space at the ends of lines.
func withoutTimes(text string) string {
	changing := regexp.MustCompile(`20\d\d-\d\d-\d\dT[\d:.]+Z|"uptime_seconds":\d+|"version":"[^"]*"`)
	return strings.TrimSpace(changing.ReplaceAllString(text, "…"))
}

// manualShell runs commands as the manual has them typed, except that the server listens on a free port of 127.0.0.1, and that
// absolute paths lie in a folder.
type manualShell struct {
	dir     string
	address string
}

func newManualShell(t *testing.T, dir string) manualShell {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	for _, folder := range []string{"var/lib", "var/backups"} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, folder), 0o700))
	}
	return manualShell{dir, listener.Addr().String()}
}

// prelude defines the commands that are typed: go run, and the program by its name. A command without arguments (re)starts the
// server in the background, and waits until it is ready.
const prelude = `
unset DATA_DIR TOKENS_FILE WEBHOOK_SECRET TLS_CERT_FILE TLS_KEY_FILE
export HOST=127.0.0.1 TOKEN=none KUBEAGENTS_TOKEN=none SHUTDOWN_TIMEOUT=100ms
server=
stop() { [[ -z $server ]] || { kill -TERM "$server" && wait "$server"; }; }
serve() {
	stop
	"$PROGRAM" >>server.log 2>&1 &
	server=$!
	until curl -fso server.ready "http://$ADDRESS/health/ready" || curl -fsko server.ready "https://$ADDRESS/health/ready"; do
		kill -0 "$server" || { cat server.log >&2; return 1; }
	done
}
kubeagents() {
	(($#)) || { serve; return; }
	"$PROGRAM" "$@" 2>said || { cat said >&2; return 1; }
	cat said >>all-said
}
go() {
	[[ $1 == run && ( $2 == . || $2 == main.go ) ]] || { echo "a test knows no go $*" >&2; return 1; }
	shift 2
	kubeagents "$@"
}
token() { grep -o 'ka_[A-Za-z0-9_-]*' all-said | head -1; }
trap stop EXIT
serve
`

// run runs commands, and returns what each block of them, which begins with a line "== number", wrote to standard output.
func (s manualShell) run(t *testing.T, commands string) map[int]string {
	t.Helper()
	commands = strings.NewReplacer("localhost:8080", s.address, "https://hub.example", "http://"+s.address, "ka_…", "$(token)",
		"HOST=0.0.0.0", "HOST=127.0.0.1", "/var/", s.dir+"/var/").Replace(commands)
	_, port, err := net.SplitHostPort(s.address)
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), "bash", "-e", "-o", "pipefail", "-c", prelude+commands)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "HOME="+s.dir, "PORT="+port, "ADDRESS="+s.address, "PROGRAM="+program())
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	require.NoError(t, cmd.Run(), "%s\n%s\n%s", commands, &stdout, &stderr)
	outputs := map[int]string{}
	for _, part := range strings.Split(stdout.String(), "\n== ")[1:] {
		number, output, _ := strings.Cut(part, "\n")
		i, err := strconv.Atoi(number)
		require.NoError(t, err)
		outputs[i] = output
	}
	return outputs
}
