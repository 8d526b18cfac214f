package auth

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"coatcheck/chassis/fault"
	"coatcheck/chassis/ticket"
)

const (
	renewalAge  = 24 * time.Hour // a ticket older than that is renewed
	guestTicket = "coatcheck-guest+jwt"
)

type signingKey struct {
	id      string
	private ed25519.PrivateKey
	public  ed25519.PublicKey
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
	return signingKey{id: ticket.KeyID(public), private: private, public: public}
}

// claims are all that a guest ticket says; times in seconds since 1970.
type claims struct {
	Issuer  string `json:"iss"`
	Guest   string `json:"sub"`
	Issued  int64  `json:"iat"`
	Expires int64  `json:"exp"`
}

// tickets signs tickets and checks those of guests. It keeps nothing, so every
// replica with the same keys takes every ticket.
type tickets struct {
	keys   []signingKey // the first signs
	known  ticket.Keys  // all of them
	issuer string
	life   time.Duration
}

func newTickets(keys []signingKey, issuer string, life time.Duration) *tickets {
	t := &tickets{keys: keys, known: ticket.Keys{}, issuer: issuer, life: life}
	for _, key := range keys {
		t.known[key.id] = key.public
	}
	return t
}

func (t *tickets) sign(typ string, claims any) string {
	return ticket.Sign(t.keys[0].private, t.keys[0].id, typ, claims)
}

// issue signs a ticket of the guest.
func (t *tickets) issue(guest string, now time.Time) (signed string, expires time.Time) {
	expires = now.Add(t.life).Truncate(time.Second)
	return t.sign(guestTicket, claims{t.issuer, guest, now.Unix(), expires.Unix()}), expires
}

// inside signs a ticket for the cart service. session is "" for a guest.
func (t *tickets) inside(owner, session string, now time.Time) string {
	return ticket.SignInside(t.sign, t.issuer, "cart", owner, session, now)
}

// verify returns a guest ticket's claims, or Unauthenticated, invalid_ticket, for
// all that is wrong with it: who presents a bad ticket is told no more.
func (t *tickets) verify(shown string, now time.Time) (claims, error) {
	var c claims
	if t.known.Verify(shown, guestTicket, &c) && c.Issuer == t.issuer && validID(guestKind, c.Guest) && now.Unix() < c.Expires {
		return c, nil
	}
	return claims{}, fault.New(fault.Unauthenticated, "invalid_ticket", "The ticket is not valid.")
}
