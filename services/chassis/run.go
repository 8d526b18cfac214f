// Package chassis is what every service stands on: start, readiness, drain and
// stop in one order, and the admin port.
//
// It does not: read the environment for anyone (config), speak gRPC (rpc) or
// Redis (redisconn), or know what a cart is.
//
// The hazard it handles is a process that stops while somebody still talks to
// it. On SIGTERM it tells everyone first and goes on serving, because endpoints
// and connections learn of it later than the process does; then it refuses new
// work and lets the rest finish within a bound; what the rest needs (Redis)
// closes last. All of this is in the process, since a forced pod delete skips
// a preStop hook and still sends SIGTERM.
package chassis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Settings are those that every service has.
type Settings struct {
	// Instance names this replica in answers, logs and metrics.
	Instance string `env:"INSTANCE"`
	// AdminAddr is where /metrics, /livez, /readyz and pprof are served.
	AdminAddr string     `env:"ADMIN_ADDR" envDefault:":9100"`
	LogLevel  slog.Level `env:"LOG_LEVEL" envDefault:"info"`
	// DrainDelay is how long the service goes on serving after SIGTERM.
	DrainDelay time.Duration `env:"DRAIN_DELAY" envDefault:"5s"`
	// StopTimeout bounds how long requests under way may take after that.
	StopTimeout time.Duration `env:"STOP_TIMEOUT" envDefault:"10s"`
}

// Validate names each fault.
func (s Settings) Validate() []error {
	var faults []error
	if s.DrainDelay < 0 || s.DrainDelay > 5*time.Minute {
		faults = append(faults, errors.New("COATCHECK_DRAIN_DELAY: must be 0 to 5m"))
	}
	if s.StopTimeout <= 0 || s.StopTimeout > 5*time.Minute {
		faults = append(faults, errors.New("COATCHECK_STOP_TIMEOUT: must be above 0 and at most 5m"))
	}
	return faults
}

// InstanceName is Instance, or the host's name where none is set. In a pod that
// is the pod's name.
func (s Settings) InstanceName() string {
	if s.Instance != "" {
		return s.Instance
	}
	if host, err := os.Hostname(); err == nil {
		return host
	}
	return "unknown"
}

// Part is one listener's server. Run calls Serve once, then Drain, Stop and
// Close in that order, each at most once.
type Part interface {
	// Serve answers on lis until Stop or Close; it returns nil after either.
	Serve(lis net.Listener) error
	// Drain tells clients to go elsewhere, and goes on serving them.
	Drain()
	// Stop refuses new work and returns when the work under way is done or ctx ends.
	Stop(ctx context.Context) error
	// Close ends everything at once.
	Close()
}

// Service is what Run runs.
type Service struct {
	Name     string // "cart"
	Settings Settings
	Log      *slog.Logger
	Registry *prometheus.Registry
	// Addr is where Part listens.
	Addr string
	Part Part
	// Ready is asked until it first answers nil; only then does /readyz say so.
	// It is not asked again: an outage of a shared store must not take every
	// endpoint away.
	Ready func(ctx context.Context) error
	// Close is called last, when nothing is served any more. May be nil.
	Close func()
	// GCPercent is GOGC where memory has a limit, for a service that keeps little
	// and makes much small garbage: the collector would run for nothing several
	// times a second. 0 leaves Go's own, as for one that allocates in large pieces.
	GCPercent int
	// Processors bounds how many the service uses at once, unless GOMAXPROCS is
	// set, for one that does little at a time: each further one is woken, and looks
	// for work, for nothing. 0 leaves Go's own, which is all that there are.
	Processors int
}

// TimerSlack is how late a timer of a service may be: little beside all its time
// limits, and enough for most to wait for the next that is due.
const TimerSlack = 5 * time.Millisecond

// Run starts the service and returns when it has drained and stopped: after
// SIGTERM or SIGINT, or when ctx ends. An error means that it could not start
// or that a listener failed.
func Run(ctx context.Context, s Service) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, os.Interrupt)
	defer stop()

	lis, err := net.Listen("tcp", s.Addr)
	if err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	adminLis, err := net.Listen("tcp", s.Settings.AdminAddr)
	if err != nil {
		_ = lis.Close()
		return fmt.Errorf("%s: admin: %w", s.Name, err)
	}
	limitMemory("/sys/fs/cgroup", s.GCPercent)
	limitProcessors(s.Processors)
	_ = SlackTimers(TimerSlack) // without, the service only costs more
	admin := newAdmin(s.Name, s.Settings, s.Registry)
	failed := make(chan error, 2)
	serve := func(what string, serve func(net.Listener) error, on net.Listener) {
		err := serve(on)
		if err == nil {
			err = net.ErrClosed // only drain may stop it, and then nobody listens here
		}
		failed <- fmt.Errorf("%s: %s: %w", s.Name, what, err)
	}
	go serve("admin", admin.serve, adminLis)
	go serve("serving", s.Part.Serve, lis)
	s.Log.Info("listening", "addr", lis.Addr().String(), "admin", adminLis.Addr().String())

	asking, cancel := context.WithCancel(ctx)
	go awaitReady(asking, s, admin)

	var failure error
	select {
	case <-ctx.Done():
		stop() // a second signal ends the process at once
	case failure = <-failed:
		s.Log.Error("stopping, because a listener failed", "err", failure)
	}
	cancel()
	drain(s, admin)
	return failure
}

func awaitReady(ctx context.Context, s Service, admin *admin) {
	warned := false
	for {
		try, cancel := context.WithTimeout(ctx, 2*time.Second)
		err := s.Ready(try)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			// Not if it drains by now.
			if admin.state.CompareAndSwap(starting, ready) {
				s.Log.Info("ready")
			}
			return
		case !warned:
			warned = true
			s.Log.Warn("not ready yet", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(250 * time.Millisecond):
		}
	}
}

// drain goes through the order that the package comment gives the reasons for.
func drain(s Service, admin *admin) {
	admin.drain()
	s.Part.Drain()
	s.Log.Info("draining", "delay", s.Settings.DrainDelay)
	time.Sleep(s.Settings.DrainDelay)
	ctx, cancel := context.WithTimeout(context.Background(), s.Settings.StopTimeout)
	defer cancel()
	if err := s.Part.Stop(ctx); err != nil {
		s.Log.Warn("requests were cut off", "err", err)
	}
	s.Part.Close()
	if s.Close != nil {
		s.Close()
	}
	s.Log.Info("stopped")
	flushLog(s.Log)
	admin.close()
}

// limitMemory lets the garbage collector work harder before the kernel kills the
// process: the soft limit is nine tenths of the container's (cgroup 2, else 1),
// if it has one and GOMEMLIMIT did not set another. Below a limit the collector
// may wait for more garbage: gcPercent, if that is not 0 and GOGC says nothing.
func limitMemory(cgroup string, gcPercent int) {
	if debug.SetMemoryLimit(-1) == math.MaxInt64 && !limitAsContainer(cgroup) {
		return
	}
	if gcPercent > 0 && os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}

func limitAsContainer(cgroup string) bool {
	for _, file := range []string{"memory.max", "memory/memory.limit_in_bytes"} {
		text, _ := os.ReadFile(filepath.Join(cgroup, file))
		limit, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
		if err == nil && limit > 0 && limit < 1<<50 { // cgroup 1 says "none" by a huge number
			debug.SetMemoryLimit(limit / 10 * 9)
			return true
		}
	}
	return false
}

func limitProcessors(most int) {
	if 0 < most && most < runtime.GOMAXPROCS(0) && os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(most)
	}
}
