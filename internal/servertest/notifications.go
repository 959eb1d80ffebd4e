package servertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/config"
	"github.com/kubeagents/kubeagents/handlers"
	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/internal/access/accesstest"
	"github.com/kubeagents/kubeagents/internal/devices"
	"github.com/kubeagents/kubeagents/internal/journal"
	"github.com/kubeagents/kubeagents/internal/metrics"
	"github.com/kubeagents/kubeagents/internal/notify"
	"github.com/kubeagents/kubeagents/store"
)

// phone is a sender whose destination is in the process of the test.
type phone struct {
	mu    sync.Mutex
	fault error    // of each attempt
	hangs bool     // attempts end with their context
	got   []string // agents, with "withdrawn" before those of withdrawals
}

// Send implements notify.Sender.
func (p *phone) Send(ctx context.Context, m *notify.Message) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hangs {
		<-ctx.Done()
		return "", ctx.Err()
	}
	if p.fault == nil && m.Session != nil {
		p.got = append(p.got, m.Session.AgentID)
	}
	return "", p.fault
}

// Withdraw implements notify.Sender.
func (p *phone) Withdraw(context.Context, *notify.Message) error { return nil }

func (p *phone) behave(fault error, hangs bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault, p.hangs = fault, hangs
}

// arrived returns the agents that messages were about since the last call.
func (p *phone) arrived() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	got := p.got
	p.got = nil
	return got
}

// tokensOfNotifications are the kinds of tokens that differ in what they may do with notifications.
var tokensOfNotifications = map[string]access.Entry{
	"reports":          {Scopes: []string{"report"}},
	"reads":            {Scopes: []string{"read"}},
	"acknowledges":     {Scopes: []string{"read", "acknowledge"}},
	"admin":            {Scopes: []string{"read", "admin"}},
	"team reads":       {Scopes: []string{"read"}, Agents: []string{"team/*"}},
	"team":             {Scopes: []string{"read", "acknowledge"}, Agents: []string{"team/*"}},
	"other team":       {Scopes: []string{"read", "acknowledge"}, Agents: []string{"other/*"}},
	"admin of a team":  {Scopes: []string{"read", "admin"}, Agents: []string{"team/*"}},
	"everything":       {Scopes: []string{"report", "read", "acknowledge", "admin"}},
	"acknowledge only": {Scopes: []string{"acknowledge"}},
}

// notifying is a server that notifies a phone of sessions that wait.
type notifying struct {
	*server
	holders map[string]accesstest.Holder
	phone   *phone
	log     *logBuffer
}

// newNotifyingServer returns a server with tokens or, if entries is nil, without. It must be called in a bubble of
// synctest. The sessions of team/a and other/b wait, and their notifications are sent after a minute; a device is
// notified of the same.
func (wiring Wiring) newNotifyingServer(t *testing.T, entries map[string]access.Entry) *notifying {
	t.Helper()
	s := &notifying{phone: &phone{}, log: &logBuffer{}}
	cfg := config.Config{}
	if entries != nil {
		cfg.TokensFile, s.holders = accesstest.TokensFile(t, entries)
	}
	s.server = wiring.newGuardedServer(t, nil, cfg, func(p *handlers.Options) {
		p.Devices = newDevices(t, p, nil, browsers{s.phone})
		p.HasRules, p.Access.Audit = true, slog.New(slog.NewTextHandler(s.log, nil))
	})
	limit := notify.Limit{Messages: 10, Per: time.Minute}
	steps := []notify.Step{{After: time.Minute, Settle: 10 * time.Second, To: []string{"phone"}}, {After: time.Hour, To: []string{"phone", "oncall"}}}
	for _, one := range s.servers() {
		one.handlers.Notifier.SetConfig(&notify.Config{
			Destinations: map[string]*notify.Destination{
				"phone":  {Name: "phone", Kind: "ntfy", Sender: s.phone, Limit: limit},
				"oncall": {Name: "oncall", Kind: "webhook", Sender: &phone{}},
			},
			Rules: []notify.Rule{
				{Name: "needs-me", Changes: []notify.Change{notify.Waits, notify.Lost}, Steps: steps, Every: 30 * time.Minute, Until: 4 * time.Hour,
					Quiet: &notify.Quiet{From: 3 * time.Hour, To: 4*time.Hour + 30*time.Minute, Zone: time.UTC}},
				{Name: "nights", Changes: []notify.Change{notify.Failed}, Agents: []string{"secret/*"}, Steps: steps[:1], Text: notify.NoText, AtKeyboard: true},
			},
		})
		one.handlers.Notifier.AddDevice(&notify.Device{ID: "d1", Owner: "ada", Sender: &phone{}, Follows: []string{"needs-me"}, Added: time.Now()})
	}
	if s.trio != nil {
		s.trio.reader = func() []string { return s.as("everything") }
	} else {
		ctx, cancel := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() { s.handlers.Notifier.Run(ctx) })
		t.Cleanup(func() {
			cancel()
			running.Wait()
		})
	}
	time.Sleep(time.Second)
	s.reports(reportOf("team/a", "t", "pending"), reportOf("other/b", "t", "pending"))
	return s
}

