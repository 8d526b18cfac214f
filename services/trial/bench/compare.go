package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"time"
)

// The pace of the noise gate.
const (
	echoLength = time.Second
	warm       = 400 * time.Millisecond
	// quiet is how far the echo server's rate may be off its median.
	quiet = 0.10
)

// side is one of two that are compared.
type side struct {
	title string
	site  *site
	load  load
}

// Round is one pair, with the echo server between.
type Round struct {
	A    Block `json:"a"`
	B    Block `json:"b"`
	Echo Block `json:"echo"`
	// Kept says that the machine was as it mostly was.
	Kept bool `json:"kept"`
}

// Comparison is two sides run in turn.
type Comparison struct {
	Key    string  `json:"key"`
	Title  string  `json:"title"`
	A      string  `json:"a"`
	B      string  `json:"b"`
	Rounds []Round `json:"rounds"`
	// Few says that fewer rounds were kept than there should be pairs, or than a
	// conclusion needs.
	Few bool `json:"few"`
}

// leastPairs is what a conclusion needs.
const leastPairs = 10

// compare runs a and b in turn, A B B A, until there are enough pairs in which
// the machine was as it mostly was, or twice as many were run.
func (r *run) compare(ctx context.Context, key, title string, a, b side) (*Comparison, error) {
	c := &Comparison{Key: key, Title: title, A: a.title, B: b.title}
	for i := 0; i < 2*r.Pairs && c.judge() < r.Pairs; i++ {
		first, second := a, b
		if i%2 == 1 {
			first, second = b, a
		}
		var round Round
		one, err := r.block(ctx, first)
		if err != nil {
			return nil, err
		}
		if round.Echo, err = r.echoes(ctx); err != nil {
			return nil, err
		}
		two, err := r.block(ctx, second)
		if err != nil {
			return nil, err
		}
		if i%2 == 1 {
			one, two = two, one
		}
		round.A, round.B = one, two
		c.Rounds = append(c.Rounds, round)
		r.say("%s: %d of %d: CPU %.2f, rate %.2f, echo %.0f/s", key, i+1, r.Pairs, one.sum()/two.sum(), one.PerSecond/two.PerSecond, round.Echo.PerSecond)
	}
	c.Few = c.judge() < max(r.Pairs, leastPairs)
	r.report.Comparisons = append(r.report.Comparisons, c)
	return c, nil
}

// echoes says how quiet the machine is.
func (r *run) echoes(ctx context.Context) (Block, error) {
	return r.block(ctx, side{site: r.echo, load: load{carts: r.made["echo"], conns: conns, warm: warm / 2, length: min(echoLength, r.Block)}})
}

func (r *run) block(ctx context.Context, s side) (Block, error) {
	b, err := s.site.run(ctx, s.load, nil)
	if err != nil {
		return b, err
	}
	return b, s.site.forget(ctx)
}

// judge marks the rounds to keep and counts them.
func (c *Comparison) judge() (kept int) {
	var rates []float64
	for _, round := range c.Rounds {
		rates = append(rates, round.Echo.PerSecond)
	}
	median := rangeOf(rates).Median
	for i := range c.Rounds {
		c.Rounds[i].Kept = math.Abs(c.Rounds[i].Echo.PerSecond/median-1) <= quiet
		if c.Rounds[i].Kept {
			kept++
		}
	}
	return kept
}

// of is what f says of the rounds that are kept.
func (c *Comparison) of(f func(Round) float64) Range {
	var values []float64
	for _, round := range c.Rounds {
		if round.Kept {
			values = append(values, f(round))
		}
	}
	return rangeOf(values)
}

// CPU is A's CPU per request over B's, Rate the same of requests per second, P50
// and P99 of latency.
func (c *Comparison) CPU() Range {
	return c.of(func(r Round) float64 { return r.A.sum() / max(r.B.sum(), 1e-3) })
}

// Rate is A's requests per second over B's.
func (c *Comparison) Rate() Range {
	return c.of(func(r Round) float64 { return r.A.PerSecond / r.B.PerSecond })
}

// P50 is A's median latency over B's.
func (c *Comparison) P50() Range {
	return c.of(func(r Round) float64 { return r.A.P50 / max(r.B.P50, 1e-3) })
}

// P99 is A's 99th percentile over B's.
func (c *Comparison) P99() Range {
	return c.of(func(r Round) float64 { return r.A.P99 / max(r.B.P99, 1e-3) })
}

// figure states a limit on one of a comparison's ranges.
func (r *run) figure(c *Comparison, title string, of Range, limit float64, atLeast bool, unit, note string) {
	r.report.Figures = append(r.report.Figures, Figure{Title: title, Unit: unit, Range: of, Limit: limit, AtLeast: atLeast, Few: c.Few, Note: note})
}

// counted states a limit on what was counted, not timed.
func (r *run) counted(title string, value, limit float64, unit, note string) {
	r.report.Figures = append(r.report.Figures, Figure{Title: title, Unit: unit, Range: rangeOf([]float64{value}), Limit: limit, Exact: true, Note: note})
}

// closed is a closed loop on the site's carts of so many lines.
func (r *run) closed(ctx context.Context, title string, s *site, lines int, read, minimal bool) (side, error) {
	c, err := r.carts(ctx, s, lines)
	return side{title, s, load{carts: c, reads: read, minimal: minimal, conns: conns, warm: warm, length: r.Block}}, err
}

// withoutTimes is a JSON answer in one form and without when it expires, which
// only servers that start together could agree on.
func withoutTimes(body []byte) (string, error) {
	var fields map[string]any
	if err := json.Unmarshal(body, &fields); err != nil {
		return "", fmt.Errorf("the answer: %w", err)
	}
	delete(fields, "expires_at")
	text, err := json.Marshal(fields)
	return string(text), err
}
