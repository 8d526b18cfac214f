package auth

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"coatcheck/chassis/fault"
)

const (
	maxTicket   = 1 << 10        // bytes
	renewalAge  = 24 * time.Hour // a ticket older than that is renewed
	guestTicket = "coatcheck-guest+jwt"
)

// signingKey is one key, with the one header that a guest ticket of it has.
type signingKey struct {
	id      string // the first 16 hex digits of the SHA-256 of the public key
	private ed25519.PrivateKey
	public  ed25519.PublicKey
	header  string // in base64url, as it is in tickets
}

// parseSigningKeys reads Ed25519 private keys, at least one, PKCS #8 in PEM.
// Its errors never show the text.
func parseSigningKeys(text string) ([]signingKey, error) {
	var keys []signingKey
	seen := map[string]bool{}
	rest := []byte(text)
	for {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			break
		}
		at := fmt.Sprintf("block %d: ", len(keys)+1)
		if block.Type != "PRIVATE KEY" {
			return nil, errors.New(at + "must be a PKCS #8 PRIVATE KEY")
		}
		parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return nil, errors.New(at + "is not PKCS #8")
		}
		private, ok := parsed.(ed25519.PrivateKey)
		if !ok {
			return nil, errors.New(at + "must be an Ed25519 key")
		}
		key := newSigningKey(private)
		if seen[key.id] {
			return nil, errors.New(at + "the same key is there twice")
		}
		seen[key.id] = true
		keys = append(keys, key)
	}
	if len(keys) == 0 || strings.TrimSpace(string(rest)) != "" {
		return nil, errors.New("must hold PEM private keys, one or more, and nothing behind them")
	}
	return keys, nil
}

func newSigningKey(private ed25519.PrivateKey) signingKey {
	public := private.Public().(ed25519.PublicKey)
	sum := sha256.Sum256(public)
	id := hex.EncodeToString(sum[:8])
	header := `{"alg":"EdDSA","kid":"` + id + `","typ":"` + guestTicket + `"}`
	return signingKey{id: id, private: private, public: public, header: base64.RawURLEncoding.EncodeToString([]byte(header))}
}

// claims are all that a guest ticket says; times in seconds since 1970.
type claims struct {
	Issuer  string `json:"iss"`
	Guest   string `json:"sub"`
	Issued  int64  `json:"iat"`
	Expires int64  `json:"exp"`
}

func (c claims) encode() string {
	text, err := json.Marshal(c)
	if err != nil {
		panic(err) // two strings and two numbers
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

// tickets signs and checks guest tickets: JWTs, EdDSA with Ed25519. It keeps
// nothing, so every replica with the same keys takes every ticket.
//
// The hazard of JWTs is a verifier that believes the header about how to
// verify. This one reads no header: a ticket passes only if it is, byte for
// byte, what a replica with one of the keys would have signed.
type tickets struct {
	keys   []signingKey // the first signs
	issuer string
	life   time.Duration
}

// issue signs a ticket of the guest.
func (t *tickets) issue(guest string, now time.Time) (ticket string, expires time.Time) {
	expires = now.Add(t.life).Truncate(time.Second)
	key := t.keys[0]
	signed := key.header + "." + claims{t.issuer, guest, now.Unix(), expires.Unix()}.encode()
	signature := ed25519.Sign(key.private, []byte(signed))
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature), expires
}

// verify returns a ticket's claims, or Unauthenticated, invalid_ticket, for all
// that is wrong with it: who presents a bad ticket is told no more.
func (t *tickets) verify(ticket string, now time.Time) (claims, error) {
	if c, ok := t.check(ticket); ok && now.Unix() < c.Expires {
		return c, nil
	}
	return claims{}, fault.New(fault.Unauthenticated, "invalid_ticket", "The ticket is not valid.")
}

func (t *tickets) check(ticket string) (claims, bool) {
	if len(ticket) > maxTicket {
		return claims{}, false
	}
	header, rest, _ := strings.Cut(ticket, ".")
	payload, signature, _ := strings.Cut(rest, ".")
	if !canonical(signature, ed25519.SignatureSize) {
		return claims{}, false
	}
	raw, _ := base64.RawURLEncoding.DecodeString(signature)
	signed := []byte(header + "." + payload)
	for _, key := range t.keys {
		if key.header != header || !ed25519.Verify(key.public, signed, raw) {
			continue
		}
		var c claims
		text, err := base64.RawURLEncoding.DecodeString(payload)
		if err != nil || json.Unmarshal(text, &c) != nil {
			return claims{}, false
		}
		return c, c.encode() == payload && c.Issuer == t.issuer && validID(guestKind, c.Guest)
	}
	return claims{}, false
}
