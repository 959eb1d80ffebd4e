package servertest

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-chi/chi/v5"
	webhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/kubeagents/kubeagents/config"
	"github.com/kubeagents/kubeagents/handlers"
	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/internal/access/accesstest"
	"github.com/kubeagents/kubeagents/store"
)

// TestWhoMayDoWhat sends a request to every route with every kind of token, and without one. It fails if a route is
// missing here.
func (wiring Wiring) TestWhoMayDoWhat(t *testing.T) {
	path, holders := accesstest.TokensFile(t, accesstest.EveryKind())
	s := wiring.newGuardedServer(t, nil, config.Config{TokensFile: path}, nil)
	clients := []accesstest.Holder{{}, {Name: "wrong", Token: "ka_wrong"}, holders["expired"], holders["reports"], holders["reads"], holders["admin"], holders["other team"], holders["team"]}
	asset := regexp.MustCompile(`/?assets/[^"]+`).FindString(s.do("GET", "/", "", holders["reads"].Header()...).Body.String())
	public := regexp.MustCompile(`connect/assets/[^"]+`).FindString(s.do("GET", "/connect", "", "Accept: text/html").Body.String())
	const agent, session = "/api/agents/team%2Fa", "/api/agents/team%2Fa/sessions/t"
	report := reportOf("team/a", "t", "running")

	reads := []int{401, 401, 401, 403, 200, 403, 200, 200}
	readsAgent := []int{401, 401, 401, 403, 200, 403, 404, 200}
	readsEverything := []int{401, 401, 401, 403, 200, 403, 403, 403}
	removes := []int{401, 401, 401, 403, 403, 204, 404, 204}
	open := []int{200, 200, 200, 200, 200, 200, 200, 200}
	routes := map[string]struct {
		target string
		want   []int // status for each of clients
	}{
		"POST /webhook/status":                                   {"/webhook/status", []int{401, 401, 401, 200, 403, 403, 403, 200}},
		"POST /webhook/{client}":                                 {"/webhook/claude-code?agent_id=team/a", []int{401, 401, 401, 200, 403, 403, 403, 200}},
		"POST /mcp":                                              {"/mcp", []int{401, 401, 401, 415, 415, 403, 415, 415}}, // the Content-Type is missing
		"GET /api/agents":                                        {"/api/agents", reads},
		"GET /api/agents/{agent_id}":                             {agent, readsAgent},
		"GET /api/agents/{agent_id}/status":                      {agent + "/status", readsAgent},
		"GET /api/agents/{agent_id}/sessions":                    {agent + "/sessions", readsAgent},
		"GET /api/agents/{agent_id}/sessions/{session_topic}":    {session, readsAgent},
		"GET /api/sessions":                                      {"/api/sessions", reads},
		"GET /api/summary":                                       {"/api/summary", reads},
		"GET /api/events":                                        {"/api/events", reads},
		"GET /openapi.yaml":                                      {"/openapi.yaml", reads},
		"GET /metrics":                                           {"/metrics", readsEverything},
		"DELETE /api/agents/{agent_id}":                          {agent, removes},
		"DELETE /api/agents/{agent_id}/sessions/{session_topic}": {session, removes},
		"POST /api/acknowledge":                                  {"/api/acknowledge", []int{401, 401, 401, 403, 403, 403, 400, 400}}, // a status report
		"POST /api/agents/{agent_id}/sessions/{session_topic}/acknowledge": {session + "/acknowledge", []int{401, 401, 401, 403, 403, 403, 400, 400}},
		"GET /api/notifications":                           {"/api/notifications", reads},
		"GET /api/notifications/mutes":                     {"/api/notifications/mutes", reads},
		"POST /api/notifications/mutes":                    {"/api/notifications/mutes", []int{401, 401, 401, 403, 403, 400, 400, 400}}, // a status report
		"DELETE /api/notifications/mutes/{mute_id}":        {"/api/notifications/mutes/none", []int{401, 401, 401, 403, 403, 404, 404, 404}},
		"GET /api/notifications/devices":                   {allDevices, reads},
		"POST /api/notifications/devices":                  {allDevices, []int{401, 401, 401, 403, 400, 403, 400, 400}}, // a status report
		"DELETE /api/notifications/devices/{device_id}":    {allDevices + "/none", []int{401, 401, 401, 403, 404, 403, 404, 404}},
		"POST /api/notifications/devices/{device_id}/test": {allDevices + "/none/test", []int{401, 401, 401, 403, 404, 403, 404, 404}},
		"POST /api/presence":                               {"/api/presence", []int{401, 401, 401, 403, 400, 403, 400, 400}},
		"POST /api/notifications/test":                     {"/api/notifications/test", []int{401, 401, 401, 403, 403, 400, 403, 403}},

		"GET /api/backup":           {"/api/backup", []int{401, 401, 401, 403, 403, 404, 403, 403}},    // this server has no journal
		"POST /api/snapshots":       {"/api/snapshots", []int{401, 401, 401, 403, 403, 404, 403, 403}}, // this server has no cluster
		"GET /debug/pprof/*":        {"/debug/pprof/heap", []int{401, 401, 401, 403, 403, 200, 403, 403}},
		"GET /":                     {"/", reads},
		"GET /assets/*":             {"/" + strings.TrimPrefix(asset, "/"), reads},
		"GET /favicon.svg":          {"/favicon.svg", open},
		"GET /connect/assets/*":     {"/" + public, open},
		"GET /connect":              {"/connect", open},
		"GET /connect/{client}":     {"/connect/claude-code", open},
		"GET /health":               {"/health", open},
		"GET /health/live":          {"/health/live", open},
		"GET /health/ready":         {"/health/ready", open},
		"POST /sign-in":             {"/sign-in", []int{401, 401, 401, 401, 401, 401, 401, 401}},  // takes a form, no header
		"POST /sign-out":            {"/sign-out", []int{303, 303, 303, 303, 303, 303, 303, 303}}, // nobody is signed in
		"GET /sw.js":                {"/sw.js", open},
		"GET /icons/{name}":         {"/icons/192.png", open},
		"GET /manifest.webmanifest": {"/manifest.webmanifest", open},
	}
	require.NoError(t, chi.Walk(s.Handler.(chi.Routes), func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		_, ok := routes[method+" "+route]
		require.True(t, ok, "add %s %s to this test", method, route)
		return nil
	}))
	for route, test := range routes {
		method, _, _ := strings.Cut(route, " ")
		if route == "GET /api/events" {
			method = "HEAD" // GET would not return
		}
		for i, h := range clients {
			s.do("POST", "/webhook/status", report, holders["reports"].Header()...)
			body := ""
			switch {
			case route == "POST /webhook/{client}":
				body = `{"hook_event_name":"Stop","session_id":"t"}`
			case method == "POST":
				body = report
			}
			w := s.do(method, test.target, body, h.Header()...)
			require.Equal(t, test.want[i], w.Code, "%s as %q: %s", route, h.Name, w.Body)
			switch w.Code {
			case 401:
				if route != "POST /sign-in" {
					require.Regexp(t, `^Bearer realm="kubeagents"`, w.Header().Get("WWW-Authenticate"), route)
				}
			case 403:
				require.Regexp(t, `"error":"forbidden","message":"(the token lacks the scope (report|read|acknowledge|admin)|this needs a token for all agents|this token does not cover agent)`, w.Body.String())
			}
			if w.Code == 404 && route == "GET /api/backup" {
				require.Contains(t, w.Body.String(), `"message":"backups over HTTP need TOKENS_FILE and DATA_DIR"`)
			}
			for _, h := range clients[1:] {
				require.NotContains(t, w.Body.String(), h.Token, "no response contains a token")
			}
		}
	}
}

