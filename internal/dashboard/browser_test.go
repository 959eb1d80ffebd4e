package dashboard_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/access"

	"github.com/kubeagents/kubeagents/internal/fleet"
)

// browserVariable names the browser, as a command or a path. Without it, the tests in a browser are skipped.
const browserVariable = "KUBEAGENTS_BROWSER"

// browserUsed is true if there is something to clean up at the end.
var browserUsed atomic.Bool

// needBrowser skips the test if no browser is named.
func needBrowser(t testing.TB) {
	t.Helper()
	if os.Getenv(browserVariable) == "" {
		t.Skip("needs a browser: run make test-dashboard (on Debian, apt-get install chromium first)")
	}
	browserUsed.Store(true)
}

var buildOnce = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "kubeagents")
	if err != nil {
		return "", err
	}
	binary := filepath.Join(dir, "kubeagents")
	out, err := exec.Command("go", "build", "-o", binary, "github.com/kubeagents/kubeagents").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return binary, nil
})

func TestMain(m *testing.M) {
	status := m.Run()
	if browserUsed.Load() {
		if binary, err := buildOnce(); err == nil {
			os.RemoveAll(filepath.Dir(binary)) //nolint:errcheck // it is a temporary directory
		}
		if ctx, err := startBrowser(); err == nil {
			chromedp.Cancel(ctx) //nolint:errcheck // it ends with this process anyway
		}
	}
	os.Exit(status)
}

// server is the running program.
type server struct {
	address string // host and port
	token   string // for sending reports, if the server requires one
	cmd     *exec.Cmd
	read    chan struct{} // closed once all of its log is read
}

// serve runs the program until the test ends, and returns once it is ready.
func serve(t testing.TB, settings ...string) *server {
	t.Helper()
	binary, err := buildOnce()
	require.NoError(t, err)
	s := &server{cmd: exec.Command(binary), read: make(chan struct{})}
	s.cmd.Env = append(append(os.Environ(), "HOST=127.0.0.1", "PORT=0", "SHUTDOWN_TIMEOUT=1s", "RATE_LIMIT_REPORTS=0"), settings...)
	stderr, err := s.cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, s.cmd.Start())
	t.Cleanup(s.stop)
	lines := bufio.NewReader(stderr)
	for ready := false; !ready; {
		line, err := lines.ReadString('\n')
		require.NoError(t, err)
		if _, rest, ok := strings.Cut(line, "address="); ok && s.address == "" {
			s.address = strings.Fields(rest)[0]
		}
		ready = strings.HasSuffix(line, "msg=ready\n")
	}
	go func() {
		defer close(s.read)
		io.Copy(io.Discard, lines) //nolint:errcheck // ends with the process
	}()
	return s
}

// stop shuts the program down gracefully, if it is running.
func (s *server) stop() {
	s.cmd.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it may have ended
	<-s.read
	s.cmd.Wait() //nolint:errcheck // the exit status does not matter
}

func (s *server) url(query string) string { return "http://" + s.address + "/" + query }

// report sends reports, each a JSON object.
func (s *server) report(t testing.TB, reports ...string) {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, s.url("webhook/status"), strings.NewReader(strings.Join(reports, "\n")))
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+s.token) // ignored by a server without tokens
	resp, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer resp.Body.Close() //nolint:errcheck // it has been read completely
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode, "%s", body)
}

// reportOf returns a report. more is its other fields, as JSON without braces.
func reportOf(agent, topic, status, more string) string {
	b, _ := json.Marshal(map[string]string{"agent_id": agent, "session_topic": topic, "status": status})
	if more != "" {
		more = "," + more
	}
	return strings.TrimSuffix(string(b), "}") + more + "}"
}

// claude sends events of a Claude Code session. Each event is a JSON object without the members common to all of them.
func (s *server) claude(t testing.TB, session, folder, host string, events ...string) {
	t.Helper()
	for _, event := range events {
		body := fmt.Sprintf(`{"session_id":%q,"cwd":%q,%s`, session, "/home/dev/"+folder, strings.TrimPrefix(event, "{"))
		r, err := http.NewRequest(http.MethodPost, s.url("webhook/claude-code"), strings.NewReader(body))
		require.NoError(t, err)
		r.Header.Set("X-Agent-Host", host)
		resp, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		answer, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusOK, resp.StatusCode, "%s", answer)
	}
}

// Events of Claude Code.
const (
	starts = `{"hook_event_name":"SessionStart","source":"startup"}`
	stops  = `{"hook_event_name":"Stop","last_assistant_message":"All done."}`
	plans  = `{"hook_event_name":"PreToolUse","tool_name":"ExitPlanMode","tool_use_id":"plan","tool_input":{"plan":"# Three steps\n\n1. Measure"}}`
	picks  = `{"hook_event_name":"PreToolUse","tool_name":"AskUserQuestion","tool_use_id":"pick","tool_input":{"questions":[` +
		`{"question":"Which rates?","options":[{"label":"Old ones","description":"of last year"},{"label":"New ones"}]}]}}`
)

func prompts(text string) string {
	return fmt.Sprintf(`{"hook_event_name":"UserPromptSubmit","prompt":%q}`, text)
}

// asks returns an event that asks for permission to run a command, on behalf of a subagent if that is not "".
func asks(command, subagent string) string {
	return bash("PermissionRequest", command, subagent)
}

// runs returns an event for a command that has run.
func runs(command string) string { return bash("PostToolUse", command, "") }

func bash(event, command, subagent string) string {
	b, _ := json.Marshal(map[string]any{"hook_event_name": event, "agent_id": subagent, "tool_name": "Bash", "tool_input": map[string]string{"command": command}})
	return string(b)
}

// tab is a page in a browser. It fails its test at the end if there was an error in the console, or a request to
// another host.
type tab struct {
	testing.TB
	ctx    context.Context
	server *server

	mu     sync.Mutex
	errors []string
}

// openBrowser returns a browser context without cookies or storage, which is closed at the end of the test.
func openBrowser(t testing.TB) context.Context {
	t.Helper()
	needBrowser(t)
	all, err := startBrowser()
	require.NoError(t, err)
	ctx, cancel := chromedp.NewContext(all, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	require.NoError(t, chromedp.Do(ctx))
	return ctx
}

// startBrowser starts the browser that all tests share.
var startBrowser = sync.OnceValues(func() (context.Context, error) {
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(os.Getenv(browserVariable)), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("blink-settings", "primaryHoverType=2,availableHoverTypes=2,primaryPointerType=4,availablePointerTypes=4"), // a mouse, as on a desktop
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.WindowSize(1280, 800))
	allocator, _ := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, _ := chromedp.NewContext(allocator)
	return ctx, chromedp.Do(ctx)
})

// open opens a page of s in a new tab.
func open(in context.Context, t testing.TB, s *server, query string) *tab {
	t.Helper()
	return openAt(in, t, s, query, "main#content h1")
}

