//go:build unix

package e2e

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"io"
	"io/fs"
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

// clientsVariable is the environment variable that names the directory into which npm installed the clients; see make
// test-clients. If capturesVariable names a directory, the tests write what each client posted to files in it.
const (
	clientsVariable  = "KUBEAGENTS_CLIENTS"
	capturesVariable = "KUBEAGENTS_CAPTURES"
)

// Paths of the installed versions of Claude Code, in npm's directory of executables.
const (
	newestClaudeCode = "claude"
	oldestClaudeCode = "../oldest-claude-code/cli.js" // the oldest version that /connect supports
)

// workplace is an environment for a client: a home directory, a project, and a server to report to.
type workplace struct {
	t             testing.TB
	server        *process
	reader        accesstest.Holder // for reading from the server
	address       string            // of the server
	model         string            // the address of the model API
	token         string            // for reporting to the server
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
	status int // of the response
}

// host returns the host that the event names in a header or in the query.
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
	installed := requireClients(t)
	path, holders := accesstest.TokensFile(t, map[string]access.Entry{"reports": {Scopes: []string{"report"}}, "reads": {Scopes: []string{"read"}}})
	p := &workplace{t: t, server: start(t, "TOKENS_FILE="+path), reader: holders["reads"], token: holders["reports"].Token,
		model: startModelAPI(t), home: t.TempDir(), bin: filepath.Join(installed, "node_modules", ".bin")}
	p.project = filepath.Join(p.home, "payments")
	require.NoError(t, os.Mkdir(p.project, 0o700))
	t.Cleanup(p.keepCaptures)
	return p
}

// requireClients skips the test if the clients are not installed, and else returns the directory that they are in.
func requireClients(t testing.TB) (installed string) {
	t.Helper()
	if installed = os.Getenv(clientsVariable); installed == "" {
		t.Skip("the clients are not installed: run make test-clients")
	}
	return installed
}

// ServeHTTP passes requests on to the server, and records POST requests that are not dry runs.
func (p *workplace) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: p.server.address})
	if r.Method != http.MethodPost || r.Header.Get("X-Dry-Run") != "" {
		proxy.ServeHTTP(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	recorded := httptest.NewRecorder()
	proxy.ServeHTTP(recorded, r)
	p.mu.Lock()
	p.posted = append(p.posted, posting{r.URL.String(), r.Header, body, recorded.Code})
	p.mu.Unlock()
	for name, values := range recorded.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(recorded.Code)
	w.Write(recorded.Body.Bytes()) //nolint:errcheck // fails only if the client is gone
}

// postings returns the events posted so far.
func (p *workplace) postings() []posting {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.posted)
}

// keepCaptures writes the events that were posted to a file, if capturesVariable is set.
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

// kubeagents runs the program in the project, as the user of the clients, and returns its output.
func (p *workplace) kubeagents(args ...string) string {
	p.t.Helper()
	cmd := exec.CommandContext(p.t.Context(), program(), args...)
	cmd.Dir, cmd.Env = p.project, p.environment()
	out, err := cmd.CombinedOutput()
	require.NoError(p.t, err, "%s", out)
	return string(out)
}

// connect connects a client, and checks that a test event arrives and leaves nothing behind.
func (p *workplace) connect(client string) {
	p.t.Helper()
	p.kubeagents("connect", "-yes", "-server", p.address, client)
	require.Contains(p.t, p.kubeagents("connect", "-check", client), ": arrived at "+p.address+"/webhook/"+client+
		"; here it would count for the agent "+client+":payments@"+hostname(p.t)+"\n")
	var summary models.Summary
	p.read("/api/summary", &summary)
	require.Zero(p.t, summary.Agents)
}

// settings is a settings file of a client, in the home directory.
type settings struct {
	path   string
	before string // its text before the client is connected; "" for no file
}

// requireReports connects a client and runs it with each prompt, and checks what the server shows. Then it disconnects
// the client, and checks that the settings are what they were, and that the client reports no more.
func (p *workplace) requireReports(s settings, want expectedRuns, run func(prompt string)) {
	p.t.Helper()
	path := filepath.Join(p.home, s.path)
	if s.before != "" {
		p.write(path, s.before)
	}
	p.connect(want.client)
	for _, prompt := range prompts {
		run(prompt)
	}
	p.requireRuns(want)
	p.kubeagents("disconnect", "-yes")
	text, err := os.ReadFile(path) //nolint:gosec // in a temporary directory
	if s.before == "" {
		require.ErrorIs(p.t, err, fs.ErrNotExist)
	} else {
		require.NoError(p.t, err)
		require.Equal(p.t, s.before, string(text))
	}
	reported := len(p.postings())
	run(prompts[0])
	require.Len(p.t, p.postings(), reported, "the client is disconnected")
}

