package chassis

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"coatcheck/chassis/config"
)

// patience bounds every wait of these tests; none takes that long unless broken.
const patience = 15 * time.Second

// isChild in the environment makes this test binary a service instead.
const isChild = "CHASSIS_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(isChild) != "" {
		if err := runChild(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// runChild is a service that says on standard output what happens to it. It is
// ready, a request for /slow ends, and Close returns where isChild is "waits",
// when a line on standard input says so.
func runChild() error {
	settings := config.MustLoad[Settings]()
	may := map[string]chan struct{}{"ready": make(chan struct{}), "release": make(chan struct{}), "close": make(chan struct{})}
	go func() {
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			close(may[in.Text()])
		}
	}()
	var asked atomic.Int32
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })
	mux.HandleFunc("/asked", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, asked.Load()) })
	mux.HandleFunc("/slow", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Println("slow begins")
		<-may["release"]
		fmt.Fprint(w, "done")
		fmt.Println("slow ends")
	})
	return Run(context.Background(), Service{
		Name: "child", Settings: settings, Log: NewLogger("child", settings), Registry: NewRegistry(),
		Addr: "127.0.0.1:0",
		Part: &httpPart{http.Server{Handler: mux}},
		Ready: func(context.Context) error {
			asked.Add(1)
			select {
			case <-may["ready"]:
				return nil
			default:
				return errors.New("not yet")
			}
		},
		Close: func() {
			fmt.Println("close Redis")
			if os.Getenv(isChild) == "waits" {
				<-may["close"]
				fmt.Println("closed Redis")
			}
		},
	})
}

// httpPart is a Part that says which of its methods is called.
type httpPart struct{ http.Server }

func (p *httpPart) Serve(lis net.Listener) error {
	if err := p.Server.Serve(lis); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (p *httpPart) Drain() { fmt.Println("drain") }

func (p *httpPart) Stop(ctx context.Context) error {
	fmt.Println("stop")
	err := p.Shutdown(ctx)
	fmt.Println("stopped:", err)
	return err
}

func (p *httpPart) Close() {
	fmt.Println("close part")
	_ = p.Server.Close()
}

// child is a process that runs runChild.
type child struct {
	t           *testing.T
	cmd         *exec.Cmd
	stdin       io.Writer
	said        chan string // lines of standard output; closed at the end
	addr, admin string
	mu          sync.Mutex
	log         []string
}

func startChild(t *testing.T, environ ...string) *child {
	t.Helper()
	c := &child{t: t, said: make(chan string, 100)}
	c.cmd = exec.Command(os.Args[0])
	c.cmd.Env = append([]string{isChild + "=1", "COATCHECK_ADMIN_ADDR=127.0.0.1:0", "COATCHECK_INSTANCE=child-1", "GOCOVERDIR=" + t.TempDir()}, environ...)
	c.stdin, _ = c.cmd.StdinPipe()
	stdout, _ := c.cmd.StdoutPipe()
	stderr, _ := c.cmd.StderrPipe()
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.cmd.Process.Kill() })
	go func() {
		defer close(c.said)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			c.said <- lines.Text()
		}
	}()
	listening := make(chan struct{})
	go func() {
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			var entry struct{ Msg, Addr, Admin, Service, Instance string }
			if json.Unmarshal(lines.Bytes(), &entry) == nil && entry.Msg == "listening" {
				if entry.Service != "child" || entry.Instance != "child-1" {
					t.Errorf("the log names %q, %q", entry.Service, entry.Instance)
				}
				c.addr, c.admin = "http://"+entry.Addr, "http://"+entry.Admin
				close(listening)
			}
			c.mu.Lock()
			c.log = append(c.log, lines.Text())
			c.mu.Unlock()
		}
	}()
	select {
	case <-listening:
	case <-time.After(patience):
		t.Fatal("the child does not listen")
	}
	return c
}

