// Package promise tries, on a shop that runs already, what the shop promises its
// customers: one short script a promise, by nothing but HTTP.
//
// The hazard is a script that passes because it did not look: each compares what
// it was answered with what must be there, and says what was missing.
package promise

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Promise is one thing that the shop promises.
type Promise struct {
	Name, About string
	try         func(context.Context, *shop) error
}

// limit ends a script that hangs.
const limit = time.Minute

// atOnce is how many add to one cart at the same moment.
const atOnce = 20

// All are the promises, each of which can be tried alone.
func All() []Promise {
	return []Promise{
		{"add-read", "what was added is there, for this ticket alone", addRead},
		{"idempotent", "a request that is sent twice under one key happens once", idempotent},
		{"if-match", "a change of a stale version is refused, with the cart as it is", ifMatch},
		{"concurrent-adds", "twenty adds at once are twenty units", concurrentAdds},
		{"merge-at-log-in", "the guest's cart moves into the user's, once", mergeAtLogIn},
		{"checkout", "an order takes the version that it names, and leaves what came after", checkout},
		{"log-out", "a session that was ended is refused everywhere, within a second", logOut},
	}
}

// Try tries a promise on the shop at url (http://host:port) and returns nil if it
// is kept. transport carries the requests; nil means one of its own.
func (p Promise) Try(ctx context.Context, url string, transport http.RoundTripper) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if transport == nil {
		own := &http.Transport{MaxIdleConnsPerHost: atOnce}
		defer own.CloseIdleConnections()
		transport = own
	}
	s := &shop{url: strings.TrimSuffix(url, "/"), transport: transport}
	if err := s.catalogue(ctx); err != nil {
		return err
	}
	return p.try(ctx, s)
}

// shop is where the scripts go.
type shop struct {
	url       string
	transport http.RoundTripper
	skus      []string
}

func (s *shop) catalogue(ctx context.Context) error {
	a, err := s.browser().do(ctx, request{method: http.MethodGet, path: "/v1/products"})
	if err != nil {
		return err
	}
	var list struct {
		Products []item `json:"products"`
	}
	if err := json.Unmarshal(a.body, &list); err != nil || len(list.Products) < 2 {
		return fmt.Errorf("the catalogue has %d products, of at least 2", len(list.Products))
	}
	for _, p := range list.Products {
		s.skus = append(s.skus, p.SKU)
	}
	return nil
}

func (s *shop) browser() *browser {
	return &browser{url: s.url, transport: s.transport, cookies: map[string]string{}}
}

// guest is a browser with a ticket and an empty cart.
func (s *shop) guest(ctx context.Context) (*browser, error) {
	b := s.browser()
	a, err := b.read(ctx)
	if err == nil && (a.cart.Version != 0 || a.cart.units() != 0 || len(b.cookies) == 0) {
		err = fmt.Errorf("a new guest has version %d, %d units and %d tickets, want 0, 0 and 1", a.cart.Version, a.cart.units(), len(b.cookies))
	}
	return b, err
}

// account is a new user's address and password.
type account struct {
	Email    string `json:"email"`
	Password string `json:"password"`
}

func (s *shop) register(ctx context.Context) (account, error) {
	who := account{"promise-" + strings.ToLower(rand.Text()) + "@trial.example", rand.Text()}
	_, err := s.browser().do(ctx, request{method: http.MethodPost, path: "/v1/users", body: who, want: http.StatusCreated})
	return who, err
}

func (b *browser) logIn(ctx context.Context, who account) error {
	_, err := b.do(ctx, request{method: http.MethodPost, path: "/v1/sessions", body: who, want: http.StatusCreated})
	return err
}

// holds reads the cart and compares.
func (b *browser) holds(ctx context.Context, units int) (answer, error) {
	a, err := b.read(ctx)
	if err == nil && a.cart.units() != units {
		err = fmt.Errorf("the cart holds %d units at version %d, want %d", a.cart.units(), a.cart.Version, units)
	}
	return a, err
}

func addRead(ctx context.Context, s *shop) error {
	one, err := s.guest(ctx)
	if err != nil {
		return err
	}
	other, err := s.guest(ctx)
	if err != nil {
		return err
	}
	for i, quantity := range []int{2, 1} {
		if _, err := one.add(ctx, s.skus[i], quantity); err != nil {
			return err
		}
	}
	if _, err := one.holds(ctx, 3); err != nil {
		return err
	}
	if _, err := other.holds(ctx, 0); err != nil {
		return fmt.Errorf("another guest: %w", err)
	}
	return nil
}

func idempotent(ctx context.Context, s *shop) error {
	b, err := s.guest(ctx)
	if err != nil {
		return err
	}
	r := adding(s.skus[0], 3)
	r.key = rand.Text()
	first, err := b.do(ctx, r)
	if err != nil {
		return err
	}
	second, err := b.do(ctx, r)
	if err != nil {
		return err
	}
	if second.header.Get("Idempotency-Replayed") != "true" || second.cart.Version != first.cart.Version {
		return fmt.Errorf("the second answer is no replay: version %d after %d", second.cart.Version, first.cart.Version)
	}
	if _, err := b.holds(ctx, 3); err != nil {
		return err
	}
	r.body = adding(s.skus[0], 4).body
	r.want = http.StatusUnprocessableEntity
	_, err = b.do(ctx, r) // the same key for another request
	return err
}

