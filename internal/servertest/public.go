package servertest

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/config"
	"github.com/kubeagents/kubeagents/handlers"
	"github.com/kubeagents/kubeagents/internal/access/accesstest"
	"github.com/kubeagents/kubeagents/internal/connect"
	"github.com/kubeagents/kubeagents/models"
)

// TestPublicURLPathIsNoRoute checks that PUBLIC_URL is rejected if its path could be one of the server's routes.
func (wiring Wiring) TestPublicURLPathIsNoRoute(t *testing.T) {
	s := wiring.newTestServer(t, nil)
	require.NoError(t, chi.Walk(s.Handler.(chi.Routes), func(_, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		first, _, _ := strings.Cut(strings.TrimPrefix(route, "/"), "/")
		if first != "" {
			_, err := config.Load(map[string]string{"PUBLIC_URL": "https://example.com/" + first})
			require.ErrorContains(t, err, "PUBLIC_URL", route)
		}
		return nil
	}))
}

// TestPublicURLWithPath sends each request with and without the path of PUBLIC_URL, and checks that the responses are
// the same.
func (wiring Wiring) TestPublicURLWithPath(t *testing.T) {
	path, holders := accesstest.TokensFile(t, accesstest.EveryKind())
	s := wiring.newGuardedServer(t, nil, config.Config{TokensFile: path, PublicURL: publicURL(t, "https://hub.example.com/team/hub")}, nil)
	reads := holders["reads"].Header()
	for _, prefix := range []string{"", "/team/hub"} {
		require.Equal(t, 200, s.do("POST", prefix+"/webhook/status", reportOf("a/b", "t", "running")+reportOf("c", "t", "running"), holders["reports"].Header()...).Code)
	}
	for _, target := range []string{"/", "/health", "/api/agents?limit=1", "/api/agents/a%2Fb", "/api/sessions/", "/openapi.yaml", "/favicon.svg", "/sw.js", "/manifest.webmanifest", "/icons/192.png", "/icons/none.png", "/connect", "/connect/codex", "/nowhere", "/team/hubs/api/agents"} {
		bare, prefixed := s.do("GET", target, "", reads...), s.do("GET", "/team/hub"+target, "", reads...)
		require.Equal(t, bare.Code, prefixed.Code, target)
		if target != "/health" && target != "/" { // these contain the current time
			require.Equal(t, bare.Body.String(), prefixed.Body.String(), target)
		}
		require.Equal(t, bare.Header().Get("Link"), prefixed.Header().Get("Link"))
	}
	link := s.do("GET", "/api/agents?limit=1", "", reads...).Header().Get("Link")
	require.Regexp(t, `^</team/hub/api/agents\?cursor=[^>]+&limit=1>; rel="next"$`, link)
	next, _, _ := strings.Cut(strings.TrimPrefix(link, "<"), ">")
	require.Contains(t, s.do("GET", next, "", reads...).Body.String(), `"agent_id":"c"`)
	require.Equal(t, 401, s.do("GET", "/team/hub/api/agents", "").Code)

	w := s.do("GET", "/team/hub?view=agents&access_token=x", "")
	require.Equal(t, 308, w.Code)
	require.Equal(t, "hub/?view=agents", w.Header().Get("Location"))
	require.Equal(t, "../connect", s.do("GET", "/team/hub/connect/", "").Header().Get("Location"))
}

