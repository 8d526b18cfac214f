package cart

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"coatcheck/chassis/measure"
)

// Measured returns the store with what it is asked counted in reg.
func Measured(store BatchStore, reg prometheus.Registerer) BatchStore {
	all := promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
		Name: "coatcheck_cart_changes_total",
		Help: "Changes that the store was asked for, by operation and result: done, replayed (made before under the same idempotency key), " +
			"stale (the cart was at another version), refused (limits, a key used for another request, a cart that has moved), unavailable or internal.",
	}, []string{"operation", "result"})
	m := &measured{
		BatchStore: store,
		all:        all,
		changes:    map[changeLabels]prometheus.Counter{},
		lines: promauto.With(reg).NewHistogram(measure.Histogram("coatcheck_cart_lines",
			"Lines of a cart, each time that one is answered whole.", []float64{0, 1, 2, 5, 10, 20, 50, 100})),
	}
	// From the start, so that the first of each is an increase.
	for _, operation := range []string{"add", "set", "remove", "clear", "checkout", "merge"} {
		for _, result := range []string{"done", "replayed", "stale", "refused", "unavailable", "internal"} {
			m.changes[changeLabels{operation, result}] = all.WithLabelValues(operation, result)
		}
	}
	return m
}

type measured struct {
	BatchStore
	all     *prometheus.CounterVec
	changes map[changeLabels]prometheus.Counter // those of all that are expected, found faster
	lines   prometheus.Histogram
}

// changeLabels are those of one counter of changes.
type changeLabels struct{ operation, result string }

func (m *measured) Get(ctx context.Context, owner Owner) (Cart, error) {
	c, err := m.BatchStore.Get(ctx, owner)
	m.countCart(ctx, c, err)
	return c, err
}

func (m *measured) Change(ctx context.Context, owner Owner, c Change) (Result, error) {
	result, err := m.BatchStore.Change(ctx, owner, c)
	m.countChange(ctx, c, result, err)
	return result, err
}

// Batch counts each step as what it stands for; one that is made apart comes again.
func (m *measured) Batch(ctx context.Context, steps []*Step) {
	m.BatchStore.Batch(ctx, steps)
	for _, s := range steps {
		switch {
		case s.Apart:
		case s.Change == nil:
			m.countCart(ctx, s.Result.Cart, s.Err)
		default:
			m.countChange(ctx, *s.Change, s.Result, s.Err)
		}
	}
}

func (m *measured) countCart(ctx context.Context, c Cart, err error) {
	if err == nil {
		measure.Observe(ctx, m.lines, float64(len(c.Lines)))
	}
}

func (m *measured) countChange(ctx context.Context, c Change, r Result, err error) {
	m.count(operationName(c), r.Replayed, err)
	if err == nil && !c.Minimal {
		measure.Observe(ctx, m.lines, float64(len(r.Cart.Lines)))
	}
}

func (m *measured) Checkout(ctx context.Context, owner Owner, op Operation, price func(Cart) (Order, error)) (Order, bool, error) {
	order, replayed, err := m.BatchStore.Checkout(ctx, owner, op, price)
	m.count("checkout", replayed, err)
	return order, replayed, err
}

func (m *measured) Merge(ctx context.Context, guest, user Owner) error {
	err := m.BatchStore.Merge(ctx, guest, user)
	m.count("merge", false, err)
	return err
}

func (m *measured) count(operation string, replayed bool, err error) {
	result := measure.Result(err)
	if err == nil && replayed {
		result = "replayed"
	}
	counter, ok := m.changes[changeLabels{operation, result}]
	if !ok {
		counter = m.all.WithLabelValues(operation, result)
	}
	counter.Inc()
}

func operationName(c Change) string {
	switch {
	case c.Kind == Clear:
		return "clear"
	case c.Kind == Add:
		return "add"
	case c.Lines[0].Quantity == 0:
		return "remove"
	default:
		return "set"
	}
}
