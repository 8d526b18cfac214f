package report

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"coatcheck/trial/history"
)

// longest is the longest history that is counted; a record beyond it is not of
// a trial.
const longest = 48 * time.Hour

// slot is how finely failed attempts are kept, to be told of each fault.
const slot = 10 * time.Millisecond

// maxNames bounds how many replicas, kinds or protocols are told apart.
const maxNames = 512

// tally counts logical requests by what their client knows. A refusal, such as
// that of a stale version, is an answer; failed is what was not served.
type tally struct {
	ok, refused, failed, unknown int
}

func (t *tally) add(op *history.Op) {
	switch {
	case op.Outcome == history.OK:
		t.ok++
	case op.Outcome == history.Failed && op.Status >= 400 && op.Status < 500:
		t.refused++
	case op.Outcome == history.Failed:
		t.failed++
	default:
		t.unknown++
	}
}

func (t *tally) merge(o tally) {
	t.ok, t.refused, t.failed, t.unknown = t.ok+o.ok, t.refused+o.refused, t.failed+o.failed, t.unknown+o.unknown
}

func (t *tally) total() int { return t.ok + t.refused + t.failed + t.unknown }

// second is what ended in one second of the trial.
type second struct {
	tally
	retries  int // sent in this second
	failedAt [time.Second / slot]uint32
	latency  histogram
}

// group is what is counted of the requests that have something in common.
type group struct {
	tally
	latency histogram
}

// counts is a history, counted. It holds no request.
type counts struct {
	run     history.Run
	end     *history.End // nil if the history was cut short
	seconds []*second    // nil where nothing ended
	pods    []history.Pods
	faults  []history.Fault

	all         group
	lastReading tally
	attempts    int
	failed      int // attempts
	retries     int
	retried     int // logical requests
	replayed    int
	kinds       map[string]*group
	protocols   map[string]*group
	// replicas counts answers by service ("gateway", "cart") and replica.
	replicas map[string]map[string]int
}

func newCounts() *counts {
	return &counts{kinds: map[string]*group{}, protocols: map[string]*group{}, replicas: map[string]map[string]int{"gateway": {}, "cart": {}}}
}

func count(path string) (*counts, error) {
	c := newCounts()
	if err := history.Scan(path, c.add); err != nil {
		return nil, err
	}
	if c.run == (history.Run{}) {
		return nil, errors.New("the history does not say what was run")
	}
	return c, nil
}

func (c *counts) add(r history.Record) error {
	switch {
	case r.Run != nil:
		c.run = *r.Run
	case r.End != nil:
		c.end = r.End
	case r.Fault != nil:
		if r.Fault.Start < 0 || r.Fault.End < r.Fault.Start || r.Fault.End > longest {
			return fmt.Errorf("fault %q lasts from %s to %s", r.Fault.Name, r.Fault.Start, r.Fault.End)
		}
		c.faults = append(c.faults, *r.Fault)
	case r.Pods != nil:
		if r.Pods.At < 0 || r.Pods.At > longest {
			return fmt.Errorf("pods were counted at %s", r.Pods.At)
		}
		c.pods = append(c.pods, *r.Pods)
	case r.Op != nil:
		return c.addOp(r.Op)
	}
	return nil
}

func (c *counts) addOp(op *history.Op) error {
	if op.Answered > longest {
		return fmt.Errorf("a request of %s was answered after %s", op.Client, op.Answered)
	}
	if op.Last {
		c.lastReading.add(op)
		return nil
	}
	latency := op.Answered - op.Sent
	ended := c.second(op.Answered)
	ended.add(op)
	ended.latency.add(latency)
	for _, g := range []*group{&c.all, named(c.kinds, string(op.Kind)), named(c.protocols, op.Protocol)} {
		g.add(op)
		g.latency.add(latency)
	}
	if op.Replayed {
		c.replayed++
	}
	if len(op.Attempts) > 1 {
		c.retried++
	}
	for i, a := range op.Attempts {
		if a.Answered > longest || a.Sent > longest {
			return fmt.Errorf("an attempt of %s was answered after %s", op.Client, a.Answered)
		}
		c.attempts++
		if i > 0 {
			c.retries++
			c.second(a.Sent).retries++
		}
		if a.Status == 0 || a.Status >= 500 {
			c.failed++
			at := max(0, a.Answered)
			c.second(at).failedAt[at%time.Second/slot]++
		}
		// The gateway names itself first, then the cart that it asked.
		gateway, rest, _ := strings.Cut(a.ServedBy, " ")
		cart, _, _ := strings.Cut(rest, " ")
		for service, replica := range map[string]string{"gateway": gateway, "cart": cart} {
			if replica != "" {
				c.replicas[service][bounded(c.replicas[service], replica)]++
			}
		}
	}
	return nil
}

// second is the second of a time; what was before the start counts as at the start.
func (c *counts) second(at time.Duration) *second {
	i := int(max(0, at) / time.Second)
	for len(c.seconds) <= i {
		c.seconds = append(c.seconds, nil)
	}
	if c.seconds[i] == nil {
		c.seconds[i] = new(second)
	}
	return c.seconds[i]
}

// failedDuring counts the attempts that failed within a time, to one slot.
func (c *counts) failedDuring(from, to time.Duration) (n int) {
	for s := from / slot; s <= to/slot; s++ {
		i := int(s * slot / time.Second)
		if i >= len(c.seconds) {
			break
		}
		if c.seconds[i] != nil {
			n += int(c.seconds[i].failedAt[s*slot%time.Second/slot])
		}
	}
	return n
}

func (s *second) failedAttempts() (n int) {
	for _, c := range s.failedAt {
		n += int(c)
	}
	return n
}

// span is how long the page's time axis is: whole seconds, at least one.
func (c *counts) span() time.Duration {
	span := max(c.run.Length, time.Duration(len(c.seconds))*time.Second, time.Second)
	for _, f := range c.faults {
		span = max(span, f.End)
	}
	return (span + time.Second - 1).Truncate(time.Second)
}

func named(groups map[string]*group, name string) *group {
	name = bounded(groups, name)
	if groups[name] == nil {
		groups[name] = new(group)
	}
	return groups[name]
}

// bounded is the name, or "others" when the map has enough names.
func bounded[V any](m map[string]V, name string) string {
	if _, known := m[name]; !known && len(m) >= maxNames {
		return "others"
	}
	return name
}
