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
	"github.com/kubeagents/kubeagents/internal/natstest"
)

// maxREADMELines is the maximum length of the README, which is for readers who see the project for the first time.
const maxREADMELines = 250

// manual returns the texts of the README and of the pages in docs, by path.
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
	dropped = regexp.MustCompile(`[^\p{L}\p{N}_\- ]`)
)

// anchors returns the anchors that GitHub gives to the headings of a page.
func anchors(text string) (names []string) {
	for _, found := range heading.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		names = append(names, strings.ReplaceAll(dropped.ReplaceAllString(strings.ToLower(found[1]), ""), " ", "-"))
	}
	return names
}

// TestManualLinks checks that the file and the heading of each link in the manual exist, and that the README links to
// every page. It also checks the length of the README.
func TestManualLinks(t *testing.T) {
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
			require.Contains(t, pages["README.md"], "]("+path+")", "the README has no link to %s", path)
		}
	}
	require.LessOrEqual(t, strings.Count(pages["README.md"], "\n"), maxREADMELines)
}

// TestManualListsEveryMetric compares the metrics of a server with a journal, tokens, a certificate and notifications, and
// those of a server in a cluster, with those in the manual.
func TestManualListsEveryMetric(t *testing.T) {
	path, holders := accesstest.TokensFile(t, accesstest.EveryKind())
	rules := filepath.Join(t.TempDir(), "rules.yaml")
	require.NoError(t, os.WriteFile(rules, []byte("destinations: {a: {command: {program: /bin/true}}}\nrules: [{name: a, on: [lost], to: [a]}]\n"), 0o600))
	s := startTLS(t, "DATA_DIR="+t.TempDir(), "TOKENS_FILE="+path, "NOTIFY_FILE="+rules, "MAX_SESSIONS=3")
	// Some metrics are only exposed after they have counted something.
	require.Equal(t, http.StatusUnauthorized, s.do(t, http.MethodGet, "/metrics", "").Code)
	require.Equal(t, http.StatusOK, s.do(t, http.MethodPost, "/webhook/codex", `{"hook_event_name":"Stop","session_id":"t"}`, holders["reports"].Header()...).Code)
	require.Equal(t, http.StatusOK, s.do(t, http.MethodPost, "/webhook/status", reportOf("team/a", "t", "running"), holders["team"].Header()...).Code)
	scraped := s.do(t, http.MethodGet, "/metrics", "", holders["reads"].Header()...).Body.String()
	require.NotContains(t, scraped, "kubeagents_cluster_")
	clustered := start(t, "NATS_URL="+natstest.Start(t, 1).URL(), "DATA_DIR="+t.TempDir(), "NATS_REPLICAS=1")
	scraped += clustered.do(http.MethodGet, "/metrics", "").Body.String()
	exposed := map[string]bool{}
	pages := manual(t)
	for _, found := range regexp.MustCompile(`(?m)^# TYPE (kubeagents_\w+) `).FindAllStringSubmatch(scraped, -1) {
		exposed[found[1]] = true
		require.Contains(t, pages["docs/operate.md"], "`"+found[1], "docs/operate.md does not list this metric")
	}
	require.Greater(t, len(exposed), 25)
	for path, text := range pages {
		for _, named := range regexp.MustCompile(`\bkubeagents_[a-z_]+`).FindAllString(text, -1) {
			if strings.HasPrefix(named, "kubeagents_watcher_") {
				continue // a metric of another program
			}
			require.True(t, exposed[named], "%s names %s, which is not a metric", path, named)
		}
	}
	require.Zero(t, s.stop(t))
	require.Zero(t, clustered.stop(t))
}

// requireTools skips the test if the machine lacks one of the tools.
func requireTools(t *testing.T, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is missing: install it, then run go test ./internal/e2e -run %s", tool, t.Name())
		}
	}
}

// block is a code block in the manual.
type block struct {
	language, code string
	notRun         string // the reason why the test does not run it, "" if it does
}

var fenced = regexp.MustCompile("(?ms)(?:^<!-- not run: ([^\n]*) -->\n)?^```(\\w*)\n(.*?)^```$")

