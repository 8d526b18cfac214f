package redisconn_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"coatcheck/chassis/config"
	"coatcheck/chassis/fault"
	"coatcheck/chassis/measuretest"
	"coatcheck/chassis/redisconn"
	"coatcheck/chassis/redistest"
)

func load(t *testing.T, environ ...string) redisconn.Settings {
	t.Helper()
	s, err := config.Load[redisconn.Settings](environ)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func open(t *testing.T, reg *prometheus.Registry, environ ...string) redis.UniversalClient {
	t.Helper()
	rdb := redisconn.Open(load(t, environ...), reg, nil)
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

func TestSettings(t *testing.T) {
	const one = "COATCHECK_REDIS_ADDRS=a:1"
	secret := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(secret, []byte("hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		environ []string
		want    string // the names of the faulty settings, in order
	}{
		"one server":                   {[]string{one}, ""},
		"sentinels":                    {[]string{"COATCHECK_REDIS_ADDRS=a:1,b:1,[::1]:1", "COATCHECK_REDIS_MASTER=m"}, ""},
		"cluster":                      {[]string{one, "COATCHECK_REDIS_CLUSTER=true"}, ""},
		"user":                         {[]string{one, "COATCHECK_REDIS_USERNAME=u", "COATCHECK_REDIS_PASSWORD_FILE=" + secret}, ""},
		"nothing":                      {nil, "ADDRS"},
		"empty":                        {[]string{"COATCHECK_REDIS_ADDRS="}, "ADDRS"},
		"no port":                      {[]string{"COATCHECK_REDIS_ADDRS=a"}, "ADDRS"},
		"an URL with a password":       {[]string{"COATCHECK_REDIS_ADDRS=redis://:hunter2@a:1"}, "ADDRS"},
		"one of them empty":            {[]string{"COATCHECK_REDIS_ADDRS=a:1,", "COATCHECK_REDIS_CLUSTER=true"}, "ADDRS"},
		"several for one server":       {[]string{"COATCHECK_REDIS_ADDRS=a:1,b:1"}, "ADDRS"},
		"sentinel and cluster":         {[]string{one, "COATCHECK_REDIS_CLUSTER=true", "COATCHECK_REDIS_MASTER=m"}, "MASTER"},
		"user without password":        {[]string{one, "COATCHECK_REDIS_USERNAME=u"}, "USERNAME"},
		"password where its file goes": {[]string{one, "COATCHECK_REDIS_PASSWORD_FILE=hunter2"}, "PASSWORD_FILE"},
		"no pool":                      {[]string{one, "COATCHECK_REDIS_POOL_SIZE=0"}, "POOL_SIZE"},
		"huge pool":                    {[]string{one, "COATCHECK_REDIS_POOL_SIZE=10001"}, "POOL_SIZE"},
		"short":                        {[]string{one, "COATCHECK_REDIS_TIMEOUT=9ms"}, "TIMEOUT"},
		"long":                         {[]string{one, "COATCHECK_REDIS_TIMEOUT=11s"}, "TIMEOUT"},
		"no duration":                  {[]string{one, "COATCHECK_REDIS_TIMEOUT=soon"}, "TIMEOUT"},
		"several faults": {[]string{"COATCHECK_REDIS_ADDRS=a", "COATCHECK_REDIS_CLUSTER=true", "COATCHECK_REDIS_MASTER=m", "COATCHECK_REDIS_POOL_SIZE=0",
			"COATCHECK_REDIS_TIMEOUT=0", "COATCHECK_REDIS_USERNAME=u"}, "ADDRS MASTER POOL_SIZE TIMEOUT USERNAME"},
	} {
		_, err := config.Load[redisconn.Settings](c.environ)
		var got []string
		if err != nil {
			for _, line := range strings.Split(err.Error(), "\n  COATCHECK_REDIS_")[1:] {
				name, _, _ := strings.Cut(line, ":")
				got = append(got, name)
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: faults in %v, want %q: %v", name, got, c.want, err)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error shows what may be a secret: %v", name, err)
		}
	}
}

// A proxy lets INCR reach Redis and hangs up before the answer: whoever sends
// it again by itself counts twice.
func TestNothingIsSentTwice(t *testing.T) {
	server := redistest.Start(t)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lis.Close() }()
	go func() {
		for {
			client, err := lis.Accept()
			if err != nil {
				return
			}
			go cutAfter(client, server.Addr, "incr")
		}
	}()
	proxied := open(t, prometheus.NewRegistry(), "COATCHECK_REDIS_ADDRS="+lis.Addr().String())
	direct := open(t, prometheus.NewRegistry(), "COATCHECK_REDIS_ADDRS="+server.Addr)
	script := redis.NewScript(`return redis.call("incr", KEYS[1])`)
	if err := script.Load(t.Context(), direct).Err(); err != nil {
		t.Fatal(err)
	}
	for i, send := range []func(key string) error{
		func(key string) error { return proxied.Incr(t.Context(), key).Err() },
		func(key string) error { return script.Run(t.Context(), proxied, []string{key}).Err() },
		func(key string) error {
			_, err := proxied.Pipelined(t.Context(), func(p redis.Pipeliner) error { p.Incr(t.Context(), key); return nil })
			return err
		},
	} {
		key := fmt.Sprintf("incr:%d", i)
		if err := proxied.Set(t.Context(), "warm", "up", 0).Err(); err != nil {
			t.Fatal(err)
		}
		if err := send(key); !fault.Is(redisconn.Unavailable(err), fault.Unavailable) || err == nil {
			t.Errorf("%s: %v, want the broken connection", key, err)
		}
		if n, err := direct.Get(t.Context(), key).Int(); n != 1 || err != nil {
			t.Errorf("%s was applied %d times, want once (%v)", key, n, err)
		}
	}
}

// cutAfter is one proxied connection. It ends when Redis has answered what has
// the word in it; that answer is dropped.
func cutAfter(client net.Conn, addr, word string) {
	defer func() { _ = client.Close() }()
	upstream, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	defer func() { _ = upstream.Close() }()
	var cut atomic.Bool
	go func() {
		buf := make([]byte, 64<<10)
		for {
			n, err := client.Read(buf)
			if err != nil {
				_ = upstream.Close()
				return
			}
			if bytes.Contains(bytes.ToLower(buf[:n]), []byte(word)) {
				cut.Store(true)
			}
			_, _ = upstream.Write(buf[:n])
		}
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := upstream.Read(buf)
		if err != nil || cut.Load() {
			return
		}
		_, _ = client.Write(buf[:n])
	}
}

func TestDeadlinesReachTheSocket(t *testing.T) {
	server := redistest.Start(t)
	patient := open(t, prometheus.NewRegistry(), "COATCHECK_REDIS_ADDRS="+server.Addr, "COATCHECK_REDIS_TIMEOUT=9s")
	hasty := open(t, prometheus.NewRegistry(), "COATCHECK_REDIS_ADDRS="+server.Addr, "COATCHECK_REDIS_TIMEOUT=200ms")
	for _, rdb := range []redis.UniversalClient{patient, hasty} {
		if err := redisconn.Ping(t.Context(), rdb); err != nil {
			t.Fatal(err)
		}
	}
	server.Signal(t, syscall.SIGSTOP)
	defer server.Signal(t, syscall.SIGCONT)

	ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
	defer cancel()
	begin := time.Now()
	err := patient.Get(ctx, "k").Err()
	if took := time.Since(begin); err == nil || took > 2*time.Second {
		t.Errorf("the caller's deadline of 150ms: %v after %v", err, took)
	}
	if f := fault.From(redisconn.Unavailable(err)); f.Kind != fault.Unavailable || f.Code != "store_unavailable" {
		t.Errorf("is %v", f)
	}
	begin = time.Now()
	err = hasty.Get(t.Context(), "k").Err()
	if took := time.Since(begin); err == nil || took > 2*time.Second {
		t.Errorf("the setting of 200ms: %v after %v", err, took)
	}

	canceled, stop := context.WithCancel(t.Context())
	stop()
	err = redisconn.Unavailable(patient.Get(canceled, "k").Err())
	if f := fault.From(err); f.Kind != fault.Unavailable || f.Code != "canceled" {
		t.Errorf("a request given up is %v", f)
	}
}

func TestRedisGoneAndBack(t *testing.T) {
	server := redistest.Start(t)
	reg := prometheus.NewRegistry()
	rdb := open(t, reg, "COATCHECK_REDIS_ADDRS="+server.Addr, "COATCHECK_REDIS_POOL_SIZE=4")
	if err := rdb.Set(t.Context(), "k", "kept", 0).Err(); err != nil {
		t.Fatal(err)
	}
	server.Kill()
	// More failures than the pool has places, from many at once: go-redis answers
	// from memory by then, and looks for the server once a second.
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for range 4 {
				begin := time.Now()
				err := rdb.Get(t.Context(), "k").Err()
				if err == nil || errors.Is(err, redis.Nil) {
					t.Errorf("Redis is gone, and a read says %v", err)
				}
				if f := fault.From(redisconn.Unavailable(err)); f.Kind != fault.Unavailable {
					t.Errorf("is %v", f)
				}
				if took := time.Since(begin); took > 2*time.Second {
					t.Errorf("took %v", took)
				}
			}
		})
	}
	callers.Wait()
	if err := redisconn.Ping(t.Context(), rdb); err == nil {
		t.Error("Ping says that Redis is there")
	}
	server.Restart(t)
	begin := time.Now()
	var got string
	for err := error(errors.New("not asked")); err != nil; got, err = rdb.Get(t.Context(), "k").Result() {
		if time.Since(begin) > 5*time.Second {
			t.Fatalf("Redis is back, and reads still fail: %v", err)
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Logf("the first answer came after %v", time.Since(begin))
	if got != "kept" {
		t.Errorf("read %q", got)
	}
	if n := counts(t, reg)["get failed"]; n < 32 {
		t.Errorf("%d failed reads are in the histogram, want 32 or more", n)
	}
}

// counts gives the histogram's counts as "command result".
func counts(t *testing.T, reg *prometheus.Registry) map[string]uint64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	n := map[string]uint64{}
	for _, f := range families {
		if f.GetName() != "redis_client_command_duration_seconds" {
			continue
		}
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			n[labels["command"]+" "+labels["result"]] = m.GetHistogram().GetSampleCount()
		}
	}
	return n
}

