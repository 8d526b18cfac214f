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

// Costs skips what is left of a test, which is of what code costs, where that would
// not be told: the race detector and the counters of coverage have costs of their own.
func Costs(t *testing.T) {
	t.Helper()
	switch {
	case race:
		t.Skip("the race detector has costs of its own")
	case testing.CoverMode() != "":
		t.Skip("counters of coverage have costs of their own")
	}
}

// Takes fails the test unless f takes less than limit. The best of many tries
// counts: the machine may have better to do meanwhile.
func Takes(t *testing.T, what string, limit time.Duration, f func()) {
	t.Helper()
	t.Run(what, func(t *testing.T) {
		Costs(t)
		const n = 500
		best := time.Hour
		for range 1000 {
			began := time.Now()
			for range n {
				f()
			}
			best = min(best, time.Since(began)/n)
		}
		t.Logf("%v", best)
		if best >= limit {
			t.Errorf("%v, want less than %v", best, limit)
		}
	})
}
