package check

import (
	"cmp"
	"fmt"
	"iter"
	"math"
	"slices"
	"strings"
	"time"

	"coatcheck/trial/history"
)

// segment is a stretch of a hot cart's history, and the model of a cart that it
// is searched with.
type segment struct {
	start scene
	known []*move
	open  []*move
	// versioned: the versions of all known moves are known, and top is the last.
	versioned bool
	top       uint64
	// changes are the sure ones by the version that they led to, seen the
	// contents that are known, by version.
	changes map[uint64][]*move
	seen    []scene
	// What open moves can do: put a SKU in, lower its quantity, change so many
	// SKUs at once, or empty the cart at a version.
	raises, lowers map[sku]bool
	widest         int
	empties        map[uint64]bool
	// classes number the open moves that do the same.
	classes int
	// loose: an open move may also lead to a version that a set claims, which
	// then changed nothing.
	loose bool
	steps int
}

func newSegment(start scene, known []*move, versioned, loose bool) *segment {
	g := &segment{
		start: start, known: known, versioned: versioned, loose: loose, top: start.n,
		changes: map[uint64][]*move{}, empties: map[uint64]bool{}, raises: map[sku]bool{}, lowers: map[sku]bool{},
	}
	if !versioned {
		return g
	}
	for _, m := range known {
		g.top = max(g.top, m.at())
		if m.change {
			g.changes[m.led] = append(g.changes[m.led], m)
		}
		if m.look && (len(g.seen) == 0 || g.seen[len(g.seen)-1].n != m.op.saw.n) {
			g.seen = append(g.seen, scene{n: m.op.saw.n, lines: m.op.shown})
		}
	}
	return g
}

// choose takes the open moves, which are by time sent, that the segment may have
// room for, or only the last of them.
func (g *segment) choose(open []*move, recent bool) {
	room := g.top - g.start.n
	for n := range g.changes {
		if n > g.start.n && g.taken(n) {
			room--
		}
	}
	if room == 0 {
		return
	}
	until := time.Duration(0)
	for _, m := range g.known {
		until = max(until, m.op.answered)
	}
	var may []*move
	for _, m := range open {
		if m.op.sent <= until && (!m.conditional() || m.op.named.n >= g.start.n && m.op.named.n < g.top) {
			may = append(may, m)
		}
	}
	if few := int(min(4+2*room, math.MaxInt32)); recent && len(may) > few {
		may = may[len(may)-few:]
	}
	type class struct{ number, size int }
	classes := map[string]*class{}
	for _, m := range may {
		key := fmt.Sprint(m.op.kind, m.op.lines, m.merged, m.op.named.n)
		c := classes[key]
		if c == nil || c.size == math.MaxUint8 {
			c = &class{number: g.classes}
			g.classes++
			classes[key] = c
		}
		g.open = append(g.open, &move{op: m.op, change: true, merged: m.merged, class: c.number, rank: byte(c.size), of: m})
		c.size++
		g.widest = max(g.widest, len(m.op.lines), len(m.merged))
		for _, l := range slices.Concat(m.op.lines, m.merged) {
			g.raises[l.sku] = g.raises[l.sku] || m.op.kind != history.Remove
			g.lowers[l.sku] = g.lowers[l.sku] || m.op.sets()
		}
		if m.op.kind == history.Checkout {
			g.empties[m.op.named.n] = true
		}
	}
	g.start.uses = strings.Repeat("\x00", g.classes)
}

func (m *move) conditional() bool { return m.op.named.mark != unmarked }

// taken tells whether an acknowledged change led to the version, for sure if loose.
func (g *segment) taken(n uint64) bool {
	return slices.ContainsFunc(g.changes[n], func(m *move) bool { return !g.loose || !m.op.sets() })
}

// step is the model: whether the move can come next, and what it leads to.
func (g *segment) step(now scene, m *move) (bool, scene) {
	if g.steps++; g.steps > maxSteps {
		return false, now
	}
	if m.change && !m.sure {
		if now.come == len(g.known) {
			return true, now // after all others: nobody can tell
		}
		next, refused := apply(now, m)
		if !g.versioned {
			return true, next
		}
		// Of those that do the same the first sent comes first: nobody can tell.
		if refused || next.n == now.n || g.taken(next.n) || next.n > g.top || now.uses[m.class] != m.rank || !g.fits(next) {
			return false, now
		}
		uses := []byte(now.uses)
		uses[m.class]++
		next.uses = string(uses)
		return true, next
	}
	next := now
	if m.change {
		var refused bool
		if next, refused = apply(now, m); refused || m.led != 0 && next.n != m.led {
			return false, now
		}
	}
	if m.look && (m.versioned && m.op.saw.n != next.n || !slices.Equal(m.op.shown, next.lines)) {
		return false, now
	}
	next.come++
	return true, next
}

