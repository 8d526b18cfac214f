// Package redisstore keeps carts and orders in Redis 7.0 or later, each change
// one Lua script.
//
// Everything of an owner shares one slot, {owner}, so Redis Cluster works:
//
//	cart:{owner}          hash     the cart: one field a line, SKU → quantity, and
//	                               @v   version
//	                               @i   incarnation, 8 characters
//	                               @p   number of merges into it under way (users)
//	                               @m…  one a merge: merge id → guest and incarnation of the guest's cart (users)
//	                               @g   guest state: h… held, s… sealed (each with merge id and user), t tombstone (guests)
//	cart:{owner}:op:…     string   record of an operation, … 16 bytes of the hash of its key:
//	                               8 bytes of fingerprint, outcome, version or order id
//	order:{owner}:id      string   the order, JSON (orders.go)
//	orders:{owner}        zset     the ids, score 0, so that they lie in order of time
//
// Quantities are plain integers and no field is over 64 bytes, so that a cart
// stays a listpack. A SKU never begins with @.
//
// Every key has an expiry but a cart with a merge under way: guests' and users'
// carts live for a time after the last change, records for the idempotency
// window, orders as long as orders are kept.
package redisstore

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"coatcheck/cart"
	"coatcheck/chassis/redisconn"
)

var (
	//go:embed change.lua
	changeLua string
	//go:embed erase.lua
	eraseLua string
	//go:embed checkout.lua
	checkoutLua string

	// Rules are what a Redis user of the service needs, in the words of ACL: its
	// keys, its commands and those of its scripts, and no other.
	//
	//go:embed redis.acl
	Rules string

	changeScript   = redis.NewScript(changeLua)
	eraseScript    = redis.NewScript(eraseLua)
	checkoutScript = redis.NewScript(checkoutLua)
)

// ChangeScript is the text of the script that makes every change, for whoever
// measures what the way to it costs.
func ChangeScript() string { return changeLua }

// Settings are how long things are kept, and the limits.
type Settings struct {
	GuestCartLife time.Duration // after the last change
	UserCartLife  time.Duration // after the last change
	OrderLife     time.Duration
	// Window is how long an operation is recognised when it is repeated.
	Window time.Duration
	Limits cart.Limits
	// Now is the clock that orders' ids are compared with.
	Now func() time.Time
}

// Store is a cart.Store and a cart.Eraser on Redis.
type Store struct {
	rdb      redis.UniversalClient
	patience time.Duration
	constant constants
	Settings
}

var (
	_ cart.BatchStore = (*Store)(nil)
	_ cart.Eraser     = (*Store)(nil)
)

// New returns a store on rdb, which stays the caller's.
func New(rdb redis.UniversalClient, s Settings) *Store {
	return &Store{rdb: rdb, patience: patience, Settings: s, constant: constants{
		window: s.Window.Milliseconds(), guestLife: s.GuestCartLife.Milliseconds(), userLife: s.UserCartLife.Milliseconds(),
		quantity: s.Limits.Quantity, lines: s.Limits.Lines,
	}}
}

func (s *Store) life(o cart.Owner) int64 {
	if o.Guest() {
		return s.GuestCartLife.Milliseconds()
	}
	return s.UserCartLife.Milliseconds()
}

// Get is part of cart.Store.
func (s *Store) Get(ctx context.Context, owner cart.Owner) (cart.Cart, error) {
	h, err := s.read(ctx, owner)
	if err != nil {
		return cart.Cart{}, err
	}
	if h.merging() {
		if err := s.completeMerges(ctx, owner); err != nil {
			return cart.Cart{}, err
		}
		if h, err = s.read(ctx, owner); err != nil {
			return cart.Cart{}, err
		}
	}
	if err := h.refusal(); err != nil {
		return cart.Cart{}, err
	}
	return h.cart()
}

func (s *Store) read(ctx context.Context, owner cart.Owner) (hash, error) {
	var r reading
	_, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		r = queueReading(ctx, p, owner)
		return nil
	})
	if err != nil {
		return hash{}, redisconn.Unavailable(err)
	}
	return r.hash()
}

// reading is the two commands that read a cart.
type reading struct {
	fields *redis.MapStringStringCmd
	expiry *redis.DurationCmd
}

func queueReading(ctx context.Context, p redis.Pipeliner, owner cart.Owner) reading {
	return reading{p.HGetAll(ctx, cartKey(owner)), p.PExpireTime(ctx, cartKey(owner))}
}

