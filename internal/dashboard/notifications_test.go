package dashboard_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/notify"
	"github.com/kubeagents/kubeagents/models"
)

// notified is what a server that notifies has: its store, to which a test can report, and its notifier.
type notified struct {
	past
	notifier *notify.Notifier
}

// awaitView waits until what the notifier does is as a function wants it.
func (n notified) awaitView(what string, is func(notify.View) bool) {
	n.Helper()
	require.Eventually(n, func() bool { return is(n.notifier.View(100, nil)) }, 10*time.Second, time.Millisecond, what)
}

// sender is a destination that works unless it has a fault.
type sender struct {
	mu    sync.Mutex
	fault error
}

// Send implements notify.Sender.
func (s *sender) Send(context.Context, *notify.Message) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return "", s.fault
}

// Withdraw implements notify.Sender.
func (s *sender) Withdraw(context.Context, *notify.Message) error { return nil }

func (s *sender) failWith(fault error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

var tenPerMinute = notify.Limit{Messages: 10, Per: time.Minute}

// midday returns a zone in which it is about midday now, so that nothing in it is held back at night. Its name is UTC.
func midday() *time.Location {
	return time.FixedZone("UTC", int((12*time.Hour-time.Since(time.Now().UTC().Truncate(24*time.Hour)))/time.Second))
}

// rulesOf returns rules that notify a phone at once, and a team after 20 minutes.
func rulesOf(phone *sender) *notify.Config {
	steps := []notify.Step{{To: []string{"phone"}}, {After: 20 * time.Minute, To: []string{"team"}}}
	return &notify.Config{
		Destinations: map[string]*notify.Destination{
			"phone": {Name: "phone", Kind: "ntfy", Sender: phone, Limit: tenPerMinute},
			"team":  {Name: "team", Kind: "slack", Sender: &sender{}, Limit: tenPerMinute},
		},
		Rules: []notify.Rule{
			{Name: "needs-me", Changes: []notify.Change{notify.Waits, notify.Lost, notify.Failed}, Steps: steps, Every: 30 * time.Minute, Until: 4 * time.Hour},
			{Name: "deploys", Changes: []notify.Change{notify.Finished}, Agents: []string{"deploy", "release-*"}, Title: "production", Steps: []notify.Step{{To: []string{"team"}}},
				Quiet: &notify.Quiet{From: 22 * time.Hour, To: 7 * time.Hour, Zone: midday()}, Text: notify.TitleOnly},
		},
	}
}

// happen reports sessions about which the rules notify, one of which is muted, and waits until the messages are sent.
func happen(n notified) {
	_, err := n.notifier.Mute(notify.Mute{Agent: "nightly", Until: time.Now().Add(8 * time.Hour), By: "anna"})
	require.NoError(n, err)
	now := time.Now().Add(time.Millisecond)
	n.now = now
	n.at(0, own("deploy", "release 4.13 to production", models.Success, "12 of 12 instances are healthy"),
		own("deploy", "release 4.13 to staging", models.Failed, "the health check of checkout timed out after 120 s"),
		own("importer", "customers from the old shop", models.Pending, "Which of the two addresses is right?"),
		own("nightly", "reports for December", models.Failed, "no space left on device"))
	n.awaitView("messages are sent", func(v notify.View) bool {
		return len(v.Recent) >= 3 && slices.ContainsFunc(v.Pending, func(p notify.PendingView) bool { return p.Held == "muted" })
	})
}

// busy has many rules and destinations with long names, some of which fail, and many notifications.
func busy() *notify.Config {
	c := &notify.Config{Destinations: map[string]*notify.Destination{}}
	var all []string
	for i := range 14 {
		name := []string{fmt.Sprint("phone-", i), fmt.Sprintf("destination_with_a_long_name_%d", i), fmt.Sprint("oncall.", i)}[i%3]
		d := &notify.Destination{Name: name, Kind: []string{"ntfy", "alertmanager", "webhook"}[i%3], Sender: &sender{}}
		if i%3 == 2 {
			d.Sender = &sender{fault: errors.New(strings.Repeat("the server responds with 503 Service Unavailable: <img src=x onerror=alert(1)> ", 1+i%4))}
		} else {
			d.Limit = notify.Limit{Messages: 30 + i, Per: time.Hour}
		}
		c.Destinations[name] = d
		all = append(all, name)
	}
	for i := range 9 {
		c.Rules = append(c.Rules, notify.Rule{Name: []string{fmt.Sprint("rule-", i), fmt.Sprintf("rule_with_a_very_long_name_%d", i)}[i%2], Changes: []notify.Change{notify.Waits, notify.Lost, notify.Failed, notify.Finished},
			Agents: []string{"*:" + strings.Repeat("a-very-long-pattern-", i+1) + "*", "*"}, Title: strings.Repeat("x", 20*i), Steps: []notify.Step{{To: all[:5]}, {After: 20 * time.Minute, To: all[i:]}}, Every: time.Hour})
	}
	return c
}

// happenOften reports many sessions with long names.
func happenOften(n notified) {
	for i := range 4 {
		_, err := n.notifier.Mute(notify.Mute{Agent: strings.Repeat("long-agent-", 8) + fmt.Sprint(i), Until: time.Now().Add(time.Duration(i+1) * time.Hour)})
		require.NoError(n, err)
	}
	_, err := n.notifier.Mute(notify.Mute{Rule: "rule-2", Until: time.Now().Add(time.Hour), By: strings.Repeat("name ", 6)})
	require.NoError(n, err)
	n.now = time.Now().Add(time.Millisecond)
	var reports []models.StatusReport
	for i := range 150 {
		reports = append(reports, models.StatusReport{AgentID: fmt.Sprint("agent-", i), AgentName: []string{"payments", "checkout-service-with-a-long-name", "<b>web</b>", "עדכון מחירים"}[i%4],
			AgentHost: []string{"laptop", "ip-10-23-41-1.eu-central-1.compute.internal.example.com", ""}[i%3], SessionTopic: fmt.Sprint("session-", i),
			SessionTitle: []string{"Fix the flaky test", "", strings.Repeat("a-very-long-identifier_", 8), "תקן את הכותרת"}[i%4], Status: []models.Status{models.Pending, models.Failed, models.Success}[i%3]})
	}
	n.at(0, reports...)
	n.awaitView("messages are sent and fail", func(v notify.View) bool {
		failing := 0
		for _, d := range v.Destinations {
			if d.Failing {
				failing++
			}
		}
		return len(v.Recent) >= 30 && len(v.Pending) == 100 && failing > 0
	})
}

// TestNotificationsPage reads the page while messages are sent, fail, and work again, and tests destinations from it.
func TestNotificationsPage(t *testing.T) {
	in, phone := openBrowser(t), &sender{}
	s, n := servePastAndNotify(t, typical, rulesOf(phone))
	happen(n)
	p := open(in, t, s, "").live()
	p.press("5")
	p.await("document.querySelector('.verdict')?.innerText == 'All delivered'")
	require.Equal(t, "?view=notifications", eval[string](p, "location.search"))
	p.await("document.title.endsWith('Notifications · KubeAgents')")
	require.Equal(t, []string{"phone\nntfy\nworks\nSend a test", "team\nslack\nworks\nSend a test"}, p.texts(".destination .line-of"))
	require.Regexp(t, `^last delivery \d+s ago\nat most 10 per 1m$`, strings.ReplaceAll(p.texts(".details")[0], "\n\n", "\n"))
	require.Equal(t, []string{"Notifies phone of: waits, lost, failed", "Notifies team of: waits (after 20m), lost (after 20m), failed (after 20m)", "Repeats every 30m, until 4h after the change",
		"Notifies team of: finished", "Agents: deploy, release-*", `Title: contains "production"`, "From 22:00 to 07:00 (UTC): holds what is due, and sends a summary afterwards", "Sends only the title of the session's text"}, p.texts(".rule li"))
	require.Equal(t, "6", p.texts("#pending .count")[0])
	require.Contains(t, p.texts("[aria-labelledby=pending] .message"), "to phone by rule needs-me, muted")
	require.Contains(t, p.texts("[aria-labelledby=recent] .message"), "to team by rule deploys")
	require.Len(t, p.texts("[aria-labelledby=recent] .row"), 3)

	test := `[aria-label="Send a test to phone"]`
	p.run(click(test))
	p.await("document.querySelector('.outcome')?.innerText == 'The test was delivered'")
	phone.failWith(errors.New("it says <b>no</b>"))
	p.run(click(test))
	p.await("document.querySelector('.outcome')?.innerText == 'The test failed: it says <b>no</b>'")
	require.True(t, eval[bool](p, fmt.Sprintf("document.activeElement === document.querySelector('%s')", test)), "the focus stays")
	p.await("document.querySelector('.verdict').innerText == 'The last message to phone failed: it says <b>no</b>'")
	require.Equal(t, "phone\nntfy\nfails\nSend a test", p.texts(".destination .line-of")[0])

	n.now = time.Now()
	n.at(0, own("importer", "prices", models.Pending, "Which?"))
	p.await(`document.querySelector('.verdict').innerText == "1 message can't be delivered to phone: it says <b>no</b>"`)
	p.await("document.querySelector('[aria-labelledby=pending] .row').innerText.includes('attempt')")
	phone.failWith(nil)
	p.await("document.querySelector('.verdict').innerText == 'All delivered' && document.querySelectorAll('[aria-labelledby=recent] .row').length == 4")
	p.run(click("[aria-labelledby=recent] .row"))
	p.await("document.querySelector('h1').innerText == 'prices'")
	require.Equal(t, "?agent=importer&session=prices", eval[string](p, "location.search"))
}

// TestMutingOnThePage mutes everything, a rule and an agent with the keyboard alone, and unmutes them.
func TestMutingOnThePage(t *testing.T) {
	in := openBrowser(t)
	s, n := servePastAndNotify(t, typical, rulesOf(&sender{}))
	p := open(in, t, s, "?view=notifications").live()
	p.await("document.querySelector('.verdict')?.innerText == 'Nothing to deliver yet'")
	enter := func(selector string) {
		t.Helper()
		p.await(fmt.Sprintf("document.querySelector('%s')", selector))
		p.run(chromedp.Focus(chromedp.CSS(selector)), chromedp.KeyEvent(kb.Enter))
	}
	enter(`[aria-label="Mute everything: 8 hours"]`)
	p.await("/^Everything is muted for another 7h 59m$/.test(document.querySelector('.verdict').innerText)")
	enter(`[aria-label="Mute everything: 1 hour"]`)
	p.await("/^Everything is muted for another 59m$/.test(document.querySelector('.verdict').innerText)")
	require.Equal(t, []string{"Everything is muted for another 59m"}, p.texts("#mutes ~ .rows .muted > span"), "it takes the place of the longer one")
	require.Equal(t, []string{"muted for another 59m", "muted for another 59m"}, p.texts(".rule .muted"))
	p.goTo("?agent=nightly", ".muting .muted")
	require.Equal(t, []string{"All notifications are muted for another 59m"}, p.texts(".muted"))
	p.goTo("?view=notifications", ".verdict")
	enter(`[aria-label="Unmute everything"]`)
	p.await("document.querySelector('.verdict').innerText == 'Nothing to deliver yet' && !document.querySelector('.muted')")
	require.Equal(t, "H1", eval[string](p, "document.activeElement.tagName"))

	enter(`[aria-label="Mute the rule deploys"]`)
	p.await("document.querySelector('[role=menu]')")
	require.Equal(t, "1 hour", eval[string](p, "document.activeElement.innerText"))
	p.run(chromedp.KeyEvent(kb.ArrowDown), chromedp.KeyEvent(kb.ArrowDown))
	require.Regexp(t, `^Until (tomorrow )?8:00\sAM$`, eval[string](p, "document.activeElement.innerText"))
	p.run(chromedp.KeyEvent(kb.ArrowDown), chromedp.KeyEvent(kb.ArrowDown), chromedp.KeyEvent(kb.Enter))
	p.await("document.querySelector('.rule .muted')?.innerText == 'muted for another 6d 23h'")
	require.True(t, eval[bool](p, `document.activeElement.matches('[aria-label="Mute the rule deploys"]')`), "the focus returns to the button")

	p.goTo("?agent=nightly", ".muting button")
	enter(".muting button")
	p.await("document.querySelector('[role=menu]')")
	p.run(chromedp.KeyEvent(kb.Enter))
	p.await("document.querySelector('.muted')?.innerText.startsWith('Notifications of this agent are muted for another 59m')")
	require.Len(t, n.notifier.Mutes(), 2)
	p.goTo(session("nightly", "reports for November"), ".muting .muted")
	require.Equal(t, []string{"Unmute"}, p.texts(".muting button"))
	enter(".muting button")
	p.await("document.querySelector('.muting').innerText == 'Mute notifications of this agent'")
	require.Len(t, n.notifier.Mutes(), 1)
	p.goTo("?agent=deploy", ".muting")
	require.Empty(t, p.texts(".muted"), "another agent")
	require.NoError(t, p.ctx.Err())
}

// TestWhoMutesOnThePage shows the page to a team, which may only read, and to the operator, who signed in with a token that
// may not acknowledge.
func TestWhoMutesOnThePage(t *testing.T) {
	in, path := openBrowser(t), filepath.Join(t.TempDir(), "rules.yaml")
	require.NoError(t, os.WriteFile(path, []byte("destinations:\n  secret-channel: {command: {program: /bin/cat}}\nrules:\n  - {name: all, on: [waits], after: 0s, to: [secret-channel]}\n"), 0o600))
	s, team := withTokens(t, "NOTIFY_FILE="+path)
	s.report(t, reportOf("team-a/anna", "mine", "running", ""), reportOf("team-b/bert", "theirs", "running", ""))
	signIn := func(token string) *tab {
		p := openAt(in, t, s, "?view=notifications", ".signin")
		p.run(chromedp.KeyEvent(token), chromedp.KeyEvent(kb.Enter), shown("main#content .verdict"))
		return p
	}
	p := signIn(s.token)
	p.await("document.querySelector('.destination')")
	require.Equal(t, []string{"secret-channel"}, p.texts(".destination .name"))
	s.report(t, reportOf("team-a/anna", "mine", "pending", ""), reportOf("team-b/bert", "theirs", "pending", ""))
	p.await("document.querySelectorAll('[aria-labelledby=recent] .row').length == 2")
	p.run(click(`[aria-label="Send a test to secret-channel"]`))
	p.await("document.querySelector('.outcome')?.innerText == 'The test was delivered'")
	p.run(click(`[aria-label="Mute everything: 1 hour"]`))
	p.await("document.querySelector('#mutes ~ .rows .muted')?.innerText.startsWith('Everything is muted for another 59m by all')")
	p.run(click("[aria-label='Sign out (all)']"), shown(".signin"))

	p = signIn(team)
	p.await("document.querySelectorAll('[aria-labelledby=recent] .row').length == 1")
	require.Equal(t, "to command", p.texts("[aria-labelledby=recent] .message")[0])
	text := p.texts("main")[0]
	for _, hidden := range []string{"secret-channel", "team-b", "theirs", "Rules", "Destinations"} {
		require.NotContains(t, text, hidden)
	}
	require.Contains(t, text, "Everything is muted for another 59m by all")
	require.Empty(t, p.texts("main button"))
	p.goTo("?agent=team-a%2Fanna", ".muting .muted")
	require.Empty(t, p.texts("main button"))
}

// TestVerdicts checks the line that says whether people are notified.
func TestVerdicts(t *testing.T) {
	p := open(openBrowser(t), t, serve(t), "")
	for given, want := range map[string]string{
		"{}":                         "Nothing to deliver yet",
		"{rules_file: false}":        "No rules and no devices: nobody is notified.",
		"{recent: [{}]}":             "All delivered",
		"{to_send: 1}":               "1 message waits to be sent",
		"{to_send: 1200}":            "1,200 messages wait to be sent",
		"{pending: [{attempts: 2}]}": "1 message about your agents could not be delivered yet",
		"{mutes: [{agent_id: 'a'}]}": "Nothing to deliver yet",
		"{mutes: [{}], to_send: 2}":  "Everything is muted",
		"{manages: true, mutes: [{}], destinations: [{name: 'a', failing: true, to_send: 0}]}":                                                                 "The last message to a failed",
		"{manages: true, to_send: 5, destinations: [{name: 'a', failing: true, to_send: 2}, {name: 'b', failing: true, to_send: 1}, {name: 'c', to_send: 1}]}": "3 messages can't be delivered to a, b",
	} {
		got := evalIn[string](p, "notifications.js", fmt.Sprintf("({verdictOf}) => verdictOf({rules_file: true, manages: false, pending: [], to_send: 0, recent: [], mutes: [], ...%s}).text", given))
		require.Equal(t, want, got, given)
	}
	for now, want := range map[string]string{"2026-11-29T07:59": "Until 8:00", "2026-11-29T08:00": "Until tomorrow 8:00", "2026-11-29T23:00": "Until tomorrow 8:00"} {
		got := evalIn[[]string](p, "mute.js", fmt.Sprintf("({morning}) => { const {until, text} = morning(new Date('%s')); return [text, String(new Date(until).getHours() * 100 + new Date(until).getMinutes()), String(new Date(until) - new Date('%s'))] }", now, now))
		require.True(t, strings.HasPrefix(got[0], want), got)
		require.Equal(t, "800", got[1])
		require.NotContains(t, got[2], "-")
	}
}

// TestLayoutOfNotifications measures the page at every width without rules, with a few and with many, and checks it with
// axe-core. Texts of destinations and agents are inert.
func TestLayoutOfNotifications(t *testing.T) {
	axe, err := os.ReadFile("testdata/axe.min.js")
	require.NoError(t, err)
	in := openBrowser(t)
	some, n := servePastAndNotify(t, typical, rulesOf(&sender{}))
	happen(n)
	many, m := servePastAndNotify(t, typical, busy())
	happenOften(m)
	for i, page := range []struct {
		name   string
		server *server
		query  string
	}{
		{"without rules", servePast(t, func(past) {}), "?view=notifications"}, {"some", some, "?view=notifications"}, {"many", many, "?view=notifications"},
		{"an agent that is muted", some, "?agent=nightly"}, {"a session of a muted agent", some, session("nightly", "reports for December")}, {"an agent", some, "?agent=deploy"},
	} {
		p := open(in, t, page.server, page.query)
		p.await("document.querySelector('.verdict, .muting') && !document.querySelector('.skeleton')")
		if strings.Contains(page.name, "muted") {
			p.await("document.querySelector('.muted')")
		}
		if page.name == "many" {
			require.NotEmpty(t, p.texts(".more button"))
			p.run(click(".more button"))
			p.await("document.querySelectorAll('[aria-labelledby=recent] .row').length > 20 && document.activeElement.matches('.row')")
			require.Empty(t, p.names("main img, main b"), "texts are shown as text")
			require.Contains(t, p.texts("main")[0], "<img src=x onerror=alert(1)>")
			require.Contains(t, p.texts("main")[0], "<b>web</b>")
		}
		p.requireLayout(page.name)
		for j, theme := range []string{"light", "dark"} {
			p.run(resize([]int64{390, 1280}[(i+j)%2]), do(fmt.Sprintf("document.documentElement.dataset.theme = %q", theme)))
			p.requireAccessible(string(axe), page.name+", "+theme)
		}
	}
}
