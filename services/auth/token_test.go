package auth

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"coatcheck/chassis/fault"
	"coatcheck/chassis/measuretest"
	authv1 "coatcheck/proto/coatcheck/auth/v1"
)

func issueTokens(t *testing.T, c authv1.AuthServiceClient, email string) *authv1.Tokens {
	t.Helper()
	resp, err := c.IssueTokens(t.Context(), &authv1.IssueTokensRequest{Email: email, Password: goodPassword, Device: "curl/8"})
	ok(t, err)
	return resp.GetTokens()
}

func refresh(t *testing.T, c authv1.AuthServiceClient, token string) (*authv1.Tokens, error) {
	t.Helper()
	resp, err := c.RefreshTokens(t.Context(), &authv1.RefreshTokensRequest{RefreshToken: token})
	return resp.GetTokens(), err
}

func verifyAccess(t *testing.T, c authv1.AuthServiceClient, token string) (*authv1.VerifyAccessTokenResponse, error) {
	t.Helper()
	return c.VerifyAccessToken(t.Context(), &authv1.VerifyAccessTokenRequest{AccessToken: token})
}

// TestTokens goes through the life of a session that has tokens, over two
// replicas.
func TestTokens(t *testing.T) {
	redisServer, clock := startRedis(t), newClock()
	rdb := redisServer.client(t)
	one, two := serve(t, newServer(t, rdb, clock.now)), serve(t, newServer(t, redisServer.client(t), clock.now))
	id, email := enrol(t, one)
	for _, wrong := range []*authv1.IssueTokensRequest{{Email: email, Password: "wrong password"}, {Email: newEmail(), Password: goodPassword}, {}} {
		_, err := one.IssueTokens(t.Context(), wrong)
		want(t, err, fault.Unauthenticated, "wrong_credentials")
	}
	first := issueTokens(t, one, email)
	seen, err := verifyAccess(t, two, first.GetAccessToken())
	ok(t, err)
	listed, err := one.ListSessions(t.Context(), &authv1.ListSessionsRequest{UserId: id})
	ok(t, err)
	if seen.GetUserId() != id || len(listed.GetSessions()) != 1 || seen.GetSessionId() != listed.GetSessions()[0].GetId() || listed.GetSessions()[0].GetDevice() != "curl/8" {
		t.Fatalf("verified as %v, listed %v", seen, listed)
	}
	if !seen.GetExpiresAt().AsTime().Equal(first.GetAccessExpiresAt().AsTime()) || seen.GetInsideTicket() == "" {
		t.Errorf("verified as %v", seen)
	}

	// An access token is good for five minutes; the refresh token brings the next.
	clock.advance(accessLife)
	_, err = verifyAccess(t, one, first.GetAccessToken())
	want(t, err, fault.Unauthenticated, "invalid_token")
	second, err := refresh(t, two, first.GetRefreshToken())
	ok(t, err)
	_, err = verifyAccess(t, one, second.GetAccessToken())
	ok(t, err)
	if second.GetRefreshToken() == first.GetRefreshToken() || second.GetAccessToken() == first.GetAccessToken() {
		t.Error("the tokens are the same")
	}
	// Who did not get the answer gets it again, the very same.
	clock.advance(refreshGrace)
	again, err := refresh(t, one, first.GetRefreshToken())
	ok(t, err)
	if again.GetAccessToken() != second.GetAccessToken() || again.GetRefreshToken() != second.GetRefreshToken() {
		t.Error("an honest retry was answered something else")
	}
	_, err = verifyAccess(t, one, second.GetAccessToken())
	ok(t, err)
	third, err := refresh(t, one, second.GetRefreshToken())
	ok(t, err)

	// Whoever comes later has stolen it, or was stolen from.
	clock.advance(refreshGrace + time.Millisecond)
	_, err = refresh(t, two, second.GetRefreshToken())
	want(t, err, fault.Unauthenticated, "invalid_grant")
	_, err = refresh(t, one, third.GetRefreshToken())
	want(t, err, fault.Unauthenticated, "invalid_grant")
	_, err = verifyAccess(t, one, third.GetAccessToken())
	want(t, err, fault.Unauthenticated, "invalid_token")
	same(t, "the end", watchFrom(t, two, "").until(time.Now()), []string{id})

	// Two steps behind is reuse, however soon.
	first = issueTokens(t, one, email)
	second, err = refresh(t, one, first.GetRefreshToken())
	ok(t, err)
	third, err = refresh(t, one, second.GetRefreshToken())
	ok(t, err)
	_, err = refresh(t, one, first.GetRefreshToken())
	want(t, err, fault.Unauthenticated, "invalid_grant")
	_, err = verifyAccess(t, one, third.GetAccessToken())
	want(t, err, fault.Unauthenticated, "invalid_token")
}