// says waits until the child says the line, and returns what it said before it.
func (c *child) says(line string) (before []string) {
	c.t.Helper()
	for timeout := time.After(patience); ; {
		select {
		case said, ok := <-c.said:
			if !ok || said == line {
				if !ok && line != "" {
					c.t.Fatalf("the child ended after %q, and did not say %q", before, line)
				}
				return before
			}
			before = append(before, said)
		case <-timeout:
			c.t.Fatalf("the child said %q, and not %q", before, line)
		}
	}
}

func (c *child) tell(line string) {
	if _, err := io.WriteString(c.stdin, line+"\n"); err != nil {
		c.t.Error(err)
	}
}

func (c *child) terminate() {
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		c.t.Error(err)
	}
}

// become asks until the admin port says so of its readiness.
func (c *child) become(want string) {
	c.t.Helper()
	for begin := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		got, err := get(c.admin + "/readyz")
		if err == nil && got == want {
			return
		}
		if time.Since(begin) > patience {
			c.t.Fatalf("/readyz says %q, %v; want %q", got, err, want)
		}
	}
}

// get asks on a new connection and gives "status text".
func get(url string) (string, error) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	resp, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return fmt.Sprint(resp.StatusCode, " ", strings.TrimSpace(string(body))), err
}

func want(t *testing.T, url, answer string) {
	t.Helper()
	if got, err := get(url); got != answer || err != nil {
		t.Errorf("%s answers %q, %v; want %q", url, got, err, answer)
	}
}

// slow begins a slow request and gives its answer later.
func (c *child) slow() chan string {
	answer := make(chan string, 1)
	go func() {
		got, err := get(c.addr + "/slow")
		answer <- fmt.Sprint(got, err)
	}()
	c.says("slow begins")
	return answer
}

func TestDrainOrder(t *testing.T) {
	const delay = 2 * time.Second
	c := startChild(t, isChild+"=waits", "COATCHECK_DRAIN_DELAY="+delay.String())

	// Not ready before what it needs is there, though it lives and serves.
	c.become("503 starting")
	want(t, c.admin+"/livez", "200 ok")
	c.tell("ready")
	c.become("200 ready")
	asked, _ := get(c.addr + "/asked")
	answer := c.slow()

	begin := time.Now()
	c.terminate()
	// It says that it drains, and serves also new connections.
	if before := c.says("drain"); len(before) > 0 {
		t.Errorf("before it drained: %q", before)
	}
	want(t, c.admin+"/readyz", "503 draining")
	want(t, c.admin+"/livez", "200 ok")
	want(t, c.addr+"/", "200 ok")
	if again, _ := get(c.addr + "/asked"); again != asked {
		t.Errorf("Ready was asked %s times, and %s when it had been ready", again, asked)
	}
	metrics, _ := get(c.admin + "/metrics")
	if !strings.Contains(metrics, "coatcheck_state 2") || !strings.Contains(metrics, `instance_name="child-1"`) {
		t.Error("the metrics do not say that child-1 drains")
	}
	limit := fmt.Sprintf("\ncoatcheck_drain_limit_seconds %g\n", (delay + 10*time.Second).Seconds())
	if !strings.Contains(metrics, limit) || !strings.Contains(metrics, "\ncoatcheck_drain_seconds 0.") {
		t.Errorf("the metrics do not say for how long it drains, and may:\n%s", metrics)
	}

	// After the delay it refuses, and the request under way goes on.
	if before := c.says("stop"); len(before) > 0 {
		t.Errorf("between drain and stop: %q", before)
	}
	if took := time.Since(begin); took < delay {
		t.Errorf("it stopped after %v, want %v or more", took, delay)
	}
	for refused := false; !refused; {
		_, err := get(c.addr + "/")
		refused = errors.Is(err, syscall.ECONNREFUSED)
		if time.Since(begin) > patience {
			t.Fatalf("it does not refuse: %v", err)
		}
	}
	want(t, c.admin+"/readyz", "503 draining")
	select {
	case got := <-answer:
		t.Fatalf("the request under way ended early: %s", got)
	default:
	}
	c.tell("release")
	if got := <-answer; got != "200 done<nil>" {
		t.Errorf("the request under way: %s", got)
	}
	if got, want := c.says("close Redis"), []string{"slow ends", "stopped: <nil>", "close part"}; !slices.Equal(got, want) {
		t.Errorf("before it closed Redis: %q, want %q", got, want)
	}
	// The admin port answers to the end.
	want(t, c.admin+"/readyz", "503 draining")
	c.tell("close")
	if got, want := c.says(""), []string{"closed Redis"}; !slices.Equal(got, want) {
		t.Errorf("then: %q, want %q", got, want)
	}
	if err := c.cmd.Wait(); err != nil {
		t.Errorf("the process ended with %v", err)
	}
	if _, err := get(c.admin + "/livez"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("the admin port: %v", err)
	}
}

