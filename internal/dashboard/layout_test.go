package dashboard_test

import (
	"fmt"
	"net/url"
	"os"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"
)

// screen is a page of the dashboard to look at.
type screen struct {
	name, query, selector string // an element that matches selector is there once the page is complete
}

const (
	rows    = "main#content .row .name"
	history = ".entry"
)

// session returns the query for the page of a session.
func session(agent, topic string) string {
	return "?" + url.Values{"agent": {agent}, "session": {topic}}.Encode()
}

// pagesOf returns the pages of a fleet, with one of its agents and sessions.
func pagesOf(agent, topic string) []screen {
	return []screen{
		{"needs you", "", rows}, {"sessions", "?view=sessions", rows}, {"board", "?view=board", rows}, {"agents", "?view=agents", rows},
		{"an agent", "?" + url.Values{"agent": {agent}}.Encode(), rows}, {"a session", session(agent, topic), history},
		{"no results", "?view=sessions&search=nothing", ".nothing"}, {"a missing session", session(agent, "nothing"), ".missing"}, {"a missing agent", "?agent=nobody", ".missing"},
	}
}

// widths are the widths at which every page is measured, from a small phone to a wide screen.
var widths = []int64{320, 390, 700, 760, 860, 960, 1100, 1280, 1920, 2560}

// measure returns what is wrong with the layout of a page in both themes: elements that are wider than their place and
// don't scroll or end with an ellipsis, and broken words. Nothing in the header, and no badge, pill or button, may
// take more than one line.
const measure = `(() => {
	const found = new Set()
	const nameOf = (e) => e.tagName.toLowerCase() + [...e.classList].map((name) => '.' + name).join('') + ' ' + JSON.stringify(e.textContent.trim().slice(0, 60))
	const scrolls = (e) => ['auto', 'scroll'].includes(getComputedStyle(e).overflowX)
	const inScroller = (e) => e && e !== document.documentElement && (scrolls(e) || inScroller(e.parentElement))
	const lines = (range) => new Set([...range.getClientRects()].filter(({width}) => width > 1).map(({bottom}) => Math.round(bottom / 4))).size
	const range = document.createRange()
	const look = () => {
		if (document.documentElement.scrollWidth > innerWidth) found.add('the page scrolls sideways')
		for (const e of document.body.querySelectorAll('*')) {
			if (!e.clientWidth || e.closest('.unseen, .skip, svg, select, datalist')) continue
			const {left, right} = e.getBoundingClientRect()
			if ((left < -.5 || right > innerWidth + .5) && !inScroller(e)) found.add('off the screen: ' + nameOf(e))
			if (e.scrollWidth > e.clientWidth && !scrolls(e) && getComputedStyle(e).textOverflow !== 'ellipsis') found.add('too wide: ' + nameOf(e))
		}
		const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
		while (texts.nextNode()) {
			const text = texts.currentNode
			const inOneLine = text.parentElement.closest('.bar, .badge, .count, .status, .switch, .chips a, .when, .go, .choice, button') && !text.parentElement.closest('.sheet, select')
			if (!text.parentElement.checkVisibility() || text.parentElement.closest('.unseen')) continue
			for (const {0: word, index} of text.data.matchAll(/[^\s]+/g)) {
				range.setStart(text, index)
				range.setEnd(text, index + word.length)
				if (lines(range) > 1 && (inOneLine || /^[A-Za-z]{2,20}[,.:]?$/.test(word))) found.add('broken word ' + word + ' in ' + nameOf(text.parentElement))
			}
			range.selectNodeContents(text)
			if (inOneLine && lines(range) > 1) found.add('more than one line: ' + nameOf(text.parentElement))
		}
		for (const badges of document.querySelectorAll('.badges')) {
			const tops = new Set([...badges.children].map((badge) => badge.getBoundingClientRect().top))
			if (tops.size !== 1) found.add('badges on several lines')
			const tab = badges.parentElement.getBoundingClientRect()
			for (const badge of badges.children) {
				const {left, right, top, bottom} = badge.getBoundingClientRect()
				if (left < tab.left || right > tab.right || top < tab.top || bottom > tab.bottom) found.add('outside of its tab: ' + nameOf(badge))
			}
		}
	}
	const {theme} = document.documentElement.dataset
	for (const theme of ['light', 'dark']) {
		document.documentElement.dataset.theme = theme
		look()
	}
	if (theme) document.documentElement.dataset.theme = theme
	else delete document.documentElement.dataset.theme
	return [...found].slice(0, 8)
})()`

