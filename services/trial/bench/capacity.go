package bench

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strings"

	"coatcheck/trial/local"
)

// The markers between which WriteCapacity writes.
const (
	capacityBegin = "<!-- written by trial bench -capacity: begin -->\n"
	capacityEnd   = "<!-- written by trial bench -capacity: end -->\n"
)

// shipped is what the chart gives a role: a test holds it against the chart.
type shipped struct {
	role         string
	requestMilli float64 // CPU request of a pod
	target       float64 // that the autoscaler wants used of it
	maxReplicas  float64
}

var chart = []shipped{
	{local.Gateway, 100, 0.70, 10},
	{local.Auth, 50, 0.70, 10},
	{local.Cart, 50, 0.70, 10},
}

// What is assumed. The page says so.
const (
	chartRedisMiB   = 300   // redis.maxMemoryMiB
	chartGatewayMiB = 192   // gateway.resources.limits.memory
	goShare         = 0.9   // of a pod's memory limit, below which a service keeps itself
	readsPerChange  = 4.0   // shoppers look more often than they change
	recordSeconds   = 600.0 // how long an operation is remembered
	redisUse        = 0.6   // of a core, that leaves room for a burst and a rewrite
	shardGiB        = 8.0
	connsPerGateway = 5000.0
	mib             = float64(1 << 20)
	gib             = float64(1 << 30)
)

// costs are the measured figures that all others follow from.
type costs struct {
	measured  []measuredCPU      // as it was
	add, read map[string]float64 // µs of CPU by role, that are reckoned with
	cart      map[int]float64    // bytes by lines
	record    float64            // bytes
	conn      float64            // bytes of a gateway for a connection
	idle      float64            // bytes of a gateway without
}

// measuredCPU is what a kind of request took of each role, in µs.
type measuredCPU struct {
	what string
	us   map[string]float64
}

func (r *Report) costs() (costs, error) {
	c := costs{add: map[string]float64{}, read: map[string]float64{}, cart: map[int]float64{}}
	found := map[string]*Comparison{}
	var missing []string
	for _, key := range []string{"add", "read", "half", "always"} {
		for _, of := range r.Comparisons {
			if of.Key == key {
				found[key] = of
			}
		}
		if found[key] == nil {
			missing = append(missing, key)
		}
	}
	for _, m := range r.Memory {
		c.cart[m.Lines], c.record = m.Cart, m.Record
	}
	if len(r.Memory) == 0 {
		missing = append(missing, "memory")
	}
	if r.Gateway == nil {
		missing = append(missing, "connections")
	}
	var known, cold *Growth // those of the fewest guests, and of the most, of whom most are not remembered
	for i, g := range r.Growth {
		if g.Of != "tickets" {
			continue
		}
		if known == nil || g.Size < known.Size {
			known = &r.Growth[i]
		}
		if cold == nil || g.Size > cold.Size {
			cold = &r.Growth[i]
		}
	}
	if cold == nil {
		missing = append(missing, "tickets")
	}
	if len(missing) > 0 {
		return c, fmt.Errorf("the last run left out %s: run trial bench with all parts", strings.Join(missing, ", "))
	}
	roles := []string{local.Gateway, local.Auth, local.Cart, local.Redis}
	median := func(key string) map[string]float64 {
		all := map[string]float64{}
		for _, role := range roles {
			all[role] = found[key].of(func(r Round) float64 { return r.A.CPU[role] }).Median
		}
		return all
	}
	full, half, always, read := median("add"), median("half"), median("always"), median("read")
	c.measured = []measuredCPU{
		{"an add, 64 connections", full},
		{"an add, 64 connections, every change on disk (`appendfsync always`)", always},
		{"an add, at half of the maximum", half},
		{"a read, 64 connections", read},
		{fmt.Sprintf("a read of an empty cart, 64 connections, by %s guests", thousands(float64(known.Size))), known.CPU},
		{fmt.Sprintf("the same by %s guests", thousands(float64(cold.Size))), cold.CPU},
	}
	// A request costs more where fewer wait together; an add more where it is written to the disk;
	// and the request of somebody who is not remembered costs what his ticket does.
	for _, role := range roles {
		apart, ticket := 1.0, max(0, cold.CPU[role]-known.CPU[role])
		if full[role] > 0 {
			apart = max(1, half[role]/full[role])
		}
		c.add[role] = max(full[role], half[role]) + ticket
		c.read[role] = read[role]*apart + ticket
	}
	c.add[local.Redis] += max(0, always[local.Redis]-full[local.Redis])
	c.idle = float64(r.Gateway.Before)
	c.conn = float64(r.Gateway.After-r.Gateway.Before) / float64(r.Gateway.N)
	return c, nil
}

