package gateway

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"coatcheck/chassis/fault"
	"coatcheck/chassis/measuretest"
	cartv1 "coatcheck/proto/coatcheck/cart/v1"
)

// TestSeriesAreBounded: however many users, SKUs, paths and methods clients come
// up with, and in however many ways requests fail, the series stay few.
func TestSeriesAreBounded(t *testing.T) {
	s := newShop(t)
	session := s.user(t, "a@example.org").cookies["session"]
	s.log = slog.New(slog.DiscardHandler)
	send := func(method, path, body, session string) {
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("If-Match", `"1.1.1"`)
		if session != "" {
			r.AddCookie(&http.Cookie{Name: "session", Value: session})
		}
		s.ServeHTTP(httptest.NewRecorder(), r)
	}
	// All routes, for a guest and for a user, each in all the ways that a service
	// can fail it: at first, or when its user is known.
	bodies := []string{``, `{"quantity":1}`, `{"items":[{"sku":"mug-01","quantity":1}]}`, `{"email":"a@example.org","password":"correct horse"}`,
		`{"current_password":"correct horse","new_password":"correct horse"}`}
	all := func() {
		for _, route := range s.routes() {
			method, path, _ := strings.Cut(route.pattern, " ")
			for _, body := range bodies {
				if method == "GET" && body != "" {
					continue
				}
				send(method, path, body, "")
				send(method, path, body, session)
			}
		}
		_, _ = s.cart.Batch(t.Context(), &cartv1.BatchRequest{}) // as what waits for room becomes, sooner or later
	}
	for kind := fault.Internal; kind <= fault.Unimplemented; kind++ {
		fail := func(_ ctx, call string, _ any) error {
			if call == "VerifySession" {
				return nil
			}
			return fault.New(kind, "made_up", "Made up.")
		}
		s.fakeCarts[0].before, s.fakeAuths[0].before = fail, fail
		all()
	}
	s.fakeCarts[0].before, s.fakeAuths[0].before = nil, nil
	all()

	crowd := func(from, to int) {
		for i := from; i < to; i++ {
			send("PUT", fmt.Sprintf("/v1/cart/items/sku-%d", i), `{"quantity":1}`, "") // each a guest of its own
			send("GET", fmt.Sprintf("/v1/user-%d/cart", i), "", "")
			send(fmt.Sprintf("BREW%d", i), "/v1/cart", "", "")
		}
	}
	crowd(0, 1)
	before, guests := measuretest.Check(t, s.reg), s.authStore.count("IssueGuestTicket")
	const part, parts = 2500, 4
	var crowds sync.WaitGroup
	for i := range parts {
		crowds.Go(func() { crowd(1+i*part, 1+(i+1)*part) })
	}
	crowds.Wait()
	if came := s.authStore.count("IssueGuestTicket") - guests; came < part*parts { // on a busy machine, one may be asked for twice
		t.Fatalf("%d guests came, want %d", came, part*parts)
	}
	if after := measuretest.Check(t, s.reg); after != before {
		t.Errorf("%d series, and %d after the crowd", before, after)
	}
}

// TestLogicalCalls: what a retry hid is to be seen, and so is what it could not.
func TestLogicalCalls(t *testing.T) {
	s := newShopWith(t, testSettings(), 2)
	c := s.warm(t)
	count := func(tries, result string) float64 {
		return testutil.ToFloat64(s.metrics.calls.WithLabelValues("cart", tries, result))
	}
	before := count("1", "answered")
	s.fakeCarts[0].before = failing("ListProducts", unavailable)
	for range 4 {
		c.want(200, "", "GET", "/v1/products", "")
	}
	s.fakeCarts[1].before = failing("ListProducts", unavailable)
	c.want(503, "", "GET", "/v1/products", "")
	if one, two := count("1", "answered")-before, count("2", "answered"); before < 2 || two < 3 || one+two != 4 {
		t.Errorf("%v calls answered at the first try and %v at the second one, want 4 in all", one, two)
	}
	if got := count("3", "unavailable"); got != 1 {
		t.Errorf("%v calls failed at the third try", got)
	}
	budget, err := testutil.GatherAndCount(s.reg, "coatcheck_gateway_retry_budget")
	if budget != 2 || err != nil {
		t.Errorf("%d budgets are shown, %v", budget, err)
	}
	want := float64(minBudget) - testutil.ToFloat64(s.metrics.retries.WithLabelValues("cart"))
	if got := float64(s.cartBackend.budget.left()); got != want {
		t.Errorf("%v retries are left, want %v", got, want)
	}
}

// observed returns what is done for the metrics and the log of one request.
func observed(tb testing.TB, log *slog.Logger) func() {
	s := newShop(tb)
	s.log = log
	r := httptest.NewRequest("GET", "/v1/cart", nil)
	a := &answer{status: http.StatusOK, route: "GET /v1/cart"}
	return func() {
		s.metrics.inFlight.Inc()
		s.observe(a, r, time.Now())
		s.cartBackend.count(r.Context(), 1, nil)
	}
}

func TestMetricsCost(t *testing.T) {
	measuretest.Costs(t)
	if got := testing.AllocsPerRun(1000, observed(t, slog.New(slog.DiscardHandler))); got > 1 {
		t.Errorf("the metrics of a request take %v allocations, want 1 at most", got)
	}
	if got := testing.AllocsPerRun(1000, observed(t, slog.New(slog.NewJSONHandler(io.Discard, nil)))); got > 2 {
		t.Errorf("with the log line they take %v allocations, want 2 at most", got)
	}
	measuretest.Takes(t, "the metrics of a request", measuretest.Gateway, observed(t, slog.New(slog.DiscardHandler)))
}

func BenchmarkObserve(b *testing.B) {
	for name, log := range map[string]*slog.Logger{
		"metrics":         slog.New(slog.DiscardHandler),
		"metrics and log": slog.New(slog.NewJSONHandler(io.Discard, nil)),
	} {
		observe := observed(b, log)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				observe()
			}
		})
	}
}
