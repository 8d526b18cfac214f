package storetest

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"coatcheck/cart"
)

const (
	clients = 4
	workers = 100
)

// open returns a function that deals out clients of their own.
func (b *bench) open() func(i int) Store {
	b.Helper()
	var stores [clients]Store
	for i := range stores {
		stores[i] = b.Open(b.T)
	}
	return func(i int) Store { return stores[i%clients] }
}

func addsRace(b *bench) {
	store := b.open()
	o := NewOwner('u')
	var versions sync.Map
	parallel(workers, func(i int) {
		for range 3 {
			r, err := store(i).Change(b.ctx(), o, AddOf("mug-01", int64(i%3+1)))
			if err != nil {
				b.Error(err)
				return
			}
			if _, twice := versions.LoadOrStore(r.Version, true); twice {
				b.Errorf("version %d was answered twice", r.Version)
			}
		}
	})
	sum := int64(0)
	for i := range workers {
		sum += 3 * int64(i%3+1)
	}
	b.holds(o, 3*workers, cart.Line{SKU: "mug-01", Quantity: sum})
}

func oneKeyRaces(b *bench) {
	store := b.open()
	o := NewOwner('u')
	add := AddOf("mug-01", 1)
	var first atomic.Int64
	parallel(workers, func(i int) {
		r, err := store(i).Change(b.ctx(), o, add)
		switch {
		case err != nil:
			b.Error(err)
		case !r.Replayed:
			first.Add(1)
		}
	})
	if first.Load() != 1 {
		b.Errorf("%d calls under one key say that they were the first", first.Load())
	}
	b.holds(o, 1, cart.Line{SKU: "mug-01", Quantity: 1})
}

func conditionalRace(b *bench) {
	store := b.open()
	o := NewOwner('u')
	version := b.must(o, AddOf("mug-01", 1)).Cart.Version
	var won, winner atomic.Int64
	parallel(workers, func(i int) {
		set := SetOf("mug-01", int64(i+2))
		set.Operation = At(version)
		switch _, err := store(i).Change(b.ctx(), o, set); {
		case err == nil:
			won.Add(1)
			winner.Store(int64(i + 2))
		case !errors.Is(err, cart.ErrStale):
			b.Error(err)
		}
	})
	if won.Load() != 1 {
		b.Fatalf("%d of %d sets of one version won", won.Load(), workers)
	}
	b.holds(o, 2, cart.Line{SKU: "mug-01", Quantity: winner.Load()})
}

func limitsRace(b *bench) {
	store := b.open()
	quantity, lines := NewOwner('u'), NewOwner('u')
	b.must(quantity, AddOf("mug-01", MaxQuantity-40))
	for i := range MaxLines - 30 {
		b.must(lines, AddOf(fmt.Sprintf("sku-%03d", i), 1))
	}
	var added, opened atomic.Int64
	parallel(workers, func(i int) {
		switch _, err := store(i).Change(b.ctx(), quantity, AddOf("mug-01", 1)); {
		case err == nil:
			added.Add(1)
		case !errors.Is(err, cart.ErrQuantityLimit):
			b.Error(err)
		}
		switch _, err := store(i).Change(b.ctx(), lines, AddOf(fmt.Sprintf("new-%03d", i), 1)); {
		case err == nil:
			opened.Add(1)
		case !errors.Is(err, cart.ErrLineLimit):
			b.Error(err)
		}
	})
	if added.Load() != 40 || b.get(quantity).Quantity("mug-01") != MaxQuantity {
		b.Errorf("%d adds went in where 40 fit; %d mugs", added.Load(), b.get(quantity).Quantity("mug-01"))
	}
	if opened.Load() != 30 || len(b.get(lines).Lines) != MaxLines {
		b.Errorf("%d lines went in where 30 fit; %d lines", opened.Load(), len(b.get(lines).Lines))
	}
}