// reports sends reports, and waits until the notifier has seen them.
func (s *notifying) reports(reports ...string) {
	s.do("POST", "/webhook/status", strings.Join(reports, "\n"), s.as("everything")...)
	time.Sleep(time.Second)
}

// as returns the header of a client: the name of a token or, after "signed in: ", of one that somebody signed in with.
func (s *notifying) as(client string) []string {
	name, signedIn := strings.CutPrefix(client, "signed in: ")
	if !signedIn {
		return s.holders[name].Header()
	}
	w := s.do("POST", "/sign-in", "token="+s.holders[name].Token, "Content-Type: application/x-www-form-urlencoded")
	cookie, _, _ := strings.Cut(w.Header().Get("Set-Cookie"), ";")
	return []string{"Cookie: " + cookie, "Sec-Fetch-Site: same-origin"}
}

// mute adds a mute and returns its ID.
func (s *notifying) mute(t *testing.T, body, client string) string {
	t.Helper()
	w := s.do("POST", "/api/notifications/mutes", body, s.as(client)...)
	require.Equal(t, 200, w.Code, w.Body)
	return idOf(t, w)
}

func idOf(t *testing.T, w *httptest.ResponseRecorder) string {
	t.Helper()
	var m struct{ ID string }
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &m))
	return m.ID
}

// mutesOf returns the agents of the mutes that a client sees, sorted: "rule" and its name for a rule, "*" for everything.
// Those that it may remove end with "!".
func (s *notifying) mutesOf(t *testing.T, client string) []string {
	t.Helper()
	shown := []string{}
	for _, target := range []string{"/api/notifications", "/api/notifications/mutes"} {
		var list struct {
			Mutes []struct {
				Agent     string `json:"agent_id"`
				Rule      string
				Removable bool
			}
		}
		w := s.do("GET", target, "", s.as(client)...)
		require.Equal(t, 200, w.Code, w.Body)
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &list))
		before := shown
		shown = []string{}
		for _, m := range list.Mutes {
			name := m.Agent
			switch {
			case m.Rule != "":
				name = "rule " + m.Rule
			case m.Agent == "":
				name = "*"
			}
			if m.Removable {
				name += "!"
			}
			shown = append(shown, name)
		}
		slices.Sort(shown)
		if target != "/api/notifications" {
			require.Equal(t, before, shown, "both routes show the same")
		}
	}
	return shown
}

