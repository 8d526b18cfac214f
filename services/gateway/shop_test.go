package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"coatcheck/chassis"
	"coatcheck/chassis/rpc"
	authv1 "coatcheck/proto/coatcheck/auth/v1"
	cartv1 "coatcheck/proto/coatcheck/cart/v1"
)

// shop is a gateway over fakes of cart and auth that are served over real gRPC.
type shop struct {
	*Gateway
	reg       *prometheus.Registry
	logged    *lockedBuffer
	cartStore *cartStore
	authStore *authStore
	fakeCarts []*fakeCart
	fakeAuths []*fakeAuth
	cartRPC   []*rpc.Server
	coalescer *coalescer // nil where each call goes by itself
	cartConn  *grpc.ClientConn
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func testSettings() Settings {
	return Settings{
		Settings:       chassis.Settings{Instance: "gateway-1"},
		PlainHTTP:      true,
		MaxInFlight:    64,
		RequestTimeout: 2 * time.Second,
		TryTimeout:     600 * time.Millisecond,
		CartBatches:    1,
	}
}

// eachWay runs a test with calls to the cart service that are coalesced, as a shop
// has it unless it is told otherwise, and with each going by itself.
func eachWay(t *testing.T, test func(*testing.T, Settings)) {
	t.Helper()
	for name, batches := range map[string]int{"coalesced": 1, "each by itself": 0} {
		t.Run(name, func(t *testing.T) {
			settings := testSettings()
			settings.CartBatches = batches
			test(t, settings)
		})
	}
}

func newShop(t testing.TB) *shop { return newShopWith(t, testSettings(), 1) }

func newShopWith(t testing.TB, settings Settings, replicas int) *shop {
	t.Helper()
	s := &shop{reg: chassis.NewRegistry(), logged: &lockedBuffer{}, cartStore: newCartStore(), authStore: newAuthStore()}
	var cartAddrs, authAddrs []string
	for i := range replicas {
		cart := &fakeCart{cartStore: s.cartStore}
		srv, addr := serveRPC(t, fmt.Sprintf("cart-%d", i+1), func(r *rpc.Server) { cartv1.RegisterCartServiceServer(r, cart) })
		s.fakeCarts, s.cartRPC, cartAddrs = append(s.fakeCarts, cart), append(s.cartRPC, srv), append(cartAddrs, addr)
		auth := &fakeAuth{authStore: s.authStore}
		_, addr = serveRPC(t, fmt.Sprintf("auth-%d", i+1), func(r *rpc.Server) { authv1.RegisterAuthServiceServer(r, auth) })
		s.fakeAuths, authAddrs = append(s.fakeAuths, auth), append(authAddrs, addr)
	}
	metrics := rpc.NewClientMetrics(s.reg)
	var options []grpc.DialOption
	s.coalescer, options = coalesce(settings, s.reg)
	cart, err := rpc.Dial(strings.Join(cartAddrs, ","), metrics, options...)
	if err != nil {
		t.Fatal(err)
	}
	s.cartConn = cart
	auth, err := rpc.Dial(strings.Join(authAddrs, ","), metrics, rpc.Announced())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cart.Close(); _ = auth.Close() })
	log := slog.New(slog.NewJSONHandler(s.logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s.Gateway, err = New(settings, log, s.reg, cart, auth)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func serveRPC(t testing.TB, instance string, register func(*rpc.Server)) (*rpc.Server, string) {
	t.Helper()
	srv := rpc.NewServer(slog.New(slog.DiscardHandler), prometheus.NewRegistry(), instance)
	register(srv)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = srv.Serve(lis) }()
	t.Cleanup(srv.Close)
	return srv, lis.Addr().String()
}

// client is one browser: it keeps its cookies.
type client struct {
	t       testing.TB
	send    func(*http.Request) (*http.Response, error)
	base    string
	cookies map[string]string
	ctx     context.Context // nil: requests that nobody gives up
}

// with is the same client again, for requests that are given up with ctx; what
// cookies they are given, it does not keep.
func (c *client) with(ctx context.Context) *client {
	again := *c
	again.ctx, again.cookies = ctx, maps.Clone(c.cookies)
	return &again
}

// client asks the handler itself.
func (s *shop) client(t testing.TB) *client {
	return &client{t: t, base: "http://shop.test", cookies: map[string]string{}, send: func(r *http.Request) (*http.Response, error) {
		w := httptest.NewRecorder()
		r.RequestURI = r.URL.RequestURI()
		if r.Body == nil {
			r.Body = http.NoBody
		}
		s.ServeHTTP(w, r)
		return w.Result(), nil
	}}
}

// response is an answer that the contract allows.
type response struct {
	status int
	http.Header
	body []byte
}

func (r response) code(t testing.TB) string {
	t.Helper()
	return r.json(t)["code"].(string)
}

func (r response) json(t testing.TB) map[string]any {
	t.Helper()
	var v map[string]any
	err := json.Unmarshal(r.body, &v)
	if err != nil {
		t.Fatalf("%v in %q", err, r.body)
	}
	return v
}

// do sends a request and holds request and answer against /openapi.json.
// Headers are "Name: value"; a body is sent as JSON unless they name a type.
func (c *client) do(method, path, body string, headers ...string) response {
	c.t.Helper()
	resp, err := c.try(method, path, body, headers...)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp
}

func (c *client) try(method, path, body string, headers ...string) (response, error) {
	c.t.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	r, err := http.NewRequest(method, c.base+path, reader)
	if err != nil {
		c.t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	replaced := map[string]bool{}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ":")
		if !replaced[name] {
			r.Header.Del(name)
		}
		replaced[name] = true
		if value != "" {
			r.Header.Add(name, strings.TrimSpace(value))
		}
	}
	for name, value := range c.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	sent := r.Clone(context.Background())
	if c.ctx != nil {
		r = r.WithContext(c.ctx)
	}
	resp, err := c.send(r)
	if err != nil {
		return response{}, err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		return response{}, err
	}
	for _, set := range resp.Cookies() {
		if set.MaxAge < 0 {
			delete(c.cookies, set.Name)
		} else {
			c.cookies[set.Name] = set.Value
		}
	}
	err = contract().check(sent, []byte(body), resp.StatusCode, resp.Header, got)
	if err != nil {
		c.t.Errorf("%s %s → %d %s\nis not what /openapi.json says: %v", method, path, resp.StatusCode, got, err)
	}
	return response{status: resp.StatusCode, Header: resp.Header, body: got}, nil
}

