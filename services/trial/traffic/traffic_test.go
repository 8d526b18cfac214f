package traffic

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"coatcheck/trial/history"
)

func quick() timing {
	return timing{
		every: 30 * time.Millisecond, attempt: 3 * time.Second, limit: 10 * time.Second,
		settle: 12 * time.Second, insist: 20 * time.Second, calm: 50 * time.Millisecond,
	}
}

// moment is how much later than a request begins its first attempt may be sent.
const moment = 5 * time.Millisecond

// log keeps what Sink got.
type log struct {
	mu  sync.Mutex
	ops []*history.Op
}

func (l *log) sink(op *history.Op) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ops = append(l.ops, op)
}

// of returns the requests of the kind.
func (l *log) of(kind history.Kind) (ops []*history.Op) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, op := range l.ops {
		if op.Kind == kind {
			ops = append(ops, op)
		}
	}
	return ops
}

func start(t testing.TB, f *fake, o Options) *Traffic {
	t.Helper()
	o.Target = f.URL
	if o.Rate == 0 {
		o.Rate = 100
	}
	if o.Length == 0 {
		o.Length = time.Second
	}
	if o.timing == (timing{}) {
		o.timing = quick()
	}
	if o.Sink == nil {
		o.Sink = func(*history.Op) {}
	}
	traffic, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return traffic
}

// step sends n requests, one after the other.
func step(ctx context.Context, traffic *Traffic, n int) {
	for range n {
		traffic.dispatch(ctx, time.Now())
		traffic.ops.Wait()
	}
}

// do is one request of one client.
func do(ctx context.Context, c *client, kind history.Kind) *history.Op {
	op, req := c.plan(kind)
	c.learn(op, c.send(ctx, op, req))
	return op
}

// planned makes faults of a list, one for each attempt of a key, once armed.
type planned struct {
	mu     sync.Mutex
	armed  bool
	faults []fault
}

func (p *planned) arm(faults ...fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults, p.armed = faults, true
}

func (p *planned) fault(*http.Request, int) fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.armed || len(p.faults) == 0 {
		return none
	}
	next := p.faults[0]
	p.faults = p.faults[1:]
	return next
}

