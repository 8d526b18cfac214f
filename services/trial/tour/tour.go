// Package tour is a walk through a shop that a person can follow: it shops,
// kills every replica in turn, stops and crashes Redis, and counts.
//
// It does not look into the shop: what it says comes from the answers that it
// was given. The faults come from outside, through Shop.
//
// The hazard is a tour that passes because it did not look. So the verdict is
// a pure function of the record (Judge) that has tests of its own, and it asks
// for what must have happened too: enough changes, every replica killed, an
// outage that was felt.
package tour

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"coatcheck/trial/local"
)

// Shop is what a tour needs of a running shop.
type Shop interface {
	Processes() []local.Process
	Kill(name string, sig syscall.Signal) error
	StopProcess(name string) error
	StartProcess(name string) error
	AwaitReady(ctx context.Context) error
	Close()
}

// Options say how to go through it.
type Options struct {
	// URL is the shop's public address, http://host:port.
	URL string
	// Out gets a line a step and the verdict.
	Out io.Writer
	// Transport carries the requests; nil means one of the tour's own.
	Transport http.RoundTripper
	// PerSecond is how many changes a second the shoppers in the background
	// make together; 0 means 50.
	PerSecond int
	// Outage is how long Redis is held down; 0 means 2 s.
	Outage time.Duration
	// settle is how long after an outage answers may still be refusals.
	settle time.Duration
}

const (
	shoppers = 5
	crowd    = 20 // goroutines that add to one cart at once
	// tourLimit ends a tour that hangs.
	tourLimit = 90 * time.Second
)

type tour struct {
	shop    Shop
	options Options
	rec     *recorder
	skus    []string
	steps   int
	begun   time.Time
	ada     *client // a guest, later a user
}

// Run goes through the tour on a shop that has been started, closes it, prints
// the verdict as the last line and returns whether it is PASS. An error means
// that ctx ended.
func Run(ctx context.Context, shop Shop, o Options) (pass bool, err error) {
	if o.PerSecond == 0 {
		o.PerSecond = 50
	}
	if o.Outage == 0 {
		o.Outage = 2 * time.Second
	}
	if o.settle == 0 {
		o.settle = recoveryLimit
	}
	if o.Transport == nil {
		transport := &http.Transport{MaxIdleConnsPerHost: 64}
		defer transport.CloseIdleConnections()
		o.Transport = transport
	}
	limited, cancel := context.WithTimeout(ctx, tourLimit)
	defer cancel()
	t := &tour{shop: shop, options: o, rec: newRecorder(), begun: time.Now()}
	t.ada = t.client("ada")
	t.rec.edit(func(rec *Record) { rec.PerSecond = o.PerSecond })
	if err := t.walk(limited); err != nil {
		if ctx.Err() != nil {
			return false, errors.New("the tour was broken off")
		}
		fmt.Fprintf(o.Out, "    the tour ends here: %v\n", err)
	}
	shop.Close()
	v := Judge(t.rec.take())
	t.print(v)
	return v.Pass(), nil
}

func (t *tour) client(cart string) *client {
	return newClient(cart, t.options.URL, t.options.Transport, t.rec)
}

// walk is the script.
func (t *tour) walk(ctx context.Context) error {
	if err := t.shop.AwaitReady(ctx); err != nil {
		return err
	}
	var replicas []local.Process
	for _, p := range t.shop.Processes() {
		if p.Role != local.Redis {
			replicas = append(replicas, p)
		}
	}
	t.rec.edit(func(rec *Record) {
		for _, p := range replicas {
			rec.Replicas = append(rec.Replicas, p.Name)
		}
	})
	t.step(fmt.Sprintf("a shop of %d replicas and a Redis opens on %s", len(replicas), t.options.URL))
	if err := t.guest(ctx); err != nil {
		return err
	}

	background, stop := context.WithCancel(ctx)
	defer stop()
	crowd, quit, err := t.startShoppers(background)
	if err != nil {
		return err
	}
	started := time.Now()
	for _, p := range replicas {
		if err := t.kill(ctx, p); err != nil {
			return err
		}
	}
	for _, part := range []func(context.Context) error{t.logIn, t.addAtOnce, t.stale, t.replay, t.checkout, t.redisOutage, t.redisCrash} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	quit()
	t.rec.edit(func(rec *Record) { rec.Shopped = time.Since(started) })
	if err := t.count(ctx, crowd); err != nil {
		return err
	}
	if err := t.logOut(ctx); err != nil {
		return err
	}
	t.rec.edit(func(rec *Record) { rec.Complete = true })
	t.shop.Close()
	t.step("the shop closes")
	return nil
}

