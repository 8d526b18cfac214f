// Package storetest is the contract of cart.Store as tests that any store must
// pass: call Run from the store's own test.
package storetest

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"coatcheck/cart"
	"coatcheck/chassis/fault"
)

// The settings that a store under test must have.
const (
	GuestCartLife = 7 * 24 * time.Hour
	UserCartLife  = 90 * 24 * time.Hour
	OrderLife     = 400 * 24 * time.Hour
	Window        = 10 * time.Minute
	MaxQuantity   = 999
	MaxLines      = 100
)

// Store is what is tested.
type Store interface {
	cart.Store
	cart.Eraser
}

// Backend is where stores under test keep their data.
type Backend struct {
	// Open returns a client of its own on the backend's data.
	Open func(t *testing.T) Store
	// Now is the backend's clock, and Advance puts it forward: what expires until then is gone.
	Now     func() time.Time
	Advance func(t *testing.T, d time.Duration)
	// Cut takes the backend away until restore is called; nil for a store that
	// has no backend to lose.
	Cut func(t *testing.T) (restore func())
	// Dying returns a client that does n commands and then, as a process that was
	// killed, no more; nil where a call can't be interrupted.
	Dying func(t *testing.T, n int) Store
	// Pending reports whether, after n commands of a merge, both carts wait for
	// it to be completed and so must not expire.
	Pending func(n int) bool
}

// NewOwner draws an owner: kind is 'g' or 'u'.
func NewOwner(kind byte) cart.Owner {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return cart.Owner(string(kind) + "_" + base64.RawURLEncoding.EncodeToString(b[:]))
}

// NewOperation draws an unconditional operation.
func NewOperation() cart.Operation { return cart.Operation{Key: rand.Text()} }

// At is an operation for one version only.
func At(v cart.Version) cart.Operation {
	return cart.Operation{Key: rand.Text(), Conditional: true, Versions: []cart.Version{v}}
}

// AddOf is an unconditional add of one line.
func AddOf(sku string, quantity int64) cart.Change {
	return cart.Change{Operation: NewOperation(), Kind: cart.Add, Lines: []cart.Line{{SKU: sku, Quantity: quantity}}}
}

// SetOf is an unconditional set of one line.
func SetOf(sku string, quantity int64) cart.Change {
	return cart.Change{Operation: NewOperation(), Kind: cart.Set, Lines: []cart.Line{{SKU: sku, Quantity: quantity}}}
}

// ClearAll is an unconditional clear.
func ClearAll() cart.Change { return cart.Change{Operation: NewOperation(), Kind: cart.Clear} }

// bench is one test's view of a backend.
type bench struct {
	*testing.T
	Backend
	store Store
}

func (b *bench) ctx() context.Context { return b.Context() }

func (b *bench) must(o cart.Owner, c cart.Change) cart.Result {
	b.Helper()
	r, err := b.store.Change(b.ctx(), o, c)
	if err != nil {
		b.Fatalf("change %c %v: %v", c.Kind, c.Lines, err)
	}
	return r
}

func (b *bench) refused(o cart.Owner, c cart.Change, want error) {
	b.Helper()
	if r, err := b.store.Change(b.ctx(), o, c); !errors.Is(err, want) {
		b.Fatalf("change %c %v: got %+v, %v; want %v", c.Kind, c.Lines, r, err, want)
	}
}

func (b *bench) get(o cart.Owner) cart.Cart {
	b.Helper()
	c, err := b.store.Get(b.ctx(), o)
	if err != nil {
		b.Fatalf("get: %v", err)
	}
	return c
}

// holds fails unless the cart has these lines (in order of SKU), at this version.
func (b *bench) holds(o cart.Owner, version uint64, lines ...cart.Line) cart.Cart {
	b.Helper()
	c := b.get(o)
	if diff := cmp.Diff(lines, c.Lines); diff != "" {
		b.Fatalf("cart (-want +got):\n%s", diff)
	}
	if c.Version.Number != version {
		b.Fatalf("cart is at version %d, want %d", c.Version.Number, version)
	}
	return c
}

