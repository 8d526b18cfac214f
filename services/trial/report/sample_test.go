package report_test

import (
	"cmp"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"coatcheck/trial/history"
	"coatcheck/trial/report"
)

var keep = flag.String("keep", "", "folder in which the sample reports are left")

// sample makes a history that looks like a trial's: an open loop at a rate,
// faults one after the other, and what clients see of them.
type sample struct {
	rate   float64
	length time.Duration
	faults int
	run    history.Run
	random *rand.Rand
	ops    []history.Op
	downs  []history.Fault
}

func newSample(length time.Duration, rate float64, faults int) *sample {
	s := &sample{rate: rate, length: length, faults: faults, random: rand.New(rand.NewPCG(7, 7))}
	s.run = history.Run{
		Started: time.Date(2026, 11, 23, 16, 30, 12, 0, time.UTC), Scenario: "demo", Seed: 4242424242424242424, Target: "http://127.0.0.1:40123",
		Rate: rate, Length: length, Machine: "2 × Intel Xeon 2.80 GHz, 7.8 GiB, Linux 6.8", Version: "0.3.0 (927a72a)",
	}
	s.makeFaults()
	s.makeOps()
	return s
}

func (s *sample) makeFaults() {
	kinds := []struct {
		kind, name string
		targets    []string
		class      history.Class
		lasts      time.Duration
	}{
		{"kill", "kill -9 %s", []string{"cart-1", "cart-2", "cart-3"}, history.Hidden, 900 * time.Millisecond},
		{"kill", "kill -9 %s", []string{"gateway-1", "gateway-2", "gateway-3"}, history.Gateway, 800 * time.Millisecond},
		{"term", "kill -TERM %s", []string{"auth-1", "auth-2", "auth-3"}, history.Hidden, 1200 * time.Millisecond},
		{"stop", "stop %s for 5 s", []string{"cart-1", "cart-3"}, history.Hidden, 5 * time.Second},
		{"kill", "kill -9 %s", []string{"auth-1", "auth-2", "auth-3"}, history.Hidden, 700 * time.Millisecond},
		{"redis-kill", "kill -9 %s", []string{"redis"}, history.Outage, 1400 * time.Millisecond},
		{"term", "kill -TERM %s", []string{"cart-2", "gateway-2", "cart-1"}, history.Hidden, 1100 * time.Millisecond},
		{"slow", "slow the %s by 80 ms", []string{"network"}, history.Outage, 2 * time.Second},
	}
	from, step := s.length/12, s.length*5/6/time.Duration(max(s.faults, 1))
	for i := range s.faults {
		k := kinds[i%len(kinds)]
		target := k.targets[i/len(kinds)%len(k.targets)]
		class := k.class
		if target == "gateway-2" {
			class = history.Gateway
		}
		start := from + time.Duration(i)*step + time.Duration(s.random.Int64N(int64(step/3)))
		lasts := time.Duration(float64(k.lasts) * (0.8 + 0.4*s.random.Float64()))
		if i == 21 {
			lasts = 5 * time.Second // longer than a request is tried
		}
		s.downs = append(s.downs, history.Fault{
			Name: fmt.Sprintf(k.name, target), Kind: k.kind, Target: target, Class: class, Start: start,
			End: min(start+lasts, s.length), InFlight: 1 + s.random.IntN(9),
		})
	}
}

// on is the worst fault at a time.
func (s *sample) on(at time.Duration) *history.Fault {
	var worst *history.Fault
	rank := map[history.Class]int{history.Hidden: 1, history.Gateway: 2, history.Outage: 3}
	for i := range s.downs {
		f := &s.downs[i]
		if at >= f.Start && at < f.End && (worst == nil || rank[f.Class] > rank[worst.Class]) {
			worst = f
		}
	}
	return worst
}

