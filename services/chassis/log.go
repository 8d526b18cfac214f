package chassis

import (
	"context"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"coatcheck/chassis/tracing"
)

const (
	// logDelay is how long a line below a warning may wait for others to be written
	// with, and so how much of the log a process takes along that is killed.
	logDelay = 50 * time.Millisecond
	// logBuffer is how many bytes of them may wait.
	logBuffer = 64 << 10
)

// NewLogger returns the service's logger: JSON lines on standard error, with
// trace_id where the context is of a trace. Lines are written in their order: a
// warning or an error at once, the others a moment later and many together, since
// a system call for each request's line is a twentieth of what the request costs.
// Run writes what waits before it returns.
func NewLogger(service string, s Settings) *slog.Logger {
	return newLogger(os.Stderr, service, s)
}

func newLogger(w io.Writer, service string, s Settings) *slog.Logger {
	lines := &lineBuffer{to: w}
	h := slog.NewJSONHandler(lines, &slog.HandlerOptions{Level: s.LogLevel})
	return slog.New(handler{h, lines}).With("service", service, "instance", s.InstanceName())
}

type handler struct {
	slog.Handler
	lines *lineBuffer
}

func (h handler) Handle(ctx context.Context, r slog.Record) error {
	if id := tracing.ID(ctx); id != "" {
		r.AddAttrs(slog.String("trace_id", id))
	}
	err := h.Handler.Handle(ctx, r)
	if r.Level >= slog.LevelWarn {
		h.lines.flush()
	}
	return err
}

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{h.Handler.WithAttrs(attrs), h.lines}
}

func (h handler) WithGroup(name string) slog.Handler {
	return handler{h.Handler.WithGroup(name), h.lines}
}

// flushLog writes what waits of a logger that NewLogger returned.
func flushLog(log *slog.Logger) {
	if h, ok := log.Handler().(handler); ok {
		h.lines.flush()
	}
}

// lineBuffer holds lines until they are flushed, or logDelay or logBuffer is over.
type lineBuffer struct {
	to      io.Writer
	mu      sync.Mutex
	waiting []byte
	timer   *time.Timer // runs while something waits
}

// Write takes one line. What can't be written is lost, as it would be without a
// buffer: slog has nobody to tell.
func (b *lineBuffer) Write(line []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case len(b.waiting) > 0:
	case b.timer == nil:
		b.timer = time.AfterFunc(logDelay, b.flush)
	default:
		b.timer.Reset(logDelay)
	}
	b.waiting = append(b.waiting, line...)
	if len(b.waiting) >= logBuffer {
		b.write()
	}
	return len(line), nil
}

func (b *lineBuffer) flush() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.write()
}

// write writes what waits; mu is held.
func (b *lineBuffer) write() {
	if len(b.waiting) > 0 {
		_, _ = b.to.Write(b.waiting)
		b.waiting = b.waiting[:0]
	}
}