// TestSignInCookies checks the name and the path of the cookie that sign-in sets, and which cookies are accepted.
func (wiring Wiring) TestSignInCookies(t *testing.T) {
	path, holders := accesstest.TokensFile(t, accesstest.EveryKind())
	proxies := config.Prefixes{netip.MustParsePrefix("192.0.2.0/24")} // the address of httptest's requests
	serverAt := func(public string, proxies config.Prefixes) *server {
		cfg := config.Config{TokensFile: path, TrustedProxies: proxies}
		if public != "" {
			cfg.PublicURL = publicURL(t, public)
		}
		return wiring.newGuardedServer(t, nil, cfg, nil)
	}
	form := url.Values{"token": {holders["reads"].Token}}.Encode()
	none, whole, shared, plain := serverAt("", proxies), serverAt("https://hub.example.com", proxies), serverAt("https://example.org/team", proxies), serverAt("http://hub:8080/team", proxies)
	untrusting := serverAt("https://example.org/team", config.Prefixes{netip.MustParsePrefix("192.0.3.0/24")})
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
		{shared, "/sign-in", []string{"Host: example.org"}, "__Secure-kubeagents /team"},
		{shared, "/team/sign-in", []string{"Host: example.org"}, "__Secure-kubeagents /team"},
		{shared, "/sign-in", []string{"Host: 127.0.0.1:8080", "X-Forwarded-Host: example.org"}, "__Secure-kubeagents /team"},
		{shared, "/team/sign-in", []string{"X-Forwarded-Proto: https"}, "__Secure-kubeagents /team"},
		{shared, "/sign-in", []string{"Host: 127.0.0.1:8080"}, "kubeagents /"},
		{untrusting, "/sign-in", []string{"Host: example.org"}, "__Secure-kubeagents /team"},
		{untrusting, "/sign-in", []string{"Host: 127.0.0.1:8080", "X-Forwarded-Host: example.org"}, "kubeagents /"}, // any client can send this header
		{untrusting, "/sign-in", []string{"Host: 127.0.0.1:8080", "X-Forwarded-Proto: https"}, "kubeagents /"},
		{shared, "/team/sign-in", []string{"Host: 127.0.0.1:8080"}, "kubeagents /team"},
		{plain, "/team/sign-in", []string{"Host: hub:8080"}, "kubeagents /team"},
	} {
		w := test.server.do("POST", test.target, form, append(test.header, "Content-Type: application/x-www-form-urlencoded")...)
		require.Equal(t, 303, w.Code, "%+v", test)
		cookie := w.Result().Cookies()[0] //nolint:bodyclose // the body is in memory
		require.Equal(t, test.want, cookie.Name+" "+cookie.Path, "%+v", test)
		require.Equal(t, strings.HasPrefix(cookie.Name, "__"), cookie.Secure)
		status := func(cookies string, header ...string) int {
			return test.server.do("GET", strings.TrimSuffix(test.target, "sign-in"), "", append(header, "Cookie: "+cookies)...).Code
		}
		require.Equal(t, 200, status(cookie.Name+"="+cookie.Value, test.header...))
		require.Equal(t, 200, status(cookie.Name+"=x; "+cookie.Name+"="+cookie.Value, test.header...), "another cookie of the same name does no harm")
		if cookie.Secure {
			require.Equal(t, 401, status("kubeagents="+cookie.Value, test.header...), "anyone on the network could have set this cookie")
		} else {
			require.Equal(t, 401, status("__Host-kubeagents="+cookie.Value, test.header...))
		}
		out := test.server.do("POST", strings.Replace(test.target, "sign-in", "sign-out", 1), "", append(test.header, "Cookie: "+cookie.Name+"="+cookie.Value)...)
		require.Equal(t, 303, out.Code)
		require.Equal(t, 401, status(cookie.Name+"="+cookie.Value, test.header...))
	}
	crossSite := []string{"Host: 127.0.0.1:8080", "Content-Type: application/x-www-form-urlencoded"}
	require.Equal(t, 303, shared.do("POST", "/sign-in", form, append(crossSite, "Origin: https://example.org")...).Code, "the proxy changes the Host header")
	require.Equal(t, 403, shared.do("POST", "/sign-in", form, append(crossSite, "Origin: https://evil.example")...).Code)
}

