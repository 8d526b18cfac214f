package check

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"coatcheck/trial/history"
)

const forever = time.Duration(math.MaxInt64)

// lost follows each acknowledged line of a unique add: whatever shows its cart
// from then on must show it, until a checkout or a log-in may have moved it, and
// at the end it must be in a cart or in an order. One that is there at the end,
// or later, but once was not shown, is a stale reading.
func (j *judge) lost() {
	for _, f := range j.families {
		overwritten := f.overwritten()
		views, moves := map[*cart][]*op{}, map[*cart]takers{}
		for _, c := range f.carts {
			for _, o := range c.ops {
				if o.shows {
					views[c] = append(views[c], o)
				}
			}
			moves[c] = newTakers(c)
		}
		adds := map[sku][]*op{}
		for _, o := range f.ops {
			if o.kind != history.Add || !o.unique || o.outcome != history.OK {
				continue
			}
			for _, l := range o.lines {
				if !overwritten[l.sku] {
					adds[l.sku] = append(adds[l.sku], o)
				}
			}
		}
		for s, ops := range adds {
			missing := j.missing(f, s, ops)
			for _, o := range ops {
				j.looked("lost", 1)
				unseen, again := track(o, s, views, moves)
				switch {
				case missing[o] || unseen != nil && !f.whole && again == nil:
					j.lose("lost", fmt.Sprintf("line %d %d", o.at, s))
					end := o.cart.family.main()
					ops := []*op{o}
					for _, seen := range []*op{unseen, end.final, end.list} {
						if seen != nil && !slices.Contains(ops, seen) {
							ops = append(ops, seen)
						}
					}
					j.find("lost", o.cart, ops, "lost: %s, acknowledged at %s, is in no cart and no order at the end", j.skus[s], at(o.answered))
				case unseen != nil:
					ops := []*op{o, unseen}
					if again != nil {
						ops = append(ops, again)
					}
					j.find("lost", o.cart, ops, "stale: %s, acknowledged at %s, was not shown at %s and was there later", j.skus[s], at(o.answered), at(unseen.answered))
				}
			}
		}
	}
}

func at(d time.Duration) string { return fmt.Sprintf("%.3f s", d.Seconds()) }

// missing are the adds of the SKU that are not there at the end: those of which
// neither a cart nor an order that was made late enough has a line.
func (j *judge) missing(f *family, s sku, adds []*op) map[*op]bool {
	if !f.whole {
		return nil
	}
	type place struct {
		until time.Duration // an add that was sent later can't be here
		room  int64
	}
	var places []place
	for _, c := range f.carts {
		if c.final != nil {
			places = append(places, place{forever, quantity(c.final.shown, s)})
		}
		for _, b := range c.bought {
			until := forever
			if b.by != nil {
				until = b.by.answered
			}
			places = append(places, place{until, quantity(b.lines, s)})
		}
	}
	slices.SortFunc(places, func(a, b place) int { return cmp.Compare(b.until, a.until) })
	missing := map[*op]bool{}
	for _, o := range slices.Backward(adds) { // the latest has the fewest places
		need := quantity(o.lines, s)
		for i := range places {
			if places[i].until >= o.sent {
				took := min(need, places[i].room)
				places[i].room -= took
				need -= took
			}
		}
		missing[o] = need > 0
	}
	return missing
}

// takers are the checkouts of a cart that may have taken something.
type takers struct {
	answered, unknown []*op
	// lost are the lines of orders that no answer told of; nil if the orders
	// were not read.
	lost []line
	read bool
}

func newTakers(c *cart) takers {
	t := takers{unknown: c.unanswered(), read: c.list != nil}
	for _, o := range c.ops {
		if o.kind == history.Checkout && o.outcome == history.OK {
			t.answered = append(t.answered, o)
		}
	}
	for _, b := range c.bought {
		if b.by == nil {
			t.lost = append(t.lost, b.lines...)
		}
	}
	return t
}

// take is when a checkout may have taken the SKU that was added at since and led
// the cart to a version (0 if not known).
func (t takers) take(s sku, since time.Duration, led uint64) time.Duration {
	first := forever
	for _, o := range t.answered {
		if o.answered >= since && len(o.orders) > 0 && quantity(o.orders[0].lines, s) > 0 {
			first = min(first, o.sent)
			break // they are by time sent
		}
	}
	if t.read && !slices.ContainsFunc(t.lost, func(l line) bool { return l.sku == s }) {
		return first
	}
	for _, o := range t.unknown {
		if o.named.mark == unmarked || o.named.n >= led {
			first = min(first, o.sent)
		}
	}
	return first
}

// track answers the first of the views that had to show the SKU and did not,
// and the next that did again.
func track(add *op, s sku, views map[*cart][]*op, moves map[*cart]takers) (unseen, again *op) {
	where, from, led := add.cart, add.answered, add.led
	for range 2 { // the guest's, then the user's
		until := moves[where].take(s, add.sent, led)
		if len(where.leaves) > 0 {
			until = min(until, where.leaves[0].sent)
		}
		seen := views[where]
		first, _ := slices.BinarySearchFunc(seen, from, func(o *op, t time.Duration) int {
			if o.sent > t {
				return 1
			}
			return -1
		})
		for _, o := range seen[first:] {
			if o.sent >= until {
				break
			}
			if o.answered >= until {
				continue
			}
			there := quantity(o.shown, s) > 0
			if !there && unseen == nil {
				unseen = o
			}
			if there && unseen != nil && o.sent > unseen.answered {
				return unseen, o
			}
		}
		i := slices.IndexFunc(where.leaves, func(o *op) bool { return o.outcome == history.OK })
		if i < 0 {
			break
		}
		from, led, where = where.leaves[i].answered, 0, where.leaves[i].cart
	}
	return unseen, again
}
