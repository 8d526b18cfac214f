package fault

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"coatcheck/trial/history"
	"coatcheck/trial/local"
)

// fakeShop is processes in memory: one that is ended is back after a second.
type fakeShop struct {
	mu    sync.Mutex
	list  []local.Process
	said  []string
	stays bool // what is ended does not come back

	signsAt time.Time // when the last key that was made comes to sign
}

func newShop(replicas, spares int) *fakeShop {
	s := &fakeShop{list: []local.Process{{Role: local.Redis, Name: local.Redis, PID: 1, State: local.Running}}}
	for _, role := range []string{local.Auth, local.Cart, local.Gateway} {
		for i := range replicas + spares {
			p := local.Process{Role: role, Name: fmt.Sprintf("%s-%d", role, i+1), PID: 100 + len(s.list), State: local.Running}
			if i >= replicas {
				p.PID, p.State = 0, local.Stopped
			}
			s.list = append(s.list, p)
		}
	}
	return s
}

func (s *fakeShop) Processes() []local.Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.list)
}

func (s *fakeShop) set(name, state string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.list, func(p local.Process) bool { return p.Name == name })
	if i < 0 {
		return errors.New("no such process")
	}
	s.list[i].State = state
	if state == local.Running {
		s.list[i].PID += 1000
	}
	return nil
}

func (s *fakeShop) say(what, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.said = append(s.said, what+" "+name)
}

func (s *fakeShop) Kill(name string, sig syscall.Signal) error {
	s.say(sig.String(), name)
	if sig == syscall.SIGSTOP || sig == syscall.SIGCONT {
		return nil
	}
	return s.restart(name)
}

func (s *fakeShop) restart(name string) error {
	go func() {
		time.Sleep(10 * time.Millisecond) // a process is not gone at once
		_ = s.set(name, local.Restarting)
		time.Sleep(time.Second)
		if !s.stays {
			_ = s.set(name, local.Running)
		}
	}()
	return nil
}

func (s *fakeShop) StopProcess(name string) error {
	s.say("down", name)
	return s.set(name, local.Stopped)
}

func (s *fakeShop) StartProcess(name string) error {
	s.say("up", name)
	return s.set(name, local.Running)
}

func (s *fakeShop) RotateKeys() (bool, error) {
	if time.Now().Before(s.signsAt) {
		return false, nil
	}
	s.say("new", "key")
	s.signsAt = time.Now().Add(20 * time.Second)
	return true, nil
}

func (s *fakeShop) AwaitReady(ctx context.Context) error {
	s.say("whole", "")
	return ctx.Err()
}

func (s *fakeShop) process(name string) local.Process {
	p, _ := find(s, name)
	return p
}

func TestProcessFaults(t *testing.T) {
	for name, tt := range map[string]struct {
		fault func(*fakeShop) Fault
		want  string // what the shop is told
		class history.Class
		kind  string
		least time.Duration
	}{
		"kill -9 cart-2":       {func(s *fakeShop) Fault { return end(Kill, s.process("cart-2")) }, "killed cart-2, whole", history.Hidden, Kill, time.Second},
		"kill -TERM gateway-1": {func(s *fakeShop) Fault { return end(Term, s.process("gateway-1")) }, "terminated gateway-1, whole", history.Gateway, Term, time.Second},
		"kill -9 redis":        {func(s *fakeShop) Fault { return end(Kill, s.process("redis")) }, "killed redis, whole", history.Outage, RedisKill, time.Second},
		"redis down for 2s":    {func(s *fakeShop) Fault { return redisDown() }, "down redis, up redis, whole", history.Outage, RedisStop, 2 * time.Second},
		"scale up by auth-4":   {func(s *fakeShop) Fault { return scaleUp(s.process("auth-4")) }, "up auth-4, whole", history.Hidden, ScaleUp, 0},
		"scale down by cart-1": {func(s *fakeShop) Fault { return scaleDown(s.process("cart-1")) }, "down cart-1, whole", history.Hidden, ScaleDown, 0},
		"rolling restart of gateway": {func(s *fakeShop) Fault { return roll(local.Gateway) },
			"down gateway-1, up gateway-1, whole, down gateway-2, up gateway-2, whole, down gateway-3, up gateway-3, whole", history.Gateway, Roll, 0},
		"kill -STOP auth-1 for 5s": {func(s *fakeShop) Fault { return freeze(s.process("auth-1")) },
			"stopped (signal) auth-1, continued auth-1, whole", history.Hidden, Stop, 5 * time.Second},
		"rotation of the signing keys": {func(s *fakeShop) Fault { return rotate() }, "new key, whole", history.Hidden, Rotate, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				shop := newShop(3, 1)
				f := tt.fault(shop)
				began := time.Now()
				if err := f.Inject(t.Context(), Env{Shop: shop}); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took < tt.least || took > f.Takes {
					t.Errorf("it took %v, want %v to %v", took, tt.least, f.Takes)
				}
				said := strings.ReplaceAll(strings.Join(shop.said, ", "), "whole ", "whole")
				if said != tt.want {
					t.Errorf("the shop was told %q, want %q", said, tt.want)
				}
				if f.Name != name || f.Class != tt.class || f.Kind != tt.kind || f.Target == "" || f.Gap == 0 {
					t.Errorf("it is %+v", f)
				}
			})
		})
	}
}

