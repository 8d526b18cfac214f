package defects

import (
	"context"
	"crypto/rand"
	"fmt"
	"path"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"coatcheck/chassis"
	"coatcheck/chassis/fault"
	"coatcheck/chassis/ticket"
	authv1 "coatcheck/proto/coatcheck/auth/v1"
	cartv1 "coatcheck/proto/coatcheck/cart/v1"
)

// undrained ends at SIGTERM, at once.
type undrained struct{ chassis.Part }

func newUndrained(p chassis.Part) chassis.Part { return undrained{p} }

func (u undrained) Drain() { u.Close() }

// throttled is a connection with gRPC's own retries and their throttle: of ten
// tokens a failure takes one, and with five left nothing is sent again.
func throttled(addrs []string) (*grpc.ClientConn, error) {
	list := manual.NewBuilderWithScheme("replicas")
	var state resolver.State
	for _, addr := range addrs {
		state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: addr}}})
	}
	list.InitialState(state)
	return grpc.NewClient("replicas:///carts", grpc.WithResolvers(list),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, MaxDelay: 2 * time.Second}, MinConnectTimeout: time.Second}),
		grpc.WithDefaultServiceConfig(`{
			"loadBalancingConfig": [{"round_robin": {}}],
			"methodConfig": [{"name": [{}], "retryPolicy": {
				"maxAttempts": 3, "initialBackoff": "0.01s", "maxBackoff": "0.1s", "backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE"]}}],
			"retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1}}`),
		grpc.WithChainUnaryInterceptor(ticket.Attach))
}

// firstTriesOnly keeps the gateway's own retries from being made: these, and
// these alone, wait for a replica to be ready.
func firstTriesOnly(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	for _, opt := range opts {
		if o, ok := opt.(grpc.FailFastCallOption); ok && !o.FailFast {
			return errBroken
		}
	}
	return invoke(ctx, method, req, reply, conn, opts...)
}

// remembering is a gateway that asks at most once who has a session, not where it
// has logged them in itself, and never again.
func remembering() grpc.UnaryClientInterceptor {
	var known sync.Map // by token
	return func(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		if path.Base(method) != "VerifySession" {
			err := invoke(ctx, method, req, reply, conn, opts...)
			if in, ok := reply.(*authv1.LogInResponse); ok && err == nil {
				known.Store(in.GetSessionToken(), &authv1.VerifySessionResponse{
					UserId: in.GetUserId(), SessionId: in.GetSession().GetId(), ExpiresAt: in.GetSession().GetExpiresAt(), InsideTicket: in.GetInsideTicket(),
				})
			}
			return err
		}
		token := req.(*authv1.VerifySessionRequest).GetSessionToken()
		if answer, ok := known.Load(token); ok {
			proto.Merge(reply.(proto.Message), answer.(proto.Message))
			return nil
		}
		err := invoke(ctx, method, req, reply, conn, opts...)
		if err == nil {
			known.Store(token, proto.Clone(reply.(proto.Message)))
		}
		return err
	}
}

// retriedWhole sends a batch again as the one thing that it is: an operation's key
// is its place in the batch, and each sending is another batch.
func retriedWhole(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	batch, ok := req.(*cartv1.BatchRequest)
	if !ok {
		return invoke(ctx, method, req, reply, conn, opts...)
	}
	for try := 1; ; try++ {
		id, again := rand.Text(), proto.CloneOf(batch)
		for i, op := range again.GetOperations() {
			if add := op.GetAddItems(); add != nil {
				add.IdempotencyKey = fmt.Sprint(id, ".", i)
			}
		}
		err := invoke(ctx, method, again, reply, conn, opts...)
		if status.Code(err) != codes.Unavailable || try == 3 {
			return err
		}
	}
}

// failedWhole has one error for a batch: that of the first operation that has one.
func failedWhole(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if path.Base(method) != "Batch" {
		return invoke(ctx, method, req, reply, conn, opts...)
	}
	var batch cartv1.BatchResponse
	err := invoke(ctx, method, req, &batch, conn, opts...)
	if err != nil {
		return err
	}
	for _, o := range batch.GetOutcomes() {
		if f := o.GetFailure(); f != nil {
			return fault.FromCode(codes.Code(f.GetCode()), f.GetReason(), f.GetMessage())
		}
	}
	message, err := proto.Marshal(&batch)
	if err != nil {
		return err
	}
	return reply.(interface{ DecodeWire(message string) error }).DecodeWire(string(message))
}
