package gateway

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"coatcheck/chassis/fault"
	"coatcheck/chassis/rpc"
	authv1 "coatcheck/proto/coatcheck/auth/v1"
	cartv1 "coatcheck/proto/coatcheck/cart/v1"
)

// tries remembers which replica got a call with which idempotency key.
type tries struct {
	mu   sync.Mutex
	seen []string
}

func (t *tries) add(replica int, req any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seen = append(t.seen, fmt.Sprint(replica, " ", req.(interface{ GetIdempotencyKey() string }).GetIdempotencyKey()))
}

// oneKey fails the test unless all tries carried the one key.
func (t *tries) oneKey(tb testing.TB) {
	tb.Helper()
	keys := map[string]bool{}
	for _, s := range t.seen {
		_, key, _ := strings.Cut(s, " ")
		keys[key] = true
	}
	if len(keys) != 1 || keys[""] {
		tb.Errorf("tries %q do not share a key", t.seen)
	}
}

// warm makes a guest and lets every replica's connection come up.
func (s *shop) warm(t *testing.T) *client {
	t.Helper()
	err := s.Ready(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c := s.client(t)
	answered := map[string]bool{}
	for len(answered) < len(s.fakeCarts) {
		answered[c.want(200, "", "GET", "/v1/cart", "").Get("Served-By-Cart")] = true
		if t.Context().Err() != nil {
			t.Fatal("not every replica answers")
		}
	}
	return c
}

func TestReplicaThatDiesMidCall(t *testing.T) {
	eachWay(t, func(t *testing.T, settings Settings) {
		s := newShopWith(t, settings, 2)
		c := s.warm(t)
		var seen tries
		var once sync.Once
		for i := range s.fakeCarts {
			s.fakeCarts[i].before = func(ctx ctx, call string, req any) error {
				seen.add(i, req)
				died := false
				once.Do(func() {
					died = true
					go s.cartRPC[i].Close()
					<-ctx.Done()
				})
				if died {
					return unavailable
				}
				return nil
			}
		}
		got := c.want(200, "", "POST", "/v1/cart/items", addMugs)
		if len(seen.seen) != 2 || seen.seen[0][0] == seen.seen[1][0] || got.json(t)["version"] != 1.0 {
			t.Errorf("tries %q, answer %s", seen.seen, got.body)
		}
		seen.oneKey(t)
		if got := testutil.ToFloat64(s.metrics.retries.WithLabelValues("cart")); got != 1 {
			t.Errorf("%v retries counted", got)
		}
	})
}

// The outcome of the first try is unknown to the gateway; here it was applied.
func TestAnswerThatIsLost(t *testing.T) {
	eachWay(t, func(t *testing.T, settings Settings) {
		s := newShopWith(t, settings, 2)
		c := s.warm(t)
		var once sync.Once
		for _, f := range s.fakeCarts {
			f.before = func(ctx ctx, call string, req any) (err error) {
				once.Do(func() {
					r := req.(*cartv1.AddItemsRequest)
					quiet := &fakeCart{cartStore: f.cartStore}
					_, _ = quiet.AddItems(ctx, r)
					err = unavailable
				})
				return err
			}
		}
		got := c.want(200, "", "POST", "/v1/cart/items", addMugs)
		if got.json(t)["version"] != 1.0 || got.Get("Idempotency-Replayed") != "true" {
			t.Errorf("applied twice: %s", got.body)
		}
	})
}

func TestReplicaThatStalls(t *testing.T) {
	eachWay(t, func(t *testing.T, settings Settings) {
		settings.TryTimeout = 100 * time.Millisecond
		s := newShopWith(t, settings, 2)
		c := s.warm(t)
		var seen tries
		for i := range s.fakeCarts {
			s.fakeCarts[i].before = func(ctx ctx, call string, req any) error {
				seen.add(i, req)
				if i == 0 {
					<-ctx.Done()
					return ctx.Err()
				}
				return nil
			}
		}
		for len(seen.seen) < 10 && !slices.ContainsFunc(seen.seen, func(s string) bool { return s[0] == '0' }) {
			seen.seen = nil
			started := time.Now()
			got := c.want(200, "", "DELETE", "/v1/cart", "")
			if got.Get("Served-By-Cart") != "cart-2" {
				t.Errorf("served by %s", got.Get("Served-By-Cart"))
			}
			if took := time.Since(started); took > 500*time.Millisecond {
				t.Errorf("took %v", took)
			}
		}
		if len(seen.seen) != 2 || seen.seen[1][0] != '1' {
			t.Errorf("tries %q", seen.seen)
		}
		seen.oneKey(t)
	})
}

// A try that did not answer may have registered the user: that another one was
// refused is not what the client must know.
func TestOverloadedAfterDoubt(t *testing.T) {
	s := newShop(t)
	tries := 0
	s.fakeAuths[0].before = func(_ ctx, call string, _ any) error {
		if call != "Register" {
			return nil
		}
		if tries++; tries == 1 {
			return unavailable
		}
		return fault.New(fault.Unavailable, "overloaded", "Too many log-ins at this moment. Try again.")
	}
	const credentials = `{"email":"a@example.org","password":"correct horse"}`
	s.client(t).want(503, "store_unavailable", "POST", "/v1/users", credentials)
	if tries != 3 {
		t.Errorf("%d tries", tries)
	}
	s.fakeAuths[0].before = failing("Register", fault.New(fault.Unavailable, "overloaded", "Too many log-ins at this moment. Try again."))
	s.client(t).want(503, "overloaded", "POST", "/v1/users", credentials)
}

// One budget for all that auth is asked: log-ins alone are too few to earn one,
// and several replicas may die within its ten seconds.
func TestLogInsShareTheBudget(t *testing.T) {
	s := newShop(t)
	if s.passwords.budget != s.authBackend.budget {
		t.Error("log-ins have a budget of their own")
	}
}

// A password takes its time where the shop is busy; asking for it once more
// would be the same work again. Only of an auth that does not even say that it has
// begun, another is asked.
func TestSlowPasswordIsAskedOnce(t *testing.T) {
	settings := testSettings()
	settings.TryTimeout = 100 * time.Millisecond
	s := newShopWith(t, settings, 1)
	const credentials = `{"email":"a@example.org","password":"correct horse"}`
	c := s.client(t)
	c.want(201, "", "POST", "/v1/users", credentials)
	var announces bool
	asked := 0
	s.fakeAuths[0].before = func(ctx ctx, call string, _ any) error {
		if call != "LogIn" {
			return nil
		}
		if asked++; asked > 1 {
			return nil
		}
		if announces {
			rpc.Announce(ctx)
		}
		select {
		case <-ctx.Done():
		case <-time.After(4 * settings.TryTimeout):
		}
		return ctx.Err()
	}
	for announced, want := range map[bool]int{true: 1, false: 2} {
		announces, asked = announced, 0
		began := time.Now()
		c.want(201, "", "POST", "/v1/sessions", credentials)
		took := time.Since(began)
		if asked != want || announced != (took >= 4*settings.TryTimeout) {
			t.Errorf("announced %v: asked %d times in %v", announced, asked, took)
		}
	}
}

func TestThreeTriesAtMost(t *testing.T) {
	eachWay(t, func(t *testing.T, settings Settings) {
		s := newShopWith(t, settings, 1)
		c := s.warm(t)
		var seen tries
		s.fakeCarts[0].before = func(_ ctx, _ string, req any) error {
			seen.add(0, req)
			return unavailable
		}
		started := time.Now()
		got := c.want(503, "store_unavailable", "POST", "/v1/cart/items", addMugs, "Idempotency-Key: mine")
		if len(seen.seen) != 3 || seen.seen[0] != "0 mine" || got.Get("Retry-After") != "1" || got.Get("Served-By-Cart") != "cart-1" {
			t.Errorf("tries %q, headers %v", seen.seen, got.Header)
		}
		seen.oneKey(t)
		if took := time.Since(started); took < 2*minPause || took > 2*maxPause+200*time.Millisecond {
			t.Errorf("took %v, pauses included", took)
		}
	})
}

func TestOnlyWhatMayWorkIsTriedAgain(t *testing.T) {
	eachWay(t, func(t *testing.T, settings Settings) {
		s := newShopWith(t, settings, 1)
		c := s.warm(t)
		for kind := range fault.Unimplemented + 1 {
			if kind == fault.Absent || kind == fault.Stale {
				continue // no answer to this call, or one with a cart
			}
			before := s.cartStore.count("AddItems")
			s.fakeCarts[0].before = failing("AddItems", fault.New(kind, "some_code", "x"))
			c.do("POST", "/v1/cart/items", addMugs)
			want := 1
			if kind == fault.Unavailable {
				want = 3
			}
			if got := s.cartStore.count("AddItems") - before; got != want {
				t.Errorf("kind %d: %d tries, want %d", kind, got, want)
			}
		}
	})
}

func TestDeadlineOfTheRequestIsKept(t *testing.T) {
	eachWay(t, func(t *testing.T, settings Settings) {
		settings.RequestTimeout, settings.TryTimeout = 250*time.Millisecond, 200*time.Millisecond
		s := newShopWith(t, settings, 2)
		c := s.warm(t)
		for _, f := range s.fakeCarts {
			f.before = func(ctx ctx, _ string, _ any) error { <-ctx.Done(); return ctx.Err() }
		}
		started := time.Now()
		c.want(503, "", "DELETE", "/v1/cart", "")
		if took := time.Since(started); took < 240*time.Millisecond || took > 400*time.Millisecond {
			t.Errorf("took %v, want 250ms", took)
		}
	})
}

func TestRegisterAndPasswordAreDrawnOnce(t *testing.T) {
	s := newShop(t)
	c := s.client(t)
	n := 0
	s.fakeAuths[0].before = func(ctx, string, any) error {
		if n++; n == 1 {
			return unavailable
		}
		return nil
	}
	id := c.want(201, "", "POST", "/v1/users", `{"email":"a@example.org","password":"correct horse"}`).json(t)["id"]
	if ids := s.authStore.userIDs; len(ids) != 2 || ids[0] != ids[1] || ids[0] != id {
		t.Errorf("asked for users %q, answered %v", ids, id)
	}
	s.fakeAuths[0].before = nil
	c.logIn("a@example.org")
	var operations []string
	s.fakeAuths[0].before = func(_ ctx, _ string, req any) error {
		if r, ok := req.(*authv1.ChangePasswordRequest); ok {
			operations = append(operations, r.GetOperationId())
			if len(operations) == 1 {
				return unavailable
			}
		}
		return nil
	}
	c.want(204, "", "PUT", "/v1/users/me/password", `{"current_password":"correct horse","new_password":"battery staple"}`)
	if len(operations) != 2 || operations[0] != operations[1] || operations[0] == "" {
		t.Errorf("operations %q", operations)
	}
}

func TestNoReplicaAtAll(t *testing.T) {
	eachWay(t, func(t *testing.T, settings Settings) {
		s := newShopWith(t, settings, 1)
		c := s.warm(t)
		s.cartRPC[0].Close()
		started := time.Now()
		c.want(503, "", "GET", "/v1/products", "")
		if took := time.Since(started); took > 2500*time.Millisecond {
			t.Errorf("took %v", took)
		}
	})
}

func TestBudget(t *testing.T) {
	now := time.Unix(1000, 0)
	b := &budget{now: func() time.Time { return now }}
	spend := func() (n int) {
		for b.spend() {
			n++
		}
		return n
	}
	if got := spend(); got != 10 {
		t.Errorf("%d retries without any calls, want the floor of 10", got)
	}
	now = now.Add(9 * time.Second)
	if got := spend(); got != 0 {
		t.Errorf("%d retries within the same ten seconds", got)
	}
	now = now.Add(time.Second)
	for range 200 {
		b.begin()
		b.end()
		b.fail()
	}
	if got := spend(); got != 40 {
		t.Errorf("%d retries for 200 calls, want 40", got)
	}
	now = now.Add(5 * time.Second)
	for range 100 {
		b.begin()
		b.end()
	}
	if got := spend(); got != 20 {
		t.Errorf("%d more retries for 100 calls more, want 20", got)
	}
	now = now.Add(20 * time.Second)
	for range 50 {
		b.begin()
		b.fail()
	}
	for range 49 {
		b.end()
	}
	if got := spend(); got != 50 {
		t.Errorf("%d retries for 50 that were in flight at once, want 50", got)
	}
	now = now.Add(10 * time.Second)
	if got := spend(); got != 10 {
		t.Errorf("%d retries with 1 in flight, want the floor of 10", got)
	}
}

// TestBudgetRecovers: what an outage spent is there again as soon as the service
// was well for a second, and not before.
func TestBudgetRecovers(t *testing.T) {
	for name, test := range map[string]struct{ calls, failed, want int }{
		"well":                      {calls: 100, failed: 10, want: 40},
		"ill":                       {calls: 100, failed: 11, want: 20},
		"too few calls to tell":     {calls: 19, want: 3},
		"as few as it takes":        {calls: 20, want: 24},
		"nobody asked for a second": {want: 0},
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Unix(1000, 0)
			b := &budget{now: func() time.Time { return now }}
			for range 100 {
				b.begin()
				b.end()
				b.fail()
			}
			for b.spend() {
			}
			now = now.Add(time.Second)
			for range test.calls {
				b.begin()
				b.end()
			}
			for range test.failed {
				b.fail()
			}
			now = now.Add(time.Second)
			got := 0
			for b.spend() {
				got++
			}
			if got != test.want {
				t.Errorf("%d retries, want %d", got, test.want)
			}
		})
	}
}

