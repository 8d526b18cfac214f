package compare

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"coatcheck/auth"
	usersinmemory "coatcheck/auth/mapstore"
	"coatcheck/cart"
	cartsinmemory "coatcheck/cart/mapstore"
	"coatcheck/cart/redisstore"
	"coatcheck/trial/process"
	"coatcheck/trial/stateful/pocket"
)

// sessionLife and idle are the services' defaults.
const (
	sessionLife = 12 * time.Hour
	idle        = 30 * time.Minute
	cartLife    = 2160 * time.Hour
)

// memory is what an open session takes on the server, in bytes, by way: made
// through the stores themselves, as many as the options say.
func (r *run) memory(ctx context.Context) (map[string]float64, error) {
	limits := cart.Limits{Quantity: 999, Lines: maxLines}

	carts := cartsinmemory.New(cartsinmemory.Settings{GuestCartLife: cartLife, UserCartLife: cartLife, OrderLife: cartLife, Window: time.Nanosecond, Limits: limits, Now: time.Now})
	users := usersinmemory.New()
	inMemory, err := r.fill(ctx, users, carts, filling{workers: 1, enrol: enrolEach(users), used: func(ctx context.Context, ids []string) (float64, error) {
		for _, id := range ids { // a look at the cart lets go what the change left behind for a while
			if _, err := carts.Get(ctx, cart.Owner(id)); err != nil {
				return 0, err
			}
		}
		return heap(), nil
	}})
	if err != nil {
		return nil, fmt.Errorf("server memory: %w", err)
	}
	runtime.KeepAlive(users)
	runtime.KeepAlive(carts)

	pockets := pocket.New("secret", true)
	inPockets := &pocket.Carts{Pockets: pockets, GuestCartLife: cartLife, UserCartLife: cartLife, Limits: limits, Now: time.Now}
	people := usersinmemory.New()
	inCookies, err := r.fill(ctx, pocket.Sessions{Store: people}, inPockets, filling{workers: 1, enrol: enrolEach(people), used: func(context.Context, []string) (float64, error) {
		return heap(), nil
	}})
	if err != nil {
		return nil, fmt.Errorf("cookies: %w", err)
	}
	runtime.KeepAlive(people)
	runtime.KeepAlive(inPockets)

	start := time.Now()
	inRedis, err := r.fillRedis(ctx, limits)
	if err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	r.say("of which in Redis: %s", time.Since(start).Round(time.Second))
	return map[string]float64{"memory": inMemory, "memory-cookie": inMemory, "memory-address": inMemory, "cookie": max(inCookies, 0), "redis": inRedis}, nil
}

// heap is what is alive in this process's memory, in bytes.
func heap() float64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what the first one's finalizers let go
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// filling is how a kind of store is filled.
type filling struct {
	workers int
	// enrol makes the users, who are there before.
	enrol func(ctx context.Context, ids []string) error
	// used is how much memory is in use, in bytes; ids are whose carts there may be.
	used func(ctx context.Context, ids []string) (float64, error)
}

// enrolEach registers users with an account's usual contents.
func enrolEach(users auth.Store) func(context.Context, []string) error {
	return func(ctx context.Context, ids []string) error {
		phc := "$argon2id$v=19$m=12288,t=3,p=1$" + strings.Repeat("A", 22) + "$" + strings.Repeat("B", 43)
		for i, id := range ids {
			if err := users.Register(ctx, id, "user-"+strconv.Itoa(i)+"@example.com", phc, time.Now()); err != nil {
				return err
			}
		}
		return nil
	}
}