// TestEndsReachTokens: whatever ends a session ends its tokens.
func TestEndsReachTokens(t *testing.T) {
	rdb, clock := startRedis(t).client(t), newClock()
	c := serve(t, newServer(t, rdb, clock.now))
	for name, end := range map[string]func(id, session string) error{
		"log-out": func(id, session string) error {
			_, err := c.RevokeSession(t.Context(), &authv1.RevokeSessionRequest{UserId: id, SessionId: session})
			return err
		},
		"all": func(id, _ string) error {
			_, err := c.RevokeAllSessions(t.Context(), &authv1.RevokeAllSessionsRequest{UserId: id})
			return err
		},
		"password": func(id, _ string) error {
			_, err := c.ChangePassword(t.Context(), &authv1.ChangePasswordRequest{UserId: id, OperationId: "op", CurrentPassword: goodPassword, NewPassword: "another password"})
			return err
		},
		"deletion": func(id, _ string) error {
			_, err := c.DeleteUser(t.Context(), &authv1.DeleteUserRequest{UserId: id})
			return err
		},
		"idle": func(string, string) error { clock.advance(30 * time.Minute); return nil },
		"twelve hours": func(string, string) error {
			clock.advance(12 * time.Hour)
			return nil
		},
	} {
		id, email := enrol(t, c)
		tokens := issueTokens(t, c, email)
		seen, err := verifyAccess(t, c, tokens.GetAccessToken())
		ok(t, err)
		ok(t, end(id, seen.GetSessionId()))
		if _, err := verifyAccess(t, c, tokens.GetAccessToken()); !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("%s: the access token: %v", name, err)
		}
		if _, err := refresh(t, c, tokens.GetRefreshToken()); !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("%s: the refresh token: %v", name, err)
		}
	}
	// A cookie's session is no family, and its id opens nothing.
	id, email := enrol(t, c)
	made := logIn(t, c, email)
	s := newServer(t, rdb, clock.now)
	forged := s.tickets.Load().issueTokens(id, made.GetSession().GetId(), Family{N: 1, At: clock.now()})
	_, err := refresh(t, c, forged.GetRefreshToken())
	want(t, err, fault.Unauthenticated, "invalid_grant")
	ok(t, verify(c, made.GetSessionToken()))
}