// TestOutcomes: for each thing that can go wrong, over each protocol, the
// outcome claims no more than the client can know, and what the server received
// is what was recorded.
func TestOutcomes(t *testing.T) {
	changing := []history.Kind{history.Add, history.Remove, history.CondSet, history.Checkout}
	all := append(slices.Clone(changing), history.Read)
	for _, tt := range []struct {
		faults   []fault
		kinds    []history.Kind
		outcome  history.Outcome
		attempts int
		code     string // of the first attempt
	}{
		{nil, all, history.OK, 1, ""},
		{[]fault{breakAfter}, all, history.OK, 2, "eof"},
		{[]fault{breakBefore}, all, history.OK, 2, "eof"},
		{[]fault{cutAnswer}, all, history.OK, 2, "eof"},
		{[]fault{garbage}, all, history.OK, 2, "other"},
		{[]fault{lateAway}, all, history.OK, 2, "timeout"},
		{[]fault{badGateway}, all, history.OK, 2, ""},
		{[]fault{stall}, []history.Kind{history.Add, history.Read}, history.OK, 2, "timeout"},
		{[]fault{busy, busy}, all, history.OK, 3, "overloaded"},
		{[]fault{breakAfter, breakAfter, breakAfter}, all, history.Unknown, 3, "eof"},
		{[]fault{cutAnswer, breakBefore, away}, all, history.Unknown, 3, "eof"},
		{[]fault{stall, stall, stall}, []history.Kind{history.Add}, history.Unknown, 3, "timeout"},
		{[]fault{away, away, away}, all, history.Unknown, 3, "store_unavailable"},
		{[]fault{busy, busy, busy}, all, history.Failed, 3, "overloaded"},
		{[]fault{busy, breakAfter, busy}, all, history.Unknown, 3, "overloaded"},
		{[]fault{internal}, all, history.Unknown, 1, "internal"},
		{[]fault{wrong412}, changing, history.Failed, 1, "stale_version"},
		{[]fault{wrong409}, all, history.Failed, 1, "cart_moved"},
		{[]fault{wrong401}, all, history.Failed, 1, "invalid_session"},
		{[]fault{wrong422}, changing, history.Failed, 1, "quantity_limit"},
		{[]fault{busy, wrong409}, all, history.Failed, 2, "overloaded"},
		{[]fault{breakBefore, wrong412}, changing, history.Failed, 2, "eof"},
		{[]fault{breakAfter, wrong422}, changing, history.Failed, 2, "eof"},
		{[]fault{breakAfter, wrong409}, changing, history.Unknown, 2, "eof"},
		{[]fault{breakAfter, wrong401}, changing, history.Unknown, 2, "eof"},
		{[]fault{breakAfter, wrong401}, []history.Kind{history.Read}, history.Failed, 2, "eof"},
	} {
		name := fmt.Sprint(tt.faults, tt.outcome)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plan := &planned{}
			f := newFake(t, plan.fault)
			traffic := start(t, f, Options{Shoppers: len(protocols), Hot: -1})
			for i, c := range traffic.shoppers.clients {
				for _, kind := range tt.kinds {
					plan.arm()
					c.begin()
					for _, before := range []history.Kind{history.Read, history.LogIn, history.Set, history.Set, history.Set} {
						if op := do(t.Context(), c, before); op.Outcome != history.OK {
							t.Fatalf("%s before: %+v", before, op)
						}
					}
					plan.arm(tt.faults...)
					if slices.Contains(tt.faults, stall) {
						traffic.timing.attempt = 700 * time.Millisecond
					}
					op, req := c.plan(kind)
					f.mu.Lock()
					path := req.method + " " + req.path
					before := f.paths[path]
					f.mu.Unlock()
					a := c.send(t.Context(), op, req)
					c.learn(op, a)
					traffic.timing = quick()
					f.mu.Lock()
					received := f.paths[path] - before
					f.mu.Unlock()
					if op.Outcome != tt.outcome || len(op.Attempts) != tt.attempts || received != tt.attempts || op.Protocol != protocols[i] {
						t.Errorf("%s %s: %s after %d attempts (%d received), want %s after %d; %+v", op.Protocol, kind, op.Outcome, len(op.Attempts), received, tt.outcome, tt.attempts, op.Attempts)
					}
					if req.key != "" && f.received[req.key] != received {
						t.Errorf("%s %s: of %d requests %d had the key", op.Protocol, kind, received, f.received[req.key])
					}
					first, code := op.Attempts[0], tt.code
					if op.Protocol == "h2c" && code == "eof" {
						code = "reset" // the stream, not the connection
					}
					if first.Code != code {
						t.Errorf("%s %s: code %q, want %q", op.Protocol, kind, first.Code, code)
					}
					if first.Status == 0 && first.Code == "" {
						t.Errorf("%s %s: no status and no code: %+v", op.Protocol, kind, first)
					}
					for n, attempt := range op.Attempts {
						if since := attempt.Sent - op.Sent; since < time.Duration(n)*quick().every-moment {
							t.Errorf("%s %s: attempt %d after %v", op.Protocol, kind, n, since)
						}
					}
					if (op.Outcome == history.OK) != (op.Shown != nil || op.Ordered != nil) && op.Status != 412 {
						t.Errorf("%s %s: %s showed %v %v", op.Protocol, kind, op.Outcome, op.Shown, op.Ordered)
					}
					applied := tt.faults != nil && slices.Contains([]fault{breakAfter, lateAway, cutAnswer, garbage, stall}, tt.faults[0])
					if op.Outcome == history.OK && kind != history.Read && op.Replayed != applied {
						t.Errorf("%s %s: replayed %v", op.Protocol, kind, op.Replayed)
					}
				}
			}
		})
	}
}

// TestRefused: nobody listens, so nothing was sent.
func TestRefused(t *testing.T) {
	f := newFake(t, nil)
	traffic := start(t, f, Options{Shoppers: len(protocols), Hot: -1})
	f.CloseClientConnections()
	f.Listener.Close()
	for _, c := range traffic.shoppers.clients {
		c.transport.CloseIdleConnections()
		c.guest = "guest=g1"
		if op := do(t.Context(), c, history.Add); op.Outcome != history.Failed || op.Code != "refused" || len(op.Attempts) != 3 {
			t.Errorf("%s: %s %s after %d attempts", c.protocol, op.Outcome, op.Code, len(op.Attempts))
		}
	}
}

