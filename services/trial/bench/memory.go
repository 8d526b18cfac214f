package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"coatcheck/cart"
	"coatcheck/cart/redisstore"
	"coatcheck/trial/process"
)

// Memory is what carts take in Redis, in bytes of used_memory.
type Memory struct {
	Carts  int     `json:"carts"`
	Lines  int     `json:"lines"`
	Cart   float64 `json:"cart_bytes"`
	Record float64 `json:"record_bytes"` // of an operation, while it lives
}

// stored is how many carts the memory is measured over.
const stored = 100_000

func (r *run) memory(ctx context.Context) error {
	for _, tt := range []struct {
		lines int
		limit float64
	}{{3, 250}, {10, 350}} {
		m, err := r.measureMemory(ctx, stored, tt.lines)
		if err != nil {
			return err
		}
		r.report.Memory = append(r.report.Memory, m)
		figures := []Figure{{Title: fmt.Sprintf("Redis memory of a cart of %d lines", tt.lines), Range: rangeOf([]float64{m.Cart}), Limit: tt.limit, Note: fmt.Sprintf("over %d carts that expire, SKUs of ten characters", stored)}}
		if tt.lines == 3 {
			figures = append(figures, Figure{Title: "Redis memory of an operation's record", Range: rangeOf([]float64{m.Record}), Limit: 200, Note: "while it lives"})
		}
		for _, f := range figures {
			f.Unit, f.Exact, f.Gate = " bytes", true, true
			r.report.Figures = append(r.report.Figures, f)
		}
	}
	return nil
}

// measureMemory has the shop's store make one cart, and copies it and the record
// of its operation under the names of many others.
func (r *run) measureMemory(ctx context.Context, n, lines int) (Memory, error) {
	m := Memory{Carts: n, Lines: lines}
	rdb, store, end, err := r.emptyStore(ctx)
	if err != nil {
		return m, err
	}
	defer end()
	owner := newGuestID()
	if _, err := store.Change(ctx, cart.Owner(owner), r.filling(lines)); err != nil {
		return m, err
	}
	names, err := rdb.Keys(ctx, "*").Result()
	if err != nil {
		return m, err
	}
	slices.Sort(names) // the cart's is the beginning of the record's
	if len(names) != 2 || !strings.HasPrefix(names[1], names[0]) {
		return m, fmt.Errorf("a change made the keys %q", names)
	}
	var copies [2]string
	for i, name := range names {
		if copies[i], err = rdb.Dump(ctx, name).Result(); err != nil {
			return m, err
		}
	}
	if err := rdb.FlushAll(ctx).Err(); err != nil {
		return m, err
	}

	owners := make([]string, n)
	for i := range owners {
		owners[i] = newGuestID()
	}
	used := make([]float64, 3)
	if used[0], err = usedMemory(ctx, rdb); err != nil {
		return m, err
	}
	for i, of := range copies {
		for chunk := range slices.Chunk(owners, 1000) {
			_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
				for _, o := range chunk {
					p.Restore(ctx, strings.Replace(names[i], owner, o, 1), cartLife, of)
				}
				return nil
			})
			if err != nil {
				return m, err
			}
		}
		if used[i+1], err = usedMemory(ctx, rdb); err != nil {
			return m, err
		}
	}
	if size := rdb.DBSize(ctx).Val(); size != int64(2*n) {
		return m, fmt.Errorf("Redis has %d keys, not %d", size, 2*n)
	}
	m.Cart, m.Record = (used[1]-used[0])/float64(n), (used[2]-used[1])/float64(n)
	return m, nil
}

// cartLife is how long carts live there.
const cartLife = 168 * time.Hour

// emptyStore is the shop's store on a Redis of its own.
func (r *run) emptyStore(ctx context.Context) (*redis.Client, *redisstore.Store, func(), error) {
	server, err := process.StartRedis(ctx, r.starter, r.work)
	if err != nil {
		return nil, nil, nil, err
	}
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr, MaxRetries: -1, ReadTimeout: 30 * time.Second})
	store := redisstore.New(rdb, redisstore.Settings{
		GuestCartLife: cartLife, UserCartLife: cartLife, OrderLife: cartLife, Window: 10 * time.Minute,
		Limits: cart.Limits{Quantity: 999, Lines: 500}, Now: time.Now,
	})
	return rdb, store, func() {
		_ = rdb.Close()
		server.Close()
	}, nil
}

// filling is a change that puts so many lines into a cart.
func (r *run) filling(lines int) cart.Change {
	change := cart.Change{Operation: cart.Operation{Key: string(r.keys.append(nil))}, Kind: cart.Add}
	for _, sku := range r.skus[:lines] {
		change.Lines = append(change.Lines, cart.Line{SKU: sku, Quantity: 1})
	}
	return change
}

// usedMemory waits until Redis has done with enlarging its tables.
func usedMemory(ctx context.Context, rdb *redis.Client) (float64, error) {
	last := -1.0
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); pause(ctx, 300*time.Millisecond) {
		info, err := rdb.Info(ctx, "memory").Result()
		if err != nil {
			return 0, err
		}
		used, err := infoValue(info, "used_memory")
		if err != nil {
			return 0, err
		}
		if used == last {
			return used, nil
		}
		last = used
	}
	return 0, errors.New("the memory that Redis uses does not come to rest")
}

// infoValue is one number of what INFO answers.
func infoValue(info, name string) (float64, error) {
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+":"); ok {
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, fmt.Errorf("Redis does not tell its %s", name)
}