// TestRefreshesAtOnce: of many who refresh with one token at the same moment, all
// get the same answer.
func TestRefreshesAtOnce(t *testing.T) {
	redisServer := startRedis(t)
	replicas := []authv1.AuthServiceClient{serve(t, newServer(t, redisServer.client(t), time.Now)), serve(t, newServer(t, redisServer.client(t), time.Now))}
	_, email := enrol(t, replicas[0])
	tokens := issueTokens(t, replicas[0], email)
	for range 20 {
		answers := make([]*authv1.Tokens, 6)
		var group sync.WaitGroup
		for i := range answers {
			group.Go(func() {
				var err error
				if answers[i], err = refresh(t, replicas[i%2], tokens.GetRefreshToken()); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		for _, a := range answers[1:] {
			if a.GetRefreshToken() != answers[0].GetRefreshToken() || a.GetAccessToken() != answers[0].GetAccessToken() {
				t.Fatal("two answers")
			}
		}
		tokens = answers[0]
	}
}

// TestRefreshInterrupted: a refresh that died is done again and answered.
func TestRefreshInterrupted(t *testing.T) {
	redisServer := startRedis(t)
	whole := newServer(t, redisServer.client(t), time.Now)
	ctx := t.Context()
	email := newEmail()
	_, err := whole.Register(ctx, &authv1.RegisterRequest{UserId: newUserID(), Email: email, Password: goodPassword})
	ok(t, err)
	for _, answerLost := range []bool{false, true} {
		issued, err := whole.IssueTokens(ctx, &authv1.IssueTokensRequest{Email: email, Password: goodPassword})
		ok(t, err)
		req := &authv1.RefreshTokensRequest{RefreshToken: issued.GetTokens().GetRefreshToken()}
		c := &crash{answerLost: answerLost}
		_, err = newServer(t, redisServer.client(t, c.hook()), time.Now).RefreshTokens(ctx, req)
		want(t, err, fault.Unavailable, "store_unavailable")
		again, err := whole.RefreshTokens(ctx, req)
		ok(t, err)
		_, err = whole.VerifyAccessToken(ctx, &authv1.VerifyAccessTokenRequest{AccessToken: again.GetTokens().GetAccessToken()})
		ok(t, err)
	}
}

// TestAccessTokenForm pins what other programs may rely on.
func TestAccessTokenForm(t *testing.T) {
	tickets, at := testTickets(t, 1), time.Unix(1795435200, 0)
	user, session := "u_AAAAAAAAAAAAAAAAAAAAAA", strings.Repeat("A", 43)
	tokens := tickets.issueTokens(user, session, Family{N: 3, At: at})
	var header, payload map[string]any
	for i, into := range []*map[string]any{&header, &payload} {
		text, err := base64.RawURLEncoding.DecodeString(strings.Split(tokens.GetAccessToken(), ".")[i])
		ok(t, err)
		ok(t, json.Unmarshal(text, into))
	}
	if len(header) != 3 || header["alg"] != "EdDSA" || header["typ"] != "at+jwt" || header["kid"] != tickets.keys[0].id {
		t.Errorf("header is %v", header)
	}
	id, _ := payload["jti"].(string)
	if len(payload) != 7 || payload["iss"] != "coatcheck" || payload["aud"] != "coatcheck" || payload["sub"] != user || payload["sid"] != session ||
		len(id) != 22 || payload["iat"] != 1795435200. || payload["exp"] != 1795435500. {
		t.Errorf("payload is %v", payload)
	}
	if other := tickets.issueTokens(user, session, Family{N: 4, At: at}); other.GetAccessToken() == tokens.GetAccessToken() {
		t.Error("two tokens of one id")
	}
}

func TestForgedAccessTokens(t *testing.T) {
	tickets, now := testTickets(t, 1, 2), time.Unix(1795435200, 0)
	key, _ := newKey(1)
	foreign, _ := newKey(3)
	plain := accessClaims{"coatcheck", "coatcheck", newUserID(), digest("x"), "id", now.Unix(), now.Unix() + 300}
	header := `{"alg":"EdDSA","kid":"` + tickets.keys[0].id + `","typ":"at+jwt"}`
	edited := func(edit func(*accessClaims)) string {
		c := plain
		edit(&c)
		text, _ := json.Marshal(c)
		return sign(key, header, string(text))
	}
	text, _ := json.Marshal(plain)
	guest, _ := tickets.issue(newGuestID(), now)
	if c, good := tickets.verifyAccess(edited(func(*accessClaims) {}), now); !good || c != plain {
		t.Fatalf("a good one is refused: %+v", c)
	}
	for name, token := range map[string]string{
		"empty":                  "",
		"many dots":              strings.Repeat(".", 1000),
		"of a foreign key":       sign(foreign, header, string(text)),
		"alg none":               b64(`{"alg":"none","typ":"at+jwt"}`) + "." + b64(string(text)) + ".",
		"typ JWT":                sign(key, strings.Replace(header, "at+jwt", "JWT", 1), string(text)),
		"typ application/at+jwt": sign(key, strings.Replace(header, "at+jwt", "application/at+jwt", 1), string(text)),
		"jku":                    sign(foreign, `{"alg":"EdDSA","jku":"https://example.org/jwks","typ":"at+jwt"}`, string(text)),
		"a guest's ticket":       guest,
		"an inside ticket":       tickets.inside(plain.User, plain.Session, now),
		"another issuer":         edited(func(c *accessClaims) { c.Issuer = "x" }),
		"another audience":       edited(func(c *accessClaims) { c.Audience = "cart" }),
		"expired":                edited(func(c *accessClaims) { c.Expires = now.Unix() }),
		"of the future":          edited(func(c *accessClaims) { c.Issued = now.Unix() + 6 }),
		"a guest":                edited(func(c *accessClaims) { c.User = newGuestID() }),
		"no session":             edited(func(c *accessClaims) { c.Session = "" }),
		"a claim twice":          sign(key, header, strings.TrimSuffix(string(text), "}")+`,"exp":9999999999}`),
		"oversized":              edited(func(c *accessClaims) { c.ID = strings.Repeat("x", 2000) }),
	} {
		if c, good := tickets.verifyAccess(token, now); good {
			t.Errorf("%s: passed as %+v", name, c)
		}
	}
}

// TestForgedTokensAreCheap: to refuse a token, whatever it is, takes less than a
// millisecond.
func TestForgedTokensAreCheap(t *testing.T) {
	tickets, now := testTickets(t, 1, 2, 3, 4), time.Unix(1795435200, 0)
	key, _ := newKey(1)
	tokens := tickets.issueTokens(newUserID(), digest("x"), Family{N: 1, At: now})
	header, rest, _ := strings.Cut(tokens.GetAccessToken(), ".")
	guest, _ := tickets.issue(newGuestID(), now)
	forged := map[string]string{
		"many dots":          strings.Repeat(".", 1<<20),
		"many dots, short":   strings.Repeat(".", 1<<10),
		"a long header":      strings.Repeat("A", 1<<20) + "." + rest,
		"a long payload":     header + "." + strings.Repeat("A", 1<<20),
		"a long signature":   tokens.GetAccessToken() + strings.Repeat("A", 1<<20),
		"a wrong signature":  tokens.GetAccessToken()[:len(tokens.GetAccessToken())-86] + strings.Repeat("A", 86),
		"deep":               sign(key, `{"alg":"EdDSA","kid":"`+tickets.keys[0].id+`","typ":"at+jwt"}`, strings.Repeat("[", 600)),
		"expired":            tokens.GetAccessToken(),
		"a guest's":          guest,
		"a refresh token":    tokens.GetRefreshToken(),
		"a changed one":      "A" + tokens.GetRefreshToken()[1:],
		"one of many points": strings.Repeat("A.", 100),
	}
	later := now.Add(time.Hour)
	for name, token := range forged {
		if _, good := tickets.verifyAccess(token, later); good {
			t.Fatalf("%s: passed as an access token", name)
		}
		if c, err := tickets.verify(token, later); (err == nil) != (name == "a guest's") {
			t.Fatalf("%s: as a guest's ticket %v, %v", name, c, err)
		}
		if _, _, _, good := tickets.parseRefresh(token); good != (name == "a refresh token") {
			t.Fatalf("%s: as a refresh token %v", name, good)
		}
		if _, _, good := parseSessionToken(token); good {
			t.Fatalf("%s: passed as a session token", name)
		}
	}
	measuretest.Costs(t)
	for name, token := range forged {
		best := time.Hour // the machine may have better to do meanwhile
		for range 20 {
			began := time.Now()
			_, _ = tickets.verifyAccess(token, later)
			_, _ = tickets.verify(token, later)
			_, _, _, _ = tickets.parseRefresh(token)
			_, _, _ = parseSessionToken(token)
			best = min(best, time.Since(began))
		}
		if best > time.Millisecond {
			t.Errorf("%s: %v to be refused", name, best)
		}
	}
}

func TestRefreshTokenForm(t *testing.T) {
	tickets := testTickets(t, 1, 2)
	user, session := newUserID(), digest("x")
	token := tickets.issueTokens(user, session, Family{N: 7, At: time.Now()}).GetRefreshToken()
	if u, s, n, good := tickets.parseRefresh(token); !good || u != user || s != session || n != 7 {
		t.Fatalf("%q is %s %s %d %v", token, u, s, n, good)
	}
	// One made with a key that no longer signs is good, too.
	if _, _, _, good := testTickets(t, 3, 1).parseRefresh(token); !good {
		t.Error("a token of a retired key is refused")
	}
	parts := strings.Split(token, ".")
	for name, forged := range map[string]string{
		"empty": "", "cut": token[:len(token)-1], "longer": token + "A", "a part more": token + ".x", "many dots": strings.Repeat(".", 150),
		"another user":    newUserID()[2:] + token[22:],
		"another session": parts[0] + "." + digest("y") + "." + parts[2] + "." + parts[3],
		"another number":  parts[0] + "." + parts[1] + ".8." + parts[3],
		"a plus":          parts[0] + "." + parts[1] + ".+7." + parts[3],
		"a zero":          parts[0] + "." + parts[1] + ".07." + parts[3],
		"a foreign key":   testTickets(t, 3).issueTokens(user, session, Family{N: 7}).GetRefreshToken(),
	} {
		if _, _, _, good := tickets.parseRefresh(forged); good {
			t.Errorf("%s: passed", name)
		}
	}
}

func FuzzVerifyAccessToken(f *testing.F) {
	tickets, now := testTickets(f, 1, 2), time.Unix(1795435200, 0)
	good := tickets.issueTokens("u_AAAAAAAAAAAAAAAAAAAAAA", strings.Repeat("A", 43), Family{N: 1, At: now}).GetAccessToken()
	key, _ := newKey(1)
	for _, seed := range []string{"", "..", good, good[:80], good + ".", strings.ToLower(good), sign(key, `{"alg":"none"}`, "{}"), tickets.inside("u_x", "s", now)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		// Nobody but the signer can make one that passes.
		if c, passed := tickets.verifyAccess(token, now); passed != (token == good) {
			t.Fatalf("%q: %v, %+v", token, passed, c)
		}
	})
}

func FuzzParseRefreshToken(f *testing.F) {
	tickets := testTickets(f, 1, 2)
	good := tickets.issueTokens("u_AAAAAAAAAAAAAAAAAAAAAA", strings.Repeat("A", 43), Family{N: 1, At: time.Unix(1, 0)}).GetRefreshToken()
	for _, seed := range []string{"", "...", good, good[:80], good + ".", fmt.Sprint(strings.Repeat("A", 22), ".", strings.Repeat("A", 43), ".2.", strings.Repeat("A", 43))} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		if _, _, _, passed := tickets.parseRefresh(token); passed != (token == good) {
			t.Fatalf("%q: %v", token, passed)
		}
	})
}

