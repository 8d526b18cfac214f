package gateway

import (
	"context"
	"net/http"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"coatcheck/chassis/config"
)

func TestReadiness(t *testing.T) {
	s := newShop(t)
	c := s.client(t)
	c.want(503, "starting", "GET", "/readyz", "")
	c.want(200, "", "GET", "/livez", "")
	err := s.Ready(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c.want(200, "", "GET", "/readyz", "")
	s.cartRPC[0].Close() // an outage takes no endpoint away
	c.want(200, "", "GET", "/readyz", "")
	NewServer(s.Gateway).Drain()
	c.want(503, "draining", "GET", "/readyz", "")
	c.want(200, "", "GET", "/livez", "")
}

func TestNotReadyWithoutCart(t *testing.T) {
	s := newShop(t)
	s.cartRPC[0].Close()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := s.Ready(ctx); err == nil {
		t.Error("ready without a cart service")
	}
	s.client(t).want(503, "starting", "GET", "/readyz", "")
}

// TestContentLength: short or long, an answer tells its length, to a HEAD as well,
// and is not sent in chunks.
func TestContentLength(t *testing.T) {
	s := newShop(t)
	_, addr := s.listen(t, nil)
	for _, transport := range []func(*http.Transport){nil, h2c} {
		c := s.remote(t, addr, transport)
		for path, least := range map[string]int{"/v1/cart": 10, "/openapi.json": shortBody + 1, "/nowhere": 10} {
			whole, head := c.do("GET", path, ""), c.do("HEAD", path, "")
			length := strconv.Itoa(len(whole.body))
			if len(whole.body) < least || head.status != whole.status || len(head.body) != 0 || whole.Get("Content-Length") != length || head.Get("Content-Length") != length {
				t.Errorf("%s: HEAD answers %d with Content-Length %q, GET %d with %q and %s bytes", path, head.status, head.Get("Content-Length"), whole.status, whole.Get("Content-Length"), length)
			}
		}
	}
}

func h2c(tr *http.Transport) {
	tr.Protocols = new(http.Protocols)
	tr.Protocols.SetUnencryptedHTTP2(true)
}

// hold keeps the carts' calls of a name: entered is closed when one has come, and
// they go on when release is closed.
func (s *shop) hold(name string) (entered, release chan bool) {
	entered, release = make(chan bool), make(chan bool)
	var once sync.Once
	s.fakeCarts[0].before = func(_ ctx, call string, _ any) error {
		if call == name {
			once.Do(func() { close(entered) })
			<-release
		}
		return nil
	}
	return entered, release
}

// Requests that are under way when the server stops finish, and every answer
// since Drain tells the client to go elsewhere; new requests are served until
// Stop.
func TestDrain(t *testing.T) {
	for name, transport := range map[string]func(*http.Transport){"HTTP/1.1": nil, "HTTP/2": h2c} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t)
			srv, addr := s.listen(t, nil)
			c := s.remote(t, addr, transport)
			send := c.send
			closing, reused := false, false
			c.send = func(r *http.Request) (*http.Response, error) {
				trace := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) { reused = info.Reused }}
				resp, err := send(r.WithContext(httptrace.WithClientTrace(r.Context(), trace)))
				if err == nil {
					closing = resp.Close
					if resp.Proto != name && resp.Proto != name+".0" {
						t.Errorf("spoke %s", resp.Proto)
					}
				}
				return resp, err
			}
			c.want(200, "", "GET", "/v1/cart", "")
			if closing {
				t.Error("Connection: close before Drain")
			}
			entered, release := s.hold("ListProducts")
			slow := s.remote(t, addr, transport)
			done := make(chan response, 1)
			go func() { done <- slow.want(200, "", "GET", "/v1/products", "") }()
			<-entered

			srv.Drain()
			for i := range 3 {
				c.want(200, "", "POST", "/v1/cart/items", addMugs)
				if reused != (i == 0) {
					t.Errorf("request %d after Drain: on the old connection %v", i+1, reused)
				}
				time.Sleep(20 * time.Millisecond) // a GOAWAY follows its answer
				if closing != (name == "HTTP/1.1") {
					t.Errorf("Connection: close is %v", closing)
				}
			}
			stopped := make(chan error, 1)
			go func() { stopped <- srv.Stop(t.Context()) }()
			select {
			case err := <-stopped:
				t.Fatalf("stopped with a request under way: %v", err)
			case <-time.After(50 * time.Millisecond):
			}
			other := s.remote(t, addr, transport)
			if _, err := other.try("GET", "/livez", ""); err == nil {
				t.Error("a new connection was served after Stop")
			}
			close(release)
			if got := <-done; got.status != 200 {
				t.Errorf("the request under way got %d", got.status)
			}
			select {
			case err := <-stopped:
				if err != nil {
					t.Errorf("Stop: %v", err)
				}
			case <-time.After(5 * time.Second):
				t.Error("Stop does not return")
			}
		})
	}
}

