package run

import (
	"context"
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
	if t.Target != "" {
		for t.Command != "" && time.Now().Before(until) {
			ok := t.make(ctx, t.Every, func() (fault.Fault, error) { return fault.Command(ctx, t.Command, t.Class) })
			if !ok {
				return
			}
		}
		return
	}
	made := 0
	faults, _ := least(t.Scenario.Name, t.Length, t.Rate)
	for f := range t.Scenario.Faults(t.Seed, t.env.Shop.Processes()) {
		if made++; made > faults && time.Until(until) < f.Takes || time.Until(latest) < f.Takes {
			return
		}
		if !t.make(ctx, f.Gap, func() (fault.Fault, error) { return f, f.Inject(ctx, t.env) }) {
			return
		}
	}
}

// make makes a fault, records it, leaves the shop alone for a while, and tells
// whether there may be another.
func (t *trial) make(ctx context.Context, gap time.Duration, happen func() (fault.Fault, error)) bool {
	r := history.Fault{Start: time.Since(t.start), InFlight: t.traffic.InFlight()}
	f, err := happen()
	r.Name, r.Kind, r.Target, r.Class, r.End = f.Name, f.Kind, f.Target, f.Class, time.Since(t.start)
	if err != nil {
		r.Error = err.Error()
	}
	t.history.Write(history.Record{Fault: &r})
	t.view.fault(r)
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
