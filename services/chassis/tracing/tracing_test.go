package tracing

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

// environ sets OpenTelemetry's variables, and only these.
func environ(t testing.TB, vars map[string]string) {
	t.Helper()
	for _, name := range []string{
		"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_PROTOCOL",
		"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER", "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG",
	} {
		t.Setenv(name, vars[name])
	}
}

func begin(t testing.TB, vars map[string]string) (*Tracing, error) {
	t.Helper()
	environ(t, vars)
	return Start(t.Context(), slog.New(slog.DiscardHandler), "cart", "cart-1")
}

// nobody is an endpoint that nobody listens at.
const nobody = "http://127.0.0.1:1"

func TestOffUnlessAskedFor(t *testing.T) {
	for name, vars := range map[string]map[string]string{
		"nothing is said": {},
		"disabled":        {"OTEL_EXPORTER_OTLP_ENDPOINT": nobody, "OTEL_SDK_DISABLED": "true"},
		"no exporter":     {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": nobody, "OTEL_TRACES_EXPORTER": "none"},
	} {
		traces, err := begin(t, vars)
		if traces != nil || err != nil {
			t.Errorf("%s: %v, %v", name, traces, err)
		}
		asked := http.NewServeMux()
		if traces.HTTP(asked) != http.Handler(asked) || traces.ServerOptions() != nil || traces.DialOptions() != nil || traces.Tracer() != nil {
			t.Errorf("%s: it is in the way of requests", name)
		}
		traces.Close()
	}
	for _, variable := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"} {
		traces, err := begin(t, map[string]string{variable: nobody, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})
		if traces == nil || err != nil {
			t.Fatalf("%s: %v", variable, err)
		}
		traces.Close()
	}
	if _, err := begin(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": nobody, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}); err == nil || !strings.Contains(err.Error(), "OTEL_EXPORTER_OTLP_PROTOCOL") {
		t.Errorf("a protocol that is not spoken: %v", err)
	}
}

// TestCollectorAway: requests do not wait for it, and the process's end hardly.
func TestCollectorAway(t *testing.T) {
	traces, err := begin(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": nobody})
	if err != nil {
		t.Fatal(err)
	}
	handler := traces.HTTP(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if ID(r.Context()) == "" {
			t.Error("not traced")
		}
	}))
	start := time.Now()
	const requests = 20_000 // ten times what the queue holds
	for range requests {
		handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	}
	if took := time.Since(start); took > 4*time.Second {
		t.Errorf("%d requests took %v", requests, took)
	}
	start = time.Now()
	traces.Close()
	if took := time.Since(start); took > flushTimeout+time.Second {
		t.Errorf("the end took %v", took)
	}
}

// TestContext: a client's trace goes on under its own id and choice; one that is
// malformed is none; and a ratio of 0 keeps nothing that begins here.
func TestContext(t *testing.T) {
	traces, err := begin(t, map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": nobody, "OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0",
	})
	if err != nil {
		t.Fatal(err)
	}
	defer traces.Close()
	const id = "0af7651916cd43dd8448eb211c80319c"
	for _, tt := range []struct {
		header  string
		goesOn  bool
		sampled bool
	}{
		{"00-" + id + "-b7ad6b7169203331-01", true, true},
		{"00-" + id + "-b7ad6b7169203331-00", true, false},
		{"00-" + id + "-b7ad6b7169203331", false, false},
		{"", false, false},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Traceparent", tt.header)
		var got context.Context
		traces.HTTP(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.Context() })).ServeHTTP(httptest.NewRecorder(), r)
		if ID(got) == "" || (ID(got) == id) != tt.goesOn || trace.SpanContextFromContext(got).IsSampled() != tt.sampled {
			t.Errorf("%q: trace %s, sampled %v", tt.header, ID(got), trace.SpanContextFromContext(got).IsSampled())
		}
	}
}

