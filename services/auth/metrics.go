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

// Show shows in reg how well the log of revocations is followed, and the refresh
// tokens that were shown again.
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
	f.NewCounterFunc(prometheus.CounterOpts{
		Name: "coatcheck_auth_refresh_tokens_reused_total",
		Help: "Sessions ended because a refresh token was shown that had been used up: a sign that it was stolen.",
	}, func() float64 { return float64(s.reused.Load()) })
}

// Measured returns an interceptor that counts in reg how log-ins, registrations,
// refreshes and checks of sessions end, and what the limits refused.
func Measured(reg prometheus.Registerer) grpc.UnaryServerInterceptor {
	counter := func(name, help string, results ...string) *prometheus.CounterVec {
		c := promauto.With(reg).NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"result"})
		// From the start, so that the first of each is an increase.
		for _, result := range append(results, "done", "unavailable", "internal") {
			c.WithLabelValues(result)
		}
		return c
	}
	logIns := counter("coatcheck_auth_logins_total",
		"Log-ins, for a cookie or tokens, by result: done, unauthenticated (address or password is wrong), exhausted (a limit), unavailable (also: too many at once) or internal.", "unauthenticated", "exhausted")
	checks := counter("coatcheck_auth_session_checks_total",
		"Sessions looked up, by cookie or access token, by result: done, unauthenticated (the session is over, or the token no good), unavailable or internal.", "unauthenticated")
	counters := map[string]*prometheus.CounterVec{
		authv1.AuthService_LogIn_FullMethodName:             logIns,
		authv1.AuthService_IssueTokens_FullMethodName:       logIns,
		authv1.AuthService_VerifySession_FullMethodName:     checks,
		authv1.AuthService_VerifyAccessToken_FullMethodName: checks,
		authv1.AuthService_RefreshTokens_FullMethodName: counter("coatcheck_auth_refreshes_total",
			"Refresh tokens shown, by result: done, unauthenticated (used up, of a session that is over, or none), unavailable or internal.", "unauthenticated"),
		authv1.AuthService_Register_FullMethodName: counter("coatcheck_auth_registrations_total",
			"Registrations by result: done, invalid, conflict (the address is taken), exhausted (a limit), unavailable (also: too many at once) or internal.", "invalid", "conflict", "exhausted"),
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
