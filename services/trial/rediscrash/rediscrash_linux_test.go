package rediscrash

import (
	"testing"
	"time"
)

// crash crashes a Redis under writers, for longer on a machine that is too busy
// to write much: with less than that nothing can be told.
func crash(t *testing.T, policy string) Result {
	t.Helper()
	for length := 1300 * time.Millisecond; ; length *= 3 {
		r, err := Run(t.Context(), Options{Policy: policy, Writers: 8, Length: length})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s for %v: %+v", policy, length, r)
		if r.Acknowledged >= 500 && r.Synced > 0 {
			return r
		}
		if length > 30*time.Second {
			t.Fatalf("%s: too little was written to tell: %+v", policy, r)
		}
	}
}

// TestAlwaysLosesNothing is of use only beside TestEverySecLoses.
func TestAlwaysLosesNothing(t *testing.T) {
	if r := crash(t, Always); r.Lost != 0 {
		t.Errorf("%d of %d acknowledged lines are lost", r.Lost, r.Acknowledged)
	}
}

func TestEverySecLoses(t *testing.T) {
	lost := 0
	for range 2 { // one may fall just behind a sync
		lost += crash(t, EverySec).Lost
	}
	if lost == 0 {
		t.Error("nothing is lost: the harness can't see loss")
	}
}
