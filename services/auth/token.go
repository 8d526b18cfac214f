package auth

import (
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"coatcheck/chassis/fault"
	"coatcheck/chassis/rpc"
	authv1 "coatcheck/proto/coatcheck/auth/v1"
)

const (
	accessType     = "at+jwt" // RFC 9068
	accessAudience = "coatcheck"
	accessLife     = 5 * time.Minute
	// refreshGrace is how long a refresh token that was used is answered the same
	// again: for who did not get the answer.
	refreshGrace = 10 * time.Second
)

var (
	errInvalidToken = fault.New(fault.Unauthenticated, "invalid_token", "The access token is not valid.")
	errInvalidGrant = fault.New(fault.Unauthenticated, "invalid_grant", "The refresh token is not valid any more. Log in again.")
)

// accessClaims are all that an access token says; times in seconds since 1970.
type accessClaims struct {
	Issuer   string `json:"iss"`
	Audience string `json:"aud"`
	User     string `json:"sub"`
	Session  string `json:"sid"`
	ID       string `json:"jti"`
	Issued   int64  `json:"iat"`
	Expires  int64  `json:"exp"`
}

// issueTokens derives the tokens of a family: the same ones for the same f, so
// that nothing needs to be stored to give an answer again. Which key signs goes by
// f too, or the answer would be another one after a change of keys.
func (t *tickets) issueTokens(userID, sessionID string, f Family) *authv1.Tokens {
	expires := f.At.Add(accessLife).Truncate(time.Second)
	refresh := strings.TrimPrefix(userID, userKind) + "." + sessionID + "." + strconv.FormatInt(f.N, 10)
	mac := signs(t.keys, f.At).refreshMAC(refresh)
	return &authv1.Tokens{
		AccessToken: t.signer(f.At)(accessType, accessClaims{
			Issuer: t.issuer, Audience: accessAudience, User: userID, Session: sessionID,
			ID: digest(refresh)[:22], Issued: f.At.Unix(), Expires: expires.Unix(),
		}),
		AccessExpiresAt: timestamppb.New(expires),
		RefreshToken:    refresh + "." + mac,
	}
}

// refreshMAC is the part of a refresh token that only the holders of the signing
// key can make.
func (k signingKey) refreshMAC(text string) string {
	key, err := hkdf.Key(sha256.New, k.private.Seed(), nil, "coatcheck refresh token", sha256.Size)
	if err != nil {
		panic(err) // the length is fixed
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// parseRefresh takes a refresh token apart, if one of the keys has made it.
func (t *tickets) parseRefresh(token string) (userID, sessionID string, n int64, ok bool) {
	if len(token) > 200 {
		return "", "", 0, false
	}
	parts := strings.Split(token, ".")
	if len(parts) != 4 || !canonical(parts[0], idBytes) || !canonical(parts[1], sha256.Size) {
		return "", "", 0, false
	}
	n, err := strconv.ParseInt(parts[2], 10, 64)
	if err != nil || n < 1 || strconv.FormatInt(n, 10) != parts[2] {
		return "", "", 0, false
	}
	text := strings.Join(parts[:3], ".")
	for _, key := range t.keys {
		if hmac.Equal([]byte(key.refreshMAC(text)), []byte(parts[3])) {
			return userKind + parts[0], parts[1], n, true
		}
	}
	return "", "", 0, false
}

// verifyAccess returns an access token's claims, if it is good now.
func (t *tickets) verifyAccess(token string, now time.Time) (accessClaims, bool) {
	var c accessClaims
	good := t.known.Verify(token, accessType, &c) && c.Issuer == t.issuer && c.Audience == accessAudience &&
		validID(userKind, c.User) && canonical(c.Session, sha256.Size) &&
		now.Add(clockLeeway).Unix() >= c.Issued && now.Unix() < c.Expires
	return c, good
}

// clockLeeway is by how much the clocks of two replicas may differ.
const clockLeeway = 5 * time.Second

// IssueTokens does the same work as LogIn, and stores no token: the session's
// id opens nothing.
func (s *Server) IssueTokens(ctx context.Context, req *authv1.IssueTokensRequest) (*authv1.IssueTokensResponse, error) {
	rpc.Announce(ctx)
	u, err := s.authenticate(ctx, req)
	if err != nil {
		return nil, err
	}
	_, sessionID := newSessionToken(u.ID) // the token goes to nobody
	now := time.UnixMilli(s.now().UnixMilli())
	if _, err := s.startSession(ctx, u, sessionID, req.GetDevice(), now); err != nil {
		return nil, err
	}
	if err := s.store.StartFamily(ctx, u.ID, sessionID, now); err != nil {
		return nil, err
	}
	return &authv1.IssueTokensResponse{Tokens: s.tickets.Load().issueTokens(u.ID, sessionID, Family{N: 1, At: now})}, nil
}

// RefreshTokens ends the session when a refresh token is shown that was used
// before: one of those who had it must not.
func (s *Server) RefreshTokens(ctx context.Context, req *authv1.RefreshTokensRequest) (*authv1.RefreshTokensResponse, error) {
	userID, sessionID, n, ok := s.tickets.Load().parseRefresh(req.GetRefreshToken())
	if !ok {
		return nil, errInvalidGrant
	}
	f, err := s.store.Rotate(ctx, userID, sessionID, n, s.now(), s.idle, refreshGrace)
	if f.Reused {
		s.reused.Add(1)
	}
	if err != nil {
		return nil, fmt.Errorf("refreshing: %w", err)
	}
	if f.N == 0 {
		return nil, errInvalidGrant
	}
	return &authv1.RefreshTokensResponse{Tokens: s.tickets.Load().issueTokens(userID, sessionID, f)}, nil
}

// VerifyAccessToken asks for the session too: who remembers the answer hears of
// its end by WatchRevocations.
func (s *Server) VerifyAccessToken(ctx context.Context, req *authv1.VerifyAccessTokenRequest) (*authv1.VerifyAccessTokenResponse, error) {
	now := s.now()
	c, ok := s.tickets.Load().verifyAccess(req.GetAccessToken(), now)
	if !ok {
		return nil, errInvalidToken
	}
	ends, err := s.store.UseSession(ctx, c.User, c.Session, now, s.idle)
	if err != nil {
		return nil, err
	}
	if ends.IsZero() {
		return nil, errInvalidToken
	}
	if expires := time.Unix(c.Expires, 0); expires.Before(ends) {
		ends = expires
	}
	return &authv1.VerifyAccessTokenResponse{
		UserId: c.User, SessionId: c.Session, ExpiresAt: timestamppb.New(ends), InsideTicket: s.tickets.Load().inside(c.User, c.Session, now),
	}, nil
}
