package rpc

import (
	"context"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"coatcheck/chassis/measuretest"
)

// counted are one call's metrics on either side, less the call.
func counted() map[string]func() {
	server, client := newMetrics(prometheus.NewRegistry(), "server"), NewClientMetrics(prometheus.NewRegistry())
	info := &grpc.UnaryServerInfo{FullMethod: "/coatcheck.cart.v1.CartService/AddItems"}
	answer := func(context.Context, any) (any, error) { return nil, nil }
	invoke := func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error { return nil }
	ctx := context.Background()
	return map[string]func(){
		"server": func() { _, _ = server.unaryServer(ctx, nil, info, answer) },
		"client": func() { _ = client.unaryClient(ctx, info.FullMethod, nil, nil, nil, invoke) },
	}
}

func TestMetricsCost(t *testing.T) {
	for name, call := range counted() {
		if got := testing.AllocsPerRun(1000, call); got > 0 {
			t.Errorf("the %s's metrics of a call take %v allocations, want none", name, got)
		}
		measuretest.Takes(t, "the "+name+"'s metrics of a call", measuretest.Call, call)
	}
}

func BenchmarkMetrics(b *testing.B) {
	for name, call := range counted() {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				call()
			}
		})
	}
}
