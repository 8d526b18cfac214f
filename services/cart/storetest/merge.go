package storetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"coatcheck/cart"
	"coatcheck/chassis/fault"
)

func merge(b *bench) {
	guest, user := NewOwner('g'), NewOwner('u')
	b.must(guest, AddOf("mug-01", 2))
	b.must(guest, AddOf("hat", 1))
	b.must(user, AddOf("mug-01", 3))
	for range 3 {
		if err := b.store.Merge(b.ctx(), guest, user); err != nil {
			b.Fatal(err)
		}
		c := b.holds(user, 2, cart.Line{SKU: "hat", Quantity: 1}, cart.Line{SKU: "mug-01", Quantity: 5})
		if c.Expires.IsZero() {
			b.Fatal("the merged cart does not expire")
		}
	}
	if _, err := b.store.Get(b.ctx(), guest); !errors.Is(err, cart.ErrMoved) {
		b.Errorf("get of the guest's cart: %v", err)
	}
	for _, c := range []cart.Change{AddOf("cap", 1), SetOf("cap", 1), ClearAll()} {
		b.refused(guest, c, cart.ErrMoved)
	}
	// Another user that shows the old ticket gets nothing.
	other := NewOwner('u')
	if err := b.store.Merge(b.ctx(), guest, other); err != nil {
		b.Fatal(err)
	}
	b.holds(other, 0)

	b.Advance(b.T, GuestCartLife-time.Hour)
	b.refused(guest, AddOf("cap", 1), cart.ErrMoved)
	b.Advance(b.T, 2*time.Hour)
	b.must(guest, AddOf("cap", 1)) // long after, the guest starts anew
}

func mergeNothing(b *bench) {
	guest, user := NewOwner('g'), NewOwner('u')
	before := b.must(user, AddOf("mug-01", 3)).Cart
	if err := b.store.Merge(b.ctx(), guest, user); err != nil {
		b.Fatal(err)
	}
	if diff := cmp.Diff(before, b.get(user)); diff != "" {
		b.Errorf("merging an absent cart (-want +got):\n%s", diff)
	}
	b.refused(guest, AddOf("cap", 1), cart.ErrMoved) // a late add must not land where nobody looks

	emptied := NewOwner('g')
	b.must(emptied, AddOf("mug-01", 1))
	b.must(emptied, ClearAll())
	if err := b.store.Merge(b.ctx(), emptied, user); err != nil {
		b.Fatal(err)
	}
	b.holds(user, 1, cart.Line{SKU: "mug-01", Quantity: 3})

	fresh := NewOwner('u')
	if err := b.store.Merge(b.ctx(), NewOwner('g'), fresh); err != nil {
		b.Fatal(err)
	}
	b.holds(fresh, 0)
}

func mergeOverLimits(b *bench) {
	guest, user := NewOwner('g'), NewOwner('u')
	fill := func(o cart.Owner, prefix string) {
		c := cart.Change{Operation: NewOperation(), Kind: cart.Add, Lines: []cart.Line{{SKU: "mug-01", Quantity: MaxQuantity}}}
		for i := range MaxLines - 1 {
			c.Lines = append(c.Lines, cart.Line{SKU: fmt.Sprintf("%s-%03d", prefix, i), Quantity: 1})
		}
		b.must(o, c)
	}
	fill(guest, "g")
	fill(user, "u")
	if err := b.store.Merge(b.ctx(), guest, user); err != nil {
		b.Fatal(err)
	}
	c := b.get(user)
	if len(c.Lines) != 2*MaxLines-1 || c.Quantity("mug-01") != 2*MaxQuantity {
		b.Errorf("merged %d lines, %d mugs", len(c.Lines), c.Quantity("mug-01"))
	}
	b.refused(user, AddOf("mug-01", 1), cart.ErrQuantityLimit)
	b.refused(user, AddOf("g-000x", 1), cart.ErrLineLimit)
	b.must(user, SetOf("mug-01", 5))
	b.must(user, AddOf("g-000", 1))
}

