package redisstore_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"coatcheck/cart"
	"coatcheck/cart/storetest"
	"coatcheck/chassis/redistest"
)

// halfMerged has a guest's cart of two mugs merged into a user's cart of one hat
// by a client that dies after n of the five steps.
func halfMerged(t *testing.T, b storetest.Backend, store storetest.Store, n int) (guest, user cart.Owner) {
	t.Helper()
	warmGuest := storetest.NewOwner('g')
	change(t, store, warmGuest, storetest.AddOf("x", 1))
	if err := store.Merge(t.Context(), warmGuest, storetest.NewOwner('u')); err != nil {
		t.Fatal(err) // it loads the scripts, so that a step is one command
	}
	guest, user = storetest.NewOwner('g'), storetest.NewOwner('u')
	change(t, store, guest, storetest.AddOf("mug", 2))
	change(t, store, user, storetest.AddOf("hat", 1))
	if err := b.Dying(t, n).Merge(t.Context(), guest, user); err == nil {
		t.Fatalf("a merge is done after %d commands", n)
	}
	return guest, user
}

func change(t *testing.T, store storetest.Store, o cart.Owner, c cart.Change) {
	t.Helper()
	if _, err := store.Change(t.Context(), o, c); err != nil {
		t.Fatal(err)
	}
}

// lines is an add of as many lines.
func lines(n int) cart.Change {
	many := cart.Change{Operation: storetest.NewOperation(), Kind: cart.Add}
	for i := range n {
		many.Lines = append(many.Lines, cart.Line{SKU: fmt.Sprintf("sku-%03d", i), Quantity: 1})
	}
	return many
}

