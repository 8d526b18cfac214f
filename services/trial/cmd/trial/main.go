// Command trial runs a whole shop on this machine and shows what it stands:
//
//	trial up | down | ps      open a shop, close it, list its processes
//	trial demo                a tour on a shop of its own, with a verdict
//
// It expects the binaries gateway, auth and cart in its own folder.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"

	"coatcheck/trial/local"
	"coatcheck/trial/tour"
)

const usage = `usage: trial COMMAND [flags]

  up      open a shop on this machine and return when it serves
  down    close it; its data stay
  ps      list its processes
  demo    a tour on a shop of its own: kills replicas, counts carts, says PASS or FAIL

flags: -port N (8080; demo: any free one), -state FOLDER (.run/PORT), -bin FOLDER (trial's own)
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		if !errors.Is(err, errFailed) {
			fmt.Fprintln(os.Stderr, "trial:", err)
		}
		os.Exit(1)
	}
}

// errFailed says that the verdict, which is printed, is FAIL.
var errFailed = errors.New("the trial failed")

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program's folder: %w", err)
	}
	command := args[0]
	flags := flag.NewFlagSet("trial "+command, flag.ExitOnError)
	port := flags.Int("port", 0, "public port on 127.0.0.1 (default 8080; demo: any free one)")
	state := flags.String("state", "", "folder of the shop's data, keys and logs (default .run/PORT beside the binaries' folder; demo: a temporary one)")
	bin := flags.String("bin", filepath.Dir(program), "folder of the binaries gateway, auth and cart")
	_ = flags.Parse(args[1:])
	if flags.NArg() > 0 || *port < 0 || *port > 65535 {
		flags.Usage()
		os.Exit(2)
	}
	if command == "demo" {
		return demo(ctx, local.Options{Port: *port, State: *state, Bin: *bin})
	}
	if *port == 0 {
		*port = 8080
	}
	if *state == "" {
		*state = filepath.Join(filepath.Dir(filepath.Dir(program)), ".run", strconv.Itoa(*port))
	}
	options := local.Options{Port: *port, State: *state, Bin: *bin}
	switch command {
	case "up":
		return local.Up(ctx, program, options, os.Stdout)
	case "supervise":
		options.Log = slog.New(slog.NewJSONHandler(os.Stderr, nil))
		return local.Supervise(ctx, options)
	case "down":
		return local.Down(*state, os.Stdout)
	case "ps":
		return local.List(ctx, *state, os.Stdout)
	default:
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
		return nil
	}
}

func demo(ctx context.Context, options local.Options) error {
	temporary := options.State == ""
	if temporary {
		state, err := os.MkdirTemp("", "coatcheck-demo-")
		if err != nil {
			return err
		}
		options.State = state
	}
	shop, err := local.Start(options)
	if err != nil {
		if temporary {
			_ = os.RemoveAll(options.State)
		}
		return err
	}
	defer shop.Close()
	pass, err := tour.Run(ctx, shop, tour.Options{URL: "http://" + shop.Address(), Out: os.Stdout})
	switch {
	case err != nil:
		return fmt.Errorf("%w\n  logs: %s", err, filepath.Join(options.State, "log"))
	case !pass:
		fmt.Fprintf(os.Stderr, "trial: the logs are in %s\n", filepath.Join(options.State, "log"))
		return errFailed
	}
	if temporary {
		shop.Close()
		_ = os.RemoveAll(options.State)
	}
	return nil
}