func replayAfterMerge(b *bench) {
	guest, user := NewOwner('g'), NewOwner('u')
	add := AddOf("mug-01", 2)
	b.must(guest, add)
	if err := b.store.Merge(b.ctx(), guest, user); err != nil {
		b.Fatal(err)
	}
	// It was done; to say anything else would make the client do it again.
	r := b.must(guest, add)
	if !r.Replayed || r.Version != 1 || len(r.Cart.Lines) != 0 {
		b.Errorf("replay: %+v", r)
	}
	b.holds(user, 1, cart.Line{SKU: "mug-01", Quantity: 2})
}

// interrupted kills a client after each number of commands of a merge, and of a
// checkout, and has either side touched next, at once or days later.
func interrupted(t *testing.T, newBackend func(t *testing.T) Backend) {
	const commands = 24 // more than any of the calls takes
	for _, side := range []string{"guest reads", "guest adds", "user reads", "user adds", "user adds, minimal", "log-in again", "erased"} {
		for _, later := range []time.Duration{0, GuestCartLife - time.Hour, 2 * UserCartLife} {
			t.Run(fmt.Sprintf("merge, %s after %v", side, later), func(t *testing.T) {
				backend := newBackend(t)
				b := &bench{T: t, Backend: backend, store: backend.Open(t)}
				b.warm()
				finished := false
				for n := 0; n <= commands && !finished; n++ {
					finished = interruptMerge(b, n, side, later)
				}
				if !finished {
					t.Errorf("a merge takes more than %d commands", commands)
				}
			})
		}
	}
	t.Run("checkout", func(t *testing.T) {
		backend := newBackend(t)
		b := &bench{T: t, Backend: backend, store: backend.Open(t)}
		b.warm()
		for n := 0; n <= commands; n++ {
			user := NewOwner('u')
			op := At(b.must(user, AddOf("mug-01", 4)).Cart.Version)
			_, _, died := backend.Dying(t, n).Checkout(b.ctx(), user, op, b.order)
			order, replayed, err := b.store.Checkout(b.ctx(), user, op, b.order)
			if err != nil || order.Items[0].Quantity != 4 || (died == nil && !replayed) {
				t.Fatalf("after %d commands: %+v, %v, %v", n, order, replayed, err)
			}
			list, err := b.store.Orders(b.ctx(), user, "", 10)
			if err != nil || len(list) != 1 {
				t.Fatalf("after %d commands: %d orders (%v)", n, len(list), err)
			}
			b.holds(user, 2)
		}
	})
}

// warm does each call once, so that no client has to load its scripts and the
// n-th command of a call is always the same.
func (b *bench) warm() {
	b.Helper()
	guest, user := NewOwner('g'), NewOwner('u')
	b.must(guest, AddOf("mug-01", 1))
	if err := b.store.Merge(b.ctx(), guest, user); err != nil {
		b.Fatal(err)
	}
	if _, _, err := b.store.Checkout(b.ctx(), user, At(b.get(user).Version), b.order); err != nil {
		b.Fatal(err)
	}
}

