package dashboard_test

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/push"
	"github.com/kubeagents/kubeagents/internal/push/pushtest"
)

const allDevices = "api/notifications/devices"

// pushService is a push service at which the browser of a test is subscribed, and the settings of a server that uses it.
type pushService struct {
	*pushtest.Service
	settings []string
}

func newPushService(t *testing.T) *pushService {
	t.Helper()
	const privateKey = "8LN5azNlkwX_F33Z0CeErpr9iFjMW9CSkvM3sNFE9_M"
	service := pushtest.NewService(t)
	var err error
	service.Keys, err = push.ParseKeys(privateKey)
	require.NoError(t, err)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: service.Certificate().Raw}), 0o600))
	return &pushService{service, []string{"SSL_CERT_FILE=" + ca, "PUSH_ALLOW_PRIVATE=true", "VAPID_PRIVATE_KEY=" + privateKey, "VAPID_SUBJECT=" + pushtest.Subject}}
}

// awaitMessage returns the next message, which must be the only one.
func (s *pushService) awaitMessage(t *testing.T) pushtest.Pushed {
	t.Helper()
	var taken []pushtest.Pushed
	require.Eventually(t, func() bool {
		taken = append(taken, s.Taken()...)
		return len(taken) > 0
	}, 30*time.Second, 5*time.Millisecond)
	require.Len(t, taken, 1)
	return taken[0]
}

func subscriptionJSON(s push.Subscription) string {
	return fmt.Sprintf(`{"endpoint":%q,"expirationTime":null,"keys":{"p256dh":%q,"auth":%q}}`, s.Endpoint, s.P256dh, s.Auth)
}

// subscribing returns a script that subscribes the pages of a browser at s, instead of the browser's own service, or
// throws an error that is named in the variable pushFault.
func (s *pushService) subscribing() string {
	return fmt.Sprintf(`(() => {
		const fields = %s
		const subscription = {endpoint: fields.endpoint, toJSON: () => fields, unsubscribe: async () => { localStorage.removeItem('test.key'); return true }}
		PushManager.prototype.getSubscription = async () => localStorage.getItem('test.key') ? subscription : null
		PushManager.prototype.subscribe = async (options) => {
			if (!options.userVisibleOnly) throw new Error('it must be visible')
			if (window.pushFault) throw new DOMException('Registration failed', pushFault)
			const before = localStorage.getItem('test.key')
			if (before && before !== options.applicationServerKey) throw new DOMException('another key', 'InvalidStateError')
			localStorage.setItem('test.key', options.applicationServerKey)
			return subscription
		}
	})()`, subscriptionJSON(s.Subscription()))
}

// openSubscribing opens a page in a browser that can be subscribed at service.
func openSubscribing(t *testing.T, s *server, service *pushService, query string) *pushTab {
	t.Helper()
	p := openPushTab(t, s, "")
	p.run(call(page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: service.subscribing()}))
	p.run(chromedp.Navigate(s.url(query)), shown("main#content h1"))
	p.live()
	return p
}

// deviceOf is a device as the API shows it.
type deviceOf struct {
	ID, Name string
	On       []string
	AgentIDs []string `json:"agent_ids"`
	Rules    []string
}

func devicesOf(t *testing.T, s *server, token string) []deviceOf {
	t.Helper()
	var list struct{ Devices []deviceOf }
	requestJSON(t, http.MethodGet, s.url(allDevices), "", token, &list)
	return list.Devices
}

// requestJSON requests something from the API, and returns the status.
func requestJSON(t *testing.T, method, url, body, token string, into any) int {
	t.Helper()
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	require.NoError(t, err)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer resp.Body.Close() //nolint:errcheck // it has been read completely
	answer, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	if into != nil {
		require.NoError(t, json.Unmarshal(answer, into), "%s", answer)
	}
	return resp.StatusCode
}

const (
	bell     = "[aria-label^=Notifications]"
	toggle   = ".sheet [role=switch]"
	deviceOn = "document.querySelector('.sheet [role=switch]')?.checked && document.querySelector('.sheet .try')"
)

