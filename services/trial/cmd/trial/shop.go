package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"

	"coatcheck/trial/local"
)

// shopFlags are those of every command about one shop. The options are complete
// once they are parsed and finish was called.
func shopFlags(set *flag.FlagSet) (o *local.Options, finish func() error) {
	o = &local.Options{}
	set.IntVar(&o.Port, "port", 8080, "public port on 127.0.0.1")
	set.StringVar(&o.State, "state", "", "folder of the shop's data, keys and logs (default .run/PORT beside the binaries' folder)")
	set.StringVar(&o.Bin, "bin", folder(), "folder of the binaries gateway, auth and cart")
	set.StringVar(&o.Watch, "watch", "", "with up: run a Prometheus beside it, with the rules in this folder, such as helm/coatcheck")
	return o, func() error {
		if o.Port < 0 || o.Port > 65535 {
			return fmt.Errorf("-port %d: must be 0 to 65535", o.Port)
		}
		if o.State == "" {
			o.State = filepath.Join(filepath.Dir(folder()), ".run", strconv.Itoa(o.Port))
		}
		return nil
	}
}

// withShop makes a command of what is to be done with a shop's options.
func withShop(set *flag.FlagSet, do func(context.Context, local.Options) error) func(context.Context, []string) error {
	o, finish := shopFlags(set)
	return func(ctx context.Context, _ []string) error {
		if err := finish(); err != nil {
			return err
		}
		return do(ctx, *o)
	}
}

func upFlags(set *flag.FlagSet) func(context.Context, []string) error {
	return withShop(set, func(ctx context.Context, o local.Options) error {
		program, err := os.Executable()
		if err != nil {
			return fmt.Errorf("finding this program: %w", err)
		}
		return local.Up(ctx, program, o, os.Stdout)
	})
}

func superviseFlags(set *flag.FlagSet) func(context.Context, []string) error {
	return withShop(set, func(ctx context.Context, o local.Options) error {
		o.Log = slog.New(slog.NewJSONHandler(os.Stderr, nil))
		return local.Supervise(ctx, o)
	})
}

func downFlags(set *flag.FlagSet) func(context.Context, []string) error {
	return withShop(set, func(_ context.Context, o local.Options) error { return local.Down(o.State, os.Stdout) })
}

func psFlags(set *flag.FlagSet) func(context.Context, []string) error {
	return withShop(set, func(ctx context.Context, o local.Options) error { return local.List(ctx, o.State, os.Stdout) })
}
