package watch

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/charmbracelet/x/ansi"
)

// pty is a real terminal: what is written to slave is read from master.
type pty struct {
	t             *testing.T
	master, slave *os.File

	mu  sync.Mutex
	got bytes.Buffer
}

func newPTY(t *testing.T, columns, rows uint16) *pty {
	t.Helper()
	t.Setenv("CI", "")
	t.Setenv("TERM", "xterm-256color")
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
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	p := &pty{t: t, master: master, slave: slave}
	t.Cleanup(func() { _, _ = master.Close(), slave.Close() })
	go func() { _, _ = io.Copy(p, master) }()
	return p
}

// Write keeps what the terminal is sent.
func (p *pty) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.got.Write(b)
}

func (p *pty) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.got.String()
}

// until waits until the terminal was sent the text.
func (p *pty) until(want string) {
	p.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(ansi.Strip(p.text()), want); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatalf("never %q in\n%q", want, p.text())
		}
	}
}

// TestTerminal: on a real terminal the view is drawn in place and leaves the
// cursor as it was; a log goes above it; in CI and on a dumb one there are lines.
func TestTerminal(t *testing.T) {
	p := newPTY(t, 100, 30)
	terminal := NewTerminal(p.slave, nil, nil)
	s := sample()
	terminal.Show(s)
	p.until("kill -9 auth-1?[2J")
	if _, err := terminal.Write([]byte("a line of a log\n")); err != nil {
		t.Error(err)
	}
	p.until("a line of a log")
	s.Doing = "reading all carts"
	terminal.Show(s)
	p.until("reading all carts")
	terminal.Stop()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		text := p.text()
		if strings.LastIndex(text, "\x1b[?25h") > strings.LastIndex(text, "\x1b[?25l") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the cursor stays hidden: %q", text)
		}
	}
	if strings.Contains(p.text(), "auth-1\x1b[2J") {
		t.Error("a fault's name steers the terminal")
	}
	for _, name := range []string{"CI", "TERM"} {
		t.Setenv(name, "dumb")
		if IsTerminal(p.slave) {
			t.Errorf("%s is not respected", name)
		}
	}
}

// TestKeys: whoever watches another's trial leaves with q.
func TestKeys(t *testing.T) {
	for _, key := range []string{"q", "\x03"} {
		p := newPTY(t, 80, 24)
		left := make(chan struct{})
		terminal := NewTerminal(p.slave, p.slave, func() { close(left) })
		terminal.Show(sample())
		p.until("q: leave; the trial goes on")
		if _, err := p.master.WriteString(key); err != nil {
			t.Fatal(err)
		}
		select {
		case <-left:
		case <-time.After(10 * time.Second):
			t.Fatalf("%q does not leave", key)
		}
		terminal.Show(sample()) // what comes late does no harm
		terminal.Stop()
	}
}
