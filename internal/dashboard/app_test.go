package dashboard_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/serviceworker"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/connect"
	"github.com/kubeagents/kubeagents/internal/dashboard"
	"github.com/kubeagents/kubeagents/internal/notify"
	"github.com/kubeagents/kubeagents/internal/push/pushtest"
	"github.com/kubeagents/kubeagents/models"
)

// TestAppFiles checks that everything that the pages and the manifest name is there, and that browsers ask for a newer
// version each time.
func TestAppFiles(t *testing.T) {
	d := newDashboard(t)
	pages := map[string]func(http.ResponseWriter, *http.Request) error{
		"page":    pageOf(d),
		"connect": func(w http.ResponseWriter, r *http.Request) error { return d.Connect(w, r, connect.Server{}, nil) },
		"sign-in": func(w http.ResponseWriter, r *http.Request) error {
			return d.SignIn(w, r, dashboard.SignIn{Status: http.StatusOK})
		},
	}
	named := map[string]string{"sw.js": "text/javascript; charset=utf-8"}
	for name, endpoint := range pages {
		body := get(endpoint, "/").Body.String()
		require.Contains(t, body, `<link rel="manifest" href="manifest.webmanifest" crossorigin="use-credentials">`, name)
		require.Contains(t, body, `<link rel="apple-touch-icon" href="icons/apple-touch.png">`, name)
	}
	named["manifest.webmanifest"], named["icons/apple-touch.png"] = "application/manifest+json", "image/png"
	var manifest struct{ Icons []struct{ Src, Type string } }
	require.NoError(t, json.Unmarshal(get(d.AppFile, "/manifest.webmanifest").Body.Bytes(), &manifest))
	require.Len(t, manifest.Icons, 3)
	for _, icon := range manifest.Icons {
		named[icon.Src] = icon.Type
	}
	for name, contentType := range named {
		w := get(d.AppFile, "/"+name)
		require.Equal(t, http.StatusOK, w.Code, name)
		require.Equal(t, contentType, w.Header().Get("Content-Type"), name)
		require.Equal(t, "no-cache", w.Header().Get("Cache-Control"), name)
		require.Equal(t, get(pageOf(d), "/").Header().Get("Content-Security-Policy"), w.Header().Get("Content-Security-Policy"), name)
		require.NotEmpty(t, w.Body.Bytes(), name)
		again := get(d.AppFile, "/"+name, "If-None-Match: "+w.Header().Get("ETag"))
		require.Equal(t, http.StatusNotModified, again.Code, name)
		require.Empty(t, again.Body.Bytes())
		require.Equal(t, http.StatusOK, get(d.AppFile, "/"+name, `If-None-Match: "0"`).Code, name)
	}
	for _, unknown := range []string{"/icons/", "/icons/none.png", "/icons/../page.html", "/main.js", "/"} {
		w := get(d.AppFile, unknown)
		require.Equal(t, http.StatusNotFound, w.Code, unknown)
		require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	}
}

// TestServiceWorkerCachesNothing checks that the service worker neither answers requests nor stores anything, and requests
// nothing but another subscription.
func TestServiceWorkerCachesNothing(t *testing.T) {
	script := get(newDashboard(t).AppFile, "/sw.js").Body.String()
	require.NotRegexp(t, `'fetch'|onfetch|caches\.|indexedDB|importScripts`, script)
	require.Equal(t, []string{"fetch(new URL('api/notifications/devices', registration.scope)"}, regexp.MustCompile(`fetch\(.*\)`).FindAllString(script, -1))
	require.Equal(t, []string{"install", "activate", "push", "notificationclick", "pushsubscriptionchange"}, eventsIn(script))
}

func eventsIn(script string) (names []string) {
	for _, match := range regexp.MustCompile(`addEventListener\('(\w+)'`).FindAllStringSubmatch(script, -1) {
		names = append(names, match[1])
	}
	return names
}

