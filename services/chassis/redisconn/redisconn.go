// Package redisconn opens the service's one Redis client and measures it in one
// place, a hook.
//
// The hazards: go-redis re-sends a command after a broken connection by
// default, also one that may have been applied, so retries are off here and
// belong to whoever holds an idempotency key; and without ContextTimeoutEnabled
// a caller's deadline never reaches the socket.
package redisconn

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"

	"coatcheck/chassis/certs"
	"coatcheck/chassis/config"
	"coatcheck/chassis/fault"
	"coatcheck/chassis/measure"
)

// Settings say which Redis: one server, Sentinel or Cluster. There is no
// default, because a service without its store must not start.
type Settings struct {
	// Addrs are host:port: one server, or the Sentinels, or some Cluster nodes.
	Addrs []string `env:"REDIS_ADDRS,required,notEmpty"`
	// Master is the name of the primary that the Sentinels watch.
	Master string `env:"REDIS_MASTER"`
	// Cluster says that Addrs are nodes of a Redis Cluster.
	Cluster  bool          `env:"REDIS_CLUSTER"`
	Username string        `env:"REDIS_USERNAME"`
	Password config.Secret `env:"REDIS_PASSWORD_FILE,file"`
	// PasswordFile is read again for each new connection, so that the password can
	// change. Redis must take both until every replica has the new one.
	PasswordFile string `env:"REDIS_PASSWORD_FILE"`
	// TLS has connections to Redis (and the Sentinels) encrypted.
	TLS bool `env:"REDIS_TLS"`
	// CA is whose certificates a server may have; empty for the system's
	// authorities. Cert and Key are for a Redis that wants to know its clients.
	CA   string `env:"REDIS_TLS_CA_FILE"`
	Cert string `env:"REDIS_TLS_CERT_FILE"`
	Key  string `env:"REDIS_TLS_KEY_FILE"`
	// PoolSize bounds the connections to each Redis server.
	PoolSize int `env:"REDIS_POOL_SIZE" envDefault:"16"`
	// Timeout bounds each command, beside the caller's own deadline.
	Timeout time.Duration `env:"REDIS_TIMEOUT" envDefault:"500ms"`
}

// Validate names each fault. Addresses are not shown: someone may have put a
// password into one.
func (s Settings) Validate() []error {
	var faults []error
	for _, addr := range s.Addrs {
		host, port, err := net.SplitHostPort(addr)
		if n, e := strconv.ParseUint(port, 10, 16); err != nil || e != nil || n == 0 || host == "" {
			faults = append(faults, errors.New("COATCHECK_REDIS_ADDRS: each must be host:port, without a scheme or a password"))
			break
		}
	}
	switch {
	case s.Cluster && s.Master != "":
		faults = append(faults, errors.New("COATCHECK_REDIS_MASTER: is for Sentinel and contradicts COATCHECK_REDIS_CLUSTER"))
	case !s.Cluster && s.Master == "" && len(s.Addrs) > 1:
		faults = append(faults, errors.New("COATCHECK_REDIS_ADDRS: several addresses need COATCHECK_REDIS_MASTER (Sentinel) or COATCHECK_REDIS_CLUSTER"))
	}
	if s.Username != "" && s.Password == "" {
		faults = append(faults, errors.New("COATCHECK_REDIS_USERNAME: needs COATCHECK_REDIS_PASSWORD_FILE"))
	}
	if !s.TLS && (s.CA != "" || s.Cert != "" || s.Key != "") {
		faults = append(faults, errors.New("COATCHECK_REDIS_TLS: must be true for the files of TLS to mean anything"))
	}
	if (s.Cert == "") != (s.Key == "") {
		faults = append(faults, errors.New("COATCHECK_REDIS_TLS_CERT_FILE: belongs together with COATCHECK_REDIS_TLS_KEY_FILE"))
	}
	if s.PoolSize < 1 || s.PoolSize > 10_000 {
		faults = append(faults, errors.New("COATCHECK_REDIS_POOL_SIZE: must be 1 to 10000"))
	}
	if s.Timeout < 10*time.Millisecond || s.Timeout > 10*time.Second {
		faults = append(faults, errors.New("COATCHECK_REDIS_TIMEOUT: must be 10ms to 10s"))
	}
	return faults
}

