package chassis

import (
	"context"
	"io"
	"log/slog"
	"os"

	"coatcheck/chassis/tracing"
)

// NewLogger returns the service's logger: JSON lines on standard error, with
// trace_id where the context is of a trace.
func NewLogger(service string, s Settings) *slog.Logger {
	return newLogger(os.Stderr, service, s)
}

func newLogger(w io.Writer, service string, s Settings) *slog.Logger {
	h := slog.NewJSONHandler(w, &slog.HandlerOptions{Level: s.LogLevel})
	return slog.New(traced{h}).With("service", service, "instance", s.InstanceName())
}

type traced struct{ slog.Handler }

func (t traced) Handle(ctx context.Context, r slog.Record) error {
	if id := tracing.ID(ctx); id != "" {
		r.AddAttrs(slog.String("trace_id", id))
	}
	return t.Handler.Handle(ctx, r)
}

func (t traced) WithAttrs(attrs []slog.Attr) slog.Handler { return traced{t.Handler.WithAttrs(attrs)} }
func (t traced) WithGroup(name string) slog.Handler       { return traced{t.Handler.WithGroup(name)} }
