package watch

import (
	"testing"

	"coatcheck/trial/history"
)

func cart(skus ...string) []history.Line {
	list := []history.Line{}
	for _, sku := range skus {
		list = append(list, history.Line{SKU: sku, Quantity: 1})
	}
	return list
}

func add(cartName string, skus ...string) *history.Op {
	return &history.Op{Kind: history.Add, Cart: cartName, Unique: true, Outcome: history.OK, Lines: cart(skus...)}
}

func TestLossIsSeenWhileItRuns(t *testing.T) {
	read := func(cartName string, skus ...string) *history.Op {
		return &history.Op{Kind: history.Read, Cart: cartName, Outcome: history.OK, Shown: cart(skus...)}
	}
	merge := &history.Op{Kind: history.LogIn, Cart: "u", From: "g", Outcome: history.OK}
	checkout := func(o history.Outcome) *history.Op {
		return &history.Op{Kind: history.Checkout, Cart: "u", Outcome: o}
	}
	unsure := add("u", "a")
	unsure.Outcome = history.Unknown
	for name, tt := range map[string]struct {
		ops         []*history.Op
		lines, lost int
	}{
		"all is there":                    {[]*history.Op{add("u", "a", "b"), read("u", "b", "a", "c")}, 2, 0},
		"one is gone, and counted once":   {[]*history.Op{add("u", "a", "b"), read("u", "b"), read("u", "b")}, 2, 1},
		"in another cart":                 {[]*history.Op{add("u", "a"), read("g")}, 1, 0},
		"an answer without the cart":      {[]*history.Op{add("u", "a"), {Kind: history.Add, Cart: "u", Outcome: history.OK}}, 1, 0},
		"never acknowledged":              {[]*history.Op{unsure, read("u")}, 0, 0},
		"a merge keeps it":                {[]*history.Op{add("u", "a"), add("g", "b"), merge, read("u", "a", "b")}, 2, 0},
		"a merge loses the guest's":       {[]*history.Op{add("u", "a"), add("g", "b"), merge, read("u", "a")}, 2, 1},
		"a merge into an empty cart":      {[]*history.Op{add("g", "b"), merge, read("u")}, 1, 1},
		"it was bought":                   {[]*history.Op{add("u", "a"), checkout(history.OK), read("u")}, 1, 0},
		"perhaps it was bought":           {[]*history.Op{add("u", "a"), checkout(history.Unknown), read("u")}, 1, 0},
		"it was not bought, and is gone":  {[]*history.Op{add("u", "a"), checkout(history.Failed), read("u")}, 1, 1},
		"after the checkout one is added": {[]*history.Op{add("u", "a"), checkout(history.OK), add("u", "b"), read("u")}, 2, 1},
	} {
		t.Run(name, func(t *testing.T) {
			w := New()
			for _, op := range tt.ops {
				w.Op(op)
			}
			if s := w.State(); s.Lines != tt.lines || s.Lost != tt.lost {
				t.Errorf("%d lines, %d lost, want %d and %d", s.Lines, s.Lost, tt.lines, tt.lost)
			}
		})
	}
}
