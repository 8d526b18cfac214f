package rpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/health" // clients watch the servers' health
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"
)

// clientKeepalive is how often a client asks a silent connection for life. A
// server must permit it, or it answers too_many_pings and hangs up.
const clientKeepalive = 10 * time.Second

// window is how many bytes a stream, or a connection, may have on their way
// before their reader has taken any. Left to itself grpc-go looks for the best
// figure with a ping after every message that meets none under way, and the
// other side answers each: on connections whose messages are few and small, that
// is as many wake-ups as the calls make. 1 MiB is more than a cart or nearly any
// batch, and at a millisecond's distance 1 GB/s.
const window = 1 << 20

// refresh is how often a name is asked for its addresses, so that new replicas
// get calls, and leastRefresh how soon it is asked again when a replica has gone:
// the one that replaces it may be there already, and may be the only one.
// grpc-go's own resolver asks again only when a connection breaks, and after an
// outage of all replicas it may wait for two minutes.
const (
	refresh      = 2 * time.Second
	leastRefresh = 200 * time.Millisecond
)

// ValidTarget reports what is wrong with a target: it must be dns:///host:port,
// or host:port addresses with commas between.
func ValidTarget(target string) error {
	addrs := []string{strings.TrimPrefix(target, "dns:///")}
	if !strings.HasPrefix(target, "dns:///") {
		addrs = strings.Split(target, ",")
	}
	for _, addr := range addrs {
		host, port, err := net.SplitHostPort(addr)
		if n, e := strconv.ParseUint(port, 10, 16); err != nil || e != nil || n == 0 || host == "" {
			return errors.New("must be dns:///host:port, or host:port addresses with commas between")
		}
	}
	return nil
}

// NewClientMetrics returns the metrics of this process's calls, registered; all
// its connections share them.
func NewClientMetrics(reg prometheus.Registerer) *Metrics { return newMetrics(reg, "client") }

// Dial returns a connection to all replicas of target (see ValidTarget); it
// does not wait for one to answer. The caller closes it.
func Dial(target string, metrics *Metrics, further ...grpc.DialOption) (*grpc.ClientConn, error) {
	if err := ValidTarget(target); err != nil {
		return nil, fmt.Errorf("target: %w", err)
	}
	options := append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"` + spread + `":{}}],"healthCheckConfig":{"serviceName":""}}`),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(),
		grpc.WithNoProxy(),
		grpc.WithIdleTimeout(0), // a quiet night must not make the first call slow
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: .2, MaxDelay: 2 * time.Second},
			MinConnectTimeout: time.Second,
		}),
		grpc.WithStaticStreamWindowSize(window),
		grpc.WithStaticConnWindowSize(window), // either of them alone would leave the other at 64 KB
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: clientKeepalive, Timeout: 3 * time.Second, PermitWithoutStream: true}),
		grpc.WithChainUnaryInterceptor(metrics.unaryClient),
		grpc.WithChainStreamInterceptor(metrics.streamClient),
	}, further...)
	options = append(options, grpc.WithChainUnaryInterceptor(bound),
		grpc.WithResolvers(names{net.DefaultResolver.LookupHost}, list{})) // those of further go first
	registerSpread()
	if !strings.HasPrefix(target, "dns:///") {
		target = list{}.Scheme() + ":///" + target
	}
	return grpc.NewClient(target, options...)
}

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

// ServedBy names the replica that answered a call with these headers, "" if none
// did; grpc.Header has a call keep them.
func ServedBy(header metadata.MD) string {
	if names := header[servedBy]; len(names) > 0 {
		return names[0]
	}
	return ""
}

// list resolves addresses with commas between to themselves.
type list struct{}

func (list) Scheme() string { return "list" }

func (list) Build(target resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	s := state(strings.Split(target.Endpoint(), ","))
	for i := range s.Addresses { // each proves its own, where there is TLS
		s.Addresses[i].ServerName = s.Addresses[i].Addr
		s.Endpoints[i].Addresses = s.Addresses[i : i+1]
	}
	return list{}, cc.UpdateState(s)
}

func (list) ResolveNow(resolver.ResolveNowOptions) {}
func (list) Close()                                {}

// names resolves dns:///host:port to all of the host's addresses, again and
// again. While the name cannot be resolved, the addresses known last are kept:
// connections that work outlive an outage of the name server.
type names struct {
	lookup func(ctx context.Context, host string) ([]string, error)
}

func (names) Scheme() string { return "dns" }

func (n names) Build(target resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	host, port, err := net.SplitHostPort(target.Endpoint())
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	now := make(chan struct{}, 1)
	go n.follow(ctx, host, port, cc, now)
	return asking{cancel, now}, nil
}

func (n names) follow(ctx context.Context, host, port string, cc resolver.ClientConn, now <-chan struct{}) {
	for {
		began := time.Now()
		try, cancel := context.WithTimeout(ctx, 2*refresh)
		addrs, err := n.lookup(try, host)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			cc.ReportError(fmt.Errorf("resolving %s: %w", host, err))
		} else {
			for i := range addrs {
				addrs[i] = net.JoinHostPort(addrs[i], port)
			}
			_ = cc.UpdateState(state(addrs))
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(refresh - time.Since(began)):
			continue
		case <-now:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(leastRefresh - time.Since(began)):
		}
	}
}

// asking is a resolver that asks by itself until it is closed, and sooner where
// it is told to.
type asking struct {
	cancel context.CancelFunc
	now    chan<- struct{}
}

func (a asking) ResolveNow(resolver.ResolveNowOptions) {
	select {
	case a.now <- struct{}{}:
	default: // it will
	}
}

func (a asking) Close() { a.cancel() }

func state(addrs []string) resolver.State {
	var s resolver.State
	for _, addr := range addrs {
		a := resolver.Address{Addr: addr}
		s.Addresses = append(s.Addresses, a)
		s.Endpoints = append(s.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{a}})
	}
	return s
}
