package compare

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// traffic is the shoppers and members of one way, from its first request to its
// last.
type traffic struct {
	*run
	site   site
	front  *front
	client *http.Client
	stop   context.CancelFunc
	done   sync.WaitGroup

	mu       sync.Mutex
	shoppers []*shopper // those who are here
	members  []*member
	answers  map[string]int // by replica, in this phase
	carts    map[string]int // by replica of the cart service, in this phase
	phase    int

	newcomers atomic.Int64
	tally
}

// tally counts what was met since it was reset.
type tally struct {
	requests, withoutCart atomic.Int64
	asked, withoutSession atomic.Int64
	all, failed           atomic.Int64 // logical requests, and those that failed after all tries
}

// reset begins a phase: counts are zero, and shoppers learn anew what they have.
func (t *traffic) reset() {
	for _, n := range []*atomic.Int64{&t.requests, &t.withoutCart, &t.asked, &t.withoutSession, &t.all, &t.failed} {
		n.Store(0)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.answers, t.carts = map[string]int{}, map[string]int{}
	t.phase++
}

// shopper is a guest. Of a phase it knows what was shown to be in its cart.
type shopper struct {
	*browser
	phase   int
	known   map[string]bool
	watched bool // is one of those that the watch is about
	short   bool // and was shown less than it knew
}

// member is a user with one session, which is shown now and then.
type member struct {
	*browser
	email string
}

// open begins the traffic.
func (r *run) open(ctx context.Context, s site, f *front) (*traffic, error) {
	t := &traffic{
		run: r, site: s, front: f, answers: map[string]int{}, carts: map[string]int{},
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256, MaxIdleConns: 512}},
	}
	if err := f.awaitReady(ctx, replicas); err != nil {
		return nil, err
	}
	if err := t.enrol(ctx); err != nil {
		return nil, err
	}
	ctx, t.stop = context.WithCancel(ctx)
	for range r.shoppers {
		t.shoppers = append(t.shoppers, nil)
	}
	for i := range t.shoppers {
		t.done.Go(func() { t.shop(ctx, i) })
	}
	for _, m := range t.members {
		t.done.Go(func() { t.visit(ctx, m) })
	}
	return t, nil
}

func (t *traffic) close() {
	t.stop()
	t.done.Wait()
	t.client.CloseIdleConnections()
}

// enrol registers the users where they are not known yet, and logs them in.
func (t *traffic) enrol(ctx context.Context) error {
	probe := newBrowser(t.client, t.front.url, "10.9.9.9").logIn(ctx, t.files.emails[0])
	for _, email := range t.files.emails {
		if probe.ok() {
			break
		}
		a := newBrowser(t.client, t.front.url, "10.9.9.9").do(ctx, http.MethodPost, "/v1/users", map[string]any{"email": email, "password": password})
		if !a.ok() {
			return fmt.Errorf("registering a user: %d %s", a.Status, a.Code)
		}
	}
	for i := range t.run.members {
		t.members = append(t.members, &member{newBrowser(t.client, t.front.url, fmt.Sprintf("10.1.0.%d", i)), t.files.emails[i]})
	}
	return t.logInAll(ctx, t.members)
}

// logInAll gives each a session; one at a time, as passwords are dear.
func (t *traffic) logInAll(ctx context.Context, members []*member) error {
	for _, m := range members {
		m.mu.Lock()
		delete(m.cookies, "session")
		delete(m.cookies, "session-record")
		m.mu.Unlock()
		if a := m.logIn(ctx, m.email); !a.ok() {
			return fmt.Errorf("logging in: %d %s", a.Status, a.Code)
		}
	}
	return nil
}

// shop is one place in the shop: somebody comes, stays, leaves; the next comes.
// Requests come at odd times: if each place had a beat of its own, a round of all
// would be a multiple of the replicas, and take everybody to the same one again.
func (t *traffic) shop(ctx context.Context, place int) {
	next := time.Now().Add(rand.N(t.every))
	pause(ctx, time.Until(next))
	first := true
	for ctx.Err() == nil {
		n := t.newcomers.Add(1)
		address := fmt.Sprintf("10.0.%d.%d", n>>8, n&255)
		if n%4 == 0 {
			address = fmt.Sprintf("10.200.0.%d", n/4%3) // shared by many
		}
		s := &shopper{browser: newBrowser(t.client, t.front.url, address), phase: -1}
		t.mu.Lock()
		t.shoppers[place] = s
		t.mu.Unlock()
		stay := t.stayLeast + rand.N(t.stayMost-t.stayLeast)
		if first {
			stay = rand.N(stay) + time.Second // as if the shop had long been open
			first = false
		}
		begun, moved := time.Now(), n%4 != 1
		for k := 0; time.Since(begun) < stay && ctx.Err() == nil; k++ {
			if !moved && time.Since(begun) > stay/2 {
				s.move("172.16." + address[len("10.0."):])
				moved = true
			}
			t.step(ctx, s, k)
			next = later(next.Add(t.every/2+rand.N(t.every)), time.Now())
			pause(ctx, time.Until(next))
		}
	}
}

// step is one request: of five, two add a line that is not there yet.
func (t *traffic) step(ctx context.Context, s *shopper, k int) {
	var a answer
	if k%5 == 0 || k%5 == 2 {
		a = s.add(ctx, t.files.skus[k%len(t.files.skus)])
	} else {
		a = s.read(ctx)
	}
	if ctx.Err() != nil {
		return
	}
	t.all.Add(1)
	if !a.ok() {
		t.failed.Add(1)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if a.ServedBy != "" {
		t.answers[a.ServedBy]++
	}
	if a.ServedByCart != "" {
		t.carts[a.ServedByCart]++
	}
	if !a.ok() {
		return
	}
	shown := a.has()
	if s.phase != t.phase {
		s.phase, s.known, s.watched, s.short = t.phase, map[string]bool{}, false, false
	}
	short := false
	for sku := range s.known {
		short = short || !shown[sku]
	}
	if len(s.known) > 0 {
		t.requests.Add(1)
		if short {
			t.withoutCart.Add(1)
			s.short = true
		}
	}
	for sku := range shown {
		s.known[sku] = true
	}
}

// watch begins to tell who, of those who know of lines, is shown less.
func (t *traffic) watch() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.shoppers {
		if s != nil && s.phase == t.phase {
			s.watched, s.short = len(s.known) > 0, false
		}
	}
}

// seen counts them, as far as they are still here.
func (t *traffic) seen() (watched, short int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.shoppers {
		if s != nil && s.watched {
			watched++
			if s.short {
				short++
			}
		}
	}
	return watched, short
}

// visit shows a member's session once in a while. What a browser would do with
// the answer that there is no such session, it doesn't: it shows it again.
func (t *traffic) visit(ctx context.Context, m *member) {
	pause(ctx, rand.N(4*t.every))
	for ctx.Err() == nil {
		a := m.copy("").sessions(ctx)
		if ctx.Err() != nil {
			return
		}
		t.all.Add(1)
		t.asked.Add(1)
		switch {
		case a.Status == http.StatusUnauthorized:
			t.withoutSession.Add(1)
		case !a.ok():
			t.failed.Add(1)
		}
		pause(ctx, 4*t.every)
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