func (c *client) want(status int, code string, method, path, body string, headers ...string) response {
	c.t.Helper()
	resp := c.do(method, path, body, headers...)
	if resp.status != status {
		c.t.Errorf("%s %s: status %d, want %d: %s", method, path, resp.status, status, cut(string(resp.body), 300))
		return resp
	}
	if code != "" && resp.code(c.t) != code {
		c.t.Errorf("%s %s: code %s, want %s", method, path, resp.code(c.t), code)
	}
	return resp
}

// user returns a client that is logged in.
func (s *shop) user(t testing.TB, email string) *client {
	t.Helper()
	c := s.client(t)
	c.want(201, "", "POST", "/v1/users", `{"email":"`+email+`","password":"correct horse"}`)
	c.logIn(email)
	return c
}

func (c *client) logIn(email string) response {
	c.t.Helper()
	return c.want(201, "", "POST", "/v1/sessions", `{"email":"`+email+`","password":"correct horse"}`)
}

// document is /openapi.json with what is needed to hold answers against it.
type document struct {
	doc    *openapi3.T
	router routers.Router
}

var contract = sync.OnceValue(func() *document {
	doc, err := openapi3.NewLoader().LoadFromData(openAPIDocument)
	if err != nil {
		panic(err)
	}
	doc.Servers = nil                    // matched by path alone: the test servers have addresses of their own
	router, err := legacy.NewRouter(doc) // validates the document
	if err != nil {
		panic(err)
	}
	return &document{doc: doc, router: router}
})

func (d *document) check(r *http.Request, body []byte, status int, h http.Header, answer []byte) error {
	if r.Method == http.MethodHead {
		return nil // as GET, which is documented
	}
	if (status == 204 || status == 304) && len(answer) > 0 {
		return fmt.Errorf("status %d has a body", status)
	}
	route, params, err := d.router.FindRoute(r)
	if err != nil || r.URL.Path != "/" && strings.HasSuffix(r.URL.Path, "/") { // the router here would overlook that
		return d.checkUnmatched(status, h, answer)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	in := &openapi3filter.RequestValidationInput{
		Request: r, PathParams: params, Route: route,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc},
	}
	err = openapi3filter.ValidateRequest(context.Background(), in)
	if err != nil && status < 400 {
		return fmt.Errorf("accepted what the document forbids: %w", err)
	}
	if route.Operation.Responses.Status(status) == nil {
		return fmt.Errorf("status %d is not documented", status)
	}
	return openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: in, Status: status, Header: h,
		Body: io.NopCloser(bytes.NewReader(answer)), Options: &openapi3filter.Options{IncludeResponseStatus: true},
	})
}

// checkUnmatched is for requests that the document has no operation for: those
// are refused as problems.
func (d *document) checkUnmatched(status int, h http.Header, answer []byte) error {
	if status < 400 || status >= 500 || h.Get("Content-Type") != "application/problem+json" || h.Get("Served-By") == "" {
		return fmt.Errorf("no operation of the document, yet status %d, %s", status, h.Get("Content-Type"))
	}
	if (status == http.StatusMethodNotAllowed) != (h.Get("Allow") != "") {
		return fmt.Errorf("status %d with Allow %q", status, h.Get("Allow"))
	}
	var v any
	err := json.Unmarshal(answer, &v)
	if err != nil {
		return err
	}
	return d.doc.Components.Schemas["Problem"].Value.VisitJSON(v)
}
