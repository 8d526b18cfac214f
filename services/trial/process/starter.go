// Package process starts processes that end with this one, and tells what they use.
//
// The hazards are what a trial leaves behind when it is killed, and a figure that
// was taken from another process than the one meant: all figures are the kernel's
// own, by process id.
package process

import (
	"os/exec"
	"runtime"
)

// Starter starts processes from one operating system thread that lives as long
// as the starter does: the signal that a child gets at its parent's death is
// tied to the thread that started it, and Go may end any other thread.
type Starter struct {
	requests chan func()
}

// NewStarter returns a starter that the caller closes.
func NewStarter() *Starter {
	s := &Starter{requests: make(chan func())}
	go s.serve()
	return s
}

// serve ends with its thread, which the process's first one never does: where
// that one has come, another serves, and it is held until then.
func (s *Starter) serve() {
	runtime.LockOSThread()
	if first() {
		serving := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(serving)
			s.take()
		}()
		<-serving
		runtime.UnlockOSThread()
		return
	}
	s.take()
}

func (s *Starter) take() {
	for request := range s.requests {
		request()
	}
}

// Start is cmd.Start. The process dies with this one where the kernel can see to
// it, and gets no Ctrl-C from the terminal: who started it stops it in order.
func (s *Starter) Start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = attributes()
	done := make(chan error, 1)
	s.requests <- func() { done <- cmd.Start() }
	return <-done
}

// Close ends the thread, and with it whatever it started.
func (s *Starter) Close() { close(s.requests) }
