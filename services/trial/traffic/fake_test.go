package traffic

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"coatcheck/trial/history"
)

// fault is what goes wrong with one HTTP request.
type fault string

const (
	none        fault = ""
	breakAfter  fault = "break after applying"
	breakBefore fault = "break before applying"
	cutAnswer   fault = "cut the answer's body"
	garbage     fault = "an answer that is no JSON"
	busy        fault = "503 overloaded"
	away        fault = "503 store_unavailable"
	lateAway    fault = "503 after applying"
	badGateway  fault = "502"
	internal    fault = "500"
	stall       fault = "stall after applying"
	wrong412    fault = "412"
	wrong409    fault = "409"
	wrong401    fault = "401"
	wrong422    fault = "422"
	stranger    fault = "taken for a new guest"
	// Of a later answer nothing shows it any more.
	strangerAway fault = "taken for a new guest, and 503"
)

// fake is an exact shop in memory, with faults.
type fake struct {
	*httptest.Server
	// fault says what goes wrong with the n-th HTTP request of the key (of those
	// without one, of the method and path).
	fault func(r *http.Request, n int) fault
	// forgets keeps it from growing.
	forgets bool

	mu       sync.Mutex
	products int
	drawn    int
	carts    map[string]*fakeCart
	users    map[string]string
	sessions map[string]string
	families map[string]*fakeFamily // by access token and by refresh token
	received map[string]int         // by key
	requests int
	paths    map[string]int
}

type fakeFamily struct {
	owner   string
	refresh string // the one that counts
	over    bool
}

type fakeCart struct {
	lines   map[string]int64
	version uint64
	born    int
	moved   bool
	done    map[string]func(w http.ResponseWriter)
	orders  []map[string]any
}

func newFake(t testing.TB, fault func(r *http.Request, n int) fault) *fake {
	f := &fake{
		fault: fault, products: 200, carts: map[string]*fakeCart{}, users: map[string]string{}, sessions: map[string]string{},
		families: map[string]*fakeFamily{}, received: map[string]int{}, paths: map[string]int{},
	}
	f.Server = httptest.NewUnstartedServer(f)
	f.Config.Protocols = new(http.Protocols)
	f.Config.Protocols.SetHTTP1(true)
	f.Config.Protocols.SetUnencryptedHTTP2(true)
	f.Start()
	t.Cleanup(func() { f.CloseClientConnections(); f.Close() })
	return f
}

func (f *fake) cart(owner string) *fakeCart {
	c := f.carts[owner]
	if c == nil {
		f.drawn++
		c = &fakeCart{lines: map[string]int64{}, born: f.drawn, done: map[string]func(http.ResponseWriter){}}
		f.carts[owner] = c
	}
	return c
}

func (c *fakeCart) etag() string {
	if c.version == 0 {
		return `"0.0.r"`
	}
	return fmt.Sprintf(`"%d.%d.r"`, c.born, c.version)
}

func items(lines map[string]int64) []map[string]any {
	out := []map[string]any{}
	for _, sku := range slices.Sorted(maps.Keys(lines)) {
		out = append(out, map[string]any{"sku": sku, "name": "A " + sku, "quantity": lines[sku], "unit_price": map[string]any{"amount": 100, "currency": "EUR"}})
	}
	return out
}

func send(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	if status >= 400 {
		w.Header().Set("Content-Type", "application/problem+json")
	}
	w.WriteHeader(status)
	if v != nil {
		_ = json.NewEncoder(w).Encode(v)
	}
}

