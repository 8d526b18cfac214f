package bench

import (
	"bufio"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// standIn is a server of carts in memory. before is asked of each add: whether it
// is to be applied not at all, once or twice; it is acknowledged all the same.
type standIn struct {
	mu     sync.Mutex
	carts  map[string]map[string]int64
	before func(n int64) (times int64)
	n      atomic.Int64
	status func(n int64) int
	ends   bool // each connection after its third answer or before
}

func (s *standIn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := s.n.Add(1)
	if s.status != nil && s.status(n) != 200 {
		http.Error(w, "no", s.status(n))
		return
	}
	if s.ends && n%3 == 0 {
		w.Header().Set("Connection", "close")
	}
	guest, err := r.Cookie("guest")
	if err != nil {
		http.Error(w, "who?", http.StatusUnauthorized)
		return
	}
	var in struct {
		Items []struct {
			SKU      string
			Quantity int64
		}
	}
	if r.Method == http.MethodPost {
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	}
	times := int64(1)
	if len(in.Items) == 1 && s.before != nil {
		times = s.before(n)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.carts[guest.Value] == nil {
		s.carts[guest.Value] = map[string]int64{}
	}
	var shown []map[string]any
	for _, i := range in.Items {
		s.carts[guest.Value][i.SKU] += times * i.Quantity
	}
	for sku, quantity := range s.carts[guest.Value] {
		shown = append(shown, map[string]any{"sku": sku, "quantity": quantity})
	}
	body, _ := json.Marshal(map[string]any{"items": shown})
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body)
}

// siteOf is the stand-in as a site, and carts of three lines in it.
func siteOf(t *testing.T, s *standIn) (*site, *carts) {
	t.Helper()
	s.carts = map[string]map[string]int64{}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	of := &site{
		name: "stand-in", addrs: []string{strings.TrimPrefix(server.URL, "http://")},
		programs: func() []program { return nil }, newGuest: func(*conn) (string, error) { return newGuestID(), nil },
	}
	c, err := newCarts(t.Context(), of, newKeys(), []string{"a-01", "b-02", "c-03"}, 10, 3)
	if err != nil {
		t.Fatal(err)
	}
	return of, c
}

// TestAudit: what was acknowledged is found, and what was lost or doubled as well.
func TestAudit(t *testing.T) {
	every := func(nth, times int64) func(int64) int64 {
		return func(n int64) int64 {
			if n%nth == 0 {
				return times
			}
			return 1
		}
	}
	for name, tt := range map[string]struct {
		before        func(int64) int64
		lost, surplus bool
	}{
		"all is well":         {nil, false, false},
		"an add is lost":      {every(50, 0), true, false},
		"an add counts twice": {every(50, 2), false, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := &standIn{before: tt.before}
			of, c := siteOf(t, s)
			b, err := of.run(t.Context(), load{carts: c, conns: 4, length: 300 * time.Millisecond}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if b.Requests < 100 || b.PerSecond <= 0 || b.P50 <= 0 || b.P99 < b.P50 {
				t.Errorf("the block is %+v", b)
			}
			lost, surplus, err := c.audit(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if (lost > 0) != tt.lost || (surplus > 0) != tt.surplus {
				t.Errorf("%d lost, %d too many", lost, surplus)
			}
		})
	}
}

// TestConnectionsEnd: a server may have its connections come anew, also while carts
// are filled and read.
func TestConnectionsEnd(t *testing.T) {
	of, _ := siteOf(t, &standIn{ends: true})
	c, err := newCarts(t.Context(), of, newKeys(), []string{"a-01", "b-02", "c-03"}, 200, 3)
	if err != nil {
		t.Fatal(err)
	}
	if lost, surplus, err := c.audit(t.Context()); err != nil || lost+surplus > 0 {
		t.Errorf("%d lost, %d too many, %v", lost, surplus, err)
	}
}

// TestErrorsEndTheRun: one answer that is an error is enough.
func TestErrorsEndTheRun(t *testing.T) {
	s := &standIn{}
	of, c := siteOf(t, s)
	s.status = func(n int64) int {
		if n == 500 {
			return 503
		}
		return 200
	}
	_, err := of.run(t.Context(), load{carts: c, reads: true, conns: 4, length: 500 * time.Millisecond}, nil)
	if err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("the run ended with %v", err)
	}
}

// TestOpenLoop: it sends at its rate, and a server that stalls once makes all that
// was due meanwhile slow, not only what was under way.
func TestOpenLoop(t *testing.T) {
	s := &standIn{}
	of, c := siteOf(t, s)
	seeded := s.n.Load()
	const stall = 400 * time.Millisecond
	s.status = func(n int64) int {
		if n == seeded+100 {
			s.mu.Lock()
			time.Sleep(stall)
			s.mu.Unlock()
		}
		return 200
	}
	b, err := of.run(t.Context(), load{carts: c, reads: true, conns: 2, rate: 400, length: 1500 * time.Millisecond}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if b.PerSecond < 250 || b.PerSecond > 420 {
		t.Errorf("it was %v a second", b.PerSecond)
	}
	// Two were under way, and 160 of 600 were due meanwhile, half of them for more than half of it.
	if b.P99 < 200 {
		t.Errorf("p99 is %v ms", b.P99)
	}
}

// TestOpenLoopEnds: what was due and is answered late counts, also after the end.
func TestOpenLoopEnds(t *testing.T) {
	s := &standIn{}
	of, c := siteOf(t, s)
	seeded := s.n.Load()
	s.status = func(n int64) int {
		if n == seeded+400 { // at two thirds of a second, until after the end
			s.mu.Lock()
			time.Sleep(600 * time.Millisecond)
			s.mu.Unlock()
		}
		return 200
	}
	b, err := of.run(t.Context(), load{carts: c, reads: true, conns: 2, rate: 600, length: time.Second}, nil)
	if err != nil {
		t.Fatal(err)
	}
	// A third was due meanwhile, of which two were under way.
	if b.P99 < 300 || b.P99 > 3000 {
		t.Errorf("p99 is %v ms", b.P99)
	}
	if b.PerSecond > 500 {
		t.Errorf("%v a second were answered in time", b.PerSecond)
	}
}

// TestAnswers: what is no whole answer is an error.
func TestAnswers(t *testing.T) {
	for name, tt := range map[string]struct {
		answer, want string
		ok           bool
	}{
		"an answer":            {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nSet-Cookie: guest=t1; Path=/\r\n\r\nhi", "hi", true},
		"another case":         {"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi", "hi", true},
		"refused":              {"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\nno", "", false},
		"cut":                  {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi", "", false},
		"without a length":     {"HTTP/1.1 200 OK\r\n\r\nhi", "", false},
		"of no known protocol": {"what?\r\n\r\n", "", false},
	} {
		c := &conn{r: bufio.NewReader(strings.NewReader(tt.answer))}
		body, err := c.read()
		if (err == nil) != tt.ok || string(body) != tt.want {
			t.Errorf("%s: %q, %v", name, body, err)
		}
		if name == "an answer" && (c.setCookie != "t1" || c.received != int64(len(tt.answer))) {
			t.Errorf("the cookie is %q, and %d bytes were received of %d", c.setCookie, c.received, len(tt.answer))
		}
	}
}

// TestJudge: a round in which the machine was busy with something else is left out.
func TestJudge(t *testing.T) {
	c := &Comparison{}
	for _, rate := range []float64{1000, 1040, 980, 500, 1010, 1300, 1000} {
		c.Rounds = append(c.Rounds, Round{Echo: Block{PerSecond: rate}, A: Block{CPU: map[string]float64{"gateway": rate}}, B: Block{CPU: map[string]float64{"direct": 1000}}})
	}
	if kept := c.judge(); kept != 5 {
		t.Errorf("%d rounds are kept", kept)
	}
	if values := c.CPU().Values; slices.Contains(values, 0.5) || slices.Contains(values, 1.3) || len(values) != 5 {
		t.Errorf("the ratios are %v", values)
	}
}