// order is a price function that makes an order of the lines as they are.
func (b *bench) order(c cart.Cart) (cart.Order, error) {
	o := cart.Order{ID: cart.NewOrderID(b.Now()), Created: b.Now().UTC().Truncate(time.Millisecond), Total: cart.Money{Currency: "EUR"}}
	for _, l := range c.Lines {
		item := cart.Item{SKU: l.SKU, Name: "a " + l.SKU, Quantity: l.Quantity,
			UnitPrice: cart.Money{Amount: 100, Currency: "EUR"}, LineTotal: cart.Money{Amount: 100 * l.Quantity, Currency: "EUR"}}
		o.Items = append(o.Items, item)
		o.Total.Amount += item.LineTotal.Amount
	}
	return o, nil
}

// parallel runs f n times at once and waits.
func parallel(n int, f func(i int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			f(i)
		})
	}
	close(start)
	wg.Wait()
}

// Run tests a store. newBackend is called once a test and answers an empty backend.
func Run(t *testing.T, newBackend func(t *testing.T) Backend) {
	for name, test := range map[string]func(*bench){
		"absent cart":           absent,
		"changes":               changes,
		"minimal answers":       minimal,
		"conditions":            conditions,
		"limits":                limits,
		"replays":               replays,
		"replayed refusals":     replayedRefusals,
		"key reused":            keyReused,
		"window":                window,
		"expiry":                expiry,
		"incarnations":          incarnations,
		"checkout":              checkout,
		"checkout refused":      checkoutRefused,
		"orders":                orders,
		"orders expire":         ordersExpire,
		"erase":                 erase,
		"erase races":           eraseRaces,
		"merge":                 merge,
		"merge of nothing":      mergeNothing,
		"merge over limits":     mergeOverLimits,
		"replay after merge":    replayAfterMerge,
		"adds race":             addsRace,
		"one key races":         oneKeyRaces,
		"conditional sets race": conditionalRace,
		"limits race":           limitsRace,
		"checkout races adds":   checkoutRace,
		"merges race":           mergesRace,
		"merge races adds":      mergeRacesAdds,
	} {
		t.Run(name, func(t *testing.T) {
			backend := newBackend(t)
			test(&bench{T: t, Backend: backend, store: backend.Open(t)})
		})
	}
	probe := newBackend(t)
	if probe.Cut != nil {
		t.Run("backend gone", func(t *testing.T) {
			backend := newBackend(t)
			backendGone(&bench{T: t, Backend: backend, store: backend.Open(t)})
		})
	}
	if probe.Dying != nil {
		t.Run("interrupted", func(t *testing.T) { interrupted(t, newBackend) })
		t.Run("interrupted merges race", func(t *testing.T) {
			backend := newBackend(t)
			interruptedRace(&bench{T: t, Backend: backend, store: backend.Open(t)})
		})
	}
}

func absent(b *bench) {
	for _, kind := range []byte{'g', 'u'} {
		o := NewOwner(kind)
		if diff := cmp.Diff(cart.Cart{}, b.get(o)); diff != "" {
			b.Errorf("an absent cart is not the zero Cart (-want +got):\n%s", diff)
		}
		for _, c := range []cart.Change{ClearAll(), SetOf("mug-01", 0)} {
			r := b.must(o, c)
			if diff := cmp.Diff(cart.Result{}, r); diff != "" {
				b.Errorf("change %c of nothing (-want +got):\n%s", c.Kind, diff)
			}
		}
		b.holds(o, 0)
	}
}

