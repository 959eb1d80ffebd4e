package dashboard_test

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/adapters"
	"github.com/kubeagents/kubeagents/internal/connect"
	"github.com/kubeagents/kubeagents/internal/dashboard"
	"github.com/kubeagents/kubeagents/models"
	"github.com/kubeagents/kubeagents/store"
)

func newDashboard(t *testing.T, reports ...models.StatusReport) *dashboard.Dashboard {
	st := store.New(store.Options{DefaultTTL: time.Hour, SessionRetention: time.Hour, HistoryLimit: 10, HistoryMaxBytes: 1 << 30, MaxSessions: 1000, EventWindow: 100})
	st.Accept(nil, reports, time.Now(), nil)
	d, err := dashboard.New(st)
	require.NoError(t, err)
	return d
}

// pageOf returns the endpoint of the page, without access control.
func pageOf(d *dashboard.Dashboard) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		return d.Page(w, r, nil, connect.Server{}, dashboard.Push{}, "", time.Now())
	}
}

// get sends a GET request to an endpoint. Header lines are "Name: value".
func get(answer func(http.ResponseWriter, *http.Request) error, target string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, target, nil)
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	if err := answer(w, r); err != nil {
		w.WriteHeader(http.StatusNotFound) // what the handlers respond with is tested there
	}
	return w
}

// TestPageShowsWaitingSessionsWithoutScripts checks the page as a browser without scripts shows it.
func TestPageShowsWaitingSessionsWithoutScripts(t *testing.T) {
	earlier := time.Now().Add(-90 * time.Minute)
	d := newDashboard(t,
		models.StatusReport{AgentID: "b", SessionTopic: "second", Status: models.Pending, Message: "<img src=x onerror=alert(1)>"},
		models.StatusReport{AgentID: "a", AgentName: "Anna", SessionTopic: "t/1", SessionTitle: "first", Status: models.Pending, Timestamp: earlier},
		models.StatusReport{AgentID: "c", SessionTopic: "broken", Status: models.Failed},
		models.StatusReport{AgentID: "c", SessionTopic: "fine", Status: models.Success})
	w := get(pageOf(d), "/")
	require.Equal(t, http.StatusOK, w.Code)
	page := w.Body.String()
	require.Regexp(t, `(?s)<title>\(2\) KubeAgents</title>.*>first<.*>for 1h 30m<.*>second<.*>broken<`, page)
	require.Contains(t, page, `href="?agent=a&amp;session=t%2F1"`)
	require.Contains(t, page, "&lt;img src=x onerror=alert(1)&gt;")
	require.NotContains(t, page, "<img src=x")
	require.NotContains(t, page, ">fine<")

	require.NotContains(t, page, " idle, ", "no session is idle")

	other := get(pageOf(d), "/?view=agents").Body.String()
	require.NotContains(t, other, ">first<")
	require.Contains(t, other, "<title>KubeAgents</title>")
}

// eventsOf returns the reports for events of a Claude Code session. Each event is a JSON object without the members
// common to all of them.
func eventsOf(t testing.TB, session, folder, host string, events ...string) (reports []models.StatusReport) {
	for _, event := range events {
		body := fmt.Sprintf(`{"session_id":%q,"cwd":%q,%s`, session, "/home/dev/"+folder, strings.TrimPrefix(event, "{"))
		report, _, err := adapters.Named("claude-code").Report(strings.NewReader(body), adapters.Options{AgentHost: host, Capture: adapters.CaptureFull, Now: time.Now()})
		require.NoError(t, err)
		reports = append(reports, report)
	}
	return reports
}

// TestPageShowsQuestionsWithoutScripts checks the page with questions of two agents with the same name on two hosts,
// and an idle session.
func TestPageShowsQuestionsWithoutScripts(t *testing.T) {
	asks := `{"hook_event_name":"PermissionRequest","agent_id":"sub-1","tool_name":"Bash","tool_input":{"command":"rm -rf <b>"}}`
	also := `{"hook_event_name":"PermissionRequest","tool_name":"Bash","tool_input":{"command":"make"}}`
	d := newDashboard(t, slices.Concat(
		eventsOf(t, "1", "payments", "laptop-a", asks, also, also[:len(also)-3]+`2"}}`),
		eventsOf(t, "2", "payments", "laptop-b", also),
		eventsOf(t, "3", "payments", "laptop-b", `{"hook_event_name":"SessionStart","source":"startup"}`))...)
	page := get(pageOf(d), "/").Body.String()
	require.Contains(t, page, `<span class="message"><span class="kind">Asks for permission</span> <bdi>Bash: rm -rf &lt;b&gt;</bdi></span>`+
		`<span class="asides"><span>by subagent <bdi>sub-1</bdi></span><span>+2 more</span></span>`)
	require.Contains(t, page, `<span class="kind">Asks for permission</span> <bdi>Bash: make</bdi></span><span class="name"`, "no subagent and no further questions")
	for _, host := range []string{"laptop-a", "laptop-b"} {
		require.Contains(t, page, `<bdi>payments</bdi><span class="host">@<bdi>`+host+`</bdi></span>`)
	}
	require.Contains(t, page, `<strong>0</strong> running, <strong>1</strong> idle, <strong>3</strong> active sessions of <strong>2</strong> agents`)
	require.NotContains(t, page, "session=3", "an idle session needs no attention")
}

