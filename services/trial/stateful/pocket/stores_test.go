package pocket

import (
	"errors"
	"strings"
	"testing"
	"time"

	"coatcheck/auth"
	"coatcheck/auth/mapstore"
	"coatcheck/cart"
)

func TestSessions(t *testing.T) {
	now, ctx := time.Now(), With(t.Context())
	users := mapstore.New()
	s := Sessions{users}
	one, other := "u_"+strings.Repeat("A", 22), "u_"+strings.Repeat("B", 21)+"A"
	if err := users.Register(ctx, one, "a@example.com", "phc", now); err != nil {
		t.Fatal(err)
	}
	u, err := s.User(ctx, one)
	if err != nil {
		t.Fatal(err)
	}
	r := auth.Session{ID: "id", Created: now.UnixMilli(), Used: now.UnixMilli(), Expires: now.Add(12 * time.Hour).UnixMilli()}
	start := func(u auth.User) bool {
		started, err := s.StartSession(ctx, u, r, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return started
	}
	live := func(user, id string, at time.Time) bool {
		ends, err := s.UseSession(ctx, user, id, at, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return !ends.IsZero()
	}
	if start(auth.User{ID: other}) || start(auth.User{ID: one, Generation: "0"}) || !start(u) {
		t.Fatal("a session is started for who it must not be, or not for who it must")
	}
	for what, ok := range map[string]bool{
		"itself":       live(one, "id", now),
		"another user": !live(other, "id", now),
		"another id":   !live(one, "another", now),
		"idle":         !live(one, "id", now.Add(time.Hour)),
	} {
		if !ok {
			t.Error(what)
		}
	}
	if !live(one, "id", now.Add(59*time.Minute)) || !live(one, "id", now.Add(118*time.Minute)) {
		t.Error("a use does not count")
	}
	if err := s.EndSession(ctx, one, "another"); err != nil || !live(one, "id", now) {
		t.Error("the end of another session ended this one", err)
	}
	if changed, err := s.ChangePassword(ctx, u, "phc 2", "op"); changed != auth.Done || err != nil || live(one, "id", now) {
		t.Error("after a new password the session is carried on", changed, err)
	}
	if start(u) {
		t.Error("a session is started with the old password")
	}
	if u, _ = s.User(ctx, one); !start(u) {
		t.Error("no session is started with the new password")
	}
	if err := s.DeleteUser(ctx, one); err != nil || live(one, "id", now) {
		t.Error("a deleted user's session is carried on", err)
	}
}

func TestLimits(t *testing.T) {
	ctx := With(t.Context())
	s := &Carts{Pockets: New("secret", true), GuestCartLife: time.Hour, UserCartLife: time.Hour, Limits: cart.Limits{Quantity: 9, Lines: 2}, Now: time.Now}
	owner := cart.Owner("g_" + strings.Repeat("A", 22))
	change := func(kind cart.Kind, lines ...cart.Line) error {
		_, err := s.Change(ctx, owner, cart.Change{Operation: cart.Operation{Key: "k"}, Kind: kind, Lines: lines})
		return err
	}
	for _, step := range []struct {
		err  error
		want error
	}{
		{change(cart.Add, cart.Line{SKU: "a", Quantity: 9}, cart.Line{SKU: "b", Quantity: 1}), nil},
		{change(cart.Add, cart.Line{SKU: "a", Quantity: 1}), cart.ErrQuantityLimit},
		{change(cart.Add, cart.Line{SKU: "c", Quantity: 1}), cart.ErrLineLimit},
		{change(cart.Set, cart.Line{SKU: "c", Quantity: 1}), cart.ErrLineLimit},
		{change(cart.Set, cart.Line{SKU: "c"}), nil},
		{change(cart.Set, cart.Line{SKU: "b"}), nil},
		{change(cart.Set, cart.Line{SKU: "c", Quantity: 1}), nil},
	} {
		if !errors.Is(step.err, step.want) {
			t.Errorf("got %v, want %v", step.err, step.want)
		}
	}
	c, err := s.Get(ctx, owner)
	if err != nil || len(c.Lines) != 2 || c.Version.Number != 3 {
		t.Errorf("the cart is %+v, %v", c, err)
	}
}
