package auth

import (
	"context"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"google.golang.org/grpc"

	"coatcheck/chassis/fault"
	"coatcheck/chassis/measure"
	authv1 "coatcheck/proto/coatcheck/auth/v1"
)

// Show shows in reg how well the log of revocations is followed.
func (s *Server) Show(reg prometheus.Registerer) {
	f, began := promauto.With(reg), time.Now()
	of := func(value func(*feed) float64) func() float64 {
		return func() float64 {
			s.feed.mu.Lock()
			defer s.feed.mu.Unlock()
			return value(s.feed)
		}
	}
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "coatcheck_auth_revocations_age_seconds",
		Help: "Everything revoked longer ago than this was read from the log; what a gateway knows is never younger.",
	}, of(func(f *feed) float64 {
		if f.complete.IsZero() {
			return time.Since(began).Seconds()
		}
		return time.Since(f.complete).Seconds()
	}))
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "coatcheck_auth_revocation_streams",
		Help: "Gateways that hear of revocations from this replica.",
	}, of(func(f *feed) float64 { return float64(f.watching) }))
	f.NewCounterFunc(prometheus.CounterOpts{
		Name: "coatcheck_auth_revocation_logs_lost_total",
		Help: "How often the log of revocations was lost from Redis, as this replica noticed.",
	}, of(func(f *feed) float64 { return float64(f.losses) }))
}

// Measured returns an interceptor that counts in reg how log-ins,
// registrations and checks of sessions end, and what the limits refused.
func Measured(reg prometheus.Registerer) grpc.UnaryServerInterceptor {
	counter := func(name, help string, results ...string) *prometheus.CounterVec {
		c := promauto.With(reg).NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"result"})
		// From the start, so that the first of each is an increase.
		for _, result := range append(results, "done", "unavailable", "internal") {
			c.WithLabelValues(result)
		}
		return c
	}
	counters := map[string]*prometheus.CounterVec{
		authv1.AuthService_LogIn_FullMethodName: counter("coatcheck_auth_logins_total",
			"Log-ins by result: done, unauthenticated (address or password is wrong), exhausted (a limit), unavailable (also: too many at once) or internal.", "unauthenticated", "exhausted"),
		authv1.AuthService_Register_FullMethodName: counter("coatcheck_auth_registrations_total",
			"Registrations by result: done, invalid, conflict (the address is taken), exhausted (a limit), unavailable (also: too many at once) or internal.", "invalid", "conflict", "exhausted"),
		authv1.AuthService_VerifySession_FullMethodName: counter("coatcheck_auth_session_checks_total",
			"Sessions looked up, by result: done, unauthenticated (the session is over), unavailable or internal.", "unauthenticated"),
	}
	limited := promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
		Name: "coatcheck_auth_limited_total",
		Help: "Calls that a limit refused: logins or registrations (of one client address), or tries (at one account).",
	}, []string{"limit"})
	refused := map[string]prometheus.Counter{}
	for code := range limitWords {
		refused[code] = limited.WithLabelValues(strings.TrimPrefix(code, "too_many_"))
	}
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		resp, err := handler(ctx, req)
		if c := counters[info.FullMethod]; c != nil {
			c.WithLabelValues(measure.Result(err)).Inc()
		}
		if err != nil {
			if c := refused[fault.From(err).Code]; c != nil {
				c.Inc()
			}
		}
		return resp, err
	}
}
