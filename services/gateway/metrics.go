package gateway

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// statusClientGone is what the metrics and the log show for a request whose
// client went away before there was an answer.
const statusClientGone = 499

var knownMethods = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	inFlight prometheus.Gauge
	retries  *prometheus.CounterVec
	refused  *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	labels := []string{"route", "method", "code"}
	f := promauto.With(reg)
	return &metrics{
		requests: f.NewCounterVec(prometheus.CounterOpts{
			Name: "http_requests_total",
			Help: "Requests answered.",
		}, labels),
		duration: f.NewHistogramVec(prometheus.HistogramOpts{
			Name:                            "http_request_duration_seconds",
			Help:                            "From the end of a request's headers to the end of its answer.",
			Buckets:                         []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
			NativeHistogramBucketFactor:     1.1,
			NativeHistogramMaxBucketNumber:  160,
			NativeHistogramMinResetDuration: time.Hour,
		}, labels),
		inFlight: f.NewGauge(prometheus.GaugeOpts{
			Name: "http_requests_in_flight",
			Help: "Requests being answered.",
		}),
		retries: f.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_retries_total",
			Help: "Calls to a service that were tried again.",
		}, []string{"backend"}),
		refused: f.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_retries_refused_total",
			Help: "Calls to a service that were not tried again because the budget was spent.",
		}, []string{"backend"}),
	}
}

// observe counts and logs one request. Neither paths nor headers are logged:
// they are the client's words.
func (g *Gateway) observe(a *answer, r *http.Request, start time.Time) {
	g.metrics.inFlight.Dec()
	route, method, status := a.route, r.Method, a.status
	if route == "" {
		route = "unmatched"
	}
	if !slices.Contains(knownMethods, method) {
		method = "OTHER"
	}
	if status >= 500 && r.Context().Err() == context.Canceled {
		status = statusClientGone
	}
	code, took := strconv.Itoa(status), time.Since(start)
	g.metrics.requests.WithLabelValues(route, method, code).Inc()
	g.metrics.duration.WithLabelValues(route, method, code).Observe(took.Seconds())

	attrs := []slog.Attr{
		slog.String("method", method),
		slog.String("route", route),
		slog.Int("status", status),
		slog.Duration("duration", took),
	}
	level := slog.LevelDebug
	if status >= 500 && route != "GET /readyz" { // there, 503 is an answer and not a failure
		level = slog.LevelError
		attrs = append(attrs, slog.Any("err", a.err))
	}
	g.log.LogAttrs(context.Background(), level, "request", attrs...)
}
