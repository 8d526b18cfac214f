// Command cart is the cart service.
package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"google.golang.org/grpc"

	"coatcheck/cart"
	"coatcheck/cart/redisstore"
	"coatcheck/chassis"
	"coatcheck/chassis/config"
	"coatcheck/chassis/redisconn"
	"coatcheck/chassis/rpc"
	"coatcheck/chassis/tracing"
	authv1 "coatcheck/proto/coatcheck/auth/v1"
	cartv1 "coatcheck/proto/coatcheck/cart/v1"
)

func main() {
	settings := config.MustLoad[cart.Settings]()
	if err := run(settings); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(s cart.Settings) error {
	catalogue, err := cart.LoadCatalogue(s.CatalogueFile)
	if err != nil {
		return err
	}
	log := chassis.NewLogger("cart", s.Settings)
	traces, err := tracing.Start(context.Background(), log, "cart", s.InstanceName())
	if err != nil {
		return err
	}
	reg := chassis.NewRegistry()
	following, stop := context.WithCancel(context.Background())
	defer stop()
	secured, err := rpc.OpenTLS(following, s.TLS, log)
	if err != nil {
		return err
	}
	certificates, err := s.Redis.Certificates(following, log)
	if err != nil {
		return err
	}
	rdb := redisconn.Open(s.Redis, reg, certificates)
	redisconn.Trace(rdb, traces.Tracer())
	store := redisstore.New(rdb, redisstore.Settings{
		GuestCartLife: s.GuestCartLife,
		UserCartLife:  s.UserCartLife,
		OrderLife:     s.OrderLife,
		Window:        s.IdempotencyWindow,
		Limits:        s.Limits(),
		Now:           time.Now,
	})
	auth, err := rpc.Dial(s.AuthAddr, rpc.NewClientMetrics(reg), append(traces.DialOptions(), secured.DialOptions()...)...)
	if err != nil {
		return err
	}
	keyring := cart.NewKeyring(authv1.NewAuthServiceClient(auth), time.Now)
	go keyring.Follow(following)
	server := rpc.NewServer(log, reg, s.InstanceName(), slices.Concat(
		traces.ServerOptions(), secured.ServerOptions(s.TLSClients), []grpc.ServerOption{grpc.ChainUnaryInterceptor(keyring.Check)})...)
	measured := cart.Measured(store, reg)
	service := cart.NewServer(measured, store, catalogue, s.Limits(), time.Now)
	service.TakeBatches(measured, keyring, server)
	cartv1.RegisterCartServiceServer(server, service)
	return chassis.Run(context.Background(), chassis.Service{
		Name:     "cart",
		Settings: s.Settings,
		Log:      log,
		Registry: reg,
		Addr:     s.Addr,
		Part:     server,
		Ready: func(ctx context.Context) error {
			if err := redisconn.Ping(ctx, rdb); err != nil {
				return err
			}
			return keyring.Ready(ctx)
		},
		Close: func() {
			_ = auth.Close()
			_ = rdb.Close()
			traces.Close()
		},
		GCPercent: 400,
		// What it does from one answer of Redis to the next is short.
		Processors: 1,
	})
}
