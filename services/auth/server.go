// Package auth is the auth service: guests, users and their sessions, and the
// tickets that say whose a request is.
//
// A guest is nothing but a signed ticket. A user and their sessions lie in
// Redis, a session under the hash of its token. A replica holds nothing between
// two calls.
//
// The hazards it handles: an outage that reads as "not logged in" (no error of
// the store becomes Unauthenticated); a session that survives the change of the
// password it was made with (one script checks and makes it); an address that a
// crash leaves taken for ever (see store). Tickets, tokens, passwords and
// addresses are in no log and no error, and Redis holds no token and no password.
package auth

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/timestamppb"

	"coatcheck/chassis/fault"
	"coatcheck/chassis/rpc"
	authv1 "coatcheck/proto/coatcheck/auth/v1"
)

// nobody is a well-formed id that is never drawn.
const nobody = userKind + "AAAAAAAAAAAAAAAAAAAAAA"

// Server is the service. What each method promises is in the proto file.
type Server struct {
	authv1.UnsafeAuthServiceServer
	tickets   atomic.Pointer[tickets] // anew when the keys change
	passwords *hasher
	store     Store
	guard     guard
	now       func() time.Time
	idle      time.Duration // a session's
	life      time.Duration // a session's
	feed      *feed
	reused    atomic.Int64 // refresh tokens, that ended a session
}

// New returns the service over store. Of the settings it takes its own, not the
// listeners' or the store's. now is the clock; the replicas' clocks may differ by
// clockLeeway.
func New(s Settings, store Store, now func() time.Time) (*Server, error) {
	keys, err := parseSigningKeys(s.SigningKeys.Reveal())
	if err != nil {
		return nil, fmt.Errorf("signing keys: %w", err)
	}
	server := &Server{
		passwords: newHasher(s.MaxPasswordHashes, newCost),
		store:     store,
		guard:     newGuard(s, store),
		now:       now,
		idle:      s.SessionIdle,
		life:      s.SessionLife,
		feed:      newFeed(store),
	}
	server.tickets.Store(newTickets(keys, s.Issuer, s.GuestTicketLife))
	return server, nil
}

// ReloadKeys has the keys in text sign and check from now on. Text that holds no
// keys changes nothing. Every replica must check with a key before any signs with
// it: so a new one says from when on it signs (see RotateKeys), or comes last in
// the text at first, since of those that do not say the first one signs.
func (s *Server) ReloadKeys(text string) error {
	keys, err := parseSigningKeys(text)
	if err != nil {
		return fmt.Errorf("signing keys: %w", err)
	}
	before := s.tickets.Load()
	s.tickets.Store(newTickets(keys, before.issuer, before.life))
	return nil
}

// Follow reads the log of revocations for those who watch, until ctx ends; then
// their streams end too. Without it WatchRevocations has nothing to say.
func (s *Server) Follow(ctx context.Context) { s.feed.run(ctx) }

// WatchRevocations may only be relied upon for as long as it goes on speaking.
func (s *Server) WatchRevocations(req *authv1.WatchRevocationsRequest, stream authv1.AuthService_WatchRevocationsServer) error {
	after, err := ParsePosition(req.GetAfter())
	if err != nil {
		return fault.New(fault.Invalid, "invalid_position", "A position is one that WatchRevocations gave, or empty.")
	}
	return s.feed.watch(stream.Context(), after, stream.Send)
}

// IssueGuestTicket makes a guest, of whom only the ticket is ever kept.
func (s *Server) IssueGuestTicket(context.Context, *authv1.IssueGuestTicketRequest) (*authv1.IssueGuestTicketResponse, error) {
	guest, now := newGuestID(), s.now()
	signed, expires := s.tickets.Load().issue(guest, now)
	return &authv1.IssueGuestTicketResponse{
		Ticket: signed, GuestId: guest, ExpiresAt: timestamppb.New(expires), InsideTicket: s.tickets.Load().inside(guest, "", now),
	}, nil
}

// VerifyGuestTicket asks no store: a guest is known while Redis is away.
func (s *Server) VerifyGuestTicket(_ context.Context, req *authv1.VerifyGuestTicketRequest) (*authv1.VerifyGuestTicketResponse, error) {
	now := s.now()
	c, err := s.tickets.Load().verify(req.GetTicket(), now)
	if err != nil {
		return nil, err
	}
	answer := &authv1.VerifyGuestTicketResponse{GuestId: c.Guest, ExpiresAt: timestamppb.New(time.Unix(c.Expires, 0)), InsideTicket: s.tickets.Load().inside(c.Guest, "", now)}
	if now.Sub(time.Unix(c.Issued, 0)) > renewalAge {
		renewed, expires := s.tickets.Load().issue(c.Guest, now)
		answer.RenewedTicket, answer.RenewedExpiresAt = renewed, timestamppb.New(expires)
	}
	return answer, nil
}

