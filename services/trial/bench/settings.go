package bench

import (
	"context"
	"errors"
	"net"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"

	"coatcheck/trial/local"
)

// openPlain is the shop without coalescing: each call to a cart goes by itself.
func (r *run) openPlain(ctx context.Context) (*shop, error) {
	return r.openShop(ctx, "plain shop", 1, 1, 1, map[string][]string{local.Gateway: {"COATCHECK_CART_BATCHES=0"}})
}

// plainAdds is what coalescing is worth.
func (r *run) plainAdds(ctx context.Context) error {
	s, err := r.openPlain(ctx)
	if err != nil {
		return err
	}
	defer r.closeShop(s)
	return r.compareShop(ctx, "plain", "Add, carts of 3 lines, without coalescing", s, r.direct)
}

// moreBatches is what a second batch under way to a cart replica is worth.
func (r *run) moreBatches(ctx context.Context) error {
	s, err := r.openShop(ctx, "shop with two batches", 1, 1, 1, map[string][]string{local.Gateway: {"COATCHECK_CART_BATCHES=2"}})
	if err != nil {
		return err
	}
	defer r.closeShop(s)
	return r.compareShop(ctx, "batches", "Add, carts of 3 lines, two batches under way to a cart replica instead of one", s, r.shop.site)
}

// observed is what log lines and traces cost; metrics are on either way. Of a
// hundred requests one is traced.
func (r *run) observed(ctx context.Context) (err error) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	sink := grpc.NewServer()
	collector.RegisterTraceServiceServer(sink, &spans{})
	served := make(chan error, 1)
	go func() { served <- sink.Serve(lis) }()
	defer func() {
		sink.Stop()
		err = errors.Join(err, <-served)
	}()

	on, off := map[string][]string{}, map[string][]string{}
	for _, role := range []string{local.Gateway, local.Auth, local.Cart} {
		on[role] = []string{
			"OTEL_EXPORTER_OTLP_ENDPOINT=http://" + lis.Addr().String(),
			"OTEL_TRACES_SAMPLER=parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG=0.01",
		}
		off[role] = []string{"COATCHECK_LOG_LEVEL=error"}
	}
	watched, err := r.openShop(ctx, "traced shop", 1, 1, 1, on)
	if err != nil {
		return err
	}
	defer r.closeShop(watched)
	silent, err := r.openShop(ctx, "silent shop", 1, 1, 1, off)
	if err != nil {
		return err
	}
	defer r.closeShop(silent)
	if err := r.compareShop(ctx, "observed", "Add, carts of 3 lines, with log lines and one trace in 100 requests, against neither", watched, silent.site); err != nil {
		return err
	}
	c := r.found("observed")
	r.figure(c, "CPU of an add with log lines and 1 % of traces, against neither", c.CPU(), 0, false, " ×", "")
	carts, err := r.carts(ctx, silent.site, 3)
	if err != nil {
		return err
	}
	return carts.whole(ctx)
}

// spans is an OTLP collector that throws away what it gets.
type spans struct {
	collector.UnimplementedTraceServiceServer
}

func (*spans) Export(context.Context, *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	return &collector.ExportTraceServiceResponse{}, nil
}

// compareShop compares adds in a shop that is about to close with those of
// another site.
func (r *run) compareShop(ctx context.Context, key, title string, s *shop, other *site) error {
	a, err := r.closed(ctx, s.name+", add", s.site, 3, false, false)
	if err != nil {
		return err
	}
	b, err := r.closed(ctx, other.name+", add", other, 3, false, false)
	if err != nil {
		return err
	}
	if _, err := r.compare(ctx, key, title, a, b); err != nil {
		return err
	}
	return a.load.carts.whole(ctx)
}
