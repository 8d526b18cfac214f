package defects

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"coatcheck/trial/check"
	"coatcheck/trial/fault"
	"coatcheck/trial/history"
)

// defect is one that carts are known to have.
type defect struct {
	name   string
	checks []string // each of which finds it
	least  int      // that each check must have looked at
	trial  trial    // of both shops
	sound  double   // what the shop without it differs in from the one that is shipped
	broken double
	alone  bool // other trials beside it would leave too little time for its passwords
}

func defects() []defect {
	all := []defect{
		{
			name: "read-modify-write", checks: []string{"bounds", "linearizable"}, least: 25,
			trial:  trial{weights: guests, hot: 2}, // only the first is ever checked out, which may hide what was lost
			broken: double{store: newReadModifyWrite},
		},
		{
			name: "no-idempotency", checks: []string{"doubled"}, least: 20,
			trial:  trial{weights: guests, lostAnswers: 5},
			broken: double{store: newKeyless},
		},
		{
			name: "redis-retries", checks: []string{"doubled"}, least: 20,
			trial: trial{weights: guests, lostScripts: 5},
			broken: double{
				// A record of a millisecond is gone when go-redis sends a command again.
				window: time.Millisecond,
				client: func(addr string) redis.UniversalClient {
					return redis.NewClient(&redis.Options{Addr: addr, MaxRetries: 3, ContextTimeoutEnabled: true})
				},
			},
		},
		{
			name: "in-memory-cart", checks: []string{"lost"}, least: 25,
			trial:  trial{weights: guests, slow: 100 * time.Millisecond, faults: killCarts(2)},
			broken: double{store: newInMemory},
		},
		{
			name: "no-drain", checks: []string{"drained"}, least: 50,
			trial:  trial{weights: guests, rate: 80, gateways: 2, slow: 300 * time.Millisecond, faults: rollGateways},
			broken: double{gateway: newUndrained},
		},
		{
			name: "retry-throttle", checks: []string{"hidden"}, least: 50,
			trial:  trial{weights: guests, rate: 70, slow: 300 * time.Millisecond, faults: killCarts(1)},
			broken: double{dial: throttled, cart: firstTriesOnly},
		},
		{
			name: "one-step-merge", checks: []string{"merges"}, least: 8,
			trial:  trial{weights: visits, shoppers: 4, length: 4 * time.Second, brokenMerges: 2},
			broken: double{store: newOneMerge},
		},
		{
			name: "clearing-checkout", checks: []string{"accounts"}, least: 6,
			trial:  trial{weights: looking, hot: 1, rate: 120, length: 4 * time.Second},
			broken: double{store: newClearing},
		},
		{
			name: "eviction", checks: []string{"lost"}, least: 50,
			trial:  trial{weights: guests, slow: 100 * time.Millisecond, faults: fillRedis},
			sound:  double{redis: []string{"--maxmemory-policy", "noeviction"}},
			broken: double{redis: []string{"--maxmemory-policy", "allkeys-lru"}},
		},
		{
			name: "batch-retried-whole", checks: []string{"doubled"}, least: 20,
			trial:  trial{weights: guests, slow: 100 * time.Millisecond, batches: 1, lostBatches: 5},
			broken: double{batch: retriedWhole},
		},
		{
			name: "batch-failed-whole", checks: []string{"bounds"}, least: 25,
			trial:  trial{weights: careful, shoppers: 12, slow: 100 * time.Millisecond, batches: 1, length: 4 * time.Second},
			broken: double{batch: failedWhole},
		},
		{
			name: "token-after-log-out", checks: []string{"revoked"}, least: 2, alone: true,
			trial:  trial{weights: visits, shoppers: 4},
			broken: double{auth: remembering()},
		},
		{
			name: "self-contained-session", checks: []string{"revoked"}, least: 2, alone: true,
			trial:  trial{weights: visits, shoppers: 4},
			broken: double{auth: selfContained()},
		},
		{
			// About half of the sessions that end show nothing of it.
			name: "late-answer", checks: []string{"revoked"}, least: 8, alone: true,
			trial:  trial{weights: visits, shoppers: 4, length: 9 * time.Second},
			broken: double{auth: lateAnswers(), asks: true},
		},
		{
			name: "deaf-gateway", checks: []string{"revoked"}, least: 8, alone: true,
			trial:  trial{weights: visits, shoppers: 6, gateways: 2, fresh: true, length: 6 * time.Second, faults: silence},
			broken: double{news: newDeaf},
		},
		{
			name: "refresh-without-reuse-detection", checks: []string{"reused"}, least: 4, alone: true,
			trial:  trial{weights: guests, machines: 4, length: 4 * time.Second},
			broken: double{users: newForgiving},
		},
		{
			name: "old-key-dropped", checks: []string{"refused"}, least: 50,
			trial:  trial{weights: guests, length: 5 * time.Second, faults: rotateKeys},
			sound:  double{asks: true, rotate: rotated},
			broken: double{asks: true, rotate: newKeyAlone},
		},
	}
	return append(all, traced()...)
}

