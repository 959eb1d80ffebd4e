package dashboard_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// Chromium's "Fast 3G": 1.6 Mbit/s minus 10%, and a latency of 562.5 ms from request to response.
const (
	fast3GBytesPerSecond = 1.6e6 * 0.9 / 8
	fast3GLatency        = 562.5 // milliseconds
	cpuSlowdown          = 4
)

// noteFirstRow makes the page record when the first session is visible, and when the whole page has been rendered by
// its scripts, in milliseconds since it was requested.
const noteFirstRow = `(() => {
	const note = () => {
		if (!window.firstRow && document.querySelector('.row .name')) requestAnimationFrame(() => { window.firstRow = performance.now() })
		if (!window.wholeAt && document.querySelector('main#content .row .name')) window.wholeAt = performance.now()
		if (!window.wholeAt) requestAnimationFrame(note)
	}
	requestAnimationFrame(note)
})()`

// BenchmarkFirstLoad measures the first load of the page with 10,000 sessions in a browser with an empty cache, a slow
// network and a slow processor: the bytes transferred until the page follows the stream, and the time until the first
// row is visible. For comparison, it measures the time until the same browser shows a page with one line of text.
func BenchmarkFirstLoad(b *testing.B) {
	needBrowser(b)
	s := serve(b)
	var reports []string
	for i := range 10_000 {
		reports = append(reports, reportOf(fmt.Sprintf("host-%04d:claude", i%2000), fmt.Sprintf("%08x-task-%d", i*2654435761, i), []string{"running", "running", "success", "pending", "failed"}[i%5],
			fmt.Sprintf(`"agent_name":"Claude Code on host-%04d","agent_source":"claude-code","session_title":"Fix the flaky test of package %d","message":"Which of these %d ways shall I take?"`, i%2000, i%317, i%7+2)))
	}
	s.report(b, reports...)
	all, err := startBrowser()
	require.NoError(b, err)
	var lines, rows, wholes, sent, requests []float64
	for b.Loop() {
		bare := slowly(all, b, s)
		bare.run(chromedp.Navigate(s.url("health/live")))
		bare.await("performance.getEntriesByName('first-contentful-paint').length")
		lines = append(lines, eval[float64](bare.tab, firstPaint))
		bare.cancel()

		p := slowly(all, b, s)
		p.run(chromedp.Navigate(s.url("")))
		p.await("window.wholeAt && document.querySelector('.connection.live')")
		rows = append(rows, max(eval[float64](p.tab, firstPaint), eval[float64](p.tab, "firstRow")))
		wholes = append(wholes, eval[float64](p.tab, "wholeAt"))
		bytes, count := p.sent()
		sent, requests = append(sent, bytes/1024), append(requests, count)
		p.cancel()
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(rows), "ms_first_row")
	b.ReportMetric(median(lines), "ms_a_line")
	b.ReportMetric(median(rows)/median(lines), "x_a_line")
	b.ReportMetric(median(wholes), "ms_all")
	b.ReportMetric(median(sent), "KiB_sent")
	b.ReportMetric(median(requests), "requests")
}

const firstPaint = "performance.getEntriesByName('first-contentful-paint')[0].startTime"

// networkParams are the parameters of emulateNetwork. Some versions of the browser (Chromium 148) require Offline here
// as well, not only in each condition.
type networkParams struct {
	network.EmulateNetworkConditionsByRuleParams
	Offline bool `json:"offline"`
}

var emulateNetwork = cdp.Command[networkParams, network.EmulateNetworkConditionsByRuleResult]{Method: network.CommandEmulateNetworkConditionsByRule}

// slowTab is a tab with a slow network, a slow processor and an empty cache.
type slowTab struct {
	*tab
	cancel func()

	mu              sync.Mutex
	bytes, requests float64
}

func slowly(in context.Context, b *testing.B, s *server) *slowTab {
	ctx, cancel := chromedp.NewContext(in, chromedp.WithNewBrowserContext())
	p := &slowTab{tab: &tab{TB: b, ctx: ctx, server: s}, cancel: cancel}
	require.NoError(b, chromedp.Listen(ctx, func(event any) {
		p.mu.Lock()
		defer p.mu.Unlock()
		switch event := event.(type) {
		case *network.EventRequestWillBeSent:
			p.requests++
		case *network.EventLoadingFinished:
			p.bytes += event.EncodedDataLength
		}
	}))
	p.run(call(network.Enable, network.EnableParams{}),
		call(emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true}),
		call(emulateNetwork, networkParams{EmulateNetworkConditionsByRuleParams: network.EmulateNetworkConditionsByRuleParams{MatchedNetworkConditions: []*network.Conditions{
			{Latency: fast3GLatency, DownloadThroughput: fast3GBytesPerSecond, UploadThroughput: fast3GBytesPerSecond / 2}}}}),
		call(emulation.SetCPUThrottlingRate, emulation.SetCPUThrottlingRateParams{Rate: cpuSlowdown}),
		call(page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: noteFirstRow}))
	return p
}

// sent returns the bytes received, and the number of requests sent.
func (p *slowTab) sent() (bytes, requests float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.bytes, p.requests
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

// BenchmarkChange measures the time from the 200 for a report to the moment when the page shows the session as waiting,
// in a fleet of 100,000 sessions.
func BenchmarkChange(b *testing.B) {
	needBrowser(b)
	s := serve(b)
	for n := 0; n < 100_000; n += 5000 {
		var reports []string
		for i := range 5000 {
			reports = append(reports, reportOf(fmt.Sprintf("host-%04d:claude", (n+i)%5000), fmt.Sprint(n+i), []string{"running", "success", "failed"}[i%3], `"message":"Reading the code"`))
		}
		s.report(b, reports...)
	}
	all, err := startBrowser()
	require.NoError(b, err)
	ctx, cancel := chromedp.NewContext(all, chromedp.WithNewBrowserContext())
	defer cancel()
	p := open(ctx, b, s, "").live()
	var delays []float64
	for n := 0; b.Loop(); n++ {
		text := fmt.Sprintf("May I? (%d)", n)
		p.run(do(fmt.Sprintf(`window.seen = new Promise((resolve) => {
			const see = () => { if (document.querySelector('main').innerText.includes(%q)) resolve(Date.now()) }
			new MutationObserver(see).observe(document.querySelector('main'), {childList: true, subtree: true, characterData: true})
		}); undefined`, text)))
		s.report(b, reportOf("asking", fmt.Sprint(n%20), "pending", fmt.Sprintf(`"message":%q`, text)))
		answered := float64(time.Now().UnixMicro()) / 1000
		delays = append(delays, max(0, eval[float64](p, "window.seen")-answered))
	}
	slices.Sort(delays)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(delays), "ms_p50")
	b.ReportMetric(delays[len(delays)*99/100], "ms_p99")
}
