package watch

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"coatcheck/trial/history"
	"coatcheck/trial/report"
	"coatcheck/trial/traffic"
)

func nothing() traffic.Live { return traffic.Live{} }

func TestCounts(t *testing.T) {
	w := New()
	for _, op := range []*history.Op{
		{Kind: history.Read, Outcome: history.OK, Status: 200},
		{Kind: history.CondSet, Outcome: history.Failed, Status: 412},
		{Kind: history.Add, Outcome: history.Failed, Status: 503},
		{Kind: history.Add, Outcome: history.Failed, Status: 429},
		{Kind: history.Add, Outcome: history.Unknown},
	} {
		w.Op(op)
	}
	w.Do("reading")
	if s := w.State(); s.OK != 2 || s.Failed != 2 || s.Unknown != 1 || s.Doing != "reading" || s.Over {
		t.Errorf("%+v", s)
	}
}

// TestSeconds: what ended is counted by the second, rates are of the last ones,
// and however long a trial is, a State stays small.
func TestSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := New()
		rest := w.Begin(history.Run{Scenario: "demo", Length: time.Minute}, nothing, nil)
		time.Sleep(time.Millisecond)
		for i := range 200 {
			for range i % 7 {
				w.Op(&history.Op{Outcome: history.OK, Attempts: []history.Attempt{{ServedBy: "gateway-1 cart-2"}}})
			}
			w.Op(&history.Op{Outcome: history.Unknown})
			time.Sleep(time.Second)
		}
		synctest.Wait()
		s := w.State()
		if len(s.Seconds) != mostSeconds || s.Seconds[0].At != 200-mostSeconds || s.Seconds[mostSeconds-1] != (Second{At: 199, OK: 199 % 7, Unknown: 1}) {
			t.Errorf("%d seconds, from %+v to %+v", len(s.Seconds), s.Seconds[0], s.Seconds[len(s.Seconds)-1])
		}
		// 198 % 7 is 2 and 199 % 7 is 3, and one each was unknown.
		if s.Rate != 3.5 || s.Elapsed != 200*time.Second+time.Millisecond {
			t.Errorf("%v a second after %v", s.Rate, s.Elapsed)
		}
		want := []Replica{{Role: "gateway", Name: "gateway-1", Rate: 2.5}, {Role: "cart", Name: "cart-2", Rate: 2.5}}
		if !slices.Equal(s.Replicas, want) {
			t.Errorf("replicas %+v, want %+v", s.Replicas, want)
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if s := w.State(); s.Rate != 0 || len(s.Replicas) != 0 {
			t.Errorf("after three idle seconds %v a second by %+v", s.Rate, s.Replicas)
		}
		rest()
	})
}

// TestReplicas: who is there is what the shop says, in the order of a request's
// way, and whoever a fault is under way on is known.
func TestReplicas(t *testing.T) {
	w := New()
	there := []Replica{{Role: "redis", Name: "redis", State: "running"}, {Role: "cart", Name: "cart-10", State: "stopped"}, {Role: "cart", Name: "cart-2", State: "restarting"}, {Role: "gateway", Name: "gateway-1", State: "running"}}
	rest := w.Begin(history.Run{}, nothing, func() []Replica { return there })
	kill := w.Fault(history.Fault{Name: "kill -9 cart-2", Target: "cart-2", Class: history.Hidden})
	cut := w.Fault(history.Fault{Name: "cut gateway from redis", Target: "gateway>redis", Class: history.Outage})
	w.Fault(history.Fault{Name: "kill -9 cart-9", Target: "cart-9", Class: history.Hidden})(history.Fault{Name: "kill -9 cart-9", Target: "cart-10", Class: history.Hidden})
	hits := func() (all []string) {
		for _, r := range w.State().Replicas {
			all = append(all, r.Name+": "+r.Hit)
		}
		return all
	}
	want := []string{"gateway-1: cut gateway from redis", "cart-2: kill -9 cart-2", "cart-10: ", "redis: cut gateway from redis"}
	if got := hits(); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	kill(history.Fault{Name: "kill -9 cart-2", Target: "cart-2"})
	cut(history.Fault{})
	rest()
	there = nil
	if got := hits(); len(got) != 4 || got[1] != "cart-2: " {
		t.Errorf("the shop is gone, and of it is known %q", got)
	}
}

// TestFaults: those under way are never left out, and times are the traffic's.
func TestFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := New()
		run := history.Run{Scenario: "long", Started: time.Now()}
		time.Sleep(5 * time.Second) // registering
		defer w.Begin(run, nothing, nil)()
		node := w.Fault(history.Fault{Name: "stop a node", Start: 6 * time.Second, Class: history.Outage})
		for i := range 3 * mostFaults {
			at := time.Duration(10+i) * time.Second
			w.Fault(history.Fault{Name: fmt.Sprint("kill ", i), Start: at, Class: history.Hidden})(history.Fault{Name: fmt.Sprint("kill ", i), Start: at, End: at + time.Second, Class: history.Hidden})
		}
		s := w.State()
		first, last := s.Faults[0], s.Faults[len(s.Faults)-1]
		if s.Made != 3*mostFaults || len(s.Faults) != mostFaults || first.Name != "stop a node" || first.Start != time.Second || first.End != 0 {
			t.Errorf("%d made, %d shown, the first %+v", s.Made, len(s.Faults), first)
		}
		if last.Name != fmt.Sprint("kill ", 3*mostFaults-1) || last.End-last.Start != time.Second || last.Start != time.Duration(5+3*mostFaults-1)*time.Second {
			t.Errorf("the last is %+v", last)
		}
		node(history.Fault{Name: "stop a node", Start: 6 * time.Second, End: 66 * time.Second, Class: history.Outage})
		if s := w.State(); s.Faults[0].End != 61*time.Second || s.made[history.Outage] != 1 || s.made[history.Hidden] != 3*mostFaults {
			t.Errorf("%+v, %v", s.Faults[0], s.made)
		}
	})
}

// TestEnd: the end is told once, with the verdict; nothing is drawn any more once the shop goes.
func TestEnd(t *testing.T) {
	w := New()
	rest := w.Begin(history.Run{}, nothing, nil)
	w.Draws([]string{"overview"}, func(context.Context, string, io.Writer) error { return nil })
	if s := w.State(); !slices.Equal(s.Boards, []string{"overview"}) {
		t.Errorf("%v", s.Boards)
	}
	rest()
	w.Do("judging")
	w.End(report.Pass, "PASS  0 lost")
	w.End(report.Fail, "and again")
	if s := w.State(); !s.Over || s.Verdict != report.Pass || s.Line != "PASS  0 lost" || s.Doing != "" || s.Boards != nil {
		t.Errorf("%+v", s)
	}
}

// TestAtOnce is for the race detector: all that may be called at once.
func TestAtOnce(t *testing.T) {
	w := New()
	rest := w.Begin(history.Run{}, nothing, func() []Replica { return []Replica{{Role: "cart", Name: "cart-1"}} })
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 200 {
				w.Op(add("u", "a"))
				w.Fault(history.Fault{Name: "kill", Target: "cart-1"})(history.Fault{Name: "kill"})
				w.second()
				_ = w.State()
			}
		})
	}
	all.Wait()
	rest()
	if s := w.State(); s.OK != 800 || s.Made != 800 {
		t.Errorf("%d requests, %d faults", s.OK, s.Made)
	}
}