func TestSpentBudget(t *testing.T) {
	eachWay(t, func(t *testing.T, settings Settings) {
		s := newShopWith(t, settings, 1)
		c := s.warm(t)
		s.fakeCarts[0].before = failing("ListProducts", unavailable)
		for range 20 {
			c.want(503, "store_unavailable", "GET", "/v1/products", "")
		}
		// 10 retries serve 5 calls; the other 15 have one try each.
		if got := s.cartStore.count("ListProducts"); got != 30 {
			t.Errorf("%d tries for 20 calls, want 30", got)
		}
		if retries, refused := testutil.ToFloat64(s.metrics.retries.WithLabelValues("cart")), testutil.ToFloat64(s.metrics.refused.WithLabelValues("cart")); retries != 10 || refused != 15 {
			t.Errorf("%v retries and %v refused, want 10 and 15", retries, refused)
		}
		if got := testutil.ToFloat64(s.metrics.retries.WithLabelValues("auth")); got != 0 {
			t.Errorf("auth paid for the cart: %v", got)
		}
		failed := 0
		for _, second := range s.cartBackend.budget.seconds {
			failed += second.failed
		}
		if failed != 30 {
			t.Errorf("%d tries were seen to fail, want 30", failed)
		}
	})
}

// Another call in between takes the turn of the replica that is next; still no
// replica is asked twice while there is one that was not.
func TestEachTryGoesToAnotherReplica(t *testing.T) {
	eachWay(t, func(t *testing.T, settings Settings) {
		s := newShopWith(t, settings, 2)
		c := s.warm(t)
		var seen tries
		for i := range s.fakeCarts {
			s.fakeCarts[i].before = func(_ ctx, call string, req any) error {
				if call != "AddItems" {
					return nil
				}
				seen.add(i, req)
				if len(seen.seen) > 1 {
					return nil
				}
				s.client(t).want(200, "", "GET", "/v1/products", "")
				return unavailable
			}
		}
		c.want(200, "", "POST", "/v1/cart/items", addMugs)
		if len(seen.seen) != 2 || seen.seen[0][0] == seen.seen[1][0] {
			t.Errorf("tries %q", seen.seen)
		}
	})
}
