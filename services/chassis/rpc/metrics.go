package rpc

import (
	"context"
	"errors"
	"io"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"coatcheck/chassis/measure"
)

// buckets cover a hop on one machine to a caller's whole deadline, in seconds.
var buckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1}

// Metrics are those of one side's calls, under the names that dashboards for
// gRPC expect. Methods are looked up once: four series by their labels in each
// call would be a tenth of what the call costs.
type Metrics struct {
	started, handled *prometheus.CounterVec
	seconds          *prometheus.HistogramVec

	known atomic.Pointer[map[string]*method]
	mu    sync.Mutex // held to replace known
}

// method holds the series of one method that every call needs.
type method struct {
	labels      []string
	started, ok prometheus.Counter
	seconds     prometheus.Observer
}

func newMetrics(reg prometheus.Registerer, side string) *Metrics {
	labels := []string{"grpc_type", "grpc_service", "grpc_method"}
	f := promauto.With(reg)
	m := &Metrics{
		started: f.NewCounterVec(prometheus.CounterOpts{
			Name: "grpc_" + side + "_started_total",
			Help: "Calls begun by the " + side + ".",
		}, labels),
		handled: f.NewCounterVec(prometheus.CounterOpts{
			Name: "grpc_" + side + "_handled_total",
			Help: "Calls ended at the " + side + ", by code. Each try of a call that is tried again counts.",
		}, append(labels, "grpc_code")),
		seconds: f.NewHistogramVec(measure.Histogram("grpc_"+side+"_handling_seconds",
			"From the beginning of a call to its end at the "+side+".", buckets), labels),
	}
	m.known.Store(&map[string]*method{})
	return m
}

// of returns the method's series. Only methods that are registered here, or
// that we call, get this far: their number is bounded.
func (m *Metrics) of(kind, fullMethod string) *method {
	if found := (*m.known.Load())[fullMethod]; found != nil {
		return found
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	known := maps.Clone(*m.known.Load())
	service, name, _ := strings.Cut(strings.TrimPrefix(fullMethod, "/"), "/")
	labels := []string{kind, service, name}
	known[fullMethod] = &method{
		labels:  labels,
		started: m.started.WithLabelValues(labels...),
		ok:      m.handled.WithLabelValues(append(labels, codes.OK.String())...),
		seconds: m.seconds.WithLabelValues(labels...),
	}
	m.known.Store(&known)
	return known[fullMethod]
}

func (m *Metrics) end(ctx context.Context, of *method, start time.Time, err error) {
	measure.Observe(ctx, of.seconds, time.Since(start).Seconds())
	if err == nil {
		of.ok.Inc()
		return
	}
	code := status.Code(err)
	if code == codes.Unknown {
		code = status.FromContextError(err).Code() // what gRPC makes of a context's error
	}
	m.handled.WithLabelValues(append(of.labels[:len(of.labels):len(of.labels)], code.String())...).Inc()
}

func (m *Metrics) unaryServer(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	of, start := m.of("unary", info.FullMethod), time.Now()
	of.started.Inc()
	resp, err := handler(ctx, req)
	m.end(ctx, of, start, err)
	return resp, err
}

func (m *Metrics) streamServer(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	of, start := m.of(kindOf(info.IsClientStream, info.IsServerStream), info.FullMethod), time.Now()
	of.started.Inc()
	err := handler(srv, ss)
	m.end(ss.Context(), of, start, err)
	return err
}

func (m *Metrics) unaryClient(ctx context.Context, fullMethod string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	of, start := m.of("unary", fullMethod), time.Now()
	of.started.Inc()
	err := invoke(ctx, fullMethod, req, reply, cc, opts...)
	m.end(ctx, of, start, err)
	return err
}

func (m *Metrics) streamClient(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, fullMethod string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	of, start := m.of(kindOf(desc.ClientStreams, desc.ServerStreams), fullMethod), time.Now()
	of.started.Inc()
	s, err := open(ctx, desc, cc, fullMethod, opts...)
	if err != nil {
		m.end(ctx, of, start, err)
		return nil, err
	}
	return &clientStream{ClientStream: s, end: func(err error) { m.end(ctx, of, start, err) }}, nil
}

func kindOf(client, server bool) string {
	switch {
	case client && server:
		return "bidi_stream"
	case client:
		return "client_stream"
	case server:
		return "server_stream"
	default:
		return "unary"
	}
}

// clientStream tells of its end: the first error of a read, io.EOF being the
// good one. A caller that gives up its context without another read is not seen.
type clientStream struct {
	grpc.ClientStream
	end  func(error)
	once sync.Once
}

func (s *clientStream) RecvMsg(msg any) error {
	err := s.ClientStream.RecvMsg(msg)
	if err != nil {
		s.once.Do(func() {
			if errors.Is(err, io.EOF) {
				s.end(nil)
			} else {
				s.end(err)
			}
		})
	}
	return err
}
