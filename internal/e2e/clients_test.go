//go:build unix

package e2e

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/internal/access/accesstest"
	"github.com/kubeagents/kubeagents/internal/connect"
	"github.com/kubeagents/kubeagents/models"
)

// clientsVariable names the folder that npm installed the clients into; see make test-clients. Where capturesVariable names a
// folder, what each client posted is kept in it.
const (
	clientsVariable  = "KUBEAGENTS_CLIENTS"
	capturesVariable = "KUBEAGENTS_CAPTURES"
)

// The clients that npm installed, by the names of their files.
const (
	newestClaudeCode = "claude"
	oldestClaudeCode = "../oldest-claude-code/cli.js" // at the version that /connect names
)

// workplace is a machine that clients run on: a home and a project of their own, and a server that they report to.
type workplace struct {
	t             testing.TB
	server        *process
	reader        accesstest.Holder // who reads from the server
	address       string            // of the server
	model         string            // the address of the models' API
	token         string            // that the server wants
	home, project string
	bin           string

	mu     sync.Mutex
	posted []posting // guarded by mu
}

// posting is an event that a client posted.
type posting struct {
	path   string // with its query
	header http.Header
	body   []byte
	status int // of the answer
}

// host returns the machine that the event says it comes from, by its header or its address.
func (p posting) host(t testing.TB) string {
	t.Helper()
	address, err := url.Parse(p.path)
	require.NoError(t, err)
	return cmp.Or(p.header.Get("X-Agent-Host"), address.Query().Get("agent_host"))
}

func newWorkplace(t testing.TB) *workplace {
	t.Helper()
	p := prepareWorkplace(t)
	listening := httptest.NewServer(p)
	t.Cleanup(listening.Close)
	p.address = listening.URL
	return p
}

// prepareWorkplace returns a workplace whose server is not listening yet.
func prepareWorkplace(t testing.TB) *workplace {
	t.Helper()
	installed := os.Getenv(clientsVariable)
	if installed == "" {
		t.Skip("the clients are not installed: run make test-clients")
	}
	path, holders := accesstest.TokensFile(t, map[string]access.Entry{"reports": {Scopes: []string{"report"}}, "reads": {Scopes: []string{"read"}}})
	p := &workplace{t: t, server: serve(t, "TOKENS_FILE="+path), reader: holders["reads"], token: holders["reports"].Token,
		model: startModelAPI(t), home: t.TempDir(), bin: filepath.Join(installed, "node_modules", ".bin")}
	p.project = filepath.Join(p.home, "payments")
	require.NoError(t, os.Mkdir(p.project, 0o700))
	t.Cleanup(p.keepCaptures)
	return p
}

// ServeHTTP passes requests on to the server, and remembers what is posted to it.
func (p *workplace) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: p.server.address})
	if r.Method != http.MethodPost {
		proxy.ServeHTTP(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	answer := httptest.NewRecorder()
	proxy.ServeHTTP(answer, r)
	p.mu.Lock()
	p.posted = append(p.posted, posting{r.URL.String(), r.Header, body, answer.Code})
	p.mu.Unlock()
	for name, values := range answer.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.Code)
	w.Write(answer.Body.Bytes()) //nolint:errcheck // its client is gone
}

// postings returns what was posted so far.
func (p *workplace) postings() []posting {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.posted)
}

// keepCaptures writes down what was posted, if that is asked for.
func (p *workplace) keepCaptures() {
	folder := os.Getenv(capturesVariable)
	if folder == "" {
		return
	}
	var lines bytes.Buffer
	for _, posted := range p.postings() {
		line, err := json.Marshal(map[string]any{"path": posted.path, "body": json.RawMessage(posted.body)})
		require.NoError(p.t, err)
		lines.WriteString(strings.ReplaceAll(string(line), p.home, "/home/dev") + "\n")
	}
	p.write(filepath.Join(folder, strings.ReplaceAll(p.t.Name(), "/", "-")+".ndjson"), lines.String())
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
	cmd.Env = append(p.environment(), append(environment, "NO_COLOR=1", "CI=1")...)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	require.NoError(p.t, err, "%s", out)
	require.Contains(p.t, string(out), modelSays, "%s", out)
}

