package storetest

import (
	"errors"
	"flag"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"coatcheck/cart"
)

// Model does random operations on a store and on a plain Go model of it, and
// compares every answer and every cart: at least atLeast operations in all.
func Model(t *testing.T, newBackend func(t *testing.T) Backend, atLeast int) {
	backend := newBackend(t)
	store := backend.Open(t)
	// How many steps rapid takes varies; it is asked again until there are enough.
	for name, value := range map[string]string{"rapid.checks": "20", "rapid.steps": "100"} {
		if err := flag.Set(name, value); err != nil {
			t.Fatal(err)
		}
	}
	done := 0
	check := func(rt *rapid.T) {
		m := newModel(t, rt, backend, store)
		rt.Repeat(map[string]func(*rapid.T){
			"add":      func(rt *rapid.T) { done++; m.add(rt) },
			"set":      func(rt *rapid.T) { done++; m.set(rt) },
			"clear":    func(rt *rapid.T) { done++; m.clear(rt) },
			"repeat":   func(rt *rapid.T) { done++; m.repeat(rt) },
			"checkout": func(rt *rapid.T) { done++; m.checkout(rt) },
			"merge":    func(rt *rapid.T) { done++; m.merge(rt) },
			"advance":  func(rt *rapid.T) { done++; m.advance(rt) },
			"":         m.compare,
		})
	}
	for done < atLeast && !t.Failed() {
		rapid.Check(t, check)
	}
	t.Logf("%d operations", done)
}

var modelSKUs = []string{"a", "b", "mug-01", "Z.9_-"}

// modelCart is what a cart should be.
type modelCart struct {
	lines   map[string]int64
	version cart.Version
	expires time.Time // on the model's clock; zero: no cart
	moved   bool
	past    []cart.Version
	orders  []cart.Order
	done    []doneChange
}

// doneChange is an operation that the store should recognise.
type doneChange struct {
	change  cart.Change
	err     error
	version uint64
	until   time.Time
}

type model struct {
	t       *testing.T
	backend Backend
	store   Store
	clock   time.Time
	owners  []cart.Owner
	carts   map[cart.Owner]*modelCart
}

func newModel(t *testing.T, _ *rapid.T, backend Backend, store Store) *model {
	m := &model{t: t, backend: backend, store: store, clock: time.Unix(0, 0), carts: map[cart.Owner]*modelCart{}}
	for _, kind := range []byte{'g', 'g', 'u', 'u'} {
		o := NewOwner(kind)
		m.owners = append(m.owners, o)
		m.carts[o] = &modelCart{lines: map[string]int64{}}
	}
	return m
}

func (m *model) owner(rt *rapid.T) (cart.Owner, *modelCart) {
	o := rapid.SampledFrom(m.owners).Draw(rt, "owner")
	return o, m.carts[o]
}

func life(o cart.Owner) time.Duration {
	if o.Guest() {
		return GuestCartLife
	}
	return UserCartLife
}

// operation draws a key, and for some a condition: the version now, or one of the past.
func (m *model) operation(rt *rapid.T, c *modelCart) cart.Operation {
	switch rapid.IntRange(0, 5).Draw(rt, "condition") {
	case 0:
		return At(c.version)
	case 1:
		return At(rapid.SampledFrom(append([]cart.Version{{}, {Incarnation: "foreign", Number: 1}}, c.past...)).Draw(rt, "version"))
	default:
		return NewOperation()
	}
}

func (m *model) add(rt *rapid.T) {
	o, c := m.owner(rt)
	change := cart.Change{Operation: m.operation(rt, c), Kind: cart.Add, Minimal: rapid.Bool().Draw(rt, "minimal")}
	for _, sku := range rapid.SliceOfNDistinct(rapid.SampledFrom(modelSKUs), 1, 3, rapid.ID).Draw(rt, "skus") {
		change.Lines = append(change.Lines, cart.Line{SKU: sku, Quantity: rapid.SampledFrom([]int64{1, 2, 300, MaxQuantity}).Draw(rt, "quantity")})
	}
	m.change(rt, o, c, change)
}

