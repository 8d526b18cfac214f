package gateway

import (
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/timestamppb"

	"coatcheck/chassis/fault"
	authv1 "coatcheck/proto/coatcheck/auth/v1"
)

// caller is who a request comes from.
type caller struct {
	owner   string // whose cart it is: the guest's or the user's id
	session string // the session's id, "" for a guest
	inside  string // what shows the cart service that it is so
}

func (c caller) isUser() bool { return c.session != "" }

// cookieNames are the names of the two cookies. They are two so that a late
// answer to a guest cannot log a user out.
type cookieNames struct {
	guest, session string
	secure         bool
}

func newCookieNames(plain bool) cookieNames {
	if plain {
		return cookieNames{guest: "guest", session: "session"}
	}
	return cookieNames{guest: "__Host-guest", session: "__Host-session", secure: true}
}

// owner tells whose cart a request is about; the session wins over the guest
// ticket. A request without a usable ticket becomes a new guest's, whose ticket
// is set with the answer, whatever that is. The request counts as one of the
// owner's.
func (g *Gateway) owner(w *answer, r *http.Request) (caller, error) {
	c, err := g.sessionOf(w, r)
	if err == nil && !c.isUser() {
		c, err = g.verifyGuest(w, r)
	}
	if err == nil && c.owner == "" {
		return g.issueGuest(w, r) // once: the next request has the ticket, or is one more of its address
	}
	if err == nil {
		err = g.limits.owner(w, c.owner)
	}
	return c, err
}

// user is owner for what only users have: there, guests are refused.
func (g *Gateway) user(w *answer, r *http.Request) (caller, error) {
	c, err := g.sessionOf(w, r)
	if err == nil && !c.isUser() {
		err = refuse(http.StatusUnauthorized, "login_required", "Log in first: POST /v1/sessions.")
	}
	if err == nil {
		err = g.limits.owner(w, c.owner)
	}
	return c, err
}

// sessionOf verifies the session that the request came with. Without one, the
// caller it returns is no user.
func (g *Gateway) sessionOf(w *answer, r *http.Request) (caller, error) {
	if len(r.Header.Values("Authorization")) > 0 {
		return g.verifyBearer(w, r)
	}
	return g.verifySession(w, r)
}

// verifyBearer looks at the access token alone: who sends one means it, whatever
// cookies come along.
func (g *Gateway) verifyBearer(w *answer, r *http.Request) (caller, error) {
	lines := r.Header.Values("Authorization")
	scheme, token, _ := strings.Cut(lines[0], " ")
	if len(lines) > 1 || !strings.EqualFold(scheme, "Bearer") || token == "" || len(token) > longest || !utf8.ValidString(token) {
		return caller{}, fault.New(fault.Unauthenticated, "invalid_token", "Authorization must be Bearer and an access token of POST /v1/tokens.")
	}
	who, ok := g.tickets.check(accessToken, token)
	if ok {
		return who, nil
	}
	asked := g.tickets.now()
	resp, _, err := ask(r.Context(), w.end, g.authBackend, g.auth.VerifyAccessToken, &authv1.VerifyAccessTokenRequest{AccessToken: token})
	if err != nil {
		return caller{}, err
	}
	who = caller{owner: resp.GetUserId(), session: resp.GetSessionId(), inside: resp.GetInsideTicket()}
	g.tickets.keep(accessToken, token, who, asked, resp.GetExpiresAt())
	return who, nil
}

// verifySession looks at the cookie alone. One that no auth service can have drawn
// is another program's, on another port of this host: cookies do not know ports.
func (g *Gateway) verifySession(w *answer, r *http.Request) (caller, error) {
	token := cookie(r, g.cookies.session)
	if token == "" {
		return caller{}, nil
	}
	who, ok := g.tickets.check(sessionToken, token)
	if ok {
		return who, nil
	}
	if !isSessionToken(token) {
		return caller{}, nil
	}
	asked := g.tickets.now()
	resp, _, err := ask(r.Context(), w.end, g.authBackend, g.auth.VerifySession, &authv1.VerifySessionRequest{SessionToken: token})
	if err != nil {
		return caller{}, err
	}
	who = caller{owner: resp.GetUserId(), session: resp.GetSessionId(), inside: resp.GetInsideTicket()}
	g.tickets.keep(sessionToken, token, who, asked, resp.GetExpiresAt())
	return who, nil
}

