// Package ticket signs and checks tickets: JWTs, EdDSA with Ed25519. auth signs
// all of them; who checks one needs the public keys alone.
//
// The hazard of JWTs is a verifier that believes the header about how to
// verify. This one reads no header: a ticket passes only if it is, byte for
// byte, what the holder of one of the keys would have signed for that purpose.
// So there is one spelling of each ticket, and no claim twice or unheard of.
package ticket

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"strings"
)

// MaxLength bounds a ticket, in bytes; a longer one is not even looked at.
const MaxLength = 1 << 10

var encoding = base64.RawURLEncoding.Strict()

// KeyID names a key: the first 16 hex digits of the SHA-256 of the public one.
func KeyID(public ed25519.PublicKey) string {
	sum := sha256.Sum256(public)
	return hex.EncodeToString(sum[:8])
}

// Header is the one header of tickets of a type that a key signs, in base64url.
func Header(keyID, typ string) string {
	return encoding.EncodeToString([]byte(`{"alg":"EdDSA","kid":"` + keyID + `","typ":"` + typ + `"}`))
}

// Sign returns a ticket of the type with the claims, a struct whose JSON is the
// payload.
func Sign(key ed25519.PrivateKey, keyID, typ string, claims any) string {
	signed := Header(keyID, typ) + "." + encode(claims)
	return signed + "." + encoding.EncodeToString(ed25519.Sign(key, []byte(signed)))
}

func encode(claims any) string {
	text, err := json.Marshal(claims)
	if err != nil {
		panic(err) // structs of strings and numbers
	}
	return encoding.EncodeToString(text)
}

// Keys are those that tickets are checked with, by their ids.
type Keys map[string]ed25519.PublicKey

// Verify reports whether one of the keys has signed the ticket as one of the
// type, and fills claims, a pointer to a struct, with what it says. Whether the
// claims are good now, the caller must ask.
func (k Keys) Verify(ticket, typ string, claims any) bool {
	if len(ticket) > MaxLength {
		return false
	}
	header, rest, _ := strings.Cut(ticket, ".")
	payload, signature, _ := strings.Cut(rest, ".")
	raw, err := encoding.DecodeString(signature)
	// The decoder passes over line ends, which would be another spelling.
	if err != nil || len(raw) != ed25519.SignatureSize || len(signature) != encoding.EncodedLen(len(raw)) {
		return false
	}
	for id, key := range k {
		if Header(id, typ) != header || !ed25519.Verify(key, []byte(header+"."+payload), raw) {
			continue
		}
		text, err := encoding.DecodeString(payload)
		if err != nil {
			return false
		}
		decoder := json.NewDecoder(bytes.NewReader(text))
		return decoder.Decode(claims) == nil && encode(claims) == payload
	}
	return false
}
