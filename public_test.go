package main

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/config"
	"github.com/kubeagents/kubeagents/handlers"
	"github.com/kubeagents/kubeagents/internal/access/accesstest"
	"github.com/kubeagents/kubeagents/models"
)

// TestEveryRouteHasAPath holds that a path of PUBLIC_URL that could be one of the server's own is refused.
func TestEveryRouteHasAPath(t *testing.T) {
	s := newTestServer(t, nil)
	require.NoError(t, chi.Walk(s.Handler.(chi.Routes), func(_, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		first, _, _ := strings.Cut(strings.TrimPrefix(route, "/"), "/")
		if first != "" {
			_, err := config.Load(map[string]string{"PUBLIC_URL": "https://example.com/" + first})
			require.ErrorContains(t, err, "PUBLIC_URL", route)
		}
		return nil
	}))
}

// TestUnderAPathOfItsOwn asks for everything under the path of PUBLIC_URL and without it, and holds both answers to be the same.
func TestUnderAPathOfItsOwn(t *testing.T) {
	path, holders := accesstest.TokensFile(t, accesstest.EveryKind())
	s := newGuardedServer(t, nil, config.Config{TokensFile: path, PublicURL: publicURL(t, "https://hub.example.com/team/hub")}, nil)
	reads := holders["reads"].Header()
	for _, prefix := range []string{"", "/team/hub"} {
		require.Equal(t, 200, s.ask("POST", prefix+"/webhook/status", reportOf("a/b", "t", "running")+reportOf("c", "t", "running"), holders["reports"].Header()...).Code)
	}
	for _, target := range []string{"/", "/health", "/api/agents?limit=1", "/api/agents/a%2Fb", "/api/sessions/", "/openapi.yaml", "/favicon.svg", "/connect", "/connect/codex", "/nowhere", "/team/hubs/api/agents"} {
		bare, within := s.ask("GET", target, "", reads...), s.ask("GET", "/team/hub"+target, "", reads...)
		require.Equal(t, bare.Code, within.Code, target)
		if target != "/health" && target != "/" { // which tell the time
			require.Equal(t, bare.Body.String(), within.Body.String(), target)
		}
		require.Equal(t, bare.Header().Get("Link"), within.Header().Get("Link"))
	}
	link := s.ask("GET", "/api/agents?limit=1", "", reads...).Header().Get("Link")
	require.Regexp(t, `^</team/hub/api/agents\?cursor=[^>]+&limit=1>; rel="next"$`, link)
	next, _, _ := strings.Cut(strings.TrimPrefix(link, "<"), ">")
	require.Contains(t, s.ask("GET", next, "", reads...).Body.String(), `"agent_id":"c"`)
	require.Equal(t, 401, s.ask("GET", "/team/hub/api/agents", "").Code)

	w := s.ask("GET", "/team/hub?view=agents&access_token=x", "")
	require.Equal(t, 308, w.Code)
	require.Equal(t, "hub/?view=agents", w.Header().Get("Location"))
	require.Equal(t, "../connect", s.ask("GET", "/team/hub/connect/", "").Header().Get("Location"))
}

