package gateway

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"strings"
	"time"

	"google.golang.org/grpc"

	"coatcheck/chassis/fault"
	authv1 "coatcheck/proto/coatcheck/auth/v1"
	cartv1 "coatcheck/proto/coatcheck/cart/v1"
)

type session struct {
	ID         string    `json:"id"`
	Current    bool      `json:"current"`
	CreatedAt  time.Time `json:"created_at"`
	ExpiresAt  time.Time `json:"expires_at"`
	LastUsedAt time.Time `json:"last_used_at"`
	Device     string    `json:"device"`
}

type sessionList struct {
	Sessions []session `json:"sessions"`
}

type newSession struct {
	ID        string    `json:"id"`
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at"`
}

type newUser struct {
	ID string `json:"id"`
}

// signingKey is an Ed25519 public key as RFC 8037 has it.
type signingKey struct {
	Type      string `json:"kty"`
	Curve     string `json:"crv"`
	Use       string `json:"use"`
	Algorithm string `json:"alg"`
	ID        string `json:"kid"`
	X         string `json:"x"`
}

type keySet struct {
	Keys []signingKey `json:"keys"`
}

func (g *Gateway) register(w *answer, r *http.Request) error {
	in, err := decodeCredentials(w, r)
	if err != nil {
		return err
	}
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	// Drawn once: every try asks for the same user.
	resp, _, err := ask(r.Context(), w.end, g.passwords, g.auth.Register, &authv1.RegisterRequest{
		UserId: "u_" + base64.RawURLEncoding.EncodeToString(id[:]), Email: in.email, Password: in.password,
		ClientAddress: g.proxies.client(r).String(),
	})
	if err != nil {
		return err
	}
	return reply(w, http.StatusCreated, newUser{ID: resp.GetUserId()})
}

// logIn answers only when the guest's cart has moved into the user's. If that
// fails the client is still the guest it was, and can log in again.
func (g *Gateway) logIn(w *answer, r *http.Request) error {
	in, err := decodeCredentials(w, r)
	if err != nil {
		return err
	}
	// No ticket is renewed here: what becomes of the cookie is decided below.
	guest, err := g.verifyGuest(&answer{ResponseWriter: headerOnly{}, end: w.end}, r)
	if err != nil {
		return err
	}
	old, err := g.verifySession(w, r)
	if err != nil && !fault.Is(err, fault.Unauthenticated) {
		return err
	}
	asked := g.tickets.now()
	resp, _, err := ask(r.Context(), w.end, g.passwords, g.auth.LogIn, &authv1.LogInRequest{
		Email: in.email, Password: in.password, Device: cut(strings.ToValidUTF8(r.UserAgent(), ""), 256),
		ClientAddress: g.proxies.client(r).String(),
	})
	if err != nil {
		return err
	}
	who := caller{owner: resp.GetUserId(), session: resp.GetSession().GetId(), inside: resp.GetInsideTicket()}
	if guest.owner != "" {
		_, err = askCart(g, w, r, g.cart.MergeCarts, &cartv1.MergeCartsRequest{From: guest.owner, To: who.owner}, guest, who)
		if err != nil {
			g.revokeQuietly(r, who)
			return err
		}
	}
	if old.isUser() {
		g.revokeQuietly(r, old)
	}
	s := resp.GetSession()
	g.tickets.keep(sessionToken, resp.GetSessionToken(), who, asked, s.GetExpiresAt())
	g.setCookie(w, g.cookies.session, resp.GetSessionToken(), s.GetExpiresAt())
	g.clearCookie(w, g.cookies.guest)
	return reply(w, http.StatusCreated, newSession{ID: s.GetId(), CreatedAt: toTime(s.GetCreatedAt()), ExpiresAt: toTime(s.GetExpiresAt())})
}

// askEnd is ask for what ends sessions of the user. This replica knows of it
// when it answers, and need not wait for the news; also of what may have failed.
func askEnd[Req, Resp any](ctx context.Context, end time.Time, g *Gateway, b *backend, user string, method func(context.Context, *Req, ...grpc.CallOption) (*Resp, error), req *Req) error {
	defer g.tickets.end(user)
	_, _, err := ask(ctx, end, b, method, req)
	return err
}

// revokeQuietly ends a session that nobody is to use any more, as far as that
// can be done now; otherwise it expires unused.
func (g *Gateway) revokeQuietly(r *http.Request, c caller) {
	end := time.Now().Add(g.settings.TryTimeout)
	err := askEnd(context.WithoutCancel(r.Context()), end, g, g.authBackend, c.owner, g.auth.RevokeSession, &authv1.RevokeSessionRequest{UserId: c.owner, SessionId: c.session})
	if err != nil {
		g.log.Warn("a session could not be revoked at log-in", "err", err)
	}
}

