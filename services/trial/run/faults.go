package run

import (
	"context"
	"sync"
	"time"

	"coatcheck/trial/fault"
	"coatcheck/trial/history"
)

// restartDelay is how long a process that ended stays away.
const restartDelay = 300 * time.Millisecond

// makeFaults makes one fault after the other: all of a scenario's that has an
// end, else as many as it must have shown and as there is time for. After one that
// went wrong there is no other: the shop may not be whole.
func (t *trial) makeFaults(ctx context.Context) {
	until, latest := t.began.Add(t.Length-cool), t.began.Add(atMost*t.Length-cool)
	if !pause(ctx, quiet(t.Length)) {
		return
	}
	if t.cluster != nil {
		t.makePodFaults(ctx, until, latest)
		return
	}
	if t.Target != "" {
		for t.Command != "" && time.Now().Before(until) {
			known := fault.Fault{Name: "fault command", Kind: fault.Other, Class: t.Class}
			if !t.make(ctx, known, t.Every, func() (fault.Fault, error) { return fault.Command(ctx, t.Command, t.Class) }) {
				return
			}
		}
		return
	}
	made := 0
	for f := range t.Scenario.Faults(t.Seed, t.env.Shop.Processes()) {
		if t.enough(made) && time.Until(until) < f.Takes || time.Until(latest) < f.Takes {
			return
		}
		made++
		if !t.make(ctx, f, f.Gap, func() (fault.Fault, error) { return f, f.Inject(ctx, t.env) }) {
			return
		}
	}
}

// makePodFaults has the cluster make them; several may be under way at once. The
// requests in flight are counted before the command for a fault, which takes a
// while of the machine's time: after it there are more.
func (t *trial) makePodFaults(ctx context.Context, until, latest time.Time) {
	made, inFlight := 0, 0
	more := func() bool {
		if now := time.Now(); t.enough(made) && now.After(until) || now.After(latest) {
			return false
		}
		made++
		inFlight = t.traffic.InFlight()
		return true
	}
	begin := func(at time.Time, known fault.Fault) func(fault.Fault, error) { return t.begin(at, inFlight, known) }
	_ = t.cluster.Run(ctx, t.Scenario.Name, t.Seed, more, begin) // begin records what went wrong
}

// enough tells whether so many faults have shown what they must. Twice as many
// requests in flight are wanted as must have met a kill: one may meet two.
func (t *trial) enough(made int) bool {
	l := least(t.Scenario.Name, t.Length, t.Rate)
	return made >= l.faults && t.across.Load() >= int64(2*l.acrossKills)
}

// begin is called when a fault began, with what is known of it by then; what it
// returns, when it is over.
func (t *trial) begin(at time.Time, inFlight int, known fault.Fault) (ended func(fault.Fault, error)) {
	r := history.Fault{Name: known.Name, Kind: known.Kind, Target: known.Target, Class: known.Class, Start: at.Sub(t.start), InFlight: inFlight}
	over := t.watch.Fault(r)
	return func(f fault.Fault, err error) {
		r.Name, r.Kind, r.Target, r.Class, r.End = f.Name, f.Kind, f.Target, f.Class, time.Since(t.start)
		if err != nil {
			r.Error = err.Error()
		}
		if r.Kills() {
			t.across.Add(int64(r.InFlight))
		}
		t.history.Write(history.Record{Fault: &r})
		over(r)
	}
}

// samplePods records how many pods there are, every second until it is stopped.
func (t *trial) samplePods() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var samples sync.WaitGroup
	samples.Go(func() {
		for {
			t.history.Write(history.Record{Pods: t.cluster.Sample(time.Since(t.start))})
			if !pause(ctx, time.Second) {
				return
			}
		}
	})
	return func() { cancel(); samples.Wait() }
}

// make makes a fault of which so much is known, records it, leaves the shop alone
// for a while, and tells whether there may be another.
func (t *trial) make(ctx context.Context, known fault.Fault, gap time.Duration, happen func() (fault.Fault, error)) bool {
	ended := t.begin(time.Now(), t.traffic.InFlight(), known)
	f, err := happen()
	ended(f, err)
	return err == nil && pause(ctx, gap)
}

// quiet is how long there is traffic before the first fault.
func quiet(length time.Duration) time.Duration { return min(warmUp, length/4) }

// pause returns false if ctx ends first.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
