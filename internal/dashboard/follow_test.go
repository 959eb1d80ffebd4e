package dashboard_test

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// modules is an expression that imports a module of the page.
const modules = "import(document.querySelector('script[type=module]').src.replace('main.js', '%s'))"

// evalIn returns the result of a function called with a module of the page.
func evalIn[V any](p *tab, module, function string) V {
	p.Helper()
	return eval[V](p, fmt.Sprintf(modules, module)+".then("+function+")")
}

// blockReads leaves all further reads of the page unanswered, except those whose URL contains except, if that is not
// empty.
func (p *tab) blockReads(except string) {
	p.Helper()
	p.run(do(fmt.Sprintf(`window.realFetch ??= window.fetch
		window.fetch = (...args) => %q && args[0].includes(%[1]q) ? realFetch(...args) : new Promise(() => {})`, except)))
}

// TestRowsFollowTheStream checks that a list shows new, changed and removed sessions without another read.
func TestRowsFollowTheStream(t *testing.T) {
	in, s := openBrowser(t), serve(t)
	s.report(t, reportOf("a", "old", "running", ""))
	p := open(in, t, s, "?view=sessions").live()
	p.await("document.querySelectorAll('.row').length == 1")
	p.blockReads("")
	s.report(t, reportOf("a", "one", "running", ""), reportOf("a", "two", "running", ""), reportOf("a", "three", "running", ""))
	p.await("document.querySelectorAll('.row').length == 4")
	require.Equal(t, []string{"three", "two", "one", "old"}, p.texts(".row .name"))

	r, err := http.NewRequest(http.MethodDelete, s.url("api/agents/a/sessions/two"), nil)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusNoContent, resp.StatusCode)
	p.await("document.querySelectorAll('.row').length == 3")
	require.Equal(t, []string{"three", "one", "old"}, p.texts(".row .name"))
}

// TestALongListShowsEachSessionOnce checks that a new session is not put at the end of a list that has more pages, and
// that a session that moved to the next page is not shown twice.
func TestALongListShowsEachSessionOnce(t *testing.T) {
	in, s := openBrowser(t), serve(t)
	var reports []string
	for i := range 55 {
		reports = append(reports, reportOf("a", fmt.Sprintf("s%02d", i), "running", ""))
	}
	s.report(t, reports...)
	p := open(in, t, s, "?view=sessions&sort=last_updated").live()
	p.await("document.querySelectorAll('.row').length == 50")
	p.blockReads("cursor=")
	s.report(t, reportOf("a", "new", "running", ""), reportOf("a", "s00", "running", `"message":"Still here"`))
	p.await("document.querySelector('.row').innerText.includes('Still here')")
	names := p.texts(".row .name")
	require.Len(t, names, 50)
	require.NotContains(t, names, "new")

	p.run(click(".more button"))
	p.await("document.querySelectorAll('.row').length > 50")
	names = p.texts(".row .name")
	require.Len(t, names, 56)
	require.Equal(t, "new", names[55])
	seen := map[string]bool{}
	for _, name := range names {
		require.False(t, seen[name], name)
		seen[name] = true
	}
}

// TestTheStreamBeginsAtTheOldestRead checks that the stream begins at the oldest of several reads.
func TestTheStreamBeginsAtTheOldestRead(t *testing.T) {
	in, s := openBrowser(t), serve(t)
	p := open(in, t, s, "").live()
	p.run(do(`window.realFetch = window.fetch; window.fetch = async (path) => new Response('{}', {headers: {'X-Event-Id': path}})`))
	for _, ids := range []string{"['1-9', '1-10', '1-11']", "['1-11', '1-10', '1-9']", "['1-10', '1-9', '1-11']"} {
		require.Equal(t, "1-9", evalIn[string](p, "data.js", "(data) => data.prefetch("+ids+")"))
	}
}

// TestTheOrderOfEvents compares IDs of events of a server by itself, and of a cluster.
func TestTheOrderOfEvents(t *testing.T) {
	in, s := openBrowser(t), serve(t)
	p := open(in, t, s, "").live()
	for _, test := range []struct{ a, b, want string }{
		{"run-9", "run-10", "-1"}, {"run-10", "run-10", "0"}, {"other-9", "run-10", "NaN"}, {"", "run-10", "NaN"}, {"", "", "NaN"},
		{"stream-9-7", "stream-10-1", "-1"}, {"stream-9-10", "stream-9-9", "1"}, {"my-stream-2-9-1", "my-stream-2-10-0", "-1"}, {"a-9-1", "b-10-1", "NaN"},
	} {
		got := evalIn[string](p, "data.js", fmt.Sprintf("(data) => String(Math.sign(data.compareEvents(%q, %q)))", test.a, test.b))
		require.Equal(t, test.want, got, "%+v", test)
	}
}

