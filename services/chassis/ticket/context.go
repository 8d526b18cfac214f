package ticket

import (
	"context"

	"google.golang.org/grpc/metadata"
)

// name is the metadata that inside tickets travel in.
const name = "ticket"

// With returns a context whose calls carry inside tickets; empty ones are none.
func With(ctx context.Context, tickets ...string) context.Context {
	for _, t := range tickets {
		if t != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, name, t)
		}
	}
	return ctx
}

// Sent returns the first inside ticket that calls with ctx carry, "" for none.
func Sent(ctx context.Context) string {
	sent, _ := metadata.FromOutgoingContext(ctx)
	for _, t := range sent.Get(name) {
		return t
	}
	return ""
}

// From returns the inside tickets that a call came with.
func From(ctx context.Context) []string { return metadata.ValueFromIncomingContext(ctx, name) }
