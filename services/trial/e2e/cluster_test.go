package e2e_test

import (
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"coatcheck/chassis/redistest"
	"coatcheck/trial/promise"
)

// TestRedisCluster: the shop keeps all its promises on a Redis Cluster of three
// primaries, with no other change than where its store is. Its carts spread over
// the primaries, and what belongs to one owner lies on one.
func TestRedisCluster(t *testing.T) {
	cluster := redistest.StartCluster(t, 3)
	var nodes []string
	for _, node := range cluster {
		nodes = append(nodes, node.Addr)
	}
	store := []string{"REDIS_ADDRS=" + strings.Join(nodes, ","), "REDIS_CLUSTER=true", "DRAIN_DELAY=0s"}
	auth, admin := freePort(t), freePort(t)
	start := func(service string, settings ...string) {
		run(t, filepath.Join(bin, service), nil, environment(append(settings, store...)...))
	}
	start("auth", "GRPC_ADDR="+auth, "ADMIN_ADDR=127.0.0.1:0", "SIGNING_KEYS_FILE="+signingKeys(t))
	carts := []string{freePort(t), freePort(t)}
	for _, addr := range carts {
		start("cart", "GRPC_ADDR="+addr, "ADMIN_ADDR=127.0.0.1:0", "AUTH_ADDR="+auth)
	}
	public := freePort(t)
	run(t, filepath.Join(bin, "gateway"), nil, environment("HTTP_ADDR="+public, "ADMIN_ADDR="+admin, "CART_ADDR="+strings.Join(carts, ","), "AUTH_ADDR="+auth, "PLAIN_HTTP=true", "DRAIN_DELAY=0s"))
	await(t, "ready", 20*time.Second, func() bool { return status("http://"+admin+"/readyz") == 200 })
	await(t, "serving", 20*time.Second, func() bool { return status("http://"+public+"/v1/cart") == 200 })

	for _, p := range promise.All() {
		if err := p.Try(t.Context(), "http://"+public, nil); err != nil {
			t.Errorf("%s: %v", p.Name, err)
		}
	}
	for i := range 60 {
		c := newClient(t, "http://"+public)
		if a := c.do("POST", "/v1/cart/items", `{"items":[{"sku":"mug-01","quantity":`+strconv.Itoa(1+i%9)+`}]}`); a.status != 200 {
			t.Fatalf("add: %d %s", a.status, a.body)
		}
	}

	owners := map[string]string{} // owner → the node that has its keys
	for _, node := range cluster {
		found := 0
		rdb := node.Client(t)
		for it := rdb.Scan(t.Context(), 0, "*", 1000).Iterator(); it.Next(t.Context()); {
			key := it.Val()
			if key == "revocations" || strings.HasPrefix(key, "email:") || strings.HasPrefix(key, "limit:") {
				continue // are nobody's alone, and each is changed by itself
			}
			_, rest, tagged := strings.Cut(key, "{")
			owner, _, closed := strings.Cut(rest, "}")
			if !tagged || !closed || owner == "" {
				t.Errorf("the key %q has no owner in braces", key)
				continue
			}
			if other := owners[owner]; other != "" && other != node.Addr {
				t.Errorf("keys of %s are on %s and on %s", owner, other, node.Addr)
			}
			owners[owner] = node.Addr
			if strings.HasPrefix(key, "cart:") && !strings.Contains(key, ":op:") {
				found++
			}
		}
		// Of 60 and more, fewer than 5 on one of three come once in tens of thousands of runs.
		if found < 5 {
			t.Errorf("%s has %d of the carts", node.Addr, found)
		}
		if refused := crossSlot(t, rdb); refused > 0 {
			t.Errorf("%s refused %d commands whose keys lie in several slots", node.Addr, refused)
		}
	}
	if len(owners) < 60 {
		t.Errorf("only %d owners have keys", len(owners))
	}
}

// crossSlot is how many commands the node refused because of where their keys lie.
func crossSlot(t *testing.T, rdb *redis.Client) int {
	t.Helper()
	for line := range strings.Lines(rdb.Info(t.Context(), "errorstats").Val()) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "errorstat_CROSSSLOT:count="); ok {
			n, err := strconv.Atoi(rest)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	return 0
}
