package gateway

import (
	"net/http"
	"time"
	"unicode/utf8"

	"coatcheck/chassis/fault"
	cartv1 "coatcheck/proto/coatcheck/cart/v1"
)

type order struct {
	ID        string    `json:"id"`
	Items     []item    `json:"items"`
	Total     money     `json:"total"`
	CreatedAt time.Time `json:"created_at"`
}

type orderList struct {
	Orders        []order `json:"orders"`
	NextPageToken string  `json:"next_page_token,omitzero"`
}

type product struct {
	SKU       string `json:"sku"`
	Name      string `json:"name"`
	UnitPrice money  `json:"unit_price"`
}

type productList struct {
	Products []product `json:"products"`
}

func (g *Gateway) listOrders(w *answer, r *http.Request) error {
	size, token, err := page(r.URL.Query())
	if err != nil {
		return err
	}
	who, err := g.user(w, r)
	if err != nil {
		return err
	}
	resp, err := askCart(g, w, r, g.cart.ListOrders, &cartv1.ListOrdersRequest{Owner: who.owner, PageSize: size, PageToken: token}, who)
	if err != nil {
		return err
	}
	out := orderList{Orders: make([]order, 0, len(resp.GetOrders())), NextPageToken: resp.GetNextPageToken()}
	for _, o := range resp.GetOrders() {
		out.Orders = append(out.Orders, toOrder(o))
	}
	return reply(w, http.StatusOK, out)
}

func (g *Gateway) getOrder(w *answer, r *http.Request) error {
	who, err := g.user(w, r)
	if err != nil {
		return err
	}
	id := r.PathValue("id")
	if !utf8.ValidString(id) || len(id) > 128 {
		return fault.New(fault.Absent, "no_such_order", "There is no such order.")
	}
	resp, err := askCart(g, w, r, g.cart.GetOrder, &cartv1.GetOrderRequest{Owner: who.owner, OrderId: id}, who)
	if err != nil {
		return err
	}
	return reply(w, http.StatusOK, toOrder(resp.GetOrder()))
}

func (g *Gateway) listProducts(w *answer, r *http.Request) error {
	resp, err := askCart(g, w, r, g.cart.ListProducts, &cartv1.ListProductsRequest{})
	if err != nil {
		return err
	}
	etag := `"` + resp.GetRevision() + `"`
	w.set("ETag", etag)
	w.set("Cache-Control", "no-cache")
	if notModified(r.Header, etag) {
		return replyEmpty(w, http.StatusNotModified)
	}
	out := productList{Products: make([]product, 0, len(resp.GetProducts()))}
	for _, p := range resp.GetProducts() {
		out.Products = append(out.Products, product{SKU: p.GetSku(), Name: p.GetName(), UnitPrice: toMoney(p.GetUnitPrice())})
	}
	return reply(w, http.StatusOK, out)
}

func toOrder(o *cartv1.Order) order {
	return order{
		ID:        o.GetId(),
		Items:     toItems(o.GetItems()),
		Total:     toMoney(o.GetTotal()),
		CreatedAt: toTime(o.GetCreatedAt()),
	}
}
