package rpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	grpcprom "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/health" // clients watch the servers' health
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/dns"
)

// clientKeepalive is how often a client asks a silent connection for life. A
// server must permit it, or it answers too_many_pings and hangs up.
const clientKeepalive = 10 * time.Second

// refresh is how often a name is asked for its addresses, so that new replicas
// get calls; grpc-go alone asks again only when a connection breaks.
const refresh = 2 * time.Second

// ValidTarget reports what is wrong with a target: it must be dns:///host:port,
// or host:port addresses with commas between.
func ValidTarget(target string) error {
	addrs := []string{strings.TrimPrefix(target, "dns:///")}
	if !strings.HasPrefix(target, "dns:///") {
		addrs = strings.Split(target, ",")
	}
	for _, addr := range addrs {
		if host, port, err := net.SplitHostPort(addr); err != nil || host == "" || port == "" {
			return errors.New("must be dns:///host:port, or host:port addresses with commas between")
		}
	}
	return nil
}

// NewClientMetrics returns the metrics of this process's calls, registered; all
// its connections share them.
func NewClientMetrics(reg prometheus.Registerer) *grpcprom.ClientMetrics {
	m := grpcprom.NewClientMetrics(grpcprom.WithClientHandlingTimeHistogram(histogram))
	reg.MustRegister(m)
	return m
}

// Dial returns a connection to all replicas of target (see ValidTarget); it
// does not wait for one to answer. The caller closes it.
func Dial(target string, metrics *grpcprom.ClientMetrics) (*grpc.ClientConn, error) {
	if err := ValidTarget(target); err != nil {
		return nil, fmt.Errorf("target: %w", err)
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"` + spread + `":{}}],"healthCheckConfig":{"serviceName":""}}`),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: .2, MaxDelay: 2 * time.Second},
			MinConnectTimeout: time.Second,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: clientKeepalive, Timeout: 3 * time.Second, PermitWithoutStream: true}),
		grpc.WithChainUnaryInterceptor(metrics.UnaryClientInterceptor()),
		grpc.WithChainStreamInterceptor(metrics.StreamClientInterceptor()),
	}
	registerSpread()
	if strings.HasPrefix(target, "dns:///") {
		minInterval()
		options = append(options, grpc.WithResolvers(refreshing{resolver.Get("dns")}))
	} else {
		options = append(options, grpc.WithResolvers(list{}))
		target = list{}.Scheme() + ":///" + target
	}
	return grpc.NewClient(target, options...)
}

var minInterval = sync.OnceFunc(func() { dns.SetMinResolutionInterval(refresh / 2) })

// AwaitReady connects and returns nil once a replica takes calls.
func AwaitReady(ctx context.Context, conn *grpc.ClientConn) error {
	for {
		state := conn.GetState()
		if state == connectivity.Ready {
			return nil
		}
		conn.Connect()
		if !conn.WaitForStateChange(ctx, state) {
			return fmt.Errorf("no connection to %s: %w", conn.Target(), ctx.Err())
		}
	}
}

// ServedBy returns a call option and a function that, after the call, names the
// replica that answered ("" if none did).
func ServedBy() (grpc.CallOption, func() string) {
	var header metadata.MD
	return grpc.Header(&header), func() string {
		if names := header.Get(servedBy); len(names) > 0 {
			return names[0]
		}
		return ""
	}
}

// list resolves addresses with commas between to themselves.
type list struct{}

func (list) Scheme() string { return "list" }

func (list) Build(target resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	var state resolver.State
	for addr := range strings.SplitSeq(target.Endpoint(), ",") {
		a := resolver.Address{Addr: addr}
		state.Addresses = append(state.Addresses, a)
		state.Endpoints = append(state.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{a}})
	}
	return list{}, cc.UpdateState(state)
}

func (list) ResolveNow(resolver.ResolveNowOptions) {}
func (list) Close()                                {}

// refreshing wraps a resolver's builder: what it builds asks again on a ticker.
type refreshing struct{ resolver.Builder }

func (r refreshing) Build(target resolver.Target, cc resolver.ClientConn, opts resolver.BuildOptions) (resolver.Resolver, error) {
	inner, err := r.Builder.Build(target, cc, opts)
	if err != nil {
		return nil, err
	}
	t := &ticking{Resolver: inner, done: make(chan struct{})}
	go t.run()
	return t, nil
}

type ticking struct {
	resolver.Resolver
	done chan struct{}
}

func (t *ticking) run() {
	tick := time.NewTicker(refresh)
	defer tick.Stop()
	for {
		select {
		case <-t.done:
			return
		case <-tick.C:
			t.Resolver.ResolveNow(resolver.ResolveNowOptions{})
		}
	}
}

func (t *ticking) Close() {
	close(t.done)
	t.Resolver.Close()
}