// TestInstallable checks that a browser accepts the manifest, also below a path.
func TestInstallable(t *testing.T) {
	in := openBrowser(t)
	for name, test := range map[string]struct {
		settings []string
		path     string
	}{
		"root":         {nil, ""},
		"below a path": {[]string{"PUBLIC_URL=http://localhost/team/hub"}, "team/hub/"},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, test.settings...)
			p := open(in, t, s, test.path)
			manifest, err := chromedp.Call(p.ctx, page.GetAppManifest, page.GetAppManifestParams{})
			require.NoError(t, err)
			require.Empty(t, manifest.Errors)
			require.Equal(t, s.url(test.path+"manifest.webmanifest"), manifest.URL)
			require.Equal(t, s.url(test.path), manifest.Manifest.StartURL)
			require.Equal(t, s.url(test.path), manifest.Manifest.Scope)
			require.Len(t, manifest.Manifest.Icons, 3)
			faults, err := chromedp.Call(p.ctx, page.GetInstallabilityErrors, struct{}{})
			require.NoError(t, err)
			for _, fault := range faults.InstallabilityErrors {
				assert.Equal(t, "in-incognito", fault.ErrorID, "%v", fault) // as all pages of the tests are
			}
		})
	}
}

// pushTab is a page whose service worker gets pushes.
type pushTab struct {
	*tab
	scope        string
	registration serviceworker.RegistrationID
	worker       *tab
}

// openPushTab opens a page below a path, and registers the service worker.
func openPushTab(t *testing.T, s *server, path string) *pushTab {
	t.Helper()
	in := openBrowser(t)
	p := &pushTab{tab: open(in, t, s, path), scope: s.url(path)}
	_, err := chromedp.CallBrowser(p.ctx, browser.SetPermission, browser.SetPermissionParams{
		Permission: &browser.PermissionDescriptor{Name: "notifications"}, Setting: browser.PermissionSettingGranted, Origin: "http://" + s.address,
		BrowserContextID: chromedp.FromContext(p.ctx).BrowserContextID})
	require.NoError(t, err)
	registrations := make(chan serviceworker.RegistrationID, 100)
	require.NoError(t, chromedp.Listen(p.ctx, func(event any) {
		if updated, ok := event.(*serviceworker.EventWorkerRegistrationUpdated); ok {
			for _, one := range updated.Registrations {
				if one.ScopeURL == p.scope {
					registrations <- one.RegistrationID
				}
			}
		}
	}))
	p.run(call(serviceworker.Enable, struct{}{}), do("navigator.serviceWorker.register('sw.js')"))
	p.registration = <-registrations
	p.await("navigator.serviceWorker.controller?.state == 'activated'")

	targets, err := chromedp.Targets(p.ctx)
	require.NoError(t, err)
	for _, one := range targets {
		if one.Type == "service_worker" && one.URL == p.scope+"sw.js" {
			p.worker = p.attach(one.TargetID)
		}
	}
	require.NotNil(t, p.worker, "%v", targets)
	return p
}

// attach returns the worker as a tab, in which expressions can be evaluated. Its timers run when the test says so.
func (p *pushTab) attach(id target.ID) *tab {
	p.Helper()
	ctx, cancel := chromedp.NewContext(p.ctx, chromedp.WithTargetID(id))
	p.Cleanup(cancel)
	require.NoError(p, chromedp.Do(ctx)) // the target lives as long as the context of the first action
	worker := &tab{TB: p.TB, ctx: ctx, server: p.server}
	worker.run(do(`self.timers = []; self.setTimeout = (f, ms) => timers.push({f, ms})
		self.showReally = registration.showNotification.bind(registration)
		registration.showNotification = (...all) => showReally(...all).finally(() => done('')); undefined`))
	return worker
}

// shownNotification is a notification as the browser shows it.
type shownNotification struct {
	Title, Body, Tag, Icon string
	Silent, Renotify       bool
}

