//go:build unix

package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/internal/access/accesstest"
	"github.com/kubeagents/kubeagents/internal/connect"
	"github.com/kubeagents/kubeagents/models"
)

// serviceName is the name of the server's Service in a cluster, as in docs/kubernetes.md.
const serviceName = "kubeagents.kubeagents.svc"

// servicePort is the port of that Service.
const servicePort = 8080

// jobExamples are the examples of deploy/examples, and the agents that report in them.
var jobExamples = map[string]string{
	"claude-code-job.yaml": "data/review",
	"codex-job.yaml":       "data/tests",
	"script-job.yaml":      "data/nightly-import",
}

// podPlace is what the Pods of the examples need: a server under the name of its Service, and a namespace with the
// objects that docs/kubernetes.md says how to make.
type podPlace struct {
	*workplace
	t                   *testing.T
	configMaps, secrets map[string]map[string]string
}

// newPodPlace starts a server in a private network.
func newPodPlace(t *testing.T) *podPlace {
	t.Helper()
	tokens, holders := accesstest.TokensFile(t, map[string]access.Entry{
		"data":  {Scopes: []string{"report"}, Agents: []string{"data/*"}},
		"reads": {Scopes: []string{"read"}},
	})
	server := start(t, "TOKENS_FILE="+tokens, "HOST="+privateAddress, fmt.Sprint("PORT=", servicePort))
	c := &podPlace{t: t, workplace: &workplace{t: t, server: server, reader: holders["reads"], address: fmt.Sprintf("http://%s:%d", serviceName, servicePort)}}
	lines := map[string]string{"server": c.address}
	for _, tool := range connect.Names() {
		lines[tool] = c.linesOf(tool)
	}
	c.configMaps = map[string]map[string]string{"kubeagents-connect": lines}
	c.secrets = map[string]map[string]string{
		"kubeagents-token": {"token": holders["data"].Token},
		"anthropic":        {"api-key": claudeKey},
		"openai":           {"api-key": "none"},
	}
	return c
}

// pod returns a Pod of an example's Job.
func (c *podPlace) pod(example string) *pod {
	c.t.Helper()
	job, configMaps := readExample(c.t, example)
	for _, configMap := range configMaps {
		require.Equal(c.t, job.Metadata.Namespace, configMap.Metadata.Namespace)
		c.configMaps[configMap.Metadata.Name] = configMap.Data
	}
	return newPod(c.t, job.Metadata.Name+"-x7k2p", job, c.configMaps, c.secrets)
}

// toolPod returns such a Pod with the image of the tools. They call stand-ins for their vendors' APIs.
//
// programs has the paths of programs in the image, from npm's directory of executables, by their names.
func (c *podPlace) toolPod(example string, programs map[string]string) *pod {
	c.t.Helper()
	c.model = startModelAPI(c.t)
	p := c.pod(example)
	installed := requireClients(c.t)
	node, err := exec.LookPath("node")
	require.NoError(c.t, err)
	node, err = filepath.EvalSymlinks(node)
	require.NoError(c.t, err)
	p.image = filepath.Join(c.t.TempDir(), "local")
	for _, folder := range []string{"bin", "lib/node_modules", "lib/node"} {
		require.NoError(c.t, os.MkdirAll(filepath.Join(p.image, folder), 0o755)) //nolint:gosec // the Pod's user reads it
	}
	require.NoError(c.t, os.Symlink("../lib/node/"+filepath.Base(node), filepath.Join(p.image, "bin/node")))
	for name, path := range programs {
		require.NoError(c.t, os.Symlink(filepath.Join("../lib/node_modules/.bin", path), filepath.Join(p.image, "bin", name)))
	}
	p.mounts = [][2]string{
		{filepath.Join(installed, "node_modules"), "/usr/local/lib/node_modules"},
		{filepath.Dir(node), "/usr/local/lib/node"},
	}
	return p
}

