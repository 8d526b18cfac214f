package report

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// openTerminal makes a terminal: what is written to slave is read from master.
func openTerminal(t *testing.T, columns, rows uint16) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	control := func(request, arg uintptr) {
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, master.Fd(), request, arg); errno != 0 {
			t.Fatalf("making a terminal: %v", errno)
		}
	}
	var locked, n int32
	control(syscall.TIOCSPTLCK, uintptr(unsafe.Pointer(&locked)))
	control(syscall.TIOCGPTN, uintptr(unsafe.Pointer(&n)))
	size := [4]uint16{rows, columns}
	control(syscall.TIOCSWINSZ, uintptr(unsafe.Pointer(&size)))
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = master.Close() })
	return master, slave
}

// TestTerminal: on a real terminal the block is drawn in place, within its size;
// in CI and on a dumb one it is lines.
func TestTerminal(t *testing.T) {
	t.Setenv("CI", "")
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "1")
	master, slave := openTerminal(t, 50, 20)
	var got bytes.Buffer
	read := make(chan struct{})
	go func() { defer close(read); _, _ = io.Copy(&got, master) }()

	v := NewTerminal(slave, time.Minute, func() Status { return Status{OK: 5, LastFault: "kill -9 cart-1"} })
	if v.size == nil {
		t.Fatal("a terminal is not recognised")
	}
	if columns, rows := v.size(); columns != 50 || rows != 20 {
		t.Errorf("its size is %d × %d", columns, rows)
	}
	v.Start()
	time.Sleep(2*redrawEvery + redrawEvery/2)
	v.Stop()
	for _, name := range []string{"CI", "TERM"} {
		t.Setenv(name, "dumb")
		if NewTerminal(slave, time.Minute, nil).size != nil {
			t.Errorf("%s is not respected", name)
		}
	}
	_ = slave.Close()
	<-read

	s := new(screen)
	_, _ = s.Write(got.Bytes())
	if text := s.String(); strings.Count(text, "rate") != 1 || !strings.Contains(text, "kill -9 cart-1") || s.longest > 49 || s.hidden {
		t.Errorf("the terminal shows, %d columns wide:\n%s", s.longest, text)
	}
	if n := strings.Count(got.String(), "rate"); n < 3 {
		t.Errorf("it was drawn %d times", n)
	}
}
