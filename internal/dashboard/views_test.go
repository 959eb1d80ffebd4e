package dashboard_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/models"
)

// goTo opens another view in the same tab, and waits for an element that matches selector.
func (p *tab) goTo(query, selector string) {
	p.Helper()
	p.run(chromedp.Navigate(p.server.url(query)))
	p.await(fmt.Sprintf("document.querySelector(%q) && !document.querySelector('.skeleton')", selector))
}

// TestListsShowTheTimeThatSortsThem checks the order of lists whose sessions waited, were lost, and reported at
// different times.
func TestListsShowTheTimeThatSortsThem(t *testing.T) {
	in := openBrowser(t)
	s := servePast(t, func(p past) {
		p.at(7*time.Hour, models.StatusReport{AgentID: "a", SessionTopic: "lost late", Status: models.Running, TTLMinutes: 360})
		p.at(5*time.Hour, own("a", "lost early", models.Running, ""), own("a", "failed long ago", models.Failed, ""))
		p.at(3*time.Hour, models.StatusReport{AgentID: "a", SessionTopic: "waits long", Status: models.Pending, TTLMinutes: 600})
		p.at(2*time.Hour, models.StatusReport{AgentID: "a", SessionTopic: "waits", Status: models.Pending, TTLMinutes: 600})
		p.at(time.Hour, models.StatusReport{AgentID: "a", SessionTopic: "waits long", Status: models.Pending, TTLMinutes: 600, Message: "Still here"})
		p.at(20*time.Minute, own("a", "failed", models.Failed, ""))
	})
	p := open(in, t, s, "").live()
	want := []string{"waits long", "waits", "lost late", "lost early", "failed"}
	times := []string{"for 3h", "for 2h", "1h ago", "4h 30m ago", "20m ago"}
	require.Equal(t, want, p.texts(".row .name"))
	require.Equal(t, times, p.texts(".row .when"))
	require.Empty(t, p.texts(".row .status"), "the headings say it")
	static := "fetch('./').then((answer) => answer.text()).then((page) => new DOMParser().parseFromString(page, 'text/html')).then((of) => [...of.querySelectorAll('.row %s')].map((e) => e.textContent))"
	require.Equal(t, want, eval[[]string](p, fmt.Sprintf(static, ".name")), "without scripts")
	require.Equal(t, times, eval[[]string](p, fmt.Sprintf(static, ".when")), "without scripts")

	p.goTo("?view=sessions", rows)
	require.Equal(t, []string{"failed", "waits long", "waits", "failed long ago", "lost early", "lost late"}, p.texts(".row .name"))
	require.Equal(t, []string{"20m ago", "1h ago", "2h ago", "5h ago", "5h ago", "7h ago"}, p.texts(".row .when"))
	require.Equal(t, []string{"failed", "pending", "pending", "failed", "lost", "lost"}, p.texts(".row .status"), "an old failure is a failure")
}

// TestGroupsAreCapped checks that long lists in "Needs you" end with a link to all of their sessions.
func TestGroupsAreCapped(t *testing.T) {
	in, s := openBrowser(t), servePast(t, crowded)
	p := open(in, t, s, "").live()
	p.await("document.querySelector('#group-failed .count')?.innerText == '234'")
	for group, want := range map[string]string{"pending": "346", "lost": "123", "failed": "234"} {
		require.Equal(t, []string{want}, p.texts("#group-"+group+" .count"))
		require.Equal(t, []string{"All " + want}, p.texts("[aria-labelledby=group-"+group+"] .more a"))
	}
	require.Len(t, p.texts("[aria-labelledby=group-failed] .row"), 20)
	require.Len(t, p.texts("[aria-labelledby=group-lost] .row"), 20)
	require.Equal(t, []string{"346 waiting for you", "123 lost", "234 failed"}, eval[[]string](p, "[...document.querySelectorAll('.badge')].map((badge) => badge.title)"))
	p.run(click("[aria-labelledby=group-lost] .more a"))
	p.await("document.querySelectorAll('.row').length >= 50 && location.search == '?view=sessions&needs=lost'")
	require.Equal(t, "needs you: lost", eval[string](p, "document.querySelector('.choice select').value"))
	require.Equal(t, "4h 30m ago", p.texts(".row .when")[0])
	require.Empty(t, p.texts("[list=known-agent_id]"), "the API does not combine them")
}

