// Package gateway is the shop's HTTP surface: it tells whose request it is,
// makes one call to the cart or the auth service, and answers.
//
// It keeps nothing between two requests but what auth said of tickets and who
// asked how often, both safe to lose, so any replica serves any request. The
// hazards it handles are a client that sends nonsense (refused before any call) or
// too much (refused sooner still),
// a replica that dies or stalls behind it (asked again elsewhere under the same
// idempotency key, within a budget), and its own end (it says so on every answer
// while it goes on serving).
package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"coatcheck/chassis"
	"coatcheck/chassis/rpc"
	authv1 "coatcheck/proto/coatcheck/auth/v1"
	cartv1 "coatcheck/proto/coatcheck/cart/v1"
)

// Settings are the gateway's own beside those of every service.
type Settings struct {
	chassis.Settings
	// DrainDelay stands for that of every service, with a longer default: what
	// spreads users' connections learns of a drain later than gRPC clients do.
	DrainDelay time.Duration `env:"DRAIN_DELAY" envDefault:"10s"`
	HTTPAddr   string        `env:"HTTP_ADDR" envDefault:":8080"`
	TLS        rpc.TLSSettings
	// CartAddr and AuthAddr are targets as rpc.ValidTarget has them.
	CartAddr string `env:"CART_ADDR,required"`
	AuthAddr string `env:"AUTH_ADDR,required"`
	// PlainHTTP drops Secure and the __Host- prefix from the cookies, for
	// clients that reach the shop without TLS.
	PlainHTTP bool `env:"PLAIN_HTTP"`
	// Storefront serves a page at /. It is off unless asked for: who runs the shop
	// as a back end has pages of their own, and this one tells the names of replicas.
	Storefront bool `env:"STOREFRONT"`
	// MaxInFlight bounds the requests being worked on, and those that wait for their
	// turn meanwhile; more are refused at once. See enter.
	MaxInFlight int `env:"MAX_IN_FLIGHT" envDefault:"128"`
	// ConnectionAge is after how long a client's connection is ended in order, give or
	// take a tenth, so that clients find replicas that came later; 0 is never. Each
	// then costs another handshake, of TLS where that ends here.
	ConnectionAge time.Duration `env:"CONNECTION_AGE" envDefault:"1m"`
	// RequestTimeout bounds all calls and tries of one request, once its body is there.
	RequestTimeout time.Duration `env:"REQUEST_TIMEOUT" envDefault:"2s"`
	// TryTimeout bounds one try of one call, from when it is sent.
	TryTimeout time.Duration `env:"TRY_TIMEOUT" envDefault:"600ms"`
	// RequestLogLevel is the level of the line that each request is logged with,
	// if it did not fail; below LogLevel there is none.
	RequestLogLevel slog.Level `env:"REQUEST_LOG_LEVEL" envDefault:"info"`
	// TicketCache is how many tickets are remembered at most; 0 has auth asked of
	// each request.
	TicketCache int `env:"TICKET_CACHE" envDefault:"20000"`
	// AddressRate is how many requests a second this replica takes from one client
	// address (of IPv6, one /64), and TicketRate for one owner of tickets; 0 is no
	// limit. See limits.
	AddressRate int `env:"ADDRESS_RATE" envDefault:"1000"`
	TicketRate  int `env:"TICKET_RATE" envDefault:"100"`
	// TrustedProxies are where the proxies before the shop call from, as prefixes
	// (10.244.0.0/16,192.0.2.7/32): those alone are believed whom they call for, in
	// X-Forwarded-For. Behind a proxy that is not among them, all clients are one.
	TrustedProxies []netip.Prefix `env:"TRUSTED_PROXIES"`
	// CartBatches is how many calls to each cart replica may be under way before
	// others wait to go together; 0 has each go by itself.
	CartBatches int `env:"CART_BATCHES" envDefault:"1"`
}

// Base returns the settings that every service has.
func (s Settings) Base() chassis.Settings {
	base := s.Settings
	base.DrainDelay = s.DrainDelay
	return base
}

