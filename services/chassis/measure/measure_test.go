package measure_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"coatcheck/chassis/fault"
	"coatcheck/chassis/measure"
)

// TestHistogram: there are buckets of both kinds, and a kept trace, no other, is
// named in them.
func TestHistogram(t *testing.T) {
	reg := prometheus.NewRegistry()
	h := prometheus.NewHistogram(measure.Histogram("shop_seconds", "How long.", []float64{1, 2}))
	reg.MustRegister(h)
	traced := func(id byte, flags trace.TraceFlags) trace.SpanContext {
		return trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{15: id}, SpanID: trace.SpanID{7: 1}, TraceFlags: flags})
	}
	measure.Observe(t.Context(), h, 0.5)
	measure.Observe(trace.ContextWithSpanContext(t.Context(), traced(2, 0)), h, 0.5)
	measure.Observe(trace.ContextWithSpanContext(t.Context(), traced(3, trace.FlagsSampled)), h, 1.5)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := families[0].GetMetric()[0].GetHistogram()
	if got.GetSampleCount() != 3 || len(got.GetBucket()) != 2 || len(got.GetPositiveSpan()) == 0 {
		t.Fatalf("not both kinds of histogram: %v", got)
	}
	if e := got.GetBucket()[0].GetExemplar(); e != nil {
		t.Errorf("a trace that is not kept is named: %v", e)
	}
	e := got.GetBucket()[1].GetExemplar()
	if len(e.GetLabel()) != 1 || e.GetLabel()[0].GetName() != "trace_id" || e.GetLabel()[0].GetValue() != "00000000000000000000000000000003" {
		t.Errorf("the exemplar is %v", e)
	}
}

func TestResult(t *testing.T) {
	for want, err := range map[string]error{
		"done":        nil,
		"internal":    errors.New("a defect"),
		"stale":       fmt.Errorf("changing: %w", fault.New(fault.Stale, "stale_version", "Stale.")),
		"unavailable": fault.New(fault.Unavailable, "store_unavailable", "Away."),
	} {
		if got := measure.Result(err); got != want {
			t.Errorf("%v is %s, want %s", err, got, want)
		}
	}
}
