package compare

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"sync"
	"time"
)

// quietPhase: nothing happens but traffic.
func (t *traffic) quietPhase(ctx context.Context, m *Measured) error {
	pause(ctx, t.warm)
	t.reset()
	pause(ctx, t.quiet)
	m.Requests, m.WithoutCart = t.requests.Load(), t.withoutCart.Load()
	m.SessionRequests, m.WithoutSession = t.asked.Load(), t.withoutSession.Load()
	m.LoadQuiet = t.load()
	if m.Requests < 20 || m.SessionRequests < 3 {
		return fmt.Errorf("too little traffic: %d requests, %d of members", m.Requests, m.SessionRequests)
	}
	return nil
}

// load is of this phase, over the replicas that were there: the service whose
// replicas are loaded the least evenly counts.
func (t *traffic) load() Load {
	t.mu.Lock()
	defer t.mu.Unlock()
	worst := spread(t.answers)
	if carts := spread(t.carts); carts.MaxOverMean > worst.MaxOverMean {
		worst = carts
	}
	return worst
}

func spread(counts map[string]int) Load {
	n := float64(max(len(counts), replicas)) // one that answered nothing counts too
	sum, most := 0.0, 0.0
	for _, c := range counts {
		sum += float64(c)
		most = max(most, float64(c))
	}
	if sum == 0 {
		return Load{}
	}
	mean := sum / n
	variance := (n - float64(len(counts))) * mean * mean
	for _, c := range counts {
		variance += (float64(c) - mean) * (float64(c) - mean)
	}
	return Load{MaxOverMean: most / mean, CV: math.Sqrt(variance/n) / mean}
}

// census is what all replicas together have: of each shopper the lines, of each
// member whether the session is live anywhere.
type census struct {
	shoppers []*shopper
	lines    []map[string]bool
	members  []*member
	live     []bool
}

func (t *traffic) take() census {
	t.mu.Lock()
	defer t.mu.Unlock()
	var c census
	for _, s := range t.shoppers {
		if s != nil {
			c.shoppers = append(c.shoppers, s)
		}
	}
	c.members = t.members
	return c
}

// ask fills the census; an error says that a replica did not answer.
func (t *traffic) ask(ctx context.Context, c *census) error {
	c.lines, c.live = make([]map[string]bool, len(c.shoppers)), make([]bool, len(c.members))
	var mu sync.Mutex
	var failed error
	var group sync.WaitGroup
	turns := make(chan struct{}, 8)
	each := func(f func() error) {
		turns <- struct{}{}
		group.Go(func() {
			defer func() { <-turns }()
			if err := f(); err != nil {
				mu.Lock()
				failed = errors.Join(failed, err)
				mu.Unlock()
			}
		})
	}
	for i, s := range c.shoppers {
		each(func() (err error) {
			c.lines[i], err = t.everywhere(ctx, s.browser)
			return err
		})
	}
	for i, m := range c.members {
		each(func() error {
			for _, b := range t.front.backends[:replicas] {
				a := m.copy("http://" + b.Address).sessions(ctx)
				if a.Status != http.StatusOK && a.Status != http.StatusUnauthorized {
					return fmt.Errorf("a session at %s: %d %s", b.Name, a.Status, a.Code)
				}
				c.live[i] = c.live[i] || a.ok()
			}
			return nil
		})
	}
	group.Wait()
	return failed
}

// everywhere is what any replica shows of the browser's cart.
func (t *traffic) everywhere(ctx context.Context, b *browser) (map[string]bool, error) {
	all := map[string]bool{}
	for _, backend := range t.front.backends[:replicas] {
		a := b.copy("http://" + backend.Address).read(ctx)
		if !a.ok() {
			return nil, fmt.Errorf("a cart at %s: %d %s", backend.Name, a.Status, a.Code)
		}
		for sku := range a.has() {
			all[sku] = true
		}
	}
	return all, nil
}