func TestStuckRequestIsCutOff(t *testing.T) {
	c := startChild(t, "COATCHECK_DRAIN_DELAY=0s", "COATCHECK_STOP_TIMEOUT=200ms")
	answer := c.slow()
	c.terminate()
	if got := <-answer; !strings.Contains(got, "EOF") && !strings.Contains(got, "reset") {
		t.Errorf("the stuck request: %s", got)
	}
	if got, want := c.says(""), []string{"drain", "stop", "stopped: context deadline exceeded", "close part", "close Redis"}; !slices.Equal(got, want) {
		t.Errorf("it said %q, want %q", got, want)
	}
	if err := c.cmd.Wait(); err != nil {
		t.Errorf("the process ended with %v", err)
	}
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	c := startChild(t, "COATCHECK_DRAIN_DELAY=5m")
	c.terminate()
	c.says("drain")
	c.terminate()
	c.says("")
	var exit *exec.ExitError
	if err := c.cmd.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
		t.Errorf("the process ended with %v", err)
	}
}

func TestWrongSettingsEndTheProcess(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = []string{isChild + "=1", "GOCOVERDIR=" + t.TempDir(), "COATCHECK_DRAIN_DELAY=6m", "COATCHECK_STOP_TIMEOUT=0", "COATCHECK_LOG_LEVEL=loud", "COATCHECK_STOP_TIME=1s"}
	out, err := cmd.CombinedOutput()
	const faults = `settings are wrong (4):
  COATCHECK_DRAIN_DELAY: must be 0 to 5m
  COATCHECK_LOG_LEVEL: slog: level string "loud": unknown name
  COATCHECK_STOP_TIME: no such setting
  COATCHECK_STOP_TIMEOUT: must be above 0 and at most 5m
`
	if cmd.ProcessState.ExitCode() != 2 || string(out) != faults {
		t.Errorf("ended with %v and said %s", err, out)
	}
}

// fakePart serves until it is closed or fails, and notes what is called.
type fakePart struct {
	mu     sync.Mutex
	calls  []string
	serve  chan error
	closed chan struct{}
}

func (p *fakePart) note(call string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls = append(p.calls, call)
}

func (p *fakePart) Serve(lis net.Listener) error {
	defer func() { _ = lis.Close() }()
	select {
	case err := <-p.serve:
		return err
	case <-p.closed:
		return nil
	}
}
func (p *fakePart) Drain()                     { p.note("drain") }
func (p *fakePart) Stop(context.Context) error { p.note("stop"); return nil }
func (p *fakePart) Close()                     { p.note("close"); close(p.closed) }

// newService returns a service that never gets ready.
func newService() (Service, *fakePart) {
	p := &fakePart{serve: make(chan error, 1), closed: make(chan struct{})}
	return Service{
		Name: "test", Log: slog.New(slog.DiscardHandler), Registry: NewRegistry(), Addr: "127.0.0.1:0", Part: p,
		Settings: Settings{AdminAddr: "127.0.0.1:0", StopTimeout: patience},
		Ready:    func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		Close:    func() { p.note("close Redis") },
	}, p
}

