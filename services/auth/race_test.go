//go:build race

package auth

import "testing"

// times skips a test of what code takes: the race detector takes more, where it likes.
func times(t *testing.T) { t.Skip("the race detector has times of its own") }