// TestContentSecurityPolicy checks that the policy allows what the page contains, and nothing else.
func TestContentSecurityPolicy(t *testing.T) {
	w := get(pageOf(newDashboard(t)), "/")
	policy, page := w.Header().Get("Content-Security-Policy"), w.Body.String()
	style := regexp.MustCompile(`(?s)<style>(.*?)</style>`).FindStringSubmatch(page)
	require.Len(t, style, 2)
	sum := sha256.Sum256([]byte(style[1]))
	require.Equal(t, "default-src 'self'; style-src 'self' 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+
		"'; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'", policy)
	require.NotRegexp(t, `(?s)<script(?: [^>]*)?>[^<]`, page, "no script in the page itself")
	require.NotRegexp(t, ` (style|on\w+)=`, page)
	require.NotRegexp(t, `(href|src)="(https?:)?//`, page, "nothing from other hosts")
}

func TestAssetsAreImmutable(t *testing.T) {
	d := newDashboard(t)
	page := get(pageOf(d), "/").Body.String()
	addresses := regexp.MustCompile(`href="(assets/[^"]+)"`).FindAllStringSubmatch(page, -1)
	preloaded := map[string]bool{}
	for _, address := range addresses {
		preloaded[strings.SplitN(address[1], "/", 3)[2]] = true
		w := get(d.Asset, "/"+address[1])
		require.Equal(t, http.StatusOK, w.Code, address[1])
		require.Equal(t, "text/javascript; charset=utf-8", w.Header().Get("Content-Type"))
		require.Contains(t, w.Header().Get("Cache-Control"), "immutable")
	}
	for _, unknown := range []string{"/assets/000000000000/main.js", "/" + strings.Replace(addresses[0][1], "main.js", "../main.go", 1), "/assets/",
		"/" + strings.Replace(addresses[0][1], "main.js", "page.html", 1)} {
		w := get(d.Asset, unknown)
		require.Equal(t, http.StatusNotFound, w.Code, unknown)
		require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	}

	// All modules that the page imports are preloaded. The others belong to workers and to another page.
	require.NoError(t, fs.WalkDir(os.DirFS("web"), ".", func(name string, _ fs.DirEntry, err error) error {
		if filepath.Ext(name) == ".js" && name != "worker.js" && name != "sw.js" && name != "connect.js" {
			assert.True(t, preloaded[name], "the page does not preload %s", name)
		}
		return err
	}))
}

// TestPublicFiles checks which files need no token: the connect page's script and what it imports.
func TestPublicFiles(t *testing.T) {
	d := newDashboard(t)
	connectPage := func(w http.ResponseWriter, r *http.Request) error {
		return d.Connect(w, r, connect.Server{Address: "http://hub"}, nil)
	}
	script := regexp.MustCompile(`connect/assets/\w+/connect\.js`).FindString(get(connectPage, "/connect").Body.String())
	served := get(d.PublicAsset, "/"+script)
	require.Equal(t, http.StatusOK, served.Code)
	imports := regexp.MustCompile(`from '\./(.*)'`).FindAllStringSubmatch(served.Body.String(), -1)
	require.Len(t, imports, 2)
	for _, name := range imports {
		w := get(d.PublicAsset, "/"+strings.Replace(script, "connect.js", name[1], 1))
		require.Equal(t, http.StatusOK, w.Code, name[1])
		require.NotContains(t, w.Body.String(), "import ", name[1])
		require.Equal(t, "public, max-age=31536000, immutable", w.Header().Get("Cache-Control"))
	}
	for _, other := range []string{"main.js", "page.html", "vendor/icons.svg", "", "../connect.js", "../main.js"} {
		w := get(d.PublicAsset, "/"+strings.Replace(script, "connect.js", other, 1))
		require.Equal(t, http.StatusNotFound, w.Code, other)
		require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	}
}

// TestEveryIconExists checks that every icon that the page uses is in icons.svg.
func TestEveryIconExists(t *testing.T) {
	icons, err := os.ReadFile("web/vendor/icons.svg")
	require.NoError(t, err)
	for _, file := range []string{"parts.js", "main.js", "notify.js", "needs.js", "sessions.js", "agents.js", "session.js", "acknowledge.js", "choice.js", "devices.js", "mute.js", "notifications.js"} {
		source, err := os.ReadFile(filepath.Join("web", file))
		require.NoError(t, err)
		for _, use := range regexp.MustCompile(`\$\{Icon\} name="([^"]+)"`).FindAllSubmatch(source, -1) {
			require.Contains(t, string(icons), `id="i-`+string(use[1])+`"`, file)
		}
	}
}

func TestFaviconShowsANumber(t *testing.T) {
	d := newDashboard(t)
	require.Contains(t, get(d.Icon, "/favicon.svg?waiting=3").Body.String(), ">3</text>")
	require.Contains(t, get(d.Icon, "/favicon.svg?waiting=12345").Body.String(), ">99</text>")
	for _, query := range []string{"", "?waiting=0", "?waiting=-1", "?waiting=<x>"} {
		w := get(d.Icon, "/favicon.svg"+query)
		require.NotContains(t, w.Body.String(), "text", query)
		require.Equal(t, "image/svg+xml", w.Header().Get("Content-Type"))
	}
	require.NotEqual(t, get(d.Icon, "/favicon.svg").Body.String(), get(d.Icon, "/favicon.svg?trouble=true").Body.String())
}

func TestUnknownThemesAreIgnored(t *testing.T) {
	d := newDashboard(t)
	require.Contains(t, get(pageOf(d), "/", "Cookie: theme=dark").Body.String(), `<html lang="en" data-theme="dark"`)
	require.NotContains(t, get(pageOf(d), "/", `Cookie: theme=x`).Body.String(), `<html lang="en" data-theme`)
}
