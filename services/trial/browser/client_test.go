package browser_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"coatcheck/trial/local"
)

func write(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	err := os.WriteFile(file, []byte(text), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// attempt is a change as it came from the page.
type attempt struct {
	request      string
	key, ifMatch string
}

// wire stands between the browser and the shop. It writes down what comes, and
// spoils the answers of the next few changes.
type wire struct {
	mu       sync.Mutex
	attempts []attempt
	spoil    []func(http.ResponseWriter, http.Handler, *http.Request)
}

// lost passes the request on, and cuts the connection early in the answer. Were
// it cut before that, Chromium itself would send the request again.
func lost(w http.ResponseWriter, shop http.Handler, r *http.Request) {
	shop.ServeHTTP(httptest.NewRecorder(), r)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// whole spoils nothing.
func whole(w http.ResponseWriter, shop http.Handler, r *http.Request) { shop.ServeHTTP(w, r) }

// busy does not pass the request on.
func busy(retryAfter string) func(http.ResponseWriter, http.Handler, *http.Request) {
	return func(w http.ResponseWriter, _ http.Handler, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.Header().Set("Retry-After", retryAfter)
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte(`{"code": "overloaded", "detail": "Too many requests."}`))
	}
}

func newWire(t *testing.T, shop *local.Shop) (*wire, string) {
	t.Helper()
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: shop.Address()})
	w := &wire{}
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			proxy.ServeHTTP(rw, r)
			return
		}
		w.mu.Lock()
		w.attempts = append(w.attempts, attempt{r.Method + " " + r.URL.Path, r.Header.Get("Idempotency-Key"), r.Header.Get("If-Match")})
		pass := proxy.ServeHTTP
		if len(w.spoil) > 0 {
			spoil := w.spoil[0]
			w.spoil = w.spoil[1:]
			pass = func(rw http.ResponseWriter, r *http.Request) { spoil(rw, proxy, r) }
		}
		w.mu.Unlock()
		pass(rw, r)
	}))
	t.Cleanup(server.Close)
	return w, server.URL
}

func (w *wire) spoilNext(spoil ...func(http.ResponseWriter, http.Handler, *http.Request)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.attempts, w.spoil = nil, spoil
}

// seen checks that the attempts since spoilNext were n times the same request
// under one key, each further one so long after the first by the page's clock, and
// returns that. By the wire's clock a first that arrives late would be nearer.
func (w *wire) seen(t *testing.T, p *page, n int, request string, after ...time.Duration) attempt {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.attempts) != n {
		t.Fatalf("%d attempts, want %d: %+v", len(w.attempts), n, w.attempts)
	}
	_, path, _ := strings.Cut(request, " ")
	sent := p.sent(path)
	if len(sent) < n {
		t.Fatalf("the page sent %v, want %d at least", sent, n)
	}
	sent = sent[len(sent)-n:]
	for i, a := range w.attempts {
		first := w.attempts[0]
		if a.request != request || a.key == "" || a.key != first.key || a.ifMatch != first.ifMatch {
			t.Errorf("attempt %d is %+v, the first %+v", i+1, a, first)
		}
		if i > 0 && i <= len(after) {
			if came := sent[i] - sent[0]; came < after[i-1]-50*time.Millisecond || came > after[i-1]+8*time.Second {
				t.Errorf("attempt %d came after %v, want %v", i+1, came, after[i-1])
			}
		}
	}
	return w.attempts[0]
}

