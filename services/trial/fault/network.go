package fault

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"coatcheck/trial/history"
)

// Network stands between the processes of a shop, so that what they say to each
// other can be delayed or swallowed. Its methods may be called from many
// goroutines; the caller closes it when the shop is closed.
type Network struct {
	server *toxiproxy.ApiServer // never listens; proxies want its log and metrics
	mu     sync.Mutex
	ways   []way
}

// way is one proxy: from all processes of a role to one process.
type way struct {
	from, to string
	proxy    *toxiproxy.Proxy
}

// NewNetwork returns a network without any way through it.
func NewNetwork() *Network {
	return &Network{server: toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop())}
}

// Through returns an address from which everything goes on to addr. It is a
// local.Options.Through.
func (n *Network) Through(from, to, addr string) (string, error) {
	proxy := toxiproxy.NewProxy(n.server, from+">"+to, "127.0.0.1:0", addr)
	if err := proxy.Start(); err != nil {
		return "", err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ways = append(n.ways, way{from, to, proxy})
	return proxy.Listen, nil
}

// Close hangs up everywhere.
func (n *Network) Close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, w := range n.ways {
		w.proxy.Stop()
	}
	n.ways = nil
}

// between returns the ways from one role to all processes of another.
func (n *Network) between(from, to string) ([]way, error) {
	if n == nil {
		return nil, errors.New("the shop runs without a network in between")
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	var found []way
	for _, w := range n.ways {
		role, _, _ := strings.Cut(w.to, "-")
		if w.from == from && role == to {
			found = append(found, w)
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("there is no way from %s to %s", from, to)
	}
	return found, nil
}

// trouble does toxic (attributes as toxiproxy names them) to what goes both ways
// for a while. What was swallowed stays lost: those connections end afterwards.
func (n *Network) trouble(ctx context.Context, from, to, toxic, attributes string, d time.Duration) (err error) {
	ways, err := n.between(from, to)
	if err != nil {
		return err
	}
	for _, w := range ways {
		defer w.proxy.Toxics.ResetToxics(context.WithoutCancel(ctx))
		for _, stream := range []string{"upstream", "downstream"} {
			if _, err := w.proxy.Toxics.AddToxicJson(strings.NewReader(
				fmt.Sprintf(`{"type": %q, "stream": %q, "attributes": %s}`, toxic, stream, attributes))); err != nil {
				return fmt.Errorf("the network: %w", err)
			}
		}
	}
	pause(ctx, d)
	return nil
}

// cut swallows everything, so that neither side learns of it.
func cut(from, to string) Fault {
	return network(Cut, fmt.Sprintf("cut %s from %s for %v", from, to, cutFor), from, to, "timeout", `{"timeout": 0}`, cutFor)
}

// slow takes a tenth to a third of a second each way: near the limits that
// services set each other, on both sides of them.
func slow(from, to string) Fault {
	return network(Slow, fmt.Sprintf("slow from %s to %s for %v", from, to, slowFor), from, to, "latency", `{"latency": 200, "jitter": 100}`, slowFor)
}

func network(kind, name, from, to, toxic, attributes string, d time.Duration) Fault {
	return Fault{
		Name: name, Kind: kind, Target: from + ">" + to, Class: history.Outage, Takes: d + 2*time.Second, Gap: settleOutage,
		inject: func(ctx context.Context, env Env) error {
			if err := env.Network.trouble(ctx, from, to, toxic, attributes, d); err != nil {
				return err
			}
			return env.Shop.AwaitReady(ctx)
		},
	}
}
