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

// From returns the inside tickets that a call came with.
func From(ctx context.Context) []string { return metadata.ValueFromIncomingContext(ctx, name) }