// TestLostAnswers: a change whose answer is lost is made once, however often
// its answer is lost, and a later change does not come before that is known.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	w, base := newWire(t, openShop(t))
	p := open(t, base)
	const second, third = 1100 * time.Millisecond, 2200 * time.Millisecond

	w.spoilNext(lost, lost)
	p.add("mug-01")
	p.shows(map[string]int{"mug-01": 1})
	add := w.seen(t, p, 3, "POST /v1/cart/items", second, third)
	if stamps := []string{p.tickets()[2].Stamp, p.tickets()[3].Stamp}; fmt.Sprint(stamps) != "[no answer no answer]" {
		t.Errorf("the tickets of lost answers say %v: %+v", stamps, p.tickets())
	}
	p.accessible(axe(t), "torn tickets")
	p.picture("torn", "header")

	w.spoilNext(lost)
	p.click(`#lines li[data-sku="mug-01"] .more`)
	p.shows(map[string]int{"mug-01": 2})
	p.until(`document.getElementById('version').textContent === '002'`)
	if set := w.seen(t, p, 2, "PUT /v1/cart/items/mug-01", second); set.ifMatch == "" || set.key == add.key {
		t.Errorf("a set came as %+v", set)
	}

	w.spoilNext(lost, lost, lost)
	p.add("hat-01")
	p.said("Whether it happened is not known")
	w.seen(t, p, 3, "POST /v1/cart/items", second, third)
	p.click("#act")
	p.shows(map[string]int{"mug-01": 2, "hat-01": 1})
	w.seen(t, p, 4, "POST /v1/cart/items")

	w.spoilNext(lost, lost, lost)
	p.add("hat-01")
	p.said("Whether it happened is not known")
	p.add("cap-01")
	p.shows(map[string]int{"mug-01": 2, "hat-01": 2, "cap-01": 1})
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.attempts) != 5 || w.attempts[3].key != w.attempts[0].key || w.attempts[4].key == w.attempts[0].key {
		t.Errorf("first settled, then changed? %+v", w.attempts)
	}
}

// TestBusyShop: the page waits as long as it is asked to, and says so when it
// gives up; nothing was changed then.
func TestBusyShop(t *testing.T) {
	t.Parallel()
	w, base := newWire(t, openShop(t))
	p := open(t, base)
	w.spoilNext(busy("3"))
	p.add("mug-01")
	p.shows(map[string]int{"mug-01": 1})
	w.seen(t, p, 2, "POST /v1/cart/items", 3*time.Second)

	w.spoilNext(busy("60"))
	p.add("mug-01")
	p.said("nothing was changed")
	w.seen(t, p, 1, "POST /v1/cart/items")
	p.click("#act")
	p.shows(map[string]int{"mug-01": 2})
}

// TestLostLogIn: log-in and registration are repeated too, and the cart still
// moves exactly once.
func TestLostLogIn(t *testing.T) {
	t.Parallel()
	w, base := newWire(t, openShop(t))
	p := open(t, base)
	p.add("mug-01")
	p.shows(map[string]int{"mug-01": 1})
	w.spoilNext(lost, busy("1"), whole, lost)
	p.register()
	p.said("Logged in.")
	p.shows(map[string]int{"mug-01": 1})
}

// TestLostCheckout: an order whose answer was lost is one order.
func TestLostCheckout(t *testing.T) {
	t.Parallel()
	w, base := newWire(t, openShop(t))
	p := open(t, base)
	p.register()
	p.said("Logged in.")
	p.add("mug-01")
	p.shows(map[string]int{"mug-01": 1})
	w.spoilNext(lost, lost)
	p.click("#checkout")
	p.shows(map[string]int{})
	p.until(`document.querySelectorAll('#order-list > li').length === 1`)
	w.seen(t, p, 3, "POST /v1/cart/checkout")
	if orders := p.visitor().do(200, "GET", "/v1/orders", "").Orders; len(orders) != 1 {
		t.Errorf("orders %+v", orders)
	}
}

// TestOutage: while every gateway is away the page says so, and goes on after.
func TestOutage(t *testing.T) {
	t.Parallel()
	shop := openShop(t)
	p := open(t, "http://"+shop.Address())
	p.add("mug-01")
	p.shows(map[string]int{"mug-01": 1})
	gateways := []string{"gateway-1", "gateway-2", "gateway-3"}
	for _, name := range gateways {
		err := shop.StopProcess(name)
		if err != nil {
			t.Fatal(err)
		}
	}
	p.add("mug-01")
	p.said("No answer, three times")
	for _, name := range gateways {
		err := shop.StartProcess(name)
		if err != nil {
			t.Fatal(err)
		}
	}
	ready(t, shop)
	p.click("#act")
	p.shows(map[string]int{"mug-01": 2})
}
