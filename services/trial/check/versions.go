package check

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"coatcheck/trial/history"
)

// event is a version that a request is a witness of: the change that led to it,
// or a look at the cart.
type event struct {
	n      uint64
	op     *op
	change bool
}

// raises tells whether the change surely raised the version: a set or a removal
// may have changed nothing.
func (e event) raises() bool { return e.change && !e.op.sets() }

// versions checks that the versions of each cart tell one story: every
// acknowledged change led to a version of its own (but what changed nothing),
// they rise in real time, a version has one content, a conditional change came
// right after the version that it named, and a version that no acknowledged
// change led to is explained by an unknown one or a log-in. One that is not, next
// to a change that was sent more than once, is that change applied twice.
func (j *judge) versions() {
	for _, c := range j.carts {
		lives, order := map[mark][]event{}, []mark{}
		for _, o := range c.ops {
			if !o.change() && o.kind != history.Read {
				continue
			}
			m := o.saw.mark
			if o.kind == history.Checkout {
				m = o.named.mark
			}
			var events []event
			if o.led > 0 {
				j.looked("versions", 1)
				if o.retried() {
					j.looked("doubled", 1)
				}
				events = append(events, event{o.led, o, true})
				j.condition(c, o)
			}
			if o.saw != (stamp{}) && !c.emptied(o) {
				events = append(events, event{o.saw.n, o, false})
			}
			if m == unmarked {
				m = absent
			}
			if _, ok := lives[m]; !ok && len(events) > 0 && m != absent {
				order = append(order, m)
			}
			lives[m] = append(lives[m], events...)
		}
		if len(order) > 1 {
			j.find("versions", c, []*op{lastOf(lives[order[0]]), lives[order[1]][0].op}, "the cart was gone and started anew")
		} else if len(order) == 1 {
			lives[order[0]] = append(lives[order[0]], lives[absent]...)
		}
		for _, m := range order {
			j.story(c, lives[m], len(order) == 1)
		}
		if len(order) == 0 {
			j.story(c, lives[absent], true)
		}
	}
}

// emptied tells whether the request shows a guest's cart empty because it has
// moved, or is about to: to a replay this is answered under the version before.
func (c *cart) emptied(o *op) bool {
	return o.replayed && len(o.shown) == 0 && len(c.leaves) > 0 && c.leaves[0].sent <= o.answered
}

func lastOf(events []event) *op { return events[len(events)-1].op }

func (j *judge) condition(c *cart, o *op) {
	if o.named.mark <= absent || o.kind == history.Checkout {
		return
	}
	if o.led != o.named.n+1 && !(o.sets() && o.led == o.named.n) {
		j.find("versions", c, []*op{o}, "a change for version %d led to version %d", o.named.n, o.led)
	}
}

// story judges the events of one incarnation of a cart.
func (j *judge) story(c *cart, events []event, only bool) {
	slices.SortStableFunc(events, func(a, b event) int { return cmp.Compare(a.n, b.n) })
	j.distinct(c, events)
	j.rising(c, events)
	if only {
		j.gaps(c, events)
	}
}

// distinct: no two changes that each raised the version led to the same one, and
// all that saw a version saw the same.
func (j *judge) distinct(c *cart, events []event) {
	var raised, seen *op
	for i, e := range events {
		if i > 0 && events[i-1].n != e.n {
			raised, seen = nil, nil
		}
		if e.raises() {
			if raised != nil {
				j.find("versions", c, []*op{raised, e.op}, "two changes led to version %d", e.n)
			}
			raised = e.op
		}
		if !e.change && e.op.shows {
			if seen != nil && !slices.Equal(seen.shown, e.op.shown) {
				j.find("versions", c, []*op{seen, e.op}, "version %d was shown with two contents", e.n)
			} else {
				seen = e.op
			}
		}
	}
}

// rising: what was sent after an answer is not at a version below it.
func (j *judge) rising(c *cart, events []event) {
	sent := slices.Clone(events)
	slices.SortStableFunc(sent, func(a, b event) int { return bySent(a.op, b.op) })
	answered := slices.Clone(events)
	slices.SortStableFunc(answered, func(a, b event) int { return cmp.Compare(a.op.answered, b.op.answered) })
	var before event
	next := 0
	for _, e := range sent {
		for ; next < len(answered) && answered[next].op.answered < e.op.sent; next++ {
			if answered[next].n >= before.n {
				before = answered[next]
			}
		}
		switch {
		case before.op == nil:
		case e.n < before.n && !e.change:
			j.find("versions", c, []*op{before.op, e.op}, "version %d was shown after version %d: a stale reading, or changes undone", e.n, before.n)
		case e.n < before.n || e.n == before.n && e.raises():
			j.find("versions", c, []*op{before.op, e.op}, "a change led to version %d after version %d was answered", e.n, before.n)
		}
	}
}

// gaps: each version that no acknowledged change led to needs a request of its
// own that may have: one of unknown outcome, or a log-in, sent before anything
// at that version or above was answered.
func (j *judge) gaps(c *cart, events []event) {
	var may []*op
	for _, o := range c.ops {
		if o.change() && o.outcome == history.Unknown || o.merges() && o == o.from.leaves[0] && o.from.filled() {
			may = append(may, o)
		}
	}
	if len(c.leaves) > 0 { // a guest's cart that has moved is one version on
		may = append(may, c.leaves[0])
		slices.SortStableFunc(may, bySent)
	}
	by := make([]time.Duration, len(events)) // the first answer at this version or above
	for i, e := range slices.Backward(events) {
		by[i] = e.op.answered
		if i+1 < len(events) {
			by[i] = min(by[i], by[i+1])
		}
	}
	var below uint64 // of the last event
	var missing, available int
	for i := 0; i < len(events); {
		n, end := events[i].n, i
		claimed := false
		for ; end < len(events) && events[end].n == n; end++ {
			claimed = claimed || events[end].change
		}
		new := 0
		if n > below {
			new = int(min(n-below, 1<<30))
			if claimed {
				new--
			}
		}
		missing += new
		for available < len(may) && may[available].sent <= by[i] {
			available++
		}
		if missing > available {
			j.unexplained(c, events, i, end, missing-available, by[i])
			missing = available // each is told once
		}
		below, i = n, end
	}
}

// unexplained reports versions, up to that of events[i:end], that nothing led to.
func (j *judge) unexplained(c *cart, events []event, i, end, many int, by time.Duration) {
	from := i
	for from > 0 && events[from-1].n == events[i-1].n {
		from--
	}
	var near []*op
	for _, e := range events[from:end] {
		if !slices.Contains(near, e.op) {
			near = append(near, e.op)
		}
	}
	n := events[i].n
	j.find("versions", c, near, "%d version(s) up to %d that no known request can have led to", many, n)
	// Of those sent again at that time, the one whose own version is nearest.
	var twice *op
	for _, e := range events {
		if e.change && e.op.retried() && e.op.sent <= by && e.op.answered >= near[0].sent &&
			(twice == nil || distance(e.n, n) < distance(twice.led, n)) {
			twice = e.op
		}
	}
	if twice == nil {
		return
	}
	if slices.ContainsFunc(twice.lines, func(l line) bool { return !c.family.whole || c.family.overwritten()[l.sku] }) { // else sums counts it
		j.double("doubled", fmt.Sprintf("request %d", twice.at))
	}
	j.find("doubled", c, append([]*op{twice}, near...), "nothing led to %d version(s) up to %d, where a request led to %d that was sent %d times",
		many, n, twice.led, len(twice.attempts))
}

func distance(a, b uint64) uint64 { return max(a, b) - min(a, b) }
