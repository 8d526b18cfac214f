package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"coatcheck/trial/process"
)

// load is what is asked of a site.
type load struct {
	carts   *carts
	reads   bool // else adds of one unit to one line
	minimal bool // with Prefer: return=minimal
	conns   int
	rate    float64 // requests a second whether or not answers come; 0: each connection sends when it has its answer
	warm    time.Duration
	length  time.Duration
}

// Block is what one block of load led to. CPU is in microseconds per request.
type Block struct {
	Requests  int                `json:"requests"` // that were answered
	PerSecond float64            `json:"per_second"`
	P50       float64            `json:"p50_ms"`
	P99       float64            `json:"p99_ms"`
	CPU       map[string]float64 `json:"cpu_us"`         // by role
	Generator float64            `json:"generator_us"`   // what the load generator took of the same machine
	Mallocs   map[string]float64 `json:"mallocs"`        // allocations per request, by role
	LateP99   float64            `json:"late_ms"`        // open loop: how late the generator sent, of which the latency has all
	Sent      float64            `json:"sent_bytes"`     // by the client, per request
	Received  float64            `json:"received_bytes"` // by the client, per request
}

func (b Block) sum() (sum float64) {
	for _, us := range b.CPU {
		sum += us
	}
	return sum
}

// worker is one connection of a load.
type worker struct {
	*conn
	load
	random   *rand.Rand
	buffer   []byte
	all      int             // requests since the connection opened
	answered int             // of those, while it was measured
	took     []time.Duration // of those that were answered meanwhile; in an open loop, that were due meanwhile
	late     []time.Duration
	measured *window
}

// window is the time in which a load is measured. The zero one has not begun.
type window struct {
	from, until atomic.Int64 // in nanoseconds since 1970; 0: not yet
}

func (w *window) begin() { w.from.Store(time.Now().UnixNano()) }
func (w *window) end()   { w.until.Store(time.Now().UnixNano()) }

func (w *window) has(t time.Time) bool {
	at, from, until := t.UnixNano(), w.from.Load(), w.until.Load()
	return from != 0 && at >= from && (until == 0 || at < until)
}

// one sends one request that was due at a time.
func (w *worker) one(due time.Time) error {
	cart, line := w.random.IntN(len(w.carts.heads)), 0
	if w.reads {
		w.buffer = w.carts.reading(w.buffer, cart)
	} else {
		line = w.random.IntN(w.carts.lines)
		w.buffer = w.carts.adding(w.buffer, cart, w.carts.bodies[line], w.minimal)
	}
	late := time.Since(due)
	if _, err := w.do(w.buffer); err != nil {
		return err
	}
	if !w.reads {
		w.carts.added[cart*w.carts.lines+line].Add(1)
	}
	w.all++
	now := time.Now()
	in := w.measured.has(now)
	if in {
		w.answered++
	}
	if w.rate > 0 {
		in = w.measured.has(due)
	}
	if in {
		w.took = append(w.took, now.Sub(due))
		if w.rate > 0 {
			w.late = append(w.late, late)
		}
	}
	return nil
}

// run puts the load on the site and measures it after the warm-up. during, if
// given, is called while it is measured. An answer that is an error ends it.
func (s *site) run(ctx context.Context, l load, during func(context.Context)) (Block, error) {
	if during == nil {
		during = func(ctx context.Context) { pause(ctx, l.length) }
	}
	var measured window
	var over atomic.Bool
	workers := make([]*worker, l.conns)
	for i := range workers {
		c, err := dial(ctx, s.addr(i))
		if err != nil {
			return Block{}, fmt.Errorf("%s: %w", s.name, err)
		}
		defer func() { _ = c.Close() }()
		workers[i] = &worker{conn: c, load: l, random: rand.New(rand.NewPCG(rand.Uint64(), uint64(i))), measured: &measured}
	}
	mallocsBefore, err := s.mallocs(ctx)
	if err != nil {
		return Block{}, err
	}

	failed := make([]error, l.conns)
	var broken atomic.Bool
	var group sync.WaitGroup
	due := pace(l, &over)
	for i, w := range workers {
		group.Go(func() {
			for failed[i] == nil && !broken.Load() {
				at := time.Now()
				if due == nil {
					if over.Load() {
						return
					}
				} else {
					// What is due is sent, however late: what a server is slow with is no less slow at the end.
					var ok bool
					if at, ok = <-due; !ok {
						return
					}
				}
				if failed[i] = w.one(at); failed[i] != nil {
					broken.Store(true)
				}
			}
		})
	}
	pause(ctx, l.warm)
	before, err := s.cpu()
	own, ownErr := process.CPU(os.Getpid())
	began := time.Now()
	measured.begin()
	during(ctx)
	measured.end()
	took := time.Since(began)
	after, afterErr := s.cpu()
	ownAfter, ownAfterErr := process.CPU(os.Getpid())
	over.Store(true)
	group.Wait()
	if err := first(append(failed, ctx.Err(), err, ownErr, afterErr, ownAfterErr)...); err != nil {
		return Block{}, fmt.Errorf("%s: %w", s.name, err)
	}
	mallocsAfter, err := s.mallocs(ctx)
	if err != nil {
		return Block{}, err
	}

	b := Block{CPU: map[string]float64{}, Mallocs: map[string]float64{}}
	var latencies, late []time.Duration
	all, sent, received := 0, int64(0), int64(0)
	for _, w := range workers {
		b.Requests += w.answered
		latencies, late = append(latencies, w.took...), append(late, w.late...)
		all, sent, received = all+w.all, sent+w.sent, received+w.received
	}
	if b.Requests == 0 || len(latencies) == 0 {
		return b, fmt.Errorf("%s answered nothing in %v", s.name, took)
	}
	b.PerSecond = float64(b.Requests) / took.Seconds()
	b.P50, b.P99, b.LateP99 = quantile(latencies, 0.5), quantile(latencies, 0.99), quantile(late, 0.99)
	for role, used := range after {
		b.CPU[role] = float64((used - before[role]).Microseconds()) / float64(b.Requests)
	}
	b.Generator = float64((ownAfter - own).Microseconds()) / float64(b.Requests)
	for role, n := range mallocsAfter {
		b.Mallocs[role] = max(0, n-mallocsBefore[role]-s.scrape[role]) / float64(all)
	}
	b.Sent, b.Received = float64(sent)/float64(all), float64(received)/float64(all)
	return b, nil
}

// pace tells when each request of an open loop is due, to whoever is free to
// send it: a late one counts from when it was due. Go's timers are a millisecond
// coarse when nothing else happens, so a thread of its own sleeps. Nil for a
// closed loop.
func pace(l load, over *atomic.Bool) <-chan time.Time {
	if l.rate == 0 {
		return nil
	}
	due := make(chan time.Time, int(l.rate*(l.warm+l.length).Seconds())+l.conns)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		defer close(due)
		start := time.Now()
		for i := 0; !over.Load(); i++ {
			at := start.Add(time.Duration(float64(i) / l.rate * float64(time.Second)))
			if wait := time.Until(at); wait > 0 {
				sleep(wait)
			}
			due <- at
		}
	}()
	return due
}

// quantile is the nearest rank, in milliseconds; 0 of none.
func quantile(of []time.Duration, q float64) float64 {
	if len(of) == 0 {
		return 0
	}
	slices.Sort(of)
	return float64(of[min(len(of)-1, int(q*float64(len(of))))].Microseconds()) / 1000
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
