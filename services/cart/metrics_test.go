package cart_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"coatcheck/cart"
	"coatcheck/cart/storetest"
	"coatcheck/chassis"
	"coatcheck/chassis/fault"
	"coatcheck/chassis/measuretest"
)

// answering is a store that gives the same answer to everything.
type answering struct {
	cart.BatchStore
	result   cart.Result
	replayed bool
	err      error
}

func (a answering) Get(context.Context, cart.Owner) (cart.Cart, error) { return a.result.Cart, a.err }

func (a answering) Change(context.Context, cart.Owner, cart.Change) (cart.Result, error) {
	a.result.Replayed = a.replayed
	return a.result, a.err
}

func (a answering) Batch(_ context.Context, steps []*cart.Step) {
	for _, step := range steps {
		step.Result, step.Err = a.result, a.err
		step.Result.Replayed = a.replayed
	}
}

func (a answering) Checkout(context.Context, cart.Owner, cart.Operation, func(cart.Cart) (cart.Order, error)) (cart.Order, bool, error) {
	return cart.Order{}, a.replayed, a.err
}

func (a answering) Merge(context.Context, cart.Owner, cart.Owner) error { return a.err }

// TestMeasured: each operation is counted by how it ended, whoever and whatever
// it was for, and carts by their lines.
func TestMeasured(t *testing.T) {
	reg := chassis.NewRegistry()
	store := &answering{}
	measured := cart.Measured(store, reg)
	do := func(n int) {
		owner, sku := storetest.NewOwner('u'), fmt.Sprintf("sku-%d", n)
		change := func(kind cart.Kind, lines ...cart.Line) {
			_, err := measured.Change(t.Context(), owner, cart.Change{Kind: kind, Lines: lines, Operation: cart.Operation{Key: sku}})
			if !errors.Is(err, store.err) {
				t.Fatal("the answer is another")
			}
		}
		change(cart.Add, cart.Line{SKU: sku, Quantity: 2})
		change(cart.Set, cart.Line{SKU: sku, Quantity: 2})
		change(cart.Set, cart.Line{SKU: sku})
		change(cart.Clear)
		_, _, _ = measured.Checkout(t.Context(), owner, cart.Operation{}, nil)
		_ = measured.Merge(t.Context(), owner, owner)
		_, _ = measured.Get(t.Context(), owner)
	}
	before := measuretest.Check(t, reg)
	count := map[string]int{}
	for _, tt := range []struct {
		result   string
		replayed bool
		err      error
		times    int
	}{
		{"done", false, nil, 1},
		{"replayed", true, nil, 2},
		{"stale", false, cart.ErrStale, 3},
		{"refused", false, fmt.Errorf("with reason: %w", cart.ErrLineLimit), 4},
		{"unavailable", false, fault.New(fault.Unavailable, "store_unavailable", "Away."), 5},
		{"internal", false, errors.New("a defect"), 6},
	} {
		store.replayed, store.err = tt.replayed, tt.err
		for range tt.times {
			do(0)
		}
		count[tt.result] = tt.times
	}
	// A merge does not tell whether it was made before.
	for _, c := range changes(t, reg) {
		want := count[c.result]
		switch {
		case c.operation == "merge" && c.result == "done":
			want += count["replayed"]
		case c.operation == "merge" && c.result == "replayed":
			want = 0
		}
		if c.n != want {
			t.Errorf("%d of %s %s, want %d", c.n, c.operation, c.result, want)
		}
	}
	store.replayed, store.err = false, nil
	store.result.Cart.Lines = make([]cart.Line, 3)
	for n := range 10_000 {
		do(n)
	}
	if after := measuretest.Check(t, reg); after != before {
		t.Errorf("%d series, and %d after 10000 owners and SKUs", before, after)
	}
	if got := testing.AllocsPerRun(1000, func() { _, _ = measured.Get(t.Context(), "") }); got > 0 {
		t.Errorf("counting a read takes %v allocations", got)
	}
	op := cart.Change{Kind: cart.Clear}
	if got := testing.AllocsPerRun(1000, func() { _, _ = measured.Change(t.Context(), "", op) }); got > 0 {
		t.Errorf("counting a change takes %v allocations", got)
	}
	measuretest.Takes(t, "counting a change", measuretest.Cart, func() { _, _ = measured.Change(t.Context(), "", op) })
	store.err = fault.New(fault.Absent, "no_cart", "There is none.")
	do(0)
	if n := len(family(t, reg, "coatcheck_cart_changes_total").GetMetric()); n != 36+6 {
		t.Errorf("%d series of changes after a result that nobody expects, want 6 more than 36", n)
	}
	if n := carts(t, reg); n < 5*10_000 {
		t.Errorf("%d carts of three lines were answered, want at least %d", n, 5*10_000)
	}
}

type changed struct {
	operation, result string
	n                 int
}

func changes(t *testing.T, reg prometheus.Gatherer) (all []changed) {
	t.Helper()
	for _, m := range family(t, reg, "coatcheck_cart_changes_total").GetMetric() {
		all = append(all, changed{m.GetLabel()[0].GetValue(), m.GetLabel()[1].GetValue(), int(m.GetCounter().GetValue())})
	}
	if len(all) != 36 {
		t.Fatalf("%d series of changes, want 6 operations by 6 results", len(all))
	}
	return all
}

// carts is how many carts of more than two lines were answered.
func carts(t *testing.T, reg prometheus.Gatherer) int {
	t.Helper()
	h := family(t, reg, "coatcheck_cart_lines").GetMetric()[0].GetHistogram()
	return int(h.GetSampleCount() - h.GetBucket()[2].GetCumulativeCount())
}

func family(t *testing.T, reg prometheus.Gatherer, name string) *dto.MetricFamily {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f
		}
	}
	t.Fatalf("no %s", name)
	return nil
}
