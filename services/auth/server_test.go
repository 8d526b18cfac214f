package auth

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"coatcheck/chassis/fault"
	"coatcheck/chassis/rpc"
	authv1 "coatcheck/proto/coatcheck/auth/v1"
)

// TestCodes asks every RPC for every code that the contract names.
func TestCodes(t *testing.T) {
	clock := newClock()
	c := serve(t, newServer(t, startRedis(t).client(t), clock.now))
	id, email := enrol(t, c)
	session := logIn(t, c, email)
	foreign := newUserID()
	long := strings.Repeat("ü", 257)

	type call func(ctx context.Context) error
	register := func(id, email, password string) call {
		return func(ctx context.Context) error {
			_, err := c.Register(ctx, &authv1.RegisterRequest{UserId: id, Email: email, Password: password})
			return err
		}
	}
	logIn := func(email, password string) call {
		return func(ctx context.Context) error {
			_, err := c.LogIn(ctx, &authv1.LogInRequest{Email: email, Password: password})
			return err
		}
	}
	change := func(id, operation, current, next string) call {
		return func(ctx context.Context) error {
			_, err := c.ChangePassword(ctx, &authv1.ChangePasswordRequest{UserId: id, OperationId: operation, CurrentPassword: current, NewPassword: next})
			return err
		}
	}
	verify := func(token string) call {
		return func(ctx context.Context) error {
			_, err := c.VerifySession(ctx, &authv1.VerifySessionRequest{SessionToken: token})
			return err
		}
	}
	revoke := func(id, session string) call {
		return func(ctx context.Context) error {
			_, err := c.RevokeSession(ctx, &authv1.RevokeSessionRequest{UserId: id, SessionId: session})
			return err
		}
	}
	revokeAll := func(id string) call {
		return func(ctx context.Context) error {
			_, err := c.RevokeAllSessions(ctx, &authv1.RevokeAllSessionsRequest{UserId: id})
			return err
		}
	}
	list := func(id string) call {
		return func(ctx context.Context) error {
			_, err := c.ListSessions(ctx, &authv1.ListSessionsRequest{UserId: id})
			return err
		}
	}
	remove := func(id string) call {
		return func(ctx context.Context) error {
			_, err := c.DeleteUser(ctx, &authv1.DeleteUserRequest{UserId: id})
			return err
		}
	}
	ticket := func(ticket string) call {
		return func(ctx context.Context) error {
			_, err := c.VerifyGuestTicket(ctx, &authv1.VerifyGuestTicketRequest{Ticket: ticket})
			return err
		}
	}
	for _, test := range []struct {
		name string
		call call
		code codes.Code
		word string
	}{
		{"ticket: none", ticket(""), codes.Unauthenticated, "invalid_ticket"},
		{"ticket: of another kind", ticket(session.GetSessionToken()), codes.Unauthenticated, "invalid_ticket"},
		{"register: no id", register("", newEmail(), goodPassword), codes.InvalidArgument, "invalid_user_id"},
		{"register: a guest's id", register(newGuestID(), newEmail(), goodPassword), codes.InvalidArgument, "invalid_user_id"},
		{"register: id of another user", register(id, newEmail(), goodPassword), codes.InvalidArgument, "invalid_user_id"},
		{"register: address taken", register(newUserID(), email, goodPassword), codes.AlreadyExists, "email_taken"},
		{"register: address taken but for case", register(newUserID(), strings.ToUpper(email), goodPassword), codes.AlreadyExists, "email_taken"},
		{"register: again", register(id, email, goodPassword), codes.OK, ""},
		{"register: no address", register(newUserID(), "", goodPassword), codes.InvalidArgument, "invalid_email"},
		{"register: password of 7", register(newUserID(), newEmail(), "1234567"), codes.InvalidArgument, "invalid_password"},
		{"register: password of 257", register(newUserID(), newEmail(), long), codes.InvalidArgument, "invalid_password"},
		{"register: password of 256, 2 bytes each", register(newUserID(), newEmail(), long[2:]), codes.OK, ""},
		{"log in: wrong password", logIn(email, "wrong password"), codes.Unauthenticated, "wrong_credentials"},
		{"log in: unknown address", logIn(newEmail(), goodPassword), codes.Unauthenticated, "wrong_credentials"},
		{"log in: no address", logIn("", goodPassword), codes.Unauthenticated, "wrong_credentials"},
		{"log in: short password", logIn(email, "short"), codes.Unauthenticated, "wrong_credentials"},
		{"log in: in capitals", logIn(strings.ToUpper(email), goodPassword), codes.OK, ""},
		{"verify: good", verify(session.GetSessionToken()), codes.OK, ""},
		{"verify: none", verify(""), codes.Unauthenticated, "invalid_session"},
		{"verify: malformed", verify(session.GetSessionToken() + "A"), codes.Unauthenticated, "invalid_session"},
		{"verify: unknown", verify(id[2:] + "." + draw(secretBytes)), codes.Unauthenticated, "invalid_session"},
		{"verify: other user's half", verify(foreign[2:] + session.GetSessionToken()[22:]), codes.Unauthenticated, "invalid_session"},
		{"verify: its id", verify(session.GetSession().GetId()), codes.Unauthenticated, "invalid_session"},
		{"list: no id", list(""), codes.InvalidArgument, "invalid_user_id"},
		{"list: unknown user", list(foreign), codes.OK, ""},
		{"revoke: no id", revoke("", session.GetSession().GetId()), codes.InvalidArgument, "invalid_user_id"},
		{"revoke: another user's session", revoke(foreign, session.GetSession().GetId()), codes.OK, ""},
		{"revoke: nothing", revoke(id, ""), codes.OK, ""},
		{"verify: still good", verify(session.GetSessionToken()), codes.OK, ""},
		{"revoke all: no id", revokeAll("x"), codes.InvalidArgument, "invalid_user_id"},
		{"revoke all: unknown user", revokeAll(foreign), codes.OK, ""},
		{"change: no id", change("", "op", goodPassword, "new password"), codes.InvalidArgument, "invalid_user_id"},
		{"change: no operation", change(id, "", goodPassword, "new password"), codes.InvalidArgument, "invalid_operation_id"},
		{"change: operation of 65", change(id, strings.Repeat("ü", 65), goodPassword, "new password"), codes.InvalidArgument, "invalid_operation_id"},
		{"change: short password", change(id, "op", goodPassword, "new"), codes.InvalidArgument, "invalid_password"},
		{"change: unknown user", change(foreign, "op", goodPassword, "new password"), codes.NotFound, "no_such_user"},
		{"change: wrong password", change(id, "op", "wrong password", "new password"), codes.PermissionDenied, "wrong_password"},
		{"change: empty password", change(id, "op", "", "new password"), codes.PermissionDenied, "wrong_password"},
		{"verify: good after all that", verify(session.GetSessionToken()), codes.OK, ""},
		{"change: good", change(id, strings.Repeat("ü", 64), goodPassword, "new password"), codes.OK, ""},
		{"verify: session of the old password", verify(session.GetSessionToken()), codes.Unauthenticated, "invalid_session"},
		{"change: again under the same operation", change(id, strings.Repeat("ü", 64), goodPassword, "new password"), codes.OK, ""},
		{"change: again under another", change(id, "op2", goodPassword, "new password"), codes.PermissionDenied, "wrong_password"},
		{"log in: old password", logIn(email, goodPassword), codes.Unauthenticated, "wrong_credentials"},
		{"log in: new password", logIn(email, "new password"), codes.OK, ""},
		{"delete: no id", remove(""), codes.InvalidArgument, "invalid_user_id"},
		{"delete: unknown user", remove(foreign), codes.OK, ""},
		{"delete: good", remove(id), codes.OK, ""},
		{"delete: again", remove(id), codes.OK, ""},
		{"log in: deleted", logIn(email, "new password"), codes.Unauthenticated, "wrong_credentials"},
		{"change: deleted", change(id, "op3", "new password", "other password"), codes.NotFound, "no_such_user"},
		{"register: late repeat after deletion", register(id, email, goodPassword), codes.AlreadyExists, "email_taken"},
		{"register: address of a deleted user", register(newUserID(), email, goodPassword), codes.OK, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := test.call(t.Context())
			if got := status.Code(err); got != test.code {
				t.Fatalf("got %v, want %v", err, test.code)
			}
			if err == nil {
				return
			}
			if got := fault.From(err).Code; got != test.word {
				t.Fatalf("got %q, want %q", got, test.word)
			}
		})
	}
}