// openAt is like open, but waits until an element that matches selector is visible.
func openAt(in context.Context, t testing.TB, s *server, query, selector string) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(in)
	t.Cleanup(cancel)
	p := &tab{TB: t, ctx: ctx, server: s}
	require.NoError(t, chromedp.Listen(ctx, p.watch))
	t.Cleanup(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if len(p.errors) > 0 {
			t.Errorf("errors in the page:\n%s", strings.Join(p.errors, "\n"))
		}
	})
	p.run(call(network.Enable, network.EnableParams{}), call(emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true}), chromedp.Navigate(s.url(query)), shown(selector))
	return p
}

func (p *tab) watch(event any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch event := event.(type) {
	case *runtime.EventExceptionThrown:
		text := event.ExceptionDetails.Text
		if exception := event.ExceptionDetails.Exception; exception != nil {
			text += " " + exception.Description
		}
		p.errors = append(p.errors, text)
	case *runtime.EventConsoleAPICalled:
		if event.Type == runtime.ConsoleAPICalledTypeError || event.Type == runtime.ConsoleAPICalledTypeWarning {
			p.errors = append(p.errors, fmt.Sprintf("console: %s", event.Args[0].Value))
		}
	case *network.EventRequestWillBeSent:
		u, err := url.Parse(event.Request.URL)
		if err != nil || u.Host != p.server.address {
			p.errors = append(p.errors, "request to "+event.Request.URL)
		}
	}
}

// call returns an action that runs a command of the browser.
func call[P, R any](command cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, command, params)
		return err
	})
}

func shown(selector string) chromedp.Action[chromedp.Void] {
	return chromedp.WaitVisible(chromedp.CSS(selector))
}

func click(selector string) chromedp.Action[chromedp.Void] {
	return chromedp.Click(chromedp.CSS(selector))
}

// do returns an action that evaluates an expression for its side effects.
func do(expression string) chromedp.Action[chromedp.Void] {
	return chromedp.Evaluate[chromedp.Void](expression)
}

// resize returns an action that sets the width of the page.
func resize(width int64) chromedp.Action[chromedp.Void] {
	return call(emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: 800, DeviceScaleFactor: 1})
}

// run runs actions in the page, within 20 seconds.
func (p *tab) run(actions ...chromedp.Action[chromedp.Void]) {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, 20*time.Second)
	defer cancel()
	require.NoError(p, chromedp.Do(ctx, actions...))
}

// press presses the key of a character like a keyboard does: if the page prevents the default action, nothing is typed.
func (p *tab) press(character string) {
	p.Helper()
	for _, event := range []input.DispatchKeyEventParams{{Type: "keyDown", Key: character, Text: character}, {Type: "keyUp", Key: character}} {
		p.run(call(input.DispatchKeyEvent, event))
	}
}

// eval returns the value of an expression.
func eval[V any](p *tab, expression string) V {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, 20*time.Second)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[V](expression, func(e *runtime.EvaluateParams) { e.AwaitPromise = new(true) }))
	require.NoError(p, err, expression)
	return v
}

// await waits until an expression is true.
func (p *tab) await(condition string) {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, 20*time.Second)
	defer cancel()
	if _, err := chromedp.Run(ctx, chromedp.Poll[bool]("Boolean("+condition+")", chromedp.WithPollingInterval(10*time.Millisecond))); err != nil {
		require.NoError(p, err, "%s\n%s", condition, eval[string](p, "document.body.innerText"))
	}
}

// texts returns the visible text of each element that matches a selector.
func (p *tab) texts(selector string) []string {
	p.Helper()
	return eval[[]string](p, fmt.Sprintf("[...document.querySelectorAll(%q)].map((e) => e.innerText.trim())", selector))
}

// names returns the text content of each element that matches a selector.
func (p *tab) names(selector string) []string {
	p.Helper()
	return eval[[]string](p, fmt.Sprintf("[...document.querySelectorAll(%q)].map((e) => e.textContent)", selector))
}

// live waits until the page follows the stream.
func (p *tab) live() *tab {
	p.Helper()
	p.await("document.querySelector('.connection.live')")
	return p
}

func TestPendingSessionsAppear(t *testing.T) {

	in, s := openBrowser(t), serve(t)
	p := open(in, t, s, "").live()
	require.Contains(t, p.texts("main")[0], "No agent has reported yet")
	require.Contains(t, p.texts(".copy pre")[0], s.url("webhook/status"), "the command contains the server's address")

	s.report(t, reportOf("b", "new", "pending", `"message":"May I?"`))
	p.await("document.querySelector('#group-pending')?.closest('section').innerText.includes('May I?')")
	p.await("document.title == '(1) KubeAgents'")
	p.await("document.querySelector('link[rel=icon]').href.endsWith('favicon.svg?waiting=1')")

	s.report(t, reportOf("a", "older", "pending", `"timestamp":"2026-11-20T07:00:00Z"`), reportOf("c", "broken", "failed", ""))
	p.await("document.querySelectorAll('.group .row').length == 3")
	require.Equal(t, []string{"older", "new", "broken"}, p.texts(".row .name"), "the session that has waited longest comes first")
	p.await("document.querySelector('[aria-live=polite]').innerText.includes('broken (failed)')")

	s.report(t, reportOf("a", "older", "running", ""), reportOf("b", "new", "success", ""))
	p.await("document.title == 'KubeAgents' && document.querySelectorAll('.group .row').length == 1")
	require.Contains(t, p.texts("main")[0], "Nothing is waiting for you.")
}

// TestTheRecordedDay replays a day, and compares the counts of the page with the expected ones.
func TestTheRecordedDay(t *testing.T) {

	in, s := openBrowser(t), serve(t)
	p := open(in, t, s, "").live()
	var batch []string
	for _, report := range fleet.Reports() {
		if batch = append(batch, string(report)); len(batch) == 500 {
			s.report(t, batch...)
			batch = nil
		}
	}
	s.report(t, batch...)
	day, err := fleet.Expected()
	require.NoError(t, err)
	p.await(fmt.Sprintf("document.querySelector('.fleet')?.innerText.includes('%d agents')", len(day.Agents)))
	p.await(fmt.Sprintf("document.title == '(%d) KubeAgents'", day.ByStatus["pending"]))
	require.Equal(t, fmt.Sprint(day.ByStatus["pending"]), p.texts("#group-pending .count")[0])
	p.run(chromedp.Navigate(s.url("?view=board")), shown(".column .row"))
	for _, status := range []string{"running", "pending", "success", "failed"} {
		p.await(fmt.Sprintf("document.querySelector('#column-%s .count')?.innerText.replace(/\\D/g, '') == '%d'", status, day.ByStatus[status]))
	}
	p.run(chromedp.Navigate(s.url("?view=agents")))
	p.await("document.querySelectorAll('.row').length >= 50")
	p.await(fmt.Sprintf("(scrollTo(0, document.body.scrollHeight), document.querySelectorAll('.row').length) >= %d", len(day.Agents)))
	require.Len(t, p.texts(".row"), len(day.Agents))

	// The complete history of a session.
	var longest fleet.Session
	for _, se := range day.Sessions {
		if len(se.History) > len(longest.History) {
			longest = se
		}
	}
	p.run(chromedp.Navigate(s.url("?"+url.Values{"agent": {longest.AgentID}, "session": {longest.Topic}}.Encode())), shown(".history"))
	p.await(fmt.Sprintf("document.querySelectorAll('.entry').length == %d", min(100, len(longest.History))))
	require.Equal(t, longest.CurrentMessage, p.texts(".current-message")[0])
	require.NotEmpty(t, p.texts(".stretch"))
}