// TestWhoSeesNotifications reads the notifications with every kind of token. What is about other teams is never in a
// response, nor are devices.
func (wiring Wiring) TestWhoSeesNotifications(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := wiring.newNotifyingServer(t, tokensOfNotifications)
		check := func(pending, recent bool) {
			t.Helper()
			for client, want := range map[string]struct {
				agents  []string
				manages bool
			}{
				"reads":                      {[]string{"other/b", "team/a"}, false},
				"acknowledges":               {[]string{"other/b", "team/a"}, false},
				"admin":                      {[]string{"other/b", "team/a"}, true},
				"everything":                 {[]string{"other/b", "team/a"}, true},
				"team":                       {[]string{"team/a"}, false},
				"team reads":                 {[]string{"team/a"}, false},
				"admin of a team":            {[]string{"team/a"}, false},
				"other team":                 {[]string{"other/b"}, false},
				"signed in: admin":           {[]string{"other/b", "team/a"}, true},
				"signed in: acknowledges":    {[]string{"other/b", "team/a"}, false},
				"signed in: admin of a team": {[]string{"team/a"}, false},
				"signed in: team":            {[]string{"team/a"}, false},
			} {
				w := s.do("GET", "/api/notifications", "", s.as(client)...)
				require.Equal(t, 200, w.Code, w.Body)
				text := w.Body.String()
				for _, agent := range []string{"team/a", "other/b"} {
					require.Equal(t, slices.Contains(want.agents, agent), strings.Contains(text, agent), "%s: %s", client, text)
				}
				require.Contains(t, text, fmt.Sprintf(`"rules_file":true,"manages":%t,`, want.manages))
				for _, name := range []string{`"phone"`, "needs-me", "secret/", "oncall", "it is away"} {
					seen := strings.Contains(text, name)
					require.Equal(t, want.manages && (name != "it is away" || recent), seen, "%s: %s: %s", client, name, text)
				}
				require.NotContains(t, text, "device:", client)
				require.NotContains(t, text, "d1", client)
				require.Equal(t, pending || recent, strings.Contains(text, `"destination":"a device","kind":"device"`), "%s: %s", client, text)
				count := fmt.Sprintf(`"planned":%d,"to_send":0`, 3*len(want.agents))
				require.Equal(t, pending, strings.Contains(text, count), "%s: %s: %s", client, count, text)
			}
			require.Equal(t, 403, s.do("GET", "/api/notifications", "", s.as("reports")...).Code)
			require.Equal(t, 403, s.do("GET", "/api/notifications", "", s.as("acknowledge only")...).Code)
			require.Equal(t, 401, s.do("GET", "/api/notifications", "").Code)
		}
		check(true, false)
		s.phone.behave(fmt.Errorf("it is away: %w", notify.ErrRefused), false)
		time.Sleep(2 * time.Minute)
		check(false, true)
	})
}

