package auth

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"coatcheck/chassis/fault"
	authv1 "coatcheck/proto/coatcheck/auth/v1"
)

func TestSessionLimits(t *testing.T) {
	clock := newClock()
	rdb := startRedis(t).client(t)
	c := serve(t, newServer(t, rdb, clock.now))
	id, email := enrol(t, c)

	t.Run("idle", func(t *testing.T) {
		token := logIn(t, c, email).GetSessionToken()
		clock.advance(30*time.Minute - time.Millisecond)
		ok(t, verify(c, token))
		clock.advance(30*time.Minute - time.Millisecond)
		ok(t, verify(c, token))
		clock.advance(30 * time.Minute)
		want(t, verify(c, token), fault.Unauthenticated, "invalid_session")
	})
	t.Run("absolute", func(t *testing.T) {
		token := logIn(t, c, email).GetSessionToken()
		for range 35 {
			clock.advance(20 * time.Minute)
			ok(t, verify(c, token))
		}
		clock.advance(20*time.Minute - time.Millisecond)
		ok(t, verify(c, token))
		clock.advance(time.Millisecond)
		want(t, verify(c, token), fault.Unauthenticated, "invalid_session")
	})
	t.Run("marked once a minute", func(t *testing.T) {
		made := logIn(t, c, email)
		record := func() string {
			return rdb.HGet(t.Context(), sessionsKey(id), made.GetSession().GetId()).Val()
		}
		start := record()
		clock.advance(time.Minute - time.Millisecond)
		ok(t, verify(c, made.GetSessionToken()))
		if record() != start {
			t.Fatal("marked within the minute")
		}
		clock.advance(time.Millisecond)
		ok(t, verify(c, made.GetSessionToken()))
		r, err := parseSession("", record())
		ok(t, err)
		if r.Used != clock.now().UnixMilli() || r.Device != "curl/8" || r.Created != made.GetSession().GetCreatedAt().AsTime().UnixMilli() {
			t.Fatalf("record is %+v", r)
		}
	})
	t.Run("over, not listed, then dropped", func(t *testing.T) {
		clock.advance(30 * time.Minute)
		listed, err := c.ListSessions(t.Context(), &authv1.ListSessionsRequest{UserId: id})
		ok(t, err)
		if len(listed.GetSessions()) != 0 {
			t.Fatalf("listed %v", listed.GetSessions())
		}
		if n := rdb.HLen(t.Context(), sessionsKey(id)).Val(); n == 0 {
			t.Fatal("nothing left to drop")
		}
		logIn(t, c, email)
		if n := rdb.HLen(t.Context(), sessionsKey(id)).Val(); n != 1 {
			t.Fatalf("%d sessions are stored, want 1", n)
		}
	})
}

func TestSessionsAreBounded(t *testing.T) {
	clock := newClock()
	rdb := startRedis(t).client(t)
	store, ctx := NewRedisStore(rdb), t.Context()
	id := newUserID()
	ok(t, store.Register(ctx, id, newEmail(), "phc", clock.now()))
	u, err := store.User(ctx, id)
	ok(t, err)
	start := func(name string, life time.Duration) {
		now := clock.now()
		started, err := store.StartSession(ctx, u, Session{ID: name, Created: now.UnixMilli(), Used: now.UnixMilli(), Expires: now.Add(life).UnixMilli(), Device: "a b\n"}, time.Hour)
		if !started {
			t.Fatal("not started", err)
		}
		clock.advance(time.Millisecond)
	}
	start("long", 48*time.Hour)
	for i := range 99 {
		start(fmt.Sprint(i), 12*time.Hour)
	}
	// The key goes with its last session, not before.
	if left := rdb.TTL(ctx, sessionsKey(id)).Val(); left <= 47*time.Hour || left > 48*time.Hour {
		t.Fatalf("the sessions are kept for %v", left)
	}
	clock.advance(2 * time.Minute)
	if ends, err := store.UseSession(ctx, id, "long", clock.now(), time.Hour); ends.IsZero() {
		t.Fatal("the first session is gone", err)
	}
	start("one more", 12*time.Hour)
	live, err := store.Sessions(ctx, id, clock.now(), time.Hour)
	ok(t, err)
	names := map[string]bool{}
	for _, r := range live {
		names[r.ID] = true
		if r.Device != "a b\n" {
			t.Fatalf("device is %q", r.Device)
		}
	}
	if len(names) != MaxSessions || names["0"] || !names["long"] || !names["1"] || !names["one more"] || live[0].ID != "one more" {
		t.Fatalf("%d sessions, want 100 without the one unused the longest", len(names))
	}
	ok(t, rdb.HSet(ctx, sessionsKey(id), "broken", "1 2").Err())
	if _, err := store.Sessions(ctx, id, clock.now(), time.Hour); !fault.Is(err, fault.Internal) {
		t.Fatalf("got %v", err)
	}
	ok(t, rdb.HSet(ctx, sessionsKey(id), "broken", "1 x 2 ").Err())
	if _, err := store.Sessions(ctx, id, clock.now(), time.Hour); !fault.Is(err, fault.Internal) {
		t.Fatalf("got %v", err)
	}
}

