package servertest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/config"
	"github.com/kubeagents/kubeagents/handlers"
	"github.com/kubeagents/kubeagents/internal/access"
	"github.com/kubeagents/kubeagents/internal/cluster"
	"github.com/kubeagents/kubeagents/internal/devices"
	"github.com/kubeagents/kubeagents/internal/notify"
	"github.com/kubeagents/kubeagents/internal/push"
	"github.com/kubeagents/kubeagents/models"
)

// browsers pushes to browsers in the process of the test. Those whose endpoints contain "away" can't be reached.
type browsers struct{ sender *phone }

func (browsers) PublicKey() string               { return "public key" }
func (browsers) Check(s push.Subscription) error { return s.Check(false) }
func (b browsers) Sender(s push.Subscription) notify.Sender {
	if strings.Contains(s.Endpoint, "away") {
		return &phone{fault: errors.New("push.example.com: it does not answer in time")}
	}
	return b.sender
}

// newDevices returns the devices of a server with these parts. box is where they are kept, nil for memory only.
func newDevices(t testing.TB, p *handlers.Options, box notify.Box, pusher devices.Pusher) *devices.Registry {
	t.Helper()
	o := devices.Options{Notifier: p.Notifier, Push: pusher, Reason: "set DATA_DIR", Box: box, Logger: p.Logger, Grant: func(token string) (*access.Grant, bool) {
		if p.Access.Tokens == nil {
			return nil, token == ""
		}
		grant := p.Access.Tokens.Known(token)
		return grant, grant != nil
	}}
	if member, ok := p.Cluster.(*cluster.Member); ok {
		o.Box, o.Now, o.Replicated = member.Box(), member.Now, true
		return devices.New(o)
	}
	registry, err := devices.Open(o)
	require.NoError(t, err)
	return registry
}

// subscription returns the body of a request to add a device. more begins with a comma, or is "".
func subscription(endpoint, more string) string {
	return fmt.Sprintf(`{"subscription":{"endpoint":"https://push.example.com/%s","expirationTime":null,"keys":{`+
		`"p256dh":"BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4","auth":"BTBZMqHH6r4Tts7J_aSIgg"}}%s}`, endpoint, more)
}

const allDevices = "/api/notifications/devices"

// checkDevices checks responses about devices and presence against the contract.
func (c *contract) checkDevices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		off := false
		var s *server
		send := func(method, route, target, body string, status int) *httptest.ResponseRecorder {
			t.Helper()
			r := httptest.NewRequest(method, target, strings.NewReader(body))
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			require.Equal(t, status, w.Code, w.Body)
			c.check(t, route, r, w)
			return w
		}
		const one, test, presence = allDevices + "/{device_id}", allDevices + "/{device_id}/test", "/api/presence"
		open := func() {
			s = c.wiring.newGuardedServer(t, nil, config.Config{}, func(p *handlers.Options) {
				if off {
					p.Devices = newDevices(t, p, nil, nil)
				}
			})
		}
		open()
		send("GET", allDevices, allDevices+"?limit=1", "", 400)
		id := idOf(t, send("POST", allDevices, allDevices, subscription("a", `,"name":"Chrome","agent_ids":["a"],"on":["waits"],"text":"title"`), 201))
		send("POST", allDevices, allDevices, subscription("b", `,"renews":"https://push.example.com/none"`), 404)
		send("POST", allDevices, allDevices, subscription("b", `,"renews":"https://push.example.com/a"`), 201)
		send("POST", allDevices, allDevices, `{}`, 400)
		send("POST", allDevices, allDevices, strings.Repeat(" ", 65<<10), 413)
		require.Contains(t, send("GET", allDevices, allDevices, "", 200).Body.String(), `"name":"Chrome"`)
		send("POST", test, allDevices+"/"+id+"/test", "", 200)
		send("POST", test, allDevices+"/none/test", "", 404)
		send("POST", test, allDevices+"/none/test?x", "", 400)
		away := idOf(t, send("POST", allDevices, allDevices, subscription("away", ""), 201))
		send("POST", test, allDevices+"/"+away+"/test", "", 502)
		for range 5 {
			s.do("POST", allDevices+"/"+id+"/test", "")
		}
		send("POST", test, allDevices+"/"+id+"/test", "", 429)
		send("DELETE", one, allDevices+"/"+id+"?x", "", 400)
		send("DELETE", one, allDevices+"/"+id, "", 204)
		send("DELETE", one, allDevices+"/"+id, "", 404)
		for i := range 20 {
			s.do("POST", allDevices, subscription(fmt.Sprint(i), ""))
		}
		send("POST", allDevices, allDevices, subscription("more", ""), 409)
		send("POST", presence, presence, `{"page":"p","agent_id":"a","session_topic":"t"}`, 204)
		send("POST", presence, presence, `{"page":"p","left":true}`, 204)
		send("POST", presence, presence, `{}`, 400)
		send("POST", presence, presence, strings.Repeat(" ", 9<<10), 413)
		off = true
		open()
		require.JSONEq(t, `{"off":"set DATA_DIR","devices":[],"rules":[]}`, send("GET", allDevices, allDevices, "", 200).Body.String())
		require.Contains(t, send("POST", allDevices, allDevices, subscription("a", ""), 409).Body.String(), "Web Push is off: set DATA_DIR")
	})
}

