package e2e_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"

	"coatcheck/trial/local"
)

// collected is an OTLP collector that keeps what it gets.
type collected struct {
	collector.UnimplementedTraceServiceServer
	mu    sync.Mutex
	spans []span
}

// span is what a test asks of one.
type span struct {
	*tracepb.Span
	trace, id, parent string
	service, instance string
}

func (c *collected) Export(_ context.Context, req *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, from := range req.GetResourceSpans() {
		of := map[string]string{}
		for _, a := range from.GetResource().GetAttributes() {
			of[a.GetKey()] = a.GetValue().GetStringValue()
		}
		for _, scope := range from.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				c.spans = append(c.spans, span{
					s, hex.EncodeToString(s.GetTraceId()), hex.EncodeToString(s.GetSpanId()), hex.EncodeToString(s.GetParentSpanId()),
					of["service.name"], of["service.instance.id"],
				})
			}
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

// of returns the spans of a trace.
func (c *collected) of(trace string) []span {
	c.mu.Lock()
	defer c.mu.Unlock()
	var found []span
	for _, s := range c.spans {
		if s.trace == trace {
			found = append(found, s)
		}
	}
	return found
}

func collect(t *testing.T) (c *collected, env []string) {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c = &collected{}
	server := grpc.NewServer()
	collector.RegisterTraceServiceServer(server, c)
	go func() { _ = server.Serve(lis) }()
	t.Cleanup(server.Stop)
	return c, []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://" + lis.Addr().String(), "OTEL_BSP_SCHEDULE_DELAY=50"}
}

// openWith opens a shop whose services all have these settings too, and names
// the folder of its logs.
func openWith(t *testing.T, o local.Options, env ...string) (*local.Shop, string) {
	t.Helper()
	o.State, o.Bin = filepath.Join(t.TempDir(), "s"), bin
	o.Env = map[string][]string{local.Gateway: env, local.Auth: env, local.Cart: env}
	shop, err := local.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(shop.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := shop.AwaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	return shop, filepath.Join(o.State, "log")
}

const addMug = `{"items":[{"sku":"mug-01","quantity":1}]}`

// traceContext is a client's trace: its id, and the header that sends it.
func traceContext(n int) (trace, header string) {
	trace = fmt.Sprintf("%032x", n)
	return trace, "00-" + trace + "-00000000000000aa-01"
}

// path names the spans from the client's down to one of this name, which must be
// the only one under the client's own parent, or the test fails.
func path(t *testing.T, spans []span, last span) []string {
	t.Helper()
	var names []string
	for at := last; ; {
		names = append([]string{at.service + " " + at.GetName()}, names...)
		if at.parent == "00000000000000aa" {
			return names
		}
		i := slices.IndexFunc(spans, func(s span) bool { return s.id == at.parent })
		if i < 0 {
			t.Fatalf("the trace is broken above %v", names)
		}
		at = spans[i]
	}
}

// TestTrace: an add is one trace from the client's own span to Redis, and a try
// that a killed cart process never answered is a span beside the one that was.
func TestTrace(t *testing.T) {
	c, env := collect(t)
	shop, dir := openWith(t, local.Options{Gateways: 1, Auths: 1, Carts: 2}, env...)
	shopper := newClient(t, "http://"+shop.Address())
	shopper.do("GET", "/v1/cart", "")
	shopper.do("POST", "/v1/cart/items", addMug) // so that Redis has the script

	t.Run("one", func(t *testing.T) {
		trace, header := traceContext(1)
		if a := shopper.do("POST", "/v1/cart/items", addMug, "traceparent", header); a.status != 200 {
			t.Fatalf("%d %s", a.status, a.body)
		}
		spans, redis := awaitRedis(t, c, trace)
		got := path(t, spans, redis)
		want := []string{"gateway POST /v1/cart/items", "gateway coatcheck.cart.v1.CartService/AddItems", "cart coatcheck.cart.v1.CartService/AddItems", "cart evalsha"}
		if !slices.Equal(got, want) {
			t.Errorf("the trace is\n%q, want\n%q", got, want)
		}
		for _, s := range spans {
			if path(t, spans, s); s.GetStatus().GetCode() == tracepb.Status_STATUS_CODE_ERROR {
				t.Errorf("%s failed", s.GetName())
			}
		}
	})

	t.Run("a retry", func(t *testing.T) {
		// Frozen, cart-1 lets the call that it gets wait; killed, it never answers.
		if err := shop.Kill("cart-1", syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		trace, stalled := "", false
		for n := 2; !stalled; n++ {
			if n > 20 {
				t.Fatal("no add ever came to cart-1")
			}
			var header string
			trace, header = traceContext(n)
			kill := time.AfterFunc(300*time.Millisecond, func() { _ = shop.Kill("cart-1", syscall.SIGKILL) })
			if a := shopper.do("POST", "/v1/cart/items", addMug, "traceparent", header); a.status != 200 {
				t.Fatalf("%d %s", a.status, a.body)
			}
			stalled = !kill.Stop()
		}
		spans, redis := awaitRedis(t, c, trace)
		var root span
		var tries []span
		for _, s := range spans {
			switch {
			case s.parent == "00000000000000aa":
				root = s
			case s.service == "gateway" && s.GetName() == "coatcheck.cart.v1.CartService/AddItems":
				tries = append(tries, s)
			}
		}
		slices.SortFunc(tries, func(a, b span) int { return int(int64(a.GetStartTimeUnixNano()) - int64(b.GetStartTimeUnixNano())) })
		if len(tries) != 2 || tries[0].parent != root.id || tries[1].parent != root.id {
			t.Fatalf("the tries are %+v", tries)
		}
		failed := tracepb.Status_STATUS_CODE_ERROR
		if tries[0].GetStatus().GetCode() != failed || tries[1].GetStatus().GetCode() == failed || root.GetStatus().GetCode() == failed {
			t.Errorf("the first try should have failed and the second one not: %v, %v; all: %v", tries[0].GetStatus(), tries[1].GetStatus(), root.GetStatus())
		}
		if len(root.GetEvents()) != 1 || root.GetEvents()[0].GetName() != "retry" {
			t.Errorf("the retry is not marked: %v", root.GetEvents())
		}
		if got := path(t, spans, redis); len(got) != 4 || redis.instance != "cart-2" {
			t.Errorf("%v by %s", got, redis.instance)
		}
		for _, s := range spans {
			if s.service == "cart" && s.parent == tries[0].id {
				t.Errorf("the killed process answered: %v", s)
			}
		}
	})

	t.Run("together", func(t *testing.T) {
		const shoppers, first = 64, 1000
		begin, all := make(chan struct{}), sync.WaitGroup{}
		for n := range shoppers {
			shopper := newClient(t, "http://"+shop.Address())
			shopper.do("GET", "/v1/cart", "")
			all.Go(func() {
				<-begin
				_, header := traceContext(first + n)
				if a := shopper.do("POST", "/v1/cart/items", addMug, "traceparent", header); a.status != 200 {
					t.Errorf("%d %s", a.status, a.body)
				}
			})
		}
		close(begin)
		all.Wait()
		batched := 0
		for n := range shoppers {
			trace, _ := traceContext(first + n)
			var spans []span
			var inCart span
			await(t, "traced to the cart", 10*time.Second, func() bool {
				spans = c.of(trace)
				i := slices.IndexFunc(spans, func(s span) bool {
					return s.service == "cart" && s.GetName() == "coatcheck.cart.v1.CartService/AddItems"
				})
				if i >= 0 {
					inCart = spans[i]
				}
				return i >= 0 && slices.ContainsFunc(spans, func(s span) bool { return s.parent == "00000000000000aa" })
			})
			if got := path(t, spans, inCart); len(got) != 3 {
				t.Errorf("a call's way is %q", got)
			}
			// In company, it names the trace that has the batch, and Redis under it.
			for _, link := range inCart.GetLinks() {
				batched++
				await(t, "the batch traced to Redis", 10*time.Second, func() bool {
					return slices.ContainsFunc(c.of(hex.EncodeToString(link.GetTraceId())), func(s span) bool {
						return s.service == "cart" && s.parent == hex.EncodeToString(link.GetSpanId())
					})
				})
			}
		}
		if batched < shoppers/4 {
			t.Errorf("only %d of %d calls were made together: that says nothing", batched, shoppers)
		}
	})

	t.Run("a failure", func(t *testing.T) {
		trace, header := traceContext(100)
		a := shopper.do("POST", "/v1/cart/items", `{}`, "traceparent", header)
		if want := `"trace_id":"` + trace + `"`; a.status != 400 || !contains(a.body, want) {
			t.Errorf("%d %s: want %s", a.status, a.body, want)
		}
		await(t, "logged with its trace", 5*time.Second, func() bool {
			return regexp.MustCompile(`"msg":"request".*"status":400,.*"trace_id":"` + trace + `"`).Match(logs(t, dir)["gateway-1.log"])
		})
	})

	t.Run("an exemplar", func(t *testing.T) {
		for _, p := range shop.Processes() {
			if p.Role != local.Gateway {
				continue
			}
			a := newClient(t, "http://"+p.Admin).do("GET", "/metrics", "", "Accept", "application/openmetrics-text")
			named := regexp.MustCompile(`http_request_duration_seconds_bucket\{[^}]*\} \d+ # \{trace_id="0{29}[0-9a-f]{3}"\}`)
			if !named.Match(a.body) {
				t.Errorf("no bucket names one of the traces:\n%s", a.body)
			}
		}
	})
}

// awaitRedis waits until all of a trace is there, down to the script in Redis.
func awaitRedis(t *testing.T, c *collected, trace string) (spans []span, redis span) {
	t.Helper()
	await(t, "traced to Redis", 10*time.Second, func() bool {
		spans = c.of(trace)
		i := slices.IndexFunc(spans, func(s span) bool { return s.GetName() == "evalsha" })
		root := slices.ContainsFunc(spans, func(s span) bool { return s.parent == "00000000000000aa" })
		if i >= 0 {
			redis = spans[i]
		}
		return i >= 0 && root
	})
	return spans, redis
}
