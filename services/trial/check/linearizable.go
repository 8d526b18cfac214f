package check

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"

	"coatcheck/trial/history"
)

// The bounds of a search. A segment is as short as its cart's versions allow.
const (
	segmentSize = 200     // requests, at least
	maxSteps    = 500_000 // of one segment; each may keep a state
	maxAhead    = 64      // versions
	maxAgain    = 5_000   // requests, of all segments that are searched again as one
	maxDrawings = 3       // of all carts
)

// move is what the search orders: a change, a look at the cart, or both.
type move struct {
	op *op
	// change says that it changes the cart; sure, that it did.
	change, sure bool
	// led is the version a sure change led to, 0 if not known.
	led uint64
	// look says that the cart was seen right after it; at a version if versioned.
	look, versioned bool
	merged          []line // of a log-in: what it brings
	// In a segment, open moves that do the same are of one class, ranked by time
	// sent; of is the move itself.
	class int
	rank  byte
	of    *move
}

// scene is the state of a cart.
type scene struct {
	n     uint64
	lines []line
	// In a search: how many known moves have come, and open ones of each class.
	come int
	uses string
}

// linearizable searches, with Porcupine, for an order of the requests for each
// hot cart in which a single cart that takes one at a time would have given the
// same answers. A request of unknown outcome may come at any time after it was
// sent, or after all others, which is the same as never.
//
// Versions keep the search short: a cart is cut wherever its content at a version
// is known, and an unknown request may only lead to a version that no
// acknowledged add or checkout led to. Not finding out in time is a violation.
func (j *judge) linearizable() {
	for _, f := range j.families {
		if !f.hot {
			continue
		}
		for _, c := range f.carts {
			s := &search{judge: j, cart: c, deadline: time.Now().Add(cmp.Or(j.limits.Search, time.Minute))}
			s.run()
		}
	}
}

type search struct {
	*judge
	cart     *cart
	deadline time.Time
}

// trouble is a segment that has no order, or none that was found in time.
type trouble struct {
	text    string
	late    bool // no order was found in time
	ops     []*op
	drawing []byte
}

// moves are those of the cart: known ones, and those that may have happened. Not
// certain means that a log-in brings what no one can tell for sure.
func (s *search) moves() (known, open []*move, versioned, certain bool) {
	versioned, certain = true, true
	for _, o := range s.cart.ops {
		m := &move{op: o, change: o.change() && o.outcome == history.OK, led: o.led, look: o.shows, versioned: o.saw != (stamp{})}
		m.sure = m.change
		switch {
		case o.merges():
			lines, ok := o.from.content()
			if certain = certain && ok; len(lines) > 0 && o == o.from.leaves[0] {
				open = append(open, &move{op: o, change: true, merged: lines})
			}
			continue
		case o.change() && o.outcome == history.Unknown:
			open = append(open, &move{op: o, change: true})
			continue
		case !m.change && !m.look:
			continue
		}
		if m.change && m.led == 0 && o.saw.mark != absent || m.look && !m.versioned {
			versioned = false
		}
		if m.change && m.look && m.versioned && m.led != o.saw.n { // two moves: what it did, and what was shown
			known = append(known, &move{op: o, look: true, versioned: true})
			m.look = false
		}
		known = append(known, m)
	}
	return known, open, versioned, certain
}

// content is what a guest's cart holds when it leaves, if all is known.
func (c *cart) content() ([]line, bool) {
	now := scene{}
	for _, o := range c.ops {
		if !o.change() || o.outcome == history.Failed {
			continue
		}
		if o.outcome == history.Unknown {
			return nil, false
		}
		now, _ = apply(now, &move{op: o, change: true})
	}
	return now.lines, true
}

// at is the version that a move is to be sorted under.
func (m *move) at() uint64 {
	if m.change {
		return m.led
	}
	return m.op.saw.n
}

func (s *search) run() {
	known, open, versioned, certain := s.moves()
	if !certain {
		s.unsearched++
		return
	}
	s.looked("linearizable", len(known)+len(open))
	var t *trouble
	if versioned {
		slices.SortStableFunc(known, func(a, b *move) int {
			if a.at() == b.at() && a.change != b.change {
				if a.change {
					return -1
				}
				return 1
			}
			return cmp.Compare(a.at(), b.at())
		})
		t = s.cut(known, open)
	} else {
		g := newSegment(scene{}, known, false, true)
		g.open = open
		t, _ = s.solve(g)
	}
	if t != nil {
		s.find("linearizable", s.cart, t.ops, "%s", t.text)
		if n := len(s.findings); n > 0 && s.findings[n-1].Check == "linearizable" {
			s.findings[n-1].Drawing = t.drawing
		}
	}
}

// choice is a segment that took open moves, and might have taken others.
type choice struct {
	from  int
	start scene
	open  []*move // before it
}

