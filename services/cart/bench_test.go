package cart_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"coatcheck/cart"
	"coatcheck/cart/storetest"
	cartv1 "coatcheck/proto/coatcheck/cart/v1"
)

// answered is a store that has done everything already.
type answered struct{ cart.BatchStore }

func (answered) Batch(_ context.Context, steps []*cart.Step) {
	for _, step := range steps {
		step.Result = cart.Result{Version: 3, Cart: cart.Cart{
			Version: cart.Version{Incarnation: "abcdefgh", Number: 3}, Expires: time.UnixMilli(1),
			Lines: []cart.Line{{SKU: "cap-01", Quantity: 1}, {SKU: "hat-01", Quantity: 2}, {SKU: "mug-01", Quantity: 3}},
		}}
	}
}

// batches returns a function that has a server take a batch of as many adds, each
// of another owner; the store costs next to nothing.
func batches(t testing.TB, n int) func() {
	server, _ := takingBatches(t, answered{}, nil, cart.Limits{Quantity: 99, Lines: 20}, prometheus.NewRegistry())
	req := &cartv1.BatchRequest{}
	for i := range n {
		req.Operations = append(req.Operations, op(storetest.NewOwner('u'), adding(fmt.Sprint("key-", i), line("mug-01", 1))))
	}
	return func() {
		resp, err := server.Batch(t.Context(), req)
		if err != nil || len(resp.GetOutcomes()[n-1].GetChange().GetCart().GetItems()) != 3 {
			t.Fatal(resp, err)
		}
	}
}

// TestAllocationsOfAnOperation bounds what one of many adds allocates between the
// call and the store, and on the way back.
func TestAllocationsOfAnOperation(t *testing.T) {
	const n = 32
	got := testing.AllocsPerRun(100, batches(t, n)) / n
	t.Logf("an operation takes %.1f allocations", got)
	if got > 9 {
		t.Errorf("an operation takes %.1f allocations", got)
	}
}

func BenchmarkBatch(b *testing.B) {
	batch := batches(b, 32)
	b.ReportAllocs()
	for b.Loop() {
		batch()
	}
}