func changes(b *bench) {
	o := NewOwner('u')
	steps := []struct {
		change  cart.Change
		version uint64
		lines   []cart.Line
	}{
		{AddOf("mug-01", 2), 1, []cart.Line{{SKU: "mug-01", Quantity: 2}}},
		{AddOf("mug-01", 3), 2, []cart.Line{{SKU: "mug-01", Quantity: 5}}},
		{cart.Change{Operation: NewOperation(), Kind: cart.Add, Lines: []cart.Line{{SKU: "hat", Quantity: 1}, {SKU: "mug-01", Quantity: 1}, {SKU: "Cap", Quantity: 7}}}, 3,
			[]cart.Line{{SKU: "Cap", Quantity: 7}, {SKU: "hat", Quantity: 1}, {SKU: "mug-01", Quantity: 6}}},
		{SetOf("hat", 9), 4, []cart.Line{{SKU: "Cap", Quantity: 7}, {SKU: "hat", Quantity: 9}, {SKU: "mug-01", Quantity: 6}}},
		{SetOf("hat", 9), 4, []cart.Line{{SKU: "Cap", Quantity: 7}, {SKU: "hat", Quantity: 9}, {SKU: "mug-01", Quantity: 6}}},
		{SetOf("new", 1), 5, []cart.Line{{SKU: "Cap", Quantity: 7}, {SKU: "hat", Quantity: 9}, {SKU: "mug-01", Quantity: 6}, {SKU: "new", Quantity: 1}}},
		{SetOf("mug-01", 0), 6, []cart.Line{{SKU: "Cap", Quantity: 7}, {SKU: "hat", Quantity: 9}, {SKU: "new", Quantity: 1}}},
		{SetOf("mug-01", 0), 6, []cart.Line{{SKU: "Cap", Quantity: 7}, {SKU: "hat", Quantity: 9}, {SKU: "new", Quantity: 1}}},
		{ClearAll(), 7, nil},
		{ClearAll(), 7, nil},
		{AddOf("mug-01", 1), 8, []cart.Line{{SKU: "mug-01", Quantity: 1}}},
	}
	for i, s := range steps {
		r := b.must(o, s.change)
		if r.Version != s.version || r.Replayed {
			b.Errorf("step %d: led to version %d, replayed %v; want %d, false", i, r.Version, r.Replayed, s.version)
		}
		if diff := cmp.Diff(s.lines, r.Cart.Lines); diff != "" {
			b.Errorf("step %d: answered (-want +got):\n%s", i, diff)
		}
		if diff := cmp.Diff(b.holds(o, s.version, s.lines...), r.Cart); diff != "" {
			b.Errorf("step %d: the answer is not the cart (-cart +answer):\n%s", i, diff)
		}
	}
	b.holds(NewOwner('u'), 0)
}

func minimal(b *bench) {
	o := NewOwner('u')
	b.must(o, AddOf("hat", 4))
	add := AddOf("mug-01", 2)
	add.Minimal = true
	r := b.must(o, add)
	if diff := cmp.Diff([]cart.Line{{SKU: "mug-01", Quantity: 2}}, r.Cart.Lines); diff != "" || r.Version != 2 || r.Cart.Version.Number != 2 {
		b.Errorf("minimal add: %+v\n%s", r, diff)
	}
	full := b.holds(o, 2, cart.Line{SKU: "hat", Quantity: 4}, cart.Line{SKU: "mug-01", Quantity: 2})
	if r.Cart.Version != full.Version || !r.Cart.Expires.Equal(full.Expires) {
		b.Errorf("minimal add answers %+v of %+v", r.Cart, full)
	}
	b.must(o, SetOf("mug-01", 3))
	if again := b.must(o, add); !again.Replayed || again.Version != 2 || again.Cart.Quantity("mug-01") != 3 || len(again.Cart.Lines) != 1 {
		b.Errorf("minimal replay: %+v", again)
	}
	gone := SetOf("mug-01", 0)
	gone.Minimal = true
	if r := b.must(o, gone); len(r.Cart.Lines) != 0 || r.Version != 4 {
		b.Errorf("minimal removal: %+v", r)
	}
}

