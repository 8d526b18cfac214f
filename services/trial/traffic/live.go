package traffic

import (
	"math/bits"
	"time"

	"coatcheck/trial/history"
)

// Live is what Run has seen until now.
type Live struct {
	Sent     int // logical requests; the next four add up to it
	OK       int
	Failed   int // refusals that were asked for too: a stale If-Match, a probe
	Unknown  int
	InFlight int
	Retried  int // attempts after the first
	Broken   int // attempts that got no answer, or 502, 503, 504
	Missed   int // requests that were due while too many waited; not sent
	Changes  int // changes of carts that were acknowledged
	// Latency is from when each request was due until it was over, and Took the
	// sum of that.
	Latency Histogram
	Took    time.Duration
}

func (l *Live) count(op *history.Op, latency time.Duration) {
	l.InFlight--
	l.Retried += len(op.Attempts) - 1
	for _, a := range op.Attempts {
		if again(a.Status) {
			l.Broken++
		}
	}
	switch op.Outcome {
	case history.OK:
		l.OK++
		if changes(op) {
			l.Changes++
		}
	case history.Failed:
		l.Failed++
	default:
		l.Unknown++
	}
	l.Latency.Add(latency)
	l.Took += latency
}

// changes tells whether the request is to change a cart.
func changes(op *history.Op) bool {
	switch op.Kind {
	case history.Add, history.Set, history.CondSet, history.Remove, history.Checkout:
		return true
	}
	return op.Kind == history.LogIn && op.From != ""
}

// Live returns the counts so far.
func (t *Traffic) Live() Live {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.live
}

// InFlight returns the number of logical requests under way.
func (t *Traffic) InFlight() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.live.InFlight
}

// Histogram counts durations in buckets of an eighth of an octave, from a
// microsecond to about a minute. It is a value: two can be subtracted.
type Histogram [8 * 24]uint32

// Add counts one.
func (h *Histogram) Add(d time.Duration) {
	us := uint64(max(1, d.Microseconds()))
	shift := max(0, bits.Len64(us)-4)
	h[min(uint64(shift)*8+us>>shift, uint64(len(h)-1))]++
}

// Sub returns what came after earlier.
func (h Histogram) Sub(earlier Histogram) Histogram {
	for i := range h {
		h[i] -= earlier[i]
	}
	return h
}

// Below returns how many durations were shorter than d, which is rounded down to
// a bound of a bucket.
func (h Histogram) Below(d time.Duration) (n int) {
	for i, count := range h {
		if bound(i) >= d {
			break
		}
		n += int(count)
	}
	return n
}

// bound is the longest duration in a bucket.
func bound(i int) time.Duration {
	shift := max(0, i/8-1)
	return time.Duration((i-shift*8+1)<<shift-1) * time.Microsecond
}

// Quantile returns the upper bound of the bucket that q (0 to 1) of all
// durations reach; 0 if there is none.
func (h Histogram) Quantile(q float64) time.Duration {
	total := 0
	for _, n := range h {
		total += int(n)
	}
	rank := max(1, int(q*float64(total)+0.5))
	for i, n := range h {
		if rank -= int(n); rank <= 0 && total > 0 {
			return bound(i)
		}
	}
	return 0
}
