package local

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// Ports come from below the range that kernels take for outgoing connections,
// so that nobody's connection sits on one while a process is down.
const (
	firstPort = 20_000
	lastPort  = 31_999
	// stride keeps the shops of neighbouring public ports apart.
	stride = 16
)

// reservation is a port and the supervisor that it belongs to.
type reservation struct {
	Port int `json:"port"`
	owner
}

// owner names one process for ever.
type owner struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"`
}

func (o owner) alive() bool {
	alive, start, err := identity(o.PID)
	return o.PID > 0 && err == nil && alive && start == o.Start
}

// awaitEnd returns when the process has ended or limit has passed.
func (o owner) awaitEnd(limit time.Duration) {
	for deadline := time.Now().Add(limit); o.alive() && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
}

// supervisor is this process.
func supervisor() owner {
	pid := os.Getpid()
	_, start, _ := identity(pid)
	return owner{PID: pid, Start: start}
}

// reservePorts returns n ports of 127.0.0.1 that can be listened on and that no
// other shop of this user holds, starting where public points to. They are this
// process's until release or its end.
func reservePorts(n, public int) (ports []int, release func(), err error) {
	self := supervisor()
	err = withReservations(func(held []reservation) ([]reservation, error) {
		size := lastPort - firstPort + 1
		for i := range size {
			port := firstPort + (public*stride+i)%size
			taken := slices.ContainsFunc(held, func(r reservation) bool { return r.Port == port })
			if taken || !free(port) {
				continue
			}
			ports = append(ports, port)
			if len(ports) == n {
				for _, port := range ports {
					held = append(held, reservation{Port: port, owner: self})
				}
				return held, nil
			}
		}
		return nil, fmt.Errorf("no %d free ports from %d to %d", n, firstPort, lastPort)
	})
	release = func() {
		_ = withReservations(func(held []reservation) ([]reservation, error) {
			return slices.DeleteFunc(held, func(r reservation) bool {
				return r.owner == self && slices.Contains(ports, r.Port)
			}), nil
		})
	}
	return ports, release, err
}

func free(port int) bool {
	lis, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return false
	}
	return lis.Close() == nil
}

// withReservations lets change replace the list of reservations of living
// supervisors, one process at a time.
func withReservations(change func([]reservation) ([]reservation, error)) error {
	path := filepath.Join(os.TempDir(), fmt.Sprintf("coatcheck-ports-%d.json", os.Getuid()))
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("the list of ports in use: %w", err)
	}
	defer func() { _ = file.Close() }()
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("locking %s: %w", path, err)
	}
	content, err := io.ReadAll(file)
	if err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	var held []reservation
	_ = json.Unmarshal(content, &held) // half-written by one that was killed: as if empty
	held, err = change(slices.DeleteFunc(held, func(r reservation) bool { return !r.alive() }))
	if err != nil {
		return err
	}
	if content, err = json.Marshal(held); err != nil {
		return err
	}
	if err := file.Truncate(0); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	if _, err := file.WriteAt(content, 0); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}