// TestPatience: three attempts, spread over two seconds, all within five.
func TestPatience(t *testing.T) {
	t.Parallel()
	plan := &planned{}
	f := newFake(t, plan.fault)
	traffic := start(t, f, Options{Shoppers: 1, Hot: -1, timing: defaultTiming()})
	c := traffic.shoppers.clients[0]
	plan.arm(away, away, away)
	op := do(t.Context(), c, history.Read)
	if len(op.Attempts) != 3 {
		t.Fatalf("%d attempts", len(op.Attempts))
	}
	for n, attempt := range op.Attempts {
		if since := attempt.Sent - op.Sent; since < time.Duration(n)*time.Second-moment || since > time.Duration(n)*time.Second+800*time.Millisecond {
			t.Errorf("attempt %d after %v", n, since)
		}
	}
	if d := defaultTiming(); d.limit != 5*time.Second || d.attempt*2 >= d.limit {
		t.Errorf("no time for a third attempt in %+v", d)
	}
}

// TestSettle: a guest does not log in with a change that is unknown.
func TestSettle(t *testing.T) {
	t.Parallel()
	plan := &planned{}
	f := newFake(t, plan.fault)
	var record log
	traffic := start(t, f, Options{Shoppers: 1, Hot: -1, Sink: record.sink})
	c := traffic.shoppers.clients[0]
	do(t.Context(), c, history.Read)

	plan.arm(breakAfter, away, away, breakBefore, away)
	if op := do(t.Context(), c, history.Add); op.Outcome != history.OK || len(op.Attempts) != 6 || !op.Replayed || c.guests != 1 {
		t.Errorf("settled: %s after %d attempts", op.Outcome, len(op.Attempts))
	}
	plan.arm(slices.Repeat([]fault{breakAfter}, 1000)...)
	traffic.timing.limit, traffic.timing.settle = 300*time.Millisecond, time.Second
	op := do(t.Context(), c, history.Add)
	traffic.timing = quick()
	took := op.Answered - op.Sent
	if op.Outcome != history.Unknown || took < 300*time.Millisecond || took > 2*time.Second || c.guests != 2 || c.guest != "" || len(traffic.left) != 1 {
		t.Errorf("not to be settled: %s after %v, guest %d, %d left", op.Outcome, took, c.guests, len(traffic.left))
	}

	plan.arm()
	for _, kind := range []history.Kind{history.Read, history.Add, history.Add} {
		do(t.Context(), c, kind)
	}
	// A log-in that is unknown is done again, for the same guest.
	plan.arm(breakAfter, breakAfter, breakAfter)
	op = do(t.Context(), c, history.LogIn)
	if op.Outcome != history.Unknown || c.forced() != history.LogIn {
		t.Fatalf("log-in: %s, then %q", op.Outcome, c.forced())
	}
	plan.arm(busy, busy, busy)
	if op := do(t.Context(), c, history.LogIn); op.Outcome != history.Failed || c.forced() != history.LogIn {
		t.Fatalf("log-in, settling: %s, then %q", op.Outcome, c.forced())
	}
	again := do(t.Context(), c, history.LogIn)
	if again.Outcome != history.OK || again.From != op.From || again.From != "s1.g2" || again.Cart != "s1.u" || c.cart() != "s1.u" {
		t.Errorf("log-in again: %+v", again)
	}
	// A log-out that got through unseen is answered 401 next time.
	plan.arm(breakAfter)
	if op := do(t.Context(), c, history.LogOut); op.Outcome != history.OK || len(op.Attempts) != 2 || c.forced() != history.Probe {
		t.Errorf("log-out: %+v", op)
	}
	if op := do(t.Context(), c, history.Probe); op.Status != 401 || op.Cart != "s1.u" || c.cart() != "s1.g3" {
		t.Errorf("probe: %+v", op)
	}
	if err := traffic.Finish(t.Context()); err != nil {
		t.Error(err)
	}
	read := map[string]int{}
	for _, op := range record.of(history.Read) {
		if op.Last {
			read[op.Cart] = op.Status
		}
	}
	if want := map[string]int{"s1.g1": 200, "s1.g2": 409, "s1.u": 200}; !maps.Equal(read, want) {
		t.Errorf("read %v, want %v", read, want)
	}
}

