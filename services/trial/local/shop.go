// Package local runs one whole shop on this machine: a real Redis, the
// replicas of gateway, auth and cart as processes of their own, and one public
// address that spreads connections over the gateways.
//
// It does not build anything, and knows of the services only their settings, and
// what each may ask of Redis, where it has a user of its own.
//
// The hazards are what such a thing leaves behind and whom it disturbs: a
// child must not outlive its supervisor, however that ends; a process id that
// was given to somebody else must never be signalled; and two shops on one
// machine must not take each other's ports, not even while a process of one is
// down for a second.
package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"coatcheck/trial/process"
)

const (
	// restartDelay is how long a process that ended stays away, unless said otherwise.
	restartDelay = time.Second
	// drainDelay and stopTimeout are the services' own bounds in a local shop.
	drainDelay  = 300 * time.Millisecond
	stopTimeout = 3 * time.Second
	// stopGrace is how long a process may take to end before it is killed.
	stopGrace = drainDelay + stopTimeout + time.Second
	// memoryLimit has gateways and carts collect garbage as they do in a pod: nine
	// tenths of what the chart lets one have.
	memoryLimit = "GOMEMLIMIT=172MiB"
)

// The roles of a shop's processes.
const (
	Gateway = "gateway"
	Auth    = "auth"
	Cart    = "cart"
	Redis   = "redis"
)

// The states of a process.
const (
	Running    = "running"    // the process is there; whether it is ready, it says itself
	Restarting = "restarting" // it ended and is started again after a moment
	Stopped    = "stopped"    // it is held down until StartProcess
)

// Options say which shop. The zero value is not usable: State and Bin are needed.
type Options struct {
	// Port is the public one on 127.0.0.1; 0 takes any free one.
	Port int
	// State is the shop's folder: data, keys, logs, shop.json. It is made where
	// it is missing, and what it holds is used again.
	State string
	// Bin is the folder with the binaries gateway, auth and cart.
	Bin string
	// Gateways, Auths and Carts are the numbers of replicas; 0 means 2, 2 and 3.
	Gateways, Auths, Carts int
	// Spares is how many more replicas of each role may come later. Their
	// addresses are known to the others from the start and refuse connections
	// until then. A spare is Stopped: StartProcess adds it, and StopProcess takes
	// any replica away.
	Spares int
	// RestartDelay is how long a process that ended stays away; 0 means a second.
	RestartDelay time.Duration
	// Watch, if set, is a folder with a folder rules, such as the chart, and has a
	// Prometheus run beside the shop that evaluates them and scrapes whoever runs.
	Watch string
	// Trial, if set, is where a trial of this shop shows its metrics, host:port,
	// for that Prometheus to scrape too.
	Trial string
	// Env holds settings of a role's processes that go before the shop's own:
	// {"cart": {"COATCHECK_MAX_LINES=1000"}}.
	Env map[string][]string
	// Through, if set, is asked which address the processes of one role shall use
	// for a process of another ("gateway", "cart-2", its address), so that
	// something can be put in between. It is asked once for each such pair.
	Through func(from, to, addr string) (string, error)
	// Log gets what happens to the processes; nil means nowhere.
	Log *slog.Logger
}

// Process is one process of a shop, as shop.json shows it.
type Process struct {
	Role string `json:"role"`
	Name string `json:"name"` // "cart-2"; its COATCHECK_INSTANCE
	PID  int    `json:"pid"`  // 0 while it does not run
	// Start is when the process started, in the system's own unit. With PID it
	// names one process for ever.
	Start    uint64 `json:"start"`
	Address  string `json:"address"`
	Admin    string `json:"admin,omitempty"` // where /readyz and /metrics are asked; Redis and Prometheus have none
	Restarts int    `json:"restarts"`        // how often it was started again
	State    string `json:"state"`
}

// readyURL is where the process says whether it is ready, "" if it says nothing.
func (p Process) readyURL() string {
	switch {
	case p.Role == Prometheus:
		return "http://" + p.Address + "/-/ready"
	case p.Admin != "":
		return "http://" + p.Admin + "/readyz"
	}
	return ""
}

// Shop is a running shop. Its methods may be called from many goroutines.
type Shop struct {
	options Options
	address string
	front   *front
	starter *process.Starter
	lock    *os.File
	release func()
	close   sync.Once

	mu       sync.Mutex
	children []*child
}

// child is one process with what it takes to start it again.
type child struct {
	Process
	path string
	args []string
	env  []string
	log  *os.File

	held  bool          // do not start it again
	cmd   *exec.Cmd     // nil while it does not run
	ended chan struct{} // closed when cmd has ended
	again *time.Timer
}

