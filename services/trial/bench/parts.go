package bench

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"coatcheck/trial/local"
	"coatcheck/trial/process"
)

func parts() []part {
	return []part{
		{"add", "an add, the full path against direct", (*run).adds},
		{"equal", "an add and a read against direct with the shop's settings of runtime and timers", (*run).equals},
		{"plain", "an add, each call to a cart by itself, against direct", (*run).plainAdds},
		{"batches", "an add with two batches under way to a cart replica, against one", (*run).moreBatches},
		{"observed", "an add with traces and log lines, against none", (*run).observed},
		{"read", "a read, the full path against direct", (*run).reads},
		{"always", "an add with every change on disk before its answer", (*run).durableAdds},
		{"naive", "an add against GET, change, SET, at 1 and at 500 lines", (*run).naives},
		{"size", "an add at 500 lines against one at 1 line", (*run).sizes},
		{"half", "latency at half of each one's own maximum", (*run).halves},
		{"steady", "latency at 2,000 requests a second, against each call by itself and against direct", (*run).steady},
		{"lone", "a lone request, against direct and against each call by itself", (*run).lone},
		{"kill", "latency while a replica is killed every 5 s", (*run).kills},
		{"lost", "100 parallel adds to one new cart", (*run).lostUpdates},
		{"hincrby", "HINCRBY through redis-benchmark", (*run).hincrby},
		{"memory", "memory per cart in Redis", (*run).memory},
		{"connections", "memory of a gateway with 5,000 connections", (*run).connections},
		{"growth", "carts of 1 to 500 lines", (*run).growLines},
		{"tickets", "1,000 to 100,000 tickets", (*run).growTickets},
		{"replicas", "1 to 4 replicas of each service on one core", (*run).growReplicas},
	}
}

func (r *run) adds(ctx context.Context) error {
	a, err := r.closed(ctx, "shop, add", r.shop.site, 3, false, false)
	if err != nil {
		return err
	}
	b, err := r.closed(ctx, "direct, add", r.direct, 3, false, false)
	if err != nil {
		return err
	}
	c, err := r.compare(ctx, "add", "Add, carts of 3 lines", a, b)
	if err != nil {
		return err
	}
	r.figure(c, "CPU of an add, against direct", c.CPU(), 1.15, false, " ×", "")
	r.figure(c, "Adds a second, against direct", c.Rate(), 0.85, true, " ×", "")
	r.figure(c, "Redis CPU of a change", c.of(func(r Round) float64 { return r.A.CPU[local.Redis] }), 25, false, " µs", "")
	r.figure(c, "Allocations of the gateway for an add, on 64 connections", c.allocations(), 60, false, "", "")
	return nil
}

// allocations are the gateway's for a request of A.
func (c *Comparison) allocations() Range {
	return c.of(func(r Round) float64 { return r.A.Mallocs[local.Gateway] })
}

// equals is what the design costs when direct has the same settings.
func (r *run) equals(ctx context.Context) error {
	for _, tt := range []struct {
		what, title, whole string
		reads              bool
		limit              float64
	}{{"add", "Add", "an add", false, 1.15}, {"read", "Read", "a read", true, 1.25}} {
		a, err := r.closed(ctx, "shop, "+tt.what, r.shop.site, 3, tt.reads, false)
		if err != nil {
			return err
		}
		b, err := r.closed(ctx, "tuned direct, "+tt.what, r.tuned, 3, tt.reads, false)
		if err != nil {
			return err
		}
		c, err := r.compare(ctx, "equal-"+tt.what, tt.title+", carts of 3 lines, the same settings on both sides", a, b)
		if err != nil {
			return err
		}
		r.figure(c, fmt.Sprintf("CPU of %s, against direct with the same settings", tt.whole), c.CPU(), tt.limit, false, " ×", "")
		if !tt.reads {
			r.figure(c, "Adds a second, against direct with the same settings", c.Rate(), 0.85, true, " ×", "")
		}
	}
	return nil
}