// TestNamesakesShowTheirIDs checks that agents of the same name are told apart, by their hosts, their
// tools or else their IDs.
func TestNamesakesShowTheirIDs(t *testing.T) {
	in := openBrowser(t)
	s := servePast(t, func(p past) {
		for _, agent := range []struct{ id, name, host, source string }{{"one", "Anna", "", ""}, {"two", "Anna", "", ""}, {"three", "Anna", "laptop", ""},
			{"four", "Berta", "", ""}, {"five", "Anna", "laptop", "codex"}} {
			p.at(time.Minute, models.StatusReport{AgentID: agent.id, AgentName: agent.name, AgentHost: agent.host, AgentSource: agent.source,
				SessionTopic: "t", Status: models.Pending})
		}
	})
	p := open(in, t, s, "").live()
	want := []string{"Annaone", "Annatwo", "Anna@laptop", "Berta", "Anna@laptop codex"}
	require.ElementsMatch(t, want, p.names(".row .who"))
	require.ElementsMatch(t, want, eval[[]string](p, "fetch('./').then((answer) => answer.text()).then((page) => new DOMParser().parseFromString(page, 'text/html')).then((of) => [...of.querySelectorAll('.who')].map((e) => e.textContent))"))
	p.goTo("?view=agents", rows)
	want[len(want)-1] = "Anna@laptop" // its source is beside the number of its sessions
	require.ElementsMatch(t, want, p.names(".row .name"))
	for _, view := range []string{"", "?view=sessions", "?view=board", "?view=agents"} {
		p.run(resize(390))
		p.goTo(view, rows)
		require.True(t, eval[bool](p, "document.querySelector('.source').checkVisibility()"), view)
	}
}

// TestEmptyViewsSayWhy checks views without sessions: because there are none, or because of the filters.
func TestEmptyViewsSayWhy(t *testing.T) {
	in, s := openBrowser(t), serve(t)
	p := open(in, t, s, "").live()
	for _, view := range []string{"sessions", "board", "agents"} {
		p.goTo("?view="+view, ".first")
		require.Contains(t, p.texts("main")[0], "No agent has reported yet")
	}
	p.goTo("?view=sessions&status=failed", ".nothing")
	require.Equal(t, []string{"No sessions match these filters. Show all sessions"}, p.texts(".nothing"))
	p.run(click(".nothing a"))
	p.await("document.querySelector('.first') && location.search == '?view=sessions'")
	s.report(t, reportOf("a", "t", "running", ""))
	p.await("document.querySelector('.row')")
}

// TestMissingPagesHelp opens a session that does not exist, and then begins it.
func TestMissingPagesHelp(t *testing.T) {
	in, s := openBrowser(t), serve(t)
	p := open(in, t, s, session("a", "later")).live()
	p.await("document.querySelector('.missing')")
	require.Equal(t, []string{"Session not found"}, p.texts("h1"))
	require.Equal(t, []string{"later"}, p.texts(".sought"))
	require.Equal(t, []string{"?agent=a", "?view=sessions&search=later", "?view=sessions"}, eval[[]string](p, "[...document.querySelectorAll('.missing a')].map((link) => link.getAttribute('href'))"))
	require.Empty(t, p.texts(".trouble"))
	p.run(click(".missing a"))
	p.await("document.querySelector('h1').innerText == 'Agent not found' && document.querySelector('.missing')")
	require.Equal(t, []string{"?view=agents&search=a", "?view=agents", "connect"}, eval[[]string](p, "[...document.querySelectorAll('.missing a')].map((link) => link.getAttribute('href'))"))
	p.run(do("history.back()"))
	p.await("document.querySelector('h1').innerText == 'Session not found'")
	s.report(t, reportOf("a", "later", "running", ""))
	p.await("document.querySelector('.entry') && document.querySelector('h1').innerText == 'later' && !document.querySelector('.missing')")
}

