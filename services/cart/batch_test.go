package cart_test

import (
	"context"
	"crypto/ed25519"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"coatcheck/cart"
	"coatcheck/cart/mapstore"
	"coatcheck/cart/redisstore"
	"coatcheck/cart/storetest"
	"coatcheck/chassis/fault"
	"coatcheck/chassis/redistest"
	"coatcheck/chassis/rpc"
	"coatcheck/chassis/ticket"
	cartv1 "coatcheck/proto/coatcheck/cart/v1"
)

// batchShop is a cart service on a real Redis that wants tickets and takes batches.
type batchShop struct {
	*testing.T
	cartv1.CartServiceClient
	redis *redistest.Server
	reg   *prometheus.Registry
}

func openBatchShop(t *testing.T) *batchShop {
	t.Helper()
	server, limits := redistest.Start(t), cart.Limits{Quantity: 99, Lines: 200}
	store := redisstore.New(server.Client(t), redisstore.Settings{
		GuestCartLife: storetest.GuestCartLife, UserCartLife: storetest.UserCartLife, OrderLife: storetest.OrderLife,
		Window: storetest.Window, Limits: limits, Now: time.Now,
	})
	reg := prometheus.NewRegistry()
	service, calls := takingBatches(t, store, store, limits, reg)
	cartv1.RegisterCartServiceServer(calls, service)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = calls.Serve(lis) }()
	t.Cleanup(calls.Close)
	conn, err := rpc.Dial(lis.Addr().String(), rpc.NewClientMetrics(prometheus.NewRegistry()), grpc.WithChainUnaryInterceptor(ticket.Attach))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &batchShop{T: t, CartServiceClient: cartv1.NewCartServiceClient(conn), redis: server, reg: reg}
}

// takingBatches returns a service that wants tickets and takes batches, and the
// server that it is for.
func takingBatches(t testing.TB, store cart.BatchStore, eraser cart.Eraser, limits cart.Limits, reg *prometheus.Registry) (*cart.Server, *rpc.Server) {
	t.Helper()
	catalogue, err := cart.ParseCatalogue(catalogueFile)
	if err != nil {
		t.Fatal(err)
	}
	ring := cart.NewKeyring(&fakeKeys{keys: []ed25519.PrivateKey{newKey(1)}}, time.Now)
	if err := ring.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	calls := rpc.NewServer(slog.New(slog.DiscardHandler), reg, "cart-1", grpc.ChainUnaryInterceptor(ring.Check))
	measured := cart.Measured(store, reg)
	service := cart.NewServer(measured, eraser, catalogue, limits, time.Now)
	service.TakeBatches(measured, ring, calls)
	return service, calls
}

// op is an operation with a good ticket and time enough.
func op(owner cart.Owner, req any) *cartv1.Operation {
	o := &cartv1.Operation{Ticket: signed(newKey(1), "cart", string(owner), time.Now()), TimeLeft: time.Minute.Microseconds()}
	switch req := req.(type) {
	case *cartv1.GetCartRequest:
		req.Owner = string(owner)
		o.Request = &cartv1.Operation_GetCart{GetCart: req}
	case *cartv1.AddItemsRequest:
		req.Owner = string(owner)
		o.Request = &cartv1.Operation_AddItems{AddItems: req}
	case *cartv1.SetItemRequest:
		req.Owner = string(owner)
		o.Request = &cartv1.Operation_SetItem{SetItem: req}
	case *cartv1.RemoveItemRequest:
		req.Owner = string(owner)
		o.Request = &cartv1.Operation_RemoveItem{RemoveItem: req}
	case *cartv1.ClearCartRequest:
		req.Owner = string(owner)
		o.Request = &cartv1.Operation_ClearCart{ClearCart: req}
	}
	return o
}

func adding(key string, lines ...*cartv1.Line) *cartv1.AddItemsRequest {
	return &cartv1.AddItemsRequest{IdempotencyKey: key, Lines: lines}
}

func (s *batchShop) batch(ops ...*cartv1.Operation) []*cartv1.Outcome {
	s.Helper()
	resp, err := s.Batch(s.Context(), &cartv1.BatchRequest{Operations: ops})
	if err != nil {
		s.Fatal(err)
	}
	if len(resp.GetOutcomes()) != len(ops) {
		s.Fatalf("%d outcomes of %d operations", len(resp.GetOutcomes()), len(ops))
	}
	return resp.GetOutcomes()
}

