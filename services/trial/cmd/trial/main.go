// Command trial runs a whole shop on this machine, and shows what it stands:
//
//	trial run                 traffic and faults, then a verdict and a report
//	trial watch [WHERE]       shows one that runs
//	trial scenarios           which faults there are to choose from
//	trial check FILE          judges a history again
//	trial compare             measures five ways to keep state
//	trial bench               measures what a request costs
//	trial redis-crash         what a crash of the machine costs Redis
//	trial promise [NAME...]   tries what a shop that runs promises its customers
//	trial up | down | ps      open a shop, close it, list its processes
//
// It expects the binaries gateway, auth and cart (for compare stateful too, for
// bench reference) in its own folder.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// The exit codes beside 0.
const (
	exitFailed       = 1 // also of an error
	exitUsage        = 2
	exitInconclusive = 3
)

var (
	errFailed       = errors.New("the trial failed") // the verdict, which is printed
	errInconclusive = errors.New("the trial proved too little")
)

// command is one of trial's. It defines its flags and returns what is to be done
// once they are parsed.
type command struct {
	about string
	args  string // that it takes beside flags; "[NAME]" is one at most, "[NAME...]" any number
	flags func(*flag.FlagSet) func(ctx context.Context, args []string) error
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := dispatch(ctx, os.Args[1:])
	switch {
	case err == nil:
	case errors.Is(err, errInconclusive):
		os.Exit(exitInconclusive)
	case errors.Is(err, errFailed):
		os.Exit(exitFailed)
	default:
		fmt.Fprintln(os.Stderr, "trial:", err)
		os.Exit(exitFailed)
	}
}

func commands() map[string]command {
	return map[string]command{
		"run":         {"traffic and faults, then a verdict and a report", "", runFlags},
		"watch":       {"show a trial that runs: the one there is, or the one at WHERE, a URL or a folder", "[WHERE]", watchFlags},
		"scenarios":   {"list the scenarios of run", "", scenarioFlags},
		"check":       {"judge a history again", "FILE", checkFlags},
		"compare":     {"measure five ways to keep state", "", compareFlags},
		"bench":       {"measure what a request costs, beside servers with fewer parts", "", benchFlags},
		"redis-crash": {"count what Redis loses when the machine crashes under it", "", crashFlags},
		"up":          {"open a shop on this machine and return when it serves", "", upFlags},
		"down":        {"close it; its data stay", "", downFlags},
		"ps":          {"list its processes", "", psFlags},
		"promise":     {"try what a shop that runs promises", "[NAME...]", promiseFlags},
		"supervise":   {"", "", superviseFlags}, // what up starts
	}
}

func dispatch(ctx context.Context, args []string) error {
	all := commands()
	if len(args) == 0 {
		usage(all)
	}
	c, ok := all[args[0]]
	if !ok {
		usage(all)
	}
	set := flag.NewFlagSet("trial "+args[0], flag.ExitOnError)
	set.Usage = func() {
		fmt.Fprintf(set.Output(), "usage: trial %s\n", strings.TrimSpace(args[0]+" [flags] "+c.args))
		set.PrintDefaults()
	}
	do := c.flags(set)
	_ = set.Parse(args[1:])
	if n, named := set.NArg(), len(strings.Fields(c.args)); n != named && !strings.HasSuffix(c.args, "...]") && !(n == 0 && strings.HasPrefix(c.args, "[")) {
		set.Usage()
		os.Exit(exitUsage)
	}
	return do(ctx, set.Args())
}

func usage(all map[string]command) {
	fmt.Fprintln(os.Stderr, "usage: trial COMMAND [flags]; trial COMMAND -h lists the flags")
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if all[name].about != "" {
			fmt.Fprintf(os.Stderr, "  %-12s %s\n", name, all[name].about)
		}
	}
	os.Exit(exitUsage)
}

// folder is this program's own, or "." if it can't be told.
func folder() string {
	program, err := os.Executable()
	if err != nil {
		return "."
	}
	return filepath.Dir(program)
}
