package cart

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"coatcheck/chassis/fault"
	cartv1 "coatcheck/proto/coatcheck/cart/v1"
)

// Server is the gRPC cart service. It checks requests, prices answers, and
// leaves all that must be atomic to the store.
type Server struct {
	cartv1.UnsafeCartServiceServer

	store     Store
	eraser    Eraser
	catalogue *Catalogue
	limits    Limits
	now       func() time.Time
	batches   *batches // nil: none are taken
}

// NewServer returns a server on the store. The limits are those of the store.
func NewServer(store Store, eraser Eraser, catalogue *Catalogue, limits Limits, now func() time.Time) *Server {
	return &Server{store: store, eraser: eraser, catalogue: catalogue, limits: limits, now: now}
}

// GetCart is part of CartService.
func (s *Server) GetCart(ctx context.Context, req *cartv1.GetCartRequest) (*cartv1.GetCartResponse, error) {
	owner, err := ParseOwner(req.GetOwner())
	if err != nil {
		return nil, err
	}
	c, err := s.store.Get(ctx, owner)
	if err != nil {
		return nil, err
	}
	return &cartv1.GetCartResponse{Cart: s.priced(c, false)}, nil
}

// AddItems is part of CartService.
func (s *Server) AddItems(ctx context.Context, req *cartv1.AddItemsRequest) (*cartv1.AddItemsResponse, error) {
	change, err := s.change(ctx, req)
	if err != nil {
		return nil, err
	}
	return &cartv1.AddItemsResponse{Change: change}, nil
}

// SetItem is part of CartService.
func (s *Server) SetItem(ctx context.Context, req *cartv1.SetItemRequest) (*cartv1.SetItemResponse, error) {
	change, err := s.change(ctx, req)
	if err != nil {
		return nil, err
	}
	return &cartv1.SetItemResponse{Change: change}, nil
}

// RemoveItem is part of CartService.
func (s *Server) RemoveItem(ctx context.Context, req *cartv1.RemoveItemRequest) (*cartv1.RemoveItemResponse, error) {
	change, err := s.change(ctx, req)
	if err != nil {
		return nil, err
	}
	return &cartv1.RemoveItemResponse{Change: change}, nil
}

// ClearCart is part of CartService.
func (s *Server) ClearCart(ctx context.Context, req *cartv1.ClearCartRequest) (*cartv1.ClearCartResponse, error) {
	change, err := s.change(ctx, req)
	if err != nil {
		return nil, err
	}
	return &cartv1.ClearCartResponse{Change: change}, nil
}

// changeRequest is what the requests of all changes have.
type changeRequest interface {
	GetOwner() string
	GetIdempotencyKey() string
	GetIfMatch() *cartv1.Precondition
	GetMinimal() bool
}

func (s *Server) change(ctx context.Context, req changeRequest) (*cartv1.Change, error) {
	owner, c, err := s.wanted(req)
	if err != nil {
		return nil, err
	}
	result, err := s.store.Change(ctx, owner, c)
	if err != nil {
		return nil, err
	}
	return s.changed(c, result), nil
}

// wanted is the change that a request asks for, once it was checked.
func (s *Server) wanted(req changeRequest) (owner Owner, c Change, err error) {
	switch req := req.(type) {
	case *cartv1.AddItemsRequest:
		c.Kind = Add
		c.Lines, err = s.lines(req.GetLines())
	case *cartv1.SetItemRequest:
		line := Line{SKU: req.GetLine().GetSku(), Quantity: req.GetLine().GetQuantity()}
		c.Kind, c.Lines, err = Set, []Line{line}, s.check(line, 0)
	case *cartv1.RemoveItemRequest:
		c.Kind, c.Lines = Set, []Line{{SKU: req.GetSku()}}
		if !ValidSKU(req.GetSku()) {
			err = errInvalidSKU
		}
	default:
		c.Kind = Clear
	}
	if err != nil {
		return "", c, err
	}
	if owner, err = ParseOwner(req.GetOwner()); err != nil {
		return "", c, err
	}
	c.Minimal = req.GetMinimal()
	c.Operation, err = operation(req.GetIdempotencyKey(), req.GetIfMatch())
	return owner, c, err
}

// changed is the answer to a change.
func (s *Server) changed(c Change, r Result) *cartv1.Change {
	return &cartv1.Change{Cart: s.priced(r.Cart, c.Minimal), Version: r.Version, Replayed: r.Replayed}
}