func wantLines(t *testing.T, store storetest.Store, o cart.Owner, want string) {
	t.Helper()
	c, err := store.Get(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(c.Lines); got != want {
		t.Fatalf("cart holds %s, want %s", got, want)
	}
}

func TestHalfMerged(t *testing.T) {
	server := redistest.Start(t, user()...)
	newBackend := backend(server)
	far := 2 * storetest.UserCartLife

	t.Run("a change does not make a held cart expire", func(t *testing.T) {
		b := newBackend(t)
		store := b.Open(t)
		guest, user := halfMerged(t, b, store, 1)
		change(t, store, guest, storetest.AddOf("mug", 1))
		b.Advance(t, far)
		if err := store.Merge(t.Context(), guest, user); err != nil {
			t.Fatal(err)
		}
		wantLines(t, store, user, "[{mug 3}]")
	})
	t.Run("a change does not make a cart with an intent expire", func(t *testing.T) {
		b := newBackend(t)
		store := b.Open(t)
		_, user := halfMerged(t, b, store, 2)
		// This client changes the cart and dies before it completes the merge.
		if _, err := b.Dying(t, 1).Change(t.Context(), user, storetest.AddOf("cap", 1)); err == nil {
			t.Fatal("a client completes a merge with one command")
		}
		b.Advance(t, far)
		wantLines(t, store, user, "[{cap 1} {hat 1} {mug 2}]")
	})
	t.Run("an intent is no line", func(t *testing.T) {
		b := newBackend(t)
		store := b.Open(t)
		_, user := halfMerged(t, b, store, 2)
		change(t, store, user, lines(storetest.MaxLines-1))
	})
	t.Run("a hold is no line", func(t *testing.T) {
		b := newBackend(t)
		store := b.Open(t)
		guest, _ := halfMerged(t, b, store, 1)
		change(t, store, guest, lines(storetest.MaxLines-1))
		if _, err := store.Change(t.Context(), guest, storetest.AddOf("hat", 1)); !errors.Is(err, cart.ErrLineLimit) {
			t.Errorf("one more than the limit: %v", err)
		}
	})
	t.Run("a checkout does not make a cart with an intent expire", func(t *testing.T) {
		b := newBackend(t)
		store := b.Open(t)
		guest, user := halfMerged(t, b, store, 2)
		c, err := store.Get(t.Context(), user) // completes that merge
		if err != nil {
			t.Fatal(err)
		}
		again := storetest.NewOwner('g')
		change(t, store, again, storetest.AddOf("scarf", 1))
		order := func(cart.Cart) (cart.Order, error) {
			if err := b.Dying(t, 2).Merge(t.Context(), again, user); err == nil {
				t.Error("a merge is done after 2 commands")
			}
			return cart.Order{ID: cart.NewOrderID(b.Now()), Created: b.Now()}, nil
		}
		if _, _, err := store.Checkout(t.Context(), user, storetest.At(c.Version), order); err != nil {
			t.Fatal(err)
		}
		b.Advance(t, far)
		wantLines(t, store, user, "[{scarf 1}]")
		_ = guest
	})
	t.Run("an intent is for one cart, not for a later one of the same guest", func(t *testing.T) {
		b := newBackend(t)
		store := b.Open(t)
		guest, user := halfMerged(t, b, store, 2)
		other := storetest.NewOwner('u')
		if err := store.Merge(t.Context(), guest, other); err != nil {
			t.Fatal(err)
		}
		wantLines(t, store, other, "[{mug 2}]")
		b.Advance(t, storetest.GuestCartLife+time.Hour)
		change(t, store, guest, storetest.AddOf("scarf", 9))
		wantLines(t, store, user, "[{hat 1}]")
		wantLines(t, store, guest, "[{scarf 9}]")
	})
	t.Run("that a cart has moved is not remembered of an operation", func(t *testing.T) {
		b := newBackend(t)
		store := b.Open(t)
		guest := storetest.NewOwner('g')
		if err := store.Merge(t.Context(), guest, storetest.NewOwner('u')); err != nil {
			t.Fatal(err)
		}
		c := storetest.AddOf("mug", 1)
		if _, err := store.Change(t.Context(), guest, c); !errors.Is(err, cart.ErrMoved) {
			t.Fatal(err)
		}
		if keys := server.Client(t).Keys(t.Context(), "*:op:*").Val(); len(keys) > 0 {
			t.Errorf("there are the records %q", keys)
		}
	})
	t.Run("whoever touches a sealed cart buries it", func(t *testing.T) {
		b := newBackend(t)
		store := b.Open(t)
		for _, n := range []int{3, 4} {
			guest, user := halfMerged(t, b, store, n)
			if _, err := store.Get(t.Context(), guest); !errors.Is(err, cart.ErrMoved) {
				t.Fatal(err)
			}
			for _, key := range []string{"cart:{" + string(guest) + "}", "cart:{" + string(user) + "}"} {
				if left := server.Client(t).TTL(t.Context(), key).Val(); left <= 0 {
					t.Errorf("after %d steps: %s lives for ever", n, key)
				}
			}
			wantLines(t, store, user, "[{hat 1} {mug 2}]")
		}
	})
}

func TestEveryKeyExpires(t *testing.T) {
	server := redistest.Start(t, user()...)
	b := backend(server)(t)
	store := b.Open(t)
	rdb := server.Client(t)
	guest, user := storetest.NewOwner('g'), storetest.NewOwner('u')
	change(t, store, guest, storetest.AddOf("mug", 2))
	change(t, store, user, storetest.SetOf("hat", 2))
	if err := store.Merge(t.Context(), guest, user); err != nil {
		t.Fatal(err)
	}
	// The third checkout comes when the first order is older than orders are kept.
	for i, wait := range []time.Duration{250 * 24 * time.Hour, 200 * 24 * time.Hour, 0} {
		change(t, store, user, storetest.AddOf("mug", 2))
		c, err := store.Get(t.Context(), user)
		if err != nil {
			t.Fatal(err)
		}
		order := func(cart.Cart) (cart.Order, error) {
			return cart.Order{ID: cart.NewOrderID(b.Now()), Created: b.Now()}, nil
		}
		if _, _, err := store.Checkout(t.Context(), user, storetest.At(c.Version), order); err != nil {
			t.Fatal(err)
		}
		keys := rdb.Keys(t.Context(), "*").Val()
		if len(keys) < 4 {
			t.Errorf("only the keys %q", keys)
		}
		for _, key := range keys {
			if left := rdb.TTL(t.Context(), key).Val(); left <= 0 {
				t.Errorf("%s lives for ever", key)
			}
		}
		if n := rdb.ZCard(t.Context(), "orders:{"+string(user)+"}").Val(); n != min(int64(i)+1, 2) {
			t.Errorf("after %d checkouts the index holds %d orders", i+1, n)
		}
		b.Advance(t, wait)
	}
}
