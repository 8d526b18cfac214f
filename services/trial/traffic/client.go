package traffic

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	mathrand "math/rand/v2"
	"net/http"
	"time"

	"coatcheck/trial/history"
)

const (
	// maxUnique is how many unique lines a cart gets until it is checked out.
	maxUnique = 30
	// enoughLines and enoughQuantity stop a client's adds, far from the shop's
	// limits of 100 lines and 999 a line; a hot cart is emptied at half of it.
	enoughLines, enoughQuantity = 80, 500
	// leastOps is what a guest does at least before log-in.
	leastOps = 4
)

// client is a shopper, or one of those who share a hot cart. It does one thing
// at a time; what it holds belongs to the request under way, or to the schedule
// while it is idle.
//
// A shopper's life: a new guest reads (which brings a ticket), changes and reads
// its cart, logs in, goes on as the user, checks out, logs out, shows the ended
// session once more, and is a new guest. A user's cart is not always checked out
// before the log-out, so that guests' carts meet lines in it.
type client struct {
	t               *Traffic
	name, protocol  string
	transport       *http.Transport
	rng             *mathrand.Rand
	read            bytes.Buffer // the last answer's content
	account         string       // name of the user's cart; a visitor has none
	email, password string
	hot             int      // number of the hot cart, 0 for a shopper
	empties         bool     // sees to it that the hot cart does not overflow
	often, kept     []string // SKUs that are only added; and those that are set, removed and sometimes added

	idle bool // guarded by Traffic.mu

	guests         int          // number of the guest that this shopper is
	guest, session string       // cookies; with a session, the guest is gone
	used           bool         // the account was logged in to, as far as is known
	next           history.Kind // the step that must come next, "" if any may
	notBefore      time.Time    // when next is due
	ended          string       // the session that was logged out
	ops            int          // done in this life
	etag, stale    string       // of the cart as last shown, and one before that
	lines          []history.Line

	// Unique SKUs are taken in turn. Since reserved counts from the last
	// acknowledged checkout, and what may yet come late is spoilt for good, none
	// is taken twice while it can be in the cart.
	cursor, reserved int
	spoilt           map[string]bool
}

// cart names the cart that the client changes now.
func (c *client) cart() string {
	if c.session != "" || c.hot > 0 {
		return c.account
	}
	return fmt.Sprintf("%s.g%d", c.name, c.guests)
}

func (c *client) cookie() string {
	if c.session != "" {
		return c.session
	}
	return c.guest
}

// forced is what the client must do next, "" if it is free.
func (c *client) forced() history.Kind {
	switch {
	case c.next != "":
		return c.next
	case c.session == "" && c.hot > 0:
		return history.LogIn
	case c.session == "" && c.guest == "":
		return history.Read
	}
	return ""
}

// able tells whether the client can do it now.
func (c *client) able(kind history.Kind) bool {
	if c.forced() != "" {
		return false
	}
	switch kind {
	case history.Read:
		return true
	case history.Add:
		return len(c.lines) < enoughLines && c.most() < enoughQuantity
	case history.Set:
		return len(c.lines) < enoughLines
	case history.CondSet:
		return c.etag != "" && len(c.lines) < enoughLines
	case history.Remove:
		return len(c.removable()) > 0
	case history.LogIn:
		return c.session == "" && c.account != "" && c.ops >= leastOps && len(c.lines) > 0
	case history.Checkout:
		return c.session != "" && c.etag != "" && len(c.lines) > 0
	}
	return false
}

func (c *client) most() (most int64) {
	for _, l := range c.lines {
		most = max(most, l.Quantity)
	}
	return most
}

func (c *client) quantity(sku string) int64 {
	for _, l := range c.lines {
		if l.SKU == sku {
			return l.Quantity
		}
	}
	return 0
}

func (c *client) removable() (skus []string) {
	for _, sku := range c.kept {
		if c.quantity(sku) > 0 {
			skus = append(skus, sku)
		}
	}
	return skus
}

func (c *client) op(kind history.Kind, cart string) *history.Op {
	return &history.Op{Client: c.name, Protocol: c.protocol, Kind: kind, Cart: cart}
}

