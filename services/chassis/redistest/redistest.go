// Package redistest runs a real redis-server for a test. Only tests import it.
package redistest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Server is a redis-server of the test's own on 127.0.0.1, as durable as the
// shop's: AOF with appendfsync always.
type Server struct {
	Addr string
	dir  string
	args []string
	cmd  *exec.Cmd
}

// Start runs a redis-server until the test ends; args are added to its command
// line. It fails the test where there is no redis-server.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	// Not t.TempDir: its name can be too long for what Redis makes in it.
	dir, err := os.MkdirTemp("", "redistest")
	if err != nil {
		t.Fatal(err)
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Addr: lis.Addr().String(), dir: dir, args: args}
	_ = lis.Close()
	t.Cleanup(func() {
		s.Kill()
		_ = os.RemoveAll(dir)
	})
	s.Restart(t)
	return s
}

// Restart starts the server after Kill, on the same address and data.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatal("redis-server not found: apt-get install redis-server, or see redis.io")
	}
	_, port, _ := net.SplitHostPort(s.Addr)
	s.cmd = exec.Command(path, append([]string{
		"--bind", "127.0.0.1", "--port", port, "--dir", s.dir, "--save", "", "--appendonly", "yes",
		"--appendfsync", "always", "--logfile", filepath.Join(s.dir, "log"), "--daemonize", "no",
	}, s.args...)...)
	endWithParent(s.cmd)
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	rdb := redis.NewClient(&redis.Options{Addr: s.Addr, MaxRetries: -1})
	defer func() { _ = rdb.Close() }()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		err := rdb.Ping(context.Background()).Err()
		if err == nil || redis.HasErrorPrefix(err, "NOAUTH") {
			return
		}
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			t.Fatalf("redis-server does not answer: %v\n%s", err, log)
		}
	}
}

// Kill ends the server as kill -9 does.
func (s *Server) Kill() {
	if s.cmd != nil && s.cmd.Process != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
	}
}

// Signal sends the server a signal, such as SIGSTOP for one that hangs.
func (s *Server) Signal(t testing.TB, sig os.Signal) {
	t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		t.Error(err)
	}
}

// userPassword is that of all users of User.
const userPassword = "of a test"

// User are arguments of Start for a user with rules as ACL has them.
func User(name, rules string) []string {
	return append([]string{"--user", name, "on", "#" + hash(userPassword)}, strings.Fields(rules)...)
}

func hash(password string) string {
	sum := sha256.Sum256([]byte(password))
	return hex.EncodeToString(sum[:])
}

// Client returns a client without retries that is closed when the test ends.
func (s *Server) Client(t testing.TB) *redis.Client { return s.client(t, "", "") }

// ClientOf is the same for a user of User.
func (s *Server) ClientOf(t testing.TB, user string) *redis.Client {
	return s.client(t, user, userPassword)
}

func (s *Server) client(t testing.TB, user, password string) *redis.Client {
	rdb := redis.NewClient(&redis.Options{Addr: s.Addr, Username: user, Password: password, MaxRetries: -1, ContextTimeoutEnabled: true,
		DialTimeout: time.Second, DialerRetries: 1, ReadTimeout: time.Second, WriteTimeout: time.Second, PoolSize: 128})
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// Age puts every expiry forward by d, as if d had passed: Redis has no clock
// that could be set.
func (s *Server) Age(t testing.TB, d time.Duration) {
	t.Helper()
	rdb := s.Client(t)
	ctx := context.Background()
	err := redis.NewScript(`
for _, key in ipairs(redis.call('KEYS', '*')) do
  local left = redis.call('PTTL', key)
  if left >= 0 then
    if left <= tonumber(ARGV[1]) then redis.call('DEL', key) else redis.call('PEXPIRE', key, left - tonumber(ARGV[1])) end
  end
end
return 1`).Run(ctx, rdb, nil, d.Milliseconds()).Err()
	if err != nil {
		t.Fatal(fmt.Errorf("aging the data: %w", err))
	}
}
