package chassis

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// SlackTimers lets every sleep of this process, and of those that it starts from
// now on, end up to so much late, and so together with others: Go's monitor thread
// alone sleeps for 20 µs at a time while anything runs, and on a virtual machine
// being woken costs as much as work. 0 is what the process began with. It is
// ENOTSUP in a binary that uses cgo. See PR_SET_TIMERSLACK in prctl(2).
func SlackTimers(slack time.Duration) error {
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_PRCTL, unix.PR_SET_TIMERSLACK, uintptr(slack), 0); errno != 0 {
		return errno
	}
	return nil
}
