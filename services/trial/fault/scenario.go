package fault

import (
	"iter"
	"math/rand/v2"
	"slices"
	"time"

	"coatcheck/trial/local"
)

// Scenario is a named sequence of faults.
type Scenario struct {
	Name, About string
	// Length and Rate are those of the traffic, unless it is told otherwise:
	// how long at least, and how many requests a second.
	Length time.Duration
	Rate   float64
	// With fewer faults or acknowledged changes, a trial of that length and rate
	// has shown too little. On a slow machine it goes on for them.
	LeastFaults, LeastChanges int
	// LeastRate is how many changes a second, and LeastNewCarts how many new cart
	// pods, it must have shown.
	LeastRate     float64
	LeastNewCarts int
	// MostGap is how long it may be from one fault to the next, on average; 0 is any time.
	MostGap time.Duration
	// Ends says that a longer run has no more faults.
	Ends bool
	// KillsNothing says that no fault of it is a kill.
	KillsNothing bool
	// Cluster says that it is for a shop on a cluster, and that package cluster
	// makes its faults.
	Cluster bool
	// Spares and Network say what the shop must be given, see local.Options.
	Spares  int
	Network bool
	// faults yields until it is told to stop, or has no more; nil has none.
	faults func(*plan, func(Fault) bool)
}

// Faults are the faults for the shop with these processes, in order; most
// scenarios have no end. The same seed and processes give the same faults.
func (s Scenario) Faults(seed uint64, processes []local.Process) iter.Seq[Fault] {
	return func(yield func(Fault) bool) {
		if s.faults == nil {
			return
		}
		p := &plan{rng: rand.New(rand.NewPCG(seed, 0)), processes: slices.Clone(processes), hits: map[string]int{}}
		s.faults(p, yield)
	}
}

var replicated = []string{local.Auth, local.Cart, local.Gateway}

// Scenarios are all that there are. In the first every kind of fault happens.
func Scenarios() []Scenario {
	return []Scenario{
		{
			Name: "demo", About: "every kind of fault, in little more than a minute; Redis and the network come last",
			Length: time.Minute, Rate: 320, LeastFaults: 42, LeastChanges: 20_000, Ends: true, Spares: 1, Network: true, faults: demo,
		},
		{
			Name: "processes", About: "gateway, auth and cart: killed, ended, frozen, rolled, scaled",
			Length: time.Minute, Rate: 300, LeastFaults: 25, LeastChanges: 12_000, Spares: 1, faults: forever(processes(replicated...)),
		},
		{
			Name: "hidden", About: "the same with auth and cart alone, of which no client may notice anything",
			Length: time.Minute, Rate: 300, LeastFaults: 25, LeastChanges: 12_000, Spares: 1, faults: forever(processes(local.Auth, local.Cart)),
		},
		{
			Name: "redis", About: "Redis is killed, or stopped for two seconds",
			Length: time.Minute, Rate: 300, LeastFaults: 10, LeastChanges: 6_000, faults: forever(redis),
		},
		{
			Name: "network", About: "between gateway, cart, auth and Redis all is swallowed, or delayed",
			Length: time.Minute, Rate: 300, LeastFaults: 10, LeastChanges: 6_000, KillsNothing: true, Network: true, faults: forever(wires),
		},
		{
			Name: "rolling", About: "rolling restarts of each role, and scaling",
			Length: time.Minute, Rate: 300, LeastFaults: 12, LeastChanges: 12_000, KillsNothing: true, Spares: 1, faults: forever(rolling),
		},
		{
			Name: "rotation", About: "the signing keys are rotated every 20 s or so while gateway, auth and cart are killed, at least 500 times",
			Length: 13 * time.Minute, Rate: 450, LeastFaults: 530, LeastChanges: 300_000, faults: forever(rotation),
		},
		{
			Name: "long", About: "every kind of fault for 20 minutes, at least 500 kills",
			Length: 20 * time.Minute, Rate: 450, LeastFaults: 650, LeastChanges: 500_000, Spares: 1, Network: true, faults: forever(cycle),
		},
		{
			Name: "none", About: "no fault",
			Length: time.Minute, Rate: 300, LeastChanges: 12_000, KillsNothing: true,
		},
		{
			Name: "pods", About: "on a cluster: every 3 s a pod of gateway, auth or cart is deleted, with grace or without, or evicted",
			Length: 90 * time.Second, Rate: 180, LeastFaults: 25, LeastChanges: 13_500, LeastRate: 150, MostGap: 3300 * time.Millisecond, Cluster: true,
		},
		{
			Name: "pods-mixed", About: "on a cluster: pods deleted, evicted and killed, Deployments rolled and scaled, one after the other",
			Length: 3 * time.Minute, Rate: 190, LeastFaults: 7, LeastChanges: 24_000, Cluster: true,
		},
		{
			Name: "pods-rolling", About: "on a cluster: three roll-outs of all Deployments, at once each time",
			Length: 2 * time.Minute, Rate: 190, LeastFaults: 3, LeastChanges: 16_000, KillsNothing: true, Ends: true, Cluster: true,
		},
		{
			Name: "pods-redis", About: "on a cluster: the pod of Redis is deleted five times",
			Length: 90 * time.Second, Rate: 120, LeastFaults: 5, LeastChanges: 5_000, Ends: true, Cluster: true,
		},
		{
			Name: "scale", About: "on a cluster: no fault, but enough load to have autoscalers work",
			Length: 150 * time.Second, Rate: 190, LeastChanges: 22_000, LeastNewCarts: 3, KillsNothing: true, Cluster: true,
		},
		{
			Name: "scale-pods", About: "on a cluster: the same load, and every 5 s a pod is deleted or evicted",
			Length: 3 * time.Minute, Rate: 190, LeastFaults: 30, LeastChanges: 26_000, LeastNewCarts: 3, Cluster: true,
		},
		{
			Name: "calm", About: "on a cluster: no fault, and so little load that autoscalers come down",
			Length: 5 * time.Minute, Rate: 25, LeastChanges: 4_560, KillsNothing: true, Cluster: true,
		},
		{
			Name: "node", About: "on a cluster: a worker node without Redis is stopped for a minute, and returns",
			Length: 5 * time.Minute, Rate: 190, LeastFaults: 2, LeastChanges: 4_000, KillsNothing: true, Ends: true, Cluster: true,
		},
		{
			Name: "node-redis", About: "on a cluster: the worker node of Redis is stopped for a minute, and returns",
			Length: 5 * time.Minute, Rate: 190, LeastFaults: 2, LeastChanges: 4_000, KillsNothing: true, Ends: true, Cluster: true,
		},
	}
}

