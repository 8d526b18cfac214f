package cluster

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"coatcheck/trial/fault"
	"coatcheck/trial/history"
)

// open returns when all of the fake's pods were seen.
func open(t *testing.T, o Options) *Cluster {
	t.Helper()
	c, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := c.await(ctx, func(pods []Pod) bool { return len(pods) == 10 }); err != nil {
		t.Fatal(err)
	}
	return c
}

// record keeps the faults that were made.
type record struct {
	mu    sync.Mutex
	made  []fault.Fault
	errs  []error
	under int
	most  int
}

func (r *record) begin(time.Time, fault.Fault) func(fault.Fault, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.under++
	r.most = max(r.most, r.under)
	return func(f fault.Fault, err error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.under--
		r.made = append(r.made, f)
		r.errs = append(r.errs, err)
	}
}

// atMost says no after n faults.
func atMost(n int) func() bool { return func() bool { n--; return n >= 0 } }

func TestEveryScenarioIsKnown(t *testing.T) {
	var named []string
	for _, s := range fault.Scenarios() {
		if s.Cluster {
			named = append(named, s.Name)
		}
	}
	if all := slices.Sorted(maps.Keys(Rhythms())); !slices.Equal(slices.Sorted(slices.Values(named)), all) {
		t.Errorf("named are %q, there are %q", named, all)
	}
}