// TestQuestionsAreShown opens and closes questions while two pages are open: they are shown briefly in "Needs you", and
// in full on the page of their session.
func TestQuestionsAreShown(t *testing.T) {
	in, s := openBrowser(t), serve(t)
	s.claude(t, "1", "payments", "laptop-a", starts, prompts("Fix the test"))
	p := open(in, t, s, "").live()
	detail := open(in, t, s, "?agent=claude-code:payments@laptop-a&session=1").live()
	detail.await("document.querySelectorAll('.entry').length == 2 && document.title == 'Fix the test · KubeAgents'")
	require.Empty(t, detail.texts(".questions"))

	s.claude(t, "1", "payments", "laptop-a", asks("rm -rf build\necho", "sub-1"))
	s.claude(t, "2", "payments", "laptop-b", prompts("Plan"), plans)
	p.await("document.querySelectorAll('.row').length == 2")
	require.Equal(t, []string{"Asks for permission Bash: rm -rf build", "Asks to approve a plan Three steps"}, p.texts(".message"))
	require.Equal(t, []string{"by subagent sub-1"}, p.texts(".asides"))
	require.Equal(t, []string{"payments@laptop-a", "payments@laptop-b"}, p.names(".agent-name"))
	s.claude(t, "1", "payments", "laptop-a", asks("make", ""), picks)
	p.await("document.querySelector('.asides')?.innerText.includes('+2 more')")

	detail.await("document.querySelectorAll('.questions > li').length == 3")
	require.Equal(t, []string{"Asks for permission", "Asks for permission", "Asks for a choice"}, detail.texts(".questions .kind"))
	require.Contains(t, detail.texts(".questions .asked")[0], "ago by subagent sub-1")
	require.Equal(t, []string{"command:\n  rm -rf build\n  echo", "command: make", ""}, detail.texts(".questions pre"), "with choices, the content is collapsed")
	detail.run(click(".questions summary"))
	require.Equal(t, []string{"command:\n  rm -rf build\n  echo", "command: make",
		"questions:\n  - question: Which rates?\n    options:\n      - label: Old ones\n        description: of last year\n      - label: New ones"}, detail.texts(".questions pre"))
	require.Equal(t, []string{"Old ones", "New ones"}, detail.texts(".choices li"))
	require.Empty(t, detail.texts(".entry pre, .current-message"), "nothing is shown twice")
	require.Regexp(t, `^expires in (1d|23h 59m) \(TTL 30m, longer while a question is open\)$`, detail.texts(".ttl")[0])

	s.claude(t, "1", "payments", "laptop-a", bash("PermissionDenied", "rm -rf build\necho", "sub-1"))
	p.await("document.querySelector('.message')?.innerText == 'Asks to approve a plan Three steps'") // it is now the one that has waited longest
	require.Equal(t, []string{"Asks for permission Bash: make"}, p.texts(".row:has(.asides) .message"))
	require.Equal(t, []string{"+1 more"}, p.texts(".asides"))
	detail.await("document.querySelectorAll('.questions > li').length == 2 && document.querySelector('.closed')")
	require.Equal(t, []string{"Bash: rm -rf build denied by PermissionDenied"}, detail.texts(".closed"))
	require.Equal(t, []string{"Asks for permission Bash: make", "Asks for permission Bash: rm -rf build"}, detail.texts(".entry .message:has(.kind)"), "also once the question is closed")

	s.claude(t, "1", "payments", "laptop-a", runs("make"), stops)
	p.await("document.querySelectorAll('.row').length == 1 && document.title == '(1) KubeAgents'")
	detail.await("!document.querySelector('.questions') && document.querySelectorAll('.closed').length == 3")
	require.ElementsMatch(t, []string{"Bash: rm -rf build denied by PermissionDenied", "Bash: make answered by PostToolUse", "Which rates? withdrawn by Stop"}, detail.texts(".closed"))
	require.Equal(t, []string{"All done."}, detail.texts(".current-message"))
}

// TestALongQuestionScrolls shows a question with more content than is kept, on a phone.
func TestALongQuestionScrolls(t *testing.T) {
	in, s := openBrowser(t), serve(t)
	s.claude(t, "1", "payments", "laptop-a", prompts("Fix"), asks(strings.Repeat("make all ", 10_000), ""))
	p := open(in, t, s, "?agent=claude-code:payments@laptop-a&session=1")
	p.run(resize(390))
	p.await("document.querySelector('.questions')?.innerText.includes('Truncated at 64 KiB.')")
	require.True(t, eval[bool](p, "(({clientHeight, scrollHeight, clientWidth, scrollWidth}) => clientHeight < 400 && scrollHeight > 10000 && clientWidth == scrollWidth)(document.querySelector('.questions pre'))"))
	require.Zero(t, eval[int](p, "Math.max(0, document.documentElement.scrollWidth - innerWidth)"))
}

// brokenFacts returns the hosts and topics that take more than one line although they fit into 300 px. With the wide
// font of some machines they don't fit.
const brokenFacts = `[...document.querySelectorAll('.facts .long')].filter((e) => /^(Host|Topic)/.test(e.innerText)).filter((e) => {
	const dd = e.querySelector('dd'), range = document.createRange();
	if (dd.offsetHeight < 30) return false;
	dd.style.whiteSpace = 'nowrap';
	range.selectNodeContents(dd);
	const wide = range.getBoundingClientRect().width > Math.max(300, e.clientWidth);
	dd.style.whiteSpace = '';
	return !wide;
}).map((e) => e.innerText)`

// TestFactsAlign checks the pages of a session on a host with a long name, and of its agent, on a phone and on a
// tablet.
func TestFactsAlign(t *testing.T) {
	in, s := openBrowser(t), serve(t)
	s.claude(t, "0b7e3c1a-5d22-4e61-9a53-3f1f2c7d9e10", "web", "ip-10-23-41-1.internal.example.com", prompts("Move"))
	agent := "?agent=claude-code:web@ip-10-23-41-1.internal.example.com"
	for _, query := range []string{agent, agent + "&session=0b7e3c1a-5d22-4e61-9a53-3f1f2c7d9e10"} {
		p := open(in, t, s, query).live()
		p.await("document.querySelectorAll('.facts > div').length == 7")
		for width, columns := range map[int64]int{390: 2, 760: 4} {
			p.run(resize(width))
			require.LessOrEqual(t, eval[int](p, "new Set([...document.querySelectorAll('.facts > div')].map((e) => e.offsetLeft)).size"), columns, "%s at %d", query, width)
			require.Empty(t, eval[[]string](p, brokenFacts), "%s at %d", query, width)
		}
	}
}