func (s *sample) makeOps() {
	protocols := []string{"keep-alive", "keep-alive", "new-connection", "h2c"}
	weights := []struct {
		kind history.Kind
		n    int
	}{{history.Add, 44}, {history.Set, 12}, {history.CondSet, 8}, {history.Remove, 8}, {history.Read, 16}, {history.LogIn, 5}, {history.Checkout, 7}}
	version := uint64(0)
	for at := time.Duration(0); ; {
		at += time.Duration(s.random.ExpFloat64() / s.rate * float64(time.Second))
		if at >= s.length {
			break
		}
		kind, n := history.Add, s.random.IntN(100)
		for _, w := range weights {
			if n -= w.n; n < 0 {
				kind = w.kind
				break
			}
		}
		shopper := s.random.IntN(60)
		version++
		op := history.Op{
			Client: fmt.Sprintf("s%d", shopper), Protocol: protocols[shopper%4], Kind: kind, Cart: fmt.Sprintf("s%d.g%d", shopper, 1+int(at/(20*time.Second))),
			Lines: []history.Line{{SKU: fmt.Sprintf("sku-%03d", s.random.IntN(300)), Quantity: 1 + s.random.Int64N(3)}}, Unique: kind == history.Add, Version: version,
		}
		for try := range 3 {
			sent := at
			if try > 0 {
				sent = max(at+time.Duration(try)*time.Second, op.Attempts[try-1].Answered)
			}
			a := s.attempt(sent, kind)
			op.Attempts = append(op.Attempts, a)
			if a.Status != 0 && a.Status < 500 {
				break
			}
		}
		last := op.Attempts[len(op.Attempts)-1]
		op.Sent, op.Answered, op.Status, op.Code = at, last.Answered, last.Status, last.Code
		switch {
		case last.Status >= 200 && last.Status < 300:
			op.Outcome = history.OK
		case last.Status == 412:
			op.Outcome = history.Failed
		default:
			op.Outcome, op.Version = history.Unknown, 0
		}
		s.ops = append(s.ops, op)
	}
	slices.SortFunc(s.ops, func(a, b history.Op) int { return cmp.Compare(a.Answered, b.Answered) })
}

func (s *sample) attempt(sent time.Duration, kind history.Kind) history.Attempt {
	takes := 4.5 * math.Exp(0.45*s.random.NormFloat64()) // ms
	if kind == history.LogIn {
		takes += 38
	}
	a := history.Attempt{Sent: sent, Status: 200}
	if kind == history.CondSet && s.random.IntN(5) == 0 {
		a.Status, a.Code = 412, "stale_version"
	}
	down := ""
	if f := s.on(sent); f != nil {
		down = f.Target
		switch {
		case f.Kind == "slow":
			takes += 80 + 10*s.random.Float64()
		case f.Class == history.Outage:
			a.Status, a.Code, takes = 503, "store_unavailable", 400+300*s.random.Float64()
		case f.Class == history.Gateway && s.random.IntN(4) == 0 && sent < f.Start+150*time.Millisecond:
			a.Status, a.Code = 0, []string{"refused", "reset", "eof"}[s.random.IntN(3)]
		case f.Class == history.Hidden && s.random.IntN(9) == 0:
			takes += 40 + 550*s.random.Float64()*s.random.Float64()
		}
	}
	a.Answered = sent + time.Duration(takes*float64(time.Millisecond))
	if a.Status != 0 {
		pick := func(service string) string {
			for {
				if name := fmt.Sprintf("%s-%d", service, 1+s.random.IntN(3)); name != down {
					return name
				}
			}
		}
		a.ServedBy = pick("gateway") + " " + pick("cart")
	}
	return a
}

