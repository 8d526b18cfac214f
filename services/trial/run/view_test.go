package run

import (
	"io"
	"testing"
	"time"

	"coatcheck/trial/history"
)

func lines(skus ...string) []history.Line {
	list := []history.Line{}
	for _, sku := range skus {
		list = append(list, history.Line{SKU: sku, Quantity: 1})
	}
	return list
}

func TestLossIsSeenWhileItRuns(t *testing.T) {
	add := func(cart string, skus ...string) *history.Op {
		return &history.Op{Kind: history.Add, Cart: cart, Unique: true, Outcome: history.OK, Lines: lines(skus...)}
	}
	read := func(cart string, skus ...string) *history.Op {
		return &history.Op{Kind: history.Read, Cart: cart, Outcome: history.OK, Shown: lines(skus...)}
	}
	merge := &history.Op{Kind: history.LogIn, Cart: "u", From: "g", Outcome: history.OK}
	checkout := func(o history.Outcome) *history.Op {
		return &history.Op{Kind: history.Checkout, Cart: "u", Outcome: o}
	}
	unsure := add("u", "a")
	unsure.Outcome = history.Unknown
	for name, tt := range map[string]struct {
		ops  []*history.Op
		want int
	}{
		"all is there":                    {[]*history.Op{add("u", "a", "b"), read("u", "b", "a", "c")}, 0},
		"one is gone, and counted once":   {[]*history.Op{add("u", "a", "b"), read("u", "b"), read("u", "b")}, 1},
		"in another cart":                 {[]*history.Op{add("u", "a"), read("g")}, 0},
		"an answer without the cart":      {[]*history.Op{add("u", "a"), {Kind: history.Add, Cart: "u", Outcome: history.OK}}, 0},
		"never acknowledged":              {[]*history.Op{unsure, read("u")}, 0},
		"a merge keeps it":                {[]*history.Op{add("u", "a"), add("g", "b"), merge, read("u", "a", "b")}, 0},
		"a merge loses the guest's":       {[]*history.Op{add("u", "a"), add("g", "b"), merge, read("u", "a")}, 1},
		"it was bought":                   {[]*history.Op{add("u", "a"), checkout(history.OK), read("u")}, 0},
		"perhaps it was bought":           {[]*history.Op{add("u", "a"), checkout(history.Unknown), read("u")}, 0},
		"it was not bought, and is gone":  {[]*history.Op{add("u", "a"), checkout(history.Failed), read("u")}, 1},
		"after the checkout one is added": {[]*history.Op{add("u", "a"), checkout(history.OK), add("u", "b"), read("u")}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			v := newView(io.Discard, time.Minute)
			for _, op := range tt.ops {
				v.op(op)
			}
			if got := v.now().Lost; got != tt.want {
				t.Errorf("%d are lost, want %d", got, tt.want)
			}
		})
	}
}

func TestViewCounts(t *testing.T) {
	v := newView(io.Discard, time.Minute)
	for _, op := range []*history.Op{
		{Kind: history.Read, Outcome: history.OK, Status: 200},
		{Kind: history.CondSet, Outcome: history.Failed, Status: 412},
		{Kind: history.Add, Outcome: history.Failed, Status: 503},
		{Kind: history.Add, Outcome: history.Failed, Status: 429},
		{Kind: history.Add, Outcome: history.Unknown},
	} {
		v.op(op)
	}
	v.fault(history.Fault{Name: "kill -9 cart-1"})
	v.do("reading")
	s := v.now()
	if s.OK != 2 || s.Failed != 2 || s.Unknown != 1 || s.Faults != 1 || s.LastFault != "kill -9 cart-1" || s.Doing != "reading" {
		t.Errorf("%+v", s)
	}
	v.fault(history.Fault{Name: "kill -9 cart-1", Error: "it did not come back"})
	if s := v.now(); s.LastFault != "it did not come back" {
		t.Errorf("%+v", s)
	}
}
