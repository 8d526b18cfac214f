// Package stateful is the baseline that the shop is compared with: the shop's
// own gateway, auth and cart code in one process that keeps the state itself, in
// its memory or in signed cookies.
//
// The hazard of a baseline is that it was built to lose. This one answers, drains
// and stops as the shop's gateway does, and its parts call each other directly.
// What it cannot do, it cannot do because of where its state is.
package stateful

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"coatcheck/auth"
	usersinmemory "coatcheck/auth/mapstore"
	"coatcheck/cart"
	cartsinmemory "coatcheck/cart/mapstore"
	"coatcheck/chassis"
	"coatcheck/gateway"
	authv1 "coatcheck/proto/coatcheck/auth/v1"
	cartv1 "coatcheck/proto/coatcheck/cart/v1"
	"coatcheck/trial/stateful/pocket"
)

// New wires the one process; chassis.Run runs it.
func New(s Settings, log *slog.Logger, registry *prometheus.Registry) (chassis.Service, error) {
	users, carts, wrap, err := s.stores(registry)
	if err != nil {
		return chassis.Service{}, err
	}
	catalogue, err := cart.LoadCatalogue(s.CatalogueFile)
	if err != nil {
		return chassis.Service{}, err
	}
	authServer, err := auth.New(s.auth(), users, time.Now)
	if err != nil {
		return chassis.Service{}, err
	}
	cartServer := cart.NewServer(carts, carts, catalogue, s.cart().Limits(), time.Now)
	toAuth, err := connect(s.InstanceName(), log, &authv1.AuthService_ServiceDesc, authServer)
	if err != nil {
		return chassis.Service{}, fmt.Errorf("auth: %w", err)
	}
	toCart, err := connect(s.InstanceName(), log, &cartv1.CartService_ServiceDesc, cartServer)
	if err != nil {
		return chassis.Service{}, fmt.Errorf("cart: %w", err)
	}
	// Sessions are looked up in this process: the gateway need not remember them.
	g, err := gateway.New(s.gateway(), log, registry, toCart.conn, toAuth.conn)
	if err != nil {
		return chassis.Service{}, err
	}
	return chassis.Service{
		Name:     "stateful",
		Settings: s.gateway().Base(),
		Log:      log,
		Registry: registry,
		Addr:     s.HTTPAddr,
		Part:     wrap(g),
		Ready:    g.Ready,
		Close: func() {
			toCart.close()
			toAuth.close()
		},
	}, nil
}

// cartStore is what the cart service needs.
type cartStore interface {
	cart.Store
	cart.Eraser
}

// stores returns where users, sessions and carts are kept, and how the gateway
// is served then.
func (s Settings) stores(registry prometheus.Registerer) (auth.Store, cartStore, func(*gateway.Gateway) chassis.Part, error) {
	users := usersinmemory.New()
	accounts, err := s.accounts()
	if err != nil {
		return nil, nil, nil, fmt.Errorf("the accounts: %w", err)
	}
	for _, a := range accounts {
		if err := users.Register(context.Background(), a.ID, a.Email, a.Password, time.Now()); err != nil {
			return nil, nil, nil, fmt.Errorf("account %s: %w", a.ID, err)
		}
	}
	if s.State != Cookie {
		carts := cartsinmemory.New(cartsinmemory.Settings{
			GuestCartLife: s.GuestCartLife, UserCartLife: s.UserCartLife, OrderLife: s.OrderLife,
			Window: s.IdempotencyWindow, Limits: s.cart().Limits(), Now: time.Now,
		})
		var known auth.Store = counted{users, promauto.With(registry).NewCounter(prometheus.CounterOpts{
			Name: "coatcheck_stateful_session_look_ups_total", Help: "Sessions looked up in this process's memory.",
		})}
		if s.State == Token {
			known = tokens{known}
		}
		return known, carts, func(g *gateway.Gateway) chassis.Part { return gateway.NewServer(g) }, nil
	}
	pockets := pocket.New(s.SigningKeys.Reveal(), s.PlainHTTP)
	carts := &pocket.Carts{
		Pockets: pockets, GuestCartLife: s.GuestCartLife, UserCartLife: s.UserCartLife,
		Limits: s.cart().Limits(), Now: time.Now,
	}
	return pocket.Sessions{Store: users}, carts, func(g *gateway.Gateway) chassis.Part {
		return newPart(g, pockets.Handler(g), s.RequestTimeout)
	}, nil
}

// counted counts how often sessions are looked up.
type counted struct {
	auth.Store
	lookUps prometheus.Counter
}

// UseSession is part of auth.Store.
func (c counted) UseSession(ctx context.Context, userID, sessionID string, now time.Time, idle time.Duration) (time.Time, error) {
	c.lookUps.Inc()
	return c.Store.UseSession(ctx, userID, sessionID, now, idle)
}

// tokens is a store of users whose sessions are their tokens: one whose signature
// is good is live, whatever has ended since.
type tokens struct{ auth.Store }

// UseSession is part of auth.Store. It looks nothing up, which is the point.
func (tokens) UseSession(_ context.Context, _, _ string, now time.Time, idle time.Duration) (time.Time, error) {
	return now.Add(idle), nil
}

// part is gateway.Server with something around the gateway. It has the same
// bounds.
type part struct {
	gateway *gateway.Server // for Drain
	http    *http.Server
}

func newPart(g *gateway.Gateway, handler http.Handler, requestTimeout time.Duration) *part {
	const readTimeout = 10 * time.Second
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	return &part{gateway: gateway.NewServer(g), http: &http.Server{
		Handler:                      handler,
		Protocols:                    protocols,
		HTTP2:                        &http.HTTP2Config{MaxConcurrentStreams: 100, SendPingTimeout: 15 * time.Second, PingTimeout: 5 * time.Second, WriteByteTimeout: 10 * time.Second},
		DisableGeneralOptionsHandler: true,
		ReadHeaderTimeout:            5 * time.Second,
		ReadTimeout:                  readTimeout,
		WriteTimeout:                 readTimeout + requestTimeout + 5*time.Second,
		IdleTimeout:                  60 * time.Second,
		MaxHeaderBytes:               16 << 10,
		ErrorLog:                     slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}}
}

// Serve is part of chassis.Part.
func (p *part) Serve(lis net.Listener) error {
	err := p.http.Serve(lis)
	if !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Drain is part of chassis.Part.
func (p *part) Drain() { p.gateway.Drain() }

// Stop is part of chassis.Part.
func (p *part) Stop(ctx context.Context) error { return p.http.Shutdown(ctx) }

// Close is part of chassis.Part.
func (p *part) Close() { _ = p.http.Close() }