// checkoutRace has carts checked out while they are added to: what was ordered
// and what is left must be all that was added.
func checkoutRace(b *bench) {
	store := b.open()
	o := NewOwner('u')
	var added, ordered, placed atomic.Int64
	parallel(workers, func(i int) {
		if i%4 != 0 {
			for range 5 {
				if _, err := store(i).Change(b.ctx(), o, AddOf("mug-01", 1)); err != nil {
					b.Error(err)
					return
				}
				added.Add(1)
			}
			return
		}
		for range 5 {
			c, err := store(i).Get(b.ctx(), o)
			if err != nil {
				b.Error(err)
				return
			}
			if len(c.Lines) == 0 {
				continue
			}
			op := At(c.Version)
			order, _, err := store(i).Checkout(b.ctx(), o, op, b.order)
			if errors.Is(err, cart.ErrStale) {
				continue
			}
			if err != nil {
				b.Error(err)
				return
			}
			if order.Items[0].Quantity != c.Quantity("mug-01") {
				b.Errorf("ordered %d of a version that had %d", order.Items[0].Quantity, c.Quantity("mug-01"))
			}
			ordered.Add(order.Items[0].Quantity)
			placed.Add(1)
		}
	})
	if got := ordered.Load() + b.get(o).Quantity("mug-01"); got != added.Load() {
		b.Errorf("ordered and left: %d; added: %d", got, added.Load())
	}
	list, err := b.store.Orders(b.ctx(), o, "", workers*5)
	if err != nil || int64(len(list)) != placed.Load() {
		b.Errorf("%d orders are kept, %d were placed (%v)", len(list), placed.Load(), err)
	}
	kept := int64(0)
	for _, order := range list {
		kept += order.Items[0].Quantity
	}
	if kept != ordered.Load() {
		b.Errorf("the orders hold %d, %d were ordered", kept, ordered.Load())
	}
}

// mergesRace has several guests' carts moved into one user's, each by several
// callers, and one guest's cart claimed by several users.
func mergesRace(b *bench) {
	store := b.open()
	user := NewOwner('u')
	var guests [10]cart.Owner
	for i := range guests {
		guests[i] = NewOwner('g')
		b.must(guests[i], AddOf("mug-01", int64(i+1)))
		b.must(guests[i], AddOf(fmt.Sprintf("sku-%d", i), 1))
	}
	parallel(workers, func(i int) {
		if err := store(i).Merge(b.ctx(), guests[i%len(guests)], user); err != nil {
			b.Error(err)
		}
		if _, err := store(i).Get(b.ctx(), user); err != nil {
			b.Error(err)
		}
	})
	c := b.get(user)
	if c.Quantity("mug-01") != 55 || len(c.Lines) != 11 || c.Version.Number != 10 {
		b.Errorf("after ten carts: %+v", c)
	}

	contested := NewOwner('g')
	b.must(contested, AddOf("hat", 7))
	var claimants [8]cart.Owner
	for i := range claimants {
		claimants[i] = NewOwner('u')
	}
	parallel(workers, func(i int) {
		if err := store(i).Merge(b.ctx(), contested, claimants[i%len(claimants)]); err != nil {
			b.Error(err)
		}
	})
	total := int64(0)
	for _, claimant := range claimants {
		total += b.get(claimant).Quantity("hat")
	}
	if total != 7 {
		b.Errorf("of 7 hats that several users claimed, %d are in carts", total)
	}
}

// mergeRacesAdds has the guest and the user add while the one moves into the
// other: every add that was acknowledged is in the user's cart.
func mergeRacesAdds(b *bench) {
	store := b.open()
	for range 5 {
		guest, user := NewOwner('g'), NewOwner('u')
		b.must(guest, AddOf("mug-01", 1))
		var acknowledged atomic.Int64
		acknowledged.Store(1)
		parallel(workers, func(i int) {
			switch {
			case i%10 == 0:
				if err := store(i).Merge(b.ctx(), guest, user); err != nil {
					b.Error(err)
				}
			case i%2 == 0:
				switch _, err := store(i).Change(b.ctx(), guest, AddOf("mug-01", 1)); {
				case err == nil:
					acknowledged.Add(1)
				case !errors.Is(err, cart.ErrMoved):
					b.Error(err)
				}
			default:
				if _, err := store(i).Change(b.ctx(), user, AddOf("mug-01", 1)); err != nil {
					b.Error(err)
				}
				acknowledged.Add(1)
			}
		})
		if got := b.get(user).Quantity("mug-01"); got != acknowledged.Load() {
			b.Fatalf("%d adds were acknowledged, the user's cart holds %d", acknowledged.Load(), got)
		}
	}
}
