// Command gateway serves the shop's HTTP surface.
package main

import (
	"context"
	"log/slog"
	"os"
	"slices"

	"coatcheck/chassis"
	"coatcheck/chassis/config"
	"coatcheck/chassis/rpc"
	"coatcheck/chassis/tracing"
	"coatcheck/gateway"
)

func main() {
	settings := config.MustLoad[gateway.Settings]()
	log := chassis.NewLogger("gateway", settings.Settings)
	err := run(settings, log)
	if err != nil {
		log.Error("failed", "err", err)
		os.Exit(1)
	}
}

func run(settings gateway.Settings, log *slog.Logger) error {
	traces, err := tracing.Start(context.Background(), log, "gateway", settings.InstanceName())
	if err != nil {
		return err
	}
	registry := chassis.NewRegistry()
	following, stop := context.WithCancel(context.Background())
	defer stop()
	secured, err := rpc.OpenTLS(following, settings.TLS, log)
	if err != nil {
		return err
	}
	calls, options := rpc.NewClientMetrics(registry), append(traces.DialOptions(), secured.DialOptions()...)
	cart, err := rpc.Dial(settings.CartAddr, calls, slices.Concat(options, gateway.Coalesce(settings, registry))...)
	if err != nil {
		return err
	}
	auth, err := rpc.Dial(settings.AuthAddr, calls, append(options, rpc.Announced())...)
	if err != nil {
		return err
	}
	g, err := gateway.New(settings, log, registry, cart, auth)
	if err != nil {
		return err
	}
	return chassis.Run(context.Background(), chassis.Service{
		Name:     "gateway",
		Settings: settings.Base(),
		Log:      log,
		Registry: registry,
		Addr:     settings.HTTPAddr,
		Part:     gateway.NewServer(g, traces.HTTP),
		Ready:    g.Ready,
		Close: func() {
			_ = cart.Close()
			_ = auth.Close()
			traces.Close()
		},
		GCPercent: 400,
	})
}
