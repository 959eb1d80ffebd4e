package handlers

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kubeagents/kubeagents/internal/budget"
	"github.com/kubeagents/kubeagents/models"
)

// decode decodes a body as the webhook does.
func decode(body string) (in *intake, several bool, err error) {
	return decodeRequest(httptest.NewRequest(http.MethodPost, "/webhook/status", strings.NewReader(body)))
}

// decodeRequest decodes the body of a request as the webhook does.
func decodeRequest(r *http.Request) (in *intake, several bool, err error) {
	in = intakes.New().(*intake)
	if err := in.receive(&Handler{Options: Options{Bodies: budget.New(0)}}, httptest.NewRecorder(), r); err != nil {
		return in, false, err
	}
	several, err = in.decodeRequest(r)
	return in, several, err
}

func TestDecodeOneReport(t *testing.T) {
	in, several, err := decode("\ufeff" + ` {"agent_id":"a","agent_name":"n","agent_source":"s","session_topic":"t\u00e9","session_title":"T","status":"pending",` +
		`"timestamp":"2026-11-20t07:01:18.25z","message":"line\nbreak","content":"c","ttl_minutes":3e1,"report_id":"r","unknown":{"a":[1,{}]},"agent_i\u0064x":1} `)
	require.NoError(t, err)
	require.False(t, several)
	require.NoError(t, in.faults[0])
	require.Equal(t, models.StatusReport{
		AgentID: "a", AgentName: "n", AgentSource: "s", SessionTopic: "té", SessionTitle: "T", Status: models.Pending,
		Timestamp: time.Date(2026, 11, 20, 7, 1, 18, 250e6, time.UTC), Message: "line\nbreak", Content: "c", TTLMinutes: 30, ReportID: "r",
	}, in.reports[0])
}

func TestDecodeKeepsReportsSeparate(t *testing.T) {
	in, several, err := decode(`[{"agent_id":"a","agent_name":null},{"agent_id":"b","message":"m"},{}]`)
	require.NoError(t, err)
	require.True(t, several)
	require.Equal(t, []models.StatusReport{{AgentID: "a"}, {AgentID: "b", Message: "m"}, {}}, in.reports)
}

func TestFaultsNameTheField(t *testing.T) {
	for body, want := range map[string]string{
		`{"agent_id":7}`:                           "agent_id must be a string, not a number",
		`{"agent_id":["a"]}`:                       "agent_id must be a string, not an array",
		`{"message":{}}`:                           "message must be a string, not an object",
		`{"content":true}`:                         "content must be a string, not a boolean",
		`{"status":"done"}`:                        "status must be one of running, pending, success, failed",
		`{"status":1}`:                             "status must be a string, not a number",
		`{"timestamp":"yesterday"}`:                "timestamp must be a time in RFC 3339, such as 2026-11-20T07:01:18Z",
		`{"timestamp":1700000000}`:                 "timestamp must be a string, not a number",
		`{"ttl_minutes":"5"}`:                      "ttl_minutes must be a number, not a string",
		`{"renew":"yes"}`:                          "renew must be true or false, not a string",
		`{"ttl_minutes":1.5}`:                      "ttl_minutes must be a whole number",
		`{"agent_id":"` + over(1<<20) + `"}`:       "one report must be at most 1 MiB",
		`[{"agent_id":"a"},"b"]`:                   "a report must be an object, not a string",
		`{"agent_id":"a"} null`:                    "a report must be an object, not null",
		`[{"agent_id":"` + over(1<<20) + `"},{}]`:  "one report must be at most 1 MiB",
		`{"agent_i\u0064":false,"status":"wrong"}`: "agent_id must be a string, not a boolean",
		`{"status":"pending","status":"failed"}`:   "status must not occur twice in one object",
		`{"agent_id":null,"agent_i\u0064":"a"}`:    "agent_id must not occur twice in one object",
		`{"status":"\ud83d"}`:                      "status must be one of running, pending, success, failed",
		"{\"timestamp\":\"\xff\"}":                 "timestamp must be a time in RFC 3339, such as 2026-11-20T07:01:18Z",
	} {
		in, _, err := decode(body)
		require.NoError(t, err)
		i := slices.IndexFunc(in.faults, func(err error) bool { return err != nil })
		require.GreaterOrEqual(t, i, 0, body[:min(len(body), 100)])
		require.EqualError(t, in.faults[i], want)
	}
}

