package rpc

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/codes"
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

type triedKey struct{}

// tried holds the replicas that the tries of one logical call went to.
type tried struct {
	mu       sync.Mutex
	replicas []balancer.SubConn
}

// NewCall returns a context for the tries of one logical call: each goes to a
// replica that no try before it went to, as long as there is one.
func NewCall(ctx context.Context) context.Context {
	return context.WithValue(ctx, triedKey{}, &tried{})
}

// Elsewhere returns a context for another logical call, which passes over the
// replica that the last try with before went to.
func Elsewhere(ctx, before context.Context) context.Context {
	next := &tried{}
	if call, ok := before.Value(triedKey{}).(*tried); ok {
		next.replicas = call.last()
	}
	return context.WithValue(ctx, triedKey{}, next)
}

// builder makes a balancer for each connection.
type builder struct{}

func (builder) Name() string { return spread }

func (builder) Build(cc balancer.ClientConn, opts balancer.BuildOptions) balancer.Balancer {
	return base.NewBalancerBuilder(spread, &pickers{}, base.Config{HealthCheck: true}).Build(cc, opts)
}

// pickers makes a picker each time the set of ready replicas changes. It keeps
// the suspicions of those that stay.
type pickers struct{ known map[balancer.SubConn]*replica }

// replica is one server. suspect is 0, or until when it is passed over, in Unix
// nanoseconds.
type replica struct {
	conn    balancer.SubConn
	suspect atomic.Int64
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
	call, _ := info.Ctx.Value(triedKey{}).(*tried)
	chosen := p.choose(call, time.Now())
	if call != nil {
		call.add(chosen.conn)
	}
	return balancer.PickResult{SubConn: chosen.conn, Done: func(done balancer.DoneInfo) {
		switch {
		case done.BytesReceived:
			chosen.suspect.Store(0)
		case done.BytesSent && status.Code(done.Err) == codes.DeadlineExceeded:
			chosen.suspect.Store(time.Now().Add(suspicion).UnixNano())
		}
	}}, nil
}

// choose takes the next of those that have least against them.
func (p *picker) choose(call *tried, now time.Time) *replica {
	least, best := 4, make([]*replica, 0, 16)
	for _, r := range p.replicas {
		against := 0
		if call != nil && call.has(r.conn) {
			against += 2
		}
		if r.suspect.Load() > now.UnixNano() {
			against++
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
		if until == 0 || until > now.UnixNano() || r.suspect.CompareAndSwap(until, now.Add(suspicion).UnixNano()) {
			return r
		}
		n++
	}
	return best[n%uint32(len(best))]
}

func (t *tried) add(conn balancer.SubConn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.replicas = append(t.replicas, conn)
}

func (t *tried) last() []balancer.SubConn {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.replicas[max(0, len(t.replicas)-1):])
}

func (t *tried) has(conn balancer.SubConn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Contains(t.replicas, conn)
}