// hide hides a page or shows it again, as switching to another tab does.
func (p *tab) hide(hidden bool) {
	p.Helper()
	p.run(do(fmt.Sprintf("Object.defineProperty(document, 'hidden', {get: () => %t, configurable: true}); document.dispatchEvent(new Event('visibilitychange', {bubbles: true}))", hidden)))
}

// awaitHeld waits until the server holds back a notification because of a page that is in use.
func (s *server) awaitHeld(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		var view struct{ Pending []struct{ Held string } }
		requestJSON(t, http.MethodGet, s.url("api/notifications"), "", "", &view)
		return len(view.Pending) == 1 && view.Pending[0].Held == "keyboard"
	}, 30*time.Second, 5*time.Millisecond)
}

// TestNotifyThisDevice turns notifications on under the bell, gets one while nobody looks at the page, but none of what
// the page shows, and turns them off.
func TestNotifyThisDevice(t *testing.T) {
	service := newPushService(t)
	s := serve(t, service.settings...)
	p := openSubscribing(t, s, service, "")
	require.Empty(t, eval[string](p.tab, "performance.getEntries().filter(({name}) => /devices$|presence$/.test(name)).map(({name}) => name).join()"), "nothing is asked before")
	p.run(do(`const real = Notification; window.notes = []
		window.Notification = class extends real { constructor(title, options) { super(title, options); notes.push(title) } }`))
	p.run(click(bell), shown(toggle), click(".sheet fieldset label:nth-of-type(2)"), click(toggle))
	p.await(deviceOn)
	require.Equal(t, []string{"on"}, eval[[]string](p.tab, "[document.querySelector('[aria-label^=Notifications]').getAttribute('aria-label').split(': ')[1]]"))
	require.Equal(t, service.Keys.Public(), eval[string](p.tab, "localStorage.getItem('test.key')"))
	mine := devicesOf(t, s, "")
	require.Len(t, mine, 1)
	require.Regexp(t, `^\S*Chrom\S* on Linux$`, mine[0].Name)
	require.ElementsMatch(t, []string{"waits", "lost", "failed"}, mine[0].On)

	p.run(click(".sheet .try button"))
	require.Equal(t, "kubeagents asks a question", service.awaitMessage(t).Title)
	p.await("document.querySelector('.sheet .try').innerText.includes('The push service has it')")
	p.run(click(".sheet fieldset label:nth-of-type(2)"))
	p.await("!document.querySelector('.sheet fieldset label:nth-of-type(2) input').checked")
	require.Eventually(t, func() bool { return len(devicesOf(t, s, "")[0].On) == 2 }, 10*time.Second, time.Millisecond)
	require.Equal(t, mine[0].ID, devicesOf(t, s, "")[0].ID)

	s.report(t, reportOf("a", "t", "failed", ""))
	s.awaitHeld(t)
	require.Empty(t, service.Taken(), "the person looks at it")
	p.hide(true)
	message := service.awaitMessage(t)
	require.Equal(t, "a failed", message.Title)
	shown := p.deliver(message.Raw)
	require.Len(t, shown, 1)
	require.Equal(t, "a failed", shown[0].Title)

	p.hide(false)
	p.run(click(toggle))
	p.await("!document.querySelector('.sheet [role=switch]').checked && !localStorage.getItem('test.key')")
	require.Empty(t, devicesOf(t, s, ""))
	require.Empty(t, eval[[]string](p.tab, "notes"), "the page shows none of its own while the device is on")
	s.report(t, reportOf("a", "t2", "failed", ""))
	p.await("notes.join() == 'a failed'")
}

