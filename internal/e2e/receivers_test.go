//go:build unix

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// receiversVariable is the environment variable without which the tests with real receivers of notifications are
// skipped; see make test-receivers.
const receiversVariable = "KUBEAGENTS_RECEIVERS"

// Debian's programs for these tests. Debian's Python is named by its path: only that one finds Debian's modules.
const (
	alertmanagerProgram = "prometheus-alertmanager"
	pythonProgram       = "/usr/bin/python3"
)

func needReceivers(t *testing.T) {
	t.Helper()
	if os.Getenv(receiversVariable) == "" {
		t.Skip("needs real receivers: run make test-receivers " +
			"(on Debian, apt-get install prometheus-alertmanager python3-aiosmtpd first)")
	}
}

// startReceiver starts a program that runs until the test ends, and returns what it prints.
func startReceiver(t *testing.T, name string, args ...string) (stdout, stderr *bufio.Reader) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	log, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		cmd.Process.Kill() //nolint:errcheck // it may have ended already
		cmd.Wait()         //nolint:errcheck // it was killed
	})
	return bufio.NewReader(out), bufio.NewReader(log)
}

// The title of a session that could do something where it is a template, markup, or a header.
const hostileTitle = `{{ template "slack.default.title" . }} <img src=x onerror=alert(1)> =?utf-8?q?=0D=0ABcc:?= ${HOOK} 山田`

// ask lets a session begin to wait, with hostileTitle, and returns what ends that.
func ask(t *testing.T, p *process) (answer func()) {
	t.Helper()
	post := func(event string, details map[string]any) {
		details["hook_event_name"], details["session_id"], details["cwd"] = event, "s", "/src/shop"
		body, err := json.Marshal(details)
		require.NoError(t, err)
		w := p.do("POST", "/webhook/claude-code?agent_id=mine", string(body))
		require.Equal(t, 200, w.Code, "%s", w.Body)
	}
	call := func() map[string]any {
		input := map[string]any{"command": "make '{{ .Labels }}' <b>"}
		return map[string]any{"tool_name": "Bash", "tool_use_id": "1", "tool_input": input}
	}
	post("UserPromptSubmit", map[string]any{"prompt": hostileTitle})
	post("PermissionRequest", call())
	return func() { post("PostToolUse", call()) }
}

// rulesFor returns a file with one rule, about sessions that wait, and one destination.
func rulesFor(destination string) []byte {
	const format = "destinations:\n  there: {%s}\nrules:\n  - {name: mine, on: [waits], after: 0s, follow_up: true, to: [there]}\n"
	return fmt.Appendf(nil, format, destination)
}

// notifying starts the program with one rule about sessions that wait, and returns it and the path of the rules.
func notifying(t *testing.T, destination string, environment ...string) (p *process, rules string) {
	t.Helper()
	rules = writeFile(t, filepath.Join(t.TempDir(), "rules.yaml"), rulesFor(destination))
	return start(t, append(environment, "NOTIFY_FILE="+rules, "PUBLIC_URL=https://hub.example.com")...), rules
}

// postedAlert is an alert as Alertmanager's API and its webhooks have it.
type postedAlert struct {
	Labels       map[string]string
	Annotations  map[string]string
	GeneratorURL string
	Status       json.RawMessage // {"state": "active"} in the API
}

// startAlertmanager starts an Alertmanager that notifies a webhook, and returns its address.
func startAlertmanager(t *testing.T, webhook string) (address string) {
	t.Helper()
	dir := t.TempDir()
	config := writeFile(t, filepath.Join(dir, "config.yml"), fmt.Appendf(nil, `
route: {receiver: hook, group_wait: 0s, group_interval: 1s, group_by: [alertname]}
receivers: [{name: hook, webhook_configs: [{url: %q}]}]
`, webhook))
	_, stderr := startReceiver(t, alertmanagerProgram, "--config.file="+config, "--storage.path="+dir,
		"--web.listen-address=127.0.0.1:0", "--cluster.listen-address=")
	return addressIn(t, stderr)
}