func TestEmails(t *testing.T) {
	for _, email := range []string{"a@b", "Ünï@exämple.org", "a+b@c.d", strings.Repeat("a", 252) + "@b"} {
		if got, err := normalEmail(email); err != nil || got != strings.ToLower(email) {
			t.Errorf("%q: got %q, %v", email, got, err)
		}
	}
	for _, email := range []string{"", "@", "a@", "@b", "ab", "a@b@c", "a @b", "a@b\n", "a\u00a0@b", "a\x00@b", "a\u0085@b", "\xff@b.c", "\x7f@bc", strings.Repeat("a", 253) + "@b"} {
		_, err := normalEmail(email)
		if err == nil {
			t.Errorf("%q passed", email)
			continue
		}
		want(t, err, fault.Invalid, "invalid_email")
	}
}

func TestTwoReplicas(t *testing.T) {
	redis, clock := startRedis(t), newClock()
	one, two := serve(t, newServer(t, redis.client(t), clock.now)), serve(t, newServer(t, redis.client(t), clock.now))
	ctx := t.Context()

	id, email := enrol(t, one)
	first := logIn(t, two, email)
	clock.advance(2 * time.Second)
	second := logIn(t, one, email)
	if first.GetUserId() != id || first.GetSession().GetDevice() != "curl/8" ||
		first.GetSession().GetExpiresAt().AsTime().Sub(first.GetSession().GetCreatedAt().AsTime()) != 12*time.Hour {
		t.Fatalf("log-in answered %v", first.GetSession())
	}
	clock.advance(5 * time.Minute)
	resp, err := one.VerifySession(ctx, &authv1.VerifySessionRequest{SessionToken: first.GetSessionToken()})
	ok(t, err)
	if resp.GetUserId() != id || resp.GetSessionId() != first.GetSession().GetId() {
		t.Fatalf("verified as %v", resp)
	}
	listed, err := two.ListSessions(ctx, &authv1.ListSessionsRequest{UserId: id})
	ok(t, err)
	if got := listed.GetSessions(); len(got) != 2 || got[0].GetId() != second.GetSession().GetId() || got[1].GetId() != first.GetSession().GetId() {
		t.Fatalf("listed %v, want newest first", got)
	}
	if used := listed.GetSessions()[1].GetLastUsedAt().AsTime(); !used.Equal(clock.now()) {
		t.Fatalf("last used %v, want %v", used, clock.now())
	}
	_, err = two.RevokeSession(ctx, &authv1.RevokeSessionRequest{UserId: id, SessionId: first.GetSession().GetId()})
	ok(t, err)
	want(t, verify(one, first.GetSessionToken()), fault.Unauthenticated, "invalid_session")
	ok(t, verify(two, second.GetSessionToken()))
	_, err = one.RevokeAllSessions(ctx, &authv1.RevokeAllSessionsRequest{UserId: id})
	ok(t, err)
	want(t, verify(two, second.GetSessionToken()), fault.Unauthenticated, "invalid_session")

	issued, err := one.IssueGuestTicket(ctx, &authv1.IssueGuestTicketRequest{})
	ok(t, err)
	clock.advance(24*time.Hour + time.Second)
	seen, err := two.VerifyGuestTicket(ctx, &authv1.VerifyGuestTicketRequest{Ticket: issued.GetTicket()})
	ok(t, err)
	if seen.GetGuestId() != issued.GetGuestId() || seen.GetRenewedTicket() == "" ||
		!seen.GetRenewedExpiresAt().AsTime().Equal(clock.now().Add(720*time.Hour)) {
		t.Fatalf("got %v, want the guest with a new ticket", seen)
	}
	again, err := one.VerifyGuestTicket(ctx, &authv1.VerifyGuestTicketRequest{Ticket: seen.GetRenewedTicket()})
	ok(t, err)
	if again.GetGuestId() != issued.GetGuestId() || again.GetRenewedTicket() != "" {
		t.Fatalf("the renewed ticket says %v", again)
	}

	keys, err := two.ListSigningKeys(ctx, &authv1.ListSigningKeysRequest{})
	ok(t, err)
	private, _ := newKey(1)
	if len(keys.GetKeys()) != 1 || !private.Public().(ed25519.PublicKey).Equal(ed25519.PublicKey(keys.GetKeys()[0].GetPublicKey())) {
		t.Fatalf("keys are %v", keys.GetKeys())
	}
}

