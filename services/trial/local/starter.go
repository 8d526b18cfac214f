package local

import (
	"os/exec"
	"runtime"
)

// starter starts processes from one operating system thread that lives as long
// as the starter does: the signal that a child gets at its parent's death is
// tied to the thread that started it, and Go may end any other thread.
type starter struct {
	requests chan func()
}

func newStarter() *starter {
	s := &starter{requests: make(chan func())}
	go func() {
		runtime.LockOSThread()
		for request := range s.requests {
			request()
		}
	}()
	return s
}

func (s *starter) start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = childAttributes()
	done := make(chan error, 1)
	s.requests <- func() { done <- cmd.Start() }
	return <-done
}

// close ends the thread, and with it whatever it started.
func (s *starter) close() { close(s.requests) }