// TestBadOperationsAmongGood: each operation has the outcome that its call by
// itself has, whatever is before it and behind it.
func TestBadOperationsAmongGood(t *testing.T) {
	s := openBatchShop(t)
	owner := storetest.NewOwner('u')
	alone := func(op *cartv1.Operation) error {
		ctx := ticket.With(t.Context(), op.GetTicket())
		var err error
		switch req := op.GetRequest().(type) {
		case *cartv1.Operation_GetCart:
			_, err = s.GetCart(ctx, req.GetCart)
		case *cartv1.Operation_AddItems:
			_, err = s.AddItems(ctx, req.AddItems)
		case *cartv1.Operation_SetItem:
			_, err = s.SetItem(ctx, req.SetItem)
		case *cartv1.Operation_RemoveItem:
			_, err = s.RemoveItem(ctx, req.RemoveItem)
		case *cartv1.Operation_ClearCart:
			_, err = s.ClearCart(ctx, req.ClearCart)
		}
		return err
	}
	stale := ifMatch(&cartv1.CartVersion{Incarnation: "another1", Version: 7})
	bad := map[string]*cartv1.Operation{
		"unknown product": op(owner, adding("b1", line("nothing", 1))),
		"too many":        op(owner, adding("b2", line("mug-01", 100))),
		"no lines":        op(owner, adding("b3")),
		"no key":          op(owner, adding("", line("mug-01", 1))),
		"stale":           op(owner, &cartv1.SetItemRequest{IdempotencyKey: "b4", IfMatch: stale, Line: line("mug-01", 1)}),
		"stale removal":   op(owner, &cartv1.RemoveItemRequest{IdempotencyKey: "b5", IfMatch: stale, Sku: "mug-01"}),
		"no SKU":          op(owner, &cartv1.RemoveItemRequest{IdempotencyKey: "b6", Sku: "@v"}),
		"stale clearing":  op(owner, &cartv1.ClearCartRequest{IdempotencyKey: "b7", IfMatch: stale}),
		"nobody's cart":   op("nobody", &cartv1.GetCartRequest{}),
	}
	for name, bad := range bad {
		out := s.batch(op(owner, adding(key(), line("mug-01", 1))), bad, op(owner, &cartv1.GetCartRequest{}), op(storetest.NewOwner('g'), adding(key(), line("hat-01", 1))))
		for i, good := range map[int]*cartv1.Cart{0: out[0].GetChange().GetCart(), 2: out[2].GetGetCart().GetCart(), 3: out[3].GetChange().GetCart()} {
			if len(good.GetItems()) != 1 || good.GetTotal().GetAmount() == 0 {
				t.Errorf("%s: operation %d came to %v", name, i, out[i])
			}
		}
		got, want := out[1].GetFailure(), fault.From(alone(bad))
		if got == nil || want == nil || got.GetCode() != uint32(want.GRPCCode()) || got.GetReason() != want.Code || got.GetMessage() != want.Message {
			t.Errorf("%s: came to %v, by itself %v", name, out[1], want)
		}
	}

	late := op(owner, adding("late", line("mug-01", 1)))
	late.TimeLeft = time.Millisecond.Microseconds()
	out := s.batch(late, &cartv1.Operation{TimeLeft: time.Minute.Microseconds()}, op(owner, &cartv1.GetCartRequest{}))
	if f := out[0].GetFailure(); f.GetReason() != "timeout" || fault.FromCode(14, "", "").Kind != fault.Unavailable || f.GetCode() != 14 {
		t.Errorf("without time: %v", out[0])
	}
	if f := out[1].GetFailure(); f.GetReason() != "invalid_operation" {
		t.Errorf("nothing: %v", out[1])
	}
	if got := out[2].GetGetCart().GetCart(); got.GetVersion().GetVersion() != uint64(len(bad)) {
		t.Errorf("beside them: %v", got)
	}
}