// guests never log in, and cost no passwords; the slower the carts, the more of
// them there are. looking has those who share a cart check out often, which they
// do after a reading. visits are many and short: where nobody can log in or check
// out yet, there is an add. careful ones name versions, some of them old.
var (
	careful = map[history.Kind]int{history.Add: 40, history.Read: 20, history.CondSet: 40}
	guests  = map[history.Kind]int{history.Add: 70, history.Read: 30}
	looking = map[history.Kind]int{history.Add: 40, history.Read: 60}
	visits  = map[history.Kind]int{history.Add: 15, history.Read: 5, history.LogIn: 60, history.Checkout: 40}
)

const (
	// maxStall is how long a machine may keep everybody waiting until it, and not
	// the shop, is the reason why a request is given up.
	maxStall  = 500 * time.Millisecond
	maxRounds = 4
)

// TestDefects takes most of its time waiting. On a machine that is too busy a
// trial shows too little, or a shop that fails though nothing is wrong with it;
// it is then made again.
func TestDefects(t *testing.T) {
	for _, d := range defects() {
		t.Run(d.name, func(t *testing.T) {
			if !d.alone {
				t.Parallel()
			}
			var sound, broken check.Verdict
			var stall time.Duration
			tr := d.trial
			tr.length = cmp.Or(tr.length, 3*time.Second)
			for round := 1; ; round++ {
				sound, broken, stall = d.try(t, tr)
				enough, calm := d.enough(sound) && (d.found(broken) || d.enough(broken)), stall < maxStall
				if enough && (calm || sound.Pass && d.found(broken)) || round == maxRounds {
					break
				}
				t.Logf("again, on a machine that stalls for %v: without: %s %v; with: %s %v", stall, sound.Line, sound.Results, broken.Line, broken.Results)
				if !enough {
					tr.length *= 2
				}
			}
			t.Logf("without: %s %v", sound.Line, sound.Results)
			t.Logf("with:    %s %v", tell(broken, 1), broken.Results)
			if !sound.Pass || !d.enough(sound) {
				t.Errorf("the shop without the defect does not pass, at least %d looked at, on a machine that stalls for %v: %v %s",
					d.least, stall, sound.Results, tell(sound, check.MaxFindings))
			}
			if !d.found(broken) {
				t.Errorf("%v do not all find it: %v", d.checks, broken.Results)
			}
		})
	}
}