// linesOf returns what the server's /connect shows for a tool.
func (c *podPlace) linesOf(tool string) string {
	c.t.Helper()
	w := c.server.do(http.MethodGet, "/connect/"+tool, "", "Host: "+strings.TrimPrefix(c.address, "http://"))
	require.Equal(c.t, http.StatusOK, w.Code)
	require.Contains(c.t, w.Body.String(), c.address)
	return w.Body.String()
}

// TestExamplesAreRestricted checks the examples against the restricted profile of Pod Security
// (https://kubernetes.io/docs/concepts/security/pod-security-standards/), and that each Job and its Pods carry the label
// by which the watcher finds them.
func TestExamplesAreRestricted(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "deploy/examples/*-job.yaml"))
	require.NoError(t, err)
	require.Len(t, files, len(jobExamples))
	for example, agent := range jobExamples {
		job, _ := readExample(t, example)
		template := job.Spec.Template
		require.Equal(t, agent, job.Metadata.Namespace+"/"+job.Metadata.Labels["kubeagents.dev/agent"], example)
		require.Equal(t, job.Metadata.Labels, template.Metadata.Labels, example)
		require.False(t, *template.Spec.AutomountServiceAccountToken, example)
		require.True(t, template.Spec.SecurityContext.RunAsNonRoot, example)
		require.NotZero(t, template.Spec.SecurityContext.RunAsUser, example)
		require.Equal(t, "RuntimeDefault", template.Spec.SecurityContext.SeccompProfile.Type, example)
		for _, c := range template.Spec.Containers {
			require.False(t, *c.SecurityContext.AllowPrivilegeEscalation, example)
			require.True(t, c.SecurityContext.ReadOnlyRootFilesystem, example)
			require.Equal(t, []string{"ALL"}, c.SecurityContext.Capabilities.Drop, example)
			require.NotEmpty(t, c.Resources.Requests["memory"], example)
			require.NotEmpty(t, c.Resources.Limits["memory"], example)
		}
	}
}

// TestExamplesImage checks that the image of the examples has the versions of the tools that make test-clients runs.
func TestExamplesImage(t *testing.T) {
	image, err := os.ReadFile(filepath.Join(root, "deploy/examples/Dockerfile"))
	require.NoError(t, err)
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	require.NoError(t, err)
	installed := regexp.MustCompile(`@[a-z-]+/[a-z-]+@[0-9.]+`).FindAllString(string(image), -1)
	require.Len(t, installed, 2)
	for _, version := range installed {
		require.Contains(t, strings.Fields(string(makefile)), version)
	}
}

// TestExamplesNetworkPolicy checks that the example of a NetworkPolicy selects the Pods of the other examples, and lets
// them reach the server.
func TestExamplesNetworkPolicy(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "deploy/examples/network-policy.yaml"))
	require.NoError(t, err)
	type rule struct {
		To []struct {
			NamespaceSelector struct {
				MatchLabels map[string]string `yaml:"matchLabels"`
			} `yaml:"namespaceSelector"`
			IPBlock struct{ CIDR string } `yaml:"ipBlock"`
		}
		Ports []struct {
			Protocol string
			Port     int
		}
	}
	var policy struct {
		APIVersion string `yaml:"apiVersion"`
		Kind       string
		Metadata   kubeMetadata
		Spec       struct {
			PodSelector struct {
				MatchExpressions []struct{ Key, Operator string } `yaml:"matchExpressions"`
			} `yaml:"podSelector"`
			PolicyTypes []string `yaml:"policyTypes"`
			Egress      []rule
		}
	}
	require.NoError(t, yaml.UnmarshalWithOptions(text, &policy, yaml.Strict()))
	require.Len(t, policy.Spec.PodSelector.MatchExpressions, 1)
	require.Equal(t, "Exists", policy.Spec.PodSelector.MatchExpressions[0].Operator)
	for example := range jobExamples {
		job, _ := readExample(t, example)
		require.Equal(t, job.Metadata.Namespace, policy.Metadata.Namespace)
		require.Contains(t, job.Spec.Template.Metadata.Labels, policy.Spec.PodSelector.MatchExpressions[0].Key)
	}
	require.True(t, slices.ContainsFunc(policy.Spec.Egress, func(r rule) bool {
		namespace := r.To[0].NamespaceSelector.MatchLabels["kubernetes.io/metadata.name"]
		return strings.HasSuffix(serviceName, "."+namespace+".svc") && r.Ports[0].Protocol == "TCP" && r.Ports[0].Port == servicePort
	}))
}

