package gateway

import (
	"encoding/base64"
	"maps"
	"net/http"
	"strings"
	"testing"

	"coatcheck/chassis/fault"
	authv1 "coatcheck/proto/coatcheck/auth/v1"
)

func TestGuestTicket(t *testing.T) {
	s := newShop(t)
	c := s.client(t)
	first := c.want(200, "", "GET", "/v1/cart", "")
	set := first.Values("Set-Cookie")
	if len(set) != 1 || !strings.HasPrefix(set[0], "guest=") || !strings.Contains(set[0], "HttpOnly; SameSite=Lax") || !strings.Contains(set[0], "Path=/; Max-Age=3") || strings.Contains(set[0], "Secure") {
		t.Errorf("Set-Cookie %q", set)
	}
	if again := c.want(200, "", "GET", "/v1/cart", ""); len(again.Values("Set-Cookie")) > 0 {
		t.Errorf("a good ticket was replaced: %q", again.Values("Set-Cookie"))
	}

	c.want(200, "", "POST", "/v1/cart/items", addMugs)
	s.authStore.renew = true
	renewed := c.want(200, "", "GET", "/v1/cart", "")
	s.authStore.renew = false
	if !strings.HasPrefix(c.cookies["guest"], "renewed-") || renewed.json(t)["version"] != 1.0 {
		t.Errorf("renewed: %v, %s", c.cookies, renewed.body)
	}
	if got := c.want(200, "", "GET", "/v1/cart", ""); got.json(t)["version"] != 1.0 {
		t.Errorf("the renewed ticket is another guest's: %s", got.body)
	}
}

func TestUnusableGuestTicketIsReplaced(t *testing.T) {
	s := newShop(t)
	for name, ticket := range map[string]string{
		"forged":    "eyJhbGciOiJub25lIn0.eyJzdWIiOiJnXzAwMDAwMDAwMDAwMDAwMDAwMDAwMDAifQ.",
		"truncated": "ticket-of-g_000000000000000000",
		"garbage":   "%%%",
		"very long": strings.Repeat("x", 12<<10),
	} {
		c := s.client(t)
		c.cookies["guest"] = ticket
		got := c.want(200, "", "POST", "/v1/cart/items", addMugs)
		if c.cookies["guest"] == ticket || got.json(t)["version"] != 1.0 {
			t.Errorf("%s: %v, %s", name, c.cookies, got.body)
		}
	}
}

func TestSessionWinsOverGuest(t *testing.T) {
	s := newShop(t)
	c := s.user(t, "a@example.org")
	c.want(200, "", "POST", "/v1/cart/items", addMugs)
	guest := s.client(t)
	guest.want(200, "", "GET", "/v1/cart", "")
	c.cookies["guest"] = guest.cookies["guest"]
	if got := c.want(200, "", "GET", "/v1/cart", ""); got.json(t)["version"] != 1.0 || len(got.Values("Set-Cookie")) > 0 {
		t.Errorf("not the user's cart: %s", got.body)
	}
}

func TestInvalidSession(t *testing.T) {
	s := newShop(t)
	good := s.user(t, "a@example.org").cookies["session"]
	for name, token := range map[string]string{"forged": good[:len(good)-1] + "_", "revoked": fakeToken(strings.Repeat("x", 43))} {
		for _, path := range []string{"/v1/cart", "/v1/orders", "/v1/sessions"} {
			c := s.client(t)
			c.cookies["session"] = token
			got := c.want(401, "invalid_session", "GET", path, "")
			if _, kept := c.cookies["session"]; kept || got.Get("WWW-Authenticate") == "" {
				t.Errorf("%s at %s: %v %v", name, path, c.cookies, got.Header)
			}
		}
	}
}

// TestOtherCookiesAreIgnored: by name, or by a form that no session has.
func TestOtherCookiesAreIgnored(t *testing.T) {
	s := newShop(t)
	c := s.client(t)
	maps.Copy(c.cookies, map[string]string{"__Host-session": "x", "__Host-guest": "x", "Session": "x", "sid": "x"})
	c.want(200, "", "GET", "/v1/cart", "")
	if s.authStore.count("VerifySession", "VerifyGuestTicket") > 0 {
		t.Errorf("auth was asked: %v", s.authStore.seen)
	}
	good := s.user(t, "a@example.org").cookies["session"]
	for _, token := range []string{"x", "x.y", good[:len(good)-1], good + "A", good[:len(good)-1] + "=", strings.Replace(good, ".", "_", 1), "s%3A" + good[4:]} {
		c := s.client(t)
		c.want(200, "", "GET", "/v1/cart", "")
		c.cookies["session"] = token
		got := c.want(200, "", "GET", "/v1/cart", "")
		if c.cookies["session"] != token || len(got.Values("Set-Cookie")) > 0 {
			t.Errorf("%s: Set-Cookie %q", token, got.Values("Set-Cookie"))
		}
		c.want(401, "login_required", "GET", "/v1/orders", "")
	}
	if s.authStore.count("VerifySession") > 0 {
		t.Errorf("auth was asked: %v", s.authStore.seen)
	}
}

