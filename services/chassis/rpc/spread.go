package rpc

import (
	"context"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"
)

// spread is the name of the balancing policy: round robin over the replicas
// that are ready and healthy, passing over those that this logical call has
// tried, and those that let a call time out.
//
// Plain round robin may send each retry to the same stopped process, which
// neither answers nor hangs up.
const spread = "coatcheck_spread"

// suspicion is how long a replica that let a call time out is passed over while
// there are others. After that one call in each such time asks whether it
// answers again; the first answer, of whatever kind, ends the suspicion.
const suspicion = time.Second

var registerSpread = sync.OnceFunc(func() { balancer.Register(builder{}) })

type callKey struct{}

// logical is one logical call, and the context of its tries.
type logical struct {
	context.Context
	mu       sync.Mutex
	replicas []balancer.SubConn  // that its tries went to
	first    [1]balancer.SubConn // where replicas begins: most calls have one try
	of       []*logical          // those that are made together in it; none of a plain one
	among    int                 // how many replicas there were for the last try
}

func (c *logical) Value(key any) any {
	if key == (callKey{}) {
		return c
	}
	return c.Context.Value(key)
}

// NewCall returns a context for the tries of one logical call: each goes to a
// replica that no try before it went to, as long as there is one.
func NewCall(ctx context.Context) context.Context {
	return &logical{Context: ctx}
}

type tryKey struct{}

// timedTry is the context of one try.
type timedTry struct {
	context.Context
	length    time.Duration
	silence   time.Duration // TryAnnounced's, else 0
	end, last time.Time
}

func (t *timedTry) Deadline() (time.Time, bool) { return t.end, true }

func (t *timedTry) Value(key any) any {
	if key == (tryKey{}) {
		return t
	}
	return t.Context.Value(key)
}

// Try returns a context for one try of a call over a connection of Dial's, which
// takes so long from now at most, and ends at last or at the deadline of ctx in
// any case. The context itself does not end then: it has no timer, which most
// tries never need. So Done tells only of the end of ctx, and a context that is
// derived from it must not be given a later deadline.
func Try(ctx context.Context, length time.Duration, last time.Time) context.Context {
	if sooner, ok := ctx.Deadline(); ok && sooner.Before(last) {
		last = sooner
	}
	t := &timedTry{Context: ctx, length: length, last: last}
	t.end = t.ends()
	return t
}

// ends is when the try ends if it begins now.
func (t *timedTry) ends() time.Time {
	if end := time.Now().Add(t.length); end.Before(t.last) {
		return end
	}
	return t.last
}

// Restart returns ctx with the try as if it began now: what it waited for before
// anything was sent is none of its time. One that has just begun stays as it is.
func Restart(ctx context.Context) context.Context {
	t, ok := ctx.Value(tryKey{}).(*timedTry)
	if !ok {
		return ctx
	}
	end := t.ends()
	if end.Sub(t.end) < t.length/100 {
		return ctx
	}
	return &timedTry{Context: ctx, length: t.length, silence: t.silence, end: end, last: t.last}
}

// Restarted is the deadline that Restart would give the try of ctx, and last the
// one that it has however often it is restarted.
func Restarted(ctx context.Context) (end, last time.Time) {
	if t, ok := ctx.Value(tryKey{}).(*timedTry); ok {
		return t.ends(), t.last
	}
	end, _ = ctx.Deadline()
	return end, end
}

// bound is the innermost interceptor: what goes over the wire ends by itself.
func bound(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if end, ok := ctx.Deadline(); ok {
		timed, cancel := context.WithDeadline(ctx, end)
		defer cancel()
		ctx = timed
	}
	if t, ok := ctx.Value(tryKey{}).(*timedTry); ok && t.silence > 0 {
		return invokeAwaited(ctx, t.silence, func(ctx context.Context) error { return invoke(ctx, method, req, reply, conn, opts...) })
	}
	return invoke(ctx, method, req, reply, conn, opts...)
}

// Elsewhere returns a context for another logical call, which passes over the
// replica that the last try with before went to.
func Elsewhere(ctx, before context.Context) context.Context {
	next := &logical{Context: ctx}
	if call, ok := before.Value(callKey{}).(*logical); ok {
		next.replicas = call.last()
	}
	return next
}

// Together returns a context for one call in which all these logical calls are
// made, or one of them: where it goes counts as a try of each. It goes to a
// replica that has the fewest such calls under way. Of several calls, none is the
// one that asks a replica under suspicion whether it answers again.
func Together(ctx context.Context, calls ...context.Context) context.Context {
	joint := &logical{Context: ctx, of: make([]*logical, 0, len(calls))}
	for _, c := range calls {
		if one, ok := c.Value(callKey{}).(*logical); ok {
			joint.of = append(joint.of, one)
		}
	}
	return joint
}