// MergeCarts is part of CartService.
func (s *Server) MergeCarts(ctx context.Context, req *cartv1.MergeCartsRequest) (*cartv1.MergeCartsResponse, error) {
	from, err := ParseOwner(req.GetFrom())
	if err != nil {
		return nil, err
	}
	to, err := ParseOwner(req.GetTo())
	if err != nil {
		return nil, err
	}
	if !from.Guest() || to.Guest() {
		return nil, fault.New(fault.Invalid, "invalid_owner", "Carts are merged from a guest to a user.")
	}
	if err := s.store.Merge(ctx, from, to); err != nil {
		return nil, err
	}
	return &cartv1.MergeCartsResponse{}, nil
}

// Checkout is part of CartService.
func (s *Server) Checkout(ctx context.Context, req *cartv1.CheckoutRequest) (*cartv1.CheckoutResponse, error) {
	owner, err := ParseOwner(req.GetOwner())
	if err != nil {
		return nil, err
	}
	if owner.Guest() {
		return nil, fault.New(fault.Forbidden, "login_required", "Log in to check out.")
	}
	op, err := operation(req.GetIdempotencyKey(), req.GetIfMatch())
	if err != nil {
		return nil, err
	}
	if !op.Conditional {
		return nil, fault.New(fault.Invalid, "invalid_if_match", "A checkout must name the version of the cart that it is for.")
	}
	order, replayed, err := s.store.Checkout(ctx, owner, op, func(c Cart) (Order, error) {
		items, total, err := s.catalogue.Order(c)
		now := s.now()
		return Order{ID: NewOrderID(now), Items: items, Total: total, Created: now.UTC().Truncate(time.Millisecond)}, err
	})
	if err != nil {
		return nil, err
	}
	return &cartv1.CheckoutResponse{Order: orderProto(order), Replayed: replayed}, nil
}

// GetOrder is part of CartService.
func (s *Server) GetOrder(ctx context.Context, req *cartv1.GetOrderRequest) (*cartv1.GetOrderResponse, error) {
	owner, err := ParseOwner(req.GetOwner())
	if err != nil {
		return nil, err
	}
	if !ValidOrderID(req.GetOrderId()) {
		return nil, ErrNoSuchOrder
	}
	order, err := s.store.Order(ctx, owner, req.GetOrderId())
	if err != nil {
		return nil, err
	}
	return &cartv1.GetOrderResponse{Order: orderProto(order)}, nil
}

// ListOrders is part of CartService.
func (s *Server) ListOrders(ctx context.Context, req *cartv1.ListOrdersRequest) (*cartv1.ListOrdersResponse, error) {
	owner, err := ParseOwner(req.GetOwner())
	if err != nil {
		return nil, err
	}
	size := int(req.GetPageSize())
	if size == 0 {
		size = 20
	}
	if size < 1 || size > 100 {
		return nil, fault.New(fault.Invalid, "invalid_page_size", "A page has 1 to 100 orders.")
	}
	if token := req.GetPageToken(); token != "" && !ValidOrderID(token) {
		return nil, fault.New(fault.Invalid, "invalid_page_token", "The page token is not one that a page of orders gave.")
	}
	// One more than asked for tells whether there is another page.
	orders, err := s.store.Orders(ctx, owner, req.GetPageToken(), size+1)
	if err != nil {
		return nil, err
	}
	resp := &cartv1.ListOrdersResponse{}
	for i, order := range orders {
		if i == size {
			resp.NextPageToken = orders[i-1].ID
			break
		}
		resp.Orders = append(resp.Orders, orderProto(order))
	}
	return resp, nil
}

// EraseOwner is part of CartService.
func (s *Server) EraseOwner(ctx context.Context, req *cartv1.EraseOwnerRequest) (*cartv1.EraseOwnerResponse, error) {
	owner, err := ParseOwner(req.GetOwner())
	if err != nil {
		return nil, err
	}
	if err := s.eraser.Erase(ctx, owner); err != nil {
		return nil, err
	}
	return &cartv1.EraseOwnerResponse{}, nil
}

// ListProducts is part of CartService.
func (s *Server) ListProducts(context.Context, *cartv1.ListProductsRequest) (*cartv1.ListProductsResponse, error) {
	resp := &cartv1.ListProductsResponse{Revision: s.catalogue.Revision}
	for _, p := range s.catalogue.Products {
		resp.Products = append(resp.Products, &cartv1.Product{Sku: p.SKU, Name: p.Name, UnitPrice: money(p.UnitPrice)})
	}
	return resp, nil
}

var errInvalidSKU = fault.New(fault.Invalid, "invalid_sku", "A SKU is 1 to 64 of A-Z a-z 0-9 . _ -, the first a letter or a digit.")

