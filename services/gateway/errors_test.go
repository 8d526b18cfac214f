package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"coatcheck/chassis/fault"
)

type ctx = context.Context

var unavailable = fault.New(fault.Unavailable, "store_unavailable", "The store is away.")

// failing answers err to one call.
func failing(call string, err error) hook {
	return func(_ ctx, name string, _ any) error {
		if name == call {
			return err
		}
		return nil
	}
}

func TestEveryKindHasItsStatus(t *testing.T) {
	s := newShop(t)
	for _, test := range []struct {
		err    error
		status int
		code   string
	}{
		{fault.New(fault.Internal, "internal", "x"), 500, "internal"},
		{fault.New(fault.Internal, "corrupt_cart", "x"), 500, "corrupt_cart"},
		{fault.New(fault.Invalid, "invalid_owner", "x"), 400, "invalid_owner"},
		{fault.New(fault.Refused, "unknown_sku", "x"), 422, "unknown_sku"},
		{fault.New(fault.Refused, "quantity_limit", "x"), 422, "quantity_limit"},
		{fault.New(fault.Refused, "line_limit", "x"), 422, "line_limit"},
		{fault.New(fault.Refused, "idempotency_key_reused", "x"), 422, "idempotency_key_reused"},
		{fault.New(fault.Refused, "cart_empty", "x"), 422, "cart_empty"},
		{fault.New(fault.Refused, "item_unavailable", "x"), 422, "item_unavailable"},
		{fault.New(fault.Refused, "cart_moved", "x"), 409, "cart_moved"},
		{fault.New(fault.Unauthenticated, "wrong_credentials", "x"), 401, "wrong_credentials"},
		{fault.New(fault.Unauthenticated, "invalid_session", "x"), 401, "invalid_session"},
		{fault.New(fault.Forbidden, "wrong_password", "x"), 403, "wrong_password"},
		{fault.New(fault.Forbidden, "login_required", "x"), 401, "login_required"},
		{fault.New(fault.Absent, "no_such_order", "x"), 404, "no_such_order"},
		{fault.New(fault.Conflict, "email_taken", "x"), 409, "email_taken"},
		{fault.New(fault.Stale, "stale_version", "x"), 412, "stale_version"},
		{fault.New(fault.Exhausted, "rate_limited", "x"), 429, "rate_limited"},
		{fault.New(fault.Unavailable, "store_unavailable", "x"), 503, "store_unavailable"},
		{fault.New(fault.Unavailable, "overloaded", "x"), 503, "overloaded"},
		{fault.New(fault.Unimplemented, "no_such_call", "x"), 500, "no_such_call"},
		{status.Error(codes.Unavailable, "connection refused by 10.0.0.1"), 503, "unavailable"},
		{status.Error(codes.DeadlineExceeded, "x"), 503, "timeout"},
		{status.Error(codes.ResourceExhausted, "message larger than max"), 500, "internal"},
		{status.Error(codes.Unauthenticated, "x"), 500, "internal"},
		{status.Error(codes.Unimplemented, "x"), 500, "unimplemented"},
		{context.DeadlineExceeded, 503, "timeout"},
		{errors.New("secret detail"), 500, "internal"},
		{fmt.Errorf("wrapped: %w", refuse(413, "body_too_large", "x")), 413, "body_too_large"},
	} {
		got := toRefusal(test.err)
		if got.status != test.status || got.code != test.code {
			t.Errorf("%v: %d %s, want %d %s", test.err, got.status, got.code, test.status, test.code)
		}
		if strings.Contains(got.detail, "10.0.0.1") || strings.Contains(got.detail, "secret") {
			t.Errorf("%v: the detail shows the cause: %s", test.err, got.detail)
		}
		// The same from a service to the client.
		f := &fault.Error{}
		if errors.As(test.err, &f) && test.code != "stale_version" && test.status != 404 {
			s.fakeCarts[0].before = failing("AddItems", test.err)
			resp := s.client(t).want(test.status, test.code, "POST", "/v1/cart/items", addMugs)
			retryAfter := test.status == 429 || test.status == 503
			if (resp.Get("Retry-After") != "") != retryAfter || (resp.Get("WWW-Authenticate") != "") != (test.status == 401) {
				t.Errorf("%v: headers %v", test.err, resp.Header)
			}
			cleared := strings.Contains(strings.Join(resp.Values("Set-Cookie"), "\n"), "session=;")
			if cleared != (test.code == "invalid_session") {
				t.Errorf("%v: Set-Cookie %q", test.err, resp.Values("Set-Cookie"))
			}
		}
	}
}

func TestProblem(t *testing.T) {
	c := newShop(t).client(t)
	got := c.want(400, "invalid_sku", "PUT", "/v1/cart/items/%20", `{"quantity":1}`)
	v := got.json(t)
	if got.Get("Content-Type") != "application/problem+json" || v["type"] != "about:blank" || v["title"] != "Bad Request" || v["status"] != 400.0 || v["instance"] != "/v1/cart/items/%20" {
		t.Errorf("%v: %s", got.Header, got.body)
	}
	if got.Get("X-Content-Type-Options") != "nosniff" || got.Get("Served-By") != "gateway-1" {
		t.Errorf("headers %v", got.Header)
	}
}

