// Package mapstore keeps carts in this process's memory, under one lock.
//
// It exists to be compared with: carts die with the process, and another
// process knows nothing of them. The shop's own binaries must not link it.
package mapstore

import (
	"cmp"
	"context"
	"crypto/rand"
	"maps"
	"slices"
	"sync"
	"time"

	"coatcheck/cart"
)

// Settings are how long things are kept, and the limits, as in redisstore.
type Settings struct {
	GuestCartLife time.Duration
	UserCartLife  time.Duration
	OrderLife     time.Duration
	Window        time.Duration
	Limits        cart.Limits
	Now           func() time.Time
}

// Store is a cart.Store and a cart.Eraser in memory.
type Store struct {
	Settings
	mu     sync.Mutex
	owners map[cart.Owner]*owned
}

var (
	_ cart.Store  = (*Store)(nil)
	_ cart.Eraser = (*Store)(nil)
)

// owned is all of one owner.
type owned struct {
	version cart.Version
	lines   map[string]int64
	expires time.Time
	moved   bool
	closed  time.Time         // until when the account's end keeps it shut
	done    map[string]record // by idempotency key
	orders  []cart.Order      // oldest first
}

// record is what is remembered of an operation.
type record struct {
	fingerprint [8]byte
	err         error
	version     uint64
	order       string
	expires     time.Time
}

// New returns an empty store.
func New(s Settings) *Store { return &Store{Settings: s, owners: map[cart.Owner]*owned{}} }

// of returns what is kept of the owner, less what has expired.
func (s *Store) of(owner cart.Owner) *owned {
	now := s.Now()
	o := s.owners[owner]
	if o == nil {
		o = &owned{lines: map[string]int64{}, done: map[string]record{}}
		s.owners[owner] = o
	}
	if !o.expires.IsZero() && !now.Before(o.expires) {
		o.version, o.lines, o.expires, o.moved = cart.Version{}, map[string]int64{}, time.Time{}, false
	}
	maps.DeleteFunc(o.done, func(_ string, r record) bool { return !now.Before(r.expires) })
	o.orders = slices.DeleteFunc(o.orders, func(x cart.Order) bool { return !now.Before(x.Created.Add(s.OrderLife)) })
	return o
}

func (s *Store) touch(owner cart.Owner, o *owned) {
	if o.version.Incarnation == "" {
		o.version.Incarnation = rand.Text()[:8]
	}
	o.version.Number++
	o.expires = s.expiry(owner)
}

func (s *Store) expiry(owner cart.Owner) time.Time {
	life := s.UserCartLife
	if owner.Guest() {
		life = s.GuestCartLife
	}
	return s.Now().Add(life).UTC().Truncate(time.Millisecond)
}

func (o *owned) cart() cart.Cart {
	c := cart.Cart{Version: o.version, Expires: o.expires}
	for sku, quantity := range o.lines {
		c.Lines = append(c.Lines, cart.Line{SKU: sku, Quantity: quantity})
	}
	cart.SortLines(c.Lines)
	return c
}

// refusal is why the cart answers nothing, if it does not.
func (s *Store) refusal(o *owned) error {
	switch {
	case s.Now().Before(o.closed):
		return cart.ErrClosed
	case o.moved:
		return cart.ErrMoved
	}
	return nil
}

// Get is part of cart.Store.
func (s *Store) Get(_ context.Context, owner cart.Owner) (cart.Cart, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.of(owner)
	if err := s.refusal(o); err != nil {
		return cart.Cart{}, err
	}
	return o.cart(), nil
}

// Change is part of cart.Store.
func (s *Store) Change(_ context.Context, owner cart.Owner, c cart.Change) (cart.Result, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.of(owner)
	r, replayed := o.done[c.Key]
	switch {
	case replayed && r.fingerprint != c.Fingerprint():
		return cart.Result{}, cart.ErrKeyReused
	case replayed:
	case s.refusal(o) != nil:
		return cart.Result{}, s.refusal(o)
	default:
		r = record{fingerprint: c.Fingerprint(), err: s.apply(owner, o, c), expires: s.Now().Add(s.Window)}
		r.version = o.version.Number
		o.done[c.Key] = r
	}
	if r.err != nil {
		return cart.Result{}, r.err
	}
	result := cart.Result{Cart: o.cart(), Version: r.version, Replayed: replayed}
	if c.Minimal {
		result.Cart.Lines = slices.DeleteFunc(result.Cart.Lines, func(l cart.Line) bool {
			return !slices.ContainsFunc(c.Lines, func(named cart.Line) bool { return named.SKU == l.SKU })
		})
	}
	return result, nil
}

