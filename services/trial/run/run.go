// Package run is one trial from its start to its verdict: a shop, traffic,
// faults meanwhile, the last reading, the checks, the report.
//
// The hazard is a trial that passes because it did not take place: a fault that
// could not be made is in the history with its error, and a trial that was
// broken off has no verdict at all.
package run

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"coatcheck/trial/cluster"
	"coatcheck/trial/fault"
	"coatcheck/trial/history"
	"coatcheck/trial/local"
	"coatcheck/trial/traffic"
	"coatcheck/trial/watch"
)

const (
	// warmUp is traffic before the first fault, to compare with (less in a short
	// trial), and cool is traffic after the last one.
	warmUp = 6 * time.Second
	cool   = 3 * time.Second
	// atMost is how many times its length a trial goes on for what it must have
	// shown. On a fast machine few requests are under way at any one kill.
	atMost = 5
	// openBound is how long a shop may take until it serves.
	openBound = 30 * time.Second
	replicas  = 3
	// mostShoppers is enough that somebody is idle while a replica's death makes
	// others wait; more would take longer to register.
	mostShoppers = 160
)

// Options say which trial. Dir, Scenario (or Target), Rate and Out are needed.
type Options struct {
	// Dir gets the history, the report, and the shop's logs. What an earlier
	// trial left there is replaced.
	Dir      string
	Scenario fault.Scenario
	Seed     uint64
	Rate     float64 // logical requests a second
	// Length is that of the traffic; 0 is the scenario's. It goes on, up to five
	// times as long, for what the scenario must have shown by then.
	Length time.Duration
	Bin    string // folder with the binaries of the shop
	// Watch, if set, is a folder with rules for a Prometheus beside the shop, and
	// dashboards that are drawn at the end.
	Watch string

	// Target is the URL of a shop that runs already, instead of one of the
	// trial's own. Its faults are those of the scenario if that is for a cluster,
	// where Cluster says; else Command, a line for sh, every Every.
	Target  string
	Cluster cluster.Options
	Command string
	Class   history.Class
	Every   time.Duration

	// Listen is where the trial is shown while it runs, host:port; "" is nowhere.
	Listen string

	Out io.Writer
}

// Run runs a trial, and prints how it goes. An error means that it has no
// verdict: it could not be started, or was broken off.
func Run(ctx context.Context, o Options) (Verdict, error) {
	if o.Length == 0 {
		o.Length = o.Scenario.Length
	}
	dir, err := filepath.Abs(o.Dir) // the shop's processes have a folder of their own
	if err != nil {
		return "", fmt.Errorf("the trial's folder: %w", err)
	}
	o.Dir = dir
	unlock, err := prepare(o.Dir)
	if err != nil {
		return "", err
	}
	defer unlock()
	w := watch.New()
	address := ""
	if o.Listen != "" {
		server, err := watch.Serve(w, o.Listen, o.Dir)
		if err != nil {
			return "", err
		}
		defer server.Close()
		address = server.Addr()
		fmt.Fprintf(o.Out, "watch it: %s\n", server.URL())
	}
	path := filepath.Join(o.Dir, "history.jsonl")
	if err := record(ctx, o, path, w, address); err != nil {
		w.End("", err.Error())
		if o.Target == "" {
			err = fmt.Errorf("%w\n  logs: %s", err, filepath.Join(o.Dir, "shop", "log"))
		}
		return "", err
	}
	w.Do("judging what was answered")
	verdict, line, err := judge(path, o.Out)
	if err != nil {
		line = err.Error()
	}
	w.End(verdict, line)
	return verdict, err
}

// prepare makes the folder and takes it for this process.
func prepare(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("the trial's folder: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the trial's folder: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("another trial runs in %s: choose another folder with -dir", dir)
	}
	for _, old := range []string{"shop", "dashboards", "history.jsonl", "report.html", "report.json", watch.AddressFile} {
		if err := os.RemoveAll(filepath.Join(dir, old)); err != nil {
			return nil, fmt.Errorf("the trial's folder: %w", err)
		}
	}
	return func() { _ = lock.Close() }, nil
}

// trial is one that runs.
type trial struct {
	Options
	start   time.Time // the zero of all times in the history
	began   time.Time // the traffic
	history *history.Writer
	traffic *traffic.Traffic
	env     fault.Env
	cluster *cluster.Cluster // nil if the scenario is not for one
	watch   *watch.Watch
	log     io.Writer    // what is written while the trial is shown
	settled atomic.Bool  // the last fault is over, and so is what came after it
	across  atomic.Int64 // requests that were in flight at kills
	calm    time.Time    // the end of the traffic
	boards  boards       // if Watch is set
}

// more tells whether there is to be more traffic after Length.
func (t *trial) more() bool {
	if time.Since(t.began) > atMost*t.Length {
		return false
	}
	return !t.settled.Load() || t.traffic.Live().Changes < least(t.Scenario.Name, t.Length, t.Rate).changes
}

