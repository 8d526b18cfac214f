package rpc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"
	"google.golang.org/grpc/status"
)

// fakeConn is a connection that only has a name.
type fakeConn struct {
	balancer.SubConn
	name string
}

func ready(conns ...balancer.SubConn) base.PickerBuildInfo {
	info := base.PickerBuildInfo{ReadySCs: map[balancer.SubConn]base.SubConnInfo{}}
	for _, c := range conns {
		info.ReadySCs[c] = base.SubConnInfo{}
	}
	return info
}

// pick makes one pick and ends it as done says; it returns the replica's name.
func pick(t *testing.T, p balancer.Picker, ctx context.Context, done balancer.DoneInfo) string {
	t.Helper()
	picked, err := p.Pick(balancer.PickInfo{Ctx: ctx})
	if err != nil {
		t.Fatal(err)
	}
	picked.Done(done)
	return picked.SubConn.(*fakeConn).name
}

var (
	answered = balancer.DoneInfo{BytesSent: true, BytesReceived: true}
	timedOut = balancer.DoneInfo{BytesSent: true, Err: status.Error(codes.DeadlineExceeded, "")}
	unsent   = balancer.DoneInfo{Err: status.Error(codes.DeadlineExceeded, "")}
	repicked = balancer.DoneInfo{}
)

func TestTriesOfOneCallGoToDifferentReplicas(t *testing.T) {
	p := (&pickers{}).Build(ready(&fakeConn{name: "a"}, &fakeConn{name: "b"}, &fakeConn{name: "c"}))
	for range 100 {
		call := NewCall(t.Context())
		var got []string
		for range 3 {
			got = append(got, pick(t, p, call, answered))
			// With two other calls in between it would be the same one's turn again.
			pick(t, p, t.Context(), answered)
			pick(t, p, t.Context(), answered)
		}
		slices.Sort(got)
		if !slices.Equal(got, []string{"a", "b", "c"}) {
			t.Fatalf("three tries went to %v", got)
		}
		pick(t, p, call, answered) // a fourth still goes somewhere
	}
}

func TestElsewhere(t *testing.T) {
	p := (&pickers{}).Build(ready(&fakeConn{name: "a"}, &fakeConn{name: "b"}))
	call, last := NewCall(t.Context()), ""
	for range 100 {
		now := pick(t, p, call, answered)
		if now == last {
			t.Fatalf("two calls in a row went to %s", now)
		}
		last, call = now, Elsewhere(t.Context(), call)
		pick(t, p, t.Context(), answered) // or the turn alone would do it
	}
	pick(t, p, Elsewhere(t.Context(), t.Context()), answered) // after no call, anywhere
}

func TestSuspicion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := &fakeConn{name: "a"}, &fakeConn{name: "b"}
		builder := &pickers{}
		p := builder.Build(ready(a, b))
		// end lets n calls end: those at b as done says, the others well.
		end := func(n int, done balancer.DoneInfo) (atB int) {
			for range n {
				picked, err := p.Pick(balancer.PickInfo{Ctx: t.Context()})
				if err != nil {
					t.Fatal(err)
				}
				if picked.SubConn == b {
					atB++
					picked.Done(done)
				} else {
					picked.Done(answered)
				}
			}
			return atB
		}
		expect := func(what string, got, want int) {
			t.Helper()
			if got != want {
				t.Fatalf("%s: b got %d calls, want %d", what, got, want)
			}
		}
		expect("a call that never left says nothing of b", end(10, unsent), 5)
		expect("a call that timed out makes b suspect", end(10, timedOut), 1)
		expect("while it is", end(10, answered), 0)
		p = builder.Build(ready(a, b, &fakeConn{name: "c"}))
		by := map[string]int{}
		for range 10 {
			by[pick(t, p, t.Context(), answered)]++
		}
		if by["a"] != 5 || by["c"] != 5 {
			t.Fatalf("its share went to %v, want halves", by)
		}
		p = builder.Build(ready(a, b))
		expect("also after the picker was rebuilt", end(10, answered), 0)
		time.Sleep(suspicion + 1)
		expect("then one call asks", end(10, timedOut), 1)
		expect("and the suspicion goes on", end(10, answered), 0)
		time.Sleep(suspicion + 1)
		expect("a pick that was taken back asks nothing", end(1, repicked)+end(1, repicked), 1)
		expect("and ends no suspicion", end(10, answered), 0)
		time.Sleep(suspicion + 1)
		expect("an answer ends it", end(2, answered), 1)
		expect("at once", end(10, answered), 5)
		end(2, timedOut)
		p = builder.Build(ready(b))
		expect("who is alone gets every call", end(10, answered), 10)
	})
}

