package defects

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"coatcheck/auth"
	"coatcheck/cart"
	"coatcheck/cart/redisstore"
	"coatcheck/chassis"
	"coatcheck/chassis/config"
	"coatcheck/chassis/redisconn"
	"coatcheck/chassis/redistest"
	"coatcheck/chassis/rpc"
	"coatcheck/gateway"
	authv1 "coatcheck/proto/coatcheck/auth/v1"
	cartv1 "coatcheck/proto/coatcheck/cart/v1"
	"coatcheck/trial/rediscrash"
)

// double is what stands in for parts of the shop. The zero double is the shop as
// it is shipped.
type double struct {
	redis  []string                                             // further arguments of redis-server
	policy string                                               // appendfsync, where Redis is to crash
	client func(addr string) redis.UniversalClient              // the carts' way to Redis
	window time.Duration                                        // of idempotency
	store  func(*redisstore.Store, redis.UniversalClient) stock // what a cart replica keeps carts in
	dial   func(addrs []string) (*grpc.ClientConn, error)       // the gateways' way to the carts
	// cart and auth are put before each call of a gateway, news around what it hears
	// of revocations.
	cart, auth grpc.UnaryClientInterceptor
	news       func(grpc.ClientStream) grpc.ClientStream
	gateway    func(chassis.Part) chassis.Part
	asks       bool                                               // the gateways remember no tickets themselves
	users      func(auth.Store, redis.UniversalClient) auth.Store // what an auth replica keeps users in
	// batch is put before each batch of a gateway.
	batch grpc.UnaryClientInterceptor
	// rotate makes the next file of signing keys.
	rotate func(keys string) (string, error)
}

// stock is what the cart service needs.
type stock interface {
	cart.Store
	cart.Eraser
}

// shop is a whole one in this process, each replica behind a listener of its own.
type shop struct {
	auths, carts, gateways []*replica
	keys                   string // the file of signing keys
	rotate                 func(keys string) (string, error)

	door      *door
	wire      *wire // between carts and Redis
	redis     *redis.Client
	crash     *rediscrash.Server // nil where Redis is not to crash
	stopRedis func()
	calls     *calls
	trading   atomic.Bool // while there is traffic
	silent    atomic.Bool // while gateways hear nothing of revocations
}

// The settings that the replicas have. All shoppers are one address. A command and a try may take longer than
// in a shop, so that a machine that stalls is not taken for a replica that does.
var settings = struct{ base, auth, cart, gateway []string }{
	base:    []string{"COATCHECK_ADMIN_ADDR=127.0.0.1:0", "COATCHECK_STOP_TIMEOUT=3s"},
	auth:    []string{"COATCHECK_LOGIN_RATE=0", "COATCHECK_ACCOUNT_LOGIN_RATE=0", "COATCHECK_REGISTRATION_RATE=0", "COATCHECK_MAX_PASSWORD_HASHES=1", "COATCHECK_DRAIN_DELAY=0s", "COATCHECK_REDIS_TIMEOUT=800ms"},
	cart:    []string{"COATCHECK_DRAIN_DELAY=0s", "COATCHECK_REDIS_TIMEOUT=800ms"},
	gateway: []string{"COATCHECK_PLAIN_HTTP=true", "COATCHECK_ADDRESS_RATE=0", "COATCHECK_TICKET_RATE=0", "COATCHECK_DRAIN_DELAY=500ms", "COATCHECK_TRY_TIMEOUT=900ms"},
}

// openShop returns when the shop serves; it closes when the test ends.
func openShop(t *testing.T, tr trial, d double) *shop {
	t.Helper()
	s := &shop{calls: &calls{trial: tr}, keys: filepath.Join(t.TempDir(), "keys.pem"), rotate: d.rotate}
	s.startRedis(t, d)
	s.auths = s.replicas(t, "auth", 1, s.auth(t, newWire(t, s.wire.network, s.wire.addr), d))
	s.carts = s.replicas(t, "cart", 2, s.cart(t, tr, d))
	s.gateways = s.replicas(t, "gateway", cmp.Or(tr.gateways, 1), s.gateway(tr, d))
	s.door = newDoor(t, s.gateways)
	if err := s.awaitOpen(); err != nil {
		t.Fatal(err)
	}
	return s
}

