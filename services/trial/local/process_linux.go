package local

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
)

// identity tells whether a process runs (one that has ended and nobody waited
// for does not), and when it started, in clock ticks since the system did.
func identity(pid int) (alive bool, start uint64, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false, 0, err
	}
	// The command's name stands in parentheses and may hold anything.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 20 {
		return false, 0, fmt.Errorf("/proc/%d/stat: %d fields", pid, len(fields))
	}
	start, err = strconv.ParseUint(string(fields[19]), 10, 64)
	return fields[0][0] != 'Z' && fields[0][0] != 'X', start, err
}