// TestTogether: such calls go where fewest are under way, and count as a try of
// each logical call that is made in them.
func TestTogether(t *testing.T) {
	a, b, c := &fakeConn{name: "a"}, &fakeConn{name: "b"}, &fakeConn{name: "c"}
	p := (&pickers{}).Build(ready(a, b, c))
	begin := func(ctx context.Context) (name string, end func(balancer.DoneInfo)) {
		picked, err := p.Pick(balancer.PickInfo{Ctx: ctx})
		if err != nil {
			t.Fatal(err)
		}
		return picked.SubConn.(*fakeConn).name, picked.Done
	}
	one, other := NewCall(t.Context()), NewCall(t.Context())
	if Tried(one) || Replicas(one) != 0 {
		t.Error("a call that was not made was tried")
	}
	for range 10 {
		under, ends := map[string]int{}, []func(balancer.DoneInfo){}
		for range 6 {
			name, end := begin(Together(t.Context(), one, other))
			under[name]++
			ends = append(ends, end)
			pick(t, p, t.Context(), answered) // others have no part in it
		}
		if under["a"] != 2 || under["b"] != 2 || under["c"] != 2 {
			t.Fatalf("six under way at once went to %v", under)
		}
		ends[0](answered)
		ends[0] = func(balancer.DoneInfo) {}
		first, end := begin(Together(t.Context(), one))
		under[first]++
		end(repicked)
		again, end := begin(Together(t.Context(), one))
		if again != first {
			t.Fatalf("where one ended, at %s, the next does not go: %s", first, again)
		}
		for _, end := range append(ends, end) {
			end(answered)
		}
	}
	fresh := NewCall(t.Context())
	joint := Together(t.Context(), NewCall(t.Context()), fresh)
	where, end := begin(joint)
	end(timedOut)
	if !Tried(fresh) || Replicas(joint) != 3 || Replicas(t.Context()) != 0 {
		t.Errorf("tried %v, of %d replicas", Tried(fresh), Replicas(joint))
	}
	for range 2 {
		if next := pick(t, p, fresh, answered); next == where {
			t.Errorf("a try after the one in company went to %s again", next)
		}
	}
}

// TestManyAskNoSuspect: while there are others, one call alone finds out whether
// a replica answers again.
func TestManyAskNoSuspect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := &fakeConn{name: "a"}, &fakeConn{name: "b"}
		p := (&pickers{}).Build(ready(a, b))
		single := func() context.Context { return Together(t.Context(), NewCall(t.Context())) }
		many := func() context.Context { return Together(t.Context(), NewCall(t.Context()), NewCall(t.Context())) }
		for pick(t, p, single(), timedOut) != "b" {
			pick(t, p, t.Context(), answered) // a is under no suspicion
			p = (&pickers{}).Build(ready(a, b))
		}
		time.Sleep(suspicion + 1)
		for range 10 {
			if name := pick(t, p, many(), answered); name != "a" {
				t.Fatalf("many asked the suspect %s", name)
			}
		}
		if name, next := pick(t, p, single(), answered), pick(t, p, single(), answered); name == next {
			t.Errorf("both of two calls went to %s", name)
		}
		got := map[string]bool{}
		for range 10 {
			got[pick(t, p, many(), answered)] = true
		}
		if len(got) != 2 {
			t.Errorf("it answers, and many go to %v", got)
		}
		p = (&pickers{}).Build(ready(b))
		pick(t, p, single(), timedOut)
		if pick(t, p, many(), answered) != "b" {
			t.Error("who is alone gets every call")
		}
	})
}

// watched is a resolver.ClientConn that keeps what it is told.
type watched struct {
	resolver.ClientConn
	mu    sync.Mutex
	heard []string
}

func (w *watched) UpdateState(s resolver.State) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var addrs []string
	for i, a := range s.Addresses {
		addrs = append(addrs, a.Addr)
		if s.Endpoints[i].Addresses[0] != a {
			return errors.New("addresses and endpoints differ")
		}
	}
	w.heard = append(w.heard, fmt.Sprint(addrs))
	return nil
}

func (w *watched) ReportError(error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.heard = append(w.heard, "error")
}

func (w *watched) ParseServiceConfig(string) *serviceconfig.ParseResult { return nil }

func TestNamesAreAskedAgainAndAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers := [][]string{{"10.0.0.1"}, nil, nil, nil, {"10.0.0.1", "fd00::2"}}
		begin, asked := time.Now(), []time.Duration{}
		lookup := func(ctx context.Context, host string) ([]string, error) {
			asked = append(asked, time.Since(begin))
			if _, bounded := ctx.Deadline(); host != "cart" || !bounded {
				t.Errorf("asked for %q, bounded %v", host, bounded)
			}
			addrs := answers[len(asked)-1]
			if addrs == nil {
				return nil, errors.New("no such host")
			}
			return addrs, nil
		}
		w, ctx, cancel := &watched{}, t.Context(), context.CancelFunc(nil)
		ctx, cancel = context.WithCancel(ctx)
		now := make(chan struct{}, 1)
		again := asking{cancel, now}
		go names{lookup}.follow(ctx, "cart", "9090", w, now)
		time.Sleep(3*refresh + leastRefresh/4)
		for range 100 { // replicas go
			again.ResolveNow(resolver.ResolveNowOptions{})
			time.Sleep(leastRefresh / 400)
		}
		time.Sleep(leastRefresh)
		again.Close()
		synctest.Wait()

		// Once for those that went before it was asked, and once for those after.
		if want := []time.Duration{0, refresh, 2 * refresh, 3 * refresh, 3*refresh + leastRefresh}; !slices.Equal(asked, want) {
			t.Errorf("asked at %v, want %v", asked, want)
		}
		// While there is no answer, nobody is told to forget the addresses.
		if want := []string{"[10.0.0.1:9090]", "error", "error", "error", "[10.0.0.1:9090 [fd00::2]:9090]"}; !slices.Equal(w.heard, want) {
			t.Errorf("told %q, want %q", w.heard, want)
		}
	})
}
