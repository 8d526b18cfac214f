package run

import (
	"io"
	"sync"
	"time"

	"coatcheck/trial/history"
	"coatcheck/trial/report"
	"coatcheck/trial/traffic"
)

// view is what is shown while a trial runs.
type view struct {
	*report.Terminal
	mu     sync.Mutex
	status report.Status
	loss   loss
	live   func() traffic.Live
	last   traffic.Histogram
	lastAt time.Time
}

// newView shows nothing until Start.
func newView(out io.Writer, length time.Duration) *view {
	v := &view{loss: loss{}}
	v.Terminal = report.NewTerminal(out, length, v.now)
	return v
}

// follow has the view ask live for what traffic counts.
func (v *view) follow(live func() traffic.Live) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.live = live
}

// do says what is done when it is not traffic and faults.
func (v *view) do(what string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.status.Doing = what
}

// op counts a request that is over. A refusal is an answer; failed is what was
// not served.
func (v *view) op(op *history.Op) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.loss.see(op, &v.status.Lost)
	switch {
	case op.Outcome == history.Unknown:
		v.status.Unknown++
	case op.Outcome == history.OK || op.Status >= 400 && op.Status < 500 && op.Status != 429:
		v.status.OK++
	default:
		v.status.Failed++
	}
}

func (v *view) fault(f history.Fault) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.status.Faults++
	v.status.LastFault = f.Name
	if f.Error != "" {
		v.status.LastFault = f.Error
	}
}

// now is the view as it is; percentiles are of the last few seconds.
func (v *view) now() report.Status {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.status
	s.LostKnown = true
	if v.live == nil {
		return s
	}
	live := v.live()
	s.Acknowledged, s.Retried, s.InFlight, s.Missed = live.Changes, live.Retried, live.InFlight, live.Missed
	s.P99 = live.Latency.Sub(v.last).Quantile(.99)
	if time.Since(v.lastAt) > 2*time.Second {
		v.last, v.lastAt = live.Latency, time.Now()
	}
	return s
}

// loss sees, while a trial runs, acknowledged lines that a later answer does not
// show: by cart, the lines that nobody else touches. The checks of the history
// see more; this is for whoever is watching.
type loss map[string]map[string]bool

func (l loss) see(op *history.Op, lost *int) {
	lines := l[op.Cart]
	if op.Shown != nil {
		shown := map[string]bool{}
		for _, line := range op.Shown {
			shown[line.SKU] = true
		}
		for sku := range lines {
			if !shown[sku] {
				*lost++
				delete(lines, sku) // once
			}
		}
	}
	switch {
	case op.Kind == history.Add && op.Unique && op.Outcome == history.OK:
		if lines == nil {
			lines = map[string]bool{}
			l[op.Cart] = lines
		}
		for _, line := range op.Lines {
			lines[line.SKU] = true
		}
	case op.Kind == history.Checkout && op.Outcome != history.Failed:
		delete(l, op.Cart)
	case op.Kind == history.LogIn && op.From != "" && op.Outcome == history.OK:
		for sku := range l[op.From] {
			if lines == nil {
				lines = map[string]bool{}
				l[op.Cart] = lines
			}
			lines[sku] = true
		}
		delete(l, op.From)
	}
}