// loss does what hurts and counts what is gone after it.
func (t *traffic) loss(ctx context.Context, hurt func() error) (Loss, error) {
	var l Loss
	before := t.take()
	if err := t.ask(ctx, &before); err != nil {
		return l, err
	}
	t.reset()
	if err := hurt(); err != nil {
		return l, err
	}
	if err := t.front.awaitReady(ctx, replicas); err != nil {
		return l, err
	}
	pause(ctx, t.settle)
	l.Requests, l.Failed = t.all.Load(), t.failed.Load()
	after := census{shoppers: before.shoppers, members: before.members}
	if err := t.ask(ctx, &after); err != nil {
		return l, err
	}
	for i, had := range before.lines {
		if len(had) == 0 {
			continue
		}
		l.Carts++
		for sku := range had {
			if !after.lines[i][sku] {
				l.CartsLost++
				break
			}
		}
	}
	for i, live := range before.live {
		if live {
			l.Sessions++
			if !after.live[i] {
				l.SessionsLost++
			}
		}
	}
	if l.Carts < t.run.shoppers/3 || l.Sessions < t.run.members {
		return l, fmt.Errorf("too little to lose: %d carts, %d sessions", l.Carts, l.Sessions)
	}
	var again []*member
	for i, live := range after.live {
		if !live {
			again = append(again, after.members[i])
		}
	}
	return l, t.logInAll(ctx, again)
}

func (t *traffic) deathPhase(ctx context.Context, m *Measured) (err error) {
	m.Death, err = t.loss(ctx, func() error {
		err := t.site.Kill(0)
		pause(ctx, restartDelay) // until then nothing can be ready
		return err
	})
	if err != nil {
		return err
	}
	t.reset()
	pause(ctx, t.settle)
	m.LoadAfterDeath = t.load()
	return nil
}

