// Package hookcheck finds out whether the hooks in a tool's settings reach their server. It runs them as the tool does,
// with an event of its own as a dry run, so that nothing remains on the server.
//
// A hook is a shell command that posts its standard input with curl, a command that does so with this program, or a
// plugin in JavaScript that posts with fetch. None is changed for the check: curl takes the header X-Dry-Run and the
// place of the response from a configuration file, what this program does is done here, and fetch is wrapped.
package hookcheck

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/kubeagents/kubeagents/internal/connect"
	"github.com/kubeagents/kubeagents/internal/hookfile"
	"github.com/kubeagents/kubeagents/models"
)

// timeout is how long a hook may take. It ends by itself after 3 seconds.
const timeout = 15 * time.Second

// Checker runs hooks.
type Checker struct {
	Environment map[string]string // of the hooks
	Dir         string            // the agent's working directory
}

// Arrival is what the server said about an event that arrived.
type Arrival struct {
	AgentID string `json:"agent_id"` // of the agent that it would count for; "" if the server did not say
	DryRun  bool   `json:"dry_run"`  // false if the server is too old to know, and stored the event
}

// reply is what came back for an event: a response, or the reason why there is none.
type reply struct {
	status   int // 0 without a response
	location string
	body     []byte
	failure  failure
	detail   string // what the program that sent the event said
}

// Check runs a command of a tool's settings. The error says in words why the event did not arrive.
func (c Checker) Check(ctx context.Context, tool *connect.Client, command hookfile.Command) (Arrival, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	dir, err := os.MkdirTemp("", "kubeagents-check-")
	if err != nil {
		return Arrival{}, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary directory
	var r reply
	posted, byProgram := connect.HookAddress(command.Text)
	switch {
	case tool.Script:
		r, err = c.runPlugin(ctx, dir, command.Text)
	case command.Text == command.Address || strings.HasPrefix(command.Text, command.Address+"?"):
		return Arrival{}, errors.New("this is an http hook of an earlier version: run kubeagents connect to replace it")
	case byProgram:
		r, err = c.post(ctx, posted, Event(tool.Name, c.Dir))
	default:
		r, err = c.runCommand(ctx, dir, command.Text, Event(tool.Name, c.Dir))
	}
	if err != nil {
		return Arrival{}, err
	}
	return c.judge(r, byProgram || strings.Contains(command.Text, connect.TokenVariable))
}

// SessionID is the ID of the session in the event that is sent.
const SessionID = "kubeagents-check"

// Event returns an event of a tool's session that has just begun in a working directory.
func Event(tool, dir string) string {
	event := map[string]any{"hook_event_name": "SessionStart", "session_id": SessionID, "cwd": dir, "source": "startup"}
	switch tool {
	case "cursor":
		event = map[string]any{"hook_event_name": "sessionStart", "conversation_id": SessionID, "workspace_roots": []string{dir}}
	case "copilot":
		event = map[string]any{"sessionId": SessionID, "timestamp": time.Now().UnixMilli(), "cwd": dir}
	}
	text, err := json.Marshal(event)
	if err != nil {
		panic("encode an event: " + err.Error()) // can't happen: they are plain values
	}
	return string(text)
}

// environment returns the variables for a hook, and more.
func (c Checker) environment(more ...string) []string {
	variables := make([]string, 0, len(c.Environment)+len(more))
	for name, value := range c.Environment {
		variables = append(variables, name+"="+value)
	}
	return append(variables, more...) // of a variable that occurs twice, the last value counts
}

// command returns a command that runs in the working directory.
func (c Checker) command(ctx context.Context, environment []string, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.Env, cmd.WaitDelay = c.Dir, environment, time.Second
	return cmd
}

// judge turns a reply into the result of a check. sendsToken is whether the hook sends the token.
func (c Checker) judge(r reply, sendsToken bool) (a Arrival, err error) {
	if r.status == 0 {
		return a, r.failure.explain(r.detail)
	}
	var said models.Error
	json.Unmarshal(r.body, &said) //nolint:errcheck // then it has no message
	message := ""
	if said.Message != "" {
		message = ": " + said.Message
	}
	switch {
	case r.status == http.StatusOK:
		json.Unmarshal(r.body, &a) //nolint:errcheck // then the server is too old to say
		return a, nil
	case r.status == http.StatusUnauthorized && !sendsToken:
		return a, errors.New("the server requires a token, and this hook sends none: run kubeagents connect again")
	case r.status == http.StatusUnauthorized && c.Environment[connect.TokenVariable] == "":
		return a, fmt.Errorf("the server requires a token, and the variable %s is not set here: export it where your agents start", connect.TokenVariable)
	case r.status == http.StatusUnauthorized:
		return a, fmt.Errorf("the server does not accept the token in %s (401)%s", connect.TokenVariable, message)
	case r.status == http.StatusForbidden:
		return a, fmt.Errorf("the token in %s is valid, but does not allow this (403)%s", connect.TokenVariable, message)
	case r.status == http.StatusNotFound:
		return a, fmt.Errorf("no KubeAgents server is at this address (404)%s", message)
	case r.status == http.StatusMisdirectedRequest:
		return a, fmt.Errorf("the server does not answer to this host name (421)%s", message)
	case r.status/100 == 3:
		return a, fmt.Errorf("the server redirects to %s (%d), which a hook does not follow: connect to that address", r.location, r.status)
	}
	return a, fmt.Errorf("the server answers %d %s%s", r.status, http.StatusText(r.status), message)
}
