//go:build unix

package e2e

import (
	"cmp"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// spans is a collector of OpenTelemetry (OTLP over HTTP).
type spans struct {
	*httptest.Server
	t        *testing.T
	mu       sync.Mutex
	all      []*tracepb.Span
	services map[string]bool // values of the attribute service.name
}

func newCollector(t *testing.T) *spans {
	c := &spans{t: t, services: map[string]bool{}}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		assert.NoError(t, err)
		assert.Equal(t, "/v1/traces", r.URL.Path)
		var in collector.ExportTraceServiceRequest
		assert.NoError(t, proto.Unmarshal(body, &in))
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, resource := range in.ResourceSpans {
			for _, a := range resource.Resource.Attributes {
				if a.Key == "service.name" {
					c.services[a.Value.GetStringValue()] = true
				}
			}
			for _, scope := range resource.ScopeSpans {
				c.all = append(c.all, scope.Spans...)
			}
		}
	}))
	t.Cleanup(c.Close)
	return c
}

// named waits for a span with a name.
func (c *spans) named(name string) (found *tracepb.Span) {
	c.t.Helper()
	require.Eventually(c.t, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		i := slices.IndexFunc(c.all, func(s *tracepb.Span) bool { return s.Name == name })
		if i >= 0 {
			found = c.all[i]
		}
		return i >= 0
	}, 30*time.Second, 5*time.Millisecond, name)
	return found
}

// children returns the names of the spans within a span, in the order of their times. Each begins where the one before
// ends.
func (c *spans) children(parent *tracepb.Span) (names []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var within []*tracepb.Span
	for _, s := range c.all {
		if string(s.ParentSpanId) == string(parent.SpanId) {
			within = append(within, s)
		}
	}
	slices.SortStableFunc(within, func(a, b *tracepb.Span) int {
		return cmp.Or(cmp.Compare(a.StartTimeUnixNano, b.StartTimeUnixNano), cmp.Compare(a.EndTimeUnixNano, b.EndTimeUnixNano))
	})
	for i, s := range within {
		names = append(names, s.Name)
		require.GreaterOrEqual(c.t, parent.EndTimeUnixNano, s.EndTimeUnixNano)
		if i > 0 {
			require.Equal(c.t, within[i-1].EndTimeUnixNano, s.StartTimeUnixNano, s.Name)
		}
	}
	return names
}

// TestTraces follows a report from the client's trace to the store.
func TestTraces(t *testing.T) {
	c := newCollector(t)
	p := start(t, "OTEL_EXPORTER_OTLP_ENDPOINT="+c.URL, "OTEL_BSP_SCHEDULE_DELAY=20", "DATA_DIR="+t.TempDir(), "LOG_LEVEL=debug")
	const trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	w := p.do("POST", "/webhook/status", reportOf("a", "t", "running"), "traceparent: 00-"+trace+"-"+parent+"-01")
	require.Equal(t, 200, w.Code)
	request := c.named("POST /webhook/status")
	require.Equal(t, trace, hex.EncodeToString(request.TraceId))
	require.Equal(t, parent, hex.EncodeToString(request.ParentSpanId))
	c.named("apply to the store")
	require.Equal(t, []string{"receive and decode", "validate", "wait for the group", "admit", "append to the journal", "apply to the store"}, c.children(request))
	require.Equal(t, map[string]bool{"kubeagents": true}, c.services)

	require.Equal(t, 200, p.do("GET", "/health", "").Code)
	require.Equal(t, 200, p.do("GET", "/metrics", "").Code)
	require.Equal(t, 200, p.do("GET", "/api/agents/a/sessions/t", "").Code)
	require.Equal(t, 404, p.do("GET", "/api/agents/ka_secret/sessions/t", "").Code)
	c.named("GET /api/agents/{agent_id}/sessions/{session_topic}")
	require.Equal(t, 404, p.do("GET", "/nothing", "").Code)
	c.named("GET no route")
	require.Equal(t, 400, p.do("POST", "/webhook/status", "{", "traceparent: nonsense").Code)
	require.Zero(t, p.stop(t), "%s", p.stderr)
	require.Contains(t, p.stderr.String(), `"trace_id":"`+trace+`"`, "the log names the trace")
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.all {
		require.NotContains(t, s.Name, "health")
		require.NotContains(t, s.Name, "metrics")
	}
	posts := slices.DeleteFunc(slices.Clone(c.all), func(s *tracepb.Span) bool { return s.Name != "POST /webhook/status" })
	require.Len(t, posts, 2, "what was not sent yet is sent before the program ends")
}

// TestTracesThatCantBeSent has no collector. Reports go on, and the log says so once.
func TestTracesThatCantBeSent(t *testing.T) {
	p := start(t, "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:9", "OTEL_BSP_SCHEDULE_DELAY=20", "OTEL_EXPORTER_OTLP_TIMEOUT=100", "OTEL_EXPORTER_OTLP_HEADERS=authorization=secret")
	for range 20 {
		p.report(t, reportOf("a", "t", "running"))
	}
	require.Eventually(t, func() bool { return p.do("GET", "/health", "").Code == 200 }, time.Second, time.Millisecond)
	require.Zero(t, p.stop(t), "%s", p.stderr)
	require.Equal(t, 1, strings.Count(p.stderr.String(), "traces can't be sent to the collector"), "%s", p.stderr)
	require.NotContains(t, p.stderr.String(), "secret")
}

// TestInvalidTracing checks that the server does not start with settings of traces that it can't follow.
func TestInvalidTracing(t *testing.T) {
	const endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:9"
	for setting, want := range map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT=localhost:4317":               "OTEL_EXPORTER_OTLP_ENDPOINT must be a URL such as http://localhost:4318",
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=ftp://x":               "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT must be a URL such as http://localhost:4318",
		endpoint + " OTEL_EXPORTER_OTLP_PROTOCOL=grpc":             "OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf, or unset",
		endpoint + " OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http/json": "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL must be http/protobuf, or unset",
		endpoint + " OTEL_TRACES_EXPORTER=zipkin":                  "OTEL_TRACES_EXPORTER must be otlp or none, or unset",
	} {
		status, output := runProgram(t, append([]string{"HOST=127.0.0.1", "PORT=0"}, strings.Fields(setting)...))
		require.Equal(t, 2, status, setting)
		require.Contains(t, output, want)
	}
	p := start(t, endpoint, "OTEL_SDK_DISABLED=true", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc")
	require.Zero(t, p.stop(t))
}