// TestIdleIsNotSuccess starts a session, and then its first turn while a page is open.
func TestIdleIsNotSuccess(t *testing.T) {
	in, s := openBrowser(t), serve(t)
	s.claude(t, "1", "payments", "laptop-a", starts)
	s.report(t, reportOf("b", "fine", "success", ""))
	p := open(in, t, s, "?view=sessions").live()
	list := func(query string) string {
		p.run(chromedp.Navigate(s.url(query)), shown("main#content h1"))
		p.live().await("!document.querySelector('.skeleton')")
		return strings.Join(p.texts(".row .name"), " ")
	}
	require.Equal(t, "fine 1", list("?view=sessions"))
	require.Equal(t, []string{"success", "idle"}, p.texts(".row .status"))
	require.Equal(t, "fine", list("?view=sessions&status=success"))
	require.Equal(t, "fine", list("?view=sessions&status=success&state=active"))
	require.Equal(t, "1", list("?view=sessions&status=idle"))
	require.Equal(t, "idle", eval[string](p, "document.querySelector('.choice select').value"))

	list("?view=board")
	p.await("document.querySelector('#column-idle .count')?.innerText == '1' && document.querySelector('#column-success .count').innerText == '1'")
	require.Equal(t, []string{"1"}, p.texts("[aria-labelledby=column-idle] .name"))
	require.Equal(t, []string{"fine"}, p.texts("[aria-labelledby=column-success] .name"))
	s.claude(t, "1", "payments", "laptop-a", prompts("Go on"))
	p.await("document.querySelector('[aria-labelledby=column-running] .name') && !document.querySelector('[aria-labelledby=column-idle] .name')")
	s.claude(t, "2", "payments", "laptop-a", starts)
	p.await("document.querySelector('[aria-labelledby=column-idle] .name')?.innerText == '2'")
	require.Equal(t, []string{"fine"}, p.texts("[aria-labelledby=column-success] .name"))

	list("")
	p.await("document.querySelector('.fleet')?.innerText == '1 running, 1 idle, 3 active sessions of 2 agents'")
	list("?agent=claude-code:payments@laptop-a&session=2")
	p.await("document.querySelector('.entry .status')?.innerText == 'idle' && document.querySelector('.stretch.idle')")
}

// TestWaitingAgents filters for waiting agents, and checks that the list follows changes.
func TestWaitingAgents(t *testing.T) {
	in, s := openBrowser(t), serve(t)
	for _, host := range []string{"laptop-a", "laptop-b"} {
		s.claude(t, "on "+host, "payments", host, prompts("Fix"))
	}
	s.claude(t, "asks", "payments", "laptop-a", prompts("Fix"), asks("make", ""))
	s.claude(t, "works", "payments", "laptop-a", prompts("Look"))
	p := open(in, t, s, "?view=agents").live()
	p.await("document.querySelectorAll('.row').length == 2")
	require.ElementsMatch(t, []string{"payments@laptop-a", "payments@laptop-b"}, p.names(".row .name"))
	require.Equal(t, s.url("connect"), eval[string](p, "document.querySelector('.head a').href"))
	require.Equal(t, []string{"1 waiting"}, p.texts(".row .badge"))
	require.Equal(t, []string{"running", "running"}, p.texts(".row .status"), "the latest status does not show it")

	p.run(click(".check input"))
	p.await("document.querySelectorAll('.row').length == 1 && location.search == '?view=agents&waiting=true'")
	require.Equal(t, []string{"payments@laptop-a"}, p.names(".row .name"))
	again := open(in, t, s, "?view=agents&waiting=true").live()
	again.await("document.querySelector('.check input').checked && document.querySelectorAll('.row').length == 1")

	s.claude(t, "on laptop-b", "payments", "laptop-b", asks("make", ""))
	p.await("document.querySelectorAll('.row').length == 2")
	s.claude(t, "asks", "payments", "laptop-a", runs("make"))
	again.await("document.querySelectorAll('.row').length == 1 && document.querySelector('.row .name').textContent == 'payments@laptop-b'")
	again.run(click(".row"))
	again.await("document.querySelector('.counts')?.innerText.includes('1 waiting') && document.querySelector('.facts').innerText.includes('laptop-b')")
	again.await("document.querySelector('h1').textContent == 'payments@laptop-b' && document.title.endsWith('payments@laptop-b · KubeAgents')")
}

// TestAgentNamesApplyToAllSessions checks that an agent's name and host apply to all of its sessions, and a source only
// to its own.
func TestAgentNamesApplyToAllSessions(t *testing.T) {
	in, s := openBrowser(t), serve(t)
	s.report(t, reportOf("a", "one", "running", `"agent_source":"codex","agent_name":"Anna"`), reportOf("b", "other", "running", ""))
	p := open(in, t, s, "?view=sessions").live()
	p.await("document.querySelectorAll('.row').length == 2")
	p.run(do("window.fetch = () => new Promise(() => {})")) // from now on, only the stream brings changes
	s.report(t, reportOf("a", "two", "running", `"agent_source":"cursor","agent_name":"Berta","agent_host":"laptop-b"`))
	p.await("document.querySelectorAll('.row').length == 3")
	require.Equal(t, []string{"Berta@laptop-b cursor", "b", "Berta@laptop-b codex"}, p.names(".row .who"))
}

// TestReadsDontRevertChanges changes a session after the server has answered a read of the list, but before the page
// has the response.
func TestReadsDontRevertChanges(t *testing.T) {
	in, s := openBrowser(t), serve(t)
	s.report(t, reportOf("a", "fix one", "running", ""))
	p := open(in, t, s, "?view=sessions&search=fix").live()
	p.await("document.querySelectorAll('.row').length == 1")
	p.run(do(`const real = window.fetch, held = []
		window.fetch = async (...args) => {
			if (window.release) return new Promise(() => {})
			const answer = await real(...args)
			window.answered ||= args[0].includes('search=fix')
			await new Promise((go) => held.push(go))
			return answer
		}
		window.letGo = () => { window.release = true; for (const go of held) go() }`))
	s.report(t, reportOf("a", "fix two", "running", "")) // only a read shows it, because of the search
	p.await("window.answered")
	s.report(t, reportOf("a", "fix one", "pending", `"message":"May I?"`))
	p.await("document.querySelector('.row').innerText.includes('May I?')")
	p.run(do("letGo()"))
	p.await("document.querySelectorAll('.row').length == 2")
	require.Equal(t, []string{"May I?"}, p.texts(".row .message"))
}

