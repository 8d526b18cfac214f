//go:build !linux

package main

import "time"

// slackTimers does nothing: the shop's services do so on Linux only.
func slackTimers(time.Duration) error { return nil }