// cores are those that a role is busy with at so many changes a second, reads among them.
func (c costs) cores(role string, changes float64) float64 {
	return changes * (c.add[role] + readsPerChange*c.read[role]) / 1e6
}

// redisBytes is what carts of three lines take, and the records of operations.
func (c costs) redisBytes(carts, changes float64) float64 {
	return carts*c.cart[3] + changes*recordSeconds*c.record
}

// wall is where something that the chart ships ends.
type wall struct {
	what    string
	changes float64 // a second
}

// walls are those of the chart as it is, with so many carts, the nearest first.
func (c costs) walls(carts float64) []wall {
	var all []wall
	for _, s := range chart {
		all = append(all, wall{fmt.Sprintf("%.0f %s pods of %.0fm each", s.maxReplicas, s.role, s.requestMilli), s.maxReplicas * s.requestMilli / 1000 * s.target / c.cores(s.role, 1)})
	}
	room := max(0, chartRedisMiB*mib-carts*c.cart[3])
	all = append(all,
		wall{"one core of Redis", 1 / c.cores(local.Redis, 1)},
		wall{fmt.Sprintf("%d MiB of Redis", chartRedisMiB), room / (recordSeconds * c.record)})
	return all
}

// held is how many open connections fit into a gateway pod of the chart.
func (c costs) held() float64 {
	return (goShare*chartGatewayMiB*mib - c.idle) / c.conn
}

func nearest(walls []wall) wall {
	first := walls[0]
	for _, w := range walls[1:] {
		if w.changes < first.changes {
			first = w
		}
	}
	return first
}

