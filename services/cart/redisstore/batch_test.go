package redisstore_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"coatcheck/cart"
	"coatcheck/cart/mapstore"
	"coatcheck/cart/redisstore"
	"coatcheck/cart/storetest"
	"coatcheck/chassis/fault"
	"coatcheck/chassis/redistest"
)

func reading(o cart.Owner) *cart.Step { return &cart.Step{Owner: o} }

func changing(o cart.Owner, c cart.Change) *cart.Step { return &cart.Step{Owner: o, Change: &c} }

// came is a step's outcome, less what is drawn or timed.
func came(s *cart.Step) string {
	if s.Err != nil || s.Apart {
		return fmt.Sprint("apart ", s.Apart, ", error ", s.Err)
	}
	return fmt.Sprint("led to ", s.Result.Version, ", replayed ", s.Result.Replayed, ", cart at ", s.Result.Cart.Version.Number, ": ", s.Result.Cart.Lines)
}

// batchStores are a store on one server and one on a cluster, with what makes
// every server forget its scripts.
func batchStores(t *testing.T, each func(t *testing.T, store *redisstore.Store, flush func())) {
	server := redistest.Start(t, user()...)
	cluster := redistest.StartCluster(t, 3, user()...)
	for name, on := range map[string]struct {
		rdb   redis.UniversalClient
		nodes []*redistest.Server
	}{"one server": {server.ClientOf(t, "cart"), []*redistest.Server{server}}, "cluster": {cluster.ClientOf(t, "cart"), cluster}} {
		t.Run(name, func(t *testing.T) {
			var clients []*redis.Client
			for _, node := range on.nodes {
				clients = append(clients, node.Client(t))
			}
			store := open(on.rdb, time.Now)
			store.WaitForAll()
			each(t, store, func() {
				for _, c := range clients {
					if err := c.ScriptFlush(t.Context()).Err(); err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
}

// TestBatchIsItsSteps: batches of anything come to what their steps come to in
// another store, one after the other; also where the scripts are lost between
// batches.
func TestBatchIsItsSteps(t *testing.T) {
	batchStores(t, func(t *testing.T, store *redisstore.Store, flush func()) {
		model := mapstore.New(mapstore.Settings{
			GuestCartLife: storetest.GuestCartLife, UserCartLife: storetest.UserCartLife, OrderLife: storetest.OrderLife,
			Window: storetest.Window, Limits: cart.Limits{Quantity: storetest.MaxQuantity, Lines: storetest.MaxLines}, Now: time.Now,
		})
		rng := rand.New(rand.NewPCG(1, 2))
		owners := make([]cart.Owner, 6)
		for i := range owners {
			owners[i] = storetest.NewOwner("gu"[i%2])
		}
		keys, replays, seen := 0, 0, map[string]int{}
		var before *cart.Step
		for round := range 200 {
			if round%20 == 0 {
				flush()
			}
			var steps []*cart.Step
			for range 1 + rng.IntN(30) {
				owner, sku := owners[rng.IntN(len(owners))], fmt.Sprint("sku-", rng.IntN(4))
				if before != nil && rng.IntN(8) == 0 {
					steps = append(steps, changing(before.Owner, *before.Change)) // once more
					continue
				}
				var c cart.Change
				switch rng.IntN(10) {
				case 0, 1, 2:
					steps = append(steps, reading(owner))
					continue
				case 3:
					c = storetest.ClearAll()
				case 4, 5:
					c = storetest.SetOf(sku, rng.Int64N(1500)) // over the limit, too
				default:
					c = storetest.AddOf(sku, 1+rng.Int64N(300))
				}
				if rng.IntN(8) == 0 {
					c.Conditional = true // of no version: it never holds
				}
				c.Minimal = rng.IntN(4) == 0
				if rng.IntN(3) > 0 {
					keys++
				}
				c.Key = fmt.Sprint("key-", keys) // now and then that of the change before
				before = changing(owner, c)
				steps = append(steps, before)
			}
			store.Batch(t.Context(), steps)
			for i, got := range steps {
				want := &cart.Step{}
				if got.Change == nil {
					want.Result.Cart, want.Err = model.Get(t.Context(), got.Owner)
				} else {
					want.Result, want.Err = model.Change(t.Context(), got.Owner, *got.Change)
				}
				if diff := cmp.Diff(came(want), came(got)); diff != "" {
					t.Fatalf("round %d, step %d of %d, %+v (-want +got):\n%s", round, i, len(steps), got.Change, diff)
				}
				seen[fmt.Sprint(got.Err)]++
				if got.Result.Replayed {
					replays++
				}
			}
		}
		for _, err := range []error{nil, cart.ErrStale, cart.ErrQuantityLimit, cart.ErrKeyReused} {
			if seen[fmt.Sprint(err)] == 0 || replays == 0 {
				t.Errorf("%v and %d replays came of all steps", seen, replays)
			}
		}
	})
}

// TestScriptsLostWhileBatchesRun: whenever it happens, each add is made once.
func TestScriptsLostWhileBatchesRun(t *testing.T) {
	batchStores(t, func(t *testing.T, store *redisstore.Store, flush func()) {
		var flushing sync.WaitGroup
		done := make(chan struct{})
		flushing.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					flush()
				}
			}
		})
		owner, other := storetest.NewOwner('u'), storetest.NewOwner('g')
		const batches, adds = 90, 10
		for range batches {
			var steps []*cart.Step
			for range adds {
				steps = append(steps, changing(owner, storetest.AddOf("mug", 1)), changing(other, storetest.SetOf("hat", 1+rand.Int64N(900))))
			}
			steps = append(steps, reading(owner))
			store.Batch(t.Context(), steps)
			last := uint64(0)
			for _, s := range steps {
				if s.Err != nil || s.Apart {
					t.Fatal(came(s))
				}
				if s.Owner != owner {
					continue
				}
				if s.Change != nil && s.Result.Replayed {
					t.Fatalf("an add was made twice: %s", came(s))
				}
				if v := s.Result.Cart.Version.Number; v < last {
					t.Fatalf("made after a later one of its batch: %s, after version %d", came(s), last)
				} else {
					last = v
				}
			}
		}
		close(done)
		flushing.Wait()
		now, err := store.Get(t.Context(), owner)
		if err != nil || now.Version.Number != batches*adds || now.Quantity("mug") != batches*adds {
			t.Errorf("after %d adds: %+v, %v", batches*adds, now, err)
		}
	})
}

// TestBatchAndMerges: a cart with a merge to complete is left to calls of its
// own, and its neighbours are not.
func TestBatchAndMerges(t *testing.T) {
	b := backend(redistest.Start(t, user()...))(t)
	store := b.Open(t)
	for n := 1; n <= 4; n++ {
		guest, user := halfMerged(t, b, store, n)
		neighbour := storetest.NewOwner('u')
		steps := []*cart.Step{reading(user), changing(neighbour, storetest.AddOf("hat", 3)), changing(user, storetest.AddOf("hat", 1)), reading(guest)}
		store.(*redisstore.Store).Batch(t.Context(), steps)
		if s := steps[1]; s.Err != nil || s.Apart || s.Result.Cart.Quantity("hat") != 3 {
			t.Errorf("after %d steps, the neighbour: %s", n, came(s))
		}
		for i, pending := range map[int]bool{0: n == 2 || n == 3, 2: n == 2 || n == 3, 3: true} {
			if s := steps[i]; s.Apart != pending || s.Err != nil {
				t.Errorf("after %d steps, step %d: %s, want apart %v", n, i, came(s), pending)
			}
		}
		again, err := store.Change(t.Context(), user, *steps[2].Change)
		if err != nil || again.Cart.Quantity("hat") != 2 || !again.Replayed {
			t.Errorf("after %d steps, apart: %+v, %v", n, again, err)
		}
		if n > 1 {
			wantLines(t, store, user, "[{hat 2} {mug 2}]")
		}
	}
	moved, user := storetest.NewOwner('g'), storetest.NewOwner('u')
	if err := store.Merge(t.Context(), moved, user); err != nil {
		t.Fatal(err)
	}
	steps := []*cart.Step{reading(moved), changing(moved, storetest.AddOf("hat", 1)), reading(user)}
	store.(*redisstore.Store).Batch(t.Context(), steps)
	if !errors.Is(steps[0].Err, cart.ErrMoved) || !errors.Is(steps[1].Err, cart.ErrMoved) || steps[2].Err != nil {
		t.Errorf("a cart that moved: %s; %s; %s", came(steps[0]), came(steps[1]), came(steps[2]))
	}
}

// TestStoppedServerOfACluster: carts that other servers have are answered.
func TestStoppedServerOfACluster(t *testing.T) {
	cluster := redistest.StartCluster(t, 3, user()...)
	store := open(cluster.ClientOf(t, "cart"), time.Now)
	var steps []*cart.Step
	for range 30 {
		steps = append(steps, changing(storetest.NewOwner('u'), storetest.AddOf("mug", 1)))
	}
	store.Batch(t.Context(), steps) // all servers are known, and have the script
	cluster[0].Signal(t, syscall.SIGSTOP)
	defer cluster[0].Signal(t, syscall.SIGCONT)
	for _, step := range steps {
		*step.Change = storetest.AddOf("mug", 2)
	}
	begun := time.Now()
	store.Batch(t.Context(), steps)
	took := time.Since(begun)
	done, apart := 0, 0
	for _, s := range steps {
		switch {
		case s.Apart:
			apart++
		case s.Err == nil && s.Result.Cart.Quantity("mug") == 3:
			done++
		default:
			t.Error(came(s))
		}
	}
	if done == 0 || apart == 0 || took > time.Second {
		t.Errorf("after %v, %d adds are done and %d apart", took, done, apart)
	}
}

// TestNothingIsSentTwice: what failed for another reason than a lost script may
// have been done, and is the caller's to repeat.
func TestNothingIsSentTwice(t *testing.T) {
	rdb := redistest.Start(t, user()...).ClientOf(t, "cart")
	dead := &dying{}
	rdb.AddHook(dead)
	store, owner, c := open(rdb, time.Now), storetest.NewOwner('u'), storetest.AddOf("mug", 1)
	if _, err := store.Change(t.Context(), owner, c); err == nil || dead.left != -1 {
		t.Errorf("a change was sent %d times: %v", -dead.left, err)
	}
	dead.left = 0
	steps := []*cart.Step{changing(owner, c), reading(owner)}
	if store.Batch(t.Context(), steps); steps[0].Err == nil || dead.left != -1 {
		t.Errorf("a batch was sent %d times: %s", -dead.left, came(steps[0]))
	}
}

func TestBatchWithoutRedis(t *testing.T) {
	server := redistest.Start(t, user()...)
	store := open(server.ClientOf(t, "cart"), time.Now)
	owner, c := storetest.NewOwner('u'), storetest.AddOf("mug", 1)
	server.Kill()
	steps := []*cart.Step{reading(owner), changing(owner, c)}
	store.Batch(t.Context(), steps)
	for _, s := range steps {
		if f := fault.From(s.Err); s.Apart || f == nil || f.Kind != fault.Unavailable || f.Code != "store_unavailable" {
			t.Error(came(s))
		}
	}
	server.Restart(t)
	for range 100 {
		if store.Batch(t.Context(), steps); steps[0].Err == nil && steps[1].Err == nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if s := steps[1]; s.Err != nil || s.Result.Replayed || s.Result.Version != 1 {
		t.Error(came(s))
	}
}