// TestNotificationsInFull reads everything that there is to see, and checks the ETag.
func (wiring Wiring) TestNotificationsInFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := wiring.newNotifyingServer(t, nil)
		c := wiring.newContract(t)
		get := func() (text, etag string) {
			t.Helper()
			for _, target := range []string{"/api/notifications/mutes", "/api/notifications"} {
				r := httptest.NewRequest("GET", target, nil)
				w := httptest.NewRecorder()
				s.ServeHTTP(w, r)
				require.Equal(t, 200, w.Code, w.Body)
				c.check(t, target, r, w)
				text, etag = w.Body.String(), w.Header().Get("ETag")
			}
			return text, etag
		}
		started := time.Now().Add(-time.Second).UTC()
		text, etag := get()
		require.Contains(t, text, `"rules":[{"name":"needs-me","description":["notifies phone of: waits (after 1m), lost (after 1m)","notifies phone and oncall of: waits (after 1h), lost (after 1h)",`)
		require.Contains(t, text, `"on":["waits","lost"],"steps":[{"after_seconds":{"`)
		require.Contains(t, text, `"every_seconds":1800,"until_seconds":14400,"quiet":{"from":"03:00","to":"04:30","zone":"UTC","do":"hold"},"text":"full","follow_up":false,"at_keyboard":"hold"}`)
		require.Contains(t, text, `"agents":["secret/*"]`)
		require.Contains(t, text, `"text":"nothing","follow_up":false,"at_keyboard":"send"}`)
		require.Contains(t, text, `"destinations":[{"name":"oncall","kind":"webhook","failing":false,"to_send":0},{"name":"phone","kind":"ntfy","failing":false,"to_send":0,"at_most":{"messages":10,"per_seconds":60}}]`)
		require.Contains(t, text, `{"agent_id":"team/a","session_topic":"t","destination":"phone","kind":"ntfy","rule":"needs-me","change":"waits","due":"`+started.Add(time.Minute).Format(time.RFC3339))
		time.Sleep(10 * time.Second)
		_, again := get()
		require.Equal(t, etag, again, "nothing changed")
		require.Equal(t, 304, s.do("GET", "/api/notifications", "", "If-None-Match: "+etag).Code)

		rule := s.mute(t, `{"rule":"nights","minutes":10}`, "")
		text, again = get()
		require.NotEqual(t, etag, again)
		require.Contains(t, text, `"at_keyboard":"send","muted_until":"`)
		agent := s.mute(t, `{"agent_id":"team/a","minutes":2}`, "")
		s.phone.behave(errors.New("it is away"), false)
		time.Sleep(time.Minute)
		text, _ = get()
		require.Contains(t, text, `"failing":true,"to_send":1,"at_most"`)
		require.Contains(t, text, `"last_error":"it is away","last_failed":"`)
		require.Regexp(t, `"agent_id":"team/a","session_topic":"t","destination":"phone",[^}]*"held":"muted"}`, text)
		require.Regexp(t, `"agent_id":"other/b","session_topic":"t","destination":"phone",[^}]*"attempts":[1-9]`, text)
		require.Regexp(t, `"to_send":1,"oldest":"`, text)
		s.phone.behave(nil, false)
		time.Sleep(5 * time.Minute)
		text, _ = get()
		require.Regexp(t, `"recent":\[.*"agent_id":"team/a","session_topic":"t","destination":"phone","kind":"ntfy","rule":"needs-me","id":"ntf_[^"]*","at":"[^"]*","change":"waits","result":"sent"`, text)
		require.Contains(t, text, `"last_delivered":"`)
		require.Equal(t, 404, s.do("DELETE", "/api/notifications/mutes/"+agent, "").Code, "it has ended")
		require.Equal(t, 204, s.do("DELETE", "/api/notifications/mutes/"+rule, "").Code)
		text, _ = get()
		require.Contains(t, text, `"mutes":[]`)
	})
}

// TestWhoMayMute mutes and unmutes own and other agents, a rule and everything with every kind of token.
func (wiring Wiring) TestWhoMayMute(t *testing.T) {
	targets := []string{`{"agent_id":"team/a","minutes":5}`, `{"agent_id":"other/b","minutes":5}`, `{"rule":"nights","minutes":5}`, `{"minutes":5}`}
	synctest.Test(t, func(t *testing.T) {
		s := wiring.newNotifyingServer(t, tokensOfNotifications)
		for client, want := range map[string][]int{
			"":                 {401, 401, 401, 401},
			"reports":          {403, 403, 403, 403},
			"reads":            {403, 403, 403, 403},
			"team reads":       {403, 403, 403, 403},
			"admin of a team":  {403, 403, 403, 403},
			"signed in: reads": {403, 403, 403, 403},
			"team":             {200, 404, 403, 403},
			"signed in: team":  {200, 404, 403, 403},
			"acknowledges":     {200, 200, 403, 403},
			"acknowledge only": {200, 200, 403, 403},
			"admin":            {200, 200, 200, 200},
			"everything":       {200, 200, 200, 200},
			"signed in: admin": {200, 200, 200, 200},
		} {
			for i, target := range targets {
				w := s.do("POST", "/api/notifications/mutes", target, s.as(client)...)
				require.Equal(t, want[i], w.Code, "%s: %s: %s", client, target, w.Body)
				// Removing someone else's needs the same right as adding one.
				theirs := s.mute(t, target, "everything")
				removed := s.do("DELETE", "/api/notifications/mutes/"+theirs, "", s.as(client)...)
				wanted := map[int]int{200: 204}[want[i]]
				if wanted == 0 {
					wanted = want[i]
				}
				if want[i] == 403 && want[0] == 200 && i == 2 {
					wanted = 404 // it does not see mutes of rules
				}
				require.Equal(t, wanted, removed.Code, "%s: %s: %s", client, target, removed.Body)
				for _, left := range s.handlers.Notifier.Mutes() {
					_, err := s.handlers.Notifier.Unmute(left.ID)
					require.NoError(t, err)
				}
			}
			if client != "" && want[0] != 401 {
				cross := append(s.as(client), "Sec-Fetch-Site: cross-site")
				require.Equal(t, 403, s.do("POST", "/api/notifications/mutes", targets[0], cross...).Code, "a page of another origin")
			}
		}
	})
}

