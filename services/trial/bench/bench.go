// Package bench measures what a request costs in the shop, beside what it costs
// in servers with fewer parts.
//
// The hazard of a benchmark is a number that the neighbours made. So whatever is
// compared runs in turn, in pairs, on the same machine at the same time; a
// statement is a ratio with the interval in which it lies; a round in which a
// server that does nothing was slow or fast does not count; and where the
// interval is wider than the difference there is no conclusion. The other hazard
// is speed at the price of the answers: an answer that is an error fails the part
// that it is in and the run, and at the end every acknowledged change must be there.
package bench

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"coatcheck/cart/redisstore"
	"coatcheck/trial/process"
)

// Options say where things are and how long it may take. Bin and Dir are needed.
type Options struct {
	// Bin is the folder with the binaries gateway, auth, cart and reference.
	Bin string
	// Dir gets bench.json and bench.html, and the shops' data while they run.
	Dir string
	// Pairs is how many pairs a comparison has; fewer than 10 draw no conclusion.
	Pairs int
	// Block is how long each side of a pair is measured.
	Block time.Duration
	// Counts has Gate leave out adds a second, which neighbours of the machine move.
	Counts bool
	// Only are the names of the parts to run; none: all.
	Only []string
	// Carts is how many there are of three lines; 0 means 2,000.
	Carts int
}

// What the long form takes unless it is told otherwise.
const (
	DefaultPairs = 10
	DefaultBlock = 3 * time.Second
)

// conns is how many connections a load has unless it is about that.
const conns = 64

// run is what all parts share.
type run struct {
	Options
	work      string
	catalogue string // files
	script    string
	skus      []string
	keys      *keys
	starter   *process.Starter
	progress  io.Writer
	report    Report

	// What is compared. All are there at once.
	shop                *shop
	direct, naive, echo *site
	tuned               *site          // direct with the shop's settings of the Go runtime and its timers
	store               *process.Redis // of the references
	made                map[string]*carts
	mine, theirs        []int // the cores of the generator and of all else; none: shared
}

// part is one of the things that are measured.
type part struct {
	name, about string
	do          func(*run, context.Context) error
}

// Parts are the names and what they are about.
func Parts() (lines []string) {
	for _, p := range parts() {
		lines = append(lines, p.name+": "+p.about)
	}
	return lines
}

// Run measures and writes the tables to out. An error means that something
// could not be measured, that an answer was an error, or that a change was lost;
// a figure that is not met is no error.
func Run(ctx context.Context, o Options, out io.Writer) error {
	for _, name := range o.Only {
		if !slices.ContainsFunc(parts(), func(p part) bool { return p.name == name }) {
			return fmt.Errorf("there is no part %q; there are\n  %s", name, strings.Join(Parts(), "\n  "))
		}
	}
	r, err := open(ctx, o, out)
	if err != nil {
		return err
	}
	defer r.close()
	for _, p := range parts() {
		if len(o.Only) > 0 && !slices.Contains(o.Only, p.name) {
			continue
		}
		if ctx.Err() != nil {
			err = errors.Join(err, ctx.Err())
			break // with the report of what there is
		}
		r.say("%s", p.about)
		// One that fails must not cost the half hour of all others.
		if partErr := p.do(r, ctx); partErr != nil {
			r.say("%s failed: %v", p.name, partErr)
			err = errors.Join(err, fmt.Errorf("%s: %w", p.name, partErr))
		}
	}
	r.say("reading every cart, for what was acknowledged")
	err = errors.Join(err, r.audit(ctx))
	r.report.Took = time.Since(r.report.Started).Round(time.Second).String()
	_, writeErr := io.WriteString(out, "\n"+r.report.Text())
	return errors.Join(err, writeErr, r.report.write(o.Dir))
}

// open starts everything that is compared.
func open(ctx context.Context, o Options, out io.Writer) (_ *run, err error) {
	if o.Carts == 0 {
		o.Carts = 2000
	}
	if o.Dir, err = filepath.Abs(o.Dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, err
	}
	r := &run{Options: o, keys: newKeys(), progress: out, made: map[string]*carts{}}
	// Beside the results, since that disk is as slow as a shop's.
	if r.work, err = os.MkdirTemp(o.Dir, "work-"); err != nil {
		return nil, err
	}
	r.starter = process.NewStarter()
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	r.cores()
	r.report = Report{Started: time.Now(), Machine: machine(), Pairs: o.Pairs, Block: o.Block.String(), Assumptions: r.assumptions()}
	r.catalogue, r.script = filepath.Join(r.work, "catalogue.json"), filepath.Join(r.work, "change.lua")
	if r.skus, err = writeCatalogue(r.catalogue); err != nil {
		return nil, err
	}
	if err = os.WriteFile(r.script, []byte(redisstore.ChangeScript()), 0o600); err != nil {
		return nil, err
	}
	if r.shop, err = r.openShop(ctx, "shop", 1, 1, 1, nil); err != nil {
		return nil, err
	}
	if r.store, err = process.StartRedis(ctx, r.starter, r.work); err != nil {
		return nil, err
	}
	if r.direct, err = r.openReference(ctx, "direct", r.store, nil); err != nil {
		return nil, err
	}
	if r.tuned, err = r.openTuned(ctx); err != nil {
		return nil, err
	}
	if r.naive, err = r.openReference(ctx, "naive", r.store, nil); err != nil {
		return nil, err
	}
	if r.echo, err = r.openReference(ctx, "echo", nil, nil); err != nil {
		return nil, err
	}
	// The echo server has no carts: it sends back what it is sent.
	r.made["echo"] = &carts{site: r.echo, lines: 1, heads: []string{"Host: echo\r\nUser-Agent: bench\r\n"}, bodies: []string{`{"items":[{"sku":"` + r.skus[0] + `","quantity":1}]}`}, keys: r.keys}
	r.made["echo"].added = make([]counter, 1)
	return r, r.sameAnswers(ctx)
}

