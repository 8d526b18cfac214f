package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"coatcheck/trial/local"
	"coatcheck/trial/process"
)

// seldom is one in twenty requests.
const seldom = 0.05

// The short form's pace, and how many adds there must be for one of direct, of the
// same CPU and in the same time.
const (
	gatePairs  = 5
	gateBlock  = 2 * time.Second
	gateCount  = 2000 // lone requests, counted
	leastRatio = 0.7
)

// Counts is what one lone request takes, by role: figures that neighbours on
// this machine can't move.
type Counts struct {
	What     string                      `json:"what"`
	Mallocs  map[string]float64          `json:"mallocs"`
	Transfer map[string]process.Transfer `json:"transfer"` // sums
	Requests int                         `json:"requests"`
	Commands map[string]float64          `json:"redis_commands"` // per request, those of scripts among them
	Sent     float64                     `json:"sent_bytes"`     // by the client
	Received float64                     `json:"received_bytes"`
}

// calls are the system calls that read and write, per request.
func (c Counts) calls(role string) float64 {
	t := c.Transfer[role]
	return float64(t.Reads+t.Writes) / float64(c.Requests)
}

// written are the bytes that the role wrote, to clients, services and its log, per request.
func (c Counts) written(role string) float64 {
	return float64(c.Transfer[role].BytesWritten) / float64(c.Requests)
}

func (c Counts) commands() (sum float64) {
	for _, n := range c.Commands {
		sum += n
	}
	return sum
}

// Gate is the short form: it fails on what was counted, and on CPU and adds a
// second only below leastRatio. A machine that is busy with other things may move
// the latter so far: Counts leaves it out.
func Gate(ctx context.Context, o Options, out io.Writer) error {
	o.Pairs, o.Block = gatePairs, gateBlock
	r, err := open(ctx, o, out)
	if err != nil {
		return err
	}
	defer r.close()
	for _, step := range []struct {
		about string
		do    func(context.Context) error
	}{
		{"what a lone request takes, counted", r.gateCounts},
		{"memory per cart in Redis", r.memory},
		{"100 parallel adds to one new cart", r.lostUpdates},
		{"an add, the full path against direct", r.gateRatio},
		{"reading every cart, for what was acknowledged", r.audit},
	} {
		r.say("%s", step.about)
		if err := step.do(ctx); err != nil {
			return err
		}
	}
	r.report.Took = time.Since(r.report.Started).Round(time.Second).String()
	_, err = io.WriteString(out, "\n"+r.report.Text())
	if err = errors.Join(err, r.report.write(o.Dir)); err != nil {
		return err
	}
	return r.report.gate()
}

// gate is an error if a limit is passed by what was counted, or by far by what was timed.
func (r *Report) gate() error {
	var broken []string
	for _, f := range r.Figures {
		if f.Gate && f.Verdict() != Met {
			broken = append(broken, fmt.Sprintf("%s: %s%s, limit %s", f.Title, f.Range, f.Unit, f.Bound()))
		}
	}
	if len(broken) > 0 {
		return fmt.Errorf("past its limit:\n  %s", strings.Join(broken, "\n  "))
	}
	return nil
}

// gateRatio is wide, and of rounds that were as quiet as most.
func (r *run) gateRatio(ctx context.Context) error {
	if err := r.adds(ctx); err != nil {
		return err
	}
	wide := func(what string, x Range, limit float64, atLeast bool) {
		r.report.Figures = append(r.report.Figures, Figure{
			Title: what + ", against direct: the wide gate", Unit: " ×", Range: rangeOf([]float64{x.Median}), Limit: limit, AtLeast: atLeast, Exact: true, Gate: true,
		})
	}
	c := r.found("add")
	wide("CPU of an add", c.CPU(), 1/leastRatio, false)
	if !r.Counts {
		wide("Adds a second", c.Rate(), leastRatio, true)
	}
	return nil
}

// gateCounts holds lone requests to what was counted of them and a tenth more:
// less is progress, and lowers the limits. Less than half is a count that misses something.
func (r *run) gateCounts(ctx context.Context) error {
	c, err := r.carts(ctx, r.shop.site, 3)
	if err != nil {
		return err
	}
	for _, tt := range []struct {
		what                                         string
		read                                         bool
		gatewayMallocs, cartMallocs                  float64
		gatewayCalls, cartCalls, redisCalls          float64
		gatewayBytes, cartBytes, redisBytes, command float64
		sent, received                               float64
	}{
		{"add", false, 172, 110, 7.6, 6.5, 2.25, 1740, 643, 106, 6, 570, 1010},
		{"read", true, 162, 128, 7.5, 6.5, 2.25, 1705, 450, 145, 2, 400, 1050},
	} {
		n, err := r.count(ctx, tt.what, c, tt.read)
		if err != nil {
			return err
		}
		r.report.Counts = append(r.report.Counts, n)
		var missed []string
		state := func(title string, value, limit float64, unit string) {
			if value < limit/2 {
				missed = append(missed, fmt.Sprintf("%s: %s%s", title, short(value), unit))
			}
			r.report.Figures = append(r.report.Figures, Figure{
				Title: fmt.Sprintf("%s, a lone %s", title, tt.what), Unit: unit, Range: rangeOf([]float64{value}), Limit: limit, Exact: true, Gate: true,
			})
		}
		state("Allocations of the gateway", n.Mallocs[local.Gateway], tt.gatewayMallocs, "")
		state("Allocations of the cart service", n.Mallocs[local.Cart], tt.cartMallocs, "")
		state("Reads and writes of the gateway", n.calls(local.Gateway), tt.gatewayCalls, " calls")
		state("Reads and writes of the cart service", n.calls(local.Cart), tt.cartCalls, " calls")
		state("Reads and writes of Redis", n.calls(local.Redis), tt.redisCalls, " calls")
		state("Written by the gateway", n.written(local.Gateway), tt.gatewayBytes, " bytes")
		state("Written by the cart service", n.written(local.Cart), tt.cartBytes, " bytes")
		state("Written by Redis", n.written(local.Redis), tt.redisBytes, " bytes")
		state("Commands in Redis", n.commands(), tt.command, "")
		state("Sent by the client", n.Sent, tt.sent, " bytes")
		state("Received by the client", n.Received, tt.received, " bytes")
		if len(missed) > 0 {
			return fmt.Errorf("a lone %s takes less than half of what its limits are made for; lower them, or look for what is not counted:\n  %s", tt.what, strings.Join(missed, "\n  "))
		}
	}
	return nil
}

