//go:build race

package gateway

import "testing"

// costs skips a test of what code costs: the race detector costs more.
func costs(t *testing.T) { t.Skip("the race detector has costs of its own") }
