package redisstore_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"coatcheck/cart"
	"coatcheck/cart/redisstore"
	"coatcheck/cart/storetest"
	"coatcheck/chassis/redistest"
)

// clock is the services' clock; Redis' own is put forward by aging its keys.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

func open(rdb redis.UniversalClient, now func() time.Time) *redisstore.Store {
	return redisstore.New(rdb, redisstore.Settings{
		GuestCartLife: storetest.GuestCartLife, UserCartLife: storetest.UserCartLife, OrderLife: storetest.OrderLife,
		Window: storetest.Window, Limits: cart.Limits{Quantity: storetest.MaxQuantity, Lines: storetest.MaxLines}, Now: now,
	})
}

func backend(server *redistest.Server) func(t *testing.T) storetest.Backend {
	return func(t *testing.T) storetest.Backend {
		c := &clock{}
		if err := server.Client(t).FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		return storetest.Backend{
			Open: func(t *testing.T) storetest.Store { return open(server.ClientOf(t, "cart"), c.now) },
			Now:  c.now,
			Advance: func(t *testing.T, d time.Duration) {
				server.Age(t, d)
				c.ahead.Add(int64(d))
			},
			Cut: func(t *testing.T) func() {
				server.Kill()
				return func() { server.Restart(t) }
			},
			Dying: func(t *testing.T, n int) storetest.Store {
				rdb := server.ClientOf(t, "cart")
				// A hook also sees the commands that greet on a new connection.
				if err := rdb.Ping(t.Context()).Err(); err != nil {
					t.Fatal(err)
				}
				rdb.AddHook(&dying{left: n})
				return open(rdb, c.now)
			},
			// Hold, intend and seal are the first three.
			Pending: func(n int) bool { return n == 2 || n == 3 },
		}
	}
}

// dying lets a number of commands through and then none.
type dying struct{ left int }

var errDead = errors.New("this client is dead")

func (d *dying) DialHook(next redis.DialHook) redis.DialHook { return next }

func (d *dying) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if d.left--; d.left < 0 {
			cmd.SetErr(errDead)
			return errDead
		}
		return next(ctx, cmd)
	}
}

func (d *dying) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if d.left--; d.left < 0 {
			for _, cmd := range cmds {
				cmd.SetErr(errDead)
			}
			return errDead
		}
		return next(ctx, cmds)
	}
}

// user is who a shop's cart service is to Redis.
func user() []string { return redistest.User("cart", redisstore.Rules) }

func TestStore(t *testing.T) {
	server := redistest.Start(t, user()...)
	storetest.Run(t, backend(server))
	log, err := server.Client(t).ACLLog(t.Context(), 10).Result()
	if err != nil || len(log) > 0 {
		t.Errorf("Redis refused %v, %v", log, err)
	}
}

// TestLineLimit: it is the same for whole and for minimal answers, and for carts
// that start with the change.
func TestLineLimit(t *testing.T) {
	store := open(redistest.Start(t, user()...).ClientOf(t, "cart"), time.Now)
	for _, minimal := range []bool{false, true} {
		full := storetest.NewOwner('u')
		for _, tt := range []struct {
			owner cart.Owner
			add   cart.Change
			want  error
		}{
			{full, lines(storetest.MaxLines), nil},
			{full, storetest.AddOf("hat", 1), cart.ErrLineLimit},
			{full, storetest.SetOf("hat", 1), cart.ErrLineLimit},
			{full, storetest.AddOf("sku-000", 1), nil},
			{storetest.NewOwner('u'), lines(storetest.MaxLines + 1), cart.ErrLineLimit},
		} {
			tt.add.Minimal = minimal
			if _, err := store.Change(t.Context(), tt.owner, tt.add); !errors.Is(err, tt.want) {
				t.Errorf("%d lines, minimal %v: %v", len(tt.add.Lines), minimal, err)
			}
		}
	}
}

// TestRules: a user with the rules can do nothing else.
func TestRules(t *testing.T) {
	rdb := redistest.Start(t, user()...).ClientOf(t, "cart")
	for _, command := range [][]any{
		{"hgetall", "user:{u_1}"}, {"hgetall", "sessions:{u_1}"}, {"hgetall", "families:{u_1}"}, {"get", "email:x"}, {"xrevrange", "revocations", "+", "-"}, {"get", "anything"},
		{"eval", "return redis.call('hgetall', 'sessions:{u_1}')", 0}, {"eval", "return redis.call('hgetall', KEYS[1])", 1, "sessions:{u_1}"},
		{"eval", "return redis.call('keys', '*')", 0},
		{"keys", "*"}, {"scan", 0}, {"flushall"}, {"config", "get", "*"}, {"acl", "list"}, {"client", "list"}, {"monitor"},
		{"shutdown"}, {"replicaof", "no", "one"}, {"script", "flush"}, {"function", "list"}, {"subscribe", "x"}, {"publish", "x", "y"}, {"cluster", "nodes"}, {"dump", "cart:{u_1}"}, {"select", 1},
	} {
		if err := rdb.Do(t.Context(), command...).Err(); err == nil || !redis.HasErrorPrefix(err, "NOPERM") && !redis.HasErrorPrefix(err, "The user executing the script") {
			t.Errorf("%v: %v", command, err)
		}
	}
}

func TestModel(t *testing.T) { storetest.Model(t, backend(redistest.Start(t, user()...)), 10_000) }

// TestCluster runs the contract on a Redis Cluster, whose nodes hold a third of
// the carts each: a guest's and a user's cart mostly lie on two.
func TestCluster(t *testing.T) {
	cluster := redistest.StartCluster(t, 3, user()...)
	storetest.Run(t, func(t *testing.T) storetest.Backend {
		c := &clock{}
		for _, node := range cluster {
			if err := node.Client(t).FlushAll(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
		}
		return storetest.Backend{
			Open: func(t *testing.T) storetest.Store { return open(cluster.ClientOf(t, "cart"), c.now) },
			Now:  c.now,
			Advance: func(t *testing.T, d time.Duration) {
				for _, node := range cluster {
					node.Age(t, d)
				}
				c.ahead.Add(int64(d))
			},
			Cut: func(t *testing.T) func() {
				for _, node := range cluster {
					node.Kill()
				}
				return func() { cluster.Restart(t) }
			},
		}
	})
}