// TestFirstReportCommand checks the command on the empty page, which must work with the server as it is.
func TestFirstReportCommand(t *testing.T) {
	in := openBrowser(t)
	guarded, token := withTokens(t)
	p := openAt(in, t, guarded, "", ".signin")
	p.run(chromedp.KeyEvent(token), chromedp.KeyEvent(kb.Enter), shown(".first"))
	require.Contains(t, p.texts(".copy pre")[0], guarded.url("webhook/status")+` -H "Authorization: Bearer $KUBEAGENTS_TOKEN" -d '`)

	signed := serve(t, "WEBHOOK_SECRET=whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	p = openAt(in, t, signed, "", ".first")
	require.Empty(t, p.texts(".copy"), "no unsigned report is accepted")
	require.Contains(t, p.texts(".first")[0], "This server accepts only signed webhooks.")
	p.run(click(".first .go"), shown(".hint"))
	require.Regexp(t, `only signed webhooks.*TOKENS_FILE(?s:.*)`+signed.url("webhook/status")+`.*webhook-signature`, p.texts(".hint")[0])
	require.Empty(t, p.texts(".copy"), "tools can't sign")
}

// TestTimesOfASession checks when a session started by its own timestamps, and the legend of its timeline.
func TestTimesOfASession(t *testing.T) {
	in := openBrowser(t)
	s := servePast(t, func(p past) {
		p.at(10*time.Minute, models.StatusReport{AgentID: "a", SessionTopic: "t", Status: models.Running, Timestamp: p.now.Add(-3 * time.Hour)})
		p.at(9*time.Minute, models.StatusReport{AgentID: "a", SessionTopic: "t", Status: models.Success, Message: "תקן את הכותרת"})
	})
	p := open(in, t, s, session("a", "t")).live()
	p.await("document.querySelector('.sums')")
	require.Contains(t, p.texts(".facts")[0], "Started\n3h ago")
	require.Equal(t, []string{"running 2h 51m", "success"}, strings.Split(strings.ReplaceAll(strings.Join(p.texts(".sums li"), "|"), "\n", " "), "|"), "every colour of the bar")
	require.ElementsMatch(t, eval[[]string](p, "[...document.querySelectorAll('.stretch')].map((e) => e.className.replace('stretch', 'dot'))"), eval[[]string](p, "[...document.querySelectorAll('.dot')].map((e) => e.className)"))
	require.True(t, eval[bool](p, "document.querySelector('h1').compareDocumentPosition(document.querySelector('.current-message')) === 4 && document.querySelector('.current-message').nextElementSibling.matches('.facts')"))
}

// TestQuestionsStandUnderTheTitle checks the page of a waiting session on a phone.
func TestQuestionsStandUnderTheTitle(t *testing.T) {
	in, s := openBrowser(t), servePast(t, typical)
	p := open(in, t, s, session("claude-code:payments@laptop-anna", "migrate"))
	p.run(resize(390))
	p.await("document.querySelector('.questions')")
	require.Less(t, eval[float64](p, "document.querySelector('.questions').getBoundingClientRect().top - document.querySelector('h1').getBoundingClientRect().bottom"), 40.0)
	require.Equal(t, "Asks for permission Bash: rm -rf build && make integration", p.texts(".entry .message")[0])
	require.Equal(t, []string{"Live"}, p.texts(".connection"))
}

// TestTitlesAlign checks that a title from right to left stands where others do, in a list, on the board and on its page.
func TestTitlesAlign(t *testing.T) {
	in, s := openBrowser(t), servePast(t, typical)
	const left = `(() => {
		const range = document.createRange()
		range.selectNodeContents([...document.querySelectorAll('%s')].find((e) => e.textContent.includes('תקן')))
		return range.getBoundingClientRect().left - range.startContainer.getBoundingClientRect().left
	})()`
	p := open(in, t, s, "?view=sessions")
	for query, title := range map[string]string{"?view=sessions": ".name", "?view=board": ".name", session("claude-code:website@studio", "title"): "h1"} {
		p.goTo(query, ".row, .entry")
		p.await("document.body.textContent.includes('תקן')")
		require.InDelta(t, 0, eval[float64](p, fmt.Sprintf(left, title)), 1, query)
	}
}

// TestBoardHasLostSessions checks the columns of the board, and that titles take two lines.
func TestBoardHasLostSessions(t *testing.T) {
	in, s := openBrowser(t), servePast(t, crowded)
	p := open(in, t, s, "?view=board").live()
	p.run(resize(1920))
	p.await("document.querySelector('[aria-labelledby=column-lost] .row')")
	require.Equal(t, []string{"running", "pending", "success", "failed", "idle", "lost"}, p.texts(".column h2 .status"))
	require.Equal(t, []string{"123"}, p.texts("#column-lost .count"))
	require.Greater(t, eval[float64](p, "document.querySelector('.board').clientWidth"), 1850.0)
	require.InDelta(t, 2, eval[float64](p, "((e) => e.clientHeight / parseFloat(getComputedStyle(e).lineHeight))([...document.querySelectorAll('.name')].find((e) => e.textContent.includes('identifier')))"), .1)
}

// TestFiltersComplete types into the filters, which apply to complete values only.
func TestFiltersComplete(t *testing.T) {
	in, s := openBrowser(t), servePast(t, typical)
	p := open(in, t, s, "?view=sessions").live()
	p.await("document.querySelectorAll('.row').length > 5")
	all := len(p.texts(".row"))
	p.run(chromedp.SendKeys(chromedp.CSS("[list=known-agent_id]"), "payments@laptop"))
	p.await("document.querySelectorAll('#known-agent_id option').length == 2")
	require.Equal(t, []string{"claude-code:payments@laptop-anna", "claude-code:payments@laptop-ben"}, eval[[]string](p, "[...document.querySelectorAll('#known-agent_id option')].map((e) => e.value)"))
	require.Equal(t, "payments@laptop-anna", eval[string](p, "document.querySelector('#known-agent_id option').label"))
	require.Len(t, p.texts(".row"), all, "it is not complete yet")
	p.run(do("document.querySelector('[list=known-agent_id]').select()"), chromedp.SendKeys(chromedp.CSS("[list=known-agent_id]"), "claude-code:payments@laptop-ben"))
	p.await("document.querySelectorAll('.row').length == 1 && location.search.includes('agent_id=claude-code%3Apayments%40laptop-ben')")
	p.run(click(".clear"))
	p.await(fmt.Sprintf("document.querySelectorAll('.row').length == %d", all))
	p.run(chromedp.SendKeys(chromedp.CSS("[list=known-source]"), "cr"))
	p.await("[...document.querySelectorAll('#known-source option')].map((e) => e.value) == 'claude-code,cron'")
	p.run(chromedp.SendKeys(chromedp.CSS("[list=known-source]"), "on"))
	p.await("location.search.includes('source=cron')")
	p.run(click(".clear"))
	p.run(chromedp.SendKeys(chromedp.CSS("[list=known-source]"), "none such"), chromedp.KeyEvent(kb.Enter))
	p.await("location.search.includes('source=none+such') && document.querySelector('.nothing')")

	for query, want := range map[string]string{"": "", "&status=pending&state=active": "pending", "&status=failed": "failed", "&state=lost": "lost", "&state=active": "active", "&status=success&state=expired": "success"} {
		p.goTo("?view=sessions"+query, ".row")
		require.Equal(t, want, eval[string](p, "document.querySelector('.choice select').value"), query)
	}
	p.run(chromedp.SetValue(chromedp.CSS(".choice select"), "lost"), do("document.querySelector('.choice select').dispatchEvent(new Event('change', {bubbles: true}))"))
	p.await("location.search == '?view=sessions&state=lost' && document.querySelectorAll('.row').length == 2")
}

// TestAcknowledge clears what is done from "Needs you", and snoozes what waits, with the keyboard alone.
func TestAcknowledge(t *testing.T) {
	in := openBrowser(t)
	s := servePast(t, func(p past) {
		p.at(3*time.Hour, models.StatusReport{AgentID: "a", SessionTopic: "gone", Status: models.Running, TTLMinutes: 60})
		p.at(time.Hour, models.StatusReport{AgentID: "a", SessionTopic: "waits", Status: models.Pending, TTLMinutes: 600})
		p.at(20*time.Minute, own("a", "failed", models.Failed, ""))
	})
	p := open(in, t, s, "").live()
	require.Equal(t, []string{"waits", "gone", "failed"}, p.texts(".row .name"))
	require.Equal(t, []string{"Snooze all", "Acknowledge all", "Acknowledge all"}, p.texts(".acknowledge button"))
	p.run(chromedp.Focus("[aria-labelledby=group-lost] .acknowledge button"), chromedp.KeyEvent(kb.Enter))
	p.await("!document.querySelector('#group-lost')")
	require.Equal(t, []string{"waits", "failed"}, p.texts(".row .name"))
	require.Equal(t, "failed", eval[string](p, focusedRow))

	p.goTo("?agent=a&session=waits", ".acknowledge button")
	require.Equal(t, []string{"Snooze", "Acknowledge"}, p.texts(".acknowledge > button"))
	p.run(chromedp.Focus(".acknowledge button"), chromedp.KeyEvent(kb.Enter))
	p.await("document.querySelector('[role=menu]')")
	p.run(chromedp.KeyEvent(kb.Enter))
	p.await("document.querySelector('.acknowledge.quiet')")
	require.Regexp(t, `^Snoozed \d+s ago, for another (30m|29m)`, p.texts(".acknowledge")[0])
	p.goTo("?agent=a&session=failed", ".acknowledge button")
	require.Equal(t, []string{"Acknowledge"}, p.texts(".acknowledge button"))
	p.goTo("", "#group-failed")
	require.Equal(t, []string{"failed"}, p.texts(".row .name"))
}
