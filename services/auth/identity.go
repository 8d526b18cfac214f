package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"unicode"
	"unicode/utf8"

	"coatcheck/chassis/fault"
)

// The kinds of identity, as their prefixes.
const (
	guestKind = "g_"
	userKind  = "u_"
)

const (
	idBytes     = 16 // of a guest's or user's id, random
	secretBytes = 32 // of a session token, random
)

func newGuestID() string { return guestKind + draw(idBytes) }

// draw returns n random bytes in unpadded base64url.
func draw(n int) string {
	raw := make([]byte, n)
	_, _ = rand.Read(raw) // never fails: it ends the process instead
	return base64.RawURLEncoding.EncodeToString(raw)
}

// canonical reports whether s is what draw(n) may return. One value has one
// spelling: line ends and stray low bits, which the decoder lets pass, do not.
func canonical(s string, n int) bool {
	if len(s) != base64.RawURLEncoding.EncodedLen(n) {
		return false
	}
	raw, err := base64.RawURLEncoding.DecodeString(s)
	return err == nil && base64.RawURLEncoding.EncodeToString(raw) == s
}

func validID(kind, id string) bool {
	rest, ok := strings.CutPrefix(id, kind)
	return ok && canonical(rest, idBytes)
}

func checkUserID(id string) error {
	if !validID(userKind, id) {
		return fault.New(fault.Invalid, "invalid_user_id", "A user id is u_ and 22 characters of base64url.")
	}
	return nil
}

// newSessionToken returns a token that only its holder knows, and the id that
// names the session without opening it.
func newSessionToken(userID string) (token, sessionID string) {
	token = strings.TrimPrefix(userID, userKind) + "." + draw(secretBytes)
	return token, digest(token)
}

// parseSessionToken takes a token apart. ok says that it is well-formed, not
// that the session exists: the user id in it only says where to look, and the
// session id covers it.
func parseSessionToken(token string) (userID, sessionID string, ok bool) {
	user, secret, _ := strings.Cut(token, ".")
	if !canonical(user, idBytes) || !canonical(secret, secretBytes) {
		return "", "", false
	}
	return userKind + user, digest(token), true
}

// digest returns the SHA-256 of s in unpadded base64url, 43 characters.
func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// normalEmail returns the address as it is compared, in lower case. The error is
// a fault that a client may see. Whether mail arrives there, nobody asks.
func normalEmail(email string) (string, error) {
	invalid := fault.New(fault.Invalid, "invalid_email", "An e-mail address has 3 to 254 bytes, one @ with something on both sides, and no spaces.")
	if len(email) < 3 || len(email) > 254 || !utf8.ValidString(email) {
		return "", invalid
	}
	if strings.ContainsFunc(email, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) {
		return "", invalid
	}
	local, domain, _ := strings.Cut(email, "@")
	if local == "" || domain == "" || strings.Contains(domain, "@") {
		return "", invalid
	}
	return strings.ToLower(email), nil
}
