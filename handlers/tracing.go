package handlers

import (
	"context"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/kubeagents/kubeagents/internal/recorder"
)

// spanOf returns the span of a request, nil if the request is not traced.
func spanOf(r *http.Request) trace.Span {
	if span := trace.SpanFromContext(r.Context()); span.SpanContext().IsValid() {
		return span
	}
	return nil
}

// nameSpan names the span of a request after its route, which is known once the request was routed. A path is no name:
// there is one for each session.
func nameSpan(env *envelope, method, route string) {
	if route == "" {
		route = "no route"
	}
	env.span.SetName(method + " " + route)
	env.span.SetAttributes(attribute.String("http.route", route), attribute.String("kubeagents.request_id", env.id[0]))
}

// traceReports adds the path of a request's reports to its span: from its start to the store.
func traceReports(env *envelope, count int, decoded time.Time, steps *recorder.Steps) {
	env.span.SetAttributes(attribute.Int("kubeagents.reports", count))
	tracer := env.span.TracerProvider().Tracer("github.com/kubeagents/kubeagents")
	ctx, from := trace.ContextWithSpan(context.Background(), env.span), env.started
	for _, step := range []struct {
		name string
		to   time.Time
	}{
		{"receive and decode", decoded},
		{"validate", steps.Submitted},
		{"wait for the group", steps.Grouped},
		{"admit", steps.Admitted},
		{"append to the journal", steps.Durable},
		{"apply to the store", steps.Applied},
	} {
		if step.to.IsZero() {
			continue
		}
		_, span := tracer.Start(ctx, step.name, trace.WithTimestamp(from))
		span.End(trace.WithTimestamp(step.to))
		from = step.to
	}
}
