// Package rediscrash crashes the machine under Redis, as far as that can be done
// without one: it traces what Redis has synced of its append-only file, kills
// Redis under writers, cuts off what was not synced, starts Redis again, and
// counts which acknowledged changes of carts are gone.
//
// The hazard is a proof that could not have failed. What a killed process has
// written stays in the kernel's cache, so a kill alone loses nothing under any
// policy. Run this with everysec too: if that loses nothing, the harness can't see loss.
package rediscrash

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"coatcheck/cart"
	"coatcheck/cart/redisstore"
)

// The policies: appendfsync of Redis.
const (
	Always   = "always"
	EverySec = "everysec"
)

const (
	linesPerCart = 50
	startBound   = 10 * time.Second
)

// Options say what to crash.
type Options struct {
	Policy  string
	Writers int           // each adds one line after the other, without a pause
	Length  time.Duration // until the kill; more than a second, so that everysec syncs too
}

// Result is what one crash did.
type Result struct {
	// Written and Synced are bytes of the append-only file at the kill; what lies
	// between them was cut off.
	Written, Synced int64
	// Acknowledged are lines whose addition was answered with success, and Lost
	// those of them that are not in their carts afterwards.
	Acknowledged, Lost int
	// Unanswered additions were under way at the kill; Applied of them are there.
	Unanswered, Applied int
}

// line is one line in one cart, that only one writer adds, once.
type line struct {
	owner cart.Owner
	sku   string
}