// cut searches segment after segment of the known moves, which are by version,
// until one has no order. Then the open moves may have been chosen wrong: it is
// searched again as one with the segments before it, back to the last choice,
// then to the one before that.
func (s *search) cut(known, open []*move) *trouble {
	answered := make([]time.Duration, len(known)+1) // the first answer of this move and those after it
	answered[len(known)] = forever
	for i, m := range slices.Backward(known) {
		answered[i] = min(answered[i+1], m.op.answered)
	}
	var choices []choice
	now := choice{open: open}
	for now.from < len(known) {
		end, next := s.end(known, now)
		for _, m := range known[now.from:end] {
			if m.op.sent > answered[end] {
				i := end + slices.IndexFunc(known[end:], func(other *move) bool { return other.op.answered == answered[end] })
				return &trouble{
					text: fmt.Sprintf("version %d was answered before a request was sent that tells of version %d", known[i].at(), m.at()),
					ops:  []*op{known[i].op, m.op},
				}
			}
		}
		t, used := s.either(now, known[:end])
		for first := t; t != nil; {
			if len(choices) == 0 || end-choices[len(choices)-1].from > maxAgain {
				return first
			}
			now, choices = choices[len(choices)-1], choices[:len(choices)-1]
			t, used = s.either(now, known[:end])
		}
		left := slices.DeleteFunc(slices.Clone(now.open), func(m *move) bool { return used[m] })
		if len(left) < len(now.open) {
			choices = append(choices, now)
		}
		now = choice{end, next, left}
	}
	return nil
}

// end is where to cut next: where the content is known, right before and right
// after versions that no acknowledged change led to, so that these are apart.
func (s *search) end(known []*move, now choice) (int, scene) {
	before, gap := now.start.n, false
	for i := now.from; i < len(known)-1; i++ {
		m, next := known[i], known[i+1].at()
		if n := m.at(); n > before+1 || n == before+1 && !m.change {
			gap = true
		}
		before = m.at()
		if m.look && before != next && (gap || next > before+1 || i-now.from >= segmentSize) {
			return i + 1, scene{n: before, lines: m.op.shown}
		}
	}
	return len(known), scene{}
}

// either searches a segment, first as is most likely: only what was sent shortly
// before may have come, and each set that claims a version has changed something.
func (s *search) either(from choice, known []*move) (t *trouble, used map[*move]bool) {
	for _, likely := range []struct{ recent, strict bool }{{true, true}, {true, false}, {false, true}, {false, false}} {
		g := newSegment(from.start, known[from.from:], true, !likely.strict)
		g.choose(from.open, likely.recent)
		if t, used = s.solve(g); t == nil || len(from.open) == 0 {
			return t, used
		}
	}
	return t, used
}

// solve searches for an order of a segment, and tells which open moves it takes.
func (s *search) solve(g *segment) (*trouble, map[*move]bool) {
	clients := map[int32]int{}
	var ops []porcupine.Operation
	for _, m := range slices.Concat(g.known, g.open) {
		client, ok := clients[m.op.client]
		if !ok {
			client = len(clients)
			clients[m.op.client] = client
		}
		end := m.op.answered
		if m.change && !m.sure {
			end = forever
		}
		ops = append(ops, porcupine.Operation{ClientId: client, Input: m, Call: int64(m.op.sent), Return: int64(end)})
	}
	model := porcupine.Model{
		Init: func() any { return g.start },
		Step: func(state, input, _ any) (bool, any) {
			ok, next := g.step(state.(scene), input.(*move))
			return ok, next
		},
		Equal:             func(a, b any) bool { return a.(scene).equal(b.(scene)) },
		Hash:              func(state any) uint64 { return state.(scene).hash() },
		DescribeOperation: func(input, _ any) string { return s.describe(input.(*move)) },
		DescribeState:     func(state any) string { return fmt.Sprintf("%d: %s", state.(scene).n, s.words(state.(scene).lines)) },
	}
	result, info := porcupine.CheckOperationsVerbose(model, ops, max(time.Nanosecond, time.Until(s.deadline)))
	var longest []porcupine.Operation
	for _, all := range info.PartialLinearizationsOperations() {
		for _, one := range all {
			if len(one) > len(longest) {
				longest = one
			}
		}
	}
	late := result == porcupine.Unknown || g.steps > maxSteps
	if result == porcupine.Ok && !late {
		used, state := map[*move]bool{}, g.start
		for _, o := range longest {
			m := o.Input.(*move)
			_, next := g.step(state, m)
			used[m.of] = m.of != nil && !next.equal(state)
			state = next
		}
		return nil, used
	}
	t := &trouble{late: late}
	if late {
		t.text = fmt.Sprintf("whether %d requests have an order was not found out in time, which counts as a violation", len(ops))
		return t, nil
	}
	placed := map[*move]bool{}
	for _, o := range longest {
		placed[o.Input.(*move)] = true
		t.ops = append(t.ops, o.Input.(*move).op)
	}
	t.ops = slices.Clone(t.ops[max(0, len(t.ops)-maxOps/2):])
	left := 0
	for _, m := range g.known {
		if !placed[m] {
			left++
			t.ops = append(t.ops, m.op)
		}
	}
	t.text = fmt.Sprintf("no order of %d requests, versions %d to %d, explains their answers; the best one leaves %d over", len(ops), g.start.n, g.top, left)
	if s.drawings++; s.drawings <= maxDrawings {
		g.steps = 0
		var page bytes.Buffer
		if err := porcupine.Visualize(model, info, &page); err == nil {
			t.drawing = page.Bytes()
		}
	}
	return t, nil
}

func (s *search) describe(m *move) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", m.op.kind, s.words(m.op.lines))
	switch {
	case m.merged != nil:
		fmt.Fprintf(&b, "of %s", s.words(m.merged))
	case m.change && !m.sure:
		b.WriteString(" → unknown")
	case m.change:
		fmt.Fprintf(&b, " → %d", m.led)
	}
	if m.look {
		fmt.Fprintf(&b, " shows %d: %s", m.op.saw.n, s.words(m.op.shown))
	}
	return b.String()
}

func (s *search) words(lines []line) string {
	var b strings.Builder
	for _, l := range lines {
		fmt.Fprintf(&b, "%s×%d ", s.skus[l.sku], l.n)
	}
	return b.String()
}