func TestMetrics(t *testing.T) {
	server := redistest.Start(t)
	reg := prometheus.NewRegistry()
	rdb := open(t, reg, "COATCHECK_REDIS_ADDRS="+server.Addr)
	ctx := t.Context()
	rdb.Set(ctx, "k", "v", 0)
	rdb.Get(ctx, "k")
	rdb.Get(ctx, "absent")
	rdb.HGetAll(ctx, "k") // the wrong type
	_, _ = rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.Get(ctx, "k")
		p.Get(ctx, "k")
		return nil
	})
	// What waits is not slow; what fails has failed.
	rdb.XRead(ctx, &redis.XReadArgs{Streams: []string{"stream", "0"}, Block: time.Millisecond})
	rdb.XRead(ctx, &redis.XReadArgs{Streams: []string{"k", "0"}, Block: time.Millisecond})
	got := counts(t, reg)
	for name, want := range map[string]uint64{"set ok": 1, "get ok": 2, "hgetall refused": 1, "pipeline ok": 1, "xread ok": 0, "xread refused": 1} {
		if got[name] != want {
			t.Errorf("%s: %d, want %d; all: %v", name, got[name], want, got)
		}
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "redis_client_") { // others are what Redis says
			names = append(names, f.GetName())
		}
	}
	const want = "redis_client_command_duration_seconds redis_client_dials_total redis_client_pool_connections redis_client_pool_idle_connections " +
		"redis_client_pool_max_connections redis_client_pool_timeouts_total redis_client_pool_wait_seconds_total redis_client_pool_waits_total"
	if strings.Join(names, " ") != want {
		t.Errorf("the metrics are %v", names)
	}
	measuretest.Check(t, reg)
}