// Start starts a shop and returns when its processes run; AwaitReady tells when
// they serve. A shop that already runs in the same state folder, a missing
// binary and a taken port are errors. The caller closes the shop; should it
// die instead, the processes die with it.
func Start(o Options) (*Shop, error) {
	if o.Gateways == 0 {
		o.Gateways = 2
	}
	if o.Auths == 0 {
		o.Auths = 2
	}
	if o.Carts == 0 {
		o.Carts = 3
	}
	if o.RestartDelay == 0 {
		o.RestartDelay = restartDelay
	}
	if o.Through == nil {
		o.Through = func(_, _, addr string) (string, error) { return addr, nil }
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	var err error
	if o.State, err = filepath.Abs(o.State); err != nil {
		return nil, fmt.Errorf("the state folder: %w", err)
	}
	if o.Bin, err = filepath.Abs(o.Bin); err != nil {
		return nil, fmt.Errorf("the folder of the binaries: %w", err)
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	lock, err := lockState(o.State)
	if err != nil {
		return nil, err
	}
	s := &Shop{options: o, lock: lock, release: func() {}}
	if err := s.open(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// check finds what is missing before anything is started.
func (o Options) check() error {
	if _, err := exec.LookPath("redis-server"); err != nil {
		return errors.New("redis-server not found: apt-get install redis-server (Debian, Ubuntu) or brew install redis (macOS)")
	}
	for _, role := range []string{Gateway, Auth, Cart} {
		if _, err := exec.LookPath(filepath.Join(o.Bin, role)); err != nil {
			return fmt.Errorf("no binary %s: run make build", filepath.Join(o.Bin, role))
		}
	}
	return o.checkWatch()
}

func (s *Shop) open() error {
	o := s.options
	// A supervisor that crashed may have left processes, where the system does
	// not end them by itself.
	if old, err := readInfo(o.State); err == nil {
		endLeftovers(old)
	}
	lis, err := listenPublic(o.Port)
	if err != nil {
		return err
	}
	s.address = lis.Addr().String()
	s.front = &front{listener: lis}

	port := lis.Addr().(*net.TCPAddr).Port
	wanted := 1 + 2*(o.Gateways+o.Auths+o.Carts+3*o.Spares)
	if o.Watch != "" {
		wanted++
	}
	ports, release, err := reservePorts(wanted, port)
	if err != nil {
		_ = lis.Close()
		return err
	}
	s.release = release
	files, err := prepare(o.State, ports[0])
	if err != nil {
		_ = lis.Close()
		return err
	}
	if err := s.plan(files, ports); err != nil {
		_ = lis.Close()
		return err
	}
	s.starter = process.NewStarter()
	s.front.run()

	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.children {
		if c.held {
			continue
		}
		if err := s.start(c); err != nil {
			return err
		}
	}
	return s.save()
}

// plan lays out the processes: who listens where, and with which settings.
func (s *Shop) plan(files files, ports []int) error {
	o := s.options
	take := func() string {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[0]))
		ports = ports[1:]
		return addr
	}
	redisPath, err := exec.LookPath("redis-server")
	if err != nil {
		return err
	}
	redis := &child{Process: Process{Role: Redis, Name: Redis, Address: take()}, path: redisPath, args: []string{files.redisConf}}
	s.children = append(s.children, redis)

	add := func(role string, n int) {
		for i := range n + o.Spares {
			c := &child{path: filepath.Join(o.Bin, role), held: i >= n}
			c.Role, c.Name, c.State = role, fmt.Sprintf("%s-%d", role, i+1), Stopped
			c.Address, c.Admin = take(), take()
			c.env = []string{
				"COATCHECK_INSTANCE=" + c.Name,
				"COATCHECK_ADMIN_ADDR=" + c.Admin,
				"COATCHECK_DRAIN_DELAY=" + drainDelay.String(),
				"COATCHECK_STOP_TIMEOUT=" + stopTimeout.String(),
			}
			s.children = append(s.children, c)
		}
	}
	add(Auth, o.Auths)
	add(Cart, o.Carts)
	add(Gateway, o.Gateways)
	if o.Watch != "" {
		watch, err := s.planWatch(take())
		if err != nil {
			return err
		}
		s.children = append(s.children, watch)
	}

	// addresses are those under which one role finds another.
	addresses := func(from, to string) (string, error) {
		var addrs []string
		for _, c := range s.children {
			if c.Role != to {
				continue
			}
			addr, err := o.Through(from, c.Name, c.Address)
			if err != nil {
				return "", fmt.Errorf("the way from %s to %s: %w", from, c.Name, err)
			}
			addrs = append(addrs, addr)
		}
		return strings.Join(addrs, ","), nil
	}
	settings := map[string][]string{
		// All clients of such a shop are one address: what the limits would count is
		// this machine. Env can set them.
		Gateway: {memoryLimit, "COATCHECK_PLAIN_HTTP=true", "COATCHECK_STOREFRONT=true", "COATCHECK_ADDRESS_RATE=0", "COATCHECK_TICKET_RATE=0"},
		Auth: {"COATCHECK_SIGNING_KEYS_FILE=" + files.signingKeys, "COATCHECK_REDIS_USERNAME=" + Auth, "COATCHECK_REDIS_PASSWORD_FILE=" + files.redisPasswords[Auth],
			"COATCHECK_LOGIN_RATE=0", "COATCHECK_ACCOUNT_LOGIN_RATE=0", "COATCHECK_REGISTRATION_RATE=0"},
		Cart: {memoryLimit, "COATCHECK_REDIS_USERNAME=" + Cart, "COATCHECK_REDIS_PASSWORD_FILE=" + files.redisPasswords[Cart]},
	}
	for _, way := range []struct{ from, to, setting string }{
		{Gateway, Auth, "COATCHECK_AUTH_ADDR="},
		{Gateway, Cart, "COATCHECK_CART_ADDR="},
		{Cart, Auth, "COATCHECK_AUTH_ADDR="},
		{Auth, Redis, "COATCHECK_REDIS_ADDRS="},
		{Cart, Redis, "COATCHECK_REDIS_ADDRS="},
	} {
		addrs, err := addresses(way.from, way.to)
		if err != nil {
			return err
		}
		settings[way.from] = append(settings[way.from], way.setting+addrs)
	}

	inherited := withoutSettings(os.Environ())
	for _, c := range s.children {
		c.env = append(c.env, settings[c.Role]...)
		switch c.Role {
		case Gateway:
			c.env = append(c.env, "COATCHECK_HTTP_ADDR="+c.Address)
			s.front.backends = append(s.front.backends, &backend{address: c.Address, admin: c.Admin})
		case Auth, Cart:
			c.env = append(c.env, "COATCHECK_GRPC_ADDR="+c.Address)
		}
		c.env = slices.Concat(inherited, c.env, o.Env[c.Role])
		if c.log, err = os.OpenFile(filepath.Join(o.State, "log", c.Name+".log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600); err != nil {
			return fmt.Errorf("opening the log of %s: %w", c.Name, err)
		}
	}
	return nil
}

// withoutSettings drops what would be settings of a service by accident.
func withoutSettings(environ []string) []string {
	var kept []string
	for _, kv := range environ {
		if !strings.HasPrefix(kv, "COATCHECK_") {
			kept = append(kept, kv)
		}
	}
	return kept
}

// start starts c. s.mu is held.
func (s *Shop) start(c *child) error {
	cmd := exec.Command(c.path, c.args...)
	cmd.Env, cmd.Dir = c.env, s.options.State
	cmd.Stdout, cmd.Stderr = c.log, c.log
	if err := s.starter.Start(cmd); err != nil {
		return fmt.Errorf("starting %s: %w", c.Name, err)
	}
	c.cmd, c.ended = cmd, make(chan struct{})
	c.PID, c.State = cmd.Process.Pid, Running
	// Nobody has waited for the process yet, so its id can't be another's.
	_, c.Start, _ = identity(c.PID)
	s.options.Log.Info("started", "name", c.Name, "pid", c.PID, "addr", c.Address)
	go s.await(c, cmd, c.ended)
	return nil
}

// await waits for the end of one process, and has it started again.
func (s *Shop) await(c *child, cmd *exec.Cmd, ended chan struct{}) {
	err := cmd.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.options.Log.Info("ended", "name", c.Name, "pid", c.PID, "how", fmt.Sprint(err), "held", c.held)
	if c.Role == Gateway {
		s.front.down(c.Address)
	}
	c.cmd, c.PID, c.Start, c.State = nil, 0, 0, Stopped
	if !c.held {
		s.startLater(c)
	}
	s.saved()
	close(ended)
}

func (s *Shop) startLater(c *child) {
	c.State = Restarting
	c.again = time.AfterFunc(s.options.RestartDelay, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if c.held || c.cmd != nil {
			return
		}
		c.Restarts++
		if err := s.start(c); err != nil {
			s.options.Log.Error("start failed", "name", c.Name, "err", err)
			s.startLater(c)
		}
		s.saved()
	})
}

// saved writes shop.json. s.mu is held.
func (s *Shop) saved() {
	if err := s.save(); err != nil {
		s.options.Log.Error("shop.json was not written", "err", err)
	}
}

func (s *Shop) save() error {
	info := info{Address: s.address, Supervisor: supervisor(), Processes: s.processes()}
	if err := writeInfo(s.options.State, info); err != nil || s.options.Watch == "" {
		return err
	}
	return s.saveTargets()
}

// Address is the public one, host:port.
func (s *Shop) Address() string { return s.address }

// Processes returns all processes of the shop as they are now.
func (s *Shop) Processes() []Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.processes()
}

func (s *Shop) processes() []Process {
	list := make([]Process, 0, len(s.children))
	for _, c := range s.children {
		list = append(list, c.Process)
	}
	return list
}

// AwaitReady returns nil once every process that is not held down is ready and
// the public address serves a cart, else an error that names who is not ready
// when ctx ends.
func (s *Shop) AwaitReady(ctx context.Context) error {
	return awaitReady(ctx, func() (info, error) {
		return info{Address: s.address, Processes: s.Processes()}, nil
	})
}

// Kill sends sig to the named process. One that this ends is started again
// after the restart delay. It is an error if the process does not run.
func (s *Shop) Kill(name string, sig syscall.Signal) error {
	c, err := s.find(name)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.cmd == nil {
		return fmt.Errorf("%s does not run", name)
	}
	if err := c.cmd.Process.Signal(sig); err != nil {
		return fmt.Errorf("sending %v to %s: %w", sig, name, err)
	}
	return nil
}

// StopProcess ends the named process (SIGTERM, later SIGKILL) and holds it down
// until StartProcess. It returns when the process has ended.
func (s *Shop) StopProcess(name string) error {
	c, err := s.find(name)
	if err != nil {
		return err
	}
	s.stop(c)
	return nil
}

// StartProcess starts the named process at once if it does not run. It does
// not wait until it is ready.
func (s *Shop) StartProcess(name string) error {
	c, err := s.find(name)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c.held = false
	if c.cmd != nil {
		return nil
	}
	if c.ended != nil { // a spare's first start is no restart
		c.Restarts++
	}
	if err := s.start(c); err != nil {
		s.startLater(c)
		return err
	}
	return s.save()
}

func (s *Shop) find(name string) (*child, error) {
	for _, c := range s.children {
		if c.Name == name {
			return c, nil
		}
	}
	return nil, fmt.Errorf("the shop has no process %q", name)
}

func (s *Shop) stop(c *child) {
	s.mu.Lock()
	c.held = true
	if c.again != nil {
		c.again.Stop()
	}
	cmd, ended := c.cmd, c.ended
	if cmd == nil {
		c.State = Stopped
		s.saved()
	}
	s.mu.Unlock()
	if cmd == nil {
		return
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-ended:
	case <-time.After(stopGrace):
		s.options.Log.Warn("killed, since it did not end", "name", c.Name)
		_ = cmd.Process.Kill()
		<-ended
	}
}

// Close stops the shop in order: the public address and the gateways, then auth
// and cart, then Redis, then who watched. It returns when every process has ended. The data stay.
func (s *Shop) Close() {
	s.close.Do(func() {
		if s.front != nil {
			_ = s.front.listener.Close()
		}
		for _, roles := range [][]string{{Gateway}, {Auth, Cart}, {Redis}, {Prometheus}} {
			var group sync.WaitGroup
			for _, c := range s.children {
				if s.starter != nil && slices.Contains(roles, c.Role) {
					group.Go(func() { s.stop(c) })
				}
			}
			group.Wait()
		}
		if s.starter != nil {
			s.front.close()
			s.starter.Close()
		}
		for _, c := range s.children {
			_ = c.log.Close()
		}
		s.release()
		removeInfo(s.options.State)
		_ = s.lock.Close()
	})
}

// listenPublic says in one line whose port it is not.
func listenPublic(port int) (net.Listener, error) {
	lis, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("port %d is taken by another program: choose another one (make up PORT=%d)", port, port+1)
	}
	if err != nil {
		return nil, fmt.Errorf("the public address: %w", err)
	}
	return lis, nil
}

// awaitReady asks until the shop that look describes serves.
func awaitReady(ctx context.Context, look func() (info, error)) error {
	for {
		shop, err := look()
		if err == nil {
			err = serves(ctx, shop)
		}
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the shop does not serve: %w", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// serves returns nil if all of the shop answers.
func serves(ctx context.Context, shop info) error {
	for _, p := range shop.Processes {
		if p.State == Stopped {
			continue
		}
		if p.State != Running {
			return fmt.Errorf("%s is %s", p.Name, p.State)
		}
		if url := p.readyURL(); url != "" {
			if err := get(ctx, url); err != nil {
				return fmt.Errorf("%s: %w", p.Name, err)
			}
		}
	}
	for _, path := range []string{"/readyz", "/v1/cart"} {
		if err := get(ctx, "http://"+shop.Address+path); err != nil {
			return err
		}
	}
	return nil
}

// get returns nil if url answers 200 within a second or two.
func get(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %d", url, resp.StatusCode)
	}
	return nil
}