// fill opens sessions, each of a user with a cart of three lines, and returns
// what one of them takes.
func (r *run) fill(ctx context.Context, users auth.Store, carts cart.Store, how filling) (float64, error) {
	ids := make([]string, r.Sessions)
	for i := range ids {
		ids[i] = newID("u_")
	}
	if err := how.enrol(ctx, ids); err != nil {
		return 0, err
	}
	before, err := how.used(ctx, nil)
	if err != nil {
		return 0, err
	}
	now := time.Now()
	one := func(ctx context.Context, i int) error {
		// 43 characters, as the digest of a token is.
		id := (newID("") + newID(""))[:43]
		started, err := users.StartSession(ctx, auth.User{ID: ids[i], Generation: "1"}, auth.Session{
			ID: id, Created: now.UnixMilli(), Used: now.UnixMilli(), Expires: now.Add(sessionLife).UnixMilli(), Device: strings.Clone("Mozilla/5.0 (X11; Linux x86_64)"),
		}, idle)
		if err != nil || !started {
			return fmt.Errorf("a session did not start: %w", err)
		}
		var lines []cart.Line
		for k := range 3 {
			lines = append(lines, cart.Line{SKU: r.files.skus[(i+37*k)%len(r.files.skus)], Quantity: 1})
		}
		_, err = carts.Change(ctx, cart.Owner(ids[i]), cart.Change{Operation: cart.Operation{Key: strconv.Itoa(i)}, Kind: cart.Add, Lines: lines})
		return err
	}
	failed := make([]error, how.workers)
	var group sync.WaitGroup
	for w := range how.workers {
		group.Go(func() {
			for i := w; i < len(ids) && failed[w] == nil; i += how.workers {
				failed[w] = one(pocket.With(ctx), i)
			}
		})
	}
	group.Wait()
	if err := errors.Join(failed...); err != nil {
		return 0, err
	}
	after, err := how.used(ctx, ids)
	runtime.KeepAlive(ids)
	return (after - before) / float64(len(ids)), err
}

// fillRedis does it on a Redis of its own, which writes no file: used_memory is
// the same, and the measurement sooner over.
func (r *run) fillRedis(ctx context.Context, limits cart.Limits) (float64, error) {
	const workers = 32
	server, err := process.StartRedis(ctx, r.starter, r.work, "--active-expire-effort", "10")
	if err != nil {
		return 0, err
	}
	defer server.Close()
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr, MaxRetries: -1, PoolSize: workers})
	defer func() { _ = rdb.Close() }()
	// The records of operations go when they have expired, which is sooner here.
	// Then there is a user each, and in the end a session and a cart.
	carts := redisstore.New(rdb, redisstore.Settings{GuestCartLife: cartLife, UserCartLife: cartLife, OrderLife: cartLife, Window: time.Second, Limits: limits, Now: time.Now})
	return r.fill(ctx, auth.NewRedisStore(rdb), carts, filling{
		workers: workers,
		// What a session needs of a user, many at a time.
		enrol: func(ctx context.Context, ids []string) error {
			for chunk := range slices.Chunk(ids, 1000) {
				_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
					for _, id := range chunk {
						p.HSet(ctx, "user:{"+id+"}", "generation", "1")
					}
					return nil
				})
				if err != nil {
					return err
				}
			}
			return nil
		},
		used: func(ctx context.Context, ids []string) (float64, error) {
			return usedByRedis(ctx, rdb, int64(r.Sessions+2*len(ids)))
		},
	})
}

// usedByRedis is used_memory once there are as many keys as shall stay.
func usedByRedis(ctx context.Context, rdb *redis.Client, keys int64) (float64, error) {
	for deadline := time.Now().Add(30 * time.Second); ; pause(ctx, 100*time.Millisecond) {
		n, err := rdb.DBSize(ctx).Result()
		if err != nil {
			return 0, err
		}
		if n-keys < keys/100 { // Redis leaves a few that have expired for later
			break
		}
		if time.Now().After(deadline) {
			return 0, fmt.Errorf("there are %d keys, want %d", n, keys)
		}
	}
	info, err := rdb.Info(ctx, "memory").Result()
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "used_memory:"); ok {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, errors.New("Redis does not say how much memory it uses")
}
