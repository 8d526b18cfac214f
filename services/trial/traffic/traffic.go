// Package traffic is the shop's customers: shoppers with carts of their own and
// hot carts that many share, at a rate that does not wait for the shop, each
// request recorded as its client saw it.
//
// The hazards are a load that goes easy on a shop that stalls (a request is due
// at its time, whether or not the ones before it were answered), a client that
// knows more than its answers said (see judge), and a request that is sent more
// often than is recorded (see body).
package traffic

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"coatcheck/trial/history"
)

const (
	// hotClients is how many share a hot cart.
	hotClients = 5
	// hotShare is the part of adds and reads that goes to hot carts; of sets it
	// is half as much.
	hotShare = 0.25
	// maxOwed bounds what is made up for of a kind that no client could do when
	// it was due, and payShare how fast: log-ins that come all at once are more
	// than a shop that hashes passwords can take.
	maxOwed, payShare = 10, 0.1
	// leastProducts is how many it takes to part a catalogue as New does.
	leastProducts = 10
	// sampleSize is how many of the guests that logged in are read at the end.
	sampleSize = 64
	// maxVisitors is how many requests may wait for a shop that stalls, before
	// those that are due are not sent.
	maxVisitors = 2000
)

// Options say which traffic. Target, Rate, Length and Sink are needed.
type Options struct {
	Target string        // the shop's URL, http://host:port
	Rate   float64       // logical requests a second
	Length time.Duration // of Run, at least
	// More tells, once Length is over, whether Run is to go on; nil is no.
	More func() bool
	// Seed repeats the operations: for the same answers, each client does the
	// same to the same products. Keys and e-mail addresses are new each time.
	Seed uint64
	// Shoppers is the number of shoppers, 0 means 80; each has one account.
	Shoppers int
	// Hot is the number of hot carts, 0 means 4, less than 0 none; each has five clients.
	Hot int
	// Machines is the number of API clients, which have tokens and no cookie; each
	// has one account. What they do comes on top of the rate, about two requests a
	// second each.
	Machines int
	// Protocols are those by which clients connect, in turn; nil means all three.
	Protocols []string
	// Weights are of the kinds in history.Traffic; nil means DefaultWeights. The
	// steps between (a guest's first read, log-out, probe) come on top.
	Weights map[history.Kind]int
	// Start is the zero of all times recorded, with a monotonic reading; zero means now.
	Start time.Time
	// Sink gets each request when it is over; it is called from many goroutines.
	Sink func(*history.Op)

	timing timing
}

// DefaultWeights give each kind more than 3 % of all requests. Log-ins are few
// because each costs the shop about 25 ms of CPU.
func DefaultWeights() map[history.Kind]int {
	return map[history.Kind]int{
		history.Add: 86, history.Set: 18, history.CondSet: 18, history.Remove: 14,
		history.Read: 46, history.LogIn: 7, history.Checkout: 9,
	}
}

// Traffic is one load. New, Run and Finish are called in this order, once each;
// the other methods at any time.
type Traffic struct {
	Options
	target   url.URL
	rng      *mathrand.Rand // of the schedule
	total    int            // of the weights
	products products
	shoppers ring
	hot      ring
	visitors ring           // guests who never log in; they come while all others wait
	ops      sync.WaitGroup // under way

	apiClients []*client

	mu     sync.Mutex
	live   Live
	urgent []*client // idle, and due for one certain step
	owed   map[history.Kind]int
	left   []identity // guests that were given up before log-in
	moved  sample
	// doubt is when a change last ended unknown: it may still be applied for a while.
	doubt time.Time
}

// products are the SKUs by use: unique ones, and those that are added often or
// set and removed.
type products struct{ unique, often, kept []string }

// identity is a guest's cart and ticket.
type identity struct{ cart, cookie string }

// sample is a fair choice of the identities it was given.
type sample struct {
	rng  *mathrand.Rand
	seen int
	kept []identity
}

func (s *sample) add(i identity) {
	s.seen++
	if len(s.kept) < sampleSize {
		s.kept = append(s.kept, i)
	} else if at := s.rng.IntN(s.seen); at < sampleSize {
		s.kept[at] = i
	}
}

// New reads the catalogue, registers the users and logs the clients of hot
// carts in. The error says what the shop or the options lack.
func New(ctx context.Context, o Options) (*Traffic, error) {
	if o.Shoppers == 0 {
		o.Shoppers = 80
	}
	if o.Hot == 0 {
		o.Hot = 4
	}
	if o.Weights == nil {
		o.Weights = DefaultWeights()
	}
	if o.Protocols == nil {
		o.Protocols = protocols[:]
	}
	if o.Start.IsZero() {
		o.Start = time.Now()
	}
	if o.More == nil {
		o.More = func() bool { return false }
	}
	if o.timing == (timing{}) {
		o.timing = defaultTiming()
	}
	t := &Traffic{Options: o, owed: map[history.Kind]int{}, rng: source(o.Seed, 0)}
	t.moved.rng = source(o.Seed, 1)
	if err := t.check(); err != nil {
		return nil, fmt.Errorf("traffic: %w", err)
	}
	if err := t.setUp(ctx); err != nil {
		return nil, fmt.Errorf("traffic: %w", err)
	}
	return t, nil
}

