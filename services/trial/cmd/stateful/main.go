// Command stateful serves the shop from one process that keeps the state itself.
// It is no part of the shop: it is what the shop is compared with.
package main

import (
	"context"
	"log/slog"
	"os"

	"coatcheck/chassis"
	"coatcheck/chassis/config"
	"coatcheck/trial/stateful"
)

func main() {
	settings := config.MustLoad[stateful.Settings]()
	log := chassis.NewLogger("stateful", settings.Settings)
	err := run(settings, log)
	if err != nil {
		log.Error("failed", "err", err)
		os.Exit(1)
	}
}

func run(settings stateful.Settings, log *slog.Logger) error {
	service, err := stateful.New(settings, log, chassis.NewRegistry())
	if err != nil {
		return err
	}
	return chassis.Run(context.Background(), service)
}