// TestRedisAway: an outage is never an answer about who somebody is, and what is
// logged of it shows nothing secret.
func TestRedisAway(t *testing.T) {
	redis, clock, log := startRedis(t), newClock(), &logged{}
	c := serveLogging(t, newServer(t, redis.client(t), clock.now), log)
	id, email := enrol(t, c)
	token := logIn(t, c, email).GetSessionToken()
	issued, err := c.IssueGuestTicket(t.Context(), &authv1.IssueGuestTicketRequest{})
	ok(t, err)

	calls := map[string]func(ctx context.Context) error{
		"register": func(ctx context.Context) error {
			_, err := c.Register(ctx, &authv1.RegisterRequest{UserId: newUserID(), Email: newEmail(), Password: goodPassword})
			return err
		},
		"log in": func(ctx context.Context) error {
			_, err := c.LogIn(ctx, &authv1.LogInRequest{Email: email, Password: goodPassword})
			return err
		},
		"verify": func(ctx context.Context) error {
			_, err := c.VerifySession(ctx, &authv1.VerifySessionRequest{SessionToken: token})
			return err
		},
		"list": func(ctx context.Context) error {
			_, err := c.ListSessions(ctx, &authv1.ListSessionsRequest{UserId: id})
			return err
		},
		"revoke": func(ctx context.Context) error {
			_, err := c.RevokeSession(ctx, &authv1.RevokeSessionRequest{UserId: id, SessionId: "x"})
			return err
		},
		"revoke all": func(ctx context.Context) error {
			_, err := c.RevokeAllSessions(ctx, &authv1.RevokeAllSessionsRequest{UserId: id})
			return err
		},
		"change": func(ctx context.Context) error {
			_, err := c.ChangePassword(ctx, &authv1.ChangePasswordRequest{UserId: id, OperationId: "op", CurrentPassword: goodPassword, NewPassword: "new password"})
			return err
		},
		"delete": func(ctx context.Context) error {
			_, err := c.DeleteUser(ctx, &authv1.DeleteUserRequest{UserId: id})
			return err
		},
	}
	check := func(t *testing.T) {
		for name, call := range calls {
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			err := call(ctx)
			cancel()
			if !fault.Is(err, fault.Unavailable) {
				t.Errorf("%s: got %v, want Unavailable", name, err)
			}
		}
		// A guest needs no store.
		if _, err := c.VerifyGuestTicket(t.Context(), &authv1.VerifyGuestTicketRequest{Ticket: issued.GetTicket()}); err != nil {
			t.Error(err)
		}
	}
	redis.Signal(t, syscall.SIGSTOP)
	t.Run("stopped", check)
	redis.Kill()
	t.Run("killed", check)
	want(t, verify(c, token), fault.Unavailable, "store_unavailable")
	text := log.String()
	if !strings.Contains(text, "looking up the session") {
		t.Errorf("the log does not say what failed:\n%s", text)
	}
	for _, secret := range []string{token, token[23:], email, goodPassword, "new password", issued.GetTicket()} {
		if strings.Contains(text, secret) {
			t.Errorf("%q is logged", secret)
		}
	}
}

