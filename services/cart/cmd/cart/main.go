// Command cart is the cart service.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"coatcheck/cart"
	"coatcheck/cart/redisstore"
	"coatcheck/chassis"
	"coatcheck/chassis/config"
	"coatcheck/chassis/redisconn"
	"coatcheck/chassis/rpc"
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
	reg := chassis.NewRegistry()
	rdb := redisconn.Open(s.Redis, reg)
	store := redisstore.New(rdb, redisstore.Settings{
		GuestCartLife: s.GuestCartLife,
		UserCartLife:  s.UserCartLife,
		OrderLife:     s.OrderLife,
		Window:        s.IdempotencyWindow,
		Limits:        s.Limits(),
		Now:           time.Now,
	})
	server := rpc.NewServer(log, reg, s.InstanceName())
	cartv1.RegisterCartServiceServer(server, cart.NewServer(store, store, catalogue, s.Limits(), time.Now))
	return chassis.Run(context.Background(), chassis.Service{
		Name:     "cart",
		Settings: s.Settings,
		Log:      log,
		Registry: reg,
		Addr:     s.Addr,
		Part:     server,
		Ready:    func(ctx context.Context) error { return redisconn.Ping(ctx, rdb) },
		Close:    func() { _ = rdb.Close() },
	})
}
