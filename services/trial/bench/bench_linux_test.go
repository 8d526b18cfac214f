package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"coatcheck/cart"
	"coatcheck/trial/local"
)

// build returns a folder with the binaries.
func build(t *testing.T) string {
	t.Helper()
	bin := t.TempDir()
	cmd := exec.Command("go", "build", "-o", bin+"/", "./services/gateway/cmd/gateway", "./services/auth/cmd/auth", "./services/cart/cmd/cart", "./services/trial/cmd/reference")
	cmd.Dir = "../../.."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // as they are built for users: with cgo no process can set its timers
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	return bin
}

// TestRun takes most parts briefly, and holds what they say against what is known.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	var out strings.Builder
	o := Options{Bin: build(t), Dir: dir, Pairs: 1, Block: 300 * time.Millisecond, Carts: 100, Only: []string{"add", "always", "naive", "half", "lone", "lost", "observed", "equal"}}
	if err := Run(ctx, o, &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	r, err := read(dir)
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, ok bool) {
		t.Helper()
		if !ok {
			t.Errorf("%s\n%s", what, out.String())
		}
	}
	compared := map[string]*Comparison{}
	for _, c := range r.Comparisons {
		compared[c.Key] = c
		round := c.Rounds[0]
		check(c.Key+": the shop's processes used no CPU", round.A.CPU[local.Gateway] > 0 && round.A.CPU[local.Cart] > 0 && round.A.CPU[local.Redis] > 0)
		check(c.Key+": the gateway allocated next to nothing", round.A.Mallocs[local.Gateway] > 5 && round.A.Mallocs[local.Gateway] < 1000)
		check(c.Key+": no answers", round.A.Requests > 20 && round.B.Requests > 20 && round.Echo.Requests > 100)
		check(c.Key+": no latency", round.A.P50 > 0 && round.A.P99 >= round.A.P50)
		check(c.Key+": one pair is too few", c.Few)
	}
	for _, key := range []string{"add", "always", "naive-1", "naive-500", "half", "lone", "lone-plain", "observed", "equal-add", "equal-read"} {
		check("no comparison "+key, compared[key] != nil)
	}
	one := compared["naive-500"].Rounds[0]
	check("at 500 lines naive is no dearer", one.A.sum() < 0.9*one.B.sum())
	for _, f := range r.Figures {
		check(f.Title+": a conclusion from one pair", f.Exact || f.Limit == 0 || f.Verdict() == Undecided)
	}
	check("no figure of log lines and traces", strings.Contains(out.String(), "CPU of an add with log lines and 1 % of traces, against neither"))
	acknowledged := int64(0)
	for _, a := range r.Audits {
		if acknowledged += a.Acknowledged; !strings.HasPrefix(a.Carts, "naive") {
			check("carts of "+a.Carts+" are not whole", a.Lost == 0 && a.Surplus == 0 && a.Acknowledged > 0)
		}
	}
	check("hardly any add was acknowledged", acknowledged > 500)
	survivors := map[string]Survivors{}
	for _, s := range r.Survivors {
		survivors[s.Who] = s
	}
	check("the shop lost updates", survivors["shop"].Least == 100)
	check("direct lost updates", survivors["direct"].Least == 100)
	check("naive lost none", survivors["naive"].Least < 100)
	page, err := os.ReadFile(filepath.Join(dir, "bench.html"))
	if err != nil || !strings.Contains(string(page), "<circle") || strings.Contains(string(page), "ZgotmplZ") {
		t.Errorf("the page has no dots: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "work-*")); len(left) > 0 {
		t.Errorf("it leaves %v", left)
	}
}