// TestTicketsInBatch: who asks by a ticket that is not the owner's has nothing
// read or changed. A call by itself refuses it, or finds that auth has new keys.
func TestTicketsInBatch(t *testing.T) {
	s := openBatchShop(t)
	mine, hers := storetest.NewOwner('u'), storetest.NewOwner('u')
	for name, wrong := range map[string]string{
		"none":             "",
		"another's":        signed(newKey(1), "cart", string(mine), time.Now()),
		"of another key":   signed(newKey(2), "cart", string(hers), time.Now()),
		"for another":      signed(newKey(1), "auth", string(hers), time.Now()),
		"of another time":  signed(newKey(1), "cart", string(hers), time.Now().Add(-time.Hour)),
		"that is nonsense": "..",
	} {
		robbing := op(hers, adding(key(), line("mug-01", 1)))
		robbing.Ticket = wrong
		reading := op(hers, &cartv1.GetCartRequest{})
		reading.Ticket = wrong
		out := s.batch(op(mine, adding(key(), line("hat-01", 1))), robbing, reading)
		if out[0].GetChange() == nil || !out[1].GetApart() || !out[2].GetApart() {
			t.Errorf("a ticket %s: %v", name, out)
		}
	}
	if out := s.batch(op(hers, &cartv1.GetCartRequest{})); out[0].GetGetCart().GetCart().GetVersion().GetVersion() != 0 {
		t.Errorf("her cart was changed: %v", out[0])
	}
}

// TestReplaysInBatch: the second of one key is a replay, also beside the first.
func TestReplaysInBatch(t *testing.T) {
	s := openBatchShop(t)
	owner := storetest.NewOwner('g')
	out := s.batch(
		op(owner, adding("one", line("mug-01", 1))),
		op(owner, adding("one", line("mug-01", 1))),
		op(owner, adding("one", line("mug-01", 2))),
		op(owner, &cartv1.SetItemRequest{IdempotencyKey: "two", Line: line("mug-01", 5), Minimal: true}),
		op(owner, adding("one", line("mug-01", 1))),
		op(owner, &cartv1.GetCartRequest{}),
	)
	type got struct {
		version  uint64
		replayed bool
		quantity int64
		reason   string
	}
	want := []got{{1, false, 1, ""}, {1, true, 1, ""}, {0, false, 0, "idempotency_key_reused"}, {2, false, 5, ""}, {1, true, 5, ""}, {2, false, 5, ""}}
	for i, o := range out {
		c, g := o.GetChange().GetCart(), got{version: o.GetChange().GetVersion(), replayed: o.GetChange().GetReplayed(), reason: o.GetFailure().GetReason()}
		if o.GetGetCart() != nil {
			c, g.version = o.GetGetCart().GetCart(), o.GetGetCart().GetCart().GetVersion().GetVersion()
		}
		if len(c.GetItems()) > 0 {
			g.quantity = c.GetItems()[0].GetQuantity()
		}
		if g != want[i] {
			t.Errorf("operation %d came to %+v, want %+v", i, g, want[i])
		}
	}
	if out[3].GetChange().GetCart().GetTotal() != nil {
		t.Errorf("a minimal answer with a total: %v", out[3])
	}
	again, err := s.AddItems(ticket.With(t.Context(), signed(newKey(1), "cart", string(owner), time.Now())), &cartv1.AddItemsRequest{Owner: string(owner), IdempotencyKey: "one", Lines: []*cartv1.Line{line("mug-01", 1)}})
	if err != nil || !cmp.Equal(again.GetChange(), out[4].GetChange(), protocmp.Transform()) {
		t.Errorf("by itself: %v, %v; in the batch %v", again, err, out[4])
	}
}

// TestBatchBounds: what would make an answer too large is left to a call by itself.
func TestBatchBounds(t *testing.T) {
	s := openBatchShop(t)
	for _, n := range []int{0, 129} {
		_, err := s.Batch(t.Context(), &cartv1.BatchRequest{Operations: make([]*cartv1.Operation, n)})
		wantFault(t, err, fault.Invalid, "invalid_batch")
	}
	owner := storetest.NewOwner('u')
	fields := map[string]any{"@v": 1, "@i": "abcdefgh"}
	for i := range 200 {
		fields["sku-"+string(rune('a'+i%26))+string(rune('a'+i/26))] = 1
	}
	if err := s.redis.Client(t).HSet(t.Context(), "cart:{"+string(owner)+"}", fields).Err(); err != nil {
		t.Fatal(err)
	}
	var ops []*cartv1.Operation
	for range 128 {
		ops = append(ops, op(owner, &cartv1.GetCartRequest{}))
	}
	whole := 0
	for _, o := range s.batch(ops...) {
		if len(o.GetGetCart().GetCart().GetItems()) == 200 {
			whole++
		} else if !o.GetApart() {
			t.Fatal(o)
		}
	}
	if whole != 20 {
		t.Errorf("%d of 128 carts of 200 lines in one answer", whole)
	}
	_, err := openShop(t).Batch(t.Context(), &cartv1.BatchRequest{Operations: ops[:1]})
	wantFault(t, err, fault.Unimplemented, "no_batches")
}