// TestKeysAreReloaded: keys change without a restart, and nobody is refused while
// a new key is known to all before it signs.
func TestKeysAreReloaded(t *testing.T) {
	redisServer := startRedis(t)
	servers := []*Server{newServer(t, redisServer.client(t), time.Now), newServer(t, redisServer.client(t), time.Now)}
	var replicas []authv1.AuthServiceClient
	for _, s := range servers {
		replicas = append(replicas, serve(t, s))
	}
	_, email := enrol(t, replicas[0])
	_, one := newKey(1)
	_, two := newKey(2)
	first := issueTokens(t, replicas[0], email)
	guest, err := replicas[0].IssueGuestTicket(t.Context(), &authv1.IssueGuestTicketRequest{})
	ok(t, err)
	for _, step := range []string{one + two, two + one} {
		for i, s := range servers {
			ok(t, s.ReloadKeys(step))
			// One replica has reloaded, the other not yet: each takes what the other signs.
			for j := range replicas {
				issued := issueTokens(t, replicas[j], email)
				_, err := verifyAccess(t, replicas[1-j], issued.GetAccessToken())
				ok(t, err)
				_, err = refresh(t, replicas[1-j], issued.GetRefreshToken())
				ok(t, err)
				_, err = replicas[i].VerifyGuestTicket(t.Context(), &authv1.VerifyGuestTicketRequest{Ticket: guest.GetTicket()})
				ok(t, err)
			}
		}
	}
	listed, err := replicas[1].ListSigningKeys(t.Context(), &authv1.ListSigningKeysRequest{})
	ok(t, err)
	key, _ := newKey(2)
	if len(listed.GetKeys()) != 2 || string(listed.GetKeys()[0].GetPublicKey()) != string(key.Public().(ed25519.PublicKey)) {
		t.Errorf("keys are %v", listed)
	}
	if err := servers[0].ReloadKeys("secret"); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("what is no key was taken, or shown: %v", err)
	}
	_, err = verifyAccess(t, replicas[0], first.GetAccessToken())
	ok(t, err)
	// A key that is gone signs for nobody.
	ok(t, servers[0].ReloadKeys(two))
	_, err = verifyAccess(t, replicas[0], first.GetAccessToken())
	want(t, err, fault.Unauthenticated, "invalid_token")
}