// record runs traffic and faults and writes their history. address is where the
// trial's own metrics are, "" if nowhere.
func record(ctx context.Context, o Options, path string, w *watch.Watch, address string) (err error) {
	t := &trial{Options: o, watch: w}
	target := o.Target
	if target == "" {
		w.Do("opening the shop")
		shop, network, err := open(ctx, o, address)
		if err != nil {
			return err
		}
		defer network.Close()
		defer shop.Close()
		t.env = fault.Env{Shop: shop, Network: network}
		target = "http://" + shop.Address()
		if o.Watch != "" {
			fmt.Fprintf(o.Out, "Prometheus watches it: http://%s\n", t.prometheus())
		}
	}
	if o.Scenario.Cluster {
		if t.cluster, err = cluster.Open(ctx, o.Cluster); err != nil {
			return err
		}
		defer t.cluster.Close()
	}
	t.start = time.Now()
	run := history.Run{
		Started: t.start, Scenario: o.Scenario.Name, Seed: o.Seed, Target: target, Rate: o.Rate, Length: o.Length,
		Machine: fmt.Sprintf("%s/%s, %d cores", runtime.GOOS, runtime.GOARCH, runtime.NumCPU()), Version: version(),
	}
	if t.history, err = history.Create(path, run); err != nil {
		return err
	}
	w.Do("registering the shoppers")
	t.traffic, err = traffic.New(ctx, traffic.Options{
		Target: target, Rate: o.Rate, Length: o.Length, More: t.more, Seed: o.Seed, Start: t.start, Weights: weights(), Shoppers: shoppers(o.Rate), Machines: machines,
		Sink: func(op *history.Op) {
			t.history.Write(history.Record{Op: op})
			w.Op(op)
		},
	})
	if err != nil {
		return err
	}
	rest := w.Begin(run, t.traffic.Live, t.replicas())
	defer rest()
	terminal := watch.NewTerminal(o.Out, nil, nil)
	t.log = terminal
	defer w.Tell(terminal)()

	before := cpu()
	t.began = time.Now()
	if o.Watch != "" {
		if t.boards, err = readBoards(o.Watch, t.prometheus(), t.began); err != nil {
			return err
		}
		w.Draws(t.boards.names(), t.boards.live)
	}
	stopSampling := func() {}
	if t.cluster != nil {
		stopSampling = t.samplePods()
	}
	var faults sync.WaitGroup
	faults.Go(func() {
		t.makeFaults(ctx)
		pause(ctx, cool)
		t.settled.Store(true)
	})
	err = t.traffic.Run(ctx)
	faults.Wait()
	stopSampling()
	if err != nil {
		return err
	}
	t.calm = time.Now()
	end := history.End{OwnCPU: cpu() - before, TotalCPU: float64(runtime.GOMAXPROCS(0)) * time.Since(t.began).Seconds()}
	w.Do("reading every cart and order")
	if err := t.traffic.Finish(ctx); ctx.Err() != nil {
		return ctx.Err()
	} else if err != nil {
		// What was not read, the checks miss.
		fmt.Fprintf(t.log, "%v\n", err)
	}
	if o.Watch != "" {
		if err := t.boards.write(ctx, filepath.Join(o.Dir, "dashboards"), t.calm); err != nil {
			return err
		}
		fmt.Fprintf(t.log, "dashboards %s\n", filepath.Join(o.Dir, "dashboards", "*.svg"))
	}
	end.At, end.Missed = time.Since(t.start), t.traffic.Live().Missed
	return t.history.Close(end)
}

// open starts a shop of the trial's own.
func open(ctx context.Context, o Options, address string) (*local.Shop, *fault.Network, error) {
	file := filepath.Join(o.Dir, "shop", "catalogue.json")
	if err := writeCatalogue(file); err != nil {
		return nil, nil, err
	}
	network := fault.NewNetwork()
	options := local.Options{
		State: filepath.Join(o.Dir, "shop"), Bin: o.Bin, Gateways: replicas, Auths: replicas, Carts: replicas,
		Spares: o.Scenario.Spares, RestartDelay: restartDelay, Watch: o.Watch, Trial: address,
		Env: map[string][]string{
			local.Cart: {"COATCHECK_CATALOGUE_FILE=" + file},
			// Three replicas of each and the trial share this machine. Six passwords hashed at
			// once would all be late, and a second processor for each gateway costs more in
			// wake-ups than it gives.
			local.Auth:    {"COATCHECK_MAX_PASSWORD_HASHES=1"},
			local.Gateway: {"GOMAXPROCS=1"},
		},
	}
	if o.Scenario.Network {
		options.Through = network.Through
	}
	shop, err := local.Start(options)
	if err == nil {
		ready, cancel := context.WithTimeout(ctx, openBound)
		defer cancel()
		if err = shop.AwaitReady(ready); err != nil {
			shop.Close()
		}
	}
	if err != nil {
		network.Close()
		return nil, nil, err
	}
	return shop, network, nil
}

// machines is how many API clients there are: enough to see each of their steps
// often, and few enough that their log-ins leave something for the carts.
const machines = 4

// shoppers is how many there are: with few requests a second, many shoppers would
// never come as far as a checkout.
func shoppers(rate float64) int { return min(mostShoppers, max(20, int(rate/2))) }

// weights are mostly changes, for it is they that can be lost. Log-ins are few:
// each costs the shop as much as twenty other requests, and on a small machine
// the passwords would leave nothing for the carts.
func weights() map[history.Kind]int {
	return map[history.Kind]int{
		history.Add: 230, history.Set: 36, history.CondSet: 36, history.Remove: 28,
		history.Read: 14, history.LogIn: 11, history.Checkout: 18,
	}
}

// version is the revision that this program was built from, as far as it knows.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return info.Main.Version
}

// cpu is what this process has used until now, in seconds.
func cpu() float64 {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return 0
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano()).Seconds()
}