// TestBatchIsCountedByOperation: under the names that the calls have.
func TestBatchIsCountedByOperation(t *testing.T) {
	s := openBatchShop(t)
	owner := storetest.NewOwner('u')
	unknown := op(owner, &cartv1.GetCartRequest{})
	unknown.Ticket = ""
	s.batch(op(owner, adding(key(), line("mug-01", 1))), op(owner, adding(key(), line("nothing", 1))), op(owner, &cartv1.GetCartRequest{}),
		op(owner, &cartv1.ClearCartRequest{IdempotencyKey: key()}), unknown)
	got := map[string]int{}
	for _, m := range family(t, s.reg, "grpc_server_handled_total").GetMetric() {
		name := ""
		for _, l := range m.GetLabel() {
			if l.GetName() != "grpc_service" && l.GetName() != "grpc_type" {
				name += l.GetValue() + " "
			}
		}
		got[name] = int(m.GetCounter().GetValue())
	}
	for name, n := range map[string]int{"OK AddItems ": 1, "FailedPrecondition AddItems ": 1, "OK GetCart ": 1, "OK ClearCart ": 1, "OK Batch ": 1} {
		if got[name] != n {
			t.Errorf("%d of %s, want %d; all: %v", got[name], name, n, got)
		}
	}
	for _, c := range changes(t, s.reg) {
		if want := map[string]int{"add done": 1, "clear done": 1}[c.operation+" "+c.result]; c.n != want {
			t.Errorf("%d of %s %s, want %d", c.n, c.operation, c.result, want)
		}
	}
	if n := family(t, s.reg, "coatcheck_cart_lines").GetMetric()[0].GetHistogram().GetSampleCount(); n != 3 {
		t.Errorf("%d carts were answered, want 3", n)
	}
}

// oneByOne takes batches for a store that has no way of its own.
type oneByOne struct{ cart.Store }

func (s oneByOne) Batch(ctx context.Context, steps []*cart.Step) {
	for _, step := range steps {
		if step.Change == nil {
			step.Result.Cart, step.Err = s.Get(ctx, step.Owner)
		} else {
			step.Result, step.Err = s.Change(ctx, step.Owner, *step.Change)
		}
	}
}

// FuzzBatch: whatever comes, each operation has one outcome, and nobody panics.
func FuzzBatch(f *testing.F) {
	limits := cart.Limits{Quantity: 99, Lines: 20}
	store := mapstore.New(mapstore.Settings{GuestCartLife: time.Hour, UserCartLife: time.Hour, OrderLife: time.Hour, Window: time.Minute, Limits: limits, Now: time.Now})
	catalogue, err := cart.ParseCatalogue(catalogueFile)
	if err != nil {
		f.Fatal(err)
	}
	ring := cart.NewKeyring(&fakeKeys{keys: []ed25519.PrivateKey{newKey(1)}}, time.Now)
	if err := ring.Ready(f.Context()); err != nil {
		f.Fatal(err)
	}
	server := cart.NewServer(store, store, catalogue, limits, time.Now)
	server.TakeBatches(oneByOne{store}, ring, rpc.NewServer(slog.New(slog.DiscardHandler), prometheus.NewRegistry(), "cart-1"))
	for _, ops := range [][]*cartv1.Operation{
		{op(ada, adding("k", line("mug-01", 1))), op(ada, &cartv1.GetCartRequest{}), {}},
		{op(bob, &cartv1.SetItemRequest{IdempotencyKey: "k"}), op(bob, &cartv1.RemoveItemRequest{Sku: "mug-01"}), op(guest, &cartv1.ClearCartRequest{IdempotencyKey: "k"})},
	} {
		seed, err := proto.Marshal(&cartv1.BatchRequest{Operations: ops})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		req := &cartv1.BatchRequest{}
		if proto.Unmarshal(wire, req) != nil {
			return
		}
		resp, err := server.Batch(t.Context(), req)
		if n := len(req.GetOperations()); n == 0 || n > 128 {
			wantFault(t, err, fault.Invalid, "invalid_batch")
			return
		}
		if err != nil || len(resp.GetOutcomes()) != len(req.GetOperations()) {
			t.Fatalf("%v, %v", resp, err)
		}
		for i, o := range resp.GetOutcomes() {
			if o.GetResult() == nil || o.GetFailure().GetReason() == "internal" {
				t.Errorf("%v came to %v", req.GetOperations()[i], o)
			}
		}
	})
}