// TestNotifyOfOneAgent chooses agents on their pages, on a device that was off.
func TestNotifyOfOneAgent(t *testing.T) {
	service := newPushService(t)
	s := serve(t, service.settings...)
	for _, agent := range []string{"a", "b", "c"} {
		s.report(t, reportOf(agent, "t", "running", ""))
	}
	p := openSubscribing(t, s, service, "?agent=a")
	agents := func(want ...string) {
		t.Helper()
		require.Eventually(t, func() bool {
			all := devicesOf(t, s, "")
			return len(all) == 1 && strings.Join(all[0].AgentIDs, " ") == strings.Join(want, " ")
		}, 10*time.Second, time.Millisecond)
	}
	p.run(shown(".of-agent input"), click(".of-agent input"))
	p.await("document.querySelector('.of-agent input').checked && localStorage.getItem('test.key')")
	agents("a")
	p.run(chromedp.Navigate(s.url(session("b", "t"))), shown(".of-agent input"), click(".of-agent input"))
	agents("a", "b")

	p.hide(true)
	for _, agent := range []string{"c", "b"} {
		s.report(t, reportOf(agent, "t", "failed", ""))
	}
	require.Equal(t, "b failed", service.awaitMessage(t).Title, "not of c")
	p.hide(false)
	p.run(click(bell), shown(".some li"))
	require.Equal(t, []string{"a", "b"}, p.texts(".some a"))
	p.run(click("[aria-label='Remove a']"))
	agents("b")
	p.run(click(bell), click(".of-agent input"))
	require.Eventually(t, func() bool { return len(devicesOf(t, s, "")) == 0 }, 10*time.Second, time.Millisecond)
	p.await("!document.querySelector('.of-agent input').checked && !localStorage.getItem('test.key')")
}

// TestDeviceIsAddedAgain restarts a server that keeps no devices, also with another key.
func TestDeviceIsAddedAgain(t *testing.T) {
	service := newPushService(t)
	s := serve(t, service.settings...)
	p := openSubscribing(t, s, service, "")
	p.run(click(bell), shown(toggle), click(toggle))
	p.await(deviceOn)
	p.run(click(".sheet fieldset label:nth-of-type(1)"))
	require.Eventually(t, func() bool { return len(devicesOf(t, s, "")[0].On) == 2 }, 10*time.Second, time.Millisecond)
	_, port, _ := strings.Cut(s.address, ":")
	const otherKey = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE"
	other, err := push.ParseKeys(otherKey)
	require.NoError(t, err)
	for _, settings := range [][]string{nil, {"VAPID_PRIVATE_KEY=" + otherKey}} {
		s.stop()
		s = serve(t, append(append(service.settings, "PORT="+port), settings...)...)
		require.Empty(t, devicesOf(t, s, ""))
		p.run(chromedp.Navigate(s.url("?view=agents")), shown("main#content h1"))
		require.Eventually(t, func() bool { return len(devicesOf(t, s, "")) == 1 }, 10*time.Second, time.Millisecond)
		require.ElementsMatch(t, []string{"lost", "failed"}, devicesOf(t, s, "")[0].On)
	}
	require.Equal(t, other.Public(), eval[string](p.tab, "localStorage.getItem('test.key')"))
}

// TestSubscriptionChanges replaces the subscription of a browser while no page is open.
func TestSubscriptionChanges(t *testing.T) {
	service := newPushService(t)
	s := serve(t, service.settings...)
	p := openSubscribing(t, s, service, "")
	p.run(click(bell), shown(toggle), click(toggle))
	p.await(deviceOn)
	id := devicesOf(t, s, "")[0].ID
	renewed := service.Subscription()
	renewed.Endpoint += "?renewed"
	p.worker.run(do(fmt.Sprintf(`PushManager.prototype.subscribe = async ({applicationServerKey}) => applicationServerKey === 'key' && ({toJSON: () => (%s)})
		self.change = (old) => new Promise((done) => {
			const event = new Event('pushsubscriptionchange')
			event.oldSubscription = old
			event.waitUntil = (work) => work.then(() => done(''), (error) => done(String(error)))
			dispatchEvent(event)
		}); undefined`, subscriptionJSON(renewed))))
	require.Empty(t, eval[string](p.worker, "change(null)"))
	require.Empty(t, eval[string](p.worker, fmt.Sprintf("change({endpoint: %q, options: {applicationServerKey: 'key'}})", service.Subscription().Endpoint)))
	require.Len(t, devicesOf(t, s, ""), 1)
	again := fmt.Sprintf(`{"subscription":%s,"renews":%q}`, subscriptionJSON(service.Subscription()), renewed.Endpoint)
	require.Equal(t, 201, requestJSON(t, http.MethodPost, s.url(allDevices), again, "", nil))
	require.Equal(t, id, devicesOf(t, s, "")[0].ID)
}

