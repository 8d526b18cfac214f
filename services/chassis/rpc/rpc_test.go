package rpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"coatcheck/chassis/fault"
	"coatcheck/chassis/measuretest"
)

// patience bounds every wait of these tests; none takes that long unless broken.
const patience = 10 * time.Second

type (
	request  = grpc_health_v1.HealthCheckRequest
	response = grpc_health_v1.HealthCheckResponse
	handler  func(ctx context.Context, what string) error
)

// testService has one method of each kind; both do what the handler says.
var testService = grpc.ServiceDesc{
	ServiceName: "test.Test",
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{{
		MethodName: "Call",
		Handler: func(srv any, ctx context.Context, decode func(any) error, through grpc.UnaryServerInterceptor) (any, error) {
			req := new(request)
			if err := decode(req); err != nil {
				return nil, err
			}
			info := &grpc.UnaryServerInfo{Server: srv, FullMethod: "/test.Test/Call"}
			return through(ctx, req, info, func(ctx context.Context, req any) (any, error) {
				return new(response), srv.(handler)(ctx, req.(*request).GetService())
			})
		},
	}},
	Streams: []grpc.StreamDesc{{
		StreamName:    "Follow",
		ServerStreams: true,
		Handler: func(srv any, stream grpc.ServerStream) error {
			req := new(request)
			if err := stream.RecvMsg(req); err != nil {
				return err
			}
			return srv.(handler)(stream.Context(), req.GetService())
		},
	}},
}

// server is one replica. It answers at once, unless it is stalled or asked to
// "wait"; then it answers when the test releases it. Asked to "announce", it does
// so before it waits.
type server struct {
	*Server
	name, addr string
	log        *bytes.Buffer
	reg        *prometheus.Registry
	stalled    atomic.Bool
	entered    chan struct{} // one for each call that waits
	release    chan struct{} // closed or sent to
	stops      sync.Once
}

func start(t *testing.T, name string) *server {
	t.Helper()
	return startAt(t, name, "127.0.0.1:0")
}

func startAt(t *testing.T, name, addr string) *server {
	t.Helper()
	lis, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{name: name, addr: lis.Addr().String(), log: &bytes.Buffer{}, reg: prometheus.NewRegistry(),
		entered: make(chan struct{}, 1000), release: make(chan struct{})}
	s.Server = NewServer(slog.New(slog.NewJSONHandler(s.log, nil)), s.reg, name)
	s.RegisterService(&testService, handler(func(ctx context.Context, what string) error {
		switch {
		case what == "panic":
			panic("hunter2 is not sent")
		case what == "refuse":
			return fmt.Errorf("handling: %w", fault.Wrap(errors.New("hunter2"), fault.Refused, "refused", "No."))
		case what == "fail":
			return errors.New("hunter2")
		case what == "announce":
			Announce(ctx)
			s.entered <- struct{}{}
			<-s.release
		case what == "wait" || s.stalled.Load():
			s.entered <- struct{}{}
			<-s.release
		}
		return nil
	}))
	served := make(chan error, 1)
	go func() { served <- s.Serve(lis) }()
	t.Cleanup(func() {
		s.free()
		s.Close()
		if err := <-served; err != nil {
			t.Errorf("%s: Serve: %v", name, err)
		}
	})
	return s
}

// free lets every call that waits, now or later, go on.
func (s *server) free() { s.stops.Do(func() { close(s.release) }) }

// dial connects to the target, and waits until all the servers get calls.
func dial(t *testing.T, target string, servers ...*server) *grpc.ClientConn {
	t.Helper()
	conn := open(t, target)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for seen := map[string]bool{}; len(seen) < len(servers); {
		by, err := call(ctx, conn, "")
		if err != nil {
			t.Fatalf("with %d of %d servers: %v", len(seen), len(servers), err)
		}
		seen[by] = true
	}
	return conn
}

