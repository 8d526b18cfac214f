package redistest

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

const slots = 16384

// Cluster is a Redis Cluster of the test's own: primaries without replicas that
// share the slots evenly.
type Cluster []*Server

// StartCluster runs a cluster of n primaries until the test ends; args are added
// to their command lines.
func StartCluster(t testing.TB, n int, args ...string) Cluster {
	t.Helper()
	c := make(Cluster, n)
	for i := range c {
		c[i] = Start(t, append([]string{"--cluster-enabled", "yes", "--cluster-port", freePort(t)}, args...)...)
		rdb := c[i].Client(t)
		if err := rdb.ClusterAddSlotsRange(t.Context(), i*slots/n, (i+1)*slots/n-1).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range c[1:] {
		host, port, _ := net.SplitHostPort(s.Addr)
		// CLUSTER MEET wants the bus port where it is not the usual one.
		if err := c[0].Client(t).Do(t.Context(), "cluster", "meet", host, port, s.args[3]).Err(); err != nil {
			t.Fatal(err)
		}
	}
	c.await(t)
	return c
}

func freePort(t testing.TB) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lis.Close() }()
	_, port, _ := net.SplitHostPort(lis.Addr().String())
	return port
}

// await returns when every node knows all and says that the cluster is whole.
func (c Cluster) await(t testing.TB) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for _, s := range c {
		rdb := s.Client(t)
		for {
			info := rdb.ClusterInfo(context.Background()).Val()
			if strings.Contains(info, "cluster_state:ok") && strings.Contains(info, fmt.Sprintf("cluster_known_nodes:%d", len(c))) {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("the cluster does not come up:\n%s", info)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// Restart starts all nodes after they were killed.
func (c Cluster) Restart(t testing.TB) {
	t.Helper()
	for _, s := range c {
		s.Restart(t)
	}
	c.await(t)
}

// ClientOf returns a cluster client for a user of User that is closed when the
// test ends.
func (c Cluster) ClientOf(t testing.TB, user string) *redis.ClusterClient {
	t.Helper()
	o := &redis.ClusterOptions{Username: user, Password: userPassword, ContextTimeoutEnabled: true, DialTimeout: time.Second, DialerRetries: 1,
		ReadTimeout: time.Second, WriteTimeout: time.Second, PoolSize: 64}
	for _, s := range c {
		o.Addrs = append(o.Addrs, s.Addr)
	}
	rdb := redis.NewClusterClient(o)
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}