// addressIn returns the address at which a program of the Prometheus project listens, as it logs it.
func addressIn(t *testing.T, stderr *bufio.Reader) (address string) {
	t.Helper()
	for log := ""; ; {
		line, err := stderr.ReadString('\n')
		log += line
		require.NoError(t, err, log)
		if found := regexp.MustCompile(`"Listening on" address=(\S+)`).FindStringSubmatch(line); found != nil {
			go io.Copy(io.Discard, stderr) //nolint:errcheck // it returns when the program ends
			return found[1]
		}
	}
}

// TestReceiverAlertmanager lets a session wait until its question is answered, and checks what Alertmanager shows, and
// what it sends on.
func TestReceiverAlertmanager(t *testing.T) {
	needReceivers(t)
	var mu sync.Mutex
	var sent []string
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			Status            string
			CommonAnnotations map[string]string
		}
		if json.NewDecoder(r.Body).Decode(&body) != nil {
			w.WriteHeader(http.StatusBadRequest)
		}
		mu.Lock()
		defer mu.Unlock()
		sent = append(sent, body.Status+": "+body.CommonAnnotations["description"])
	}))
	defer hook.Close()
	address := startAlertmanager(t, hook.URL)
	alerts := func() (alerts []postedAlert) {
		w := responseTo(must(http.NewRequest("GET", "http://"+address+"/api/v2/alerts", nil)))
		require.Equal(t, 200, w.Code, "%s", w.Body)
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &alerts))
		return alerts
	}
	require.Eventually(t, func() bool {
		return responseTo(must(http.NewRequest("GET", "http://"+address+"/-/ready", nil))).Code == 200
	}, 30*time.Second, 10*time.Millisecond)

	p, rules := notifying(t, "alertmanager: {url: 'http://"+address+"'}")
	answer := ask(t, p)
	require.Eventually(t, func() bool { return len(alerts()) == 1 }, 30*time.Second, 10*time.Millisecond, "%s", p.stderr)
	alert := alerts()[0]
	require.Equal(t, "KubeAgentsWaits", alert.Labels["alertname"])
	require.Equal(t, "mine", alert.Labels["agent_id"])
	require.Equal(t, "s", alert.Labels["session"])
	require.Equal(t, "mine", alert.Labels["rule"])
	require.Contains(t, alert.Annotations["summary"], "asks for permission")
	require.Equal(t, "Bash: make '{{ .Labels }}' <b>\n"+hostileTitle, alert.Annotations["description"])
	require.Equal(t, "https://hub.example.com/?agent=mine&session=s", alert.GeneratorURL)
	require.Contains(t, string(alert.Status), `"active"`)

	awaitSent := func(count int) (last string) {
		require.Eventually(t, func() bool {
			mu.Lock()
			defer mu.Unlock()
			last = strings.Join(sent[len(sent)-min(1, len(sent)):], "")
			return len(sent) == count
		}, 30*time.Second, 10*time.Millisecond)
		return last
	}
	require.Equal(t, "firing: "+alert.Annotations["description"], awaitSent(1))
	answer()
	require.Eventually(t, func() bool { return len(alerts()) == 0 }, 30*time.Second, 10*time.Millisecond, "%s", p.stderr)
	require.Regexp(t, "^resolved: ", awaitSent(2))

	status, output := runProgram(t, nil, "notify", "-test", "there", rules)
	require.Zero(t, status, output)
	require.Len(t, alerts(), 1)
}

// arrivedMail is a mail as testdata/mailserver.py prints it.
type arrivedMail struct {
	Hello                    string
	Encrypted, Authenticated bool
	From                     string
	To, Defects              []string
	Header                   map[string]string
	Text                     string
}

// mailbox is a mail server that requires STARTTLS and a password.
type mailbox struct {
	mails     chan []byte // as JSON
	port      string
	authority string // path of the certificate of its certificate's authority
}