// isSessionToken reports whether s has the form of a session's token: the user's id
// and a secret, of 16 and 32 bytes in base64url.
func isSessionToken(s string) bool {
	if len(s) != 66 || s[22] != '.' {
		return false
	}
	for i, c := range []byte(s) {
		if i != 22 && !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return true
}

// verifyGuest returns the guest whose ticket the request came with, nobody if
// there is none or it is unusable. A renewed ticket is set with the answer.
func (g *Gateway) verifyGuest(w *answer, r *http.Request) (caller, error) {
	ticket := cookie(r, g.cookies.guest)
	if ticket == "" {
		return caller{}, nil
	}
	if who, ok := g.tickets.check(guestTicket, ticket); ok {
		return who, nil
	}
	asked := g.tickets.now()
	resp, _, err := ask(r.Context(), w.end, g.authBackend, g.auth.VerifyGuestTicket, &authv1.VerifyGuestTicketRequest{Ticket: ticket})
	if fault.Is(err, fault.Unauthenticated) && fault.From(err).Code == "invalid_ticket" {
		return caller{}, nil
	}
	if err != nil {
		return caller{}, err
	}
	who := caller{owner: resp.GetGuestId(), inside: resp.GetInsideTicket()}
	if renewed := resp.GetRenewedTicket(); renewed != "" {
		g.setCookie(w, g.cookies.guest, renewed, resp.GetRenewedExpiresAt())
		g.tickets.keep(guestTicket, renewed, who, asked, resp.GetRenewedExpiresAt())
	} else {
		g.tickets.keep(guestTicket, ticket, who, asked, resp.GetExpiresAt())
	}
	return who, nil
}

// issueGuest makes a new guest and sets its ticket with the answer.
func (g *Gateway) issueGuest(w *answer, r *http.Request) (caller, error) {
	asked := g.tickets.now()
	resp, _, err := ask(r.Context(), w.end, g.authBackend, g.auth.IssueGuestTicket, &authv1.IssueGuestTicketRequest{})
	if err != nil {
		return caller{}, err
	}
	who := caller{owner: resp.GetGuestId(), inside: resp.GetInsideTicket()}
	g.tickets.keep(guestTicket, resp.GetTicket(), who, asked, resp.GetExpiresAt())
	g.setCookie(w, g.cookies.guest, resp.GetTicket(), resp.GetExpiresAt())
	return who, nil
}

// cookie returns the value of the first cookie of the name, "" if there is none:
// what Request.Cookie finds, without making objects of all cookies each time.
func cookie(r *http.Request, name string) string {
	const space = " \t\r\n"
	for _, line := range r.Header["Cookie"] {
		for line != "" {
			var part string
			part, line, _ = strings.Cut(line, ";")
			key, value, _ := strings.Cut(strings.Trim(part, space), "=")
			if strings.Trim(key, space) != name {
				continue
			}
			if len(value) > 1 && value[0] == '"' && value[len(value)-1] == '"' {
				value = value[1 : len(value)-1]
			}
			if isCookieValue(value) {
				return value
			}
		}
	}
	return ""
}

func isCookieValue(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] >= 0x7f || s[i] == '"' || s[i] == ';' || s[i] == '\\' {
			return false
		}
	}
	return true
}

func (g *Gateway) setCookie(w *answer, name, value string, expires *timestamppb.Timestamp) {
	seconds := int(time.Until(expires.AsTime()).Seconds())
	http.SetCookie(w, g.newCookie(name, value, max(seconds, 1)))
}

func (g *Gateway) clearCookie(w *answer, name string) {
	http.SetCookie(w, g.newCookie(name, "", -1))
}

func (g *Gateway) newCookie(name, value string, maxAge int) *http.Cookie {
	return &http.Cookie{
		Name: name, Value: value, MaxAge: maxAge, Path: "/",
		Secure: g.cookies.secure, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	}
}