// TestOrders: all pages are one record, all attempts of it are in there.
func TestOrders(t *testing.T) {
	plan := &planned{}
	f := newFake(t, plan.fault)
	var record log
	traffic := start(t, f, Options{Shoppers: 1, Hot: -1, Sink: record.sink})
	c := traffic.shoppers.clients[0]
	do(t.Context(), c, history.Read)
	do(t.Context(), c, history.LogIn)
	var bought []string
	for range 7 {
		do(t.Context(), c, history.Add)
		bought = append(bought, do(t.Context(), c, history.Checkout).Ordered[0].ID)
	}
	plan.arm(none, away, breakAfter)
	if err := traffic.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	var listed []string
	op := record.of(history.Orders)[0]
	for _, o := range op.Ordered {
		listed = append(listed, o.ID)
	}
	if !slices.Equal(bought, listed) || len(op.Attempts) < 3 || !op.Last || op.Cart != "s1.u" || op.Outcome != history.OK {
		t.Errorf("%v bought, %v listed: %+v", bought, listed, op)
	}
}

// TestNewLife: a ticket that is refused is given up, the request is failed.
func TestNewLife(t *testing.T) {
	plan := &planned{}
	f := newFake(t, plan.fault)
	traffic := start(t, f, Options{Shoppers: 1, Hot: 1})
	c := traffic.shoppers.clients[0]
	do(t.Context(), c, history.Read)
	plan.arm(wrong409)
	if op := do(t.Context(), c, history.Set); op.Outcome != history.Failed || op.Cart != "s1.g1" || c.cart() != "s1.g2" || c.forced() != history.Read {
		t.Errorf("cart_moved: %+v, then %s", op, c.cart())
	}
	do(t.Context(), c, history.Read)
	do(t.Context(), c, history.LogIn)
	plan.arm(wrong401)
	if op := do(t.Context(), c, history.Add); op.Outcome != history.Failed || op.Cart != "s1.u" || c.cart() != "s1.g3" {
		t.Errorf("invalid_session: %+v, then %s", op, c.cart())
	}
	h := traffic.hot.clients[2]
	plan.arm(wrong401)
	do(t.Context(), h, history.Read)
	if h.forced() != history.LogIn {
		t.Errorf("a client of a hot cart goes on with %q", h.forced())
	}
	if op := do(t.Context(), h, history.LogIn); op.Outcome != history.OK || op.Cart != "hot.1" || op.From != "" || h.forced() != "" {
		t.Errorf("%+v", op)
	}
}

// TestNewGuest: it is recorded that a guest's ticket was not taken, and only that.
func TestNewGuest(t *testing.T) {
	plan := &planned{}
	f := newFake(t, plan.fault)
	traffic := start(t, f, Options{Shoppers: 1, Hot: -1})
	c := traffic.shoppers.clients[0]
	for _, kind := range []history.Kind{history.Read, history.Add, history.LogIn, history.Read, history.LogOut, history.Probe, history.Read} {
		if op := do(t.Context(), c, kind); op.NewGuest {
			t.Errorf("%+v", op)
		}
	}
	moved := identity{c.cart(), c.guest}
	plan.arm(none, stranger, strangerAway, none)
	for i, want := range []bool{false, true, true} {
		if op := do(t.Context(), c, history.Add); op.NewGuest != want || op.Outcome != history.OK {
			t.Errorf("add %d: %+v", i+1, op)
		}
	}
	f.cart(strings.TrimPrefix(moved.cookie, "guest=")).moved = true
	c.guest = moved.cookie
	if op := do(t.Context(), c, history.Read); op.Code != "cart_moved" || op.NewGuest {
		t.Errorf("%+v", op)
	}
	for cookie, want := range map[string]bool{"guest=g1": true, "__Host-guest=g1": true, "session=guest": false, "guests=g1": false, "": false} {
		if isGuest(cookie) != want {
			t.Errorf("%q is a guest's: %v", cookie, !want)
		}
	}
}

