package gateway

import (
	"strings"
	"testing"
)

const addMugs = `{"items":[{"sku":"mug-01","quantity":2}]}`

func TestCart(t *testing.T) {
	s := newShop(t)
	c := s.client(t)
	empty := c.want(200, "", "GET", "/v1/cart", "")
	if got, want := string(empty.body), `{"version":0,"items":[],"total":{"amount":0,"currency":"EUR"}}`+"\n"; got != want {
		t.Errorf("absent cart\n got %s\nwant %s", got, want)
	}
	if got := empty.Get("ETag"); got != `"0.0.rev1"` {
		t.Errorf("ETag of an absent cart: %s", got)
	}
	if got := empty.Get("Served-By") + " " + empty.Get("Served-By-Cart"); got != "gateway-1 cart-1" {
		t.Errorf("served by %s", got)
	}

	added := c.want(200, "", "POST", "/v1/cart/items", `{"items":[{"sku":"mug-01","quantity":2},{"sku":"tea","quantity":1},{"sku":"mug-01","quantity":3}]}`)
	if v := added.json(t); v["version"] != 1.0 || len(v["items"].([]any)) != 2 || v["total"].(map[string]any)["amount"] != 600.0 {
		t.Errorf("added: %s", added.body)
	}
	if got := added.Get("ETag"); got != `"inc-1.1.rev1"` {
		t.Errorf("ETag %s", got)
	}
	c.want(200, "", "PUT", "/v1/cart/items/tea", `{"quantity":7}`)
	c.want(200, "", "PUT", "/v1/cart/items/mug-01", `{"quantity":0}`)
	got := c.want(200, "", "GET", "/v1/cart", "")
	if items := got.json(t)["items"].([]any); len(items) != 1 || items[0].(map[string]any)["quantity"] != 7.0 {
		t.Errorf("after sets: %s", got.body)
	}
	c.want(200, "", "DELETE", "/v1/cart/items/tea", "")
	cleared := c.want(200, "", "DELETE", "/v1/cart", "")
	if v := cleared.json(t); v["version"] != 5.0 || len(v["items"].([]any)) != 0 {
		t.Errorf("cleared: %s", cleared.body)
	}
	if n := s.authStore.count("IssueGuestTicket"); n != 1 {
		t.Errorf("%d guests were made for one client", n)
	}
}

func TestUnavailableLine(t *testing.T) {
	c := newShop(t).client(t)
	got := c.want(200, "", "POST", "/v1/cart/items", `{"items":[{"sku":"gone","quantity":1},{"sku":"mug","quantity":1}]}`)
	items := got.json(t)["items"].([]any)
	if items[0].(map[string]any)["unavailable"] != true {
		t.Errorf("the line is not marked: %s", got.body)
	}
	if _, ok := items[1].(map[string]any)["unavailable"]; ok {
		t.Errorf("another line is marked: %s", got.body)
	}
}

func TestNotModified(t *testing.T) {
	c := newShop(t).client(t)
	etag := c.want(200, "", "POST", "/v1/cart/items", addMugs).Get("ETag")
	for condition, status := range map[string]int{
		etag: 304, "W/" + etag: 304, `"other", ` + etag: 304, "*": 304,
		`"other"`: 200, "inc-1": 200, `"": "`: 200,
	} {
		got := c.want(status, "", "GET", "/v1/cart", "", "If-None-Match: "+condition)
		if got.Get("ETag") != etag || got.Get("Vary") == "" || got.Get("Cache-Control") != "private, no-cache" {
			t.Errorf("If-None-Match %s: headers %v", condition, got.Header)
		}
	}
	products := c.want(200, "", "GET", "/v1/products", "")
	c.want(304, "", "GET", "/v1/products", "", "If-None-Match: "+products.Get("ETag"))
}

