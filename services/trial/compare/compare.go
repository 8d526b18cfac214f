// Package compare measures the shop beside four others that keep their state in
// other places: the same small traffic, the same faults, the same front, drain,
// restarts and client retries.
//
// The hazard of a comparison is a table that was decided before it was measured.
// So each cell comes from this run, the baselines are the shop's own code without
// the hops that they do not need, and what was assumed of the shoppers is said
// below the table.
package compare

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"coatcheck/trial/process"
)

// Options say where things are. Bin is needed.
type Options struct {
	// Bin is the folder with the binaries gateway, auth, cart and stateful.
	Bin string
	// Dir gets compare.json and compare.html; "" writes neither.
	Dir string
	// Source is the repository's folder, for the count of lines; "" looks for a
	// go.work upwards of the working directory.
	Source string
	// Sessions is how many sessions the memory is measured at; 0 means 100,000.
	Sessions int
	// Ways are the keys of the ways to measure, as compare.json has them; none: all.
	Ways []string
	// Short makes every phase as short as a test needs.
	Short bool
}

// pace is how long things take.
type pace struct {
	shoppers, members   int
	warm, quiet, settle time.Duration
	scale               time.Duration // how long a new replica is watched
	every               time.Duration // between two requests of a shopper
	stayLeast, stayMost time.Duration // of a shopper
	rounds, logOuts     int
	cpuPairs, cpuBlock  int
	logOutPatience      time.Duration
	checks, ends        int // requests to check a session in a block, and log-outs, of the table of sessions
	endPatience         time.Duration
	linesAtOnce         int
}

func (o Options) pace() pace {
	p := pace{
		shoppers: 60, members: 24, warm: 2 * time.Second, quiet: 4 * time.Second, settle: 2 * time.Second, scale: 7 * time.Second,
		every: 250 * time.Millisecond, stayLeast: 6 * time.Second, stayMost: 14 * time.Second,
		rounds: 10, logOuts: 4, cpuPairs: 3, cpuBlock: 1600, logOutPatience: 500 * time.Millisecond, linesAtOnce: 10,
		checks: 3000, ends: 200, endPatience: time.Second,
	}
	if o.Short {
		p.shoppers, p.members, p.warm, p.quiet, p.settle, p.scale = 12, 6, time.Second, 2*time.Second, time.Second, 2*time.Second
		p.checks, p.ends, p.endPatience = 600, 10, 300*time.Millisecond
		p.rounds, p.logOuts, p.cpuPairs, p.cpuBlock, p.logOutPatience = 3, 3, 1, 100, 300*time.Millisecond
	}
	return p
}

// way is one way to keep state.
type way struct {
	Key, Title string
	routing    routing
	open       func(ctx context.Context, r *run) (site, error)
}

func ways() []way {
	stateful := func(state string) func(context.Context, *run) (site, error) {
		return func(ctx context.Context, r *run) (site, error) { return openFleet(ctx, r, state) }
	}
	return []way{
		{"memory", "server memory", roundRobin, stateful("memory")},
		{"memory-cookie", "memory, sticky by cookie", byCookie, stateful("memory")},
		{"memory-address", "memory, sticky by address", byAddress, stateful("memory")},
		{"cookie", "cart in a signed cookie", roundRobin, stateful("cookie")},
		{"redis", "coatcheck on Redis", roundRobin, openShop},
	}
}

// run is what all ways share.
type run struct {
	Options
	pace
	work     string // a folder for the run
	files    files
	starter  *process.Starter
	progress io.Writer
}