func ifMatch(ctx context.Context, s *shop) error {
	b, err := s.guest(ctx)
	if err != nil {
		return err
	}
	old, err := b.add(ctx, s.skus[0], 1)
	if err != nil {
		return err
	}
	now, err := b.add(ctx, s.skus[0], 1)
	if err != nil {
		return err
	}
	set := request{method: http.MethodPut, path: "/v1/cart/items/" + s.skus[0], body: map[string]int{"quantity": 9}, ifMatch: old.header.Get("ETag")}
	set.want = http.StatusPreconditionFailed
	refused, err := b.do(ctx, set)
	if err != nil {
		return err
	}
	if refused.cart.Version != now.cart.Version || refused.cart.units() != 2 {
		return fmt.Errorf("the refusal shows version %d with %d units, want %d with 2", refused.cart.Version, refused.cart.units(), now.cart.Version)
	}
	set.ifMatch, set.want = now.header.Get("ETag"), http.StatusOK
	if _, err := b.do(ctx, set); err != nil {
		return err
	}
	_, err = b.holds(ctx, 9)
	return err
}

func concurrentAdds(ctx context.Context, s *shop) error {
	b, err := s.guest(ctx)
	if err != nil {
		return err
	}
	errs := make([]error, atOnce)
	var group sync.WaitGroup
	for i := range errs {
		same := &browser{url: s.url, transport: s.transport, cookies: map[string]string{}}
		for name, value := range b.cookies {
			same.cookies[name] = value
		}
		group.Go(func() { _, errs[i] = same.add(ctx, s.skus[0], 1) })
	}
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	a, err := b.holds(ctx, atOnce)
	if err == nil && a.cart.Version != atOnce {
		err = fmt.Errorf("%d adds led to version %d", atOnce, a.cart.Version)
	}
	return err
}

func mergeAtLogIn(ctx context.Context, s *shop) error {
	who, err := s.register(ctx)
	if err != nil {
		return err
	}
	phone, err := s.guest(ctx)
	if err != nil {
		return err
	}
	if err := phone.logIn(ctx, who); err != nil {
		return err
	}
	if _, err := phone.add(ctx, s.skus[0], 5); err != nil {
		return err
	}
	here, err := s.guest(ctx)
	if err != nil {
		return err
	}
	if _, err := here.add(ctx, s.skus[0], 2); err != nil {
		return err
	}
	if err := here.logIn(ctx, who); err != nil {
		return err
	}
	if _, err := here.holds(ctx, 7); err != nil {
		return err
	}
	_, err = phone.holds(ctx, 7)
	return err
}

func checkout(ctx context.Context, s *shop) error {
	who, err := s.register(ctx)
	if err != nil {
		return err
	}
	b, err := s.guest(ctx)
	if err != nil {
		return err
	}
	pay := request{method: http.MethodPost, path: "/v1/cart/checkout", want: http.StatusUnauthorized}
	if _, err := b.do(ctx, pay); err != nil {
		return fmt.Errorf("as a guest: %w", err)
	}
	if err := b.logIn(ctx, who); err != nil {
		return err
	}
	old, err := b.add(ctx, s.skus[0], 2)
	if err != nil {
		return err
	}
	now, err := b.add(ctx, s.skus[1], 1)
	if err != nil {
		return err
	}
	pay.ifMatch, pay.want = old.header.Get("ETag"), http.StatusPreconditionFailed
	if _, err := b.do(ctx, pay); err != nil {
		return err
	}
	pay.ifMatch, pay.want = now.header.Get("ETag"), http.StatusCreated
	order, err := b.do(ctx, pay)
	if err != nil {
		return err
	}
	if order.cart.units() != 3 || order.cart.ID == "" {
		return fmt.Errorf("the order %q has %d units, want 3", order.cart.ID, order.cart.units())
	}
	if _, err := b.holds(ctx, 0); err != nil {
		return err
	}
	listed, err := b.do(ctx, request{method: http.MethodGet, path: "/v1/orders/" + order.cart.ID})
	if err == nil && listed.cart.units() != 3 {
		err = fmt.Errorf("the order is listed with %d units, want 3", listed.cart.units())
	}
	return err
}

func logOut(ctx context.Context, s *shop) error {
	who, err := s.register(ctx)
	if err != nil {
		return err
	}
	b := s.browser()
	if err := b.logIn(ctx, who); err != nil {
		return err
	}
	thief := s.browser()
	for name, value := range b.cookies {
		thief.cookies[name] = value
	}
	orders := request{method: http.MethodGet, path: "/v1/orders"}
	if _, err := thief.do(ctx, orders); err != nil {
		return err
	}
	if _, err := b.do(ctx, request{method: http.MethodDelete, path: "/v1/sessions/current", want: http.StatusNoContent}); err != nil {
		return err
	}
	for name, value := range b.cookies {
		return fmt.Errorf("the cookie %s is not cleared (%d characters)", name, len(value))
	}
	// Each replica of the gateway must know of it, half a second later at the latest.
	orders.want = http.StatusUnauthorized
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Second):
	}
	for range atOnce {
		again := s.browser()
		for name, value := range thief.cookies {
			again.cookies[name] = value
		}
		if _, err := again.do(ctx, orders); err != nil {
			return fmt.Errorf("a copy of the ended session: %w", err)
		}
	}
	return nil
}
