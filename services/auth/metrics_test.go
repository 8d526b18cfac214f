package auth

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"coatcheck/chassis"
	"coatcheck/chassis/fault"
	"coatcheck/chassis/measuretest"
	authv1 "coatcheck/proto/coatcheck/auth/v1"
)

// TestMeasured: log-ins, registrations, refreshes and checks of sessions are counted
// by how they ended, and nothing of who they were for.
func TestMeasured(t *testing.T) {
	reg := chassis.NewRegistry()
	intercept := Measured(reg)
	call := func(method string, req any, err error) {
		answer := func(context.Context, any) (any, error) { return nil, err }
		if _, got := intercept(t.Context(), req, &grpc.UnaryServerInfo{FullMethod: method}, answer); got != err {
			t.Fatalf("the error became %v", got)
		}
	}
	before := measuretest.Check(t, reg)
	wrong := fault.New(fault.Unauthenticated, "wrong_credentials", "Address or password is wrong.")
	limited := fault.New(fault.Exhausted, "too_many_tries", "Too many.")
	away := fault.New(fault.Unavailable, "store_unavailable", "Away.")
	for n := range 10_000 {
		email := fmt.Sprintf("user-%d@example.org", n)
		call(authv1.AuthService_Register_FullMethodName, &authv1.RegisterRequest{Email: email}, nil)
		call(authv1.AuthService_LogIn_FullMethodName, &authv1.LogInRequest{Email: email}, nil)
		call(authv1.AuthService_VerifySession_FullMethodName, &authv1.VerifySessionRequest{SessionToken: email}, nil)
		call(authv1.AuthService_IssueTokens_FullMethodName, &authv1.IssueTokensRequest{Email: email}, nil)
		call(authv1.AuthService_RefreshTokens_FullMethodName, &authv1.RefreshTokensRequest{RefreshToken: email}, nil)
		call(authv1.AuthService_VerifyAccessToken_FullMethodName, &authv1.VerifyAccessTokenRequest{AccessToken: email}, nil)
		call(authv1.AuthService_ListSessions_FullMethodName, &authv1.ListSessionsRequest{UserId: email}, nil)
	}
	for range 3 {
		call(authv1.AuthService_LogIn_FullMethodName, nil, wrong)
		call(authv1.AuthService_LogIn_FullMethodName, nil, limited)
		call(authv1.AuthService_IssueTokens_FullMethodName, nil, fmt.Errorf("asking: %w", limited))
		call(authv1.AuthService_Register_FullMethodName, nil, fault.New(fault.Exhausted, "too_many_registrations", "Too many."))
		call(authv1.AuthService_LogIn_FullMethodName, nil, fmt.Errorf("asking: %w", away))
		call(authv1.AuthService_Register_FullMethodName, nil, fault.New(fault.Conflict, "email_taken", "Taken."))
		call(authv1.AuthService_VerifySession_FullMethodName, nil, wrong)
		call(authv1.AuthService_VerifyAccessToken_FullMethodName, nil, errInvalidToken)
		call(authv1.AuthService_RefreshTokens_FullMethodName, nil, errInvalidGrant)
	}
	if after := measuretest.Check(t, reg); after != before {
		t.Errorf("%d series, and %d after 10000 users", before, after)
	}
	want := map[string]float64{
		"coatcheck_auth_logins_total done": 20_000, "coatcheck_auth_logins_total unauthenticated": 3, "coatcheck_auth_logins_total unavailable": 3,
		"coatcheck_auth_logins_total exhausted": 6, "coatcheck_auth_registrations_total exhausted": 3,
		"coatcheck_auth_limited_total logins": 0, "coatcheck_auth_limited_total tries": 6, "coatcheck_auth_limited_total registrations": 3,
		"coatcheck_auth_logins_total internal": 0, "coatcheck_auth_registrations_total done": 10_000, "coatcheck_auth_registrations_total conflict": 3,
		"coatcheck_auth_session_checks_total done": 20_000, "coatcheck_auth_session_checks_total unauthenticated": 6,
		"coatcheck_auth_refreshes_total done": 10_000, "coatcheck_auth_refreshes_total unauthenticated": 3,
	}
	got := counts(t, reg)
	for name, n := range want {
		if value, ok := got[name]; value != n || !ok {
			t.Errorf("%s is %v, want %v; all: %v", name, value, n, got)
		}
	}
}

// TestReuseIsCounted: of the refresh tokens that are refused, those that ended a
// session.
func TestReuseIsCounted(t *testing.T) {
	s, reg := newServer(t, startRedis(t).client(t), time.Now), chassis.NewRegistry()
	s.Show(reg)
	of := newSessionOf(t, s)
	for range 3 { // the first ends the session
		_, err := s.RefreshTokens(t.Context(), &authv1.RefreshTokensRequest{RefreshToken: of.usedUp})
		want(t, err, fault.Unauthenticated, "invalid_grant")
	}
	if n := plain(t, reg, "coatcheck_auth_refresh_tokens_reused_total"); n != 1 {
		t.Errorf("%v were counted, want 1", n)
	}
}

// plain is the value of a counter without labels.
func plain(t *testing.T, reg prometheus.Gatherer, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	ok(t, err)
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatalf("no %s", name)
	return 0
}

func counts(t *testing.T, reg prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if m.GetCounter() != nil && len(m.GetLabel()) == 1 {
				all[f.GetName()+" "+m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
			}
		}
	}
	return all
}
