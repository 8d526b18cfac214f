package gateway

import (
	"context"
	"net/http"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"coatcheck/chassis/fault"
	"coatcheck/chassis/ticket"
	cartv1 "coatcheck/proto/coatcheck/cart/v1"
)

type money struct {
	Amount   int64  `json:"amount"`
	Currency string `json:"currency"`
}

type item struct {
	SKU         string `json:"sku"`
	Name        string `json:"name"`
	Quantity    int64  `json:"quantity"`
	UnitPrice   money  `json:"unit_price"`
	LineTotal   money  `json:"line_total"`
	Unavailable bool   `json:"unavailable,omitzero"`
}

// cart is a cart's JSON; a minimal one has no total and no expires_at.
type cart struct {
	Version   uint64    `json:"version"`
	Items     []item    `json:"items"`
	Total     money     `json:"total,omitzero"`
	ExpiresAt time.Time `json:"expires_at,omitzero"`
}

// methods are the readings and changes of carts, over the connection to the cart
// service.
type methods struct {
	get    method[cartv1.GetCartRequest, gotCart]
	add    method[cartv1.AddItemsRequest, changed]
	set    method[cartv1.SetItemRequest, changed]
	remove method[cartv1.RemoveItemRequest, changed]
	clear  method[cartv1.ClearCartRequest, changed]
}

// method makes a call, as generated code does.
type method[Req, Resp any] func(context.Context, *Req, ...grpc.CallOption) (*Resp, error)

func newMethods(conn *grpc.ClientConn) methods {
	return methods{
		get:    methodOf[cartv1.GetCartRequest, gotCart](conn, cartv1.CartService_GetCart_FullMethodName),
		add:    methodOf[cartv1.AddItemsRequest, changed](conn, cartv1.CartService_AddItems_FullMethodName),
		set:    methodOf[cartv1.SetItemRequest, changed](conn, cartv1.CartService_SetItem_FullMethodName),
		remove: methodOf[cartv1.RemoveItemRequest, changed](conn, cartv1.CartService_RemoveItem_FullMethodName),
		clear:  methodOf[cartv1.ClearCartRequest, changed](conn, cartv1.CartService_ClearCart_FullMethodName),
	}
}

// methodOf is a method whose answer decodes itself.
func methodOf[Req, Resp any](conn *grpc.ClientConn, name string) method[Req, Resp] {
	return func(ctx context.Context, req *Req, opts ...grpc.CallOption) (*Resp, error) {
		resp := new(Resp)
		return resp, conn.Invoke(ctx, name, req, resp, append(opts, decodesItself)...)
	}
}

// askCart is ask for the cart service, which wants a ticket of each owner that
// req names, two at most; the answer names the replica.
func askCart[Req, Resp any](g *Gateway, w *answer, r *http.Request, method method[Req, Resp], req *Req, owners ...caller) (*Resp, error) {
	ctx := r.Context()
	switch len(owners) {
	case 0:
	case 1:
		ctx = ticket.With(ctx, owners[0].inside)
	default:
		ctx = ticket.With(ctx, owners[0].inside, owners[1].inside)
	}
	resp, replica, err := ask(ctx, w.end, g.cartBackend, method, req)
	if replica != "" {
		w.set("Served-By-Cart", replica)
	}
	return resp, err
}

func (g *Gateway) getCart(w *answer, r *http.Request) error {
	who, err := g.owner(w, r)
	if err != nil {
		return err
	}
	resp, err := askCart(g, w, r, g.carts.get, &cartv1.GetCartRequest{Owner: who.owner}, who)
	if err != nil {
		return g.explain(w, r, who, err)
	}
	etag := etagOf(resp)
	w.set("ETag", etag)
	if notModified(r.Header, etag) {
		return replyEmpty(w, http.StatusNotModified)
	}
	return reply(w, http.StatusOK, &resp.cart)
}

func (g *Gateway) addItems(w *answer, r *http.Request) error {
	lines, err := decodeAdd(w, r)
	if err != nil {
		return err
	}
	c, err := g.readChange(w, r)
	if err != nil {
		return err
	}
	resp, err := askCart(g, w, r, g.carts.add, &cartv1.AddItemsRequest{
		Owner: c.who.owner, IdempotencyKey: c.key, IfMatch: c.ifMatch, Minimal: c.minimal, Lines: lines,
	}, c.who)
	return g.replyChange(w, r, c, resp, err)
}

func (g *Gateway) setItem(w *answer, r *http.Request) error {
	sku, err := pathSKU(r)
	if err != nil {
		return err
	}
	quantity, err := decodeSet(w, r)
	if err != nil {
		return err
	}
	c, err := g.readChange(w, r)
	if err != nil {
		return err
	}
	resp, err := askCart(g, w, r, g.carts.set, &cartv1.SetItemRequest{
		Owner: c.who.owner, IdempotencyKey: c.key, IfMatch: c.ifMatch, Minimal: c.minimal, Line: &cartv1.Line{Sku: sku, Quantity: quantity},
	}, c.who)
	return g.replyChange(w, r, c, resp, err)
}