func TestPoolIsBounded(t *testing.T) {
	server := redistest.Start(t)
	rdb := open(t, prometheus.NewRegistry(), "COATCHECK_REDIS_ADDRS="+server.Addr, "COATCHECK_REDIS_POOL_SIZE=2")
	var callers sync.WaitGroup
	for range 20 {
		callers.Go(func() {
			for range 20 {
				err := rdb.Get(t.Context(), "absent").Err()
				_, inPipe := rdb.Pipelined(t.Context(), func(p redis.Pipeliner) error { p.Get(t.Context(), "absent"); return nil })
				for _, err := range []error{err, inPipe} {
					// On a busy machine some wait in vain; none opens one more.
					if !errors.Is(err, redis.Nil) && !errors.Is(err, redis.ErrPoolTimeout) {
						t.Error(err)
					}
				}
			}
		})
	}
	callers.Wait()
	list, err := rdb.Do(t.Context(), "client", "list").Text()
	if n := strings.Count(list, "addr=") / 2; err != nil || n > 2 { // addr and laddr
		t.Errorf("%d connections are open, want 2 at most (%v):\n%s", n, err, list)
	}
}

// TestAsManyCallersAsConnections: where callers are no more than connections may
// be, none is refused, above all not by a pool that is still being filled. (The
// race detector's pace is what shows it where some are.)
func TestAsManyCallersAsConnections(t *testing.T) {
	server := redistest.Start(t)
	const size = 16
	for range 150 {
		rdb := open(t, prometheus.NewRegistry(), "COATCHECK_REDIS_ADDRS="+server.Addr, "COATCHECK_REDIS_POOL_SIZE="+strconv.Itoa(size), "COATCHECK_REDIS_TIMEOUT=5s")
		var callers sync.WaitGroup
		for range size {
			callers.Go(func() {
				for range 20 {
					if err := rdb.Get(t.Context(), "absent").Err(); !errors.Is(err, redis.Nil) {
						t.Error(err)
					}
				}
			})
		}
		callers.Wait()
		if t.Failed() {
			return
		}
	}
}