// TestWhoSeesMutes checks which mutes each client sees, and which it may remove. One's own can always be removed.
func (wiring Wiring) TestWhoSeesMutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := wiring.newNotifyingServer(t, tokensOfNotifications)
		s.mute(t, `{"agent_id":"team/a","minutes":5}`, "acknowledges")
		s.mute(t, `{"agent_id":"other/b","minutes":5}`, "other team")
		s.mute(t, `{"rule":"nights","minutes":5}`, "admin")
		s.mute(t, `{"minutes":5}`, "signed in: admin")
		for client, want := range map[string][]string{
			"reads":            {"*", "other/b", "team/a"},
			"acknowledges":     {"*", "other/b!", "team/a!"},
			"team":             {"*", "team/a!"},
			"team reads":       {"*", "team/a"},
			"other team":       {"*", "other/b!"},
			"admin":            {"*!", "other/b!", "rule nights!", "team/a!"},
			"signed in: admin": {"*!", "other/b!", "rule nights!", "team/a!"},
			"admin of a team":  {"*", "team/a"},
		} {
			require.Equal(t, want, s.mutesOf(t, client), client)
		}
		// A token that no longer covers the agent.
		m, err := s.handlers.Notifier.Mute(notify.Mute{Agent: "team/a", Until: time.Now().Add(time.Hour), By: "other team"})
		require.NoError(t, err)
		require.Equal(t, 204, s.do("DELETE", "/api/notifications/mutes/"+m.ID, "", s.as("other team")...).Code)
		require.Equal(t, []string{"*", "other/b!"}, s.mutesOf(t, "other team"))
	})
}