// lines checks the lines of an add and sums those of one SKU.
func (s *Server) lines(in []*cartv1.Line) ([]Line, error) {
	if len(in) == 0 {
		return nil, fault.New(fault.Invalid, "no_items", "Name at least one item to add.")
	}
	out := make([]Line, 0, len(in))
	var at map[string]int
	if len(in) > 1 {
		at = make(map[string]int, len(in))
	}
	for _, l := range in {
		line := Line{SKU: l.GetSku(), Quantity: l.GetQuantity()}
		if err := s.check(line, 1); err != nil {
			return nil, err
		}
		i, twice := at[line.SKU]
		if !twice {
			if at != nil {
				at[line.SKU] = len(out)
			}
			out = append(out, line)
			continue
		}
		// Neither summand is over the limit, so the sum can't overflow.
		if out[i].Quantity += line.Quantity; out[i].Quantity > s.limits.Quantity {
			return nil, ErrQuantityLimit
		}
	}
	if len(out) > s.limits.Lines {
		return nil, ErrLineLimit
	}
	return out, nil
}

// check refuses a line that no cart can hold, before the store is asked.
func (s *Server) check(l Line, least int64) error {
	switch {
	case !ValidSKU(l.SKU):
		return errInvalidSKU
	case l.Quantity < least:
		return fault.New(fault.Invalid, "invalid_quantity", "A quantity is a whole number of at least %d.", least)
	case l.Quantity > 0 && !s.catalogue.Has(l.SKU):
		return fault.New(fault.Refused, "unknown_sku", "There is no product %s.", l.SKU)
	case l.Quantity > s.limits.Quantity:
		return ErrQuantityLimit
	default:
		return nil
	}
}

func operation(key string, p *cartv1.Precondition) (Operation, error) {
	op := Operation{Key: key, Conditional: p != nil}
	if len(key) == 0 || len(key) > 128 {
		return op, errInvalidKey
	}
	for i := range len(key) {
		if key[i] <= ' ' || key[i] > '~' {
			return op, errInvalidKey
		}
	}
	if len(p.GetAnyOf()) > maxVersions {
		return op, fault.New(fault.Invalid, "invalid_if_match", "A condition names at most %d versions.", maxVersions)
	}
	for _, v := range p.GetAnyOf() {
		op.Versions = append(op.Versions, Version{Incarnation: v.GetIncarnation(), Number: v.GetVersion()})
	}
	return op, nil
}

// maxVersions bounds what a script has to search.
const maxVersions = 32

var errInvalidKey = fault.New(fault.Invalid, "invalid_idempotency_key", "An idempotency key is 1 to 128 visible ASCII characters.")

// priced is the cart with names and prices; a minimal answer has no total. Each
// cart is answered so, hence few allocations.
func (s *Server) priced(c Cart, minimal bool) *cartv1.Cart {
	all := &struct {
		cart    cartv1.Cart
		version cartv1.CartVersion
		total   cartv1.Money
		expires timestamppb.Timestamp
	}{}
	out := &all.cart
	out.Version, out.CatalogueRevision = &all.version, s.catalogue.Revision
	all.version.Incarnation, all.version.Version = c.Version.Incarnation, c.Version.Number
	out.Items = itemsProto(len(c.Lines), func(i int) Item { return s.catalogue.item(c.Lines[i]) })
	if !minimal {
		out.Total = &all.total
		out.Total.Currency = s.catalogue.Currency
		for _, i := range out.Items {
			out.Total.Amount += i.GetLineTotal().GetAmount()
		}
	}
	if !c.Expires.IsZero() {
		out.ExpiresAt = &all.expires
		all.expires.Seconds, all.expires.Nanos = c.Expires.Unix(), int32(c.Expires.Nanosecond())
	}
	return out
}

func itemsProto(n int, item func(i int) Item) []*cartv1.Item {
	out := make([]*cartv1.Item, n)
	all := make([]struct {
		item        cartv1.Item
		price, line cartv1.Money
	}, n)
	for i := range all {
		from, to := item(i), &all[i]
		out[i] = &to.item
		to.item.Sku, to.item.Name, to.item.Quantity, to.item.Unavailable = from.SKU, from.Name, from.Quantity, from.Unavailable
		to.item.UnitPrice, to.item.LineTotal = &to.price, &to.line
		to.price.Amount, to.price.Currency = from.UnitPrice.Amount, from.UnitPrice.Currency
		to.line.Amount, to.line.Currency = from.LineTotal.Amount, from.LineTotal.Currency
	}
	return out
}

func orderProto(o Order) *cartv1.Order {
	items := itemsProto(len(o.Items), func(i int) Item { return o.Items[i] })
	return &cartv1.Order{Id: o.ID, Items: items, Total: money(o.Total), CreatedAt: timestamppb.New(o.Created)}
}

func money(m Money) *cartv1.Money {
	return &cartv1.Money{Amount: m.Amount, Currency: m.Currency}
}