// open connects to the target, and waits until one server gets calls.
func open(t *testing.T, target string, further ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	conn, err := Dial(target, NewClientMetrics(prometheus.NewRegistry()), further...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := AwaitReady(ctx, conn); err != nil {
		t.Fatal(err)
	}
	return conn
}

func three(t *testing.T) (map[string]*server, *grpc.ClientConn) {
	t.Helper()
	servers := map[string]*server{}
	var addrs []string
	for _, name := range []string{"a", "b", "c"} {
		servers[name] = start(t, name)
		addrs = append(addrs, servers[name].addr)
	}
	return servers, dial(t, strings.Join(addrs, ","), servers["a"], servers["b"], servers["c"])
}

func call(ctx context.Context, conn *grpc.ClientConn, what string) (servedBy string, err error) {
	var header metadata.MD
	err = conn.Invoke(ctx, "/test.Test/Call", &request{Service: what}, new(response), grpc.Header(&header))
	return ServedBy(header), err
}

// try is one try of a logical call, with a deadline of its own.
func try(ctx context.Context, conn *grpc.ClientConn, what string, d time.Duration) (servedBy string, err error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return call(ctx, conn, what)
}

// share makes n calls, all of which must succeed, and returns who answered.
func share(t *testing.T, conn *grpc.ClientConn, n int) map[string]int {
	t.Helper()
	by := map[string]int{}
	for range n {
		who, err := try(t.Context(), conn, "", patience)
		if err != nil {
			t.Fatalf("after %v: %v", by, err)
		}
		by[who]++
	}
	return by
}

// stopping is a connection on which nothing arrives any more once it has stopped,
// as from a process that was stopped: a server that runs ends late calls itself.
type stopping struct {
	net.Conn
	stopped *atomic.Bool
}

func (s stopping) Read(b []byte) (int, error) {
	for {
		n, err := s.Conn.Read(b)
		if err != nil || !s.stopped.Load() {
			return n, err
		}
	}
}

// TestTry: a call ends when its try has taken its time, or at the last moment or its
// caller's deadline if that is sooner, though the server never answers and the
// context goes on. A try that is restarted has all of its time again, and no more
// than the last moment leaves it.
func TestTry(t *testing.T) {
	s := start(t, "a")
	var stopped atomic.Bool
	conn := open(t, s.addr, grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		return stopping{c, &stopped}, err
	}))
	if _, err := try(t.Context(), conn, "", patience); err != nil {
		t.Fatal(err)
	}
	stopped.Store(true)
	const soon, late = 100 * time.Millisecond, 30 * time.Second
	for name, d := range map[string]struct {
		length, last, callers time.Duration
		waits                 time.Duration // before it is restarted
		want                  time.Duration
	}{
		"its time":             {length: soon, last: late, callers: late, want: soon},
		"the last moment":      {length: late, last: soon, callers: late, want: soon},
		"the caller's":         {length: late, last: late, callers: soon, want: soon},
		"restarted":            {length: soon, last: late, callers: late, waits: 2 * soon, want: 3 * soon},
		"restarted, then last": {length: 2 * soon, last: 3 * soon, callers: late, waits: 2 * soon, want: 3 * soon},
	} {
		before := time.Now()
		ctx, cancel := context.WithDeadline(t.Context(), before.Add(d.callers))
		tried := Try(NewCall(ctx), d.length, before.Add(d.last))
		if _, got := Restarted(tried); !got.Equal(before.Add(min(d.last, d.callers))) {
			t.Errorf("%s: the last moment is after %v, want %v", name, got.Sub(before), min(d.last, d.callers))
		}
		if d.waits > 0 {
			time.Sleep(time.Until(before.Add(d.waits)))
			tried = Restart(tried)
		}
		if got, ok := tried.Deadline(); !ok || got.Before(before.Add(d.want)) || got.After(before.Add(d.want+soon/2)) {
			t.Errorf("%s: the deadline is after %v, want %v", name, got.Sub(before), d.want)
		}
		_, err := call(tried, conn, "")
		if took := time.Since(before); fault.From(err).Code != "timeout" || took < d.want || took > patience/2 {
			t.Errorf("%s: %v after %v, want a timeout after %v", name, err, took, d.want)
		}
		if d.callers == late && tried.Err() != nil {
			t.Errorf("%s: the context is over: %v", name, tried.Err())
		}
		cancel()
		if tried.Err() == nil {
			t.Errorf("%s: the context goes on when its parent is over", name)
		}
	}
}

func TestRoundRobin(t *testing.T) {
	_, conn := three(t)
	if got, want := share(t, conn, 30), map[string]int{"a": 10, "b": 10, "c": 10}; !maps.Equal(got, want) {
		t.Errorf("30 calls went to %v", got)
	}
}

