package rediscrash

import (
	"os/exec"
	"syscall"
)

// endWithParent has the kernel end Redis should this process die.
func endWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