// TestTextThatIsNotUnicode checks strings that the JSON grammar allows but that are not valid Unicode. In text for
// people, the invalid parts are replaced. In IDs and names, they are a fault.
func TestTextThatIsNotUnicode(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"the first half of a pair":        {`a\ud83d`, "a\ufffd"},
		"the second half of a pair":       {`\udd16 a`, "\ufffd a"},
		"two first halves":                {`\uD83D\uD83D`, "\ufffd\ufffd"},
		"half a pair before a whole one":  {`\ud83d\ud83e\udd16`, "\ufffd🤖"},
		"half a pair before an escape":    {`\ud83d\n`, "\ufffd\n"},
		"bytes that start no character":   {"a\xff\xfe", "a\ufffd\ufffd"},
		"a truncated character":           {"\xe2\x82 ", "\ufffd\ufffd "},
		"a half encoded as UTF-8":         {"\xed\xa0\xbd", "\ufffd\ufffd\ufffd"},
		"half a pair and an invalid byte": {"\\ud83d\xff", "\ufffd\ufffd"},
	} {
		t.Run(name, func(t *testing.T) {
			in, _, err := decode(fmt.Sprintf(`{"message":"%s","content":"%[1]s","session_title":"%[1]s","%[1]s":1}`, test.text))
			require.NoError(t, err)
			require.NoError(t, in.faults[0])
			require.Equal(t, models.StatusReport{Message: test.want, Content: test.want, SessionTitle: test.want}, in.reports[0])
			for _, field := range []string{"agent_id", "session_topic", "report_id", "agent_name", "agent_source"} {
				in, _, err := decode(fmt.Sprintf(`[{"%s":"%s"},{"message":"m"}]`, field, test.text))
				require.NoError(t, err)
				require.EqualError(t, in.faults[0], field+" must be valid Unicode: no lone surrogates, no invalid UTF-8")
				require.Equal(t, field, in.faults[0].(*models.Error).Field)
				require.NoError(t, in.faults[1])
			}
		})
	}
	in, _, err := decode(`{"agent_id":"\ud83e\udd16 \ufffd"}`)
	require.NoError(t, err)
	require.NoError(t, in.faults[0], "a whole pair, and U+FFFD if that was sent")
	require.Equal(t, "🤖 \ufffd", in.reports[0].AgentID)
}

func over(n int) string { return strings.Repeat("x", n+1) }

func TestMalformedBodiesAreRefusedWhole(t *testing.T) {
	for body, want := range map[string]string{
		``:                           "the body has no report",
		`[]`:                         "the body has no report",
		`{`:                          "malformed JSON at byte 1: unexpected EOF",
		`{"agent_id":"a"`:            "malformed JSON",
		`{"agent_id":"a"}]`:          "malformed JSON",
		`[{}`:                        "malformed JSON",
		`[{}] {}`:                    "nothing may follow the array of reports",
		`{"agent_id":"\ud80"}`:       "malformed JSON",
		`nul`:                        "malformed JSON",
		`agent_id=a&status=running`:  "malformed JSON",
		strings.Repeat(`[`, 200_000): "malformed JSON",
		`{"x":` + strings.Repeat(`{"a":`, 200_000):  "malformed JSON",
		strings.Repeat(" ", 9<<20):                  "the body must be at most 8 MiB",
		"[" + strings.Repeat("{},", 10_000) + "{}]": "a request must hold at most 10000 reports",
	} {
		_, _, err := decode(body)
		var known *models.Error
		require.ErrorAs(t, err, &known, body[:min(len(body), 100)])
		require.Contains(t, known.Message, want)
	}
}