func (r *run) reads(ctx context.Context) error {
	a, err := r.closed(ctx, "shop, read", r.shop.site, 3, true, false)
	if err != nil {
		return err
	}
	b, err := r.closed(ctx, "direct, read", r.direct, 3, true, false)
	if err != nil {
		return err
	}
	c, err := r.compare(ctx, "read", "Read, carts of 3 lines", a, b)
	if err != nil {
		return err
	}
	r.figure(c, "CPU of a read, against direct", c.CPU(), 1.25, false, " ×", "")
	return nil
}

func (r *run) durableAdds(ctx context.Context) (err error) {
	for _, s := range []*site{r.shop.site, r.direct} {
		if err := s.durable(ctx, true); err != nil {
			return err
		}
	}
	defer func() { err = errors.Join(err, r.shop.durable(ctx, false), r.direct.durable(ctx, false)) }()
	a, err := r.closed(ctx, "shop, add, always", r.shop.site, 3, false, false)
	if err != nil {
		return err
	}
	b, err := r.closed(ctx, "direct, add, always", r.direct, 3, false, false)
	if err != nil {
		return err
	}
	c, err := r.compare(ctx, "always", "Add with appendfsync always", a, b)
	if err != nil {
		return err
	}
	r.figure(c, "CPU of an add with appendfsync always, against direct", c.CPU(), 1.15, false, " ×", "")
	r.figure(c, "Adds a second with appendfsync always, against direct", c.Rate(), 0.85, true, " ×", "")
	return nil
}

func (r *run) naives(ctx context.Context) error {
	for _, tt := range []struct {
		lines int
		limit float64
		title string
	}{{1, 1, "Add at 1 line"}, {500, 1.0 / 8, "Add at 500 lines, return=minimal"}} {
		minimal := tt.lines > 1
		a, err := r.closed(ctx, fmt.Sprintf("shop, add, %d lines", tt.lines), r.shop.site, tt.lines, false, minimal)
		if err != nil {
			return err
		}
		b, err := r.closed(ctx, fmt.Sprintf("naive, add, %d lines", tt.lines), r.naive, tt.lines, false, minimal)
		if err != nil {
			return err
		}
		c, err := r.compare(ctx, fmt.Sprintf("naive-%d", tt.lines), tt.title, a, b)
		if err != nil {
			return err
		}
		r.figure(c, "CPU, against naive: "+tt.title, c.CPU(), tt.limit, false, " ×", "")
	}
	return nil
}

func (r *run) sizes(ctx context.Context) error {
	a, err := r.closed(ctx, "shop, add, 500 lines, minimal", r.shop.site, 500, false, true)
	if err != nil {
		return err
	}
	b, err := r.closed(ctx, "shop, add, 1 line", r.shop.site, 1, false, false)
	if err != nil {
		return err
	}
	c, err := r.compare(ctx, "size", "Add at 500 lines (return=minimal) against 1 line", a, b)
	if err != nil {
		return err
	}
	r.figure(c, "CPU of an add at 500 lines (return=minimal), against 1 line", c.CPU(), 1.15, false, " ×", "")
	return nil
}

// halves measures latency at half of what each answered at most.
func (r *run) halves(ctx context.Context) error {
	a, err := r.closed(ctx, "shop at half of its maximum", r.shop.site, 3, false, false)
	if err != nil {
		return err
	}
	b, err := r.closed(ctx, "direct at half of its maximum", r.direct, 3, false, false)
	if err != nil {
		return err
	}
	// Just before, for what was its maximum some minutes ago may not be any more.
	c, err := r.compare(ctx, "maximum", "Add, carts of 3 lines: the maxima that are then halved", a, b)
	if err != nil {
		return err
	}
	a.load.rate = c.of(func(r Round) float64 { return r.A.PerSecond }).Median / 2
	b.load.rate = c.of(func(r Round) float64 { return r.B.PerSecond }).Median / 2
	if c, err = r.compare(ctx, "half", fmt.Sprintf("Open loop at half of the maximum: %.0f/s and %.0f/s", a.load.rate, b.load.rate), a, b); err != nil {
		return err
	}
	r.figure(c, "p99 at half of its maximum, against direct's at half of direct's", c.P99(), 1.5, false, " ×", "")
	return nil
}

