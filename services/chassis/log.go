package chassis

import (
	"log/slog"
	"os"
)

// NewLogger returns the service's logger: JSON lines on standard error.
func NewLogger(service string, s Settings) *slog.Logger {
	h := slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: s.LogLevel})
	return slog.New(h).With("service", service, "instance", s.InstanceName())
}
