//go:build !linux

package local

import (
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// identity tells whether a process runs (one that has ended and nobody waited
// for does not), and when it started, in Unix seconds.
func identity(pid int) (alive bool, start uint64, err error) {
	ps := exec.Command("ps", "-o", "stat=,lstart=", "-p", strconv.Itoa(pid))
	ps.Env = []string{"LC_ALL=C", "PATH=/bin:/usr/bin"}
	out, err := ps.Output()
	if err != nil {
		return false, 0, fmt.Errorf("ps: %w", err)
	}
	state, started, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	at, err := time.ParseInLocation("Mon Jan 2 15:04:05 2006", strings.Join(strings.Fields(started), " "), time.Local)
	if err != nil {
		return false, 0, err
	}
	return !strings.HasPrefix(state, "Z"), uint64(at.Unix()), nil
}