// Named returns the scenario with this name.
func Named(name string) (Scenario, bool) {
	all := Scenarios()
	i := slices.IndexFunc(all, func(s Scenario) bool { return s.Name == name })
	if i < 0 {
		return Scenario{}, false
	}
	return all[i], true
}

// step draws the next fault.
type step func(*plan) Fault

func forever(steps func(*plan) []step) func(*plan, func(Fault) bool) {
	return func(p *plan, yield func(Fault) bool) {
		for p.make(steps(p), yield) {
		}
	}
}

// times repeats steps.
func times(n int, steps ...step) []step { return slices.Repeat(steps, n) }

// Faults of one class are kept together: while clients may notice one, and a
// little longer, nobody can tell whether they would have noticed another.

// demo is the only one with an end.
func demo(p *plan, yield func(Fault) bool) {
	hits := func(roles ...string) (steps []step) {
		for _, role := range roles {
			steps = append(steps, times(5, kills(role))...)
			steps = append(steps, times(2, ends(Term, role), scales(role))...)
			steps = append(steps, rolls(role), freezes(role))
		}
		return p.shuffle(steps)
	}
	outages := slices.Concat(times(2, kills(local.Redis)), []step{redisStop}, wires(p))
	p.make(slices.Concat(hits(local.Auth, local.Cart), hits(local.Gateway), p.shuffle(outages)), yield)
}

func processes(roles ...string) func(*plan) []step {
	return func(p *plan) (all []step) {
		for _, role := range roles {
			steps := slices.Concat(times(6, kills(role)), times(2, ends(Term, role), scales(role)))
			all = append(all, p.shuffle(append(steps, p.rare(role)))...)
		}
		return all
	}
}

func redis(p *plan) []step {
	return p.shuffle(append(times(3, kills(local.Redis)), redisStop))
}