// plan makes the request.
func (c *client) plan(kind history.Kind) (*history.Op, request) {
	op := c.op(kind, c.cart())
	req := request{method: http.MethodGet, path: "/v1/cart", cookie: c.cookie()}
	switch kind {
	case history.Add:
		op.Lines, op.Unique = c.choose()
		req.method, req.path, req.content = http.MethodPost, "/v1/cart/items", encode(map[string]any{"items": op.Lines})
	case history.Set, history.CondSet:
		line := history.Line{SKU: pick(c.rng, c.kept), Quantity: 1 + c.rng.Int64N(40)}
		if line.Quantity == c.quantity(line.SKU) {
			line.Quantity++ // so that it is a change
		}
		op.Lines = []history.Line{line}
		req.method, req.path, req.content = http.MethodPut, itemPath(line.SKU), encode(map[string]int64{"quantity": line.Quantity})
		if kind == history.CondSet {
			req.ifMatch = c.etag
			if c.stale != "" && c.rng.IntN(10) == 0 {
				req.ifMatch = c.stale
			}
		}
	case history.Remove:
		op.Lines = []history.Line{{SKU: pick(c.rng, c.removable())}}
		req.method, req.path = http.MethodDelete, itemPath(op.Lines[0].SKU)
	case history.Checkout:
		req.method, req.path, req.ifMatch = http.MethodPost, "/v1/cart/checkout", c.etag
	case history.LogIn:
		return c.planLogIn(c.guest)
	case history.LogOut:
		req.method, req.path = http.MethodDelete, "/v1/sessions/current"
	case history.Probe:
		op.Cart, req.cookie = c.account, c.ended
	}
	op.IfMatch = req.ifMatch
	if req.method != http.MethodGet {
		req.key = rand.Text()
	}
	return op, req
}

func (c *client) planLogIn(guest string) (*history.Op, request) {
	op := c.op(history.LogIn, c.account)
	if guest != "" {
		op.From = c.cart()
	}
	return op, c.credentials("/v1/sessions", guest)
}

func (c *client) credentials(path, guest string) request {
	return request{
		method: http.MethodPost, path: path, cookie: guest,
		content: encode(map[string]string{"email": c.email, "password": c.password}),
	}
}

func encode(v any) []byte {
	content, _ := json.Marshal(v) // never fails for what is sent here
	return content
}

func pick(rng *mathrand.Rand, skus []string) string { return skus[rng.IntN(len(skus))] }

// choose says what to add: to a hot cart one of one product; else unique lines,
// if there are any left, or more of what may be there already.
func (c *client) choose() (lines []history.Line, unique bool) {
	if c.hot > 0 {
		return []history.Line{{SKU: pick(c.rng, c.often), Quantity: 1}}, false
	}
	left := min(maxUnique, len(c.t.products.unique)-len(c.spoilt)) - c.reserved
	if left > 0 && c.rng.IntN(5) < 3 {
		for range min(left, 1+c.rng.IntN(3)) {
			lines = append(lines, history.Line{SKU: c.unique(), Quantity: 1 + c.rng.Int64N(4)})
		}
		return lines, true
	}
	lines = []history.Line{{SKU: pick(c.rng, c.often), Quantity: 1 + c.rng.Int64N(3)}}
	if c.rng.IntN(4) == 0 {
		lines = append(lines, history.Line{SKU: pick(c.rng, c.kept), Quantity: 1 + c.rng.Int64N(3)})
	}
	return lines, false
}

func (c *client) unique() string {
	c.reserved++
	for {
		sku := c.t.products.unique[c.cursor%len(c.t.products.unique)]
		c.cursor++
		if !c.spoilt[sku] {
			return sku
		}
	}
}

// settles tells whether the client needs to know what became of the request
// before it can go on: who is to log in does.
func (c *client) settles(op *history.Op) bool {
	return c.account != "" && c.session == "" && op.Kind != history.LogIn && changes(op)
}

