package e2e_test

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"coatcheck/trial/local"
)

// TestBadTokens shows the shop tokens that are none: each is refused, with a word
// on how to ask, and none is a fault of the shop's.
func TestBadTokens(t *testing.T) {
	shop, logs := openWith(t, local.Options{Gateways: 1, Auths: 1, Carts: 1})
	base := "http://" + shop.Address()
	c := newClient(t, base)
	const ada = `{"email":"ada@example.org","password":"correct horse"}`
	if a := c.do("POST", "/v1/users", ada); a.status != 201 {
		t.Fatalf("register: %d %s", a.status, a.body)
	}
	if a := c.do("POST", "/v1/sessions", ada); a.status != 201 {
		t.Fatalf("log-in: %d %s", a.status, a.body)
	}
	var tokens struct {
		Access  string `json:"access_token"`
		Refresh string `json:"refresh_token"`
	}
	issued := newClient(t, base).do("POST", "/v1/tokens", `{"grant_type":"password",`+ada[1:])
	if err := json.Unmarshal(issued.body, &tokens); err != nil || issued.status != 200 {
		t.Fatalf("tokens: %d %s", issued.status, issued.body)
	}
	good := strings.Split(tokens.Access, ".")
	header, payload := decoded(t, good[0]), decoded(t, good[1])
	key, foreign := privateKey(t, filepath.Join(logs, "..", "keys", "signing-keys.pem")), privateKey(t, signingKeys(t))
	jwt := func(key ed25519.PrivateKey, header, payload string) string {
		text := encoded(header) + "." + encoded(payload)
		return text + "." + encoded(string(ed25519.Sign(key, []byte(text))))
	}
	claim := func(name string, value any) string {
		var claims map[string]any
		if err := json.Unmarshal([]byte(payload), &claims); err != nil {
			t.Fatal(err)
		}
		old, _ := json.Marshal(claims[name])
		if n, ok := claims[name].(float64); ok {
			old = fmt.Appendf(nil, "%.0f", n)
		}
		text, _ := json.Marshal(value)
		changed := strings.Replace(payload, `"`+name+`":`+string(old), `"`+name+`":`+string(text), 1)
		if changed == payload {
			t.Fatalf("no claim %s in %s", name, payload)
		}
		return changed
	}
	if again := jwt(key, header, payload); again != tokens.Access {
		t.Fatalf("the shop signs %s, and this test %s", tokens.Access, again)
	}
	hmacked := func() string {
		text := encoded(strings.Replace(header, "EdDSA", "HS256", 1)) + "." + encoded(payload)
		mac := hmac.New(sha256.New, key.Public().(ed25519.PublicKey))
		mac.Write([]byte(text))
		return text + "." + encoded(string(mac.Sum(nil)))
	}
	random := make([]byte, 200)
	_, _ = rand.Read(random)
	now := time.Now().Unix()
	bare := newClient(t, base)
	for name, token := range map[string]string{
		"malformed":              "x",
		"two parts":              good[0] + "." + good[1],
		"no signature":           good[0] + "." + good[1] + ".",
		"four parts":             tokens.Access + ".x",
		"many dots":              strings.Repeat(".", 1000),
		"very many dots":         strings.Repeat(".", 10_000),
		"random":                 encoded(string(random)),
		"oversized":              jwt(key, header, payload+strings.Repeat(" ", 2000)),
		"alg none":               encoded(`{"alg":"none","typ":"at+jwt"}`) + "." + good[1] + ".",
		"alg none, signed":       jwt(key, strings.Replace(header, "EdDSA", "none", 1), payload),
		"HS256 with the key":     hmacked(),
		"typ JWT":                jwt(key, strings.Replace(header, "at+jwt", "JWT", 1), payload),
		"no typ":                 jwt(key, strings.Replace(header, `,"typ":"at+jwt"`, "", 1), payload),
		"another's kid":          jwt(foreign, header, payload),
		"of a foreign key":       jwt(foreign, `{"alg":"EdDSA","typ":"at+jwt"}`, payload),
		"jku":                    jwt(foreign, `{"alg":"EdDSA","jku":"`+base+`/jwks","typ":"at+jwt"}`, payload),
		"another audience":       jwt(key, header, claim("aud", "cart")),
		"many audiences":         jwt(key, header, claim("aud", []string{"coatcheck", "x"})),
		"another issuer":         jwt(key, header, claim("iss", "elsewhere")),
		"expired":                jwt(key, header, claim("exp", now-1)),
		"of the future":          jwt(key, header, claim("iat", now+600)),
		"a time as text":         jwt(key, header, claim("exp", "9999999999")),
		"a claim twice":          jwt(key, header, strings.TrimSuffix(payload, "}")+`,"exp":9999999999}`),
		"a claim more":           jwt(key, header, strings.TrimSuffix(payload, "}")+`,"admin":true}`),
		"another session":        jwt(key, header, claim("sid", strings.Repeat("A", 43))),
		"a refresh token":        tokens.Refresh,
		"a session's token":      c.cookie(t, "session"),
		"a guest's ticket":       bare.guest(t),
		"a space":                tokens.Access + " x",
		"not of this character":  "\u00fc" + tokens.Access,
		"with padding":           tokens.Access + "==",
		"cut":                    tokens.Access[:len(tokens.Access)-1],
		"with another last char": tokens.Access[:len(tokens.Access)-1] + string(tokens.Access[len(tokens.Access)-1]^1),
	} {
		for _, path := range []string{"/v1/cart", "/v1/orders"} {
			a := newClient(t, base).do("GET", path, "", "Authorization", "Bearer "+token)
			if a.status != 401 || !strings.Contains(a.header.Get("WWW-Authenticate"), `error="invalid_token"`) || a.header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("%s at %s: %d, WWW-Authenticate %q, %s", name, path, a.status, a.header.Get("WWW-Authenticate"), a.body)
			}
		}
	}
	if a := newClient(t, base).do("GET", "/v1/cart", "", "Authorization", "Bearer "+tokens.Access); a.status != 200 {
		t.Errorf("the good one: %d %s", a.status, a.body)
	}
}