func (g *Gateway) removeItem(w *answer, r *http.Request) error {
	sku, err := pathSKU(r)
	if err != nil {
		return err
	}
	c, err := g.readChange(w, r)
	if err != nil {
		return err
	}
	resp, err := askCart(g, w, r, g.carts.remove, &cartv1.RemoveItemRequest{
		Owner: c.who.owner, IdempotencyKey: c.key, IfMatch: c.ifMatch, Minimal: c.minimal, Sku: sku,
	}, c.who)
	return g.replyChange(w, r, c, resp, err)
}

func (g *Gateway) clearCart(w *answer, r *http.Request) error {
	c, err := g.readChange(w, r)
	if err != nil {
		return err
	}
	resp, err := askCart(g, w, r, g.carts.clear, &cartv1.ClearCartRequest{
		Owner: c.who.owner, IdempotencyKey: c.key, IfMatch: c.ifMatch, Minimal: c.minimal,
	}, c.who)
	return g.replyChange(w, r, c, resp, err)
}

func (g *Gateway) checkout(w *answer, r *http.Request) error {
	key, err := idempotencyKey(r.Header)
	if err != nil {
		return err
	}
	condition, err := ifMatch(r.Header)
	if err != nil {
		return err
	}
	who, err := g.user(w, r)
	if err != nil {
		return err
	}
	if condition == nil {
		return refuse(http.StatusPreconditionRequired, "precondition_required", "Name the cart that is to be ordered: If-Match with the cart's ETag.")
	}
	resp, err := askCart(g, w, r, g.cart.Checkout, &cartv1.CheckoutRequest{Owner: who.owner, IdempotencyKey: key, IfMatch: condition}, who)
	if err != nil {
		return g.explain(w, r, who, err)
	}
	setReplayed(w, resp.GetReplayed())
	w.set("Location", "/v1/orders/"+resp.GetOrder().GetId())
	return reply(w, http.StatusCreated, toOrder(resp.GetOrder()))
}

// change is what every change of a cart has beside its body.
type change struct {
	who     caller
	key     string
	ifMatch *cartv1.Precondition
	minimal bool
}

// readChange reads the headers before it asks who it is, so that a request that
// can never succeed costs no call.
func (g *Gateway) readChange(w *answer, r *http.Request) (change, error) {
	c := change{minimal: wantsMinimal(r.Header)}
	var err error
	c.key, err = idempotencyKey(r.Header)
	if err != nil {
		return c, err
	}
	c.ifMatch, err = ifMatch(r.Header)
	if err != nil {
		return c, err
	}
	c.who, err = g.owner(w, r)
	return c, err
}

// replyChange answers what a change led to. A replay shows the version of the
// first time with the cart as it is now; ETag always names the latter.
func (g *Gateway) replyChange(w *answer, r *http.Request, c change, done *changed, err error) error {
	if err != nil {
		return g.explain(w, r, c.who, err)
	}
	w.set("ETag", etagOf(&done.gotCart))
	setReplayed(w, done.replayed)
	done.Version = done.ledTo
	if c.minimal {
		w.set("Preference-Applied", "return=minimal")
		done.Total, done.ExpiresAt = money{}, time.Time{}
	}
	return reply(w, http.StatusOK, &done.cart)
}

func setReplayed(w *answer, replayed bool) {
	if replayed {
		w.set("Idempotency-Replayed", "true")
	}
}

// explain adds to an error of the cart what the client needs to go on: the cart
// as it is to a stale version, a new guest to a ticket whose cart has moved. If
// that cannot be had, the answer is why not, and trying again is safe.
func (g *Gateway) explain(w *answer, r *http.Request, who caller, err error) error {
	f := fault.From(err)
	if f.Code == "stale_version" {
		now, getErr := askCart(g, w, r, g.carts.get, &cartv1.GetCartRequest{Owner: who.owner}, who)
		if getErr == nil {
			w.set("ETag", etagOf(now))
			w.set("Vary", "Cookie, Authorization")
			return &refusal{status: statusOf(f.Kind), code: f.Code, detail: f.Message, cart: &now.cart}
		}
		err, f = getErr, fault.From(getErr)
	}
	if f.Code == "cart_moved" && !who.isUser() {
		_, issueErr := g.issueGuest(w, r)
		if issueErr != nil {
			return issueErr
		}
	}
	return err
}

func pathSKU(r *http.Request) (string, error) {
	sku := r.PathValue("sku")
	if !isSKU(sku) {
		return "", errSKU
	}
	return sku, nil
}

func toItems(items []*cartv1.Item) []item {
	out := make([]item, 0, len(items))
	for _, i := range items {
		out = append(out, item{
			SKU:         i.GetSku(),
			Name:        i.GetName(),
			Quantity:    i.GetQuantity(),
			UnitPrice:   toMoney(i.GetUnitPrice()),
			LineTotal:   toMoney(i.GetLineTotal()),
			Unavailable: i.GetUnavailable(),
		})
	}
	return out
}

func toMoney(m *cartv1.Money) money {
	return money{Amount: m.GetAmount(), Currency: m.GetCurrency()}
}

// toTime returns the zero time for none.
func toTime(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}