func conditions(b *bench) {
	o := NewOwner('u')
	add := AddOf("mug-01", 1)
	add.Operation = At(cart.Version{})
	first := b.must(o, add).Cart.Version // an absent cart has a version too
	stale := SetOf("mug-01", 5)
	stale.Operation = At(cart.Version{})
	b.refused(o, stale, cart.ErrStale)

	set := SetOf("mug-01", 5)
	set.Operation = At(first)
	second := b.must(o, set).Cart.Version
	if second.Incarnation != first.Incarnation || second.Number != first.Number+1 {
		b.Errorf("versions %v, %v", first, second)
	}
	foreign := ClearAll()
	foreign.Operation = At(cart.Version{Incarnation: "another-", Number: second.Number})
	b.refused(o, foreign, cart.ErrStale)
	none := ClearAll()
	none.Conditional = true
	b.refused(o, none, cart.ErrStale)
	// 1 must not pass for 12 or 21, whichever way versions are compared.
	for i := range int64(10) {
		b.must(o, SetOf("hat", i+1))
	}
	for _, n := range []uint64{1, 2, 11, 13, 21} {
		c := ClearAll()
		c.Operation = At(cart.Version{Incarnation: second.Incarnation, Number: n})
		b.refused(o, c, cart.ErrStale)
	}
	several := ClearAll()
	several.Operation = At(first)
	several.Versions = append(several.Versions, b.get(o).Version)
	b.must(o, several)
	b.holds(o, 13)
}

func limits(b *bench) {
	o := NewOwner('u')
	b.must(o, AddOf("mug-01", MaxQuantity))
	b.refused(o, AddOf("mug-01", 1), cart.ErrQuantityLimit)
	b.refused(o, SetOf("mug-01", MaxQuantity+1), cart.ErrQuantityLimit)
	b.refused(o, SetOf("hat", MaxQuantity+1), cart.ErrQuantityLimit)
	partly := AddOf("hat", 1)
	partly.Lines = append(partly.Lines, cart.Line{SKU: "mug-01", Quantity: 1})
	b.refused(o, partly, cart.ErrQuantityLimit) // all or none
	b.holds(o, 1, cart.Line{SKU: "mug-01", Quantity: MaxQuantity})

	many := cart.Change{Operation: NewOperation(), Kind: cart.Add}
	for i := range MaxLines - 1 {
		many.Lines = append(many.Lines, cart.Line{SKU: fmt.Sprintf("sku-%03d", i), Quantity: 1})
	}
	b.must(o, many)
	full := b.get(o)
	b.refused(o, AddOf("one-more", 1), cart.ErrLineLimit)
	b.refused(o, SetOf("one-more", 1), cart.ErrLineLimit)
	mixed := AddOf("sku-001", 1)
	mixed.Lines = append(mixed.Lines, cart.Line{SKU: "one-more", Quantity: 1})
	b.refused(o, mixed, cart.ErrLineLimit)
	if diff := cmp.Diff(full, b.get(o)); diff != "" {
		b.Errorf("a refused change changed the cart (-want +got):\n%s", diff)
	}
	b.must(o, AddOf("sku-001", 1)) // a line that is there is no new line
	b.must(o, SetOf("mug-01", 0))
	b.must(o, AddOf("one-more", 1))
}

func replays(b *bench) {
	o := NewOwner('g')
	add := AddOf("mug-01", 2)
	b.must(o, add)
	for range 3 {
		if r := b.must(o, add); !r.Replayed || r.Version != 1 {
			b.Errorf("replay: %+v", r)
		}
	}
	b.holds(o, 1, cart.Line{SKU: "mug-01", Quantity: 2})
	// Also after other changes, and it answers the cart as it is then.
	b.must(o, AddOf("hat", 1))
	b.must(o, SetOf("mug-01", 7))
	r := b.must(o, add)
	if diff := cmp.Diff([]cart.Line{{SKU: "hat", Quantity: 1}, {SKU: "mug-01", Quantity: 7}}, r.Cart.Lines); diff != "" || r.Version != 1 || r.Cart.Version.Number != 3 {
		b.Errorf("late replay: %+v\n%s", r, diff)
	}
	for _, c := range []cart.Change{SetOf("mug-01", 1), SetOf("hat", 0), ClearAll()} {
		first := b.must(o, c)
		b.must(o, AddOf("cap", 1))
		if again := b.must(o, c); !again.Replayed || again.Version != first.Version {
			b.Errorf("replay of %c: %+v, first %+v", c.Kind, again, first)
		}
	}
	// The key is the owner's own.
	b.must(NewOwner('g'), add)
	// A conditional change replays although its condition holds no more.
	c := AddOf("mug-01", 1)
	c.Operation = At(b.get(o).Version)
	b.must(o, c)
	if r := b.must(o, c); !r.Replayed {
		b.Errorf("conditional replay: %+v", r)
	}
}