// TestMuting checks the times of mutes, what they hold back, the limits of their number, and what the log says.
func (wiring Wiring) TestMuting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := wiring.newNotifyingServer(t, tokensOfNotifications)
		at := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(time.RFC3339) }
		for body, want := range map[string]string{
			``:              "minutes or until is required, and not both",
			`[]`:            "the body must be a JSON object with minutes or until",
			`{"minuets":5}`: "the body must be",
			`{}`:            "minutes or until is required, and not both",
			`{"minutes":5,"until":"` + at(time.Hour) + `"}`: "minutes or until is required, and not both",
			`{"minutes":-1}`:                                      "minutes must be 1 to 43200",
			`{"minutes":43201}`:                                   "minutes must be 1 to 43200",
			`{"until":"tomorrow"}`:                                "the body must be",
			`{"until":"` + at(-time.Second) + `"}`:                "until must be in the future, and at most 30 days from now",
			`{"until":"` + at(30*24*time.Hour+time.Minute) + `"}`: "until must be in the future, and at most 30 days from now",
			`{"minutes":5,"agent_id":"team/a","rule":"nights"}`:   "rule must not be set together with agent_id",
			`{"minutes":5,"agent_id":"nobody"}`:                   "no such agent",
			`{"minutes":5,"rule":"night"}`:                        "no such rule: the rules are needs-me, nights",
		} {
			w := s.do("POST", "/api/notifications/mutes", body, s.as("everything")...)
			require.Contains(t, []int{400, 404}, w.Code, body)
			require.Contains(t, w.Body.String(), want, body)
		}
		require.Equal(t, 413, s.do("POST", "/api/notifications/mutes", strings.Repeat(" ", 9<<10), s.as("everything")...).Code)
		w := s.do("POST", "/api/notifications/mutes", `{"minutes":5,"rule":"guess"}`, s.as("team")...)
		require.Equal(t, 403, w.Code)
		require.NotContains(t, w.Body.String(), "nights", "the names of rules are for those who manage them")

		// A second mute of the same takes the place of the first.
		s.mute(t, `{"agent_id":"team/a","minutes":60}`, "team")
		s.mute(t, `{"agent_id":"team/a","until":"`+at(5*time.Minute)+`"}`, "team")
		require.Equal(t, []string{"team/a!"}, s.mutesOf(t, "team"))
		time.Sleep(2 * time.Minute)
		require.Equal(t, []string{"other/b"}, s.phone.arrived())
		time.Sleep(4 * time.Minute)
		require.Equal(t, []string{"team/a"}, s.phone.arrived(), "it still waits when the mute ends")
		require.Empty(t, s.mutesOf(t, "team"))

		for _, line := range []string{
			`who=team client=192.0.2.1:1234 what="POST /api/notifications/mutes" outcome=muted status=200 detail="agent \"team/a\" until 20`,
			`who=team client=192.0.2.1:1234 what="POST /api/notifications/mutes" outcome=refused status=403 detail="muting a rule or everything needs`,
		} {
			require.Contains(t, s.log.String(), line)
		}
		id := s.mute(t, `{"minutes":5}`, "admin")
		require.Equal(t, 204, s.do("DELETE", "/api/notifications/mutes/"+id, "", s.as("admin")...).Code)
		require.Contains(t, s.log.String(), `outcome=muted status=200 detail="everything until `)
		require.Contains(t, s.log.String(), `what="DELETE /api/notifications/mutes/`+id+`" outcome=unmuted status=204 detail=everything`)

		// A token may have a hundred mutes, and all tokens together a thousand.
		for i := range 100 {
			agent := fmt.Sprint("team/", i)
			s.do("POST", "/webhook/status", reportOf(agent, "t", "running"), s.as("everything")...)
			s.mute(t, fmt.Sprintf(`{"agent_id":%q,"minutes":5}`, agent), "team")
		}
		w = s.do("POST", "/api/notifications/mutes", `{"agent_id":"team/a","minutes":5}`, s.as("team")...)
		require.Equal(t, 409, w.Code)
		require.Contains(t, w.Body.String(), "this token has 100 mutes already: remove one first")
		s.mute(t, `{"agent_id":"team/7","minutes":6}`, "team")
		for i := range 900 {
			_, err := s.handlers.Notifier.Mute(notify.Mute{Agent: "team/a", Until: time.Now().Add(time.Hour), By: fmt.Sprint(i)})
			require.NoError(t, err)
		}
		w = s.do("POST", "/api/notifications/mutes", `{"agent_id":"team/a","minutes":5}`, s.as("everything")...)
		require.Equal(t, 409, w.Code)
		require.Contains(t, w.Body.String(), "there are too many mutes: remove one first")
	})
}

