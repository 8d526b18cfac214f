package compare

import "syscall"

// childAttributes has the kernel kill the child when its parent dies, and keeps
// a terminal's Ctrl-C from it.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
