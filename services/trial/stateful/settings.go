package stateful

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"coatcheck/auth"
	"coatcheck/cart"
	"coatcheck/chassis"
	"coatcheck/chassis/config"
	"coatcheck/gateway"
)

// The ways to keep state.
const (
	Memory = "memory" // carts and sessions in this process's memory
	Cookie = "cookie" // carts and sessions in signed cookies
	Token  = "token"  // carts as in Memory; an access token is good until it expires, and nobody looks its session up
)

// Settings are those of gateway, auth and cart, less what leads to each other
// and to Redis, and which way state is kept.
type Settings struct {
	chassis.Settings
	State string `env:"STATE,required"`
	// Accounts is a JSON list of users (see Account) that are there from the
	// start: what a shop of this kind has in a database. Those who register later
	// are known to this process alone.
	Accounts config.Secret `env:"ACCOUNTS_FILE,file"`

	DrainDelay     time.Duration `env:"DRAIN_DELAY" envDefault:"10s"`
	HTTPAddr       string        `env:"HTTP_ADDR" envDefault:":8080"`
	PlainHTTP      bool          `env:"PLAIN_HTTP"`
	MaxInFlight    int           `env:"MAX_IN_FLIGHT" envDefault:"128"`
	RequestTimeout time.Duration `env:"REQUEST_TIMEOUT" envDefault:"2s"`
	TryTimeout     time.Duration `env:"TRY_TIMEOUT" envDefault:"600ms"`

	SigningKeys       config.Secret `env:"SIGNING_KEYS_FILE,file,required,notEmpty"`
	Issuer            string        `env:"ISSUER" envDefault:"coatcheck"`
	GuestTicketLife   time.Duration `env:"GUEST_TICKET_LIFE" envDefault:"720h"`
	SessionIdle       time.Duration `env:"SESSION_IDLE" envDefault:"30m"`
	SessionLife       time.Duration `env:"SESSION_LIFE" envDefault:"12h"`
	MaxPasswordHashes int           `env:"MAX_PASSWORD_HASHES" envDefault:"0"`

	CatalogueFile     string        `env:"CATALOGUE_FILE"`
	GuestCartLife     time.Duration `env:"GUEST_CART_LIFE" envDefault:"168h"`
	UserCartLife      time.Duration `env:"USER_CART_LIFE" envDefault:"2160h"`
	OrderLife         time.Duration `env:"ORDER_LIFE" envDefault:"9600h"`
	IdempotencyWindow time.Duration `env:"IDEMPOTENCY_WINDOW" envDefault:"10m"`
	MaxQuantity       int64         `env:"MAX_QUANTITY" envDefault:"999"`
	MaxLines          int           `env:"MAX_LINES" envDefault:"100"`
}

// Account is a user who is there from the start.
type Account struct {
	ID       string `json:"id"`
	Email    string `json:"email"`
	Password string `json:"password"` // PHC
}

// Validate names each fault.
func (s Settings) Validate() []error {
	faults := append(append(s.gateway().Validate(), s.auth().Validate()...), s.cart().Validate()...)
	if s.State != Memory && s.State != Cookie && s.State != Token {
		faults = append(faults, fmt.Errorf("COATCHECK_STATE: must be %s, %s or %s", Memory, Cookie, Token))
	}
	if _, err := s.accounts(); err != nil {
		faults = append(faults, errors.New("COATCHECK_ACCOUNTS_FILE: must be a JSON list of users"))
	}
	return faults
}

func (s Settings) accounts() ([]Account, error) {
	if s.Accounts == "" {
		return nil, nil
	}
	var list []Account
	err := json.Unmarshal([]byte(s.Accounts.Reveal()), &list)
	return list, err
}

func (s Settings) gateway() gateway.Settings {
	return gateway.Settings{
		Settings: s.Settings, DrainDelay: s.DrainDelay, HTTPAddr: s.HTTPAddr, PlainHTTP: s.PlainHTTP,
		MaxInFlight: s.MaxInFlight, RequestTimeout: s.RequestTimeout, TryTimeout: s.TryTimeout,
		CartAddr: "in-process:1", AuthAddr: "in-process:1", // nobody dials them
	}
}

func (s Settings) auth() auth.Settings {
	return auth.Settings{
		Settings: s.Settings, SigningKeys: s.SigningKeys, Issuer: s.Issuer, MaxPasswordHashes: s.MaxPasswordHashes,
		Lives: auth.Lives{GuestTicketLife: s.GuestTicketLife, SessionIdle: s.SessionIdle, SessionLife: s.SessionLife},
	}
}

func (s Settings) cart() cart.Settings {
	return cart.Settings{
		Settings: s.Settings, AuthAddr: "in-process:1", CatalogueFile: s.CatalogueFile, GuestCartLife: s.GuestCartLife, UserCartLife: s.UserCartLife,
		OrderLife: s.OrderLife, IdempotencyWindow: s.IdempotencyWindow, MaxQuantity: s.MaxQuantity, MaxLines: s.MaxLines,
	}
}