// close ends what takes CPU; the rest ends with the test.
func (s *shop) close() {
	for _, r := range slices.Concat(s.gateways, s.carts, s.auths) {
		r.kill()
	}
	s.stopRedis()
}

// awaitOpen returns nil once all gateways are ready, and the door knows it.
func (s *shop) awaitOpen() error {
	for deadline := time.Now().Add(startBound); !s.door.open(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			return errors.New("the shop does not open")
		}
	}
	return nil
}

func (s *shop) startRedis(t *testing.T, d double) {
	t.Helper()
	if d.policy == "" {
		server := redistest.Start(t, d.redis...)
		s.stopRedis, s.redis, s.wire = server.Kill, server.Client(t), newWire(t, "tcp", server.Addr)
		return
	}
	dir, err := os.MkdirTemp("", "defects")
	if err != nil {
		t.Fatal(err)
	}
	s.crash = &rediscrash.Server{Dir: dir, Policy: d.policy}
	s.stopRedis = s.crash.Kill
	t.Cleanup(func() {
		s.crash.Kill()
		_ = os.RemoveAll(dir)
	})
	if err := s.crash.Start(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	s.wire = newWire(t, "unix", s.crash.Socket())
}

// replicas starts n of a role.
func (s *shop) replicas(t *testing.T, role string, n int, open func(name string) (chassis.Service, error)) []*replica {
	t.Helper()
	var all []*replica
	for i := range n {
		r := &replica{name: fmt.Sprintf("%s-%d", role, i+1), open: open}
		if err := r.settle(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(r.kill)
		all = append(all, r)
	}
	return all
}

func addrs(replicas []*replica) []string {
	var all []string
	for _, r := range replicas {
		all = append(all, r.addr)
	}
	return all
}

func load[T any](name string, more ...string) (T, error) {
	return config.Load[T](append(append([]string{"COATCHECK_INSTANCE=" + name}, settings.base...), more...))
}

var nowhere = slog.New(slog.DiscardHandler)

func (s *shop) auth(t *testing.T, way net.Listener, d double) func(string) (chassis.Service, error) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.keys, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return func(name string) (chassis.Service, error) {
		set, err := load[auth.Settings](name, append(settings.auth,
			"COATCHECK_SIGNING_KEYS_FILE="+s.keys, "COATCHECK_REDIS_ADDRS="+way.Addr().String())...)
		if err != nil {
			return chassis.Service{}, err
		}
		reg := chassis.NewRegistry()
		rdb := redisconn.Open(set.Redis, reg, nil)
		var users auth.Store = auth.NewRedisStore(rdb)
		if d.users != nil {
			users = d.users(users, rdb)
		}
		service, err := auth.New(set, users, time.Now)
		if err != nil {
			return chassis.Service{}, err
		}
		server := rpc.NewServer(nowhere, reg, name)
		authv1.RegisterAuthServiceServer(server, service)
		following, stop := context.WithCancel(context.Background())
		server.OnDrain = stop
		go service.Follow(following)
		go config.FollowFile(following, s.keys, set.SigningKeys.Reveal(), window, func(keys string) {
			if err := service.ReloadKeys(keys); err != nil {
				t.Errorf("the signing keys that came: %v", err)
			}
		})
		return chassis.Service{
			Settings: set.Settings, Log: nowhere, Registry: reg, Part: server,
			Ready: func(ctx context.Context) error { return redisconn.Ping(ctx, rdb) },
			Close: func() { _ = rdb.Close() },
		}, nil
	}
}

func (s *shop) cart(t *testing.T, tr trial, d double) func(string) (chassis.Service, error) {
	t.Helper()
	catalogue, err := cart.ParseCatalogue(products())
	if err != nil {
		t.Fatal(err)
	}
	return func(name string) (chassis.Service, error) {
		toAuth := strings.Join(addrs(s.auths), ",")
		set, err := load[cart.Settings](name, append(settings.cart, "COATCHECK_AUTH_ADDR="+toAuth, "COATCHECK_REDIS_ADDRS="+s.wire.Addr().String())...)
		if err != nil {
			return chassis.Service{}, err
		}
		reg := chassis.NewRegistry()
		var rdb redis.UniversalClient
		if d.client == nil {
			rdb = redisconn.Open(set.Redis, reg, nil)
		} else {
			rdb = d.client(s.wire.Addr().String())
		}
		store := redisstore.New(rdb, redisstore.Settings{
			GuestCartLife: set.GuestCartLife, UserCartLife: set.UserCartLife, OrderLife: set.OrderLife,
			Window: cmp.Or(d.window, set.IdempotencyWindow), Limits: set.Limits(), Now: time.Now,
		})
		var kept stock = store
		if d.store != nil {
			kept = d.store(store, rdb)
		}
		kept = slow{kept, tr.slow, &s.trading}
		auth, err := rpc.Dial(toAuth, rpc.NewClientMetrics(reg))
		if err != nil {
			return chassis.Service{}, err
		}
		keyring := cart.NewKeyring(authv1.NewAuthServiceClient(auth), time.Now)
		server := rpc.NewServer(nowhere, reg, name, grpc.ChainUnaryInterceptor(keyring.Check))
		service := cart.NewServer(kept, kept, catalogue, set.Limits(), time.Now)
		service.TakeBatches(slowBatches{store, tr.slow, &s.trading}, keyring, server)
		cartv1.RegisterCartServiceServer(server, service)
		return chassis.Service{
			Settings: set.Settings, Log: nowhere, Registry: reg, Part: server,
			Ready: func(ctx context.Context) error {
				return errors.Join(redisconn.Ping(ctx, rdb), keyring.Ready(ctx))
			},
			Close: func() {
				_ = auth.Close()
				_ = rdb.Close()
			},
		}, nil
	}
}

// slow is a store that takes its time while there is traffic.
type slow struct {
	stock
	by   time.Duration
	when *atomic.Bool
}

func (s slow) wait() {
	if s.when.Load() {
		time.Sleep(s.by)
	}
}

func (s slow) Get(ctx context.Context, owner cart.Owner) (cart.Cart, error) {
	s.wait()
	return s.stock.Get(ctx, owner)
}

func (s slow) Change(ctx context.Context, owner cart.Owner, c cart.Change) (cart.Result, error) {
	s.wait()
	return s.stock.Change(ctx, owner, c)
}

// slowBatches is slow for batches.
type slowBatches struct {
	cart.Batcher
	by   time.Duration
	when *atomic.Bool
}

func (s slowBatches) Batch(ctx context.Context, steps []*cart.Step) {
	if s.when.Load() {
		time.Sleep(s.by)
	}
	s.Batcher.Batch(ctx, steps)
}

func (s *shop) gateway(tr trial, d double) func(string) (chassis.Service, error) {
	return func(name string) (chassis.Service, error) {
		toAuth, toCart := strings.Join(addrs(s.auths), ","), strings.Join(addrs(s.carts), ",")
		set, err := load[gateway.Settings](name, append(settings.gateway, "COATCHECK_AUTH_ADDR="+toAuth, "COATCHECK_CART_ADDR="+toCart,
			fmt.Sprint("COATCHECK_CART_BATCHES=", tr.batches))...)
		if err != nil {
			return chassis.Service{}, err
		}
		if d.asks {
			set.TicketCache = 0
		}
		reg := chassis.NewRegistry()
		metrics := rpc.NewClientMetrics(reg)
		auth, err := rpc.Dial(toAuth, metrics)
		if err != nil {
			return chassis.Service{}, err
		}
		dial := d.dial
		if dial == nil {
			options := gateway.Coalesce(set, reg)
			if d.batch != nil {
				options = append(options, grpc.WithChainUnaryInterceptor(d.batch))
			}
			options = append(options, grpc.WithChainUnaryInterceptor(s.calls.loseBatch))
			dial = func([]string) (*grpc.ClientConn, error) { return rpc.Dial(toCart, metrics, options...) }
		}
		cart, err := dial(addrs(s.carts))
		if err != nil {
			return chassis.Service{}, err
		}
		authCalls, err := before(auth, s.auths[0].addr, s.hears(d), d.auth)
		if err != nil {
			return chassis.Service{}, err
		}
		cartCalls, err := before(cart, s.carts[0].addr, nil, d.cart, s.calls.strike)
		if err != nil {
			return chassis.Service{}, err
		}
		g, err := gateway.New(set, nowhere, reg, cartCalls, authCalls)
		if err != nil {
			return chassis.Service{}, err
		}
		var part chassis.Part = gateway.NewServer(g)
		if d.gateway != nil {
			part = d.gateway(part)
		}
		return chassis.Service{
			Settings: set.Base(), Log: nowhere, Registry: reg, Part: part,
			Ready: func(ctx context.Context) error {
				for _, conn := range []*grpc.ClientConn{auth, cart} {
					if err := rpc.AwaitReady(ctx, conn); err != nil {
						return err
					}
				}
				return g.Ready(ctx)
			},
			Close: func() {
				for _, conn := range []*grpc.ClientConn{authCalls, cartCalls, auth, cart} {
					_ = conn.Close()
				}
			},
		}, nil
	}
}

// hears is what becomes of the news that gateways hear: while it is silent, none
// comes.
func (s *shop) hears(d double) func(grpc.ClientStream) grpc.ClientStream {
	return func(stream grpc.ClientStream) grpc.ClientStream {
		stream = silenced{stream, &s.silent}
		if d.news != nil {
			stream = d.news(stream)
		}
		return stream
	}
}

// silenced is a stream whose words come when it is silent no more.
type silenced struct {
	grpc.ClientStream
	silent *atomic.Bool
}

func (s silenced) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	for s.silent.Load() && s.Context().Err() == nil {
		time.Sleep(time.Millisecond)
	}
	return errors.Join(err, s.Context().Err())
}

