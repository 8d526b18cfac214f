package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"coatcheck/chassis/fault"
	"coatcheck/chassis/tracing"
	cartv1 "coatcheck/proto/coatcheck/cart/v1"
)

// Batch makes the operations of a batch one after the other, as the cart service
// answers them. The hook sees each, and before them the batch.
func (f *fakeCart) Batch(ctx context.Context, r *cartv1.BatchRequest) (*cartv1.BatchResponse, error) {
	if f.noBatches {
		return f.UnimplementedCartServiceServer.Batch(ctx, r)
	}
	if err := f.enter(ctx, "Batch", r); err != nil {
		return nil, err
	}
	resp := &cartv1.BatchResponse{}
	for _, op := range r.GetOperations() {
		out, err := f.operation(ctx, op)
		if err != nil {
			e := fault.From(err)
			out = &cartv1.Outcome{Result: &cartv1.Outcome_Failure{Failure: &cartv1.Failure{Code: uint32(e.GRPCCode()), Reason: e.Code, Message: e.Message}}}
		}
		if f.apart != nil && f.apart(op) {
			out = &cartv1.Outcome{Result: &cartv1.Outcome_Apart{Apart: true}}
		}
		resp.Outcomes = append(resp.Outcomes, out)
	}
	return resp, nil
}

func (f *fakeCart) operation(ctx context.Context, op *cartv1.Operation) (*cartv1.Outcome, error) {
	changed := func(c *cartv1.Change, err error) (*cartv1.Outcome, error) {
		return &cartv1.Outcome{Result: &cartv1.Outcome_Change{Change: c}}, err
	}
	switch r := op.GetRequest().(type) {
	case *cartv1.Operation_GetCart:
		c, err := f.GetCart(ctx, r.GetCart)
		return &cartv1.Outcome{Result: &cartv1.Outcome_GetCart{GetCart: c}}, err
	case *cartv1.Operation_AddItems:
		c, err := f.AddItems(ctx, r.AddItems)
		return changed(c.GetChange(), err)
	case *cartv1.Operation_SetItem:
		c, err := f.SetItem(ctx, r.SetItem)
		return changed(c.GetChange(), err)
	case *cartv1.Operation_RemoveItem:
		c, err := f.RemoveItem(ctx, r.RemoveItem)
		return changed(c.GetChange(), err)
	case *cartv1.Operation_ClearCart:
		c, err := f.ClearCart(ctx, r.ClearCart)
		return changed(c.GetChange(), err)
	}
	return nil, fault.New(fault.Invalid, "invalid_operation", "No operation.")
}

// gate holds calls of a kind until it is opened.
type gate struct {
	held   chan struct{} // one for each call that is held
	opened chan struct{}
}

func newGate() *gate { return &gate{make(chan struct{}, 1000), make(chan struct{})} }

