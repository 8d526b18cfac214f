package check

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"coatcheck/trial/history"
)

// amount is a quantity that is known within bounds.
type amount struct{ lo, hi int64 }

// guess is what a cart with one client at a time may hold.
type guess struct {
	// sure is by what was acknowledged or seen.
	sure map[sku]amount
	// adds and sets are of unknown outcome: they may come at any time, or never.
	adds map[sku]int64
	sets map[sku]amount
	// taken: a checkout of unknown outcome may take all, while the cart is at
	// the version that it names.
	taken   bool
	takenAt uint64
	// left: an unanswered log-in may have moved the cart.
	left bool
	// coming are guests' carts that an unanswered log-in may bring at any time,
	// and whether the cart was seen since.
	coming map[*cart]bool
	// arrived are the carts that acknowledged log-ins brought.
	arrived []*arrival
}

// arrival is a merge.
type arrival struct {
	logIn *op
	lines map[sku]amount
	seen  bool // the cart was seen since
}

// add adds a known change of quantity.
func (g *guess) add(s sku, by amount) {
	g.sure[s] = amount{g.sure[s].lo + by.lo, g.sure[s].hi + by.hi}
	if later, ok := g.sets[s]; ok {
		later.hi += by.hi
		g.sets[s] = later
	}
}

// of is what the cart may hold of the SKU, if it has not moved.
func (g *guess) of(s sku) amount {
	a := g.sure[s]
	if later, ok := g.sets[s]; ok {
		a = amount{min(a.lo, later.lo), max(a.hi, later.hi)}
	}
	if a.hi += g.adds[s]; g.taken {
		a.lo = 0
	}
	return a
}

// all is what a guest's cart may hold.
func (g *guess) all() map[sku]amount {
	lines := map[sku]amount{}
	for _, known := range []map[sku]amount{g.sure, g.sets} {
		for s := range known {
			lines[s] = g.of(s)
		}
	}
	for s := range g.adds {
		lines[s] = g.of(s)
	}
	return lines
}

// follow goes through the requests for each cart that has one client at a time,
// and keeps what it may hold: everything shown, and every order, must lie
// within. What is seen becomes what is sure. Hot carts are not for this check.
func (j *judge) follow() {
	for _, f := range j.families {
		if f.hot {
			continue
		}
		w := &walk{judge: j, overwritten: f.overwritten(), guesses: map[*cart]*guess{}}
		for _, o := range f.ops {
			w.step(o)
		}
	}
}

type walk struct {
	*judge
	overwritten map[sku]bool
	guesses     map[*cart]*guess
}

func (w *walk) guess(c *cart) *guess {
	g := w.guesses[c]
	if g == nil {
		g = &guess{sure: map[sku]amount{}, adds: map[sku]int64{}, sets: map[sku]amount{}, coming: map[*cart]bool{}}
		w.guesses[c] = g
	}
	return g
}

func (w *walk) step(o *op) {
	if o.kind == history.LogIn {
		if o.merges() {
			w.logIn(o)
		}
		return
	}
	if !o.change() && o.kind != history.Read {
		return
	}
	g := w.guess(o.cart)
	switch {
	case o.outcome == history.Failed:
	case o.kind == history.Checkout && o.outcome == history.OK:
		if len(o.orders) > 0 {
			w.compare(g, o, o.orders[0].lines, "was ordered")
		}
		clear(g.sure)
	case o.kind == history.Checkout:
		g.taken, g.takenAt = true, max(g.takenAt, o.named.n)
	case o.change():
		for _, l := range o.lines {
			n := int64(l.n)
			if o.kind == history.Remove {
				n = 0
			}
			later, ok := g.sets[l.sku]
			switch {
			case o.kind == history.Add && o.outcome == history.OK:
				g.add(l.sku, amount{n, n})
			case o.kind == history.Add:
				g.adds[l.sku] += n
			case o.outcome == history.OK:
				g.sure[l.sku] = amount{n, n}
			case ok:
				g.sets[l.sku] = amount{min(later.lo, n), max(later.hi, n)}
			default:
				g.sets[l.sku] = amount{n, n}
			}
		}
	}
	if o.shows && !(g.left && len(o.shown) == 0) { // else it has moved, which tells nothing of what it held
		w.compare(g, o, o.shown, "is shown")
		if o.saw.n > g.takenAt {
			g.taken = false
		}
	}
}

