// Package measure is what the metrics of all services have in common:
// histograms of both kinds, and exemplars that lead from a slow request to its
// trace.
//
// The hazard is the label that grows with the traffic: each value is a series
// that every Prometheus keeps. No label here or elsewhere holds what a client
// wrote.
package measure

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"coatcheck/chassis/fault"
)

// Histogram returns the options of a histogram with these buckets for every
// Prometheus, and native ones for those that take them.
func Histogram(name, help string, buckets []float64) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{
		Name: name, Help: help, Buckets: buckets,
		NativeHistogramBucketFactor:     1.1,
		NativeHistogramMaxBucketNumber:  160,
		NativeHistogramMinResetDuration: time.Hour,
	}
}

// Observe observes the value, with the trace of ctx as exemplar if it is kept.
func Observe(ctx context.Context, o prometheus.Observer, value float64) {
	span := trace.SpanContextFromContext(ctx)
	if !span.IsSampled() {
		o.Observe(value)
		return
	}
	o.(prometheus.ExemplarObserver).ObserveWithExemplar(value, prometheus.Labels{"trace_id": span.TraceID().String()})
}

// Result is how something ended, as a label: "done", or the kind of the fault.
func Result(err error) string {
	if err == nil {
		return "done"
	}
	return fault.From(err).Kind.String()
}
