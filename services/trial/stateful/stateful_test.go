package stateful_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"coatcheck/chassis"
	"coatcheck/chassis/config"
	"coatcheck/trial/stateful"
)

// settings are those of a test's process; more are added to them.
func settings(t *testing.T, state string, more ...string) stateful.Settings {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))
	if err != nil {
		t.Fatal(err)
	}
	keys := filepath.Join(t.TempDir(), "keys.pem")
	if err := os.WriteFile(keys, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := config.Load[stateful.Settings](append([]string{
		"COATCHECK_STATE=" + state, "COATCHECK_PLAIN_HTTP=true", "COATCHECK_INSTANCE=one", "COATCHECK_SIGNING_KEYS_FILE=" + keys,
	}, more...))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// serve runs one process, as far as its port goes, and returns its URL.
func serve(t *testing.T, s stateful.Settings) string {
	t.Helper()
	service, err := stateful.New(s, slog.New(slog.DiscardHandler), chassis.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := service.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	go func() { _ = service.Part.Serve(lis) }()
	t.Cleanup(func() {
		service.Part.Close()
		service.Close()
	})
	return "http://" + lis.Addr().String()
}

// browser keeps cookies as a browser does.
type browser struct {
	*testing.T
	cookies map[string]string
}

func newBrowser(t *testing.T) *browser { return &browser{t, map[string]string{}} }

func (b *browser) copy() *browser {
	other := newBrowser(b.T)
	for k, v := range b.cookies {
		other.cookies[k] = v
	}
	return other
}

// answer is what the tests read of any answer.
type answer struct {
	Status  int         `json:"-"`
	Header  http.Header `json:"-"`
	Close   bool        `json:"-"` // the connection
	ID      string      `json:"id"`
	Code    string      `json:"code"`
	Version int         `json:"version"`
	Items   []struct {
		SKU      string `json:"sku"`
		Quantity int    `json:"quantity"`
	} `json:"items"`
	Orders   []struct{ ID string }
	Sessions []struct{ ID string }
}

func (a answer) lines() string {
	var out []string
	for _, i := range a.Items {
		out = append(out, fmt.Sprintf("%s:%d", i.SKU, i.Quantity))
	}
	return strings.Join(out, " ")
}

func (b *browser) do(method, url string, body any, header ...string) answer {
	b.Helper()
	var content io.Reader
	if body != nil {
		text, _ := json.Marshal(body)
		content = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(b.Context(), method, url, content)
	if err != nil {
		b.Fatal(err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	for name, value := range b.cookies {
		req.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	for _, c := range resp.Cookies() {
		if c.MaxAge < 0 {
			delete(b.cookies, c.Name)
			continue
		}
		if n := len(c.Name) + len(c.Value); n > 4096 {
			b.Errorf("%s %s: a browser would drop the cookie %s of %d bytes", method, url, c.Name, n)
		}
		b.cookies[c.Name] = c.Value
	}
	a := answer{Status: resp.StatusCode, Header: resp.Header, Close: resp.Close}
	text, _ := io.ReadAll(resp.Body)
	_ = json.Unmarshal(text, &a)
	return a
}

func (b *browser) want(a answer, status int, code string) answer {
	b.Helper()
	if a.Status != status || a.Code != code {
		b.Fatalf("got %d %q, want %d %q", a.Status, a.Code, status, code)
	}
	return a
}

func items(sku string, quantity int) any {
	return map[string]any{"items": []any{map[string]any{"sku": sku, "quantity": quantity}}}
}

func (b *browser) add(url, sku string, quantity int) answer {
	b.Helper()
	return b.want(b.do("POST", url+"/v1/cart/items", items(sku, quantity)), 200, "")
}

func (b *browser) cart(url string) answer {
	b.Helper()
	return b.want(b.do("GET", url+"/v1/cart", nil), 200, "")
}

func credentials(email string) any {
	return map[string]any{"email": email, "password": "correct horse battery"}
}

func (b *browser) logIn(url, email string) {
	b.Helper()
	b.want(b.do("POST", url+"/v1/sessions", credentials(email)), 201, "")
}

func each(t *testing.T, test func(t *testing.T, state string)) {
	for _, state := range []string{stateful.Memory, stateful.Cookie} {
		t.Run(state, func(t *testing.T) { test(t, state) })
	}
}

// TestShopping: in one process all of the shop works.
func TestShopping(t *testing.T) {
	each(t, func(t *testing.T, state string) {
		url, b := serve(t, settings(t, state)), newBrowser(t)
		if empty := b.cart(url); empty.Version != 0 || empty.lines() != "" || empty.Header.Get("Served-By-Cart") != "one" {
			t.Fatalf("the first cart is %+v", empty)
		}
		b.add(url, "mug-01", 2)
		b.add(url, "mug-02", 1)
		b.add(url, "mug-01", 1)
		set := b.want(b.do("PUT", url+"/v1/cart/items/mug-02", map[string]any{"quantity": 5}, "If-Match", b.cart(url).Header.Get("ETag")), 200, "")
		if set.lines() != "mug-01:3 mug-02:5" || set.Version != 4 {
			t.Fatalf("the cart is %v", set)
		}
		b.want(b.do("PUT", url+"/v1/cart/items/mug-02", map[string]any{"quantity": 6}, "If-Match", `"x.1.x"`), 412, "stale_version")
		b.want(b.do("POST", url+"/v1/cart/items", items("no-such", 1)), 422, "unknown_sku")
		b.want(b.do("POST", url+"/v1/cart/items", items("mug-01", 997)), 422, "quantity_limit")
		if minimal := b.do("DELETE", url+"/v1/cart/items/mug-02", nil, "Prefer", "return=minimal"); minimal.Status != 200 || minimal.lines() != "" || minimal.Version != 5 {
			t.Fatalf("the removal answers %v", minimal)
		}

		b.want(b.do("POST", url+"/v1/cart/checkout", nil, "If-Match", `"x.1.x"`), 401, "login_required")
		b.want(b.do("POST", url+"/v1/users", credentials("a@example.com")), 201, "")
		b.want(b.do("POST", url+"/v1/users", credentials("a@example.com")), 409, "email_taken")
		b.logIn(url, "a@example.com")
		merged := b.cart(url)
		if merged.lines() != "mug-01:3" {
			t.Fatalf("after log-in the cart is %s", merged.lines())
		}
		if sessions := b.want(b.do("GET", url+"/v1/sessions", nil), 200, ""); len(sessions.Sessions) != 1 {
			t.Fatalf("sessions are %v", sessions.Sessions)
		}
		b.want(b.do("POST", url+"/v1/cart/checkout", nil, "If-Match", `"x.1.x"`), 412, "stale_version")
		order := b.want(b.do("POST", url+"/v1/cart/checkout", nil, "If-Match", merged.Header.Get("ETag")), 201, "")
		if order.lines() != "mug-01:3" || b.cart(url).lines() != "" {
			t.Fatalf("ordered %s, left %s", order.lines(), b.cart(url).lines())
		}
		b.want(b.do("POST", url+"/v1/cart/checkout", nil, "If-Match", b.cart(url).Header.Get("ETag")), 422, "cart_empty")
		if orders := b.do("GET", url+"/v1/orders", nil); len(orders.Orders) != 1 || orders.Orders[0].ID != order.ID {
			t.Fatalf("orders are %v", orders.Orders)
		}
		b.want(b.do("GET", url+"/v1/orders/"+order.ID, nil), 200, "")
		b.add(url, "mug-01", 1)
		b.want(b.do("DELETE", url+"/v1/cart", nil), 200, "")
		if left := b.cart(url); left.lines() != "" {
			t.Fatalf("after clearing there is %s", left.lines())
		}

		b.want(b.do("DELETE", url+"/v1/sessions/current", nil), 204, "")
		b.want(b.do("GET", url+"/v1/sessions", nil), 401, "login_required")
		b.logIn(url, "a@example.com")
		b.want(b.do("PUT", url+"/v1/users/me/password", map[string]any{"current_password": "correct horse battery", "new_password": "another password"}), 204, "")
		b.want(b.do("POST", url+"/v1/sessions", credentials("a@example.com")), 401, "wrong_credentials")
		b.want(b.do("POST", url+"/v1/sessions", map[string]any{"email": "a@example.com", "password": "another password"}), 201, "")
		b.want(b.do("DELETE", url+"/v1/users/me", nil), 204, "")
		b.want(b.do("GET", url+"/v1/orders", nil), 401, "login_required")
	})
}

// TestAnotherProcess: what one process keeps in memory, another does not know;
// what the client carries, it does.
func TestAnotherProcess(t *testing.T) {
	each(t, func(t *testing.T, state string) {
		accounts := filepath.Join(t.TempDir(), "accounts.json")
		one := serve(t, settings(t, state))
		maker := newBrowser(t)
		maker.want(maker.do("POST", one+"/v1/users", credentials("a@example.com")), 201, "")
		// The second starts with an account that the first does not have.
		text := fmt.Sprintf(`[{"id": %q, "email": "b@example.com", "password": %q}]`, "u_"+strings.Repeat("A", 22), "$argon2id$v=19$m=12288,t=3,p=1$AAAAAAAAAAAAAAAAAAAAAA$"+strings.Repeat("A", 43))
		if err := os.WriteFile(accounts, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		two := serve(t, settings(t, state, "COATCHECK_ACCOUNTS_FILE="+accounts, "COATCHECK_INSTANCE=two"))
		maker.want(maker.do("POST", two+"/v1/users", credentials("b@example.com")), 409, "email_taken")

		guest := newBrowser(t)
		guest.add(one, "mug-01", 2)
		there := guest.cart(two).lines()
		user := newBrowser(t)
		user.logIn(one, "a@example.com")
		user.want(user.do("GET", one+"/v1/sessions", nil), 200, "")
		asked := user.copy().do("GET", two+"/v1/sessions", nil)
		if state == stateful.Memory {
			if there != "" {
				t.Errorf("another process shows %q", there)
			}
			user.want(asked, 401, "invalid_session")
		} else {
			if there != "mug-01:2" {
				t.Errorf("another process shows %q of the cookie", there)
			}
			user.want(asked, 200, "")
		}
		if again := guest.cart(one).lines(); again != "mug-01:2" {
			t.Errorf("the first process shows %q", again)
		}
	})
}

// TestForgedCookies: what was not signed here, or for something else, is refused.
func TestForgedCookies(t *testing.T) {
	url := serve(t, settings(t, stateful.Cookie))
	b := newBrowser(t)
	b.add(url, "mug-01", 2)
	b.want(b.do("POST", url+"/v1/users", credentials("a@example.com")), 201, "")
	b.logIn(url, "a@example.com")
	flip := func(s string, at int) string {
		c := byte('A')
		if s[at] == c {
			c = 'B'
		}
		return s[:at] + string(c) + s[at+1:]
	}
	cart, session := b.cookies["cart"], b.cookies["session-record"]
	dot := strings.IndexByte(cart, '.')
	for name, forged := range map[string]string{
		"payload":           flip(cart, 30),
		"signature":         flip(cart, dot+5),
		"no signature":      cart[:dot],
		"empty signature":   cart[:dot+1],
		"nothing":           ".",
		"other purpose":     session,
		"longer":            cart + "A",
		"words":             "hello",
		"signature only":    cart[dot:],
		"two of them":       cart + "." + cart,
		"another's payload": session[:strings.IndexByte(session, '.')] + cart[dot:],
	} {
		t.Run("cart: "+name, func(t *testing.T) {
			b := b.copy()
			b.T = t
			b.cookies["cart"] = forged
			b.want(b.do("POST", url+"/v1/cart/items", items("mug-02", 1)), 400, "invalid_cart_cookie")
			if b.cookies["cart"] != "" {
				t.Error("the forged cookie stays")
			}
			if next := b.cart(url).lines(); next != "" {
				t.Errorf("the next cart is %q", next)
			}
		})
	}
	dot = strings.IndexByte(session, '.')
	for name, forged := range map[string]string{
		"payload": flip(session, 30), "signature": flip(session, dot+5), "none": "", "other purpose": cart,
	} {
		t.Run("session: "+name, func(t *testing.T) {
			b := b.copy()
			b.T = t
			b.cookies["session-record"] = forged
			b.want(b.do("GET", url+"/v1/sessions", nil), 401, "invalid_session")
		})
	}
	// A good cart in foreign hands is nobody's there.
	thief := newBrowser(t)
	thief.cookies["cart"] = cart
	if stolen := thief.cart(url).lines(); stolen != "" {
		t.Errorf("a stranger sees %s", stolen)
	}
	if mine := b.cart(url).lines(); mine != "mug-01:2" {
		t.Errorf("the owner sees %s", mine)
	}
	// Signed with another key.
	der, _ := x509.MarshalPKCS8PrivateKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize)))
	keys := filepath.Join(t.TempDir(), "keys.pem")
	if err := os.WriteFile(keys, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	elsewhere := serve(t, settings(t, stateful.Cookie, "COATCHECK_SIGNING_KEYS_FILE="+keys))
	b.want(b.do("GET", elsewhere+"/v1/sessions", nil), 401, "invalid_session")
}

// TestLimitsOfCookies: what the package's comment says that cookies can't do.
func TestLimitsOfCookies(t *testing.T) {
	url := serve(t, settings(t, stateful.Cookie))
	b := newBrowser(t)
	b.add(url, "mug-01", 1)

	other := b.copy() // another tab, which sends what this one had
	b.add(url, "mug-02", 1)
	b.cookies["cart"] = func() string { other.add(url, "coat-01", 1); return other.cookies["cart"] }()
	if got := b.cart(url).lines(); got != "coat-01:1 mug-01:1" {
		t.Errorf("of two tabs the cart has %s, want the last one's", got)
	}

	b.want(b.do("POST", url+"/v1/users", credentials("a@example.com")), 201, "")
	b.logIn(url, "a@example.com")
	copied := b.copy()
	b.want(b.do("DELETE", url+"/v1/sessions", nil), 204, "")
	b.want(b.do("GET", url+"/v1/sessions", nil), 401, "login_required")
	copied.want(copied.do("GET", url+"/v1/sessions", nil), 200, "")
}

// TestCookieSize: what a browser would not keep is refused, and the cart stays
// as it was.
func TestCookieSize(t *testing.T) {
	var products []string
	sku := func(i int) string { return fmt.Sprintf("%s-%03d", strings.Repeat("x", 60), i) }
	for i := range 100 {
		products = append(products, fmt.Sprintf(`{"sku": %q, "name": "x", "unit_price": 1}`, sku(i)))
	}
	file := filepath.Join(t.TempDir(), "catalogue.json")
	if err := os.WriteFile(file, []byte(`{"currency": "EUR", "products": [`+strings.Join(products, ",")+`]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	url, b := serve(t, settings(t, stateful.Cookie, "COATCHECK_CATALOGUE_FILE="+file)), newBrowser(t)
	var refused answer
	n := 0
	for ; n < 100; n++ {
		refused = b.do("POST", url+"/v1/cart/items", items(sku(n), 1))
		if refused.Status != 200 {
			break
		}
	}
	b.want(refused, 422, "cart_too_large")
	if n < 40 || n > 46 {
		t.Errorf("%d lines of 64 bytes found room in 4096 bytes", n)
	}
	if got := len(b.cart(url).Items); got != n {
		t.Errorf("the cart has %d lines after the refusal, had %d", got, n)
	}
	b.want(b.do("DELETE", url+"/v1/cart/items/"+sku(0), nil), 200, "")
	b.add(url, sku(99), 1)
}

// TestDrain: on its way out the process says so, and goes on answering.
func TestDrain(t *testing.T) {
	each(t, func(t *testing.T, state string) {
		free := func() string {
			lis, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = lis.Close() }()
			return lis.Addr().String()
		}
		addr := free()
		s := settings(t, state, "COATCHECK_HTTP_ADDR="+addr, "COATCHECK_ADMIN_ADDR="+free(), "COATCHECK_DRAIN_DELAY=600ms")
		service, err := stateful.New(s, slog.New(slog.DiscardHandler), chassis.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ended := make(chan error, 1)
		go func() { ended <- chassis.Run(ctx, service) }()
		ready := func() int {
			resp, err := http.Get("http://" + addr + "/readyz")
			if err != nil {
				return 0
			}
			_ = resp.Body.Close()
			return resp.StatusCode
		}
		for deadline := time.Now().Add(5 * time.Second); ready() != 200; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("never ready")
			}
		}
		b := newBrowser(t)
		b.add("http://"+addr, "mug-01", 1)
		cancel()
		for deadline := time.Now().Add(300 * time.Millisecond); ready() != 503; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("it does not say that it drains")
			}
		}
		last := b.add("http://"+addr, "mug-01", 1)
		if last.lines() != "mug-01:2" || !last.Close {
			t.Errorf("while draining: %s, %v", last.lines(), last.Header)
		}
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("it does not end")
		}
	})
}

func TestSettings(t *testing.T) {
	keys := settings(t, stateful.Memory).SigningKeys.Reveal()
	file := filepath.Join(t.TempDir(), "keys.pem")
	if err := os.WriteFile(file, []byte(keys), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []string{"STATE=disk", "STATE=", "MAX_LINES=0", "SESSION_IDLE=1s", "MAX_IN_FLIGHT=0", "ACCOUNTS_FILE=" + file, "DRAIN_DELAY=10m", "REDIS_ADDRS=127.0.0.1:1"} {
		name, _, _ := strings.Cut(wrong, "=")
		_, err := config.Load[stateful.Settings]([]string{"COATCHECK_STATE=memory", "COATCHECK_SIGNING_KEYS_FILE=" + file, "COATCHECK_" + wrong})
		if err == nil || !strings.Contains(err.Error(), "COATCHECK_"+name+":") {
			t.Errorf("%s: got %v", wrong, err)
		}
	}
}
