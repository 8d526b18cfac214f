package defects

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"coatcheck/trial/history"
	"coatcheck/trial/traffic"
)

// trial is what is done to a shop, with a defect or without.
type trial struct {
	weights  map[history.Kind]int
	shoppers int           // with accounts, 0 means 1; guests without come as needed
	hot      int           // carts that many share
	rate     float64       // 0 means 90
	length   time.Duration // 0 means 3 s
	gateways int           // 0 means 1
	machines int           // API clients
	fresh    bool          // each request has a connection of its own
	slow     time.Duration // by which each cart replica is slower while there is traffic
	// The answer to every so many-th call for a change gets lost between cart and
	// gateway, and that to every so many-th script between Redis and cart; every
	// so many-th call for a merge is broken off under way. 0 is none.
	lostAnswers, lostScripts, brokenMerges int64
	// So many calls to each cart replica are under way before others wait to go
	// together, 0 has each go by itself; the answer to every so many-th batch gets
	// lost, 0 is none.
	batches, lostBatches int64
	// faults happens while there is traffic.
	faults func(*stage) error
}

// stage is where the faults of one trial happen.
type stage struct {
	*shop
	ctx     context.Context
	start   time.Time
	history *history.Writer
	traffic *traffic.Traffic
}

// There is traffic for so long, and so many changes are acknowledged, before the
// first fault.
const (
	warmUp      = 500 * time.Millisecond
	warmChanges = 30
)

// fault makes one and records it.
func (s *stage) fault(class history.Class, kind, target string, do func() error) error {
	f := history.Fault{Name: kind + " " + target, Kind: kind, Target: target, Class: class, Start: time.Since(s.start), InFlight: s.traffic.InFlight()}
	err := do()
	f.End = time.Since(s.start)
	if err != nil {
		f.Error = err.Error()
	}
	s.history.Write(history.Record{Fault: &f})
	return err
}

// calls are what happens to the gateways' calls to the carts while it is rough.
type calls struct {
	trial
	rough                    atomic.Bool
	changes, merges, batched atomic.Int64
}

var errBroken = status.Error(codes.Unavailable, "the connection broke")

func (c *calls) strike(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	name := path.Base(method)
	if !c.rough.Load() || strings.HasPrefix(name, "Get") || strings.HasPrefix(name, "List") {
		return invoke(ctx, method, req, reply, conn, opts...)
	}
	if c.brokenMerges > 0 && name == "MergeCarts" {
		if n := c.merges.Add(1); n%c.brokenMerges == 0 {
			// After 4, 64 or 256 ms, so that more than one of its steps is hit.
			short, cancel := context.WithTimeout(ctx, []time.Duration{4, 64, 256}[n/c.brokenMerges%3]*time.Millisecond)
			defer cancel()
			if err := invoke(short, method, req, reply, conn, opts...); err != nil {
				return errBroken
			}
			return nil
		}
	}
	err := invoke(ctx, method, req, reply, conn, opts...)
	if err == nil && c.lostAnswers > 0 && c.changes.Add(1)%c.lostAnswers == 0 {
		return errBroken
	}
	return err
}

// loseBatch is strike for batches, which are under the calls.
func (c *calls) loseBatch(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	err := invoke(ctx, method, req, reply, conn, opts...)
	if err == nil && c.rough.Load() && c.lostBatches > 0 && path.Base(method) == "Batch" && c.batched.Add(1)%c.lostBatches == 0 {
		return errBroken
	}
	return err
}

// play runs the trial in the shop, and writes its history to the file. stall is
// how long this machine kept everybody waiting meanwhile.
func (s *shop) play(ctx context.Context, tr trial, file string) (stall time.Duration, err error) {
	start := time.Now()
	tr.shoppers = max(1, tr.shoppers)
	if tr.hot == 0 {
		tr.hot = -1
	}
	if tr.rate == 0 {
		tr.rate = 90
	}
	target := "http://" + s.door.Addr().String()
	w, err := history.Create(file, history.Run{Started: start, Scenario: "defect", Seed: 1, Target: target, Rate: tr.rate, Length: tr.length})
	if err != nil {
		return 0, err
	}
	var protocols []string
	if tr.fresh {
		protocols = []string{"new-connection"}
	}
	t, err := traffic.New(ctx, traffic.Options{
		Target: target, Rate: tr.rate, Length: tr.length, Seed: 1, Shoppers: tr.shoppers, Hot: tr.hot, Weights: tr.weights,
		Machines: tr.machines, Protocols: protocols,
		Start: start,
		Sink: func(op *history.Op) {
			if op.Kind != history.Register { // it is not of the trial, and takes a busy machine too long
				w.Write(history.Record{Op: op})
			}
		},
	})
	if err != nil {
		return 0, errors.Join(err, w.Close(history.End{}))
	}
	faults := make(chan error, 1)
	go func() { faults <- s.trouble(&stage{shop: s, ctx: ctx, start: start, history: w, traffic: t}, tr) }()
	running, over := context.WithCancel(ctx)
	stalls := make(chan time.Duration, 1)
	go func() { stalls <- s.longestStall(running) }()
	s.trading.Store(true)
	err = t.Run(ctx)
	s.trading.Store(false)
	over()
	if faultErr := <-faults; faultErr != nil {
		err = errors.Join(err, fmt.Errorf("a fault: %w", faultErr))
	}
	// What can't be read of a shop with a defect, the checks miss.
	_ = t.Finish(ctx)
	return <-stalls, errors.Join(err, w.Close(history.End{At: time.Since(start), Missed: t.Live().Missed}))
}

// longestStall is the longest that a nap was too long and a write to Redis took,
// until ctx ends.
func (s *shop) longestStall(ctx context.Context) (longest time.Duration) {
	const nap = 50 * time.Millisecond
	for ctx.Err() == nil {
		asleep := time.Now()
		time.Sleep(nap)
		if s.crash == nil {
			_ = s.redis.Set(ctx, "nap", "", time.Second).Err()
		}
		longest = max(longest, time.Since(asleep)-nap)
	}
	return longest
}

// trouble makes all faults of the trial, and returns when they are over.
func (s *shop) trouble(on *stage, tr trial) error {
	time.Sleep(warmUp)
	for begun := time.Now(); on.traffic.Live().Changes < warmChanges && time.Since(begun) < tr.length/2; {
		time.Sleep(10 * time.Millisecond)
	}
	if tr.lostAnswers+tr.brokenMerges+tr.lostScripts+tr.lostBatches > 0 {
		if err := on.fault(history.Outage, "lost-answers", "cart", func() error {
			s.calls.rough.Store(true)
			s.wire.every.Store(tr.lostScripts)
			time.Sleep(tr.length - 2*warmUp)
			s.calls.rough.Store(false)
			s.wire.every.Store(0)
			return nil
		}); err != nil {
			return err
		}
	}
	if tr.faults == nil {
		return nil
	}
	return tr.faults(on)
}