// TestInvisibleCharacters checks that IDs with invisible characters are refused with an error that names the character,
// and that neither responses nor the log contain such characters.
func (wiring Wiring) TestInvisibleCharacters(t *testing.T) {
	var log logBuffer
	logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s := wiring.newGuardedServer(t, nil, config.Config{}, func(p *handlers.Options) { p.Logger, p.Access.Audit = logger, logger })
	const bad = "a\u202eb\u200b"
	refused := func(w *httptest.ResponseRecorder, field string) {
		t.Helper()
		require.Equal(t, 400, w.Code)
		require.Contains(t, w.Body.String(), field+" must not contain U+202E")
		require.NotContains(t, w.Body.String(), "\u202e")
	}
	refused(s.do("POST", "/webhook/status", reportOf(bad, "t", "running")), "agent_id")
	refused(s.do("POST", "/webhook/status", reportOf("a", bad, "running")), "session_topic")
	refused(s.do("POST", "/webhook/status", `[{"agent_id":"a","session_topic":"t","status":"running","agent_name":"`+bad+`"}]`), "agent_name")
	require.Equal(t, 404, s.do("GET", "/api/agents/"+url.PathEscape(bad), "").Code)
	require.Equal(t, 400, s.do("GET", "/api/sessions?limit="+url.QueryEscape(bad), "").Code)
	require.Equal(t, 404, s.do("GET", "/"+bad, "").Code)
	w := s.do("POST", "/webhook/status", `{"specversion":"`+bad+`","id":"1","source":"s","type":"t","data":{}}`, "Content-Type: application/cloudevents+json")
	require.Equal(t, 400, w.Code)
	require.NotContains(t, w.Body.String(), "\u202e")
	w = s.do("POST", "/webhook/codex", `{"hook_event_name":"UserPromptSubmit","session_id":"`+bad+`","cwd":"/home/`+bad+`","prompt":"`+bad+`"}`, "X-Agent-Host: "+bad)
	require.Equal(t, 200, w.Code, "a tool does not choose the name of its folder")
	se := s.sessions(t, "")[0]
	require.Equal(t, []string{"codex:a\ufffdb\ufffd@a\ufffdb\ufffd", "a\ufffdb\ufffd", "a\ufffdb\ufffd"}, []string{se.AgentID, se.AgentName, se.Topic})
	require.Equal(t, []string{bad, bad}, []string{se.Title, se.CurrentMessage}, "other texts are not changed")
	require.NotContains(t, log.String(), "\u202e")
	require.NotContains(t, log.String(), "\u200b")
}

// TestOldIDsAreStillRead checks that sessions whose IDs are no longer allowed, but are in the journal, can be listed,
// read and removed.
func (wiring Wiring) TestOldIDsAreStillRead(t *testing.T) {
	fs, bad := vfs.NewMem(), "a\u202eb"
	s, stop := wiring.newDurableServer(t, fs, true)
	_, err := s.handlers.Recorder.Accept(nil, []models.StatusReport{{AgentID: bad, SessionTopic: bad, AgentName: bad, Status: models.Running}}, time.Now(), nil)
	require.NoError(t, err)
	stop()
	s, _ = wiring.newDurableServer(t, fs, true)
	require.Equal(t, bad, s.sessions(t, "")[0].AgentID)
	agent := "/api/agents/" + url.PathEscape(bad)
	require.Equal(t, 200, s.do("GET", agent+"/sessions/"+url.PathEscape(bad), "").Code)
	require.Equal(t, 204, s.do("DELETE", agent, "").Code)
	require.Empty(t, s.sessions(t, ""))
}

func publicURL(t testing.TB, text string) (u config.PublicURL) {
	t.Helper()
	require.NoError(t, u.UnmarshalText([]byte(text)))
	return u
}