// TestCookiesFromElsewhere: what another shop or program has given, or another name,
// opens nothing here, and keeps nobody from shopping: but for one refusal, with
// which the session of another shop is cleared.
func TestCookiesFromElsewhere(t *testing.T) {
	here, _ := openWith(t, local.Options{Gateways: 1, Auths: 1, Carts: 1})
	there, _ := openWith(t, local.Options{Gateways: 1, Auths: 1, Carts: 1})
	base := "http://" + here.Address()
	const ada = `{"email":"ada@example.org","password":"correct horse"}`
	stranger := newClient(t, "http://"+there.Address())
	guest := stranger.guest(t)
	stranger.do("POST", "/v1/users", ada)
	stranger.do("POST", "/v1/sessions", ada)
	session := stranger.cookie(t, "session")

	a := newClient(t, base).do("GET", "/v1/cart", "", "Cookie", "guest="+guest)
	if set := a.header.Get("Set-Cookie"); a.status != 200 || !strings.HasPrefix(set, "guest=") || strings.Contains(set, guest) {
		t.Errorf("a guest of another shop: %d, Set-Cookie %q", a.status, set)
	}
	a = newClient(t, base).do("GET", "/v1/cart", "", "Cookie", "session="+session)
	if set := a.header.Get("Set-Cookie"); a.status != 401 || a.header.Get("WWW-Authenticate") == "" || !strings.HasPrefix(set, "session=;") {
		t.Errorf("a session of another shop: %d, Set-Cookie %q", a.status, set)
	}
	own := newClient(t, base).guest(t)
	for _, cookies := range []string{
		"__Host-guest=" + guest + "; __Host-session=" + session, "Session=" + session, "session_=" + session, "$Path=/; SESSION=" + session, "sid=" + session, "session", "session=another-program's",
	} {
		a := newClient(t, base).do("GET", "/v1/cart", "", "Cookie", "guest="+own+"; "+cookies)
		if a.status != 200 || a.header.Get("Set-Cookie") != "" {
			t.Errorf("%.12s: %d, Set-Cookie %q", cookies, a.status, a.header.Get("Set-Cookie"))
		}
	}
}

func encoded(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

func decoded(t *testing.T, text string) string {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func privateKey(t *testing.T, file string) ed25519.PrivateKey {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key.(ed25519.PrivateKey)
}

// cookie is the value of a cookie that the client has.
func (c *client) cookie(t *testing.T, name string) string {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, c.base+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, cookie := range c.http.Jar.Cookies(req.URL) {
		if cookie.Name == name {
			return cookie.Value
		}
	}
	t.Fatalf("no cookie %s", name)
	return ""
}

// guest makes the client a guest and returns the ticket.
func (c *client) guest(t *testing.T) string {
	t.Helper()
	if a := c.do("GET", "/v1/cart", ""); a.status != 200 {
		t.Fatalf("a new guest: %d %s", a.status, a.body)
	}
	return c.cookie(t, "guest")
}
