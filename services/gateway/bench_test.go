package gateway

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"coatcheck/chassis/measuretest"
	cartv1 "coatcheck/proto/coatcheck/cart/v1"
)

const oneLine = `{"items":[{"sku":"mug-enamel-blue-0001","quantity":1}]}`

// adding is a request whose body was read.
func adding() (*answer, *http.Request) {
	r := httptest.NewRequest(http.MethodPost, "/v1/cart/items", nil)
	r.Header.Set("Content-Type", "application/json")
	return &answer{body: []byte(oneLine)}, r
}

// threeLines is a cart as most are.
func threeLines() *cartv1.Cart {
	price := &cartv1.Money{Amount: 1250, Currency: "EUR"}
	c := &cartv1.Cart{
		Version: &cartv1.CartVersion{Incarnation: "abcdefgh", Version: 7}, CatalogueRevision: "0123456789abcdef",
		Total: &cartv1.Money{Amount: 3 * 1250, Currency: "EUR"}, ExpiresAt: timestamppb.New(time.Unix(1_800_000_000, 0)),
	}
	for _, sku := range []string{"mug-enamel-blue-0001", "mug-enamel-blue-0002", "mug-enamel-blue-0003"} {
		c.Items = append(c.Items, &cartv1.Item{Sku: sku, Name: "Enamel mug", Quantity: 1, UnitPrice: price, LineTotal: price})
	}
	return c
}

// nowhere is a client that takes everything.
type nowhere struct{ header http.Header }

func (n nowhere) Header() http.Header         { return n.header }
func (n nowhere) WriteHeader(int)             {}
func (n nowhere) Write(b []byte) (int, error) { return len(b), nil }

// TestAllocationsOfACartRequest bounds what decoding an add and encoding a cart
// allocate: both lie on the way of every request.
func TestAllocationsOfACartRequest(t *testing.T) {
	measuretest.Costs(t)
	a, r := adding()
	decoding := testing.AllocsPerRun(1000, func() {
		if _, err := decodeAdd(a, r); err != nil {
			t.Fatal(err)
		}
	})
	w, c := &answer{ResponseWriter: nowhere{http.Header{}}}, shown(threeLines())
	encoding := testing.AllocsPerRun(1000, func() {
		if err := reply(w, http.StatusOK, &c.cart); err != nil {
			t.Fatal(err)
		}
	})
	t.Logf("decoding an add takes %v allocations, encoding a cart of three lines %v", decoding, encoding)
	if decoding > 6 || encoding > 0 {
		t.Errorf("decoding an add takes %v allocations, encoding a cart of three lines %v", decoding, encoding)
	}
}

func BenchmarkDecodeAdd(b *testing.B) {
	a, r := adding()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := decodeAdd(a, r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncodeCart(b *testing.B) {
	w, c := &answer{ResponseWriter: nowhere{http.Header{}}}, shown(threeLines())
	b.ReportAllocs()
	for b.Loop() {
		if err := reply(w, http.StatusOK, &c.cart); err != nil {
			b.Fatal(err)
		}
	}
}
