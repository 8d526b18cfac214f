package process

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestFigures: what the kernel says of this process follows what it does.
func TestFigures(t *testing.T) {
	self := os.Getpid()
	cpu, err := CPU(self)
	if err != nil {
		t.Fatal(err)
	}
	io, err := IO(self)
	if err != nil {
		t.Fatal(err)
	}
	resident, err := Resident(self)
	if err != nil {
		t.Fatal(err)
	}
	for began := own(t); own(t)-began < 300*time.Millisecond; { // busy
	}
	file, err := os.Create(t.TempDir() + "/f")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	for range 100 {
		if _, err := file.WriteString("0123456789"); err != nil {
			t.Fatal(err)
		}
	}
	memory := make([]byte, 32<<20)
	for i := 0; i < len(memory); i += 4096 {
		memory[i] = 1
	}
	cpuAfter, err := CPU(self)
	if err != nil {
		t.Fatal(err)
	}
	ioAfter, err := IO(self)
	if err != nil {
		t.Fatal(err)
	}
	residentAfter, err := Resident(self)
	if err != nil {
		t.Fatal(err)
	}
	if used := cpuAfter - cpu; used < 280*time.Millisecond || used > 900*time.Millisecond {
		t.Errorf("300 ms of work are %v of CPU", used)
	}
	if d := ioAfter.Minus(io); d.Writes < 100 || d.Writes > 150 || d.BytesWritten < 1000 || d.BytesWritten > 2000 {
		t.Errorf("100 writes of 10 bytes are %+v", d)
	}
	if grown := residentAfter - resident; grown < 30<<20 || grown > 80<<20 {
		t.Errorf("32 MiB are %d bytes", grown)
	}
	_ = memory[0]
	for _, err := range []error{second(CPU(1 << 30)), second(CPU(0)), second(CPU(1 << 22)), second(IO(1 << 30)), second(Resident(1 << 30))} {
		if err == nil {
			t.Error("there are figures of a process that is not there")
		}
	}
}

// TestFreePorts: nobody listens on them, and none is given twice while another is
// left.
func TestFreePorts(t *testing.T) {
	seen := map[string]bool{}
	for range 12 {
		ports, err := FreePorts(2)
		if err != nil {
			t.Fatal(err)
		}
		for _, addr := range ports {
			lis, err := net.Listen("tcp", addr)
			if err != nil || seen[addr] {
				t.Errorf("%s: given before %v, %v", addr, seen[addr], err)
				continue
			}
			seen[addr] = true
			_ = lis.Close() // who was given it listens later
		}
	}
	if _, err := FreePorts(101); err == nil {
		t.Error("there are more than each process has")
	}
}

// TestShortCPU: what a child has used is told to less than a tick of the clock, 10 ms.
func TestShortCPU(t *testing.T) {
	cat := exec.CommandContext(t.Context(), "cat")
	in, err := cat.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cat.Start(); err != nil {
		t.Fatal(err)
	}
	before, err := CPU(cat.Process.Pid)
	for began := time.Now(); err == nil && before == 0 && time.Since(began) < 10*time.Second; {
		before, err = CPU(cat.Process.Pid)
	}
	if err != nil || before == 0 || before%(10*time.Millisecond) == 0 {
		t.Errorf("it has used %v, %v", before, err)
	}
	if err := errors.Join(in.Close(), cat.Wait()); err != nil {
		t.Fatal(err)
	}
	if used, err := CPU(cat.Process.Pid); err == nil {
		t.Errorf("a process that has ended has used %v", used)
	}
}

// own is this process's CPU time by another way.
func own(t *testing.T) time.Duration {
	t.Helper()
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

func second[T any](_ T, err error) error { return err }

// TestPin: all threads of the process stay where they were put.
func TestPin(t *testing.T) {
	s := NewStarter()
	defer s.Close()
	r, err := StartRedis(t.Context(), s, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := Pin(r.PID, []int{0}); err != nil {
		t.Fatal(err)
	}
	tasks, err := os.ReadDir("/proc/" + strconv.Itoa(r.PID) + "/task")
	if err != nil || len(tasks) < 2 {
		t.Fatalf("redis-server has %d threads: %v", len(tasks), err)
	}
	for _, task := range tasks {
		status, err := os.ReadFile("/proc/" + strconv.Itoa(r.PID) + "/task/" + task.Name() + "/status")
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(status), "Cpus_allowed_list:\t0\n") {
			t.Errorf("thread %s may run elsewhere", task.Name())
		}
	}
}

// TestChildDies: a child does not outlive the one that started it.
func TestChildDies(t *testing.T) {
	s := NewStarter()
	cmd := exec.Command("sleep", "60")
	if err := s.Start(cmd); err != nil {
		t.Fatal(err)
	}
	s.Close()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	select {
	case <-ended:
	case <-ctx.Done():
		_ = cmd.Process.Kill()
		t.Error("it still runs")
	}
	if unix.Kill(cmd.Process.Pid, 0) == nil && ctx.Err() == nil {
		t.Error("it is still there")
	}
}
