package check

import (
	"slices"

	"coatcheck/trial/history"
)

// main is the user's cart of a family, or the only one.
func (f *family) main() *cart {
	for _, c := range f.carts {
		if len(c.leaves) == 0 {
			return c
		}
	}
	return f.carts[0]
}

// overwritten are the SKUs that a request set or removed, or may have: their
// sum tells nothing.
func (f *family) overwritten() map[sku]bool {
	found := map[sku]bool{}
	for _, o := range f.ops {
		if o.sets() && o.outcome != history.Failed {
			for _, l := range o.lines {
				found[l.sku] = true
			}
		}
	}
	return found
}

// buy fills in bought.
func (c *cart) buy() {
	by := map[string]*op{}
	for _, o := range c.ops {
		if o.kind == history.Checkout && o.outcome == history.OK && len(o.orders) > 0 {
			by[o.orders[0].id] = o
			if c.list == nil {
				c.bought = append(c.bought, bought{o.orders[0], o})
			}
		}
	}
	if c.list != nil {
		for _, ord := range c.list.orders {
			c.bought = append(c.bought, bought{ord, by[ord.id]})
		}
	}
}

// unanswered are the checkouts that may have had an effect.
func (c *cart) unanswered() []*op {
	var all []*op
	for _, o := range c.ops {
		if o.kind == history.Checkout && o.outcome == history.Unknown {
			all = append(all, o)
		}
	}
	return all
}

// naming are the requests for the family's carts that name the SKU and were not
// refused, then the last readings of the carts that show it.
func (f *family) naming(s sku) []*op {
	var ops []*op
	for _, o := range f.ops {
		if o.change() && o.outcome != history.Failed && quantity(o.lines, s) != 0 || o.kind == history.Remove && len(o.lines) > 0 && o.lines[0].sku == s {
			ops = append(ops, o)
		}
	}
	for _, c := range f.carts {
		if c.final != nil && (len(c.leaves) == 0 || quantity(c.final.shown, s) != 0) {
			ops = append(ops, c.final)
		}
		if c.list != nil && slices.ContainsFunc(c.list.orders, func(o order) bool { return quantity(o.lines, s) != 0 }) {
			ops = append(ops, c.list)
		}
	}
	return ops
}