// TestConnectionAge: an old connection is ended by an answer, and a request that is
// under way on it then is answered.
func TestConnectionAge(t *testing.T) {
	for name, transport := range map[string]func(*http.Transport){"HTTP/1.1": nil, "HTTP/2": h2c} {
		t.Run(name, func(t *testing.T) {
			settings := testSettings()
			settings.ConnectionAge = 200 * time.Millisecond
			s := newShopWith(t, settings, 1)
			_, addr := s.listen(t, nil)
			c := s.remote(t, addr, transport)
			send := c.send
			reused := false
			c.send = func(r *http.Request) (*http.Response, error) {
				trace := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) { reused = info.Reused }}
				return send(r.WithContext(httptrace.WithClientTrace(r.Context(), trace)))
			}
			c.want(200, "", "GET", "/v1/cart", "")
			began := time.Now()
			c.want(200, "", "GET", "/v1/cart", "")
			if !reused && time.Since(began) < settings.ConnectionAge/2 {
				t.Error("a young connection was not kept")
			}
			time.Sleep(settings.ConnectionAge * 3 / 2)
			if name == "HTTP/2" { // whose connection has many
				entered, release := s.hold("ListProducts")
				done := make(chan response, 1)
				go func() { done <- c.want(200, "", "GET", "/v1/products", "") }()
				<-entered
				defer func() {
					close(release)
					<-done
				}()
			}
			c.want(200, "", "POST", "/v1/cart/items", addMugs)
			if !reused {
				t.Error("an old connection was given up before it was ended")
			}
			time.Sleep(20 * time.Millisecond) // a GOAWAY follows its answer
			c.want(200, "", "POST", "/v1/cart/items", addMugs)
			if reused {
				t.Error("an old connection was kept")
			}
		})
	}
}

func TestStopIsBounded(t *testing.T) {
	s := newShop(t)
	srv, addr := s.listen(t, nil)
	entered := make(chan bool)
	s.fakeCarts[0].before = func(ctx ctx, _ string, _ any) error { close(entered); <-ctx.Done(); return nil }
	failed := make(chan error, 1)
	go func() {
		_, err := s.remote(t, addr, nil).try("GET", "/v1/products", "")
		failed <- err
	}()
	<-entered
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := srv.Stop(ctx); err == nil {
		t.Error("Stop says that all requests finished")
	}
	srv.Close()
	if err := <-failed; err == nil {
		t.Error("Close let a request finish")
	}
}