// TestConnect checks that the settings to paste contain the address at which the client reached the server, and that a
// malicious host name does not get into them.
func (wiring Wiring) TestConnect(t *testing.T) {
	path, _ := accesstest.TokensFile(t, accesstest.EveryKind())
	open := wiring.newTestServer(t, nil)
	guarded := wiring.newGuardedServer(t, nil, config.Config{TokensFile: path, TrustedProxies: config.Prefixes{netip.MustParsePrefix("192.0.2.1/32")}}, nil)
	for _, test := range []struct {
		server *server
		header []string
		want   string
	}{
		{open, nil, "http://example.com/webhook/codex"}, // the host of httptest's requests
		{open, []string{"Host: hub:8080"}, "http://hub:8080/webhook/codex"},
		{open, []string{"Host: [::1]:8080"}, "http://[::1]:8080/webhook/codex"},
		{open, []string{"Host: hub", "X-Forwarded-Host: evil", "X-Forwarded-Proto: https"}, "http://hub/webhook/codex"},
		{guarded, []string{"Host: hub", "X-Forwarded-Host: hub.example.com", "X-Forwarded-Proto: https"}, "https://hub.example.com/webhook/codex"},
	} {
		w := test.server.do("GET", "/connect/codex", "", test.header...)
		require.Equal(t, 200, w.Code)
		require.Equal(t, "text/plain; charset=utf-8", w.Header().Get("Content-Type"))
		require.True(t, json.Valid(w.Body.Bytes()))
		require.Contains(t, w.Body.String(), `\"`+test.want+`\"`)
		require.Equal(t, test.server == guarded, strings.Contains(w.Body.String(), "$KUBEAGENTS_TOKEN"))
		w = test.server.do("GET", "/connect", "", test.header...)
		require.Equal(t, 200, w.Code)
		require.Contains(t, w.Body.String(), strings.TrimSuffix(test.want, "/webhook/codex")+"/connect/")
		require.Contains(t, w.Header().Get("Content-Security-Policy"), "default-src 'self'")
	}
	w := guarded.do("GET", "/connect", "", "Host: hub", "Accept: */*")
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
	named := wiring.newGuardedServer(t, nil, config.Config{PublicURL: publicURL(t, "https://hub.example.com/team")}, nil)
	for _, host := range []string{"hub.example.com", "127.0.0.1:8080", "hub;rm"} { // the Host header makes no difference
		require.Contains(t, named.do("GET", "/connect/codex", "", "Host: "+host).Body.String(), `\"https://hub.example.com/team/webhook/codex\"`)
		require.Contains(t, named.do("GET", "/team/connect", "", "Host: "+host, "Accept: */*").Body.String(), "\n  curl -fsS https://hub.example.com/team/connect/codex\n")
	}
	w = open.do("GET", "/connect/status", "")
	require.Equal(t, 404, w.Code)
	require.Contains(t, w.Body.String(), "/connect/ must be followed by one of: "+strings.Join(connect.Names(), ", "))
}

