package cart_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/testing/protocmp"

	"coatcheck/cart"
	"coatcheck/cart/redisstore"
	"coatcheck/cart/storetest"
	"coatcheck/chassis/fault"
	"coatcheck/chassis/redistest"
	"coatcheck/chassis/rpc"
	cartv1 "coatcheck/proto/coatcheck/cart/v1"

	"net"
)

var catalogueFile = []byte(`{"currency": "EUR", "products": [
	{"sku": "mug-01", "name": "Mug", "unit_price": 1250},
	{"sku": "hat-01", "name": "Hat", "unit_price": 5400},
	{"sku": "free-01", "name": "Sample", "unit_price": 0}
]}`)

// shop is a cart service on a real Redis behind real gRPC.
type shop struct {
	*testing.T
	cartv1.CartServiceClient
	redis *redistest.Server
	store *redisstore.Store
}

func openShop(t *testing.T) *shop {
	t.Helper()
	server := redistest.Start(t)
	limits := cart.Limits{Quantity: 99, Lines: 2}
	store := redisstore.New(server.Client(t), redisstore.Settings{
		GuestCartLife: storetest.GuestCartLife, UserCartLife: storetest.UserCartLife, OrderLife: storetest.OrderLife,
		Window: storetest.Window, Limits: limits, Now: time.Now,
	})
	return &shop{T: t, CartServiceClient: serve(t, store, catalogueFile, limits), redis: server, store: store}
}

