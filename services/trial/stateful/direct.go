package stateful

import (
	"context"
	"log/slog"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	"coatcheck/chassis/fault"
)

// direct is a connection to services of this process: a call is a call of a
// function, as it would be in a program that was written as one. Through a
// gRPC transport the baseline would pay for hops that it does not need.
type direct struct {
	instance string
	log      *slog.Logger
	methods  map[string]method // by full name
	server   *grpc.Server
	conn     *grpc.ClientConn
}

type method struct {
	service any
	handle  func(srv any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error)
}

// connect returns a connection to service. Besides the calls, which do not use
// it, there is a real connection, so that it can be asked whether it is ready.
func connect(instance string, log *slog.Logger, desc *grpc.ServiceDesc, service any) (*direct, error) {
	d := &direct{instance: instance, log: log, methods: map[string]method{}, server: grpc.NewServer()}
	d.server.RegisterService(desc, service)
	for _, m := range desc.Methods {
		d.methods["/"+desc.ServiceName+"/"+m.MethodName] = method{service, m.Handler}
	}
	pipe := bufconn.Listen(64 << 10)
	go func() { _ = d.server.Serve(pipe) }()
	conn, err := grpc.NewClient("passthrough:///in-process",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return pipe.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithIdleTimeout(0),
		grpc.WithUnaryInterceptor(d.call))
	if err != nil {
		d.server.Stop()
		return nil, err
	}
	d.conn = conn
	return d, nil
}

// call keeps what a server of the shop promises: the replica is named, and an
// error is a fault.
func (d *direct) call(ctx context.Context, name string, req, reply any, _ *grpc.ClientConn, _ grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	m, ok := d.methods[name]
	if !ok {
		return fault.New(fault.Unimplemented, "unimplemented", "A part of the shop does not know this call.")
	}
	for _, opt := range opts {
		if header, ok := opt.(grpc.HeaderCallOption); ok {
			*header.HeaderAddr = metadata.Pairs("served-by", d.instance)
		}
	}
	resp, err := m.handle(m.service, ctx, func(into any) error {
		proto.Merge(into.(proto.Message), req.(proto.Message))
		return nil
	}, nil)
	if err != nil {
		f := fault.From(err)
		if f.Kind == fault.Internal {
			d.log.Error("call failed", "method", name, "err", err)
		}
		return f
	}
	if own, ok := reply.(interface{ DecodeWire(message string) error }); ok { // the gateway's, of carts
		message, err := proto.Marshal(resp.(proto.Message))
		if err != nil {
			return fault.Wrap(err, fault.Internal, "internal", "Something went wrong on our side.")
		}
		return own.DecodeWire(string(message))
	}
	proto.Merge(reply.(proto.Message), resp.(proto.Message))
	return nil
}

func (d *direct) close() {
	_ = d.conn.Close()
	d.server.Stop()
}