func startMailbox(t *testing.T) *mailbox {
	t.Helper()
	ca, dir := newAuthority(t), t.TempDir()
	cert, key := ca.sign(t, 1)
	m := &mailbox{mails: make(chan []byte, 10), authority: writeFile(t, filepath.Join(dir, "authority"), ca.pem)}
	stdout, stderr := startReceiver(t, pythonProgram, "testdata/mailserver.py",
		writeFile(t, filepath.Join(dir, "cert"), cert), writeFile(t, filepath.Join(dir, "key"), key))
	port, err := stdout.ReadString('\n')
	if err != nil {
		text, _ := io.ReadAll(stderr)
		require.NoError(t, err, "%s", text)
	}
	m.port = strings.TrimSpace(port)
	go io.Copy(io.Discard, stderr) //nolint:errcheck // it returns when the program ends
	go func() {
		for {
			line, err := stdout.ReadBytes('\n')
			if err != nil {
				return
			}
			m.mails <- line
		}
	}()
	return m
}

// next waits for the next mail.
func (m *mailbox) next(t *testing.T) (mail arrivedMail) {
	t.Helper()
	select {
	case line := <-m.mails:
		require.NoError(t, json.Unmarshal(line, &mail))
	case <-time.After(30 * time.Second):
		require.Fail(t, "no mail arrived")
	}
	require.Empty(t, mail.Defects)
	return mail
}

// destination returns a destination whose mails go to the mailbox, if the password is "right".
func (m *mailbox) destination(password, to string) string {
	const format = "email: {host: 127.0.0.1, port: %s, user: robot, password: %s, from: KubeAgents <agents@example.com>, to: [%s]}"
	return fmt.Sprintf(format, m.port, password, to)
}

// TestReceiverMailServer lets a session wait until its question is answered, and checks the mails.
func TestReceiverMailServer(t *testing.T) {
	needReceivers(t)
	m := startMailbox(t)
	trust := "SSL_CERT_FILE=" + m.authority
	p, rules := notifying(t, m.destination("right", "Ann <ann@example.com>, gone@example.com"), trust)
	answer := ask(t, p)
	asked := m.next(t)
	require.Equal(t, "[127.0.0.1]", asked.Hello)
	require.True(t, asked.Encrypted)
	require.True(t, asked.Authenticated)
	require.Equal(t, "agents@example.com", asked.From)
	require.Equal(t, []string{"ann@example.com"}, asked.To)
	require.Contains(t, asked.Header["Subject"], "asks for permission")
	require.Equal(t, asked.Header["Subject"]+"\n\nBash: make '{{ .Labels }}' <b>\n"+hostileTitle+
		"\n\nOpen session: https://hub.example.com/?agent=mine&session=s\n", strings.ReplaceAll(asked.Text, "\r\n", "\n"))
	require.NotContains(t, asked.Header, "Bcc")
	require.Contains(t, asked.Header["Content-Type"], "text/plain")

	answer()
	resolved := m.next(t)
	require.Equal(t, "Re: "+asked.Header["Subject"], resolved.Header["Subject"])
	require.Equal(t, asked.Header["Message-ID"], resolved.Header["In-Reply-To"])
	require.Equal(t, asked.Header["Message-ID"], resolved.Header["References"])
	require.NotEqual(t, asked.Header["Message-ID"], resolved.Header["Message-ID"])
	require.True(t, strings.HasPrefix(resolved.Text, "Answered: "), resolved.Text)
	require.Zero(t, p.stop(t), "%s", p.stderr)
	require.Contains(t, p.stderr.String(), "a notification did not reach everybody")
	require.Contains(t, p.stderr.String(), "127.0.0.1:"+m.port+" answers 550 to recipient 2 of 2")
	require.NotContains(t, p.stderr.String(), "@example.com")

	test := func(destination string, environment ...string) (int, string) {
		writeFile(t, rules, rulesFor(destination))
		return runProgram(t, environment, "notify", "-test", "there", rules)
	}
	status, output := test(m.destination("right", "ann@example.com"), trust)
	require.Zero(t, status, output)
	require.Contains(t, m.next(t).Text, "Did this notification arrive?")
	status, output = test(m.destination("wr0ng", "ann@example.com"), trust)
	require.Equal(t, 1, status)
	require.Contains(t, output, "could not be sent to there: 127.0.0.1:"+m.port+" answers 535 to the user and password")
	require.NotContains(t, output, "wr0ng")
	status, output = test(m.destination("right", "ann@example.com"))
	require.Equal(t, 1, status)
	require.Contains(t, output, "127.0.0.1:"+m.port+": its certificate is signed by an unknown authority")
}