// Tried reports whether the logical call of ctx was tried before.
func Tried(ctx context.Context) bool {
	call, ok := ctx.Value(callKey{}).(*logical)
	return ok && len(call.last()) > 0
}

// Replicas is how many there were to choose from for the last try with ctx; 0 if
// it came to none.
func Replicas(ctx context.Context) int {
	call, ok := ctx.Value(callKey{}).(*logical)
	if !ok {
		return 0
	}
	call.mu.Lock()
	defer call.mu.Unlock()
	return call.among
}

// builder makes a balancer for each connection.
type builder struct{}

func (builder) Name() string { return spread }

func (builder) Build(cc balancer.ClientConn, opts balancer.BuildOptions) balancer.Balancer {
	return base.NewBalancerBuilder(spread, &pickers{}, base.Config{HealthCheck: true}).Build(&replacing{ClientConn: cc}, opts)
}

// replacing has the name asked again when a replica is not ready any more: what
// replaces it may be there.
type replacing struct {
	balancer.ClientConn
	ready int
}

func (r *replacing) UpdateState(s balancer.State) {
	before := r.ready
	r.ready = 0 // also where nobody is left, and base gives an error for a picker
	if p, ok := s.Picker.(*picker); ok {
		r.ready = len(p.replicas)
	}
	if r.ready < before {
		r.ResolveNow(resolver.ResolveNowOptions{})
	}
	r.ClientConn.UpdateState(s)
}

// pickers makes a picker each time the set of ready replicas changes. It keeps
// the suspicions of those that stay.
type pickers struct{ known map[balancer.SubConn]*replica }

// replica is one server. suspect is 0, or until when it is passed over, in Unix
// nanoseconds; busy is how many calls of Together it has under way.
type replica struct {
	conn    balancer.SubConn
	suspect atomic.Int64
	busy    atomic.Int32
}

func (p *pickers) Build(info base.PickerBuildInfo) balancer.Picker {
	before := p.known
	p.known = make(map[balancer.SubConn]*replica, len(info.ReadySCs))
	if len(info.ReadySCs) == 0 {
		return base.NewErrPicker(balancer.ErrNoSubConnAvailable)
	}
	picker := &picker{}
	for conn := range info.ReadySCs {
		r := before[conn]
		if r == nil {
			r = &replica{conn: conn}
		}
		p.known[conn] = r
		picker.replicas = append(picker.replicas, r)
	}
	return picker
}

type picker struct {
	replicas []*replica
	next     atomic.Uint32
}

func (p *picker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	call, _ := info.Ctx.Value(callKey{}).(*logical)
	chosen := p.choose(call, time.Now().UnixNano())
	if call != nil {
		call.add(chosen.conn, len(p.replicas))
	}
	joint := call.joint()
	if joint {
		chosen.busy.Add(1)
	}
	return balancer.PickResult{SubConn: chosen.conn, Done: func(done balancer.DoneInfo) {
		if joint {
			chosen.busy.Add(-1)
		}
		switch {
		case done.BytesReceived:
			chosen.suspect.Store(0)
		case done.BytesSent && (status.Code(done.Err) == codes.DeadlineExceeded || silent(info.Ctx)):
			chosen.suspect.Store(time.Now().Add(suspicion).UnixNano())
		}
	}}, nil
}

// choose takes the next of those that have least against them.
func (p *picker) choose(call *logical, now int64) *replica {
	least, best := int64(math.MaxInt64), make([]*replica, 0, 16)
	many := call != nil && len(call.of) > 1
	for _, r := range p.replicas {
		against := int64(0)
		if call != nil && call.has(r.conn) {
			against += 2
		}
		if until := r.suspect.Load(); until > now || until != 0 && many {
			against++
		}
		if call.joint() {
			against = against<<32 + int64(r.busy.Load())
		}
		if against < least {
			least, best = against, best[:0]
		}
		if against == least {
			best = append(best, r)
		}
	}
	n := p.next.Add(1)
	for range best {
		r := best[n%uint32(len(best))]
		until := r.suspect.Load()
		// A suspect whose time is over takes one call; the others pass it over.
		if until == 0 || until > now || r.suspect.CompareAndSwap(until, now+int64(suspicion)) {
			return r
		}
		n++
	}
	return best[n%uint32(len(best))]
}

// joint reports whether the call was made by Together.
func (c *logical) joint() bool { return c != nil && c.of != nil }

func (c *logical) add(conn balancer.SubConn, among int) {
	c.mu.Lock()
	if c.replicas == nil {
		c.replicas = c.first[:0]
	}
	c.replicas, c.among = append(c.replicas, conn), among
	c.mu.Unlock()
	for _, one := range c.of {
		one.add(conn, among)
	}
}

func (c *logical) last() []balancer.SubConn {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.replicas[max(0, len(c.replicas)-1):])
}

func (c *logical) has(conn balancer.SubConn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Contains(c.replicas, conn)
}