// TestDevicesOfTokens signs in, and adds a device that other tokens don't see.
func TestDevicesOfTokens(t *testing.T) {
	service := newPushService(t)
	s, token := withTokens(t, service.settings...)
	in := openBrowser(t)
	p := openAt(in, t, s, "", ".signin")
	grantNotifications(p)
	p.run(call(page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: service.subscribing()}))
	p.signIn(token)
	p.run(click(bell), shown(toggle), click(toggle))
	p.await(deviceOn)
	require.Len(t, devicesOf(t, s, token), 1)
	require.Empty(t, devicesOf(t, s, s.token))
	require.NotContains(t, p.texts(".sheet label"), "What the rules say")
	p.await("!document.documentElement.hasAttribute('data-devices')")
	p.run(chromedp.Navigate(s.url("")), shown("main#content h1"))
	p.await("document.documentElement.hasAttribute('data-devices')")
}

// TestFollowingRules follows rules instead of changes, as those may who may see them.
func TestFollowingRules(t *testing.T) {
	service := newPushService(t)
	rules := filepath.Join(t.TempDir(), "rules.yaml")
	require.NoError(t, os.WriteFile(rules, []byte("destinations: {local: {command: {program: /bin/true}}}\nrules:\n"+
		"  - {name: quick, on: [waits], to: [local]}\n  - {name: slow, on: [failed], to: [local]}\n"), 0o600))
	s := serve(t, append(service.settings, "NOTIFY_FILE="+rules)...)
	p := openSubscribing(t, s, service, "")
	p.run(click(bell), shown(toggle), click(toggle))
	p.await(deviceOn)
	p.run(do("[...document.querySelectorAll('.sheet label')].find((label) => label.innerText == 'What the rules say').click()"))
	followed := func(want ...string) {
		t.Helper()
		require.Eventually(t, func() bool { return strings.Join(devicesOf(t, s, "")[0].Rules, " ") == strings.Join(want, " ") }, 10*time.Second, time.Millisecond)
	}
	followed("quick", "slow")
	p.run(click(".some label:nth-of-type(1)"))
	followed("slow")
	require.True(t, eval[bool](p.tab, "document.querySelector('.some label:nth-of-type(2) input').disabled"), "the last one stays")
	p.run(do("document.querySelector('.sheet input[type=radio]').click()"))
	followed()
	require.ElementsMatch(t, []string{"waits", "lost", "failed"}, devicesOf(t, s, "")[0].On)
}

func setPermission(p *tab, setting browser.PermissionSetting) {
	p.Helper()
	_, err := chromedp.CallBrowser(p.ctx, browser.SetPermission, browser.SetPermissionParams{
		Permission: &browser.PermissionDescriptor{Name: "notifications"}, Setting: setting, Origin: "http://" + p.server.address,
		BrowserContextID: chromedp.FromContext(p.ctx).BrowserContextID})
	require.NoError(p, err)
}

func grantNotifications(p *tab) { setPermission(p, browser.PermissionSettingGranted) }

// signIn signs in with a token.
func (p *tab) signIn(token string) {
	p.Helper()
	p.run(chromedp.KeyEvent(token+"\r"), shown("main#content h1"))
	p.live()
}