// count sends requests one at a time. What the processes do without any is left
// out: it takes its time, and so has the larger part the slower the machine is.
func (r *run) count(ctx context.Context, what string, c *carts, reads bool) (Counts, error) {
	n := Counts{What: what, Requests: gateCount, Commands: map[string]float64{}, Mallocs: map[string]float64{}, Transfer: map[string]process.Transfer{}}
	s := c.site
	connection, err := dial(ctx, s.addr(0))
	if err != nil {
		return n, err
	}
	defer func() { _ = connection.Close() }()
	w := &worker{conn: connection, load: load{carts: c, reads: reads}, random: rand.New(rand.NewPCG(1, 2)), measured: new(window)}
	some := func(times int) error {
		for range times {
			if err := w.one(time.Now()); err != nil {
				return fmt.Errorf("%s: %w", what, err)
			}
		}
		return ctx.Err()
	}
	if err := some(gateCount / 10); err != nil { // what is remembered from the first on
		return n, err
	}
	mallocs, err := s.mallocs(ctx)
	if err != nil {
		return n, err
	}
	commands, err := s.commands(ctx)
	if err != nil {
		return n, err
	}
	transfer, err := s.transfer()
	if err != nil {
		return n, err
	}
	sent, received := connection.sent, connection.received
	began := time.Now()
	if err := some(gateCount); err != nil {
		return n, err
	}
	transferAfter, err := s.transfer()
	if err != nil {
		return n, err
	}
	took := time.Since(began)
	commandsAfter, err := s.commands(ctx)
	if err != nil {
		return n, err
	}
	mallocsAfter, err := s.mallocs(ctx)
	if err != nil {
		return n, err
	}
	still, err := s.transfer()
	if err != nil {
		return n, err
	}
	pause(ctx, took)
	stillAfter, err := s.transfer()
	if err != nil {
		return n, err
	}
	mallocsStill, err := s.mallocs(ctx)
	if err != nil {
		return n, err
	}
	for role, t := range transferAfter {
		n.Transfer[role] = t.Minus(transfer[role]).Minus(stillAfter[role].Minus(still[role]))
	}
	for name, k := range commandsAfter {
		each := (k - commands[name]) / gateCount
		if each > 0 && (!slices.Contains(background, name) || each > seldom) {
			n.Commands[name] = each
		}
	}
	for role, k := range mallocsAfter {
		without := max(0, mallocsStill[role]-k-s.scrape[role])
		n.Mallocs[role] = max(0, k-mallocs[role]-s.scrape[role]-without) / gateCount
	}
	n.Sent, n.Received = float64(connection.sent-sent)/gateCount, float64(connection.received-received)/gateCount
	return n, s.forget(ctx)
}

// background are the commands that are sent whether or not anybody asks anything: less often than
// seldom for each request that is counted meanwhile. What comes more often belongs to the request.
var background = []string{"ping", "info", "xread", "xrange", "xinfo|stream", "hello", "auth", "client|setinfo", "config|get", "config|set", "select", "scan", "unlink", "command"}

// commands is how often Redis has run each command so far, by name.
func (s *site) commands(ctx context.Context) (map[string]float64, error) {
	info, err := s.redis.Info(ctx, "commandstats").Result()
	if err != nil {
		return nil, err
	}
	all := map[string]float64{}
	for line := range strings.Lines(info) {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "cmdstat_")
		if !ok {
			continue
		}
		name, values, _ := strings.Cut(rest, ":calls=")
		calls, _, _ := strings.Cut(values, ",")
		var n float64
		if _, err := fmt.Sscan(calls, &n); err != nil {
			return nil, fmt.Errorf("commandstats: %q: %w", line, err)
		}
		all[name] = n
	}
	// By a script with this one command auth looks how far the log of revocations
	// has come, whoever asks anything.
	all["evalsha"] -= all["xrevrange"]
	delete(all, "xrevrange")
	return all, nil
}

// counts has a row for each command and role of what was counted.
func (r *Report) counts() []row {
	rows := []row{{"", "commands in Redis", "allocations", "reads and writes", "bytes written"}}
	for _, c := range r.Counts {
		list := func(names []string, of func(string) float64) string {
			var parts []string
			for _, name := range names {
				parts = append(parts, name+" "+short(of(name)))
			}
			return strings.Join(parts, ", ")
		}
		roles := slices.Sorted(maps.Keys(c.Transfer))
		rows = append(rows, row{
			"A lone " + c.What, list(slices.Sorted(maps.Keys(c.Commands)), func(name string) float64 { return c.Commands[name] }),
			list(slices.Sorted(maps.Keys(c.Mallocs)), func(role string) float64 { return c.Mallocs[role] }), list(roles, c.calls), list(roles, c.written),
		})
	}
	return rows
}
