package local

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// testOptions are a shop of stand-ins with a state folder of its own.
func testOptions(t *testing.T) Options {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Fatal("redis-server not found: apt-get install redis-server")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	for _, role := range []string{Gateway, Auth, Cart} {
		if err := os.Symlink(self, filepath.Join(bin, role)); err != nil {
			t.Fatal(err)
		}
	}
	return Options{State: filepath.Join(t.TempDir(), "state"), Bin: bin}
}

func open(t *testing.T, o Options) *Shop {
	t.Helper()
	shop, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(shop.Close)
	ready(t, shop)
	return shop
}

func ready(t *testing.T, shop *Shop) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := shop.AwaitReady(ctx); err != nil {
		t.Fatal(err)
	}
}

func byName(t *testing.T, list []Process, name string) Process {
	t.Helper()
	i := slices.IndexFunc(list, func(p Process) bool { return p.Name == name })
	if i < 0 {
		t.Fatalf("no process %s in %v", name, list)
	}
	return list[i]
}

// within waits until holds does.
func within(t *testing.T, limit time.Duration, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

func running(pid int) bool {
	alive, _, err := identity(pid)
	return err == nil && alive
}

// freePort is one that nobody listens on at the moment.
func freePort(t *testing.T) int {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lis.Close() }()
	return lis.Addr().(*net.TCPAddr).Port
}