func replayedRefusals(b *bench) {
	o := NewOwner('u')
	b.must(o, AddOf("mug-01", MaxQuantity))
	over := AddOf("mug-01", 1)
	b.refused(o, over, cart.ErrQuantityLimit)
	b.must(o, SetOf("mug-01", 1))
	// It was refused and its caller was told so: a late repeat must not apply it.
	b.refused(o, over, cart.ErrQuantityLimit)
	b.holds(o, 2, cart.Line{SKU: "mug-01", Quantity: 1})
}

func keyReused(b *bench) {
	o := NewOwner('u')
	first := AddOf("mug-01", 2)
	b.must(o, first)
	before := b.get(o)
	for name, c := range map[string]cart.Change{
		"quantity":  {Operation: first.Operation, Kind: cart.Add, Lines: []cart.Line{{SKU: "mug-01", Quantity: 3}}},
		"sku":       {Operation: first.Operation, Kind: cart.Add, Lines: []cart.Line{{SKU: "mug-02", Quantity: 2}}},
		"kind":      {Operation: first.Operation, Kind: cart.Set, Lines: []cart.Line{{SKU: "mug-01", Quantity: 2}}},
		"lines":     {Operation: first.Operation, Kind: cart.Add, Lines: []cart.Line{{SKU: "mug-01", Quantity: 2}, {SKU: "hat", Quantity: 1}}},
		"clear":     {Operation: first.Operation, Kind: cart.Clear},
		"condition": {Operation: cart.Operation{Key: first.Key, Conditional: true, Versions: []cart.Version{before.Version}}, Kind: cart.Add, Lines: first.Lines},
	} {
		if _, err := b.store.Change(b.ctx(), o, c); !errors.Is(err, cart.ErrKeyReused) {
			b.Errorf("other %s under the same key: %v", name, err)
		}
	}
	op := At(before.Version)
	op.Key = first.Key
	if _, _, err := b.store.Checkout(b.ctx(), o, op, b.order); !errors.Is(err, cart.ErrKeyReused) {
		b.Errorf("checkout under the same key: %v", err)
	}
	if diff := cmp.Diff(before, b.get(o)); diff != "" {
		b.Errorf("changed (-want +got):\n%s", diff)
	}
	// Another order of the same lines is the same request.
	two := cart.Change{Operation: NewOperation(), Kind: cart.Add, Lines: []cart.Line{{SKU: "a", Quantity: 1}, {SKU: "b", Quantity: 2}}}
	b.must(o, two)
	two.Lines = []cart.Line{two.Lines[1], two.Lines[0]}
	if r := b.must(o, two); !r.Replayed {
		b.Errorf("same lines in another order: %+v", r)
	}
}

func window(b *bench) {
	o := NewOwner('u')
	add := AddOf("mug-01", 1)
	b.must(o, add)
	b.Advance(b.T, Window-time.Minute)
	if r := b.must(o, add); !r.Replayed {
		b.Errorf("within the window: %+v", r)
	}
	b.Advance(b.T, 2*time.Minute)
	if r := b.must(o, add); r.Replayed {
		b.Errorf("after the window: %+v", r)
	}
	b.holds(o, 2, cart.Line{SKU: "mug-01", Quantity: 2})
}