func (g *Gateway) listSessions(w *answer, r *http.Request) error {
	who, err := g.user(w, r)
	if err != nil {
		return err
	}
	resp, _, err := ask(r.Context(), w.end, g.authBackend, g.auth.ListSessions, &authv1.ListSessionsRequest{UserId: who.owner})
	if err != nil {
		return err
	}
	out := sessionList{Sessions: make([]session, 0, len(resp.GetSessions()))}
	for _, s := range resp.GetSessions() {
		out.Sessions = append(out.Sessions, session{
			ID:         s.GetId(),
			Current:    s.GetId() == who.session,
			CreatedAt:  toTime(s.GetCreatedAt()),
			ExpiresAt:  toTime(s.GetExpiresAt()),
			LastUsedAt: toTime(s.GetLastUsedAt()),
			Device:     s.GetDevice(),
		})
	}
	return reply(w, http.StatusOK, out)
}

// revokeSession ends one of the caller's own sessions: another user's id names
// none of them.
func (g *Gateway) revokeSession(w *answer, r *http.Request) error {
	id := r.PathValue("id")
	if id != "current" && !sessionIDs.MatchString(id) {
		return fault.New(fault.Invalid, "invalid_session_id", `A session is named by its id of 43 characters, as GET /v1/sessions lists it, or by "current".`)
	}
	who, err := g.user(w, r)
	if err != nil {
		return err
	}
	if id == "current" {
		id = who.session
	}
	err = askEnd(r.Context(), w.end, g, g.authBackend, who.owner, g.auth.RevokeSession, &authv1.RevokeSessionRequest{UserId: who.owner, SessionId: id})
	if err != nil {
		return err
	}
	if id == who.session {
		g.clearCookie(w, g.cookies.session)
	}
	return replyEmpty(w, http.StatusNoContent)
}

// exceptCurrent tells whether the caller's own session is to stay.
func exceptCurrent(r *http.Request) (bool, error) {
	query := r.URL.Query()
	if query.Has("except") && query.Get("except") != "current" {
		return false, fault.New(fault.Invalid, "invalid_except", `except must be "current", or left out to end all sessions.`)
	}
	return query.Has("except"), nil
}

// revokeAllSessions ends all of the caller's sessions, or all but the one that
// asks.
func (g *Gateway) revokeAllSessions(w *answer, r *http.Request) error {
	except, err := exceptCurrent(r)
	if err != nil {
		return err
	}
	who, err := g.user(w, r)
	if err != nil {
		return err
	}
	in := &authv1.RevokeAllSessionsRequest{UserId: who.owner}
	if except {
		in.ExceptSessionId = who.session
	}
	err = askEnd(r.Context(), w.end, g, g.authBackend, who.owner, g.auth.RevokeAllSessions, in)
	if err == nil && except {
		return replyEmpty(w, http.StatusNoContent)
	}
	return g.loggedOut(w, err)
}

func (g *Gateway) changePassword(w *answer, r *http.Request) error {
	in, err := decodePasswordChange(w, r)
	if err != nil {
		return err
	}
	who, err := g.user(w, r)
	if err != nil {
		return err
	}
	err = askEnd(r.Context(), w.end, g, g.passwords, who.owner, g.auth.ChangePassword, &authv1.ChangePasswordRequest{
		UserId: who.owner, OperationId: rand.Text(), CurrentPassword: in.current, NewPassword: in.next,
	})
	return g.loggedOut(w, err)
}

// deleteUser erases cart and orders before the account, so that a failure between
// the two leaves someone who can ask again. Meanwhile their cart is closed:
// nothing that another request of theirs does is left behind.
func (g *Gateway) deleteUser(w *answer, r *http.Request) error {
	who, err := g.user(w, r)
	if err != nil {
		return err
	}
	_, err = askCart(g, w, r, g.cart.EraseOwner, &cartv1.EraseOwnerRequest{Owner: who.owner}, who)
	if err != nil {
		return err
	}
	err = askEnd(r.Context(), w.end, g, g.authBackend, who.owner, g.auth.DeleteUser, &authv1.DeleteUserRequest{UserId: who.owner})
	return g.loggedOut(w, err)
}

// loggedOut answers a call that ended the caller's session.
func (g *Gateway) loggedOut(w *answer, err error) error {
	if err != nil {
		return err
	}
	g.clearCookie(w, g.cookies.session)
	return replyEmpty(w, http.StatusNoContent)
}

func (g *Gateway) signingKeys(w *answer, r *http.Request) error {
	resp, _, err := ask(r.Context(), w.end, g.authBackend, g.auth.ListSigningKeys, &authv1.ListSigningKeysRequest{})
	if err != nil {
		return err
	}
	out := keySet{Keys: make([]signingKey, 0, len(resp.GetKeys()))}
	for _, k := range resp.GetKeys() {
		out.Keys = append(out.Keys, signingKey{
			Type: "OKP", Curve: "Ed25519", Use: "sig", Algorithm: "EdDSA",
			ID: k.GetId(), X: base64.RawURLEncoding.EncodeToString(k.GetPublicKey()),
		})
	}
	w.set("Cache-Control", "public, max-age=300")
	return reply(w, http.StatusOK, out)
}
