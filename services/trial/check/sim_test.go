package check

import (
	"cmp"
	"container/heap"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"coatcheck/trial/history"
)

const ms = time.Millisecond

// sim is a simulated shop with its customers, in simulated time: requests
// overlap, get lost on the way in or out, come late, are repeated under their
// key, and are answered as the shop's contract has it, unless it has a defect.
type sim struct {
	seed   uint64
	rng    *rand.Rand
	defect string
	emit   func(history.Record)
	until  time.Duration // clients start nothing after this

	now    time.Duration
	events events
	carts  map[string]*simCart
	faults []history.Fault
	orders int
	keys   int
}

type simCart struct {
	incarnation string
	version     uint64
	lines       map[string]int64
	done        map[int]simAnswer // by key
	moved       bool
	orders      []history.Order
	past        []simState // what it was, for shops that forget
}

type simState struct {
	until   time.Duration
	version uint64
	lines   map[string]int64
	orders  []history.Order
}

// simAnswer is what a request is answered.
type simAnswer struct {
	status  int
	code    string
	led     uint64
	orders  []history.Order
	replay  bool
	etag    string
	shown   []history.Line
	nothing bool // it never arrived
}

type simEvent struct {
	at  time.Duration
	seq int
	do  func()
}
type events []simEvent

func (e events) Len() int { return len(e) }
func (e events) Less(i, k int) bool {
	return e[i].at < e[k].at || e[i].at == e[k].at && e[i].seq < e[k].seq
}
func (e events) Swap(i, k int) { e[i], e[k] = e[k], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(simEvent)) }
func (e *events) Pop() any     { old := *e; x := old[len(old)-1]; *e = old[:len(old)-1]; return x }

func (s *sim) after(d time.Duration, do func()) {
	s.keys++
	heap.Push(&s.events, simEvent{s.now + d, s.keys, do})
}

func (s *sim) some(most time.Duration) time.Duration {
	return 1 + time.Duration(s.rng.Int64N(int64(most)))
}
func (s *sim) chance(p float64) bool { return s.rng.Float64() < p }

// simulate runs a shop with so many shoppers and hot carts for a while.
func simulate(seed uint64, defect string, shoppers, hot int, length time.Duration, emit func(history.Record)) {
	s := &sim{seed: seed, rng: rand.New(rand.NewPCG(seed, 7)), defect: defect, emit: emit, until: length, carts: map[string]*simCart{}}
	emit(history.Record{Run: &history.Run{Scenario: "simulated", Seed: seed}})
	longest := []time.Duration{40, 80, 300}[seed%3] * ms
	for at := length / 10; at < length*9/10; at += 40*ms + longest + s.some(60*ms) {
		i := len(s.faults) % 5
		f := history.Fault{
			Kind: []string{"kill", "roll", "kill", "redis-kill", "cut"}[i], Start: at, End: at + 30*ms + s.some(longest),
			Class: []history.Class{history.Hidden, history.Gateway, history.Gateway, history.Outage, history.Outage}[i],
		}
		f.Name = f.Kind
		s.faults = append(s.faults, f)
		s.after(f.Start, func() { s.strike(f) })
		s.after(f.End, func() { emit(history.Record{Fault: &f}) })
	}
	for i := range shoppers {
		c := &simClient{sim: s, name: fmt.Sprintf("s%d", i+1)}
		c.user = c.name + ".u"
		s.after(s.some(5*ms), c.live)
	}
	for h := range hot {
		for i := range 4 {
			c := &simClient{sim: s, name: fmt.Sprintf("h%d.%d", h+1, i+1), user: fmt.Sprintf("hot.%d", h+1), left: -1, empties: i == 0}
			s.after(s.some(5*ms), c.share)
		}
	}
	for len(s.events) > 0 {
		e := heap.Pop(&s.events).(simEvent)
		s.now = e.at
		e.do()
	}
	s.now = max(s.now, length) + time.Second
	for _, name := range slices.Sorted(maps.Keys(s.carts)) {
		for _, kind := range []history.Kind{history.Read, history.Orders} {
			c := &simClient{sim: s, name: "reader"}
			c.do(&history.Op{Kind: kind, Cart: name, Last: true}, func(*history.Op) {})
			for len(s.events) > 0 {
				e := heap.Pop(&s.events).(simEvent)
				s.now = e.at
				e.do()
			}
		}
	}
	emit(history.Record{End: &history.End{At: s.now}})
}

