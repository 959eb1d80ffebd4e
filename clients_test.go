package main

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/config"
	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/models"
)

// clientsVariable names the folder that npm installed the clients into; see make test-clients.
const clientsVariable = "KUBEAGENTS_CLIENTS"

// workplace is a machine that clients run on: a home and a project of their own, and a server that they report to.
type workplace struct {
	t             testing.TB
	server        *server
	address       string // of the server
	model         string // the address of the models' API
	token         string // that the server wants
	home, project string
	bin           string
}

func newWorkplace(t testing.TB) *workplace {
	t.Helper()
	installed := os.Getenv(clientsVariable)
	if installed == "" {
		t.Skip("the clients are not installed: run make test-clients")
	}
	path, holders := tokensFile(t, map[string]access.Entry{"reports": {Scopes: []string{"report"}}})
	p := &workplace{t: t, server: newGuardedServer(t, nil, config.Config{TokensFile: path}, nil), token: holders["reports"].token,
		model: startModelAPI(t), home: t.TempDir(), bin: filepath.Join(installed, "node_modules", ".bin")}
	p.project = filepath.Join(p.home, "payments")
	require.NoError(t, os.Mkdir(p.project, 0o700))
	listening := httptest.NewServer(p.server.Handler)
	t.Cleanup(listening.Close)
	p.address = listening.URL
	return p
}

// paste puts what the server shows for a client into a file.
func (p *workplace) paste(client, path string) {
	p.t.Helper()
	response, err := http.Get(p.address + "/connect/" + client) //nolint:noctx // the server bounds it
	require.NoError(p.t, err)
	defer response.Body.Close() //nolint:errcheck // it was read
	require.Equal(p.t, 200, response.StatusCode)
	lines, err := io.ReadAll(response.Body)
	require.NoError(p.t, err)
	p.write(path, string(lines))
}

func (p *workplace) write(path, text string) {
	p.t.Helper()
	require.NoError(p.t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(p.t, os.WriteFile(path, []byte(text), 0o600))
}

// run runs a client in the project, with nothing of this machine's own settings.
func (p *workplace) run(environment []string, client string, args ...string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(p.bin, client), args...)
	cmd.Dir = p.project
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + p.home, "KUBEAGENTS_TOKEN=" + p.token, "NO_COLOR=1", "CI=1"}, environment...)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	require.NoError(p.t, err, "%s", out)
	require.Contains(p.t, string(out), modelSays, "%s", out)
}

// histories returns what the server knows of the sessions of an agent: of each, the oldest first, its statuses and messages in
// the order in which they came.
func (p *workplace) histories(agentID string) (titles []string, histories [][]string) {
	p.t.Helper()
	s := p.server
	for _, se := range s.sessionsOf(p.t, agentID) {
		_, page, ok := s.store.Session(agentID, se.Topic, nil, 100)
		require.True(p.t, ok)
		history := []string{}
		for i := len(page.Items) - 1; i >= 0; i-- {
			history = append(history, page.Items[i].Status.String()+"|"+page.Items[i].Message)
		}
		titles, histories = append(titles, se.Title), append(histories, history)
	}
	return titles, histories
}

// holdRuns holds what is known of two runs, one without a tool and one with one.
func (p *workplace) holdRuns(client, tool string) {
	p.t.Helper()
	require.FileExists(p.t, filepath.Join(p.project, "made-by-tool"))
	titles, histories := p.histories(client + ":payments")
	require.Equal(p.t, []string{"Fix the flaky checkout test", promptForTool}, titles)
	for i, want := range [][]string{
		{"success|Session started", "running|Fix the flaky checkout test", "success|" + modelSays},
		{"success|Session started", "running|" + promptForTool, "running|" + tool + ": touch made-by-tool", "success|" + modelSays},
	} {
		require.Equal(p.t, want, histories[i])
	}
	agent, ok := p.server.store.Agent(client + ":payments")
	require.True(p.t, ok)
	require.Equal(p.t, models.Agent{ID: client + ":payments", Name: "payments", Source: client, Registered: agent.Registered, LastSeen: agent.LastSeen,
		SessionCount: 2, ActiveSessionCount: 2, LatestStatus: models.Success, LatestMessage: modelSays}, agent)
}

var prompts = []string{"Fix the flaky checkout test", promptForTool}

func TestRealClaudeCode(t *testing.T) {
	t.Parallel()
	p := newWorkplace(t)
	environment := []string{"ANTHROPIC_BASE_URL=" + p.model, "ANTHROPIC_API_KEY=none", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1", "DISABLE_AUTOUPDATER=1"}
	p.paste("claude-code", filepath.Join(p.home, ".claude/settings.json"))
	for _, prompt := range prompts {
		p.run(environment, "claude", "-p", prompt, "--allowedTools", "Bash")
	}
	p.holdRuns("claude-code", "Bash")
}

// TestRealClaudeCodeByMCP has Claude Code's model call a tool of the server.
func TestRealClaudeCodeByMCP(t *testing.T) {
	t.Parallel()
	p := newWorkplace(t)
	environment := []string{"ANTHROPIC_BASE_URL=" + p.model, "ANTHROPIC_API_KEY=none", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1", "DISABLE_AUTOUPDATER=1"}
	settings := filepath.Join(p.project, "mcp.json")
	p.paste("mcp", settings)
	p.run(environment, "claude", "-p", promptForMCP, "--mcp-config", settings, "--strict-mcp-config", "--allowedTools", "mcp__kubeagents__report_status")
	_, histories := p.histories("by-mcp")
	require.Equal(t, [][]string{{"pending|Which one?"}}, histories)
}

func TestRealCodex(t *testing.T) {
	t.Parallel()
	p := newWorkplace(t)
	p.paste("codex", filepath.Join(p.home, ".codex/hooks.json"))
	p.write(filepath.Join(p.home, ".codex/config.toml"), strings.Join([]string{
		`model = "gpt-5"`, `model_provider = "standin"`,
		`[model_providers.standin]`, `name = "stand-in"`, `base_url = "` + p.model + `/v1"`, `wire_api = "responses"`, `env_key = "STANDIN_KEY"`,
		`[features]`, `hooks = true`, "",
	}, "\n"))
	for _, prompt := range prompts {
		p.run([]string{"STANDIN_KEY=none"}, "codex", "exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", "--dangerously-bypass-hook-trust", prompt)
	}
	p.holdRuns("codex", "Bash")
}

func TestRealGeminiCLI(t *testing.T) {
	t.Parallel()
	p := newWorkplace(t)
	settings := filepath.Join(p.home, ".gemini/settings.json")
	p.paste("gemini-cli", settings)
	pasted, err := os.ReadFile(settings)
	require.NoError(t, err)
	// How to sign in is in the same file, as it is with everybody: the lines go beside it.
	p.write(settings, strings.Replace(string(pasted), "{", `{"security":{"auth":{"selectedType":"gemini-api-key"}},`, 1))
	for _, prompt := range prompts {
		p.run([]string{"GEMINI_API_KEY=none", "GOOGLE_GEMINI_BASE_URL=" + p.model}, "gemini", "-m", "gemini-2.5-flash", "-p", prompt, "--yolo", "--skip-trust")
	}
	p.holdRuns("gemini-cli", "run_shell_command")
}