// TestTokensRaceEnds runs a refresh beside each end of a session, and a log-in for
// tokens beside a change of the password, in every order of their commands: when
// both are done, no token opens anything.
func TestTokensRaceEnds(t *testing.T) {
	redisServer := startRedis(t)
	whole := newCheapServer(t, redisServer.client(t), time.Now)
	ctx := t.Context()
	var id, email, session string
	var shown *authv1.Tokens
	var answered []*authv1.Tokens
	setup := func() {
		id, email, answered = newUserID(), newEmail(), nil
		_, err := whole.Register(ctx, &authv1.RegisterRequest{UserId: id, Email: email, Password: goodPassword})
		ok(t, err)
		issued, err := whole.IssueTokens(ctx, &authv1.IssueTokensRequest{Email: email, Password: goodPassword})
		ok(t, err)
		shown = issued.GetTokens()
		seen, err := whole.VerifyAccessToken(ctx, &authv1.VerifyAccessTokenRequest{AccessToken: shown.GetAccessToken()})
		ok(t, err)
		session = seen.GetSessionId()
	}
	refreshing := func(rdb redis.UniversalClient) error {
		resp, err := newCheapServer(t, rdb, time.Now).RefreshTokens(ctx, &authv1.RefreshTokensRequest{RefreshToken: shown.GetRefreshToken()})
		answered = append(answered, resp.GetTokens())
		return err
	}
	dead := func(t *testing.T, order []int, results []error) {
		ok(t, results[1])
		for _, tokens := range append(answered, shown) {
			if tokens == nil {
				continue
			}
			_, err := whole.VerifyAccessToken(ctx, &authv1.VerifyAccessTokenRequest{AccessToken: tokens.GetAccessToken()})
			if !fault.Is(err, fault.Unauthenticated) {
				t.Errorf("order %v: an access token opens: %v", order, err)
			}
			_, err = whole.RefreshTokens(ctx, &authv1.RefreshTokensRequest{RefreshToken: tokens.GetRefreshToken()})
			if !fault.Is(err, fault.Unauthenticated) {
				t.Errorf("order %v: a refresh token opens: %v", order, err)
			}
		}
	}
	changing := func(rdb redis.UniversalClient) error {
		_, err := newCheapServer(t, rdb, time.Now).ChangePassword(ctx, &authv1.ChangePasswordRequest{
			UserId: id, OperationId: "op", CurrentPassword: goodPassword, NewPassword: "another password"})
		return err
	}
	for name, end := range map[string]func(redis.UniversalClient) error{
		"log-out": func(rdb redis.UniversalClient) error {
			_, err := newCheapServer(t, rdb, time.Now).RevokeSession(ctx, &authv1.RevokeSessionRequest{UserId: id, SessionId: session})
			return err
		},
		"all": func(rdb redis.UniversalClient) error {
			_, err := newCheapServer(t, rdb, time.Now).RevokeAllSessions(ctx, &authv1.RevokeAllSessionsRequest{UserId: id})
			return err
		},
		"password": changing,
		"deletion": func(rdb redis.UniversalClient) error {
			_, err := newCheapServer(t, rdb, time.Now).DeleteUser(ctx, &authv1.DeleteUserRequest{UserId: id})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			explore(t, redisServer, []func(redis.UniversalClient) error{refreshing, end}, setup,
				func(order []int, results []error) { dead(t, order, results) })
		})
	}
	t.Run("log-in", func(t *testing.T) {
		explore(t, redisServer, []func(redis.UniversalClient) error{func(rdb redis.UniversalClient) error {
			resp, err := newCheapServer(t, rdb, time.Now).IssueTokens(ctx, &authv1.IssueTokensRequest{Email: email, Password: goodPassword})
			answered = append(answered, resp.GetTokens())
			return err
		}, changing}, setup, func(order []int, results []error) {
			if results[0] != nil {
				want(t, results[0], fault.Unauthenticated, "wrong_credentials")
			}
			// A log-in that began before the change and ended after it has no session.
			dead(t, order, results)
		})
	})
}