// hash is what they answered.
func (r reading) hash() (hash, error) {
	for _, err := range []error{r.fields.Err(), r.expiry.Err()} {
		if err != nil {
			return hash{}, redisconn.Unavailable(err)
		}
	}
	// The command answers a time as a duration since 1970.
	h := hash{expires: r.expiry.Val().Milliseconds()}
	if n := len(r.fields.Val()); n > 0 {
		h.lines = make([]cart.Line, 0, n)
	}
	for field, value := range r.fields.Val() {
		h.put(field, value)
	}
	return h, nil
}

// Change is part of cart.Store.
func (s *Store) Change(ctx context.Context, owner cart.Owner, c cart.Change) (cart.Result, error) {
	a, err := s.change(ctx, owner, c)
	if err != nil {
		return cart.Result{}, err
	}
	merged := a.hash.merging()
	if merged {
		if err := s.completeMerges(ctx, owner); err != nil {
			return cart.Result{}, err
		}
	}
	result, err := a.result()
	if err == nil && merged && a.hash.refusal() == nil && !owner.Guest() && !c.Minimal {
		result.Cart, err = s.Get(ctx, owner)
	}
	if err != nil {
		return cart.Result{}, err
	}
	return result, nil
}

// Checkout is part of cart.Store.
func (s *Store) Checkout(ctx context.Context, owner cart.Owner, op cart.Operation, price func(cart.Cart) (cart.Order, error)) (cart.Order, bool, error) {
	record, err := s.rdb.Get(ctx, recordKey(owner, op.Key)).Bytes()
	if err != nil && !errors.Is(err, redis.Nil) {
		return cart.Order{}, false, redisconn.Unavailable(err)
	}
	// Without a record the cart is read and priced. If it is not at the version
	// named, or the operation is done by another process meanwhile, the script
	// says so; it is then never given this order.
	order, payload := cart.Order{ID: cart.OldestOrderID(time.Time{})}, []byte{}
	named := cart.Operation{Conditional: true}
	if record == nil {
		now, err := s.Get(ctx, owner)
		if err != nil {
			return cart.Order{}, false, err
		}
		for _, v := range op.Versions {
			if v == now.Version {
				named.Versions = []cart.Version{v}
				if order, err = price(now); err != nil {
					return cart.Order{}, false, err
				}
				if payload, err = encodeOrder(order); err != nil {
					return cart.Order{}, false, err
				}
				break
			}
		}
	}
	fingerprint := op.CheckoutFingerprint()
	raw, err := checkoutScript.Run(ctx, s.rdb,
		[]string{cartKey(owner), recordKey(owner, op.Key), orderKey(owner, order.ID), ordersKey(owner)},
		fingerprint[:], s.Window.Milliseconds(), s.life(owner), s.OrderLife.Milliseconds(),
		condition(named), order.ID, payload, s.oldestOrder()).Slice()
	if err != nil {
		return cart.Order{}, false, redisconn.Unavailable(err)
	}
	if len(raw) != 3 {
		return cart.Order{}, false, fmt.Errorf("checkout script answered %d values", len(raw))
	}
	outcome, id := text(raw[0]), text(raw[2])
	replayed := number(raw[1]) == 1
	switch {
	case outcome == "r":
		return cart.Order{}, false, cart.ErrKeyReused
	case outcome != "o":
		return cart.Order{}, false, cart.ErrStale
	case replayed:
		order, err = s.Order(ctx, owner, id)
		return order, true, err
	default:
		return order, false, nil
	}
}

// closed is how long an erased cart stays closed; longer than any call may take,
// and than a session of the account may be trusted once it is over.
const closed = time.Hour

// Erase is part of cart.Eraser. Merges into the cart are completed first, so that
// none brings it back, and the cart is closed before its orders go, so that none
// is made that the index does not show. A repeat goes on from wherever this ends.
func (s *Store) Erase(ctx context.Context, owner cart.Owner) error {
	for {
		h, err := s.read(ctx, owner)
		if err != nil {
			return err
		}
		if h.merging() {
			if err := s.completeMerges(ctx, owner); err != nil {
				return err
			}
		}
		done, err := eraseScript.Run(ctx, s.rdb, []string{cartKey(owner)}, closed.Milliseconds()).Int()
		if err != nil {
			return redisconn.Unavailable(err)
		}
		if done == 1 {
			break // else another merge has come
		}
	}
	ids, err := s.rdb.ZRange(ctx, ordersKey(owner), 0, -1).Result()
	if err != nil {
		return redisconn.Unavailable(err)
	}
	// The index goes last: if this is cut short, a repeat still finds the orders.
	var keys []string
	for _, id := range ids {
		keys = append(keys, orderKey(owner, id))
	}
	if err := s.rdb.Unlink(ctx, append(keys, ordersKey(owner))...).Err(); err != nil {
		return redisconn.Unavailable(err)
	}
	return nil
}