// TestDevicesOfOthers checks that nobody sees, tests or removes the devices of another token, or follows rules without
// the right to see them.
func (wiring Wiring) TestDevicesOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := wiring.newNotifyingServer(t, tokensOfNotifications)
		add := func(name, endpoint, more string) *httptest.ResponseRecorder {
			return s.do("POST", allDevices, subscription(endpoint, more), s.as(name)...)
		}
		id := idOf(t, add("team", "team", ""))
		for _, name := range []string{"reads", "everything", "team reads", "other team", "signed in: everything"} {
			require.NotContains(t, s.do("GET", allDevices, "", s.as(name)...).Body.String(), id, name)
			require.Equal(t, 404, s.do("DELETE", allDevices+"/"+id, "", s.as(name)...).Code, name)
			require.Equal(t, 404, s.do("POST", allDevices+"/"+id+"/test", "", s.as(name)...).Code, name)
			require.Equal(t, 404, add(name, "mine", `,"renews":"https://push.example.com/team"`).Code, name)
		}
		require.Contains(t, s.do("GET", allDevices, "", s.as("signed in: team")...).Body.String(), id, "people who signed in with the token")
		for name, want := range map[string]int{"reads": 403, "team": 403, "admin of a team": 403, "everything": 201, "signed in: everything": 201} {
			require.Equal(t, want, add(name, name[:4]+fmt.Sprint(want), `,"rules":["needs-me"]`).Code, name)
			var list struct{ Rules []string }
			require.NoError(t, json.Unmarshal(s.do("GET", allDevices, "", s.as(name)...).Body.Bytes(), &list))
			require.Equal(t, want == 201, len(list.Rules) > 0, name)
		}
		device := idOf(t, add("everything", "watch", ""))
		require.Equal(t, device, idOf(t, add("everything", "watch2", `,"renews":"https://push.example.com/watch"`)))
		require.Equal(t, 204, s.do("DELETE", allDevices+"/"+device, "", s.as("everything")...).Code)
		for _, line := range []string{
			`what="POST /api/notifications/devices" outcome=added status=201 detail="device ` + device + ` at push.example.com"`,
			`what="POST /api/notifications/devices" outcome=renewed status=201 detail="device ` + device + ` at push.example.com"`,
			`what="DELETE /api/notifications/devices/` + device + `" outcome=removed status=204 detail="device ` + device + `"`,
		} {
			require.Contains(t, s.log.String(), line)
		}
		for _, header := range [][]string{{"Sec-Fetch-Site: cross-site"}, {"Origin: https://evil.example"}} {
			require.Equal(t, 403, s.do("POST", allDevices, subscription("x", ""), append(s.as("team"), header...)...).Code)
			require.Equal(t, 403, s.do("POST", "/api/presence", `{"page":"p"}`, append(s.as("team"), header...)...).Code)
			require.Equal(t, 403, s.do("DELETE", allDevices+"/"+id, "", append(s.as("team"), header...)...).Code)
		}
		require.Equal(t, 204, s.do("POST", "/api/presence", `{"page":"p"}`, s.as("team")...).Code)
		s.reports(reportOf("team/d", "t", "failed"))
		require.Contains(t, s.do("GET", "/api/notifications", "", s.as("team")...).Body.String(), `"held":"keyboard"`)
		for _, name := range []string{"team reads", "everything", "signed in: everything"} {
			require.NotContains(t, s.do("GET", "/api/notifications", "", s.as(name)...).Body.String(), `"held":"keyboard"`, "%s is not told who is at the dashboard", name)
		}
		time.Sleep(time.Minute)
		s.reports(reportOf("team/b", "t", "failed"), reportOf("other/c", "t", "failed"))
		time.Sleep(time.Minute)
		got := s.phone.arrived() // with those of other devices and of the rules, which are about other changes
		require.Contains(t, got, "team/b", "the device's token covers team/*")
		require.NotContains(t, got, "other/c")
	})
}