// guest shops without an account.
func (t *tour) guest(ctx context.Context) error {
	r := t.ada.do(ctx, call{method: http.MethodGet, path: "/v1/products"})
	var list struct {
		Products []struct {
			SKU string `json:"sku"`
		} `json:"products"`
	}
	if err := json.Unmarshal(r.body, &list); err != nil || len(list.Products) < 2 {
		return fmt.Errorf("the catalogue: status %d, %d products", r.Status, len(list.Products))
	}
	for _, p := range list.Products {
		t.skus = append(t.skus, p.SKU)
	}
	t.step(fmt.Sprintf("the catalogue has %d products", len(t.skus)), r)

	r = t.ada.read(ctx, patient())
	t.rec.check("a new guest's cart is empty", r.OK && r.Cart.Version == 0 && r.Cart.units() == 0)
	t.step("a guest comes in and gets a ticket; the cart is empty", r)

	r = t.ada.add(ctx, patient(), map[string]int{t.skus[0]: 2, t.skus[1]: 1})
	t.step(fmt.Sprintf("the guest adds 2 %s and 1 %s", t.skus[0], t.skus[1]), r)
	r = t.ada.read(ctx, patient())
	t.rec.check("the guest's cart holds 3 units", r.Cart.units() == 3)
	t.step("the guest reads the cart: 3 units", r)
	return nil
}

