package panels

import (
	"math"
	"strconv"
)

// format writes a value in its unit, as short as it can be told.
func format(v float64, unit string, decimals *int) string {
	number := func(v float64) string {
		if decimals != nil {
			return strconv.FormatFloat(v, 'f', *decimals, 64)
		}
		digits := 2 - int(math.Floor(math.Log10(math.Max(math.Abs(v), 0.01))))
		rounded := math.Round(v*math.Pow10(digits)) / math.Pow10(digits)
		return strconv.FormatFloat(rounded, 'f', -1, 64)
	}
	switch unit {
	case "percentunit":
		return number(100*v) + " %"
	case "s":
		switch a := math.Abs(v); {
		case a == 0:
			return "0 s"
		case a < 1e-3:
			return number(v*1e6) + " µs"
		case a < 1:
			return number(v*1e3) + " ms"
		case a < 120:
			return number(v) + " s"
		case a < 7200:
			return number(v/60) + " min"
		}
		return number(v/3600) + " h"
	case "bytes":
		for _, u := range []string{"B", "KiB", "MiB"} {
			if math.Abs(v) < 1024 {
				return number(v) + " " + u
			}
			v /= 1024
		}
		return number(v) + " GiB"
	case "reqps":
		return scaled(v, number) + " req/s"
	case "ops":
		return scaled(v, number) + " /s"
	}
	return scaled(v, number)
}

func scaled(v float64, number func(float64) string) string {
	switch a := math.Abs(v); {
	case a >= 1e6:
		return number(v/1e6) + " M"
	case a >= 1e4:
		return number(v/1e3) + " k"
	}
	return number(v)
}

// ceiling is the least round number of the unit that is not below v.
func ceiling(v float64, unit string) float64 {
	if v <= 0 {
		return 1
	}
	if unit == "bytes" && v > 1024 {
		return 1024 * ceiling(v/1024, unit)
	}
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, f := range []float64{1, 2, 4, 5, 8, 10} {
		if f*power >= v*(1-1e-9) {
			return f * power
		}
	}
	return 10 * power
}
