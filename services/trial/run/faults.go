package run

import (
	"context"
	"time"

	"coatcheck/trial/fault"
	"coatcheck/trial/history"
)

// restartDelay is how long a process that ended stays away.
const restartDelay = 300 * time.Millisecond

// makeFaults makes one fault after the other while there is time. After one
// that went wrong there is no other: the shop may not be whole.
func (t *trial) makeFaults(ctx context.Context) {
	until := time.Now().Add(t.Length - cool)
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
	for f := range t.Scenario.Faults(t.Seed, t.env.Shop.Processes()) {
		if time.Until(until) < f.Takes {
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
	before := t.traffic.Live()
	r := history.Fault{Start: time.Since(t.start), InFlight: before.InFlight}
	f, err := happen()
	r.Name, r.Kind, r.Target, r.Class, r.End = f.Name, f.Kind, f.Target, f.Class, time.Since(t.start)
	if err != nil {
		r.Error = err.Error()
	}
	t.history.Write(history.Record{Fault: &r})
	t.view.fault(r)
	more := err == nil && pause(ctx, gap)
	if f.Class == history.Outage {
		t.missed += t.traffic.Live().Missed - before.Missed
	}
	return more
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