// TestPods: the faults may overlap, and never leave a part without a Ready pod.
func TestPods(t *testing.T) {
	f := newFake(t)
	f.mu.Lock()
	f.back = 3 * time.Second // more than a slow machine takes from one fault to the next
	f.refusals = 1
	f.mu.Unlock()
	c := open(t, f.options())
	var r record
	pods := Rhythms()["pods"]
	pods.Every = f.back / 10
	if err := c.run(t.Context(), pods, 3, atMost(9), r.begin); err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	for i, made := range r.made {
		kinds[made.Kind]++
		part, _, _ := strings.Cut(made.Target, "-")
		want := map[string]history.Class{Gateway: history.Gateway, Auth: history.Hidden, Cart: history.Hidden}[part]
		if r.errs[i] != nil || made.Class != want || made.Name != made.Kind+" "+made.Target {
			t.Errorf("%+v: %v", made, r.errs[i])
		}
	}
	if len(r.made) != 9 || r.most < 2 || r.under != 0 || kinds[Delete]+kinds[ForceDelete]+kinds[Evict] != 9 || len(kinds) != 3 {
		t.Errorf("%d made, %d at once, %v", len(r.made), r.most, kinds)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for part, n := range f.fewest {
		if n < 1 {
			t.Errorf("%s was left with %d Ready pods", part, n)
		}
	}
	all := strings.Join(f.commands, "\n")
	if deleted, forced := strings.Count(all, "DELETE "), strings.Count(all, `{"gracePeriodSeconds":0}`); forced != kinds[ForceDelete] || deleted-forced != kinds[Delete] {
		t.Errorf("%d are deleted, %d of them by force, for %v", deleted, forced, kinds)
	}
}

// TestDue: a fault that waited makes the next one come sooner, as long as it did
// not wait too long.
func TestDue(t *testing.T) {
	const every = 3 * time.Second
	last := time.Unix(1000, 0)
	for late, want := range map[time.Duration]time.Duration{
		0:               2 * time.Second,
		time.Second:     2 * time.Second,
		5 * time.Second: 2 * time.Second, // which is due at once
		9 * time.Second: 6 * time.Second,
	} {
		if got := due(last, last.Add(late), every, 2*time.Second).Sub(last); got != want {
			t.Errorf("%v after the last was due, the next is due %v after it, want %v", late, got, want)
		}
	}
}

// TestNobodyToSpare: the last Ready pod of a part is never taken.
func TestNobodyToSpare(t *testing.T) {
	f := newFake(t)
	c := open(t, f.options())
	f.mu.Lock()
	f.stubborn = true
	f.mu.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	var r record
	p := &plan{source(1)}
	taken := 0
	for ctx.Err() == nil {
		if _, err := c.beginAny(ctx, p, step{Delete, []string{Cart}}); err == nil {
			taken++
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if taken != 2 || f.fewest[Cart] != 1 {
		t.Errorf("%d pods were taken, %d left: %+v", taken, f.fewest[Cart], r.made)
	}
}

func TestMixed(t *testing.T) {
	f := newFake(t)
	c := open(t, f.options())
	for _, s := range []step{
		{fault.Kill, Services}, {fault.Roll, []string{Gateway}}, {fault.Roll, []string{Whole}}, {fault.ScaleUp, []string{Cart}}, {fault.ScaleDown, []string{Cart}}, {RedisDelete, []string{Redis}}, {Evict, Services},
	} {
		h, err := c.beginAny(t.Context(), &plan{source(5)}, s)
		if err == nil {
			err = h.Over(t.Context())
		}
		if err != nil {
			t.Errorf("%+v: %v", h.Fault, err)
		}
		if h.Target == Whole && h.Class != history.Gateway {
			t.Errorf("of a gateway, too: %+v", h.Fault)
		}
		if (h.Class == history.Outage) != (s.kind == RedisDelete) || h.Kind != s.kind {
			t.Errorf("%+v", h.Fault)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	all := strings.Join(f.commands, "\n")
	for _, part := range []string{
		"ctr --namespace k8s.io tasks kill --signal SIGKILL c", "rollout restart deployment.apps/shop-gateway", "rollout restart deployment.apps/shop-gateway deployment.apps/shop-auth deployment.apps/shop-cart", "rollout status deployment.apps/shop-gateway",
		"scale deployment.apps/shop-cart --replicas 4", "scale deployment.apps/shop-cart --replicas 3", "DELETE /api/v1/namespaces/shop/pods/redis-10",
	} {
		if !strings.Contains(all, part) {
			t.Errorf("no %q in:\n%s", part, all)
		}
	}
}

// TestScaledBack: a pod that never came to serve is no fault that was made.
func TestScaledBack(t *testing.T) {
	f := newFake(t)
	c := open(t, f.options())
	f.mu.Lock()
	f.scalesBack = true
	f.mu.Unlock()
	h, err := c.begin(t.Context(), &plan{source(1)}, fault.ScaleUp, Cart)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := h.Over(ctx); err == nil {
		t.Error("a part that was scaled back counts as scaled up")
	}
}

func TestNode(t *testing.T) {
	f := newFake(t)
	c := open(t, f.options())
	redis := c.Pods()[slices.IndexFunc(c.Pods(), func(p Pod) bool { return p.Part == Redis })].Node
	var h Happening
	var err error
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for which, part := range map[string]string{"with Redis": Redis, "without Redis": ""} {
		for seed := range uint64(4) {
			h, err = c.begin(t.Context(), &plan{source(seed)}, NodeStop, part)
			if away := f.away(); err != nil || h.Class != history.Outage || !strings.HasPrefix(h.Target, "worker-") || away != h.Target || (away == redis) != (part == Redis) || !strings.Contains(h.Name, which) {
				t.Fatalf("%+v, away %q, Redis on %s: %v", h.Fault, away, redis, err)
			}
			// Even a trial that is broken off brings it back.
			if err := h.Over(ctx); err != nil || f.away() != "" {
				t.Errorf("away: %q, %v", f.away(), err)
			}
		}
	}
	h, err = c.begin(t.Context(), &plan{source(1)}, NodeReturn, "")
	if err != nil || h.Class != history.Outage || h.Began.IsZero() || h.Over(ctx) != nil {
		t.Errorf("%+v: %v", h.Fault, err)
	}
}

func TestWhatCannotBe(t *testing.T) {
	f := newFake(t)
	o := f.options()
	o.NodeExec, o.NodeStop = "", ""
	c := open(t, o)
	for kind, word := range map[string]string{fault.Kill: "-node-exec", NodeStop: "-node-stop", "earthquake": "no such fault"} {
		if _, err := c.begin(t.Context(), &plan{source(1)}, kind, Cart); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %v", kind, err)
		}
	}
	if err := c.Run(t.Context(), "demo", 1, atMost(1), nil); err == nil {
		t.Error("a scenario for one machine was made on a cluster")
	}
	f.mu.Lock()
	f.pods = slices.DeleteFunc(f.pods, func(p Pod) bool { return p.Part == Auth })
	f.mu.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := Open(ctx, f.options()); err == nil || !strings.Contains(err.Error(), "no shop") {
		t.Errorf("a namespace without auth: %v", err)
	}
	if _, err := Open(t.Context(), Options{}); err == nil {
		t.Error("no namespace")
	}
}

// TestWatchEnds: a watch that breaks off is begun anew, and a pod that went
// meanwhile is gone.
func TestWatchEnds(t *testing.T) {
	f := newFake(t)
	c := open(t, f.options())
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	f.mu.Lock()
	f.pods = f.pods[1:]
	for w := range f.watchers {
		close(w)
		delete(f.watchers, w)
	}
	f.mu.Unlock()
	if err := c.await(ctx, func(pods []Pod) bool { return len(pods) == 9 }); err != nil {
		t.Error(err)
	}
	s := c.Sample(time.Minute)
	if s.All[Gateway] != 2 || len(s.Ready[Gateway]) != 2 || s.All[Cart] != 3 || s.Ready[Redis][0] != "redis-10" {
		t.Errorf("%+v", s)
	}
}