// TestServerRenderingMatches compares the page as the server renders it with the page as the scripts render it, except for
// the seconds, which pass meanwhile.
func TestServerRenderingMatches(t *testing.T) {
	in, s := openBrowser(t), serve(t)
	s.report(t, reportOf("a", "waits", "pending", `"message":"Shall I go on?"`), reportOf("b", "broken", "failed", `"agent_host":"db-1","agent_source":"cron","message":"No space left"`))
	s.claude(t, "1", "payments", "laptop-a", prompts("Fix"), asks("make", ""), asks("rm -rf build", ""), plans)
	s.claude(t, "2", "payments", "laptop-b", prompts("Look"), asks("ls", "sub-1"))
	s.claude(t, "3", "payments", "laptop-b", prompts("Choose"), picks)
	s.claude(t, "4", "payments", "laptop-b", starts)
	s.claude(t, "5", "payments", "laptop-b", prompts("Plan"), strings.Replace(plans, "# Three steps", "PLAN: three steps", 1))
	p := open(in, t, s, "").live()
	p.await("document.querySelectorAll('.row').length == 6")
	texts := "[...of.querySelectorAll('.fleet, .row :is(.name, .message, .asides, .who, .when)')].map((e) => e.textContent.replace(/\\d+s( ago)?$|\\s/g, ''))"
	want := eval[[]string](p, "((of) => "+texts+")(document)")
	require.Len(t, want, 1+6*4+2)
	require.Equal(t, want, eval[[]string](p, "fetch('./').then((answer) => answer.text()).then((page) => new DOMParser().parseFromString(page, 'text/html')).then((of) => "+texts+")"))
}

func TestFiltersAreInTheURL(t *testing.T) {

	in, s := openBrowser(t), serve(t)
	s.report(t, reportOf("a1", "Fix login", "running", `"agent_source":"codex"`), reportOf("a2", "Fix logout", "pending", `"agent_source":"cursor"`),
		reportOf("a2", "Write docs", "pending", `"agent_source":"cursor"`), reportOf("a3", "Fix CI", "failed", `"agent_source":"codex"`))
	p := open(in, t, s, "?view=sessions").live()
	p.await("document.querySelectorAll('.row').length == 4")
	p.run(chromedp.SendKeys(chromedp.CSS("#search"), "fix"))
	p.await("document.querySelectorAll('.row').length == 3 && location.search.includes('search=fix')")
	p.run(chromedp.SetValue(chromedp.CSS(".choice select"), "pending"), do("document.querySelector('.choice select').dispatchEvent(new Event('change', {bubbles: true}))"))
	p.await("document.querySelectorAll('.row').length == 1 && location.search.includes('status=pending')")
	require.Equal(t, []string{"Fix logout"}, p.texts(".row .name"))

	again := open(in, t, s, eval[string](p, "location.search")) // the same link, elsewhere
	again.await("document.querySelectorAll('.row').length == 1")
	require.Equal(t, []string{"Fix logout"}, again.texts(".row .name"))
	require.Equal(t, "fix", eval[string](again, "document.querySelector('#search').value"))

	// A change removes a row from the list, or adds one.
	s.report(t, reportOf("a2", "Fix logout", "running", ""), reportOf("a1", "Fix login", "pending", ""))
	again.await("document.querySelector('.row .name')?.innerText == 'Fix login' && document.querySelectorAll('.row').length == 1")
	p.run(do("history.back()"))
	p.await("!location.search.includes('status=')")
	p.run(click(".clear"))
	p.await("document.querySelectorAll('.row').length == 4 && location.search == '?view=sessions' && document.querySelector('#search').value == ''")

	for query, want := range map[string]int{"?view=sessions&source=codex": 2, "?view=sessions&agent_id=a2": 2, "?view=sessions&state=lost": 0, "?view=board&source=codex": 2,
		"?view=sessions&search=nothing": 0, "?view=agents&source=codex": 2, "?view=agents&status=failed": 1, "?view=agents&search=a2": 1, "?view=sessions&status=nonsense": 4} {
		p.run(chromedp.Navigate(s.url(query)), shown("main#content h1"))
		p.await("!document.querySelector('.skeleton')")
		p.await(fmt.Sprintf("document.querySelectorAll('.row').length == %d", want))
		require.Len(t, p.texts(".clear"), 1, query)
	}
	p.run(chromedp.Navigate(s.url("?view=sessions&idle=true")), shown("main#content h1"))
	p.await("document.querySelectorAll('.row').length == 4")
	require.Empty(t, p.texts(".clear"), "a parameter of the API is not a filter of the page")
}

func TestKeys(t *testing.T) {

	in, s := openBrowser(t), serve(t)
	for i := range 3 {
		s.report(t, reportOf("a", fmt.Sprint("s", i), "running", ""))
	}
	p := open(in, t, s, "?view=sessions").live()
	p.await("document.querySelectorAll('.row').length == 3")
	p.press("j")
	p.press("j")
	p.press("k")
	p.press("j")
	require.Equal(t, "s1", eval[string](p, "document.activeElement.querySelector('.name').innerText"))
	p.press("/")
	require.Equal(t, "search", eval[string](p, "document.activeElement.id"))
	p.run(chromedp.KeyEvent("s2"))
	p.await("document.querySelectorAll('.row').length == 1")
	p.run(chromedp.KeyEvent(kb.Escape))
	p.press("j")
	p.run(chromedp.KeyEvent(kb.Enter))
	p.await("document.querySelector('h1').innerText == 's2'")
	require.Equal(t, "H1", eval[string](p, "document.activeElement.tagName"), "the focus moves to the new view")
	p.run(chromedp.KeyEvent(kb.Escape))
	p.await("document.querySelector('h1').innerText == 'a'")
	p.press("?")
	p.await("document.querySelector('dialog[open]')")
	p.run(chromedp.KeyEvent(kb.Escape))
	p.await("!document.querySelector('dialog[open]')")
	p.press("1")
	p.await("document.querySelector('h1').innerText == 'Needs you'")
	p.press("3")
	p.await("document.querySelector('.board')")
	p.press("5")
	p.await("document.querySelector('h1').innerText == 'Notifications'")
}

// TestRowsDoNotMoveUnderThePointer changes sessions while the pointer is over their list.
func TestRowsDoNotMoveUnderThePointer(t *testing.T) {

	in, s := openBrowser(t), serve(t)
	for i := range 3 {
		s.report(t, reportOf("a", fmt.Sprint("s", i), "pending", fmt.Sprintf(`"timestamp":"2026-11-20T07:0%d:00Z"`, i)))
	}
	p := open(in, t, s, "").live()
	p.await("document.querySelectorAll('.row').length == 3")
	at := eval[[]float64](p, "(({x, y}) => [x + 50, y + 10])(document.querySelectorAll('.row')[1].getBoundingClientRect())")
	p.run(chromedp.MouseEvent(input.DispatchMouseEventTypeMouseMoved, at[0], at[1]))
	s.report(t, reportOf("a", "s0", "running", ""), reportOf("a", "s1", "pending", `"message":"Now?"`), reportOf("a", "s3", "pending", ""))
	p.await("document.querySelectorAll('.row').length == 4 && document.querySelectorAll('.row')[1].innerText.includes('Now?')")
	require.Equal(t, []string{"s0", "s1", "s2", "s3"}, p.texts(".row .name"))
	require.True(t, eval[bool](p, "document.querySelector('li').classList.contains('gone')"))
	p.run(chromedp.MouseEvent(input.DispatchMouseEventTypeMouseMoved, 5, 5))
	p.await("document.querySelectorAll('.row').length == 3")
	require.Equal(t, []string{"s1", "s2", "s3"}, p.texts(".row .name"))
}

