package hookcheck

import (
	"bytes"
	"context"
	_ "embed" // of the script that runs a plugin
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// runner is a script that runs the plugin beside it, and writes what came back for its events.
//
//go:embed runplugin.mjs
var runner []byte

// runtimes are the programs that can run a plugin: Node.js, Bun, and the Bun in OpenCode itself.
var runtimes = []struct{ program, variable string }{{"node", ""}, {"bun", ""}, {"opencode", "BUN_BE_BUN=1"}}

// runPlugin runs the text of a plugin with an event, and returns what came back.
func (c Checker) runPlugin(ctx context.Context, dir, text string) (r reply, err error) {
	for name, content := range map[string][]byte{"plugin.mjs": []byte(text), "run.mjs": runner} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return r, err
		}
	}
	for _, runtime := range runtimes {
		path, err := exec.LookPath(runtime.program)
		if err != nil {
			continue
		}
		var variables []string
		if runtime.variable != "" {
			variables = append(variables, runtime.variable)
		}
		cmd := c.command(ctx, c.environment(variables...), path, filepath.Join(dir, "run.mjs"), SessionID)
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Run(); err != nil {
			return r, fmt.Errorf("the plugin fails: %w: %s", err, bytes.TrimSpace(stderr.Bytes()))
		}
		return replyOf(stdout.Bytes())
	}
	return r, errors.New("the plugin can't be run here: neither node nor bun nor opencode is in PATH")
}

// replyOf decodes what the script wrote.
func replyOf(text []byte) (r reply, err error) {
	if len(bytes.TrimSpace(text)) == 0 {
		return reply{failure: notSent}, nil
	}
	var said struct {
		Status               int
		Location, Body, Code string
		Message              string
	}
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(&said); err != nil {
		return r, fmt.Errorf("the plugin printed something else: %w", err)
	}
	r = reply{status: said.Status, location: said.Location, body: []byte(said.Body)}
	if r.status == 0 {
		r.failure, r.detail = ofFetch[said.Code], said.Message
	}
	return r, nil
}