func (w *walk) logIn(o *op) {
	user, guest := w.guess(o.cart), w.guess(o.from)
	if o.outcome == history.Unknown {
		guest.left = true
		if _, ok := user.coming[o.from]; !ok {
			user.coming[o.from] = false
		}
		return
	}
	lines := guest.all()
	for s, a := range lines {
		if user.coming[o.from] {
			// It may have come at the log-in before, and been seen.
			user.adds[s] += a.hi
		} else {
			user.add(s, a)
		}
	}
	if !user.coming[o.from] {
		user.arrived = append(user.arrived, &arrival{logIn: o, lines: lines})
	}
	delete(user.coming, o.from)
	delete(w.guesses, o.from)
}

// off is a quantity out of bounds.
type off struct {
	sku     sku
	n       int64
	allowed amount
}

// compare judges a cart that was seen, and makes it what is sure.
func (w *walk) compare(g *guess, o *op, shown []line, how string) {
	var wrong []off
	look := func(s sku, n int64) {
		a := g.of(s)
		if g.left {
			a.lo = 0
		}
		for guest := range g.coming {
			a.hi += w.guess(guest).of(s).hi
		}
		if n < a.lo || n > a.hi {
			wrong = append(wrong, off{s, n, a})
		}
		if _, open := g.sets[s]; !open && n > g.sure[s].hi {
			// Only an unknown add can be the reason, and each comes once.
			g.adds[s] = max(0, g.adds[s]-(n-g.sure[s].hi))
		}
	}
	for _, l := range shown {
		look(l.sku, int64(l.n))
	}
	for _, s := range slices.Sorted(maps.Keys(g.sure)) {
		if quantity(shown, s) == 0 {
			look(s, 0)
		}
	}
	w.looked("bounds", len(shown))
	w.blame(g, o, wrong, how)
	clear(g.sure)
	for _, l := range shown {
		g.sure[l.sku] = amount{int64(l.n), int64(l.n)}
	}
	for guest := range g.coming {
		g.coming[guest] = true
	}
}

// blame decides whether a merge or another change is at fault.
func (w *walk) blame(g *guess, o *op, wrong []off, how string) {
	for _, a := range g.arrived {
		var texts []string
		rest := wrong[:0:0]
		for _, x := range wrong {
			lines, merged := a.lines[x.sku]
			excess := x.n - x.allowed.hi
			if !merged || a.seen && (excess <= 0 || excess < lines.lo || excess > lines.hi) {
				rest = append(rest, x)
				continue
			}
			texts = append(texts, w.tell("merges", o, x))
		}
		if !a.seen && slices.ContainsFunc(slices.Collect(maps.Values(a.lines)), func(l amount) bool { return l.lo > 0 }) {
			w.looked("merges", 1)
		}
		if a.seen = true; len(texts) > 0 {
			w.find("merges", o.cart, []*op{a.logIn, o}, "after the log-in that moved %s here %s %s", a.logIn.from.name, how, strings.Join(texts, ", "))
		}
		wrong = rest
	}
	var texts []string
	for _, x := range wrong {
		texts = append(texts, w.tell("bounds", o, x))
	}
	if len(texts) > 0 {
		w.find("bounds", o.cart, w.before(o), "%s %s", how, strings.Join(texts, ", "))
	}
}

// tell words what is wrong and counts it, unless sums does.
func (w *walk) tell(check string, o *op, x off) string {
	if w.overwritten[x.sku] || !o.cart.family.whole {
		key := fmt.Sprintf("%s %d %d", o.cart.name, x.sku, o.at)
		if x.n < x.allowed.lo {
			w.lose(check, key)
		} else {
			w.double(check, key)
		}
	}
	bounds := fmt.Sprintf("%d to %d", x.allowed.lo, x.allowed.hi)
	if x.allowed.lo == x.allowed.hi {
		bounds = fmt.Sprint(x.allowed.lo)
	}
	return fmt.Sprintf("%s: %d instead of %s", w.skus[x.sku], x.n, bounds)
}

// before are the last requests for o's family up to o.
func (w *walk) before(o *op) []*op {
	ops := o.cart.family.ops
	end := slices.Index(ops, o) + 1
	return ops[max(0, end-maxOps):end]
}
