package main

import (
	"syscall"
	"time"
)

// slackTimers lets sleeps end up to so much late, as the shop's services have it.
// See PR_SET_TIMERSLACK in prctl(2).
func slackTimers(slack time.Duration) error {
	const setTimerSlack = 29
	if _, _, errno := syscall.AllThreadsSyscall(syscall.SYS_PRCTL, setTimerSlack, uintptr(slack), 0); errno != 0 {
		return errno
	}
	return nil
}
