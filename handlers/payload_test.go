package handlers

import (
	"bytes"
	"compress/gzip"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/require"
)

// compressed returns the gzip stream of a text.
func compressed(text string) []byte {
	var b bytes.Buffer
	w, _ := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	io.WriteString(w, text) //nolint:errcheck // a buffer takes everything
	w.Close()               //nolint:errcheck // as above
	return b.Bytes()
}

// compressedRequest returns a request with a body that is said to be compressed.
func compressedRequest(body []byte) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/webhook/status", bytes.NewReader(body))
	r.Header.Set("Content-Encoding", "gzip")
	return r
}

// webhooks returns the routes that take bodies.
func webhooks() http.Handler {
	h := newHandler(10, slog.New(slog.DiscardHandler))
	router := chi.NewRouter()
	router.Use(EncodedPath)
	router.Post("/webhook/status", h.Handle(h.Webhook))
	router.Post("/webhook/{client}", h.Handle(h.Hook))
	return router
}

func TestCodingsOfABody(t *testing.T) {
	const notTaken = `{"error":"unsupported_media_type","message":"Content-Encoding must be gzip (once) or identity","field":"Content-Encoding"}`
	report, event := reportOf("t", ""), `{"session_id":"s","hook_event_name":"Stop"}`
	stream := string(compressed(report))
	for name, test := range map[string]struct {
		path, body string
		coding     []string
		status     int
		says       string
	}{
		"a report is inflated":                        {"/webhook/status", stream, []string{"gzip"}, 200, "successfully"},
		"an event is inflated":                        {"/webhook/codex", string(compressed(event)), []string{"gzip"}, 200, ""},
		"an event of A2A is inflated":                 {"/webhook/a2a", string(compressed(`{"taskId":"t"}`)), []string{"gzip"}, 200, ""},
		"a coding is named in any case":               {"/webhook/status", stream, []string{"GZip"}, 200, "successfully"},
		"a coding may have its old name":              {"/webhook/status", stream, []string{"x-gzip"}, 200, "successfully"},
		"identity changes nothing":                    {"/webhook/status", report, []string{"identity"}, 200, "successfully"},
		"identity beside another changes nothing":     {"/webhook/status", stream, []string{" identity , gzip,"}, 200, "successfully"},
		"no name is no coding":                        {"/webhook/status", report, []string{""}, 200, "successfully"},
		"several streams are one":                     {"/webhook/status", stream + stream, []string{"gzip"}, 200, `"accepted":2`},
		"gzip twice is not taken":                     {"/webhook/status", stream, []string{"gzip, gzip"}, 415, notTaken},
		"gzip in two fields is not taken":             {"/webhook/status", stream, []string{"gzip", "gzip"}, 415, notTaken},
		"another coding is not taken":                 {"/webhook/status", report, []string{"br"}, 415, notTaken},
		"another coding of an event is not taken":     {"/webhook/codex", event, []string{"zstd"}, 415, notTaken},
		"what is not compressed is no stream":         {"/webhook/status", report, []string{"gzip"}, 400, "the gzip body is corrupt, or is not gzip"},
		"an empty body is no stream":                  {"/webhook/status", "", []string{"gzip"}, 400, "the gzip body is truncated"},
		"a stream that is cut in its header":          {"/webhook/codex", stream[:5], []string{"gzip"}, 400, "the gzip body is truncated"},
		"a stream that is cut before its sum":         {"/webhook/codex", string(compressed(event))[:30], []string{"gzip"}, 400, "the gzip body is truncated"},
		"a stream with a wrong sum":                   {"/webhook/status", stream[:len(stream)-5] + "x" + stream[len(stream)-4:], []string{"gzip"}, 400, "is corrupt"},
		"a stream with something after it":            {"/webhook/status", stream + "x", []string{"gzip"}, 400, "the gzip body"},
		"reports of 9 MiB are too large":              {"/webhook/status", string(compressed(strings.Repeat(" ", 9<<20))), []string{"gzip"}, 413, "the decompressed body must be at most 8 MiB"},
		"an event of 65 MiB is too large":             {"/webhook/codex", string(compressed(strings.Repeat(" ", 65<<20))), []string{"gzip"}, 413, "the decompressed body must be at most 64 MiB"},
		"an event of 9 MiB is not":                    {"/webhook/codex", string(compressed(strings.Repeat(" ", 9<<20) + event)), []string{"gzip"}, 200, ""},
		"a stream of 9 MiB of nothing is too large":   {"/webhook/status", strings.Repeat(string(compressed("")), 9<<20/23), []string{"gzip"}, 413, "the body must be at most 8 MiB"},
		"an event of 65 MiB as it is is too large":    {"/webhook/codex", strings.Repeat(" ", 65<<20), nil, 413, "the body must be at most 64 MiB"},
		"what is not JSON is said to be so, inflated": {"/webhook/status", string(compressed("{")), []string{"gzip"}, 400, "malformed JSON at byte 1"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, length := range []int64{int64(len(test.body)), -1} {
				r := httptest.NewRequest(http.MethodPost, test.path, strings.NewReader(test.body))
				r.ContentLength, r.Header["Content-Encoding"] = length, test.coding
				w := httptest.NewRecorder()
				webhooks().ServeHTTP(w, r)
				require.Equal(t, test.status, w.Code, w.Body)
				require.Contains(t, w.Body.String(), test.says)
				if test.status == 415 {
					require.Equal(t, "gzip, identity", w.Header().Get("Accept-Encoding"))
				}
			}
		})
	}
}

// TestABombCostsLittle sends a gzip stream that decompresses to more than any limit.
func TestABombCostsLittle(t *testing.T) {
	bomb := compressed(`{"session_id":"s","x":"` + strings.Repeat("x", 80<<20))
	require.Less(t, len(bomb), 1<<20)
	for path, most := range map[string]uint64{"/webhook/status": 64 << 20, "/webhook/codex": 4 << 20} {
		router, w, r := webhooks(), httptest.NewRecorder(), compressedRequest(bomb)
		r.URL.Path = path
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		router.ServeHTTP(w, r)
		runtime.ReadMemStats(&after)
		require.Equal(t, http.StatusRequestEntityTooLarge, w.Code, w.Body)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, most, path)
	}
}
