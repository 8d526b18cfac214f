package redisconn

import (
	"context"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// Trace makes each command of rdb a span of the request that it is for. What the
// service asks for itself, as a scrape does, is no trace. It does nothing without
// a tracer.
func Trace(rdb redis.UniversalClient, tracer trace.Tracer) {
	if tracer != nil {
		rdb.AddHook(spans{tracer})
	}
}

// spans names commands only: arguments hold carts, sessions and addresses.
type spans struct{ tracer trace.Tracer }

func (s spans) DialHook(next redis.DialHook) redis.DialHook { return next }

func (s spans) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		return s.span(ctx, cmd.Name(), func(ctx context.Context) error { return next(ctx, cmd) })
	}
}

func (s spans) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		return s.span(ctx, "pipeline", func(ctx context.Context) error { return next(ctx, cmds) })
	}
}

func (s spans) span(ctx context.Context, command string, send func(context.Context) error) error {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return send(ctx)
	}
	ctx, span := s.tracer.Start(ctx, command, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("db.system.name", "redis"),
		attribute.String("db.operation.name", command),
	))
	defer span.End()
	err := send(ctx)
	if r := result(err); r != "ok" {
		span.SetStatus(codes.Error, r)
	}
	return err
}
