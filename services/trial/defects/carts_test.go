package defects

import (
	"context"
	"crypto/rand"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"coatcheck/cart"
	"coatcheck/cart/mapstore"
	"coatcheck/cart/redisstore"
	"coatcheck/chassis/redisconn"
)

// window is how long the doubles take between two steps that should have been
// one: as long as a busy Redis may.
const window = 30 * time.Millisecond

// readModifyWrite reads the whole cart, changes it in Go and writes it back in a
// second command.
type readModifyWrite struct {
	*redisstore.Store
	rdb redis.UniversalClient
}

func newReadModifyWrite(s *redisstore.Store, rdb redis.UniversalClient) stock {
	return readModifyWrite{s, rdb}
}

func (s readModifyWrite) Change(ctx context.Context, owner cart.Owner, c cart.Change) (cart.Result, error) {
	now, err := s.Get(ctx, owner)
	if err != nil {
		return cart.Result{}, err
	}
	if c.Conditional && !names(c.Operation, now.Version) {
		return cart.Result{}, cart.ErrStale
	}
	if now.Version.Incarnation == "" {
		now.Version.Incarnation = rand.Text()[:8]
	}
	now.Version.Number++
	quantities := map[string]int64{}
	for _, l := range now.Lines {
		quantities[l.SKU] = l.Quantity
	}
	for _, l := range c.Lines {
		if c.Kind == cart.Set {
			quantities[l.SKU] = 0
		}
		quantities[l.SKU] += l.Quantity
	}
	fields := []any{"@v", strconv.FormatUint(now.Version.Number, 10), "@i", now.Version.Incarnation}
	now.Lines = nil
	for sku, n := range quantities {
		if n > 0 && c.Kind != cart.Clear {
			fields = append(fields, sku, n)
			now.Lines = append(now.Lines, cart.Line{SKU: sku, Quantity: n})
		}
	}
	cart.SortLines(now.Lines)

	time.Sleep(2 * window)
	key := "cart:{" + string(owner) + "}"
	_, err = s.rdb.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.Del(ctx, key)
		p.HSet(ctx, key, fields...)
		p.PExpire(ctx, key, time.Hour)
		return nil
	})
	if err != nil {
		return cart.Result{}, redisconn.Unavailable(err)
	}
	return cart.Result{Cart: now, Version: now.Version.Number}, nil
}

func names(op cart.Operation, v cart.Version) bool {
	for _, named := range op.Versions {
		if named == v {
			return true
		}
	}
	return false
}

// keyless drops the idempotency key.
type keyless struct{ *redisstore.Store }

func newKeyless(s *redisstore.Store, _ redis.UniversalClient) stock { return keyless{s} }

func (s keyless) Change(ctx context.Context, owner cart.Owner, c cart.Change) (cart.Result, error) {
	c.Key = rand.Text()
	return s.Store.Change(ctx, owner, c)
}

// newInMemory keeps the carts in each replica.
func newInMemory(s *redisstore.Store, _ redis.UniversalClient) stock {
	return mapstore.New(mapstore.Settings{
		GuestCartLife: s.GuestCartLife, UserCartLife: s.UserCartLife, OrderLife: s.OrderLife, Window: s.Window, Limits: s.Limits, Now: s.Now,
	})
}

// oneMerge merges in what looks like one step and is three, none of which is
// recognised when it is repeated.
type oneMerge struct{ *redisstore.Store }

func newOneMerge(s *redisstore.Store, _ redis.UniversalClient) stock { return oneMerge{s} }

func (s oneMerge) Merge(ctx context.Context, guest, user cart.Owner) error {
	c, err := s.Get(ctx, guest)
	if err != nil {
		return err
	}
	if len(c.Lines) > 0 {
		add := cart.Change{Operation: cart.Operation{Key: rand.Text()}, Kind: cart.Add, Lines: c.Lines}
		if _, err := s.Change(ctx, user, add); err != nil {
			return err
		}
	}
	time.Sleep(10 * window)
	return s.Erase(ctx, guest)
}

// clearing makes an order of the version that it priced, and then clears the
// cart, whatever is in it by now.
type clearing struct{ *redisstore.Store }

func newClearing(s *redisstore.Store, _ redis.UniversalClient) stock { return clearing{s} }

func (s clearing) Checkout(ctx context.Context, owner cart.Owner, op cart.Operation, price func(cart.Cart) (cart.Order, error)) (cart.Order, bool, error) {
	order, replayed, err := s.Store.Checkout(ctx, owner, op, price)
	if err != nil || replayed {
		return order, replayed, err
	}
	time.Sleep(10 * window)
	_, err = s.Change(ctx, owner, cart.Change{Operation: cart.Operation{Key: rand.Text()}, Kind: cart.Clear})
	return order, false, err
}