// TestReadsNameThePositionOfTheLastChange has a cluster answer: reads after a change name its position, until a server
// can't come to it.
func TestReadsNameThePositionOfTheLastChange(t *testing.T) {
	in, s := openBrowser(t), serve(t)
	p := open(in, t, s, "").live()
	p.run(do(`window.fetch = async (path, {method = 'GET'}) => {
		(window.log ??= []).push(method + ' ' + path)
		const refused = path.includes('refused') && path.includes('after=')
		return new Response('{}', {status: refused ? Number(path.split('refused')[1].slice(0, 3)) : 200, headers: method === 'GET' ? {} : {'X-Position': '7-abc'}})
	}`))
	change := func() {
		evalIn[map[string]any](p, "acknowledge.js", "(acknowledge) => acknowledge.send('api/acknowledge', {})")
	}
	read := func(path string) {
		evalIn[map[string]any](p, "data.js", fmt.Sprintf("(data) => data.get(%q)", path))
	}
	logged := func() []string {
		return slices.DeleteFunc(eval[[]string](p, "window.log.splice(0)"), func(line string) bool {
			return !strings.Contains(line, "test") && !strings.Contains(line, "refused") && !strings.Contains(line, "POST")
		})
	}
	read("api/test")
	change()
	read("api/test")
	read("api/test?limit=1")
	require.Equal(t, []string{"GET api/test", "POST api/acknowledge", "GET api/test?after=7-abc", "GET api/test?limit=1&after=7-abc"}, logged())
	for _, status := range []string{"400", "409", "503"} {
		change()
		read("api/refused" + status)
		read("api/test")
		require.Equal(t, []string{"POST api/acknowledge", "GET api/refused" + status + "?after=7-abc", "GET api/refused" + status, "GET api/test"}, logged())
	}
}

// TestALateReadTakesNothingBack has some reads answered by a server that is behind the one that the stream comes from.
func TestALateReadTakesNothingBack(t *testing.T) {
	in, s := openBrowser(t), serve(t)
	s.report(t, reportOf("a", "old", "running", ""))
	p := open(in, t, s, "?view=sessions").live()
	p.await("document.querySelectorAll('.row').length == 1")
	p.run(do(`window.lateReads = 0
		window.realFetch = window.fetch
		window.fetch = async (path, ...rest) => {
			const answer = await realFetch(path, ...rest)
			if (!path.startsWith('api/sessions') || ++lateReads > 3) return answer
			const [run] = answer.headers.get('X-Event-Id').split('-')
			return new Response('{"sessions":[]}', {headers: {'X-Event-Id': run + '-0'}})
		}
		new MutationObserver(() => { if (document.querySelectorAll('.row').length < 1) window.takenBack = true }).observe(document.body, {childList: true, subtree: true})`))
	s.report(t, reportOf("a", "new", "running", ""))
	p.await("window.lateReads > 3")
	p.await("document.querySelectorAll('.row').length == 2")
	require.False(t, eval[bool](p, "window.takenBack ?? false"))
}

// TestWhichChangesNotify checks which changes cause a notification.
func TestWhichChangesNotify(t *testing.T) {
	in, s := openBrowser(t), serve(t)
	p := open(in, t, s, "").live()
	for change, kind := range map[string]string{
		"type: 'status', previous_status: 'running', status: 'pending'":                "pending",
		"type: 'status', previous_status: 'pending', status: 'pending'":                "",
		"type: 'status', previous_status: 'pending', status: 'pending', revived: true": "pending",
		"type: 'status', previous_status: 'pending', status: 'pending', asked: {}":     "pending",
		"type: 'status', previous_status: 'running', status: 'failed'":                 "failed",
		"type: 'status', previous_status: 'failed', status: 'failed'":                  "",
		"type: 'status', status: 'failed'":                                             "failed",
		"type: 'status', previous_status: 'running', status: 'success'":                "",
		"type: 'status', previous_status: 'pending', status: 'running', revived: true": "",
		"type: 'expired', status: 'running', lost: true":                               "lost",
		"type: 'expired', status: 'success', lost: false":                              "",
		"type: 'removed', status: 'pending'":                                           "",
	} {
		require.Equal(t, kind, evalIn[string](p, "notify.js", "(notify) => notify.kindOf({"+change+"}) ?? ''"), change)
	}
}

// TestBriefTimes checks the formatting of durations in the page, and the order of times.
func TestBriefTimes(t *testing.T) {
	in, s := openBrowser(t), serve(t)
	p := open(in, t, s, "").live()
	const m, h, d = 60, 3600, 86400
	for seconds, text := range map[int]string{-5: "0s", 0: "0s", 59: "59s", m: "1m", 59*m + 59: "59m", h: "1h", h + m: "1h 1m", 23*h + 59*m: "23h 59m", d: "1d", d + 23*h + 59*m: "1d 23h",
		40*d + h: "40d 1h"} {
		require.Equal(t, text, evalIn[string](p, "time.js", fmt.Sprintf("(time) => time.brief(%d)", seconds*1000+999*min(1, max(0, seconds)))))
	}
	ordered := []string{"2026-11-29T10:00:00Z", "2026-11-29T10:00:00.12345678Z", "2026-11-29T10:00:00.123456781Z", "2026-11-29T10:00:00.5Z", "2026-11-29T10:00:00.500000001Z", "2026-11-29T10:00:01Z"}
	for i, a := range ordered {
		for j, b := range ordered {
			require.Equal(t, cmp.Compare(i, j), evalIn[int](p, "time.js", fmt.Sprintf("(time) => Math.sign(time.compareTimes(%q, %q))", a, b)), "%s, %s", a, b)
		}
	}

}

