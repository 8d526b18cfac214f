package auth

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"coatcheck/chassis/config"
	"coatcheck/chassis/fault"
	"coatcheck/chassis/redisconn"
	"coatcheck/chassis/redistest"
	"coatcheck/chassis/rpc"
	authv1 "coatcheck/proto/coatcheck/auth/v1"
)

// redisServer is a real Redis of the test's own.
type redisServer struct{ *redistest.Server }

func startRedis(t *testing.T) *redisServer {
	t.Helper()
	return &redisServer{redistest.Start(t)}
}

// client returns a Redis client as the service has it, with the scripts loaded,
// so that each script is one command.
func (s *redisServer) client(t *testing.T, hooks ...redis.Hook) redis.UniversalClient {
	t.Helper()
	rdb := redisconn.Open(redisconn.Settings{Addrs: []string{s.Addr}, PoolSize: 16, Timeout: 2 * time.Second}, prometheus.NewRegistry(), nil)
	t.Cleanup(func() { _ = rdb.Close() })
	files, err := scripts.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, _ := scripts.ReadFile(file.Name())
		if err := rdb.ScriptLoad(t.Context(), string(text)).Err(); err != nil {
			t.Fatalf("%s: %v", file.Name(), err)
		}
	}
	for _, h := range hooks {
		rdb.AddHook(h)
	}
	return rdb
}

// clock is a clock that a test sets.
type clock struct{ nanos atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.nanos.Store(time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC).UnixNano())
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.nanos.Load()) }
func (c *clock) advance(d time.Duration) { c.nanos.Add(int64(d)) }

// newKey returns the signing key that seed stands for, and its PEM.
func newKey(seed byte) (ed25519.PrivateKey, string) {
	raw := make([]byte, ed25519.SeedSize)
	raw[0] = seed
	key := ed25519.NewKeyFromSeed(raw)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic(err)
	}
	return key, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func testSettings() Settings {
	_, text := newKey(1)
	return Settings{
		SigningKeys: config.Secret(text), Issuer: "coatcheck", MaxPasswordHashes: 4,
		Lives: Lives{GuestTicketLife: 720 * time.Hour, SessionIdle: 30 * time.Minute, SessionLife: 12 * time.Hour},
	}
}

// cheapHasher hashes in a moment, by the same way.
func cheapHasher(atOnce int) *hasher {
	return newHasher(atOnce, cost{memory: 64, passes: 1, threads: 1})
}

func newServer(t *testing.T, rdb redis.UniversalClient, now func() time.Time) *Server {
	t.Helper()
	s, err := New(testSettings(), NewRedisStore(rdb), now)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// newCheapServer is newServer with cheap passwords, for tests that take turns or
// crashes around commands to Redis hundreds of times: nothing there depends on how
// long a hash takes, which would be most of their time.
func newCheapServer(t *testing.T, rdb redis.UniversalClient, now func() time.Time) *Server {
	t.Helper()
	s := newServer(t, rdb, now)
	s.passwords = cheapHasher(cap(s.passwords.turns))
	return s
}

// serve puts a replica behind a real gRPC server and returns a client of it.
func serve(t *testing.T, s *Server) authv1.AuthServiceClient {
	t.Helper()
	return serveLogging(t, s, io.Discard)
}

func serveLogging(t *testing.T, s *Server, log io.Writer) authv1.AuthServiceClient {
	t.Helper()
	server := rpc.NewServer(slog.New(slog.NewTextHandler(log, nil)), prometheus.NewRegistry(), "auth-test")
	authv1.RegisterAuthServiceServer(server, s)
	following, stop := context.WithCancel(t.Context())
	t.Cleanup(stop)
	server.OnDrain = stop
	go s.Follow(following)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(lis) }()
	t.Cleanup(server.Close)
	conn, err := rpc.Dial(lis.Addr().String(), rpc.NewClientMetrics(prometheus.NewRegistry()), rpc.Announced())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := rpc.AwaitReady(ctx, conn); err != nil {
		t.Fatal(err)
	}
	return authv1.NewAuthServiceClient(conn)
}

// logged keeps what is written to it.
type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func newUserID() string { return userKind + draw(idBytes) }

// newEmail returns an address that nobody has.
func newEmail() string { return strings.ToLower(draw(15)) + "@example.com" }

const goodPassword = "correct horse battery"

// enrol registers a user with goodPassword.
func enrol(t *testing.T, c authv1.AuthServiceClient) (id, email string) {
	t.Helper()
	id, email = newUserID(), newEmail()
	if _, err := c.Register(t.Context(), &authv1.RegisterRequest{UserId: id, Email: email, Password: goodPassword}); err != nil {
		t.Fatal(err)
	}
	return id, email
}

