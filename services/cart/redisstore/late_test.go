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