func expiry(b *bench) {
	lives := map[cart.Owner]time.Duration{NewOwner('g'): GuestCartLife, NewOwner('u'): UserCartLife}
	for o, life := range lives {
		expires := b.must(o, AddOf("mug-01", 1)).Cart.Expires
		if left := expires.Sub(b.Now()); left < life-time.Minute || left > life+time.Minute {
			b.Errorf("%s: expires in %v, want %v", o, left, life)
		}
	}
	for o, life := range lives {
		b.must(o, AddOf("mug-01", 1))
		b.Advance(b.T, life-time.Hour)
		// Neither reading nor a change that changes nothing renews a cart; a change does.
		quantity := b.get(o).Quantity("mug-01")
		b.must(o, SetOf("mug-01", quantity))
		b.must(o, AddOf("mug-01", 1))
		b.Advance(b.T, life-time.Hour)
		if got := b.get(o).Quantity("mug-01"); got != quantity+1 {
			b.Errorf("%s: %d mugs after a renewal, want %d", o, got, quantity+1)
		}
		b.must(o, SetOf("mug-01", quantity+1))
		b.Advance(b.T, 2*time.Hour)
		if diff := cmp.Diff(cart.Cart{}, b.get(o)); diff != "" {
			b.Errorf("%s: not gone (-want +got):\n%s", o, diff)
		}
	}
}

func incarnations(b *bench) {
	o := NewOwner('g')
	first := b.must(o, AddOf("mug-01", 1)).Cart.Version
	b.Advance(b.T, GuestCartLife+time.Hour)
	second := b.must(o, AddOf("mug-01", 1)).Cart.Version
	if first.Number != second.Number || first.Incarnation == second.Incarnation || first.Incarnation == "" {
		b.Errorf("first cart %v, second cart %v", first, second)
	}
	late := ClearAll()
	late.Operation = At(first)
	b.refused(o, late, cart.ErrStale)
}

func checkout(b *bench) {
	o := NewOwner('u')
	b.must(o, AddOf("mug-01", 2))
	version := b.must(o, AddOf("hat", 1)).Cart.Version
	op := At(version)
	order, replayed, err := b.store.Checkout(b.ctx(), o, op, b.order)
	if err != nil || replayed {
		b.Fatalf("checkout: %v, replayed %v", err, replayed)
	}
	if len(order.Items) != 2 || order.Items[0].SKU != "hat" || order.Items[1].Quantity != 2 || order.Total.Amount != 300 {
		b.Errorf("order %+v", order)
	}
	after := b.holds(o, 3)
	if after.Version.Incarnation != version.Incarnation || after.Expires.IsZero() {
		b.Errorf("cart after checkout: %+v", after)
	}
	b.must(o, AddOf("cap", 5))
	again, replayed, err := b.store.Checkout(b.ctx(), o, op, b.order)
	if err != nil || !replayed {
		b.Fatalf("repeated: %v, replayed %v", err, replayed)
	}
	if diff := cmp.Diff(order, again); diff != "" {
		b.Errorf("repeated (-first +second):\n%s", diff)
	}
	b.holds(o, 4, cart.Line{SKU: "cap", Quantity: 5})
	kept, err := b.store.Order(b.ctx(), o, order.ID)
	if err != nil {
		b.Fatal(err)
	}
	if diff := cmp.Diff(order, kept); diff != "" {
		b.Errorf("kept order (-answered +kept):\n%s", diff)
	}
}

func checkoutRefused(b *bench) {
	o := NewOwner('u')
	first := b.must(o, AddOf("mug-01", 2)).Cart.Version
	b.must(o, AddOf("mug-01", 1))
	stale := At(first)
	never := func(cart.Cart) (cart.Order, error) {
		b.Error("a stale checkout was priced")
		return cart.Order{}, errors.New("priced")
	}
	for range 2 {
		if _, _, err := b.store.Checkout(b.ctx(), o, stale, never); !errors.Is(err, cart.ErrStale) {
			b.Errorf("stale: %v", err)
		}
	}
	sorry := errors.New("no such price")
	if _, _, err := b.store.Checkout(b.ctx(), o, At(b.get(o).Version), func(cart.Cart) (cart.Order, error) { return cart.Order{}, sorry }); !errors.Is(err, sorry) {
		b.Errorf("error of price: %v", err)
	}
	b.holds(o, 2, cart.Line{SKU: "mug-01", Quantity: 3})
	if _, err := b.store.Order(b.ctx(), o, cart.NewOrderID(b.Now())); !errors.Is(err, cart.ErrNoSuchOrder) {
		b.Errorf("no such order: %v", err)
	}
	if list, err := b.store.Orders(b.ctx(), o, "", 10); err != nil || len(list) != 0 {
		b.Errorf("orders: %v, %v", list, err)
	}
}

