package gateway

import (
	"reflect"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"coatcheck/chassis/measuretest"
	cartv1 "coatcheck/proto/coatcheck/cart/v1"
)

// shown is what decoding a cart by hand must come to, by way of generated code.
func shown(c *cartv1.Cart) gotCart {
	out := gotCart{incarnation: c.GetVersion().GetIncarnation(), revision: c.GetCatalogueRevision(), cart: cart{
		Version: c.GetVersion().GetVersion(), Items: toItems(c.GetItems()), Total: toMoney(c.GetTotal()), ExpiresAt: toTime(c.GetExpiresAt()),
	}}
	return out
}

func encode(tb testing.TB, m proto.Message) string {
	tb.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		tb.Fatal(err)
	}
	return string(b)
}

func same(t *testing.T, what string, got, want gotCart) {
	t.Helper()
	if got.Items == nil {
		got.Items = []item{} // an answer without a cart, which is shown as an empty one
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: decoded\n%+v\nwant\n%+v", what, got, want)
	}
}

// FuzzWire holds what is decoded by hand against generated code, for whatever a
// cart service can send, and for what it can't: that must end in an error.
func FuzzWire(f *testing.F) {
	minimal := &cartv1.Cart{Version: &cartv1.CartVersion{Incarnation: "a", Version: 1 << 63}, Items: []*cartv1.Item{{Sku: "a", Quantity: -1, Unavailable: true}, {}}}
	early := &cartv1.Cart{ExpiresAt: &timestamppb.Timestamp{Seconds: -5, Nanos: 999_999_999}, Total: &cartv1.Money{}}
	for _, c := range []*cartv1.Cart{nil, {}, minimal, early, threeLines()} {
		f.Add([]byte(encode(f, &cartv1.AddItemsResponse{Change: &cartv1.Change{Cart: c, Version: 7, Replayed: c == early}})))
	}
	f.Add([]byte("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"))
	f.Add([]byte("\x09\x00\x0d\x00\x0b\x0c"))
	f.Fuzz(func(t *testing.T, message []byte) {
		var wild changed
		_ = wild.DecodeWire(string(message))
		_ = new(gotCart).DecodeWire(string(message))
		_ = new(outcomes).DecodeWire(string(message))

		var resp cartv1.AddItemsResponse
		if (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(message, &resp) != nil {
			return
		}
		change := resp.GetChange()
		want := shown(change.GetCart())
		var by changed
		if err := by.DecodeWire(encode(t, &cartv1.AddItemsResponse{Change: change})); err != nil {
			t.Fatal(err)
		}
		same(t, "a change", by.gotCart, want)
		if by.ledTo != change.GetVersion() || by.replayed != change.GetReplayed() {
			t.Errorf("decoded version %d, replayed %v of %v", by.ledTo, by.replayed, change)
		}
		var got gotCart
		if err := got.DecodeWire(encode(t, &cartv1.GetCartResponse{Cart: change.GetCart()})); err != nil {
			t.Fatal(err)
		}
		same(t, "a reading", got, want)

		var all outcomes
		err := all.DecodeWire(encode(t, &cartv1.BatchResponse{Outcomes: []*cartv1.Outcome{
			{}, {Result: &cartv1.Outcome_Apart{Apart: true}}, {Result: &cartv1.Outcome_Failure{Failure: &cartv1.Failure{Reason: "no"}}},
			{Result: &cartv1.Outcome_GetCart{GetCart: &cartv1.GetCartResponse{Cart: change.GetCart()}}}, {Result: &cartv1.Outcome_Change{Change: change}},
		}}))
		if err != nil || len(all) != 5 {
			t.Fatalf("%d outcomes, %v, want 5", len(all), err)
		}
		for i, result := range []protowire.Number{0, resultApart, resultFailure, resultGetCart, resultChange} {
			v := verdictOf(all, nil, i)
			var replied changed
			var read gotCart
			changeErr, readErr := v.take(&replied, nil), v.take(&read, nil)
			if all[i].result != result || v.alone != (result == resultApart) || (changeErr == nil) != (result == resultChange) || (readErr == nil) != (result == resultGetCart) {
				t.Errorf("outcome %d: %+v, %v, %v", i, v, changeErr, readErr)
			}
			if changeErr == nil {
				same(t, "a change in a batch", replied.gotCart, want)
			}
			if readErr == nil {
				same(t, "a reading in a batch", read, want)
			}
		}
	})
}

// TestWireCut: a message that ends early is an error or, at the end of a field,
// a shorter message; never a panic.
func TestWireCut(t *testing.T) {
	whole := encode(t, &cartv1.AddItemsResponse{Change: &cartv1.Change{Cart: threeLines(), Version: 7}})
	for n := range len(whole) {
		err := new(changed).DecodeWire(whole[:n])
		if (err == nil) != (n == 0) {
			t.Errorf("%d of %d bytes: %v", n, len(whole), err)
		}
	}
}

// TestAllocationsOfDecodingACart: a cart of three lines is its lines and nothing else.
func TestAllocationsOfDecodingACart(t *testing.T) {
	measuretest.Costs(t)
	message := encode(t, &cartv1.AddItemsResponse{Change: &cartv1.Change{Cart: threeLines(), Version: 7}})
	got := testing.AllocsPerRun(1000, func() {
		var c changed
		if err := c.DecodeWire(message); err != nil || len(c.Items) != 3 {
			t.Fatal(err, c)
		}
	})
	if got > 1 {
		t.Errorf("%v allocations, want 1", got)
	}
}

func BenchmarkDecodeCart(b *testing.B) {
	message := encode(b, &cartv1.AddItemsResponse{Change: &cartv1.Change{Cart: threeLines(), Version: 7}})
	b.ReportAllocs()
	for b.Loop() {
		var c changed
		if err := c.DecodeWire(message); err != nil {
			b.Fatal(err)
		}
	}
}