// Run measures all ways and writes the table to out. It takes about four minutes
// (Short: under one), and an error means that something could not be
// measured: a way that loses everything is no error.
func Run(ctx context.Context, o Options, out io.Writer) error {
	if o.Sessions == 0 {
		o.Sessions = 100_000
	}
	for _, key := range o.Ways {
		if !slices.ContainsFunc(ways(), func(w way) bool { return w.Key == key }) {
			return fmt.Errorf("there is no way %q", key)
		}
	}
	work, err := os.MkdirTemp("", "coatcheck-compare-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	r := &run{Options: o, pace: o.pace(), work: work, starter: process.NewStarter(), progress: out}
	defer r.starter.Close()
	r.files, err = r.prepare(ctx)
	if err != nil {
		return err
	}
	report := Report{Started: time.Now(), Machine: machine(), Sessions: o.Sessions, Assumptions: r.assumptions()}
	r.say("memory of %d open sessions", o.Sessions)
	memory, err := r.memory(ctx)
	if err != nil {
		return fmt.Errorf("memory: %w", err)
	}
	code, codeErr := r.code()
	reference, err := openFleet(ctx, r, "memory")
	if err != nil {
		return fmt.Errorf("the reference: %w", err)
	}
	defer reference.Close()
	for _, w := range ways() {
		if len(o.Ways) > 0 && !slices.Contains(o.Ways, w.Key) {
			continue
		}
		measured, err := r.measure(ctx, w, reference)
		if err != nil {
			return fmt.Errorf("%s: %w", w.Title, err)
		}
		measured.MemoryPerSession = memory[w.Key]
		if codeErr == nil {
			measured.Lines = code[w.Key]
		}
		report.Ways = append(report.Ways, measured)
	}
	report.SessionWays, err = r.sessions(ctx)
	if err != nil {
		return fmt.Errorf("sessions: %w", err)
	}
	report.Took = time.Since(report.Started).Round(time.Second).String()
	_, err = io.WriteString(out, "\n"+report.Text())
	if o.Dir != "" {
		err = errors.Join(err, report.write(o.Dir))
	}
	return err
}

func (r *run) say(format string, args ...any) {
	_, _ = fmt.Fprintf(r.progress, "compare: "+format+"\n", args...)
}

// measure takes one way through all phases, in the order in which each leaves
// the next what it needs.
func (r *run) measure(ctx context.Context, w way, reference site) (Measured, error) {
	m := Measured{Key: w.Key, Title: w.Title}
	shop, err := w.open(ctx, r)
	if err != nil {
		return m, err
	}
	defer shop.Close()
	front, err := openFront(shop.Replicas(), w.routing)
	if err != nil {
		return m, err
	}
	defer front.close()
	m.Programs, m.Processes = shop.Programs()
	m.Front = w.routing.needs

	t, err := r.open(ctx, shop, front)
	if err != nil {
		return m, err
	}
	defer t.close()
	steps := []struct {
		name string
		do   func(context.Context, *Measured) error
	}{
		{"quiet traffic", t.quietPhase},
		{"kill -9 of one replica", t.deathPhase},
		{"roll-out", t.rolloutPhase},
		{"concurrent adds", t.updatesPhase},
		{"log-outs", t.logOutPhase},
		{"size", t.sizePhase},
		{"a new replica", t.scalePhase},
		{"CPU", func(ctx context.Context, m *Measured) error { return t.cpuPhase(ctx, m, reference) }},
	}
	for _, step := range steps {
		r.say("%s: %s", w.Title, step.name)
		if err := ctx.Err(); err != nil {
			return m, err
		}
		if err := step.do(ctx, &m); err != nil {
			return m, fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return m, nil
}

// assumptions are what the numbers hang on.
func (r *run) assumptions() []string {
	return []string{
		fmt.Sprintf("CPU is of all processes of a way, Redis among them, at %d requests at once, half of them changes; the baseline's parts call each other as functions, coatcheck's over gRPC.", atOnce),
		fmt.Sprintf("%d replicas of each; a fourth is added at the end. %d shoppers with a request every %v each stay %v to %v and leave; a new one comes for each.", replicas, r.shoppers, r.every, r.stayLeast, r.stayMost),
		"Real shoppers stay longer: what takes until they have left (a fair share by cookie) takes as much longer.",
		"A quarter of the shoppers share three addresses (of carriers and offices), and a quarter change theirs half-way (from Wi-Fi to mobile).",
		fmt.Sprintf("Requests are tried 3 times, a second apart, under one Idempotency-Key. A replica that died is back after %v; a drain takes %v.", restartDelay, drainDelay),
		"An open session is a user's session and a cart of 3 lines, at rest. Live heap for what is in a server's memory, in Go maps as the map store has them (resident memory is up to twice that, another layout would take less); used_memory for Redis.",
		"A replica of coatcheck is one gateway, one auth and one cart; Redis (appendfsync always) is not restarted here. What its crash does, the trial shows.",
		"Users are known to every replica of the baselines, as from a database; only their sessions and carts are where the column says.",
		fmt.Sprintf("In the table of sessions, a shared store that is asked each time is coatcheck with its gateways' memory turned off, and a plain JWT an access token of its API whose session nobody looks up. CPU to check is that of %d requests with a session less that of as many which are refused before it is looked at, of all processes.", r.cpuPairs*r.checks),
		"Lost updates are adds that were acknowledged and are in no replica's cart afterwards; one that merely cannot be reached is counted above.",
	}
}

// restartDelay and drainDelay are those of a local shop.
const (
	replicas     = 3
	restartDelay = time.Second
	drainDelay   = 300 * time.Millisecond
	stopTimeout  = 3 * time.Second
	maxLines     = 500
)

// repository is the folder with go.work, upwards of where we are.
func (o Options) repository() (string, error) {
	if o.Source != "" {
		return o.Source, nil
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("no go.work here or above")
		}
	}
}