// fits looks ahead from where an open move has led to the next content that is
// known: what the known changes between do not make of it, there must be other
// open moves for. Without this, which of many unknown requests came would be
// guessed, one combination after the other.
func (g *segment) fits(next scene) bool {
	i, _ := slices.BinarySearchFunc(g.seen, next.n, func(s scene, n uint64) int { return cmp.Compare(s.n, n) })
	if i == len(g.seen) || g.seen[i].n-next.n > maxAhead {
		return true
	}
	content, others := g.seen[i], 0
	for n := next.n + 1; n <= content.n; n++ {
		changes := g.changes[n]
		if !g.taken(n) && g.empties[n-1] {
			return true
		}
		if len(changes) == 0 {
			others++
			continue
		}
		lines := next
		for _, m := range changes {
			if lines = effect(lines, m); lines.n != next.n {
				break
			}
		}
		next.lines = lines.lines // if none of them did anything, an open move led to this version
		if lines.n == next.n {
			others++
		}
	}
	others *= g.widest
	for s, raise := range differences(next.lines, content.lines) {
		if raise && !g.raises[s] || !raise && !g.lowers[s] {
			return false
		}
		if others--; others < 0 {
			return false
		}
	}
	return true
}

// differences are the SKUs of which there is not the same, and whether b has more.
func differences(a, b []line) iter.Seq2[sku, bool] {
	return func(yield func(sku, bool) bool) {
		for len(a) > 0 || len(b) > 0 {
			s, raise := sku(0), false
			switch {
			case len(b) == 0 || len(a) > 0 && a[0].sku < b[0].sku:
				s, a = a[0].sku, a[1:]
			case len(a) == 0 || a[0].sku > b[0].sku:
				s, raise, b = b[0].sku, true, b[1:]
			case a[0].n == b[0].n:
				a, b = a[1:], b[1:]
				continue
			default:
				s, raise, a, b = a[0].sku, a[0].n < b[0].n, a[1:], b[1:]
			}
			if !yield(s, raise) {
				return
			}
		}
	}
}

// apply is what a change does to a cart, or that it is refused.
func apply(now scene, m *move) (next scene, refused bool) {
	o := m.op
	if m.conditional() && o.named.n != now.n {
		return now, true
	}
	next = effect(now, m)
	switch o.kind {
	case history.LogIn:
		refused = len(m.merged) == 0
	case history.Checkout:
		refused = len(now.lines) == 0 || len(o.orders) > 0 && !slices.Equal(o.orders[0].lines, now.lines)
	}
	return next, refused
}

// effect is what a change does if it is not refused.
func effect(now scene, m *move) scene {
	o := m.op
	switch o.kind {
	case history.LogIn:
		return now.plus(m.merged)
	case history.Add:
		return now.plus(o.lines)
	case history.Checkout:
		return scene{now.n + 1, nil, now.come, now.uses}
	}
	want := o.lines[0]
	if o.kind == history.Remove {
		want.n = 0
	}
	if quantity(now.lines, want.sku) == int64(want.n) {
		return now
	}
	lines := make([]line, 0, len(now.lines)+1)
	for _, l := range now.lines {
		if l.sku != want.sku {
			lines = append(lines, l)
		}
	}
	if want.n != 0 {
		i, _ := slices.BinarySearchFunc(lines, want.sku, func(l line, s sku) int { return cmp.Compare(l.sku, s) })
		lines = slices.Insert(lines, i, want)
	}
	return scene{now.n + 1, lines, now.come, now.uses}
}

// plus is the cart with more in it, one version on. Both are by SKU.
func (s scene) plus(more []line) scene {
	lines := make([]line, 0, len(s.lines)+len(more))
	a, b := s.lines, more
	for len(a) > 0 && len(b) > 0 {
		switch {
		case a[0].sku < b[0].sku:
			lines, a = append(lines, a[0]), a[1:]
		case a[0].sku > b[0].sku:
			lines, b = append(lines, b[0]), b[1:]
		default:
			lines = append(lines, line{a[0].sku, a[0].n + b[0].n})
			a, b = a[1:], b[1:]
		}
	}
	return scene{s.n + 1, append(append(lines, a...), b...), s.come, s.uses}
}

func (s scene) equal(other scene) bool { return s.n == other.n && slices.Equal(s.lines, other.lines) }

func (s scene) hash() uint64 {
	const prime = 1099511628211
	h := (14695981039346656037 ^ s.n) * prime
	for _, l := range s.lines {
		h = (h ^ uint64(uint32(l.sku))) * prime
		h = (h ^ uint64(uint32(l.n))) * prime
	}
	return h
}