// startShoppers lets guests shop in the background until quit is called, which
// waits for what is under way.
func (t *tour) startShoppers(ctx context.Context) (crowd []*client, quit func(), err error) {
	var group sync.WaitGroup
	done := make(chan struct{})
	skus := t.skus[:min(len(t.skus), 8)]
	for i := range shoppers {
		c := t.client(fmt.Sprintf("shopper-%d", i+1))
		if r := c.read(ctx, patient()); !r.OK {
			return nil, nil, fmt.Errorf("%s can't read a cart: status %d", c.cart, r.Status)
		}
		crowd = append(crowd, c)
	}
	for _, c := range crowd {
		group.Go(func() {
			tick := time.NewTicker(shoppers * time.Second / time.Duration(t.options.PerSecond))
			defer tick.Stop()
			for n := 0; ; n++ {
				select {
				case <-done:
					return
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				c.add(ctx, patient(), map[string]int{skus[n%len(skus)]: 1})
				if n%5 == 4 {
					c.read(ctx, patient())
				}
			}
		})
	}
	t.step(fmt.Sprintf("%d other guests start to shop, %d changes a second, and will not stop", shoppers, t.options.PerSecond))
	return crowd, func() { close(done); group.Wait() }, nil
}

// kill kills one replica while the guest shops.
func (t *tour) kill(ctx context.Context, p local.Process) error {
	mug := map[string]int{t.skus[0]: 1}
	replies := []reply{t.ada.add(ctx, patient(), mug)}
	killed := time.Now()
	if err := t.shop.Kill(p.Name, syscall.SIGKILL); err != nil {
		return err
	}
	replies = append(replies, t.ada.add(ctx, patient(), mug), t.ada.add(ctx, patient(), mug))
	// A new guest needs auth, where those who have a ticket may not.
	replies = append(replies, t.client("passer-by").read(ctx, patient()))
	if _, err := t.awaitReplaced(ctx, p); err != nil {
		return err
	}
	if err := t.shop.AwaitReady(ctx); err != nil {
		return err
	}
	back := time.Since(killed)
	t.rec.edit(func(rec *Record) { rec.Killed = append(rec.Killed, p.Name) })
	replies = append(replies, t.ada.add(ctx, patient(), mug))
	t.step(fmt.Sprintf("kill -9 %s: the guest adds 1 before, 2 now, 1 when it is back (%.1f s)", p.Name, back.Seconds()), replies...)
	return nil
}

// awaitReplaced returns when another process runs in the place of p, and which.
func (t *tour) awaitReplaced(ctx context.Context, p local.Process) (local.Process, error) {
	for {
		for _, now := range t.shop.Processes() {
			if now.Name == p.Name && now.State == local.Running && now.PID != p.PID {
				return now, nil
			}
		}
		if !pause(ctx, 10*time.Millisecond) {
			return p, fmt.Errorf("%s did not come back", p.Name)
		}
	}
}

// logIn makes the guest a user who has a cart already.
func (t *tour) logIn(ctx context.Context) error {
	credentials := map[string]string{"email": "ada-" + strings.ToLower(rand.Text()) + "@example.com", "password": rand.Text()}
	r := t.ada.do(ctx, call{method: http.MethodPost, path: "/v1/users", body: credentials, want: []int{201}})
	if !r.OK {
		return fmt.Errorf("registration: status %d", r.Status)
	}
	t.step("the guest registers as ada", r)

	phone := t.client("ada")
	phone.read(ctx, patient())
	r = phone.do(ctx, call{method: http.MethodPost, path: "/v1/sessions", body: credentials, want: []int{201}})
	if !r.OK {
		return fmt.Errorf("log-in: status %d", r.Status)
	}
	added := phone.add(ctx, patient(), map[string]int{t.skus[0]: 5})
	t.step(fmt.Sprintf("ada logs in on a phone and adds 5 %s there", t.skus[0]), r, added)

	r = t.ada.do(ctx, call{method: http.MethodPost, path: "/v1/sessions", body: credentials, want: []int{201}})
	if !r.OK {
		return fmt.Errorf("log-in: status %d", r.Status)
	}
	t.ada.units.Add(phone.units.Load())
	merged := t.ada.read(ctx, patient())
	t.rec.check("the merged cart holds the guest's units and the user's", merged.Cart.units() == int(t.ada.units.Load()))
	t.step(fmt.Sprintf("ada logs in here too: the two carts are one, %d units", merged.Cart.units()), r, merged)
	return nil
}

// addAtOnce adds to one cart from many sides.
func (t *tour) addAtOnce(ctx context.Context) error {
	before := t.ada.read(ctx, patient())
	replies := make([]reply, crowd)
	var group sync.WaitGroup
	for i := range replies {
		group.Go(func() { replies[i] = t.ada.add(ctx, patient(), map[string]int{t.skus[1]: 1}) })
	}
	group.Wait()
	after := t.ada.read(ctx, patient())
	sum := after.Cart.units() - before.Cart.units()
	t.rec.check(fmt.Sprintf("%d adds at once make %d units", crowd, crowd), sum == crowd)
	t.rec.check(fmt.Sprintf("%d adds raise the version by %d", crowd, crowd), after.Cart.Version-before.Cart.Version == crowd)
	t.step(fmt.Sprintf("%d adds of 1 %s at once: %d more units", crowd, t.skus[1], sum), append(replies, after)...)
	return nil
}

// stale changes a cart that has moved on.
func (t *tour) stale(ctx context.Context) error {
	old := t.ada.read(ctx, patient())
	t.ada.add(ctx, patient(), map[string]int{t.skus[0]: 1})
	r := t.ada.do(ctx, call{
		method: http.MethodPut, path: "/v1/cart/items/" + t.skus[0], body: map[string]int{"quantity": 500},
		ifMatch: old.Header.Get("ETag"), want: []int{http.StatusPreconditionFailed},
	})
	var problem struct {
		Cart *cart `json:"cart"`
	}
	_ = json.Unmarshal(r.body, &problem)
	ok := r.Status == http.StatusPreconditionFailed && problem.Cart != nil && problem.Cart.Version == old.Cart.Version+1
	t.rec.check("a change of a stale version answers 412 with the cart as it is", ok)
	if problem.Cart != nil {
		r.Cart = *problem.Cart
	}
	t.step(fmt.Sprintf("a change with the If-Match of version %d: status %d, with the cart as it is", old.Cart.Version, r.Status), r)
	return nil
}

// replay sends one request twice.
func (t *tour) replay(ctx context.Context) error {
	request := adding(patient(), map[string]int{t.skus[1]: 3})
	request.key = rand.Text()
	first := t.ada.do(ctx, request)
	// Counted once: the second time must change nothing.
	request.kind, request.lines = Other, nil
	second := t.ada.do(ctx, request)
	ok := second.Header.Get("Idempotency-Replayed") == "true" && second.Cart.Version == first.Cart.Version && second.Cart.units() == first.Cart.units()
	t.rec.check("a repeated Idempotency-Key is answered as a replay and adds nothing", ok)
	t.step(fmt.Sprintf("add 3 %s twice under one Idempotency-Key: once", t.skus[1]), first, second)
	return nil
}

// checkout buys the cart while somebody adds to it.
func (t *tour) checkout(ctx context.Context) error {
	for try := range 5 {
		before := t.ada.read(ctx, patient())
		var group sync.WaitGroup
		var bought, added reply
		group.Go(func() {
			bought = t.ada.do(ctx, call{
				kind: Checkout, method: http.MethodPost, path: "/v1/cart/checkout",
				ifMatch: before.Header.Get("ETag"), want: []int{201, http.StatusPreconditionFailed},
			})
		})
		group.Go(func() {
			pause(ctx, time.Duration(try*try)*time.Millisecond)
			added = t.ada.add(ctx, patient(), map[string]int{t.skus[0]: 1})
		})
		group.Wait()
		if bought.Status == http.StatusPreconditionFailed {
			t.step("checkout, and an add at the same moment: the add was first, 412, once more", bought, added)
			continue
		}
		if bought.Status != http.StatusCreated {
			return fmt.Errorf("checkout: status %d", bought.Status)
		}
		// From here on the cart holds what came after the order.
		t.ada.units.Store(0)
		after := t.ada.read(ctx, patient())
		t.ada.units.Store(int64(after.Cart.units()))
		t.rec.check("checkout takes the version that it named and leaves what came after", bought.Cart.units() == before.Cart.units() && after.Cart.units() == 1)
		t.step(fmt.Sprintf("checkout, and an add at the same moment: an order of %d units, %d in the cart", bought.Cart.units(), after.Cart.units()), bought, added, after)
		return nil
	}
	return errors.New("checkout: five times the add was first")
}

func (t *tour) redisOutage(ctx context.Context) error {
	return t.outage(ctx, "Redis outage", fmt.Sprintf("Redis stopped for %.1f s", t.options.Outage.Seconds()), func() error {
		if err := t.shop.StopProcess(local.Redis); err != nil {
			return err
		}
		pause(ctx, t.options.Outage)
		return t.shop.StartProcess(local.Redis)
	})
}

func (t *tour) redisCrash(ctx context.Context) error {
	return t.outage(ctx, "Redis crash", "kill -9 redis", func() error {
		i := slices.IndexFunc(t.shop.Processes(), func(p local.Process) bool { return p.Role == local.Redis })
		if i < 0 {
			return errors.New("the shop has no Redis")
		}
		redis := t.shop.Processes()[i]
		if err := t.shop.Kill(redis.Name, syscall.SIGKILL); err != nil {
			return err
		}
		_, err := t.awaitReplaced(ctx, redis)
		return err
	})
}

// outage lets happen what returns when Redis runs again, reads all the while, and
// looks at the way back.
func (t *tour) outage(ctx context.Context, name, what string, happen func() error) error {
	if r := t.ada.add(ctx, patient(), map[string]int{t.skus[0]: 1}); !r.OK {
		return fmt.Errorf("add before the %s: status %d", name, r.Status)
	}
	first := t.rec.len()
	t.rec.outage()
	var probe sync.WaitGroup
	over := make(chan struct{})
	probe.Go(func() {
		for {
			select {
			case <-over:
				return
			default:
				t.ada.read(ctx, once())
				pause(ctx, 50*time.Millisecond)
			}
		}
	})
	err := happen()
	close(over)
	if err != nil {
		probe.Wait()
		return err
	}
	runs := time.Now()
	answers := told(t.rec.answers(first))
	r := t.ada.add(ctx, insistent(), map[string]int{t.skus[1]: 1})
	took := time.Since(runs)
	if !r.OK {
		return fmt.Errorf("%s: no change was acknowledged after it", name)
	}
	t.rec.edit(func(rec *Record) { rec.Recoveries = append(rec.Recoveries, Recovery{From: name, Took: took}) })
	// What is promised is service 2 s later; until then others may still be refused.
	pause(ctx, time.Until(runs.Add(t.options.settle)))
	probe.Wait()
	t.rec.outage()
	after := t.ada.read(ctx, patient())
	t.rec.check("after the "+name+" the cart holds what it held", after.Cart.units() == int(t.ada.units.Load()))
	t.step(fmt.Sprintf("%s: answers %s; served again %.1f s after its start", what, answers, took.Seconds()), r, after)
	return nil
}

// told says how often which status was answered.
func told(count map[int]int) string {
	if len(count) == 0 {
		return "none"
	}
	var parts []string
	for _, status := range slices.Sorted(maps.Keys(count)) {
		name := fmt.Sprint(status)
		if status == 0 {
			name = "no answer"
		}
		parts = append(parts, fmt.Sprintf("%d × %s", count[status], name))
	}
	return strings.Join(parts, ", ")
}

// count reads what is there at the end.
func (t *tour) count(ctx context.Context, crowd []*client) error {
	units := 0
	for _, c := range append(crowd, t.ada) {
		r := c.read(ctx, patient())
		if !r.OK {
			return fmt.Errorf("reading the cart of %s: status %d", c.cart, r.Status)
		}
		units += r.Cart.units()
		t.rec.edit(func(rec *Record) { rec.Carts[c.cart] = r.Cart.lines() })
	}
	r := t.ada.do(ctx, call{method: http.MethodGet, path: "/v1/orders?page_size=100"})
	var list struct {
		Orders []cart `json:"orders"`
	}
	if err := json.Unmarshal(r.body, &list); err != nil || !r.OK {
		return fmt.Errorf("listing the orders: status %d", r.Status)
	}
	orders := map[string]map[string]int{}
	for _, order := range list.Orders {
		orders[order.ID] = order.lines()
		units += order.units()
	}
	t.rec.edit(func(rec *Record) { rec.Orders[t.ada.cart] = orders })
	t.step(fmt.Sprintf("everybody stops: %d carts and ada's order hold %d units", len(crowd)+1, units), r)
	return nil
}

// logOut ends the session and tries its cookie once more.
func (t *tour) logOut(ctx context.Context) error {
	stolen := t.client(t.ada.cart)
	req, err := http.NewRequest(http.MethodGet, t.options.URL, nil)
	if err != nil {
		return err
	}
	stolen.http.Jar.SetCookies(req.URL, t.ada.http.Jar.Cookies(req.URL))
	before := stolen.do(ctx, call{method: http.MethodGet, path: "/v1/orders"})
	r := t.ada.do(ctx, call{method: http.MethodDelete, path: "/v1/sessions/current", want: []int{http.StatusNoContent}})
	after := stolen.do(ctx, call{method: http.MethodGet, path: "/v1/cart", want: []int{http.StatusUnauthorized}})
	t.rec.check("a copied session cookie works until log-out and answers 401 after it", before.OK && after.Status == http.StatusUnauthorized)
	t.step(fmt.Sprintf("ada logs out; a copy of her cookie answers %d", after.Status), r, after)
	return nil
}

// step prints one line: what was done, who answered, and the cart's version.
func (t *tour) step(what string, replies ...reply) {
	t.steps++
	names := map[string]bool{}
	version := ""
	for _, r := range replies {
		for _, name := range r.served() {
			names[name] = true
		}
		if r.Cart.Version > 0 {
			version = fmt.Sprintf("version %d", r.Cart.Version)
		}
	}
	line := fmt.Sprintf("%2d  %-76s  %s  %s", t.steps, what, strings.Join(sorted(names), " "), version)
	fmt.Fprintln(t.options.Out, strings.TrimRight(line, " "))
}

// print ends the tour.
func (t *tour) print(v Verdict) {
	for _, fault := range v.Faults {
		fmt.Fprintf(t.options.Out, "    %s\n", fault)
	}
	word := "FAIL"
	if v.Pass() {
		word = "PASS"
	}
	rec := t.rec.take()
	fmt.Fprintf(t.options.Out,
		"VERDICT  %s  acknowledged %d  lost %d  doubled %d  failed %d  unknown %d  wrong in outages %d  short reads %d  killed %d of %d  %.0f s\n",
		word, v.Acknowledged, v.Lost, v.Doubled, v.Failed, v.Unknown, v.WrongInOutage, v.ShortReads, len(rec.Killed), len(rec.Replicas), time.Since(t.begun).Seconds())
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