// TestNothingSecretIsStored reads all of Redis, memory and file.
func TestNothingSecretIsStored(t *testing.T) {
	redis, clock := startRedis(t), newClock()
	rdb := redis.client(t)
	c := serve(t, newServer(t, rdb, clock.now))
	id, email := enrol(t, c)
	secrets := []string{goodPassword, "another password"}
	for range 3 {
		token := logIn(t, c, email).GetSessionToken()
		secrets = append(secrets, token, token[23:])
	}
	_, err := c.ChangePassword(t.Context(), &authv1.ChangePasswordRequest{UserId: id, OperationId: "op", CurrentPassword: goodPassword, NewPassword: "another password"})
	ok(t, err)
	issued, err := c.IssueGuestTicket(t.Context(), &authv1.IssueGuestTicketRequest{})
	ok(t, err)
	secrets = append(secrets, issued.GetTicket())
	_, email = enrol(t, c)
	token := logIn(t, c, email).GetSessionToken()
	secrets = append(secrets, token, token[23:])
	tokens := issueTokens(t, c, email)
	for range 3 {
		for _, token := range []string{tokens.GetAccessToken(), tokens.GetRefreshToken()} {
			secrets = append(secrets, token, token[strings.LastIndexByte(token, '.')+1:])
		}
		tokens, err = refresh(t, c, tokens.GetRefreshToken())
		ok(t, err)
	}

	var stored bytes.Buffer
	keys, err := rdb.Keys(t.Context(), "*").Result()
	ok(t, err)
	hashes := 0
	for _, key := range keys {
		fmt.Fprintln(&stored, key)
		if strings.HasPrefix(key, "email:") {
			fmt.Fprintln(&stored, rdb.Get(t.Context(), key).Val())
			continue
		}
		if key == revocationsKey {
			fmt.Fprintln(&stored, rdb.XRange(t.Context(), key, "-", "+").Val())
			continue
		}
		hashes++
		fmt.Fprintln(&stored, rdb.HGetAll(t.Context(), key).Val())
	}
	if len(keys) != 7 || hashes != 4 {
		t.Fatalf("keys are %v, want two users with their addresses, one's sessions and families, and the revocations", keys)
	}
	files, err := filepath.Glob(filepath.Join(rdb.ConfigGet(t.Context(), "dir").Val()["dir"], "appendonlydir", "*"))
	if err != nil || len(files) == 0 {
		t.Fatal("no append-only file", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		ok(t, err)
		stored.Write(text)
	}
	if !regexp.MustCompile(`\$argon2id\$v=19\$m=12288,t=3,p=1\$`).Match(stored.Bytes()) {
		t.Error("no password hash where one is expected")
	}
	for _, secret := range secrets {
		if bytes.Contains(stored.Bytes(), []byte(secret)) {
			t.Errorf("%q is stored", secret)
		}
	}
}

// TestTooManyPasswords: beyond its turns the service answers soon, and the same
// for users that are there and that are not.
func TestTooManyPasswords(t *testing.T) {
	server := newServer(t, startRedis(t).client(t), newClock().now)
	c := serve(t, server)
	id, email := enrol(t, c)
	for range cap(server.passwords.turns) {
		server.passwords.turns <- struct{}{}
	}
	// Each is announced: else its try would end while it waits for a turn.
	announced := func() context.Context {
		return rpc.TryAnnounced(rpc.NewCall(t.Context()), hashPatience/2, time.Minute, time.Now().Add(time.Minute))
	}
	_, err := c.LogIn(announced(), &authv1.LogInRequest{Email: email, Password: goodPassword})
	want(t, err, fault.Unavailable, "overloaded")
	_, err = c.LogIn(announced(), &authv1.LogInRequest{Email: newEmail(), Password: goodPassword})
	want(t, err, fault.Unavailable, "overloaded")
	_, err = c.IssueTokens(announced(), &authv1.IssueTokensRequest{Email: email, Password: goodPassword})
	want(t, err, fault.Unavailable, "overloaded")
	_, err = c.Register(announced(), &authv1.RegisterRequest{UserId: newUserID(), Email: newEmail(), Password: goodPassword})
	want(t, err, fault.Unavailable, "overloaded")
	_, err = c.ChangePassword(announced(), &authv1.ChangePasswordRequest{UserId: id, OperationId: "op", CurrentPassword: goodPassword, NewPassword: "new password"})
	want(t, err, fault.Unavailable, "overloaded")
	ctx, cancel := context.WithTimeout(t.Context(), hashPatience/2)
	began := time.Now()
	_, err = server.passwords.hash(ctx, goodPassword)
	want(t, err, fault.Unavailable, "overloaded")
	if waited := time.Since(began); waited < hashPatience/4 || waited > hashPatience*2/5 {
		t.Errorf("waited %v for a turn, with %v left", waited, hashPatience/2)
	}
	cancel()
	_, err = server.passwords.hash(ctx, goodPassword)
	want(t, err, fault.Unavailable, "timeout")

	var free sync.WaitGroup
	free.Go(func() {
		time.Sleep(hashPatience / 3)
		<-server.passwords.turns
	})
	logIn(t, c, email) // waits for its turn
	free.Wait()
}