func TestDrainingServerGetsNoNewCallsAndEndsItsOwn(t *testing.T) {
	servers, conn := three(t)
	drained := servers["b"]
	drained.stalled.Store(true)
	underWay := make(chan error, 1)
	go func() {
		// Calls until one waits at b.
		for {
			if by, err := try(t.Context(), conn, "", patience); by == "b" || err != nil {
				underWay <- err
				return
			}
		}
	}()
	<-drained.entered
	drained.stalled.Store(false)

	drained.Drain()
	// From now on no call fails; and soon, none goes to b.
	begin := time.Now()
	for in := 0; in < 30; in++ {
		if by := share(t, conn, 1); by["b"] > 0 {
			in = 0
		}
		if time.Since(begin) > patience {
			t.Fatal("the draining server still gets calls")
		}
	}
	t.Logf("the client passed over the draining server after %v at most", time.Since(begin))
	if by := share(t, conn, 100); by["b"] > 0 {
		t.Errorf("calls went to the draining server: %v", by)
	}

	// GracefulStop waits for the call under way, though not for the watch of the
	// server's health that the client holds open.
	stopped := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		stopped <- drained.Stop(ctx)
	}()
	share(t, conn, 100)
	select {
	case err := <-stopped:
		t.Fatalf("Stop did not wait for the call under way: %v", err)
	case err := <-underWay:
		t.Fatalf("the call under way ended early: %v", err)
	default:
	}
	drained.free()
	if err := <-underWay; err != nil {
		t.Errorf("the call under way: %v", err)
	}
	if err := <-stopped; err != nil {
		t.Errorf("Stop: %v", err)
	}
}

// TestLastKnownDrains: the one replica that is known drains when another is there
// of which the client has not heard. The first try may fail; the next finds it.
func TestLastKnownDrains(t *testing.T) {
	a := start(t, "a")
	_, port, err := net.SplitHostPort(a.addr)
	if err != nil {
		t.Fatal(err)
	}
	var hosts atomic.Value
	hosts.Store([]string{"127.0.0.1"})
	lookup := func(context.Context, string) ([]string, error) { return slices.Clone(hosts.Load().([]string)), nil }
	conn := open(t, "dns:///cart:"+port, grpc.WithResolvers(names{lookup}))
	time.Sleep(2 * leastRefresh) // the name was just asked
	startAt(t, "b", "127.0.0.2:"+port)
	hosts.Store([]string{"127.0.0.1", "127.0.0.2"})
	a.Drain()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	began := time.Now()
	for {
		by, err := try(ctx, conn, "", patience)
		if err == nil && by == "b" {
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("asked last: %q, %v", by, err)
		}
		time.Sleep(time.Millisecond)
	}
	if took := time.Since(began); took > refresh/2 {
		t.Errorf("the other one was found after %v", took)
	}
}

func TestStopIsBounded(t *testing.T) {
	s := start(t, "a")
	conn := dial(t, s.addr, s)
	ended := make(chan error, 1)
	go func() {
		_, err := try(t.Context(), conn, "wait", patience)
		ended <- err
	}()
	<-s.entered
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := s.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Stop with a stuck call: %v", err)
	}
	s.Close()
	if err := <-ended; !fault.Is(err, fault.Unavailable) {
		t.Errorf("the stuck call: %v", err)
	}
}

func TestNextTryAfterAKillGoesElsewhere(t *testing.T) {
	servers, conn := three(t)
	for range 2 {
		logical := NewCall(t.Context())
		ended := make(chan error, 1)
		go func() {
			_, err := try(logical, conn, "wait", patience)
			ended <- err
		}()
		var killed *server
		select {
		case <-servers["a"].entered:
			killed = servers["a"]
		case <-servers["b"].entered:
			killed = servers["b"]
		case <-servers["c"].entered:
			killed = servers["c"]
		}
		killed.Close()
		if err := <-ended; !fault.Is(err, fault.Unavailable) {
			t.Fatalf("the killed server's call: %v", err)
		}
		by, err := try(logical, conn, "", patience)
		if err != nil || by == killed.name {
			t.Fatalf("the next try: served by %q, %v; killed is %q", by, err, killed.name)
		}
	}
}