func orders(b *bench) {
	o := NewOwner('u')
	var ids []string
	for i := range 7 {
		v := b.must(o, AddOf("mug-01", int64(i+1))).Cart.Version
		order, _, err := b.store.Checkout(b.ctx(), o, At(v), b.order)
		if err != nil {
			b.Fatal(err)
		}
		ids = append([]string{order.ID}, ids...)
		b.Advance(b.T, time.Second)
	}
	var got []string
	before := ""
	for _, want := range []int{3, 3, 1, 0} {
		page, err := b.store.Orders(b.ctx(), o, before, 3)
		if err != nil || len(page) != want {
			b.Fatalf("page of %d, want %d (%v)", len(page), want, err)
		}
		for _, order := range page {
			got = append(got, order.ID)
			before = order.ID
		}
	}
	if diff := cmp.Diff(ids, got); diff != "" {
		b.Errorf("orders, newest first (-want +got):\n%s", diff)
	}
	if _, err := b.store.Order(b.ctx(), NewOwner('u'), ids[0]); !errors.Is(err, cart.ErrNoSuchOrder) {
		b.Errorf("another's order: %v", err)
	}
}

func ordersExpire(b *bench) {
	o := NewOwner('u')
	buy := func() string {
		v := b.must(o, AddOf("mug-01", 1)).Cart.Version
		order, _, err := b.store.Checkout(b.ctx(), o, At(v), b.order)
		if err != nil {
			b.Fatal(err)
		}
		return order.ID
	}
	first := buy()
	b.Advance(b.T, OrderLife-24*time.Hour)
	second := buy()
	b.Advance(b.T, 2*24*time.Hour)
	if _, err := b.store.Order(b.ctx(), o, first); !errors.Is(err, cart.ErrNoSuchOrder) {
		b.Errorf("an order older than orders are kept: %v", err)
	}
	third := buy()
	page, err := b.store.Orders(b.ctx(), o, "", 10)
	if err != nil || len(page) != 2 || page[0].ID != third || page[1].ID != second {
		b.Errorf("orders %v, %v; want %s, %s", page, err, third, second)
	}
}

func erase(b *bench) {
	o, other := NewOwner('u'), NewOwner('u')
	for _, owner := range []cart.Owner{o, other} {
		v := b.must(owner, AddOf("mug-01", 1)).Cart.Version
		if _, _, err := b.store.Checkout(b.ctx(), owner, At(v), b.order); err != nil {
			b.Fatal(err)
		}
		b.must(owner, AddOf("hat", 2))
	}
	late, guest := b.get(o).Version, NewOwner('g')
	b.must(guest, AddOf("hat", 1))
	for range 2 {
		if err := b.store.Erase(b.ctx(), o); err != nil {
			b.Fatal(err)
		}
	}
	// What was under way brings nothing back.
	for what, err := range map[string]error{
		"get":      func() error { _, err := b.store.Get(b.ctx(), o); return err }(),
		"add":      func() error { _, err := b.store.Change(b.ctx(), o, AddOf("hat", 1)); return err }(),
		"checkout": func() error { _, _, err := b.store.Checkout(b.ctx(), o, At(late), b.order); return err }(),
		"merge":    b.store.Merge(b.ctx(), guest, o),
	} {
		if !errors.Is(err, cart.ErrClosed) {
			b.Errorf("%s after the end: %v", what, err)
		}
	}
	if list, err := b.store.Orders(b.ctx(), o, "", 10); err != nil || len(list) != 0 {
		b.Errorf("orders are left: %v, %v", list, err)
	}
	b.holds(other, 3, cart.Line{SKU: "hat", Quantity: 2})
	if list, err := b.store.Orders(b.ctx(), other, "", 10); err != nil || len(list) != 1 {
		b.Errorf("another's orders: %v, %v", list, err)
	}
}

