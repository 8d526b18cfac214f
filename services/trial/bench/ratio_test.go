package bench

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestRange(t *testing.T) {
	ten := []float64{10, 1, 9, 2, 8, 3, 7, 4, 6, 5}
	for name, tt := range map[string]struct {
		values            []float64
		median, low, high float64
		sure              bool
	}{
		"none":                  {nil, 0, 0, 0, false},
		"one":                   {[]float64{3}, 3, 3, 3, false},
		"five":                  {[]float64{5, 1, 2, 3, 4}, 3, 1, 5, false},
		"six":                   {[]float64{6, 5, 1, 2, 3, 4}, 3.5, 1, 6, true},
		"ten":                   {ten, 5.5, 2, 9, true},
		"an outlier either way": {[]float64{-100, 2, 3, 4, 5, 6, 7, 8, 9, 1000}, 5.5, 2, 9, true},
	} {
		got := rangeOf(tt.values)
		if got.Median != tt.median || got.Low != tt.low || got.High != tt.high || got.Sure != tt.sure {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if !slices.Equal(ten, []float64{10, 1, 9, 2, 8, 3, 7, 4, 6, 5}) {
		t.Error("the values were sorted in place")
	}
}

// TestRangeCovers: of many samples of something whose median is known, the
// interval holds it in at least 95 %, and is not as wide as can be.
func TestRangeCovers(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{6, 10, 17, 40} {
		const times = 4000
		holds, widest := 0, 0
		for range times {
			values := make([]float64, n)
			for i := range values {
				values[i] = random.ExpFloat64()
			}
			r := rangeOf(values)
			if r.Low <= 0.6931 && 0.6931 <= r.High { // ln 2
				holds++
			}
			if r.Low == slices.Min(values) && r.High == slices.Max(values) {
				widest++
			}
		}
		if holds < times*94/100 {
			t.Errorf("%d values: the interval holds the median in %d of %d", n, holds, times)
		}
		if n >= 10 && widest > 0 {
			t.Errorf("%d values: the interval is all of them", n)
		}
	}
}

func TestVerdict(t *testing.T) {
	spread := func(low, high float64) Range {
		return rangeOf([]float64{low - 1, low, low, (low + high) / 2, (low + high) / 2, (low + high) / 2, (low + high) / 2, high, high, high + 1})
	}
	for name, tt := range map[string]struct {
		figure Figure
		want   string
	}{
		"below the limit":                   {Figure{Range: spread(1, 1.1), Limit: 1.15}, Met},
		"above it":                          {Figure{Range: spread(1.2, 1.3), Limit: 1.15}, NotMet},
		"on both sides":                     {Figure{Range: spread(1.1, 1.2), Limit: 1.15}, Undecided},
		"at least: above":                   {Figure{Range: spread(0.9, 0.95), Limit: 0.85, AtLeast: true}, Met},
		"at least: below":                   {Figure{Range: spread(0.5, 0.6), Limit: 0.85, AtLeast: true}, NotMet},
		"at least: on both sides":           {Figure{Range: spread(0.8, 0.9), Limit: 0.85, AtLeast: true}, Undecided},
		"too few values":                    {Figure{Range: rangeOf([]float64{1, 1, 1}), Limit: 2}, Undecided},
		"too few quiet rounds":              {Figure{Range: spread(1, 1.1), Limit: 1.15, Few: true}, Undecided},
		"one value that was counted":        {Figure{Range: rangeOf([]float64{58}), Limit: 60, Exact: true}, Met},
		"one value that was counted, above": {Figure{Range: rangeOf([]float64{61}), Limit: 60, Exact: true}, NotMet},
		"not measured":                      {Figure{Limit: 60, Exact: true}, Undecided},
		"without a limit":                   {Figure{Range: spread(1, 1.1)}, ""},
	} {
		if got := tt.figure.Verdict(); got != tt.want {
			t.Errorf("%s: %s", name, got)
		}
	}
	if got := (Figure{Unit: " ×"}).Bound(); got != "none" {
		t.Errorf("without a limit it is %q", got)
	}
}