func TestEndedProcessComesBackOnItsPort(t *testing.T) {
	t.Parallel()
	shop := open(t, testOptions(t))
	for _, name := range []string{"gateway-1", "auth-2", "cart-3", "redis"} {
		before := byName(t, shop.Processes(), name)
		killed := time.Now()
		if err := shop.Kill(name, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		within(t, 5*time.Second, name+" runs again", func() bool {
			now := byName(t, shop.Processes(), name)
			return now.State == Running && now.PID != before.PID
		})
		if away := time.Since(killed); away < time.Second {
			t.Errorf("%s was away %v, want a second", name, away)
		}
		after := byName(t, shop.Processes(), name)
		if after.Restarts != 1 || after.Address != before.Address || after.Admin != before.Admin {
			t.Errorf("%s came back as %+v, was %+v", name, after, before)
		}
	}
	ready(t, shop)
}

func TestStoppedProcessIsHeldDown(t *testing.T) {
	t.Parallel()
	shop := open(t, testOptions(t))
	if err := shop.StopProcess("redis"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(restartDelay + 300*time.Millisecond)
	if p := byName(t, shop.Processes(), "redis"); p.State != Stopped || p.PID != 0 {
		t.Errorf("held down, but %+v", p)
	}
	if err := shop.Kill("redis", syscall.SIGKILL); err == nil {
		t.Error("a process that does not run was killed")
	}
	if err := shop.StartProcess("redis"); err != nil {
		t.Fatal(err)
	}
	if p := byName(t, shop.Processes(), "redis"); p.State != Running || p.Restarts != 1 {
		t.Errorf("started again, but %+v", p)
	}
	if err := shop.StopProcess("cart-9"); err == nil {
		t.Error("a process that the shop does not have was stopped")
	}
}

func TestSparesComeAndGo(t *testing.T) {
	t.Parallel()
	o := testOptions(t)
	o.Spares, o.RestartDelay = 1, 100*time.Millisecond
	shop := open(t, o)
	for _, name := range []string{"auth-3", "cart-4", "gateway-3"} {
		if p := byName(t, shop.Processes(), name); p.State != Stopped {
			t.Errorf("before it comes, %+v", p)
		}
	}
	if err := shop.StartProcess("gateway-3"); err != nil {
		t.Fatal(err)
	}
	ready(t, shop)
	if p := byName(t, shop.Processes(), "gateway-3"); p.State != Running || p.Restarts != 0 {
		t.Errorf("after it came, %+v", p)
	}
	within(t, 2*time.Second, "the new gateway gets its share", func() bool { return servedBy(t, shop, 9)["gateway-3"] == 3 })
	if err := shop.StopProcess("gateway-1"); err != nil {
		t.Fatal(err)
	}
	ready(t, shop)
	if count := servedBy(t, shop, 10); count["gateway-1"] != 0 || count["gateway-3"] != 5 {
		t.Errorf("after gateway-1 went: %v", count)
	}
	killed := time.Now()
	if err := shop.Kill("cart-1", syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	within(t, 900*time.Millisecond, "cart-1 is back after the short delay", func() bool { return byName(t, shop.Processes(), "cart-1").Restarts == 1 })
	if away := time.Since(killed); away < o.RestartDelay {
		t.Errorf("cart-1 was away %v", away)
	}
}

// TestThroughAndEnv asks the stand-ins what they were told.
func TestThroughAndEnv(t *testing.T) {
	t.Parallel()
	o := testOptions(t)
	o.Spares = 1
	o.Env = map[string][]string{Cart: {"COATCHECK_MAX_LINES=7", "COATCHECK_DRAIN_DELAY=0s"}}
	var mu sync.Mutex
	ways := map[string]string{}
	o.Through = func(from, to, addr string) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		ways[from+">"+to] = addr
		return from + ">" + to, nil
	}
	shop := open(t, o)
	for _, c := range shop.children {
		setting := func(name string) string {
			value := ""
			for _, kv := range c.env {
				if v, ok := strings.CutPrefix(kv, name+"="); ok {
					value = v // the last one counts
				}
			}
			return value
		}
		want := map[string]string{}
		switch c.Role {
		case Gateway:
			want["COATCHECK_AUTH_ADDR"] = "gateway>auth-1,gateway>auth-2,gateway>auth-3"
			want["COATCHECK_CART_ADDR"] = "gateway>cart-1,gateway>cart-2,gateway>cart-3,gateway>cart-4"
			want["COATCHECK_DRAIN_DELAY"] = drainDelay.String()
		case Auth:
			want["COATCHECK_REDIS_ADDRS"] = "auth>redis"
		case Cart:
			want["COATCHECK_REDIS_ADDRS"], want["COATCHECK_MAX_LINES"], want["COATCHECK_DRAIN_DELAY"] = "cart>redis", "7", "0s"
			want["COATCHECK_AUTH_ADDR"] = "cart>auth-1,cart>auth-2,cart>auth-3"
		}
		for name, value := range want {
			if got := setting(name); got != value {
				t.Errorf("%s has %s=%q, want %q", c.Name, name, got, value)
			}
		}
		if addr, asked := ways["gateway>"+c.Name]; asked && addr != c.Address {
			t.Errorf("the way to %s was asked for as %s", c.Name, addr)
		}
	}
	if len(ways) != 12 {
		t.Errorf("asked for %v", ways)
	}
	broken := testOptions(t)
	broken.Through = func(string, string, string) (string, error) { return "", errors.New("no way") }
	if shop, err := Start(broken); err == nil {
		shop.Close()
		t.Error("a shop without ways started")
	}
}

func TestCloseEndsEveryProcess(t *testing.T) {
	t.Parallel()
	o := testOptions(t)
	shop := open(t, o)
	list := shop.Processes()
	// One that is away for its second must not come back either.
	if err := shop.Kill("cart-1", syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	shop.Close()
	shop.Close()
	time.Sleep(restartDelay + 200*time.Millisecond)
	for _, p := range append(list, shop.Processes()...) {
		if p.PID != 0 && running(p.PID) {
			t.Errorf("%s still runs", p.Name)
		}
	}
	if _, err := os.Stat(infoPath(o.State)); err == nil {
		t.Error("shop.json is still there")
	}
}

func TestOneShopAState(t *testing.T) {
	t.Parallel()
	o := testOptions(t)
	open(t, o)
	o.Port = 0
	if shop, err := Start(o); err == nil {
		shop.Close()
		t.Error("a second shop started in the same state folder")
	}
}

func TestDataKeysAndPasswordSurvive(t *testing.T) {
	t.Parallel()
	o := testOptions(t)
	shop := open(t, o)
	redis := byName(t, shop.Processes(), "redis")
	if got := ask(t, o, redis.Address, "SET coat 17"); got != "+OK" {
		t.Fatalf("SET answers %q", got)
	}
	if got := ask(t, o, redis.Address, "CONFIG GET maxmemory-policy"); !strings.Contains(got, "noeviction") {
		t.Errorf("maxmemory-policy: %q", got)
	}
	key, err := os.ReadFile(filepath.Join(o.State, "keys", "signing-keys.pem"))
	if err != nil {
		t.Fatal(err)
	}
	shop.Close()

	shop = open(t, o)
	redis = byName(t, shop.Processes(), "redis")
	within(t, 5*time.Second, "the value is there after down and up", func() bool {
		return strings.HasSuffix(ask(t, o, redis.Address, "GET coat"), "17")
	})
	if err := shop.Kill("redis", syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	within(t, 5*time.Second, "redis is back", func() bool {
		return byName(t, shop.Processes(), "redis").Restarts == 1
	})
	within(t, 5*time.Second, "the value is there after kill -9", func() bool {
		return strings.HasSuffix(ask(t, o, redis.Address, "GET coat"), "17")
	})
	again, err := os.ReadFile(filepath.Join(o.State, "keys", "signing-keys.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(key, again) {
		t.Error("the signing key changed")
	}
	conn, err := net.Dial("tcp", redis.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, _ = conn.Write([]byte("GET coat\r\n"))
	answer := make([]byte, 100)
	n, _ := conn.Read(answer)
	if !strings.HasPrefix(string(answer[:n]), "-NOAUTH") {
		t.Errorf("without a password Redis answers %q", answer[:n])
	}
}

// ask sends one command to Redis and returns what was answered, without ends of lines.
func ask(t *testing.T, o Options, addr, command string) string {
	t.Helper()
	password, err := os.ReadFile(filepath.Join(o.State, "keys", "redis-password"))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(3 * time.Second))
	fmt.Fprintf(conn, "AUTH %s\r\n%s\r\nQUIT\r\n", password, command)
	all, _ := io.ReadAll(conn)
	all = bytes.TrimSuffix(bytes.TrimPrefix(all, []byte("+OK\r\n")), []byte("+OK\r\n"))
	return strings.ReplaceAll(strings.TrimSpace(string(all)), "\r\n", " ")
}

func TestSettingsOfTheCallerDoNotReachTheServices(t *testing.T) {
	t.Setenv("COATCHECK_STRAY", "1")
	shop := open(t, testOptions(t))
	for _, p := range shop.Processes() {
		if p.Restarts != 0 {
			t.Errorf("%s was restarted", p.Name)
		}
	}
}

// servedBy makes n requests on connections of their own and counts who answered.
func servedBy(t *testing.T, shop *Shop, n int) map[string]int {
	t.Helper()
	count := map[string]int{}
	client := &http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for range n {
		resp, err := client.Get("http://" + shop.Address() + "/v1/cart")
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		count[resp.Header.Get("Served-By")]++
	}
	return count
}

func TestPublicAddressSpreadsAndSkips(t *testing.T) {
	t.Parallel()
	shop := open(t, testOptions(t))
	within(t, 2*time.Second, "both gateways in turn", func() bool {
		count := servedBy(t, shop, 10)
		return count["gateway-1"] == 5 && count["gateway-2"] == 5
	})
	if err := shop.Kill("gateway-1", syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	within(t, 2*time.Second, "gateway-1 is dead", func() bool {
		return byName(t, shop.Processes(), "gateway-1").State == Restarting
	})
	if count := servedBy(t, shop, 10); count["gateway-2"] != 10 {
		t.Errorf("with gateway-1 dead: %v", count)
	}
	ready(t, shop)
	within(t, 2*time.Second, "the new gateway-1 gets connections", func() bool {
		return servedBy(t, shop, 4)["gateway-1"] == 2
	})

	// One that hangs still accepts connections.
	if err := shop.Kill("gateway-2", syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2*askEvery + 300*time.Millisecond)
	if count := servedBy(t, shop, 10); count["gateway-1"] != 10 {
		t.Errorf("with gateway-2 hanging: %v", count)
	}
	if err := shop.Kill("gateway-2", syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	within(t, 2*time.Second, "both gateways in turn again", func() bool {
		return servedBy(t, shop, 4)["gateway-2"] == 2
	})

	// One that drains says so for 600 ms and still serves.
	if err := shop.Kill("gateway-1", syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * askEvery)
	if p := byName(t, shop.Processes(), "gateway-1"); p.State != Running {
		t.Fatalf("it should be draining: %+v", p)
	}
	if count := servedBy(t, shop, 10); count["gateway-2"] != 10 {
		t.Errorf("with gateway-1 draining: %v", count)
	}
}

// A gateway that died since it was last asked, and that nobody has noticed yet.
func TestPublicAddressDialsTheNextOne(t *testing.T) {
	t.Parallel()
	alive, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = alive.Close() }()
	go func() {
		for {
			conn, err := alive.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("alive"))
			_ = conn.Close()
		}
	}()
	f := &front{conns: map[net.Conn]struct{}{}}
	dead := net.JoinHostPort("127.0.0.1", fmt.Sprint(freePort(t)))
	for _, address := range []string{dead, alive.Addr().String(), dead} {
		b := &backend{address: address}
		b.ready.Store(true)
		f.backends = append(f.backends, b)
	}
	for range len(f.backends) {
		client, server := net.Pipe()
		go f.serve(server)
		_ = client.SetDeadline(time.Now().Add(3 * time.Second))
		if said, err := io.ReadAll(client); string(said) != "alive" {
			t.Errorf("%q, %v", said, err)
		}
	}
	within(t, 2*time.Second, "no connection is kept after its end", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.conns) == 0
	})
}

// flaky is a listener that fails at first, as where too many files are open.
type flaky struct {
	net.Listener
	fails atomic.Int32
}

func (f *flaky) Accept() (net.Conn, error) {
	if f.fails.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return f.Listener.Accept()
}

func TestPublicAddressOutlivesErrors(t *testing.T) {
	gateway, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = gateway.Close() }()
	go func() {
		conn, err := gateway.Accept()
		if err == nil {
			_, _ = conn.Write([]byte("here"))
			_ = conn.Close()
		}
	}()
	public, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener := &flaky{Listener: public}
	listener.fails.Store(3)
	f := &front{listener: listener, backends: []*backend{{address: gateway.Addr().String(), admin: "127.0.0.1:1"}}}
	f.run()
	defer f.close()
	conn, err := net.DialTimeout("tcp", public.Addr().String(), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
	if said, err := io.ReadAll(conn); err != nil || string(said) != "here" {
		t.Errorf("%q, %v", said, err)
	}
}

func TestTwoShopsAtOnce(t *testing.T) {
	t.Parallel()
	options := []Options{testOptions(t), testOptions(t)}
	shops := make([]*Shop, len(options))
	var group sync.WaitGroup
	for i, o := range options {
		group.Go(func() {
			shop, err := Start(o)
			if err != nil {
				t.Error(err)
				return
			}
			shops[i] = shop
		})
	}
	group.Wait()
	if t.Failed() {
		t.FailNow()
	}
	addresses := map[string]string{}
	for _, shop := range shops {
		t.Cleanup(shop.Close)
		ready(t, shop)
		for _, p := range shop.Processes() {
			for _, addr := range []string{p.Address, p.Admin} {
				if other, taken := addresses[addr]; taken && addr != "" {
					t.Errorf("%s and %s share %s", p.Name, other, addr)
				}
				addresses[addr] = p.Name
			}
			if p.Restarts != 0 {
				t.Errorf("%s was restarted", p.Name)
			}
		}
	}
	shops[0].Close()
	if count := servedBy(t, shops[1], 4); len(count) != 2 {
		t.Errorf("after the other shop closed: %v", count)
	}
}

func TestPortsOfOneHintDoNotOverlap(t *testing.T) {
	t.Parallel()
	const shops = 8
	var mu sync.Mutex
	var all []int
	var group sync.WaitGroup
	for range shops {
		group.Go(func() {
			ports, release, err := reservePorts(15, 8080)
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(release)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, ports...)
		})
	}
	group.Wait()
	slices.Sort(all)
	if distinct := len(slices.Compact(slices.Clone(all))); distinct != shops*15 {
		t.Errorf("%d ports, of which %d are distinct", len(all), distinct)
	}
	if all[0] < firstPort || all[len(all)-1] > lastPort {
		t.Errorf("ports from %d to %d", all[0], all[len(all)-1])
	}
}

func up(t *testing.T, o Options) string {
	t.Helper()
	var out bytes.Buffer
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = Down(o.State, io.Discard) })
	if err := Up(t.Context(), self, o, &out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func down(t *testing.T, o Options) string {
	t.Helper()
	var out bytes.Buffer
	if err := Down(o.State, &out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestUpListDown(t *testing.T) {
	t.Parallel()
	o := testOptions(t)
	o.Port = freePort(t)
	if said := up(t, o); !strings.Contains(said, "open: http://") || strings.Count(said, "curl") != 3 {
		t.Errorf("up says %q", said)
	}
	if said := up(t, o); !strings.Contains(said, "already") {
		t.Errorf("up again says %q", said)
	}
	shop, err := readInfo(o.State)
	if err != nil {
		t.Fatal(err)
	}
	var table bytes.Buffer
	if err := List(t.Context(), o.State, &table); err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(table.String(), "\n"); lines != 10 || strings.Count(table.String(), "ready") != 7 {
		t.Errorf("ps shows:\n%s", table.String())
	}
	if said := down(t, o); !strings.Contains(said, "8 processes, in order") {
		t.Errorf("down says %q", said)
	}
	for _, p := range append(shop.Processes, Process{PID: shop.Supervisor.PID, Name: "supervisor"}) {
		if running(p.PID) {
			t.Errorf("%s still runs", p.Name)
		}
	}
	for range 2 {
		if said := down(t, o); !strings.Contains(said, "No shop is running") {
			t.Errorf("down again says %q", said)
		}
	}
	if said := up(t, o); !strings.Contains(said, "open: http://") {
		t.Errorf("up after down says %q", said)
	}
}

func TestKilledSupervisorLeavesNothing(t *testing.T) {
	t.Parallel()
	o := testOptions(t)
	o.Port = freePort(t)
	up(t, o)
	shop, err := readInfo(o.State)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(shop.Supervisor.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	within(t, 5*time.Second, "the supervisor is dead", func() bool { return !shop.Supervisor.alive() })
	if _, err := os.Stat("/proc/self/stat"); err == nil { // Linux ends them by itself
		for _, p := range shop.Processes {
			within(t, 5*time.Second, p.Name+" is dead", func() bool { return !running(p.PID) })
		}
	}
	if said := down(t, o); !strings.Contains(said, "Cleaned up") {
		t.Errorf("down says %q", said)
	}
	for _, p := range shop.Processes {
		if running(p.PID) {
			t.Errorf("%s still runs", p.Name)
		}
	}
	if said := down(t, o); !strings.Contains(said, "No shop is running") {
		t.Errorf("down again says %q", said)
	}
}

// TestDownEndsLeftovers is what a system without a signal at the parent's death needs.
func TestDownEndsLeftovers(t *testing.T) {
	t.Parallel()
	o := testOptions(t)
	left, other := exec.Command("sleep", "60"), exec.Command("sleep", "60")
	list := []Process{}
	for _, cmd := range []*exec.Cmd{left, other} {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill() })
		go func() { _ = cmd.Wait() }()
		_, start, err := identity(cmd.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, Process{Role: Cart, Name: "cart", PID: cmd.Process.Pid, Start: start, State: Running})
	}
	list[1].Start-- // the id was given to somebody else since
	if err := os.MkdirAll(o.State, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := writeInfo(o.State, info{Processes: list}); err != nil {
		t.Fatal(err)
	}
	if said := down(t, o); !strings.Contains(said, "1 processes were left") {
		t.Errorf("down says %q", said)
	}
	if running(left.Process.Pid) {
		t.Error("the process that was left still runs")
	}
	if !running(other.Process.Pid) {
		t.Error("a process that is not the shop's was killed")
	}
}

func TestUpRefusesInOneLine(t *testing.T) {
	o := testOptions(t)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lis.Close() }()
	o.Port = lis.Addr().(*net.TCPAddr).Port
	err = Up(t.Context(), "/does/not/matter", o, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "is taken by another program") || strings.Contains(err.Error(), "\n") {
		t.Errorf("port taken: %v", err)
	}
	o.Bin = t.TempDir()
	err = Up(t.Context(), "/does/not/matter", o, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "make build") {
		t.Errorf("no binaries: %v", err)
	}
	t.Setenv("PATH", t.TempDir())
	err = Up(t.Context(), "/does/not/matter", o, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "apt-get install redis-server") {
		t.Errorf("no Redis: %v", err)
	}
}

func TestUpTellsWhoDoesNotStayUp(t *testing.T) {
	t.Parallel()
	o := testOptions(t)
	o.Port = freePort(t)
	script := filepath.Join(t.TempDir(), "broken")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho the setting is wrong >&2\nexit 2\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(o.Bin, Cart)); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(script, filepath.Join(o.Bin, Cart)); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	err = Up(t.Context(), self, o, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "cart-1") || !strings.Contains(err.Error(), "the setting is wrong") {
		t.Errorf("up says: %v", err)
	}
	if said := down(t, o); !strings.Contains(said, "No shop is running") {
		t.Errorf("what did not start is still there: %q", said)
	}
}

func TestShopJSONIsWholeAtEveryMoment(t *testing.T) {
	t.Parallel()
	o := testOptions(t)
	shop := open(t, o)
	if err := shop.Kill("cart-2", syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	states := map[string]bool{}
	for end := time.Now().Add(restartDelay + time.Second); time.Now().Before(end); {
		content, err := os.ReadFile(infoPath(o.State))
		if err != nil {
			t.Fatal(err)
		}
		var now info
		if err := json.Unmarshal(content, &now); err != nil {
			t.Fatalf("%v in %q", err, content)
		}
		states[byName(t, now.Processes, "cart-2").State] = true
	}
	if !states[Restarting] || !states[Running] {
		t.Errorf("shop.json showed %v", states)
	}
}