// TestCookiesOfSignIns holds the name and the path of the cookie, and which ones count.
func TestCookiesOfSignIns(t *testing.T) {
	path, holders := accesstest.TokensFile(t, accesstest.EveryKind())
	serverAt := func(public string) *server {
		cfg := config.Config{TokensFile: path, TrustedProxies: config.Prefixes{netip.MustParsePrefix("192.0.2.0/24")}} // where httptest's requests come from
		if public != "" {
			cfg.PublicURL = publicURL(t, public)
		}
		return newGuardedServer(t, nil, cfg, nil)
	}
	form := url.Values{"token": {holders["reads"].Token}}.Encode()
	none, whole, shared, plain := serverAt(""), serverAt("https://hub.example.com"), serverAt("https://example.org/team"), serverAt("http://hub:8080/team")
	for _, test := range []struct {
		server *server
		target string
		header []string
		want   string
	}{
		{none, "/sign-in", nil, "kubeagents /"},
		{none, "/sign-in", []string{"X-Forwarded-Proto: https"}, "__Host-kubeagents /"},
		{whole, "/sign-in", []string{"Host: hub.example.com"}, "__Host-kubeagents /"},
		{whole, "/sign-in", []string{"Host: 127.0.0.1:8080"}, "kubeagents /"},
		{shared, "/sign-in", []string{"Host: example.org"}, "__Secure-kubeagents /team/"},
		{shared, "/team/sign-in", []string{"Host: example.org"}, "__Secure-kubeagents /team/"},
		{shared, "/sign-in", []string{"Host: 127.0.0.1:8080", "X-Forwarded-Host: example.org"}, "__Secure-kubeagents /team/"},
		{shared, "/team/sign-in", []string{"X-Forwarded-Proto: https"}, "__Secure-kubeagents /team/"},
		{shared, "/sign-in", []string{"Host: 127.0.0.1:8080"}, "kubeagents /"},
		{shared, "/team/sign-in", []string{"Host: 127.0.0.1:8080"}, "kubeagents /team/"},
		{plain, "/team/sign-in", []string{"Host: hub:8080"}, "kubeagents /team/"},
	} {
		w := test.server.ask("POST", test.target, form, append(test.header, "Content-Type: application/x-www-form-urlencoded")...)
		require.Equal(t, 303, w.Code, "%+v", test)
		cookie := w.Result().Cookies()[0] //nolint:bodyclose // it is in memory
		require.Equal(t, test.want, cookie.Name+" "+cookie.Path, "%+v", test)
		require.Equal(t, strings.HasPrefix(cookie.Name, "__"), cookie.Secure)
		ask := func(cookies string, header ...string) int {
			return test.server.ask("GET", strings.TrimSuffix(test.target, "sign-in"), "", append(header, "Cookie: "+cookies)...).Code
		}
		require.Equal(t, 200, ask(cookie.Name+"="+cookie.Value, test.header...))
		require.Equal(t, 200, ask(cookie.Name+"=x; "+cookie.Name+"="+cookie.Value, test.header...), "whatever else was set")
		if cookie.Secure {
			require.Equal(t, 401, ask("kubeagents="+cookie.Value, test.header...), "anybody on the network could have set it")
		} else {
			require.Equal(t, 401, ask("__Host-kubeagents="+cookie.Value, test.header...))
		}
		out := test.server.ask("POST", strings.Replace(test.target, "sign-in", "sign-out", 1), "", append(test.header, "Cookie: "+cookie.Name+"="+cookie.Value)...)
		require.Equal(t, 303, out.Code)
		require.Equal(t, 401, ask(cookie.Name+"="+cookie.Value, test.header...))
	}
	crossSite := []string{"Host: 127.0.0.1:8080", "Content-Type: application/x-www-form-urlencoded"}
	require.Equal(t, 303, shared.ask("POST", "/sign-in", form, append(crossSite, "Origin: https://example.org")...).Code, "the proxy does not keep the host")
	require.Equal(t, 403, shared.ask("POST", "/sign-in", form, append(crossSite, "Origin: https://evil.example")...).Code)
}

// TestInvisibleCharactersAreNamed reports under IDs that hold them, and finds them in no answer and no line of the log.
func TestInvisibleCharactersAreNamed(t *testing.T) {
	var log logged
	logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s := newGuardedServer(t, nil, config.Config{}, func(p *handlers.Parts) { p.Logger, p.Access.Audit = logger, logger })
	const bad = "a\u202eb\u200b"
	refused := func(w *httptest.ResponseRecorder, field string) {
		t.Helper()
		require.Equal(t, 400, w.Code)
		require.Contains(t, w.Body.String(), field+" must not contain U+202E")
		require.NotContains(t, w.Body.String(), "\u202e")
	}
	refused(s.ask("POST", "/webhook/status", reportOf(bad, "t", "running")), "agent_id")
	refused(s.ask("POST", "/webhook/status", reportOf("a", bad, "running")), "session_topic")
	refused(s.ask("POST", "/webhook/status", `[{"agent_id":"a","session_topic":"t","status":"running","agent_name":"`+bad+`"}]`), "agent_name")
	require.Equal(t, 404, s.ask("GET", "/api/agents/"+url.PathEscape(bad), "").Code)
	require.Equal(t, 400, s.ask("GET", "/api/sessions?limit="+url.QueryEscape(bad), "").Code)
	require.Equal(t, 404, s.ask("GET", "/"+bad, "").Code)
	w := s.ask("POST", "/webhook/status", `{"specversion":"`+bad+`","id":"1","source":"s","type":"t","data":{}}`, "Content-Type: application/cloudevents+json")
	require.Equal(t, 400, w.Code)
	require.NotContains(t, w.Body.String(), "\u202e")
	w = s.ask("POST", "/webhook/codex", `{"hook_event_name":"UserPromptSubmit","session_id":"`+bad+`","cwd":"/home/`+bad+`","prompt":"`+bad+`"}`, "X-Agent-Host: "+bad)
	require.Equal(t, 200, w.Code, "a tool can't help its folder's name")
	se := s.sessions(t, "")[0]
	require.Equal(t, []string{"codex:a\ufffdb\ufffd@a\ufffdb\ufffd", "a\ufffdb\ufffd", "a\ufffdb\ufffd"}, []string{se.AgentID, se.AgentName, se.Topic})
	require.Equal(t, []string{bad, bad}, []string{se.Title, se.CurrentMessage}, "texts are as they were")
	require.NotContains(t, log.String(), "\u202e")
	require.NotContains(t, log.String(), "\u200b")
}