func TestSecureCookies(t *testing.T) {
	settings := testSettings()
	settings.PlainHTTP = false
	s := newShopWith(t, settings, 1)
	c := s.user(t, "a@example.org")
	guest := s.client(t)
	for _, set := range append(guest.want(200, "", "GET", "/v1/cart", "").Values("Set-Cookie"), c.logIn("a@example.org").Values("Set-Cookie")...) {
		parsed, err := http.ParseSetCookie(set)
		if err != nil || !strings.HasPrefix(set, "__Host-") || !parsed.Secure || !parsed.HttpOnly || parsed.Path != "/" || parsed.Domain != "" || parsed.SameSite != http.SameSiteLaxMode {
			t.Errorf("Set-Cookie %q: %v", set, err)
		}
	}
	c.want(200, "", "GET", "/v1/sessions", "")
}

func TestAuthorizationHeader(t *testing.T) {
	s := newShop(t)
	for _, value := range []string{"Bearer abc", "Basic YTpi", "x"} {
		got := s.client(t).want(401, "invalid_token", "GET", "/v1/cart", "", "Authorization: "+value)
		if !strings.HasPrefix(got.Get("WWW-Authenticate"), "Bearer") {
			t.Errorf("WWW-Authenticate %q", got.Get("WWW-Authenticate"))
		}
	}
}

func TestGuestsAreAskedToLogIn(t *testing.T) {
	s := newShop(t)
	c := s.client(t)
	c.want(200, "", "GET", "/v1/cart", "")
	ticket := c.cookies["guest"]
	change := `{"current_password":"correct horse","new_password":"battery staple"}`
	for _, call := range [][3]string{
		{"POST", "/v1/cart/checkout", ""}, {"GET", "/v1/orders", ""}, {"GET", "/v1/orders/x", ""}, {"GET", "/v1/sessions", ""},
		{"DELETE", "/v1/sessions", ""}, {"DELETE", "/v1/sessions/current", ""}, {"PUT", "/v1/users/me/password", change}, {"DELETE", "/v1/users/me", ""},
	} {
		got := c.want(401, "login_required", call[0], call[1], call[2], `If-Match: "0.0.rev1"`)
		if got.Get("WWW-Authenticate") == "" || len(got.Values("Set-Cookie")) > 0 || c.cookies["guest"] != ticket {
			t.Errorf("%v: headers %v", call, got.Header)
		}
	}
	s.client(t).want(401, "login_required", "POST", "/v1/cart/checkout", "")
}

func TestLogInMovesTheCart(t *testing.T) {
	s := newShop(t)
	s.user(t, "a@example.org")
	c := s.client(t)
	c.want(200, "", "POST", "/v1/cart/items", addMugs)
	guest := c.cookies["guest"]
	got := c.logIn("a@example.org")
	if _, kept := c.cookies["guest"]; kept || c.cookies["session"] == "" {
		t.Errorf("cookies after log-in: %v", c.cookies)
	}
	if len(got.json(t)) != 3 || strings.Contains(string(got.body), "token") {
		t.Errorf("log-in: %s", got.body)
	}
	if items := c.want(200, "", "GET", "/v1/cart", "").json(t)["items"].([]any); len(items) != 1 {
		t.Errorf("the guest's lines are not there: %v", items)
	}
	// The old ticket in other hands leads nowhere, and is replaced.
	late := s.client(t)
	late.cookies["guest"] = guest
	moved := late.want(409, "cart_moved", "GET", "/v1/cart", "")
	if late.cookies["guest"] == guest || moved.Get("Set-Cookie") == "" {
		t.Errorf("the ticket was not replaced: %v", late.cookies)
	}
	late.want(200, "", "GET", "/v1/cart", "")
	// It does not keep its holder from logging in.
	late.cookies["guest"] = guest
	late.logIn("a@example.org")

	late = s.client(t)
	late.cookies["guest"] = guest
	late.want(409, "cart_moved", "POST", "/v1/cart/items", addMugs)
	late.cookies["guest"] = guest
	s.fakeAuths[0].before = failing("IssueGuestTicket", unavailable)
	late.want(503, "store_unavailable", "DELETE", "/v1/cart", "")
}

