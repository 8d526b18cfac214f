//go:build linux || darwin

package report

import (
	"os"
	"syscall"
	"unsafe"
)

// windowSize asks the terminal for its size. ok is false if the file is none.
func windowSize(file *os.File) (columns, rows int, ok bool) {
	conn, err := file.SyscallConn()
	if err != nil {
		return 0, 0, false
	}
	var size struct{ rows, columns, x, y uint16 }
	err = conn.Control(func(fd uintptr) {
		_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCGWINSZ, uintptr(unsafe.Pointer(&size)))
		ok = errno == 0
	})
	return int(size.columns), int(size.rows), ok && err == nil
}
