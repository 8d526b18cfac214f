package check

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"coatcheck/trial/history"
)

// tape is a history in memory, in about 300 bytes a request.
type tape struct {
	run    *history.Run
	end    *history.End
	faults []history.Fault // by start
	// outages, gateways and hiddens are when faults of each class were on,
	// without settling time.
	outages, gateways, hiddens []span
	// ending are those of gateways that end in order, breaking the others.
	ending, breaking []span

	pods   []history.Pods            // by time
	served map[string]map[second]int // answers that each cart replica gave

	ops      []*op // in the order of the file
	carts    []*cart
	families []*family
	skus     []string // by number
	numbers  map[string]sku
	names    map[string]*cart
	words    map[string]string // one copy of each
	marks    map[string]mark   // incarnations
	clients  map[string]int32  // numbers
	spare    []line            // to cut lines from
	common   rare              // always empty
}

// sku is a product, by number.
type sku int32

// second of a trial.
type second int32

type line struct {
	sku sku
	n   int32
}

// mark is an incarnation, by number.
type mark int32

const (
	unmarked mark = 0 // no ETag
	absent   mark = 1 // "0": there is no cart
)

// stamp is a version as an ETag names it.
type stamp struct {
	mark mark
	n    uint64
}

// op is a logical request.
type op struct {
	at             int32 // among the file's ops
	client         int32 // by number
	cart           *cart
	kind           history.Kind
	outcome        history.Outcome
	sent, answered time.Duration
	lines          []line // by SKU
	shown          []line // by SKU: the cart that came with the answer, whatever the outcome, if shows
	// led is the version that an acknowledged change led to, 0 if not known.
	led uint64
	// saw is the version of the cart that came with the answer.
	saw          stamp
	status       int16
	shows        bool
	unique, last bool
	replayed     bool
	alone        bool // on a connection of its own
	newGuest     bool // whoever sent it was taken for a new guest
	*rare
}

// rare is what few requests have; the others share an empty one.
type rare struct {
	from   *cart
	code   string
	named  stamp // If-Match
	orders []order
	// attempts are nil if there was one, and it was answered with less than 500.
	attempts []attempt
}

type order struct {
	id    string
	lines []line
}

type attempt struct {
	sent, answered time.Duration
	status         int16
	broke          bool // the connection did, and nothing had come
	retryAfter     bool // the answer said when to try again
}

func (a attempt) failed() bool { return a.status == 0 || a.status >= 500 }

// change tells whether the request is one that changes a cart's lines, log-in apart.
func (o *op) change() bool {
	switch o.kind {
	case history.Add, history.Set, history.CondSet, history.Remove, history.Checkout:
		return true
	}
	return false
}

// sets tells whether it overwrites a quantity.
func (o *op) sets() bool {
	return o.kind == history.Set || o.kind == history.CondSet || o.kind == history.Remove
}

// merges tells whether it is a log-in that brings a cart, and may have had an effect.
func (o *op) merges() bool {
	return o.kind == history.LogIn && o.from != nil && o.outcome != history.Failed
}

func (o *op) retried() bool { return len(o.attempts) > 1 }

// failed tells whether the request ended without success or a refusal. That a
// session or a password is not known is no refusal: who is asked for it has not
// logged out.
func (o *op) failed() bool {
	return o.outcome == history.Unknown || o.outcome == history.Failed && (o.status < 400 || o.status >= 500) ||
		len(o.attempts) > maxAttempts && !o.last ||
		o.outcome == history.Failed && o.kind != history.Probe && o.kind != history.Reuse && slices.Contains(notLoggedIn, o.code)
}

// notLoggedIn are the codes that who has not logged out must not be answered.
var notLoggedIn = []string{"invalid_session", "wrong_credentials", "invalid_token", "invalid_grant"}

// cart is all of one cart.
type cart struct {
	name   string
	family *family
	ops    []*op // with Cart this one, by time sent
	leaves []*op // log-ins From this one that may have had an effect, by time sent
	final  *op   // the last reading of the cart that told what is in it, or that it has moved
	list   *op   // the last reading of its owner's orders
	// bought are the owner's orders: those of the list, or if it was not read,
	// those that were answered.
	bought []bought
}

// bought is an order with the acknowledged checkout that answered it; nil if
// none did.
type bought struct {
	order
	by *op
}

// moved tells whether an acknowledged log-in has moved the cart.
func (c *cart) moved() bool {
	return slices.ContainsFunc(c.leaves, func(o *op) bool { return o.outcome == history.OK })
}

