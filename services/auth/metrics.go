package auth

import (
	"context"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"google.golang.org/grpc"

	"coatcheck/chassis/fault"
	"coatcheck/chassis/measure"
	authv1 "coatcheck/proto/coatcheck/auth/v1"
)

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