// try runs the trial in both shops, side by side.
func (d defect) try(t *testing.T, tr trial) (sound, broken check.Verdict, stall time.Duration) {
	t.Helper()
	type outcome struct {
		stall time.Duration
		err   error
	}
	ended := make(chan outcome, 2)
	for v, with := range map[*check.Verdict]double{&sound: d.sound, &broken: d.broken} {
		s, file := openShop(t, tr, with), filepath.Join(t.TempDir(), "history.jsonl")
		go func() {
			stall, err := s.play(t.Context(), tr, file)
			if err == nil {
				*v, err = check.Check(file, limits(d.checks))
			}
			s.close()
			ended <- outcome{stall, err}
		}()
	}
	for range cap(ended) {
		o := <-ended
		if stall = max(stall, o.stall); o.err != nil {
			t.Error(o.err)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
	return sound, broken, stall
}

// enough tells whether the shop has shown something.
func (d defect) enough(v check.Verdict) bool {
	return len(v.Inconclusive) == 0 && !slices.ContainsFunc(d.checks, func(name string) bool { return resultOf(v, name).Looked < d.least })
}

// found tells whether each check has found something.
func (d defect) found(v check.Verdict) bool {
	return !slices.ContainsFunc(d.checks, func(name string) bool { return resultOf(v, name).Violations == 0 })
}

func resultOf(v check.Verdict, name string) check.Result {
	for _, r := range v.Results {
		if r.Check == name {
			return r
		}
	}
	return check.Result{}
}

// limits are those of a few seconds.
func limits(checks []string) check.Limits {
	return check.Limits{
		Checks: append([]string{"inconclusive"}, checks...), Settle: 200 * time.Millisecond, Search: 10 * time.Second, Holds: time.Second,
		Acknowledged: 50, BeforeFaults: 1, Missed: 1,
	}
}

// tell words what is wrong, up to so many findings.
func tell(v check.Verdict, most int) string {
	text := v.Line
	for _, f := range v.Findings[:min(most, len(v.Findings))] {
		text += "\n" + f.Check + " " + f.Cart + ": " + f.Text
	}
	return text
}

// killCarts kills one cart replica after the other, n times.
func killCarts(n int) func(*stage) error {
	return func(s *stage) error {
		for i := range n {
			r := s.carts[i%len(s.carts)]
			err := s.fault(history.Hidden, fault.Kill, r.name, func() error {
				r.kill()
				time.Sleep(100 * time.Millisecond)
				return r.start()
			})
			if err != nil {
				return err
			}
			time.Sleep(500 * time.Millisecond)
		}
		return nil
	}
}

// rollGateways restarts one gateway after the other, in order.
func rollGateways(s *stage) error {
	for _, r := range s.gateways {
		err := s.fault(history.Gateway, fault.Roll, r.name, func() error {
			if err := r.stop(); err != nil {
				return err
			}
			if err := r.start(); err != nil {
				return err
			}
			return s.awaitOpen()
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// silence has gateways hear nothing of revocations for most of the trial.
func silence(s *stage) error {
	return s.fault(history.Hidden, "silence", "auth", func() error {
		s.silent.Store(true)
		time.Sleep(s.calls.length - 2*warmUp)
		s.silent.Store(false)
		return nil
	})
}

// rotateKeys has auth sign by another key. This one is not known for as long as in
// a shop before it signs, so the carts must be free to ask for it, which they do
// once a second at most.
func rotateKeys(s *stage) error {
	time.Sleep(1100 * time.Millisecond)
	return s.fault(history.Hidden, fault.Rotate, "auth", func() error {
		keys, err := os.ReadFile(s.keys)
		if err != nil {
			return err
		}
		next, err := s.rotate(string(keys))
		if err != nil {
			return err
		}
		return os.WriteFile(s.keys, []byte(next), 0o600)
	})
}

// fillRedis takes Redis' memory away for a while.
func fillRedis(s *stage) error {
	return s.fault(history.Outage, "memory", "redis", func() error {
		for _, most := range []string{"1", "0"} {
			time.Sleep(500 * time.Millisecond)
			if err := s.redis.ConfigSet(s.ctx, "maxmemory", most).Err(); err != nil {
				return err
			}
		}
		return nil
	})
}