// TestMachines: a machine logs in, reads and refreshes twice, shows a refresh token
// that is used up, and then the access token, each as often as the others. Where the
// answer does not come it begins anew.
func TestMachines(t *testing.T) {
	t.Parallel()
	var failing atomic.Bool
	f := newFake(t, func(r *http.Request, n int) fault {
		if failing.Load() && r.URL.Path == "/v1/tokens" {
			return away
		}
		return none
	})
	var record log
	traffic := start(t, f, Options{Shoppers: 1, Hot: -1, Machines: 2, Rate: 10, Length: 2 * time.Second, Sink: record.sink})
	time.AfterFunc(time.Second, func() { failing.Store(true) })
	if err := traffic.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	count := map[history.Kind]int{}
	var before *history.Op
	for _, op := range record.ops {
		if op.Client != "m1" || op.Kind == history.Register {
			continue
		}
		if op.Cart != "m1.u" || before != nil && op.Sent < before.Answered {
			t.Errorf("%+v", op)
		}
		before = op
		if op.Outcome != history.OK && (op.Status < 400 || op.Status >= 500) {
			continue // a 503
		}
		count[op.Kind]++
		if ended := op.Kind == history.Reuse || op.Kind == history.Probe; ended != (op.Status == 401) {
			t.Errorf("%s: %d %s", op.Kind, op.Status, op.Code)
		}
	}
	lives := count[history.Probe]
	for kind, each := range map[history.Kind]int{history.Tokens: 1, history.Read: refreshes, history.Refresh: refreshes, history.Reuse: 1} {
		if n := count[kind]; lives < 3 || n < each*lives || n > each*(lives+1) {
			t.Errorf("%d of %s in %d lives", n, kind, lives)
		}
	}
	if l := traffic.Live(); l.InFlight != 0 || l.Sent != l.OK+l.Failed+l.Unknown || l.Unknown == 0 {
		t.Errorf("%+v", l)
	}
}

// TestKinds: of 2,000 requests each kind has its share, of each protocol a third.
func TestKinds(t *testing.T) {
	t.Parallel()
	f := newFake(t, nil)
	var record log
	traffic := start(t, f, Options{Shoppers: 30, Hot: 3, Seed: 7, Sink: record.sink})
	setUp := len(record.ops)
	step(t.Context(), traffic, 2000)
	count, protocol, hot := map[history.Kind]int{}, map[string]int{}, 0
	for _, op := range record.ops[setUp:] {
		count[op.Kind]++
		protocol[op.Protocol]++
		if strings.HasPrefix(op.Cart, "hot.") {
			hot++
		}
		refused := op.Kind == history.Probe && op.Status == 401 || (op.Kind == history.CondSet || strings.HasPrefix(op.Cart, "hot.")) && op.Status == 412
		if op.Outcome != history.OK && !refused {
			t.Errorf("%+v", op)
		}
	}
	for _, kind := range history.Traffic {
		if share := float64(count[kind]) / 2000; share < 0.03 {
			t.Errorf("%s is %.1f %%", kind, 100*share)
		}
	}
	for _, p := range protocols {
		if share := float64(protocol[p]) / 2000; share < 0.28 || share > 0.39 {
			t.Errorf("%s is %.1f %%", p, 100*share)
		}
	}
	if hot < 200 || count[history.Probe] < 20 || count[history.LogOut] < 20 {
		t.Errorf("%d of hot carts; %v", hot, count)
	}
	t.Logf("%v, %d of hot carts", count, hot)
	unique(t, record.ops)
	if l := traffic.Live(); l.Sent != 2000 || l.OK+l.Failed+l.Unknown != 2000 || l.InFlight != 0 || l.Missed != 0 || l.Changes < 900 || l.Latency.Quantile(0.5) == 0 {
		t.Errorf("%+v", l)
	}
}

// unique checks that no SKU of a unique add is used again in that cart or the
// one that it moved to, before the next checkout.
func unique(t *testing.T, ops []*history.Op) {
	t.Helper()
	used, adds := map[string]map[string]bool{}, 0
	for _, op := range ops {
		switch op.Kind {
		case history.LogIn:
			if used[op.Cart] == nil {
				used[op.Cart] = map[string]bool{}
			}
			for sku := range used[op.From] {
				if used[op.Cart][sku] {
					t.Errorf("%s is in %s and in %s", sku, op.From, op.Cart)
				}
				used[op.Cart][sku] = true
			}
		case history.Checkout:
			if op.Outcome == history.OK {
				used[op.Cart] = nil
			}
		case history.Add, history.Set, history.CondSet, history.Remove:
			for _, l := range op.Lines {
				if used[op.Cart][l.SKU] {
					t.Errorf("%s of %s in %s", op.Kind, l.SKU, op.Cart)
				}
				if op.Unique {
					adds++
					if used[op.Cart] == nil {
						used[op.Cart] = map[string]bool{}
					}
					used[op.Cart][l.SKU] = true
				}
			}
		}
	}
	if adds < 200 {
		t.Errorf("only %d unique lines", adds)
	}
}

