//go:build unix

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/models"
)

// idleAfter is when Claude Code is to say that it waits at its empty prompt; it is a minute where nobody says otherwise.
const idleAfter = time.Second

// soon is how long a client and the server have to do what is expected of them.
const soon = 20 * time.Second

// terminal is a terminal in which Claude Code runs, as people use it.
type terminal struct {
	*workplace
	socket string // of its tmux server
	pid    int    // of Claude Code
}

// openClaudeCode starts Claude Code in a terminal, and waits until it takes a prompt. It asks for permission rather than to decide
// for itself.
func (p *workplace) openClaudeCode() *terminal {
	p.t.Helper()
	if _, err := exec.LookPath("tmux"); err != nil {
		p.t.Skip("there is no tmux: install it, and run make test-clients")
	}
	p.paste("claude-code", filepath.Join(p.home, ".claude/settings.json"))
	p.write(filepath.Join(p.home, ".claude.json"), fmt.Sprintf(`{"hasCompletedOnboarding":true,"theme":"dark","messageIdleNotifThresholdMs":%d,
		"customApiKeyResponses":{"approved":[%q]},"projects":{%q:{"hasTrustDialogAccepted":true,"hasCompletedProjectOnboarding":true}}}`,
		idleAfter.Milliseconds(), claudeKey[len(claudeKey)-20:], p.project))
	x := &terminal{workplace: p, socket: filepath.Join(p.home, "tmux")}
	command := append([]string{"env", "-i", "TERM=xterm-256color"}, append(p.environment(), p.claudeEnvironment()...)...)
	command = append(command, filepath.Join(p.bin, newestClaudeCode), "--permission-mode", "default")
	x.tmux(append([]string{"-f", "/dev/null", "new-session", "-d", "-x", "150", "-y", "50", "-c", p.project}, command...)...)
	p.t.Cleanup(x.close)
	pid, err := strconv.Atoi(strings.TrimSpace(x.tmux("display-message", "-p", "#{pane_pid}")))
	require.NoError(p.t, err)
	x.pid = pid
	x.await("Claude Code takes a prompt", func() bool { return x.posted("SessionStart") > 0 && strings.Contains(x.screen(), "❯") })
	return x
}

// close ends this terminal's tmux server, and waits until Claude Code has ended with it.
func (x *terminal) close() {
	if x.t.Failed() {
		x.t.Logf("the terminal shows:\n%s", x.screen())
	}
	exec.CommandContext(context.Background(), "tmux", "-S", x.socket, "kill-server").Run() //nolint:errcheck // it may have ended
	ended := func() bool { return x.pid == 0 || syscall.Kill(x.pid, 0) != nil }
	for patience := time.Now().Add(5 * time.Second); !ended() && time.Now().Before(patience); {
		time.Sleep(20 * time.Millisecond)
	}
	if !ended() {
		syscall.Kill(x.pid, syscall.SIGKILL) //nolint:errcheck // it may have ended by now
	}
}

func (x *terminal) tmux(args ...string) string {
	x.t.Helper()
	out, err := exec.CommandContext(context.Background(), "tmux", append([]string{"-S", x.socket}, args...)...).CombinedOutput()
	assert.NoError(x.t, err, "%s", out)
	return string(out)
}

func (x *terminal) screen() string { return x.tmux("capture-pane", "-p") }

// press presses keys, such as Escape.
func (x *terminal) press(keys ...string) { x.tmux(append([]string{"send-keys"}, keys...)...) }

// say types a text, and presses Enter once it is seen.
func (x *terminal) say(text string) {
	x.t.Helper()
	x.press("-l", text)
	x.await("the text is seen", func() bool { return strings.Contains(x.screen(), text) })
	x.press("Enter")
}

// await waits until something is so.
func (x *terminal) await(what string, so func() bool) {
	x.t.Helper()
	require.Eventually(x.t, so, soon, 50*time.Millisecond, what)
}

// posted counts the events with a name that hold all of some texts.
func (x *terminal) posted(name string, texts ...string) (n int) {
	for _, posting := range x.postings() {
		var event struct {
			Name string `json:"hook_event_name"`
		}
		if json.Unmarshal(posting.body, &event) != nil || event.Name != name {
			continue
		}
		n++
		for _, text := range texts {
			if !bytes.Contains(posting.body, []byte(text)) {
				n--
				break
			}
		}
	}
	return n
}

// session returns the one session, without content before there is one.
func (x *terminal) session() (se models.Session) {
	if sessions := x.sessionsOf(x.agentOf("claude-code").ID); len(sessions) > 0 {
		se = sessions[0]
	}
	return se
}

