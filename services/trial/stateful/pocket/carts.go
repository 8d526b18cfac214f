package pocket

import (
	"cmp"
	"context"
	"crypto/rand"
	"slices"
	"sync"
	"time"

	"coatcheck/cart"
	"coatcheck/chassis/fault"
)

// ErrTooLarge and ErrForged are the refusals that carts in cookies have beside
// those of every store.
var (
	ErrTooLarge = fault.New(fault.Refused, "cart_too_large", "The cart would be larger than the 4096 bytes that a browser keeps of a cookie.")
	ErrForged   = fault.New(fault.Invalid, "invalid_cart_cookie", "The cart's cookie is not one that this shop has signed. It is taken away; begin again.")
)

// Carts is a cart.Store and a cart.Eraser over what the request carries. See the
// package's comment for the promises of a cart.Store that it can't keep.
//
// Orders have no room in a cookie; they lie in this process's memory, in place
// of the database that a shop of this kind has for them.
type Carts struct {
	Pockets                     *Pockets
	GuestCartLife, UserCartLife time.Duration
	Limits                      cart.Limits
	Now                         func() time.Time

	mu     sync.Mutex
	orders map[cart.Owner][]cart.Order // oldest first
}

var (
	_ cart.Store  = (*Carts)(nil)
	_ cart.Eraser = (*Carts)(nil)
)

// carried returns the request's pocket and the owner's cart in it, which is the
// zero cart when the pocket holds another's or one that has expired.
func (s *Carts) carried(ctx context.Context, owner cart.Owner) (*pocket, cartState, error) {
	p := of(ctx)
	if p.forged {
		return p, cartState{}, ErrForged
	}
	if p.cart.owner != owner || !s.Now().Before(p.cart.expires) {
		return p, cartState{owner: owner}, nil
	}
	return p, p.cart, nil
}

func (c cartState) cart() cart.Cart {
	return cart.Cart{Version: c.version, Lines: slices.Clone(c.lines), Expires: c.expires}
}

// keep puts the cart, one version on, into the pocket.
func (s *Carts) keep(p *pocket, c cartState) (cartState, error) {
	if c.version.Incarnation == "" {
		c.version.Incarnation = rand.Text()[:8]
	}
	c.version.Number++
	life := s.UserCartLife
	if c.owner.Guest() {
		life = s.GuestCartLife
	}
	c.expires = s.Now().Add(life).UTC().Truncate(time.Millisecond)
	if s.Pockets.size(c) > MaxCookie {
		return c, ErrTooLarge
	}
	p.cart, p.newCart = c, true
	return c, nil
}

// Get is part of cart.Store.
func (s *Carts) Get(ctx context.Context, owner cart.Owner) (cart.Cart, error) {
	_, c, err := s.carried(ctx, owner)
	if err != nil || c.expires.IsZero() {
		return cart.Cart{}, err
	}
	return c.cart(), nil
}

// Change is part of cart.Store.
func (s *Carts) Change(ctx context.Context, owner cart.Owner, change cart.Change) (cart.Result, error) {
	p, c, err := s.carried(ctx, owner)
	if err != nil {
		return cart.Result{}, err
	}
	if change.Conditional && !slices.Contains(change.Versions, c.version) {
		return cart.Result{}, cart.ErrStale
	}
	lines, err := s.apply(c.lines, change)
	if err != nil {
		return cart.Result{}, err
	}
	if !slices.Equal(lines, c.lines) {
		c.lines = lines
		c, err = s.keep(p, c)
		if err != nil {
			return cart.Result{}, err
		}
	}
	result := cart.Result{Cart: c.cart(), Version: c.version.Number}
	if change.Minimal {
		result.Cart.Lines = slices.DeleteFunc(result.Cart.Lines, func(l cart.Line) bool {
			return !slices.ContainsFunc(change.Lines, func(named cart.Line) bool { return named.SKU == l.SKU })
		})
	}
	return result, nil
}

// apply returns the lines after the change, or why not.
func (s *Carts) apply(before []cart.Line, change cart.Change) ([]cart.Line, error) {
	if change.Kind == cart.Clear {
		return nil, nil
	}
	lines := slices.Clone(before)
	for _, l := range change.Lines {
		at, found := slices.BinarySearchFunc(lines, l.SKU, func(x cart.Line, sku string) int { return cmp.Compare(x.SKU, sku) })
		if !found {
			lines = slices.Insert(lines, at, cart.Line{SKU: l.SKU})
		}
		had := lines[at].Quantity
		if change.Kind == cart.Add {
			l.Quantity += had
		}
		if l.Quantity > s.Limits.Quantity && l.Quantity != had {
			return nil, cart.ErrQuantityLimit
		}
		lines[at].Quantity = l.Quantity
	}
	lines = slices.DeleteFunc(lines, func(l cart.Line) bool { return l.Quantity == 0 })
	if len(lines) > len(before) && len(lines) > s.Limits.Lines {
		return nil, cart.ErrLineLimit
	}
	return lines, nil
}

// Checkout is part of cart.Store.
func (s *Carts) Checkout(ctx context.Context, owner cart.Owner, op cart.Operation, price func(cart.Cart) (cart.Order, error)) (cart.Order, bool, error) {
	p, c, err := s.carried(ctx, owner)
	if err != nil {
		return cart.Order{}, false, err
	}
	if !slices.Contains(op.Versions, c.version) {
		return cart.Order{}, false, cart.ErrStale
	}
	order, err := price(c.cart())
	if err != nil {
		return cart.Order{}, false, err
	}
	c.lines = nil
	_, err = s.keep(p, c)
	if err != nil {
		return cart.Order{}, false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.orders == nil {
		s.orders = map[cart.Owner][]cart.Order{}
	}
	list := append(s.orders[owner], order)
	slices.SortFunc(list, func(a, b cart.Order) int { return cmp.Compare(a.ID, b.ID) })
	s.orders[owner] = list
	return order, false, nil
}

// Merge is part of cart.Store. The user's cart is the one that this browser
// carries, so there is nothing to merge the guest's with: it becomes the user's.
func (s *Carts) Merge(ctx context.Context, guest, user cart.Owner) error {
	p, c, err := s.carried(ctx, guest)
	if err != nil || len(c.lines) == 0 {
		return err
	}
	c.owner = user
	_, err = s.keep(p, c)
	return err
}

// Order is part of cart.Store.
func (s *Carts) Order(_ context.Context, owner cart.Owner, id string) (cart.Order, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, order := range s.orders[owner] {
		if order.ID == id {
			return order, nil
		}
	}
	return cart.Order{}, cart.ErrNoSuchOrder
}

// Orders is part of cart.Store.
func (s *Carts) Orders(_ context.Context, owner cart.Owner, before string, limit int) ([]cart.Order, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var page []cart.Order
	for _, order := range slices.Backward(s.orders[owner]) {
		if (before == "" || order.ID < before) && len(page) < limit {
			page = append(page, order)
		}
	}
	return page, nil
}

// Erase is part of cart.Eraser.
func (s *Carts) Erase(ctx context.Context, owner cart.Owner) error {
	if p := of(ctx); p.cart.owner == owner || p.forged {
		p.cart, p.newCart, p.forged = cartState{}, true, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.orders, owner)
	return nil
}
