package gateway

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"coatcheck/chassis/measure"
)

// statusClientGone is what the metrics and the log show for a request whose
// client went away before there was an answer.
const statusClientGone = 499

var knownMethods = []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

// The results of a logical call, as metrics show them.
const (
	callAnswered = iota
	callUnavailable
	callCanceled
)

var callResults = [...]string{"answered", "unavailable", "canceled"}

type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	inFlight prometheus.Gauge
	calls    *prometheus.CounterVec
	retries  *prometheus.CounterVec
	refused  *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	return &metrics{
		requests: f.NewCounterVec(prometheus.CounterOpts{
			Name: "http_requests_total",
			Help: "Requests answered, by the pattern of their path, method (GET stands for HEAD too) and status; 499 is a client that went away.",
		}, []string{"route", "method", "code"}),
		duration: f.NewHistogramVec(measure.Histogram("http_request_duration_seconds",
			"From the end of a request's headers to the end of its answer.",
			[]float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5}), []string{"route", "method"}),
		inFlight: f.NewGauge(prometheus.GaugeOpts{
			Name: "http_requests_in_flight",
			Help: "Requests being answered.",
		}),
		calls: f.NewCounterVec(prometheus.CounterOpts{
			Name: "coatcheck_gateway_calls_total",
			Help: "Logical calls to a service, by the tries that each took and its result: answered, unavailable (after the last try) or canceled (the client went away).",
		}, []string{"backend", "tries", "result"}),
		retries: f.NewCounterVec(prometheus.CounterOpts{
			Name: "coatcheck_gateway_retries_total",
			Help: "Tries of a call to a service after the first one.",
		}, []string{"backend"}),
		refused: f.NewCounterVec(prometheus.CounterOpts{
			Name: "coatcheck_gateway_retries_refused_total",
			Help: "Calls to a service that were not tried again because the budget was spent.",
		}, []string{"backend"}),
	}
}

// expect makes the series of a route's failures exist from the start, so that
// the first failure is an increase.
func (m *metrics) expect(pattern string) {
	method, route, _ := strings.Cut(pattern, " ")
	m.requests.WithLabelValues(route, method, "500")
	m.requests.WithLabelValues(route, method, "503")
}

// show shows what of the gateway has a value at every moment.
func (g *Gateway) show(reg prometheus.Registerer) {
	gauge := func(name, help string, labels prometheus.Labels, value func() float64) {
		promauto.With(reg).NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, value)
	}
	gauge("coatcheck_gateway_slots", "Requests that may be worked on at once.", nil,
		func() float64 { return float64(cap(g.slots)) })
	gauge("coatcheck_gateway_slots_in_use", "Requests being worked on.", nil,
		func() float64 { return float64(len(g.slots)) })
	for name, b := range map[string]*backend{"cart": g.cartBackend, "auth": g.authBackend} {
		gauge("coatcheck_gateway_retry_budget", "Retries that the budget of a service allows now.", prometheus.Labels{"backend": name},
			func() float64 { return float64(b.budget.left()) })
	}
}

// observe counts and logs one request. Neither paths nor headers are logged:
// they are the client's words.
func (g *Gateway) observe(a *answer, r *http.Request, start time.Time) {
	g.metrics.inFlight.Dec()
	_, route, _ := strings.Cut(a.route, " ")
	method, status := r.Method, a.status
	if route == "" {
		route = "unmatched"
	}
	switch {
	case method == http.MethodHead:
		method = http.MethodGet
	case !slices.Contains(knownMethods, method):
		method = "OTHER"
	}
	if status >= 500 && r.Context().Err() == context.Canceled {
		status = statusClientGone
	}
	took := time.Since(start)
	finishSpan(r.Context(), route, method, status)
	g.metrics.requests.WithLabelValues(route, method, strconv.Itoa(status)).Inc()
	measure.Observe(r.Context(), g.metrics.duration.WithLabelValues(route, method), took.Seconds())

	level := g.settings.RequestLogLevel
	var failure slog.Attr
	switch {
	case route == "/livez" || route == "/readyz": // there, 503 is an answer and not a failure
		level = slog.LevelDebug
	case a.err != nil && status >= 500:
		level = slog.LevelError
		failure = slog.Any("err", a.err)
	case a.err != nil:
		failure = slog.String("code", toRefusal(a.err).code)
	}
	if !g.log.Enabled(r.Context(), level) {
		return
	}
	// A record has room for five: a sixth, though empty, costs an allocation.
	attrs := [6]slog.Attr{slog.String("method", method), slog.String("route", route), slog.Int("status", status), slog.Duration("duration", took), a.named(r.Context()), failure}
	named := attrs[:5]
	if failure.Key != "" {
		named = attrs[:]
	}
	// Logger.LogAttrs would look for the line of code, which no line of the log tells.
	line := slog.NewRecord(start.Add(took), level, "request", 0)
	line.AddAttrs(named...)
	_ = g.log.Handler().Handle(r.Context(), line)
}