// eraseRaces: whatever changes, checks out and merges while an account ends, its
// cart and its orders are gone when it has ended.
func eraseRaces(b *bench) {
	for range 20 {
		o := NewOwner('u')
		b.must(o, AddOf("mug-01", 1))
		guests := []cart.Owner{NewOwner('g'), NewOwner('g')}
		for _, g := range guests {
			b.must(g, AddOf("hat", 1))
		}
		var group sync.WaitGroup
		tolerate := func(err error) {
			if err != nil && !errors.Is(err, cart.ErrClosed) && !errors.Is(err, cart.ErrStale) && !errors.Is(err, cart.ErrMoved) {
				b.Error(err)
			}
		}
		for i := range 4 {
			group.Go(func() {
				for range 10 {
					r, err := b.store.Change(b.ctx(), o, AddOf("hat", 1))
					if tolerate(err); err == nil {
						_, _, err = b.store.Checkout(b.ctx(), o, At(r.Cart.Version), b.order)
						tolerate(err)
					}
				}
			})
			if i < len(guests) {
				group.Go(func() { tolerate(b.store.Merge(b.ctx(), guests[i], o)) })
			}
		}
		if err := b.store.Erase(b.ctx(), o); err != nil {
			b.Fatal(err)
		}
		group.Wait()
		if _, err := b.store.Get(b.ctx(), o); !errors.Is(err, cart.ErrClosed) {
			b.Errorf("the cart answers %v", err)
		}
		if list, err := b.store.Orders(b.ctx(), o, "", 100); err != nil || len(list) != 0 {
			b.Errorf("orders are left: %v, %v", list, err)
		}
	}
}

func backendGone(b *bench) {
	o, guest := NewOwner('u'), NewOwner('g')
	add := AddOf("mug-01", 3)
	version := b.must(o, add).Cart.Version
	b.must(guest, AddOf("hat", 1))
	restore := b.Cut(b.T)
	calls := map[string]func(ctx context.Context) error{
		"get":    func(ctx context.Context) error { _, err := b.store.Get(ctx, o); return err },
		"change": func(ctx context.Context) error { _, err := b.store.Change(ctx, o, AddOf("hat", 1)); return err },
		"replay": func(ctx context.Context) error { _, err := b.store.Change(ctx, o, add); return err },
		"checkout": func(ctx context.Context) error {
			_, _, err := b.store.Checkout(ctx, o, At(version), b.order)
			return err
		},
		"merge":  func(ctx context.Context) error { return b.store.Merge(ctx, guest, o) },
		"order":  func(ctx context.Context) error { _, err := b.store.Order(ctx, o, cart.NewOrderID(b.Now())); return err },
		"orders": func(ctx context.Context) error { _, err := b.store.Orders(ctx, o, "", 5); return err },
		"erase":  func(ctx context.Context) error { return b.store.Erase(ctx, o) },
	}
	for name, call := range calls {
		ctx, cancel := context.WithTimeout(b.ctx(), time.Second)
		start := time.Now()
		if err := call(ctx); !fault.Is(err, fault.Unavailable) {
			b.Errorf("%s without a backend: %v, want unavailable", name, err)
		}
		if took := time.Since(start); took > 1500*time.Millisecond {
			b.Errorf("%s without a backend took %v, over its deadline", name, took)
		}
		cancel()
	}
	restore()
	back := time.Now()
	for {
		c, err := b.store.Get(b.ctx(), o)
		if err == nil {
			if c.Quantity("mug-01") < 3 {
				b.Errorf("after the outage: %+v", c)
			}
			break
		}
		if !fault.Is(err, fault.Unavailable) || time.Since(back) > 2*time.Second {
			b.Fatalf("%v after the backend's return: %v", time.Since(back), err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	if r := b.must(o, add); !r.Replayed {
		b.Errorf("replay after the outage: %+v", r)
	}
}
