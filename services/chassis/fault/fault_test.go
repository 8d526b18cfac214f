package fault_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"coatcheck/chassis/fault"
)

var kinds = []fault.Kind{
	fault.Internal, fault.Invalid, fault.Refused, fault.Unauthenticated, fault.Forbidden, fault.Absent,
	fault.Conflict, fault.Stale, fault.Exhausted, fault.Unavailable, fault.Unimplemented,
}

type failing struct {
	grpc_health_v1.UnimplementedHealthServer
	err error
}

func (f *failing) Check(context.Context, *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	return nil, f.err
}

// over returns a function that gives what a client sees of a server's error. The
// server sends what From makes of it, as those of package rpc do.
func over(t *testing.T) func(err error) error {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, handler := grpc.NewServer(), &failing{}
	grpc_health_v1.RegisterHealthServer(server, handler)
	go func() { _ = server.Serve(lis) }()
	t.Cleanup(server.Stop)
	conn, err := grpc.NewClient("passthrough:///"+lis.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return func(err error) error {
		handler.err = fault.From(err)
		_, seen := grpc_health_v1.NewHealthClient(conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
		return seen
	}
}

func TestEveryKindThereAndBack(t *testing.T) {
	send := over(t)
	byCode := map[codes.Code]fault.Kind{}
	for _, kind := range kinds {
		sent := fault.Wrap(errors.New("dial 10.1.2.3: hunter2"), kind, fmt.Sprintf("code_%d", kind), "A sentence for people: ünïcode too.")
		sent.After = time.Duration(kind) * 1500 * time.Millisecond
		seen := send(fmt.Errorf("handling: %w", sent))

		if other, taken := byCode[status.Code(seen)]; taken {
			t.Errorf("kinds %d and %d are both %v", other, kind, status.Code(seen))
		}
		byCode[status.Code(seen)] = kind
		if text := fmt.Sprintf("%v %v", seen, status.Convert(seen).Details()); strings.Contains(text, "hunter2") {
			t.Errorf("kind %d: the cause was sent: %s", kind, text)
		}
		// What callers wrap around it on the way must not get into the message.
		got := fault.From(fmt.Errorf("asking the cart: %w", seen))
		if got.Kind != sent.Kind || got.Code != sent.Code || got.Message != sent.Message || got.After != sent.After {
			t.Errorf("kind %d: got %d %q %q %v, want %q %q %v", kind, got.Kind, got.Code, got.Message, got.After, sent.Code, sent.Message, sent.After)
		}
		if again := fault.FromCode(sent.GRPCCode(), sent.Code, sent.Message); again.Kind != kind || again.Code != sent.Code || again.Message != sent.Message || again.Cause != nil {
			t.Errorf("kind %d: from its code, %v", kind, again)
		}
		if !fault.Is(seen, kind) || !errors.Is(got, seen) {
			t.Errorf("kind %d: Is or Unwrap does not find it", kind)
		}
	}
	if fault.FromCode(codes.Unknown, "x", "x").Kind != fault.Internal {
		t.Error("a code that stands for no kind is taken for something a client did")
	}
	if len(byCode) != len(kinds) {
		t.Errorf("%d kinds are %d codes", len(kinds), len(byCode))
	}
}

func TestFrom(t *testing.T) {
	ours := fault.New(fault.Absent, "no_such_order", "There is no such order.")
	foreign := func(code codes.Code) error { return status.Error(code, "10.1.2.3 said so") }
	elsewhere, err := status.New(codes.NotFound, "10.1.2.3 said so").WithDetails(&errdetails.ErrorInfo{Reason: "x", Domain: "googleapis.com"})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		err  error
		kind fault.Kind
		code string
	}{
		"ours":                     {ours, fault.Absent, "no_such_order"},
		"ours, wrapped":            {fmt.Errorf("x: %w", ours), fault.Absent, "no_such_order"},
		"plain":                    {errors.New("10.1.2.3 said so"), fault.Internal, "internal"},
		"deadline":                 {fmt.Errorf("x: %w", context.DeadlineExceeded), fault.Unavailable, "timeout"},
		"canceled":                 {context.Canceled, fault.Unavailable, "timeout"},
		"foreign DeadlineExceeded": {foreign(codes.DeadlineExceeded), fault.Unavailable, "timeout"},
		"foreign Canceled":         {foreign(codes.Canceled), fault.Unavailable, "timeout"},
		"foreign Unavailable":      {fmt.Errorf("x: %w", foreign(codes.Unavailable)), fault.Unavailable, "unavailable"},
		"foreign Unimplemented":    {foreign(codes.Unimplemented), fault.Unimplemented, "unimplemented"},
		"foreign NotFound":         {foreign(codes.NotFound), fault.Internal, "internal"},
		"foreign InvalidArgument":  {foreign(codes.InvalidArgument), fault.Internal, "internal"},
		"foreign Exhausted":        {foreign(codes.ResourceExhausted), fault.Internal, "internal"},
		"foreign Unknown":          {foreign(codes.Unknown), fault.Internal, "internal"},
		"another domain's":         {elsewhere.Err(), fault.Internal, "internal"},
	} {
		got := fault.From(c.err)
		if got.Kind != c.kind || got.Code != c.code {
			t.Errorf("%s: got %d %q, want %d %q", name, got.Kind, got.Code, c.kind, c.code)
		}
		if strings.Contains(got.Message, "10.1.2.3") {
			t.Errorf("%s: the public message is %q", name, got.Message)
		}
		if !errors.Is(got, c.err) && !errors.Is(c.err, got) {
			t.Errorf("%s: the cause is lost", name)
		}
	}
	if fault.From(nil) != nil || fault.Is(nil, fault.Internal) {
		t.Error("nil is a fault")
	}
	var zero fault.Error
	if zero.Kind != fault.Internal {
		t.Error("an unclassified error is not Internal")
	}
}
