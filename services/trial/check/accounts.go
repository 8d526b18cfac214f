package check

import (
	"slices"

	"coatcheck/trial/history"
)

// accounts checks the orders: each acknowledged checkout's order is in its
// owner's list once, with the lines that were answered, which are those of the
// version that it named; there is no order that nobody tried to make; and each
// owner's carts and orders together hold all acknowledged lines.
func (j *judge) accounts() {
	owners := map[string]*cart{} // of orders listed
	for _, c := range j.carts {
		if c.family == nil {
			continue
		}
		contents, seen := c.contents(), map[string]*op{}
		for _, o := range c.ops {
			if o.kind == history.Checkout && o.outcome == history.OK {
				j.looked("accounts", 1)
				j.answered(c, o, contents, seen)
			}
		}
		if c.list == nil {
			continue
		}
		open := c.unanswered()
		for _, b := range c.bought {
			j.looked("accounts", 1)
			if other := owners[b.id]; other != nil && other != c {
				j.double("accounts", "order "+b.id)
				j.find("accounts", c, []*op{other.list, c.list}, "order %s is also one of %s", b.id, other.name)
			}
			owners[b.id] = c
			if b.by != nil {
				continue
			}
			i := slices.IndexFunc(open, func(o *op) bool {
				lines, known := contents[o.named.n]
				return !known || slices.Equal(lines, b.lines)
			})
			if i < 0 {
				j.double("accounts", "order "+b.id)
				j.find("accounts", c, append(c.unanswered(), c.list), "order %s is of no checkout that anybody tried", b.id)
				continue
			}
			open = slices.Delete(open, i, i+1)
		}
	}
	j.balance()
}

// contents are the lines of the versions that were shown. If a version was shown
// with two contents, versions tells.
func (c *cart) contents() map[uint64][]line {
	shown := map[uint64][]line{}
	for _, o := range c.ops {
		if o.kind == history.Checkout && o.named.mark != unmarked {
			shown[o.named.n] = nil // only these are of interest
		}
	}
	known := map[uint64][]line{}
	for _, o := range c.ops {
		if _, ok := shown[o.saw.n]; ok && o.shows && o.saw.mark != unmarked {
			known[o.saw.n] = o.shown
		}
	}
	return known
}

// answered judges one acknowledged checkout; seen are the orders before it.
func (j *judge) answered(c *cart, o *op, contents map[uint64][]line, seen map[string]*op) {
	if len(o.orders) != 1 {
		j.find("accounts", c, []*op{o}, "a checkout was answered without its order")
		return
	}
	own := o.orders[0]
	if lines, known := contents[o.named.n]; known && o.named.mark != unmarked && !slices.Equal(lines, own.lines) {
		j.find("accounts", c, []*op{o}, "order %s is not what the cart was at version %d", own.id, o.named.n)
	}
	if other := seen[own.id]; other != nil {
		j.find("accounts", c, []*op{other, o}, "order %s was answered to two checkouts", own.id)
	}
	seen[own.id] = o
	if c.list != nil {
		j.listed(c, o, own)
	}
}

// listed judges that an order that was answered is in the list.
func (j *judge) listed(c *cart, o *op, own order) {
	times := 0
	for _, listed := range c.list.orders {
		if listed.id != own.id {
			continue
		}
		if times++; times == 2 {
			j.double("accounts", "order "+own.id)
			j.find("accounts", c, []*op{o, c.list}, "order %s is listed twice", own.id)
		}
		if !slices.Equal(listed.lines, own.lines) {
			j.find("accounts", c, []*op{o, c.list}, "order %s is not listed with the lines that were answered", own.id)
		}
	}
	if times == 0 {
		j.lose("accounts", "order "+own.id)
		j.find("accounts", c, []*op{o, c.list}, "order %s was acknowledged and is not listed", own.id)
	}
}

// balance compares, for each owner with an order, the acknowledged units of all
// SKUs that are only ever added with those in carts and orders.
func (j *judge) balance() {
	for _, f := range j.families {
		if !f.whole || f.main().list == nil {
			continue
		}
		var acknowledged, gone int64
		for _, s := range f.sums() {
			acknowledged += s.acknowledged
			gone += max(0, s.acknowledged-s.there)
		}
		if gone > 0 {
			j.find("accounts", f.main(), []*op{f.main().list}, "of %d units acknowledged, %d are neither in carts nor in orders", acknowledged, gone)
		}
	}
}
