package rpc

import (
	"context"
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
// tried, and those that let a call time out within the last suspicion.
//
// Plain round robin may send each retry to the same stopped process, which
// neither answers nor hangs up.
const spread = "coatcheck_spread"

// suspicion is how long a replica that let a call time out is passed over while
// there are others.
const suspicion = time.Second

var registerSpread = sync.OnceFunc(func() {
	balancer.Register(base.NewBalancerBuilder(spread, pickers{}, base.Config{HealthCheck: true}))
})

type triedKey struct{}

// tried holds the replicas that the tries of one logical call went to. Tries
// follow each other, so it needs no lock.
type tried struct{ replicas []balancer.SubConn }

// NewCall returns a context for the tries of one logical call: each goes to a
// replica that no try before it went to, as long as there is one.
func NewCall(ctx context.Context) context.Context {
	return context.WithValue(ctx, triedKey{}, &tried{})
}

// pickers makes a picker each time the set of ready replicas changes.
type pickers struct{}

type replica struct {
	conn    balancer.SubConn
	suspect *atomic.Int64 // until when, in Unix nanoseconds
}

func (pickers) Build(info base.PickerBuildInfo) balancer.Picker {
	if len(info.ReadySCs) == 0 {
		return base.NewErrPicker(balancer.ErrNoSubConnAvailable)
	}
	picker := &picker{}
	for conn := range info.ReadySCs {
		picker.replicas = append(picker.replicas, replica{conn: conn, suspect: new(atomic.Int64)})
	}
	return picker
}

type picker struct {
	replicas []replica
	next     atomic.Uint32
}

func (p *picker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	call, _ := info.Ctx.Value(triedKey{}).(*tried)
	now := time.Now().UnixNano()
	start := int(p.next.Add(1))
	best, bestCost := 0, 4
	for i := range p.replicas {
		at := (start + i) % len(p.replicas)
		cost := 0
		if call != nil && call.has(p.replicas[at].conn) {
			cost += 2
		}
		if p.replicas[at].suspect.Load() > now {
			cost++
		}
		if cost < bestCost {
			best, bestCost = at, cost
		}
		if cost == 0 {
			break
		}
	}
	chosen := p.replicas[best]
	if call != nil {
		call.replicas = append(call.replicas, chosen.conn)
	}
	return balancer.PickResult{SubConn: chosen.conn, Done: func(done balancer.DoneInfo) {
		if status.Code(done.Err) == codes.DeadlineExceeded {
			chosen.suspect.Store(time.Now().Add(suspicion).UnixNano())
		} else if done.Err == nil {
			chosen.suspect.Store(0)
		}
	}}, nil
}

func (t *tried) has(conn balancer.SubConn) bool {
	for _, c := range t.replicas {
		if c == conn {
			return true
		}
	}
	return false
}
