package auth

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"

	"coatcheck/chassis/fault"
)

const (
	hashSalt = 16 // bytes
	hashKey  = 32 // bytes
)

// cost is argon2id's.
type cost struct {
	memory, passes uint32 // KiB
	threads        uint8
}

// newCost is that of new passwords; a stored one names its own. It is the one of
// OWASP's equally strong minimums (Password Storage Cheat Sheet) that took least CPU
// of those with at least 12 MiB, which ASVS 5.0, appendix C, asks for: memory is
// taken from the kernel anew for most hashes.
var newCost = cost{memory: 12 << 10, passes: 3, threads: 1}

// hashPatience is how long a password waits for its turn at most; a caller with
// a deadline waits for half of the time it has left. Hashing can't be broken off,
// so what began later might be for nobody, and cost those who still wait.
const hashPatience = 500 * time.Millisecond

// hasher turns passwords into PHC strings and checks them, a bounded number at
// a time: unbounded, a rush of log-ins takes all memory.
type hasher struct {
	turns chan struct{}
	cost  cost
	decoy cost // of the passwords of users that do not exist
	// common are passwords that nobody may choose, in lower case.
	common map[string]struct{}
}

func newHasher(atOnce int, c cost) *hasher {
	if atOnce == 0 {
		atOnce = min(runtime.GOMAXPROCS(0), 4)
	}
	return &hasher{turns: make(chan struct{}, atOnce), cost: c, decoy: c, common: commonPasswords()}
}

// checkPassword refuses what cannot become a password. A password is hashed as
// it is, whole.
func checkPassword(password string) error {
	if n := utf8.RuneCountInString(password); n < 8 || n > 256 || !utf8.ValidString(password) {
		return fault.New(fault.Invalid, "invalid_password", "A password has 8 to 256 characters.")
	}
	return nil
}

// checkNew is checkPassword for one that is chosen now: it must not be one of those
// that are tried first, in whatever case. Who has such a password can log in with it.
func (h *hasher) checkNew(password string) error {
	err := checkPassword(password)
	if _, found := h.common[strings.ToLower(password)]; err == nil && found {
		err = fault.New(fault.Invalid, "common_password", "Too many people have this password; choose one that nobody else would.")
	}
	return err
}

// hash returns the PHC string of a password that passed checkPassword. It
// answers Unavailable, overloaded, when too many are being hashed.
func (h *hasher) hash(ctx context.Context, password string) (string, error) {
	salt := make([]byte, hashSalt)
	_, _ = rand.Read(salt)
	leave, err := h.enter(ctx)
	if err != nil {
		return "", err
	}
	defer leave()
	return encodePHC(h.cost, salt, h.cost.key(password, salt, hashKey)), nil
}

// nobodys stands in for the password of a user that does not exist. It has a salt
// of its own each time: how long a hash takes depends on it by a percent, so that
// one which is always the same could be told.
func (h *hasher) nobodys() string {
	drawn := make([]byte, hashSalt+hashKey)
	_, _ = rand.Read(drawn)
	return encodePHC(h.decoy, drawn[:hashSalt], drawn[hashSalt:])
}

// matches reports whether phc is of the password. An empty phc, a user that
// does not exist, never matches and takes as long as one that does. Errors are
// as hash's.
func (h *hasher) matches(ctx context.Context, password, phc string) (bool, error) {
	if checkPassword(password) != nil {
		return false, nil // nobody's, and the answer tells nothing of any user
	}
	nobodys := h.nobodys() // drawn for all: it takes some microseconds
	known := phc != ""
	if !known {
		phc = nobodys
	}
	c, salt, want, err := parsePHC(phc)
	if err != nil {
		return false, fmt.Errorf("stored password: %w", err)
	}
	leave, err := h.enter(ctx)
	if err != nil {
		return false, err
	}
	defer leave()
	got := c.key(password, salt, len(want))
	return subtle.ConstantTimeCompare(got, want) == 1 && known, nil
}

// enter waits for a turn; the caller gives it back.
func (h *hasher) enter(ctx context.Context) (leave func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	longest := hashPatience
	if deadline, ok := ctx.Deadline(); ok {
		longest = min(longest, time.Until(deadline)/2)
	}
	patience := time.NewTimer(longest)
	defer patience.Stop()
	select {
	case h.turns <- struct{}{}:
		return func() { <-h.turns }, nil
	case <-patience.C:
		return nil, fault.New(fault.Unavailable, "overloaded", "Too many log-ins at this moment. Try again.")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (c cost) key(password string, salt []byte, n int) []byte {
	return argon2.IDKey([]byte(password), salt, c.passes, c.memory, c.threads, uint32(n))
}

func encodePHC(c cost, salt, key []byte) string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, c.memory, c.passes, c.threads,
		base64.RawStdEncoding.EncodeToString(salt), base64.RawStdEncoding.EncodeToString(key))
}

// parsePHC refuses costs that argon2 panics at or that no service of ours wrote.
// Its errors never show the string.
func parsePHC(phc string) (c cost, salt, key []byte, err error) {
	malformed := errors.New("not an argon2id PHC string")
	rest, ok := strings.CutPrefix(phc, fmt.Sprintf("$argon2id$v=%d$", argon2.Version))
	parts := strings.Split(rest, "$")
	if !ok || len(parts) != 3 {
		return cost{}, nil, nil, malformed
	}
	if _, err := fmt.Sscanf(parts[0], "m=%d,t=%d,p=%d", &c.memory, &c.passes, &c.threads); err != nil ||
		c.memory > 1<<20 || c.passes < 1 || c.passes > 100 || c.threads < 1 {
		return cost{}, nil, nil, malformed
	}
	salt, saltErr := base64.RawStdEncoding.DecodeString(parts[1])
	key, keyErr := base64.RawStdEncoding.DecodeString(parts[2])
	if saltErr != nil || keyErr != nil || len(salt) < hashSalt || len(key) < hashKey {
		return cost{}, nil, nil, malformed
	}
	return c, salt, key, nil
}