// install writes the settings that the server's /connect shows for a client to a file.
func (p *workplace) install(client, path string) {
	p.t.Helper()
	response, err := http.Get(p.address + "/connect/" + client) //nolint:noctx // the server limits the time
	require.NoError(p.t, err)
	defer response.Body.Close() //nolint:errcheck // it is read to the end
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

// run runs a client in the project, without the settings of this machine's user.
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
	require.Contains(p.t, string(out), modelReply, "%s", out)
}

func (p *workplace) environment() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + p.home, "KUBEAGENTS_TOKEN=" + p.token}
}

// agentOf returns the agent that a client's events created. Its ID names the project's folder and the host.
func (p *workplace) agentOf(client string) models.Agent {
	p.t.Helper()
	id := client + ":payments@" + hostname(p.t)
	var agent models.Agent
	p.read("/api/agents/"+url.PathEscape(id), &agent)
	return agent
}

// read decodes the server's response to a GET request.
func (p *workplace) read(target string, into any) {
	p.t.Helper()
	w := p.server.do("GET", target, "", p.reader.Header()...)
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

// histories returns the titles and the histories of the sessions of an agent, the oldest session first. An entry of a
// history is a status and a message, the oldest entry first.
func (p *workplace) histories(agentID string) (titles []string, histories [][]string) {
	p.t.Helper()
	for _, se := range p.sessionsOf(agentID) {
		var d detail
		p.read("/api/agents/"+url.PathEscape(agentID)+"/sessions/"+url.PathEscape(se.Topic), &d)
		history := []string{}
		for _, status := range slices.Backward(d.History) {
			history = append(history, status.Status.String()+"|"+status.Message)
		}
		titles, histories = append(titles, se.Title), append(histories, history)
	}
	return titles, histories
}

// expectedRuns is what the server should show after two runs of a client, one that calls no tool and one that calls a
// tool.
type expectedRuns struct {
	client, tool string
	titles       []string // titles of the sessions; nil for the prompts
	end          string   // last message of the sessions; "" for the model's reply
}

// requireRuns fails the test unless the server shows the expected runs, and accepted every event, each with the name of
// this host.
func (p *workplace) requireRuns(want expectedRuns) {
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
	end := cmp.Or(want.end, modelReply)
	agent := p.agentOf(want.client)
	titles, histories := p.histories(agent.ID)
	require.Equal(p.t, want.titles, titles)
	for i, want := range [][]string{
		{"success|Session started", "running|" + prompts[0], "success|" + end},
		{"success|Session started", "running|" + promptForTool, "running|" + want.tool + ": touch made-by-tool", "success|" + end},
	} {
		require.Equal(p.t, want, slices.Compact(histories[i]), "on a slow machine, a call is two entries")
	}
	require.Equal(p.t, "payments", agent.Name)
	require.Equal(p.t, want.client, agent.Source)
	require.Equal(p.t, 2, agent.SessionCount)
	require.Equal(p.t, 2, agent.ActiveSessionCount)
	require.Equal(p.t, models.Success, agent.LatestStatus)
	require.Equal(p.t, end, agent.LatestMessage)
}

var prompts = []string{"Fix the flaky checkout test", promptForTool}

// claudeKey is a fake key that Claude Code accepts as a key of Anthropic's API.
const claudeKey = "sk-ant-none-0000000000000000"

func (p *workplace) claudeEnvironment() []string {
	return []string{"ANTHROPIC_BASE_URL=" + p.model, "ANTHROPIC_API_KEY=" + claudeKey, "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1", "DISABLE_AUTOUPDATER=1"}
}

// runClaudeCode runs Claude Code in the project, and checks what the server shows afterwards.
func (p *workplace) runClaudeCode(client string) {
	p.t.Helper()
	const before = `{"cleanupPeriodDays": 7, "hooks": {"Stop": [{"hooks": [{"type": "command", "command": "true"}]}]}}`
	p.requireReports(settings{".claude/settings.json", before}, expectedRuns{client: "claude-code", tool: "Bash"}, func(prompt string) {
		p.run(p.claudeEnvironment(), client, "-p", prompt, "--allowedTools", "Bash")
	})
}

func TestRealClaudeCode(t *testing.T) {
	t.Parallel()
	newWorkplace(t).runClaudeCode(newestClaudeCode)
}

// TestRealClaudeCodeOldest runs the oldest version that /connect supports.
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

// TestRealClaudeCodeMCP has Claude Code's model call a tool of the server's MCP endpoint.
func TestRealClaudeCodeMCP(t *testing.T) {
	t.Parallel()
	p := newWorkplace(t)
	settings := filepath.Join(p.project, "mcp.json")
	p.install("mcp", settings)
	environment := append(p.claudeEnvironment(), "ENABLE_TOOL_SEARCH=false") // so that the model gets the tool at once
	p.run(environment, newestClaudeCode, "-p", promptForMCP, "--mcp-config", settings, "--strict-mcp-config", "--allowedTools", "mcp__kubeagents__report_status")
	_, histories := p.histories("by-mcp")
	require.Equal(t, [][]string{{"pending|Which one?"}}, histories)
}

// codexConfig returns a config.toml of Codex for a model API, with the variable that has its key.
func codexConfig(model, keyVariable string) string {
	return strings.Join([]string{
		`model = "gpt-5"`, `model_provider = "standin"`,
		`[model_providers.standin]`, `name = "stand-in"`, `base_url = "` + model + `/v1"`, `wire_api = "responses"`, `env_key = "` + keyVariable + `"`,
		"",
	}, "\n")
}

func TestRealCodex(t *testing.T) {
	t.Parallel()
	p := newWorkplace(t)
	p.write(filepath.Join(p.home, ".codex/config.toml"), codexConfig(p.model, "STANDIN_KEY"))
	p.requireReports(settings{path: ".codex/hooks.json"}, expectedRuns{client: "codex", tool: "Bash"}, func(prompt string) {
		p.run([]string{"STANDIN_KEY=none"}, "codex", "exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", "--dangerously-bypass-hook-trust", prompt)
	})
}

func TestRealGeminiCLI(t *testing.T) {
	t.Parallel()
	p := newWorkplace(t)
	// As for real users, the same file also contains the authentication method.
	const before = "{\n  // How I sign in.\n  \"security\": {\"auth\": {\"selectedType\": \"gemini-api-key\"}}\n}\n"
	p.requireReports(settings{".gemini/settings.json", before}, expectedRuns{client: "gemini-cli", tool: "run_shell_command"}, func(prompt string) {
		p.run([]string{"GEMINI_API_KEY=none", "GOOGLE_GEMINI_BASE_URL=" + p.model}, "gemini", "-m", "gemini-2.5-flash", "-p", prompt, "--yolo", "--skip-trust")
	})
}

func TestRealOpenCode(t *testing.T) {
	t.Parallel()
	p := newWorkplace(t)
	p.write(filepath.Join(p.home, ".config/opencode/opencode.json"), `{"model":"anthropic/claude-sonnet-4-5","small_model":"anthropic/claude-sonnet-4-5",
		"provider":{"anthropic":{"options":{"baseURL":"`+p.model+`/v1","apiKey":"none"}}},"autoupdate":false,"permission":{"bash":"allow"}}`)
	want := expectedRuns{client: "opencode", tool: "bash", titles: []string{modelReply, modelReply}, end: "Done"}
	p.requireReports(settings{path: ".config/opencode/plugins/kubeagents.js"}, want, func(prompt string) {
		p.run([]string{"OPENCODE_DISABLE_MODELS_FETCH=1"}, "opencode", append([]string{"run"}, strings.Fields(prompt)...)...)
	})
}

func TestRealCopilot(t *testing.T) {
	t.Parallel()
	p := newWorkplace(t)
	environment := []string{"COPILOT_OFFLINE=true", "COPILOT_PROVIDER_BASE_URL=" + p.model, "COPILOT_PROVIDER_TYPE=anthropic", "COPILOT_MODEL=claude-sonnet-4-5"}
	p.requireReports(settings{path: ".copilot/hooks/kubeagents.json"}, expectedRuns{client: "copilot", tool: "bash", end: "Done"}, func(prompt string) {
		p.run(environment, "copilot", "-p", prompt, "--allow-all-tools")
	})
}