// TestWhyThisDeviceIsNotNotified checks what the page says if notifications can't be turned on.
func TestWhyThisDeviceIsNotNotified(t *testing.T) {
	t.Run("off", func(t *testing.T) {
		s := serve(t)
		var list struct{ Off string }
		requestJSON(t, http.MethodGet, s.url(allDevices), "", "", &list)
		require.NotEmpty(t, list.Off)
		p := open(openBrowser(t), t, s, "")
		p.run(click(bell), shown(".sheet .quiet"))
		p.await(fmt.Sprintf("document.querySelector('.sheet .quiet').innerText == %q", "Only while a page is open, because Web Push is off: "+list.Off))
		require.Zero(t, eval[int](p, "document.querySelectorAll('.sheet [role=switch]').length"))
	})
	service := newPushService(t)
	s := serve(t, service.settings...)
	p := openSubscribing(t, s, service, "")
	p.run(click(bell), shown(toggle))
	refused := func(text string) {
		t.Helper()
		p.run(click(toggle))
		p.await(fmt.Sprintf("document.querySelector('.sheet .fault')?.innerText == %q", text))
		p.await("!document.querySelector('.sheet [role=switch]').checked && !localStorage.getItem('test.key')")
	}
	p.run(do("window.pushFault = 'AbortError'"))
	refused("This browser's push service can't be reached. Try again later.")
	p.run(do("window.pushFault = ''"))
	for i := range 20 {
		other := service.Subscription()
		other.Endpoint += fmt.Sprint("?", i)
		require.Equal(t, 201, requestJSON(t, http.MethodPost, s.url(allDevices), `{"subscription":`+subscriptionJSON(other)+`}`, "", nil))
	}
	refused("there are 20 devices of this token already: remove one")
	setPermission(p.tab, browser.PermissionSettingDenied)
	refused("This browser blocks notifications from this page. Allow them in its settings.")
	for _, phone := range []struct{ agent, name, because string }{
		{"Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1", "Safari on iPhone",
			"Add the dashboard to your home screen first: Share, then Add to Home Screen."},
		{"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox on Linux", "This browser does not support Web Push."},
		{"Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/139.0.0.0 Mobile Safari/537.36", "Chrome on Android", "This browser does not support Web Push."},
	} {
		p.run(do(fmt.Sprintf("delete window.PushManager; Object.defineProperty(navigator, 'userAgent', {get: () => %q, configurable: true})", phone.agent)))
		require.Equal(t, phone.because, evalIn[string](p.tab, "devices.js", "(devices) => devices.unsupportedBecause()"))
		require.Equal(t, phone.name, evalIn[string](p.tab, "devices.js", "(devices) => devices.nameOf({userAgent: navigator.userAgent, maxTouchPoints: 5})"))
	}
	require.Equal(t, "Edge on Windows", evalIn[string](p.tab, "devices.js", "(devices) => devices.nameOf({userAgent: '', userAgentData: {platform: 'Windows', brands: [{brand: 'Not;A=Brand'}, {brand: 'Chromium'}, {brand: 'Microsoft Edge'}]}})"))
}

// TestNotificationsOfTheServiceWorker checks that a page shows its own notifications also in browsers that allow only
// those of service workers, as those on Android do.
func TestNotificationsOfTheServiceWorker(t *testing.T) {
	s := serve(t)
	p := openPushTab(t, s, "")
	// Chromium may remove a notification as soon as it is shown, so the test looks at what it is told to show.
	p.live().run(do(`const real = Notification, show = ServiceWorkerRegistration.prototype.showNotification
		window.shown = []
		ServiceWorkerRegistration.prototype.showNotification = async function (title, options) {
			await show.call(this, title, options)
			shown.push({title, ...options, url: options.data.url})
		}
		window.Notification = class { static permission = 'granted'; static requestPermission = () => real.requestPermission(); constructor() { throw new TypeError('Illegal constructor') } }`),
		click(bell), click(".sheet label:nth-of-type(1)"))
	p.await("document.querySelector('[aria-label=\"Notifications: on\"]')")
	s.report(t, reportOf("a", "t", "pending", `"message":"May I?"`))
	p.await("shown.length === 1")
	require.Equal(t, "a is waiting for you", eval[string](p.tab, "shown[0].title"))
	require.Equal(t, "t\nMay I?", eval[string](p.tab, "shown[0].body"))
	require.Equal(t, "?agent=a&session=t", eval[string](p.tab, "shown[0].url"))
}