// on is the fault that is on now, nil if none.
func (s *sim) on() *history.Fault {
	i, _ := slices.BinarySearchFunc(s.faults, s.now, func(f history.Fault, at time.Duration) int { return cmp.Compare(f.End, at) })
	if i < len(s.faults) && s.faults[i].Start <= s.now {
		return &s.faults[i]
	}
	return nil
}

// strike is what a fault does to a shop with a defect.
func (s *sim) strike(f history.Fault) {
	for _, name := range slices.Sorted(maps.Keys(s.carts)) {
		c := s.carts[name]
		switch {
		case s.defect == "server memory" && f.Class == history.Hidden && s.chance(0.5),
			s.defect == "eviction" && s.chance(0.1):
			delete(s.carts, name)
		case s.defect == "everysec" && f.Kind == "redis-kill":
			for _, p := range c.past {
				if p.until > s.now-30*ms {
					c.version, c.lines, c.orders = p.version, maps.Clone(p.lines), slices.Clone(p.orders)
					break
				}
			}
		}
	}
}

func (s *sim) cart(name string) *simCart {
	c := s.carts[name]
	if c == nil {
		s.keys++
		c = &simCart{incarnation: fmt.Sprintf("i%d", s.keys), lines: map[string]int64{}, done: map[int]simAnswer{}}
		s.carts[name] = c
	}
	return c
}

// put makes a change.
func (s *sim) put(c *simCart, version uint64, lines map[string]int64) {
	if s.defect == "everysec" || s.defect == "stale readings" {
		c.past = append(c.past, simState{s.now, c.version, c.lines, slices.Clone(c.orders)})
	}
	if s.defect == "version used again" && s.chance(0.05) {
		version = max(1, version-1)
	}
	c.version, c.lines = version, lines
}

func (c *simCart) show(a simAnswer) simAnswer {
	a.etag = fmt.Sprintf(`"%s.%d.r"`, c.incarnation, c.version)
	if c.version == 0 {
		a.etag = `"0.0.r"`
	}
	a.shown = []history.Line{}
	for _, sku := range slices.Sorted(maps.Keys(c.lines)) {
		a.shown = append(a.shown, history.Line{SKU: sku, Quantity: c.lines[sku]})
	}
	return a
}

// apply is the shop: it does what is asked and answers.
func (s *sim) apply(op *history.Op, key int) simAnswer {
	c := s.cart(op.Cart)
	switch op.Kind {
	case history.Read:
		if c.moved {
			return simAnswer{status: 409, code: "cart_moved"}
		}
		if s.defect == "key dropped" && s.chance(0.05) {
			return simAnswer{status: 401, code: "invalid_session"}
		}
		if s.defect == "stale readings" && !op.Last && s.chance(0.3) {
			for _, p := range c.past {
				if p.until > s.now-20*ms {
					return (&simCart{incarnation: c.incarnation, version: p.version, lines: p.lines}).show(simAnswer{status: 200, led: p.version})
				}
			}
		}
		if s.defect == "another's cart" && s.chance(0.05) {
			for _, name := range slices.Sorted(maps.Keys(s.carts)) {
				if other := s.carts[name]; len(other.lines) > 0 && s.chance(0.2) {
					c = other
				}
			}
		}
		return c.show(simAnswer{status: 200, led: c.version})
	case history.Orders:
		return simAnswer{status: 200, orders: slices.Clone(c.orders)}
	case history.LogOut:
		return simAnswer{status: 204}
	case history.Probe:
		if s.defect == "token after log-out" {
			return simAnswer{status: 200}
		}
		return simAnswer{status: 401, code: "invalid_session"}
	case history.LogIn:
		s.merge(c, s.cart(op.From))
		return simAnswer{status: 201}
	}
	if first, ok := c.done[key]; ok && s.defect != "no idempotency" {
		if first.replay = true; first.status == 200 {
			first = c.show(first)
		}
		return first
	}
	if c.moved {
		return simAnswer{status: 409, code: "cart_moved"}
	}
	a := s.change(c, op, key)
	c.done[key] = a
	return a
}

