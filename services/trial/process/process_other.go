//go:build !linux

package process

import (
	"errors"
	"syscall"
	"time"
)

var errLinux = errors.New("what processes use is only known on Linux")

// attributes end no process with its parent here.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// first does not matter where no child ends with a thread.
func first() bool { return false }

// CPU is only known on Linux.
func CPU(int) (time.Duration, error) { return 0, errLinux }

// IO is only known on Linux.
func IO(int) (Transfer, error) { return Transfer{}, errLinux }

// Resident is only known on Linux.
func Resident(int) (int64, error) { return 0, errLinux }

// Pin is only possible on Linux.
func Pin(int, []int) error { return errLinux }