func TestLogInWhoseMergeFails(t *testing.T) {
	s := newShop(t)
	s.user(t, "a@example.org")
	sessions := len(s.authStore.sessions)
	c := s.client(t)
	c.want(200, "", "POST", "/v1/cart/items", addMugs)
	guest := c.cookies["guest"]
	s.fakeCarts[0].before = failing("MergeCarts", unavailable)
	got := c.want(503, "store_unavailable", "POST", "/v1/sessions", `{"email":"a@example.org","password":"correct horse"}`)
	if len(got.Values("Set-Cookie")) > 0 || c.cookies["guest"] != guest {
		t.Errorf("cookies were touched: %q", got.Values("Set-Cookie"))
	}
	if n := len(s.authStore.sessions); n != sessions {
		t.Errorf("%d sessions are left, want %d", n, sessions)
	}
	s.fakeCarts[0].before = nil
	c.logIn("a@example.org")
}

func TestLogInMakesANewSession(t *testing.T) {
	s := newShop(t)
	c := s.user(t, "a@example.org")
	old := c.cookies["session"]
	c.logIn("a@example.org")
	if c.cookies["session"] == old {
		t.Error("the session kept its token")
	}
	other := s.client(t)
	other.cookies["session"] = old
	other.want(401, "invalid_session", "GET", "/v1/cart", "")
	// A session that has ended does not keep anyone from logging in.
	other.cookies["session"] = old
	other.logIn("a@example.org")
	// Nor does a failure to end the old one.
	s.fakeAuths[0].before = failing("RevokeSession", unavailable)
	other.logIn("a@example.org")
	s.fakeAuths[0].before = failing("VerifySession", unavailable)
	other.want(503, "", "POST", "/v1/sessions", `{"email":"a@example.org","password":"correct horse"}`)
	s.fakeAuths[0].before = nil
	other.want(401, "wrong_credentials", "POST", "/v1/sessions", `{"email":"a@example.org","password":"wrong"}`)
	other.want(200, "", "GET", "/v1/sessions", "")
}

func TestSessions(t *testing.T) {
	s := newShop(t)
	a := s.user(t, "a@example.org")
	b := s.client(t)
	b.logIn("a@example.org")
	stranger := s.user(t, "b@example.org")
	list := a.want(200, "", "GET", "/v1/sessions", "").json(t)["sessions"].([]any)
	current, other := "", ""
	for _, entry := range list {
		v := entry.(map[string]any)
		if v["current"].(bool) {
			current = v["id"].(string)
		} else {
			other = v["id"].(string)
		}
	}
	if len(list) != 2 || current == "" || other == "" {
		t.Fatalf("sessions: %v", list)
	}
	stranger.want(204, "", "DELETE", "/v1/sessions/"+other, "")
	b.want(200, "", "GET", "/v1/sessions", "") // still there
	got := a.want(204, "", "DELETE", "/v1/sessions/"+other, "")
	if len(got.Values("Set-Cookie")) > 0 {
		t.Error("ending another session cleared the cookie")
	}
	b.want(401, "invalid_session", "GET", "/v1/sessions", "")
	a.want(400, "invalid_session_id", "DELETE", "/v1/sessions/nonsense", "")
	token := a.cookies["session"]
	a.want(204, "", "DELETE", "/v1/sessions/"+current, "")
	if _, kept := a.cookies["session"]; kept {
		t.Error("ending the own session by id left the cookie")
	}
	a.cookies["session"] = token
	a.want(401, "invalid_session", "DELETE", "/v1/sessions/current", "")
	a.logIn("a@example.org")
	a.want(204, "", "DELETE", "/v1/sessions/current", "")
	if len(a.cookies) > 0 {
		t.Errorf("cookies left: %v", a.cookies)
	}
	b.logIn("a@example.org")
	a.logIn("a@example.org")
	a.want(400, "invalid_except", "DELETE", "/v1/sessions?except=other", "")
	a.want(400, "invalid_except", "DELETE", "/v1/sessions?except=", "")
	b.want(200, "", "GET", "/v1/sessions", "")
	if got := a.want(204, "", "DELETE", "/v1/sessions?except=current", ""); len(got.Values("Set-Cookie")) > 0 {
		t.Error("ending the others cleared the cookie")
	}
	b.want(401, "invalid_session", "GET", "/v1/sessions", "")
	if list := a.want(200, "", "GET", "/v1/sessions", "").json(t)["sessions"].([]any); len(list) != 1 {
		t.Errorf("left: %v", list)
	}
	a.want(204, "", "DELETE", "/v1/sessions", "")
	stranger.want(204, "", "DELETE", "/v1/sessions", "")
	if len(stranger.cookies) > 0 || len(s.authStore.sessions) > 0 {
		t.Errorf("left: %v, %v", stranger.cookies, s.authStore.sessions)
	}
}