func (s *sim) change(c *simCart, op *history.Op, key int) simAnswer {
	if op.IfMatch != "" && op.IfMatch != c.show(simAnswer{}).etag {
		return c.show(simAnswer{status: 412, code: "stale_version"})
	}
	lines, version := maps.Clone(c.lines), c.version+1
	switch op.Kind {
	case history.Add:
		for _, l := range op.Lines {
			lines[l.SKU] += l.Quantity
		}
	case history.Set, history.CondSet:
		lines[op.Lines[0].SKU] = op.Lines[0].Quantity
	case history.Remove:
		delete(lines, op.Lines[0].SKU)
	case history.Checkout:
		s.orders++
		order := history.Order{ID: fmt.Sprintf("o%d", s.orders), Lines: c.show(simAnswer{}).shown}
		if len(order.Lines) == 0 {
			return simAnswer{status: 422, code: "cart_empty"}
		}
		if s.defect == "checkout clears" {
			c.orders = append(c.orders, order)
			s.after(s.some(12*ms), func() { s.put(c, c.version+1, map[string]int64{}) })
		} else {
			s.put(c, version, map[string]int64{})
			c.orders = append(c.orders, order)
		}
		return simAnswer{status: 201, orders: []history.Order{order}}
	}
	if maps.Equal(lines, c.lines) {
		return c.show(simAnswer{status: 200, led: c.version})
	}
	if s.defect == "read-modify-write" {
		s.after(s.some(ms), func() { s.put(c, version, lines) })
		return (&simCart{incarnation: c.incarnation, version: version, lines: lines}).show(simAnswer{status: 200, led: version})
	}
	s.put(c, version, lines)
	return c.show(simAnswer{status: 200, led: c.version})
}

func (s *sim) merge(user, guest *simCart) {
	if guest.moved || len(guest.lines) == 0 {
		guest.moved = true
		return
	}
	brought := guest.lines
	guest.moved, guest.lines = true, map[string]int64{}
	into := func() {
		lines := maps.Clone(user.lines)
		for sku, n := range brought {
			lines[sku] += n
		}
		s.put(user, user.version+1, lines)
	}
	if s.defect == "merge lost" && s.chance(0.3) {
		return
	}
	into()
	if s.defect == "merge repeated" && s.chance(0.3) {
		s.after(s.some(20*ms), into)
	}
}

// simClient does one request at a time.
type simClient struct {
	*sim
	name, user string
	guests     int
	left       int    // requests until log-in or check-out
	etag       string // last seen
	used       int    // unique products
	empties    bool
}

// do makes a logical request, up to three attempts 15 ms apart.
func (c *simClient) do(op *history.Op, then func(*history.Op)) {
	c.keys++
	op.Client, op.Sent, op.Outcome = c.name, c.now, history.Unknown
	c.attempt(op, c.keys, false, then)
}

func (c *simClient) attempt(op *history.Op, key int, doubt bool, then func(*history.Op)) {
	sent := c.now
	end := func(a simAnswer, code string) {
		op.Answered, op.Status, op.Code = c.now, a.status, cmp.Or(a.code, code)
		op.Attempts = append(op.Attempts, history.Attempt{Sent: sent, Answered: c.now, Status: a.status, Code: op.Code, RetryAfter: a.status == 503})
		switch {
		case a.status >= 200 && a.status < 300:
			op.Outcome = history.OK
		case a.status >= 400 && a.status < 500:
			op.Outcome = history.Failed
			if doubt && a.code == "cart_moved" && op.Kind != history.Read {
				op.Outcome = history.Unknown
			}
		default:
			doubt = doubt || a.status != 503
			if len(op.Attempts) < 3 {
				c.after(max(0, sent+15*ms-c.now), func() { c.attempt(op, key, doubt, then) })
				return
			}
			if !doubt {
				op.Outcome = history.Failed
			}
		}
		op.Version, op.ETag, op.Shown, op.Ordered, op.Replayed = a.led, a.etag, a.shown, a.orders, a.replay
		if a.etag != "" {
			c.etag = a.etag
		}
		c.emit(history.Record{Op: op})
		then(op)
	}
	arrives := func(d time.Duration, answer func(simAnswer)) {
		c.after(d, func() { answer(c.apply(op, key)) })
	}
	f, trouble := c.on(), c.rng.IntN(5+int(c.seed%4))
	struck := f != nil && (f.Class == history.Outage || f.Class == history.Gateway && f.Kind == "kill" && (len(op.Attempts) == 0 || c.defect == "no retry budget")) ||
		f != nil && c.defect == "no drain"
	switch {
	case struck && trouble == 0: // it never arrives
		c.after(c.some(20*ms), func() { end(simAnswer{}, "reset") })
	case struck && trouble <= 2: // the answer gets lost
		arrives(c.some(2*ms), func(simAnswer) {})
		c.after(2*ms+c.some(20*ms), func() { end(simAnswer{}, "timeout") })
	case struck && trouble == 3: // it comes late
		arrives(c.some(200*ms), func(simAnswer) {})
		c.after(c.some(20*ms), func() { end(simAnswer{}, "timeout") })
	case struck && trouble == 4: // it is refused
		c.after(c.some(ms), func() { end(simAnswer{status: 503, code: "overloaded"}, "") })
	default:
		arrives(c.some(2*ms), func(a simAnswer) { c.after(c.some(2*ms), func() { end(a, "") }) })
	}
}

