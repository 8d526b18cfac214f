package watch

import "coatcheck/trial/history"

// lines are, by cart, the acknowledged ones that nobody else touches: each later
// answer with the cart must show them.
type lines map[string]map[string]bool

// see returns how many lines an answer adds to those, and how many it misses.
func (l lines) see(op *history.Op) (kept, lost int) {
	of := l[op.Cart]
	if op.Shown != nil {
		shown := map[string]bool{}
		for _, line := range op.Shown {
			shown[line.SKU] = true
		}
		for sku := range of {
			if !shown[sku] {
				lost++
				delete(of, sku) // once
			}
		}
	}
	switch {
	case op.Kind == history.Add && op.Unique && op.Outcome == history.OK:
		of = l.cart(op.Cart)
		for _, line := range op.Lines {
			of[line.SKU] = true
		}
		kept = len(op.Lines)
	case op.Kind == history.Checkout && op.Outcome != history.Failed:
		delete(l, op.Cart)
	case op.Kind == history.LogIn && op.From != "" && op.Outcome == history.OK:
		of = l.cart(op.Cart)
		for sku := range l[op.From] {
			of[sku] = true
		}
		delete(l, op.From)
	}
	return kept, lost
}

func (l lines) cart(name string) map[string]bool {
	if l[name] == nil {
		l[name] = map[string]bool{}
	}
	return l[name]
}
