package report

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"coatcheck/trial/history"
)

// Number writes an integer with a comma between thousands.
func Number(n int) string {
	s := strconv.Itoa(n)
	start := len(s) % 3
	if n < 0 {
		start = 1 + (len(s)-1)%3
	}
	var b strings.Builder
	for i := range len(s) {
		if i > 0 && i >= start && (i-start)%3 == 0 && s[i-1] != '-' {
			b.WriteByte(',')
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// Latency writes a duration with three digits, as in "8.21 ms".
func Latency(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return strconv.FormatInt(d.Microseconds(), 10) + " µs"
	case d < time.Second:
		return digits(float64(d)/float64(time.Millisecond)) + " ms"
	}
	return digits(d.Seconds()) + " s"
}

func digits(v float64) string {
	switch {
	case v < 10:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case v < 100:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 0, 64)
}

// clock writes a time since the start: "12.3 s", from ten minutes on "12:34.5".
func clock(d time.Duration) string {
	if d < 10*time.Minute {
		return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + " s"
	}
	d = d.Round(100 * time.Millisecond)
	return fmt.Sprintf("%d:%04.1f", d/time.Minute, (d % time.Minute).Seconds())
}

// Length writes how long something was meant to be: "90 s", "20 min".
func Length(d time.Duration) string {
	if d >= 2*time.Minute && d%time.Minute == 0 {
		return strconv.Itoa(int(d/time.Minute)) + " min"
	}
	return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + " s"
}

// percent writes a share; what is not nothing never reads as 0, and what is not
// all never as 100.
func percent(part, whole int) string {
	switch p := 100 * float64(part) / float64(whole); {
	case whole == 0:
		return "–"
	case part > 0 && p < 0.01:
		return "< 0.01 %"
	case part < whole && p > 99.99:
		return "> 99.99 %"
	case p > 0 && p < 1 || p > 99 && p < 100:
		return strconv.FormatFloat(p, 'f', 2, 64) + " %"
	default:
		return strconv.FormatFloat(p, 'f', 1, 64) + " %"
	}
}

// natural compares names so that cart-2 comes before cart-10.
func natural(a, b string) int {
	stem := func(s string) string { return strings.TrimRight(s, "0123456789") }
	return cmp.Or(strings.Compare(stem(a), stem(b)), cmp.Compare(len(a), len(b)), strings.Compare(a, b))
}

func plural(n int, one, many string) string {
	if n == 1 {
		return Number(n) + " " + one
	}
	return Number(n) + " " + many
}

func lines(ls []history.Line) string {
	parts := make([]string, len(ls))
	for i, l := range ls {
		parts[i] = fmt.Sprintf("%d × %s", l.Quantity, l.SKU)
	}
	return strings.Join(parts, ", ")
}

func className(c history.Class) string {
	switch c {
	case history.Hidden, history.Gateway, history.Outage:
		return string(c)
	}
	return "other"
}
