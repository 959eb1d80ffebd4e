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

// idleAfter is how long Claude Code waits at its empty prompt before it sends a notification. Its default is a minute.
const idleAfter = time.Second

// clientTimeout is how long the client and the server may take to reach an expected state.
const clientTimeout = 20 * time.Second

// terminal is a terminal in which Claude Code runs interactively.
type terminal struct {
	*workplace
	socket string // of its tmux server
	pid    int    // of Claude Code
}

// openClaudeCode starts Claude Code in a terminal and waits until it accepts a prompt. Claude Code runs in the mode in
// which it asks for permission.
func (p *workplace) openClaudeCode() *terminal {
	p.t.Helper()
	if _, err := exec.LookPath("tmux"); err != nil {
		p.t.Skip("tmux is missing: install it, then run make test-clients")
	}
	p.connect("claude-code")
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
	x.await("Claude Code accepts a prompt", func() bool { return x.posted("SessionStart") > 0 && strings.Contains(x.screen(), "❯") })
	return x
}

// close ends the terminal's tmux server, and waits until Claude Code has exited.
func (x *terminal) close() {
	if x.t.Failed() {
		x.t.Logf("the terminal shows:\n%s", x.screen())
	}
	exec.CommandContext(context.Background(), "tmux", "-S", x.socket, "kill-server").Run() //nolint:errcheck // it may have exited already
	exited := func() bool { return x.pid == 0 || syscall.Kill(x.pid, 0) != nil }
	for deadline := time.Now().Add(5 * time.Second); !exited() && time.Now().Before(deadline); {
		time.Sleep(20 * time.Millisecond)
	}
	if !exited() {
		syscall.Kill(x.pid, syscall.SIGKILL) //nolint:errcheck // it may have exited by now
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

// enter types a text, and presses Enter when the text is on the screen.
func (x *terminal) enter(text string) {
	x.t.Helper()
	x.press("-l", text)
	x.await("the text is on the screen", func() bool { return strings.Contains(x.screen(), text) })
	x.press("Enter")
}

// await waits until a condition holds. what describes it if the test fails.
func (x *terminal) await(what string, condition func() bool) {
	x.t.Helper()
	require.Eventually(x.t, condition, clientTimeout, 50*time.Millisecond, what)
}

// posted returns the number of events posted with a name whose body contains all of texts.
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

// session returns the only session. It returns a zero session while there is none.
func (x *terminal) session() (se models.Session) {
	if sessions := x.sessionsOf(x.agentOf("claude-code").ID); len(sessions) > 0 {
		se = sessions[0]
	}
	return se
}

// awaitDialog makes Claude Code ask for permission. It waits until the session is pending and shows the command, and
// then until the parallel call has ended.
func (x *terminal) awaitDialog() {
	x.t.Helper()
	before := x.posted("PostToolUse", "sleep 2")
	x.enter(promptForDialog)
	x.await("Claude Code asks for permission", func() bool { return strings.Contains(x.screen(), dialog) })
	x.await("the session is pending", func() bool { return x.session().CurrentStatus == models.Pending })
	require.Equal(x.t, "Bash: cat /etc/hostname", x.session().CurrentMessage)
	x.await("the parallel call has ended", func() bool { return x.posted("PostToolUse", "sleep 2") > before })
}

// dialog is a text in the dialog that asks for permission.
const dialog = "Do you want to proceed?"

// numberOfNo returns the number of the dialog's option "No".
func (x *terminal) numberOfNo() string {
	x.t.Helper()
	found := regexp.MustCompile(`([0-9])\. No`).FindStringSubmatch(x.screen())
	require.NotNil(x.t, found, "the dialog has no option \"No\"")
	return found[1]
}

// requirePending fails the test unless the session stays pending for a time.
func (x *terminal) requirePending(duration time.Duration) {
	x.t.Helper()
	require.Never(x.t, func() bool {
		se := x.session()
		return se.CurrentStatus != models.Pending || se.CurrentMessage != "Bash: cat /etc/hostname"
	}, duration, 50*time.Millisecond, "the session must stay pending")
}

// requireQuietOrIdle fails the test if Claude Code sends anything for a while, except the notification that it is idle.
// After that notification, the session must not be pending.
func (x *terminal) requireQuietOrIdle() {
	x.t.Helper()
	before := len(x.postings())
	time.Sleep(4 * idleAfter)
	if idles := x.posted("Notification", "idle_prompt"); idles > 0 {
		require.NotEqual(x.t, models.Pending, x.session().CurrentStatus, "no question is open any more")
		before += idles
	}
	var names []string
	for _, posted := range x.postings()[before:] {
		names = append(names, string(posted.body))
	}
	require.Empty(x.t, names, "Claude Code now sends an event for a denial: use it in the adapter")
}

// TestRealClaudeCodeAllowed allows what Claude Code asks for, after a parallel call has ended.
func TestRealClaudeCodeAllowed(t *testing.T) {
	t.Parallel()
	x := newWorkplace(t).openClaudeCode()
	x.awaitDialog()
	x.requirePending(4 * idleAfter)
	require.Zero(t, x.posted("Notification", "idle_prompt"), "Claude Code is not at its empty prompt")
	x.press("1")
	x.await("the turn has ended", func() bool { return x.posted("Stop") == 1 && x.session().CurrentStatus == models.Success })
	require.Equal(t, modelReply, x.session().CurrentMessage)
	x.await("Claude Code is idle", func() bool { return x.posted("Notification", "idle_prompt") == 1 })
	require.Equal(t, models.Success, x.session().CurrentStatus)
}

// TestRealClaudeCodeDenied denies what Claude Code asks for, without instructions. Claude Code usually sends no event
// then, and only sometimes one when it is idle. After that event, after the next prompt and after the end of the
// session, no question may be open.
func TestRealClaudeCodeDenied(t *testing.T) {
	t.Parallel()
	for name, deny := range map[string]func(*terminal){
		"with Esc": func(x *terminal) { x.press("Escape") },
		"with No":  func(x *terminal) { x.press(x.numberOfNo()) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := newWorkplace(t).openClaudeCode()
			x.awaitDialog()
			deny(x)
			x.await("the turn is interrupted", func() bool { return strings.Contains(x.screen(), "Interrupted") })
			x.requireQuietOrIdle()
			x.enter(prompts[0])
			x.await("the next turn has ended", func() bool { return x.posted("Stop") == 1 })
			x.await("the session is done", func() bool { return x.session().CurrentStatus == models.Success })
			x.awaitDialog()
			deny(x)
			x.await("the turn is interrupted", func() bool { return !strings.Contains(x.screen(), dialog) })
			x.enter("/exit")
			x.await("the session has ended", func() bool { return x.posted("SessionEnd") == 1 && x.session().CurrentStatus != models.Pending })
		})
	}
}

// TestRealClaudeCodeDeniedWithInstructions answers No and says what to do instead. Claude Code continues the turn.
func TestRealClaudeCodeDeniedWithInstructions(t *testing.T) {
	t.Parallel()
	x := newWorkplace(t).openClaudeCode()
	x.awaitDialog()
	for range int(x.numberOfNo()[0] - '1') {
		x.press("Down")
	}
	x.await("No is selected", func() bool { return strings.Contains(x.screen(), "❯ "+x.numberOfNo()+". No") })
	x.press("Tab")
	x.enter("read another file")
	x.await("the calls have ended", func() bool { return x.posted("PostToolBatch") == 1 })
	x.await("the turn has ended", func() bool { return x.posted("Stop") == 1 && x.session().CurrentStatus == models.Success })
}