// next does something after a short rest, unless it is time to go.
func (c *simClient) next(do func()) {
	if c.now < c.until {
		c.after(c.some(4*ms), do)
	}
}

func (c *simClient) add(cart string, then func(*history.Op)) {
	op := &history.Op{Kind: history.Add, Cart: cart}
	if op.Unique = c.chance(0.5); op.Unique {
		c.used++
		op.Lines = []history.Line{{SKU: fmt.Sprintf("%s-u%d", c.name, c.used), Quantity: 1}}
		if c.left >= 0 {
			op.Lines[0].SKU = fmt.Sprintf("%s-u%d", c.name, c.used%60)
		}
	} else {
		for n := range 1 + c.rng.IntN(2) {
			op.Lines = append(op.Lines, history.Line{SKU: fmt.Sprintf("often%d", 2*c.rng.IntN(3)+n), Quantity: 1 + c.rng.Int64N(3)})
		}
	}
	c.do(op, then)
}

// change makes some request for the cart.
func (c *simClient) change(cart string, then func(*history.Op)) {
	kept := []history.Line{{SKU: fmt.Sprintf("kept%d", c.rng.IntN(2)), Quantity: 1 + c.rng.Int64N(5)}}
	switch n := c.rng.IntN(10); {
	case n < 5:
		c.add(cart, then)
	case n == 5:
		c.do(&history.Op{Kind: history.Set, Cart: cart, Lines: kept}, then)
	case n == 6:
		c.do(&history.Op{Kind: history.CondSet, Cart: cart, Lines: kept, IfMatch: c.etag}, then)
	case n == 7:
		kept[0].Quantity = 0
		c.do(&history.Op{Kind: history.Remove, Cart: cart, Lines: kept}, then)
	case n == 8:
		c.do(&history.Op{Kind: history.Add, Cart: cart, Lines: kept}, then)
	default:
		c.do(&history.Op{Kind: history.Read, Cart: cart}, then)
	}
}

// live is a shopper's life: a guest, then a user.
func (c *simClient) live() {
	c.guests++
	guest := fmt.Sprintf("%s.g%d", c.name, c.guests)
	c.left = 3 + c.rng.IntN(4)
	c.do(&history.Op{Kind: history.Read, Cart: guest}, func(*history.Op) { c.next(func() { c.browse(guest) }) })
}

func (c *simClient) browse(guest string) {
	if c.left--; c.left < 0 {
		c.left = 0
		c.logIn(guest)
		return
	}
	c.change(guest, func(op *history.Op) {
		if op.Code == "cart_moved" {
			c.next(func() { c.logIn(fmt.Sprintf("%s.n%d", c.name, c.guests)) }) // the shop gave it a new ticket
			return
		}
		c.next(func() { c.browse(guest) })
	})
}

func (c *simClient) logIn(guest string) {
	c.do(&history.Op{Kind: history.LogIn, Cart: c.user, From: guest}, func(op *history.Op) {
		switch {
		case op.Outcome == history.OK:
			c.left = 3 + c.rng.IntN(4)
			c.next(func() { c.do(&history.Op{Kind: history.Read, Cart: c.user}, func(*history.Op) { c.next(c.shop) }) })
		case c.chance(0.5):
			c.left = 2
			c.next(func() { c.browse(guest) })
		default:
			c.next(c.live) // gives the guest up
		}
	})
}

func (c *simClient) shop() {
	if c.left--; c.left >= 0 {
		c.change(c.user, func(*history.Op) { c.next(c.shop) })
		return
	}
	c.left = 0
	c.do(&history.Op{Kind: history.Checkout, Cart: c.user, IfMatch: c.etag}, func(*history.Op) {
		c.next(func() {
			c.do(&history.Op{Kind: history.LogOut, Cart: c.user}, func(op *history.Op) {
				if op.Outcome != history.OK {
					c.next(c.live)
					return
				}
				c.next(func() { c.do(&history.Op{Kind: history.Probe, Cart: c.user}, func(*history.Op) { c.next(c.live) }) })
			})
		})
	})
}

// share is what a client of a hot cart does.
func (c *simClient) share() {
	then := func(*history.Op) { c.next(c.share) }
	if c.empties && c.etag != "" && c.chance(0.15) {
		c.do(&history.Op{Kind: history.Checkout, Cart: c.user, IfMatch: c.etag}, then)
		return
	}
	c.change(c.user, then)
}