func TestNumbersBeyondFloat64(t *testing.T) {
	for _, number := range []string{"1e999", "-1e999", "123456789012345678901234567890", "-1"} {
		in, _, err := decode(`{"agent_id":"a","session_topic":"t","status":"running","ttl_minutes":` + number + `}`)
		require.NoError(t, err)
		require.NoError(t, in.faults[0])
		require.ErrorContains(t, in.reports[0].Validate(time.Now()), "ttl_minutes must be a whole number from 1 to 1440")
	}
}

func TestIncompleteBody(t *testing.T) {
	for length, want := range map[int64]string{
		10:               "the body ended early or came too slowly",
		-1:               "the body ended early or came too slowly",
		maxBodyBytes + 1: "the body must be at most 8 MiB", // refused because of its Content-Length
	} {
		for _, coding := range []string{"identity", "gzip"} {
			r := httptest.NewRequest(http.MethodPost, "/webhook/status", breaking{})
			r.ContentLength = length
			r.Header.Set("Content-Encoding", coding)
			_, _, err := decodeRequest(r)
			require.EqualError(t, err, want)
		}
	}
}

type breaking struct{}

func (breaking) Read([]byte) (int, error) { return 0, errors.New("reset by peer") }

var nasty = []string{
	``, `null`, `"bare"`, `1e400`, `[]`, `{}`, `[{}]`, `{"agent_id":1e400}`, `{"ttl_minutes":1e400}`, `{"a":1,"a":2}`, "\xff\xfe", "{\"agent_id\":\"\xc3\x28\"}",
	`{"agent_id":"\ud83d","message":"\udd16"}`, `[{"status":"failed","status":"failed"},{"agent_id":"b"}]`,
	strings.Repeat("[", 200_000), strings.Repeat(`{"a":`, 200_000), `{"agent_id":"\u0000","session_topic":"\ud83e\udd16","status":"running"}`,
	`{"agent_id":"a","session_topic":"t","status":"running"}` + "\n" + `{"agent_id":"a","session_topic":"t","status":"failed","timestamp":"0000-01-01T00:00:00+23:59"}`,
	`{"timestamp":"9999-12-31T23:59:59.999999999-23:59"}`, `{"content":"` + strings.Repeat("é", 10_001) + `"}`,
}

// FuzzReports checks that any body is either refused with an error that a client may see, or decoded into reports that
// are valid or have such an error each.
func FuzzReports(f *testing.F) {
	for _, body := range nasty {
		f.Add([]byte(body))
	}
	f.Add(bytes.Repeat([]byte("x"), 9<<20))
	f.Fuzz(func(t *testing.T, body []byte) {
		in, several, err := decode(string(body))
		var known *models.Error
		if err != nil {
			require.ErrorAs(t, err, &known)
			require.NotEmpty(t, known.Message)
			return
		}
		require.Len(t, in.faults, len(in.reports))
		require.True(t, several || len(in.reports) == 1)
		for i, r := range in.reports {
			fault := in.faults[i]
			if fault == nil {
				fault = r.Validate(time.Now())
			}
			if fault != nil {
				require.ErrorAs(t, fault, &known)
				continue
			}
			require.True(t, r.Timestamp.IsZero() || r.Timestamp.UTC().Year() >= 0 && r.Timestamp.UTC().Year() <= 9999)
			assert.LessOrEqual(t, len(r.AgentID), 4*models.MaxAgentID)
			for _, text := range []string{r.AgentID, r.AgentName, r.AgentSource, r.SessionTopic, r.SessionTitle, r.Message, r.Content, r.ReportID} {
				require.True(t, utf8.ValidString(text), "%q", text)
			}
		}
	})
}