func (r *run) found(key string) *Comparison {
	for _, c := range r.report.Comparisons {
		if c.Key == key {
			return c
		}
	}
	return nil
}

func (r *run) steady(ctx context.Context) error {
	plain, err := r.openPlain(ctx)
	if err != nil {
		return err
	}
	defer r.closeShop(plain)
	a, err := r.closed(ctx, "shop at 2,000/s", r.shop.site, 3, false, false)
	if err != nil {
		return err
	}
	for _, tt := range []struct {
		key   string
		other *site
	}{{"steady", plain.site}, {"steady-direct", r.direct}} {
		b, err := r.closed(ctx, tt.other.name+" at 2,000/s", tt.other, 3, false, false)
		if err != nil {
			return err
		}
		a.load.rate, b.load.rate = 2000, 2000
		c, err := r.compare(ctx, tt.key, "Open loop at 2,000 requests a second", a, b)
		if err != nil {
			return err
		}
		if tt.other == plain.site {
			r.figure(c, "p99 at 2,000 requests a second, against each call by itself", c.P99(), 1, false, " ×", "")
			if err := b.load.carts.whole(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// lone is one connection, on which no call has company.
func (r *run) lone(ctx context.Context) error {
	plain, err := r.openPlain(ctx)
	if err != nil {
		return err
	}
	defer r.closeShop(plain)
	a, err := r.closed(ctx, "shop, a lone request", r.shop.site, 3, false, false)
	if err != nil {
		return err
	}
	a.load.conns = 1
	for _, tt := range []struct {
		key   string
		other *site
		limit float64
		title string
	}{
		{"lone", r.direct, 2.1, "p50 of a lone request, against direct"},
		{"lone-plain", plain.site, 1, "p50 of a lone request, against each call by itself"},
	} {
		b, err := r.closed(ctx, tt.other.name+", a lone request", tt.other, 3, false, false)
		if err != nil {
			return err
		}
		b.load.conns = 1
		c, err := r.compare(ctx, tt.key, "One connection", a, b)
		if err != nil {
			return err
		}
		r.figure(c, tt.title, c.P50(), tt.limit, false, " ×", "")
		if tt.other == r.direct {
			r.figure(c, "Allocations of the gateway for a lone add", c.allocations(), 60, false, "", "")
			continue
		}
		if err := b.load.carts.whole(ctx); err != nil {
			return err
		}
	}
	return nil
}

// kills compares a shop that loses a cart or an auth replica every 5 s with the
// same one left alone. No request may fail.
func (r *run) kills(ctx context.Context) error {
	const every, each = 5 * time.Second, 2
	s, err := r.openShop(ctx, "shop of 2, 2 and 3", 2, 2, 3, nil)
	if err != nil {
		return err
	}
	defer s.close()
	c, err := newCarts(ctx, s.site, r.keys, r.skus, 500, 3)
	if err != nil {
		return err
	}
	l := load{carts: c, conns: conns, rate: 500, warm: warm, length: min(each*every, 4*r.Block)}
	victims := []string{"cart-1", "auth-1", "cart-2", "auth-2", "cart-3"}
	killed := 0
	var killErr error
	killing := func(ctx context.Context) {
		for range each {
			pause(ctx, l.length/each/2)
			killErr = errors.Join(killErr, s.Kill(victims[killed%len(victims)], syscall.SIGKILL))
			killed++
			pause(ctx, l.length/each/2)
		}
	}
	comparison := &Comparison{Key: "kill", Title: fmt.Sprintf("%.0f adds a second, and a cart or auth replica killed every %v", l.rate, l.length/each), A: "killed", B: "quiet"}
	for i := 0; i < 2*r.Pairs && comparison.judge() < r.Pairs; i++ {
		var round Round
		if round.Echo, err = r.echoes(ctx); err != nil {
			return err
		}
		for k := range 2 {
			// CPU can't be told of processes that ended: only latency is.
			if (i+k)%2 == 0 {
				round.A, err = s.latency(ctx, l, killing)
			} else {
				round.B, err = s.latency(ctx, l, nil)
			}
			if err = errors.Join(err, killErr); err != nil {
				return err
			}
			ready, cancel := context.WithTimeout(ctx, 20*time.Second)
			err = s.AwaitReady(ready)
			cancel()
			if err = errors.Join(err, r.pin(s.site)); err != nil {
				return err
			}
		}
		comparison.Rounds = append(comparison.Rounds, round)
	}
	if err := c.whole(ctx); err != nil {
		return err
	}
	comparison.Few = comparison.judge() < max(r.Pairs, leastPairs)
	r.report.Comparisons = append(r.report.Comparisons, comparison)
	r.figure(comparison, fmt.Sprintf("p99 with a replica killed every %v, against quiet", l.length/each), comparison.P99(), 10, false, " ×",
		fmt.Sprintf("%d kills, no failed request, nothing lost", killed))
	return nil
}

// latency is run for a site whose processes come and go.
func (s *site) latency(ctx context.Context, l load, during func(context.Context)) (Block, error) {
	still := *s
	still.programs = func() []program { return nil }
	return still.run(ctx, l, during)
}

// Survivors is how many of 100 parallel adds were there afterwards.
type Survivors struct {
	Who         string `json:"who"`
	Repetitions int    `json:"repetitions"`
	Least       int    `json:"least"`
	Median      int    `json:"median"`
	Most        int    `json:"most"`
}

// lostUpdates has 100 clients add one unit of one product to a new cart at once.
func (r *run) lostUpdates(ctx context.Context) error {
	repetitions := min(20, max(3, 2*r.Pairs))
	for _, s := range []*site{r.shop.site, r.direct, r.naive} {
		var survivors []int
		for range repetitions {
			n, err := r.race(ctx, s, 100)
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			survivors = append(survivors, n)
		}
		slices.Sort(survivors)
		found := Survivors{Who: s.name, Repetitions: repetitions, Least: survivors[0], Median: survivors[repetitions/2], Most: survivors[repetitions-1]}
		r.report.Survivors = append(r.report.Survivors, found)
		if s != r.naive && (found.Least != 100 || found.Most != 100) {
			return fmt.Errorf("%s: of 100 acknowledged adds %d to %d are there", s.name, found.Least, found.Most)
		}
	}
	return nil
}

// race returns how many of n parallel adds are in the cart, all of which were
// acknowledged.
func (r *run) race(ctx context.Context, s *site, n int) (int, error) {
	c, err := newCarts(ctx, s, r.keys, r.skus, 1, 1)
	if err != nil {
		return 0, err
	}
	all := make([]*conn, n)
	for i := range all {
		if all[i], err = dial(ctx, s.addr(i)); err != nil {
			return 0, err
		}
		defer func() { _ = all[i].Close() }()
	}
	start := make(chan struct{})
	failed := make([]error, n)
	var group sync.WaitGroup
	for i, conn := range all {
		request := c.adding(nil, 0, c.bodies[0], false)
		group.Go(func() {
			<-start
			_, failed[i] = conn.do(request)
		})
	}
	close(start)
	group.Wait()
	if err := first(failed...); err != nil {
		return 0, err
	}
	body, err := all[0].do(c.reading(nil, 0))
	if err != nil {
		return 0, err
	}
	shown, err := quantities(body)
	return int(shown[r.skus[0]]) - 1, err
}

// hincrby is what Redis itself takes for a plain HINCRBY.
func (r *run) hincrby(ctx context.Context) error {
	program, err := exec.LookPath("redis-benchmark")
	if err != nil {
		return errors.New("redis-benchmark not found: it comes with redis-tools (Debian, Ubuntu) or redis (macOS)")
	}
	host, port, _ := net.SplitHostPort(r.store.Addr)
	const n = 100_000
	var rates, cpu []float64
	for range max(3, r.Pairs/2) {
		before, err := process.CPU(r.store.PID)
		if err != nil {
			return err
		}
		cmd := exec.CommandContext(ctx, program, "-h", host, "-p", port, "-c", strconv.Itoa(conns), "-n", strconv.Itoa(n), "-r", strconv.Itoa(r.Carts), "--csv",
			"HINCRBY", "plain:__rand_int__", "sku", "1")
		out, err := cmd.Output()
		if err != nil {
			return fmt.Errorf("redis-benchmark: %w", err)
		}
		after, err := process.CPU(r.store.PID)
		if err != nil {
			return err
		}
		rows, err := csv.NewReader(bytes.NewReader(out)).ReadAll()
		if err != nil || len(rows) < 2 || len(rows[1]) < 2 {
			return fmt.Errorf("redis-benchmark printed %q", out)
		}
		rate, err := strconv.ParseFloat(rows[1][1], 64)
		if err != nil {
			return fmt.Errorf("redis-benchmark: %w", err)
		}
		rates, cpu = append(rates, rate), append(cpu, float64((after-before).Microseconds())/n)
	}
	r.report.HIncrBy = &HIncrBy{PerSecond: rangeOf(rates), RedisCPU: rangeOf(cpu)}
	return nil
}

// HIncrBy is what redis-benchmark measures of a plain HINCRBY, of which no client
// in the shop's place could be cheaper.
type HIncrBy struct {
	PerSecond Range `json:"per_second"`
	RedisCPU  Range `json:"redis_cpu_us"`
}

// connections holds many connections open, each of another guest who has added something: in a
// pod as small as the goal, and in one of the chart.
func (r *run) connections(ctx context.Context) error {
	const n, limit = 5000, 128
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return err
	}
	if files.Cur < n+200 {
		return fmt.Errorf("only %d files may be open, and %d connections are wanted: raise ulimit -n", files.Cur, n)
	}
	for _, pod := range []int{limit, chartGatewayMiB} {
		before, after, err := r.holding(ctx, n, pod)
		if err != nil {
			return err
		}
		r.counted(fmt.Sprintf("Gateway's memory with 5,000 open connections, in a pod of %d MiB", pod), float64(after)/mib, limit, " MiB", fmt.Sprintf("%.0f MiB with none", float64(before)/mib))
		if pod == limit {
			r.report.Gateway = &Connections{N: n, Before: before, After: after}
		}
	}
	return nil
}

// holding is a gateway's memory before, and the most of it with n connections, if its pod may have
// so many MiB.
func (r *run) holding(ctx context.Context, n, pod int) (before, after int64, err error) {
	// As a service sets for itself in such a pod.
	limit := fmt.Sprintf("GOMEMLIMIT=%.0fMiB", goShare*float64(pod))
	s, err := r.openShop(ctx, fmt.Sprintf("shop of pods of %d MiB", pod), 1, 1, 1, map[string][]string{local.Gateway: {limit}})
	if err != nil {
		return 0, 0, err
	}
	defer s.close()
	resident := func() (int64, error) {
		all, err := s.resident()
		return all[local.Gateway], err
	}
	if before, err = resident(); err != nil {
		return 0, 0, err
	}
	c, err := newCarts(ctx, s.site, r.keys, r.skus, n, 1)
	if err != nil {
		return 0, 0, err
	}
	open := make([]*conn, n)
	defer func() {
		for _, c := range open {
			if c != nil {
				_ = c.Close()
			}
		}
	}()
	for i := range open {
		if open[i], err = dial(ctx, s.addr(i)); err != nil {
			return 0, 0, err
		}
		if _, err := open[i].do(c.adding(nil, i, c.bodies[0], false)); err != nil {
			return 0, 0, err
		}
		c.added[i].Add(1)
		if i%100 == 99 {
			now, err := resident()
			if err != nil {
				return 0, 0, err
			}
			after = max(after, now)
		}
	}
	return before, after, c.whole(ctx)
}

// Connections is a gateway's memory before and with so many connections.
type Connections struct {
	N      int   `json:"n"`
	Before int64 `json:"before_bytes"`
	After  int64 `json:"after_bytes"`
}