// TestForwardedPrefix sends requests with X-Forwarded-Prefix.
func (wiring Wiring) TestForwardedPrefix(t *testing.T) {
	path, holders := accesstest.TokensFile(t, accesstest.EveryKind())
	proxies := config.Prefixes{netip.MustParsePrefix("192.0.2.0/24")} // the address of httptest's requests
	plain := wiring.newGuardedServer(t, nil, config.Config{TokensFile: path, TrustedProxies: proxies}, nil)
	named := wiring.newGuardedServer(t, nil, config.Config{TokensFile: path, TrustedProxies: proxies, PublicURL: publicURL(t, "https://hub.example.com/team")}, nil)
	untrusting := wiring.newGuardedServer(t, nil, config.Config{TokensFile: path}, nil)
	reads := holders["reads"].Header()
	for _, s := range []*server{plain, named, untrusting} {
		require.Equal(t, 200, s.do("POST", "/webhook/status", reportOf("a", "t", "running")+reportOf("b", "t", "running"), holders["reports"].Header()...).Code)
	}
	for name, test := range map[string]struct {
		server    *server
		forwarded string
		target    string // path of the list of agents
		link      string // path of the next page
	}{
		"the proxy strips the prefix":                 {plain, "/hub", "/api/agents", "/hub/api/agents"},
		"doubled slashes lead nowhere else":           {plain, "/", "//api/agents", "/api/agents"},
		"as long as it may be":                        {plain, "/" + strings.Repeat("x", 255), "/api/agents", "/" + strings.Repeat("x", 255) + "/api/agents"},
		"too long":                                    {plain, "/" + strings.Repeat("x", 256), "/api/agents", "/api/agents"},
		"many parts":                                  {plain, strings.Repeat("/a,", 200) + "/a", "/api/agents", "/api/agents"},
		"a trailing slash":                            {plain, "/hub/", "/api/agents", "/hub/api/agents"},
		"two proxies with a prefix each":              {plain, "/tools, /hub", "/api/agents", "/tools/hub/api/agents"},
		"the prefix /":                                {plain, "/", "/api/agents", "/api/agents"},
		"not a path":                                  {plain, "hub", "/api/agents", "/api/agents"},
		"another host":                                {plain, "//evil.example", "/api/agents", "/api/agents"},
		"a path of the server":                        {plain, "/api", "/api/agents", "/api/agents"},
		"markup":                                      {plain, "/<script>", "/api/agents", "/api/agents"},
		"a proxy that is not trusted":                 {untrusting, "/hub", "/api/agents", "/api/agents"},
		"a prefix that differs from PUBLIC_URL's":     {named, "/hub", "/api/agents", "/hub/api/agents"},
		"the path has the prefix of PUBLIC_URL":       {named, "/hub", "/team/api/agents", "/team/api/agents"},
		"no forwarded prefix, and PUBLIC_URL has one": {named, "", "/api/agents", "/team/api/agents"},
	} {
		header := reads
		if test.forwarded != "" {
			header = append(header[:1:1], "X-Forwarded-Prefix: "+test.forwarded)
		}
		w := test.server.do("GET", test.target+"?limit=1", "", header...)
		require.Equal(t, 200, w.Code, name)
		require.Regexp(t, "^<"+test.link+`\?cursor=[^>]+>; rel="next"$`, w.Header().Get("Link"), name)
	}

	via := []string{"X-Forwarded-Prefix: /hub", "X-Forwarded-Host: example.org", "X-Forwarded-Proto: https"}
	require.Contains(t, plain.do("GET", "/connect/codex", "", via...).Body.String(), `\"https://example.org/hub/webhook/codex\"`)
	require.Contains(t, named.do("GET", "/connect/codex", "", via...).Body.String(), `\"https://hub.example.com/team/webhook/codex\"`)
	w := plain.do("GET", "/connect/codex", "", "X-Forwarded-Prefix: /$(x)")
	require.Equal(t, 400, w.Code)
	require.Contains(t, w.Body.String(), "X-Forwarded-Prefix must be a path such as /kubeagents")

	require.Equal(t, 404, plain.do("GET", "/hub/api/agents", "", append(reads[:1:1], "X-Forwarded-Prefix: /hub")...).Code,
		"the proxy has stripped it already: otherwise a client could get around the proxy's rules for paths")
	for _, test := range []struct {
		server *server
		header []string
		base   string
	}{
		{plain, []string{"X-Forwarded-Prefix: /hub"}, "/hub/"},
		{plain, []string{"X-Forwarded-Prefix: /tools, /hub/"}, "/tools/hub/"},
		{plain, []string{"X-Forwarded-Prefix: /<script>"}, ""},
		{plain, nil, ""},
		{untrusting, []string{"X-Forwarded-Prefix: /hub"}, ""},
		{named, []string{"Host: hub.example.com"}, "/team/"},
		{named, []string{"X-Forwarded-Host: hub.example.com"}, "/team/"},
		{named, []string{"Host: 127.0.0.1:8080"}, ""},
	} {
		for _, header := range [][]string{test.header, append(test.header[:len(test.header):len(test.header)], reads...)} { // the sign-in form, and the page
			page := test.server.do("GET", "/", "", header...).Body.String()
			if test.base == "" {
				require.NotContains(t, page, "<base", "%q", header)
				continue
			}
			before, _, found := strings.Cut(page, `<base href="`+test.base+`">`)
			require.True(t, found, "%q: %s", header, page)
			require.NotRegexp(t, "href=|src=", before, "links before it would not follow it")
		}
	}
	form := url.Values{"token": {holders["reads"].Token}}.Encode()
	w = plain.do("POST", "/sign-in", form, append(via, "Content-Type: application/x-www-form-urlencoded")...)
	require.Equal(t, 303, w.Code)
	require.Regexp(t, `^__Secure-kubeagents=.*; Path=/hub;`, w.Header().Get("Set-Cookie"))
	cookie, _, _ := strings.Cut(w.Header().Get("Set-Cookie"), ";")
	require.Equal(t, 200, plain.do("GET", "/api/summary", "", append(via, "Cookie: "+cookie)...).Code)
	require.Equal(t, 401, plain.do("GET", "/api/summary", "", "X-Forwarded-Proto: https", "Cookie: "+cookie).Code,
		"any other server of the domain could have set it")
}

