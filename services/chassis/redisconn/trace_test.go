package redisconn_test

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"coatcheck/chassis/redisconn"
	"coatcheck/chassis/redistest"
)

// TestSpans: a request's command is a span of that request; a scrape, which asks
// Redis too, makes none.
func TestSpans(t *testing.T) {
	server := redistest.Start(t)
	reg := prometheus.NewRegistry()
	rdb := open(t, reg, "COATCHECK_REDIS_ADDRS="+server.Addr)
	spans := tracetest.NewSpanRecorder()
	tracer := sdk.NewTracerProvider(sdk.WithSpanProcessor(spans)).Tracer("test")
	redisconn.Trace(rdb, tracer)

	if got, _ := said(t, reg); got["redis_up"] != 1 || got["redis_commands_processed_total"] == 0 {
		t.Fatalf("the scrape did not ask: %v", got)
	}
	if ended := spans.Ended(); len(ended) != 0 {
		t.Errorf("a scrape makes a span %s", ended[0].Name())
	}
	ctx, request := tracer.Start(t.Context(), "request")
	if err := rdb.Set(ctx, "coat", "here", 0).Err(); err != nil {
		t.Fatal(err)
	}
	request.End()
	// Where the connection at hand has gone, there is the greeting of another one, too.
	sets := 0
	for _, s := range spans.Ended() {
		switch {
		case s.Name() == "set":
			sets++
			fallthrough
		case s.Name() != "request":
			if s.SpanContext().TraceID() != request.SpanContext().TraceID() || s.Name() == "set" && s.Parent().SpanID() != request.SpanContext().SpanID() {
				t.Errorf("the span %s is not under its request", s.Name())
			}
		}
	}
	if sets != 1 {
		t.Errorf("%d spans of one command", sets)
	}
}
