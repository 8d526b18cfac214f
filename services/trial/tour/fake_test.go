package tour

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"syscall"
	"time"

	"coatcheck/trial/local"
)

// fakeShop is a shop in one process and in memory, with faults to choose. It
// knows as much of the HTTP surface as the tour asks for.
type fakeShop struct {
	server *httptest.Server

	// faults
	forgetsKeys  bool // applies a repeated Idempotency-Key again
	emptyOutage  bool // shows an empty cart when Redis is away
	wrongOutage  bool // answers 500 when Redis is away
	failsOnKill  bool // answers 500 for a moment after a replica is killed
	losesOnCrash bool // forgets a change when Redis crashes
	ignoresMatch bool // takes a stale If-Match
	staysLogged  bool // keeps a session after log-out
	dropsMerge   bool // does not merge the guest's cart

	mu        sync.Mutex
	processes []local.Process
	away      bool
	failUntil time.Time
	tickets   int
	users     map[string]string // e-mail → user
	sessions  map[string]string // cookie → user
	carts     map[string]*fakeCart
}

type fakeCart struct {
	version int
	lines   map[string]int
	done    map[string]int // Idempotency-Key → version
	orders  []map[string]any
}

func newFakeShop() *fakeShop {
	f := &fakeShop{users: map[string]string{}, sessions: map[string]string{}, carts: map[string]*fakeCart{}}
	for i, name := range []string{"redis", "auth-1", "cart-1", "cart-2", "gateway-1"} {
		role := map[bool]string{true: name, false: name[:max(len(name)-2, 0)]}[name == "redis"]
		f.processes = append(f.processes, local.Process{Role: role, Name: name, PID: 100 + i, State: local.Running})
	}
	f.server = httptest.NewServer(f)
	return f
}

func (f *fakeShop) Processes() []local.Process {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.processes)
}

func (f *fakeShop) Kill(name string, _ syscall.Signal) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.processes {
		p := &f.processes[i]
		if p.Name != name {
			continue
		}
		p.State = local.Restarting
		f.away = f.away || name == "redis"
		if f.losesOnCrash && name == "redis" {
			for _, c := range f.carts {
				for sku := range c.lines {
					c.lines[sku]--
					break
				}
			}
		}
		if f.failsOnKill {
			f.failUntil = time.Now().Add(50 * time.Millisecond)
		}
		time.AfterFunc(100*time.Millisecond, func() {
			f.mu.Lock()
			defer f.mu.Unlock()
			p.PID, p.State = p.PID+1000, local.Running
			f.away = f.away && name != "redis"
		})
		return nil
	}
	return errors.New("no such process")
}

func (f *fakeShop) StopProcess(string) error  { return f.setAway(true) }
func (f *fakeShop) StartProcess(string) error { return f.setAway(false) }

func (f *fakeShop) setAway(away bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.away = away
	return nil
}

func (f *fakeShop) AwaitReady(context.Context) error { return nil }

func (f *fakeShop) Close() {}

func (f *fakeShop) owned(owner string) *fakeCart {
	if f.carts[owner] == nil {
		f.carts[owner] = &fakeCart{lines: map[string]int{}, done: map[string]int{}}
	}
	return f.carts[owner]
}

func items(lines map[string]int) []map[string]any {
	list := []map[string]any{}
	for _, sku := range sorted(lines) {
		if lines[sku] > 0 {
			list = append(list, map[string]any{"sku": sku, "quantity": lines[sku]})
		}
	}
	return list
}

func (c *fakeCart) view() map[string]any {
	return map[string]any{"version": c.version, "items": items(c.lines)}
}

func (f *fakeShop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	answer := func(status int, body any) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(body)
	}
	w.Header().Set("Served-By", "gateway-1")
	if time.Now().Before(f.failUntil) {
		answer(500, nil)
		return
	}
	if f.away {
		switch {
		case f.emptyOutage && r.Method == http.MethodGet:
			answer(200, (&fakeCart{}).view())
		case f.wrongOutage:
			answer(500, nil)
		default:
			w.Header().Set("Retry-After", "1")
			answer(503, nil)
		}
		return
	}
	owner, session := "", ""
	if c, err := r.Cookie("session"); err == nil {
		session = c.Value
		if owner = f.sessions[session]; owner == "" {
			answer(401, nil)
			return
		}
	} else if c, err := r.Cookie("guest"); err == nil {
		owner = c.Value
	} else {
		f.tickets++
		owner = fmt.Sprintf("guest%d", f.tickets)
		http.SetCookie(w, &http.Cookie{Name: "guest", Value: owner, Path: "/"})
	}
	c := f.owned(owner)
	var body struct {
		Email string
		Items []struct {
			SKU      string
			Quantity int
		}
	}
	_ = json.NewDecoder(r.Body).Decode(&body)
	key := r.Header.Get("Idempotency-Key")
	etag := func() string { return fmt.Sprintf(`"%s.%d"`, owner, c.version) }
	stale := r.Header.Get("If-Match") != "" && r.Header.Get("If-Match") != etag()

	switch r.Method + " " + r.URL.Path {
	case "GET /v1/products":
		answer(200, map[string]any{"products": []map[string]any{{"sku": "mug"}, {"sku": "tee"}, {"sku": "hat"}}})
	case "GET /v1/cart":
		w.Header().Set("ETag", etag())
		answer(200, c.view())
	case "POST /v1/cart/items":
		if _, done := c.done[key]; done && !f.forgetsKeys {
			w.Header().Set("Idempotency-Replayed", "true")
			answer(200, c.view())
			return
		}
		for _, item := range body.Items {
			c.lines[item.SKU] += item.Quantity
		}
		c.version++
		c.done[key] = c.version
		w.Header().Set("Served-By-Cart", "cart-1")
		answer(200, c.view())
	case "PUT /v1/cart/items/mug":
		if stale && !f.ignoresMatch {
			answer(412, map[string]any{"cart": c.view()})
			return
		}
		answer(200, c.view())
	case "POST /v1/cart/checkout":
		if stale {
			answer(412, map[string]any{"cart": c.view()})
			return
		}
		order := map[string]any{"id": fmt.Sprintf("o%d", len(c.orders)), "items": items(c.lines)}
		c.orders = append(c.orders, order)
		c.lines = map[string]int{}
		c.version++
		answer(201, order)
	case "GET /v1/orders":
		answer(200, map[string]any{"orders": c.orders})
	case "POST /v1/users":
		f.users[body.Email] = "user" + fmt.Sprint(len(f.users))
		answer(201, map[string]any{"id": f.users[body.Email]})
	case "POST /v1/sessions":
		user := f.users[body.Email]
		token := fmt.Sprintf("token%d", len(f.sessions))
		f.sessions[token] = user
		if !f.dropsMerge {
			into := f.owned(user)
			for sku, n := range c.lines {
				into.lines[sku] += n
			}
			into.version++
			maps.Copy(into.done, c.done)
		}
		delete(f.carts, owner)
		http.SetCookie(w, &http.Cookie{Name: "session", Value: token, Path: "/"})
		answer(201, nil)
	case "DELETE /v1/sessions/current":
		if !f.staysLogged {
			delete(f.sessions, session)
		}
		http.SetCookie(w, &http.Cookie{Name: "session", Path: "/", MaxAge: -1})
		w.WriteHeader(204)
	default:
		answer(404, nil)
	}
}