// Run makes one crash, in a temporary folder. It needs redis-server and strace.
func Run(ctx context.Context, o Options) (Result, error) {
	for _, program := range []string{"redis-server", "strace"} {
		if _, err := exec.LookPath(program); err != nil {
			return Result{}, fmt.Errorf("%s not found: apt-get install %s (tracing needs Linux)", program, program)
		}
	}
	dir, err := os.MkdirTemp("", "redis-crash-")
	if err != nil {
		return Result{}, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	s := &Server{Dir: dir, Policy: o.Policy}
	defer s.Kill()
	if err := s.Start(ctx, true); err != nil {
		return Result{}, err
	}
	acknowledged, unanswered, err := write(ctx, s, o)
	if err != nil {
		return Result{}, err
	}
	var r Result
	if r.Written, r.Synced, err = s.Cut(); err != nil {
		return r, err
	}
	if err := s.Start(ctx, false); err != nil {
		return r, fmt.Errorf("after the cut: %w", err)
	}
	r.Acknowledged, r.Unanswered = len(acknowledged), len(unanswered)
	there, err := read(ctx, s, slices.Concat(acknowledged, unanswered))
	for _, l := range acknowledged {
		if !there[l] {
			r.Lost++
		}
	}
	for _, l := range unanswered {
		if there[l] {
			r.Applied++
		}
	}
	return r, err
}

// write lets the writers add lines until the kill, and returns the lines whose
// addition was acknowledged, and those that nothing is known of.
func write(ctx context.Context, s *Server, o Options) (acknowledged, unanswered []line, err error) {
	store, rdb := s.store(o.Writers)
	defer func() { _ = rdb.Close() }()
	var mu sync.Mutex
	var writers sync.WaitGroup
	for w := range o.Writers {
		writers.Go(func() {
			for i := 0; ; i++ {
				l := line{cart.Owner(fmt.Sprintf("u_%04d%018d", w, i/linesPerCart)), fmt.Sprintf("sku-%d", i%linesPerCart)}
				_, err := store.Change(ctx, l.owner, cart.Change{
					Operation: cart.Operation{Key: string(l.owner) + l.sku},
					Kind:      cart.Add, Lines: []cart.Line{{SKU: l.sku, Quantity: 1}}, Minimal: true,
				})
				mu.Lock()
				if err != nil {
					unanswered = append(unanswered, l)
					mu.Unlock()
					return
				}
				acknowledged = append(acknowledged, l)
				mu.Unlock()
			}
		})
	}
	select {
	case <-ctx.Done():
		err = ctx.Err()
	case <-s.ended:
		err = errors.New("redis-server ended by itself")
	case <-time.After(o.Length):
	}
	s.Kill()
	writers.Wait()
	return acknowledged, unanswered, err
}

// read answers which lines are in their carts.
func read(ctx context.Context, s *Server, lines []line) (map[line]bool, error) {
	store, rdb := s.store(1)
	defer func() { _ = rdb.Close() }()
	there, seen := map[line]bool{}, map[cart.Owner]bool{}
	for _, l := range lines {
		if seen[l.owner] {
			continue
		}
		seen[l.owner] = true
		c, err := store.Get(ctx, l.owner)
		if err != nil {
			return nil, fmt.Errorf("reading a cart after the crash: %w", err)
		}
		for _, have := range c.Lines {
			there[line{l.owner, have.SKU}] = true
		}
	}
	return there, nil
}

// Server is a redis-server on a socket in Dir, which must be there. Its methods
// are for one goroutine.
type Server struct {
	Dir, Policy string
	cmd         *exec.Cmd
	ended       chan struct{} // closed when cmd has ended
}

// Socket is where it listens.
func (s *Server) Socket() string { return s.path("socket") }

// Trace is the file in which each write and sync shows as it happens.
func (s *Server) Trace() string { return s.path("trace") }

func (s *Server) path(name ...string) string {
	return filepath.Join(append([]string{s.Dir}, name...)...)
}

// Start starts Redis and returns when it takes commands. Only the first start, on
// no data, can be traced.
func (s *Server) Start(ctx context.Context, traced bool) error {
	args := []string{"redis-server", "--port", "0", "--unixsocket", s.Socket(), "--dir", s.Dir, "--save", "",
		"--appendonly", "yes", "--appendfsync", s.Policy, "--auto-aof-rewrite-percentage", "0", "--logfile", s.path("log"), "--daemonize", "no"}
	if traced {
		// -D: strace is the child, and Redis the process that is started here.
		args = slices.Concat([]string{"strace", "-D", "-f", "-y", "-qq", "-s", "0", "-e", "trace=write,fdatasync", "-o", s.Trace()}, args)
	}
	s.cmd, s.ended = exec.Command(args[0], args[1:]...), make(chan struct{})
	var said bytes.Buffer
	s.cmd.Stdout, s.cmd.Stderr, s.cmd.WaitDelay = &said, &said, time.Second
	endWithParent(s.cmd)
	_ = os.Remove(s.Socket()) // a killed server leaves it
	if err := s.cmd.Start(); err != nil {
		return fmt.Errorf("starting redis-server: %w", err)
	}
	go func(cmd *exec.Cmd, ended chan struct{}) {
		_ = cmd.Wait()
		close(ended)
	}(s.cmd, s.ended)

	_, rdb := s.store(1)
	defer func() { _ = rdb.Close() }()
	for deadline := time.Now().Add(startBound); ; time.Sleep(10 * time.Millisecond) {
		_, err := os.Stat(s.Socket())
		if err == nil {
			err = rdb.Ping(ctx).Err()
		}
		if err == nil {
			return nil
		}
		select {
		case <-s.ended:
			return fmt.Errorf("redis-server does not stay up: %s", bytes.TrimSpace(said.Bytes()))
		default:
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			return fmt.Errorf("redis-server does not answer: %w", err)
		}
	}
}

// Kill is kill -9. It returns when the process has ended.
func (s *Server) Kill() {
	if s.cmd == nil || s.cmd.Process == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	<-s.ended
}

// store is the shop's own.
func (s *Server) store(connections int) (*redisstore.Store, *redis.Client) {
	rdb := redis.NewClient(&redis.Options{Network: "unix", Addr: s.Socket(), MaxRetries: -1, DialerRetries: 1, PoolSize: connections, ContextTimeoutEnabled: true})
	return redisstore.New(rdb, redisstore.Settings{
		GuestCartLife: time.Hour, UserCartLife: time.Hour, OrderLife: time.Hour, Window: time.Hour,
		Limits: cart.Limits{Quantity: 999, Lines: linesPerCart}, Now: time.Now,
	}), rdb
}

// Cut, after Kill of a server that was traced, waits for the end of the trace and
// cuts off what was not synced.
func (s *Server) Cut() (written, synced int64, err error) {
	const name = "appendonly.aof.1.incr.aof"
	end := regexp.MustCompile(fmt.Sprintf(`(?m)^%d +\+\+\+ killed by SIGKILL`, s.cmd.Process.Pid))
	var trace []byte
	for deadline := time.Now().Add(startBound); ; time.Sleep(10 * time.Millisecond) {
		if trace, err = os.ReadFile(s.Trace()); err != nil {
			return 0, 0, fmt.Errorf("the trace: %w", err)
		}
		if end.Match(trace) {
			break
		}
		if time.Now().After(deadline) {
			return 0, 0, errors.New("the trace does not come to its end")
		}
	}
	file := s.path("appendonlydir", name)
	if synced, err = syncedLength(bytes.NewReader(trace), file); err != nil {
		return 0, 0, err
	}
	info, err := os.Stat(file)
	if err != nil {
		return 0, 0, fmt.Errorf("the append-only file: %w", err)
	}
	if synced > info.Size() {
		return info.Size(), synced, fmt.Errorf("%d bytes were synced of a file of %d: the trace was misread", synced, info.Size())
	}
	return info.Size(), synced, os.Truncate(file, synced)
}
