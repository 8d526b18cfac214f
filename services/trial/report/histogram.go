package report

import (
	"math"
	"math/bits"
	"time"
)

// histogram counts durations in buckets that are a sixteenth of their octave
// wide: exact to a microsecond up to 32 µs, to 6 % up to a minute. What is longer
// than about 67 s counts as that.
type histogram [23 * 16]uint32

func (h *histogram) add(d time.Duration) {
	us := uint64(max(0, d.Microseconds()))
	shift := max(0, bits.Len64(us)-5)
	h[min(uint64(shift)*16+us>>shift, uint64(len(h)-1))]++
}

func (h *histogram) merge(other *histogram) {
	for i, n := range other {
		h[i] += n
	}
}

func (h *histogram) count() (n int) {
	for _, c := range h {
		n += int(c)
	}
	return n
}

// quantile is the upper bound of the bucket with the nearest-rank quantile, so
// that it never says less than was measured. ok is false if nothing was counted.
func (h *histogram) quantile(q float64) (d time.Duration, ok bool) {
	total := h.count()
	if total == 0 {
		return 0, false
	}
	rank := max(1, int(math.Ceil(q*float64(total))))
	for i, c := range h {
		if rank -= int(c); rank <= 0 {
			shift := max(0, i/16-1)
			return time.Duration((i-shift*16+1)<<shift-1) * time.Microsecond, true
		}
	}
	return 0, false // not reached: the ranks are within the total
}
