// Command auth runs one replica of the auth service; auth rotate-keys changes the
// key that signs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"time"

	"google.golang.org/grpc"

	"coatcheck/auth"
	"coatcheck/chassis"
	"coatcheck/chassis/config"
	"coatcheck/chassis/redisconn"
	"coatcheck/chassis/rpc"
	"coatcheck/chassis/tracing"
	authv1 "coatcheck/proto/coatcheck/auth/v1"
)

func main() {
	if len(os.Args) > 1 {
		if os.Args[1] != "rotate-keys" {
			fmt.Fprintln(os.Stderr, "usage: auth, or auth rotate-keys -h")
			os.Exit(2)
		}
		err := rotate(context.Background(), os.Args[2:], os.Environ(), os.Stdout)
		if err != nil && !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "auth rotate-keys:", err)
			os.Exit(1)
		}
		return
	}
	serve()
}

func serve() {
	settings := config.MustLoad[auth.Settings]()
	log := chassis.NewLogger("auth", settings.Settings)
	traces, err := tracing.Start(context.Background(), log, "auth", settings.InstanceName())
	if err != nil {
		log.Error("cannot start", "err", err)
		os.Exit(1)
	}
	registry := chassis.NewRegistry()
	following, stop := context.WithCancel(context.Background())
	secured, err := rpc.OpenTLS(following, settings.TLS, log)
	if err != nil {
		log.Error("cannot start", "err", err)
		os.Exit(1)
	}
	certificates, err := settings.Redis.Certificates(following, log)
	if err != nil {
		log.Error("cannot start", "err", err)
		os.Exit(1)
	}
	rdb := redisconn.Open(settings.Redis, registry, certificates)
	redisconn.Trace(rdb, traces.Tracer())
	service, err := auth.New(settings, auth.NewRedisStore(rdb), time.Now)
	if err != nil {
		log.Error("cannot start", "err", err)
		os.Exit(1)
	}
	service.Show(registry)
	server := rpc.NewServer(log, registry, settings.InstanceName(),
		slices.Concat(traces.ServerOptions(), secured.ServerOptions(settings.TLSClients),
			secured.Limit(settings.TLSKeyReaders, authv1.AuthService_ListSigningKeys_FullMethodName), []grpc.ServerOption{grpc.ChainUnaryInterceptor(auth.Measured(registry))})...)
	authv1.RegisterAuthServiceServer(server, service)
	server.OnDrain = stop
	go service.Follow(following)
	go config.FollowFile(following, os.Getenv(config.Prefix+"SIGNING_KEYS_FILE"), settings.SigningKeys.Reveal(), time.Second, func(keys string) {
		err := service.ReloadKeys(keys)
		if err != nil {
			log.Error("the signing keys that came are not taken", "err", err)
			return
		}
		log.Info("signing keys taken")
	})

	err = chassis.Run(context.Background(), chassis.Service{
		Name:     "auth",
		Settings: settings.Settings,
		Log:      log,
		Registry: registry,
		Addr:     settings.Addr,
		Part:     server,
		Ready:    func(ctx context.Context) error { return redisconn.Ping(ctx, rdb) },
		Close: func() {
			_ = rdb.Close()
			traces.Close()
		},
	})
	if err != nil {
		log.Error("stopped", "err", err)
		os.Exit(1)
	}
}
