// Package tracing sends spans to an OTLP endpoint, if the environment names one
// in a variable that OpenTelemetry defines: OTEL_EXPORTER_OTLP_ENDPOINT or
// OTEL_EXPORTER_OTLP_TRACES_ENDPOINT. Its other variables hold too, such as
// OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG; OTLP is spoken over gRPC.
//
// Without an endpoint nothing of this is in a request's way. With one, the
// hazards are a collector that is slow or away, for which no request ever waits
// (spans are queued, and dropped when the queue is full), and that spans leave
// the shop: none holds a path, a header, an argument or anything else that a
// client wrote.
package tracing

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/stats"

	"coatcheck/chassis/fault"
)

// scope names who makes spans.
const scope = "coatcheck/chassis/tracing"

// flushTimeout bounds how long the end of a process waits for the collector.
const flushTimeout = 2 * time.Second

// w3c is the trace's context as it comes and goes. Baggage is left out: it
// would carry clients' words through the whole shop.
var w3c = propagation.TraceContext{}

// Tracing makes and sends the spans of one process. A nil Tracing, which is
// what Start returns without an endpoint, makes none.
type Tracing struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
}

// Start reads OpenTelemetry's variables. It does not wait for the collector.
// The caller closes what it returns.
func Start(ctx context.Context, log *slog.Logger, service, instance string) (*Tracing, error) {
	on, err := wanted()
	if !on || err != nil {
		return nil, err
	}
	// Of the same names, the environment's count.
	from, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(
		attribute.String("service.namespace", "coatcheck"),
		attribute.String("service.name", service),
		attribute.String("service.instance.id", instance),
	), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("tracing: OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	exporter, err := otlptracegrpc.New(ctx)
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("spans were lost", "err", err) }))
	provider := sdk.NewTracerProvider(sdk.WithResource(from), sdk.WithBatcher(exporter))
	return &Tracing{provider: provider, tracer: provider.Tracer(scope)}, nil
}

// wanted reports whether there is an endpoint, and one that can be spoken to.
func wanted() (bool, error) {
	first := func(names ...string) string {
		for _, name := range names {
			if value := os.Getenv(name); value != "" {
				return value
			}
		}
		return ""
	}
	if first("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT") == "" ||
		strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") || os.Getenv("OTEL_TRACES_EXPORTER") == "none" {
		return false, nil
	}
	if p := first("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"); p != "" && p != "grpc" {
		return false, errors.New("tracing: OTEL_EXPORTER_OTLP_PROTOCOL: must be grpc; name an endpoint that takes it, mostly port 4317")
	}
	return true, nil
}

// Tracer makes spans; it is nil if nothing is traced.
func (t *Tracing) Tracer() trace.Tracer {
	if t == nil {
		return nil
	}
	return t.tracer
}

// HTTP returns next with a span around each request, which goes on the client's
// trace if it has one. The span has only a method for a name; who knows the
// route gives it a better one.
func (t *Tracing) HTTP(next http.Handler) http.Handler {
	if t == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := w3c.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		ctx, span := t.tracer.Start(ctx, "HTTP", trace.WithSpanKind(trace.SpanKindServer))
		defer span.End()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// ServerOptions make a gRPC server trace its calls.
func (t *Tracing) ServerOptions() []grpc.ServerOption {
	if t == nil {
		return nil
	}
	return []grpc.ServerOption{grpc.StatsHandler(otelgrpc.NewServerHandler(t.calls()...))}
}

// DialOptions make a gRPC client trace its calls: each try is a span.
func (t *Tracing) DialOptions() []grpc.DialOption {
	if t == nil {
		return nil
	}
	return []grpc.DialOption{grpc.WithStatsHandler(otelgrpc.NewClientHandler(t.calls()...))}
}

func (t *Tracing) calls() []otelgrpc.Option {
	return []otelgrpc.Option{
		otelgrpc.WithTracerProvider(t.provider),
		otelgrpc.WithPropagators(w3c),
		otelgrpc.WithMeterProvider(metricnoop.NewMeterProvider()), // Prometheus has those
		otelgrpc.WithFilter(func(call *stats.RPCTagInfo) bool {
			return !strings.HasPrefix(call.FullMethodName, "/grpc.health.v1.Health/")
		}),
	}
}

// Header names the span of ctx to another process; "" if it is not kept.
func Header(ctx context.Context) string {
	if !trace.SpanContextFromContext(ctx).IsSampled() {
		return ""
	}
	carrier := propagation.MapCarrier{}
	w3c.Inject(ctx, carrier)
	return carrier["traceparent"]
}

// Asked begins the span of a call that is made together with others, under that
// of ctx; end ends it. It does nothing where nothing is traced.
func Asked(ctx context.Context, call string) (_ context.Context, end func(error)) {
	if !trace.SpanFromContext(ctx).IsRecording() {
		return ctx, func(error) {}
	}
	return startSpan(ctx, ctx, call, trace.WithSpanKind(trace.SpanKindClient))
}

// Answered is Asked on the other side: under the span that header names, and
// linked to that of ctx, which all have in common.
func Answered(ctx context.Context, header, call string) (_ context.Context, end func(error)) {
	if header == "" {
		return ctx, func(error) {}
	}
	under := w3c.Extract(ctx, propagation.MapCarrier{"traceparent": header})
	return startSpan(ctx, under, call, trace.WithSpanKind(trace.SpanKindServer), trace.WithLinks(trace.LinkFromContext(ctx)))
}

// startSpan starts a span as that of ctx was made.
func startSpan(ctx, under context.Context, call string, opts ...trace.SpanStartOption) (context.Context, func(error)) {
	tracer := trace.SpanFromContext(ctx).TracerProvider().Tracer(scope)
	under, span := tracer.Start(under, strings.TrimPrefix(call, "/"), opts...)
	return under, func(err error) {
		if err != nil {
			span.SetStatus(codes.Error, fault.From(err).Code)
		}
		span.End()
	}
}

// Close sends what is queued, if the collector takes it soon.
func (t *Tracing) Close() {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	_ = t.provider.Shutdown(ctx) // what fails was said to the error handler
}

// ID names the trace of ctx; "" if there is none.
func ID(ctx context.Context) string {
	span := trace.SpanContextFromContext(ctx)
	if !span.HasTraceID() {
		return ""
	}
	return span.TraceID().String()
}

// Name is the id by which logs and answers name a request: that of its trace or,
// where the shop is not traced, that of the client's own trace if it sent one as
// W3C has it, else a new one.
func Name(r *http.Request) trace.TraceID {
	if span := trace.SpanContextFromContext(r.Context()); span.HasTraceID() {
		return span.TraceID()
	}
	if r.Header.Get("Traceparent") != "" {
		sent := trace.SpanContextFromContext(w3c.Extract(context.Background(), propagation.HeaderCarrier(r.Header)))
		if sent.HasTraceID() {
			return sent.TraceID()
		}
	}
	var id trace.TraceID
	binary.BigEndian.PutUint64(id[:8], rand.Uint64())
	binary.BigEndian.PutUint64(id[8:], rand.Uint64()|1) // all zeros would be none
	return id
}