// before is conn with interceptors before each call, and around each stream, if
// that is not nil. A gateway takes nothing but
// a connection of its own, so there is a second one, which no call goes through.
func before(conn *grpc.ClientConn, addr string, around func(grpc.ClientStream) grpc.ClientStream, interceptors ...grpc.UnaryClientInterceptor) (*grpc.ClientConn, error) {
	var chain []grpc.UnaryClientInterceptor
	for _, i := range interceptors {
		if i != nil {
			chain = append(chain, i)
		}
	}
	chain = append(chain, func(ctx context.Context, method string, req, reply any, _ *grpc.ClientConn, _ grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		return conn.Invoke(ctx, method, req, reply, opts...)
	})
	return grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithIdleTimeout(0), grpc.WithChainUnaryInterceptor(chain...),
		grpc.WithStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, _ *grpc.ClientConn, method string, _ grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			stream, err := conn.NewStream(ctx, desc, method, opts...)
			if err == nil && around != nil {
				stream = around(stream)
			}
			return stream, err
		}))
}

// products are enough that no shopper runs out of lines that are in no cart yet.
func products() []byte {
	type product struct {
		SKU       string `json:"sku"`
		Name      string `json:"name"`
		UnitPrice int64  `json:"unit_price"`
	}
	var all []product
	for i := range 200 {
		all = append(all, product{fmt.Sprintf("coat-%03d", i+1), "Coat", 100})
	}
	text, _ := json.Marshal(map[string]any{"currency": "EUR", "products": all})
	return text
}