func logIn(t *testing.T, c authv1.AuthServiceClient, email string) *authv1.LogInResponse {
	t.Helper()
	resp, err := c.LogIn(t.Context(), &authv1.LogInRequest{Email: email, Password: goodPassword, Device: "curl/8"})
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func verify(c authv1.AuthServiceClient, token string) error {
	_, err := c.VerifySession(context.Background(), &authv1.VerifySessionRequest{SessionToken: token})
	return err
}

// want fails the test unless err is a fault of the kind with the code.
func want(t *testing.T, err error, kind fault.Kind, code string) {
	t.Helper()
	if err == nil {
		t.Fatalf("got no error, want %s", code)
	}
	if f := fault.From(err); f.Kind != kind || f.Code != code {
		t.Fatalf("got kind %d code %q (%v), want kind %d code %q", f.Kind, f.Code, err, kind, code)
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// before is a hook that is asked before each command; an error means that the
// command is not sent, or, with errLost, that only its answer is.
type before func(cmd redis.Cmder) error

var errLost = errors.New("answer lost")

func (h before) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h before) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h before) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "hello" || cmd.Name() == "client" {
			return next(ctx, cmd) // a new connection introduces itself
		}
		err := h(cmd)
		if err == nil {
			return next(ctx, cmd)
		}
		if errors.Is(err, errLost) {
			_ = next(ctx, cmd)
		}
		cmd.SetErr(err)
		return err
	}
}

// crash is a replica's death around a command: the first n go through; of the
// next one, the command or only its answer is lost; nothing follows.
type crash struct {
	left       int
	answerLost bool
	happened   bool
}

func (c *crash) hook() before {
	return func(redis.Cmder) error {
		c.left--
		switch {
		case c.left >= 0:
			return nil
		case c.left == -1 && c.answerLost:
			c.happened = true
			return errLost
		default:
			c.happened = true
			return errors.New("connection broken")
		}
	}
}

func (c *crash) String() string {
	what := "before"
	if c.answerLost {
		what = "after"
	}
	return what + " command " + strconv.Itoa(c.left+1)
}

// crashes runs step with a crash around each command that it sends, until one
// run goes through whole.
func crashes(t *testing.T, step func(t *testing.T, c *crash)) {
	for _, answerLost := range []bool{false, true} {
		for n := 0; ; n++ {
			c := &crash{left: n, answerLost: answerLost}
			t.Run(c.String(), func(t *testing.T) { step(t, c) })
			if t.Failed() {
				return
			}
			if !c.happened {
				if n < 2 {
					t.Fatal("no crash ever happened")
				}
				break
			}
		}
	}
}

// explore runs actors, each with a Redis client of its own, in every order in
// which their commands can reach Redis. setup is called before each order, and
// check after it with what the actors returned.
func explore(t *testing.T, redisServer *redisServer, actors []func(rdb redis.UniversalClient) error, setup func(), check func(order []int, results []error)) {
	t.Helper()
	type event struct {
		actor int
		done  bool
	}
	events := make(chan event)
	turns := make([]chan struct{}, len(actors))
	clients := make([]redis.UniversalClient, len(actors))
	for i := range actors {
		turns[i] = make(chan struct{})
		clients[i] = redisServer.client(t, before(func(redis.Cmder) error {
			events <- event{actor: i}
			<-turns[i]
			return nil
		}))
	}
	var choices []int // which of those that can go on went on, at each point
	orders := 0
	for {
		setup()
		results := make([]error, len(actors))
		for i, act := range actors {
			go func() {
				results[i] = act(clients[i])
				events <- event{i, true}
			}()
		}
		var order, open []int
		waiting := map[int]bool{}
		running := len(actors)
		for point := 0; ; {
			for ; running > 0; running-- { // until each is done or waits for its turn
				if e := <-events; !e.done {
					waiting[e.actor] = true
				}
			}
			if len(waiting) == 0 {
				break
			}
			var able []int
			for i := range actors {
				if waiting[i] {
					able = append(able, i)
				}
			}
			if point == len(choices) {
				choices = append(choices, 0)
			}
			open = append(open, len(able))
			if choices[point] >= len(able) {
				t.Fatalf("after %v, which led elsewhere before: %v", order, results)
			}
			chosen := able[choices[point]]
			point++
			order = append(order, chosen)
			delete(waiting, chosen)
			running = 1
			turns[chosen] <- struct{}{}
		}
		check(order, results)
		if orders++; t.Failed() {
			return
		}
		for len(choices) > 0 && choices[len(choices)-1] == open[len(choices)-1]-1 {
			choices = choices[:len(choices)-1]
		}
		if len(choices) == 0 {
			t.Logf("%d orders", orders)
			return
		}
		choices[len(choices)-1]++
	}
}