// TestFullRedis: with no memory left, sessions hold and log-out works.
func TestFullRedis(t *testing.T) {
	redisServer, clock := startRedis(t), newClock()
	rdb := redisServer.client(t)
	c := serve(t, newServer(t, rdb, clock.now))
	id, email := enrol(t, c)
	made, another := logIn(t, c, email), logIn(t, c, email)
	ok(t, rdb.ConfigSet(t.Context(), "maxmemory", "1").Err())
	clock.advance(2 * time.Minute)
	ok(t, verify(c, made.GetSessionToken()))
	_, err := c.LogIn(t.Context(), &authv1.LogInRequest{Email: email, Password: goodPassword})
	want(t, err, fault.Unavailable, "store_unavailable")
	_, err = c.RevokeSession(t.Context(), &authv1.RevokeSessionRequest{UserId: id, SessionId: made.GetSession().GetId()})
	ok(t, err)
	want(t, verify(c, made.GetSessionToken()), fault.Unauthenticated, "invalid_session")

	// Also where whoever ends it dies before it is told.
	begun, err := NewRedisStore(rdb).LastRevocation(t.Context())
	ok(t, err)
	err = NewRedisStore(redisServer.client(t, (&crash{left: 1}).hook())).EndSession(t.Context(), id, another.GetSession().GetId())
	want(t, err, fault.Unavailable, "store_unavailable")
	want(t, verify(c, another.GetSessionToken()), fault.Unauthenticated, "invalid_session")
	if found, err := NewRedisStore(rdb).ReadRevocations(t.Context(), begun, time.Millisecond); err != nil || len(found) != 1 {
		t.Errorf("the log says %v, %v", found, err)
	}
}

// TestLogInRacesPasswordChange runs both in every order of their commands: no
// session made with the old password is there when both are done.
func TestLogInRacesPasswordChange(t *testing.T) {
	redisServer, clock := startRedis(t), newClock()
	rdb := redisServer.client(t)
	whole := newCheapServer(t, rdb, clock.now)
	ctx := t.Context()
	var id, email, token string
	explore(t, redisServer, []func(redis.UniversalClient) error{
		func(rdb redis.UniversalClient) error {
			resp, err := newCheapServer(t, rdb, clock.now).LogIn(ctx, &authv1.LogInRequest{Email: email, Password: goodPassword})
			token = resp.GetSessionToken()
			return err
		},
		func(rdb redis.UniversalClient) error {
			_, err := newCheapServer(t, rdb, clock.now).ChangePassword(ctx, &authv1.ChangePasswordRequest{
				UserId: id, OperationId: "op", CurrentPassword: goodPassword, NewPassword: "another password"})
			return err
		},
	}, func() {
		id, email, token = newUserID(), newEmail(), ""
		_, err := whole.Register(ctx, &authv1.RegisterRequest{UserId: id, Email: email, Password: goodPassword})
		ok(t, err)
	}, func(order []int, results []error) {
		ok(t, results[1])
		if n := rdb.HLen(ctx, sessionsKey(id)).Val(); n != 0 {
			t.Errorf("order %v: %d sessions live on", order, n)
		}
		if order[len(order)-1] == 0 { // the session came after the change
			want(t, results[0], fault.Unauthenticated, "wrong_credentials")
		}
		if results[0] == nil {
			_, err := whole.VerifySession(ctx, &authv1.VerifySessionRequest{SessionToken: token})
			want(t, err, fault.Unauthenticated, "invalid_session")
		} else {
			want(t, results[0], fault.Unauthenticated, "wrong_credentials")
		}
	})
}

