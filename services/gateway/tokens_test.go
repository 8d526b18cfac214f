package gateway

import (
	"strings"
	"testing"
)

func (c *client) tokens(body string) (access, refresh string) {
	c.t.Helper()
	got := c.want(200, "", "POST", "/v1/tokens", body).json(c.t)
	if got["token_type"] != "Bearer" || got["expires_in"] != 300.0 {
		c.t.Errorf("tokens: %v", got)
	}
	return got["access_token"].(string), got["refresh_token"].(string)
}

func TestTokens(t *testing.T) {
	s := newShop(t)
	browser, api := s.user(t, "a@example.org"), s.client(t)
	browser.want(200, "", "POST", "/v1/cart/items", addMugs)
	access, refresh := api.tokens(`{"grant_type":"password","email":"a@example.org","password":"correct horse"}`)
	bearer := "Authorization: Bearer " + access
	if got := api.want(200, "", "GET", "/v1/cart", "", bearer); got.json(t)["version"] != 1.0 || len(api.cookies) > 0 {
		t.Errorf("not the user's cart, or cookies: %s, %v", got.body, api.cookies)
	}
	api.want(200, "", "POST", "/v1/cart/items", addMugs, "Authorization: bearer "+access)
	// The token wins over cookies, good or not.
	other := s.user(t, "b@example.org")
	if got := other.want(200, "", "GET", "/v1/cart", "", bearer); got.json(t)["version"] != 2.0 {
		t.Errorf("the cookie won: %s", got.body)
	}
	other.want(401, "invalid_token", "GET", "/v1/cart", "", "Authorization: Bearer x.y.z")
	if len(other.cookies) != 1 {
		t.Errorf("a bad token cost the cookie: %v", other.cookies)
	}

	next, _ := api.tokens(`{"grant_type":"refresh_token","refresh_token":"` + refresh + `"}`)
	api.want(401, "invalid_grant", "POST", "/v1/tokens", `{"grant_type":"refresh_token","refresh_token":"`+refresh+`"}`)
	api.want(200, "", "GET", "/v1/orders", "", "Authorization: Bearer "+next)
	list := browser.want(200, "", "GET", "/v1/sessions", "").json(t)["sessions"].([]any)
	if len(list) != 2 {
		t.Errorf("sessions: %v", list)
	}
	api.want(204, "", "DELETE", "/v1/sessions/current", "", "Authorization: Bearer "+next)
	got := api.want(401, "invalid_token", "GET", "/v1/cart", "", "Authorization: Bearer "+next)
	if challenge := got.Get("WWW-Authenticate"); challenge != `Bearer realm="coatcheck", error="invalid_token"` {
		t.Errorf("WWW-Authenticate %q", challenge)
	}
	browser.want(200, "", "GET", "/v1/cart", "")
}

func TestTokenRequests(t *testing.T) {
	s := newShop(t)
	c := s.client(t)
	for _, body := range []string{
		`{}`, `{"grant_type":"password"}`, `{"grant_type":"password","email":"a"}`, `{"grant_type":"refresh_token"}`, `{"grant_type":"refresh_token","refresh_token":""}`,
		`{"grant_type":"refresh_token","refresh_token":"x","email":"a"}`, `{"grant_type":"password","email":"a","password":"b","refresh_token":"x"}`,
		`{"grant_type":"client_credentials"}`, `{"grant_type":"password","email":"a","password":"b","scope":"all"}`, `{"grant_type":1}`, `[]`, `x`,
	} {
		c.want(400, "invalid_body", "POST", "/v1/tokens", body)
	}
	if n := s.authStore.count("IssueTokens", "RefreshTokens"); n > 0 {
		t.Errorf("auth was asked %d times", n)
	}
	c.want(401, "wrong_credentials", "POST", "/v1/tokens", `{"grant_type":"password","email":"a@example.org","password":"correct horse"}`)
	s.fakeAuths[0].before = failing("RefreshTokens", unavailable)
	c.want(503, "store_unavailable", "POST", "/v1/tokens", `{"grant_type":"refresh_token","refresh_token":"x"}`)
}

// TestTokensAreRemembered: an access token is remembered as a session is, and
// refused as soon as one.
func TestTokensAreRemembered(t *testing.T) {
	s := newShopWith(t, remembering(), 1)
	s.awaitWhole(t, true)
	browser, api := s.user(t, "a@example.org"), s.client(t)
	access, _ := api.tokens(`{"grant_type":"password","email":"a@example.org","password":"correct horse"}`)
	bearer := "Authorization: Bearer " + access
	for range 20 {
		api.want(200, "", "GET", "/v1/cart", "", bearer)
	}
	if n := s.authStore.count("VerifyAccessToken"); n != 1 {
		t.Errorf("auth was asked %d times", n)
	}
	browser.want(204, "", "DELETE", "/v1/sessions?except=current", "")
	api.want(401, "invalid_token", "GET", "/v1/cart", "", bearer)
	// As a cookie it is nobody's.
	api.cookies["session"] = access
	api.want(401, "login_required", "GET", "/v1/orders", "")
}

func TestOversizedTokenIsNobodys(t *testing.T) {
	s := newShop(t)
	for _, value := range []string{strings.Repeat("x", longest+1), strings.Repeat(".", longest+1)} {
		s.client(t).want(401, "invalid_token", "GET", "/v1/cart", "", "Authorization: Bearer "+value)
	}
	s.client(t).want(401, "invalid_token", "GET", "/v1/cart", "", "Authorization: Bearer a", "Authorization: Bearer a")
	if s.authStore.count("VerifyAccessToken") > 0 {
		t.Error("auth was asked")
	}
}