func (p *workplace) environment() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + p.home, "KUBEAGENTS_TOKEN=" + p.token}
}

// agentOf returns the agent that a client's events made: they name its folder and its machine.
func (p *workplace) agentOf(client string) models.Agent {
	p.t.Helper()
	id := client + ":payments@" + hostname(p.t)
	var agent models.Agent
	p.read("/api/agents/"+url.PathEscape(id), &agent)
	return agent
}

// read reads an answer of the server.
func (p *workplace) read(target string, into any) {
	p.t.Helper()
	w := p.server.ask("GET", target, "", p.reader.Header()...)
	require.Equal(p.t, http.StatusOK, w.Code, "%s: %s", target, w.Body)
	require.NoError(p.t, json.Unmarshal(w.Body.Bytes(), into))
}

// sessionsOf returns the sessions of an agent, the oldest first.
func (p *workplace) sessionsOf(agentID string) []models.Session {
	p.t.Helper()
	var list struct{ Sessions []models.Session }
	p.read("/api/agents/"+url.PathEscape(agentID)+"/sessions?limit=1000", &list)
	slices.SortFunc(list.Sessions, func(a, b models.Session) int { return a.Created.Compare(b.Created) })
	return list.Sessions
}

func hostname(t testing.TB) string {
	t.Helper()
	host, err := os.Hostname()
	require.NoError(t, err)
	return host
}

// histories returns what the server knows of the sessions of an agent: of each, the oldest first, its statuses and messages in
// the order in which they came.
func (p *workplace) histories(agentID string) (titles []string, histories [][]string) {
	p.t.Helper()
	for _, se := range p.sessionsOf(agentID) {
		var shown detail
		p.read("/api/agents/"+url.PathEscape(agentID)+"/sessions/"+url.PathEscape(se.Topic), &shown)
		history := []string{}
		for _, status := range slices.Backward(shown.History) {
			history = append(history, status.Status.String()+"|"+status.Message)
		}
		titles, histories = append(titles, se.Title), append(histories, history)
	}
	return titles, histories
}

// runs are what is to be known of two runs of a client, one without a tool and one with one.
type runs struct {
	client, tool string
	titles       []string // of the sessions: those of the prompts unless the client has better ones
	end          string   // the message with which they end: what the model says unless the client does not pass it on
}

// holdRuns holds what is known of two runs, and that every event arrived and says which machine it comes from.
func (p *workplace) holdRuns(want runs) {
	p.t.Helper()
	require.FileExists(p.t, filepath.Join(p.project, "made-by-tool"))
	for _, posted := range p.postings() {
		require.Equal(p.t, http.StatusOK, posted.status, "%s", posted.body)
		require.Equal(p.t, hostname(p.t), posted.host(p.t), "%s", posted.body)
		require.True(p.t, json.Valid(posted.body), "%s", posted.body)
	}
	if want.titles == nil {
		want.titles = prompts
	}
	end := cmp.Or(want.end, modelSays)
	agent := p.agentOf(want.client)
	titles, histories := p.histories(agent.ID)
	require.Equal(p.t, want.titles, titles)
	for i, want := range [][]string{
		{"success|Session started", "running|" + prompts[0], "success|" + end},
		{"success|Session started", "running|" + promptForTool, "running|" + want.tool + ": touch made-by-tool", "success|" + end},
	} {
		require.Equal(p.t, want, histories[i])
	}
	require.Equal(p.t, "payments", agent.Name)
	require.Equal(p.t, want.client, agent.Source)
	require.Equal(p.t, 2, agent.SessionCount)
	require.Equal(p.t, 2, agent.ActiveSessionCount)
	require.Equal(p.t, models.Success, agent.LatestStatus)
	require.Equal(p.t, end, agent.LatestMessage)
}

var prompts = []string{"Fix the flaky checkout test", promptForTool}

// claudeKey is what Claude Code takes for a key of Anthropic's API.
const claudeKey = "sk-ant-none-0000000000000000"