// TestInvalidDevices checks the error for each invalid request to add a device.
func (wiring Wiring) TestInvalidDevices(t *testing.T) {
	s := wiring.newTestServer(t, nil)
	for more, want := range map[string]string{
		`,"on":["waiting"]`:            "on must be a list of waits, lost, failed, finished or answered",
		`,"text":"all"`:                "text must be full, title or nothing",
		`,"rules":["none"]`:            "rules must be names of rules in NOTIFY_FILE",
		`,"rules":["a"],"on":["lost"]`: "rules must be absent, or on and agent_ids: a device follows rules, or is notified of changes of its own",
		`,"agent_ids":["\u0007"]`:      "agent_ids must not contain control characters",
		`,"agent_ids":[""]`:            "agent_ids is required",
		`,"agent_ids":["` + strings.Repeat(`a","`, 100) + `b"]`: "agent_ids must have at most 100 items",
		`,"rules":["` + strings.Repeat(`a","`, 20) + `b"]`:      "rules must have at most 20 items",
		`,"name":"` + strings.Repeat("x", 61) + `"`:             "name must be at most 60 characters",
		`,"unknown":1`: "the body must be a JSON object with subscription (what a browser's PushSubscription.toJSON() returns), and optionally name, on, agent_ids, rules, text and renews",
	} {
		w := s.do(http.MethodPost, allDevices, subscription("a", more))
		var fault models.Error
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &fault))
		require.Equal(t, 400, w.Code, more)
		require.Contains(t, fault.Message, want, more)
	}
	for _, endpoint := range []string{"http://push.example.com/secret", "https://127.0.0.1/secret", "https://localhost/secret", "https://u:p@push.example.com/secret", "javascript:alert(1)//secret"} {
		body := strings.Replace(subscription("", ""), "https://push.example.com/", endpoint, 1)
		w := s.do(http.MethodPost, allDevices, body)
		require.Equal(t, 400, w.Code, endpoint)
		require.Contains(t, w.Body.String(), "subscription endpoint must", endpoint)
		require.NotContains(t, w.Body.String(), "secret", endpoint)
	}
	for body, want := range map[string]string{
		`{"page":""}`: "page is required",
		`{"page":"` + strings.Repeat("x", 61) + `"}`: "page must be at most 60 characters",
		`{"page":"p","agent_id":"\u0007"}`:           "agent_id must not contain control characters",
	} {
		w := s.do(http.MethodPost, "/api/presence", body)
		require.Equal(t, 400, w.Code, body)
		require.Contains(t, w.Body.String(), want, body)
	}
}
