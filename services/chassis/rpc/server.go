// Package rpc is gRPC between the services: a server that drains, and a client
// that spreads calls over the replicas, hears at once when one drains, and can
// ask the next one after a failure.
//
// It never serves gRPC through net/http: that would cut calls when draining.
// gRPC's own retry policy stays off, because its throttle stops after a few
// failures; who holds an idempotency key retries (the gateway).
package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"

	"coatcheck/chassis/fault"
)

// servedBy is the header in which a server names its replica.
const servedBy = "served-by"

// meaningfulWork is the least time left at which a call is worth starting: with
// less, the caller would only learn that its deadline passed.
const meaningfulWork = 5 * time.Millisecond

// Server is a gRPC server that chassis.Run can run. Register services on the
// embedded *grpc.Server before that.
type Server struct {
	*grpc.Server
	health  *health.Server
	metrics *Metrics
	answers answers
	// OnDrain is called, if set, when the server drains: streams that would not
	// end by themselves must end then, since Stop waits for them.
	OnDrain func()
}

// NewServer returns a server with metrics, health and bounds. instance is the
// replica's name, sent with every answer. Interceptors among the further options
// see the errors as the service returns them.
func NewServer(log *slog.Logger, reg prometheus.Registerer, instance string, further ...grpc.ServerOption) *Server {
	metrics := newMetrics(reg, "server")
	answers := answers{log, metadata.Pairs(servedBy, instance)}
	s := &Server{
		Server: grpc.NewServer(append([]grpc.ServerOption{
			grpc.ChainUnaryInterceptor(metrics.unaryServer, answers.unary),
			grpc.ChainStreamInterceptor(metrics.streamServer, answers.stream),
			grpc.MaxConcurrentStreams(250),
			grpc.MaxRecvMsgSize(256 << 10),
			grpc.MaxHeaderListSize(16 << 10),
			grpc.ConnectionTimeout(5 * time.Second),
			grpc.StaticStreamWindowSize(window),
			grpc.StaticConnWindowSize(window),
			grpc.KeepaliveParams(keepalive.ServerParameters{
				MaxConnectionAge:      3 * time.Minute,
				MaxConnectionAgeGrace: 30 * time.Second,
				Time:                  30 * time.Second,
				Timeout:               5 * time.Second,
			}),
			grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
				MinTime:             clientKeepalive / 2,
				PermitWithoutStream: true,
			}),
		}, further...)...),
		health:  health.NewServer(),
		metrics: metrics,
		answers: answers,
	}
	grpc_health_v1.RegisterHealthServer(s.Server, s.health)
	return s
}

// answers is the server's interceptors: they name the replica, turn panics and
// all errors into faults, and log those that are ours.
type answers struct {
	log    *slog.Logger
	header metadata.MD
}

func (a answers) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
	_ = grpc.SetHeader(ctx, a.header)
	err = a.guard(ctx, info.FullMethod, func() error {
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < meaningfulWork {
			return errNoTime
		}
		resp, err = handler(ctx, req)
		return err
	})
	return resp, err
}

var errNoTime = fault.New(fault.Unavailable, "timeout", "No time was left to do the work.")

// Operation is one of many that came in one call. It is treated and counted as
// the call that it stands for would have been.
type Operation struct {
	server *Server
	method string
	start  time.Time
	left   time.Duration
}

// Begin begins an operation that stands for a call of the method, and whose
// caller waits for so long.
func (s *Server) Begin(method string, left time.Duration) Operation {
	return Operation{s, method, time.Now(), left}
}

// Guard does a part of the operation. What it returns may be sent; a panic is
// this operation's alone.
func (o Operation) Guard(ctx context.Context, do func() error) error {
	return o.server.answers.guard(ctx, o.method, func() error {
		if o.left < meaningfulWork {
			return errNoTime
		}
		return do()
	})
}

// End counts the operation.
func (o Operation) End(ctx context.Context, err error) {
	of := o.server.metrics.of("unary", o.method)
	of.started.Inc()
	o.server.metrics.end(ctx, of, o.start, err)
}

func (a answers) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	_ = ss.SetHeader(a.header)
	return a.guard(ss.Context(), info.FullMethod, func() error { return handler(srv, ss) })
}

// guard returns what may be sent: nil or a fault itself, since gRPC would send
// the whole text of an error that only wraps one.
func (a answers) guard(ctx context.Context, method string, call func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			a.log.ErrorContext(ctx, "panic", "method", method, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = fault.New(fault.Internal, "internal", "Something went wrong on our side.")
		}
	}()
	if err = call(); err == nil {
		return nil
	}
	f := fault.From(err)
	switch {
	case f.Kind == fault.Internal:
		a.log.ErrorContext(ctx, "call failed", "method", method, "err", err)
	case f.Kind == fault.Unavailable && !errors.Is(ctx.Err(), context.Canceled):
		a.log.WarnContext(ctx, "call failed", "method", method, "err", err)
	}
	return f
}

// Serve is part of chassis.Part.
func (s *Server) Serve(lis net.Listener) error {
	if err := s.Server.Serve(lis); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return err
	}
	return nil
}

// Drain tells every client that watches the health to pick other replicas.
func (s *Server) Drain() {
	s.health.Shutdown()
	if s.OnDrain != nil {
		s.OnDrain()
	}
}

// Stop lets calls under way end until ctx does.
func (s *Server) Stop(ctx context.Context) error {
	s.health.Shutdown()
	done := make(chan struct{})
	go func() {
		s.GracefulStop()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close ends every call.
func (s *Server) Close() { s.Server.Stop() }