func (s *Store) apply(owner cart.Owner, o *owned, c cart.Change) error {
	if c.Conditional && !slices.Contains(c.Versions, o.version) {
		return cart.ErrStale
	}
	next := maps.Clone(o.lines)
	switch c.Kind {
	case cart.Add:
		for _, l := range c.Lines {
			next[l.SKU] += l.Quantity
			if next[l.SKU] > s.Limits.Quantity {
				return cart.ErrQuantityLimit
			}
		}
	case cart.Set:
		l := c.Lines[0]
		switch {
		case l.Quantity == 0:
			delete(next, l.SKU)
		case l.Quantity > s.Limits.Quantity && l.Quantity != next[l.SKU]:
			return cart.ErrQuantityLimit
		default:
			next[l.SKU] = l.Quantity
		}
	case cart.Clear:
		next = map[string]int64{}
	}
	if len(next) > len(o.lines) && len(next) > s.Limits.Lines {
		return cart.ErrLineLimit
	}
	if !maps.Equal(next, o.lines) {
		o.lines = next
		s.touch(owner, o)
	}
	return nil
}

// Checkout is part of cart.Store.
func (s *Store) Checkout(_ context.Context, owner cart.Owner, op cart.Operation, price func(cart.Cart) (cart.Order, error)) (cart.Order, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.of(owner)
	if r, replayed := o.done[op.Key]; replayed {
		if r.fingerprint != op.CheckoutFingerprint() {
			return cart.Order{}, false, cart.ErrKeyReused
		}
		if r.err != nil {
			return cart.Order{}, false, r.err
		}
		order, err := o.order(r.order)
		return order, true, err
	}
	if err := s.refusal(o); err != nil {
		return cart.Order{}, false, err
	}
	r := record{fingerprint: op.CheckoutFingerprint(), expires: s.Now().Add(s.Window)}
	if !slices.Contains(op.Versions, o.version) {
		r.err = cart.ErrStale
		o.done[op.Key] = r
		return cart.Order{}, false, r.err
	}
	order, err := price(o.cart())
	if err != nil {
		return cart.Order{}, false, err
	}
	o.orders = append(o.orders, order)
	slices.SortFunc(o.orders, func(a, b cart.Order) int { return cmp.Compare(a.ID, b.ID) })
	o.lines = map[string]int64{}
	s.touch(owner, o)
	r.order = order.ID
	o.done[op.Key] = r
	return order, false, nil
}

// Merge is part of cart.Store; under the one lock it can't be interrupted.
func (s *Store) Merge(_ context.Context, guest, user cart.Owner) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	from, to := s.of(guest), s.of(user)
	if from.moved {
		return nil
	}
	if err := s.refusal(to); err != nil {
		return err
	}
	switch {
	case len(from.lines) > 0:
		for sku, quantity := range from.lines {
			to.lines[sku] += quantity
		}
		s.touch(user, to)
	case from.version.Number > 0 && to.version.Number > 0:
		to.expires = s.expiry(user)
	}
	from.lines, from.moved = map[string]int64{}, true
	s.touch(guest, from)
	return nil
}

func (o *owned) order(id string) (cart.Order, error) {
	for _, order := range o.orders {
		if order.ID == id {
			return order, nil
		}
	}
	return cart.Order{}, cart.ErrNoSuchOrder
}

// Order is part of cart.Store.
func (s *Store) Order(_ context.Context, owner cart.Owner, id string) (cart.Order, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.of(owner).order(id)
}

// Orders is part of cart.Store.
func (s *Store) Orders(_ context.Context, owner cart.Owner, before string, limit int) ([]cart.Order, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var page []cart.Order
	for _, order := range slices.Backward(s.of(owner).orders) {
		if (before == "" || order.ID < before) && len(page) < limit {
			page = append(page, order)
		}
	}
	return page, nil
}

// Erase is part of cart.Eraser.
func (s *Store) Erase(_ context.Context, owner cart.Owner) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.of(owner)
	o.version, o.lines, o.expires, o.orders = cart.Version{}, map[string]int64{}, time.Time{}, nil
	o.closed = s.Now().Add(time.Hour)
	return nil
}
