package main

import (
	"context"
	"flag"
	"os"
	"path/filepath"

	"coatcheck/trial/compare"
)

func compareFlags(set *flag.FlagSet) func(context.Context, []string) error {
	bin := set.String("bin", folder(), "folder of the binaries gateway, auth, cart and stateful")
	dir := set.String("dir", filepath.Join(".run", "compare"), "folder for compare.json and compare.html")
	return func(ctx context.Context, _ []string) error {
		return compare.Run(ctx, compare.Options{Bin: *bin, Dir: *dir}, os.Stdout)
	}
}