// interruptMerge reports whether the merge got done before its client died.
func interruptMerge(b *bench, n int, side string, later time.Duration) bool {
	b.Helper()
	guest, user := NewOwner('g'), NewOwner('u')
	b.must(guest, AddOf("mug-01", 2))
	b.must(guest, AddOf("hat", 1))
	b.must(user, AddOf("mug-01", 3))
	died := b.Dying(b.T, n).Merge(b.ctx(), guest, user)
	if died != nil && !fault.Is(died, fault.Unavailable) {
		b.Fatalf("after %d commands: %v", n, died)
	}
	if died != nil {
		if !b.Pending(n) && later > 0 {
			return false // nothing is under way, and what expires may
		}
		b.Advance(b.T, later)
	}
	mugs, caps := int64(5), int64(0)
	switch side {
	case "guest reads":
		if _, err := b.store.Get(b.ctx(), guest); err != nil && !errors.Is(err, cart.ErrMoved) {
			b.Fatalf("after %d commands: %v", n, err)
		}
	case "guest adds":
		_, err := b.store.Change(b.ctx(), guest, AddOf("cap", 1))
		switch {
		case err == nil:
			caps = 1
		case !errors.Is(err, cart.ErrMoved):
			b.Fatalf("after %d commands: %v", n, err)
		}
	case "user reads":
		b.get(user)
	case "user adds":
		if r := b.must(user, AddOf("mug-01", 1)); died != nil && b.Pending(n) && r.Cart.Quantity("hat") != 1 {
			b.Fatalf("after %d commands: the answer lacks what the user's cart was owed: %+v", n, r)
		}
		mugs++
	case "user adds, minimal":
		add := AddOf("mug-01", 1)
		add.Minimal = true
		b.must(user, add)
		mugs++
	case "erased":
		if err := b.store.Erase(b.ctx(), user); err != nil {
			b.Fatal(err)
		}
		if _, err := b.store.Get(b.ctx(), guest); err != nil && !errors.Is(err, cart.ErrMoved) {
			b.Fatal(err)
		}
		if _, err := b.store.Get(b.ctx(), user); !errors.Is(err, cart.ErrClosed) {
			b.Fatalf("the erased cart answers %v", err)
		}
		return died == nil
	}
	// However far it got, one more log-in with the same ticket makes it whole.
	if err := b.store.Merge(b.ctx(), guest, user); err != nil {
		b.Fatalf("after %d commands: %v", n, err)
	}
	want := []cart.Line{{SKU: "hat", Quantity: 1}, {SKU: "mug-01", Quantity: mugs}}
	if caps > 0 {
		want = append([]cart.Line{{SKU: "cap", Quantity: caps}}, want...)
	}
	c := b.get(user)
	if diff := cmp.Diff(want, c.Lines); diff != "" {
		b.Fatalf("after %d commands, %s %v later (-want +got):\n%s", n, side, later, diff)
	}
	if c.Expires.IsZero() {
		b.Fatalf("after %d commands: the merged cart does not expire", n)
	}
	if _, err := b.store.Get(b.ctx(), guest); !errors.Is(err, cart.ErrMoved) {
		b.Fatalf("after %d commands: the guest's cart: %v", n, err)
	}
	return died == nil
}

// interruptedRace has several clients merge one guest's cart into several
// users' at once, each dying somewhere on the way, while others read. Whoever
// comes next finds all of it in exactly one cart.
func interruptedRace(b *bench) {
	b.warm()
	for round := range 40 {
		guest := NewOwner('g')
		users := []cart.Owner{NewOwner('u'), NewOwner('u'), NewOwner('u')}
		b.must(guest, AddOf("mug-01", 7))
		doomed := make([]Store, 9)
		for i := range doomed {
			doomed[i] = b.Dying(b.T, (i*7+round)%8)
		}
		parallel(len(doomed)+len(users), func(i int) {
			if i < len(doomed) {
				// What becomes of this one is what the next find.
				_ = doomed[i].Merge(b.ctx(), guest, users[i%len(users)])
				return
			}
			if _, err := b.store.Get(b.ctx(), users[i-len(doomed)]); err != nil {
				b.Error(err)
			}
		})
		b.Advance(b.T, GuestCartLife-time.Hour)
		if err := b.store.Merge(b.ctx(), guest, users[round%len(users)]); err != nil {
			b.Fatal(err)
		}
		total := int64(0)
		for _, user := range users {
			total += b.get(user).Quantity("mug-01")
		}
		if total != 7 {
			b.Fatalf("round %d: of 7 mugs %d are in the users' carts", round, total)
		}
		if _, err := b.store.Get(b.ctx(), guest); !errors.Is(err, cart.ErrMoved) {
			b.Fatalf("round %d: the guest's cart: %v", round, err)
		}
	}
}
