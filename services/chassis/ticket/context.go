package ticket

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// name is the metadata that inside tickets travel in.
const name = "ticket"

// carrying is a context with inside tickets.
type carrying struct {
	context.Context
	tickets []string
}

type carryingKey struct{}

func (c *carrying) Value(key any) any {
	if key == (carryingKey{}) {
		return c
	}
	return c.Context.Value(key)
}

// With returns a context whose calls carry these inside tickets, over a connection
// that has Attach among its interceptors. Empty ones are none.
func With(ctx context.Context, tickets ...string) context.Context {
	return &carrying{ctx, tickets}
}

// Sent returns the first inside ticket that calls with ctx carry, "" for none.
func Sent(ctx context.Context) string {
	for _, t := range sent(ctx) {
		if t != "" {
			return t
		}
	}
	return ""
}

func sent(ctx context.Context) []string {
	c, ok := ctx.Value(carryingKey{}).(*carrying)
	if !ok {
		return nil
	}
	return c.tickets
}

// Attach is the interceptor that has a call take its tickets along. What goes by
// another way, in company, it does not see: metadata are dear.
func Attach(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	for _, t := range sent(ctx) {
		if t != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, name, t)
		}
	}
	return invoke(ctx, method, req, reply, conn, opts...)
}

// From returns the inside tickets that a call came with.
func From(ctx context.Context) []string { return metadata.ValueFromIncomingContext(ctx, name) }