// TestTestMessages sends test messages, of which there may be only some in a time, to destinations that work, fail and
// hang.
func (wiring Wiring) TestTestMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := wiring.newNotifyingServer(t, tokensOfNotifications)
		s.unspread() // each server has a limit of its own, and knows only its own failures
		test := func(client, body string) *httptest.ResponseRecorder {
			return s.do("POST", "/api/notifications/test", body, s.as(client)...)
		}
		const toPhone = `{"destination":"phone"}`
		for client, want := range map[string]int{"": 401, "reports": 403, "reads": 403, "acknowledges": 403, "team": 403, "admin of a team": 403, "signed in: acknowledges": 403} {
			require.Equal(t, want, test(client, toPhone).Code, client)
		}
		require.Equal(t, 403, s.do("POST", "/api/notifications/test", toPhone, append(s.as("signed in: admin"), "Sec-Fetch-Site: cross-site")...).Code)
		require.Empty(t, s.phone.arrived())
		for body, want := range map[string]string{
			``:                            "destination is required",
			`[]`:                          "the body must be a JSON object with destination",
			`{}`:                          "destination is required",
			`{"destination":"phon"}`:      "no such destination: the destinations are oncall, phone",
			`{"destination":"device:d1"}`: "no such destination: the destinations are oncall, phone",
		} {
			require.Contains(t, test("admin", body).Body.String(), want, body)
		}

		w := test("admin", toPhone)
		require.Equal(t, 200, w.Code, w.Body)
		require.JSONEq(t, `{"delivered":true}`, w.Body.String())
		require.Equal(t, []string{"kubeagents"}, s.phone.arrived())
		require.Equal(t, 200, test("signed in: admin", `{"destination":"oncall"}`).Code)
		s.phone.behave(errors.New("the topic is closed"), false)
		w = test("admin", toPhone)
		require.Equal(t, 502, w.Code)
		require.JSONEq(t, `{"error":"bad_gateway","message":"the topic is closed"}`, w.Body.String())
		require.Contains(t, s.do("GET", "/api/notifications", "", s.as("admin")...).Body.String(), `"last_error":"the topic is closed"`)
		s.phone.behave(nil, true)
		w = test("admin", toPhone)
		require.Equal(t, 502, w.Code)
		require.Contains(t, w.Body.String(), "the destination did not answer within 20 seconds")
		s.phone.behave(nil, false)

		codes := map[int]int{}
		for range 7 {
			w = test("admin", toPhone)
			codes[w.Code]++
		}
		require.Equal(t, map[int]int{200: 3, 429: 4}, codes, "two more after the twenty seconds, and the one that was left")
		require.Equal(t, "10", w.Header().Get("Retry-After"))
		time.Sleep(10 * time.Second)
		require.Equal(t, 200, test("admin", toPhone).Code)
		require.Equal(t, 429, test("admin", toPhone).Code)
		require.Contains(t, s.log.String(), `who=admin client=192.0.2.1:1234 what="POST /api/notifications/test" outcome=tested status=502 detail="destination phone"`)
		require.Contains(t, s.log.String(), `outcome=tested status=200 detail="destination oncall"`)
	})
}

// TestNotificationsWithoutRules reads, mutes and tests on a server without tokens and rules.
func (wiring Wiring) TestNotificationsWithoutRules(t *testing.T) {
	s := wiring.newTestServer(t, nil)
	require.JSONEq(t, `{"rules_file":false,"manages":true,"rules":[],"destinations":[],"pending":[],"planned":0,"to_send":0,"recent":[],"mutes":[]}`,
		s.do("GET", "/api/notifications", "").Body.String())
	w := s.do("POST", "/api/notifications/test", `{"destination":"phone"}`)
	require.Equal(t, http.StatusNotFound, w.Code)
	require.Contains(t, w.Body.String(), "no such destination: there are no destinations")
	require.Equal(t, 403, s.do("POST", "/api/notifications/mutes", `{"minutes":5}`, "Sec-Fetch-Site: cross-site").Code)
	require.Equal(t, 200, s.do("POST", "/api/notifications/mutes", `{"minutes":5}`).Code)
	require.Len(t, s.handlers.Notifier.Mutes(), 1)
}

// TestNotificationsOnThree runs the tests of routes about notifications, and of acknowledging, with three servers.
func (wiring Wiring) TestNotificationsOnThree(t *testing.T) {
	for name, test := range map[string]func(Wiring, *testing.T){
		"WhoSeesNotifications": Wiring.TestWhoSeesNotifications,
		"NotificationsInFull":  Wiring.TestNotificationsInFull,
		"WhoMayMute":           Wiring.TestWhoMayMute,
		"WhoSeesMutes":         Wiring.TestWhoSeesMutes,
		"Muting":               Wiring.TestMuting,
		"TestMessages":         Wiring.TestTestMessages,
		"DevicesOfOthers":      Wiring.TestDevicesOfOthers,
		"AcknowledgeAsSeen":    Wiring.TestAcknowledgeAsSeen,
	} {
		t.Run(name, func(t *testing.T) { test(wiring.onThree(), t) })
	}
}

