package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"text/tabwriter"

	"coatcheck/trial/promise"
)

func promiseFlags(set *flag.FlagSet) func(context.Context, []string) error {
	usage := set.Usage
	set.Usage = func() {
		usage()
		for _, p := range promise.All() {
			fmt.Fprintf(set.Output(), "  %-16s %s\n", p.Name, p.About)
		}
	}
	target := set.String("target", "http://127.0.0.1:8080", "URL of the shop")
	return func(ctx context.Context, names []string) error { return promises(ctx, *target, names) }
}

// promises tries those that are named, or all, and prints a line each.
func promises(ctx context.Context, target string, names []string) error {
	all := promise.All()
	for _, name := range names {
		if !slices.ContainsFunc(all, func(p promise.Promise) bool { return p.Name == name }) {
			return fmt.Errorf("there is no promise %q: trial promise -h lists them", name)
		}
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	tried, broken := 0, 0
	for _, p := range all {
		if len(names) > 0 && !slices.Contains(names, p.Name) {
			continue
		}
		err := p.Try(ctx, target, nil)
		if ctx.Err() != nil {
			return errors.New("broken off")
		}
		if tried++; err != nil {
			broken++
			fmt.Fprintf(table, "BROKEN\t%s\t%s: %v\n", p.Name, p.About, err)
			continue
		}
		fmt.Fprintf(table, "kept\t%s\t%s\n", p.Name, p.About)
	}
	_ = table.Flush()
	if broken > 0 {
		fmt.Printf("FAIL  %d of %d promises are broken\n", broken, tried)
		return errFailed
	}
	fmt.Printf("PASS  %d promises are kept\n", tried)
	return nil
}
