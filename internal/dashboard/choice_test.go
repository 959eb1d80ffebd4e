package dashboard_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/models"
)

// needy is a fleet in which the sessions w1 to w3 wait, l1 and l2 are lost and f1 and f2 failed, in the order of the page.
func needy(p past) {
	for i, topic := range []string{"l2", "l1"} {
		p.at(time.Duration(4-i)*time.Hour, models.StatusReport{AgentID: "a", SessionTopic: topic, Status: models.Running, TTLMinutes: 60})
	}
	for i, topic := range []string{"w1", "w2", "w3"} {
		p.at(time.Duration(90-10*i)*time.Minute, models.StatusReport{AgentID: "a", SessionTopic: topic, Status: models.Pending, TTLMinutes: 600})
	}
	p.at(20*time.Minute, own("a", "f2", models.Failed, ""))
	p.at(10*time.Minute, own("a", "f1", models.Failed, ""))
}

// rowOf returns a selector of JavaScript for the item of the session with this topic.
func rowOf(topic string) string {
	return fmt.Sprintf("[...document.querySelectorAll('li[data-id]')].find((item) => item.dataset.id.endsWith('\\n%s'))", topic)
}

// clickIn clicks an element in the row of a session. keys are the modifier keys: 8 for shift.
func (p *tab) clickIn(topic, selector string, keys int64) {
	p.Helper()
	p.rest()
	at := eval[[]float64](p, fmt.Sprintf("(({x, y, width, height}) => [x + width / 2, y + height / 2])(%s.querySelector(%q).getBoundingClientRect())", rowOf(topic), selector))
	for _, kind := range []input.DispatchMouseEventType{input.DispatchMouseEventTypeMouseMoved, input.DispatchMouseEventTypeMousePressed, input.DispatchMouseEventTypeMouseReleased} {
		p.run(call(input.DispatchMouseEvent, input.DispatchMouseEventParams{Type: kind, X: at[0], Y: at[1], Button: input.MouseButtonLeft, ClickCount: 1, Modifiers: keys}))
	}
}

// rest waits until the page has drawn what happened so far, and no longer moves.
func (p *tab) rest() {
	p.Helper()
	eval[bool](p, "new Promise((go) => requestAnimationFrame(() => requestAnimationFrame(() => go(true))))")
}

// pressKey presses a key that types nothing. keys are the modifier keys.
func (p *tab) pressKey(key string, keys int64) {
	p.Helper()
	for _, kind := range []input.DispatchKeyEventType{input.DispatchKeyEventTypeRawKeyDown, input.DispatchKeyEventTypeKeyUp} {
		p.run(call(input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: kind, Key: key, Code: key, Modifiers: keys}))
	}
}

const shift = 8

func (p *tab) requireChosen(topics ...string) {
	p.Helper()
	p.await(fmt.Sprintf("document.querySelectorAll('.picked').length == %d", len(topics)))
	if len(topics) == 0 {
		require.Empty(p, p.texts(".chosen"))
		return
	}
	require.Equal(p, topics, p.texts(".picked .name"))
	require.Equal(p, fmt.Sprintf("%d selected", len(topics)), p.texts(".chosen strong")[0])
}

func (p *tab) awaitRows(topics string) {
	p.Helper()
	p.await(fmt.Sprintf("[...document.querySelectorAll('.row .name')].map((e) => e.innerText).join(' ') == %q", topics))
}

// focusedRow is an expression for the topic of the row whose link has the focus.
const focusedRow = "document.activeElement.matches('a.row') && document.activeElement.querySelector('.name').innerText"

