// Package tracing sends traces of requests to an OpenTelemetry collector.
//
// It is off unless the environment names a collector. The variables are those of the OpenTelemetry specification, which
// its SDK reads: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables.
package tracing

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
)

// Tracer sends traces to a collector. A nil Tracer traces nothing.
type Tracer struct{ provider *trace.TracerProvider }

// The variables that say where and how traces are sent, in the order in which they count.
const (
	tracesEndpoint = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
	anyEndpoint    = "OTEL_EXPORTER_OTLP_ENDPOINT"
	tracesProtocol = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"
	anyProtocol    = "OTEL_EXPORTER_OTLP_PROTOCOL"
	disabled       = "OTEL_SDK_DISABLED"
	exporters      = "OTEL_TRACES_EXPORTER"
)

// Enabled reports whether the environment, as getenv returns it, asks for traces. The error names a variable that is invalid, and what is
// allowed.
func Enabled(getenv func(name string) string) (bool, error) {
	name := tracesEndpoint
	if getenv(name) == "" {
		name = anyEndpoint
	}
	if getenv(name) == "" || strings.EqualFold(getenv(disabled), "true") || getenv(exporters) == "none" {
		return false, nil
	}
	if u, err := url.Parse(getenv(name)); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return false, fmt.Errorf("%s must be a URL such as http://localhost:4318", name)
	}
	for _, name := range []string{tracesProtocol, anyProtocol} {
		if protocol := getenv(name); protocol != "" && protocol != "http/protobuf" {
			return false, fmt.Errorf("%s must be http/protobuf, or unset: this server sends traces by HTTP only", name)
		}
	}
	if exporter := cmp.Or(getenv(exporters), "otlp"); exporter != "otlp" {
		return false, fmt.Errorf("%s must be otlp or none, or unset", exporters)
	}
	return true, nil
}

// Open returns a Tracer for the environment of the process, which must be [Enabled].
func Open(ctx context.Context, version string, logger *slog.Logger) (*Tracer, error) {
	faults := &faultLog{logger: logger}
	otel.SetErrorHandler(faults)
	otel.SetLogger(logr.FromSlogHandler(logger.Handler()))
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, fmt.Errorf("open the exporter of traces: %w", err)
	}
	about, err := resource.New(ctx,
		resource.WithAttributes(attribute.String("service.name", "kubeagents"), attribute.String("service.version", version)),
		resource.WithTelemetrySDK(), resource.WithHost(),
		resource.WithFromEnv()) // the last one counts
	if err != nil && !errors.Is(err, resource.ErrPartialResource) {
		return nil, fmt.Errorf("describe the server for traces: %w", err)
	}
	return &Tracer{trace.NewTracerProvider(trace.WithBatcher(exporter), trace.WithResource(about))}, nil
}

// Trace makes requests to next have spans, as parts of the traces that their traceparent header names (W3C Trace
// Context). Probes, scrapes and event streams have none: there are too many of the first two, and the last may be open
// for days.
func (t *Tracer) Trace(next http.Handler) http.Handler {
	if t == nil {
		return next
	}
	return otelhttp.NewHandler(next, "request", otelhttp.WithTracerProvider(t.provider),
		otelhttp.WithPropagators(propagation.TraceContext{}),
		otelhttp.WithFilter(func(r *http.Request) bool {
			path := r.URL.Path
			return !strings.Contains(path, "/health") && !strings.HasSuffix(path, "/metrics") && !strings.HasSuffix(path, "/api/events")
		}))
}

// Close sends the traces that were not sent yet, until ctx is done.
func (t *Tracer) Close(ctx context.Context) {
	if t != nil {
		t.provider.Shutdown(ctx) //nolint:errcheck // faultLog has the error
	}
}

// faultLog logs that traces could not be sent, at most once a minute. It implements otel.ErrorHandler.
type faultLog struct {
	logger *slog.Logger

	mu   sync.Mutex
	last time.Time
}

// Handle implements otel.ErrorHandler. The error may contain the address of the collector, which is no secret, but not
// the headers.
func (f *faultLog) Handle(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := time.Now(); now.Sub(f.last) >= time.Minute {
		f.last = now
		f.logger.Warn("traces can't be sent to the collector", "error", err.Error())
	}
}