func serve(t *testing.T, store *redisstore.Store, file []byte, limits cart.Limits) cartv1.CartServiceClient {
	t.Helper()
	catalogue, err := cart.ParseCatalogue(file)
	if err != nil {
		t.Fatal(err)
	}
	server := rpc.NewServer(slog.New(slog.NewTextHandler(io.Discard, nil)), prometheus.NewRegistry(), "cart-1")
	cartv1.RegisterCartServiceServer(server, cart.NewServer(store, store, catalogue, limits, time.Now))
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(lis) }()
	t.Cleanup(server.Close)
	conn, err := rpc.Dial(lis.Addr().String(), rpc.NewClientMetrics(prometheus.NewRegistry()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return cartv1.NewCartServiceClient(conn)
}

func line(sku string, quantity int64) *cartv1.Line {
	return &cartv1.Line{Sku: sku, Quantity: quantity}
}

func eur(amount int64) *cartv1.Money { return &cartv1.Money{Amount: amount, Currency: "EUR"} }

var keys int

func key() string {
	keys++
	return fmt.Sprint("key-", keys)
}

func (s *shop) add(owner cart.Owner, lines ...*cartv1.Line) *cartv1.Change {
	s.Helper()
	resp, err := s.AddItems(s.Context(), &cartv1.AddItemsRequest{Owner: string(owner), IdempotencyKey: key(), Lines: lines})
	if err != nil {
		s.Fatal(err)
	}
	return resp.GetChange()
}

func ifMatch(v *cartv1.CartVersion) *cartv1.Precondition {
	return &cartv1.Precondition{AnyOf: []*cartv1.CartVersion{v}}
}

func wantFault(t *testing.T, err error, kind fault.Kind, code string) {
	t.Helper()
	if f := fault.From(err); f == nil || f.Kind != kind || f.Code != code {
		t.Errorf("got %v, want %s", err, code)
	}
}

func TestShopping(t *testing.T) {
	s := openShop(t)
	user := storetest.NewOwner('u')
	change := s.add(user, line("mug-01", 1), line("hat-01", 2), line("mug-01", 2))
	want := &cartv1.Cart{
		Items: []*cartv1.Item{
			{Sku: "hat-01", Name: "Hat", Quantity: 2, UnitPrice: eur(5400), LineTotal: eur(10800)},
			{Sku: "mug-01", Name: "Mug", Quantity: 3, UnitPrice: eur(1250), LineTotal: eur(3750)},
		},
		Total: eur(14550),
	}
	ignore := protocmp.IgnoreFields(&cartv1.Cart{}, "version", "expires_at", "catalogue_revision")
	if diff := cmp.Diff(want, change.GetCart(), protocmp.Transform(), ignore); diff != "" {
		t.Errorf("added (-want +got):\n%s", diff)
	}
	got, err := s.GetCart(t.Context(), &cartv1.GetCartRequest{Owner: string(user)})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(change.GetCart(), got.GetCart(), protocmp.Transform()); diff != "" {
		t.Errorf("read (-answered +read):\n%s", diff)
	}
	if got.GetCart().GetExpiresAt() == nil || got.GetCart().GetCatalogueRevision() == "" {
		t.Errorf("cart %v", got)
	}

	set, err := s.SetItem(t.Context(), &cartv1.SetItemRequest{Owner: string(user), IdempotencyKey: key(), IfMatch: ifMatch(got.GetCart().GetVersion()), Line: line("mug-01", 5), Minimal: true})
	if err != nil {
		t.Fatal(err)
	}
	if c := set.GetChange(); c.GetVersion() != 2 || len(c.GetCart().GetItems()) != 1 || c.GetCart().GetTotal() != nil || c.GetCart().GetItems()[0].GetQuantity() != 5 {
		t.Errorf("minimal set: %v", set)
	}
	_, err = s.SetItem(t.Context(), &cartv1.SetItemRequest{Owner: string(user), IdempotencyKey: key(), IfMatch: ifMatch(got.GetCart().GetVersion()), Line: line("mug-01", 6)})
	wantFault(t, err, fault.Stale, "stale_version")

	removed, err := s.RemoveItem(t.Context(), &cartv1.RemoveItemRequest{Owner: string(user), IdempotencyKey: key(), Sku: "hat-01"})
	if err != nil || removed.GetChange().GetCart().GetTotal().GetAmount() != 6250 {
		t.Errorf("removed: %v, %v", removed, err)
	}
	request := &cartv1.ClearCartRequest{Owner: string(user), IdempotencyKey: key()}
	for _, replayed := range []bool{false, true} {
		cleared, err := s.ClearCart(t.Context(), request)
		if err != nil || cleared.GetChange().GetReplayed() != replayed || len(cleared.GetChange().GetCart().GetItems()) != 0 || cleared.GetChange().GetVersion() != 4 {
			t.Errorf("cleared: %v, %v", cleared, err)
		}
	}
}

func TestMergeAndCheckout(t *testing.T) {
	s := openShop(t)
	guest, user := storetest.NewOwner('g'), storetest.NewOwner('u')
	s.add(guest, line("mug-01", 2))
	s.add(user, line("mug-01", 1))
	if _, err := s.MergeCarts(t.Context(), &cartv1.MergeCartsRequest{From: string(guest), To: string(user)}); err != nil {
		t.Fatal(err)
	}
	_, err := s.GetCart(t.Context(), &cartv1.GetCartRequest{Owner: string(guest)})
	wantFault(t, err, fault.Refused, "cart_moved")
	got, err := s.GetCart(t.Context(), &cartv1.GetCartRequest{Owner: string(user)})
	if err != nil {
		t.Fatal(err)
	}
	request := &cartv1.CheckoutRequest{Owner: string(user), IdempotencyKey: key(), IfMatch: ifMatch(got.GetCart().GetVersion())}
	order, err := s.Checkout(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	if order.GetReplayed() || order.GetOrder().GetTotal().GetAmount() != 3750 || time.Since(order.GetOrder().GetCreatedAt().AsTime()) > time.Minute {
		t.Errorf("order %v", order)
	}
	again, err := s.Checkout(t.Context(), request)
	if err != nil || !again.GetReplayed() || !cmp.Equal(order.GetOrder(), again.GetOrder(), protocmp.Transform()) {
		t.Errorf("again %v, %v", again, err)
	}
	kept, err := s.GetOrder(t.Context(), &cartv1.GetOrderRequest{Owner: string(user), OrderId: order.GetOrder().GetId()})
	if err != nil || !cmp.Equal(order.GetOrder(), kept.GetOrder(), protocmp.Transform()) {
		t.Errorf("kept %v, %v", kept, err)
	}
	now, err := s.GetCart(t.Context(), &cartv1.GetCartRequest{Owner: string(user)})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Checkout(t.Context(), &cartv1.CheckoutRequest{Owner: string(user), IdempotencyKey: key(), IfMatch: ifMatch(now.GetCart().GetVersion())})
	wantFault(t, err, fault.Refused, "cart_empty")

	if _, err := s.EraseOwner(t.Context(), &cartv1.EraseOwnerRequest{Owner: string(user)}); err != nil {
		t.Fatal(err)
	}
	_, err = s.GetOrder(t.Context(), &cartv1.GetOrderRequest{Owner: string(user), OrderId: order.GetOrder().GetId()})
	wantFault(t, err, fault.Absent, "no_such_order")
}

func TestOrderPages(t *testing.T) {
	s := openShop(t)
	user := storetest.NewOwner('u')
	for range 5 {
		version := s.add(user, line("mug-01", 1)).GetCart().GetVersion()
		if _, err := s.Checkout(t.Context(), &cartv1.CheckoutRequest{Owner: string(user), IdempotencyKey: key(), IfMatch: ifMatch(version)}); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]bool{}
	token := ""
	for i, want := range []int{2, 2, 1} {
		page, err := s.ListOrders(t.Context(), &cartv1.ListOrdersRequest{Owner: string(user), PageSize: 2, PageToken: token})
		if err != nil || len(page.GetOrders()) != want || (page.GetNextPageToken() == "") != (i == 2) {
			t.Fatalf("page %d: %v, %v", i, page, err)
		}
		for _, o := range page.GetOrders() {
			seen[o.GetId()] = true
		}
		token = page.GetNextPageToken()
	}
	if len(seen) != 5 {
		t.Errorf("%d different orders in all pages", len(seen))
	}
	if page, err := s.ListOrders(t.Context(), &cartv1.ListOrdersRequest{Owner: string(user)}); err != nil || len(page.GetOrders()) != 5 {
		t.Errorf("default page: %v, %v", page, err)
	}
}

// TestCatalogueChanges has a product leave the catalogue while it is in a cart.
func TestCatalogueChanges(t *testing.T) {
	s := openShop(t)
	user := storetest.NewOwner('u')
	version := s.add(user, line("mug-01", 2), line("hat-01", 1)).GetCart().GetVersion()
	s.CartServiceClient = serve(t, s.store, []byte(`{"currency": "EUR", "products": [{"sku": "hat-01", "name": "Hat", "unit_price": 6000}]}`), cart.Limits{Quantity: 99, Lines: 2})

	got, err := s.GetCart(t.Context(), &cartv1.GetCartRequest{Owner: string(user)})
	if err != nil {
		t.Fatal(err)
	}
	gone := got.GetCart().GetItems()[1]
	if gone.GetSku() != "mug-01" || !gone.GetUnavailable() || gone.GetLineTotal().GetAmount() != 0 || got.GetCart().GetTotal().GetAmount() != 6000 {
		t.Errorf("cart %v", got)
	}
	_, err = s.Checkout(t.Context(), &cartv1.CheckoutRequest{Owner: string(user), IdempotencyKey: key(), IfMatch: ifMatch(version)})
	wantFault(t, err, fault.Refused, "item_unavailable")
	_, err = s.AddItems(t.Context(), &cartv1.AddItemsRequest{Owner: string(user), IdempotencyKey: key(), Lines: []*cartv1.Line{line("mug-01", 1)}})
	wantFault(t, err, fault.Refused, "unknown_sku")
	if _, err := s.SetItem(t.Context(), &cartv1.SetItemRequest{Owner: string(user), IdempotencyKey: key(), Line: line("mug-01", 0)}); err != nil {
		t.Errorf("removing what is no longer for sale: %v", err)
	}
}

func TestBadRequests(t *testing.T) {
	s := openShop(t)
	user := storetest.NewOwner('u')
	o := string(user)
	before := s.add(user, line("mug-01", 1)).GetCart()
	ctx := t.Context()
	add := func(r *cartv1.AddItemsRequest) error { _, err := s.AddItems(ctx, r); return err }
	set := func(r *cartv1.SetItemRequest) error { _, err := s.SetItem(ctx, r); return err }
	checkout := func(r *cartv1.CheckoutRequest) error { _, err := s.Checkout(ctx, r); return err }
	one := []*cartv1.Line{line("mug-01", 1)}
	many := &cartv1.Precondition{AnyOf: make([]*cartv1.CartVersion, 33)}

	for name, tt := range map[string]struct {
		err  error
		kind fault.Kind
		code string
	}{
		"no owner":          {add(&cartv1.AddItemsRequest{IdempotencyKey: key(), Lines: one}), fault.Invalid, "invalid_owner"},
		"short owner":       {add(&cartv1.AddItemsRequest{Owner: o[:23], IdempotencyKey: key(), Lines: one}), fault.Invalid, "invalid_owner"},
		"owner's kind":      {add(&cartv1.AddItemsRequest{Owner: "x" + o[1:], IdempotencyKey: key(), Lines: one}), fault.Invalid, "invalid_owner"},
		"owner's alphabet":  {add(&cartv1.AddItemsRequest{Owner: o[:23] + "}", IdempotencyKey: key(), Lines: one}), fault.Invalid, "invalid_owner"},
		"no key":            {add(&cartv1.AddItemsRequest{Owner: o, Lines: one}), fault.Invalid, "invalid_idempotency_key"},
		"long key":          {add(&cartv1.AddItemsRequest{Owner: o, IdempotencyKey: strings.Repeat("k", 129), Lines: one}), fault.Invalid, "invalid_idempotency_key"},
		"key's alphabet":    {add(&cartv1.AddItemsRequest{Owner: o, IdempotencyKey: "a b", Lines: one}), fault.Invalid, "invalid_idempotency_key"},
		"no lines":          {add(&cartv1.AddItemsRequest{Owner: o, IdempotencyKey: key()}), fault.Invalid, "no_items"},
		"no sku":            {add(&cartv1.AddItemsRequest{Owner: o, IdempotencyKey: key(), Lines: []*cartv1.Line{line("", 1)}}), fault.Invalid, "invalid_sku"},
		"sku like a field":  {add(&cartv1.AddItemsRequest{Owner: o, IdempotencyKey: key(), Lines: []*cartv1.Line{line("@v", 1)}}), fault.Invalid, "invalid_sku"},
		"long sku":          {add(&cartv1.AddItemsRequest{Owner: o, IdempotencyKey: key(), Lines: []*cartv1.Line{line(strings.Repeat("s", 65), 1)}}), fault.Invalid, "invalid_sku"},
		"sku's alphabet":    {add(&cartv1.AddItemsRequest{Owner: o, IdempotencyKey: key(), Lines: []*cartv1.Line{line("mug 01", 1)}}), fault.Invalid, "invalid_sku"},
		"unknown sku":       {add(&cartv1.AddItemsRequest{Owner: o, IdempotencyKey: key(), Lines: []*cartv1.Line{line("mug-01", 1), line("nope", 1)}}), fault.Refused, "unknown_sku"},
		"add 0":             {add(&cartv1.AddItemsRequest{Owner: o, IdempotencyKey: key(), Lines: []*cartv1.Line{line("mug-01", 0)}}), fault.Invalid, "invalid_quantity"},
		"add less":          {add(&cartv1.AddItemsRequest{Owner: o, IdempotencyKey: key(), Lines: []*cartv1.Line{line("mug-01", -1)}}), fault.Invalid, "invalid_quantity"},
		"add too much":      {add(&cartv1.AddItemsRequest{Owner: o, IdempotencyKey: key(), Lines: []*cartv1.Line{line("mug-01", 1<<62)}}), fault.Refused, "quantity_limit"},
		"sum too much":      {add(&cartv1.AddItemsRequest{Owner: o, IdempotencyKey: key(), Lines: []*cartv1.Line{line("hat-01", 99), line("hat-01", 1)}}), fault.Refused, "quantity_limit"},
		"cart too much":     {add(&cartv1.AddItemsRequest{Owner: o, IdempotencyKey: key(), Lines: []*cartv1.Line{line("mug-01", 99)}}), fault.Refused, "quantity_limit"},
		"lines too many":    {add(&cartv1.AddItemsRequest{Owner: o, IdempotencyKey: key(), Lines: []*cartv1.Line{line("mug-01", 1), line("hat-01", 1), line("free-01", 1)}}), fault.Refused, "line_limit"},
		"versions too many": {add(&cartv1.AddItemsRequest{Owner: o, IdempotencyKey: key(), Lines: one, IfMatch: many}), fault.Invalid, "invalid_if_match"},
		"set less":          {set(&cartv1.SetItemRequest{Owner: o, IdempotencyKey: key(), Line: line("mug-01", -1)}), fault.Invalid, "invalid_quantity"},
		"set no line":       {set(&cartv1.SetItemRequest{Owner: o, IdempotencyKey: key()}), fault.Invalid, "invalid_sku"},
		"set unknown":       {set(&cartv1.SetItemRequest{Owner: o, IdempotencyKey: key(), Line: line("nope", 1)}), fault.Refused, "unknown_sku"},
		"set no owner":      {set(&cartv1.SetItemRequest{IdempotencyKey: key(), Line: line("mug-01", 1)}), fault.Invalid, "invalid_owner"},
		"guest's checkout": {checkout(&cartv1.CheckoutRequest{Owner: string(storetest.NewOwner('g')), IdempotencyKey: key(), IfMatch: ifMatch(before.GetVersion())}),
			fault.Forbidden, "login_required"},
		"checkout of any version": {checkout(&cartv1.CheckoutRequest{Owner: o, IdempotencyKey: key()}), fault.Invalid, "invalid_if_match"},
		"checkout without key":    {checkout(&cartv1.CheckoutRequest{Owner: o, IfMatch: ifMatch(before.GetVersion())}), fault.Invalid, "invalid_idempotency_key"},
		"checkout of no version":  {checkout(&cartv1.CheckoutRequest{Owner: o, IdempotencyKey: key(), IfMatch: &cartv1.Precondition{}}), fault.Stale, "stale_version"},
		"checkout of no owner":    {checkout(&cartv1.CheckoutRequest{IdempotencyKey: key(), IfMatch: ifMatch(before.GetVersion())}), fault.Invalid, "invalid_owner"},
	} {
		if f := fault.From(tt.err); f == nil || f.Kind != tt.kind || f.Code != tt.code {
			t.Errorf("%s: %v, want %s", name, tt.err, tt.code)
		}
	}

	_, err := s.GetCart(ctx, &cartv1.GetCartRequest{Owner: "me"})
	wantFault(t, err, fault.Invalid, "invalid_owner")
	_, err = s.RemoveItem(ctx, &cartv1.RemoveItemRequest{Owner: o, IdempotencyKey: key(), Sku: "\xff"[:0] + " "})
	wantFault(t, err, fault.Invalid, "invalid_sku")
	_, err = s.RemoveItem(ctx, &cartv1.RemoveItemRequest{Owner: o, Sku: "mug-01"})
	wantFault(t, err, fault.Invalid, "invalid_idempotency_key")
	_, err = s.ClearCart(ctx, &cartv1.ClearCartRequest{Owner: o})
	wantFault(t, err, fault.Invalid, "invalid_idempotency_key")
	for _, pair := range [][2]cart.Owner{{user, user}, {storetest.NewOwner('g'), storetest.NewOwner('g')}, {"", user}, {user, ""}} {
		_, err = s.MergeCarts(ctx, &cartv1.MergeCartsRequest{From: string(pair[0]), To: string(pair[1])})
		wantFault(t, err, fault.Invalid, "invalid_owner")
	}
	for _, id := range []string{"", "x", strings.Repeat("0", 26), strings.Repeat("z", 26)} {
		_, err = s.GetOrder(ctx, &cartv1.GetOrderRequest{Owner: o, OrderId: id})
		wantFault(t, err, fault.Absent, "no_such_order")
	}
	_, err = s.GetOrder(ctx, &cartv1.GetOrderRequest{OrderId: cart.NewOrderID(time.Now())})
	wantFault(t, err, fault.Invalid, "invalid_owner")
	for _, size := range []int32{-1, 101} {
		_, err = s.ListOrders(ctx, &cartv1.ListOrdersRequest{Owner: o, PageSize: size})
		wantFault(t, err, fault.Invalid, "invalid_page_size")
	}
	_, err = s.ListOrders(ctx, &cartv1.ListOrdersRequest{Owner: o, PageToken: "+"})
	wantFault(t, err, fault.Invalid, "invalid_page_token")
	_, err = s.ListOrders(ctx, &cartv1.ListOrdersRequest{})
	wantFault(t, err, fault.Invalid, "invalid_owner")
	_, err = s.EraseOwner(ctx, &cartv1.EraseOwnerRequest{})
	wantFault(t, err, fault.Invalid, "invalid_owner")

	after, err := s.GetCart(ctx, &cartv1.GetCartRequest{Owner: o})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, after.GetCart(), protocmp.Transform()); diff != "" {
		t.Errorf("bad requests changed the cart (-before +after):\n%s", diff)
	}
}

func TestRedisGone(t *testing.T) {
	s := openShop(t)
	user := storetest.NewOwner('u')
	o := string(user)
	version := s.add(user, line("mug-01", 1)).GetCart().GetVersion()
	s.redis.Kill()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for name, call := range map[string]func() error{
		"get": func() error { _, err := s.GetCart(ctx, &cartv1.GetCartRequest{Owner: o}); return err },
		"add": func() error {
			_, err := s.AddItems(ctx, &cartv1.AddItemsRequest{Owner: o, IdempotencyKey: key(), Lines: []*cartv1.Line{line("mug-01", 1)}})
			return err
		},
		"remove": func() error {
			_, err := s.RemoveItem(ctx, &cartv1.RemoveItemRequest{Owner: o, IdempotencyKey: key(), Sku: "mug-01"})
			return err
		},
		"clear": func() error {
			_, err := s.ClearCart(ctx, &cartv1.ClearCartRequest{Owner: o, IdempotencyKey: key()})
			return err
		},
		"merge": func() error {
			_, err := s.MergeCarts(ctx, &cartv1.MergeCartsRequest{From: string(storetest.NewOwner('g')), To: o})
			return err
		},
		"checkout": func() error {
			_, err := s.Checkout(ctx, &cartv1.CheckoutRequest{Owner: o, IdempotencyKey: key(), IfMatch: ifMatch(version)})
			return err
		},
		"orders": func() error { _, err := s.ListOrders(ctx, &cartv1.ListOrdersRequest{Owner: o}); return err },
		"erase":  func() error { _, err := s.EraseOwner(ctx, &cartv1.EraseOwnerRequest{Owner: o}); return err },
	} {
		if err := call(); !fault.Is(err, fault.Unavailable) {
			t.Errorf("%s: %v, want unavailable", name, err)
		}
	}
	if _, err := s.ListProducts(ctx, &cartv1.ListProductsRequest{}); err != nil {
		t.Errorf("the catalogue needs no Redis: %v", err)
	}
	s.redis.Restart(t)
	got, err := s.GetCart(ctx, &cartv1.GetCartRequest{Owner: o})
	if err != nil || got.GetCart().GetItems()[0].GetQuantity() != 1 {
		t.Errorf("after the crash: %v, %v", got, err)
	}
}

// TestOutOfMemory fills Redis: what can't be stored is refused as a whole.
func TestOutOfMemory(t *testing.T) {
	s := openShop(t)
	user := storetest.NewOwner('u')
	before := s.add(user, line("mug-01", 1), line("hat-01", 1)).GetCart()
	rdb := s.redis.Client(t)
	if err := rdb.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	for _, quantity := range []int64{0, 5} {
		_, err := s.SetItem(t.Context(), &cartv1.SetItemRequest{Owner: string(user), IdempotencyKey: key(), Line: line("mug-01", quantity)})
		wantFault(t, err, fault.Unavailable, "store_unavailable")
	}
	_, err := s.Checkout(t.Context(), &cartv1.CheckoutRequest{Owner: string(user), IdempotencyKey: key(), IfMatch: ifMatch(before.GetVersion())})
	wantFault(t, err, fault.Unavailable, "store_unavailable")
	got, err := s.GetCart(t.Context(), &cartv1.GetCartRequest{Owner: string(user)})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, got.GetCart(), protocmp.Transform()); diff != "" {
		t.Errorf("refused changes changed the cart (-before +after):\n%s", diff)
	}
}