// TestPresence checks when a page says what it shows.
func TestPresence(t *testing.T) {
	service := newPushService(t)
	s := serve(t, service.settings...)
	s.report(t, reportOf("a", "t", "running", ""))
	p := open(openBrowser(t), t, s, "").live()
	p.run(call(page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: `(() => {
		window.said = []; let skew = 0
		const realNow = performance.now.bind(performance), realTimeout = setTimeout.bind(window), realFetch = fetch.bind(window)
		performance.now = () => realNow() + skew
		window.setTimeout = (f, ms, ...rest) => ms === 20000 ? (window.beat = f, -1) : realTimeout(f, ms, ...rest)
		window.after = (ms) => { skew += ms; const f = window.beat; window.beat = null; f?.() }
		window.fetch = (path, options) => {
			if (String(path).endsWith('presence')) {
				const {page, ...rest} = JSON.parse(options.body)
				if (!(page.length > 15) || window.page && window.page !== page || !options.keepalive) said.push('wrong')
				window.page = page
				said.push(JSON.stringify(rest))
			}
			return realFetch(path, options)
		}
	})()`}))
	said := func() []string { return eval[[]string](p, "said.splice(0)") }
	p.run(chromedp.Navigate(s.url("")), shown("main#content h1"))
	p.live().hide(true)
	p.hide(false)
	p.run(chromedp.MouseClickXY(300, 300))
	require.Empty(t, said(), "the token has no device")

	require.Equal(t, 201, requestJSON(t, http.MethodPost, s.url(allDevices), `{"subscription":`+subscriptionJSON(service.Subscription())+`}`, "", nil))
	p.run(chromedp.Navigate(s.url("")), shown("main#content h1"))
	p.await("said.length")
	require.Equal(t, []string{"{}"}, said())
	p.run(do("after(20000)"))
	require.Equal(t, []string{"{}"}, said())
	p.run(do("document.querySelector('a[href=\"?view=agents\"]').click()"))
	p.await("said.length")
	require.Equal(t, []string{`{"left":true}`}, said())
	p.run(shown(rows), do("document.querySelector('a.row').click()"))
	p.await("said.length")
	require.Equal(t, []string{`{"agent_id":"a"}`}, said())
	p.run(shown(rows), do("document.querySelector('a.row').click()"))
	p.await("said.length")
	require.Equal(t, []string{`{"agent_id":"a","session_topic":"t"}`}, said())
	p.run(do("after(20000); after(20001); after(0)"))
	require.Equal(t, []string{`{"agent_id":"a","session_topic":"t"}`, `{"left":true}`}, said(), "nobody uses it")
	p.run(do("dispatchEvent(new Event('scroll'))"))
	require.Empty(t, said(), "pages scroll by themselves")
	p.press("x")
	require.Equal(t, []string{`{"agent_id":"a","session_topic":"t"}`}, said())
	p.hide(true)
	require.Equal(t, []string{`{"left":true}`}, said())
	p.hide(false)
	require.Equal(t, []string{`{"agent_id":"a","session_topic":"t"}`}, said())
	p.run(do("dispatchEvent(new Event('pagehide'))"))
	require.Equal(t, []string{`{"left":true}`}, said())
}

// TestListOfDevices tests and removes devices in the list, which says what each is notified of.
func TestListOfDevices(t *testing.T) {
	service := newPushService(t)
	s := serve(t, service.settings...)
	p := openSubscribing(t, s, service, "?view=notifications")
	p.await("document.querySelector('.devices .nothing')?.innerText.includes('click the bell and turn on Notify this device')")
	p.run(click(bell), shown(toggle), click(toggle))
	p.await(deviceOn)
	other := service.Subscription()
	other.Endpoint = "https://127.0.0.1:1/other"
	require.Equal(t, 201, requestJSON(t, http.MethodPost, s.url(allDevices), `{"name":"Old <b>phone</b>","on":["finished"],"agent_ids":["a","b"],"subscription":`+subscriptionJSON(other)+`}`, "", nil))
	p.run(chromedp.Navigate(s.url("?view=notifications")), shown(".devices li"))
	p.await("document.querySelectorAll('.devices li').length == 2")
	p.await("document.querySelector('.devices li:first-child .badge')?.innerText == 'this device' && !document.querySelector('.devices li:last-child .badge')")
	texts := p.texts(".devices .details")
	require.Contains(t, texts[0], "When a session waits, is lost or fails")
	require.Contains(t, texts[0], "all agents")
	require.Contains(t, texts[1], "When a session finishes")
	require.Contains(t, texts[1], "a, b")
	p.run(click(".devices li:first-child .try button"))
	require.Equal(t, "kubeagents asks a question", service.awaitMessage(t).Title)
	p.await("document.querySelector('.devices .fine') && document.querySelector('.devices li').innerText.includes('last delivery')")

	p.run(click(".devices li:last-child .try button"))
	p.await("document.querySelector('.devices li:last-child .try .fault') && document.querySelector('.devices li:last-child > .fault')?.innerText.startsWith('The last message failed: 127.0.0.1:1: ')")
	p.run(click("[aria-label='Remove Old <b>phone</b>']"), shown(".danger"))
	require.Len(t, devicesOf(t, s, ""), 2, "it asks first")
	p.run(click(".danger"))
	p.await("document.querySelectorAll('.devices li').length == 1")
	require.Len(t, devicesOf(t, s, ""), 1)
	require.True(t, eval[bool](p.tab, "document.activeElement.matches('h1')"))
	p.run(click(".devices .acts > button"), click(".danger"))
	p.await("document.querySelector('.devices .nothing') && !localStorage.getItem('test.key')")
	require.Empty(t, devicesOf(t, s, ""))

	p.run(click(bell), shown(toggle), click(toggle))
	p.await(deviceOn)
	require.Equal(t, 204, requestJSON(t, http.MethodDelete, s.url(allDevices+"/"+devicesOf(t, s, "")[0].ID), "", "", nil))
	p.run(chromedp.Navigate(s.url("?view=agents")), shown("main#content h1"))
	p.await("!localStorage.getItem('test.key')")
	require.Empty(t, devicesOf(t, s, ""), "what was removed elsewhere is not added again")
}

