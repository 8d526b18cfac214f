package cart

import (
	"errors"
	"fmt"
	"time"

	"coatcheck/chassis"
	"coatcheck/chassis/redisconn"
	"coatcheck/chassis/rpc"
)

// Settings of the cart service.
type Settings struct {
	chassis.Settings
	Redis redisconn.Settings
	// Addr is where gRPC is served.
	Addr string `env:"GRPC_ADDR" envDefault:":9090"`
	TLS  rpc.TLSSettings
	// TLSClients are the names in the certificates of those who may call; with none,
	// any of the authority's may.
	TLSClients []string `env:"TLS_CLIENTS"`
	// AuthAddr is where auth is asked for the keys that it signs tickets with; a
	// target as rpc.ValidTarget has them.
	AuthAddr string `env:"AUTH_ADDR,required"`
	// CatalogueFile is the catalogue; empty for the built-in one.
	CatalogueFile string `env:"CATALOGUE_FILE"`
	// GuestCartLife and UserCartLife are how long a cart lives after its last change.
	GuestCartLife time.Duration `env:"GUEST_CART_LIFE" envDefault:"168h"`
	UserCartLife  time.Duration `env:"USER_CART_LIFE" envDefault:"2160h"`
	// OrderLife is how long an order is kept.
	OrderLife time.Duration `env:"ORDER_LIFE" envDefault:"9600h"`
	// IdempotencyWindow is how long a repeated operation is recognised.
	IdempotencyWindow time.Duration `env:"IDEMPOTENCY_WINDOW" envDefault:"10m"`
	// MaxQuantity bounds one line, MaxLines one cart.
	MaxQuantity int64 `env:"MAX_QUANTITY" envDefault:"999"`
	MaxLines    int   `env:"MAX_LINES" envDefault:"100"`
}

// Validate names each fault.
func (s Settings) Validate() []error {
	var faults []error
	check := func(ok bool, sentence string) {
		if !ok {
			faults = append(faults, errors.New("COATCHECK_"+sentence))
		}
	}
	if err := rpc.ValidTarget(s.AuthAddr); err != nil {
		faults = append(faults, fmt.Errorf("COATCHECK_AUTH_ADDR: %w", err))
	}
	check(s.GuestCartLife >= time.Minute, "GUEST_CART_LIFE: must be at least 1m")
	check(s.UserCartLife >= time.Minute, "USER_CART_LIFE: must be at least 1m")
	check(s.OrderLife >= time.Hour, "ORDER_LIFE: must be at least 1h")
	check(s.IdempotencyWindow >= 10*time.Second && s.IdempotencyWindow <= 24*time.Hour, "IDEMPOTENCY_WINDOW: must be 10s (longer than a client retries) to 24h")
	check(s.MaxQuantity >= 1 && s.MaxQuantity <= 1_000_000, "MAX_QUANTITY: must be 1 to 1000000")
	check(s.MaxLines >= 1 && s.MaxLines <= 500, "MAX_LINES: must be 1 to 500 (beyond 512 fields Redis stores a cart in three times the memory)")
	return faults
}

// Limits are the settings' limits.
func (s Settings) Limits() Limits { return Limits{Quantity: s.MaxQuantity, Lines: s.MaxLines} }