func TestIfMatch(t *testing.T) {
	s := newShop(t)
	c := s.client(t)
	etag := c.want(200, "", "POST", "/v1/cart/items", addMugs).Get("ETag")
	stale := c.want(200, "", "PUT", "/v1/cart/items/mug-01", `{"quantity":3}`, "If-Match: "+etag)
	for _, condition := range []string{etag, "W/" + stale.Get("ETag"), `"foreign"`, `"inc-1.02.rev1"`, `"0.0.rev1"`, `"caf` + "\xe9" + `"`, `"inc-1.2"`, `","`} {
		got := c.want(412, "stale_version", "DELETE", "/v1/cart", "", "If-Match: "+condition)
		if got.status == 412 && got.json(t)["cart"].(map[string]any)["version"] != 2.0 {
			t.Errorf("If-Match %s: no current cart in %s", condition, got.body)
		}
		if got.Get("ETag") != stale.Get("ETag") || got.Get("Vary") == "" {
			t.Errorf("If-Match %s: headers %v", condition, got.Header)
		}
	}
	for _, condition := range []string{"inc-1.2.rev1", `"a" "b"`, `"a`, `w/"a"`, "*, *", ",", `"a b"`, "W/"} {
		before := s.cartStore.changes()
		c.want(400, "invalid_if_match", "DELETE", "/v1/cart/items/mug-01", "", "If-Match: "+condition)
		if s.cartStore.changes() != before {
			t.Errorf("If-Match %s reached the cart", condition)
		}
	}
	// Another catalogue revision is the same version of the cart.
	c.want(200, "", "PUT", "/v1/cart/items/mug-01", `{"quantity":4}`, `If-Match: "x", "inc-1.2.rev0"`)
	c.want(200, "", "PUT", "/v1/cart/items/mug-01", `{"quantity":5}`, "If-Match: *")
	c.want(412, "stale_version", "POST", "/v1/cart/items", addMugs, "If-Match: "+etag)
}

func TestStaleCartThatCannotBeRead(t *testing.T) {
	s := newShop(t)
	c := s.client(t)
	c.want(200, "", "POST", "/v1/cart/items", addMugs)
	s.fakeCarts[0].before = failing("GetCart", unavailable)
	c.want(503, "store_unavailable", "DELETE", "/v1/cart", "", `If-Match: "x"`)
}

func TestIdempotency(t *testing.T) {
	s := newShop(t)
	c := s.client(t)
	c.want(200, "", "GET", "/v1/cart", "")
	first := c.want(200, "", "POST", "/v1/cart/items", addMugs, "Idempotency-Key: k1")
	if first.Get("Idempotency-Replayed") != "" {
		t.Error("the first time is marked as a replay")
	}
	c.want(200, "", "DELETE", "/v1/cart", "")
	again := c.want(200, "", "POST", "/v1/cart/items", addMugs, `Idempotency-Key: "k1"`)
	if again.Get("Idempotency-Replayed") != "true" {
		t.Error("the replay is not marked")
	}
	if v := again.json(t); v["version"] != 1.0 || len(v["items"].([]any)) != 0 || again.Get("ETag") != `"inc-1.2.rev1"` {
		t.Errorf("replay: %s with ETag %s", again.body, again.Get("ETag"))
	}
	c.want(422, "idempotency_key_reused", "DELETE", "/v1/cart", "", "Idempotency-Key: k1")
	// Without a key each request is its own.
	c.want(200, "", "POST", "/v1/cart/items", addMugs)
	got := c.want(200, "", "POST", "/v1/cart/items", addMugs)
	if got.json(t)["items"].([]any)[0].(map[string]any)["quantity"] != 4.0 {
		t.Errorf("two adds without a key: %s", got.body)
	}
}

func TestMinimal(t *testing.T) {
	c := newShop(t).client(t)
	c.want(200, "", "POST", "/v1/cart/items", `{"items":[{"sku":"tea","quantity":1}]}`)
	for _, prefer := range []string{"return=minimal", `wait=1, Return="minimal"; x=y`} {
		got := c.want(200, "", "POST", "/v1/cart/items", addMugs, "Prefer: "+prefer)
		v := got.json(t)
		if len(v) != 2 || len(v["items"].([]any)) != 1 || got.Get("Preference-Applied") != "return=minimal" || got.Get("ETag") == "" {
			t.Errorf("%s: %s", prefer, got.body)
		}
	}
	got := c.want(200, "", "POST", "/v1/cart/items", addMugs, "Prefer: return=representation")
	if got.json(t)["total"] == nil || got.Get("Preference-Applied") != "" {
		t.Errorf("not minimal: %s", got.body)
	}
}

