package ticket

import (
	"context"
	"iter"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// name is the metadata that inside tickets travel in.
const name = "ticket"

// carrying is a context with inside tickets.
type carrying struct {
	context.Context
	first   string // most calls have one
	further []string
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
func With(ctx context.Context, first string, further ...string) context.Context {
	return &carrying{ctx, first, further}
}

// Sent returns the first inside ticket that calls with ctx carry, "" for none.
func Sent(ctx context.Context) string {
	for t := range sent(ctx) {
		return t
	}
	return ""
}

// sent are those that are not empty.
func sent(ctx context.Context) iter.Seq[string] {
	return func(yield func(string) bool) {
		c, ok := ctx.Value(carryingKey{}).(*carrying)
		if !ok || c.first != "" && !yield(c.first) {
			return
		}
		for _, t := range c.further {
			if t != "" && !yield(t) {
				return
			}
		}
	}
}

// Attach is the interceptor that has a call take its tickets along. What goes by
// another way, in company, it does not see: metadata are dear.
func Attach(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	carried := ctx
	for t := range sent(carried) {
		ctx = metadata.AppendToOutgoingContext(ctx, name, t)
	}
	return invoke(ctx, method, req, reply, conn, opts...)
}

// From returns the inside tickets that a call came with.
func From(ctx context.Context) []string { return metadata.ValueFromIncomingContext(ctx, name) }
