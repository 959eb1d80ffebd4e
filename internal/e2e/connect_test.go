//go:build unix

package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/internal/access/accesstest"
	"github.com/kubeagents/kubeagents/internal/command"
	"github.com/kubeagents/kubeagents/internal/connect"
	"github.com/kubeagents/kubeagents/models"
)

// desk is the home directory of a person who connects tools to a server, and a project in it.
type desk struct {
	t             *testing.T
	home, project string
	server        string
}

func newDesk(t *testing.T, server string) *desk {
	t.Helper()
	requireTools(t, "sh", "curl")
	d := &desk{t: t, home: t.TempDir(), server: server}
	d.project = filepath.Join(d.home, "payments")
	require.NoError(t, os.Mkdir(d.project, 0o700))
	return d
}

// run runs the program in the project, and checks its exit status. It returns the output.
func (d *desk) run(wantStatus int, environment []string, args ...string) string {
	d.t.Helper()
	cmd := exec.CommandContext(d.t.Context(), program(), args...)
	cmd.Dir = d.project
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + d.home, "KUBEAGENTS_SERVER=" + d.server}, environment...)
	out, _ := cmd.CombinedOutput()
	require.Equal(d.t, wantStatus, cmd.ProcessState.ExitCode(), "%s", out)
	return string(out)
}

// toolsHere returns the names of the tools whose hooks can run on this machine.
func toolsHere() (names []string) {
	_, err := exec.LookPath("node")
	for _, tool := range connect.Tools() {
		if !tool.Script || err == nil {
			names = append(names, tool.Name)
		}
	}
	return names
}

// TestConnectCommand connects every tool, and checks with the hooks in their settings whether events would arrive, with
// each kind of token. No check leaves anything on the server.
func TestConnectCommand(t *testing.T) {
	kinds := accesstest.EveryKind()
	kinds["payments"] = access.Entry{Scopes: []string{"report"}, Agents: []string{"codex:payments@*"}}
	path, holders := accesstest.TokensFile(t, kinds)
	p := start(t, "TOKENS_FILE="+path)
	d, tools := newDesk(t, "http://"+p.address), toolsHere()
	d.run(command.ExitOK, nil, append([]string{"connect", "-yes"}, tools...)...)
	check := func(holder string, wantStatus int, tools ...string) string {
		t.Helper()
		token := "ka_wrong"
		if holder != "wrong" {
			token = holders[holder].Token
		}
		return d.run(wantStatus, []string{"KUBEAGENTS_TOKEN=" + token}, append([]string{"connect", "-check"}, tools...)...)
	}
	out := check("reports", command.ExitOK)
	for _, tool := range tools {
		require.Contains(t, out, connect.Named(tool).Title+": arrived at http://"+p.address+"/webhook/"+tool+"; here it would count for the agent "+tool+":payments@"+hostname(t)+"\n")
	}
	require.Equal(t, len(tools), strings.Count(out, ": arrived at "))
	for holder, want := range map[string]string{
		"wrong":   "the server does not accept the token in KUBEAGENTS_TOKEN (401): unknown token",
		"expired": "the server does not accept the token in KUBEAGENTS_TOKEN (401): ",
		"reads":   "the token in KUBEAGENTS_TOKEN is valid, but does not allow this (403): the token lacks the scope report",
		"team":    `does not allow this (403): this token does not cover agent "codex:payments@`,
	} {
		require.Contains(t, check(holder, command.ExitFailure, "codex"), "Codex: NOT ARRIVED: http://"+p.address+"/webhook/codex: ", holder)
		require.Contains(t, check(holder, command.ExitFailure, "codex"), want, holder)
	}
	check("payments", command.ExitOK, "codex")
	out = check("payments", command.ExitFailure, "codex", "cursor")
	require.Contains(t, out, "Codex: arrived")
	require.Contains(t, out, "Cursor: NOT ARRIVED")
	require.Contains(t, d.run(command.ExitFailure, nil, "connect", "-check", "codex"), "the variable KUBEAGENTS_TOKEN is not set here: export it where your agents start")

	var summary models.Summary
	w := p.do("GET", "/api/summary", "", holders["reads"].Header()...)
	require.Equal(t, 200, w.Code)
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &summary))
	require.Zero(t, summary.Agents)
	require.Zero(t, summary.Sessions.Total)
	require.NotContains(t, p.do("GET", "/metrics", "", holders["reads"].Header()...).Body.String(), "kubeagents_hook_events_total{")

	require.Zero(t, p.stop(t))
	require.Contains(t, check("reports", command.ExitFailure, "codex"), "the server can't be reached: nothing listens at this address, or a firewall is in the way (")
	d.run(command.ExitUnreachable, nil, "connect", "-yes", "codex")
	d.run(command.ExitOK, nil, "disconnect", "-yes")
	left, err := os.ReadDir(d.home)
	require.NoError(t, err)
	require.Len(t, left, 1, "only the project")
}

// TestConnectCommandOverTLS checks what -check says about a certificate that is trusted, or not.
func TestConnectCommandOverTLS(t *testing.T) {
	ca, dir := newAuthority(t), t.TempDir()
	cert, key := ca.sign(t, 1)
	trust := "SSL_CERT_FILE=" + writeFile(t, filepath.Join(dir, "ca"), ca.pem)
	p := start(t, "TLS_CERT_FILE="+writeFile(t, filepath.Join(dir, "cert"), cert), "TLS_KEY_FILE="+writeFile(t, filepath.Join(dir, "key"), key))
	d := newDesk(t, "https://"+p.address)
	require.Contains(t, d.run(command.ExitUnreachable, nil, "connect", "-yes", "codex"), "certificate signed by unknown authority")
	d.run(command.ExitOK, []string{trust}, "connect", "-yes", "codex")
	require.Contains(t, d.run(command.ExitFailure, nil, "connect", "-check", "codex"), "the server's certificate is not trusted on this machine, or is for another name")
	bundle := strings.Replace(trust, "SSL_CERT_FILE", "CURL_CA_BUNDLE", 1)
	require.Contains(t, d.run(command.ExitOK, []string{bundle}, "connect", "-check", "codex"), "Codex: arrived at https://"+p.address+"/webhook/codex; ")
	require.Zero(t, p.stop(t))
}

// TestConnectCommandWithAnotherName checks what -check says if the hooks use a name that is not the server's.
func TestConnectCommandWithAnotherName(t *testing.T) {
	p := start(t)
	d := newDesk(t, "http://"+p.address)
	d.run(command.ExitOK, nil, "connect", "-yes", "codex")
	hooks := filepath.Join(d.home, ".codex", "hooks.json")
	text, err := os.ReadFile(hooks) //nolint:gosec // in a temporary directory
	require.NoError(t, err)
	writeFile(t, hooks, []byte(strings.ReplaceAll(string(text), p.address, "hub.example.com")))
	writeFile(t, filepath.Join(d.home, ".curlrc"), []byte("connect-to = \"::"+p.address+"\"\n"))
	require.Contains(t, d.run(command.ExitFailure, nil, "connect", "-check", "codex"), "the server does not answer to this host name (421): ")
	d.run(command.ExitOK, nil, "connect", "-yes", "codex")
	require.Contains(t, d.run(command.ExitOK, nil, "connect", "-check", "codex"), "Codex: arrived at http://"+p.address+"/webhook/codex; ")
	require.Zero(t, p.stop(t))
}