// TestWithoutTokensEverythingIsAllowed checks that a server without tokens accepts requests of anyone, but serves no
// profiles.
func (wiring Wiring) TestWithoutTokensEverythingIsAllowed(t *testing.T) {
	s := wiring.newTestServer(t, nil)
	require.Equal(t, 200, s.do("POST", "/webhook/status", reportOf("a", "t", "running")).Code)
	require.Equal(t, 200, s.do("GET", "/api/agents", "").Code)
	require.Equal(t, 200, s.do("GET", "/metrics", "", "Authorization: Bearer whatever").Code)
	require.Equal(t, 404, s.do("GET", "/debug/pprof/heap", "").Code)
	require.Equal(t, 404, s.do("POST", "/sign-in", "").Code)
	require.Equal(t, 204, s.do("DELETE", "/api/agents/a", "").Code)
	require.Equal(t, 403, s.do("DELETE", "/api/agents/a", "", "Sec-Fetch-Site: cross-site").Code, "a page of another origin must not delete")
	require.Contains(t, s.do("GET", "/health", "").Body.String(), `"storage":"memory"`)
}

func (wiring Wiring) TestHealthShowsStrangersOnlyTheStatus(t *testing.T) {
	path, holders := accesstest.TokensFile(t, accesstest.EveryKind())
	s := wiring.newGuardedServer(t, nil, config.Config{TokensFile: path}, nil)
	for name, details := range map[string]bool{"": false, "reads": true, "reports": false, "team": false, "expired": false} {
		w := s.do("GET", "/health", "", holders[name].Header()...)
		require.Equal(t, 200, w.Code)
		require.Equal(t, details, strings.Contains(w.Body.String(), "version"), name)
		require.Contains(t, w.Body.String(), `"status":"ok"`)
		require.Empty(t, w.Header().Get("WWW-Authenticate"))
	}
	s.handlers.Drain()
	require.JSONEq(t, `{"status":"unavailable"}`, s.do("GET", "/health", "").Body.String())
	require.JSONEq(t, `{"status":"unavailable"}`, s.do("GET", "/health/ready", "").Body.String())
	require.Contains(t, s.do("GET", "/health/ready", "", holders["reads"].Header()...).Body.String(), "stopping")
	public := wiring.newGuardedServer(t, nil, config.Config{TokensFile: path, MetricsPublic: true}, nil)
	require.Equal(t, 200, public.do("GET", "/metrics", "").Code)
}

func (wiring Wiring) TestWaysToSendAToken(t *testing.T) {
	path, holders := accesstest.TokensFile(t, accesstest.EveryKind())
	s := wiring.newGuardedServer(t, nil, config.Config{TokensFile: path}, nil)
	reports, reads := holders["reports"].Token, holders["reads"].Token
	post := func(query string, header ...string) int {
		return s.do("POST", "/webhook/status"+query, reportOf("a", "t", "running"), header...).Code
	}
	require.Equal(t, 200, post("?access_token="+reports))
	require.Equal(t, 200, post("?x=1&access_token="+reports))
	require.Equal(t, 401, post("?access_token=ka_wrong"))
	require.Equal(t, 400, post("?access_token="+reports+"&access_token="+reports))
	require.Equal(t, 400, post("?access_token="+reports, "Authorization: Bearer "+reports))
	require.Equal(t, 400, post("?access_token=%zz"))
	w := s.do("GET", "/api/agents?access_token="+reads, "")
	require.Equal(t, 401, w.Code)
	require.Contains(t, w.Body.String(), "access_token in the URL works only for webhooks: use the Authorization header")
	require.Equal(t, 200, post("", "Authorization: bearer  "+reports), "the scheme is case-insensitive")
	for _, header := range []string{"Basic " + reports, reports, "Token " + reports} {
		require.Equal(t, 400, post("", "Authorization: "+header), header)
	}
	for _, header := range []string{"Bearer", "Bearer ", "bearer   "} { // sent by a command whose token variable is not set
		require.Equal(t, 401, post("", "Authorization: "+header), header)
		require.Equal(t, 200, post("?access_token="+reports, "Authorization: "+header), header)
	}
	for _, token := range []string{reports + "x", reports[:len(reports)-1], strings.ToLower(reports), strings.Repeat("x", 10_000), "\x00", reports + " " + reports} {
		require.Equal(t, 401, post("", "Authorization: Bearer "+token), token)
	}
	twice := httptest.NewRequest("GET", "/api/agents", nil)
	twice.Header["Authorization"] = []string{"Bearer " + reads, "Bearer " + reads}
	w = httptest.NewRecorder()
	s.ServeHTTP(w, twice)
	require.Equal(t, 400, w.Code)
}

// TestBatchForSeveralTeams checks that the reports of a batch that the token covers are accepted, and that each other
// report gets an error.
func (wiring Wiring) TestBatchForSeveralTeams(t *testing.T) {
	path, holders := accesstest.TokensFile(t, accesstest.EveryKind())
	s := wiring.newGuardedServer(t, nil, config.Config{TokensFile: path}, nil)
	team := holders["team"].Header()
	w := s.do("POST", "/webhook/status", reportOf("team/a", "t", "running")+reportOf("other/b", "t", "running"), team...)
	require.Equal(t, 207, w.Code)
	require.JSONEq(t, `{"success":false,"message":"1 of 2 reports were accepted","accepted":1,"rejected":1,
		"errors":[{"index":1,"error":"forbidden","message":"this token does not cover agent \"other/b\"","field":"agent_id"}]}`, w.Body.String())
	require.Equal(t, 403, s.do("POST", "/webhook/status", "["+reportOf("other/b", "t", "running")+"]", team...).Code)
	require.Equal(t, 1, s.store.Summary().Agents)
}

// view is what a client sees of a server. The bodies lack their cursors: a cursor says where a page ends, not what is
// on it.
type view struct {
	codes  []int
	bodies []string
}

var cursorText = regexp.MustCompile(`,"next_cursor":"[^"]*"`)

// readEverything reads every page of every list, and the agent and the sessions for each ID.
func readEverything(s *server, ids []string, header ...string) (all view) {
	read := func(target string) {
		for range 50 {
			w := s.do("GET", target, "", header...)
			all.codes = append(all.codes, w.Code)
			all.bodies = append(all.bodies, target[:strings.IndexByte(target+"?", '?')]+" "+cursorText.ReplaceAllString(w.Body.String(), ""))
			_, next, ok := strings.Cut(w.Body.String(), `"next_cursor":"`)
			if !ok {
				return
			}
			cursor, _, _ := strings.Cut(next, `"`)
			firstPage, _, _ := strings.Cut(target, "&cursor=")
			target = firstPage + "&cursor=" + cursor
		}
	}
	for _, target := range []string{"/api/agents?limit=2", "/api/agents?sort=-last_seen&limit=1", "/api/agents?source=codex&limit=1", "/api/agents?status=pending&limit=1",
		"/api/agents?active=true&search=a", "/api/sessions?limit=1", "/api/sessions?sort=last_updated&limit=2", "/api/sessions?status=pending&expired=false&limit=1",
		"/api/sessions?lost=true", "/api/sessions?source=codex&limit=1", "/api/sessions?search=t1", "/api/summary?"} {
		read(target)
	}
	for _, id := range ids {
		at := "/api/agents/" + url.PathEscape(id)
		for _, target := range []string{"?", "/status?limit=1", "/sessions?limit=1", "/sessions/t1?limit=1", "/sessions/t2?limit=2"} {
			read(at + target)
		}
		read("/api/sessions?limit=1&agent_id=" + url.QueryEscape(id))
	}
	return all
}

