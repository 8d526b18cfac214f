package process

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// Transfer is what a process has read and written by system calls.
type Transfer struct{ Reads, Writes, BytesRead, BytesWritten int64 }

// Minus is what came after earlier.
func (t Transfer) Minus(earlier Transfer) Transfer {
	return Transfer{t.Reads - earlier.Reads, t.Writes - earlier.Writes, t.BytesRead - earlier.BytesRead, t.BytesWritten - earlier.BytesWritten}
}

// given counts the ports that FreePorts has tried.
var given atomic.Uint32

// FreePorts returns n addresses on 127.0.0.1 that nobody listens on. They are
// below the range that kernels take for outgoing connections, so that nobody
// sits on one while a process is down. Each process has a hundred of them, in
// turn: one that is listened on only later is not given to another meanwhile,
// nor, as a rule, by another process that does the same.
func FreePorts(n int) ([]string, error) {
	const first, processes, each = 12_000, 80, 100
	var free []string
	for range each {
		port := first + os.Getpid()%processes*each + int(given.Add(1)%each)
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		lis, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		_ = lis.Close()
		if free = append(free, addr); len(free) == n {
			return free, nil
		}
	}
	return nil, errors.New("no free ports")
}

// Redis is a redis-server that keeps nothing on disk.
type Redis struct {
	Addr string
	PID  int
	cmd  *exec.Cmd
}

// StartRedis starts one on a free port and returns when it answers; args are
// added to its command line, and dir is its working directory.
func StartRedis(ctx context.Context, s *Starter, dir string, args ...string) (*Redis, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, errors.New("redis-server not found: apt-get install redis-server (Debian, Ubuntu) or brew install redis (macOS)")
	}
	free, err := FreePorts(1)
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(free[0])
	cmd := exec.Command(path, append([]string{"--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no", "--dir", dir}, args...)...)
	if err := s.Start(cmd); err != nil {
		return nil, err
	}
	r := &Redis{Addr: free[0], PID: cmd.Process.Pid, cmd: cmd}
	rdb := redis.NewClient(&redis.Options{Addr: r.Addr, MaxRetries: -1})
	defer func() { _ = rdb.Close() }()
	for deadline := time.Now().Add(10 * time.Second); rdb.Ping(ctx).Err() != nil; time.Sleep(20 * time.Millisecond) {
		if ctx.Err() != nil || time.Now().After(deadline) {
			r.Close()
			return nil, errors.New("redis-server does not answer")
		}
	}
	return r, nil
}

// Close ends it at once.
func (r *Redis) Close() {
	_ = r.cmd.Process.Kill()
	_ = r.cmd.Wait()
}