// TestSeed: the same seed does the same, another does not.
func TestSeed(t *testing.T) {
	t.Parallel()
	run := func(seed uint64) (lines []string) {
		f := newFake(t, nil)
		var record log
		traffic := start(t, f, Options{Shoppers: 12, Hot: 2, Seed: seed, Sink: record.sink})
		setUp := len(record.ops)
		step(t.Context(), traffic, 600)
		for _, op := range record.ops[setUp:] {
			lines = append(lines, fmt.Sprint(op.Client, op.Kind, op.Cart, op.From, op.Lines, op.Unique, op.IfMatch != "", op.Outcome))
		}
		return lines
	}
	first, second, other := run(1), run(1), run(2)
	if !slices.Equal(first, second) {
		t.Error("the same seed did something else")
	}
	if slices.Equal(first, other) {
		t.Error("another seed did the same")
	}
}

// TestOpenLoop: a shop that stalls does not slow the schedule down, and its
// latency counts from when a request was due.
func TestOpenLoop(t *testing.T) {
	t.Parallel()
	var from, to time.Time
	f := newFake(t, func(*http.Request, int) fault {
		if now := time.Now(); now.After(from) && now.Before(to) {
			time.Sleep(time.Until(to))
		}
		return none
	})
	patient := quick()
	patient.attempt, patient.limit = 2*time.Second, 5*time.Second
	traffic := start(t, f, Options{Shoppers: 10, Hot: -1, Rate: 100, Length: 1500 * time.Millisecond, timing: patient})
	from = time.Now().Add(300 * time.Millisecond)
	to = from.Add(700 * time.Millisecond)
	begun := time.Now()
	if err := traffic.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	took, l := time.Since(begun), traffic.Live()
	if l.Sent != 150 || l.Missed > 0 || len(traffic.visitors.clients) < 30 || took < 1500*time.Millisecond || took > 4*time.Second {
		t.Errorf("%d sent, %d missed, %d visitors in %v", l.Sent, l.Missed, len(traffic.visitors.clients), took)
	}
	if l.OK == 0 || l.Unknown != 0 || l.Latency.Quantile(1) < 600*time.Millisecond {
		t.Errorf("%+v, all in %v", l, l.Latency.Quantile(1))
	}
}

// TestTooManyWait: what is due and can't be sent is counted, not forgotten.
func TestTooManyWait(t *testing.T) {
	t.Parallel()
	traffic := start(t, newFake(t, nil), Options{Shoppers: 1, Hot: -1})
	traffic.shoppers.clients[0].idle, traffic.urgent = false, nil
	traffic.visitors.clients = make([]*client, maxVisitors)
	for i := range traffic.visitors.clients {
		traffic.visitors.clients[i] = &client{}
	}
	traffic.dispatch(t.Context(), time.Now())
	if l := traffic.Live(); l.Missed != 1 || l.Sent != 0 {
		t.Errorf("%+v", l)
	}
}

// TestRun: everything at once, with faults; then every cart is read, and holds
// what the shop holds.
func TestRun(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	n := 0
	f := newFake(t, func(*http.Request, int) fault {
		mu.Lock()
		defer mu.Unlock()
		if n++; n < 150 { // the set-up
			return none
		}
		return map[int]fault{0: breakAfter, 5: away, 9: busy, 14: cutAnswer, 17: breakBefore}[n%40]
	})
	var record log
	traffic := start(t, f, Options{Shoppers: 20, Hot: 2, Rate: 400, Length: 2 * time.Second, Sink: record.sink})
	if err := traffic.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := traffic.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	touched, last, orders := map[string]bool{}, map[string]*history.Op{}, map[string]int{}
	var changed, bought int
	for _, op := range record.ops {
		switch {
		case op.Last && op.Kind == history.Read:
			last[op.Cart] = op
		case op.Last && op.Kind == history.Orders:
			orders[op.Cart] = len(op.Ordered)
		case op.Kind == history.LogIn && op.Outcome != history.Failed:
			delete(touched, op.From)
			touched[op.Cart] = true
		case op.Kind == history.Checkout && op.Outcome == history.OK:
			bought++
		case changes(op) && op.Outcome != history.Failed:
			touched[op.Cart] = true
		}
		if changes(op) {
			changed++
		}
		if op.Kind != history.Register && !op.Last && op.Outcome == history.OK && op.Kind != history.Checkout && op.Kind != history.LogIn && op.Kind != history.LogOut && op.Shown == nil {
			t.Errorf("nothing shown: %+v", op)
		}
	}
	for name := range touched {
		if last[name] == nil || last[name].Outcome != history.OK {
			t.Errorf("%s was not read", name)
		}
	}
	sum := 0
	for _, n := range orders {
		sum += n
	}
	if sum < bought || bought < 10 || len(orders) < 10 {
		t.Errorf("%d orders of %d owners, %d checkouts", sum, len(orders), bought)
	}
	units, held := int64(0), int64(0)
	for _, op := range last {
		for _, l := range op.Shown {
			units += l.Quantity
		}
	}
	f.mu.Lock()
	for _, c := range f.carts {
		for _, n := range c.lines {
			held += n
		}
	}
	f.mu.Unlock()
	if units != held || held == 0 {
		t.Errorf("read %d units, the shop holds %d", units, held)
	}
	if changed < 300 {
		t.Errorf("only %d changes", changed)
	}
	unique(t, record.ops)
}