// TestThePageReconnects restarts the server while a page is open.
func TestThePageReconnects(t *testing.T) {

	in, s := openBrowser(t), serve(t)
	s.report(t, reportOf("a", "before", "pending", ""))
	p := open(in, t, s, "").live()
	p.await("document.querySelector('.row')?.innerText.includes('before')")
	s.stop()
	p.await("document.querySelector('.connection.away')?.innerText == 'Reconnecting…'")
	_, port, err := net.SplitHostPort(s.address)
	require.NoError(t, err)
	again := serve(t, "PORT="+port)
	again.report(t, reportOf("a", "after", "pending", ""))
	p.await("document.querySelector('.connection.live')")
	p.await("document.querySelectorAll('.row').length == 1 && document.querySelector('.row').innerText.includes('after')")
	again.report(t, reportOf("b", "later", "pending", ""))
	p.await("document.querySelectorAll('.row').length == 2")
}

// TestTabsShareAStream opens more tabs than a browser allows connections to a server.
func TestTabsShareAStream(t *testing.T) {

	in, s := openBrowser(t), serve(t)
	tabs := make([]*tab, 8)
	for i := range tabs {
		tabs[i] = open(in, t, s, "").live()
	}
	s.report(t, reportOf("a", "t", "pending", ""))
	for _, p := range tabs {
		p.await("document.title == '(1) KubeAgents'")
	}
	resp, err := http.Get(s.url("metrics"))
	require.NoError(t, err)
	defer resp.Body.Close() //nolint:errcheck // it has been read completely
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Contains(t, string(body), "kubeagents_subscribers 1\n")
}

func TestNotifications(t *testing.T) {

	in, s := openBrowser(t), serve(t)
	s.report(t, reportOf("a", "t", "running", ""))
	p := open(in, t, s, "").live()
	_, err := chromedp.CallBrowser(p.ctx, browser.SetPermission, browser.SetPermissionParams{
		Permission: &browser.PermissionDescriptor{Name: "notifications"}, Setting: browser.PermissionSettingGranted, Origin: "http://" + s.address,
		BrowserContextID: chromedp.FromContext(p.ctx).BrowserContextID})
	require.NoError(t, err)
	p.run(do(`const real = Notification; window.notes = []
		window.Notification = class extends real { constructor(title, options) { super(title, options); notes.push(title + ' | ' + options.body) } }`))
	p.run(click("[aria-label^=Notifications]"), click(".sheet label:nth-of-type(1)"), click(".sheet label:nth-of-type(3)"))
	p.await("document.querySelector('[aria-label=\"Notifications: on\"]')")
	s.report(t, reportOf("a", "t", "pending", `"agent_name":"Anna","message":"May I?"`))
	p.await("notes.length == 1")
	s.report(t, reportOf("a", "t", "pending", `"message":"Still here"`), reportOf("a", "t", "failed", ""), reportOf("a", "t", "pending", ""))
	p.await("notes.length == 2")
	require.Equal(t, []string{"Anna is waiting for you | t\nMay I?", "Anna is waiting for you | t"}, eval[[]string](p, "notes"), "not again while it waits, and not for a failure")
	s.claude(t, "1", "payments", "laptop-a", prompts("Fix"), asks("make", ""), asks("ls", ""), asks("ls", ""), runs("make"))
	p.await("notes.length == 4")
	require.Equal(t, []string{"payments on laptop-a is waiting for you | Fix\nAsks for permission: Bash: make", "payments on laptop-a is waiting for you | Fix\nAsks for permission: Bash: ls"}, eval[[]string](p, "notes.slice(2)"), "once for each question")
	p.run(click(".sheet label:nth-of-type(1)"))
	s.report(t, reportOf("a", "t2", "pending", ""))
	p.await("document.title == '(3) KubeAgents'")
	require.Len(t, eval[[]string](p, "notes"), 4, "switched off")
}

// hostile are texts that must be shown unchanged, and must not break anything.
var hostile = []string{
	`<img src=x onerror="window.hacked=1">`, `"><script>window.hacked=1</script>`, "javascript:window.hacked=1", "{{constructor}}", "${window.hacked=1}",
	strings.Repeat("W", 500), strings.Repeat("אבג ", 40), "\u202egnirts\u202c", "a\u0300\u0301\u0302\u0303\u0304\u0305", "../../?view=agents#x", "%3Cb%3E",
}

func TestHostileTextsAreShownAsText(t *testing.T) {

	in, s := openBrowser(t), serve(t)
	var reports []string
	for i, text := range hostile {
		field := func(limit int) string {
			runes := []rune(text)
			b, _ := json.Marshal(string(runes[:min(limit, len(runes))]))
			return string(b)
		}
		named := func(limit int) string { return strings.NewReplacer("\u202e", "", "\u202c", "").Replace(field(limit)) } // not allowed in IDs and names
		content, _ := json.Marshal(strings.Repeat(text+" ", 10_000/(len([]rune(text))+1)))
		reports = append(reports, fmt.Sprintf(`{"agent_id":%s,"agent_name":%s,"agent_source":%s,"agent_host":%[3]s,"session_topic":%s,"session_title":%s,"status":"%s","message":%s,"content":%s}`,
			named(100), named(200), named(200), named(500), field(200), []string{"pending", "failed"}[i%2], field(1000), content))
	}
	s.report(t, reports...)
	for i, text := range hostile {
		choice, _ := json.Marshal(map[string]any{"hook_event_name": "PreToolUse", "tool_name": "AskUserQuestion", "agent_id": text, "tool_use_id": "x",
			"tool_input": map[string]any{"questions": []any{map[string]any{"question": text, "options": []any{map[string]string{"label": text, text: text}}}}}})
		s.claude(t, fmt.Sprint(i), "hostile", "host", prompts("Ask"), asks(text+"\n"+text, text), string(choice))
	}
	p := open(in, t, s, "").live()
	for _, width := range []int64{1280, 360} {
		p.run(resize(width))
		queries := []string{"", "?view=sessions", "?view=board", "?view=agents"}
		for i, text := range hostile {
			queries = append(queries, fmt.Sprintf("?agent=claude-code:hostile@host&session=%d", i))
			text = strings.NewReplacer("\u202e", "", "\u202c", "").Replace(text)
			runes := []rune(text)
			agent := string(runes[:min(100, len(runes))])
			queries = append(queries, "?"+url.Values{"agent": {agent}}.Encode(), "?"+url.Values{"agent": {agent}, "session": {text}}.Encode())
		}
		for _, query := range queries {
			p.run(chromedp.Navigate(s.url(query)), shown("main#content h1"))
			p.await("document.querySelector('.row, .entry')")
			require.False(t, eval[bool](p, "'hacked' in window"), query)
			require.LessOrEqual(t, eval[float64](p, "document.documentElement.scrollWidth - document.documentElement.clientWidth"), 0.0, "%s at %d", query, width)
			require.Zero(t, eval[int](p, "document.querySelectorAll('main img, main script, main [href^=\"javascript:\"]').length"))
		}
	}
	p.run(chromedp.Navigate(s.url("?" + url.Values{"agent": {hostile[0]}, "session": {hostile[0]}}.Encode())))
	p.await(fmt.Sprintf("document.querySelector('h1')?.innerText == %q", hostile[0]))
}