// TestTogether: a call that is made together with others has a span on either
// side, on its own trace, linked to that of the company.
func TestTogether(t *testing.T) {
	record := tracetest.NewSpanRecorder()
	tracer := sdk.NewTracerProvider(sdk.WithSpanProcessor(record)).Tracer("test")
	request, endRequest := tracer.Start(t.Context(), "request")
	call, endCall := Asked(request, "/cart/Add")
	company, endCompany := tracer.Start(t.Context(), "batch")
	served, endServed := Answered(company, Header(call), "/cart/Add")
	if ID(call) != ID(request) || ID(served) != ID(request) || ID(company) == ID(request) {
		t.Errorf("traces %s, %s, %s and %s", ID(request), ID(call), ID(served), ID(company))
	}
	endServed(errors.New("hunter2"))
	endCall(nil)
	endCompany.End()
	endRequest.End()
	spans := record.Ended()
	server, client := spans[0], spans[1]
	if server.Name() != "cart/Add" || server.SpanKind() != trace.SpanKindServer || server.Parent().SpanID() != client.SpanContext().SpanID() ||
		len(server.Links()) != 1 || server.Links()[0].SpanContext.TraceID().String() != ID(company) || server.Status().Description != "internal" {
		t.Errorf("served: %+v", server)
	}
	if client.Name() != "cart/Add" || client.SpanKind() != trace.SpanKindClient || client.Parent().TraceID().String() != ID(request) || client.Status().Code != codes.Unset {
		t.Errorf("asked: %+v", client)
	}
	asked, end := Asked(t.Context(), "/cart/Add")
	end(nil)
	answered, end := Answered(company, Header(t.Context()), "/cart/Add")
	end(nil)
	if asked != t.Context() || answered != company || len(record.Started()) != 4 {
		t.Error("what is not traced has a span")
	}
}

// BenchmarkHTTP is what the span around a request costs, for requests that are
// not traced, traced at 1 percent, and traced all.
func BenchmarkHTTP(b *testing.B) {
	for name, vars := range map[string]map[string]string{
		"off":       {},
		"1 percent": {"OTEL_EXPORTER_OTLP_ENDPOINT": nobody, "OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.01"},
		"all":       {"OTEL_EXPORTER_OTLP_ENDPOINT": nobody},
	} {
		b.Run(name, func(b *testing.B) {
			traces, err := begin(b, vars)
			if err != nil {
				b.Fatal(err)
			}
			defer traces.Close()
			handler := traces.HTTP(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil)
			b.ReportAllocs()
			for b.Loop() {
				handler.ServeHTTP(w, r)
			}
		})
	}
}

// TestName: a request has a name whether or not the shop is traced: its own
// trace's, the client's, or a new one where the client sent none or nonsense.
func TestName(t *testing.T) {
	const id = "0af7651916cd43dd8448eb211c80319c"
	seen := map[string]bool{}
	for _, header := range []string{"", "", "nonsense", "00-00000000000000000000000000000000-b7ad6b7169203331-01", "00-" + strings.ToUpper(id) + "-b7ad6b7169203331-01", "00-" + id + "-b7ad6b7169203331"} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Traceparent", header)
		name := Name(r)
		if !name.IsValid() || name.String() == id || seen[name.String()] {
			t.Errorf("%q: %s", header, name)
		}
		seen[name.String()] = true
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Traceparent", "00-"+id+"-b7ad6b7169203331-00")
	if got := Name(r).String(); got != id {
		t.Errorf("the client's trace is %s, the request's name %s", id, got)
	}
	own := trace.TraceID{15: 7}
	ctx := trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{TraceID: own, SpanID: trace.SpanID{7: 1}}))
	if got := Name(r.WithContext(ctx)); got != own {
		t.Errorf("traced as %s, named %s", own, got)
	}
}

// TestNameCost: a name of its own costs a request no allocation.
func TestNameCost(t *testing.T) {
	r := httptest.NewRequest("GET", "/", nil)
	if got := testing.AllocsPerRun(1000, func() { _ = Name(r) }); got > 0 {
		t.Errorf("%v allocations, want none", got)
	}
}
