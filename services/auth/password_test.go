package auth

import (
	"strings"
	"testing"

	"coatcheck/chassis/fault"
)

func TestPasswords(t *testing.T) {
	h, ctx := newHasher(1), t.Context()
	long := strings.Repeat("p", 255)
	phc, err := h.hash(ctx, long+"a")
	ok(t, err)
	other, err := h.hash(ctx, long+"a")
	ok(t, err)
	if phc == other {
		t.Error("one password has the same hash twice")
	}
	for password, same := range map[string]bool{long + "a": true, long + "b": false, long: false, "": false, strings.Repeat("p", 8): false} {
		got, err := h.matches(ctx, password, phc)
		ok(t, err)
		if got != same {
			t.Errorf("a password of %d matches: %v", len(password), got)
		}
	}
	if got, err := h.matches(ctx, goodPassword, ""); got || err != nil {
		t.Errorf("nobody's password matches: %v, %v", got, err)
	}
}

func TestPasswordRules(t *testing.T) {
	for _, password := range []string{"12345678", "üüüüüüüü", strings.Repeat("𝄞", 256), "  spaces  "} {
		ok(t, checkPassword(password))
	}
	for _, password := range []string{"", "1234567", "üüüüüüü", strings.Repeat("x", 257), "12345678\xff"} {
		want(t, checkPassword(password), fault.Invalid, "invalid_password")
	}
}

func TestPHC(t *testing.T) {
	const salt, key = "c2FsdHNhbHRzYWx0c2FsdA", "a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2U"
	// Costs that a later service may choose are read.
	if memory, passes, threads, _, _, err := parsePHC("$argon2id$v=19$m=65536,t=3,p=4$" + salt + "$" + key); err != nil || memory != 65536 || passes != 3 || threads != 4 {
		t.Errorf("got %d, %d, %d, %v", memory, passes, threads, err)
	}
	for _, phc := range []string{
		"x", "$2a$10$abc", "$argon2i$v=19$m=8,t=1,p=1$" + salt + "$" + key, "$argon2id$v=16$m=8,t=1,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=19456,t=0,p=1$" + salt + "$" + key, "$argon2id$v=19$m=19456,t=2,p=0$" + salt + "$" + key,
		"$argon2id$v=19$m=4000000000,t=2,p=1$" + salt + "$" + key, "$argon2id$v=19$t=2$" + salt + "$" + key,
		"$argon2id$v=19$m=19456,t=2,p=1$" + salt + "$", "$argon2id$v=19$m=19456,t=2,p=1$!$" + key, "$argon2id$v=19$m=19456,t=2,p=1$" + salt,
	} {
		if _, _, _, _, _, err := parsePHC(phc); err == nil {
			t.Errorf("%s passed", phc)
		}
		if _, err := newHasher(1).matches(t.Context(), goodPassword, phc); !fault.Is(err, fault.Internal) {
			t.Errorf("%s: got %v", phc, err)
		}
	}
}