// FuzzGzip checks that a compressed body decodes like the uncompressed one, and that truncated streams are refused.
func FuzzGzip(f *testing.F) {
	for _, body := range nasty {
		f.Add([]byte(body))
		f.Add(compressed(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		want, several, wantErr := decode(string(body))
		got, gotSeveral, err := decodeRequest(compressedRequest(compressed(string(body))))
		require.Equal(t, wantErr, err)
		require.Equal(t, several, gotSeveral)
		require.Equal(t, want.reports, got.reports)
		require.Equal(t, want.faults, got.faults)

		if _, _, err := decodeRequest(compressedRequest(body)); err != nil {
			var known *models.Error
			require.ErrorAs(t, err, &known)
		}
		stream := compressed(string(body))
		_, _, err = decodeRequest(compressedRequest(stream[:len(stream)*9/10]))
		require.EqualError(t, err, "the gzip body is incomplete: it was cut off before its end")
	})
}

// FuzzCursor checks that a cursor is either refused or survives decoding and encoding.
func FuzzCursor(f *testing.F) {
	f.Add("")
	f.Add("YQ")
	f.Add(encodeCursor(cursorAgentsByID, "agent/ü", 1, -2))
	f.Add(encodeCursor(cursorHistory, "", 1<<62, 999999999, 7))
	f.Fuzz(func(t *testing.T, cursor string) {
		for _, kind := range []byte{cursorAgentsByID, cursorAgentsBySeen, cursorSessions, cursorOldest, cursorHistory} {
			var a, b int64
			id, ok := decodeCursor(cursor, kind, &a, &b)
			if !ok {
				continue
			}
			var a2, b2 int64
			id2, ok := decodeCursor(encodeCursor(kind, id, a, b), kind, &a2, &b2)
			require.True(t, ok)
			require.Equal(t, fmt.Sprint(id, a, b), fmt.Sprint(id2, a2, b2))
		}
	})
}

// FuzzPath checks that every ID survives being encoded in a path.
func FuzzPath(f *testing.F) {
	for _, id := range []string{"a/b", "%2F", "100%25", "?#", "代理", "\xff", "..", " ", "+"} {
		f.Add(id)
	}
	f.Fuzz(func(t *testing.T, id string) {
		if id == "" {
			return
		}
		require.Equal(t, id, routed(t, "/api/agents/"+url.PathEscape(id)))
	})
}

// BenchmarkDecode measures the decoding of a report of 300 bytes.
func BenchmarkDecode(b *testing.B) {
	in := intakes.New().(*intake)
	in.body = []byte(`{"agent_id":"host-00017:claude","agent_name":"Backend refactor","agent_source":"claude-code",` +
		`"session_topic":"Fix flaky test in payment/checkout_test.go (3)","status":"running","timestamp":"2026-11-20T07:01:18.472611Z",` +
		`"message":"Running go test ./...","content":"Reading the repository\nWriting a regression test","ttl_minutes":60}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := in.decode(); err != nil {
			b.Fatal(err)
		}
	}
}

// TestLargeBuffersAreForLargeBodies checks that the buffers that large requests grew are not used for small ones.
func TestLargeBuffersAreForLargeBodies(t *testing.T) {
	report := `{"agent_id":"a","session_topic":"t","status":"running","content":"` + strings.Repeat("x", 1000) + `"}`
	for _, reports := range []int{1, 900, 1_500, 3_000, 7_000} {
		text := strings.Repeat(report, reports)
		for range 20 {
			in := intakes.Get().(*intake)
			require.LessOrEqual(t, cap(in.body), 2*firstRead, "before anything is received")
			require.LessOrEqual(t, cap(in.reports), largeReports)
			require.NoError(t, in.read(iotest.HalfReader(strings.NewReader(text)), maxBodyBytes))
			require.Equal(t, text, string(in.body))
			require.LessOrEqual(t, cap(in.body), max(2*firstRead, 2*len(text)+512), "at most twice what was received")
			_, err := in.decode()
			require.NoError(t, err)
			require.Len(t, in.reports, reports)
			for _, r := range in.reports {
				require.Equal(t, models.Running, r.Status)
			}
			in.release()
		}
	}
}