// Validate names each fault.
func (s Settings) Validate() []error {
	faults := s.Base().Validate()
	for name, target := range map[string]string{"CART_ADDR": s.CartAddr, "AUTH_ADDR": s.AuthAddr} {
		err := rpc.ValidTarget(target)
		if err != nil {
			faults = append(faults, fmt.Errorf("COATCHECK_%s: %w", name, err))
		}
	}
	if s.MaxInFlight < 1 {
		faults = append(faults, errors.New("COATCHECK_MAX_IN_FLIGHT: must be at least 1"))
	}
	if s.ConnectionAge < 0 || 0 < s.ConnectionAge && s.ConnectionAge < time.Second {
		faults = append(faults, errors.New("COATCHECK_CONNECTION_AGE: must be 0, or at least 1s"))
	}
	if s.TicketCache < 0 || s.TicketCache > 1_000_000 {
		faults = append(faults, errors.New("COATCHECK_TICKET_CACHE: must be 0 to 1000000"))
	}
	for name, perSecond := range map[string]int{"ADDRESS_RATE": s.AddressRate, "TICKET_RATE": s.TicketRate} {
		if perSecond < 0 || perSecond > 1_000_000 {
			faults = append(faults, fmt.Errorf("COATCHECK_%s: must be 0 to 1000000", name))
		}
	}
	for _, prefix := range s.TrustedProxies {
		if prefix.Bits() < 1 {
			faults = append(faults, errors.New("COATCHECK_TRUSTED_PROXIES: must not be everybody"))
			break
		}
	}
	if s.CartBatches < 0 || s.CartBatches > 16 {
		faults = append(faults, errors.New("COATCHECK_CART_BATCHES: must be 0 to 16"))
	}
	if s.TryTimeout < 10*time.Millisecond {
		faults = append(faults, errors.New("COATCHECK_TRY_TIMEOUT: must be at least 10ms"))
	}
	if s.RequestTimeout < s.TryTimeout || s.RequestTimeout > time.Minute {
		faults = append(faults, errors.New("COATCHECK_REQUEST_TIMEOUT: must be at least COATCHECK_TRY_TIMEOUT and at most 1m"))
	}
	return faults
}

// Gateway is the handler of the whole HTTP surface.
type Gateway struct {
	settings    Settings
	instance    string
	log         *slog.Logger
	conns       []*grpc.ClientConn
	cart        cartv1.CartServiceClient
	carts       methods // those of cart that most requests need
	auth        authv1.AuthServiceClient
	cartBackend *backend
	authBackend *backend
	passwords   *backend // auth, for what hashes a password
	cookies     cookieNames
	tickets     *tickets
	limits      *limits
	proxies     proxies
	docs        docs
	storefront  storefront
	mux         *http.ServeMux
	crossOrigin *http.CrossOriginProtection
	slots       chan struct{} // one for each request being worked on
	waiting     atomic.Int64  // requests that wait for a slot
	metrics     *metrics
	ready       atomic.Bool
	draining    atomic.Bool
}

// New returns a gateway over connections that the caller closes when it is done.
// That to cart is to be opened with Coalesce, that to auth with rpc.Announced.
func New(s Settings, log *slog.Logger, reg prometheus.Registerer, cart, auth *grpc.ClientConn) (*Gateway, error) {
	docs, err := newDocs()
	if err != nil {
		return nil, fmt.Errorf("preparing /docs: %w", err)
	}
	storefront, err := newStorefront()
	if err != nil {
		return nil, fmt.Errorf("preparing the storefront: %w", err)
	}
	m := newMetrics(reg)
	g := &Gateway{
		settings:    s,
		instance:    s.InstanceName(),
		log:         log,
		conns:       []*grpc.ClientConn{cart, auth},
		cart:        cartv1.NewCartServiceClient(cart),
		carts:       newMethods(cart),
		auth:        authv1.NewAuthServiceClient(auth),
		cartBackend: newBackend("cart", s.TryTimeout, m, time.Now),
		authBackend: newBackend("auth", s.TryTimeout, m, time.Now),
		passwords:   newBackend("auth", s.TryTimeout, m, time.Now),
		cookies:     newCookieNames(s.PlainHTTP),
		tickets:     newTickets(s.TicketCache, reg),
		limits:      newLimits(s, reg),
		proxies:     s.TrustedProxies,
		docs:        docs,
		storefront:  storefront,
		crossOrigin: http.NewCrossOriginProtection(),
		slots:       make(chan struct{}, s.MaxInFlight),
		metrics:     m,
	}
	// A try that hashes a password is dear, and goes on where it is when nobody waits
	// for it any more: short tries would turn a busy moment into more work than the
	// shop can do.
	g.passwords.announces = true
	// Few calls hash a password, too few to earn a budget of their own.
	g.passwords.budget = g.authBackend.budget
	g.mux = g.newMux()
	g.show(reg)
	if s.TicketCache > 0 {
		go (&follower{conn: auth, auth: g.auth, tickets: g.tickets, log: log}).run()
	}
	return g, nil
}

// Ready connects to cart and auth and waits, though not for long, until it hears
// of revocations: without that every request asks auth. Once it has answered nil,
// /readyz says ready until Drain.
func (g *Gateway) Ready(ctx context.Context) error {
	for _, conn := range g.conns {
		err := rpc.AwaitReady(ctx, conn)
		if err != nil {
			return err
		}
	}
	for range 100 {
		if g.settings.TicketCache == 0 || g.tickets.whole() || ctx.Err() != nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	g.ready.Store(true)
	return nil
}