func (p *workplace) claudeEnvironment() []string {
	return []string{"ANTHROPIC_BASE_URL=" + p.model, "ANTHROPIC_API_KEY=" + claudeKey, "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1", "DISABLE_AUTOUPDATER=1"}
}

// runClaudeCode has Claude Code work in the project, and holds what is then known.
func (p *workplace) runClaudeCode(client string) {
	p.t.Helper()
	p.paste("claude-code", filepath.Join(p.home, ".claude/settings.json"))
	for _, prompt := range prompts {
		p.run(p.claudeEnvironment(), client, "-p", prompt, "--allowedTools", "Bash")
	}
	p.holdRuns(runs{client: "claude-code", tool: "Bash"})
}

func TestRealClaudeCode(t *testing.T) {
	t.Parallel()
	newWorkplace(t).runClaudeCode(newestClaudeCode)
}

// TestRealClaudeCodeOldest has the oldest version that /connect names report.
func TestRealClaudeCodeOldest(t *testing.T) {
	t.Parallel()
	p := newWorkplace(t)
	text, err := os.ReadFile(filepath.Join(p.bin, filepath.Dir(oldestClaudeCode), "package.json"))
	require.NoError(t, err)
	var installed struct{ Version string }
	require.NoError(t, json.Unmarshal(text, &installed))
	require.Equal(t, connect.Named("claude-code").Since, installed.Version)
	p.runClaudeCode(oldestClaudeCode)
}

// TestRealClaudeCodeByMCP has Claude Code's model call a tool of the server.
func TestRealClaudeCodeByMCP(t *testing.T) {
	t.Parallel()
	p := newWorkplace(t)
	settings := filepath.Join(p.project, "mcp.json")
	p.paste("mcp", settings)
	environment := append(p.claudeEnvironment(), "ENABLE_TOOL_SEARCH=false") // so that the model is offered the tool at once
	p.run(environment, newestClaudeCode, "-p", promptForMCP, "--mcp-config", settings, "--strict-mcp-config", "--allowedTools", "mcp__kubeagents__report_status")
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
		"",
	}, "\n"))
	for _, prompt := range prompts {
		p.run([]string{"STANDIN_KEY=none"}, "codex", "exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", "--dangerously-bypass-hook-trust", prompt)
	}
	p.holdRuns(runs{client: "codex", tool: "Bash"})
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
	p.holdRuns(runs{client: "gemini-cli", tool: "run_shell_command"})
}

func TestRealOpenCode(t *testing.T) {
	t.Parallel()
	p := newWorkplace(t)
	p.paste("opencode", filepath.Join(p.home, ".config/opencode/plugins/kubeagents.js"))
	p.write(filepath.Join(p.home, ".config/opencode/opencode.json"), `{"model":"anthropic/claude-sonnet-4-5","small_model":"anthropic/claude-sonnet-4-5",
		"provider":{"anthropic":{"options":{"baseURL":"`+p.model+`/v1","apiKey":"none"}}},"autoupdate":false,"permission":{"bash":"allow"}}`)
	for _, prompt := range prompts {
		p.run([]string{"OPENCODE_DISABLE_MODELS_FETCH=1"}, "opencode", append([]string{"run"}, strings.Fields(prompt)...)...)
	}
	p.holdRuns(runs{client: "opencode", tool: "bash", titles: []string{modelSays, modelSays}, end: "Done"})
}

func TestRealCopilot(t *testing.T) {
	t.Parallel()
	p := newWorkplace(t)
	p.paste("copilot", filepath.Join(p.home, ".copilot/hooks/kubeagents.json"))
	environment := []string{"COPILOT_OFFLINE=true", "COPILOT_PROVIDER_BASE_URL=" + p.model, "COPILOT_PROVIDER_TYPE=anthropic", "COPILOT_MODEL=claude-sonnet-4-5"}
	for _, prompt := range prompts {
		p.run(environment, "copilot", "-p", prompt, "--allow-all-tools")
	}
	p.holdRuns(runs{client: "copilot", tool: "bash", end: "Done"})
}
