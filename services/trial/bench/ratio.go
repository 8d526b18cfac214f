package bench

import (
	"fmt"
	"math"
	"slices"
)

// Range is the median of some values and the interval in which the true median
// lies with at least 95 %, if there are enough of them: no assumption is made of
// how they are spread, the bounds are values of the sample.
type Range struct {
	Median float64   `json:"median"`
	Low    float64   `json:"low"`
	High   float64   `json:"high"`
	Values []float64 `json:"values"`
	// Sure says that there were enough values for the interval to be one.
	Sure bool `json:"sure"`
}

// rangeOf is of the values in any order.
func rangeOf(values []float64) Range {
	r := Range{Values: values}
	if len(values) == 0 {
		return r
	}
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	r.Median = (sorted[(n-1)/2] + sorted[n/2]) / 2
	// Outside the k-th from either end the median lies with the chance that at
	// most k-1 of n coins show heads, or tails.
	k, outside, term := 0, 0.0, math.Pow(0.5, float64(n))
	for i := 0; i < n/2; i++ {
		outside += 2 * term
		if outside > 0.05 {
			break
		}
		k, term = i+1, term*float64(n-i)/float64(i+1)
	}
	r.Sure = k > 0
	r.Low, r.High = sorted[max(0, k-1)], sorted[n-max(1, k)]
	return r
}

// String shows the median with the interval.
func (r Range) String() string {
	if len(r.Values) == 0 {
		return "-"
	}
	if len(r.Values) == 1 {
		return short(r.Median)
	}
	return fmt.Sprintf("%s [%s, %s]", short(r.Median), short(r.Low), short(r.High))
}

// short writes three digits that count.
func short(v float64) string {
	switch a := math.Abs(v); {
	case a == 0:
		return "0"
	case a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

// The verdicts on a figure.
const (
	Met       = "met"
	NotMet    = "NOT MET"
	Undecided = "undecided" // the spread is wider than the difference
)

// Figure is one number with its limit.
type Figure struct {
	Title   string  `json:"title"`
	Unit    string  `json:"unit"`
	Range   Range   `json:"range"`
	Limit   float64 `json:"limit"`    // 0 for none: it is told, not judged
	AtLeast bool    `json:"at_least"` // else at most
	Exact   bool    `json:"exact"`    // counted, not timed: one value is enough
	Gate    bool    `json:"gate"`     // past it the short form fails; else it is a goal
	Few     bool    `json:"few"`      // fewer rounds were quiet enough than a conclusion needs
	Note    string  `json:"note,omitempty"`
}

// Verdict draws a conclusion only where the whole interval is on one side; there
// is none without a limit.
func (f Figure) Verdict() string {
	low, high := f.Range.Low, f.Range.High
	if f.AtLeast {
		low, high = -high, -low
	}
	limit := f.Limit
	if f.AtLeast {
		limit = -limit
	}
	switch {
	case f.Limit == 0:
		return ""
	case len(f.Range.Values) == 0, !f.Exact && (!f.Range.Sure || f.Few):
		return Undecided
	case high <= limit:
		return Met
	case low > limit:
		return NotMet
	}
	return Undecided
}

// Bound says the limit in words.
func (f Figure) Bound() string {
	if f.Limit == 0 {
		return "none"
	}
	word := "at most "
	if f.AtLeast {
		word = "at least "
	}
	return word + short(f.Limit) + f.Unit
}
