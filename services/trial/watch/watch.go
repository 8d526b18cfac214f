// Package watch shows a trial while it runs: in a terminal, as a page and as
// metrics, all three from one State.
//
// The hazard is a view that promises more than can be known by then. Lost is
// what a later answer did not show of lines that nobody else touches; the checks
// of the whole history see more, and the verdict is theirs.
package watch

import (
	"cmp"
	"context"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"coatcheck/trial/history"
	"coatcheck/trial/report"
	"coatcheck/trial/traffic"
)

const (
	// window is over how many seconds rates and percentiles are taken.
	window = 2
	// mostSeconds and mostFaults bound what a State holds, however long the trial.
	mostSeconds = 120
	mostFaults  = 40
	// mostReplicas bounds those that only answers tell of.
	mostReplicas = 100
)

// Watch collects what is known of a trial. Its methods may be called from many
// goroutines.
type Watch struct {
	mu       sync.Mutex
	state    State
	began    time.Time
	lines    lines
	live     func() traffic.Live
	replicas func() []Replica
	draw     func(ctx context.Context, board string, to io.Writer) error
	faults   []*history.Fault
	made     map[history.Class]int
	answers  map[string]int // by replica, since the last second
	rates    []map[string]int
	seen     []traffic.Live // at the end of the last seconds
	before   State          // at the end of the last second
	over     chan struct{}
}

// New watches a trial whose traffic begins with Begin.
func New() *Watch {
	w := &Watch{lines: lines{}, answers: map[string]int{}, made: map[history.Class]int{}, over: make(chan struct{}), live: func() traffic.Live { return traffic.Live{} }}
	w.state.Seconds = []Second{} // none is an empty list in JSON too
	return w
}

// Begin says that the traffic begins: live is asked for what it counts, and
// replicas for who is there (nil if only answers tell). What is returned says
// that the shop is about to go: what is known of it by then stays.
func (w *Watch) Begin(run history.Run, live func() traffic.Live, replicas func() []Replica) (rest func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.state.Run, w.state.Doing, w.began, w.live, w.replicas = run, "", time.Now(), live, replicas
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				w.second()
			}
		}
	}()
	return func() {
		close(done)
		<-ended
		last := w.State().Replicas
		w.mu.Lock()
		defer w.mu.Unlock()
		w.replicas = func() []Replica { return last }
		w.state.Boards, w.draw = nil, nil
	}
}

// Do says what is done when it is not traffic and faults.
func (w *Watch) Do(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.state.Doing = what
}

// Draws says which dashboards there are, and how one is drawn as it is now.
func (w *Watch) Draws(boards []string, draw func(ctx context.Context, board string, to io.Writer) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.state.Boards, w.draw = boards, draw
}

// Op counts a request that is over.
func (w *Watch) Op(op *history.Op) {
	w.mu.Lock()
	defer w.mu.Unlock()
	kept, lost := w.lines.see(op)
	w.state.Lines += kept
	w.state.Lost += lost
	switch {
	case op.Outcome == history.Unknown:
		w.state.Unknown++
	case op.Outcome == history.OK || op.Status >= 400 && op.Status < 500 && op.Status != 429:
		w.state.OK++
	default:
		w.state.Failed++
	}
	for _, a := range op.Attempts {
		for name := range strings.FieldsSeq(a.ServedBy) {
			if _, known := w.answers[name]; known || len(w.answers) < mostReplicas {
				w.answers[name]++
			}
		}
	}
}

// Fault says that a fault begins. What is returned says that it is over, and what
// it was in the end.
func (w *Watch) Fault(f history.Fault) (over func(history.Fault)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f.End = 0
	shown := &f
	w.faults = append(w.faults, shown)
	for i := 0; len(w.faults) > mostFaults && i < len(w.faults); {
		if w.faults[i].End == 0 {
			i++
			continue
		}
		w.faults = slices.Delete(w.faults, i, i+1)
	}
	return func(f history.Fault) {
		w.mu.Lock()
		defer w.mu.Unlock()
		f.End = max(f.End, 1)
		*shown = f
		w.state.Made++
		w.made[f.Class]++
	}
}

// End says how the trial ended, and that nothing comes any more.
func (w *Watch) End(verdict report.Verdict, line string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state.Over {
		return
	}
	w.state.Over, w.state.Verdict, w.state.Line, w.state.Doing = true, verdict, line, ""
	w.state.Elapsed = w.elapsed()
	close(w.over)
}