func TestAccount(t *testing.T) {
	s := newShop(t)
	c := s.user(t, "a@example.org")
	c.want(409, "email_taken", "POST", "/v1/users", `{"email":"a@example.org","password":"correct horse"}`)
	c.want(400, "invalid_password", "POST", "/v1/users", `{"email":"c@example.org","password":"short"}`)
	c.want(403, "wrong_password", "PUT", "/v1/users/me/password", `{"current_password":"wrong","new_password":"battery staple"}`)
	c.want(204, "", "PUT", "/v1/users/me/password", `{"current_password":"correct horse","new_password":"battery staple"}`)
	if len(c.cookies) > 0 {
		t.Errorf("cookies left after a new password: %v", c.cookies)
	}
	c.want(201, "", "POST", "/v1/sessions", `{"email":"a@example.org","password":"battery staple"}`)
	c.want(200, "", "POST", "/v1/cart/items", addMugs)

	// The account is deleted last, so that who meets a failure can ask again.
	s.fakeCarts[0].before = failing("EraseOwner", unavailable)
	c.want(503, "", "DELETE", "/v1/users/me", "")
	if len(s.authStore.users) != 1 || len(c.cookies) != 1 {
		t.Error("the account went although the cart could not be erased")
	}
	s.fakeCarts[0].before = nil
	// Until the account goes, its cart is closed.
	s.fakeAuths[0].before = failing("DeleteUser", unavailable)
	c.want(503, "", "DELETE", "/v1/users/me", "")
	c.want(409, "account_closed", "GET", "/v1/cart", "")
	c.want(409, "account_closed", "POST", "/v1/cart/items", addMugs)
	guest := s.client(t)
	guest.want(200, "", "POST", "/v1/cart/items", addMugs)
	guest.want(409, "account_closed", "POST", "/v1/sessions", `{"email":"a@example.org","password":"battery staple"}`)
	s.fakeAuths[0].before = nil
	c.want(204, "", "DELETE", "/v1/users/me", "")
	if len(s.authStore.users)+len(c.cookies)+len(s.cartStore.orders) > 0 {
		t.Errorf("left: %v, %v, %v", s.authStore.users, c.cookies, s.cartStore.carts)
	}
}

func TestSigningKeys(t *testing.T) {
	s := newShop(t)
	got := s.client(t).want(200, "", "GET", "/.well-known/jwks.json", "")
	key := got.json(t)["keys"].([]any)[0].(map[string]any)
	if x, err := base64.RawURLEncoding.DecodeString(key["x"].(string)); err != nil || len(x) != 32 || key["kid"] != "0123456789abcdef" {
		t.Errorf("keys: %s", got.body)
	}
}

func TestDeviceIsCutAndValid(t *testing.T) {
	s := newShop(t)
	s.user(t, "a@example.org")
	var device string
	s.fakeAuths[0].before = func(_ ctx, call string, req any) error {
		if in, ok := req.(*authv1.LogInRequest); ok {
			device = in.GetDevice()
		}
		return nil
	}
	s.client(t).want(201, "", "POST", "/v1/sessions", `{"email":"a@example.org","password":"correct horse"}`, "User-Agent: \xff"+strings.Repeat("é", 200))
	if device != strings.Repeat("é", 128) {
		t.Errorf("device %q", device)
	}
}

// An outage must not read as "nobody": that would show an empty cart.
func TestOutageOfAuthMakesNoNewGuest(t *testing.T) {
	s := newShop(t)
	c := s.client(t)
	c.want(200, "", "POST", "/v1/cart/items", addMugs)
	ticket := c.cookies["guest"]
	for _, err := range []error{unavailable, fault.New(fault.Internal, "internal", "x")} {
		s.fakeAuths[0].before = failing("VerifyGuestTicket", err)
		got := c.want(toRefusal(err).status, "", "GET", "/v1/cart", "")
		if len(got.Values("Set-Cookie")) > 0 || c.cookies["guest"] != ticket {
			t.Errorf("%v: Set-Cookie %q", err, got.Values("Set-Cookie"))
		}
	}
	u := s.user(t, "a@example.org")
	s.fakeAuths[0].before = failing("VerifySession", unavailable)
	u.want(503, "store_unavailable", "GET", "/v1/cart", "")
	if u.cookies["session"] == "" {
		t.Error("an outage logged the user out")
	}
}