// ListSigningKeys answers the key that signs now first.
func (s *Server) ListSigningKeys(context.Context, *authv1.ListSigningKeysRequest) (*authv1.ListSigningKeysResponse, error) {
	tickets := s.tickets.Load()
	answer := &authv1.ListSigningKeysResponse{Issuer: tickets.issuer}
	now := signs(tickets.keys, s.now())
	answer.Keys = append(answer.Keys, &authv1.SigningKey{Id: now.id, PublicKey: now.public})
	for _, key := range tickets.keys {
		if key.id != now.id {
			answer.Keys = append(answer.Keys, &authv1.SigningKey{Id: key.id, PublicKey: key.public})
		}
	}
	return answer, nil
}

// Register makes a user; see Store.Register for what a repeat finds.
func (s *Server) Register(ctx context.Context, req *authv1.RegisterRequest) (*authv1.RegisterResponse, error) {
	rpc.Announce(ctx)
	if err := checkUserID(req.GetUserId()); err != nil {
		return nil, err
	}
	email, err := normalEmail(req.GetEmail())
	if err != nil {
		return nil, err
	}
	if err := s.passwords.checkNew(req.GetPassword()); err != nil {
		return nil, err
	}
	if err := s.guard.register(ctx, req.GetClientAddress()); err != nil {
		return nil, err
	}
	phc, err := s.passwords.hash(ctx, req.GetPassword())
	if err != nil {
		return nil, err
	}
	if err := s.store.Register(ctx, req.GetUserId(), email, phc, s.now()); err != nil {
		return nil, err
	}
	return &authv1.RegisterResponse{UserId: req.GetUserId()}, nil
}

// LogIn draws a token that nobody but its holder keeps.
func (s *Server) LogIn(ctx context.Context, req *authv1.LogInRequest) (*authv1.LogInResponse, error) {
	rpc.Announce(ctx)
	u, err := s.authenticate(ctx, req)
	if err != nil {
		return nil, err
	}
	token, sessionID := newSessionToken(u.ID)
	now := s.now()
	r, err := s.startSession(ctx, u, sessionID, req.GetDevice(), now)
	if err != nil {
		return nil, err
	}
	return &authv1.LogInResponse{SessionToken: token, UserId: u.ID, Session: r.proto(), InsideTicket: s.tickets.Load().inside(u.ID, sessionID, now)}, nil
}

var errWrongCredentials = fault.New(fault.Unauthenticated, "wrong_credentials", "Address or password is wrong.")

// credentials are what LogIn and IssueTokens have in common.
type credentials interface {
	GetEmail() string
	GetPassword() string
	GetClientAddress() string
}

// authenticate does the same work for every well-formed address and password,
// whether there is such a user or not. What is not well-formed is nobody's.
func (s *Server) authenticate(ctx context.Context, shown credentials) (User, error) {
	email, err := normalEmail(shown.GetEmail())
	if err != nil {
		return User{}, errWrongCredentials
	}
	if err := s.guard.logIn(ctx, email, shown.GetClientAddress()); err != nil {
		return User{}, err
	}
	id, err := s.store.Owner(ctx, email)
	if err != nil {
		return User{}, err
	}
	if id == "" {
		id = nobody
	}
	u, err := s.store.User(ctx, id)
	if err != nil {
		return User{}, err
	}
	ok, err := s.passwords.matches(ctx, shown.GetPassword(), u.Password)
	if err != nil {
		return User{}, err
	}
	if !ok {
		return User{}, errWrongCredentials
	}
	return u, s.guard.proved(ctx, email, shown.GetClientAddress())
}

// startSession starts a session of u, unless the password was changed since u was
// read.
func (s *Server) startSession(ctx context.Context, u User, sessionID, device string, now time.Time) (Session, error) {
	r := Session{
		ID:      sessionID,
		Created: now.UnixMilli(),
		Expires: now.Add(s.life).UnixMilli(),
		Used:    now.UnixMilli(),
		Device:  deviceLabel(device),
	}
	started, err := s.store.StartSession(ctx, u, r, s.idle)
	if err != nil {
		return Session{}, err
	}
	if !started {
		return Session{}, errWrongCredentials
	}
	return r, nil
}

// VerifySession ends an idle session early by what a use may go unmarked:
// MarkInterval, and as long as callers remember the answer. It never ends one late.
func (s *Server) VerifySession(ctx context.Context, req *authv1.VerifySessionRequest) (*authv1.VerifySessionResponse, error) {
	invalid := fault.New(fault.Unauthenticated, "invalid_session", "The session is over.")
	userID, sessionID, ok := parseSessionToken(req.GetSessionToken())
	if !ok {
		return nil, invalid
	}
	now := s.now()
	ends, err := s.store.UseSession(ctx, userID, sessionID, now, s.idle)
	if err != nil {
		return nil, err
	}
	if ends.IsZero() {
		return nil, invalid
	}
	return &authv1.VerifySessionResponse{
		UserId: userID, SessionId: sessionID, ExpiresAt: timestamppb.New(ends), InsideTicket: s.tickets.Load().inside(userID, sessionID, now),
	}, nil
}

