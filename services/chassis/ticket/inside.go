package ticket

import "time"

const (
	insideType = "coatcheck-inside+jwt"
	// InsideLife is how long an inside ticket is good.
	InsideLife = time.Minute
	// leeway is by how much the clocks of who signs and who checks may differ.
	leeway = 5 * time.Second
)

// Inside is what auth tells the services behind the gateway about whose a
// request is, so that they need not believe the gateway. It cannot be revoked,
// which is why it lives for a minute.
type Inside struct {
	Issuer   string `json:"iss"`
	Audience string `json:"aud"`
	Owner    string `json:"sub"`           // the guest's or the user's id
	Session  string `json:"sid,omitempty"` // none of a guest
	Issued   int64  `json:"iat"`           // seconds since 1970, as Expires
	Expires  int64  `json:"exp"`
}

// Signer signs a ticket of a type with the key that signs now.
type Signer func(typ string, claims any) string

// SignInside returns an inside ticket for a service.
func SignInside(sign Signer, issuer, audience, owner, session string, now time.Time) string {
	return sign(insideType, Inside{
		Issuer: issuer, Audience: audience, Owner: owner, Session: session,
		Issued: now.Unix(), Expires: now.Add(InsideLife).Unix(),
	})
}

// VerifyInside returns what an inside ticket says, if it is good now and for
// this issuer and audience.
func (k Keys) VerifyInside(ticket, issuer, audience string, now time.Time) (Inside, bool) {
	var in Inside
	if !k.Verify(ticket, insideType, &in) || in.Issuer != issuer || in.Audience != audience || in.Owner == "" || !in.Good(now) {
		return Inside{}, false
	}
	return in, true
}

// Good reports whether the ticket is neither of the future nor over.
func (in Inside) Good(now time.Time) bool {
	return now.Add(leeway).Unix() >= in.Issued && now.Add(-leeway).Unix() < in.Expires &&
		in.Expires-in.Issued <= int64(InsideLife/time.Second)
}
