package auth

import (
	"strings"
	"testing"
	"time"

	"coatcheck/chassis/fault"
	authv1 "coatcheck/proto/coatcheck/auth/v1"
)

func TestPasswords(t *testing.T) {
	h, ctx := newHasher(1, newCost), t.Context()
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

// TestNewPasswordRules: of those that are long enough, the most common 3,000 are
// refused in whatever case, and such a user who is there can log in.
func TestNewPasswordRules(t *testing.T) {
	h := newHasher(1, newCost)
	for _, password := range []string{"12345678", "password", "Password1", "QWERTYUIOP", "iloveyou", "1qaz2wsx"} {
		ok(t, checkPassword(password))
		want(t, h.checkNew(password), fault.Invalid, "common_password")
	}
	for _, password := range []string{goodPassword, "another password", "password of mine", strings.Repeat("𝄞", 256)} {
		ok(t, h.checkNew(password))
	}
	want(t, h.checkNew("123456"), fault.Invalid, "invalid_password")
	if n := len(h.common); n < 3000 {
		t.Errorf("%d passwords are known as common", n)
	}
	for password := range h.common {
		ok(t, checkPassword(password))
		if password != strings.ToLower(password) {
			t.Errorf("%s would never be found", password)
		}
	}

	store := NewRedisStore(startRedis(t).client(t))
	s, err := New(testSettings(), store, time.Now)
	ok(t, err)
	phc, err := s.passwords.hash(t.Context(), "password")
	ok(t, err)
	id, email := newUserID(), newEmail()
	ok(t, store.Register(t.Context(), id, email, phc, time.Now()))
	_, err = s.LogIn(t.Context(), &authv1.LogInRequest{Email: email, Password: "password"})
	ok(t, err)
	_, err = s.Register(t.Context(), &authv1.RegisterRequest{UserId: newUserID(), Email: newEmail(), Password: "PassWord"})
	want(t, err, fault.Invalid, "common_password")
	_, err = s.ChangePassword(t.Context(), &authv1.ChangePasswordRequest{UserId: id, OperationId: "op", CurrentPassword: "password", NewPassword: "password1"})
	want(t, err, fault.Invalid, "common_password")
}

func TestPHC(t *testing.T) {
	const salt, key = "c2FsdHNhbHRzYWx0c2FsdA", "a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2U"
	// Costs that a later service may choose are read.
	if c, _, _, err := parsePHC("$argon2id$v=19$m=65536,t=3,p=4$" + salt + "$" + key); err != nil || c != (cost{65536, 3, 4}) {
		t.Errorf("got %v, %v", c, err)
	}
	for _, phc := range []string{
		"x", "$2a$10$abc", "$argon2i$v=19$m=8,t=1,p=1$" + salt + "$" + key, "$argon2id$v=16$m=8,t=1,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=19456,t=0,p=1$" + salt + "$" + key, "$argon2id$v=19$m=19456,t=2,p=0$" + salt + "$" + key,
		"$argon2id$v=19$m=4000000000,t=2,p=1$" + salt + "$" + key, "$argon2id$v=19$t=2$" + salt + "$" + key,
		"$argon2id$v=19$m=19456,t=2,p=1$" + salt + "$", "$argon2id$v=19$m=19456,t=2,p=1$!$" + key, "$argon2id$v=19$m=19456,t=2,p=1$" + salt,
	} {
		if _, _, _, err := parsePHC(phc); err == nil {
			t.Errorf("%s passed", phc)
		}
		if _, err := newHasher(1, newCost).matches(t.Context(), goodPassword, phc); !fault.Is(err, fault.Internal) {
			t.Errorf("%s: got %v", phc, err)
		}
	}
}