func source(seed, stream uint64) *mathrand.Rand { return mathrand.New(mathrand.NewPCG(seed, stream)) }

func (t *Traffic) check() error {
	target, err := url.Parse(t.Target)
	if err != nil || target.Host == "" || (target.Scheme != "http" && target.Scheme != "https") {
		return fmt.Errorf("target %q: must be http://host:port", t.Target)
	}
	t.target = *target
	if t.Rate <= 0 || t.Length <= 0 || t.Shoppers < 1 || t.Sink == nil {
		return errors.New("rate, length, shoppers and sink are needed")
	}
	for kind, weight := range t.Weights {
		if weight < 0 || !slices.Contains(history.Traffic, kind) {
			return fmt.Errorf("weight %d of %q: must be at least 0, of one of %v", weight, kind, history.Traffic)
		}
		t.total += weight
	}
	if t.total == 0 {
		return errors.New("no kind has a weight")
	}
	return nil
}

// setUp makes the clients. Half of the catalogue is for unique adds; of the
// other, half is only added, half is set, removed and sometimes added.
func (t *Traffic) setUp(ctx context.Context) error {
	skus, err := t.catalogue(ctx)
	if err != nil {
		return err
	}
	half := len(skus) / 2
	often := half + (len(skus)-half)/2
	t.products = products{unique: skus[:half], often: skus[half:often], kept: skus[often:]}

	run := rand.Text()
	var owners, sharers []*client
	for i := range t.Shoppers {
		c := t.client(fmt.Sprintf("s%d", i+1), run)
		t.shoppers.clients = append(t.shoppers.clients, c)
		owners = append(owners, c)
	}
	for h := range max(0, t.Hot) {
		for i := range hotClients {
			c := t.client(fmt.Sprintf("hot.%d", h+1), run)
			c.hot, c.account = h+1, c.name
			c.name = fmt.Sprintf("h%d.%d", h+1, i+1)
			c.often, c.kept = t.products.often[:min(4, len(t.products.often))], t.products.kept[:1]
			t.hot.clients = append(t.hot.clients, c)
			sharers = append(sharers, c)
			if i == 0 {
				c.empties = true
				owners = append(owners, c)
			}
		}
	}
	for i := range t.Machines {
		c := t.client(fmt.Sprintf("m%d", i+1), run)
		t.apiClients = append(t.apiClients, c)
		owners = append(owners, c)
	}
	err = each(owners, 4, func(c *client) error { return c.register(ctx) })
	if err != nil {
		return err
	}
	err = each(sharers, 4, func(c *client) error { return c.logInAgain(ctx, false) })
	if err != nil {
		return err
	}
	for _, c := range slices.Concat(owners, sharers) {
		c.idle = true
	}
	for _, c := range t.shoppers.clients {
		t.urgent = append(t.urgent, c)
	}
	return nil
}

// client makes a shopper; a client of a hot cart is changed from that.
func (t *Traffic) client(name, run string) *client {
	n := len(t.shoppers.clients) + len(t.hot.clients) + len(t.apiClients) + len(t.visitors.clients)
	c := &client{
		t: t, name: name, protocol: t.Protocols[n%len(t.Protocols)], rng: source(t.Seed, uint64(2+n)),
		account: name + ".u", email: name + "." + run + "@trial.example", password: run,
		guests: 1,
	}
	c.transport = newTransport(c.protocol)
	c.cursor = c.rng.IntN(len(t.products.unique))
	c.often, c.kept = some(c.rng, t.products.often, 6), some(c.rng, t.products.kept, 4)
	return c
}

// some returns up to n of the SKUs.
func some(rng *mathrand.Rand, skus []string, n int) []string {
	skus = slices.Clone(skus)
	rng.Shuffle(len(skus), func(i, j int) { skus[i], skus[j] = skus[j], skus[i] })
	return skus[:min(n, len(skus))]
}

// catalogue asks for the SKUs until it is answered.
func (t *Traffic) catalogue(ctx context.Context) ([]string, error) {
	c := &client{t: t, name: "set-up", protocol: protocols[0], transport: newTransport(protocols[0])}
	defer c.transport.CloseIdleConnections()
	op := c.op(history.Read, "") // not recorded: it is of no cart
	a := c.insist(ctx, op, request{method: http.MethodGet, path: "/v1/products"})
	skus := make([]string, 0, len(a.content.Products))
	for _, p := range a.content.Products {
		skus = append(skus, p.SKU)
	}
	if op.Outcome != history.OK || len(skus) < leastProducts {
		return nil, fmt.Errorf("the catalogue of %s: status %d %s, %d products, of at least %d", t.Target, a.status, a.code, len(skus), leastProducts)
	}
	return skus, nil
}