// TestActOnARow acknowledges and snoozes single sessions with their own buttons. They leave the list at once, even under
// the pointer, and the focus goes to the next row.
func TestActOnARow(t *testing.T) {
	in, s := openBrowser(t), servePast(t, needy)
	p := open(in, t, s, "").live()
	p.awaitRows("w1 w2 w3 l1 l2 f1 f2")
	require.Equal(t, "0", eval[string](p, "getComputedStyle("+rowOf("l1")+".querySelector('.act')).opacity"), "it appears under the pointer")
	top := eval[float64](p, rowOf("l1")+".getBoundingClientRect().top")
	height := eval[float64](p, rowOf("l1")+".offsetHeight")
	p.clickIn("l1", ".act button", 0)
	p.awaitRows("w1 w2 w3 l2 f1 f2")
	require.Equal(t, "l2", eval[string](p, focusedRow))
	require.Equal(t, "1", eval[string](p, "getComputedStyle("+rowOf("l2")+".querySelector('.act')).opacity"))
	require.InDelta(t, top, eval[float64](p, rowOf("l2")+".getBoundingClientRect().top"), 1, "the next row takes its place")
	require.InDelta(t, height, eval[float64](p, rowOf("l2")+".offsetHeight"), 1)
	p.await("document.querySelector('.badge.lost').title == '1 lost'")

	p.clickIn("w2", ".act button", 0)
	p.await("document.querySelector('[role=menu]')")
	require.Equal(t, []string{"30 minutes", "1 hour", "4 hours", "1 day", "Until something new happens"}, p.texts("[role=menuitem]"))
	p.run(chromedp.KeyEvent(kb.ArrowDown), chromedp.KeyEvent(kb.ArrowDown), chromedp.KeyEvent(kb.Enter))
	p.awaitRows("w1 w3 l2 f1 f2")
	require.Equal(t, "w3", eval[string](p, focusedRow))
	p.await("document.querySelector('[role=status].unseen').textContent == '1 snoozed'")

	p.run(chromedp.KeyEvent("e")) // acknowledges the row that has the focus
	p.awaitRows("w1 l2 f1 f2")
	require.Equal(t, "l2", eval[string](p, focusedRow))
	p.goTo(session("a", "w2"), ".acknowledge")
	require.Regexp(t, `^Snoozed \d+s ago, for another (4h|3h 59m)$`, p.texts(".acknowledge")[0])
	p.goTo(session("a", "w3"), ".acknowledge")
	require.Regexp(t, `^Acknowledged \d+s ago$`, p.texts(".acknowledge")[0])
}

// TestChooseSeveral chooses rows with a mouse, and acknowledges them together.
func TestChooseSeveral(t *testing.T) {
	in, s := openBrowser(t), servePast(t, needy)
	p := open(in, t, s, "").live()
	p.awaitRows("w1 w2 w3 l1 l2 f1 f2")
	p.clickIn("w2", ".choose input", 0)
	p.requireChosen("w2")
	require.Equal(t, "1", eval[string](p, "getComputedStyle("+rowOf("w3")+".querySelector('.choose')).opacity"), "all checkboxes of a list with a choice are visible")
	p.clickIn("l1", ".choose input", shift)
	p.requireChosen("w2", "w3", "l1")
	p.clickIn("w3", ".choose input", 0)
	p.requireChosen("w2", "l1")
	p.run(click(".chosen .clear-choice"))
	p.requireChosen()

	p.clickIn("l2", ".choose input", 0)
	require.Equal(t, []string{"Acknowledge", "Clear"}, p.texts(".chosen > button"), "lost sessions can't be snoozed")
	p.clickIn("f2", ".choose input", shift)
	p.requireChosen("l2", "f1", "f2")
	require.Equal(t, []string{"Acknowledge", "Snooze", "Clear"}, p.texts(".chosen > button"))
	p.run(click(".chosen button"))
	p.awaitRows("w1 w2 w3 l1")
	p.requireChosen()
	require.Equal(t, "l1", eval[string](p, focusedRow), "no row follows, so the one before gets the focus")
	p.await("document.querySelectorAll('.badge').length == 2 && document.querySelector('.badge.lost').title == '1 lost'")
}