// requireLayout measures the page at every width.
func (p *tab) requireLayout(what string) {
	p.Helper()
	for _, width := range widths {
		p.run(resize(width))
		require.Equal(p, width, eval[int64](p, "innerWidth"))
		if found := eval[[]string](p, measure); len(found) > 0 {
			p.Errorf("%s at %d px: %q", what, width, found)
		}
	}
}

// TestLayout measures every page of an empty, a typical and a crowded fleet at every width and in both themes, and
// checks each with axe-core at one of the widths.
func TestLayout(t *testing.T) {
	axe, err := os.ReadFile("testdata/axe.min.js")
	require.NoError(t, err)
	in := openBrowser(t)
	guarded, _ := withTokens(t)
	signed := serve(t, "WEBHOOK_SECRET=whsec_"+"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	fleets := []struct {
		name   string
		server *server
		pages  []screen
	}{
		{"empty", servePast(t, func(past) {}), []screen{{"needs you", "", ".first"}, {"sessions", "?view=sessions", ".first"}, {"board", "?view=board", ".first"}, {"agents", "?view=agents", ".first"}, {"connect", "connect", ".expand:not([hidden])"}}},
		{"typical", servePast(t, typical), pagesOf("claude-code:payments@laptop-anna", "migrate")},
		{"crowded", servePast(t, crowded), pagesOf("claude-code:web@studio", "long")},
		{"guarded", guarded, []screen{{"sign-in", "", ".signin"}, {"connect", "connect", ".expand:not([hidden])"}}},
		{"signed", signed, []screen{{"needs you", "", ".first"}, {"connect", "connect", ".hint"}}},
	}
	n := 0
	for _, fleet := range fleets {
		p := openAt(in, t, fleet.server, "connect", "h1")
		for _, page := range fleet.pages {
			what := fleet.name + ", " + page.name
			p.run(chromedp.Navigate(fleet.server.url(page.query)))
			p.await(fmt.Sprintf("document.querySelector(%q) && !document.querySelector('.skeleton')", page.selector))
			if fleet.name == "crowded" {
				p.await("document.querySelectorAll('.badge .icon').length == 3 && document.querySelector('.badge.failed').title == '234 failed'")
			}
			p.requireLayout(what)
			p.run(resize(widths[n%len(widths)]), do(fmt.Sprintf("document.documentElement.dataset.theme = ['light', 'dark'][%d]", n%2)))
			p.requireAccessible(string(axe), fmt.Sprintf("%s at %d px", what, widths[n%len(widths)]))
			n++
		}
	}
}

// focusable is an expression for the elements that the Tab key must reach.
const focusable = `[...document.querySelectorAll('a[href], button, input, select, summary, pre[tabindex]')].filter((e) => e.checkVisibility() && !e.disabled)`

// TestKeyboardAlone goes through pages with the Tab key, and checks that it reaches everything and shows where it is.
func TestKeyboardAlone(t *testing.T) {
	in, s := openBrowser(t), servePast(t, typical)
	p := openAt(in, t, s, "connect", "h1")
	for _, page := range append(pagesOf("claude-code:payments@laptop-anna", "migrate")[:6], screen{"connect", "connect", ".expand:not([hidden])"}, screen{"notifications", "?view=notifications", ".verdict"}) {
		p.run(resize(760), chromedp.Navigate(s.url(page.query)))
		p.await(fmt.Sprintf("document.querySelector(%q) && !document.querySelector('.skeleton')", page.selector))
		all := eval[int](p, "window.left = new Set("+focusable+"), left.size")
		for range all {
			p.run(chromedp.KeyEvent(kb.Tab))
			require.Empty(t, eval[string](p, `(() => {
				const e = document.activeElement, {outlineStyle, outlineWidth} = getComputedStyle(e), {top, bottom} = e.getBoundingClientRect()
				left.delete(e)
				const shown = outlineStyle !== 'none' && outlineWidth !== '0px' && bottom > 0 && top < innerHeight
				return shown ? '' : e.outerHTML.slice(0, 200)
			})()`), "%s: the focus is not visible", page.name)
		}
		require.Empty(t, eval[[]string](p, "[...left].map((e) => e.outerHTML.slice(0, 100))"), "%s: not reached with the Tab key", page.name)
	}

	p.run(chromedp.Navigate(s.url("")), shown(rows))
	p.run(do("document.querySelector('[aria-label^=Notifications]').focus()"), chromedp.KeyEvent(kb.Enter), shown(".sheet"), chromedp.KeyEvent(kb.Tab))
	require.Equal(t, "checkbox", eval[string](p, "document.activeElement.type"))
	p.run(chromedp.KeyEvent(kb.Escape))
	p.await("!document.querySelector('.sheet')")
	require.True(t, eval[bool](p, "document.activeElement.matches('[aria-label^=Notifications]')"), "the focus returns to the button")
}