func (t *traffic) rolloutPhase(ctx context.Context, m *Measured) (err error) {
	m.Rollout, err = t.loss(ctx, func() error {
		for i := range replicas {
			if err := t.site.Restart(i); err != nil {
				return err
			}
			// As a cluster does: the next one goes when this one gets requests.
			if err := t.front.awaitReady(ctx, replicas); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}

// updatesPhase: many tabs of one browser add at once, each a line of its own.
func (t *traffic) updatesPhase(ctx context.Context, m *Measured) error {
	const tabs = 8
	b := newBrowser(t.client, t.front.url, "10.8.0.1")
	if a := b.add(ctx, t.files.skus[0]); !a.ok() {
		return fmt.Errorf("adding: %d %s", a.Status, a.Code)
	}
	acknowledged := map[string]bool{}
	for round := range t.rounds {
		before := b.copy("") // each tab sends what the browser has at this moment
		var mu sync.Mutex
		var group sync.WaitGroup
		for tab := range tabs {
			sku := t.files.skus[1+round*tabs+tab]
			group.Go(func() {
				a := before.copy("").do(ctx, http.MethodPost, "/v1/cart/items", adding(sku))
				mu.Lock()
				defer mu.Unlock()
				if a.ok() {
					acknowledged[sku] = true
					b.take(a) // in the order in which the answers come
				}
			})
		}
		group.Wait()
	}
	all, err := t.everywhere(ctx, b)
	if err != nil {
		return err
	}
	for sku := range acknowledged {
		m.Adds++
		if !all[sku] {
			m.AddsLost++
		}
	}
	if m.Adds < t.rounds*tabs/2 {
		return fmt.Errorf("of %d adds only %d were acknowledged", t.rounds*tabs, m.Adds)
	}
	return nil
}

// logOutPhase: a session is ended, and a copy of it shown to every replica until
// all refuse it.
func (t *traffic) logOutPhase(ctx context.Context, m *Measured) error {
	for i := range t.logOuts {
		b := newBrowser(t.client, t.front.url, fmt.Sprintf("10.7.0.%d", i))
		if a := b.logIn(ctx, t.files.emails[t.run.members+i]); !a.ok() {
			return fmt.Errorf("logging in: %d %s", a.Status, a.Code)
		}
		copied := b.copy("")
		accepted := func() (anywhere bool) {
			for _, backend := range t.front.backends[:replicas] {
				a := copied.copy("http://"+backend.Address).send(ctx, http.MethodGet, "/v1/sessions", nil, "")
				anywhere = anywhere || a.Status != http.StatusUnauthorized
			}
			return anywhere
		}
		if !accepted() {
			return errors.New("no replica knows a new session")
		}
		_ = b.do(ctx, http.MethodDelete, "/v1/sessions/current", nil) // whatever it answers, the client takes itself for logged out
		ended := time.Now()
		held := false
		for !held && time.Since(ended) < t.logOutPatience {
			held = !accepted()
		}
		m.LogOuts++
		if held {
			m.LogOutsHeld++
			m.LogOutSlowest = max(m.LogOutSlowest, time.Since(ended))
		}
	}
	m.LogOutPatience = t.logOutPatience
	return nil
}

// sizePhase fills a cart until it is refused more, at one replica, so that the
// way there decides nothing.
func (t *traffic) sizePhase(ctx context.Context, m *Measured) error {
	b := newBrowser(t.client, "http://"+t.front.backends[0].Address, "10.6.0.1")
	if a := b.logIn(ctx, t.files.emails[len(t.files.emails)-1]); !a.ok() {
		return fmt.Errorf("logging in: %d %s", a.Status, a.Code)
	}
	m.CookieBytesEmpty = b.weight()
	at, step := 0, 3
	for at < len(t.files.skus) {
		a := b.add(ctx, t.files.skus[at:min(at+step, len(t.files.skus))]...)
		switch {
		case a.ok():
			at += step
			if at == 3 {
				m.CookieBytes = b.weight()
				step = t.linesAtOnce
			}
		case step > 1:
			step = 1
		default:
			m.Largest, m.LargestRefusal = at, a.Code
			m.CookieBytesLargest = b.weight()
			if shown := b.read(ctx); len(shown.Items) != at {
				return fmt.Errorf("%d lines were acknowledged, %d are shown", at, len(shown.Items))
			}
			return nil
		}
	}
	return errors.New("no cart was refused")
}

// scalePhase adds a replica and watches what it gets.
func (t *traffic) scalePhase(ctx context.Context, m *Measured) error {
	added := t.front.backends[replicas]
	t.reset()
	pause(ctx, 4*t.every) // shoppers learn what they have
	if err := t.site.Add(); err != nil {
		return err
	}
	t.watch()
	if err := t.front.awaitReady(ctx, replicas+1); err != nil {
		return err
	}
	const fair = 1.0 / (replicas + 1)
	start := time.Now()
	snapshot := func() (share float64, total int) {
		t.mu.Lock()
		defer t.mu.Unlock()
		of := func(counts map[string]int, name string) float64 {
			sum := 0
			for _, n := range counts {
				sum += n
			}
			return float64(counts[name]) / max(float64(sum), 1)
		}
		for _, n := range t.answers {
			total += n
		}
		share = of(t.answers, added.Name)
		for name := range t.carts { // of the cart service's replicas, the new one ends in the same number
			if len(name) > 0 && name[len(name)-1] == added.Name[len(added.Name)-1] {
				return min(share, of(t.carts, name)), total
			}
		}
		return 0, total
	}
	m.NewReplica.FairAfter = -1
	for time.Since(start) < t.scale && ctx.Err() == nil {
		t.mu.Lock()
		t.answers, t.carts = map[string]int{}, map[string]int{}
		t.mu.Unlock()
		pause(ctx, time.Second)
		share, total := snapshot()
		if total == 0 {
			return errors.New("no answers for a second")
		}
		m.NewReplica.Shares = append(m.NewReplica.Shares, share)
		if len(m.NewReplica.Shares) == 2 {
			m.NewReplica.Shoppers, m.NewReplica.OutOfReach = t.seen()
		}
		if m.NewReplica.FairAfter < 0 && share >= 0.8*fair {
			m.NewReplica.FairAfter = time.Since(start)
		}
	}
	if m.NewReplica.Shoppers == 0 {
		return errors.New("nobody was watched")
	}
	return nil
}

// cpuPhase: the same requests to this way and to the reference in turn, with no
// other traffic; what the processes of each use.
func (t *traffic) cpuPhase(ctx context.Context, m *Measured, reference site) error {
	t.close()
	front, err := openFront(reference.Replicas(), roundRobin)
	if err != nil {
		return err
	}
	defer front.close()
	if err := front.awaitReady(ctx, replicas); err != nil {
		return err
	}
	if _, err := cpu(t.site.PIDs()); err != nil {
		m.CPU.Note = "not measured: needs /proc"
		return nil
	}
	ourGuests, err := t.guests(ctx, t.front.url)
	if err != nil {
		return err
	}
	theirGuests, err := t.guests(ctx, front.url)
	if err != nil {
		return err
	}
	var ourSum, theirSum time.Duration
	parts := usage{}
	for pair := range t.cpuPairs + 1 {
		our, err := t.block(ctx, ourGuests, t.site)
		if err != nil {
			return err
		}
		their, err := t.block(ctx, theirGuests, reference)
		if err != nil {
			return err
		}
		if pair == 0 {
			continue // it warmed both up
		}
		for program, used := range our {
			parts[program] += used
		}
		ours, theirs := our.sum(), their.sum()
		ourSum, theirSum = ourSum+ours, theirSum+theirs
		ratio := ours.Seconds() / max(theirs.Seconds(), 1e-3)
		if m.CPU.Least == 0 || ratio < m.CPU.Least {
			m.CPU.Least = ratio
		}
		m.CPU.Most = max(m.CPU.Most, ratio)
	}
	n := time.Duration(t.cpuPairs * t.cpuBlock)
	m.CPU.PerRequest, m.CPU.Reference, m.CPU.Parts = ourSum/n, theirSum/n, map[string]time.Duration{}
	for program, used := range parts {
		m.CPU.Parts[program] = used / n
	}
	m.CPU.Ratio = ourSum.Seconds() / max(theirSum.Seconds(), 1e-3)
	return nil
}

// atOnce is how many requests of a block are under way at once.
const atOnce = 16

// guests have three lines in the cart.
func (t *traffic) guests(ctx context.Context, url string) ([]*browser, error) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 2 * atOnce}}
	var guests []*browser
	for i := range 3 * atOnce {
		b := newBrowser(client, url, fmt.Sprintf("10.5.0.%d", i))
		for range 2 * (replicas + 1) { // so that each replica knows it, where each keeps its own
			if a := b.add(ctx, t.files.skus[0:3]...); !a.ok() {
				return nil, fmt.Errorf("adding: %d %s", a.Status, a.Code)
			}
		}
		guests = append(guests, b)
	}
	return guests, nil
}

// block sends a number of requests, half of them changes, and returns the CPU
// that the site used for them.
func (t *traffic) block(ctx context.Context, guests []*browser, s site) (usage, error) {
	before, err := cpu(s.PIDs())
	if err != nil {
		return nil, err
	}
	var group sync.WaitGroup
	failed := make([]error, atOnce)
	for worker := range atOnce {
		group.Go(func() {
			for k := range t.cpuBlock / atOnce {
				b := guests[worker+atOnce*(k%3)]
				var a answer
				if k%2 == 0 {
					a = b.read(ctx)
				} else {
					a = b.do(ctx, http.MethodPut, "/v1/cart/items/"+t.files.skus[k%3], map[string]any{"quantity": 1 + k%9})
				}
				if !a.ok() {
					failed[worker] = fmt.Errorf("a request: %d %s", a.Status, a.Code)
					return
				}
			}
		})
	}
	group.Wait()
	after, err := cpu(s.PIDs())
	if err != nil {
		return nil, err
	}
	for program, used := range before {
		after[program] -= used
	}
	return after, errors.Join(failed...)
}