func (r *run) close() {
	for _, s := range []*site{r.echo, r.naive, r.tuned, r.direct} {
		if s != nil {
			s.close()
		}
	}
	if r.store != nil {
		r.store.Close()
	}
	if r.shop != nil {
		r.shop.close()
	}
	r.starter.Close()
	_ = os.RemoveAll(r.work)
}

func (r *run) say(format string, args ...any) {
	_, _ = fmt.Fprintf(r.progress, "bench: "+format+"\n", args...)
}

// carts are those of a site with as many lines, made when they are first wanted.
func (r *run) carts(ctx context.Context, s *site, lines int) (*carts, error) {
	name := fmt.Sprintf("%s %d", s.name, lines)
	if c := r.made[name]; c != nil {
		return c, nil
	}
	// Long carts are fewer, so that all are of about the same weight.
	n := max(50, r.Carts/max(1, lines/10))
	c, err := newCarts(ctx, s, r.keys, r.skus, n, lines)
	if err != nil {
		return nil, err
	}
	r.made[name] = c
	return c, nil
}

// audit reads all carts. What naive lost is told; another's loss is an error.
func (r *run) audit(ctx context.Context) error {
	var failed error
	for name, c := range r.made {
		if c.site == r.echo {
			continue
		}
		lost, surplus, err := c.audit(ctx)
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		acknowledged := int64(0)
		for i := range c.added {
			acknowledged += c.added[i].Load()
		}
		r.report.Audits = append(r.report.Audits, Audit{Carts: name, Acknowledged: acknowledged, Lost: lost, Surplus: surplus})
		if c.site != r.naive && lost+surplus > 0 {
			failed = errors.Join(failed, fmt.Errorf("carts of %s: %d acknowledged units are lost, and %d are there that were not acknowledged", name, lost, surplus))
		}
	}
	slices.SortFunc(r.report.Audits, func(a, b Audit) int { return strings.Compare(a.Carts, b.Carts) })
	return failed
}

// sameAnswers adds to a cart of each, reads it and compares: a reference that answers less
// would be no reference.
func (r *run) sameAnswers(ctx context.Context) error {
	answers := map[*site]string{}
	for _, s := range []*site{r.shop.site, r.direct, r.tuned, r.naive} {
		c, err := newCarts(ctx, s, r.keys, r.skus, 1, 3)
		if err != nil {
			return err
		}
		for _, request := range [][]byte{c.adding(nil, 0, c.bodies[1], false), c.adding(nil, 0, c.bodies[1], true), c.reading(nil, 0)} {
			conn, err := dial(ctx, s.addr(0))
			if err != nil {
				return err
			}
			body, err := conn.do(request)
			_ = conn.Close()
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			text, err := withoutTimes(body)
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			answers[s] += text + "\n"
		}
	}
	for _, s := range []*site{r.direct, r.tuned, r.naive} {
		if answers[s] != answers[r.shop.site] {
			return fmt.Errorf("%s answers\n%sand the shop\n%s", s.name, answers[s], answers[r.shop.site])
		}
	}
	return nil
}

func newGuestID() string {
	raw := make([]byte, 16)
	_, _ = rand.Read(raw)
	return "g_" + base64.RawURLEncoding.EncodeToString(raw)
}

// cores gives the generator cores of its own where there are enough.
func (r *run) cores() {
	n := runtime.NumCPU()
	if n < 4 {
		return
	}
	for core := range n {
		if core < n-n/4 {
			r.theirs = append(r.theirs, core)
		} else {
			r.mine = append(r.mine, core)
		}
	}
}

// pin gives a site's processes theirs, and this process its own again.
func (r *run) pin(s *site) error {
	if r.mine == nil {
		return nil
	}
	for _, p := range s.programs() {
		if err := process.Pin(p.pid, r.theirs); err != nil {
			return err
		}
	}
	return process.Pin(os.Getpid(), r.mine)
}

func (r *run) assumptions() []string {
	pinned := fmt.Sprintf("The load generator shares the %d cores with what it measures: there are too few to keep them apart. So a rate here is no capacity, and what counts is CPU per request and the ratios.", runtime.NumCPU())
	if r.mine != nil {
		pinned = fmt.Sprintf("The load generator has %d of %d cores, and what it measures the others.", len(r.mine), runtime.NumCPU())
	}
	return []string{
		pinned,
		"Full path: one gateway, one auth and one cart as make up starts them, but with Redis' log off unless it says always, with metrics, a log line for each request, and retries armed; each request has a guest's ticket and each add an Idempotency-Key.",
		"direct: one process with net/http and go-redis that runs the same script, without ticket, metrics or log, as Go and the kernel run it unless told otherwise. The shop's services collect garbage at GOGC 400 below a memory limit and let the kernel end their sleeps up to 5 ms late; tuned is direct with the same. naive: GET, change the JSON document, SET. All give the same answers, which was checked.",
		"CPU is of all processes of a side, Redis among them, from the kernel's clock per process. Closed loop on 64 connections unless it says otherwise; latencies of open loops count from when a request was due.",
		"Medians, with the interval of at least 95 % in brackets; of fewer than six values, as in the table of growth, from the least to the most. A round in which the echo server's rate was more than 10 % off its median was left out.",
	}
}

func machine() string {
	return fmt.Sprintf("%s/%s, %d cores, %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version())
}