func problem(w http.ResponseWriter, status int, code string) {
	send(w, status, map[string]any{"status": status, "code": code})
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	key := r.Header.Get("Idempotency-Key")
	if key == "" {
		key = r.Method + " " + r.URL.Path
	}
	f.mu.Lock()
	f.requests++
	f.paths[r.Method+" "+r.URL.Path]++
	f.received[key]++
	n := f.received[key]
	f.mu.Unlock()
	what := none
	if f.fault != nil {
		what = f.fault(r, n)
	}
	w.Header().Set("Served-By", "gateway-1")
	switch what {
	case breakBefore:
		panic(http.ErrAbortHandler)
	case busy:
		problem(w, 503, "overloaded")
	case away:
		problem(w, 503, "store_unavailable")
	case badGateway:
		w.WriteHeader(502)
	case internal:
		problem(w, 500, "internal")
	case wrong412:
		problem(w, 412, "stale_version")
	case wrong409:
		problem(w, 409, "cart_moved")
	case wrong401:
		problem(w, 401, "invalid_session")
	case wrong422:
		problem(w, 422, "quantity_limit")
	case breakAfter, lateAway, cutAnswer, garbage, stall:
		kept := httptest.NewRecorder()
		f.serve(kept, r)
		switch what {
		case breakAfter:
			panic(http.ErrAbortHandler)
		case lateAway:
			problem(w, 503, "timeout")
			return
		case stall:
			select {
			case <-r.Context().Done():
			case <-time.After(20 * time.Second):
			}
			panic(http.ErrAbortHandler)
		case garbage:
			send(w, 200, "{")
			return
		}
		maps.Copy(w.Header(), kept.Header())
		w.Header().Set("Content-Length", fmt.Sprint(kept.Body.Len()+1)) // the JSON is whole, the answer is not
		w.WriteHeader(kept.Code)
		_, _ = w.Write(kept.Body.Bytes())
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	case strangerAway:
		r.Header.Del("Cookie")
		kept := httptest.NewRecorder()
		f.serve(kept, r)
		w.Header()["Set-Cookie"] = kept.Header()["Set-Cookie"]
		problem(w, 503, "store_unavailable")
	case stranger:
		r.Header.Del("Cookie")
		f.serve(w, r)
	default:
		f.serve(w, r)
	}
}

// serve does it right.
func (f *fake) serve(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Email    string
		Quantity int64
		Items    []history.Line
		Refresh  string `json:"refresh_token"`
	}
	var content bytes.Buffer
	_, _ = content.ReadFrom(r.Body)
	_ = json.Unmarshal(content.Bytes(), &in)
	f.mu.Lock()
	defer f.mu.Unlock()

	owner, session, user := "", "", false
	if c, err := r.Cookie("session"); err == nil {
		session, user = c.Value, true
		if owner = f.sessions[session]; owner == "" {
			problem(w, 401, "invalid_session")
			return
		}
	} else if access, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		family := f.families[access]
		if user = true; family == nil || family.over {
			problem(w, 401, "invalid_token")
			return
		}
		owner = family.owner
	} else if c, err := r.Cookie("guest"); err == nil {
		owner = c.Value
	}
	switch r.Method + " " + r.URL.Path {
	case "GET /v1/products":
		list := []map[string]any{}
		for i := range f.products {
			list = append(list, map[string]any{"sku": fmt.Sprintf("p%03d", i)})
		}
		send(w, 200, map[string]any{"products": list})
		return
	case "POST /v1/users":
		if f.users[in.Email] != "" {
			problem(w, 409, "email_taken")
			return
		}
		f.drawn++
		f.users[in.Email] = fmt.Sprintf("u%d", f.drawn)
		send(w, 201, map[string]any{"id": f.users[in.Email]})
		return
	case "POST /v1/sessions":
		to := f.users[in.Email]
		if to == "" {
			problem(w, 401, "wrong_credentials")
			return
		}
		if owner != "" {
			from, into := f.cart(owner), f.cart(to)
			for sku, n := range from.lines {
				into.lines[sku] += n
			}
			if len(from.lines) > 0 {
				into.version++
			}
			from.lines, from.moved, from.done = nil, true, nil
			if f.forgets {
				delete(f.carts, owner)
			}
		}
		f.drawn++
		token := fmt.Sprintf("t%d", f.drawn)
		f.sessions[token] = to
		http.SetCookie(w, &http.Cookie{Name: "session", Value: token})
		http.SetCookie(w, &http.Cookie{Name: "guest", MaxAge: -1})
		send(w, 201, map[string]any{"id": "session"})
		return
	case "POST /v1/tokens":
		family := f.families[in.Refresh]
		switch {
		case in.Refresh == "":
			family = &fakeFamily{owner: f.users[in.Email]}
		case family == nil || family.over || family.refresh != in.Refresh:
			if family != nil {
				family.over = true
			}
			problem(w, 401, "invalid_grant")
			return
		}
		f.drawn++
		access := fmt.Sprintf("a%d", f.drawn)
		family.refresh = fmt.Sprintf("r%d", f.drawn)
		f.families[access], f.families[family.refresh] = family, family
		send(w, 200, map[string]any{"access_token": access, "refresh_token": family.refresh})
		return
	case "DELETE /v1/sessions/current":
		delete(f.sessions, session)
		http.SetCookie(w, &http.Cookie{Name: "session", MaxAge: -1})
		w.WriteHeader(204)
		return
	}
	if owner == "" {
		f.drawn++
		owner = fmt.Sprintf("g%d", f.drawn)
		http.SetCookie(w, &http.Cookie{Name: "guest", Value: owner})
	}
	c := f.cart(owner)
	if c.moved {
		f.drawn++
		http.SetCookie(w, &http.Cookie{Name: "guest", Value: fmt.Sprintf("g%d", f.drawn)})
		problem(w, 409, "cart_moved")
		return
	}
	w.Header().Set("Served-By-Cart", "cart-1")
	f.inCart(w, r, c, user, in.Quantity, in.Items)
}