func TestRunEndsWithItsContextOrItsListener(t *testing.T) {
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		end  func(cancel context.CancelFunc, p *fakePart)
		want error
	}{
		"context":                   {func(cancel context.CancelFunc, _ *fakePart) { cancel() }, nil},
		"listener":                  {func(_ context.CancelFunc, p *fakePart) { p.serve <- broken }, broken},
		"listener without an error": {func(_ context.CancelFunc, p *fakePart) { p.serve <- nil }, net.ErrClosed},
	} {
		s, p := newService()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		c.end(cancel, p)
		if err := Run(ctx, s); !errors.Is(err, c.want) || err != nil && !strings.HasPrefix(err.Error(), "test: serving: ") {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if want := []string{"drain", "stop", "close", "close Redis"}; !slices.Equal(p.calls, want) {
			t.Errorf("%s: %q, want %q", name, p.calls, want)
		}
	}
}

func TestAddressInUse(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = free.Close()
	for _, admin := range []bool{false, true} {
		s, p := newService()
		s.Addr, s.Settings.AdminAddr = taken.Addr().String(), free.Addr().String()
		if admin {
			s.Addr, s.Settings.AdminAddr = s.Settings.AdminAddr, s.Addr
		}
		err := Run(t.Context(), s)
		if !errors.Is(err, syscall.EADDRINUSE) || !strings.HasPrefix(err.Error(), "test: ") {
			t.Errorf("with the admin address taken %v: %v", admin, err)
		}
		if len(p.calls) > 0 {
			t.Errorf("what never served was told %q", p.calls)
		}
		again, err := net.Listen("tcp", free.Addr().String())
		if err != nil {
			t.Fatalf("the other listener was left open: %v", err)
		}
		_ = again.Close()
	}
}

func TestInstanceName(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if got := (Settings{}).InstanceName(); got != host {
		t.Errorf("without a setting: %q, want %q", got, host)
	}
}

func TestLimitMemory(t *testing.T) {
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(-1))
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	for name, c := range map[string]struct {
		file, content string
		before, want  int64
		gogc          string
		percent       int
	}{
		"cgroup 2":             {"memory.max", "104857600\n", math.MaxInt64, 94371840, "", 400},
		"cgroup 2, no limit":   {"memory.max", "max\n", math.MaxInt64, math.MaxInt64, "", 100},
		"cgroup 1":             {"memory/memory.limit_in_bytes", "104857600\n", math.MaxInt64, 94371840, "", 400},
		"cgroup 1, no limit":   {"memory/memory.limit_in_bytes", "9223372036854771712\n", math.MaxInt64, math.MaxInt64, "", 100},
		"no cgroup":            {"other", "1", math.MaxInt64, math.MaxInt64, "", 100},
		"GOMEMLIMIT is set":    {"memory.max", "104857600\n", 1 << 30, 1 << 30, "", 400},
		"GOGC is set":          {"memory.max", "104857600\n", math.MaxInt64, 94371840, "100", 100},
		"what nobody can read": {"memory.max", "-5\n", math.MaxInt64, math.MaxInt64, "", 100},
	} {
		root := t.TempDir()
		file := filepath.Join(root, c.file)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		debug.SetMemoryLimit(c.before)
		debug.SetGCPercent(100)
		t.Setenv("GOGC", c.gogc)
		limitMemory(root, 400)
		if got := debug.SetGCPercent(100); got != c.percent {
			t.Errorf("%s: GOGC is %d, want %d", name, got, c.percent)
		}
		if got := debug.SetMemoryLimit(-1); got != c.want {
			t.Errorf("%s: the limit is %d, want %d", name, got, c.want)
		}
	}
}

func TestRunLimitsProcessors(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	for name, c := range map[string]struct {
		most, want int
		set        string
	}{
		"a bound":              {1, 1, ""},
		"none":                 {0, 4, ""},
		"more than there":      {8, 4, ""},
		"GOMAXPROCS is set":    {1, 4, "4"},
		"as many as are there": {4, 4, ""},
	} {
		runtime.GOMAXPROCS(4)
		t.Setenv("GOMAXPROCS", c.set)
		s, _ := newService()
		s.Processors = c.most
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := Run(ctx, s); err != nil {
			t.Fatal(err)
		}
		if got := runtime.GOMAXPROCS(0); got != c.want {
			t.Errorf("%s: %d processors, want %d", name, got, c.want)
		}
	}
}