func TestCatalogue(t *testing.T) {
	builtIn, err := cart.LoadCatalogue("")
	if err != nil || len(builtIn.Products) < 15 || builtIn.Revision == "" {
		t.Fatalf("built-in catalogue: %d products, %v", len(builtIn.Products), err)
	}
	if _, err := cart.LoadCatalogue("testdata/absent.json"); err == nil {
		t.Error("an absent file was read")
	}
	for name, tt := range map[string]struct{ file, fault string }{
		"not JSON":       {`nope`, "invalid character"},
		"truncated":      {`{"currency": "EUR"`, "unexpected EOF"},
		"two values":     {`{"currency": "EUR", "products": [{"sku":"a","name":"A","unit_price":1}]} {}`, "something follows"},
		"unknown member": {`{"currency": "EUR", "products": [], "price": 1}`, "unknown field"},
		"currency":       {`{"currency": "eur", "products": [{"sku":"a","name":"A","unit_price":1}]}`, `currency "eur"`},
		"no products":    {`{"currency": "EUR", "products": []}`, "at least one"},
		"sku":            {`{"currency": "EUR", "products": [{"sku":"a b","name":"A","unit_price":1}]}`, `product 0: sku "a b"`},
		"twice":          {`{"currency": "EUR", "products": [{"sku":"a","name":"A","unit_price":1},{"sku":"a","name":"B","unit_price":1}]}`, "is there twice"},
		"name":           {`{"currency": "EUR", "products": [{"sku":"a","name":" ","unit_price":1}]}`, "product a: name"},
		"no price":       {`{"currency": "EUR", "products": [{"sku":"a","name":"A"}]}`, "product a: unit_price"},
		"negative price": {`{"currency": "EUR", "products": [{"sku":"a","name":"A","unit_price":-1}]}`, "product a: unit_price"},
		"fraction":       {`{"currency": "EUR", "products": [{"sku":"a","name":"A","unit_price":1.5}]}`, "cannot unmarshal"},
		"all at once":    {`{"currency": "", "products": [{"sku":"","name":"A","unit_price":1},{"sku":"a","name":"","unit_price":1}]}`, "product a: name"},
	} {
		if _, err := cart.ParseCatalogue([]byte(tt.file)); err == nil || !strings.Contains(err.Error(), tt.fault) {
			t.Errorf("%s: %v, want %q", name, err, tt.fault)
		}
	}
	_, err = cart.ParseCatalogue([]byte(`{"currency": "", "products": [{"sku":"","name":"A","unit_price":1},{"sku":"a","name":"","unit_price":1}]}`))
	if err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("not every fault is named: %v", err)
	}
}