func (f *fake) inCart(w http.ResponseWriter, r *http.Request, c *fakeCart, user bool, quantity int64, add []history.Line) {
	key := r.Header.Get("Idempotency-Key")
	show := func(version uint64) {
		w.Header().Set("ETag", c.etag())
		send(w, 200, map[string]any{"version": version, "items": items(c.lines), "total": map[string]any{"amount": 1}})
	}
	switch {
	case r.Method == "GET" && r.URL.Path == "/v1/cart":
		show(c.version)
		return
	case r.Method == "GET" && r.URL.Path == "/v1/orders":
		if !user {
			problem(w, 401, "login_required")
			return
		}
		from := 0
		_, _ = fmt.Sscan(r.URL.Query().Get("page_token"), &from)
		to := min(from+3, len(c.orders)) // small pages, whatever is asked for
		page := map[string]any{"orders": c.orders[from:to]}
		if to < len(c.orders) {
			page["next_page_token"] = fmt.Sprint(to)
		}
		send(w, 200, page)
		return
	}
	if again := c.done[key]; again != nil {
		w.Header().Set("Idempotency-Replayed", "true")
		again(w)
		return
	}
	if f.forgets && len(c.done) > 10 {
		clear(c.done)
	}
	if match := r.Header.Get("If-Match"); match != "" && match != c.etag() {
		c.done[key] = func(w http.ResponseWriter) {
			w.Header().Set("ETag", c.etag())
			send(w, 412, map[string]any{"code": "stale_version", "cart": map[string]any{"version": c.version, "items": items(c.lines)}})
		}
		c.done[key](w)
		return
	}
	sku, ofLine := strings.CutPrefix(r.URL.Path, "/v1/cart/items/")
	switch {
	case r.URL.Path == "/v1/cart/checkout":
		if !user || len(c.lines) == 0 {
			problem(w, 422, "cart_empty")
			return
		}
		f.drawn++
		order := map[string]any{"id": fmt.Sprintf("o%d", f.drawn), "items": items(c.lines)}
		if !f.forgets {
			c.orders = append(c.orders, order)
		}
		c.lines = map[string]int64{}
		c.version++
		c.done[key] = func(w http.ResponseWriter) { send(w, 201, order) }
		c.done[key](w)
		return
	case ofLine && r.Method == "PUT":
		if c.lines[sku] != quantity {
			c.version++
		}
		c.lines[sku] = quantity
	case ofLine:
		if c.lines[sku] != 0 {
			c.version++
		}
		delete(c.lines, sku)
	default:
		for _, l := range add {
			c.lines[l.SKU] += l.Quantity
		}
		c.version++
	}
	version := c.version
	c.done[key] = func(w http.ResponseWriter) {
		w.Header().Set("ETag", c.etag())
		send(w, 200, map[string]any{"version": version, "items": items(c.lines)})
	}
	c.done[key](w)
}