func wires(p *plan) []step {
	var steps []step
	for _, way := range [][2]string{{local.Cart, local.Redis}, {local.Auth, local.Redis}, {local.Gateway, local.Cart}} {
		steps = append(steps,
			func(*plan) Fault { return cut(way[0], way[1]) },
			func(*plan) Fault { return slow(way[0], way[1]) })
	}
	return p.shuffle(steps)
}

func rolling(p *plan) []step {
	var steps []step
	for _, role := range replicated {
		steps = append(steps, p.shuffle([]step{rolls(role), scales(role), scales(role)})...)
	}
	return steps
}

// cycle takes about 20 s and kills a dozen.
func cycle(p *plan) []step {
	var hidden []step
	for _, role := range []string{local.Auth, local.Cart} {
		hidden = append(hidden, times(4, kills(role))...)
	}
	gateway := times(4, kills(local.Gateway))
	term := p.pick(replicated)
	if term == local.Gateway {
		gateway = append(gateway, ends(Term, term), p.rare(term))
	} else {
		hidden = append(hidden, ends(Term, term), p.rare(term))
	}
	outages := append(wires(p)[:3], kills(local.Redis), kills(local.Redis), redisStop)
	return slices.Concat(p.shuffle(hidden), p.shuffle(gateway), p.shuffle(outages)[:1])
}

// rotation takes a little longer than a new key takes to sign, so that this comes
// while auth and cart are killed. It kills 26.
func rotation(p *plan) []step {
	hidden := slices.Concat(times(10, kills(local.Auth)), times(10, kills(local.Cart)))
	return slices.Concat([]step{func(*plan) Fault { return rotate() }}, times(6, kills(local.Gateway)), p.shuffle(hidden))
}

// rare is a fault that takes longer, or is done less often.
func (p *plan) rare(role string) step {
	return p.shuffle([]step{freezes(role), rolls(role), scales(role), scales(role)})[0]
}

func redisStop(*plan) Fault { return redisDown() }

func kills(role string) step { return ends(Kill, role) }

func ends(kind, role string) step {
	return func(p *plan) Fault { return end(kind, p.replica(kind, role)) }
}

func freezes(role string) step { return func(p *plan) Fault { return freeze(p.replica(Stop, role)) } }

func rolls(role string) step { return func(*plan) Fault { return roll(role) } }

// scales goes up while there is a spare, else down.
func scales(role string) step {
	return func(p *plan) Fault {
		spare := slices.IndexFunc(p.processes, func(c local.Process) bool { return c.Role == role && c.State == local.Stopped })
		if spare < 0 {
			gone := p.replica(ScaleDown, role)
			p.processes[slices.Index(p.processes, gone)].State = local.Stopped
			return scaleDown(gone)
		}
		c := &p.processes[spare]
		for _, kind := range []string{Kill, Term, Stop, ScaleDown} { // else it would be hit until it has caught up
			p.hits[kind+c.Name] = p.hits[kind+p.least(kind, role)[0].Name]
		}
		c.State = local.Running
		return scaleUp(*c)
	}
}

// plan draws faults and keeps book of who will be running, so that what it
// draws depends on nothing but the seed.
type plan struct {
	rng       *rand.Rand
	processes []local.Process
	hits      map[string]int // by kind and name
}

// make draws and yields one fault for each step; false means stop.
func (p *plan) make(steps []step, yield func(Fault) bool) bool {
	for _, s := range steps {
		if !yield(s(p)) {
			return false
		}
	}
	return true
}

func (p *plan) pick(of []string) string { return of[p.rng.IntN(len(of))] }

func (p *plan) shuffle(steps []step) []step {
	p.rng.Shuffle(len(steps), func(i, j int) { steps[i], steps[j] = steps[j], steps[i] })
	return steps
}

// replica draws one of the running replicas that were hit least by this kind.
func (p *plan) replica(kind, role string) local.Process {
	least := p.least(kind, role)
	drawn := least[p.rng.IntN(len(least))]
	p.hits[kind+drawn.Name]++
	return drawn
}

func (p *plan) least(kind, role string) []local.Process {
	var least []local.Process
	for _, c := range p.processes {
		if c.Role != role || c.State == local.Stopped {
			continue
		}
		if len(least) > 0 && p.hits[kind+c.Name] < p.hits[kind+least[0].Name] {
			least = least[:0]
		}
		if len(least) == 0 || p.hits[kind+c.Name] == p.hits[kind+least[0].Name] {
			least = append(least, c)
		}
	}
	return least
}