// hold is a hook that holds calls with this idempotency key.
func (g *gate) hold(key string) hook {
	return func(ctx ctx, call string, req any) error {
		if r, ok := req.(interface{ GetIdempotencyKey() string }); !ok || r.GetIdempotencyKey() != key {
			return nil
		}
		g.held <- struct{}{}
		select {
		case <-g.opened:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// guests are clients with a ticket each, n of them.
func (s *shop) guests(t *testing.T, n int) []*client {
	t.Helper()
	all := make([]*client, n)
	for i := range all {
		all[i] = s.client(t)
		all[i].want(200, "", "GET", "/v1/cart", "")
	}
	return all
}

// queued returns once so many calls wait for room.
func (s *shop) queued(t *testing.T, n int) {
	t.Helper()
	for begun := time.Now(); ; time.Sleep(time.Millisecond) {
		s.coalescer.mu.Lock()
		waiting := len(s.coalescer.waiting)
		s.coalescer.mu.Unlock()
		if waiting == n {
			return
		}
		if time.Since(begun) > 20*time.Second {
			t.Fatalf("%d calls wait, want %d", waiting, n)
		}
	}
}

// crowd is a shop with one replica and a call under way there, behind which all
// others wait until the gate opens.
func crowd(t *testing.T, settings Settings, n int) (s *shop, g *gate, all []*client, first func()) {
	t.Helper()
	settings.RequestTimeout, settings.TryTimeout = time.Minute, 30*time.Second
	s = newShopWith(t, settings, 1)
	s.warm(t)
	all = s.guests(t, n+1)
	s.coalescer.mu.Lock()
	s.coalescer.askedAt = time.Now().Add(time.Hour) // none goes by itself meanwhile
	s.coalescer.mu.Unlock()
	g = newGate()
	s.fakeCarts[0].before = g.hold("first")
	var held sync.WaitGroup
	held.Go(func() { all[n].want(200, "", "POST", "/v1/cart/items", addMugs, "Idempotency-Key: first") })
	<-g.held
	return s, g, all[:n], held.Wait
}

// TestCallsThatWaitGoTogether: and each is answered as if it had gone by itself.
func TestCallsThatWaitGoTogether(t *testing.T) {
	s, g, all, first := crowd(t, testSettings(), 20)
	before := s.cartStore.count("Batch")
	var rest sync.WaitGroup
	for i, c := range all {
		rest.Go(func() {
			switch i % 5 {
			case 0:
				got := c.want(200, "", "GET", "/v1/cart", "")
				if got.Get("Served-By-Cart") != "cart-1" || got.json(t)["version"] != 0.0 {
					t.Errorf("read %v %s", got.Header, got.body)
				}
			case 1:
				c.want(422, "unknown_sku", "POST", "/v1/cart/items", `{"items":[{"sku":"unknown","quantity":1}]}`)
			case 2:
				c.want(412, "stale_version", "PUT", "/v1/cart/items/mug-01", `{"quantity":3}`, `If-Match: "inc-9.7.rev1"`)
			case 3:
				c.want(200, "", "DELETE", "/v1/cart/items/mug-01", "")
			default:
				got := c.want(200, "", "POST", "/v1/cart/items", addMugs, fmt.Sprint("Idempotency-Key: of-", i))
				if got.json(t)["version"] != 1.0 || got.Get("Served-By-Cart") != "cart-1" || got.Get("Idempotency-Replayed") != "" {
					t.Errorf("added %v %s", got.Header, got.body)
				}
			}
		})
	}
	s.queued(t, 20)
	close(g.opened)
	rest.Wait()
	first()
	if n := s.cartStore.count("Batch") - before; n < 1 || n > 4 {
		t.Errorf("20 calls took %d batches", n)
	}
	if s.cartStore.count("AddItems") != 1+4+4 {
		t.Errorf("%d adds were made, of 9", s.cartStore.count("AddItems"))
	}
	if got := testutil.ToFloat64(s.metrics.retries.WithLabelValues("cart")); got != 0 {
		t.Errorf("%v retries", got)
	}
}

// TestTracesInCompany: each call of a batch goes on with its own trace, and one
// that is not traced with none.
func TestTracesInCompany(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1") // where nobody listens
	t.Setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
	traces, err := tracing.Start(t.Context(), slog.New(slog.DiscardHandler), "gateway", "gateway-1")
	if err != nil {
		t.Fatal(err)
	}
	defer traces.Close()
	s, g, all, first := crowd(t, testSettings(), 4)
	traced := traces.HTTP(s)
	var mu sync.Mutex
	together, headers := 0, map[string]string{} // by idempotency key
	hold := s.fakeCarts[0].before
	s.fakeCarts[0].before = func(ctx ctx, call string, req any) error {
		if batch, ok := req.(*cartv1.BatchRequest); ok {
			mu.Lock()
			together = max(together, len(batch.GetOperations()))
			for _, op := range batch.GetOperations() {
				headers[op.GetAddItems().GetIdempotencyKey()] = op.GetTraceparent()
			}
			mu.Unlock()
		}
		return hold(ctx, call, req)
	}
	trace := func(i int) string { return fmt.Sprintf("%032x", 0xabc0+i) }
	var rest sync.WaitGroup
	for i, c := range all {
		c.send = func(r *http.Request) (*http.Response, error) {
			w := httptest.NewRecorder()
			r.RequestURI = r.URL.RequestURI()
			if i > 0 {
				r.Header.Set("Traceparent", "00-"+trace(i)+"-b7ad6b7169203331-01")
			}
			traced.ServeHTTP(w, r)
			return w.Result(), nil
		}
		rest.Go(func() { c.want(200, "", "POST", "/v1/cart/items", addMugs, fmt.Sprint("Idempotency-Key: of-", i)) })
	}
	s.queued(t, 4)
	close(g.opened)
	rest.Wait()
	first()
	if together < 2 || len(headers) != 4 {
		t.Fatalf("%d calls went together, and %d were seen", together, len(headers))
	}
	spans := map[string]bool{}
	for i := range all {
		key := fmt.Sprint("of-", i)
		parts := strings.Split(headers[key], "-")
		switch {
		case i == 0 && headers[key] != "":
			t.Errorf("%s was not traced, and has %q", key, headers[key])
		case i > 0 && (len(parts) != 4 || parts[1] != trace(i) || parts[2] == "b7ad6b7169203331" || spans[parts[2]]):
			t.Errorf("%s of trace %s has %q", key, trace(i), headers[key])
		case i > 0:
			spans[parts[2]] = true
		}
	}
}

// TestWaitingIsNoPartOfATry: who waits for room for longer than a try may take is
// not tried again for that, whether it then goes in company or alone.
func TestWaitingIsNoPartOfATry(t *testing.T) {
	for _, n := range []int{1, 5} {
		settings := testSettings()
		settings.TryTimeout, settings.RequestTimeout = 150*time.Millisecond, 20*time.Second
		s := newShopWith(t, settings, 1)
		s.warm(t)
		all := s.guests(t, n)
		s.coalescer.mu.Lock()
		s.coalescer.underWay += s.coalescer.room // which none of them is given, nor goes
		s.coalescer.askedAt = time.Now().Add(time.Hour)
		s.coalescer.mu.Unlock()
		before := s.cartStore.count("Batch")
		var adds sync.WaitGroup
		for _, c := range all {
			adds.Go(func() { c.want(200, "", "POST", "/v1/cart/items", addMugs) })
		}
		s.queued(t, n)
		time.Sleep(3 * settings.TryTimeout)
		s.coalescer.mu.Lock()
		s.coalescer.underWay -= s.coalescer.room
		s.coalescer.next(s.cartConn)
		s.coalescer.mu.Unlock()
		adds.Wait()
		if got := testutil.ToFloat64(s.metrics.retries.WithLabelValues("cart")); got != 0 {
			t.Errorf("%d calls: %v were tried again", n, got)
		}
		if got := s.cartStore.count("Batch") - before; got != min(n-1, 1) {
			t.Errorf("%d calls went in %d batches", n, got)
		}
	}
}

// TestWaitsEnd: who is given no room at all is told so when its time is over.
func TestWaitsEnd(t *testing.T) {
	settings := testSettings()
	settings.TryTimeout, settings.RequestTimeout = 100*time.Millisecond, 400*time.Millisecond
	s := newShopWith(t, settings, 1)
	s.warm(t)
	c := s.guests(t, 1)[0]
	s.coalescer.mu.Lock()
	s.coalescer.underWay += s.coalescer.room
	s.coalescer.askedAt = time.Now().Add(time.Hour)
	s.coalescer.mu.Unlock()
	began := time.Now()
	got := c.want(503, "timeout", "POST", "/v1/cart/items", addMugs)
	if took := time.Since(began); took < settings.RequestTimeout-50*time.Millisecond || took > 10*time.Second || got.Get("Retry-After") == "" {
		t.Errorf("after %v, %v", took, got.Header)
	}
}

// TestWaitsAreCounted: those that still wait as well, and none that is over.
func TestWaitsAreCounted(t *testing.T) {
	s, g, all, first := crowd(t, testSettings(), 3)
	waited := func() time.Duration {
		return time.Duration(testutil.ToFloat64(s.coalescer.waits) * float64(time.Second))
	}
	if got := waited(); got != 0 {
		t.Errorf("before any call, all have waited for %v", got)
	}
	began := time.Now()
	var rest sync.WaitGroup
	ctx, giveUp := context.WithCancel(t.Context())
	for _, c := range all[:2] {
		rest.Go(func() { c.want(200, "", "GET", "/v1/cart", "") })
	}
	rest.Go(func() { _, _ = all[2].with(ctx).try("GET", "/v1/cart", "") })
	s.queued(t, 3)
	time.Sleep(50 * time.Millisecond)
	giveUp()
	s.queued(t, 2)
	time.Sleep(50 * time.Millisecond)
	if got, least, most := waited(), 250*time.Millisecond, 3*time.Since(began); got < least || got > most {
		t.Errorf("two calls and one that has left have waited for %v, want %v to %v", got, least, most)
	}
	time.Sleep(50 * time.Millisecond)
	close(g.opened)
	rest.Wait()
	first()
	over, least, most := waited(), 350*time.Millisecond, 3*time.Since(began)
	if over < least || over > most {
		t.Errorf("after all, they have waited for %v, want %v to %v", over, least, most)
	}
	time.Sleep(20 * time.Millisecond)
	if got := waited(); got != over {
		t.Errorf("while none waits, %v became %v", over, got)
	}
}

// TestLoneCallsGoByThemselves: without company there is no batch.
func TestLoneCallsGoByThemselves(t *testing.T) {
	s := newShopWith(t, testSettings(), 2)
	c := s.warm(t)
	for range 20 {
		c.want(200, "", "POST", "/v1/cart/items", addMugs)
		c.want(200, "", "GET", "/v1/cart", "")
	}
	if n := s.cartStore.count("Batch"); n != 0 {
		t.Errorf("%d batches", n)
	}
}

// TestLoneCallsGoWhereNoneIs: a call goes to a replica that has the fewest under way.
func TestLoneCallsGoWhereNoneIs(t *testing.T) {
	s := newShopWith(t, testSettings(), 2)
	c := s.warm(t)
	g := newGate()
	for _, f := range s.fakeCarts {
		f.before = g.hold("first")
	}
	busy := make(chan string, 1)
	go func() {
		busy <- s.client(t).want(200, "", "POST", "/v1/cart/items", addMugs, "Idempotency-Key: first").Get("Served-By-Cart")
	}()
	<-g.held
	served := map[string]bool{}
	for range 10 {
		served[c.want(200, "", "GET", "/v1/cart", "").Get("Served-By-Cart")] = true
	}
	close(g.opened)
	if where := <-busy; served[where] || len(served) != 1 {
		t.Errorf("%s was busy, and %v answered", where, served)
	}
}

// TestCallThatGivesUpInCompany: a client that goes away, and a time that is up,
// take nothing from the others, in the queue or in the batch.
func TestCallThatGivesUpInCompany(t *testing.T) {
	s, g, all, first := crowd(t, testSettings(), 6)
	batch := newGate()
	s.fakeCarts[0].before = func(ctx ctx, call string, req any) error {
		if call == "Batch" {
			batch.held <- struct{}{}
			<-batch.opened
		}
		return g.hold("first")(ctx, call, req)
	}
	var rest sync.WaitGroup
	inQueue, leaveQueue := context.WithCancel(t.Context())
	inBatch, leaveBatch := context.WithCancel(t.Context())
	for i, c := range all {
		rest.Go(func() {
			switch i {
			case 0:
				c.with(inQueue).want(503, "", "POST", "/v1/cart/items", addMugs)
			case 1:
				c.with(inBatch).want(503, "", "POST", "/v1/cart/items", addMugs)
			default:
				c.want(200, "", "POST", "/v1/cart/items", addMugs)
			}
		})
	}
	s.queued(t, 6)
	leaveQueue()
	s.queued(t, 5)
	close(g.opened)
	<-batch.held
	leaveBatch()
	time.Sleep(20 * time.Millisecond)
	close(batch.opened)
	rest.Wait()
	first()
	if n := s.cartStore.count("AddItems"); n != 1+5 {
		t.Errorf("%d adds were made, want 6: that of the one who left the queue is none", n)
	}
}

// TestRoomOfOneWhoGaveUp: room that was given to a call which no longer waits goes
// to the next.
func TestRoomOfOneWhoGaveUp(t *testing.T) {
	c := newCoalescer(1, prometheus.NewRegistry())
	c.askedAt = time.Now().Add(time.Hour)
	if !c.enter() || c.enter() {
		t.Fatal("there is not room for one")
	}
	gone, next := &waiter{over: make(chan struct{})}, &waiter{over: make(chan struct{})}
	c.waiting = []*waiter{gone}
	c.leave(t.Context(), nil) // gone has the room, and does not know it yet
	c.waiting = []*waiter{next}
	c.giveUp(gone, nil)
	select {
	case <-next.over:
		if !next.alone || !next.room || c.underWay != 1 {
			t.Errorf("the next got %+v, with %d under way", next.verdict, c.underWay)
		}
	default:
		t.Error("the next waits for ever")
	}
	c.leave(t.Context(), nil)
	if !c.enter() {
		t.Error("there is no room any more")
	}
}

// TestDeadlineOfOneInCompany: a request that has little time left is answered
// when that is over, whatever its batch does.
func TestDeadlineOfOneInCompany(t *testing.T) {
	s, g, all, first := crowd(t, testSettings(), 4)
	var left sync.Map
	s.fakeCarts[0].before = func(ctx ctx, call string, req any) error {
		if r, ok := req.(*cartv1.BatchRequest); ok {
			for _, op := range r.GetOperations() {
				left.Store(op.GetAddItems().GetIdempotencyKey(), time.Duration(op.GetTimeLeft())*time.Microsecond)
			}
			time.Sleep(200 * time.Millisecond)
		}
		return g.hold("first")(ctx, call, req)
	}
	var rest sync.WaitGroup
	for i, c := range all {
		rest.Go(func() {
			if i > 0 {
				c.want(200, "", "POST", "/v1/cart/items", addMugs, "Idempotency-Key: patient")
				return
			}
			short, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
			defer cancel()
			started := time.Now()
			c.with(short).want(503, "", "POST", "/v1/cart/items", addMugs, "Idempotency-Key: hasty")
			if took := time.Since(started); took > 250*time.Millisecond {
				t.Errorf("answered after %v, want 150ms", took)
			}
		})
	}
	s.queued(t, 4)
	close(g.opened)
	rest.Wait()
	first()
	hasty, _ := left.Load("hasty")
	patient, _ := left.Load("patient")
	if hasty == nil || patient == nil || hasty.(time.Duration) > 150*time.Millisecond || patient.(time.Duration) < 300*time.Millisecond {
		t.Errorf("the replica was told %v and %v", hasty, patient)
	}
}

// TestStoppedReplicaInCompany: what is sent to a replica that stops goes elsewhere
// when its time is up, each call under its own key, and the others go on.
func TestStoppedReplicaInCompany(t *testing.T) {
	s := newShopWith(t, testSettings(), 3)
	s.warm(t)
	all := s.guests(t, 12)
	s.fakeCarts[0].before = func(ctx ctx, _ string, _ any) error { <-ctx.Done(); return ctx.Err() }
	for _, f := range s.fakeCarts[1:] {
		f.before = func(ctx, string, any) error { time.Sleep(time.Millisecond); return nil }
	}
	var group sync.WaitGroup
	var keptBack, done atomic.Int64
	end := time.Now().Add(2500 * time.Millisecond)
	for i, c := range all {
		group.Go(func() {
			for n := 0; time.Now().Before(end); n++ {
				started := time.Now()
				got := c.want(200, "", "POST", "/v1/cart/items", addMugs, fmt.Sprintf("Idempotency-Key: %d.%d", i, n))
				if v := got.json(t)["version"]; v != float64(n+1) {
					t.Errorf("add %d led to version %v", n+1, v)
				}
				done.Add(1)
				if time.Since(started) > s.settings.TryTimeout-50*time.Millisecond {
					keptBack.Add(1)
				}
			}
		})
	}
	group.Wait()
	t.Logf("%d adds, %d kept back, %d batches", done.Load(), keptBack.Load(), s.cartStore.count("Batch"))
	// What went there at first, at most one batch, and then one call in each second.
	if n := keptBack.Load(); n == 0 || n > int64(len(all))+3 || done.Load() < 20*n {
		t.Errorf("%d of %d adds were kept back", n, done.Load())
	}
	if s.cartStore.count("Batch") == 0 {
		t.Error("there was no batch")
	}
}

// TestReplicaThatDiesUnderABatch: its calls are tried elsewhere, one by one.
func TestReplicaThatDiesUnderABatch(t *testing.T) {
	s := newShopWith(t, testSettings(), 2)
	s.warm(t)
	all := s.guests(t, 40)
	var once sync.Once
	var died atomic.Int64
	for i, f := range s.fakeCarts {
		f.before = func(ctx ctx, call string, req any) (err error) {
			time.Sleep(time.Millisecond)
			if r, ok := req.(*cartv1.BatchRequest); ok {
				once.Do(func() {
					died.Store(int64(len(r.GetOperations())))
					// Half is done, and no answer ever comes.
					quiet := &fakeCart{cartStore: f.cartStore}
					for _, op := range r.GetOperations()[:len(r.GetOperations())/2] {
						_, _ = quiet.operation(ctx, op)
					}
					go s.cartRPC[i].Close()
					<-ctx.Done()
					err = ctx.Err()
				})
			}
			return err
		}
	}
	var group sync.WaitGroup
	for i, c := range all {
		group.Go(func() {
			for n := range 10 {
				got := c.want(200, "", "POST", "/v1/cart/items", addMugs, fmt.Sprintf("Idempotency-Key: %d.%d", i, n))
				if v := got.json(t)["version"]; v != float64(n+1) {
					t.Errorf("add %d led to version %v", n+1, v)
				}
			}
		})
	}
	group.Wait()
	if died.Load() < 2 {
		t.Fatal("no replica died under a batch")
	}
	if got := testutil.ToFloat64(s.metrics.retries.WithLabelValues("cart")); got < float64(died.Load()) {
		t.Errorf("%v retries, of at least %d calls", got, died.Load())
	}
}

// TestQueueIsBounded: who would wait too long is told so at once, and is not
// tried again.
func TestQueueIsBounded(t *testing.T) {
	settings := testSettings()
	settings.MaxInFlight = maxWaiting + 100
	s, g, all, first := crowd(t, settings, 8)
	var rest sync.WaitGroup
	for i := range maxWaiting {
		c := all[i%len(all)].with(t.Context())
		rest.Go(func() { c.want(200, "", "GET", "/v1/cart", "") })
	}
	s.queued(t, maxWaiting)
	started := time.Now()
	got := all[0].with(t.Context()).want(503, "overloaded", "GET", "/v1/cart", "")
	if took := time.Since(started); got.Get("Retry-After") != "1" || took > time.Second || testutil.ToFloat64(s.coalescer.refused) != 1 {
		t.Errorf("after %v, %v", took, got.Header)
	}
	close(g.opened)
	rest.Wait()
	first()
	if got := testutil.ToFloat64(s.metrics.retries.WithLabelValues("cart")); got != 0 {
		t.Errorf("%v retries", got)
	}
}

// TestApartAndOlderReplicas: what a batch can't do, a call by itself does.
func TestApartAndOlderReplicas(t *testing.T) {
	for name, older := range map[string]bool{"an operation that takes more": false, "a replica of an older release": true} {
		t.Run(name, func(t *testing.T) {
			s, g, all, first := crowd(t, testSettings(), 6)
			s.fakeCarts[0].noBatches = older
			s.fakeCarts[0].apart = func(op *cartv1.Operation) bool { return op.GetAddItems().GetIdempotencyKey() == "apart" }
			var rest sync.WaitGroup
			for i, c := range all {
				rest.Go(func() {
					key := "Idempotency-Key: apart"
					if i > 0 {
						key = "Idempotency-Key: other"
					}
					if got := c.want(200, "", "POST", "/v1/cart/items", addMugs, key); got.json(t)["version"] != 1.0 {
						t.Errorf("%s", got.body)
					}
				})
			}
			s.queued(t, 6)
			close(g.opened)
			rest.Wait()
			first()
			if got := testutil.ToFloat64(s.metrics.retries.WithLabelValues("cart")); got != 0 {
				t.Errorf("%v retries", got)
			}
		})
	}
}

// TestReplicaThatDrainsInCompany: no call fails, and none is even tried again.
func TestReplicaThatDrainsInCompany(t *testing.T) {
	s := newShopWith(t, testSettings(), 3)
	s.warm(t)
	all := s.guests(t, 12)
	for _, f := range s.fakeCarts {
		f.before = func(ctx, string, any) error { time.Sleep(time.Millisecond); return nil }
	}
	var group sync.WaitGroup
	var over atomic.Bool
	for _, c := range all {
		group.Go(func() {
			for !over.Load() {
				c.want(200, "", "POST", "/v1/cart/items", addMugs)
			}
		})
	}
	time.Sleep(100 * time.Millisecond)
	for _, r := range s.cartRPC[:2] {
		r.Drain()
		time.Sleep(100 * time.Millisecond)
		if err := r.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	over.Store(true)
	group.Wait()
	if got := testutil.ToFloat64(s.metrics.retries.WithLabelValues("cart")); got != 0 {
		t.Errorf("%v retries", got)
	}
	if s.cartStore.count("Batch") == 0 {
		t.Error("there was no batch")
	}
}