// awaitDialog has Claude Code ask for permission, waits until the session says so with the command, and then until the parallel
// call has ended.
func (x *terminal) awaitDialog() {
	x.t.Helper()
	ended := x.posted("PostToolUse", "sleep 2")
	x.say(promptForDialog)
	x.await("Claude Code asks", func() bool { return strings.Contains(x.screen(), dialog) })
	x.await("the session is pending", func() bool { return x.session().CurrentStatus == models.Pending })
	require.Equal(x.t, "Bash: cat /etc/hostname", x.session().CurrentMessage)
	x.await("the parallel call has ended", func() bool { return x.posted("PostToolUse", "sleep 2") > ended })
}

// dialog is what a dialog says that asks for permission.
const dialog = "Do you want to proceed?"

// refusal returns the number of the dialog's answer that says no.
func (x *terminal) refusal() string {
	x.t.Helper()
	found := regexp.MustCompile(`([0-9])\. No`).FindStringSubmatch(x.screen())
	require.NotNil(x.t, found, "the dialog has no No")
	return found[1]
}

// holdPending holds that the session goes on to be pending for a while.
func (x *terminal) holdPending(while time.Duration) {
	x.t.Helper()
	require.Never(x.t, func() bool {
		se := x.session()
		return se.CurrentStatus != models.Pending || se.CurrentMessage != "Bash: cat /etc/hostname"
	}, while, 50*time.Millisecond, "somebody is asked")
}

// holdQuietOrIdle holds that Claude Code sends nothing for a while, unless it is that it idles: then the session is not pending.
func (x *terminal) holdQuietOrIdle() {
	x.t.Helper()
	before := len(x.postings())
	time.Sleep(4 * idleAfter)
	if idles := x.posted("Notification", "idle_prompt"); idles > 0 {
		require.NotEqual(x.t, models.Pending, x.session().CurrentStatus, "nobody is asked")
		before += idles
	}
	var names []string
	for _, posted := range x.postings()[before:] {
		names = append(names, string(posted.body))
	}
	require.Empty(x.t, names, "Claude Code tells of a denial: make use of that")
}

// TestRealClaudeCodeAllowed has somebody allow what Claude Code asks for, while a parallel call runs and ends.
func TestRealClaudeCodeAllowed(t *testing.T) {
	t.Parallel()
	x := newWorkplace(t).openClaudeCode()
	x.awaitDialog()
	x.holdPending(4 * idleAfter)
	require.Zero(t, x.posted("Notification", "idle_prompt"), "Claude Code is not at its empty prompt")
	x.press("1")
	x.await("the turn has ended", func() bool { return x.posted("Stop") == 1 && x.session().CurrentStatus == models.Success })
	require.Equal(t, modelSays, x.session().CurrentMessage)
	x.await("Claude Code idles", func() bool { return x.posted("Notification", "idle_prompt") == 1 })
	require.Equal(t, models.Success, x.session().CurrentStatus)
}

// TestRealClaudeCodeDenied has somebody deny, without a word, what Claude Code asks for. Claude Code mostly sends no event then, and
// seldom one when it idles: after that nobody is asked any more, nor after the next prompt, nor after the end of the session.
func TestRealClaudeCodeDenied(t *testing.T) {
	t.Parallel()
	for name, deny := range map[string]func(*terminal){
		"by Esc": func(x *terminal) { x.press("Escape") },
		"by No":  func(x *terminal) { x.press(x.refusal()) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := newWorkplace(t).openClaudeCode()
			x.awaitDialog()
			deny(x)
			x.await("the turn is interrupted", func() bool { return strings.Contains(x.screen(), "Interrupted") })
			x.holdQuietOrIdle()
			x.say(prompts[0])
			x.await("the next turn has ended", func() bool { return x.posted("Stop") == 1 })
			x.await("the session is done", func() bool { return x.session().CurrentStatus == models.Success })
			x.awaitDialog()
			deny(x)
			x.await("the turn is interrupted", func() bool { return !strings.Contains(x.screen(), dialog) })
			x.say("/exit")
			x.await("the session has ended", func() bool { return x.posted("SessionEnd") == 1 && x.session().CurrentStatus != models.Pending })
		})
	}
}

// TestRealClaudeCodeDeniedInWords has somebody say what to do instead. Claude Code goes on with the turn.
func TestRealClaudeCodeDeniedInWords(t *testing.T) {
	t.Parallel()
	x := newWorkplace(t).openClaudeCode()
	x.awaitDialog()
	for range int(x.refusal()[0] - '1') {
		x.press("Down")
	}
	x.await("No is chosen", func() bool { return strings.Contains(x.screen(), "❯ "+x.refusal()+". No") })
	x.press("Tab")
	x.say("read another file")
	x.await("the calls have ended", func() bool { return x.posted("PostToolBatch") == 1 })
	x.await("the turn has ended", func() bool { return x.posted("Stop") == 1 && x.session().CurrentStatus == models.Success })
}