// TestChooseWithTheKeyboard chooses rows with the keyboard alone, and snoozes them together.
func TestChooseWithTheKeyboard(t *testing.T) {
	in, s := openBrowser(t), servePast(t, needy)
	p := open(in, t, s, "").live()
	p.awaitRows("w1 w2 w3 l1 l2 f1 f2")
	p.press("j")
	p.press("x")
	p.requireChosen("w1")
	p.press("x")
	p.requireChosen()
	for range 3 {
		p.pressKey("ArrowDown", shift)
	}
	p.requireChosen("w1", "w2", "w3", "l1")
	require.Equal(t, "l1", eval[string](p, focusedRow))
	p.pressKey("ArrowUp", shift)
	p.requireChosen("w1", "w2", "w3")
	p.run(chromedp.KeyEvent(kb.Escape))
	p.requireChosen()
	require.Equal(t, "w3", eval[string](p, focusedRow), "the first Escape only clears the choice")

	p.run(do(rowOf("w2")+".querySelector('.choose input').focus()"), chromedp.KeyEvent(" "))
	p.requireChosen("w2")
	p.pressKey("ArrowDown", shift)
	p.requireChosen("w2", "w3")
	require.True(t, eval[bool](p, "document.activeElement.matches('.choose input')"))
	p.press("s")
	p.await("document.querySelector('[role=menu]')")
	require.Equal(t, "30 minutes", eval[string](p, "document.activeElement.innerText"))
	p.run(chromedp.KeyEvent(kb.Escape))
	p.await("!document.querySelector('[role=menu]')")
	p.requireChosen("w2", "w3")
	p.press("s")
	p.await("document.querySelector('[role=menu]')")
	p.run(chromedp.KeyEvent(kb.Enter))
	p.awaitRows("w1 l1 l2 f1 f2")
	require.Equal(t, "l1", eval[string](p, focusedRow))
	require.Contains(t, eval[string](p, "fetch('api/agents/a/sessions/w3').then((answer) => answer.text())"), `"until"`)
	p.press("?")
	p.await("document.querySelector('dialog[open]')")
	require.Contains(t, p.texts("dialog")[0], "select a session that needs you")
}

// TestTheChoiceFollowsChanges changes chosen sessions while a page is open: one that no longer needs attention, or for
// another reason, is no longer chosen.
func TestTheChoiceFollowsChanges(t *testing.T) {
	in, s := openBrowser(t), serve(t)
	s.report(t, reportOf("a", "one", "pending", ""), reportOf("a", "two", "pending", ""), reportOf("a", "three", "pending", ""), reportOf("a", "four", "failed", ""))
	p := open(in, t, s, "").live()
	p.awaitRows("one two three four")
	p.clickIn("one", ".choose input", 0)
	p.clickIn("four", ".choose input", shift)
	p.requireChosen("one", "two", "three", "four")
	s.report(t, reportOf("a", "two", "running", ""), reportOf("a", "three", "failed", ""))
	p.requireChosen("one", "four")
	s.report(t, reportOf("a", "two", "pending", ""))
	p.await(rowOf("two"))
	p.requireChosen("one", "four")
}

// TestFailedAcknowledgementsAreShown refuses acknowledgements: the rows come back with the reason.
func TestFailedAcknowledgementsAreShown(t *testing.T) {
	in, s := openBrowser(t), servePast(t, needy)
	p := open(in, t, s, "").live()
	p.awaitRows("w1 w2 w3 l1 l2 f1 f2")
	p.run(do(`window.realFetch = window.fetch
		window.fetch = async (path, options) => options?.method === 'POST' ? Response.json({message: 'more than 5 requests per second: try again later'}, {status: 429}) : realFetch(path, options)`))
	p.clickIn("l2", ".choose input", 0)
	p.clickIn("f1", ".choose input", shift)
	p.run(click(".chosen button"))
	p.await("document.querySelectorAll('.fault').length == 2")
	p.awaitRows("w1 w2 w3 l1 l2 f1 f2")
	const why = "more than 5 requests per second: try again later"
	require.Equal(t, []string{"l2", "f1"}, p.texts("li:has(.fault) .name"))
	require.Equal(t, []string{why, why}, p.texts(".fault"))
	require.Equal(t, []string{"Not acknowledged: " + why}, p.names("[role=alert].unseen"), "for screen readers, once")
	p.requireLayout("failed acknowledgements")
	p.run(resize(1280), do("window.fetch = realFetch"))
	p.clickIn("f1", ".act button", 0)
	p.awaitRows("w1 w2 w3 l1 l2 f2")
	require.Equal(t, []string{"l2"}, p.texts("li:has(.fault) .name"))

	p.run(do("window.fetch = async (path, options) => options?.method === 'POST' ? Promise.reject(new TypeError()) : realFetch(path, options)"))
	p.run(click("[aria-labelledby=group-lost] .group-head button"))
	p.await("document.querySelector('.group-head .fault')?.innerText == \"The server can't be reached.\"")
	require.Len(t, p.texts("li .fault"), 2)
	p.awaitRows("w1 w2 w3 l1 l2 f2")
}

