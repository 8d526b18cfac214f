package report

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	"coatcheck/trial/history"
)

// TestHour: an hour is counted in a few megabytes, however many its requests; in
// so little none of them can be held.
func TestHour(t *testing.T) {
	heap := func() int {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	before := heap()
	c := newCounts()
	const requests = 500_000
	attempts := make([]history.Attempt, 2)
	op := &history.Op{Kind: history.Add, Protocol: "h2c", Outcome: history.OK, Attempts: attempts}
	for i := range requests {
		op.Sent = time.Duration(i) * time.Hour / requests
		op.Answered = op.Sent + time.Duration(i%5000)*time.Microsecond
		attempts[0] = history.Attempt{Sent: op.Sent, Answered: op.Answered}
		attempts[1] = history.Attempt{Sent: op.Sent, Answered: op.Answered, Status: 200, ServedBy: "gateway-1 cart-1"}
		if err := c.add(history.Record{Op: op}); err != nil {
			t.Fatal(err)
		}
	}
	if grown := heap() - before; grown > 12<<20 {
		t.Errorf("%d requests took %d KB", requests, grown>>10)
	}
	if c.all.ok != requests || c.failed != requests || c.replicas["cart"]["cart-1"] != requests || len(c.seconds) != 3600 {
		t.Errorf("counted %d, %d failed attempts, %d seconds", c.all.ok, c.failed, len(c.seconds))
	}
	tl := newTimeline(c, newTwin(c, Input{}))
	if len(tl.bins) > maxBins {
		t.Errorf("%d columns", len(tl.bins))
	}
	drawn := 0
	for _, b := range tl.bins {
		drawn += b.total()
	}
	if drawn != requests {
		t.Errorf("%d of %d requests are drawn", drawn, requests)
	}
	runtime.KeepAlive(c)
}

// TestNames: names without end do not take memory without end.
func TestNames(t *testing.T) {
	c := newCounts()
	for i := range 3 * maxNames {
		name := string(rune('a'+i%26)) + time.Duration(i).String()
		if err := c.add(history.Record{Op: &history.Op{Kind: history.Kind(name), Attempts: []history.Attempt{{Status: 200, ServedBy: name + " x"}}}}); err != nil {
			t.Fatal(err)
		}
	}
	if len(c.kinds) != maxNames+1 || len(c.replicas["gateway"]) != maxNames+1 || c.kinds["others"].total() != 2*maxNames {
		t.Errorf("%d kinds, %d gateways, %d others", len(c.kinds), len(c.replicas["gateway"]), c.kinds["others"].total())
	}
}

// TestQuantile: a quantile is never less than the sorted list says, and at most
// a sixteenth more.
func TestQuantile(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	var h, left, right histogram
	if _, ok := h.quantile(0.5); ok {
		t.Error("nothing has a median")
	}
	var all []time.Duration
	for i := range 5000 {
		d := time.Duration(1<<random.IntN(25)+random.IntN(3000)) * time.Microsecond
		all = append(all, d)
		h.add(d)
		[]*histogram{&left, &right}[i%2].add(d)
	}
	left.merge(&right)
	if left != h {
		t.Error("two halves are not the whole")
	}
	slices.Sort(all)
	for _, q := range []float64{0.0001, 0.25, 0.5, 0.9, 0.99, 1} {
		want := all[max(1, int(q*5000+0.999999))-1]
		if got, _ := h.quantile(q); got < want || float64(got) > float64(want)*1.0625+1000 {
			t.Errorf("quantile %v is %v, not %v", q, got, want)
		}
	}
	h = histogram{}
	h.add(-time.Second)
	h.add(24 * time.Hour)
	if low, _ := h.quantile(0.5); low != 0 {
		t.Errorf("less than nothing is %v", low)
	}
	if high, _ := h.quantile(1); high < time.Minute || high > 2*time.Minute {
		t.Errorf("a day is %v", high)
	}
}

func TestWords(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{Number(0), "0"}, {Number(999), "999"}, {Number(1000), "1,000"}, {Number(20412), "20,412"}, {Number(1234567), "1,234,567"}, {Number(-1234), "-1,234"}, {Number(-123), "-123"},
		{Latency(0), "0 µs"}, {Latency(999 * time.Microsecond), "999 µs"}, {Latency(8214 * time.Microsecond), "8.21 ms"}, {Latency(46 * time.Millisecond), "46.0 ms"}, {Latency(312 * time.Millisecond), "312 ms"}, {Latency(1250 * time.Millisecond), "1.25 s"},
		{clock(12340 * time.Millisecond), "12.3 s"}, {clock(11*time.Minute + 59960*time.Millisecond), "12:00.0"}, {clock(time.Hour + 3*time.Second), "60:03.0"},
		{Length(time.Minute), "60 s"}, {Length(20 * time.Minute), "20 min"}, {Length(90500 * time.Millisecond), "90.5 s"},
		{percent(0, 10), "0.0 %"}, {percent(1, 3), "33.3 %"}, {percent(1, 1_000_000), "< 0.01 %"}, {percent(999_999, 1_000_000), "> 99.99 %"}, {percent(5, 5), "100.0 %"}, {percent(1, 0), "–"}, {percent(1, 200), "0.50 %"},
		{plural(1, "fault", "faults"), "1 fault"}, {plural(0, "fault", "faults"), "0 faults"},
	} {
		if c.got != c.want {
			t.Errorf("%q, not %q", c.got, c.want)
		}
	}
	names := []string{"cart-10", "redis", "cart-9", "auth-1"}
	slices.SortFunc(names, natural)
	if !slices.Equal(names, []string{"auth-1", "cart-9", "cart-10", "redis"}) {
		t.Errorf("sorted: %v", names)
	}
}
