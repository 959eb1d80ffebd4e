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
	io.WriteString(w, text) //nolint:errcheck // writing to a buffer never fails
	w.Close()               //nolint:errcheck // see above
	return b.Bytes()
}

// compressedRequest returns a request with this body and Content-Encoding gzip.
func compressedRequest(body []byte) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/webhook/status", bytes.NewReader(body))
	r.Header.Set("Content-Encoding", "gzip")
	return r
}

// webhooks returns a router with the webhook routes.
func webhooks() http.Handler {
	h := newHandler(10, slog.New(slog.DiscardHandler))
	router := chi.NewRouter()
	router.Use(EncodedPath)
	router.Post("/webhook/status", h.Handle(h.Webhook))
	router.Post("/webhook/{client}", h.Handle(h.Hook))
	return router
}

func TestContentEncodings(t *testing.T) {
	const unsupported = `{"error":"unsupported_media_type","message":"Content-Encoding must be gzip (once) or identity","field":"Content-Encoding"}`
	report, event := reportOf("t", ""), `{"session_id":"s","hook_event_name":"Stop"}`
	stream := string(compressed(report))
	for name, test := range map[string]struct {
		path, body string
		coding     []string
		status     int
		want       string
	}{
		"a report is decompressed":                    {"/webhook/status", stream, []string{"gzip"}, 200, "successfully"},
		"an event is decompressed":                    {"/webhook/codex", string(compressed(event)), []string{"gzip"}, 200, ""},
		"an A2A event is decompressed":                {"/webhook/a2a", string(compressed(`{"taskId":"t"}`)), []string{"gzip"}, 200, ""},
		"encodings are case-insensitive":              {"/webhook/status", stream, []string{"GZip"}, 200, "successfully"},
		"x-gzip is an alias of gzip":                  {"/webhook/status", stream, []string{"x-gzip"}, 200, "successfully"},
		"identity changes nothing":                    {"/webhook/status", report, []string{"identity"}, 200, "successfully"},
		"identity along with gzip changes nothing":    {"/webhook/status", stream, []string{" identity , gzip,"}, 200, "successfully"},
		"an empty header changes nothing":             {"/webhook/status", report, []string{""}, 200, "successfully"},
		"concatenated streams count as one":           {"/webhook/status", stream + stream, []string{"gzip"}, 200, `"accepted":2`},
		"gzip twice is unsupported":                   {"/webhook/status", stream, []string{"gzip, gzip"}, 415, unsupported},
		"gzip in two headers is unsupported":          {"/webhook/status", stream, []string{"gzip", "gzip"}, 415, unsupported},
		"another encoding is unsupported":             {"/webhook/status", report, []string{"br"}, 415, unsupported},
		"another encoding of an event is unsupported": {"/webhook/codex", event, []string{"zstd"}, 415, unsupported},
		"an uncompressed body is not a gzip stream":   {"/webhook/status", report, []string{"gzip"}, 400, "the gzip body is corrupt, or is not gzip"},
		"an empty body is not a gzip stream":          {"/webhook/status", "", []string{"gzip"}, 400, "the gzip body is incomplete"},
		"a stream truncated in its header":            {"/webhook/codex", stream[:5], []string{"gzip"}, 400, "the gzip body is incomplete"},
		"a stream truncated before its checksum":      {"/webhook/codex", string(compressed(event))[:30], []string{"gzip"}, 400, "the gzip body is incomplete"},
		"a stream with a wrong checksum":              {"/webhook/status", stream[:len(stream)-5] + "x" + stream[len(stream)-4:], []string{"gzip"}, 400, "is corrupt"},
		"a stream with trailing data":                 {"/webhook/status", stream + "x", []string{"gzip"}, 400, "the gzip body"},
		"reports of 9 MiB are too large":              {"/webhook/status", string(compressed(strings.Repeat(" ", 9<<20))), []string{"gzip"}, 413, "the decompressed body must be at most 8 MiB"},
		"an event of 65 MiB is too large":             {"/webhook/codex", string(compressed(strings.Repeat(" ", 65<<20))), []string{"gzip"}, 413, "the decompressed body must be at most 64 MiB"},
		"an event of 9 MiB is not too large":          {"/webhook/codex", string(compressed(strings.Repeat(" ", 9<<20) + event)), []string{"gzip"}, 200, ""},
		"9 MiB of empty streams are too large":        {"/webhook/status", strings.Repeat(string(compressed("")), 9<<20/23), []string{"gzip"}, 413, "the body must be at most 8 MiB"},
		"65 MiB uncompressed are too large":           {"/webhook/codex", strings.Repeat(" ", 65<<20), nil, 413, "the body must be at most 64 MiB"},
		"malformed JSON is reported as such":          {"/webhook/status", string(compressed("{")), []string{"gzip"}, 400, "malformed JSON at byte 1"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, length := range []int64{int64(len(test.body)), -1} {
				r := httptest.NewRequest(http.MethodPost, test.path, strings.NewReader(test.body))
				r.ContentLength, r.Header["Content-Encoding"] = length, test.coding
				w := httptest.NewRecorder()
				webhooks().ServeHTTP(w, r)
				require.Equal(t, test.status, w.Code, w.Body)
				require.Contains(t, w.Body.String(), test.want)
				if test.status == 415 {
					require.Equal(t, "gzip, identity", w.Header().Get("Accept-Encoding"))
				}
			}
		})
	}
}

// TestCutOffGzip cuts a gzip body off at every length.
func TestCutOffGzip(t *testing.T) {
	for path, body := range map[string]string{"/webhook/status": reportOf("t", ""), "/webhook/codex": `{"session_id":"s","hook_event_name":"Stop"}`} {
		stream := compressed(body)
		for length := range stream {
			w, r := httptest.NewRecorder(), compressedRequest(stream[:length])
			r.URL.Path = path
			webhooks().ServeHTTP(w, r)
			require.Equal(t, http.StatusBadRequest, w.Code, "%s: %d bytes", path, length)
			require.JSONEq(t, `{"error":"bad_request","message":"the gzip body is incomplete: it was cut off before its end"}`, w.Body.String(), "%s: %d bytes", path, length)
		}
	}
}

// TestGzipBombTakesLittleMemory sends a gzip stream that decompresses to more than any limit.
func TestGzipBombTakesLittleMemory(t *testing.T) {
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