func (m *model) set(rt *rapid.T) {
	o, c := m.owner(rt)
	m.change(rt, o, c, cart.Change{
		Operation: m.operation(rt, c), Kind: cart.Set, Minimal: rapid.Bool().Draw(rt, "minimal"),
		Lines: []cart.Line{{SKU: rapid.SampledFrom(modelSKUs).Draw(rt, "sku"), Quantity: rapid.SampledFrom([]int64{0, 1, 2, MaxQuantity, MaxQuantity + 1}).Draw(rt, "quantity")}},
	})
}

func (m *model) clear(rt *rapid.T) {
	o, c := m.owner(rt)
	m.change(rt, o, c, cart.Change{Operation: m.operation(rt, c), Kind: cart.Clear})
}

// repeat sends an operation again, as it was or under the key of another.
func (m *model) repeat(rt *rapid.T) {
	o, c := m.owner(rt)
	if len(c.done) == 0 {
		return
	}
	d := rapid.SampledFrom(c.done).Draw(rt, "repeated")
	if rapid.IntRange(0, 3).Draw(rt, "other request") == 0 {
		other := cart.Change{Operation: cart.Operation{Key: d.change.Key}, Kind: cart.Add, Lines: []cart.Line{{SKU: "never-added", Quantity: 1}}}
		if m.clock.Before(d.until) {
			if _, err := m.store.Change(m.t.Context(), o, other); !errors.Is(err, cart.ErrKeyReused) {
				rt.Fatalf("another request under a key in use: %v", err)
			}
		}
		return
	}
	m.change(rt, o, c, d.change)
}

// change does one change in both worlds.
func (m *model) change(rt *rapid.T, o cart.Owner, c *modelCart, change cart.Change) {
	want, replayed := m.expect(o, c, change)
	got, err := m.store.Change(m.t.Context(), o, change)
	if !errors.Is(err, want.err) {
		rt.Fatalf("change %c %v of %s: %v, want %v", change.Kind, change.Lines, o, err, want.err)
	}
	if err != nil {
		return
	}
	if got.Version != want.version || got.Replayed != replayed {
		rt.Fatalf("change %c %v of %s: version %d, replayed %v; want %d, %v", change.Kind, change.Lines, o, got.Version, got.Replayed, want.version, replayed)
	}
	m.learn(c, got.Cart.Version)
	lines := c.sorted()
	if change.Minimal {
		lines = slices.DeleteFunc(lines, func(l cart.Line) bool {
			return !slices.ContainsFunc(change.Lines, func(named cart.Line) bool { return named.SKU == l.SKU })
		})
	}
	if !slices.Equal(lines, got.Cart.Lines) {
		rt.Fatalf("change %c %v of %s answered %v, want %v", change.Kind, change.Lines, o, got.Cart.Lines, lines)
	}
}

// expect changes the model, and says what the store should answer.
func (m *model) expect(o cart.Owner, c *modelCart, change cart.Change) (doneChange, bool) {
	for _, d := range c.done {
		if d.change.Key == change.Key && m.clock.Before(d.until) {
			return d, true
		}
	}
	if c.moved {
		return doneChange{err: cart.ErrMoved}, false
	}
	d := doneChange{change: change, until: m.clock.Add(Window)}
	next := maps.Clone(c.lines)
	switch change.Kind {
	case cart.Add:
		for _, l := range change.Lines {
			next[l.SKU] += l.Quantity
			if next[l.SKU] > MaxQuantity {
				d.err = cart.ErrQuantityLimit
			}
		}
	case cart.Set:
		l := change.Lines[0]
		if l.Quantity > MaxQuantity && l.Quantity != c.lines[l.SKU] {
			d.err = cart.ErrQuantityLimit
		}
		if next[l.SKU] = l.Quantity; l.Quantity == 0 {
			delete(next, l.SKU)
		}
	case cart.Clear:
		next = map[string]int64{}
	}
	if change.Conditional && !slices.Contains(change.Versions, c.version) {
		d.err = cart.ErrStale
	}
	if d.err == nil && !maps.Equal(next, c.lines) {
		c.lines = next
		m.touch(o, c)
	}
	d.version = c.version.Number
	c.done = append(c.done, d)
	return d, false
}

func (m *model) touch(o cart.Owner, c *modelCart) {
	c.past = append(c.past, c.version)
	c.version.Number++
	c.expires = m.clock.Add(life(o))
}