// TestTextIsShownInOrder checks how texts with characters that change the displayed order are shown.
func TestTextIsShownInOrder(t *testing.T) {
	in, s := openBrowser(t), serve(t)
	const turned, shown = "rm \u202etxt.\u2066x\u2069", "rm [U+202E]txt.[U+2066]x[U+2069]"
	s.report(t, reportOf("a", "t", "pending", fmt.Sprintf(`"session_title":%q,"message":%q,"content":%[2]q`, turned, turned)))
	s.claude(t, "1", "payments", "laptop", prompts(turned), asks("ls "+turned, turned))
	for _, query := range []string{"", "?view=sessions", "?view=board", "?view=agents", "?agent=a", "?agent=a&session=t", "?agent=claude-code:payments@laptop&session=1"} {
		p := open(in, t, s, query).live()
		p.await(fmt.Sprintf("document.querySelector('.row, .entry') && document.body.textContent.includes(%q)", shown))
		require.NotRegexp(t, "[\u202a-\u202e\u2066-\u2069]", eval[string](p, "document.title + document.documentElement.textContent"), query)
	}
}

// TestPathPrefix opens the page under the path of PUBLIC_URL and without it, and signs in under both.
func TestPathPrefix(t *testing.T) {
	in := openBrowser(t)
	s, token := withTokens(t, "PUBLIC_URL=https://hub.example.com/team/hub")
	s.report(t, reportOf("team-a/anna", "mine", "pending", ""))
	for path, at := range map[string]string{"team/hub": "/team/hub/", "team/hub/": "/team/hub/", "": "/"} {
		p := openAt(in, t, s, path+"?view=sessions", ".signin")
		p.run(chromedp.KeyEvent(token), chromedp.KeyEvent(kb.Enter), shown("main#content h1"))
		p.live().await("document.querySelector('.row')?.innerText.includes('mine')")
		require.Equal(t, at+"?view=sessions", eval[string](p, "location.pathname + location.search"))
		p.run(click(".row"), shown(".entry"))
		elsewhere := fmt.Sprintf("performance.getEntriesByType('resource').map(({name}) => new URL(name).pathname).filter((path) => !path.startsWith(%q))", at)
		require.Empty(t, eval[[]string](p, elsewhere))
		p.run(click("[aria-label='Sign out (team a)']"), shown(".signin"))
	}
}

// TestPathPrefixWithoutSlash opens the page at the path that a proxy strips, without a slash at its end, and signs in.
func TestPathPrefixWithoutSlash(t *testing.T) {
	in := openBrowser(t)
	s, token := withTokens(t, "TRUSTED_PROXIES=127.0.0.1")
	s.report(t, reportOf("team-a/anna", "mine", "pending", ""))
	target := &url.URL{Scheme: "http", Host: s.address}
	proxy := httptest.NewServer(http.StripPrefix("/team/hub", &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host
		r.Out.Header.Set("X-Forwarded-Prefix", "/team/hub")
	}}))
	defer proxy.Close()
	direct := s.address
	s.address = strings.TrimPrefix(proxy.URL, "http://")
	defer func() { s.address = direct }()

	p := openAt(in, t, s, "team/hub", ".signin")
	p.run(chromedp.KeyEvent(token), chromedp.KeyEvent(kb.Enter), shown("main#content h1"))
	p.live().await("document.querySelector('.row')?.innerText.includes('mine')")

	p.run(chromedp.Navigate(s.url("team/hub?view=sessions")), shown("main#content h1"))
	p.live().await("document.querySelector('.row')?.innerText.includes('mine')")
	require.Empty(t, eval[[]string](p, "performance.getEntriesByType('resource').map(({name}) => new URL(name).pathname).filter((path) => !path.startsWith('/team/hub/'))"))
	p.run(click(".row"), shown(".entry"))
	require.Equal(t, "/team/hub/", eval[string](p, "location.pathname"))
	p.run(click("[aria-label='Sign out (team a)']"), shown(".signin"))
}

// TestAccessibility checks views in special states with axe-core, in light on a desktop and in dark on a phone.
// TestLayout checks every view.
func TestAccessibility(t *testing.T) {
	axe, err := os.ReadFile("testdata/axe.min.js")
	require.NoError(t, err)

	in, s := openBrowser(t), serve(t)
	for i, status := range []string{"running", "pending", "success", "failed"} {
		s.report(t, reportOf("a", fmt.Sprint(i), "running", `"timestamp":"2026-11-24T01:00:00Z"`), reportOf("a", fmt.Sprint(i), status, `"agent_name":"Anna","agent_source":"codex","message":"What it says","content":"Several\nlines"`))
		s.report(t, reportOf("b", fmt.Sprint(i), status, `"ttl_minutes":1,"message":"Lost"`))
	}
	s.claude(t, "1", "payments", "laptop-a", starts, prompts("Fix"), asks("make", "sub-1"), runs("ls"), plans, picks, asks(strings.Repeat("make all ", 10_000), ""))
	s.claude(t, "2", "payments", "laptop-b", starts, prompts("Fix"), asks("make", ""), runs("make"))
	s.claude(t, "3", "payments", "laptop-b", starts)
	for scheme, width := range map[string]int64{"light": 1280, "dark": 390} {
		{
			p := open(in, t, s, "").live()
			p.run(resize(width),
				call(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
					{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}}}))
			for _, query := range []string{"?view=agents&waiting=true", "?agent=a&session=1",
				"?agent=claude-code:payments@laptop-a&session=1", "?agent=claude-code:payments@laptop-b&session=2"} {
				p.run(chromedp.Navigate(s.url(query)), shown("main#content h1"))
				p.live().await("document.querySelector('.row, .entry') && !document.querySelector('.skeleton')")
				p.requireAccessible(string(axe), fmt.Sprintf("%q %s %d", query, scheme, width))
			}
			p.run(click("[aria-label^=Notifications]"))
			p.requireAccessible(string(axe), "notifications "+scheme)
			p.run(chromedp.KeyEvent(kb.Escape), chromedp.KeyEvent("?"))
			p.await("document.querySelector('dialog[open]')")
			p.requireAccessible(string(axe), "help "+scheme)
		}
	}
}

// requireAccessible runs axe-core on the page, from its top: elsewhere, the header covers a part of what is below it.
func (p *tab) requireAccessible(axe, what string) {
	p.Helper()
	p.run(do(axe), do("scrollTo({top: 0, behavior: 'instant'})"))
	found := eval[[]string](p, `axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']}).then(({violations}) =>
		violations.flatMap(({id, help, nodes}) => nodes.map(({target, any, all}) => id + ': ' + help + ' ' + target + ' ' + [...any, ...all].map(({message}) => message).join())))`)
	require.Empty(p, found, what)
}