// deliver delivers a payload to the service worker, and returns what is shown once it has been handled.
func (p *pushTab) deliver(payload string) []shownNotification {
	p.Helper()
	p.worker.run(do("self.handled = new Promise((done) => self.done = done); undefined"))
	p.run(call(serviceworker.DeliverPushMessage, serviceworker.DeliverPushMessageParams{
		Origin: "http://" + p.server.address, RegistrationID: p.registration, Data: payload,
	}))
	eval[string](p.worker, "handled")
	return p.shown()
}

func (p *pushTab) shown() []shownNotification {
	p.Helper()
	return eval[[]shownNotification](p.tab, `navigator.serviceWorker.ready.then((r) => r.getNotifications())
		.then((all) => all.map(({title, body, tag, icon, silent, renotify}) => ({title, body, tag, icon, silent: Boolean(silent), renotify: Boolean(renotify)})))`)
}

// awaitShown waits until so many notifications are shown. A browser removes them in its own time.
func (p *pushTab) awaitShown(n int) []shownNotification {
	p.Helper()
	eval[string](p.tab, fmt.Sprintf(`navigator.serviceWorker.ready.then(async (r) => {
		while ((await r.getNotifications()).length !== %d) await new Promise(requestAnimationFrame)
		return ''
	})`, n))
	return p.shown()
}

// payloads returns what the server sends to a browser: for a message, a reminder of it, and its withdrawal.
func payloads(t *testing.T, m notify.Message) (first, reminder, withdrawal string) {
	t.Helper()
	service := pushtest.NewService(t)
	again := m
	again.ID, again.SentAt = m.ID+"-2", m.SentAt.Add(1e12)
	for _, one := range []*notify.Message{&m, &again} {
		_, err := service.Sender().Send(t.Context(), one)
		require.NoError(t, err)
	}
	require.NoError(t, service.Sender().Withdraw(t.Context(), &again))
	taken := service.Taken()
	require.Len(t, taken, 3)
	return taken[0].Raw, taken[1].Raw, taken[2].Raw
}

func question(agent, topic string) notify.Message {
	return notify.Message{ID: "ntf_" + topic, Thread: "ntf_" + topic, Change: notify.Waits,
		Session:  &models.FleetSession{Session: models.Session{AgentID: agent, Topic: topic, Title: "<b>Fix</b> it"}, AgentName: "payments"},
		Question: &models.Question{Kind: models.Permission, Text: "Bash: make <b>migrate</b>"}}
}

// TestPushesAreShown delivers what the server sends to the service worker.
func TestPushesAreShown(t *testing.T) {
	for _, path := range []string{"", "team/hub/"} {
		t.Run("at /"+path, func(t *testing.T) {
			p := openPushTab(t, serve(t, "PUBLIC_URL=http://localhost/"+strings.TrimSuffix(path, "/")), path)
			first, reminder, withdrawal := payloads(t, question("a", "1"))
			other, _, _ := payloads(t, question("a", "2"))
			want := shownNotification{Title: "payments asks for permission", Body: "Bash: make <b>migrate</b>\n<b>Fix</b> it", Tag: "ntf_1", Icon: p.scope + "icons/192.png", Renotify: true}
			require.Equal(t, []shownNotification{want}, p.deliver(first))

			want.Renotify = false
			require.Equal(t, []shownNotification{want}, p.deliver(first), "a repetition makes no sound")
			want.Title, want.Renotify = "payments still waits (for 16 minutes)", true
			require.Equal(t, []shownNotification{want}, p.deliver(reminder), "it replaces the first one")
			require.Len(t, p.deliver(other), 2)

			all := p.deliver(withdrawal)
			require.Len(t, all, 2)
			resolved := shownNotification{Title: "Resolved: " + want.Title, Tag: "ntf_1", Icon: want.Icon, Silent: true}
			require.Contains(t, all, resolved)
			require.Equal(t, []float64{5000}, eval[[]float64](p.worker, "timers.map(({ms}) => ms)"))
			p.worker.run(do("timers.pop().f()"))
			require.Equal(t, "ntf_2", p.awaitShown(1)[0].Tag)
		})
	}
}