// blocksOf returns the code blocks of a page.
func blocksOf(text string) (all []block) {
	for _, found := range fenced.FindAllStringSubmatch(text, -1) {
		all = append(all, block{found[2], found[3], found[1]})
	}
	return all
}

// blocksNotRun is the number of blocks of commands that the manual marks as not run by a test.
const blocksNotRun = 39

// TestManualCommands runs the commands of each page in order, in one shell and an empty directory. Their output must be
// what the page shows after them. If the page shows no output, the output must not contain an error.
func TestManualCommands(t *testing.T) {
	requireTools(t, "bash", "base64", "curl", "od", "openssl", "sha256sum", "tar")
	pages := manual(t)
	_, quickStart, _ := strings.Cut(pages["README.md"], "## Quick Start")
	quickStart, _, _ = strings.Cut(quickStart, "\n## ")
	pages["docs/tour.md"] = quickStart + pages["docs/tour.md"] // the tour continues the quick start
	var skipped atomic.Int32
	t.Run("pages", func(t *testing.T) {
		for path, text := range pages {
			t.Run(path, func(t *testing.T) {
				t.Parallel()
				skipped.Add(int32(runPage(t, blocksOf(text)))) //nolint:gosec // the number is small
			})
		}
	})
	skipped.Add(-int32(strings.Count(quickStart, "<!-- not run"))) //nolint:gosec // as above
	require.EqualValues(t, blocksNotRun, skipped.Load())
}

// runPage runs the commands of a page, and returns how many blocks it skipped.
func runPage(t *testing.T, blocks []block) (skipped int) {
	dir := t.TempDir()
	shell := newManualShell(t, dir)
	var script strings.Builder
	for i, b := range blocks {
		if b.notRun != "" {
			skipped++
		}
		if b.language == "sh" && b.notRun == "" {
			fmt.Fprintf(&script, "echo; echo '== %d'\n%s\n", i, b.code)
		}
	}
	if script.Len() == 0 {
		return skipped
	}
	outputs := shell.run(t, script.String())
	for i, output := range outputs {
		if i+1 < len(blocks) && blocks[i+1].language == "json" {
			want := strings.ReplaceAll(blocks[i+1].code, "\n ", "") // the manual breaks long lines
			require.Equal(t, withoutTimes(want), withoutTimes(output), blocks[i].code)
		}
		require.Equal(t, i+1 < len(blocks) && strings.Contains(blocks[i+1].code, `"error":`), strings.Contains(output, `"error":`), "%s\n%s", blocks[i].code, output)
	}
	return skipped
}

// withoutTimes replaces what differs between runs and builds, such as timestamps, and trims the text.
func withoutTimes(text string) string {
	text = regexp.MustCompile(`"commit":"[^"]*",`).ReplaceAllString(text, "") // a build may not know it
	changing := regexp.MustCompile(`20\d\d-\d\d-\d\dT[\d:.]+Z|"uptime_seconds":\d+|"version":"[^"]*"|mut_\w+`)
	return strings.TrimSpace(changing.ReplaceAllString(text, "…"))
}

// manualShell runs commands as they are in the manual, except that the server listens on a free port of 127.0.0.1, and
// that absolute paths are in a temporary directory.
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

// prelude defines the commands go run and kubeagents. Without arguments, kubeagents starts or restarts the server in
// the background and waits until it is ready.
const prelude = `
unset DATA_DIR TOKENS_FILE WEBHOOK_SECRET TLS_CERT_FILE TLS_KEY_FILE
export HOST=127.0.0.1 KUBEAGENTS_SERVER=http://$ADDRESS TOKEN=none KUBEAGENTS_TOKEN=none SHUTDOWN_TIMEOUT=100ms
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
	"$PROGRAM" "$@" 2>stderr || { local status=$?; cat stderr >&2; return $status; }
	cat stderr >>all-stderr
}
go() {
	[[ $1 == run && ( $2 == . || $2 == main.go ) ]] || { echo "this test does not support: go $*" >&2; return 1; }
	shift 2
	kubeagents "$@"
}
token() { grep -o 'ka_[A-Za-z0-9_-]*' all-stderr | head -1; }
trap stop EXIT
serve
`

// run runs blocks of commands, each of which starts by printing a line "== number", and returns the standard output of
// each block by its number.
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
