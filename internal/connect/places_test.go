package connect_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/connect"
)

// TestPlaces checks where each tool's settings are on each system.
func TestPlaces(t *testing.T) {
	linux := connect.Machine{OS: "linux", Home: "/home/dev"}
	mac := connect.Machine{OS: "darwin", Home: "/Users/dev"}
	windows := connect.Machine{OS: "windows", Home: `C:\Users\dev`}
	moved := func(name, value string) connect.Machine {
		return connect.Machine{OS: "linux", Home: "/home/dev", Environment: map[string]string{name: value}}
	}
	movedOnWindows := func(name, value string) connect.Machine {
		return connect.Machine{OS: "windows", Home: `C:\Users\dev`, Environment: map[string]string{name: value}}
	}
	for _, test := range []struct {
		tool    string
		machine connect.Machine
		want    string
	}{
		{"claude-code", linux, "/home/dev/.claude/settings.json"},
		{"claude-code", mac, "/Users/dev/.claude/settings.json"},
		{"claude-code", windows, `C:\Users\dev\.claude\settings.json`},
		{"claude-code", moved("CLAUDE_CONFIG_DIR", "/etc/claude"), "/etc/claude/settings.json"},
		{"claude-code", movedOnWindows("CLAUDE_CONFIG_DIR", `D:\claude`), `D:\claude\settings.json`},
		{"codex", linux, "/home/dev/.codex/hooks.json"},
		{"codex", mac, "/Users/dev/.codex/hooks.json"},
		{"codex", windows, `C:\Users\dev\.codex\hooks.json`},
		{"codex", moved("CODEX_HOME", "/srv/codex"), "/srv/codex/hooks.json"},
		{"gemini-cli", linux, "/home/dev/.gemini/settings.json"},
		{"gemini-cli", mac, "/Users/dev/.gemini/settings.json"},
		{"gemini-cli", windows, `C:\Users\dev\.gemini\settings.json`},
		{"gemini-cli", moved("GEMINI_CLI_HOME", "/srv"), "/srv/.gemini/settings.json"},
		{"cursor", linux, "/home/dev/.cursor/hooks.json"},
		{"cursor", mac, "/Users/dev/.cursor/hooks.json"},
		{"cursor", windows, `C:\Users\dev\.cursor\hooks.json`},
		{"copilot", linux, "/home/dev/.copilot/hooks/kubeagents.json"},
		{"copilot", mac, "/Users/dev/.copilot/hooks/kubeagents.json"},
		{"copilot", windows, `C:\Users\dev\.copilot\hooks\kubeagents.json`},
		{"copilot", moved("COPILOT_HOME", "/srv/copilot"), "/srv/copilot/hooks/kubeagents.json"},
		{"opencode", linux, "/home/dev/.config/opencode/plugins/kubeagents.js"},
		{"opencode", mac, "/Users/dev/.config/opencode/plugins/kubeagents.js"},
		{"opencode", windows, `C:\Users\dev\.config\opencode\plugins\kubeagents.js`},
		{"opencode", moved("XDG_CONFIG_HOME", "/home/dev/cfg"), "/home/dev/cfg/opencode/plugins/kubeagents.js"},
		{"codex", moved("CLAUDE_CONFIG_DIR", "/etc/claude"), "/home/dev/.codex/hooks.json"},
	} {
		require.Equal(t, test.want, connect.Named(test.tool).UserFile(test.machine), "%s %+v", test.tool, test.machine)
	}
	for tool, want := range map[string]string{"claude-code": "/w/.claude/settings.json", "codex": "", "gemini-cli": "/w/.gemini/settings.json",
		"cursor": "/w/.cursor/hooks.json", "copilot": "/w/.github/hooks/kubeagents.json", "opencode": "/w/.opencode/plugins/kubeagents.js"} {
		require.Equal(t, want, connect.Named(tool).ProjectFile(linux, "/w"), tool)
	}
	require.Equal(t, `D:\w\.claude\settings.json`, connect.Named("claude-code").ProjectFile(windows, `D:\w`))
	require.GreaterOrEqual(t, len(connect.Tools()), 6)
	require.NotContains(t, connect.Tools(), connect.Named("mcp"), "MCP is not a tool")
	for name, want := range map[string]string{"claude-code": "claude-code", "claude": "claude-code", "gemini": "gemini-cli", "cursor-agent": "cursor"} {
		require.Equal(t, want, connect.Tool(name).Name)
	}
	require.Nil(t, connect.Tool("mcp"))
}

// TestFound checks that a tool is found by its program or by the folder of its settings.
func TestFound(t *testing.T) {
	bin, home := t.TempDir(), t.TempDir()
	t.Setenv("PATH", bin)
	m := connect.Machine{OS: "linux", Home: home}
	for _, tool := range connect.Tools() {
		require.Empty(t, tool.Found(m), tool.Name)
	}
	program := filepath.Join(bin, "cursor-agent")
	require.NoError(t, os.WriteFile(program, []byte("#!/bin/sh\n"), 0o700)) //nolint:gosec // a program
	folder := filepath.Join(home, ".config", "opencode")
	require.NoError(t, os.MkdirAll(folder, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(home, ".codex"), nil, 0o600))
	for _, tool := range connect.Tools() {
		require.Equal(t, map[string]string{"cursor": program, "opencode": folder}[tool.Name], tool.Found(m), tool.Name)
	}
}
