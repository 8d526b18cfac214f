package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"coatcheck/trial/fault"
)

// step is a fault, of a part that is drawn from parts.
type step struct {
	kind  string
	parts []string
}

// Rhythm is how a scenario's faults follow one another.
type Rhythm struct {
	// Every is the mean time from one fault to the next; they may overlap. 0 means
	// that each waits until the shop is whole, and Gap longer.
	Every, Gap time.Duration
	// Times is how many faults there are, 0 is no end.
	Times int

	steps func(*plan) []step
}

// Rhythms are those of the scenarios of fault.Scenarios that are for a cluster,
// by their names.
func Rhythms() map[string]Rhythm {
	one := func(kind string, parts ...string) func(*plan) []step {
		return func(*plan) []step { return []step{{kind, parts}} }
	}
	node := func(with string) func(*plan) []step {
		return func(*plan) []step { return []step{{NodeStop, []string{with}}, {NodeReturn, []string{""}}} }
	}
	return map[string]Rhythm{
		"pods":       {Every: 2900 * time.Millisecond, steps: pods}, // and a little, where all have to wait
		"scale-pods": {Every: 5 * time.Second, steps: pods},
		"pods-mixed": {Gap: 2 * time.Second, steps: func(p *plan) []step {
			all := []step{{Delete, Services}, {ForceDelete, Services}, {Evict, Services}, {fault.Kill, Services}, {fault.Roll, Services}}
			part := Services[p.rng.IntN(len(Services))]
			return append(p.shuffle(all), step{fault.ScaleUp, []string{part}}, step{fault.ScaleDown, []string{part}})
		}},
		"pods-rolling": {Gap: 2 * time.Second, Times: 3, steps: one(fault.Roll, Whole)},
		"pods-redis":   {Gap: 8 * time.Second, Times: 5, steps: one(RedisDelete, Redis)},
		"node":         {Times: 2, steps: node("")},
		"node-redis":   {Times: 2, steps: node(Redis)},
		"calm":         {Times: 1, steps: func(*plan) []step { return nil }},
		"scale":        {Times: 1, steps: func(*plan) []step { return nil }},
	}
}

// pods are taken of all parts, those that no client may notice together.
func pods(p *plan) []step {
	auth, cart, hidden, gateway := []string{Auth}, []string{Cart}, []string{Auth, Cart}, []string{Gateway}
	return slices.Concat(
		p.shuffle([]step{{Delete, auth}, {Delete, cart}, {Delete, hidden}, {ForceDelete, auth}, {ForceDelete, cart}, {ForceDelete, hidden}, {Evict, hidden}}),
		p.shuffle([]step{{Delete, gateway}, {ForceDelete, gateway}, {Evict, gateway}}))
}

// plan draws what comes next from the seed. Which pod that is depends on who is
// there.
type plan struct{ rng *rand.Rand }

func (p *plan) shuffle(steps []step) []step {
	p.rng.Shuffle(len(steps), func(i, j int) { steps[i], steps[j] = steps[j], steps[i] })
	return steps
}

// Run makes the faults of a scenario until more says no (which is asked before
// each), its end, or the first that went wrong. For every fault begin is called
// with the time at which it began and what it is, and what that returns when it
// is over, from any goroutine.
func (c *Cluster) Run(ctx context.Context, scenario string, seed uint64, more func() bool, begin func(time.Time, fault.Fault) func(fault.Fault, error)) error {
	r, ok := Rhythms()[scenario]
	if !ok {
		return fmt.Errorf("the scenario %q is not for a cluster", scenario)
	}
	return c.run(ctx, r, seed, more, begin)
}

func (c *Cluster) run(ctx context.Context, r Rhythm, seed uint64, more func() bool, begin func(time.Time, fault.Fault) func(fault.Fault, error)) error {
	p := &plan{source(seed)}
	open := make(chan error, 64)
	under := 0
	defer func() {
		for ; under > 0; under-- {
			<-open
		}
	}()
	next := time.Now()
	for made := 0; r.Times == 0 || made < r.Times; {
		steps := r.steps(p)
		if len(steps) == 0 {
			return nil
		}
		for _, s := range steps {
			if r.Times > 0 && made == r.Times || !more() || ctx.Err() != nil {
				return ctx.Err()
			}
			h, err := c.beginAny(ctx, p, s)
			if err != nil {
				if h.Began.IsZero() {
					h.Began = time.Now()
				}
				begin(h.Began, h.Fault)(h.Fault, err)
				return err
			}
			ended := begin(h.Began, h.Fault)
			made++
			under++
			go func() {
				err := h.Over(ctx)
				if err != nil {
					err = fmt.Errorf("%s: %w", h.Name, err)
				}
				ended(h.Fault, err)
				open <- err
			}()
			next = due(next, time.Now(), r.Every, time.Duration((0.5+p.rng.Float64())*float64(r.Every)))
			wait := time.Until(next)
			if r.Every == 0 {
				under--
				if err := <-open; err != nil {
					return err
				}
				wait = r.Gap
			}
			pause(ctx, wait)
			for draining := true; draining && under > 0; {
				select {
				case err := <-open:
					if under--; err != nil {
						return err
					}
				default:
					draining = false
				}
			}
		}
	}
	return nil
}

// due is when the next fault is to begin, drawn after the last one was to. Faults
// that had to wait for a pod to spare are made up for by those after them, though
// by no more than one: a long wait does not end in a burst.
func due(last, now time.Time, every, drawn time.Duration) time.Time {
	next := last.Add(drawn)
	if earliest := now.Add(-every); next.Before(earliest) {
		return earliest
	}
	return next
}

// beginAny begins with a part that is drawn, and takes another one, or waits,
// where that has nobody to spare.
func (c *Cluster) beginAny(ctx context.Context, p *plan, s step) (Happening, error) {
	ctx, cancel := context.WithTimeout(ctx, podBound)
	defer cancel()
	parts := slices.Clone(s.parts)
	p.rng.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
	for {
		var h Happening
		var err error
		for _, part := range parts {
			if h, err = c.begin(ctx, p, s.kind, part); !errors.Is(err, errNobody) {
				return h, err
			}
		}
		if !pause(ctx, 100*time.Millisecond) {
			return h, err
		}
	}
}

func source(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

func sorted(pods map[string]Pod) []Pod {
	return slices.SortedFunc(maps.Values(pods), func(a, b Pod) int { return strings.Compare(a.Name, b.Name) })
}