// requireToolRun fails the test unless a tool's run in a Pod is the only session of the only agent.
func (c *podPlace) requireToolRun(p *pod, agentID, source, prompt string) {
	c.t.Helper()
	var agent models.Agent
	c.read("/api/agents/"+url.PathEscape(agentID), &agent)
	require.Equal(c.t, source, agent.Source)
	require.Equal(c.t, agentID, p.metadata.Namespace+"/"+agent.Name)
	require.Equal(c.t, p.name, agent.Host)
	titles, histories := c.histories(agentID)
	require.Equal(c.t, []string{prompt}, titles)
	require.Equal(c.t, []string{"success|Session started", "running|" + prompt, "running|Bash: touch made-by-tool", "success|" + modelReply},
		slices.Compact(histories[0]), "on a slow machine, a call is two entries")
	var summary models.Summary
	c.read("/api/summary", &summary)
	require.Equal(c.t, 1, summary.Agents)
	require.FileExists(c.t, filepath.Join(p.volume("workspace"), "made-by-tool"))
}

// runPodClaudeCode runs the container of the example for Claude Code, in an image in which claude is the program at this
// path from the directory of executables.
func runPodClaudeCode(t *testing.T, program string) {
	t.Helper()
	requireClients(t)
	if !inPrivateNetwork(t, serviceName) {
		return
	}
	c := newPodPlace(t)
	p := c.toolPod("claude-code-job.yaml", map[string]string{"claude": program})
	p.environment = map[string]string{"PROMPT": promptForTool, "ANTHROPIC_BASE_URL": c.model, "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"}
	output, status := p.run()
	require.Zero(t, status, output)
	require.Contains(t, output, modelReply)
	c.requireToolRun(p, "data/review", "claude-code", promptForTool)
}

func TestRealPodClaudeCode(t *testing.T) { runPodClaudeCode(t, newestClaudeCode) }

// TestRealPodClaudeCodeOldest runs the oldest version that /connect supports.
func TestRealPodClaudeCodeOldest(t *testing.T) { runPodClaudeCode(t, oldestClaudeCode) }

// TestRealPodCodex runs the container of the example for Codex. The stand-in for OpenAI's API is in a configuration that
// a user with another provider would have too.
func TestRealPodCodex(t *testing.T) {
	requireClients(t)
	if !inPrivateNetwork(t, serviceName) {
		return
	}
	c := newPodPlace(t)
	p := c.toolPod("codex-job.yaml", map[string]string{"codex": "codex"})
	p.environment = map[string]string{"PROMPT": promptForTool}
	own := filepath.Join(p.volume("home"), ".codex")
	c.write(filepath.Join(own, "config.toml"), codexConfig(c.model, "CODEX_API_KEY"))
	for _, path := range []string{own, filepath.Join(own, "config.toml")} {
		require.NoError(t, os.Chown(path, p.spec.SecurityContext.RunAsUser, p.spec.SecurityContext.RunAsGroup))
	}
	output, status := p.run()
	require.Zero(t, status, output)
	require.Contains(t, output, modelReply)
	c.requireToolRun(p, "data/tests", "codex", promptForTool)
}

// Entries of the history of the example for a script.
const (
	importing = "running|Import"
	asking    = "pending|May I delete the orders of last year? touch /work/approved"
	deleting  = "running|Delete old orders"
)

