package ticket

import (
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

func newKey(seed byte) ed25519.PrivateKey {
	raw := make([]byte, ed25519.SeedSize)
	raw[0] = seed
	return ed25519.NewKeyFromSeed(raw)
}

func public(key ed25519.PrivateKey) ed25519.PublicKey { return key.Public().(ed25519.PublicKey) }

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// raw signs any header and payload.
func raw(key ed25519.PrivateKey, header, payload string) string {
	signed := b64(header) + "." + b64(payload)
	return signed + "." + b64(string(ed25519.Sign(key, []byte(signed))))
}

var (
	one, two, foreign = newKey(1), newKey(2), newKey(3)
	keys              = Keys{KeyID(public(one)): public(one), KeyID(public(two)): public(two)}
	at                = time.Unix(1795435200, 0)
)

func signer(key ed25519.PrivateKey) Signer {
	return func(typ string, claims any) string { return Sign(key, KeyID(public(key)), typ, claims) }
}

func inside(key ed25519.PrivateKey, edit func(*Inside)) string {
	in := Inside{Issuer: "coatcheck", Audience: "cart", Owner: "u_1", Session: "s", Issued: at.Unix(), Expires: at.Unix() + 60}
	edit(&in)
	return signer(key)(insideType, in)
}

func TestInside(t *testing.T) {
	keep := func(*Inside) {}
	good := SignInside(signer(one), "coatcheck", "cart", "u_1", "s", at)
	if good != inside(one, keep) {
		t.Error("an inside ticket is another than its claims")
	}
	parts := strings.Split(good, ".")
	header := `{"alg":"EdDSA","kid":"` + KeyID(public(one)) + `","typ":"` + insideType + `"}`
	payload := `{"iss":"coatcheck","aud":"cart","sub":"u_1","sid":"s","iat":1795435200,"exp":1795435260}`
	if len(KeyID(public(one))) != 16 || parts[0] != b64(header) || parts[1] != b64(payload) || good != raw(one, header, payload) {
		t.Fatalf("the form is another: %s", good)
	}
	for name, token := range map[string]string{"good": good, "of the second key": inside(two, keep), "of a guest": inside(one, func(in *Inside) { in.Session = "" })} {
		for _, when := range []time.Duration{-5 * time.Second, 0, 59 * time.Second, 64 * time.Second} {
			if in, ok := keys.VerifyInside(token, "coatcheck", "cart", at.Add(when)); !ok || in.Owner != "u_1" {
				t.Errorf("%s, %v after it was made: %v, %v", name, when, in, ok)
			}
		}
	}
	hs256 := func() string {
		signed := b64(strings.Replace(header, "EdDSA", "HS256", 1)) + "." + b64(payload)
		mac := hmac.New(sha256.New, public(one))
		mac.Write([]byte(signed))
		return signed + "." + b64(string(mac.Sum(nil)))
	}
	for name, token := range map[string]string{
		"empty":                       "",
		"dots":                        "..",
		"many dots":                   strings.Repeat(".", 1000),
		"truncated":                   good[:len(good)-1],
		"no signature":                parts[0] + "." + parts[1] + ".",
		"four parts":                  good + ".x",
		"line end in the signature":   good[:len(good)-1] + "\n",
		"line end behind it":          good + "\n",
		"line end in the payload":     parts[0] + "." + parts[1][:9] + "\n" + parts[1][9:] + "." + parts[2],
		"stray bits":                  good[:len(good)-1] + string(good[len(good)-1]+1),
		"padding":                     good + "==",
		"of a foreign key":            inside(foreign, keep),
		"foreign key, a known kid":    raw(foreign, header, payload),
		"kid of the other key":        raw(two, header, payload),
		"no kid":                      raw(one, `{"alg":"EdDSA","typ":"`+insideType+`"}`, payload),
		"jku":                         raw(foreign, `{"alg":"EdDSA","jku":"https://example.org","typ":"`+insideType+`"}`, payload),
		"alg none":                    b64(`{"alg":"none","typ":"`+insideType+`"}`) + "." + b64(payload) + ".",
		"alg none, signed":            raw(one, strings.Replace(header, "EdDSA", "none", 1), payload),
		"alg HS256 by the public key": hs256(),
		"another type":                signer(one)("coatcheck-guest+jwt", Inside{Issuer: "coatcheck", Audience: "cart", Owner: "u_1", Issued: at.Unix(), Expires: at.Unix() + 60}),
		"another audience":            inside(one, func(in *Inside) { in.Audience = "auth" }),
		"another issuer":              inside(one, func(in *Inside) { in.Issuer = "elsewhere" }),
		"nobody's":                    inside(one, func(in *Inside) { in.Owner = "" }),
		"of the future":               inside(one, func(in *Inside) { in.Issued += 6; in.Expires += 6 }),
		"over":                        inside(one, func(in *Inside) { in.Issued -= 65; in.Expires -= 65 }),
		"long-lived":                  inside(one, func(in *Inside) { in.Expires++ }),
		"one more claim":              raw(one, header, strings.TrimSuffix(payload, "}")+`,"adm":true}`),
		"a claim twice":               raw(one, header, strings.TrimSuffix(payload, "}")+`,"exp":1795435260}`),
		"a claim in capitals":         raw(one, header, strings.Replace(payload, `"sub"`, `"SUB"`, 1)),
		"space":                       raw(one, header, payload+" "),
		"two values":                  raw(one, header, payload+payload),
		"not JSON":                    raw(one, header, "x"),
		"oversized":                   inside(one, func(in *Inside) { in.Session = strings.Repeat("s", MaxLength) }),
	} {
		if in, ok := keys.VerifyInside(token, "coatcheck", "cart", at); ok {
			t.Errorf("%s: passed as %+v", name, in)
		}
	}
}

func TestContext(t *testing.T) {
	sent := With(context.Background(), "", "a", "", "b")
	if Sent(sent) != "a" || Sent(context.Background()) != "" {
		t.Errorf("sent %q and %q", Sent(sent), Sent(context.Background()))
	}
	var out metadata.MD
	_ = Attach(sent, "", nil, nil, nil, func(ctx context.Context, _ string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
		out, _ = metadata.FromOutgoingContext(ctx)
		return nil
	})
	if got := From(metadata.NewIncomingContext(context.Background(), out)); len(got) != 2 || got[0] != "a" || got[1] != "b" {
		t.Errorf("%q", got)
	}
	if got := From(context.Background()); got != nil {
		t.Errorf("%q", got)
	}
}

func FuzzVerifyInside(f *testing.F) {
	good := inside(one, func(*Inside) {})
	for _, seed := range []string{"", "..", good, good[:80], good + ".", strings.ToLower(good), raw(one, `{"alg":"none"}`, "{}")} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		// Nobody but the signer can make one that passes.
		if in, ok := keys.VerifyInside(token, "coatcheck", "cart", at); ok != (token == good) {
			t.Fatalf("%q: %v, %+v", token, ok, in)
		}
	})
}