// TestWithdrawnNotificationsGo checks that the timer of a withdrawal removes nothing newer, and that the next push
// removes what the timer did not, because the browser stopped the worker.
func TestWithdrawnNotificationsGo(t *testing.T) {
	p := openPushTab(t, serve(t), "")
	first, _, withdrawal := payloads(t, question("a", "1"))
	other, _, _ := payloads(t, question("a", "2"))
	require.Len(t, p.deliver(withdrawal), 1)
	require.Equal(t, "payments asks for permission", p.deliver(first)[0].Title)
	left := eval[int](p.worker, "timers.pop().f().then(() => registration.getNotifications()).then((all) => all.length)")
	require.Equal(t, 1, left, "it asks again")

	require.Equal(t, "Resolved: payments still waits (for 16 minutes)", p.deliver(withdrawal)[0].Title)
	p.deliver(other)
	require.Equal(t, "ntf_2", p.awaitShown(1)[0].Tag)
}

// TestStrangePushesShowSomethingGeneric checks that a push that can't be read is shown all the same, because browsers
// take the permission away from those that show nothing.
func TestStrangePushesShowSomethingGeneric(t *testing.T) {
	p := openPushTab(t, serve(t), "")
	for _, payload := range []string{"", "{", "null", "[]", `"text"`, "{}", `{"title":"x"}`, `{"title":"","tag":"x"}`, `{"title":{},"tag":"x"}`, `{"title":"x","tag":7}`} {
		all := p.deliver(payload)
		require.Len(t, all, 1, payload)
		require.Equal(t, shownNotification{Title: "KubeAgents", Body: "Something happened. Open the dashboard to see what.", Tag: "kubeagents", Icon: p.scope + "icons/192.png"}, all[0], payload)
	}
}

// TestClicksOpenTheSession clicks on notifications: an open tab shows the session, otherwise a new one does, and no
// address leads out of the dashboard.
func TestClicksOpenTheSession(t *testing.T) {
	s := serve(t, "PUBLIC_URL=http://localhost/team/hub")
	s.report(t, reportOf("a", "1", "pending", `"message":"May I?"`))
	p := openPushTab(t, s, "team/hub/")
	p.worker.run(do(`self.opened = []; clients.openWindow = async (url) => opened.push(url)
		WindowClient.prototype.focus = async function () { opened.push('focus'); return this } // only a real click may focus
		self.click = (url) => new Promise((done) => {
			const notification = {data: {url}, close() { opened.push('close') }}
			const event = new Event('notificationclick')
			event.notification = notification
			event.waitUntil = (work) => work.then(() => done(''), (error) => done(String(error)))
			dispatchEvent(event)
		}); undefined`))
	payload, _, _ := payloads(t, question("a", "1"))
	var message struct{ URL string }
	require.NoError(t, json.Unmarshal([]byte(payload), &message))

	require.Empty(t, eval[string](p.worker, fmt.Sprintf("click(%q)", message.URL)))
	p.await("location.search == '?agent=a&session=1' && document.querySelector('main#content h1')")
	require.Equal(t, []string{"close", "focus"}, eval[[]string](p.worker, "opened.splice(0)"))

	p.run(chromedp.Navigate("about:blank"))
	// A page that is being left is listed for a while, although it takes no address any more.
	require.Eventually(t, func() bool {
		return eval[int](p.worker, "clients.matchAll({type: 'window'}).then((all) => all.length)") == 0
	}, 20*time.Second, time.Millisecond)
	for url, want := range map[string]string{
		message.URL: "?agent=a&session=1", "./": "", "?view=agents": "?view=agents",
		"https://evil.example/team/hub/": "", "//evil.example/": "", "/team": "", "../../": "", "javascript:alert(1)": "", "http://": "",
	} {
		require.Empty(t, eval[string](p.worker, fmt.Sprintf("click(%q)", url)), url)
		require.Equal(t, []string{"close", p.scope + want}, eval[[]string](p.worker, "opened.splice(0)"), url)
	}
}