// TestLimitedTokenSeesOnlyItsAgents checks that a client with a token for some agents gets the same lists, counts and
// events as on a server that only received the reports of these agents, for any agents and patterns.
func (wiring Wiring) TestLimitedTokenSeesOnlyItsAgents(t *testing.T) {
	ids := []string{"a/1", "a/2", "ab", "b/1", "ü/*", "c"}
	rapid.Check(t, func(rt *rapid.T) {
		patterns := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a/*", "*1", "b/?", `ü/\*`, "c", "*", "a?", "nobody"}), 1, 3, rapid.ID).Draw(rt, "patterns")
		steps := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) step {
			return step{
				kind:   rapid.SampledFrom([]string{"report", "report", "report", "report", "wait", "remove"}).Draw(rt, "kind"),
				agent:  rapid.SampledFrom(ids).Draw(rt, "agent"),
				topic:  rapid.SampledFrom([]string{"t1", "t2"}).Draw(rt, "topic"),
				status: rapid.SampledFrom([]string{"running", "pending", "success", "failed"}).Draw(rt, "status"),
				source: rapid.SampledFrom([]string{"codex", "cursor"}).Draw(rt, "source"),
			}
		}), 1, 25).Draw(rt, "steps")
		path, holders := accesstest.TokensFile(t, map[string]access.Entry{"all": {Scopes: []string{"report", "read", "admin"}}, "some": {Scopes: []string{"read"}, Agents: patterns}})
		keyring := access.NewKeyring(store.New(store.Options{EventWindow: 1}), access.Limits{})
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		_, err = keyring.Load(text)
		require.NoError(t, err)
		some, err := keyring.Grant(holders["some"].Token)
		require.NoError(t, err)

		synctest.Test(t, func(t *testing.T) {
			shortTTL := func(o *store.Options) { o.DefaultTTL, o.SessionRetention = 5*time.Minute, 20*time.Minute }
			shared := wiring.newGuardedServer(t, shortTTL, config.Config{TokensFile: path}, nil)
			own := wiring.newGuardedServer(t, shortTTL, config.Config{}, nil)
			sharedEvents, ownEvents := follow(t, shared, "/api/events", holders["some"].Header()...), follow(t, own, "/api/events")
			for _, st := range steps {
				time.Sleep(time.Millisecond)
				st.apply(shared, holders["all"].Header()...)
				if some.Covers(st.agent) || st.kind == "wait" {
					st.apply(own)
				}
				if st.kind == "wait" {
					time.Sleep(6 * time.Minute)
				}
				synctest.Wait()
				require.Equal(t, readEverything(own, ids), readEverything(shared, ids, holders["some"].Header()...), "%+v", st)
			}
			time.Sleep(time.Second)
			require.Equal(t, ownEvents.events(), sharedEvents.events())
		})
	})
}

type step struct{ kind, agent, topic, status, source string }

func (st step) apply(s *server, header ...string) {
	switch st.kind {
	case "report":
		s.do("POST", "/webhook/status", fmt.Sprintf(`{"agent_id":%q,"session_topic":%q,"status":%q,"agent_source":%q}`, st.agent, st.topic, st.status, st.source), header...)
	case "remove":
		s.do("DELETE", "/api/agents/"+url.PathEscape(st.agent)+"/sessions/"+st.topic, "", header...)
	}
}

// stream is an open event stream. It is the http.ResponseWriter that the server writes to.
type stream struct {
	mu     sync.Mutex
	text   strings.Builder
	header http.Header
	status int
	ended  chan struct{}
}

func (f *stream) Header() http.Header { return f.header }
func (f *stream) Flush()              {}
func (f *stream) WriteHeader(status int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.status = status
}

func (f *stream) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.text.Write(b)
}

// follow opens an event stream, which is closed when the test ends.
func follow(t testing.TB, s *server, target string, header ...string) *stream {
	f := &stream{header: http.Header{}, ended: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	r := httptest.NewRequest("GET", target, nil).WithContext(ctx)
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Set(name, value)
	}
	go func() {
		defer close(f.ended)
		s.ServeHTTP(f, r)
	}()
	t.Cleanup(func() {
		cancel()
		<-f.ended
	})
	synctest.Wait()
	return f
}

// events returns the type and the data of each event received so far.
func (f *stream) events() (events []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for line := range strings.Lines(f.text.String()) {
		if strings.HasPrefix(line, "event: ") || strings.HasPrefix(line, "data: ") {
			events = append(events, line)
		}
	}
	return events
}

// TestStreamEndsWithItsToken checks that an open stream ends when its token is removed, when its token expires, and at
// sign-out.
func (wiring Wiring) TestStreamEndsWithItsToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		soon := time.Now().Add(time.Hour)
		path, holders := accesstest.TokensFile(t, map[string]access.Entry{"gone": {Scopes: []string{"read"}}, "stays": {Scopes: []string{"read"}}, "expires": {Scopes: []string{"read"}, Expires: soon}})
		var guard handlers.Access
		s := wiring.newGuardedServer(t, nil, config.Config{TokensFile: path}, func(p *handlers.Options) { guard = p.Access })
		cookie := signIn(t, s, holders["stays"].Token)
		streams := map[string]*stream{"signed in": follow(t, s, "/api/events", "Cookie: "+cookie)}
		for name, h := range holders {
			streams[name] = follow(t, s, "/api/events", h.Header()...)
		}
		open := func() (names []string) {
			synctest.Wait()
			for name, f := range streams {
				select {
				case <-f.ended:
				default:
					names = append(names, name)
				}
			}
			slices.Sort(names)
			return names
		}
		require.Equal(t, []string{"expires", "gone", "signed in", "stays"}, open())
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		kept := slices.DeleteFunc(strings.SplitAfter(string(text), "\n"), func(line string) bool { return strings.Contains(line, `"gone"`) })
		_, err = guard.Tokens.Load([]byte(strings.Join(kept, "")))
		require.NoError(t, err)
		require.Equal(t, []string{"expires", "signed in", "stays"}, open())
		require.Equal(t, 401, s.do("GET", "/api/agents", "", holders["gone"].Header()...).Code)
		time.Sleep(time.Hour)
		require.Equal(t, []string{"signed in", "stays"}, open())
		require.Contains(t, s.do("GET", "/api/agents", "", holders["expires"].Header()...).Body.String(), "the token has expired")
		require.Equal(t, 303, s.do("POST", "/sign-out", "", "Cookie: "+cookie).Code)
		require.Equal(t, []string{"stays"}, open())
	})
}

// signIn signs in with a token and returns the cookie.
func signIn(t testing.TB, s http.Handler, token string) (cookie string) {
	t.Helper()
	r := httptest.NewRequest("POST", "/sign-in", strings.NewReader(url.Values{"token": {token}, "view": {"view=agents"}}.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	require.Equal(t, 303, w.Code, "%s", w.Body)
	require.Equal(t, "./?view=agents", w.Header().Get("Location"))
	cookie, _, _ = strings.Cut(w.Header().Get("Set-Cookie"), ";")
	return cookie
}

func (wiring Wiring) TestSignIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path, holders := accesstest.TokensFile(t, accesstest.EveryKind())
		s := wiring.newGuardedServer(t, nil, config.Config{TokensFile: path}, func(p *handlers.Options) {
			p.Access.Proxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} // the address of httptest's requests
		})
		w := s.do("GET", "/?view=agents", "")
		require.Equal(t, 401, w.Code)
		require.Contains(t, w.Body.String(), `<form class="signin" method="post" action="sign-in">`)
		require.Contains(t, w.Body.String(), `name="view" value="view=agents"`)

		form := func(token string) *httptest.ResponseRecorder {
			return s.do("POST", "/sign-in", url.Values{"token": {token}}.Encode(), "Content-Type: application/x-www-form-urlencoded")
		}
		require.Contains(t, form("ka_wrong").Body.String(), "Sign-in failed: unknown token.")
		require.Contains(t, form(holders["expired"].Token).Body.String(), "the token has expired")
		require.Contains(t, form(holders["reports"].Token).Body.String(), "it lacks the scope read")
		require.Equal(t, 400, form(strings.Repeat("x", 10_000)).Code)
		w = form(" " + holders["reads"].Token + "\n")
		require.Regexp(t, `^kubeagents=[A-Z2-7]{52}; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict$`, w.Header().Get("Set-Cookie"))
		w = s.do("POST", "/sign-in", url.Values{"token": {holders["reads"].Token}}.Encode(), "Content-Type: application/x-www-form-urlencoded", "X-Forwarded-Proto: https")
		require.Regexp(t, `^__Host-kubeagents=[A-Z2-7]{52}; Path=/; Max-Age=43200; HttpOnly; Secure; SameSite=Strict$`, w.Header().Get("Set-Cookie"))

		encrypted := httptest.NewRequest("POST", "https://hub.example/sign-in", strings.NewReader(url.Values{"token": {holders["reads"].Token}}.Encode()))
		encrypted.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w = httptest.NewRecorder()
		s.ServeHTTP(w, encrypted) // directly over TLS
		require.Regexp(t, `^__Host-kubeagents=.*; Secure;`, w.Header().Get("Set-Cookie"))
		require.Equal(t, "max-age=63072000", w.Header().Get("Strict-Transport-Security"))

		cookie := signIn(t, s, holders["team"].Token)
		require.NotContains(t, cookie, holders["team"].Token)
		s.do("POST", "/webhook/status", reportOf("team/a", "mine", "pending")+reportOf("z", "theirs", "pending"), holders["reports"].Header()...)
		page := s.do("GET", "/", "", "Cookie: "+cookie)
		require.Equal(t, 200, page.Code)
		require.Contains(t, page.Body.String(), "mine")
		require.NotContains(t, page.Body.String(), "theirs")
		require.Contains(t, page.Body.String(), `data-viewer="team"`)
		require.Equal(t, 200, s.do("GET", "/api/agents/team%2Fa", "", "Cookie: "+cookie).Code)
		require.Equal(t, 404, s.do("GET", "/api/agents/z", "", "Cookie: "+cookie).Code)

		// The cookie does not authorize changes or requests from pages of other origins.
		require.Equal(t, 401, s.do("POST", "/webhook/status", reportOf("team/a", "t", "running"), "Cookie: "+cookie).Code)
		require.Equal(t, 401, s.do("DELETE", "/api/agents/team%2Fa", "", "Cookie: "+cookie).Code)
		require.Equal(t, 401, s.do("GET", "/debug/pprof/heap", "", "Cookie: "+cookie).Code)
		for _, target := range []string{"/sign-in", "/sign-out"} {
			require.Equal(t, 403, s.do("POST", target, "", "Cookie: "+cookie, "Sec-Fetch-Site: cross-site").Code)
			require.Equal(t, 403, s.do("POST", target, "", "Cookie: "+cookie, "Origin: https://evil.example").Code)
		}
		require.Equal(t, 200, s.do("GET", "/api/agents", "", "Cookie: "+cookie).Code, "still signed in")

		out := s.do("POST", "/sign-out", "", "Cookie: "+cookie, "Sec-Fetch-Site: same-origin")
		require.Equal(t, 303, out.Code)
		require.Regexp(t, `^kubeagents=; Path=/; Max-Age=0;`, out.Header().Get("Set-Cookie"))
		require.Equal(t, 401, s.do("GET", "/api/agents", "", "Cookie: "+cookie).Code, "the old cookie is no longer valid")

		cookie = signIn(t, s, holders["reads"].Token)
		time.Sleep(access.SignedInFor - time.Second)
		require.Equal(t, 200, s.do("GET", "/api/agents", "", "Cookie: "+cookie).Code)
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, 401, s.do("GET", "/api/agents", "", "Cookie: "+cookie).Code)
		// By now every sign-in has ended, so that none is left in memory.
	})
}

func (wiring Wiring) TestRateLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path, holders := accesstest.TokensFile(t, map[string]access.Entry{"one": {Scopes: []string{"report", "read"}}, "two": {Scopes: []string{"report", "read"}}})
		s := wiring.newGuardedServer(t, nil, config.Config{TokensFile: path, RateLimitReports: 10, RateLimitReads: 5}, nil)
		one, two := holders["one"].Header(), holders["two"].Header()
		report := func(n int, header []string) *httptest.ResponseRecorder {
			return s.do("POST", "/webhook/status", "["+strings.TrimSuffix(strings.Repeat(reportOf("a", "t", "running")+",", n), ",")+"]", header...)
		}
		require.Equal(t, 200, report(60, one).Code)
		require.Equal(t, 200, report(40, one).Code, "a burst of ten seconds' worth is allowed")
		w := report(30, one)
		require.Equal(t, 429, w.Code)
		require.JSONEq(t, `{"error":"too_many_requests","message":"more than 10 reports per second: try again later"}`, w.Body.String())
		header := func(name string) string { return w.Header().Get(name) }
		require.Equal(t, []string{"1", "10", "0", "1"}, []string{header("Retry-After"), header("RateLimit-Limit"), header("RateLimit-Remaining"), header("RateLimit-Reset")})
		require.Equal(t, 200, report(30, two).Code, "each token has its own limit")
		time.Sleep(2 * time.Second)
		require.Equal(t, 200, report(20, one).Code)
		require.Equal(t, 429, report(20, one).Code)
		time.Sleep(10 * time.Second)
		require.Equal(t, 200, report(300, one).Code, "a batch larger than the burst is accepted if the full burst is available")
		time.Sleep(10 * time.Second)
		require.Equal(t, 429, report(1, one).Code, "later reports are refused until the excess is made up for")
		time.Sleep(11 * time.Second)
		require.Equal(t, 200, report(1, one).Code)
		require.Equal(t, 200, s.do("GET", "/api/agents", "", one...).Code, "reads have a separate limit")
		for range 49 {
			s.do("GET", "/api/agents", "", one...)
		}
		require.Equal(t, 429, s.do("GET", "/api/agents", "", one...).Code)
		for range 60 {
			require.Equal(t, 200, s.do("GET", "/health", "", one...).Code)
		}
		require.NotContains(t, s.do("GET", "/health", "", one...).Body.String(), "version", "above the limit, /health doesn't show whether a token is valid")
		time.Sleep(10 * time.Second)

		for range 50 { // someone guesses tokens
			require.Equal(t, 401, s.do("GET", "/api/agents", "", "Authorization: Bearer guess").Code)
		}
		require.Equal(t, 429, s.do("GET", "/api/agents", "", "Authorization: Bearer guess").Code)
		require.Equal(t, 200, s.do("GET", "/api/agents", "", two...).Code, "guesses don't count against clients with valid tokens")
	})
}

func (wiring Wiring) TestRateLimitsByAddress(t *testing.T) {
	s := wiring.newGuardedServer(t, nil, config.Config{RateLimitReads: 1, TrustedProxies: config.Prefixes{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("10.0.0.0/8")}}, nil)
	from := func(forwarded string) int { return s.do("GET", "/api/agents", "", "X-Forwarded-For: "+forwarded).Code }
	exhaust := func(forwarded string) {
		t.Helper()
		for range 10 {
			require.Equal(t, 200, from(forwarded))
		}
		require.Equal(t, 429, from(forwarded))
	}
	exhaust("203.0.113.1")
	require.Equal(t, 429, from("8.8.8.8, 203.0.113.1"), "addresses that a client sends are ignored")
	require.Equal(t, 429, from("203.0.113.1, 10.1.2.3"), "addresses behind a trusted proxy are used")
	exhaust("203.0.113.2")
	exhaust("2001:db8::1")
	require.Equal(t, 429, from("2001:db8::ffff:1"), "an IPv6 /64 network counts as one address")
	require.Equal(t, 200, from("2001:db8:0:1::1"))

	direct := wiring.newGuardedServer(t, nil, config.Config{RateLimitReads: 1}, nil)
	for i := range 11 {
		w := direct.do("GET", "/api/agents", "", fmt.Sprintf("X-Forwarded-For: 203.0.113.%d", i))
		require.Equal(t, map[bool]int{true: 200, false: 429}[i < 10], w.Code, "without TRUSTED_PROXIES, X-Forwarded-For is ignored")
	}
}

// TestRateLimitsOfManyAddressesAreBounded counts requests of 100,000 addresses.
func (wiring Wiring) TestRateLimitsOfManyAddressesAreBounded(t *testing.T) {
	limits := access.NewRateLimiter(access.Limits{Reports: 1, Reads: 1})
	now := time.Now()
	for i := range 100_000 {
		address := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		require.Nil(t, limits.Reads(nil, address, now))
		require.Nil(t, limits.Reports(nil, address, 1, now))
	}
	require.Equal(t, 10_000, limits.Known())
}

// TestRequestsInFlightAreLimited sends more concurrent requests than are allowed.
func (wiring Wiring) TestRequestsInFlightAreLimited(t *testing.T) {
	s := wiring.newGuardedServer(t, nil, config.Config{MaxInFlight: 2}, nil)
	finish := []func(string) int{occupy(t, s), occupy(t, s)}
	w := s.do("GET", "/api/agents", "")
	require.Equal(t, 503, w.Code)
	require.Equal(t, "1", w.Header().Get("Retry-After"))
	require.Equal(t, "2", w.Header().Get("RateLimit-Limit"))
	require.Contains(t, w.Body.String(), "MAX_IN_FLIGHT")
	require.Equal(t, 200, s.do("GET", "/health", "").Code, "probes are not limited")
	for _, finish := range finish {
		require.Equal(t, 200, finish(reportOf("a", "t", "running")))
	}
	require.Equal(t, 200, s.do("GET", "/api/agents", "").Code)
}

// TestExcessIsLoggedOncePerSecond sends far too many requests, with a path that is too long for a log line.
func (wiring Wiring) TestExcessIsLoggedOncePerSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		s := wiring.newGuardedServer(t, nil, config.Config{RateLimitReads: 1}, func(p *handlers.Options) {
			p.Access.Audit = slog.New(slog.NewTextHandler(&log, nil))
		})
		for range 3 {
			for range 100 {
				s.do("GET", "/api/agents/"+strings.Repeat("x", 1000), "")
			}
			time.Sleep(time.Second)
		}
		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		require.Len(t, lines, 3)
		require.Contains(t, lines[1], "more since the last such line")
		require.Less(t, len(lines[1]), 700)
		total := 0
		for _, found := range regexp.MustCompile(`(\d+) more since`).FindAllStringSubmatch(log.String(), -1) {
			n, err := strconv.Atoi(found[1])
			require.NoError(t, err)
			total += n
		}
		require.Equal(t, 300-12-3-98, total, "all but those that were accepted, those with a line, and those after the last line")
	})
}

// occupy sends the start of a report, which stays in flight until finish is called with the rest of its body. finish
// returns the status.
func occupy(t testing.TB, s *server) (finish func(body string) int) {
	body, more := io.Pipe()
	status := make(chan int)
	go func() {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest("POST", "/webhook/status", body))
		status <- w.Code
	}()
	_, err := io.WriteString(more, " ") // once this is read, the request is in flight
	require.NoError(t, err)
	return func(rest string) int {
		_, err := io.WriteString(more, rest)
		require.NoError(t, err)
		require.NoError(t, more.Close())
		return <-status
	}
}

func (wiring Wiring) TestSignedWebhooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path, holders := accesstest.TokensFile(t, accesstest.EveryKind())
		const next = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
		for name, cfg := range map[string]config.Config{
			"with tokens":    {TokensFile: path, WebhookSecret: accesstest.Secret + ", " + next},
			"without tokens": {WebhookSecret: accesstest.Secret + "," + next},
		} {
			s := wiring.newGuardedServer(t, nil, cfg, nil)
			body := reportOf("a", "t", "running")
			send := func(secret, id string, at time.Time, body string, signature ...string) *httptest.ResponseRecorder {
				key, err := webhooks.NewWebhook(secret)
				require.NoError(t, err)
				signed, err := key.Sign(id, at, []byte(body))
				require.NoError(t, err)
				if len(signature) > 0 {
					signed = signature[0]
				}
				return s.do("POST", "/webhook/status", body, "webhook-id: "+id, fmt.Sprintf("webhook-timestamp: %d", at.Unix()), "webhook-signature: "+signed)
			}
			now := time.Now()
			require.Equal(t, 200, send(accesstest.Secret, "msg_1", now, body).Code, name)
			require.Equal(t, 200, send(next, "msg_1", now, body).Code, "both secrets are valid during a rotation")
			_, history, _ := s.store.Session("a", "t", nil, 100)
			require.Len(t, history.Items, 1, "the webhook ID serves as the report ID, so a retry changes nothing")
			require.Equal(t, 200, send(accesstest.Secret, "msg_2", now.Add(-299*time.Second), body).Code)
			require.Contains(t, send(accesstest.Secret, "msg_3", now.Add(-301*time.Second), body).Body.String(), "too old")
			require.Contains(t, send(accesstest.Secret, "msg_3", now.Add(301*time.Second), body).Body.String(), "too new")
			wrong := send("whsec_"+strings.Repeat("B", 40), "msg_3", now, body)
			require.Equal(t, 401, wrong.Code)
			require.Contains(t, wrong.Body.String(), "no matching signature")
			for _, signature := range []string{"v1,", "v2,xyz", "x", ",,,", "v1,AAAA v1,BBBB"} {
				require.Equal(t, 401, send(accesstest.Secret, "msg_3", now, body, signature).Code, signature)
			}
			bare := s.do("POST", "/webhook/status", body)
			require.Equal(t, 401, bare.Code, "neither signed nor with a token")
			wrongToken := s.do("POST", "/webhook/status", body, "Authorization: Bearer ka_wrong")
			require.Equal(t, 401, wrongToken.Code)
			if cfg.TokensFile == "" {
				for _, w := range []*httptest.ResponseRecorder{bare, wrongToken} {
					require.Contains(t, w.Body.String(), "this server accepts reports only as signed webhooks")
					require.NotContains(t, w.Body.String(), "token", "it has none")
				}
			}
			require.Equal(t, 401, s.do("POST", "/webhook/status", body, "webhook-signature: v1,x").Code)
			tooLarge := send(accesstest.Secret, "msg_4", now, strings.Repeat(" ", 9<<20))
			require.Equal(t, 413, tooLarge.Code)
			require.Contains(t, tooLarge.Body.String(), "a signed body must be at most 8 MiB")
			if cfg.TokensFile == "" {
				require.Equal(t, 200, s.do("GET", "/api/agents", "").Code, "the secret only protects webhooks")
				continue
			}
			require.Equal(t, 200, s.do("POST", "/webhook/status", body, holders["reports"].Header()...).Code)
			require.Equal(t, 401, s.do("GET", "/api/agents", "", "webhook-signature: v1,x").Code)
		}
	})
}

// TestSignatureCoversTheCompressedBody checks that a signature is over the body as it was sent, before decompression.
func (wiring Wiring) TestSignatureCoversTheCompressedBody(t *testing.T) {
	s := wiring.newGuardedServer(t, nil, config.Config{WebhookSecret: accesstest.Secret}, nil)
	key, err := webhooks.NewWebhook(accesstest.Secret)
	require.NoError(t, err)
	var stream bytes.Buffer
	compress := gzip.NewWriter(&stream)
	plain := `{"hook_event_name":"Stop","session_id":"t","cwd":"/a/b"` + strings.Repeat(" ", 20<<20) + "}"
	_, err = compress.Write([]byte(plain))
	require.NoError(t, err)
	require.NoError(t, compress.Close())
	for signed, want := range map[string]int{stream.String(): 200, plain: 401} {
		now := time.Now()
		signature, err := key.Sign("msg_1", now, []byte(signed))
		require.NoError(t, err)
		w := s.do("POST", "/webhook/codex", stream.String(), "Content-Encoding: gzip", "webhook-id: msg_1",
			fmt.Sprintf("webhook-timestamp: %d", now.Unix()), "webhook-signature: "+signature)
		require.Equal(t, want, w.Code, w.Body)
	}
	require.Len(t, s.sessions(t, ""), 1)
}

func (wiring Wiring) TestRemoval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := wiring.newTestServer(t, nil)
		stream := follow(t, s, "/api/events?types=removed")
		s.do("POST", "/webhook/status", reportOf("a/b", "t 1", "running")+reportOf("a/b", "t 2", "running"))
		require.Equal(t, 404, s.do("DELETE", "/api/agents/nobody", "").Code)
		require.JSONEq(t, `{"error":"not_found","message":"no such agent: it may have been removed already"}`, s.do("DELETE", "/api/agents/nobody", "").Body.String())
		require.Equal(t, 404, s.do("DELETE", "/api/agents/a%2Fb/sessions/none", "").Code)
		w := s.do("DELETE", "/api/agents/a%2Fb/sessions/t%201", "")
		require.Equal(t, 204, w.Code)
		require.Empty(t, w.Body.String())
		require.Equal(t, 404, s.do("GET", "/api/agents/a%2Fb/sessions/t%201", "").Code)
		w = s.do("DELETE", "/api/agents/a%2Fb/sessions/t%201", "")
		require.Equal(t, 404, w.Code)
		require.JSONEq(t, `{"error":"not_found","message":"no such session: it may have been removed already"}`, w.Body.String())
		require.Equal(t, 204, s.do("DELETE", "/api/agents/a%2Fb", "").Code)
		require.Zero(t, s.store.Summary())
		time.Sleep(time.Second)
		events := strings.Join(stream.events(), "")
		require.Regexp(t, `(?s)event: removed.*"t 1".*"agent_removed":false.*event: removed.*"t 2".*"agent_removed":true`, events)
		s.do("POST", "/webhook/status", reportOf("a/b", "t 1", "success"))
		require.Contains(t, s.do("GET", "/api/agents/a%2Fb", "").Body.String(), `"session_count":1`, "a later report creates the agent again")
		require.Equal(t, 405, s.do("PUT", "/api/agents/a%2Fb", "").Code)
		require.Equal(t, "GET, DELETE, HEAD", s.do("PUT", "/api/agents/a%2Fb", "").Header().Get("Allow"))
	})
}

// TestUnusualRequestsBypassNoTokens sends methods and paths in unusual forms without a token to every route that needs
// one, with and without a path prefix, and checks that none gets access. Forms that lead to the route must be asked for
// a token, and lead to it with one.
func (wiring Wiring) TestUnusualRequestsBypassNoTokens(t *testing.T) {
	path, holders := accesstest.TokensFile(t, map[string]access.Entry{"all": {Scopes: []string{"report", "read", "acknowledge", "admin"}}, "reads": {Scopes: []string{"read"}}})
	proxies := config.Prefixes{netip.MustParsePrefix("192.0.2.0/24")} // the address of httptest's requests
	for name, cfg := range map[string]config.Config{
		"at the root of a host":                 {TokensFile: path},
		"with webhook secrets":                  {TokensFile: path, WebhookSecret: accesstest.Secret},
		"under a prefix behind a trusted proxy": {TokensFile: path, TrustedProxies: proxies, PublicURL: publicURL(t, "https://hub.example.com/team")},
	} {
		t.Run(name, func(t *testing.T) {
			s := wiring.newGuardedServer(t, nil, cfg, nil)
			s.do("POST", "/webhook/status", reportOf("team/a", "t", "running"), holders["all"].Header()...)
			prefixes := []string{""}
			if cfg.PublicURL.URL != nil {
				prefixes = append(prefixes, "/team")
			}
			for _, route := range s.guardedRoutes(t) {
				for _, prefix := range prefixes {
					s.requireNoBypass(t, route, prefix, holders)
				}
			}
			_, known := s.store.Agent("stolen")
			require.False(t, known)
			require.Equal(t, 1, s.store.Summary().Agents)
		})
	}
}

// guardedRoutes returns the routes that need a token, each as a method and a path.
func (s *server) guardedRoutes(t *testing.T) (routes [][2]string) {
	t.Helper()
	public := regexp.MustCompile(`^/($|health|favicon\.svg|connect|icons|manifest\.webmanifest|sw\.js|sign-)`)
	replace := strings.NewReplacer("{agent_id}", "team%2Fa", "{session_topic}", "t", "{mute_id}", "none", "{device_id}", "none", "{client}", "codex", "*", "heap")
	require.NoError(t, chi.Walk(s.Handler.(chi.Routes), func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		if !public.MatchString(route) {
			routes = append(routes, [2]string{method, replace.Replace(route)})
		}
		return nil
	}))
	require.GreaterOrEqual(t, len(routes), 20)
	return routes
}

// requireNoBypass sends requests without a token, or with one in the wrong place, to a route in unusual forms.
func (s *server) requireNoBypass(t *testing.T, route [2]string, prefix string, holders map[string]accesstest.Holder) {
	t.Helper()
	method, p := route[0], route[1]
	send := func(method, target, header string) *httptest.ResponseRecorder {
		u, err := url.ParseRequestURI(target)
		require.NoError(t, err, target)
		r := httptest.NewRequest("GET", "/", strings.NewReader(reportOf("stolen", "t", "running")))
		r.Method, r.URL, r.RequestURI = method, u, target
		if name, value, ok := strings.Cut(header, ": "); ok {
			r.Header.Set(name, value)
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		return w
	}
	check := func(w *httptest.ResponseRecorder, request ...string) {
		t.Helper()
		require.GreaterOrEqual(t, w.Code, 300, "%q: %s", request, w.Body)
		require.NotContains(t, w.Body.String(), "team/a", "%q", request)
	}
	for _, same := range []string{p, "/" + p, p + "/", p + "//", strings.Replace(p, "/", "//", 2), p + "?x=y"} {
		w := send(method, prefix+same, "")
		check(w, method, prefix+same)
		require.Equal(t, 401, w.Code, "%s %s: %s", method, prefix+same, w.Body)
		if method == "GET" && p != "/api/events" && p != "/api/backup" { // which go on, or need a journal
			require.NotContains(t, []int{401, 403}, send(method, prefix+same, holders["all"].Header()[0]).Code, "%s %s", method, prefix+same)
		}
	}
	for _, trick := range []string{
		"/." + p, "/x/.." + p, strings.Replace(p, "/a", "/./a", 1), strings.ToUpper(p),
		"/%2e" + p, "/health/..%2f" + p, "/health/.." + p, "/favicon.svg/.." + p, p + "%00", p + ";x=1", p + "%3fx", "/%61pi" + strings.TrimPrefix(p, "/api"), p + "?access_token=" + holders["reads"].Token,
		"/health%2f.." + p, "//example.com" + p, p + "#x", "/team" + p, "/team/.." + p, "/team%2f.." + p, "/health" + p,
	} {
		for _, other := range []string{method, "GET", "HEAD", "POST", "DELETE", "get", "Get", "PROPFIND", "OPTIONS"} {
			check(send(other, prefix+trick, ""), other, prefix+trick)
		}
		for _, header := range []string{"X-HTTP-Method-Override: " + method, "X-HTTP-Method: DELETE", "X-Original-URL: " + p, "X-Rewrite-URL: " + p, "X-Forwarded-Prefix: /health", "X-Forwarded-Uri: " + p} {
			for _, other := range []string{method, "GET", "POST"} {
				check(send(other, prefix+trick, header), other, prefix+trick, header)
			}
		}
	}
}

// logBuffer collects the lines of a log. It is safe for concurrent use.
type logBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// TestNoSecretIsLogged sends secrets to every route in every possible way: in headers and cookies, as the values and the
// names of parameters, in paths and in bodies. Then it searches the log and the responses for them.
func (wiring Wiring) TestNoSecretIsLogged(t *testing.T) {
	path, holders := accesstest.TokensFile(t, accesstest.EveryKind())
	var log logBuffer
	logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s := wiring.newGuardedServer(t, nil, config.Config{TokensFile: path, WebhookSecret: accesstest.Secret, RateLimitReads: 10_000}, func(p *handlers.Options) {
		p.Logger, p.Access.Audit = logger, logger
	})
	signedIn := func() string { return strings.TrimPrefix(signIn(t, s, holders["reads"].Token), "kubeagents=") }
	unknown, _ := access.NewToken("unknown")
	secrets := []string{accesstest.Secret, strings.TrimPrefix(accesstest.Secret, "whsec_"), signedIn(), unknown}
	for _, h := range holders {
		secrets = append(secrets, h.Token)
	}
	var responses strings.Builder
	collect := func(w *httptest.ResponseRecorder) {
		for _, cookie := range w.Result().Cookies() { //nolint:bodyclose // the body is in memory
			require.Empty(t, cookie.Value, "only the form signs in")
		}
		fmt.Fprintln(&responses, w.Header())
		responses.Write(w.Body.Bytes())
	}
	cookies := 0
	require.NoError(t, chi.Walk(s.Handler.(chi.Routes), func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		target := strings.NewReplacer("{agent_id}", "a", "{session_topic}", "t", "{mute_id}", "none", "{device_id}", "none", "*", "heap").Replace(route)
		if route == "/api/events" {
			method = "HEAD"
		}
		secrets[2] = signedIn() // again, because /sign-out ends it
		if s.do("GET", "/api/summary", "", "Cookie: kubeagents="+secrets[2]).Code == 200 {
			cookies++
		}
		for _, secret := range secrets {
			for _, header := range []string{"Authorization: Bearer " + secret, "Authorization: Basic " + secret, "Authorization: " + secret, "Cookie: kubeagents=" + secret, "Cookie: __Host-kubeagents=" + secret,
				"webhook-signature: v1," + secret, "X-Nothing: x"} {
				for _, query := range []string{"", "?access_token=" + secret, "?limit=" + secret, "?%zz&access_token=" + secret, "?" + url.QueryEscape(secret), "?z=1&" + secret + "=1"} {
					collect(s.do(method, target+query, reportOf("a", "t", "running"), header))
				}
			}
			for _, body := range []string{secret, `{"` + secret + `":1}`, `{"agent_id":"a","session_topic":"t","status":"` + secret + `"}`, `{"agent_id":"a","session_topic":"t","status":"running","` + secret + `":1}`, "token=" + secret + "x"} {
				for _, name := range []string{"reports", "admin"} {
					collect(s.do(method, target, body, holders[name].Header()...))
				}
			}
			if secret != secrets[1] && secret != secrets[2] { // which are not recognized: an ID may look like them
				collect(s.do(method, "/"+url.PathEscape(secret), ""))
				collect(s.do(method, target+"/"+url.PathEscape("x "+secret), ""))
			}
		}
		require.NotContains(t, log.String(), secrets[2], route)
		require.NotContains(t, responses.String(), secrets[2], route)
		return nil
	}))
	require.Greater(t, cookies, 20, "the cookies were valid")
	for _, profile := range []string{"/debug/pprof/goroutine?debug=2", "/debug/pprof/heap?debug=1", "/debug/pprof/cmdline", "/metrics"} {
		for _, name := range []string{"admin", "reads"} {
			collect(s.do("GET", profile, "", holders[name].Header()...))
		}
	}
	s.do("POST", "/sign-in", url.Values{"token": {holders["reports"].Token}}.Encode(), "Content-Type: application/x-www-form-urlencoded")
	for _, secret := range secrets {
		require.NotContains(t, log.String(), secret)
		require.NotContains(t, responses.String(), secret)
	}
	require.Contains(t, log.String(), "outcome=refused")
	require.Contains(t, log.String(), "who=admin")
	require.Contains(t, responses.String(), "(hidden)")
}

// TestAudit checks that every sign-in, refusal and removal is in the audit log.
func (wiring Wiring) TestAudit(t *testing.T) {
	path, holders := accesstest.TokensFile(t, accesstest.EveryKind())
	var log logBuffer
	s := wiring.newGuardedServer(t, nil, config.Config{TokensFile: path}, func(p *handlers.Options) { p.Access.Audit = slog.New(slog.NewTextHandler(&log, nil)) })
	s.do("POST", "/webhook/status", reportOf("a", "t", "running"), holders["reports"].Header()...)
	s.do("GET", "/api/agents", "")
	s.do("GET", "/api/agents", "", holders["reports"].Header()...)
	signIn(t, s, holders["reads"].Token)
	s.do("DELETE", "/api/agents/a?_=secret", "", holders["admin"].Header()...)
	s.do("POST", "/webhook/status", reportOf("team/a", "t", "running")+reportOf("x", "t", "running"), holders["team"].Header()...)
	for _, want := range []string{
		`who=anonymous client=192.0.2.1:1234 what="GET /api/agents" outcome=refused status=401 detail="a token is required`,
		`who=reports client=192.0.2.1:1234 what="GET /api/agents" outcome=refused status=403 detail="the token lacks the scope read"`,
		`who=reads client=192.0.2.1:1234 what="POST /sign-in" outcome="signed in" status=303`,
		`who=admin client=192.0.2.1:1234 what="DELETE /api/agents/a" outcome=removed status=204 detail="1 sessions"`,
		`who=team client=192.0.2.1:1234 what="POST /webhook/status" outcome=refused status=207 detail="1 of 2 reports are for agents`,
	} {
		require.Contains(t, log.String(), want)
	}
	require.Len(t, strings.Split(strings.TrimSpace(log.String()), "\n"), 5)
}

func (wiring Wiring) TestSecurityHeaders(t *testing.T) {
	s := wiring.newTestServer(t, nil)
	for _, target := range []string{"/", "/health", "/api/agents", "/nothing", "/metrics", "/openapi.yaml", "/favicon.svg", "/sw.js", "/icons/192.png"} {
		header := s.do("GET", target, "").Header()
		require.Equal(t, "nosniff", header.Get("X-Content-Type-Options"), target)
		require.Equal(t, "no-referrer", header.Get("Referrer-Policy"), target)
		require.Equal(t, "DENY", header.Get("X-Frame-Options"), target)
		require.Contains(t, header.Get("Content-Security-Policy"), "frame-ancestors 'none'", target)
		require.Empty(t, header.Get("Strict-Transport-Security"), target)
	}
}

// TestSharedCachesStoreNothing sends a GET request to every route, as clients with and without access, and checks that
// the response forbids shared caches to store it. Only the icon, the app's files and the public scripts, which are the
// same for everyone, may be stored.
func (wiring Wiring) TestSharedCachesStoreNothing(t *testing.T) {
	path, holders := accesstest.TokensFile(t, accesstest.EveryKind())
	s := wiring.newGuardedServer(t, nil, config.Config{TokensFile: path, CORSAllowedOrigins: config.Origins{"https://app.example"}}, nil)
	for i := range 20 {
		s.do("POST", "/webhook/status", reportOf("team/a", fmt.Sprint("t", i), "running"), holders["reports"].Header()...)
	}
	cookie := "Cookie: " + signIn(t, s, holders["reads"].Token)
	asset := regexp.MustCompile(`/?assets/[^"]+`).FindString(s.do("GET", "/", "", cookie).Body.String())
	public := regexp.MustCompile(`connect/assets/[^"]+`).FindString(s.do("GET", "/connect", "", "Accept: text/html").Body.String())
	replace := strings.NewReplacer("{agent_id}", "team%2Fa", "{session_topic}", "t1", "{mute_id}", "none", "{device_id}", "none", "{name}", "192.png", "{client}", "codex", "/connect/assets/*", "/"+public, "/assets/*", "/"+strings.TrimPrefix(asset, "/"), "*", "heap")

	check := func(route string, w *httptest.ResponseRecorder) {
		t.Helper()
		control, vary := w.Header().Values("Cache-Control"), strings.Join(w.Header().Values("Vary"), ", ")
		require.Len(t, control, 1, route)
		if route == "/favicon.svg" {
			require.Equal(t, "public, max-age=86400", control[0])
			return
		}
		if route == "/sw.js" || route == "/manifest.webmanifest" || route == "/icons/{name}" {
			require.Equal(t, "no-cache", control[0], route)
			return
		}
		if route == "/connect/assets/*" {
			require.Equal(t, "public, max-age=31536000, immutable", control[0])
			return
		}
		require.Contains(t, vary, "Origin", route)
		if control[0] == "no-store" || w.Code >= 400 {
			require.Equal(t, "no-store", control[0], route)
			return
		}
		require.Contains(t, vary, "Authorization, Cookie", route)
		require.Regexp(t, "^private, (no-cache|.*immutable)$", control[0], route)
	}
	require.NoError(t, chi.Walk(s.Handler.(chi.Routes), func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		if method != "GET" {
			return nil
		}
		if route == "/api/events" {
			method = "HEAD"
		}
		for _, client := range [][]string{nil, holders["reads"].Header(), holders["admin"].Header(), {cookie}, {"Authorization: Bearer ka_wrong"}} {
			for _, header := range []string{"X-Nothing: x", "Accept-Encoding: gzip", "Origin: https://app.example", "Origin: https://evil.example", "If-None-Match: *"} {
				check(route, s.do(method, replace.Replace(route), "", append(client, header)...))
			}
		}
		check("/nowhere", s.do(method, "/nowhere", ""))
		return nil
	}))
	w := s.do("GET", "/api/sessions", "", cookie, "If-None-Match: *", "Accept-Encoding: gzip")
	require.Equal(t, 304, w.Code)
	require.Equal(t, []string{"Origin", "Authorization, Cookie", "Accept-Encoding"}, w.Header().Values("Vary"), "the same as in the full response")
	require.Equal(t, w.Header().Values("Vary"), s.do("GET", "/api/sessions", "", cookie, "Accept-Encoding: gzip").Header().Values("Vary"))
	require.Equal(t, "private, no-cache", w.Header().Get("Cache-Control"))
}

// TestEveryRouteChecksTheHost sends a request with a foreign host name to every route, as in a DNS rebinding attack.
// Every route must refuse it, except those for probes.
func (wiring Wiring) TestEveryRouteChecksTheHost(t *testing.T) {
	path, _ := accesstest.TokensFile(t, accesstest.EveryKind())
	open := wiring.newGuardedServer(t, nil, config.Config{}, nil)
	signed := wiring.newGuardedServer(t, nil, config.Config{WebhookSecret: accesstest.Secret}, nil)
	guarded := wiring.newGuardedServer(t, nil, config.Config{TokensFile: path}, nil)
	machine, err := os.Hostname()
	require.NoError(t, err)
	require.Contains(t, open.handlers.Access.Hosts.Names, strings.ToLower(machine))
	open.report(t, reportOf("a", "t", "running"))
	attack := func(s *server, method, route string) *httptest.ResponseRecorder {
		target := strings.NewReplacer("{agent_id}", "a", "{session_topic}", "t", "{mute_id}", "none", "{device_id}", "none", "{client}", "codex", "*", "x").Replace(route)
		return s.do(method, target, reportOf("stolen", "t", "running"), "Host: evil.example:8080", "Sec-Fetch-Site: same-origin", "Origin: http://evil.example:8080")
	}
	routes := [][2]string{{"GET", "/nowhere"}, {"PUT", "/api/agents"}}
	require.NoError(t, chi.Walk(open.Handler.(chi.Routes), func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		routes = append(routes, [2]string{method, route})
		return nil
	}))
	for _, route := range routes {
		for _, s := range []*server{open, signed} {
			w := attack(s, route[0], route[1])
			if strings.HasPrefix(route[1], "/health") {
				require.Equal(t, 200, w.Code, route)
				require.JSONEq(t, `{"status":"ok"}`, w.Body.String(), "only what a probe needs")
				continue
			}
			require.Equal(t, 421, w.Code, route)
			require.JSONEq(t, `{"error":"misdirected_request","message":"this server has no tokens, so it answers only under its own names, and \"evil.example:8080\" is not one of them: `+
				`set PUBLIC_URL to the address that people use, name its origin in CORS_ALLOWED_ORIGINS, or set TOKENS_FILE"}`, w.Body.String())
		}
		require.NotEqual(t, 421, attack(guarded, route[0], route[1]).Code, "with tokens, any host name is allowed")
	}
	require.Equal(t, 1, open.store.Summary().Agents)
	w := open.do("GET", "/api/agents", "", "Host: "+strings.Repeat("é\u202e", 1000)+".example")
	require.Equal(t, 421, w.Code)
	require.Contains(t, w.Body.String(), `\\u00e9\\u202e`, "the characters are escaped")
	require.Less(t, w.Body.Len(), 2000)
}
