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
		go names{lookup}.follow(ctx, "cart", "9090", w)
		time.Sleep(time.Duration(len(answers)-1)*refresh + 1)
		asking{cancel}.Close()
		synctest.Wait()

		if want := []time.Duration{0, refresh, 2 * refresh, 3 * refresh, 4 * refresh}; !slices.Equal(asked, want) {
			t.Errorf("asked at %v, want %v", asked, want)
		}
		// While there is no answer, nobody is told to forget the addresses.
		if want := []string{"[10.0.0.1:9090]", "error", "error", "error", "[10.0.0.1:9090 [fd00::2]:9090]"}; !slices.Equal(w.heard, want) {
			t.Errorf("told %q, want %q", w.heard, want)
		}
	})
}
