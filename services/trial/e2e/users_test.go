package e2e_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"coatcheck/trial/local"
)

// TestRedisUsers: in a shop that runs, auth can't read a cart, cart can't read a
// session, neither is refused what it needs, and the gateway has no way to Redis.
func TestRedisUsers(t *testing.T) {
	m := openMembers(t)
	var addr string
	for _, p := range m.shop.Processes() {
		if p.Role == local.Redis {
			addr = p.Address
		}
	}
	client := func(user, file string) *redis.Client {
		t.Helper()
		password, err := os.ReadFile(filepath.Join(m.state, "keys", file))
		if err != nil {
			t.Fatal(err)
		}
		rdb := redis.NewClient(&redis.Options{Addr: addr, Username: user, Password: string(password), MaxRetries: -1})
		t.Cleanup(func() { _ = rdb.Close() })
		return rdb
	}
	operator, auth, cart := client("", "redis-password"), client("auth", "redis-password-auth"), client("cart", "redis-password-cart")

	// A customer leaves something of every kind.
	send := func(method, path, body string, header ...string) *http.Response {
		t.Helper()
		req, err := http.NewRequest(method, m.gateways[0]+path, bytes.NewBufferString(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := m.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode >= 300 {
			t.Fatalf("%s %s is answered %d", method, path, resp.StatusCode)
		}
		return resp
	}
	send("GET", "/v1/cart", "")
	send("POST", "/v1/sessions", ada)
	_, access, _ := m.tokens(m.gateways[0], "{\"grant_type\": \"password\", "+ada[1:])
	bearer := []string{"Authorization", "Bearer " + access}
	send("POST", "/v1/cart/items", `{"items": [{"sku": "mug-01", "quantity": 2}]}`, bearer...)
	etag := send("GET", "/v1/cart", "", bearer...).Header.Get("ETag")
	send("POST", "/v1/cart/checkout", "", append(bearer, "If-Match", etag)...)
	send("POST", "/v1/cart/items", `{"items": [{"sku": "mug-01", "quantity": 1}]}`, bearer...)
	send("GET", "/v1/orders", "", bearer...)
	send("DELETE", "/v1/sessions?except=current", "", bearer...)

	if log, err := operator.ACLLog(t.Context(), 10).Result(); err != nil || len(log) > 0 {
		t.Errorf("a service was refused what it needs: %v, %v", log, err)
	}
	kinds := map[string]int{}
	for _, key := range operator.Keys(t.Context(), "*").Val() {
		kind, _, _ := strings.Cut(key, ":")
		theirs, others := auth, cart
		if kind == "cart" || kind == "order" || kind == "orders" {
			theirs, others = cart, auth
		}
		kinds[kind]++
		typ := operator.Type(t.Context(), key).Val()
		read := map[string][]any{"string": {"get", key}, "hash": {"hgetall", key}, "zset": {"zrange", key, 0, -1}, "stream": {"xrevrange", key, "+", "-"}}[typ]
		if err := theirs.Do(t.Context(), read...).Err(); err != nil {
			t.Errorf("%s of %s: its owner is answered %v", typ, kind, err)
		}
		for what, command := range map[string][]any{
			"read":        read,
			"deleted":     {"del", key},
			"by a script": {"eval", "return redis.call('del', KEYS[1])", 1, key},
		} {
			if err := others.Do(t.Context(), command...).Err(); !redis.HasErrorPrefix(err, "NOPERM") {
				t.Errorf("%s of %s: %s by the other service: %v", typ, kind, what, err)
			}
		}
	}
	for _, kind := range []string{"cart", "order", "orders", "user", "sessions", "families", "email", "revocations"} {
		if kinds[kind] == 0 {
			t.Errorf("there is no %s to look at among %v", kind, kinds)
		}
	}
	for _, p := range m.shop.Processes() {
		env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.PID))
		if err != nil {
			continue // not Linux
		}
		if p.Role == local.Gateway && strings.Contains(string(env), "COATCHECK_REDIS") {
			t.Errorf("%s has settings of Redis", p.Name)
		}
	}
}
