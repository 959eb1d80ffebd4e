//go:build unix

// Package e2e tests the program from outside: it builds the binary, runs it on a real disk and a port of the loopback
// interface, and sends it requests as clients do.
package e2e

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/models"
)

// programVariable is the environment variable that names a binary to test. If it is not set, the tests build one.
const programVariable = "KUBEAGENTS_PROGRAM"

// root is the root directory of the module.
const root = "../.."

// buildDir returns the directory in which the binary is built. TestMain removes it.
var buildDir = sync.OnceValue(func() string { return must(os.MkdirTemp("", "kubeagents-e2e-")) })

// program builds the binary, once, and returns its path.
var program = sync.OnceValue(func() string {
	if path := os.Getenv(programVariable); path != "" {
		return path
	}
	path := filepath.Join(buildDir(), "kubeagents")
	args := []string{"build", "-o", path}
	if underRace {
		args = append(args, "-race")
	}
	out, err := exec.Command("go", append(args, root)...).CombinedOutput() //nolint:noctx // the build ends by itself
	if err != nil {
		panic(fmt.Sprintf("build the program: %v\n%s", err, out))
	}
	// go test caches the result until a file changes that the tests opened, so open every directory of the source.
	if err := filepath.WalkDir(root, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() && strings.HasPrefix(e.Name(), ".") && e.Name() != ".." {
			return fs.SkipDir
		}
		return err
	}); err != nil {
		panic(err)
	}
	return path
})

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func TestMain(m *testing.M) {
	status := m.Run()
	os.RemoveAll(buildDir()) //nolint:errcheck // it is a temporary directory
	os.Exit(status)
}

// process is a running instance of the program.
type process struct {
	cmd     *exec.Cmd
	address string
	stderr  *bytes.Buffer
	read    chan struct{} // closed when all of stderr has been read
}

// start starts the program on a free port of the loopback interface, and waits until it is ready.
func start(t testing.TB, environment ...string) *process {
	t.Helper()
	return startAs(t, program(), nil, environment...)
}

// startAs starts the binary at a path like start, as another user if user is not nil.
func startAs(t testing.TB, program string, user *syscall.Credential, environment ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(program), stderr: new(bytes.Buffer), read: make(chan struct{})}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: user}
	p.cmd.Env = append(os.Environ(), append([]string{"HOST=127.0.0.1", "PORT=0", "LOG_FORMAT=json",
		"RATE_LIMIT_REPORTS=0", "RATE_LIMIT_READS=0", "SHUTDOWN_TIMEOUT=2s"}, environment...)...)
	stderr, err := p.cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	t.Cleanup(func() { p.cmd.Process.Kill() }) //nolint:errcheck // it may have ended already
	lines := bufio.NewReader(stderr)
	for ready := false; !ready; {
		line, err := lines.ReadBytes('\n')
		p.stderr.Write(line)
		require.NoError(t, err, "%s", p.stderr)
		var entry struct{ Msg, Address string }
		require.NoError(t, json.Unmarshal(line, &entry), "%s", line)
		p.address, ready = cmp.Or(p.address, entry.Address), entry.Msg == "ready"
	}
	go func() {
		defer close(p.read)
		io.Copy(p.stderr, lines) //nolint:errcheck // it returns when the process ends
	}()
	return p
}

// stop sends SIGTERM and returns the exit status.
func (p *process) stop(t testing.TB) int {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	<-p.read
	p.cmd.Wait() //nolint:errcheck // the caller gets the exit status
	return p.cmd.ProcessState.ExitCode()
}

// client returns responses as they are: it does not follow redirects or decompress bodies.
var client = &http.Client{
	Transport:     &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 100},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// do sends a request and returns the response. Header lines have the form "Name: value". Without a response, the status
// is 0 and the body is the error.
func (p *process) do(method, target, body string, header ...string) *httptest.ResponseRecorder {
	r := must(http.NewRequest(method, "http://"+p.address+target, strings.NewReader(body)))
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		if r.Header.Set(name, value); name == "Host" {
			r.Host = value
		}
	}
	return responseTo(r)
}

// send sends a request to this server, no matter which URL it was created for, and returns the response.
func (p *process) send(r *http.Request) *httptest.ResponseRecorder {
	r.RequestURI, r.Host, r.URL.Scheme, r.URL.Host = "", p.address, "http", p.address
	return responseTo(r)
}

func responseTo(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	w.Code = 0
	resp, err := client.Do(r)
	if err != nil {
		w.Body.WriteString(err.Error())
		return w
	}
	defer resp.Body.Close() //nolint:errcheck // it is read to the end
	w.Code = resp.StatusCode
	maps.Copy(w.Header(), resp.Header)
	if _, err := io.Copy(w.Body, resp.Body); err != nil {
		w.Code = 0
		w.Body.WriteString(err.Error())
	}
	return w
}

// report sends reports, which must be accepted.
func (p *process) report(t testing.TB, body string) {
	t.Helper()
	w := p.do(http.MethodPost, "/webhook/status", body)
	require.Equal(t, http.StatusOK, w.Code, "%s: %s", body, w.Body)
}

// get decodes the response to a GET request into a value, and returns the target of the next page, "" if there is none.
func (p *process) get(t testing.TB, target string, into any) (next string) {
	t.Helper()
	resp, err := http.Get("http://" + p.address + target)
	require.NoError(t, err)
	defer resp.Body.Close() //nolint:errcheck // it is read to the end
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode, "%s: %s", target, body)
	require.NoError(t, json.Unmarshal(body, into))
	return nextOf(resp.Header)
}

// nextOf returns the target in the Link header, "" without one.
func nextOf(header http.Header) string {
	target, _, _ := strings.Cut(strings.TrimPrefix(header.Get("Link"), "<"), ">")
	return target
}

// statusesOf returns the first page of a session's history, newest first.
func (p *process) statusesOf(t testing.TB, agentID, topic string) []models.AgentStatus {
	t.Helper()
	var page struct {
		StatusHistory []models.AgentStatus `json:"status_history"`
	}
	p.get(t, "/api/agents/"+url.PathEscape(agentID)+"/sessions/"+url.PathEscape(topic)+"?limit=1000", &page)
	return page.StatusHistory
}

func reportOf(agent, topic, status string) string {
	b, _ := json.Marshal(map[string]string{"agent_id": agent, "session_topic": topic, "status": status})
	return string(b)
}

// kill kills the program with SIGKILL, which simulates a crash.
func (p *process) kill(t testing.TB) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Kill())
	<-p.read
	p.cmd.Wait() //nolint:errcheck // it was killed
}

// runProgram runs the program until it exits, and returns its exit status and its output.
func runProgram(t testing.TB, environment []string, args ...string) (int, string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program(), args...)
	cmd.Env = append(os.Environ(), environment...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}
