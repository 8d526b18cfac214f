package auth

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"coatcheck/chassis/fault"
	"coatcheck/chassis/redistest"
	authv1 "coatcheck/proto/coatcheck/auth/v1"
)

// limitedReplicas are two replicas on one Redis, with limits.
func limitedReplicas(t *testing.T, s *redisServer, change func(*Settings)) []authv1.AuthServiceClient {
	t.Helper()
	settings := testSettings()
	change(&settings)
	var replicas []authv1.AuthServiceClient
	for range 2 {
		server, err := New(settings, NewRedisStore(s.client(t)), time.Now)
		ok(t, err)
		server.passwords = cheapHasher(4)
		replicas = append(replicas, serve(t, server))
	}
	return replicas
}

// exhaustedFor wants a refusal of a limit, and when to come back.
func exhaustedFor(t *testing.T, err error, code string, after time.Duration) {
	t.Helper()
	want(t, err, fault.Exhausted, code)
	if f := fault.From(err); f.After > after || f.After < after*3/4 {
		t.Errorf("%s: to try again after %v, want about %v", code, f.After, after)
	}
}

// TestLogInLimits: log-ins are counted by client address, by whatever way and at
// whatever replica, for accounts that are there and that are not.
func TestLogInLimits(t *testing.T) {
	replicas := limitedReplicas(t, startRedis(t), func(s *Settings) { s.LogInRate = 6 })
	_, email := enrol(t, replicas[0])
	ctx, n := t.Context(), 0
	logIn := func(address, email, password string) error {
		n++
		_, err := replicas[n%2].LogIn(ctx, &authv1.LogInRequest{Email: email, Password: password, ClientAddress: address})
		return err
	}
	for range 2 {
		ok(t, logIn("192.0.2.1", email, goodPassword))
		want(t, logIn("192.0.2.1", email, "wrong password"), fault.Unauthenticated, "wrong_credentials")
		want(t, logIn("192.0.2.1", newEmail(), goodPassword), fault.Unauthenticated, "wrong_credentials")
	}
	for range 2 {
		exhaustedFor(t, logIn("192.0.2.1", email, goodPassword), "too_many_logins", 10*time.Second)
		exhaustedFor(t, logIn("192.0.2.1", newEmail(), goodPassword), "too_many_logins", 10*time.Second)
		_, err := replicas[0].IssueTokens(ctx, &authv1.IssueTokensRequest{Email: email, Password: goodPassword, ClientAddress: "192.0.2.1"})
		exhaustedFor(t, err, "too_many_logins", 10*time.Second)
	}
	ok(t, logIn("192.0.2.2", email, goodPassword))
	// Registrations are others.
	_, err := replicas[0].Register(ctx, &authv1.RegisterRequest{UserId: newUserID(), Email: newEmail(), Password: goodPassword, ClientAddress: "192.0.2.1"})
	ok(t, err)
}

// TestAccountLimits: nobody guesses at an account for long, and nobody is kept out
// of theirs by those who try.
func TestAccountLimits(t *testing.T) {
	redisServer := startRedis(t)
	replicas := limitedReplicas(t, redisServer, func(s *Settings) { s.AccountLogInRate = 3 })
	_, email := enrol(t, replicas[0])
	ctx, n := t.Context(), 0
	logIn := func(address, password string) error {
		n++
		_, err := replicas[n%2].LogIn(ctx, &authv1.LogInRequest{Email: email, Password: password, ClientAddress: address})
		return err
	}
	guess := func(address string) error { return logIn(address, "wrong password") }
	ok(t, logIn("home", goodPassword))
	for range 3 {
		want(t, guess("a"), fault.Unauthenticated, "wrong_credentials")
	}
	exhaustedFor(t, guess("a"), "too_many_tries", 20*time.Second)
	exhaustedFor(t, logIn("a", goodPassword), "too_many_tries", 20*time.Second) // also who is right
	for i := range 40 {                                                         // the strangers' tries are gone
		want(t, guess(fmt.Sprint("b", i)), fault.Unauthenticated, "wrong_credentials")
	}
	exhaustedFor(t, guess("b39"), "too_many_tries", Strangers.Each)
	// The user is let in where they were before, and where they were never.
	ok(t, logIn("home", goodPassword))
	ok(t, logIn("hotel", goodPassword))
	ok(t, logIn("hotel", goodPassword))
	// By tokens it is the same account.
	_, err := replicas[0].IssueTokens(ctx, &authv1.IssueTokensRequest{Email: strings.ToUpper(email), Password: goodPassword, ClientAddress: "b38"})
	exhaustedFor(t, err, "too_many_tries", Strangers.Each)
	// An account that is not there is limited alike: limits tell nothing of users.
	email = newEmail()
	for range 3 {
		want(t, guess("a"), fault.Unauthenticated, "wrong_credentials")
	}
	exhaustedFor(t, guess("a"), "too_many_tries", 20*time.Second)
}

// TestStrangersComeAgain: who waited is not slowed any more, and an address counts
// as known for as long as said.
func TestStrangersComeAgain(t *testing.T) {
	redisServer := startRedis(t)
	store := NewRedisStore(redisServer.client(t))
	ctx, account, l := t.Context(), newEmail(), Limit{AtOnce: 100, Each: time.Millisecond}
	take := func(what, address string, want bool) {
		t.Helper()
		wait, err := store.TakeLogIn(ctx, account, address, l)
		ok(t, err)
		if (wait == 0) != want {
			t.Errorf("%s: to wait %v", what, wait)
		}
	}
	ok(t, store.Prove(ctx, account, "home"))
	for i := range Strangers.AtOnce {
		take("a stranger", fmt.Sprint(i), true)
	}
	take("the second try", "0", false)
	redisServer.Age(t, Lately-time.Second)
	take("soon", "0", false)
	redisServer.Age(t, time.Second)
	take("later", "0", true)
	take("right after", "0", false)
	for range 3 {
		take("at home", "home", true)
	}
	redisServer.Age(t, Proved-Lately-time.Minute)
	take("at home, a month later", "home", true)
	take("and again", "home", true)
	redisServer.Age(t, Lately+2*time.Minute)
	take("at home, beyond that", "home", true) // as any other
	for i := range Strangers.AtOnce {
		take("strangers again", fmt.Sprint(i), true)
	}
	take("the second try from home", "home", false)
}

