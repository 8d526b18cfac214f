package auth

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"coatcheck/chassis/config"
)

func TestSettings(t *testing.T) {
	_, text := newKey(1)
	file := func(text string) string {
		path := filepath.Join(t.TempDir(), "keys.pem")
		ok(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	good := []string{"COATCHECK_REDIS_ADDRS=127.0.0.1:6379", "COATCHECK_SIGNING_KEYS_FILE=" + file(text)}
	s, err := config.Load[Settings](good)
	ok(t, err)
	if s.Addr != ":9090" || s.Issuer != "coatcheck" || s.GuestTicketLife != 30*24*time.Hour || s.SessionIdle != 30*time.Minute ||
		s.SessionLife != 12*time.Hour || s.MaxPasswordHashes != 0 || s.LogInRate != 40 || s.AccountLogInRate != 10 || s.RegistrationRate != 20 || s.Redis.Addrs[0] != "127.0.0.1:6379" || s.AdminAddr != ":9100" {
		t.Errorf("defaults are %+v", s)
	}
	if _, err := New(s, nil, time.Now); err != nil {
		t.Error(err)
	}
	if _, err := New(Settings{}, nil, time.Now); err == nil {
		t.Error("a service without keys")
	}

	_, err = config.Load[Settings](nil)
	for _, name := range []string{"COATCHECK_REDIS_ADDRS: must be set", "COATCHECK_SIGNING_KEYS_FILE: must be set"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, want %s", err, name)
		}
	}
	for _, fault := range []string{
		"COATCHECK_SIGNING_KEYS_FILE=",
		"COATCHECK_SIGNING_KEYS_FILE=" + file("secret"),
		"COATCHECK_SIGNING_KEYS_FILE=" + file(""),
		"COATCHECK_SIGNING_KEYS_FILE=/nowhere",
		"COATCHECK_ISSUER=with space",
		"COATCHECK_ISSUER=" + strings.Repeat("x", 129),
		"COATCHECK_GUEST_TICKET_LIFE=47h",
		"COATCHECK_GUEST_TICKET_LIFE=8761h",
		"COATCHECK_GUEST_TICKET_LIFE=x",
		"COATCHECK_SESSION_IDLE=4m59s",
		"COATCHECK_SESSION_IDLE=13h",
		"COATCHECK_SESSION_LIFE=8761h",
		"COATCHECK_MAX_PASSWORD_HASHES=-1",
		"COATCHECK_MAX_PASSWORD_HASHES=1001",
		"COATCHECK_LOGIN_RATE=-1",
		"COATCHECK_ACCOUNT_LOGIN_RATE=1000001",
		"COATCHECK_REGISTRATION_RATE=many",
		"COATCHECK_TLS_KEY_READERS=cart",
		"COATCHECK_REDIS_POOL_SIZE=0",
		"COATCHECK_STOP_TIMEOUT=0s",
		"COATCHECK_SESSION_LIVE=1h",
	} {
		name, _, _ := strings.Cut(fault, "=")
		_, err := config.Load[Settings](append(good[:2:2], fault))
		if err == nil || !strings.Contains(err.Error(), "\n  "+name+": ") {
			t.Errorf("%s: got %v", fault, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error shows the file: %v", fault, err)
		}
	}
}