// TestNewsWhileAcknowledging has something new happen to sessions after they were chosen, and before the server is asked to
// acknowledge them. They come back.
func TestNewsWhileAcknowledging(t *testing.T) {
	in, s := openBrowser(t), serve(t)
	s.report(t, reportOf("a", "w1", "pending", ""), reportOf("a", "w2", "pending", ""), reportOf("a", "f1", "failed", ""), reportOf("a", "f2", "failed", ""))
	p := open(in, t, s, "").live()
	p.awaitRows("w1 w2 f2 f1")
	holdPosts := do(`window.realFetch = window.fetch
		window.sent = 0
		window.fetch = async (path, options) => {
			if (options?.method !== 'POST') return realFetch(path, options)
			sent++
			await new Promise((go) => window.go = go)
			return realFetch(path, options)
		}`)
	p.run(holdPosts)
	p.clickIn("w2", ".choose input", 0)
	p.clickIn("f1", ".choose input", 0)
	p.run(click(".chosen button"))
	p.await("sent == 1")
	s.report(t, `{"agent_id":"a","session_topic":"w2","status":"pending","message":"Another question"}`)
	p.run(do("go()"))
	p.awaitRows("w1 w2 f2")
	p.await("!document.querySelector('.gone')")
	require.Contains(t, p.texts("[aria-labelledby=group-pending]")[0], "Another question")
	require.Equal(t, []string{"1 acknowledged"}, p.names("[role=status].unseen"))

	p.run(click("[aria-labelledby=group-failed] .group-head button"))
	p.await("sent == 2")
	s.report(t, `{"agent_id":"a","session_topic":"f3","status":"failed"}`)
	p.run(do("go()"))
	p.awaitRows("w1 w2 f3")

	p.goTo("?agent=a&session=f3", ".acknowledge button")
	p.run(holdPosts, click(".acknowledge button"))
	p.await("sent == 1")
	s.report(t, `{"agent_id":"a","session_topic":"f3","status":"failed","message":"Once more"}`)
	p.run(do("go()"))
	p.await("document.querySelector('.acknowledge .fault')?.innerText == 'Something new has happened.'")
}

// TestAcknowledgingNeedsAScope signs in without the scope, and sees nothing to acknowledge or to choose with.
func TestAcknowledgingNeedsAScope(t *testing.T) {
	in := openBrowser(t)
	s, token := withTokens(t)
	s.report(t, reportOf("team-a/anna", "mine", "failed", ""), reportOf("team-a/anna", "waits", "pending", ""))
	p := openAt(in, t, s, "", ".signin")
	p.run(chromedp.KeyEvent(token), chromedp.KeyEvent(kb.Enter), shown("main#content h1"))
	p.live().awaitRows("waits mine")
	require.Empty(t, p.texts("main button, main input"))
	p.press("j")
	for _, key := range []string{"x", "e", "s"} {
		p.press(key)
	}
	p.requireChosen()
	require.Equal(t, "waits", eval[string](p, focusedRow))
	p.press("?")
	p.await("document.querySelector('dialog[open]')")
	require.NotContains(t, p.texts("dialog")[0], "acknowledge")
	p.goTo(session("team-a/anna", "mine"), history)
	require.Empty(t, p.texts("main button"))
}