func TestCheckoutAndOrders(t *testing.T) {
	s := newShop(t)
	c := s.user(t, "a@example.org")
	c.want(428, "precondition_required", "POST", "/v1/cart/checkout", "")
	c.want(428, "precondition_required", "POST", "/v1/cart/checkout", "", "If-Match: *")
	empty := c.want(200, "", "GET", "/v1/cart", "").Get("ETag")
	c.want(422, "cart_empty", "POST", "/v1/cart/checkout", "", "If-Match: "+empty)
	c.want(200, "", "POST", "/v1/cart/items", addMugs)
	etag := c.want(200, "", "POST", "/v1/cart/items", addMugs).Get("ETag")
	stale := c.want(412, "stale_version", "POST", "/v1/cart/checkout", "", "If-Match: "+empty)
	if stale.json(t)["cart"].(map[string]any)["version"] != 2.0 {
		t.Errorf("stale: %s", stale.body)
	}
	ordered := c.want(201, "", "POST", "/v1/cart/checkout", "", "If-Match: "+etag, "Idempotency-Key: o1")
	id := ordered.json(t)["id"].(string)
	if ordered.Get("Location") != "/v1/orders/"+id || ordered.json(t)["total"].(map[string]any)["amount"] != 400.0 {
		t.Errorf("ordered: %s, Location %s", ordered.body, ordered.Get("Location"))
	}
	again := c.want(201, "", "POST", "/v1/cart/checkout", "", "If-Match: "+etag, "Idempotency-Key: o1")
	if string(again.body) != string(ordered.body) || again.Get("Idempotency-Replayed") != "true" {
		t.Errorf("replay: %s", again.body)
	}
	if got := c.want(200, "", "GET", ordered.Get("Location"), ""); string(got.body) != string(ordered.body) {
		t.Errorf("order: %s", got.body)
	}

	etag = c.want(200, "", "POST", "/v1/cart/items", addMugs).Get("ETag")
	newer := c.want(201, "", "POST", "/v1/cart/checkout", "", "If-Match: "+etag).json(t)["id"]
	first := c.want(200, "", "GET", "/v1/orders?page_size=1", "").json(t)
	second := c.want(200, "", "GET", "/v1/orders?page_size=1&page_token="+first["next_page_token"].(string), "").json(t)
	if first["orders"].([]any)[0].(map[string]any)["id"] != newer || second["orders"].([]any)[0].(map[string]any)["id"] != id || second["next_page_token"] != nil {
		t.Errorf("pages: %v, %v", first, second)
	}
	other := s.user(t, "b@example.org")
	other.want(404, "no_such_order", "GET", "/v1/orders/"+id, "")
	for _, query := range []string{"page_size=0", "page_size=101", "page_size=x", "page_size=", "page_size=1.5"} {
		c.want(400, "invalid_page_size", "GET", "/v1/orders?"+query, "")
	}
	c.want(400, "invalid_page_token", "GET", "/v1/orders?page_token=%ff", "")
	c.want(400, "invalid_page_token", "GET", "/v1/orders?page_token="+strings.Repeat("x", 513), "")
	c.want(404, "no_such_order", "GET", "/v1/orders/%ff", "")
	c.want(404, "no_such_order", "GET", "/v1/orders/"+strings.Repeat("x", 200), "")
}

func TestProductsNeedNoTicket(t *testing.T) {
	s := newShop(t)
	got := s.client(t).want(200, "", "GET", "/v1/products", "")
	if want := `{"products":[{"sku":"mug-01","name":"Mug","unit_price":{"amount":1250,"currency":"EUR"}}]}` + "\n"; string(got.body) != want {
		t.Errorf("got %s", got.body)
	}
	if len(got.Values("Set-Cookie")) > 0 || len(s.authStore.seen) > 0 {
		t.Errorf("a guest was made: %v", s.authStore.seen)
	}
}