// TestModifierKeysOnLinks checks that the browser handles a click with a modifier key, so that the link can open in
// another tab.
func TestModifierKeysOnLinks(t *testing.T) {
	in, s := openBrowser(t), serve(t)
	s.report(t, reportOf("a", "t", "running", ""))
	p := open(in, t, s, "?view=sessions").live()
	const link = `document.querySelector('a[href*="session="]')`
	p.await(link)
	for _, key := range []string{"", "ctrlKey", "metaKey", "shiftKey", "altKey"} {
		var options string
		if key != "" {
			options = ", " + key + ": true"
		}
		taken := eval[bool](p, `(() => {
			const event = new MouseEvent('click', {bubbles: true, cancelable: true`+options+`})
			const keep = (event) => { window.taken = event.defaultPrevented; event.preventDefault() }
			addEventListener('click', keep, {once: true})
			`+link+`.dispatchEvent(event)
			return taken
		})()`)
		require.Equal(t, key == "", taken, "%q", key)
		if key == "" {
			p.await("location.search.includes('session=t')")
			p.run(do("history.back()"))
			p.await("!location.search.includes('session=t') && " + link)
		} else {
			require.Equal(t, "?view=sessions", eval[string](p, "location.search"))
		}
	}
}

// TestAcknowledgedSessionsAreGone acknowledges sessions while a page is open: they leave its lists and counts until
// something new happens.
func TestAcknowledgedSessionsAreGone(t *testing.T) {
	in, s := openBrowser(t), serve(t)
	s.report(t, reportOf("a", "broken", "failed", ""), reportOf("a", "waits", "pending", ""))
	p := open(in, t, s, "").live()
	p.await("document.querySelectorAll('.row').length == 2 && document.querySelectorAll('.badge').length == 2")
	for _, needs := range []string{"failed", "waiting"} {
		resp, err := http.Post(s.url("api/acknowledge"), "application/json", strings.NewReader(`{"needs":"`+needs+`"}`))
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusOK, resp.StatusCode)
	}
	p.await("document.querySelectorAll('.row').length == 0 && !document.querySelector('.badge') && document.title == 'KubeAgents'")
	s.report(t, reportOf("a", "broken", "running", ""), reportOf("a", "broken", "failed", ""))
	p.await("document.querySelector('#group-failed .count')?.innerText == '1'")
}

// TestTheStreamResumes checks where the stream of a page begins, initially and after it was refused.
func TestTheStreamResumes(t *testing.T) {
	in, s := openBrowser(t), serve(t)
	p := open(in, t, s, "").live()
	log := evalIn[[]string](p, "stream.js", `async ({openStream}) => {
		const sources = []
		window.EventSource = class extends EventTarget {
			static CLOSED = 2
			constructor(url) { super(); this.url = url; this.readyState = 0; sources.push(this); log.push(url); window.opened?.() }
			close() { this.readyState = 2 }
		}
		const log = [], deliver = (message) => log.push(JSON.stringify(message))
		const next = () => new Promise((go) => { window.opened = go })
		openStream('new', '', deliver)
		sources[0].onopen()
		openStream('old', 'x-5', deliver)
		const second = sources[1]
		second.onopen()
		second.dispatchEvent(Object.assign(new Event('status'), {data: '{"status":"running"}', lastEventId: 'x-6'}))
		second.onerror() // an EventSource reconnects by itself
		second.readyState = 2
		const again = next()
		second.onerror()
		await again
		return log
	}`)
	require.Equal(t, []string{
		"new", `{"state":"live"}`, `{"reset":true}`, // earlier reads may be outdated
		"old?since=x-5", `{"state":"live"}`, `{"changes":[{"status":"running","type":"status","id":"x-6"}]}`,
		`{"state":"away"}`, `{"reset":true}`, "old?since=x-6",
	}, log)
}

// TestNavigation checks that another view is shown from its top and adds a history entry, and that a changed filter
// does neither.
func TestNavigation(t *testing.T) {
	in, s := openBrowser(t), serve(t)
	s.report(t, reportOf("a", "t", "running", ""))
	p := open(in, t, s, "?view=sessions").live()
	p.run(do("window.scrolled = 0; window.scrollTo = () => { scrolled++ }; window.steps = history.length"))
	goes := func(to string) {
		evalIn[bool](p, "route.js", "(route) => { route.go("+to+"); return true }")
	}
	goes("'?view=sessions&search=t', {replace: true}")
	p.await("document.querySelector('#search').value == 't'")
	require.Equal(t, []int{0, 0}, eval[[]int](p, "[scrolled, history.length - steps]"))
	goes("'?view=agents'")
	p.await("document.querySelector('h1').innerText == 'Agents'")
	require.Equal(t, []int{1, 1}, eval[[]int](p, "[scrolled, history.length - steps]"))
	goes("'?view=agents'")
	require.Equal(t, []int{1, 1}, eval[[]int](p, "[scrolled, history.length - steps]"), "it is the current view")
}
