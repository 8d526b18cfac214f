package redisstore

import (
	"strings"
	"testing"

	"coatcheck/cart"
)

// What comes out of Redis may have been put there by another release, or by
// hand: decoders refuse what they don't know, and never panic.

func FuzzHash(f *testing.F) {
	f.Add("@v", "3", "mug-01", "2")
	f.Add("@v", "-1", "@i", "aaaaaaaa")
	f.Add("mug", "1.5", "@g", "t")
	f.Add("@p", "x", "@v", "18446744073709551616")
	f.Fuzz(func(t *testing.T, field1, value1, field2, value2 string) {
		h := hash{expires: int64(len(value1)) - 3}
		h.put(field1, value1)
		h.put(field2, value2)
		c, err := h.cart()
		if err != nil {
			return
		}
		for _, l := range c.Lines {
			if strings.HasPrefix(l.SKU, "@") || l.Quantity == 0 {
				t.Errorf("line %+v of %+v", l, h)
			}
		}
		_, _ = h.merging(), h.moved()
	})
}

func FuzzAnswer(f *testing.F) {
	f.Add("o 3 0 3 abcdefgh   1796340282073 mug-01 2 hat 0")
	f.Add("o 3 1 4 abcdefgh 1 h -1 @v 4 @ ")
	f.Add("r 0 0 0    -2 ")
	f.Add("q 0 0 0 0 0 0 0")
	f.Fuzz(func(t *testing.T, raw string) {
		a, err := parseAnswer(raw)
		if err != nil {
			return
		}
		head := strings.SplitN(raw, " ", 9)
		if len(head) < 9 || a.outcome != head[0] || a.replayed != (head[2] == "1") || a.hash.guest != head[6] || len(a.hash.intents) > 0 {
			t.Errorf("%q was read as %+v", raw, a)
		}
		c, err := a.hash.cart()
		for _, l := range c.Lines {
			if err != nil || strings.HasPrefix(l.SKU, "@") || l.Quantity == 0 {
				t.Errorf("line %+v of %q", l, raw)
			}
		}
	})
}

func FuzzMergeStates(f *testing.F) {
	user := "u_aaaaaaaaaaaaaaaaaaaaaa"
	f.Add("h123456789012"+user, "@m123456789012", "g_aaaaaaaaaaaaaaaaaaaaaaAAAAAAAA")
	f.Add("s", "@m", "")
	f.Add("t", "@m123456789012", user)
	f.Fuzz(func(t *testing.T, state, field, value string) {
		if m, err := parseGuestState("g", state); err == nil && (len(m.id) != mergeIDSize || len(m.user) != ownerSize) {
			t.Errorf("state %q was read as %+v", state, m)
		}
		if m, err := parseIntent(cart.Owner(user), field, value); err == nil && (len(m.id) != mergeIDSize || len(m.guest) != ownerSize || m.incarnation == "") {
			t.Errorf("intent %q %q was read as %+v", field, value, m)
		}
	})
}

func FuzzOrder(f *testing.F) {
	order, err := encodeOrder(cart.Order{ID: "x", Items: []cart.Item{{SKU: "mug", Quantity: 2, UnitPrice: cart.Money{Amount: 5, Currency: "EUR"}}}, Total: cart.Money{Amount: 10, Currency: "EUR"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(order)
	f.Add([]byte(`{"items":null}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := decodeOrder(data)
		if err != nil {
			return
		}
		total := int64(0)
		for _, item := range o.Items {
			total += item.LineTotal.Amount
		}
		if total != o.Total.Amount {
			t.Errorf("total %d of %+v", total, o)
		}
	})
}
