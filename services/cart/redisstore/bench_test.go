package redisstore_test

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"coatcheck/cart"
	"coatcheck/chassis/redistest"
)

// changes returns a function that sets one line of a cart of three, each time
// under a key of its own.
func changes(t testing.TB) func() {
	store := open(redistest.Start(t, "--appendonly", "no").Client(t), time.Now)
	owner := cart.Owner("g_0123456789abcdefghijkl")
	lines := []cart.Line{{SKU: "mug-enamel-blue-0001", Quantity: 1}, {SKU: "mug-enamel-blue-0002", Quantity: 1}, {SKU: "mug-enamel-blue-0003", Quantity: 1}}
	n := 0
	change := func(kind cart.Kind, lines []cart.Line) {
		n++
		if _, err := store.Change(t.Context(), owner, cart.Change{Operation: cart.Operation{Key: strconv.Itoa(n)}, Kind: kind, Lines: lines}); err != nil {
			t.Fatal(err)
		}
	}
	change(cart.Add, lines)
	return func() { change(cart.Set, []cart.Line{{SKU: lines[0].SKU, Quantity: int64(1 + n%9)}}) }
}

// TestAllocationsOfAChange bounds what one call of the script allocates here,
// go-redis and the reading of its answer among it.
func TestAllocationsOfAChange(t *testing.T) {
	got := testing.AllocsPerRun(500, changes(t))
	t.Logf("a change takes %v allocations", got)
	if got > 15 {
		t.Errorf("a change takes %v allocations", got)
	}
}

// many are as many changes of a cart of three lines each, in one batch.
func many(t testing.TB, n int) func() {
	store := open(redistest.Start(t, "--appendonly", "no").Client(t), time.Now)
	lines := []cart.Line{{SKU: "mug-enamel-blue-0001", Quantity: 1}, {SKU: "mug-enamel-blue-0002", Quantity: 1}, {SKU: "mug-enamel-blue-0003", Quantity: 1}}
	key := 0
	batch := func(kind cart.Kind, lines ...cart.Line) {
		steps := make([]*cart.Step, n)
		for i := range steps {
			key++
			steps[i] = &cart.Step{Owner: cart.Owner(fmt.Sprintf("g_%022d", i)),
				Change: &cart.Change{Operation: cart.Operation{Key: strconv.Itoa(key)}, Kind: kind, Lines: lines}}
		}
		store.Batch(t.Context(), steps)
		for _, step := range steps {
			if step.Err != nil || len(step.Result.Cart.Lines) != 3 {
				t.Fatalf("%+v", step)
			}
		}
	}
	batch(cart.Add, lines...)
	return func() { batch(cart.Set, cart.Line{SKU: lines[0].SKU, Quantity: int64(1 + key/n%9)}) }
}

// TestAllocationsInABatch bounds the same for one of many changes that are made
// together.
func TestAllocationsInABatch(t *testing.T) {
	const n = 32
	got := testing.AllocsPerRun(100, many(t, n)) / n
	t.Logf("a change in a batch takes %.1f allocations", got)
	if got > 15 {
		t.Errorf("a change in a batch takes %.1f allocations", got)
	}
}

func BenchmarkBatch(b *testing.B) {
	batch := many(b, 32)
	b.ReportAllocs()
	for b.Loop() {
		batch()
	}
}

func BenchmarkChange(b *testing.B) {
	change := changes(b)
	b.ReportAllocs()
	for b.Loop() {
		change()
	}
}

func BenchmarkGet(b *testing.B) {
	store := open(redistest.Start(b, "--appendonly", "no").Client(b), time.Now)
	owner := cart.Owner("g_0123456789abcdefghijkl")
	if _, err := store.Change(b.Context(), owner, cart.Change{Operation: cart.Operation{Key: "k"}, Kind: cart.Add, Lines: []cart.Line{{SKU: "mug-enamel-blue-0001", Quantity: 1}}}); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := store.Get(b.Context(), owner); err != nil {
			b.Fatal(err)
		}
	}
}