// TestOldIDsAreStillRead holds that what a journal has of IDs that are refused by now is read, listed and removed.
func TestOldIDsAreStillRead(t *testing.T) {
	fs, bad := vfs.NewMem(), "a\u202eb"
	s, stop := newDurableServer(t, fs, true)
	_, err := s.handlers.Recorder.Accept(nil, []models.StatusReport{{AgentID: bad, SessionTopic: bad, AgentName: bad, Status: models.Running}}, time.Now(), nil)
	require.NoError(t, err)
	stop()
	s, _ = newDurableServer(t, fs, true)
	require.Equal(t, bad, s.sessions(t, "")[0].AgentID)
	agent := "/api/agents/" + url.PathEscape(bad)
	require.Equal(t, 200, s.ask("GET", agent+"/sessions/"+url.PathEscape(bad), "").Code)
	require.Equal(t, 204, s.ask("DELETE", agent, "").Code)
	require.Empty(t, s.sessions(t, ""))
}

func publicURL(t testing.TB, text string) (u config.PublicURL) {
	t.Helper()
	require.NoError(t, u.UnmarshalText([]byte(text)))
	return u
}

// TestConnect holds that what is to be pasted names the server as whoever asks reached it, and that nothing else gets into it.
func TestConnect(t *testing.T) {
	path, _ := accesstest.TokensFile(t, accesstest.EveryKind())
	open := newTestServer(t, nil)
	guarded := newGuardedServer(t, nil, config.Config{TokensFile: path, TrustedProxies: config.Prefixes{netip.MustParsePrefix("192.0.2.1/32")}}, nil)
	for _, test := range []struct {
		server *server
		header []string
		want   string
	}{
		{open, nil, "http://example.com/webhook/codex"}, // httptest's
		{open, []string{"Host: hub:8080"}, "http://hub:8080/webhook/codex"},
		{open, []string{"Host: [::1]:8080"}, "http://[::1]:8080/webhook/codex"},
		{open, []string{"Host: hub", "X-Forwarded-Host: evil", "X-Forwarded-Proto: https"}, "http://hub/webhook/codex"},
		{guarded, []string{"Host: hub", "X-Forwarded-Host: hub.example.com", "X-Forwarded-Proto: https"}, "https://hub.example.com/webhook/codex"},
	} {
		w := test.server.ask("GET", "/connect/codex", "", test.header...)
		require.Equal(t, 200, w.Code)
		require.Equal(t, "text/plain; charset=utf-8", w.Header().Get("Content-Type"))
		require.True(t, json.Valid(w.Body.Bytes()))
		require.Contains(t, w.Body.String(), `\"`+test.want+`\"`)
		require.Equal(t, test.server == guarded, strings.Contains(w.Body.String(), "$KUBEAGENTS_TOKEN"))
		w = test.server.ask("GET", "/connect", "", test.header...)
		require.Equal(t, 200, w.Code)
		require.Contains(t, w.Body.String(), strings.TrimSuffix(test.want, "/webhook/codex")+"/connect/")
		require.Contains(t, w.Header().Get("Content-Security-Policy"), "default-src 'self'")
	}
	w := guarded.ask("GET", "/connect", "", "Host: hub", "Accept: */*")
	require.Equal(t, "text/plain; charset=utf-8", w.Header().Get("Content-Type"))
	require.Contains(t, w.Body.String(), "\nClaude Code 2.1.101 or later\n  curl -fsS http://hub/connect/claude-code\n  for you: ~/.claude/settings.json\n")
	require.Contains(t, w.Body.String(), "KUBEAGENTS_TOKEN")
	for _, host := range []string{"hub;rm", "hub'", `hub"`, "$(x)", "a b", "hub/x", "<script>", "hub:", "hub:x", "ü"} {
		for _, target := range []string{"/connect", "/connect/codex"} {
			r := httptest.NewRequest("GET", target, nil)
			r.Host = host
			w := httptest.NewRecorder()
			open.ServeHTTP(w, r)
			require.Equal(t, 400, w.Code, "%q", host)
		}
	}
	named := newGuardedServer(t, nil, config.Config{PublicURL: publicURL(t, "https://hub.example.com/team")}, nil)
	for _, host := range []string{"hub.example.com", "127.0.0.1:8080", "hub;rm"} { // whoever asks, however
		require.Contains(t, named.ask("GET", "/connect/codex", "", "Host: "+host).Body.String(), `\"https://hub.example.com/team/webhook/codex\"`)
		require.Contains(t, named.ask("GET", "/team/connect", "", "Host: "+host, "Accept: */*").Body.String(), "\n  curl -fsS https://hub.example.com/team/connect/codex\n")
	}
	w = open.ask("GET", "/connect/status", "")
	require.Equal(t, 404, w.Code)
	require.Contains(t, w.Body.String(), "/connect/ goes on with claude-code, codex, gemini-cli, cursor, copilot, opencode, mcp")
}