// learn takes the incarnation of a cart that has just started.
func (m *model) learn(c *modelCart, v cart.Version) {
	if c.version.Number > 0 && c.version.Incarnation == "" {
		c.version.Incarnation = v.Incarnation
	}
}

func (c *modelCart) sorted() []cart.Line {
	var lines []cart.Line
	for sku, quantity := range c.lines {
		lines = append(lines, cart.Line{SKU: sku, Quantity: quantity})
	}
	cart.SortLines(lines)
	return lines
}

func (m *model) checkout(rt *rapid.T) {
	o, c := m.owner(rt)
	if o.Guest() {
		return
	}
	op := m.operation(rt, c)
	op.Conditional = true
	want := error(nil)
	if !slices.Contains(op.Versions, c.version) {
		want = cart.ErrStale
	}
	b := &bench{T: m.t, Backend: m.backend, store: m.store}
	order, replayed, err := m.store.Checkout(m.t.Context(), o, op, b.order)
	if !errors.Is(err, want) || replayed {
		rt.Fatalf("checkout of %s: %v, replayed %v; want %v", o, err, replayed, want)
	}
	if err != nil {
		return
	}
	var lines []cart.Line
	for _, item := range order.Items {
		lines = append(lines, cart.Line{SKU: item.SKU, Quantity: item.Quantity})
	}
	if !slices.Equal(lines, c.sorted()) {
		rt.Fatalf("ordered %v of a cart of %v", lines, c.sorted())
	}
	c.lines = map[string]int64{}
	m.touch(o, c)
	c.orders = append(c.orders, order)
	again, replayed, err := m.store.Checkout(m.t.Context(), o, op, b.order)
	if err != nil || !replayed || !cmp.Equal(order, again) {
		rt.Fatalf("the same checkout again: %v, replayed %v, %+v", err, replayed, again)
	}
}

func (m *model) merge(rt *rapid.T) {
	guest := rapid.SampledFrom(m.owners[:2]).Draw(rt, "guest")
	user := rapid.SampledFrom(m.owners[2:]).Draw(rt, "user")
	from, to := m.carts[guest], m.carts[user]
	if err := m.store.Merge(m.t.Context(), guest, user); err != nil {
		rt.Fatalf("merge: %v", err)
	}
	if from.moved {
		return
	}
	switch {
	case len(from.lines) > 0:
		for sku, quantity := range from.lines {
			to.lines[sku] += quantity
		}
		m.touch(user, to)
	case from.version.Number > 0 && to.version.Number > 0:
		to.expires = m.clock.Add(life(user)) // the merge of an emptied cart renews
	}
	from.lines, from.moved, from.expires = map[string]int64{}, true, m.clock.Add(life(guest))
}

func (m *model) advance(rt *rapid.T) {
	d := rapid.SampledFrom([]time.Duration{time.Minute, time.Minute, Window + time.Second, GuestCartLife + time.Hour}).Draw(rt, "time")
	m.clock = m.clock.Add(d)
	m.backend.Advance(m.t, d)
	for _, c := range m.carts {
		if !c.expires.IsZero() && !m.clock.Before(c.expires) {
			c.past = append(c.past, c.version)
			c.lines, c.version, c.expires, c.moved = map[string]int64{}, cart.Version{}, time.Time{}, false
		}
	}
}

// compare reads every cart.
func (m *model) compare(rt *rapid.T) {
	for o, c := range m.carts {
		got, err := m.store.Get(m.t.Context(), o)
		if c.moved {
			if !errors.Is(err, cart.ErrMoved) {
				rt.Fatalf("moved cart of %s: %v", o, err)
			}
			continue
		}
		if err != nil {
			rt.Fatalf("cart of %s: %v", o, err)
		}
		m.learn(c, got.Version)
		if !slices.Equal(got.Lines, c.sorted()) || got.Version != c.version {
			rt.Fatalf("cart of %s: %v at %v, want %v at %v", o, got.Lines, got.Version, c.sorted(), c.version)
		}
		list, err := m.store.Orders(m.t.Context(), o, "", 100)
		if err != nil || len(list) != len(c.orders) {
			rt.Fatalf("%s has %d orders, want %d (%v)", o, len(list), len(c.orders), err)
		}
	}
}
