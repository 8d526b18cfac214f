package main

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"

	"coatcheck/trial/bench"
)

func benchFlags(set *flag.FlagSet) func(context.Context, []string) error {
	o := bench.Options{}
	set.StringVar(&o.Bin, "bin", folder(), "folder of the binaries gateway, auth, cart and reference")
	set.StringVar(&o.Dir, "dir", filepath.Join(".run", "bench"), "folder for bench.json and bench.html")
	set.IntVar(&o.Pairs, "pairs", bench.DefaultPairs, "pairs of each comparison; fewer than 10 draw no conclusion")
	set.DurationVar(&o.Block, "block", bench.DefaultBlock, "how long each side of a pair is measured")
	only := set.String("only", "", "parts to run, with commas:\n"+strings.Join(bench.Parts(), "\n"))
	short := set.Bool("short", false, "two minutes, and fail on what neighbours of this machine can't move")
	set.BoolVar(&o.Counts, "counts", false, "with -short: leave out adds a second, which neighbours of this machine move")
	capacity := set.String("capacity", "", "measure nothing: write what the last run's figures lead to into this file")
	return func(ctx context.Context, _ []string) error {
		if *only != "" {
			o.Only = strings.Split(*only, ",")
		}
		switch {
		case *capacity != "":
			return bench.WriteCapacity(o.Dir, *capacity)
		case *short:
			return bench.Gate(ctx, o, os.Stdout)
		}
		return bench.Run(ctx, o, os.Stdout)
	}
}
