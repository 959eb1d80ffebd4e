//go:build unix

package e2e

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
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

// needsTools skips a test on a machine that lacks a tool.
func needsTools(t *testing.T, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s: install it, then run go test -run %s .", tool, t.Name())
		}
	}
}

// blocks returns the code of a page, each with its language.
func blocks(text, languages string) [][]string {
	return regexp.MustCompile("(?ms)^```("+languages+")\n(.*?)^```$").FindAllStringSubmatch(text, -1)
}

// shell runs commands of the manual against p, and returns what they print.
func shell(t *testing.T, p *process, commands string) string {
	t.Helper()
	cmd := exec.Command("bash", "-euo", "pipefail", "-c", strings.ReplaceAll(commands, "localhost:8080", p.address))
	out, err := cmd.Output()
	require.NoError(t, err, commands)
	return string(out)
}

// changing is what is another one in each answer.
var changing = regexp.MustCompile(`20\d\d-\d\d-\d\dT[\d:.]+Z|"uptime_seconds":\d+|"version":"[^"]*"`)

// TestTheTour does what the README's quick start and the tour have a newcomer do, and holds the answers to what they say. What needs a
// minute to pass is left out: TestExpiryTellsTheTruth has it.
func TestTheTour(t *testing.T) {
	needsTools(t, "bash", "curl")
	pages := manual(t)
	_, quick, _ := strings.Cut(pages["README.md"], "With the server running")
	quick, _, _ = strings.Cut(quick, "\n## ")
	p := start(t, "SHUTDOWN_TIMEOUT=100ms")
	steps := append(blocks(quick, "sh|json"), blocks(pages["docs/tour.md"], "sh|json")...)
	require.Greater(t, len(steps), 16)
	slept := 0
	for pair := range slices.Chunk(steps, 2) {
		require.Len(t, pair, 2)
		commands, answers := pair[0], pair[1]
		require.Equal(t, []string{"sh", "json"}, []string{commands[1], answers[1]})
		if strings.Contains(commands[2], "sleep") {
			slept++
			continue
		}
		want := strings.ReplaceAll(answers[2], "\n ", "") // lines are broken there to be read
		require.Equal(t, changing.ReplaceAllString(want, "…"), changing.ReplaceAllString(shell(t, p, commands[2]), "…"), commands[2])
	}
	require.Equal(t, 1, slept, "one step waits a minute")
	require.Zero(t, p.stop(t))
}

// TestConnectingAsTheManualSays runs the commands of the page that says how to connect a tool.
func TestConnectingAsTheManualSays(t *testing.T) {
	needsTools(t, "bash", "curl")
	pages := manual(t)
	p := start(t, "SHUTDOWN_TIMEOUT=100ms")
	_, connect, _ := strings.Cut(pages["README.md"], "## Connect your agent")
	connect, _, _ = strings.Cut(connect, "\n## ")
	for _, block := range append(blocks(connect, "sh"), blocks(pages["docs/connect.md"], "sh")[0]) {
		require.NotEmpty(t, shell(t, p, block[2]), block[2])
	}
	_, events, _ := strings.Cut(pages["docs/connect.md"], "## A2A and CloudEvents")
	for _, block := range blocks(events, "sh") {
		require.Contains(t, shell(t, p, block[2]), `"success":true`, block[2])
	}
	require.Zero(t, p.stop(t))
}

// TestSharingAsTheManualSays makes tokens as the README and the page on access say, and gets in with each.
func TestSharingAsTheManualSays(t *testing.T) {
	needsTools(t, "bash", "curl", "openssl", "sha256sum")
	pages := manual(t)
	_, share, _ := strings.Cut(pages["README.md"], "## Share it with a team")
	_, tokens, _ := strings.Cut(pages["docs/access.md"], "## Tokens")
	byHand := blocks(tokens, "sh")[1][2]
	for name, commands := range map[string]string{
		"README":         blocks(share, "sh")[0][2],
		"docs/access.md": strings.Replace(blocks(tokens, "sh")[0][2], "TOKENS_FILE=tokens go run main.go\n", "", 1),
		"by hand":        byHand,
	} {
		dir := t.TempDir()
		cmd := exec.Command("bash", "-euo", "pipefail", "-c", strings.ReplaceAll(commands, "go run .", program()))
		cmd.Dir = dir
		said, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s: %s", name, said)
		made := strings.Fields(string(said))
		require.Len(t, made, strings.Count(commands, ">> tokens")+strings.Count(commands, ">>tokens"), name)
		p := start(t, "TOKENS_FILE="+filepath.Join(dir, "tokens"), "SHUTDOWN_TIMEOUT=100ms")
		for _, token := range made {
			r, err := http.NewRequest(http.MethodPost, "http://"+p.address+"/webhook/status", strings.NewReader(reportOf("team-a/x", "t", "running")))
			require.NoError(t, err)
			r.Header.Set("Authorization", "Bearer "+token)
			resp, err := http.DefaultClient.Do(r)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.Equal(t, http.StatusOK, resp.StatusCode, name)
		}
		require.Zero(t, p.stop(t))
	}
}
