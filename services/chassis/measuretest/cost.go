package measuretest

import (
	"testing"
	"time"
)

// What the metrics of one request may take: at the gateway, on either side of
// its call, in cart, and beside the command to Redis.
const (
	Whole   = 3 * time.Microsecond
	Gateway = Whole - 2*Call - Cart - Redis
	Call    = 500 * time.Nanosecond
	Cart    = 300 * time.Nanosecond
	Redis   = 500 * time.Nanosecond
)

// Takes fails the test if f takes longer than limit. The best of many tries
// counts: the machine may have better to do meanwhile. The race detector has
// costs of its own, so that nothing is measured under it.
func Takes(t testing.TB, what string, limit time.Duration, f func()) {
	t.Helper()
	if race {
		return
	}
	const n = 2000
	best := time.Hour
	for range 50 {
		began := time.Now()
		for range n {
			f()
		}
		best = min(best, time.Since(began)/n)
	}
	t.Logf("%s: %v", what, best)
	if best > limit {
		t.Errorf("%s: %v, want %v at most", what, best, limit)
	}
}