func TestRegistrationLimits(t *testing.T) {
	replicas := limitedReplicas(t, startRedis(t), func(s *Settings) { s.RegistrationRate = 4 })
	register := func(i int, address, password string) error {
		_, err := replicas[i%2].Register(t.Context(), &authv1.RegisterRequest{UserId: newUserID(), Email: newEmail(), Password: password, ClientAddress: address})
		return err
	}
	for i := range 4 {
		ok(t, register(i, "192.0.2.1", goodPassword))
		want(t, register(i, "192.0.2.1", "short"), fault.Invalid, "invalid_password") // is none
	}
	for i := range 4 {
		exhaustedFor(t, register(i, "192.0.2.1", goodPassword), "too_many_registrations", 15*time.Second)
	}
	ok(t, register(0, "192.0.2.2", goodPassword))
}

// TestPasswordChangeLimits: who has a session cannot guess the password behind it.
func TestPasswordChangeLimits(t *testing.T) {
	replicas := limitedReplicas(t, startRedis(t), func(s *Settings) { s.AccountLogInRate = 3 })
	id, email := enrol(t, replicas[0])
	change := func(i int, current string) error {
		_, err := replicas[i%2].ChangePassword(t.Context(), &authv1.ChangePasswordRequest{UserId: id, OperationId: fmt.Sprint(i), CurrentPassword: current, NewPassword: "another password"})
		return err
	}
	for i := range 3 {
		want(t, change(i, "wrong password"), fault.Forbidden, "wrong_password")
	}
	exhaustedFor(t, change(3, goodPassword), "too_many_tries", 20*time.Second)
	logIn(t, replicas[0], email) // that is not slowed by it
}

// TestLimitsTellNothing: what the limits keep names neither addresses nor clients.
func TestLimitsTellNothing(t *testing.T) {
	redisServer := startRedis(t)
	replicas := limitedReplicas(t, redisServer, func(s *Settings) { s.LogInRate, s.AccountLogInRate, s.RegistrationRate = 10, 10, 10 })
	id, email, address := newUserID(), newEmail(), "192.0.2.77"
	_, err := replicas[0].Register(t.Context(), &authv1.RegisterRequest{UserId: id, Email: email, Password: goodPassword, ClientAddress: address})
	ok(t, err)
	_, err = replicas[1].LogIn(t.Context(), &authv1.LogInRequest{Email: email, Password: goodPassword, ClientAddress: address})
	ok(t, err)
	rdb := redisServer.client(t)
	keys, err := rdb.Keys(t.Context(), "limit:*").Result()
	ok(t, err)
	if len(keys) != 5 {
		t.Errorf("keys are %v, want one each for the registration, the log-in, the account, the address at it, and that it is known", keys)
	}
	var kept bytes.Buffer
	for _, key := range keys {
		left := rdb.PTTL(t.Context(), key).Val()
		if most := map[bool]time.Duration{true: Proved, false: Lately}[strings.Contains(key, ":proved:")]; left <= 0 || left > most {
			t.Errorf("%s is kept for %v", key, left)
		}
		fmt.Fprintln(&kept, key, rdb.Get(t.Context(), key).Val())
	}
	for _, secret := range []string{id, email, address, goodPassword, digest(address)} {
		if strings.Contains(kept.String(), secret) {
			t.Errorf("%s is kept: %s", secret, kept.String())
		}
	}
}

// TestLimitsOnACluster: all that one try touches lies on one node.
func TestLimitsOnACluster(t *testing.T) {
	store := NewRedisStore(redistest.StartCluster(t, 3, redistest.User("auth", RedisRules)...).ClientOf(t, "auth"))
	for range 30 {
		account := newEmail()
		for want := range 3 {
			wait, err := store.TakeLogIn(t.Context(), account, "a", Limit{AtOnce: 2, Each: time.Minute})
			ok(t, err)
			if (wait > 0) != (want == 2) {
				t.Fatalf("try %d: to wait %v", want, wait)
			}
		}
		ok(t, store.Prove(t.Context(), account, "a"))
		wait, err := store.Take(t.Context(), account, Limit{AtOnce: 1, Each: time.Minute})
		ok(t, err)
		if wait != 0 {
			t.Fatalf("the first has to wait %v", wait)
		}
	}
}

// TestLimitsAwayIsNoAnswer: without Redis nobody is let in unlimited, and nobody
// is told that their password is wrong.
func TestLimitsAwayIsNoAnswer(t *testing.T) {
	redisServer := startRedis(t)
	settings := testSettings()
	settings.LogInRate, settings.AccountLogInRate = 10, 10
	down := before(func(cmd redis.Cmder) error {
		if cmd.Name() == "evalsha" || cmd.Name() == "eval" {
			return errLost
		}
		return nil
	})
	server, err := New(settings, NewRedisStore(redisServer.client(t, down)), time.Now)
	ok(t, err)
	_, err = server.LogIn(t.Context(), &authv1.LogInRequest{Email: newEmail(), Password: goodPassword})
	want(t, err, fault.Unavailable, "store_unavailable")
}
