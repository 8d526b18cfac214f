package redisstore

import (
	"testing"
	"time"

	"coatcheck/cart"
	"coatcheck/chassis/redistest"
)

// TestLateBurial repeats the last step of a merge after the tombstone has gone
// and the guest has started anew, as a process that was stopped may.
func TestLateBurial(t *testing.T) {
	server := redistest.Start(t)
	s := New(server.Client(t), Settings{GuestCartLife: time.Hour, UserCartLife: time.Hour, OrderLife: time.Hour,
		Window: time.Minute, Limits: cart.Limits{Quantity: 10, Lines: 10}, Now: time.Now})
	guest, user := cart.Owner("g_aaaaaaaaaaaaaaaaaaaaaa"), cart.Owner("u_aaaaaaaaaaaaaaaaaaaaaa")
	add := func() {
		t.Helper()
		c := cart.Change{Operation: cart.Operation{Key: t.Name()}, Kind: cart.Add, Lines: []cart.Line{{SKU: "mug", Quantity: 1}}}
		if _, err := s.Change(t.Context(), guest, c); err != nil {
			t.Fatal(err)
		}
	}
	add()
	if err := s.Merge(t.Context(), guest, user); err != nil {
		t.Fatal(err)
	}
	server.Age(t, 2*time.Hour)
	add()
	if err := s.do(t.Context(), buryScript, guest, "s"+"merge-id-123"+string(user), s.GuestCartLife.Milliseconds()); err != nil {
		t.Fatal(err)
	}
	if c, err := s.Get(t.Context(), guest); err != nil || c.Quantity("mug") != 1 {
		t.Errorf("after a late burial: %+v, %v", c, err)
	}
}

// TestAnswerWithoutMergeIDs: a merge id is any bytes, those that part the
// script's answer among them, and no cart is read wrongly for it.
func TestAnswerWithoutMergeIDs(t *testing.T) {
	server := redistest.Start(t)
	rdb := server.Client(t)
	s := New(rdb, Settings{GuestCartLife: time.Hour, UserCartLife: time.Hour, OrderLife: time.Hour,
		Window: time.Minute, Limits: cart.Limits{Quantity: 10, Lines: 10}, Now: time.Now})
	guest, user := cart.Owner("g_aaaaaaaaaaaaaaaaaaaaaa"), cart.Owner("u_aaaaaaaaaaaaaaaaaaaaaa")
	const id = " o 1 @g e  1"
	for owner, fields := range map[cart.Owner][]any{
		user:  {"hat", 2, "@m" + id, string(guest) + "AAAAAAAA", "@v", 7, "@p", 1, "@i", "BBBBBBBB", "mug", 1},
		guest: {"@g", "h" + id + string(user), "hat", 2, "@v", 7, "@i", "BBBBBBBB", "mug", 1},
	} {
		if err := rdb.HSet(t.Context(), cartKey(owner), fields...).Err(); err != nil {
			t.Fatal(err)
		}
		a, err := s.change(t.Context(), owner, cart.Change{Operation: cart.Operation{Key: "k"}, Kind: cart.Add, Lines: []cart.Line{{SKU: "mug", Quantity: 3}}})
		if err != nil {
			t.Fatal(err)
		}
		c, err := a.hash.cart()
		want := cart.Version{Incarnation: "BBBBBBBB", Number: 8}
		if err != nil || a.outcome != "o" || !a.hash.merging() || c.Version != want || a.ledTo != 8 || len(c.Lines) != 2 || c.Quantity("hat") != 2 || c.Quantity("mug") != 4 || !c.Expires.IsZero() {
			t.Errorf("%s: %+v of %+v, %v", owner, c, a, err)
		}
	}
}