// TestPasswordChangesRace: of two changes one wins; one change sent twice is one.
func TestPasswordChangesRace(t *testing.T) {
	redisServer := startRedis(t)
	rdb := redisServer.client(t)
	whole := newCheapServer(t, rdb, time.Now)
	ctx := t.Context()
	var id, email string
	change := func(operation, next string) func(redis.UniversalClient) error {
		return func(rdb redis.UniversalClient) error {
			_, err := newCheapServer(t, rdb, time.Now).ChangePassword(ctx, &authv1.ChangePasswordRequest{
				UserId: id, OperationId: operation, CurrentPassword: goodPassword, NewPassword: next})
			return err
		}
	}
	setup := func() {
		id, email = newUserID(), newEmail()
		_, err := whole.Register(ctx, &authv1.RegisterRequest{UserId: id, Email: email, Password: goodPassword})
		ok(t, err)
	}
	generation := func() string { return rdb.HGet(ctx, userKey(id), "generation").Val() }
	explore(t, redisServer, []func(redis.UniversalClient) error{change("a", "password a"), change("b", "password b")}, setup,
		func(order []int, results []error) {
			winner, loser := "password a", results[1]
			if results[0] != nil {
				winner, loser = "password b", results[0]
			}
			want(t, loser, fault.Forbidden, "wrong_password")
			_, err := whole.LogIn(ctx, &authv1.LogInRequest{Email: email, Password: winner})
			ok(t, err)
			if generation() != "2" {
				t.Errorf("order %v: generation %s", order, generation())
			}
		})
	explore(t, redisServer, []func(redis.UniversalClient) error{change("a", "password a"), change("a", "password a")}, setup,
		func(order []int, results []error) {
			if results[0] != nil || results[1] != nil || generation() != "2" {
				t.Errorf("order %v: %v, generation %s", order, results, generation())
			}
		})
	remove := func(rdb redis.UniversalClient) error { return NewRedisStore(rdb).DeleteUser(ctx, id) }
	explore(t, redisServer, []func(redis.UniversalClient) error{change("a", "password a"), remove}, setup,
		func(order []int, results []error) {
			ok(t, results[1])
			if results[0] != nil {
				want(t, results[0], fault.Absent, "no_such_user")
			}
			if rdb.HExists(ctx, userKey(id), "password").Val() {
				t.Errorf("order %v: a deleted user has a password", order)
			}
		})
}

// TestPasswordChangeInterrupted: under its operation id a change can be sent
// again, whatever became of it.
func TestPasswordChangeInterrupted(t *testing.T) {
	redisServer := startRedis(t)
	whole := newCheapServer(t, redisServer.client(t), time.Now)
	ctx := t.Context()
	crashes(t, func(t *testing.T, c *crash) {
		id, email := newUserID(), newEmail()
		_, err := whole.Register(ctx, &authv1.RegisterRequest{UserId: id, Email: email, Password: goodPassword})
		ok(t, err)
		req := &authv1.ChangePasswordRequest{UserId: id, OperationId: "op", CurrentPassword: goodPassword, NewPassword: "another password"}
		_, err = newCheapServer(t, redisServer.client(t, c.hook()), time.Now).ChangePassword(ctx, req)
		if c.happened {
			want(t, err, fault.Unavailable, "store_unavailable")
		}
		_, err = whole.ChangePassword(ctx, req)
		ok(t, err)
		_, err = whole.LogIn(ctx, &authv1.LogInRequest{Email: email, Password: "another password"})
		ok(t, err)
	})
}

// TestLogOutWhileVerifying: a mark of use never brings a revoked session back.
func TestLogOutWhileVerifying(t *testing.T) {
	redisServer, clock := startRedis(t), newClock()
	one, two := serve(t, newServer(t, redisServer.client(t), clock.now)), serve(t, newServer(t, redisServer.client(t), clock.now))
	id, email := enrol(t, one)
	for range 3 {
		made := logIn(t, one, email)
		var revoked atomic.Bool
		var group sync.WaitGroup
		for i := range 4 {
			c := []authv1.AuthServiceClient{one, two}[i%2]
			group.Go(func() {
				for n := 0; n < 50; {
					late := revoked.Load()
					clock.advance(time.Second)
					err := verify(c, made.GetSessionToken())
					if late {
						n++
						if !fault.Is(err, fault.Unauthenticated) {
							t.Errorf("after the log-out: %v", err)
							return
						}
					} else if err != nil && !fault.Is(err, fault.Unauthenticated) {
						t.Errorf("got %v", err)
						return
					}
				}
			})
		}
		time.Sleep(20 * time.Millisecond)
		_, err := two.RevokeSession(context.Background(), &authv1.RevokeSessionRequest{UserId: id, SessionId: made.GetSession().GetId()})
		revoked.Store(true)
		group.Wait()
		ok(t, err)
	}
}

func FuzzParseSessionToken(f *testing.F) {
	token, _ := newSessionToken(newUserID())
	for _, seed := range []string{"", ".", token, token[:65], token + "A", "\n" + token[1:], strings.Replace(token, ".", "..", 1), nobody[2:] + "." + strings.Repeat("B", 43)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		userID, sessionID, ok := parseSessionToken(token)
		if !ok {
			if userID != "" || sessionID != "" {
				t.Fatal("refused, and yet taken apart")
			}
			return
		}
		if len(token) != 66 || !validID(userKind, userID) || userID[2:] != token[:22] || len(sessionID) != 43 || sessionID != digest(token) {
			t.Fatalf("%q taken for %q, %q", token, userID, sessionID)
		}
	})
}