// TestMemory: copies of one cart take what carts do.
func TestMemory(t *testing.T) {
	var out strings.Builder
	o := Options{Bin: build(t), Dir: t.TempDir(), Pairs: 1, Block: 100 * time.Millisecond, Carts: 10}
	r, err := open(t.Context(), o, &out)
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	for s, want := range map[*site]string{r.direct: "50000\n", r.tuned: "5000000\n", r.shop.site: "5000000\n"} {
		for _, p := range s.programs() {
			if p.role == local.Redis {
				continue
			}
			slack, err := os.ReadFile(fmt.Sprintf("/proc/%d/timerslack_ns", p.pid))
			if err != nil || string(slack) != want {
				t.Errorf("%s of %s has a timer slack of %q ns, %v", p.role, s.name, slack, err)
			}
		}
	}
	three, err := r.measureMemory(t.Context(), 20_000, 3)
	if err != nil {
		t.Fatal(err)
	}
	ten, err := r.measureMemory(t.Context(), 20_000, 10)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("3 lines %.0f, 10 lines %.0f, a record %.0f and %.0f bytes", three.Cart, ten.Cart, three.Record, ten.Record)
	// The store's own carts, each made by its script, as many: a table of Redis' that is larger weighs the same in both.
	rdb, store, end, err := r.emptyStore(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	before, err := usedMemory(t.Context(), rdb)
	if err != nil {
		t.Fatal(err)
	}
	for range three.Carts {
		if _, err := store.Change(t.Context(), cart.Owner(newGuestID()), r.filling(3)); err != nil {
			t.Fatal(err)
		}
	}
	after, err := usedMemory(t.Context(), rdb)
	if err != nil {
		t.Fatal(err)
	}
	each, copied := (after-before)/float64(three.Carts), three.Cart+three.Record
	t.Logf("a cart of 3 lines with its record %.1f bytes, a copy of them %.1f", each, copied)
	if each < 0.97*copied || each > 1.03*copied {
		t.Errorf("a cart of 3 lines with its record takes %.0f bytes, and a copy of them %.0f", each, copied)
	}
	// A line is its SKU of 10 bytes and little more while the cart is a listpack.
	if per := (ten.Cart - three.Cart) / 7; three.Cart < 130 || per < 10 || per > 25 || three.Record < 80 || three.Record > 300 {
		t.Errorf("3 lines %.0f, 10 lines %.0f, a record %.0f bytes", three.Cart, ten.Cart, three.Record)
	}
	hundred, err := r.measureMemory(t.Context(), 2000, 130)
	if err != nil {
		t.Fatal(err)
	}
	if hundred.Cart < 2*ten.Cart {
		t.Errorf("130 lines take %.0f bytes", hundred.Cart)
	}
	n, err := r.count(t.Context(), "add", mustCarts(t, r), false)
	if err != nil {
		t.Fatal(err)
	}
	if n.Commands["evalsha"] != 1 || n.Commands["hset"] != 1 || n.calls(local.Redis) < 1.9 || n.calls(local.Redis) > 4 || n.Sent < 100 || n.Received < 100 {
		t.Errorf("an add is %+v", n)
	}
}

func mustCarts(t *testing.T, r *run) *carts {
	t.Helper()
	c, err := r.carts(t.Context(), r.shop.site, 3)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestGateFailsPastALimit(t *testing.T) {
	figure := func(title string, value float64, gate bool) Figure {
		return Figure{Title: title, Exact: true, Gate: gate, Range: rangeOf([]float64{value}), Limit: 12}
	}
	if err := (&Report{Figures: []Figure{figure("within", 10, true), figure("a goal", 13, false)}}).gate(); err != nil {
		t.Error(err)
	}
	err := (&Report{Figures: []Figure{figure("within", 10, true), figure("past", 13, true)}}).gate()
	if err == nil || !strings.Contains(err.Error(), "past: 13") || strings.Contains(err.Error(), "within") {
		t.Errorf("it says %v", err)
	}
	unmeasured := Figure{Title: "not measured", Exact: true, Gate: true, Limit: 12}
	if err := (&Report{Figures: []Figure{unmeasured}}).gate(); err == nil {
		t.Error("a figure that is missing passes")
	}
}
