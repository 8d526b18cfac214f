package gateway

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"coatcheck/chassis/measuretest"
)

func testLimits(address, ticket int) (*limits, *prometheus.Registry) {
	reg := prometheus.NewRegistry()
	return newLimits(Settings{AddressRate: address, TicketRate: ticket}, reg), reg
}

// refusals are the requests that a limit refused.
func refusals(t *testing.T, reg prometheus.Gatherer, limit string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "coatcheck_gateway_rate_limited_total" && m.GetLabel()[0].GetValue() == limit {
				return m.GetCounter().GetValue()
			}
		}
	}
	t.Fatalf("no counter of %s", limit)
	return 0
}

func TestBuckets(t *testing.T) {
	l, _ := testLimits(10, 0)
	now := time.Now()
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	take := func(what string, key netip.Addr, left int, want bool) {
		t.Helper()
		if got, ok := l.addresses.take(key, now); ok != want || got != left {
			t.Errorf("%s: %d left, %v, want %d, %v", what, got, ok, left, want)
		}
	}
	for i := range 10 {
		take("within the rate", a, 9-i, true)
	}
	take("beyond it", a, 0, false)
	take("another", b, 9, true)
	now = now.Add(100 * time.Millisecond)
	take("a tenth of a second later", a, 0, true)
	take("at that moment", a, 0, false)
	now = now.Add(time.Hour)
	take("much later", a, 9, true)
	if l.owners != nil || l.policy != `"address";q=10;w=1` {
		t.Errorf("a limit of 0 is one: %q", l.policy)
	}
}

// However many come, the table does not grow, and the last to come are in it.
func TestBucketsAreBounded(t *testing.T) {
	l, _ := testLimits(0, 1)
	now := time.Now()
	for i := range maxBuckets + 1000 {
		l.owners.take(fmt.Sprint(i), now)
	}
	if n := l.owners.known.Len(); n != maxBuckets {
		t.Errorf("%d are counted", n)
	}
	if _, ok := l.owners.take(fmt.Sprint(maxBuckets), now); ok {
		t.Error("one of the last begins anew")
	}
	if _, ok := l.owners.take("0", now); !ok {
		t.Error("the first is counted yet")
	}
}

// limited is a shop with limits.
func limited(t *testing.T, address, ticket int, proxies ...string) *shop {
	settings := testSettings()
	settings.AddressRate, settings.TicketRate = address, ticket
	for _, p := range proxies {
		settings.TrustedProxies = append(settings.TrustedProxies, netip.MustParsePrefix(p))
	}
	return newShopWith(t, settings, 1)
}

// from is a client that calls from an address.
func (s *shop) from(t testing.TB, addr string) *client {
	c := s.client(t)
	send := c.send
	c.send = func(r *http.Request) (*http.Response, error) {
		r.RemoteAddr = addr + ":5000"
		return send(r)
	}
	return c
}

// until sends requests until one is refused, and returns that answer and how many
// were taken. It is fast enough for a few to come back meanwhile, not many.
func until(t *testing.T, most int, do func() response) (response, int) {
	t.Helper()
	for n := range most {
		if resp := do(); resp.status == http.StatusTooManyRequests {
			return resp, n
		}
	}
	t.Fatalf("%d requests were taken", most)
	return response{}, 0
}