// TestDevicesAreAccessible checks the menu and the list with axe-core, at several widths, in light and dark. With
// KUBEAGENTS_LOOK, it writes pictures into the folder of that name.
func TestDevicesAreAccessible(t *testing.T) {
	axe, err := os.ReadFile("testdata/axe.min.js")
	require.NoError(t, err)
	service := newPushService(t)
	rules := filepath.Join(t.TempDir(), "rules.yaml")
	require.NoError(t, os.WriteFile(rules, []byte("destinations: {local: {command: {program: /bin/true}}}\nrules:\n  - {name: quick, on: [waits], to: [local]}\n"), 0o600))
	s := serve(t, append(service.settings, "NOTIFY_FILE="+rules)...)
	s.report(t, reportOf("claude-code:payments@laptop-anna", "t", "running", ""), reportOf("b", "t", "pending", ""))
	p := openSubscribing(t, s, service, "?agent=claude-code:payments@laptop-anna")
	p.run(shown(".of-agent input"), click(".of-agent input"))
	p.await("document.querySelector('.of-agent input').checked && localStorage.getItem('test.key')")
	failing := service.Subscription()
	failing.Endpoint = "https://127.0.0.1:1/"
	require.Equal(t, 201, requestJSON(t, http.MethodPost, s.url(allDevices), `{"name":"Safari on iPhone","subscription":`+subscriptionJSON(failing)+`}`, "", nil))
	require.Equal(t, 502, requestJSON(t, http.MethodPost, s.url(allDevices+"/"+devicesOf(t, s, "")[1].ID+"/test"), "", "", nil))
	check := func(what, scheme string, width int64) {
		t.Helper()
		p.requireAccessible(string(axe), what)
		require.Empty(t, eval[[]string](p.tab, measure), what)
		if folder := os.Getenv("KUBEAGENTS_LOOK"); folder != "" {
			name := filepath.Join(folder, fmt.Sprintf("%s-%s-%d.png", what, scheme, width))
			picture, err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(name, picture, 0o600))
		}
	}
	for _, width := range []int64{320, 390, 760, 1280} {
		for _, scheme := range []string{"light", "dark"} {
			p.run(resize(width), call(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
				{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}}}),
				chromedp.Navigate(s.url("?agent=claude-code:payments@laptop-anna")), shown(".of-agent input"))
			check("agent", scheme, width)
			p.run(click(bell), shown(".sheet .try"))
			check("menu", scheme, width)
			p.run(chromedp.Navigate(s.url("?view=notifications")), shown(".devices li"))
			p.await("document.querySelectorAll('.devices li').length == 2")
			check("devices", scheme, width)
		}
	}
}