// TestRequestsAreNamed: a problem names the line of the log that tells of it, by
// the client's own trace if there is one.
func TestRequestsAreNamed(t *testing.T) {
	s := newShop(t)
	var log bytes.Buffer
	s.log = slog.New(slog.NewJSONHandler(&log, nil))
	const own = "0af7651916cd43dd8448eb211c80319c"
	seen := map[string]bool{"": true}
	for _, headers := range [][]string{nil, nil, {"Traceparent: 00-" + own + "-b7ad6b7169203331-01"}} {
		log.Reset()
		name, _ := s.client(t).want(404, "no_such_route", "GET", "/v1/nothing", "", headers...).json(t)["trace_id"].(string)
		if seen[name] || (name == own) != (headers != nil) || !regexp.MustCompile("^[0-9a-f]{32}$").MatchString(name) {
			t.Errorf("%q: the request is named %q", headers, name)
		}
		seen[name] = true
		if !strings.Contains(log.String(), `"trace_id":"`+name+`","code":"no_such_route"`) {
			t.Errorf("the log names %s nowhere: %s", name, log.String())
		}
	}
}

func TestUnknownRoutesAndMethods(t *testing.T) {
	c := newShop(t).client(t)
	for _, path := range []string{"/", "/v1", "/v1/cart/", "/v1/nothing", "/v1/cart/items/", "//v1/cart", "/v1/../v1/cart", "/v1/cart/items/a/b", "/metrics", "/debug/pprof/", "/v1/token", "/docs/", "/docs/embed.go", "/openapi.json/"} {
		c.want(404, "no_such_route", "GET", path, "")
	}
	for call, allow := range map[string]string{
		"POST /v1/cart": "DELETE, GET, HEAD", "GET /v1/cart/items": "POST", "PATCH /v1/cart/items/mug": "DELETE, PUT",
		"BREW /v1/cart": "DELETE, GET, HEAD", "POST /readyz": "GET, HEAD", "OPTIONS /v1/products": "GET, HEAD", "TRACE /v1/products": "GET, HEAD",
	} {
		method, path, _ := strings.Cut(call, " ")
		if got := c.want(405, "method_not_allowed", method, path, ""); got.Get("Allow") != allow {
			t.Errorf("%s: Allow %q, want %q", call, got.Get("Allow"), allow)
		}
	}
	c.want(200, "", "HEAD", "/v1/cart", "")
}

func TestCrossOrigin(t *testing.T) {
	s := newShop(t)
	c := s.client(t)
	c.want(200, "", "GET", "/v1/cart", "", "Sec-Fetch-Site: cross-site")
	c.want(403, "cross_origin", "POST", "/v1/cart/items", addMugs, "Sec-Fetch-Site: cross-site")
	c.want(403, "cross_origin", "DELETE", "/v1/cart", "", "Sec-Fetch-Site: same-site")
	c.want(403, "cross_origin", "DELETE", "/v1/cart", "", "Origin: https://evil.example")
	if n := s.cartStore.changes(); n != 0 {
		t.Errorf("%d changes reached the cart", n)
	}
	c.want(200, "", "POST", "/v1/cart/items", addMugs, "Sec-Fetch-Site: same-origin")
	c.want(200, "", "POST", "/v1/cart/items", addMugs, "Origin: http://shop.test")
}

func TestOverload(t *testing.T) {
	settings := testSettings()
	settings.MaxInFlight = 1
	s := newShopWith(t, settings, 1)
	c := s.client(t)
	c.want(200, "", "GET", "/v1/cart", "")
	entered, release := make(chan bool), make(chan bool)
	s.fakeCarts[0].before = func(_ ctx, _ string, _ any) error {
		entered <- true
		<-release
		return nil
	}
	done := make(chan bool)
	go func() {
		defer close(done)
		s.client(t).want(200, "", "GET", "/v1/products", "")
	}()
	<-entered
	oneWaits := func() {
		t.Helper()
		for deadline := time.Now().Add(settings.RequestTimeout); s.waiting.Load() == 0; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("nobody waits for a slot")
			}
		}
	}
	waits := make(chan response, 1)
	began := time.Now()
	go func() { waits <- s.client(t).want(503, "overloaded", "GET", "/v1/products", "") }()
	oneWaits()
	s.client(t).want(503, "overloaded", "GET", "/v1/products", "") // one waits already
	if took := time.Since(began); took > settings.RequestTimeout/8 {
		t.Errorf("who can't even wait is told so after %v", took)
	}
	s.client(t).want(200, "", "GET", "/livez", "")
	s.client(t).want(503, "starting", "GET", "/readyz", "")
	<-waits
	if took := time.Since(began); took < settings.RequestTimeout/4 || took > settings.RequestTimeout/2 {
		t.Errorf("waited for %v", took)
	}
	gone, leave := context.WithCancel(t.Context())
	leaves := make(chan bool)
	go func() {
		defer close(leaves)
		if s.enter(gone) {
			t.Error("there was a slot for one more")
		}
	}()
	leave()
	<-leaves
	if n := s.waiting.Load(); n != 0 {
		t.Errorf("%d are waiting", n)
	}
	go func() { waits <- s.client(t).want(200, "", "GET", "/v1/cart", "") }()
	oneWaits()
	close(release)
	<-entered // whose turn it was
	<-done
	<-waits
	s.fakeCarts[0].before = nil
	c.want(200, "", "GET", "/v1/cart", "")
}

