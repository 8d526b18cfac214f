package process

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}

// first tells whether this is the thread that the process began with.
func first() bool { return unix.Gettid() == os.Getpid() }

// CPU is the time that the process has used so far, user and system, to the
// nanosecond: of its CPU-time clock, see clock_getcpuclockid(3).
func CPU(pid int) (time.Duration, error) {
	const (
		scheduled = 2       // CPUCLOCK_SCHED: all that its threads were on a processor
		most      = 1 << 22 // PID_MAX_LIMIT
	)
	if pid < 1 || pid > most { // whose clock would be another's
		return 0, fmt.Errorf("the CPU time of process %d: %w", pid, unix.ESRCH)
	}
	var used unix.Timespec
	if err := unix.ClockGettime(^int32(pid)<<3|scheduled, &used); err != nil {
		return 0, fmt.Errorf("the CPU time of process %d: %w", pid, err)
	}
	return time.Duration(used.Nano()), nil
}

// IO is what the process has read and written so far, of files and sockets alike.
func IO(pid int) (Transfer, error) {
	var t Transfer
	err := values(fmt.Sprintf("/proc/%d/io", pid), map[string]*int64{
		"rchar": &t.BytesRead, "wchar": &t.BytesWritten, "syscr": &t.Reads, "syscw": &t.Writes,
	})
	return t, err
}

// Resident is the memory of the process that is in RAM, in bytes.
func Resident(pid int) (int64, error) {
	var kib int64
	err := values(fmt.Sprintf("/proc/%d/status", pid), map[string]*int64{"VmRSS": &kib})
	return kib << 10, err
}

// values reads lines of a name, a colon, a number and perhaps a unit.
func values(file string, wanted map[string]*int64) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	found := 0
	for line := range strings.Lines(string(content)) {
		name, rest, _ := strings.Cut(line, ":")
		to, ok := wanted[name]
		if !ok {
			continue
		}
		number, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
		if *to, err = strconv.ParseInt(number, 10, 64); err != nil {
			return fmt.Errorf("%s: %s: %w", file, name, err)
		}
		found++
	}
	if found != len(wanted) {
		return fmt.Errorf("%s: it has %d of %d figures", file, found, len(wanted))
	}
	return nil
}

// Pin lets the process run on these cores only: all its threads, and those that
// they start.
func Pin(pid int, cores []int) error {
	var set unix.CPUSet
	for _, core := range cores {
		set.Set(core)
	}
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return err
	}
	for _, task := range tasks {
		tid, err := strconv.Atoi(task.Name())
		if err != nil {
			return err
		}
		// A thread may have ended meanwhile.
		if err := unix.SchedSetaffinity(tid, &set); err != nil && err != unix.ESRCH {
			return fmt.Errorf("pinning process %d: %w", pid, err)
		}
	}
	return nil
}