func TestOrderIDs(t *testing.T) {
	now := time.Now()
	var last string
	for i := range 1000 {
		id := cart.NewOrderID(now.Add(time.Duration(i) * time.Millisecond))
		if !cart.ValidOrderID(id) || id <= last || id < cart.OldestOrderID(now) {
			t.Fatalf("id %q after %q", id, last)
		}
		last = id
	}
	if last >= cart.OldestOrderID(now.Add(time.Second)) {
		t.Errorf("%q is younger than an order of a second later can be", last)
	}
	for _, id := range []string{"", last[1:], last + "0", strings.ToLower(last), last[:25] + "V", "+" + last[1:]} {
		if cart.ValidOrderID(id) {
			t.Errorf("%q passes for an order's id", id)
		}
	}
}

func FuzzParseOwner(f *testing.F) {
	for _, s := range []string{"", "g_", "u_AAAAAAAAAAAAAAAAAAAAAA", "g_AAAAAAAAAAAAAAAAAAAAA}", "u_AAAAAAAAAAAAAAAAAAAAAAA", "u_\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		owner, err := cart.ParseOwner(s)
		if err == nil && (string(owner) != s || len(s) != 24 || strings.ContainsAny(s, "{}:* ")) {
			t.Errorf("%q passes for an owner", s)
		}
		var f *fault.Error
		if err != nil && (!errors.As(err, &f) || f.Kind != fault.Invalid) {
			t.Errorf("%q: %v", s, err)
		}
	})
}

func FuzzParseCatalogue(f *testing.F) {
	f.Add(catalogueFile)
	f.Add([]byte(`{"currency": "EUR", "products": [{}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := cart.ParseCatalogue(data)
		if err != nil {
			return
		}
		for _, p := range c.Products {
			if !c.Has(p.SKU) || !cart.ValidSKU(p.SKU) || p.UnitPrice.Amount < 0 {
				t.Errorf("product %+v", p)
			}
		}
	})
}