// checkNotifications checks responses about mutes and of destinations against the contract.
func (c *contract) checkNotifications(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := c.wiring.newNotifyingServer(t, nil)
		send := func(method, route, target, body string, status int) *httptest.ResponseRecorder {
			t.Helper()
			r := httptest.NewRequest(method, target, strings.NewReader(body))
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			require.Equal(t, status, w.Code, w.Body)
			c.check(t, route, r, w)
			return w
		}
		const mutes, mute, test, toPhone = "/api/notifications/mutes", "/api/notifications/mutes/{mute_id}", "/api/notifications/test", `{"destination":"phone"}`
		id := idOf(t, send("POST", mutes, mutes, `{"rule":"nights","minutes":5}`, 200))
		send("DELETE", mute, mutes+"/"+id, "", 204)
		for range 1000 {
			_, err := s.handlers.Notifier.Mute(notify.Mute{Until: time.Now().Add(time.Hour)})
			require.NoError(t, err)
		}
		send("POST", mutes, mutes, `{"minutes":5}`, 409)
		send("POST", test, test, toPhone, 200)
		s.phone.behave(errors.New("away"), false)
		send("POST", test, test, toPhone, 502)
	})
}

// TestNotificationsOfAStandby asks a server of a cluster while another one sends. The clock of the cluster is some minutes
// behind that of the machine.
func (wiring Wiring) TestNotificationsOfAStandby(t *testing.T) {
	now := func() time.Time { return time.Now().Add(-5 * time.Minute) }
	tested := &phone{}
	s := wiring.newGuardedServer(t, nil, config.Config{}, func(p *handlers.Options) {
		f := newFakeCluster()
		f.ahead = -5 * time.Minute
		p.Cluster = f
		p.Notifier = notify.New(notify.Options{
			Store: p.Store, Metrics: metrics.New(p.Store, "test"), Logger: p.Logger, Now: now, Link: func(store.SessionKey) string { return "" },
			Cluster: &notify.Cluster{Sender: func() string { return "hub-2" }},
		})
		p.Notifier.Box = boxOf{p.Notifier}
		p.Notifier.SetConfig(&notify.Config{
			Rules:        []notify.Rule{{Name: "mine", Changes: []notify.Change{notify.Waits}, Steps: []notify.Step{{To: []string{"phone"}}}}},
			Destinations: map[string]*notify.Destination{"phone": {Name: "phone", Kind: "ntfy", Sender: tested}},
		})
		p.Devices = devices.New(devices.Options{Notifier: p.Notifier, Push: keyless{}, Replicated: true, Logger: p.Logger,
			Grant: func(token string) (*access.Grant, bool) { return nil, token == "" }})
	})
	s.handlers.SetReady()
	c := wiring.newContract(t)
	r := httptest.NewRequest("GET", "/api/notifications", nil)
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	c.check(t, "/api/notifications", r, w)
	require.Contains(t, w.Body.String(), `"rules":[{"name":"mine"`)
	require.Contains(t, w.Body.String(), `"destinations":[{"name":"phone","kind":"ntfy"`)
	require.Contains(t, w.Body.String(), `"standby":true,"sender":"hub-2"`)
	require.Equal(t, 200, s.do("POST", "/api/notifications/test", `{"destination":"phone"}`, "Content-Type: application/json").Code, "any server sends tests")

	w = s.do("POST", "/api/notifications/mutes", `{"rule":"mine","minutes":10}`, "Content-Type: application/json")
	require.Equal(t, 200, w.Code, w.Body)
	mutes := s.handlers.Notifier.Mutes()
	require.Len(t, mutes, 1)
	require.WithinDuration(t, now().Add(10*time.Minute), mutes[0].Until, time.Minute)
	require.Contains(t, s.do("GET", allDevices, "").Body.String(), `"off":"try again`)
}

// keyless pushes to browsers, and has no keys yet.
type keyless struct{ browsers }

func (keyless) PublicKey() string { return "" }

// boxOf is the box of a cluster of one server.
type boxOf struct{ n *notify.Notifier }

func (b boxOf) WriteNotes(notes []journal.Note) error {
	b.n.Applied(notes)
	return nil
}

func (boxOf) Notes() ([]journal.Note, error) { return nil, nil }