// filled tells whether there may ever have been something in the cart.
func (c *cart) filled() bool {
	return slices.ContainsFunc(c.ops, func(o *op) bool { return (o.change() || o.merges()) && o.outcome != history.Failed })
}

// family is a user's cart with those of the guests that log-ins moved, or may
// have moved, into it.
type family struct {
	carts []*cart
	ops   []*op // by time sent
	// hot tells whether requests for these carts overlap.
	hot bool
	// whole tells whether all that is there at the end was read.
	whole bool
}

func load(records scan) (*tape, error) {
	t := &tape{
		numbers: map[string]sku{}, names: map[string]*cart{}, words: map[string]string{},
		marks: map[string]mark{"": unmarked, "0": absent}, clients: map[string]int32{}, served: map[string]map[second]int{},
	}
	err := records(func(r history.Record) error {
		switch {
		case r.Run != nil:
			t.run = r.Run
		case r.End != nil:
			t.end = r.End
		case r.Fault != nil:
			f := *r.Fault
			f.End = max(f.End, f.Start)
			t.faults = append(t.faults, f)
		case r.Pods != nil:
			t.pods = append(t.pods, *r.Pods)
		case r.Op != nil:
			t.add(r.Op)
			t.count(r.Op)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(t.faults, func(a, b history.Fault) int { return cmp.Compare(a.Start, b.Start) })
	for _, f := range t.faults {
		switch f.Class {
		case history.Hidden:
			t.hiddens = append(t.hiddens, span{f.Start, f.End})
		case history.Gateway:
			t.gateways = append(t.gateways, span{f.Start, f.End})
			if graceful(f) {
				t.ending = append(t.ending, span{f.Start, f.End})
			} else {
				t.breaking = append(t.breaking, span{f.Start, f.End})
			}
		default:
			t.outages = append(t.outages, span{f.Start, f.End})
		}
	}
	t.relate()
	return t, nil
}

func (t *tape) add(h *history.Op) {
	o := &op{
		at: int32(len(t.ops)), client: t.client(h.Client), cart: t.cart(h.Cart),
		kind: history.Kind(t.word(string(h.Kind))), outcome: history.Outcome(t.word(string(h.Outcome))),
		sent: h.Sent, answered: h.Answered, lines: t.lines(h.Lines), shown: t.lines(h.Shown),
		led: h.Version, saw: t.stamp(h.ETag), status: int16(h.Status),
		shows: h.Shown != nil, unique: h.Unique, last: h.Last, replayed: h.Replayed, alone: h.Protocol == "new-connection", newGuest: h.NewGuest, rare: &t.common,
	}
	again := len(h.Attempts) > 1 || len(h.Attempts) == 1 && (h.Attempts[0].Status == 0 || h.Attempts[0].Status >= 500)
	if h.From != "" || h.Code != "" || h.IfMatch != "" || len(h.Ordered) > 0 || again {
		o.rare = &rare{from: t.cart(h.From), code: t.word(h.Code), named: t.stamp(h.IfMatch)}
		for _, ord := range h.Ordered {
			o.orders = append(o.orders, order{id: t.word(ord.ID), lines: t.lines(ord.Lines)})
		}
	}
	if again {
		for _, a := range h.Attempts {
			o.attempts = append(o.attempts, attempt{
				sent: a.Sent, answered: a.Answered, status: int16(a.Status),
				retryAfter: a.RetryAfter,
				broke:      a.Status == 0 && (a.Code == "eof" || a.Code == "reset") && a.ServedBy == "",
			})
		}
	}
	switch {
	case h.Outcome != history.OK || !o.change():
		o.led = 0
	case o.kind == history.Checkout && o.named.mark != unmarked:
		// A checkout is answered with the order; it led to the version after the one it names.
		o.led = o.named.n + 1
	}
	if o.kind == history.Read && o.saw.mark == unmarked && h.Version > 0 {
		o.saw.n = h.Version
	}
	t.ops = append(t.ops, o)
	if o.cart == nil {
		return
	}
	o.cart.ops = append(o.cart.ops, o)
	if o.merges() {
		o.from.leaves = append(o.from.leaves, o)
	}
	switch {
	case !o.last:
	case o.kind == history.Read && (o.shows && o.outcome == history.OK || o.code == "cart_moved"):
		o.cart.final = o
	case o.kind == history.Orders && o.outcome == history.OK:
		o.cart.list = o
	}
}

func (t *tape) word(s string) string {
	if w, ok := t.words[s]; ok {
		return w
	}
	t.words[s] = s
	return s
}

func (t *tape) client(name string) int32 {
	number, ok := t.clients[name]
	if !ok {
		number = int32(len(t.clients))
		t.clients[name] = number
	}
	return number
}

func (t *tape) cart(name string) *cart {
	if name == "" {
		return nil
	}
	c := t.names[name]
	if c == nil {
		c = &cart{name: t.word(name)}
		t.names[c.name] = c
		t.carts = append(t.carts, c)
	}
	return c
}

// lines are by SKU, each once.
func (t *tape) lines(in []history.Line) []line {
	if len(in) == 0 {
		return nil
	}
	if cap(t.spare)-len(t.spare) < len(in) {
		t.spare = make([]line, 0, max(4096, len(in)))
	}
	from := len(t.spare)
	for _, l := range in {
		number, ok := t.numbers[l.SKU]
		if !ok {
			number = sku(len(t.skus))
			t.skus = append(t.skus, l.SKU)
			t.numbers[l.SKU] = number
		}
		t.spare = append(t.spare, line{number, int32(min(max(l.Quantity, math.MinInt32), math.MaxInt32))})
	}
	out := t.spare[from:len(t.spare):len(t.spare)]
	slices.SortFunc(out, func(a, b line) int { return cmp.Compare(a.sku, b.sku) })
	kept := out[:1]
	for _, l := range out[1:] {
		if last := &kept[len(kept)-1]; last.sku == l.sku {
			last.n += l.n
		} else {
			kept = append(kept, l)
		}
	}
	return kept
}

// stamp reads an ETag, "incarnation.version.revision"; any other is no stamp.
func (t *tape) stamp(etag string) stamp {
	parts := strings.Split(strings.Trim(etag, `"`), ".")
	if len(parts) != 3 {
		return stamp{}
	}
	n, err := strconv.ParseUint(parts[1], 10, 64)
	if err != nil {
		return stamp{}
	}
	m, ok := t.marks[parts[0]]
	if !ok {
		m = mark(len(t.marks))
		t.marks[strings.Clone(parts[0])] = m
	}
	return stamp{m, n}
}

// relate puts carts in families, and requests in order of time.
func (t *tape) relate() {
	for _, c := range t.carts {
		slices.SortStableFunc(c.ops, bySent)
		slices.SortStableFunc(c.leaves, bySent)
		c.buy()
	}
	into := map[*cart][]*cart{} // both ways
	for _, c := range t.carts {
		for _, o := range c.leaves {
			into[c] = append(into[c], o.cart)
			into[o.cart] = append(into[o.cart], c)
		}
	}
	for _, c := range t.carts {
		if c.family != nil || len(c.ops)+len(c.leaves) == 0 {
			continue
		}
		f := &family{whole: true}
		t.families = append(t.families, f)
		c.family = f
		for queue := []*cart{c}; len(queue) > 0; queue = queue[1:] {
			f.carts = append(f.carts, queue[0])
			f.ops = append(f.ops, queue[0].ops...)
			for _, next := range into[queue[0]] {
				if next.family == nil {
					next.family = f
					queue = append(queue, next)
				}
			}
		}
		slices.SortStableFunc(f.ops, bySent)
		f.look()
	}
}

func bySent(a, b *op) int { return cmp.Compare(a.sent, b.sent) }

// look finds out what kind of family it is.
func (f *family) look() {
	over := time.Duration(-1)
	for _, o := range f.ops {
		if o.last || !o.change() && o.kind != history.Read && o.kind != history.LogIn {
			continue
		}
		f.hot = f.hot || o.sent < over
		over = max(over, o.answered)
	}
	for _, c := range f.carts {
		ordered := slices.ContainsFunc(c.ops, func(o *op) bool { return o.kind == history.Checkout && o.outcome != history.Failed })
		if c.filled() && c.final == nil && !c.moved() || ordered && c.list == nil {
			f.whole = false
		}
	}
}

// quantity is that of the SKU in lines.
func quantity(lines []line, s sku) int64 {
	i, ok := slices.BinarySearchFunc(lines, s, func(l line, s sku) int { return cmp.Compare(l.sku, s) })
	if !ok {
		return 0
	}
	return int64(lines[i].n)
}

// span is a stretch of time, its ends included.
type span struct{ from, to time.Duration }

// met tells whether [from, to] meets one of the spans, each prolonged by settle.
// The spans are by start.
func met(spans []span, from, to, settle time.Duration) bool {
	for _, s := range spans {
		if s.from > to {
			return false
		}
		if s.to+settle >= from {
			return true
		}
	}
	return false
}