func TestPasswordFromFile(t *testing.T) {
	server := redistest.Start(t, "--requirepass", "right-hunter2")
	dir := t.TempDir()
	for password, works := range map[string]bool{"right-hunter2\n": true, "right-hunter2": true, "wrong-hunter2": false, "": false} {
		environ := []string{"COATCHECK_REDIS_ADDRS=" + server.Addr}
		if password != "" {
			file := filepath.Join(dir, "password")
			if err := os.WriteFile(file, []byte(password), 0o600); err != nil {
				t.Fatal(err)
			}
			environ = append(environ, "COATCHECK_REDIS_PASSWORD_FILE="+file)
		}
		err := redisconn.Ping(t.Context(), open(t, prometheus.NewRegistry(), environ...))
		if works != (err == nil) {
			t.Errorf("with %q: %v", password, err)
		}
		if strings.Contains(fmt.Sprintf("%+v", err), "hunter2") {
			t.Errorf("the error shows the password: %v", err)
		}
	}
}

func TestOneServerSentinelOrCluster(t *testing.T) {
	single, ok := open(t, prometheus.NewRegistry(), "COATCHECK_REDIS_ADDRS=127.0.0.1:1").(*redis.Client)
	if !ok || single.Options().Addr != "127.0.0.1:1" {
		t.Error("one address is not one server")
	}
	sentinel, ok := open(t, prometheus.NewRegistry(), "COATCHECK_REDIS_ADDRS=127.0.0.1:1,127.0.0.1:2", "COATCHECK_REDIS_MASTER=m").(*redis.Client)
	if !ok || sentinel.Options().Addr != "FailoverClient" {
		t.Error("a master's name is not Sentinel")
	}
	cluster, ok := open(t, prometheus.NewRegistry(), "COATCHECK_REDIS_ADDRS=127.0.0.1:1", "COATCHECK_REDIS_CLUSTER=true").(*redis.ClusterClient)
	if !ok {
		t.Fatal("a cluster's node is not a cluster")
	}
	for _, o := range []*redis.Options{single.Options(), sentinel.Options()} {
		if o.MaxRetries != 0 || !o.ContextTimeoutEnabled || o.DialerRetries != 1 || o.ReadTimeout != 500*time.Millisecond {
			t.Errorf("options are %+v", o)
		}
	}
	if o := cluster.Options(); !o.ContextTimeoutEnabled || o.DialerRetries != 1 || o.ReadTimeout != 500*time.Millisecond || o.MaxActiveConns != 16 {
		t.Errorf("the cluster's options are %+v", o)
	}
}

// TestMetricsCost: what a command's metrics cost beside the command.
func TestMetricsCost(t *testing.T) {
	send := redisconn.Measured(prometheus.NewRegistry(), func(context.Context, redis.Cmder) error { return nil })
	cmd := redis.NewCmd(t.Context(), "evalsha", "sum", 1, "key")
	if got := testing.AllocsPerRun(1000, func() { _ = send(t.Context(), cmd) }); got > 0 {
		t.Errorf("the metrics of a command take %v allocations, want none", got)
	}
	measuretest.Takes(t, "the metrics of a command", measuretest.Redis, func() { _ = send(t.Context(), cmd) })
}

func BenchmarkMetrics(b *testing.B) {
	send := redisconn.Measured(prometheus.NewRegistry(), func(context.Context, redis.Cmder) error { return nil })
	cmd := redis.NewCmd(b.Context(), "evalsha", "sum", 1, "key")
	b.ReportAllocs()
	for b.Loop() {
		_ = send(b.Context(), cmd)
	}
}