// learn takes from the answer what the client goes on with, and completes the
// record: it must be called before anybody else sees the record.
func (c *client) learn(op *history.Op, a answer) {
	settling := c.next == history.LogIn
	c.next = ""
	c.show(op, a)
	if op.Kind == history.LogIn && op.Outcome != history.Failed {
		c.used = true
	}
	if a.guest != "" && c.session == "" && op.Kind != history.LogIn && op.Outcome == history.OK {
		c.guest = a.guest
	}
	switch {
	case op.Kind == history.Probe:
		c.begin()
	case op.Outcome == history.OK:
		c.ops++
		c.succeed(op, a)
	case a.status == http.StatusUnauthorized, a.status == http.StatusForbidden, a.status == http.StatusConflict:
		c.begin() // the ticket is good for nothing any more
	case op.Outcome == history.Unknown:
		c.doubt(op)
	case op.Kind == history.LogOut:
		c.next = history.LogOut
	case op.Kind == history.LogIn && settling:
		c.logInLater() // this one had no effect, but the one before may have had
	}
	if c.empties && c.etag != "" && c.most() > enoughQuantity/2 {
		c.next = history.Checkout
	}
}

// show notes the cart that came with the answer.
func (c *client) show(op *history.Op, a answer) {
	var shown *content
	switch {
	case op.Outcome == history.OK && op.Kind == history.Checkout:
		op.Ordered = []history.Order{{ID: a.content.ID, Lines: a.content.Items}}
	case op.Outcome == history.OK && (op.Kind == history.Read || op.Kind == history.Probe || changes(op) && op.Kind != history.LogIn):
		shown = &a.content
		op.Version = shown.Version
	case a.status == http.StatusPreconditionFailed:
		shown = a.content.Cart
	}
	if shown == nil {
		return
	}
	op.Shown = shown.Items
	if a.etag != c.etag {
		c.stale = c.etag
	}
	c.etag, c.lines = a.etag, shown.Items
}

func (c *client) succeed(op *history.Op, a answer) {
	switch op.Kind {
	case history.LogIn:
		if a.session == "" {
			c.begin()
			return
		}
		if op.From != "" {
			c.t.mu.Lock()
			c.t.moved.add(identity{op.From, c.guest})
			c.t.mu.Unlock()
		}
		c.session, c.guest = a.session, ""
		c.forget()
	case history.Checkout:
		c.reserved = 0
		c.forget()
		if c.hot == 0 && c.rng.IntN(8) > 0 {
			c.next = history.LogOut
		}
	case history.LogOut:
		c.ended, c.session, c.next = c.session, "", history.Probe
		c.notBefore = time.Now().Add(c.t.timing.holds)
	case history.Read:
		switch {
		case c.hot == 1 && len(c.lines) > 0 && c.rng.IntN(6) == 0:
			c.next = history.Checkout // at once, or the version is an old one
		case c.hot == 0 && c.session != "" && c.rng.IntN(40) == 0:
			c.next = history.LogOut
		}
	}
}

// doubt goes on after a request of which nobody knows what became.
func (c *client) doubt(op *history.Op) {
	if op.Unique && c.session != "" {
		if c.spoilt == nil {
			c.spoilt = map[string]bool{}
		}
		for _, l := range op.Lines {
			c.spoilt[l.SKU] = true
		}
	}
	if changes(op) {
		c.t.mu.Lock()
		c.t.doubt = time.Now()
		c.t.mu.Unlock()
	}
	switch {
	case op.Kind == history.LogIn:
		c.logInLater()
	case op.Kind == history.LogOut, c.session == "" && changes(op):
		c.begin()
	case op.Kind == history.Checkout:
		c.forget()
	}
}

// logInLater has the log-in settled, though not at once: where log-ins fail,
// the shop has too many of them.
func (c *client) logInLater() {
	c.next = history.LogIn
	c.notBefore = time.Now().Add(c.t.timing.every + time.Duration(c.rng.Int64N(int64(2*c.t.timing.every))))
}

func (c *client) forget() { c.etag, c.stale, c.lines = "", "", nil }

// begin starts a new life; for a client of a hot cart that is a new session.
func (c *client) begin() {
	if c.session == "" && c.guest != "" {
		c.t.mu.Lock()
		c.t.left = append(c.t.left, identity{c.cart(), c.guest})
		c.t.mu.Unlock()
	}
	c.guests++
	c.guest, c.session, c.ended, c.ops = "", "", "", 0
	c.forget()
}