// TestAnnounced: a server that does not announce a call loses it when its silence
// has lasted too long, and is suspected; one that does has the time of a try.
func TestAnnounced(t *testing.T) {
	const silence, length = 200 * time.Millisecond, time.Second
	s, other := start(t, "a"), start(t, "b")
	target := s.addr + "," + other.addr
	for what, d := range map[string]struct {
		conn *grpc.ClientConn
		want time.Duration
	}{
		"wait":     {open(t, target, Announced()), silence},
		"announce": {open(t, target, Announced()), length},
		// Nothing can be heard there, so nothing is missed.
		"announce ": {open(t, target), length},
		"wait ":     {open(t, target), length},
	} {
		share(t, d.conn, 2) // both take calls
		began := time.Now()
		ctx := TryAnnounced(NewCall(t.Context()), silence, length, began.Add(patience))
		if end, _ := ctx.Deadline(); end.Before(began.Add(length)) {
			t.Errorf("%q: the server is told of %v", what, end.Sub(began))
		}
		_, err := call(ctx, d.conn, strings.TrimSpace(what))
		if took := time.Since(began); fault.From(err).Code != "timeout" || took < d.want || took > d.want+length*3/4 {
			t.Errorf("%q: %v after %v, want a timeout after %v", what, err, took, d.want)
		}
		// Who said nothing is suspected, and the next calls go to its neighbour.
		if by, suspected := share(t, d.conn, 6), !strings.HasPrefix(what, "announce"); len(by) == 1 != suspected {
			t.Errorf("%q: the calls after it went to %v", what, by)
		}
	}
	s.free()
	other.free()
	conn := open(t, target, Announced())
	ctx := TryAnnounced(NewCall(t.Context()), silence, length, time.Now().Add(patience))
	if by, err := call(ctx, conn, "announce"); by == "" || err != nil {
		t.Errorf("answered by %q, %v", by, err)
	}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	if _, err := call(TryAnnounced(NewCall(stopped), silence, length, time.Now().Add(patience)), conn, "wait"); status.Code(err) != codes.Canceled {
		t.Errorf("a caller who left: %v", err)
	}
}

func TestStalledServerIsPassedOver(t *testing.T) {
	servers, conn := three(t)
	stalled := servers["c"]
	stalled.stalled.Store(true)
	begin := time.Now()
	// logical makes one logical call as who retries does, and gives who answered.
	logical := func() string {
		t.Helper()
		ctx, errs := NewCall(t.Context()), []error(nil)
		for range 3 {
			by, err := try(ctx, conn, "", 300*time.Millisecond)
			if err == nil {
				return by
			}
			if !fault.Is(err, fault.Unavailable) {
				t.Fatal(err)
			}
			errs = append(errs, err)
		}
		t.Fatalf("no try was answered: %v", errs)
		return ""
	}
	// asked reports how often the stalled server was asked. The first time, and
	// then once in each suspicion, is as often as may be.
	asked := func() int {
		t.Helper()
		n, took := len(stalled.entered), time.Since(begin)
		if n > 1+int(took/suspicion) {
			t.Fatalf("the stalled server was asked %d times in %v", n, took)
		}
		if took > 2*patience {
			t.Fatalf("in %v, the stalled server was asked %d times", took, n)
		}
		return n
	}
	for asked() < 3 {
		for range 20 {
			if by := logical(); by == "c" {
				t.Fatal("the stalled server answered")
			}
		}
	}
	// Once it answers it gets its share again.
	stalled.stalled.Store(false)
	stalled.free()
	for want := map[string]int{"a": 10, "b": 10, "c": 10}; ; {
		got := share(t, conn, 30)
		if maps.Equal(got, want) {
			return
		}
		if time.Since(begin) > 3*patience {
			t.Fatalf("30 calls went to %v", got)
		}
	}
}

func TestPanicIsInternalAndTheProcessLives(t *testing.T) {
	s := start(t, "a")
	conn := dial(t, s.addr, s)
	for _, what := range []string{"panic", "fail"} {
		by, err := call(t.Context(), conn, what)
		if f := fault.From(err); f == nil || f.Kind != fault.Internal || f.Code != "internal" {
			t.Errorf("%s: %v", what, err)
		}
		if by != "a" {
			t.Errorf("%s: a failed call names %q as its server", what, by)
		}
		if strings.Contains(fmt.Sprint(err), "hunter2") {
			t.Errorf("%s: the cause was sent: %v", what, err)
		}
		stream, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, "/test.Test/Follow")
		if err != nil {
			t.Fatal(err)
		}
		_ = stream.SendMsg(&request{Service: what})
		_ = stream.CloseSend()
		err = stream.RecvMsg(new(response))
		if !fault.Is(err, fault.Internal) || strings.Contains(fmt.Sprint(err), "hunter2") {
			t.Errorf("%s in a stream: %v", what, err)
		}
	}
	by, err := call(t.Context(), conn, "refuse")
	if f := fault.From(err); f == nil || f.Kind != fault.Refused || f.Code != "refused" || f.Message != "No." || by != "a" {
		t.Errorf("a refusal: served by %q, %v", by, err)
	}
	if strings.Contains(fmt.Sprint(err), "hunter2") {
		t.Errorf("the cause was sent: %v", err)
	}
	share(t, conn, 1)
	s.Close() // the log is complete
	if log := s.log.String(); strings.Count(log, `"msg":"panic"`) != 2 || !strings.Contains(log, "rpc_test.go") {
		t.Errorf("two panics are not in the log with their stacks: %s", log)
	}
}