// script starts the container of the example for a script, and waits until it asks.
func (c *podPlace) script() (p *pod, running *container) {
	c.t.Helper()
	p = c.pod("script-job.yaml")
	running = p.start()
	c.t.Cleanup(func() { running.cmd.Process.Kill() }) //nolint:errcheck // it may have ended already
	require.Eventually(c.t, func() bool {
		w := c.server.do(http.MethodGet, "/api/sessions?needs=waiting", "", c.reader.Header()...)
		return strings.Contains(w.Body.String(), p.name)
	}, time.Minute, 20*time.Millisecond)
	return p, running
}

// requireScript fails the test unless the script in a Pod reported this history, as the only session of its agent.
func (c *podPlace) requireScript(p *pod, history ...string) {
	c.t.Helper()
	sessions := c.sessionsOf("data/nightly-import")
	require.Len(c.t, sessions, 1)
	require.Equal(c.t, p.name, sessions[0].Topic)
	_, histories := c.histories("data/nightly-import")
	require.Equal(c.t, history, histories[0])
}

// TestPodScript runs the container of the example for a script, gives it the permission that it asks for, and sees it
// succeed.
func TestPodScript(t *testing.T) {
	requireTools(t, "curl", "setpriv", "chroot")
	if !inPrivateNetwork(t, serviceName) {
		return
	}
	c := newPodPlace(t)
	p, running := c.script()
	require.Equal(t, 24*60, c.sessionsOf("data/nightly-import")[0].TTLMinutes)
	require.NoError(t, os.WriteFile(filepath.Join(p.volume("work"), "approved"), nil, 0o600))
	output, status := running.wait()
	require.Zero(t, status, output)
	require.Empty(t, output)
	c.requireScript(p, importing, asking, deleting, "success|Delete old orders: done")
	require.Equal(t, 10, c.sessionsOf("data/nightly-import")[0].TTLMinutes)
}

// TestPodScriptFails lets the work of the script fail.
func TestPodScriptFails(t *testing.T) {
	requireTools(t, "curl", "setpriv", "chroot")
	if !inPrivateNetwork(t, serviceName) {
		return
	}
	c := newPodPlace(t)
	p, running := c.script()
	require.NoError(t, os.Remove(filepath.Join(p.volume("work"), "orders.csv")))
	require.NoError(t, os.WriteFile(filepath.Join(p.volume("work"), "approved"), nil, 0o600))
	output, status := running.wait()
	require.Equal(t, 1, status, output)
	c.requireScript(p, importing, asking, deleting, "failed|Delete old orders: exit status 1")
}

// TestPodScriptDeleted deletes the Pod of the script: a kubelet sends its first process SIGTERM.
func TestPodScriptDeleted(t *testing.T) {
	requireTools(t, "curl", "setpriv", "chroot")
	if !inPrivateNetwork(t, serviceName) {
		return
	}
	c := newPodPlace(t)
	p, running := c.script()
	require.NoError(t, syscall.Kill(running.pid(), syscall.SIGTERM))
	output, status := running.wait()
	require.Equal(t, 143, status, output)
	c.requireScript(p, importing, asking, "failed|Delete old orders: exit status 143")
}

// TestPodScriptRefused checks that the script does its work, and says what is wrong, if the server refuses its reports.
func TestPodScriptRefused(t *testing.T) {
	requireTools(t, "curl", "setpriv", "chroot")
	if !inPrivateNetwork(t, serviceName) {
		return
	}
	c := newPodPlace(t)
	c.secrets["kubeagents-token"] = map[string]string{"token": "ka_wrong"}
	p := c.pod("script-job.yaml")
	require.NoError(t, os.WriteFile(filepath.Join(p.volume("work"), "approved"), nil, 0o600))
	output, status := p.run()
	require.Zero(t, status, output)
	require.Equal(t, 4, strings.Count(output, "returned error: 401"), output)
	require.FileExists(t, filepath.Join(p.volume("work"), "orders.csv"))
}