// Open returns a client; it does not connect yet. The caller closes it. source is
// for a Redis that speaks TLS, see Settings.Certificates; nil for none.
func Open(s Settings, reg prometheus.Registerer, source *certs.Source) redis.UniversalClient {
	logging.Disable() // what goes wrong is in the commands' errors, which the caller logs
	// Without MinIdleConns: connections that the pool opens itself can take the last
	// places from a caller that has begun to open its own, and that is refused at
	// once, with redis.ErrPoolExhausted.
	rdb := redis.NewUniversalClient(&redis.UniversalOptions{
		Addrs:                    s.Addrs,
		MasterName:               s.Master,
		IsClusterMode:            s.Cluster,
		Dialer:                   dialer(source),
		CredentialsProvider:      s.credentials,
		MaxRetries:               -1,
		ContextTimeoutEnabled:    true,
		DialTimeout:              dialTimeout,
		DialerRetries:            1,
		ReadTimeout:              s.Timeout,
		WriteTimeout:             s.Timeout,
		PoolTimeout:              200 * time.Millisecond,
		PoolSize:                 s.PoolSize,
		MaxActiveConns:           s.PoolSize,
		PipelinePoolSize:         -1, // pipelines take from the one pool
		MaxConcurrentDials:       8,
		DisableIdentity:          true, // two commands fewer for each connection
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	rdb.AddHook(newHook(reg))
	registerPool(rdb, s.PoolSize, reg)
	reg.MustRegister(newInfo(rdb, s))
	return rdb
}

// Unavailable makes a store's error of a Redis error that is not an answer to
// the command: the connection, the deadline, a server that is loading, failing
// over, out of memory or read-only.
func Unavailable(err error) error {
	if errors.Is(err, context.Canceled) {
		return fault.Wrap(err, fault.Unavailable, "canceled", "The request was given up.")
	}
	return fault.Wrap(err, fault.Unavailable, "store_unavailable", "The store is not answering; nothing is known to be lost. Try again.")
}

// Ping answers nil when Redis takes commands.
func Ping(ctx context.Context, rdb redis.UniversalClient) error {
	if err := rdb.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	return nil
}

// hook measures each command once, where it is sent, and each connection.
type hook struct {
	seconds *prometheus.HistogramVec
	dials   *prometheus.CounterVec
}

func newHook(reg prometheus.Registerer) *hook {
	f := promauto.With(reg)
	h := &hook{
		seconds: f.NewHistogramVec(measure.Histogram("redis_client_command_duration_seconds",
			"From sending a Redis command to its answer, by result: ok, refused (an error that Redis answered) or failed. A pipeline counts once.",
			[]float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1}), []string{"command", "result"}),
		dials: f.NewCounterVec(prometheus.CounterOpts{
			Name: "redis_client_dials_total",
			Help: "Connections to Redis that were tried to open, by result: ok or failed.",
		}, []string{"result"}),
	}
	for _, result := range []string{"ok", "failed"} {
		h.dials.WithLabelValues(result)
	}
	return h
}

func (h *hook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := next(ctx, network, addr)
		h.dials.WithLabelValues(result(err)).Inc()
		return conn, err
	}
}

func (h *hook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		start := time.Now()
		err := next(ctx, cmd)
		if cmd.Name() == "xread" && (err == nil || errors.Is(err, redis.Nil)) {
			return err // it waits for news: how long tells nothing of Redis
		}
		h.observe(ctx, cmd.Name(), start, err)
		return err
	}
}

func (h *hook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		start := time.Now()
		err := next(ctx, cmds)
		h.observe(ctx, "pipeline", start, err)
		return err
	}
}

func (h *hook) observe(ctx context.Context, command string, start time.Time, err error) {
	took := time.Since(start).Seconds()
	measure.Observe(ctx, h.seconds.WithLabelValues(command, result(err)), took)
}

func result(err error) string {
	if err == nil || errors.Is(err, redis.Nil) {
		return "ok"
	}
	if _, answered := errors.AsType[redis.Error](err); answered {
		return "refused"
	}
	return "failed"
}

// registerPool shows the connection pool as metrics.
func registerPool(rdb redis.UniversalClient, size int, reg prometheus.Registerer) {
	f := promauto.With(reg)
	gauge := func(name, help string, value func(*redis.PoolStats) float64) {
		f.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return value(rdb.PoolStats()) })
	}
	counter := func(name, help string, value func(*redis.PoolStats) float64) {
		f.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return value(rdb.PoolStats()) })
	}
	gauge("redis_client_pool_connections", "Open connections to Redis.",
		func(s *redis.PoolStats) float64 { return float64(s.TotalConns) })
	gauge("redis_client_pool_idle_connections", "Open connections to Redis that nobody uses now.",
		func(s *redis.PoolStats) float64 { return float64(s.IdleConns) })
	gauge("redis_client_pool_max_connections", "Connections that may be open to one Redis server.",
		func(*redis.PoolStats) float64 { return float64(size) })
	counter("redis_client_pool_waits_total", "Commands that waited for a free connection.",
		func(s *redis.PoolStats) float64 { return float64(s.WaitCount) })
	counter("redis_client_pool_wait_seconds_total", "How long commands waited for a free connection.",
		func(s *redis.PoolStats) float64 { return time.Duration(s.WaitDurationNs).Seconds() })
	counter("redis_client_pool_timeouts_total", "Commands that found no free connection in time.",
		func(s *redis.PoolStats) float64 { return float64(s.Timeouts) })
}