func TestNoTimeLeft(t *testing.T) {
	a := answers{slog.New(slog.DiscardHandler), metadata.MD{}}
	worked := errors.New("worked")
	for left, want := range map[time.Duration]error{meaningfulWork / 2: nil, time.Minute: worked} {
		ctx, cancel := context.WithTimeout(t.Context(), left)
		defer cancel()
		_, err := a.unary(ctx, nil, &grpc.UnaryServerInfo{}, func(context.Context, any) (any, error) { return nil, worked })
		f := fault.From(err)
		if want == nil && (f.Kind != fault.Unavailable || f.Code != "timeout") || want != nil && !errors.Is(err, want) {
			t.Errorf("with %v left: %v", left, err)
		}
	}
}

func TestTargets(t *testing.T) {
	s := start(t, "a")
	_, port, _ := net.SplitHostPort(s.addr)
	for _, target := range []string{"dns:///localhost:" + port, "127.0.0.1:" + port, "127.0.0.1:1,127.0.0.1:" + port} {
		if by := share(t, dial(t, target, s), 10); by["a"] != 10 {
			t.Errorf("%s: served by %v", target, by)
		}
	}
	for _, target := range []string{"", "cart", "cart:", "cart:grpc", "cart:0", "cart:65536", ":9090", "dns:///", "dns:///cart", "dns:///a:1,b:2", "a:1,", "a:1,,b:2", "http://cart:9090", "dns://1.1.1.1/cart:1", "unix:///tmp/x"} {
		if ValidTarget(target) == nil {
			t.Errorf("%q is taken for valid", target)
		}
		if conn, err := Dial(target, NewClientMetrics(prometheus.NewRegistry())); err == nil {
			_ = conn.Close()
			t.Errorf("Dial takes %q", target)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	nobody, err := Dial("127.0.0.1:1", NewClientMetrics(prometheus.NewRegistry()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nobody.Close() }()
	if err := AwaitReady(ctx, nobody); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("AwaitReady without a server: %v", err)
	}
	if by, err := call(t.Context(), nobody, ""); !fault.Is(err, fault.Unavailable) || by != "" {
		t.Errorf("a call without a server: served by %q, %v", by, err)
	}
}

// The server must permit the pings that the client sends; the settings are read
// from the server itself, since two pings too many take half a minute.
func TestKeepaliveSettingsMatch(t *testing.T) {
	policy := reflect.ValueOf(start(t, "a").Server.Server).Elem().FieldByName("opts").FieldByName("keepalivePolicy")
	if minTime := time.Duration(policy.FieldByName("MinTime").Int()); minTime >= clientKeepalive {
		t.Errorf("the client pings every %v, the server permits it every %v", clientKeepalive, minTime)
	}
	if !policy.FieldByName("PermitWithoutStream").Bool() {
		t.Error("the server does not permit pings without calls")
	}
	if clientKeepalive < 10*time.Second {
		t.Error("gRPC clients do not ping more often than every 10s")
	}
}

func TestMetricsHaveTheStandardNames(t *testing.T) {
	s := start(t, "a")
	reg := prometheus.NewRegistry()
	conn, err := Dial(s.addr, NewClientMetrics(reg))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	for _, what := range []string{"", "", "refuse", "panic"} {
		_, _ = call(t.Context(), conn, what)
	}
	for side, reg := range map[string]*prometheus.Registry{"server": s.reg, "client": reg} {
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		measuretest.Check(t, reg)
		codes, timed := map[string]float64{}, uint64(0)
		for _, f := range families {
			for _, m := range f.GetMetric() {
				labels := map[string]string{}
				for _, l := range m.GetLabel() {
					labels[l.GetName()] = l.GetValue()
				}
				switch {
				case labels["grpc_service"] != "test.Test" || labels["grpc_method"] != "Call":
				case f.GetName() == "grpc_"+side+"_handled_total":
					codes[labels["grpc_code"]] += m.GetCounter().GetValue()
				case f.GetName() == "grpc_"+side+"_handling_seconds":
					timed += m.GetHistogram().GetSampleCount()
				}
			}
		}
		for code, want := range map[string]float64{"OK": 2, "FailedPrecondition": 1, "Internal": 1} {
			if codes[code] != want {
				t.Errorf("grpc_%s_handled_total{grpc_code=%q} is %v, want %v", side, code, codes[code], want)
			}
		}
		if timed != 4 {
			t.Errorf("grpc_%s_handling_seconds has %d calls, want 4", side, timed)
		}
	}
}