func (s *sample) write(t testing.TB, path string) {
	t.Helper()
	w, err := history.Create(path, s.run)
	if err != nil {
		t.Fatal(err)
	}
	faults := s.downs
	for i := range s.ops {
		for len(faults) > 0 && faults[0].End < s.ops[i].Answered {
			w.Write(history.Record{Fault: &faults[0]})
			faults = faults[1:]
		}
		w.Write(history.Record{Op: &s.ops[i]})
	}
	for i := range faults {
		w.Write(history.Record{Fault: &faults[i]})
	}
	for i := range 60 {
		w.Write(history.Record{Op: &history.Op{Client: fmt.Sprintf("s%d", i), Kind: history.Read, Outcome: history.OK, Sent: s.length, Answered: s.length + time.Millisecond, Last: true}})
	}
	if err := w.Close(history.End{At: s.length + 2*time.Second, OwnCPU: 0.19 * s.length.Seconds() * 2, TotalCPU: s.length.Seconds() * 2}); err != nil {
		t.Fatal(err)
	}
}

func (s *sample) passed() report.Input {
	acknowledged, inOutages := 0, 0
	for _, op := range s.ops {
		if op.Outcome == history.OK && op.Kind != history.Read {
			acknowledged++
		}
		if op.Outcome == history.Unknown {
			inOutages++
		}
	}
	in := report.Input{
		Verdict: report.Pass,
		Line:    fmt.Sprintf("PASS  0 lost  0 doubled  0 failed of %d acknowledged changes under %d faults", acknowledged, len(s.downs)),
		Judged:  report.Judged{Acknowledged: acknowledged, FailedInOutages: inOutages, Quiet: 46 * time.Millisecond, AfterKill: 312 * time.Millisecond},
	}
	for i, name := range []string{"lost", "bounds", "doubled", "versions", "accounts", "hidden", "logical", "merges", "linearizable", "foreign", "revoked", "inconclusive"} {
		of := []string{"unique lines", "quantities", "changes", "carts", "carts", "attempts", "requests", "log-ins", "hot carts", "lines", "sessions", "conditions"}[i]
		in.Checks = append(in.Checks, report.Check{Name: name, Looked: []int{9411, 2207, acknowledged, 412, 412, 18804, len(s.ops), 1204, 4, 31877, 230, 9}[i], Of: of})
	}
	return in
}

func (s *sample) failed() report.Input {
	in := s.passed()
	in.Verdict = report.Fail
	in.Line = fmt.Sprintf("FAIL  2 lost  1 doubled  3 failed of %d acknowledged changes under %d faults: lost 2, doubled 1, logical 3, linearizable 1", in.Judged.Acknowledged, len(s.downs))
	in.Judged.Lost, in.Judged.Doubled, in.Judged.Failed = 2, 1, 3
	for i, n := range map[int]int{0: 2, 2: 1, 6: 3, 8: 1} {
		in.Checks[i].Violations = n
	}
	middle := len(s.ops) / 2
	in.Findings = []report.Finding{
		{Check: "lost", Cart: s.ops[middle].Cart, Text: "sku-117 was acknowledged at version 18 and is in no cart and no order", Ops: s.ops[middle : middle+3]},
		{Check: "doubled", Cart: "s9.u", Text: "sku-004 was added once and is there twice", Ops: s.ops[middle+4000 : middle+4002]},
		{Check: "linearizable", Cart: "hot.1", Text: "no order of the changes explains what was read", Ops: s.ops[2000:2012],
			Drawing: []byte(`<!doctype html><title>x</title><style>body{font:14px sans-serif}</style><h1>A drawing</h1><p id="p">no script ran</p><script>document.getElementById("p").textContent = "the script ran"</script>`)},
	}
	return in
}

func TestSample(t *testing.T) {
	s := newSample(time.Minute, 400, 43)
	dir := cmp.Or(*keep, t.TempDir())
	path := filepath.Join(t.TempDir(), "history.jsonl")
	s.write(t, path)
	for name, in := range map[string]report.Input{"pass": s.passed(), "fail": s.failed()} {
		if err := report.Write(filepath.Join(dir, name), path, in); err != nil {
			t.Fatal(err)
		}
	}
}