func TestAddressRate(t *testing.T) {
	s := limited(t, 5, 0)
	c := s.from(t, "192.0.2.1")
	first := c.want(200, "", "GET", "/v1/products", "")
	if first.Get("RateLimit-Policy") != `"address";q=5;w=1` || first.Get("RateLimit") != `"address";r=4;t=1` {
		t.Errorf("headers %v", first.Header)
	}
	refused, n := until(t, 1000, func() response { return s.from(t, "192.0.2.1").do("GET", "/v1/products", "") })
	if n < 4 || refused.code(t) != "rate_limited" || refused.Get("Retry-After") != "1" || refused.Get("RateLimit") != `"address";r=0;t=1` || refused.Get("RateLimit-Policy") == "" {
		t.Errorf("after %d: %v %s", n, refused.Header, refused.body)
	}
	taken := 0
	for range 20 {
		if c.do("POST", "/v1/users", `{"email":"a@example.org","password":"correct horse"}`).status != http.StatusTooManyRequests {
			taken++
		}
	}
	if asked := s.authStore.count("Register"); asked != taken || taken == 20 {
		t.Errorf("%d registrations were taken, and auth was asked %d times", taken, asked)
	}
	s.from(t, "192.0.2.2").want(200, "", "GET", "/v1/products", "")
	// Who asks whether the replica lives is not counted.
	for range 50 {
		c.want(200, "", "GET", "/livez", "")
	}
	if n := refusals(t, s.reg, "address"); n != float64(1+20-taken) {
		t.Errorf("%v refusals are counted, want %d", n, 1+20-taken)
	}
}

func TestTicketRate(t *testing.T) {
	s := limited(t, 1000, 5)
	c := s.from(t, "192.0.2.1")
	c.want(200, "", "GET", "/v1/cart", "")
	second := c.want(200, "", "GET", "/v1/cart", "")
	if second.Get("RateLimit-Policy") != `"address";q=1000;w=1, "ticket";q=5;w=1` || !strings.HasSuffix(second.Get("RateLimit"), `, "ticket";r=4;t=1`) {
		t.Errorf("headers %v", second.Header)
	}
	// From wherever: it is the ticket that counts.
	i := 0
	refused, n := until(t, 1000, func() response {
		i++
		other := s.from(t, fmt.Sprintf("192.0.2.%d", i%200))
		other.cookies = c.cookies
		return other.do("GET", "/v1/cart", "")
	})
	if n < 4 || refused.code(t) != "rate_limited" || refused.Get("Retry-After") != "1" {
		t.Errorf("after %d: %v %s", n, refused.Header, refused.body)
	}
	s.from(t, "192.0.2.1").want(200, "", "GET", "/v1/cart", "")
	// A user is one, by whatever ticket.
	phone, desk := s.user(t, "a@example.org"), s.client(t)
	desk.logIn("a@example.org")
	_, n = until(t, 1000, func() response {
		phone.do("GET", "/v1/orders", "")
		return desk.do("GET", "/v1/cart", "")
	})
	if n > 10 {
		t.Errorf("two sessions of one user had %d requests each", n)
	}
	if refusals(t, s.reg, "ticket") < 2 || refusals(t, s.reg, "address") != 0 {
		t.Error("refusals are not counted, or as others")
	}
	// Tickets that are none count for nobody.
	before := s.limits.owners.known.Len()
	for i := range 20 {
		bad := s.from(t, "192.0.2.1")
		bad.cookies["session"] = fakeToken(fmt.Sprintf("%s%02d", strings.Repeat("x", 41), i))
		bad.want(401, "invalid_session", "GET", "/v1/cart", "")
	}
	if after := s.limits.owners.known.Len(); after != before {
		t.Errorf("%d owners are counted, and %d before tickets of nobody", after, before)
	}
}

// Behind a proxy clients are told apart by what the proxy writes alone.
func TestAddressRateBehindAProxy(t *testing.T) {
	s := limited(t, 5, 0, "10.0.0.0/8")
	i := 0
	_, n := until(t, 1000, func() response {
		i++
		return s.from(t, "10.1.1.1").do("GET", "/v1/products", "", fmt.Sprintf("X-Forwarded-For: 198.51.100.%d, 192.0.2.1", i%250))
	})
	if n < 5 {
		t.Errorf("refused after %d", n)
	}
	s.from(t, "10.1.1.1").want(200, "", "GET", "/v1/products", "", "X-Forwarded-For: 192.0.2.2")
	_, _ = until(t, 1000, func() response {
		i++
		return s.from(t, "203.0.113.1").do("GET", "/v1/products", "", fmt.Sprintf("X-Forwarded-For: 198.51.100.%d", i%250))
	})
}

