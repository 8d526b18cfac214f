package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"coatcheck/chassis/fault"
)

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// sign makes a ticket of any header and payload.
func sign(key ed25519.PrivateKey, header, payload string) string {
	signed := b64(header) + "." + b64(payload)
	return signed + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(key, []byte(signed)))
}

func testTickets(t testing.TB, seeds ...byte) *tickets {
	t.Helper()
	var text string
	for _, seed := range seeds {
		_, one := newKey(seed)
		text += one
	}
	keys, err := parseSigningKeys(text)
	if err != nil {
		t.Fatal(err)
	}
	return newTickets(keys, "coatcheck", 720*time.Hour)
}

// TestTicketForm pins what other programs may rely on: a JWT with these fields.
func TestTicketForm(t *testing.T) {
	tickets, now := testTickets(t, 1), time.Unix(1795435200, 999)
	guest := "g_AAAAAAAAAAAAAAAAAAAAAA"
	ticket, expires := tickets.issue(guest, now)
	parts := strings.Split(ticket, ".")
	if len(parts) != 3 {
		t.Fatalf("%d parts", len(parts))
	}
	var header, payload map[string]any
	for i, into := range []*map[string]any{&header, &payload} {
		text, err := base64.RawURLEncoding.DecodeString(parts[i])
		ok(t, err)
		ok(t, json.Unmarshal(text, into))
	}
	key, _ := newKey(1)
	if len(header) != 3 || header["alg"] != "EdDSA" || header["typ"] != "coatcheck-guest+jwt" || header["kid"] != tickets.keys[0].id || len(tickets.keys[0].id) != 16 {
		t.Errorf("header is %v", header)
	}
	if len(payload) != 4 || payload["iss"] != "coatcheck" || payload["sub"] != guest || payload["iat"] != 1795435200. || payload["exp"] != float64(expires.Unix()) {
		t.Errorf("payload is %v", payload)
	}
	if !expires.Equal(time.Unix(1795435200, 0).Add(720 * time.Hour)) {
		t.Errorf("expires %v", expires)
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil || !ed25519.Verify(key.Public().(ed25519.PublicKey), []byte(parts[0]+"."+parts[1]), signature) {
		t.Error("the signature is not of header and payload", err)
	}
}

func TestForgedTickets(t *testing.T) {
	tickets, now := testTickets(t, 1, 2), time.Unix(1795435200, 0)
	guest := newGuestID()
	key, _ := newKey(1)
	retired, _ := newKey(2)
	foreign, _ := newKey(3)
	good, _ := tickets.issue(guest, now)
	parts := strings.Split(good, ".")
	header := `{"alg":"EdDSA","kid":"` + tickets.keys[0].id + `","typ":"coatcheck-guest+jwt"}`
	retiredHeader := `{"alg":"EdDSA","kid":"` + tickets.keys[1].id + `","typ":"coatcheck-guest+jwt"}`
	payload := func(edit func(*claims)) string {
		c := claims{"coatcheck", guest, now.Unix(), now.Unix() + 3600}
		edit(&c)
		text, _ := json.Marshal(c)
		return string(text)
	}
	plain := payload(func(*claims) {})
	hs256 := func() string {
		signed := b64(strings.Replace(header, "EdDSA", "HS256", 1)) + "." + b64(plain)
		mac := hmac.New(sha256.New, key.Public().(ed25519.PublicKey))
		mac.Write([]byte(signed))
		return signed + "." + b64(string(mac.Sum(nil)))
	}
	flipped := []byte(good)
	flipped[len(parts[0])+10] ^= 1

	for name, ticket := range map[string]string{"signed by the first": sign(key, header, plain), "signed by the retired": sign(retired, retiredHeader, plain), "issued": good,
		"by a clock that is ahead": sign(key, header, payload(func(c *claims) { c.Issued = now.Unix() + 5 })),
	} {
		if c, err := tickets.verify(ticket, now); err != nil || c.Guest != guest {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
	for name, ticket := range map[string]string{
		"empty":                       "",
		"dots":                        "..",
		"many dots":                   strings.Repeat(".", 1000),
		"truncated":                   good[:len(good)-1],
		"no signature":                parts[0] + "." + parts[1] + ".",
		"two parts":                   parts[0] + "." + parts[1],
		"four parts":                  good + ".x",
		"payload changed":             string(flipped),
		"line end in the signature":   good[:len(good)-1] + "\n",
		"stray bits":                  good[:len(good)-1] + string(good[len(good)-1]+1),
		"padding":                     good + "==",
		"space":                       " " + good,
		"signed by a foreign key":     sign(foreign, header, plain),
		"foreign key, its own kid":    sign(foreign, strings.Replace(header, tickets.keys[0].id, newSigningKey(foreign).id, 1), plain),
		"kid of the other key":        sign(key, retiredHeader, plain),
		"no kid":                      sign(key, `{"alg":"EdDSA","typ":"coatcheck-guest+jwt"}`, plain),
		"key in the header":           sign(foreign, `{"alg":"EdDSA","jwk":{"kty":"OKP","crv":"Ed25519","x":"`+b64(string(foreign.Public().(ed25519.PublicKey)))+`"},"typ":"coatcheck-guest+jwt"}`, plain),
		"alg none":                    b64(`{"alg":"none","typ":"coatcheck-guest+jwt"}`) + "." + b64(plain) + ".",
		"alg none, signed":            sign(key, strings.Replace(header, "EdDSA", "none", 1), plain),
		"alg HS256 by the public key": hs256(),
		"typ JWT":                     sign(key, strings.Replace(header, guestTicket, "JWT", 1), plain),
		"typ of another kind":         sign(key, strings.Replace(header, guestTicket, "coatcheck-access+jwt", 1), plain),
		"no typ":                      sign(key, `{"alg":"EdDSA","kid":"`+tickets.keys[0].id+`"}`, plain),
		"expired":                     sign(key, header, payload(func(c *claims) { c.Expires = now.Unix() })),
		"of the future":               sign(key, header, payload(func(c *claims) { c.Issued = now.Unix() + 6 })),
		"no expiry":                   sign(key, header, `{"iss":"coatcheck","sub":"`+guest+`","iat":1}`),
		"other issuer":                sign(key, header, payload(func(c *claims) { c.Issuer = "elsewhere" })),
		"no issuer":                   sign(key, header, payload(func(c *claims) { c.Issuer = "" })),
		"a user":                      sign(key, header, payload(func(c *claims) { c.Guest = newUserID() })),
		"no guest":                    sign(key, header, payload(func(c *claims) { c.Guest = "" })),
		"malformed guest":             sign(key, header, payload(func(c *claims) { c.Guest += "\n" })),
		"one more claim":              sign(key, header, strings.TrimSuffix(plain, "}")+`,"aud":"cart"}`),
		"a claim twice":               sign(key, header, strings.TrimSuffix(plain, "}")+`,"exp":9999999999}`),
		"not JSON":                    sign(key, header, "x"),
		"not base64":                  func() string { s := parts[0] + ".!"; return s + "." + b64(string(ed25519.Sign(key, []byte(s)))) }(),
		"oversized":                   sign(key, header, plain+strings.Repeat(" ", 2048)),
	} {
		if _, err := tickets.verify(ticket, now); err == nil {
			t.Errorf("%s: passed", name)
		} else {
			want(t, err, fault.Unauthenticated, "invalid_ticket")
		}
	}
	// The size alone is enough: this one is right in everything else.
	big := testTickets(t, 1)
	big.issuer = strings.Repeat("i", 1024)
	ticket, _ := big.issue(guest, now)
	if _, err := big.verify(ticket, now); err == nil {
		t.Error("a ticket of more than 1 KiB passed")
	}
	// A key that is gone signs for nobody.
	if _, err := testTickets(t, 2).verify(good, now); err == nil {
		t.Error("a ticket of a removed key passed")
	}
	if _, err := tickets.verify(good, now.Add(720*time.Hour-time.Second)); err != nil {
		t.Error(err)
	}
	if _, err := tickets.verify(good, now.Add(720*time.Hour)); err == nil {
		t.Error("passed when expired")
	}
}

func TestSigningKeys(t *testing.T) {
	_, one := newKey(1)
	_, two := newKey(2)
	if keys, err := parseSigningKeys("a note\n" + one + two); err != nil || len(keys) != 2 || keys[0].id == keys[1].id {
		t.Fatalf("got %d keys, %v", len(keys), err)
	}
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ok(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(curve)
	ok(t, err)
	for name, text := range map[string]string{
		"empty":          "",
		"no PEM":         "secret",
		"cut":            one[:len(one)-30],
		"twice":          one + one,
		"text behind":    one + "secret",
		"public":         strings.ReplaceAll(one, "PRIVATE", "PUBLIC"),
		"not PKCS 8":     string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("secret")})),
		"another family": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	} {
		if _, err := parseSigningKeys(text); err == nil {
			t.Errorf("%s: passed", name)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error shows the text: %v", name, err)
		}
	}
}

func FuzzVerifyGuestTicket(f *testing.F) {
	tickets, now := testTickets(f, 1, 2), time.Unix(1795435200, 0)
	good, _ := tickets.issue("g_AAAAAAAAAAAAAAAAAAAAAA", now)
	key, _ := newKey(1)
	for _, seed := range []string{"", "..", good, good[:80], good + ".", strings.ToLower(good), sign(key, `{"alg":"none"}`, "{}"), b64("{}") + "." + b64("{}") + "."} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, ticket string) {
		// Nobody but the signer can make one that passes.
		if c, err := tickets.verify(ticket, now); err == nil && ticket != good {
			t.Fatalf("%q passed as %+v", ticket, c)
		} else if err != nil && ticket == good {
			t.Fatal(err)
		}
	})
}