// TestRotationWaits: a key that does not sign yet is not followed by another.
func TestRotationWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shop := newShop(3, 0)
		began := time.Now()
		for range 2 {
			if err := rotate().Inject(t.Context(), Env{Shop: shop}); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took < 20*time.Second || took > 21*time.Second || len(shop.said) != 4 {
			t.Errorf("after %v the shop was told %q", took, shop.said)
		}
		shop.signsAt = time.Now().Add(2 * Bound)
		if err := rotate().Inject(t.Context(), Env{Shop: shop}); err == nil {
			t.Error("a key that never comes to sign is no error")
		}
	})
}

// TestNeverTheLast: with one replica left, nothing that would take it is done.
func TestNeverTheLast(t *testing.T) {
	for _, role := range replicated {
		shop := newShop(1, 0)
		p := shop.process(role + "-1")
		for _, f := range []Fault{end(Kill, p), end(Term, p), freeze(p), roll(role), scaleDown(p)} {
			if err := f.Inject(t.Context(), Env{Shop: shop}); !errors.Is(err, errLast) {
				t.Errorf("%s: %v", f.Name, err)
			}
		}
		if len(shop.said) > 0 {
			t.Errorf("the shop was told %q", shop.said)
		}
	}
}

func TestWhatCannotBeDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shop := newShop(2, 1)
		for _, f := range []Fault{
			end(Kill, local.Process{Name: "cart-9", Role: local.Cart}), // is not there
			end(Kill, shop.process("cart-3")),                          // does not run
			scaleUp(shop.process("cart-1")),                            // runs
			cut(local.Cart, local.Redis),                               // no network
		} {
			if err := f.Inject(t.Context(), Env{Shop: shop}); err == nil || !strings.HasPrefix(err.Error(), f.Name) {
				t.Errorf("%s: %v", f.Name, err)
			}
		}
		if len(shop.said) > 0 {
			t.Errorf("the shop was told %q", shop.said)
		}
		// One that stays away is an error, in time.
		shop.stays = true
		began := time.Now()
		err := end(Kill, shop.process("cart-1")).Inject(t.Context(), Env{Shop: shop})
		if err == nil || time.Since(began) > Bound+time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
	})
}

func TestCommand(t *testing.T) {
	f, err := Command(t.Context(), "echo first; echo 'pod cart-1 deleted'", history.Hidden)
	if err != nil || f.Name != "pod cart-1 deleted" || f.Class != history.Hidden || f.Kind != Other {
		t.Errorf("%+v, %v", f, err)
	}
	f, err = Command(t.Context(), "true", history.Gateway)
	if err != nil || f.Name != "true" {
		t.Errorf("one that says nothing: %+v, %v", f, err)
	}
	_, err = Command(t.Context(), "echo no such pod >&2; exit 3", history.Gateway)
	if err == nil || !strings.Contains(err.Error(), "no such pod") {
		t.Errorf("one that fails: %v", err)
	}
}
