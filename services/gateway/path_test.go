package gateway

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"coatcheck/chassis"
	"coatcheck/chassis/measuretest"
	"coatcheck/chassis/rpc"
	authv1 "coatcheck/proto/coatcheck/auth/v1"
	cartv1 "coatcheck/proto/coatcheck/cart/v1"
)

// isBackends in the environment makes this test binary the fakes of cart and auth
// instead, so that what a gateway costs can be told from what they cost.
const isBackends = "GATEWAY_TEST_BACKENDS"

func TestMain(m *testing.M) {
	if os.Getenv(isBackends) != "" {
		serveBackends()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// serveBackends says on standard output where it serves, until standard input ends.
func serveBackends() {
	serve := func(instance string, register func(*rpc.Server)) string {
		srv := rpc.NewServer(slog.New(slog.DiscardHandler), chassis.NewRegistry(), instance)
		register(srv)
		lis, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			panic(err)
		}
		go func() { _ = srv.Serve(lis) }()
		return lis.Addr().String()
	}
	cart := serve("cart-1", func(r *rpc.Server) { cartv1.RegisterCartServiceServer(r, &fakeCart{cartStore: newCartStore()}) })
	auth := serve("auth-1", func(r *rpc.Server) { authv1.RegisterAuthServiceServer(r, &fakeAuth{authStore: newAuthStore()}) })
	fmt.Println(cart, auth)
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// alone starts a gateway with the settings of every day, whose backends are
// another process, and returns where it serves.
func alone(tb testing.TB) (addr string) {
	tb.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), isBackends+"=1")
	in, inErr := cmd.StdinPipe()
	out, outErr := cmd.StdoutPipe()
	if err := errors.Join(inErr, outErr, cmd.Start()); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	var cartAddr, authAddr string
	if _, err := fmt.Fscan(out, &cartAddr, &authAddr); err != nil {
		tb.Fatalf("the backends do not say where they are: %v", err)
	}
	settings := Settings{
		Settings: chassis.Settings{Instance: "gateway-1"}, PlainHTTP: true, MaxInFlight: 128, TicketCache: 20_000,
		RequestTimeout: 2 * time.Second, TryTimeout: 600 * time.Millisecond,
		// The limits count, and are never reached.
		AddressRate: 1_000_000, TicketRate: 1_000_000, CartBatches: 1,
	}
	reg := chassis.NewRegistry()
	dial := func(target string, further ...grpc.DialOption) *grpc.ClientConn {
		conn, err := rpc.Dial(target, rpc.NewClientMetrics(chassis.NewRegistry()), further...)
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	g, err := New(settings, slog.New(slog.NewJSONHandler(io.Discard, nil)), reg, dial(cartAddr, Coalesce(settings, reg)...), dial(authAddr))
	if err != nil {
		tb.Fatal(err)
	}
	if err := g.Ready(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	srv := NewServer(g)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	go func() { _ = srv.Serve(lis) }()
	tb.Cleanup(srv.Close)
	return lis.Addr().String()
}

// shopper is a client that costs nothing: it sends the same bytes again and again
// under keys of its own.
type shopper struct {
	conn    net.Conn
	in      *bufio.Reader
	request []byte
	key     []byte // in request
	n       uint64
}

// drawn are the beginnings of their keys.
var drawn atomic.Uint64

// newShopper is one with a ticket and three lines in its cart.
func newShopper(tb testing.TB, addr string) *shopper {
	tb.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	s := &shopper{conn: conn, in: bufio.NewReader(conn)}
	if _, err := io.WriteString(conn, "GET /v1/cart HTTP/1.1\r\nHost: shop\r\n\r\n"); err != nil {
		tb.Fatal(err)
	}
	header, err := s.answer()
	if err != nil {
		tb.Fatal(err)
	}
	_, rest, _ := strings.Cut(header, "Set-Cookie: ")
	cookie, _, found := strings.Cut(rest, ";")
	if !found {
		tb.Fatalf("no ticket in %s", header)
	}
	for _, sku := range []string{"mug-000001", "mug-000002", "mug-000003"} {
		body := `{"items":[{"sku":"` + sku + `","quantity":1}]}`
		s.request = fmt.Appendf(nil, "POST /v1/cart/items HTTP/1.1\r\nHost: shop\r\nUser-Agent: bench\r\nCookie: %s\r\nContent-Type: application/json\r\n"+
			"Idempotency-Key: %016x%016x\r\nContent-Length: %d\r\n\r\n%s", cookie, drawn.Add(1), 0, len(body), body)
		at := bytes.Index(s.request, []byte("-Key: ")) + len("-Key: ") + 16
		s.key = s.request[at : at+16]
		if err := s.add(); err != nil {
			tb.Fatal(err)
		}
	}
	return s
}

// add adds one unit.
func (s *shopper) add() error {
	s.n++
	for i, n := len(s.key)-1, s.n; i >= 0; i, n = i-1, n>>4 {
		s.key[i] = "0123456789abcdef"[n&15]
	}
	if _, err := s.conn.Write(s.request); err != nil {
		return err
	}
	_, err := s.answer()
	return err
}

// answer reads one answer, and returns its headers if that is a first one.
func (s *shopper) answer() (header string, err error) {
	length, ok := 0, false
	for first := true; ; first = false {
		line, err := s.in.ReadSlice('\n')
		if err != nil {
			return "", err
		}
		if first {
			ok = bytes.HasPrefix(line, []byte("HTTP/1.1 200"))
		}
		if s.n == 0 {
			header += string(line)
		}
		if digits, found := bytes.CutPrefix(line, []byte("Content-Length: ")); found {
			length = 0
			for _, c := range bytes.TrimSpace(digits) {
				length = 10*length + int(c-'0')
			}
		}
		if len(line) <= 2 {
			break
		}
	}
	if !ok {
		body, _ := s.in.Peek(length)
		return "", fmt.Errorf("answered %q", body)
	}
	_, err = s.in.Discard(length)
	return header, err
}

// adds has each shopper add as soon as it is answered, n adds in all.
func adds(tb testing.TB, shoppers []*shopper, n int) {
	var left atomic.Int64
	left.Store(int64(n))
	var all sync.WaitGroup
	for _, s := range shoppers {
		all.Go(func() {
			for left.Add(-1) >= 0 {
				if err := s.add(); err != nil {
					tb.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}

// crowds are how many shoppers come at once, and how many allocations an add may
// cost the gateway then, with everything on.
var crowds = []struct {
	shoppers    int
	allocations float64
}{{1, 172}, {64, 60}}

func crowdOf(tb testing.TB, n int) []*shopper {
	addr := alone(tb)
	shoppers := make([]*shopper, n)
	for i := range shoppers {
		shoppers[i] = newShopper(tb, addr)
	}
	adds(tb, shoppers, 1000)
	return shoppers
}

// TestAllocationsOfAnAdd bounds what the gateway allocates for an add, from the
// first byte of the request to the last of the answer.
func TestAllocationsOfAnAdd(t *testing.T) {
	measuretest.Costs(t)
	for _, tt := range crowds {
		shoppers := crowdOf(t, tt.shoppers)
		const n = 4000
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		adds(t, shoppers, n)
		runtime.ReadMemStats(&after)
		got := float64(after.Mallocs-before.Mallocs) / n
		t.Logf("with %d shoppers an add takes %.1f allocations", tt.shoppers, got)
		if got > tt.allocations {
			t.Errorf("with %d shoppers an add takes %.1f allocations, want %v at most", tt.shoppers, got, tt.allocations)
		}
	}
}

func BenchmarkAdd(b *testing.B) {
	for _, tt := range crowds {
		b.Run(strconv.Itoa(tt.shoppers)+"-shoppers", func(b *testing.B) {
			shoppers := crowdOf(b, tt.shoppers)
			b.ReportAllocs()
			b.ResetTimer()
			adds(b, shoppers, b.N)
		})
	}
}