// Without limits nothing is refused, and nothing said of limits.
func TestNoRates(t *testing.T) {
	s := limited(t, 0, 0)
	c := s.client(t)
	for range 200 {
		got := c.want(200, "", "GET", "/v1/cart", "")
		if got.Get("RateLimit") != "" || got.Get("RateLimit-Policy") != "" {
			t.Fatalf("headers %v", got.Header)
		}
	}
}

// TestClientAddressIsTold: auth counts by the address that the gateway counts by.
func TestClientAddressIsTold(t *testing.T) {
	s := limited(t, 0, 0, "10.0.0.0/8")
	told := map[string]string{}
	s.fakeAuths[0].before = func(_ ctx, call string, req any) error {
		if r, ok := req.(interface{ GetClientAddress() string }); ok {
			told[call] = r.GetClientAddress()
		}
		return nil
	}
	c := s.from(t, "10.1.1.1")
	const credentials, header = `"email":"a@example.org","password":"correct horse"}`, "X-Forwarded-For: 198.51.100.1, 2001:db8:1:2:3::4"
	c.want(201, "", "POST", "/v1/users", "{"+credentials, header)
	c.want(201, "", "POST", "/v1/sessions", "{"+credentials, header)
	c.want(200, "", "POST", "/v1/tokens", `{"grant_type":"password",`+credentials, header)
	for _, call := range []string{"Register", "LogIn", "IssueTokens"} {
		if told[call] != "2001:db8:1:2::" {
			t.Errorf("%s: %q", call, told[call])
		}
	}
}

// TestRetryAfterIsWhatAuthSays of how long to wait.
func TestRetryAfterIsWhatAuthSays(t *testing.T) {
	s := newShop(t)
	for after, want := range map[time.Duration]string{0: "1", 20 * time.Millisecond: "1", time.Second: "1", 5100 * time.Millisecond: "6", 10 * time.Minute: "600"} {
		f := *errRateLimited
		f.Code, f.After = "too_many_logins", after
		s.fakeAuths[0].before = failing("LogIn", &f)
		before := s.authStore.count("LogIn")
		got := s.client(t).want(429, "too_many_logins", "POST", "/v1/sessions", `{"email":"a@example.org","password":"correct horse"}`)
		if got.Get("Retry-After") != want || s.authStore.count("LogIn") != before+1 {
			t.Errorf("%v: Retry-After %q, want %q, asked %d times", after, got.Get("Retry-After"), want, s.authStore.count("LogIn")-before)
		}
	}
}

// TestCountIsCheap: to count a request takes less than 500 ns and no memory.
func TestCountIsCheap(t *testing.T) {
	measuretest.Costs(t)
	l, _ := testLimits(1_000_000, 1_000_000)
	r, p := &http.Request{RemoteAddr: "192.0.2.1:5000"}, proxies{netip.MustParsePrefix("10.0.0.0/8")}
	now := time.Now()
	for i := range maxBuckets {
		l.addresses.take(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), now)
		l.owners.take(fmt.Sprintf("u_%022d", i), now)
	}
	owner := fmt.Sprintf("u_%022d", 777)
	count := func() {
		l.addresses.take(p.client(r), now)
		l.owners.take(owner, now)
	}
	if n := testing.AllocsPerRun(1000, count); n != 0 {
		t.Errorf("%v allocations", n)
	}
	measuretest.Takes(t, "counting address and owner", 2*500*time.Nanosecond, count)
}

func BenchmarkCount(b *testing.B) {
	l, _ := testLimits(1_000_000, 1_000_000)
	r := &http.Request{RemoteAddr: "192.0.2.1:5000"}
	b.Run("address", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			l.addresses.take(proxies(nil).client(r), time.Now())
		}
	})
	b.Run("owner", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			l.owners.take("u_AAAAAAAAAAAAAAAAAAAAAA", time.Now())
		}
	})
	w := &answer{ResponseWriter: headerOnly{}}
	b.Run("with headers", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			w.Header().Del(rateLimit)
			_ = l.address(w, proxies(nil).client(r))
			_ = l.owner(w, "u_AAAAAAAAAAAAAAAAAAAAAA")
		}
	})
}