// capacity is the page's part that follows from the figures.
func (r *Report) capacity() (string, error) {
	c, err := r.costs()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	say("## Measured\n")
	say("On %s, %s, %d pairs of blocks of %s. Everything, the load generator too, shared those cores.\n", r.Machine, r.Started.UTC().Format("2 January 2006"), r.Pairs, r.Block)
	row := func(what string, us map[string]float64) {
		say("| %s | %s | %s | %s | %s |", what, short(us[local.Gateway]), short(us[local.Auth]), short(us[local.Cart]), short(us[local.Redis]))
	}
	const head = "| CPU, µs | gateway | auth | cart | Redis |\n|---|---|---|---|---|"
	say(head)
	for _, m := range c.measured {
		row(m.what, m.us)
	}
	say("")
	say("| memory | |\n|---|---|")
	say("| a cart of 3 lines in Redis, of 10 lines | %.0f bytes, %.0f bytes |", c.cart[3], c.cart[10])
	say("| the record of an operation, for %.0f s | %.0f bytes |", recordSeconds, c.record)
	say("| a gateway, and each open connection to it | %.0f MiB, %.1f KiB |\n", c.idle/mib, c.conn/1024)

	say("## Extrapolated\n")
	say("All below is arithmetic on the above: %.0f reads for each change, carts of 3 lines, CPU as the test machine's. No machine as large was tried; a network between pods adds to the latency, and to the CPU of each hop.\n", readsPerChange)
	say("A request is reckoned with so:\n")
	say(head)
	row("an add", c.add)
	row("a read", c.read)
	say("\nThat is at half of the maximum (a read is scaled as the add is), with what the disk adds to an add in Redis, and with what the tickets of more guests than are remembered add. Not in it: Redis' work to delete records that expire, one for each change.\n")
	say("### The chart as it is shipped\n")
	say("| wall | changes a second |\n|---|---|")
	for _, w := range c.walls(100_000) {
		say("| %s%s | %s |", w.what, map[bool]string{true: ", with 100,000 carts in it"}[strings.HasSuffix(w.what, "MiB of Redis")], thousands(w.changes))
	}
	say("\nA wall of pods is where an autoscaler stops adding them; without a CPU limit they go on into what their nodes have to spare.\n")

	say("### Connections\n")
	say("A gateway pod of the chart holds %s open connections in its %d MiB. Those that idle take no CPU, so the autoscaler adds no pod for them: set `gateway.autoscaling.minReplicas` by this table, and `maxReplicas` no lower.\n", thousands(c.held()), chartGatewayMiB)
	say("| open connections | gateway pods | their memory in use, GiB |\n|---|---|---|")
	for _, n := range []float64{1e4, 1e5, 1e6} {
		pods := max(3, math.Ceil(n/c.held()))
		say("| %s | %.0f | %s |", thousands(n), pods, short((pods*c.idle+n*c.conn)/gib))
	}
	say("\n### Sizes\n")
	say("Pods of one core each at %.0f %% of it; Redis shards that use %.0f %% of a core and hold %.0f GiB.\n", 100*chart[0].target, 100*redisUse, shardGiB)
	say("| carts | changes/s | cores: gateway, auth, cart | pods: gateway, auth, cart | Redis: cores, GiB | shards | first wall of the chart |\n|---|---|---|---|---|---|---|")
	for _, size := range []struct{ carts, changes float64 }{{1e5, 100}, {1e6, 100}, {1e6, 1e3}, {1e7, 1e3}, {1e7, 1e4}, {1e8, 1e4}, {1e8, 1e5}} {
		var cores, pods []string
		for _, s := range chart {
			n := c.cores(s.role, size.changes)
			cores = append(cores, short(n))
			pods = append(pods, fmt.Sprintf("%.0f", max(3, math.Ceil(n/s.target))))
		}
		busy, bytes := c.cores(local.Redis, size.changes), c.redisBytes(size.carts, size.changes)
		shards := max(1, math.Ceil(busy/redisUse), math.Ceil(bytes/gib/shardGiB))
		first := nearest(c.walls(size.carts))
		hit := "none: " + first.what + " at " + thousands(first.changes) + "/s"
		if first.changes < size.changes {
			hit = first.what + ", at " + thousands(first.changes) + "/s"
		}
		say("| %s | %s | %s | %s | %s, %s | %.0f | %s |", thousands(size.carts), thousands(size.changes), strings.Join(cores, ", "), strings.Join(pods, ", "), short(busy), short(bytes/gib), shards, hit)
	}
	say("\n### What that means for the autoscalers\n")
	say("| | a shipped pod takes, at its target | pods for 1,000 changes a second with shipped requests | requests for 10 pods |\n|---|---|---|---|")
	for _, s := range chart {
		each := s.requestMilli / 1000 * s.target / c.cores(s.role, 1)
		say("| %s | %s changes/s | %.0f | %.0fm |", s.role, thousands(each), math.Ceil(1000/each), math.Ceil(c.cores(s.role, 1000)/10/s.target*1000))
	}
	say("\nA gateway with %s connections has %.0f MiB in use if its Go runtime is told to keep below 128 MiB (`GOMEMLIMIT=115MiB`); in the chart's 192 MiB it takes more before it collects.", thousands(connsPerGateway), (c.idle+connsPerGateway*c.conn)/mib)
	return b.String(), nil
}

// thousands writes a whole number that is read at a glance.
func thousands(v float64) string {
	text := fmt.Sprintf("%.0f", v)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// WriteCapacity writes what the figures of the last run in dir lead to into file,
// between its markers.
func WriteCapacity(dir, file string) error {
	r, err := read(dir)
	if err != nil {
		return err
	}
	text, err := r.capacity()
	if err != nil {
		return err
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, begins := strings.Cut(string(content), capacityBegin)
	_, after, ends := strings.Cut(rest, capacityEnd)
	if !begins || !ends {
		return errors.New(file + " has no two markers to write between: " + strings.TrimSpace(capacityBegin) + " and " + strings.TrimSpace(capacityEnd))
	}
	return os.WriteFile(file, []byte(before+capacityBegin+"\n"+text+"\n"+capacityEnd+after), 0o644)
}