// TestMemory: what was done is not kept.
func TestMemory(t *testing.T) {
	f := newFake(t, nil)
	f.forgets = true
	traffic := start(t, f, Options{Shoppers: 20, Hot: 2})
	heap := func() uint64 {
		f.mu.Lock()
		clear(f.received)
		f.mu.Unlock()
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	step(t.Context(), traffic, 4000)
	before := heap()
	step(t.Context(), traffic, 12000)
	after := heap()
	runtime.KeepAlive(traffic) // or the second heap is without it
	t.Logf("%d KiB after 4,000, %d KiB after 16,000", before>>10, after>>10)
	if after > before+before/3 {
		t.Errorf("%d bytes after 4,000 requests, %d after 16,000", before, after)
	}
}

func TestOptions(t *testing.T) {
	f := newFake(t, nil)
	good := Options{Target: f.URL, Rate: 1, Length: time.Second, Shoppers: 1, Hot: -1, Sink: func(*history.Op) {}, timing: quick()}
	for name, change := range map[string]func(*Options){
		"target":   func(o *Options) { o.Target = "127.0.0.1:80" },
		"rate":     func(o *Options) { o.Rate = 0 },
		"length":   func(o *Options) { o.Length = 0 },
		"sink":     func(o *Options) { o.Sink = nil },
		"shoppers": func(o *Options) { o.Shoppers = -1 },
		"a kind":   func(o *Options) { o.Weights = map[history.Kind]int{history.Probe: 1} },
		"weight":   func(o *Options) { o.Weights = map[history.Kind]int{history.Add: -1} },
		"weights":  func(o *Options) { o.Weights = map[history.Kind]int{} },
	} {
		o := good
		change(&o)
		if _, err := New(t.Context(), o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	f.products = 5
	if _, err := New(t.Context(), good); err == nil || !strings.Contains(err.Error(), "5 products") {
		t.Errorf("a small catalogue: %v", err)
	}
}

func TestHistogram(t *testing.T) {
	var h Histogram
	if h.Quantile(0.5) != 0 {
		t.Error("a quantile of nothing")
	}
	for i := range 1000 {
		h.Add(time.Duration(i+1) * time.Millisecond)
	}
	for q, want := range map[float64]time.Duration{0.5: 500 * time.Millisecond, 0.99: 990 * time.Millisecond, 1: time.Second} {
		if got := h.Quantile(q); got < want || got > want*9/8 {
			t.Errorf("%v: %v, want about %v", q, got, want)
		}
	}
	before := h
	h.Add(time.Hour)
	if got := h.Sub(before).Quantile(0.5); got < time.Minute {
		t.Errorf("an hour counts as %v", got)
	}
}

func TestBelow(t *testing.T) {
	var h Histogram
	for _, d := range []time.Duration{time.Microsecond, 1023 * time.Microsecond, 1024 * time.Microsecond, 2 * time.Second, 2 * time.Hour} {
		h.Add(d)
	}
	for d, want := range map[time.Duration]int{0: 0, 2 * time.Microsecond: 1, 1024 * time.Microsecond: 2, 1152 * time.Microsecond: 3, time.Second: 3, 3 * time.Second: 4, time.Hour: 5} {
		if got := h.Below(d); got != want {
			t.Errorf("%d below %v, want %d", got, d, want)
		}
	}
}
