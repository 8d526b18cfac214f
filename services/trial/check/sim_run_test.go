package check

import (
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"coatcheck/trial/history"
)

var simLimits = Limits{Settle: ms, Search: 20 * time.Second}

func simTale(seed uint64, defect string, length time.Duration) *tale {
	t := &tale{}
	simulate(seed, defect, 4, 1, length, func(r history.Record) { t.records = append(t.records, r) })
	return t
}

// TestCorrectShop: a shop without a defect passes, whatever gets lost on the way.
func TestCorrectShop(t *testing.T) {
	looked, unknown, requests := map[string]int{}, 0, 0
	for seed := range uint64(200) {
		v := simTale(seed, "", 600*ms).judge(t, "", simLimits)
		if !v.Pass {
			t.Errorf("seed %d: %s\n%s", seed, v.Line, strings.Join(v.texts(), "\n"))
		}
		for _, r := range v.Results {
			looked[r.Check] += r.Looked
		}
		unknown += v.Figures.Unknown
		requests += v.Figures.Requests
	}
	t.Logf("%d requests, %d unknown; looked at %v", requests, unknown, looked)
	for _, name := range Names() {
		// The simulated shop has no pods, and nobody there has tokens.
		if looked[name] < 200 && name != "inconclusive" && name != "share" && name != "reused" {
			t.Errorf("%s looked at %d things only", name, looked[name])
		}
	}
	if unknown < 1000 {
		t.Errorf("%d requests were unknown", unknown)
	}
}

// TestDefects: each defect is caught by the checks that are named for it, in each run.
func TestDefects(t *testing.T) {
	for defect, checks := range map[string][]string{
		"read-modify-write":   {"lost", "versions", "linearizable"},
		"no idempotency":      {"doubled"},
		"merge repeated":      {"merges"},
		"merge lost":          {"merges"},
		"checkout clears":     {"accounts"},
		"server memory":       {"lost", "bounds", "versions"},
		"everysec":            {"lost"},
		"eviction":            {"lost", "versions"},
		"stale readings":      {"versions", "linearizable"},
		"version used again":  {"versions"},
		"token after log-out": {"revoked"},
		"key dropped":         {"refused"},
		"another's cart":      {"foreign"},
		"no drain":            {"hidden", "drained"},
		"no retry budget":     {"logical"},
	} {
		t.Run(defect, func(t *testing.T) {
			caught := map[string]int{}
			const runs = 4
			for seed := range uint64(runs) {
				v := simTale(1000+seed, defect, 1800*ms).judge(t, "", simLimits)
				for _, r := range v.Results {
					if r.Violations > 0 {
						caught[r.Check]++
					}
				}
			}
			for _, check := range checks {
				if caught[check] < runs {
					t.Errorf("%s caught it in %d of %d runs", check, caught[check], runs)
				}
			}
			t.Log(fmt.Sprint(caught))
		})
	}
}

// BenchmarkCheck judges half a million changes, and tells the time and the memory.
func BenchmarkCheck(b *testing.B) {
	path := filepath.Join(b.TempDir(), "history.jsonl")
	w, err := history.Create(path, history.Run{Scenario: "large"})
	if err != nil {
		b.Fatal(err)
	}
	var end history.End
	simulate(1, "", 120, 4, 30*time.Second, func(r history.Record) {
		switch {
		case r.End != nil:
			end = *r.End
		case r.Run == nil:
			w.Write(r)
		}
	})
	if err := w.Close(end); err != nil {
		b.Fatal(err)
	}
	runtime.GC()
	for b.Loop() {
		done, peak := make(chan struct{}), make(chan uint64)
		go func() {
			var most uint64
			var m runtime.MemStats
			for {
				select {
				case <-done:
					peak <- most
					return
				case <-time.After(50 * time.Millisecond):
					runtime.ReadMemStats(&m)
					most = max(most, m.HeapAlloc)
				}
			}
		}()
		v, err := Check(path, simLimits)
		close(done)
		if err != nil || !v.Pass {
			b.Fatal(v.Line, v.texts(), err)
		}
		b.ReportMetric(float64(<-peak)/1e6, "MB-heap")
		b.ReportMetric(float64(v.Figures.Acknowledged), "changes")
		b.ReportMetric(float64(v.Figures.Requests), "requests")
	}
}