// second closes a second.
func (w *Watch) second() {
	w.mu.Lock()
	defer w.mu.Unlock()
	live := w.live()
	w.seen = append(w.seen, live)
	w.rates = append(w.rates, w.answers)
	w.answers = map[string]int{}
	s := &w.state
	last := Second{At: len(s.Seconds), OK: s.OK - w.before.OK, Failed: s.Failed - w.before.Failed, Unknown: s.Unknown - w.before.Unknown}
	if len(s.Seconds) > 0 {
		last.At = s.Seconds[len(s.Seconds)-1].At + 1
	}
	if n := len(w.seen); n > 1 {
		last.P99 = live.Latency.Sub(w.seen[n-2].Latency).Quantile(.99)
	} else {
		last.P99 = live.Latency.Quantile(.99)
	}
	w.before = *s
	// A new slice: the old one may be being read.
	s.Seconds = append(slices.Clone(s.Seconds[max(0, len(s.Seconds)-mostSeconds+1):]), last)
	w.seen = w.seen[max(0, len(w.seen)-window-1):]
	w.rates = w.rates[max(0, len(w.rates)-window):]
}

func (w *Watch) elapsed() time.Duration {
	if w.began.IsZero() {
		return 0
	}
	return time.Since(w.began)
}

// State is the trial as it stands.
func (w *Watch) State() State {
	w.mu.Lock()
	replicas := w.replicas
	w.mu.Unlock()
	var there []Replica
	if replicas != nil {
		there = replicas() // may take a moment, for which no request must wait
	}

	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.state
	if !s.Over {
		s.Elapsed = w.elapsed()
	}
	s.counts, s.made = w.live(), maps.Clone(w.made)
	s.Acknowledged, s.Retried, s.InFlight, s.Missed = s.counts.Changes, s.counts.Retried, s.counts.InFlight, s.counts.Missed
	earlier := traffic.Live{}
	if len(w.seen) > window {
		earlier = w.seen[len(w.seen)-1-window]
	}
	last := s.counts.Latency.Sub(earlier.Latency)
	s.P50, s.P99 = last.Quantile(.5), last.Quantile(.99)
	recent := s.Seconds[max(0, len(s.Seconds)-window):]
	for _, sec := range recent {
		s.Rate += float64(sec.OK+sec.Failed+sec.Unknown) / float64(len(recent))
	}
	s.Faults = make([]history.Fault, len(w.faults))
	// Faults tell time from the beginning of the history, which is earlier.
	late := time.Duration(0)
	if !s.Run.Started.IsZero() {
		late = w.began.Sub(s.Run.Started)
	}
	for i, f := range w.faults {
		s.Faults[i] = *f
		s.Faults[i].Start = max(0, f.Start-late)
		if f.End > 0 {
			s.Faults[i].End = max(1, f.End-late)
		}
	}
	s.Replicas = w.rated(there, s.Faults)
	return s
}

// rated are the replicas with what they answered lately; those that only answers
// tell of are added.
func (w *Watch) rated(there []Replica, faults []history.Fault) []Replica {
	answers := map[string]int{}
	for _, second := range w.rates {
		for name, n := range second {
			answers[name] += n
		}
	}
	if there == nil {
		for name := range maps.Keys(answers) {
			there = append(there, Replica{Role: roleOf(name), Name: name})
		}
	}
	there = append([]Replica{}, there...)
	for i := range there {
		r := &there[i]
		if len(w.rates) > 0 {
			r.Rate = float64(answers[r.Name]) / float64(len(w.rates))
		}
		for _, f := range faults {
			for target := range strings.SplitSeq(f.Target, ">") {
				// What is done to a role is not done to a spare of it.
				if f.End == 0 && (target == r.Name || target == r.Role && r.State != "stopped") {
					r.Hit = f.Name
				}
			}
		}
	}
	slices.SortFunc(there, func(a, b Replica) int {
		return cmp.Or(slices.Index(roles, a.Role)-slices.Index(roles, b.Role), cmp.Compare(len(a.Name), len(b.Name)), strings.Compare(a.Name, b.Name))
	})
	return there
}

// roles are in the order in which a request meets them.
var roles = []string{"gateway", "auth", "cart", "redis"}

// roleOf is the role in a replica's name: "coatcheck-cart-7f9c-x2b".
func roleOf(name string) string {
	for _, role := range roles {
		if slices.Contains(strings.Split(name, "-"), role) {
			return role
		}
	}
	return ""
}
