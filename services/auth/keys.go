package auth

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"coatcheck/chassis/ticket"
)

// The headers that a key may have in its PEM block, times as RFC 3339 has them.
const (
	signsFrom   = "Signs-From"   // it signs from then on, until another's time comes; without it, always
	checksUntil = "Checks-Until" // nothing that it signed is good after that
)

// LeastLead is how long a key must be known at least before it signs: the cart
// service asks auth for keys every 15 s, and auth reads its file every second.
const LeastLead = 20 * time.Second

type signingKey struct {
	id          string
	private     ed25519.PrivateKey
	public      ed25519.PublicKey
	from, until time.Time // zero where the file does not say
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
		for name, when := range map[string]*time.Time{signsFrom: &key.from, checksUntil: &key.until} {
			if block.Headers[name] == "" {
				continue
			}
			if *when, err = time.Parse(time.RFC3339, block.Headers[name]); err != nil {
				return nil, errors.New(at + name + " must be a time as in RFC 3339")
			}
		}
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

// signs returns the key that signs at that moment: the one whose time came last,
// the first of those that do not say. Replicas that have the same keys agree on it,
// whenever each has read them.
func signs(keys []signingKey, at time.Time) signingKey {
	best := keys[0]
	for _, key := range keys[1:] {
		if !key.from.After(at) && (best.from.After(at) || key.from.After(best.from)) {
			best = key
		}
	}
	return best
}

func (k signingKey) encode() (string, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k.private)
	if err != nil {
		return "", err
	}
	block := &pem.Block{Type: "PRIVATE KEY", Bytes: der, Headers: map[string]string{}}
	for name, when := range map[string]time.Time{signsFrom: k.from, checksUntil: k.until} {
		if !when.IsZero() {
			block.Headers[name] = when.UTC().Format(time.RFC3339)
		}
	}
	return string(pem.EncodeToMemory(block)), nil
}

// Rotation says what RotateKeys has done.
type Rotation struct {
	Next    string    // id of the key that signs next
	From    time.Time // from when on
	Pending bool      // the last rotation is not over yet, and nothing was changed
	Dropped []string  // ids of the keys that are gone
}

// RotateKeys returns the text of a key file with one more key, which signs from
// now + lead on. Until then it is only published, so that every replica checks with
// it before any signs with it, whenever each gets the file. The key that signed
// before stays for longest after that: until nothing it signed is good any more.
// Keys whose time is over go.
//
// While a key waits for its time, there is nothing to do: a repeat, as of a job
// that died behind its work, changes nothing.
func RotateKeys(text string, now time.Time, lead, longest time.Duration) (string, Rotation, error) {
	if lead < LeastLead {
		return "", Rotation{}, fmt.Errorf("a key must be known %v at least before it signs", LeastLead)
	}
	keys, err := parseSigningKeys(text)
	if err != nil {
		return "", Rotation{}, fmt.Errorf("signing keys: %w", err)
	}
	for _, key := range keys {
		if key.from.After(now) {
			return text, Rotation{Next: key.id, From: key.from, Pending: true}, nil
		}
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", Rotation{}, fmt.Errorf("making a key: %w", err)
	}
	next := newSigningKey(private)
	next.from = now.Add(lead + time.Second).Truncate(time.Second)
	did := Rotation{Next: next.id, From: next.from}
	current := signs(keys, now)
	// The one that signs comes first, for who reads no headers.
	rotated := []signingKey{current, next}
	for _, key := range keys {
		switch {
		case key.id == current.id:
		case !key.until.IsZero() && key.until.Before(now):
			did.Dropped = append(did.Dropped, key.id)
		default:
			rotated = append(rotated, key)
		}
	}
	var b strings.Builder
	for _, key := range rotated {
		// One that does not say when it ends may have signed a moment ago.
		if key.until.IsZero() && key.id != next.id {
			key.until = next.from.Add(longest)
		}
		block, err := key.encode()
		if err != nil {
			return "", Rotation{}, fmt.Errorf("writing a key: %w", err)
		}
		b.WriteString(block)
	}
	return b.String(), did, nil
}
