package gateway

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"coatcheck/chassis/fault"
	"coatcheck/chassis/rpc"
)

const (
	maxTries  = 3
	minPause  = 10 * time.Millisecond
	maxPause  = 100 * time.Millisecond
	minBudget = 10 // retries in a window that are always allowed
)

// backend is one service that is asked, and what may be spent on asking again.
type backend struct {
	tryTimeout time.Duration
	announces  bool // its calls, so that only a silent one ends at tryTimeout
	budget     *budget
	calls      [maxTries + 1][len(callResults)]prometheus.Counter
	retries    prometheus.Counter
	refused    prometheus.Counter
}

func newBackend(name string, tryTimeout time.Duration, m *metrics, now func() time.Time) *backend {
	b := &backend{
		tryTimeout: tryTimeout,
		budget:     &budget{now: now},
		retries:    m.retries.WithLabelValues(name),
		refused:    m.refused.WithLabelValues(name),
	}
	for try := 1; try <= maxTries; try++ {
		for i, result := range callResults {
			b.calls[try][i] = m.calls.WithLabelValues(name, strconv.Itoa(try), result)
		}
	}
	return b
}

// count counts a logical call that is over.
func (b *backend) count(ctx context.Context, tries int, err error) {
	result := callAnswered
	switch {
	case !fault.Is(err, fault.Unavailable):
	case ctx.Err() == context.Canceled:
		result = callCanceled
	default:
		result = callUnavailable
	}
	b.calls[tries][result].Inc()
}

// ask makes one logical call: up to three tries, each at another replica as long
// as there is one, until end. Only what may work elsewhere is tried again. All
// tries send the same req, so a change must carry its idempotency key in it.
// It also names the replica that answered, "" if none did.
//
// "overloaded" says that nothing was done. Where a try before may have done it,
// that one's error is answered instead.
func ask[Req, Resp any](ctx context.Context, end time.Time, b *backend, method func(context.Context, *Req, ...grpc.CallOption) (*Resp, error), req *Req) (resp *Resp, replica string, err error) {
	b.budget.begin()
	defer b.budget.end()
	try := 1
	defer func() { b.count(ctx, try, err) }()
	ctx = rpc.NewCall(ctx)
	var doubt error
	for ; ; try++ {
		resp, replica, err = once(ctx, end, b, method, req, try)
		if fault.Is(err, fault.Unavailable) {
			b.budget.fail()
			if fault.From(err).Code != "overloaded" {
				doubt = err
			} else if doubt != nil {
				err = doubt
			}
		}
		if err == nil || try == maxTries || !fault.Is(err, fault.Unavailable) || errors.Is(err, errWaiting) || ctx.Err() != nil || time.Until(end) <= 0 {
			return resp, replica, err
		}
		if !b.budget.spend() {
			b.refused.Inc()
			return resp, replica, err
		}
		b.retries.Inc()
		retried(ctx, try)
		select {
		case <-ctx.Done():
			return resp, replica, err
		case <-time.After(min(minPause+rand.N(maxPause-minPause), time.Until(end))):
		}
		if time.Until(end) <= 0 {
			return resp, replica, err
		}
	}
}

func once[Req, Resp any](ctx context.Context, end time.Time, b *backend, method func(context.Context, *Req, ...grpc.CallOption) (*Resp, error), req *Req, try int) (*Resp, string, error) {
	if b.announces {
		// What works is left to it, as long as there is time for one more try.
		ctx = rpc.TryAnnounced(ctx, b.tryTimeout, max(b.tryTimeout, time.Until(end)-b.tryTimeout), end)
	} else {
		ctx = rpc.Try(ctx, b.tryTimeout, end)
	}
	var with struct { // in one allocation
		header  metadata.MD
		options [3]grpc.CallOption // the last is room for method's
	}
	// A first try fails at once when no replica can be reached; the budget then
	// bounds how many wait for one to come back.
	with.options[0], with.options[1] = grpc.Header(&with.header), grpc.WaitForReady(try > 1)
	resp, err := method(ctx, req, with.options[:2]...)
	return resp, rpc.ServedBy(with.header), err
}

// budget keeps retries from becoming a load of their own: in the last ten
// seconds a fifth of the calls, though never fewer than were in flight at once
// (the death of one replica can fail all of those) and never fewer than ten.
// A second in which the service was well shows that the retries before it did
// no harm: they are forgotten, so that an outage that is over leaves enough to
// hide the next death.
type budget struct {
	now      func() time.Time
	mu       sync.Mutex
	inFlight int
	seconds  [10]second
}

// second is what happened in one second.
type second struct {
	at                           int64 // Unix time
	calls, failed, retries, peak int   // failed is of tries; peak is the most calls in flight at once
}

// well says that hardly any try failed, of enough to tell.
func (s second) well() bool { return s.calls >= 20 && s.failed*10 <= s.calls }

// begin counts a call, for which end is to be called when it is over.
func (b *budget) begin() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.inFlight++
	s := b.current()
	s.calls++
	s.peak = max(s.peak, b.inFlight)
}

func (b *budget) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.inFlight--
}

// fail counts a try that failed.
func (b *budget) fail() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.current().failed++
}

// spend takes one retry from the budget, if there is one.
func (b *budget) spend() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.allowed() == 0 {
		return false
	}
	b.current().retries++
	return true
}

// left is how many retries the budget allows now.
func (b *budget) left() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.allowed()
}

func (b *budget) allowed() int {
	now := b.current()
	oldest := now.at - int64(len(b.seconds)) + 1
	wellAt := int64(0)
	for _, s := range b.seconds {
		if s.at >= oldest && s.at < now.at && s.well() {
			wellAt = max(wellAt, s.at)
		}
	}
	calls, retries, peak := 0, 0, 0
	for _, s := range b.seconds {
		if s.at >= oldest {
			calls += s.calls
			peak = max(peak, s.peak)
		}
		if s.at >= max(oldest, wellAt+1) {
			retries += s.retries
		}
	}
	return max(0, max(minBudget, peak, calls/5)-retries)
}

func (b *budget) current() *second {
	at := b.now().Unix()
	s := &b.seconds[at%int64(len(b.seconds))]
	if s.at != at {
		*s = second{at: at, peak: b.inFlight}
	}
	return s
}
