package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"coatcheck/chassis"
	"coatcheck/trial/fault"
	"coatcheck/trial/history"
	"coatcheck/trial/report"
	"coatcheck/trial/run"
)

func runFlags(set *flag.FlagSet) func(context.Context, []string) error {
	o := run.Options{Out: os.Stdout}
	scenario := set.String("scenario", "", "which faults (trial scenarios lists them; default demo, with -target none)")
	set.Uint64Var(&o.Seed, "seed", 0, "repeats a trial; 0 draws one")
	set.Float64Var(&o.Rate, "rate", 0, "requests a second (default: the scenario's)")
	set.DurationVar(&o.Length, "length", 0, "of the traffic (default: the scenario's)")
	set.StringVar(&o.Dir, "dir", "", "folder for the history, the report and the shop's logs (default .run/trial/SCENARIO beside the binaries' folder); what an earlier trial left there is replaced")
	set.StringVar(&o.Bin, "bin", folder(), "folder of the binaries gateway, auth and cart")
	set.StringVar(&o.Watch, "watch", "", "run a Prometheus beside the shop, with the rules in this folder, such as helm/coatcheck, and draw its dashboards into DIR/dashboards")
	set.StringVar(&o.Listen, "listen", "127.0.0.1:0", "where the trial is shown while it runs, as a page and as metrics; port 0 is any free one, \"\" is nowhere. trial watch finds it")
	set.StringVar(&o.Target, "target", "", "URL of a shop that runs already, instead of one of the trial's own")
	set.StringVar(&o.Cluster.Namespace, "namespace", "", "with -target and a scenario for a cluster: the shop's namespace; kubectl finds the cluster as it always does")
	set.StringVar(&o.Cluster.Kubectl, "kubectl", "kubectl", "which kubectl")
	set.StringVar(&o.Cluster.NodeExec, "node-exec", "", "a line for sh that runs the command behind it on the node NODE, such as \"docker exec NODE\"; scenarios that kill in containers need it")
	set.StringVar(&o.Cluster.NodeStop, "node-stop", "", "a line for sh that stops the node NODE")
	set.StringVar(&o.Cluster.NodeStart, "node-start", "", "a line for sh that starts it again, and returns when its pods can be reached")
	set.StringVar(&o.Command, "fault-command", "", "with -target: a line for sh that makes a fault, returns when the shop is whole again, and prints what it did")
	class := set.String("fault-class", string(history.Gateway), "what clients may notice of it: hidden (nothing), gateway (an attempt may fail), outage (a request may fail)")
	set.DurationVar(&o.Every, "fault-every", 3*time.Second, "from the end of one fault to the next")
	return func(ctx context.Context, _ []string) error {
		o.Class = history.Class(*class)
		if err := complete(&o, *scenario); err != nil {
			return err
		}
		fmt.Printf("trial %s, seed %d: %v of traffic, %g requests a second\n", o.Scenario.Name, o.Seed, o.Length, o.Rate)
		_ = chassis.SlackTimers(chassis.TimerSlack) // as the services do, on the same machine
		return judged(run.Run(ctx, o))
	}
}

// complete fills in what was not said, and finds what contradicts itself.
func complete(o *run.Options, scenario string) error {
	switch {
	case o.Target == "" && o.Command != "":
		return errors.New("-fault-command is for -target; a shop of the trial's own has -scenario")
	case !slices.Contains([]history.Class{history.Hidden, history.Gateway, history.Outage}, o.Class):
		return fmt.Errorf("-fault-class %q: must be hidden, gateway or outage", o.Class)
	case o.Target != "" && o.Watch != "":
		return errors.New("-watch is for a shop of the trial's own, not for -target")
	case o.Rate < 0 || o.Length < 0 || o.Every < 0:
		return errors.New("-rate, -length and -fault-every must not be negative")
	case scenario == "" && o.Target != "":
		scenario = "none"
	case scenario == "":
		scenario = "demo"
	}
	s, ok := fault.Named(scenario)
	if !ok {
		return fmt.Errorf("there is no scenario %q: trial scenarios lists them", scenario)
	}
	switch {
	case s.Cluster && (o.Target == "" || o.Cluster.Namespace == ""):
		return fmt.Errorf("the scenario %s is for a shop on a cluster: say -target and -namespace", scenario)
	case s.Cluster && o.Command != "":
		return errors.New("-fault-command or a -scenario for a cluster, not both")
	case !s.Cluster && o.Target != "" && scenario != "none":
		return fmt.Errorf("the scenario %s is for a shop of the trial's own; -target takes one for a cluster, or -fault-command", scenario)
	case !s.Cluster && o.Cluster.Namespace != "":
		return errors.New("-namespace is for a scenario for a cluster")
	}
	o.Scenario = s
	if o.Length == 0 {
		o.Length = s.Length
	}
	if o.Rate == 0 {
		o.Rate = s.Rate
	}
	if o.Seed == 0 {
		o.Seed = rand.Uint64()>>32 + 1 // short enough to type
	}
	if o.Dir == "" {
		o.Dir = filepath.Join(filepath.Dir(folder()), ".run", "trial", scenario)
	}
	return nil
}

func judged(v run.Verdict, err error) error {
	switch {
	case err != nil:
		return err
	case v == report.Fail:
		return errFailed
	case v == report.Inconclusive:
		return errInconclusive
	}
	return nil
}

func scenarioFlags(*flag.FlagSet) func(context.Context, []string) error {
	return func(context.Context, []string) error {
		for _, s := range fault.Scenarios() {
			fmt.Printf("%-10s %s (%v, %g requests a second)\n", s.Name, s.About, s.Length, s.Rate)
		}
		return nil
	}
}

func checkFlags(*flag.FlagSet) func(context.Context, []string) error {
	return func(_ context.Context, args []string) error { return judged(run.Judge(args[0], os.Stdout)) }
}