// withTokens runs the program with two tokens: one that allows everything, for sending reports, and one that may read
// some agents, which it returns.
func withTokens(t testing.TB, settings ...string) (s *server, token string) {
	t.Helper()
	everything, all := access.NewToken("all")
	all.Scopes = []string{"report", "read", "admin"}
	token, some := access.NewToken("team a")
	some.Scopes, some.Agents = []string{"read"}, []string{"team-a/*"}
	path := filepath.Join(t.TempDir(), "tokens")
	require.NoError(t, os.WriteFile(path, []byte(all.String()+"\n"+some.String()+"\n"), 0o600))
	s = serve(t, append(settings, "TOKENS_FILE="+path)...)
	s.token = everything
	return s, token
}

// TestSigningIn signs in and out, and checks that no token stays in the browser.
func TestSigningIn(t *testing.T) {

	in := openBrowser(t)
	s, token := withTokens(t)
	s.report(t, reportOf("team-a/anna", "mine", "pending", ""), reportOf("team-b/bert", "theirs", "pending", ""))
	p := openAt(in, t, s, "?view=sessions&status=pending", ".signin")
	require.Equal(t, "token", eval[string](p, "document.activeElement.id"))
	p.run(chromedp.KeyEvent("ka_wrong"), chromedp.KeyEvent(kb.Enter), shown(".fault"))
	require.Equal(t, []string{"Sign-in failed: unknown token."}, p.texts(".fault"))
	p.run(chromedp.KeyEvent(token), chromedp.KeyEvent(kb.Enter), shown("main#content h1"))
	p.live().await("document.querySelector('.row')?.innerText.includes('mine')")
	require.Equal(t, "?view=sessions&status=pending", eval[string](p, "'?' + [...new URLSearchParams(location.search)].sort().reverse().map((pair) => pair.join('=')).join('&')"), "the view that was requested")
	require.NotContains(t, eval[string](p, "document.body.innerText"), "theirs")
	kept := eval[string](p, "JSON.stringify([location.href, document.cookie, {...localStorage}, {...sessionStorage}, document.documentElement.outerHTML, performance.getEntries().map(({name}) => name)])")
	require.NotContains(t, kept, token)
	require.NotContains(t, kept, "kubeagents=")

	s.report(t, reportOf("team-b/bert", "theirs too", "pending", ""), reportOf("team-a/anna", "mine too", "pending", ""))
	p.await("document.querySelectorAll('.row').length == 2 && document.title.startsWith('(2)')")
	other := open(in, t, s, "").live() // another tab is signed in as well
	other.await("document.querySelectorAll('.row').length == 2")
	p.run(click("[aria-label='Sign out (team a)']"), shown(".signin"))
	other.run(shown(".signin")) // and out again, by itself
	p.run(chromedp.Navigate(s.url("?view=agents")), shown(".signin"))
}

func TestSignInFormIsAccessible(t *testing.T) {
	axe, err := os.ReadFile("testdata/axe.min.js")
	require.NoError(t, err)
	in := openBrowser(t)
	s, _ := withTokens(t)
	for scheme, width := range map[string]int64{"light": 1280, "dark": 390} {
		p := openAt(in, t, s, "", ".signin")
		p.run(resize(width), call(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}}))
		p.requireAccessible(string(axe), scheme)
		p.run(chromedp.KeyEvent("ka_wrong"), chromedp.KeyEvent(kb.Enter), shown(".fault"))
		p.requireAccessible(string(axe), scheme)
	}
}

// TestConnectPage goes from the empty dashboard to the lines to paste, and copies them. With tokens, it does so without
// signing in.
func TestConnectPage(t *testing.T) {
	in, s := openBrowser(t), serve(t)
	p := open(in, t, s, "").live()
	p.run(click(".first .go"), shown("#claude-code"))
	p.requireConnects("")
	p.run(click(".tabs a:nth-child(2)"), shown("main#content h1"))
	require.Equal(t, "?view=sessions", eval[string](p, "location.search"))

	guarded, _ := withTokens(t)
	stranger := openAt(in, t, guarded, "", ".signin")
	stranger.run(click(".also a"), shown("#claude-code"))
	stranger.requireConnects("KUBEAGENTS_TOKEN")
	stranger.run(click(".tabs a:nth-child(2)"), shown(".signin"))
}

// requireConnects uses the buttons of the connect page, whose lines contain the token's variable if it is not "".
func (p *tab) requireConnects(variable string) {
	p.Helper()
	p.await("document.querySelectorAll('.copy-button:not([hidden])').length == 8")
	p.run(do("navigator.clipboard.writeText = async (text) => { window.copied = text }"), click(".copy-button"))
	p.await("document.querySelector('.copy-button').innerText == 'Copied'")
	require.Equal(p, "kubeagents connect -server "+strings.TrimSuffix(p.server.url(""), "/"), eval[string](p, "window.copied"), "the command comes first")
	p.run(click("section .copy-button"))
	copied := eval[string](p, "window.copied")
	require.Contains(p, copied, p.server.url("webhook/claude-code"))
	require.True(p, json.Valid([]byte(copied)))
	require.Equal(p, variable != "", strings.Contains(p.texts("main")[0], "export KUBEAGENTS_TOKEN="))
	require.Equal(p, variable != "", strings.Contains(copied, "KUBEAGENTS_TOKEN"))

	const cut = "(({clientHeight, scrollHeight}) => scrollHeight > clientHeight)(document.querySelector('section .copy pre'))"
	require.True(p, eval[bool](p, cut))
	require.Regexp(p, `^Show all \d+ lines$`, p.texts("section .expand")[0])
	p.run(click("section .expand"))
	require.False(p, eval[bool](p, cut))
	p.run(click("section .expand"))
	require.True(p, eval[bool](p, cut))

	p.run(click(".theme"), click(".theme"))
	require.Equal(p, []string{"dark", "Theme: dark", "theme=dark"}, eval[[]string](p, "[document.documentElement.dataset.theme, document.querySelector('.theme').ariaLabel, document.cookie]"))
	p.run(click(".theme"))
	require.Empty(p, eval[string](p, "document.cookie"), "the system's theme")
}

// TestThemeIsRemembered chooses a theme, and checks that the server renders the page with it.
func TestThemeIsRemembered(t *testing.T) {

	in, s := openBrowser(t), serve(t)
	p := open(in, t, s, "").live()
	p.run(click("[aria-label^=Theme]"), click("[aria-label^=Theme]"))
	require.Equal(t, "dark", eval[string](p, "document.documentElement.dataset.theme"))
	resp, err := http.NewRequest(http.MethodGet, s.url(""), nil)
	require.NoError(t, err)
	resp.Header.Set("Cookie", eval[string](p, "document.cookie"))
	answer, err := http.DefaultClient.Do(resp)
	require.NoError(t, err)
	defer answer.Body.Close() //nolint:errcheck // it has been read completely
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.True(t, bytes.Contains(body, []byte(`<html lang="en" data-theme="dark"`)))
}
