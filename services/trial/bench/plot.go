package bench

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Plots are drawn in units of their own width, and their words are HTML.
const (
	plotWidth  = 600.0
	plotHeight = 180.0
)

// pairPlot is the ratios of one comparison's pairs on a logarithmic scale.
type pairPlot struct {
	Title, Says      string
	Dots             []dot
	Low, High, Width float64 // of the interval
	Median           float64
	Ticks            []tick
}

type dot struct {
	X, Y float64
	Left bool // left out
	Says string
}

type tick struct {
	X, Y float64
	Text string
}

func (r *Report) pairPlots() (plots []pairPlot) {
	for _, c := range r.Comparisons {
		for _, of := range []struct {
			name  string
			all   Range
			value func(Round) float64
		}{
			{"CPU per request", c.CPU(), func(r Round) float64 { return r.A.sum() / max(r.B.sum(), 1e-3) }},
			{"p99", c.P99(), func(r Round) float64 { return r.A.P99 / max(r.B.P99, 1e-3) }},
		} {
			if of.all.Median <= 0 {
				continue
			}
			p := pairPlot{Title: c.Title, Says: fmt.Sprintf("%s of %s over that of %s: %s", of.name, c.A, c.B, of.all)}
			least, most := min(1, of.all.Median), max(1, of.all.Median)
			for _, round := range c.Rounds {
				least, most = min(least, of.value(round)), max(most, of.value(round))
			}
			x := logarithmic(least, most)
			for i, round := range c.Rounds {
				v := of.value(round)
				p.Dots = append(p.Dots, dot{x(v), 12 + 24*float64(i)/float64(max(1, len(c.Rounds)-1)), !round.Kept, fmt.Sprintf("pair %d: %.2f", i+1, v)})
			}
			p.Low, p.High, p.Median = x(of.all.Low), x(of.all.High), x(of.all.Median)
			p.Width = p.High - p.Low
			for _, v := range []float64{0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50} {
				if v >= least*0.95 && v <= most*1.05 {
					p.Ticks = append(p.Ticks, tick{X: x(v), Text: short(v) + " ×"})
				}
			}
			plots = append(plots, p)
		}
	}
	return plots
}

// logarithmic spreads what lies between over the width, with a margin.
func logarithmic(least, most float64) func(float64) float64 {
	low, high := math.Log(least*0.93), math.Log(most*1.07)
	return func(v float64) float64 { return plotWidth * (math.Log(v) - low) / (high - low) }
}

// curve is CPU per request over size, both logarithmic.
type curve struct {
	Title  string
	Lines  []line
	XTicks []tick
	YTicks []tick
}

type line struct {
	Name, Path string
	Class      int
	Dots       []dot
}

func (r *Report) curves() (all []curve) {
	for _, of := range []string{"lines", "tickets", "replicas"} {
		var some []Growth
		for _, g := range r.Growth {
			if g.Of == of {
				some = append(some, g)
			}
		}
		if len(some) < 2 {
			continue
		}
		c := curve{Title: "CPU per request in µs, over " + of}
		sizes, sums := [2]float64{math.Inf(1), 0}, [2]float64{math.Inf(1), 0}
		var names []string
		for _, g := range some {
			sizes[0], sizes[1] = min(sizes[0], float64(g.Size)), max(sizes[1], float64(g.Size))
			sums[0], sums[1] = min(sums[0], g.Sum.Median), max(sums[1], g.Sum.Median)
			if !slices.Contains(names, g.What) {
				names = append(names, g.What)
			}
		}
		x, up := logarithmic(sizes[0], sizes[1]), logarithmic(max(sums[0], 1e-3), sums[1])
		y := func(v float64) float64 { return plotHeight * (1 - up(max(v, 1e-3))/plotWidth) }
		for i, name := range names {
			l := line{Name: name, Class: i % 4}
			var path strings.Builder
			for _, g := range some {
				if g.What != name {
					continue
				}
				fmt.Fprintf(&path, "%c%.1f %.1f", "ML"[min(1, len(l.Dots))], x(float64(g.Size)), y(g.Sum.Median))
				l.Dots = append(l.Dots, dot{X: x(float64(g.Size)), Y: y(g.Sum.Median), Says: fmt.Sprintf("%s, %d %s: %s µs", name, g.Size, of, g.Sum)})
			}
			l.Path = path.String()
			c.Lines = append(c.Lines, l)
		}
		for _, g := range some {
			if t := (tick{X: x(float64(g.Size)), Text: fmt.Sprint(g.Size)}); !slices.Contains(c.XTicks, t) {
				c.XTicks = append(c.XTicks, t)
			}
		}
		for _, v := range []float64{20, 50, 100, 200, 500, 1000, 2000, 5000} {
			if v >= sums[0]*0.95 && v <= sums[1]*1.05 {
				c.YTicks = append(c.YTicks, tick{Y: y(v), Text: short(v)})
			}
		}
		all = append(all, c)
	}
	return all
}