func TestSettings(t *testing.T) {
	good := []string{"COATCHECK_CART_ADDR=dns:///cart:9090", "COATCHECK_AUTH_ADDR=127.0.0.1:1,127.0.0.1:2"}
	got, err := config.Load[Settings](good)
	if err != nil {
		t.Fatal(err)
	}
	if got.HTTPAddr != ":8080" || got.PlainHTTP || got.Storefront || got.MaxInFlight != 128 || got.ConnectionAge != time.Minute || got.RequestTimeout != 2*time.Second || got.TryTimeout != 600*time.Millisecond ||
		got.AddressRate != 1000 || got.TicketRate != 100 || len(got.TrustedProxies) != 0 {
		t.Errorf("defaults: %+v", got)
	}
	got, err = config.Load[Settings](append(good, "COATCHECK_TRUSTED_PROXIES=10.0.0.0/8,fd00::/8"))
	if err != nil || len(got.TrustedProxies) != 2 || got.TrustedProxies[1].String() != "fd00::/8" {
		t.Errorf("proxies: %v, %v", got.TrustedProxies, err)
	}
	for fault, environ := range map[string][]string{
		"COATCHECK_ADDRESS_RATE: must be 0 to":        append(good, "COATCHECK_ADDRESS_RATE=-1"),
		"COATCHECK_TICKET_RATE: must be 0 to":         append(good, "COATCHECK_TICKET_RATE=1000001"),
		"COATCHECK_TRUSTED_PROXIES: must not be":      append(good, "COATCHECK_TRUSTED_PROXIES=10.0.0.0/8,0.0.0.0/0"),
		"COATCHECK_TRUSTED_PROXIES: ":                 append(good, "COATCHECK_TRUSTED_PROXIES=10.0.0.1"),
		"COATCHECK_CART_ADDR: must be set":            {good[1]},
		"COATCHECK_AUTH_ADDR: must be dns:///":        {good[0], "COATCHECK_AUTH_ADDR=auth"},
		"COATCHECK_MAX_IN_FLIGHT: must be at least":   append(good, "COATCHECK_MAX_IN_FLIGHT=0"),
		"COATCHECK_CONNECTION_AGE: must be 0, or":     append(good, "COATCHECK_CONNECTION_AGE=10ms"),
		"COATCHECK_TRY_TIMEOUT: must be at least":     append(good, "COATCHECK_TRY_TIMEOUT=1ms"),
		"COATCHECK_REQUEST_TIMEOUT: must be at least": append(good, "COATCHECK_REQUEST_TIMEOUT=500ms"),
		"COATCHECK_PLAIN_HTTP: ":                      append(good, "COATCHECK_PLAIN_HTTP=perhaps"),
		"COATCHECK_STOREFRONT: ":                      append(good, "COATCHECK_STOREFRONT=perhaps"),
	} {
		_, err := config.Load[Settings](environ)
		if err == nil || !strings.Contains(err.Error(), fault) || strings.Count(err.Error(), "\n") != 1 {
			t.Errorf("want %q alone, got %v", fault, err)
		}
	}
}

func TestDocs(t *testing.T) {
	c := newShop(t).client(t)
	page := c.want(200, "", "GET", "/docs", "")
	for _, reference := range regexp.MustCompile(`(?:src|href)="([^"]*)"`).FindAllStringSubmatch(string(page.body), -1) {
		if !strings.HasPrefix(reference[1], "/docs/") {
			t.Errorf("the page loads %s", reference[1])
		}
		got := c.want(200, "", "GET", reference[1], "")
		if len(got.body) < 100 {
			t.Errorf("%s has %d bytes", reference[1], len(got.body))
		}
		c.want(304, "", "GET", reference[1], "", "If-None-Match: "+got.Get("ETag"))
	}
	if !strings.Contains(string(page.body), `"swaggerJsonUrl":"/openapi.json"`) {
		t.Error("the page does not show /openapi.json")
	}
	policy := page.Get("Content-Security-Policy")
	inline := len(inlineScripts.FindAll(page.body, -1))
	if !strings.HasPrefix(policy, "default-src 'none'; ") || strings.Count(policy, "'sha256-") != inline || inline != 2 ||
		strings.Contains(policy, "script-src 'self' 'unsafe") || strings.Contains(policy, "http") {
		t.Errorf("policy with %d inline scripts: %s", inline, policy)
	}
	if got := c.want(200, "", "GET", "/openapi.json", ""); !slices.Equal(got.body, openAPIDocument) {
		t.Error("/openapi.json is not the document")
	}
}

// Every code in the sources must be one that a client can read about.
func TestCodesAreWords(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	codes := regexp.MustCompile(`(?:fault\.New\(fault\.\w+|refuse\(http\.\w+), "([^"]*)"`)
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, code := range codes.FindAllStringSubmatch(string(source), -1) {
			if !regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`).MatchString(code[1]) {
				t.Errorf("%s: code %q", file, code[1])
			}
		}
	}
}