// TestConnectSaysWhoHasReported checks what /connect says about the tools that have reported: to those who may read, and
// of their agents only.
func (wiring Wiring) TestConnectSaysWhoHasReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path, holders := accesstest.TokensFile(t, accesstest.EveryKind())
		s := wiring.newGuardedServer(t, nil, config.Config{TokensFile: path}, nil)
		event := func(client, agent string) {
			t.Helper()
			w := s.do("POST", "/webhook/"+client, `{"hook_event_name":"UserPromptSubmit","session_id":"s","cwd":"/src","prompt":"Go"}`,
				append(holders["reports"].Header(), "X-Agent-Id: "+agent)...)
			require.Equal(t, 200, w.Code, w.Body)
		}
		event("claude-code", "team/a")
		time.Sleep(time.Hour)
		event("claude-code", "other/b")
		event("codex", "other/b2")
		event("codex", "nobody's")
		time.Sleep(2 * time.Minute)
		event("codex", "other/b2")
		time.Sleep(time.Minute)
		of := func(holder, accept string) string {
			t.Helper()
			w := s.do("GET", "/connect", "", append(holders[holder].Header(), "Accept: "+accept)...)
			require.Equal(t, 200, w.Code)
			require.Empty(t, w.Header().Get("WWW-Authenticate"))
			require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
			return w.Body.String()
		}
		require.Contains(t, of("reads", "text/plain"), "\nAlready reporting:\n  Claude Code: 2 agents, last report 3 minutes ago\n  Codex: 2 agents, last report 1 minute ago\n\n")
		require.Contains(t, of("team", "text/plain"), "\nAlready reporting, among the agents that you may see:\n  Claude Code: 1 agent, last report 1 hour ago\n\n")
		require.Contains(t, of("other team", "text/plain"), "that you may see:\n  Claude Code: 1 agent, last report 3 minutes ago\n  Codex: 1 agent, last report 1 minute ago\n\n")
		require.Contains(t, of("team", "text/html"), `<li><strong>Claude Code</strong> <span class="quiet">1 agent, last report 1 hour ago</span></li></ul>`)
		for _, holder := range []string{"", "expired", "reports", "admin", "acknowledges"} {
			require.NotContains(t, of(holder, "text/plain"), "report 1", holder)
			require.NotContains(t, of(holder, "text/plain"), "eported", holder)
			require.NotContains(t, of(holder, "text/html"), "activity\"", holder)
		}

		// What happens to other teams' agents changes nothing for a team.
		before := of("team", "text/plain")
		event("codex", "other/c")
		event("claude-code", "other/b")
		require.Equal(t, before, of("team", "text/plain"))
		require.Equal(t, 204, s.do("DELETE", "/api/agents/team%2Fa", "", holders["team"].Header()...).Code)
		require.Contains(t, of("team", "text/plain"), "\nNone of the agents that you may see has reported from one of these tools yet.\n")

		form := url.Values{"token": {holders["other team"].Token}}.Encode()
		w := s.do("POST", "/sign-in", form, "Content-Type: application/x-www-form-urlencoded")
		cookie, _, _ := strings.Cut(w.Header().Get("Set-Cookie"), ";")
		require.Contains(t, s.do("GET", "/connect", "", "Cookie: "+cookie, "Accept: text/html").Body.String(), "<strong>Codex</strong> <span class=\"quiet\">2 agents, last report just now</span>")
		require.NotContains(t, s.do("GET", "/connect", "", "Cookie: kubeagents=x", "Accept: text/html").Body.String(), "Codex</strong>")
	})
}
