package gateway

import (
	"context"
	"log/slog"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"coatcheck/chassis/tracing"
)

// finishSpan says on a traced request's span what it was and how it ended. Its
// path would be the client's words.
func finishSpan(ctx context.Context, route, method string, status int) {
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return
	}
	span.SetName(method + " " + route)
	span.SetAttributes(
		attribute.String("http.request.method", method),
		attribute.String("http.route", route),
		attribute.Int("http.response.status_code", status),
	)
	if status >= 500 {
		span.SetStatus(codes.Error, "")
	}
}

// retried marks on a traced request's span where a call was tried again.
func retried(ctx context.Context, tries int) {
	trace.SpanFromContext(ctx).AddEvent("retry", trace.WithAttributes(attribute.Int("tries", tries)))
}

// named names the request in a line of the log, where the logger does not do it
// because the request is traced.
func (a *answer) named(ctx context.Context) slog.Attr {
	if tracing.ID(ctx) != "" {
		return slog.Attr{}
	}
	return slog.String("trace_id", a.id.String())
}
