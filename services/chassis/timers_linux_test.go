package chassis

import (
	"errors"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestSlackTimers reads the slack of a child, which has that of the thread that
// started it: every thread's must be set.
func TestSlackTimers(t *testing.T) {
	err := SlackTimers(TimerSlack)
	if errors.Is(err, syscall.ENOTSUP) {
		t.Skip("this binary uses cgo")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = SlackTimers(0) })
	for range 20 {
		go time.Sleep(10 * time.Millisecond) // from thread to thread
		slack, err := exec.CommandContext(t.Context(), "cat", "/proc/self/timerslack_ns").Output()
		if got, err2 := time.ParseDuration(strings.TrimSpace(string(slack)) + "ns"); err != nil || err2 != nil || got != TimerSlack {
			t.Fatalf("the slack is %v, %v, %v", got, err, err2)
		}
	}
}