// ListSessions leaves out sessions that are over but still stored.
func (s *Server) ListSessions(ctx context.Context, req *authv1.ListSessionsRequest) (*authv1.ListSessionsResponse, error) {
	if err := checkUserID(req.GetUserId()); err != nil {
		return nil, err
	}
	live, err := s.store.Sessions(ctx, req.GetUserId(), s.now(), s.idle)
	if err != nil {
		return nil, err
	}
	answer := &authv1.ListSessionsResponse{}
	for _, r := range live {
		answer.Sessions = append(answer.Sessions, r.proto())
	}
	return answer, nil
}

// RevokeSession has ended the session, on every replica, when it answers.
func (s *Server) RevokeSession(ctx context.Context, req *authv1.RevokeSessionRequest) (*authv1.RevokeSessionResponse, error) {
	if err := checkUserID(req.GetUserId()); err != nil {
		return nil, err
	}
	if err := s.store.EndSession(ctx, req.GetUserId(), req.GetSessionId()); err != nil {
		return nil, err
	}
	return &authv1.RevokeSessionResponse{}, nil
}

// RevokeAllSessions has ended them, on every replica, when it answers; all, or
// all but the one that is to stay.
func (s *Server) RevokeAllSessions(ctx context.Context, req *authv1.RevokeAllSessionsRequest) (*authv1.RevokeAllSessionsResponse, error) {
	if err := checkUserID(req.GetUserId()); err != nil {
		return nil, err
	}
	if err := s.store.EndSessions(ctx, req.GetUserId(), req.GetExceptSessionId()); err != nil {
		return nil, err
	}
	return &authv1.RevokeAllSessionsResponse{}, nil
}

// ChangePassword asks for the operation before the password: a repeat of a
// change that was made names a current password that is no longer that.
func (s *Server) ChangePassword(ctx context.Context, req *authv1.ChangePasswordRequest) (*authv1.ChangePasswordResponse, error) {
	rpc.Announce(ctx)
	if err := checkUserID(req.GetUserId()); err != nil {
		return nil, err
	}
	if n := utf8.RuneCountInString(req.GetOperationId()); n < 1 || n > 64 {
		return nil, fault.New(fault.Invalid, "invalid_operation_id", "An operation id has 1 to 64 characters.")
	}
	if err := s.passwords.checkNew(req.GetNewPassword()); err != nil {
		return nil, err
	}
	absent := fault.New(fault.Absent, "no_such_user", "There is no such user.")
	wrong := fault.New(fault.Forbidden, "wrong_password", "The current password is wrong.")
	u, err := s.store.User(ctx, req.GetUserId())
	switch {
	case err != nil:
		return nil, err
	case u.Password == "":
		return nil, absent
	case u.Operation == req.GetOperationId():
		// Made before; what that one may have died before is left to do.
		if _, err := s.store.ChangePassword(ctx, u, u.Password, req.GetOperationId()); err != nil {
			return nil, err
		}
		return &authv1.ChangePasswordResponse{}, nil
	}
	if err := s.guard.change(ctx, u.ID); err != nil {
		return nil, err
	}
	ok, err := s.passwords.matches(ctx, req.GetCurrentPassword(), u.Password)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, wrong
	}
	phc, err := s.passwords.hash(ctx, req.GetNewPassword())
	if err != nil {
		return nil, err
	}
	switch changed, err := s.store.ChangePassword(ctx, u, phc, req.GetOperationId()); {
	case err != nil:
		return nil, err
	case changed == NoUser:
		return nil, absent
	case changed == Outdated:
		return nil, wrong // another change came first
	}
	return &authv1.ChangePasswordResponse{}, nil
}

// DeleteUser has ended the sessions, on every replica, when it answers.
func (s *Server) DeleteUser(ctx context.Context, req *authv1.DeleteUserRequest) (*authv1.DeleteUserResponse, error) {
	if err := checkUserID(req.GetUserId()); err != nil {
		return nil, err
	}
	if err := s.store.DeleteUser(ctx, req.GetUserId()); err != nil {
		return nil, err
	}
	return &authv1.DeleteUserResponse{}, nil
}

func (r Session) proto() *authv1.Session {
	return &authv1.Session{
		Id:         r.ID,
		CreatedAt:  timestamppb.New(time.UnixMilli(r.Created)),
		ExpiresAt:  timestamppb.New(time.UnixMilli(r.Expires)),
		LastUsedAt: timestamppb.New(time.UnixMilli(r.Used)),
		Device:     r.Device,
	}
}