// TestForwardedPrefix has a trusted proxy say which prefix it stripped, or leave it on.
func TestForwardedPrefix(t *testing.T) {
	path, holders := accesstest.TokensFile(t, accesstest.EveryKind())
	proxies := config.Prefixes{netip.MustParsePrefix("192.0.2.0/24")} // where httptest's requests come from
	plain := newGuardedServer(t, nil, config.Config{TokensFile: path, TrustedProxies: proxies}, nil)
	named := newGuardedServer(t, nil, config.Config{TokensFile: path, TrustedProxies: proxies, PublicURL: publicURL(t, "https://hub.example.com/team")}, nil)
	untrusting := newGuardedServer(t, nil, config.Config{TokensFile: path}, nil)
	reads := holders["reads"].Header()
	for _, s := range []*server{plain, named, untrusting} {
		require.Equal(t, 200, s.ask("POST", "/webhook/status", reportOf("a", "t", "running")+reportOf("b", "t", "running"), holders["reports"].Header()...).Code)
	}
	for name, test := range map[string]struct {
		server    *server
		forwarded string
		target    string // of the list of agents
		link      string // the path of the next page
	}{
		"stripped":                             {plain, "/hub", "/api/agents", "/hub/api/agents"},
		"left on":                              {plain, "/hub", "/hub/api/agents", "/hub/api/agents"},
		"with a trailing slash":                {plain, "/hub/", "/api/agents", "/hub/api/agents"},
		"by two proxies":                       {plain, "/tools, /hub", "/api/agents", "/tools/hub/api/agents"},
		"the root":                             {plain, "/", "/api/agents", "/api/agents"},
		"no path":                              {plain, "hub", "/api/agents", "/api/agents"},
		"another host":                         {plain, "//evil.example", "/api/agents", "/api/agents"},
		"a path of the server's own":           {plain, "/api", "/api/agents", "/api/agents"},
		"markup":                               {plain, "/<script>", "/api/agents", "/api/agents"},
		"a proxy that is not trusted":          {untrusting, "/hub", "/api/agents", "/api/agents"},
		"another prefix than PUBLIC_URL has":   {named, "/hub", "/api/agents", "/hub/api/agents"},
		"the prefix of PUBLIC_URL, left on":    {named, "/hub", "/team/api/agents", "/team/api/agents"},
		"none, and a PUBLIC_URL with a prefix": {named, "", "/api/agents", "/team/api/agents"},
	} {
		header := reads
		if test.forwarded != "" {
			header = append(header[:1:1], "X-Forwarded-Prefix: "+test.forwarded)
		}
		w := test.server.ask("GET", test.target+"?limit=1", "", header...)
		require.Equal(t, 200, w.Code, name)
		require.Regexp(t, "^<"+test.link+`\?cursor=[^>]+>; rel="next"$`, w.Header().Get("Link"), name)
	}

	via := []string{"X-Forwarded-Prefix: /hub", "X-Forwarded-Host: example.org", "X-Forwarded-Proto: https"}
	require.Contains(t, plain.ask("GET", "/connect/codex", "", via...).Body.String(), `\"https://example.org/hub/webhook/codex\"`)
	require.Contains(t, named.ask("GET", "/connect/codex", "", via...).Body.String(), `\"https://hub.example.com/team/webhook/codex\"`)
	w := plain.ask("GET", "/connect/codex", "", "X-Forwarded-Prefix: /$(x)")
	require.Equal(t, 400, w.Code)
	require.Contains(t, w.Body.String(), "X-Forwarded-Prefix must be a path such as /kubeagents")

	w = plain.ask("GET", "/hub?view=agents", "", via...)
	require.Equal(t, 308, w.Code)
	require.Equal(t, "hub/?view=agents", w.Header().Get("Location"))
	form := url.Values{"token": {holders["reads"].Token}}.Encode()
	for _, target := range []string{"/sign-in", "/hub/sign-in"} {
		w = plain.ask("POST", target, form, append(via, "Content-Type: application/x-www-form-urlencoded")...)
		require.Equal(t, 303, w.Code)
		require.Regexp(t, `^__Secure-kubeagents=.*; Path=/hub/;`, w.Header().Get("Set-Cookie"))
	}
}
