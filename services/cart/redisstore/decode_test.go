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
		h := hash{fields: map[string]string{field1: value1, field2: value2}, expires: int64(len(value1)) - 3}
		c, err := h.cart()
		if err != nil {
			return
		}
		for _, l := range c.Lines {
			if strings.HasPrefix(l.SKU, "@") || l.Quantity == 0 {
				t.Errorf("line %+v of %v", l, h.fields)
			}
		}
		_, _ = h.merging(), h.moved()
	})
}

func FuzzAnswer(f *testing.F) {
	f.Add("o", "3", int64(1), "mug-01", "2", 10)
	f.Add("", "x", int64(0), "", "", 8)
	f.Add("r", "0", int64(7), "@v", "9", 3)
	f.Fuzz(func(t *testing.T, outcome, ledTo string, n int64, field, value string, length int) {
		whole := []any{outcome, ledTo, n, value, field, value, field, n, field, value, nil, n}
		raw := whole[:min(max(length, 0), len(whole))]
		a, err := parseAnswer(raw)
		if err == nil && (len(raw) < 8 || a.outcome != outcome || a.replayed != (n == 1)) {
			t.Errorf("%v was read as %+v", raw, a)
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