// each runs do for all clients, some at once, and answers the first error.
func each(clients []*client, atOnce int, do func(*client) error) error {
	var group sync.WaitGroup
	errs := make([]error, len(clients))
	slots := make(chan struct{}, atOnce)
	for i, c := range clients {
		slots <- struct{}{}
		group.Go(func() {
			errs[i] = do(c)
			<-slots
		})
	}
	group.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// Run sends requests at the rate until Length has passed and More says no, and
// returns when the last of them is over. If ctx ends first, those under way are broken off (and
// recorded so), and its error is returned.
func (t *Traffic) Run(ctx context.Context) error {
	begun := time.Now()
	over := make(chan struct{})
	t.machines(ctx, over)
	slot := float64(time.Second) / t.Rate
	for i := 0; ; i++ {
		due := begun.Add(time.Duration((float64(i) + t.rng.Float64()) * slot))
		if float64(i)*slot >= float64(t.Length) && !t.More() || !pause(ctx, time.Until(due)) {
			break
		}
		t.dispatch(ctx, due)
	}
	pause(ctx, time.Until(begun.Add(t.Length)))
	close(over)
	t.ops.Wait()
	return ctx.Err()
}

// dispatch hands the request that is due to an idle client and does not wait.
func (t *Traffic) dispatch(ctx context.Context, due time.Time) {
	t.mu.Lock()
	c, kind := t.pick()
	if c == nil {
		t.live.Missed++
		t.mu.Unlock()
		return
	}
	c.idle = false
	t.live.Sent++
	t.live.InFlight++
	t.mu.Unlock()
	op, req := c.plan(kind)
	t.ops.Go(func() {
		a := c.send(ctx, op, req)
		c.learn(op, a)
		t.Sink(op)
		t.mu.Lock()
		defer t.mu.Unlock()
		t.live.count(op, time.Since(due))
		c.idle = true
		if c.forced() != "" {
			t.urgent = append(t.urgent, c)
		}
	})
}

// pick chooses who does what next: first those whose next step is certain, then
// what is owed, then by weight. A kind that nobody can do now is owed, and there
// is an add or a read in its place, if need be by a visitor: a shop that stalls
// must not have fewer requests for it.
func (t *Traffic) pick() (*client, history.Kind) {
	for i, c := range t.urgent {
		if !time.Now().Before(c.notBefore) {
			t.urgent = slices.Delete(t.urgent, i, i+1)
			return c, c.forced()
		}
	}
	if t.rng.Float64() < payShare {
		for _, kind := range history.Traffic {
			if t.owed[kind] == 0 {
				continue
			}
			if c := t.able(kind); c != nil {
				t.owed[kind]--
				return c, kind
			}
		}
	}
	drawn := t.draw()
	if c := t.able(drawn); c != nil {
		return c, drawn
	}
	t.owed[drawn] = min(t.owed[drawn]+1, maxOwed)
	for _, kind := range []history.Kind{history.Add, history.Read} {
		if c := t.able(kind); t.Weights[kind] > 0 && c != nil {
			return c, kind
		}
		if c := t.visitors.able(kind); t.Weights[kind] > 0 && c != nil {
			return c, kind
		}
	}
	if n := len(t.visitors.clients); n < maxVisitors {
		c := t.client(fmt.Sprintf("v%d", n+1), "")
		c.account = ""
		t.visitors.clients = append(t.visitors.clients, c)
		return c, c.forced()
	}
	return nil, ""
}

func (t *Traffic) draw() history.Kind {
	n := t.rng.IntN(t.total)
	for _, kind := range history.Traffic {
		if n -= t.Weights[kind]; n < 0 {
			return kind
		}
	}
	return history.Read // not reached
}

// able returns an idle client that can do it now, or nil.
func (t *Traffic) able(kind history.Kind) *client {
	share := 0.0
	switch kind {
	case history.Add, history.Read:
		share = hotShare
	case history.Set:
		share = hotShare / 2
	}
	if t.rng.Float64() < share {
		if c := t.hot.able(kind); c != nil {
			return c
		}
	}
	return t.shoppers.able(kind)
}

// ring gives its clients their turn.
type ring struct {
	clients []*client
	next    int
}

func (r *ring) able(kind history.Kind) *client {
	for i := range r.clients {
		at := (r.next + i) % len(r.clients)
		if c := r.clients[at]; c.idle && c.able(kind) {
			r.next = at + 1
			return c
		}
	}
	return nil
}

// pause waits, and tells whether ctx is still good.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