func TestPanic(t *testing.T) {
	s := newShop(t)
	s.mux.HandleFunc("GET /v1/panic", func(http.ResponseWriter, *http.Request) { panic("boom") })
	r, err := http.NewRequest("GET", "http://shop.test/v1/panic", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	c := s.client(t)
	resp, err := c.send(r)
	if err != nil || resp.StatusCode != 500 || resp.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("%v %v", resp, err)
	}
	if logged := s.logged.String(); !strings.Contains(logged, "boom") || !strings.Contains(logged, `"status":500`) {
		t.Errorf("logged: %s", logged)
	}
	s.mux.HandleFunc("GET /v1/abort", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("half"))
		panic("boom")
	})
	defer func() {
		if p := recover(); p != http.ErrAbortHandler {
			t.Errorf("a begun answer ended with %v", p)
		}
	}()
	r.URL.Path = "/v1/abort"
	_, _ = c.send(r)
}

func TestLogAndMetrics(t *testing.T) {
	s := newShop(t)
	c := s.user(t, "secret@example.org")
	c.want(200, "", "GET", "/v1/cart", "")
	c.want(404, "", "GET", "/v1/secret-path", "")
	c.want(405, "", "BREW", "/v1/cart", "")
	s.fakeCarts[0].before = failing("GetCart", unavailable)
	c.want(503, "", "GET", "/v1/cart", "")
	c.want(200, "", "GET", "/livez", "")
	logged := s.logged.String()
	if lines := strings.Count(logged, `"msg":"request"`); lines != 7 {
		t.Errorf("%d lines for 7 requests:\n%s", lines, logged)
	}
	for _, want := range []string{
		`"level":"INFO","msg":"request","method":"GET","route":"/v1/cart","status":200,"duration":`,
		`"level":"ERROR","msg":"request","method":"GET","route":"/v1/cart","status":503,"duration":`,
		`"method":"OTHER","route":"unmatched","status":405`, `"code":"method_not_allowed"`,
		`"level":"DEBUG","msg":"request","method":"GET","route":"/livez","status":200,"duration":`,
	} {
		if !strings.Contains(logged, want) {
			t.Errorf("not logged: %s\n%s", want, logged)
		}
	}
	for _, secret := range []string{"secret", "correct horse", fakeToken(""), "ticket-of"} {
		if strings.Contains(logged, secret) {
			t.Errorf("logged: %s", secret)
		}
	}
	for labels, want := range map[[3]string]float64{
		{"/v1/cart", "GET", "200"}: 1, {"/v1/cart", "GET", "503"}: 1, {"unmatched", "GET", "404"}: 1, {"unmatched", "OTHER", "405"}: 1, {"/v1/sessions", "POST", "201"}: 1,
	} {
		if got := testutil.ToFloat64(s.metrics.requests.WithLabelValues(labels[:]...)); got != want {
			t.Errorf("http_requests_total%v is %v, want %v", labels, got, want)
		}
	}
	if got := testutil.ToFloat64(s.metrics.inFlight); got != 0 {
		t.Errorf("%v requests in flight", got)
	}
	if n, err := testutil.GatherAndCount(s.reg, "http_request_duration_seconds"); n != 6 || err != nil {
		t.Errorf("%d histograms, %v", n, err)
	}
}

func TestClientThatHasGone(t *testing.T) {
	s := newShop(t)
	c := s.client(t)
	c.want(200, "", "GET", "/v1/cart", "")
	gone, cancel := context.WithCancel(context.Background())
	s.fakeCarts[0].before = func(ctx, string, any) error { cancel(); <-gone.Done(); return unavailable }
	send := c.send
	c.send = func(r *http.Request) (*http.Response, error) { return send(r.WithContext(gone)) }
	c.want(503, "", "GET", "/v1/products", "")
	if got := testutil.ToFloat64(s.metrics.requests.WithLabelValues("/v1/products", "GET", "499")); got != 1 {
		t.Errorf("counted as 499: %v", got)
	}
	if n := s.cartStore.count("ListProducts"); n != 1 {
		t.Errorf("%d tries for a client that has gone", n)
	}
}
