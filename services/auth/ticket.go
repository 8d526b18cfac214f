package auth

import (
	"time"

	"coatcheck/chassis/fault"
	"coatcheck/chassis/ticket"
)

const (
	renewalAge  = 24 * time.Hour // a ticket older than that is renewed
	guestTicket = "coatcheck-guest+jwt"
)

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
	keys   []signingKey
	known  ticket.Keys // all of them
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

// signer signs with the key whose time it is at that moment.
func (t *tickets) signer(at time.Time) ticket.Signer {
	key := signs(t.keys, at)
	return func(typ string, claims any) string { return ticket.Sign(key.private, key.id, typ, claims) }
}

// issue signs a ticket of the guest.
func (t *tickets) issue(guest string, now time.Time) (signed string, expires time.Time) {
	expires = now.Add(t.life).Truncate(time.Second)
	return t.signer(now)(guestTicket, claims{t.issuer, guest, now.Unix(), expires.Unix()}), expires
}

// inside signs a ticket for the cart service. session is "" for a guest.
func (t *tickets) inside(owner, session string, now time.Time) string {
	return ticket.SignInside(t.signer(now), t.issuer, "cart", owner, session, now)
}

// verify returns a guest ticket's claims, or Unauthenticated, invalid_ticket, for
// all that is wrong with it: who presents a bad ticket is told no more.
func (t *tickets) verify(shown string, now time.Time) (claims, error) {
	var c claims
	if t.known.Verify(shown, guestTicket, &c) && c.Issuer == t.issuer && validID(guestKind, c.Guest) &&
		now.Add(clockLeeway).Unix() >= c.Issued && now.Unix() < c.Expires {
		return c, nil
	}
	return claims{}, fault.New(fault.Unauthenticated, "invalid_ticket", "The ticket is not valid.")
}
