//go:build !race

package auth

import "testing"

// times begins a test of what code takes, unless what is run also counts what it covers.
func times(t *testing.T) {
	if testing.CoverMode() != "" {
		t.Skip("counters of coverage have times of their own")
	}
}