// TestLayoutOfAChoice measures rows with their buttons, a choice and a menu at every width, with a mouse and with a touch
// screen, and checks them with axe-core.
func TestLayoutOfAChoice(t *testing.T) {
	axe, err := os.ReadFile("testdata/axe.min.js")
	require.NoError(t, err)
	in, s := openBrowser(t), servePast(t, crowded)
	p := open(in, t, s, "").live()
	p.await("document.querySelectorAll('.row').length > 50")
	for _, touch := range []bool{false, true} {
		if touch {
			p.run(call(emulation.SetTouchEmulationEnabled, emulation.SetTouchEmulationEnabledParams{Enabled: true}))
		}
		require.Equal(t, touch, eval[bool](p, "matchMedia('(hover: none)').matches"))
		p.run(do("for (const box of document.querySelectorAll('.choose input:not(:checked)')) box.click()"))
		p.await("document.querySelector('.chosen')")
		what := fmt.Sprintf("a choice, touch %v", touch)
		p.requireLayout(what)
		for _, width := range widths {
			p.run(resize(width))
			require.Empty(t, eval[[]string](p, covered), "%s at %d px", what, width)
		}
		p.requireAccessible(string(axe), what)
	}
	for _, width := range widths {
		p.run(resize(width))
		p.rest() // a resize closes menus
		p.run(do("document.querySelector('.chosen .snooze').click()"))
		p.await("document.querySelector('[role=menu]')")
		if found := eval[[]string](p, measure); len(found) > 0 {
			t.Errorf("a menu at %d px: %q", width, found)
		}
		p.run(chromedp.KeyEvent(kb.Escape))
		p.await("!document.querySelector('[role=menu]')")
	}
	p.run(do("document.querySelector('.act .snooze').click()"))
	p.await("document.querySelector('[role=menu]')")
	p.requireAccessible(string(axe), "a menu")
}

// covered is an expression for the rows whose checkbox, text, time or button overlap, as far as they are visible.
const covered = `[...document.querySelectorAll('li[data-id]')].filter((item) => {
	const boxes = [...item.querySelectorAll('.choose input, .what, .when, .act > button')].filter((e) => e.checkVisibility({opacityProperty: true})).map((e) => e.getBoundingClientRect())
	return boxes.some((a, i) => boxes.slice(i + 1).some((b) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1))
}).map((item) => item.innerText).slice(0, 3)`

// TestOldLostSessionsFoldAway shows sessions that were lost more than a day ago only on request, which is remembered.
func TestOldLostSessionsFoldAway(t *testing.T) {
	in := openBrowser(t)
	s := servePast(t, func(p past) {
		p.at(50*time.Hour, models.StatusReport{AgentID: "a", SessionTopic: "long lost", Status: models.Running, TTLMinutes: 60})
		p.at(49*time.Hour, models.StatusReport{AgentID: "a", SessionTopic: "lost lately", Status: models.Running, TTLMinutes: 48 * 60})
		p.at(24*time.Hour+40*time.Minute, own("a", "just over a day", models.Pending, ""))
		p.at(10*time.Minute, own("a", "f", models.Failed, ""))
	})
	p := open(in, t, s, "").live()
	p.awaitRows("lost lately f")
	require.Equal(t, []string{"2 lost more than a day ago"}, p.texts(".earlier summary"))
	require.Equal(t, []string{"1"}, p.texts("#group-lost .count"), "when it was lost counts, not its last report")
	require.Equal(t, []string{"1 lost in the last day (2 before)", "1 failed"}, eval[[]string](p, "[...document.querySelectorAll('.badge')].map((badge) => badge.title)"))
	require.Equal(t, 3, eval[int](p, "fetch('api/summary').then((answer) => answer.json()).then(({needs}) => needs.lost)"), "the API counts all")
	static := eval[[]string](p, "fetch('./').then((answer) => answer.text()).then((page) => new DOMParser().parseFromString(page, 'text/html')).then((of) => [...of.querySelectorAll('summary, .row .name')].map((e) => e.textContent))")
	require.Equal(t, []string{"lost lately", "2 lost more than a day ago", "just over a day", "long lost", "f"}, static, "without scripts")

	p.run(chromedp.Focus(".earlier summary"), chromedp.KeyEvent(kb.Enter))
	p.awaitRows("lost lately just over a day long lost f")
	p.requireLayout("old lost sessions")
	p.goTo("?view=sessions", rows)
	p.goTo("", ".earlier")
	p.awaitRows("lost lately just over a day long lost f")
	p.run(resize(1280), do("scrollTo(0, 0)"))
	p.clickIn("long lost", ".act button", 0)
	p.awaitRows("lost lately just over a day f")
	p.await("document.querySelector('.earlier summary').innerText == '1 lost more than a day ago'")
	p.run(click(".earlier summary"))
	p.awaitRows("lost lately f")
	require.Equal(t, []string{"Acknowledge all 2"}, p.texts("[aria-labelledby=group-lost] .group-head button"))
	p.run(click("[aria-labelledby=group-lost] .group-head button"))
	p.awaitRows("f")
	p.await("!document.querySelector('.earlier') && document.querySelectorAll('.badge').length == 1")
}
