package auth

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"coatcheck/chassis"
	"coatcheck/chassis/config"
	"coatcheck/chassis/redisconn"
	"coatcheck/chassis/rpc"
)

// Settings are all of the auth service's settings.
type Settings struct {
	chassis.Settings
	Redis redisconn.Settings
	// Addr is where the service listens.
	Addr string `env:"GRPC_ADDR" envDefault:":9090"`
	TLS  rpc.TLSSettings
	// TLSClients are the names in the certificates of those who may call; with none,
	// any of the authority's may.
	TLSClients []string `env:"TLS_CLIENTS"`
	// TLSKeyReaders are those among them who may ask for the keys that check, and
	// for nothing else.
	TLSKeyReaders []string `env:"TLS_KEY_READERS"`
	// SigningKeys are Ed25519 private keys (PKCS #8, PEM), one or more: the
	// first signs, unless they say since when each does (see RotateKeys); all
	// check. A key that no longer signs must stay for as long as the longest-lived
	// ticket it has signed. The file may change at any time, see ReloadKeys.
	SigningKeys config.Secret `env:"SIGNING_KEYS_FILE,file,required,notEmpty"`
	// Issuer is the iss of every ticket; all replicas must have the same.
	Issuer string `env:"ISSUER" envDefault:"coatcheck"`
	Lives
	// MaxPasswordHashes bounds the password hashes computed at once; each takes
	// 12 MiB and one core for some tens of milliseconds, and more than there are
	// cores only make each take longer. 0 means one for each core, at most 4.
	MaxPasswordHashes int `env:"MAX_PASSWORD_HASHES" envDefault:"0"`
	// How many log-ins (LogInRate) and registrations a minute are taken from one
	// client address, and log-ins at one account from one address
	// (AccountLogInRate), by all replicas together; 0 is no limit. See guard.
	LogInRate        int `env:"LOGIN_RATE" envDefault:"40"`
	AccountLogInRate int `env:"ACCOUNT_LOGIN_RATE" envDefault:"10"`
	RegistrationRate int `env:"REGISTRATION_RATE" envDefault:"20"`
}

// Lives are how long what auth hands out is good; a signing key must outlive all
// of it.
type Lives struct {
	// GuestTicketLife is how long a guest ticket is good after it was signed.
	GuestTicketLife time.Duration `env:"GUEST_TICKET_LIFE" envDefault:"720h"`
	// SessionIdle is how long a session lives without being used.
	SessionIdle time.Duration `env:"SESSION_IDLE" envDefault:"30m"`
	// SessionLife is how long a session lives at most.
	SessionLife time.Duration `env:"SESSION_LIFE" envDefault:"12h"`
}

// Longest is how long the longest-lived ticket or token may be shown after it was
// signed, by the clock of whoever checks it.
func (l Lives) Longest() time.Duration {
	return max(l.GuestTicketLife, l.SessionLife, accessLife) + clockLeeway
}

// Validate names each fault.
func (l Lives) Validate() []error {
	var faults []error
	// A ticket is renewed when it is a day old, so it must live longer than that.
	if l.GuestTicketLife < 48*time.Hour || l.GuestTicketLife > 8760*time.Hour {
		faults = append(faults, errors.New("COATCHECK_GUEST_TICKET_LIFE: must be 48h to 8760h"))
	}
	// A use is marked up to two minutes late, see VerifySession.
	if l.SessionIdle < 5*MarkInterval || l.SessionIdle > l.SessionLife {
		faults = append(faults, fmt.Errorf("COATCHECK_SESSION_IDLE: must be %v to COATCHECK_SESSION_LIFE", 5*MarkInterval))
	}
	if l.SessionLife > 8760*time.Hour {
		faults = append(faults, errors.New("COATCHECK_SESSION_LIFE: must be at most 8760h"))
	}
	return faults
}

// Validate names each fault.
func (s Settings) Validate() []error {
	faults := s.Lives.Validate()
	if s.SigningKeys != "" {
		if _, err := parseSigningKeys(s.SigningKeys.Reveal()); err != nil {
			faults = append(faults, fmt.Errorf("COATCHECK_SIGNING_KEYS_FILE: %w", err))
		}
	}
	for _, name := range s.TLSKeyReaders {
		if !slices.Contains(s.TLSClients, name) {
			faults = append(faults, errors.New("COATCHECK_TLS_KEY_READERS: each must be one of COATCHECK_TLS_CLIENTS"))
			break
		}
	}
	if len(s.Issuer) > 128 || !visible(s.Issuer) {
		faults = append(faults, errors.New("COATCHECK_ISSUER: must be at most 128 visible ASCII characters"))
	}
	for name, perMinute := range map[string]int{"LOGIN_RATE": s.LogInRate, "ACCOUNT_LOGIN_RATE": s.AccountLogInRate, "REGISTRATION_RATE": s.RegistrationRate} {
		if perMinute < 0 || perMinute > 1_000_000 {
			faults = append(faults, fmt.Errorf("COATCHECK_%s: must be 0 to 1000000", name))
		}
	}
	if s.MaxPasswordHashes < 0 || s.MaxPasswordHashes > 1000 {
		faults = append(faults, errors.New("COATCHECK_MAX_PASSWORD_HASHES: must be 0 to 1000"))
	}
	return faults
}

func visible(s string) bool {
	for _, b := range []byte(s) {
		if b <= ' ' || b > '~' {
			return false
		}
	}
	return true
}
