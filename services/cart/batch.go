package cart

import (
	"context"
	"time"

	"coatcheck/chassis/fault"
	"coatcheck/chassis/rpc"
	"coatcheck/chassis/tracing"
	cartv1 "coatcheck/proto/coatcheck/cart/v1"
)

const (
	// maxOperations bounds a batch.
	maxOperations = 128
	// maxAnswered bounds the lines that the carts in one answer have together: the
	// caller takes messages of 4 MiB at most.
	maxAnswered = 4000
)

// batches is what a Server takes batches with.
type batches struct {
	store Batcher
	ring  *Keyring
	calls *rpc.Server
}

// TakeBatches has the server take batches. The hazard of a batch is that one
// operation harms another: each is held against the ring by itself and counted
// by calls as the call that it stands for, and whatever takes more than one step
// is left to a call of its own. It must be called before the server serves.
func (s *Server) TakeBatches(store Batcher, ring *Keyring, calls *rpc.Server) {
	s.batches = &batches{store, ring, calls}
}

// part is one operation of a batch on its way.
type part struct {
	rpc.Operation
	ctx    context.Context
	end    func(error) // of its span
	step   Step
	change Change
	err    error
	apart  bool
}

// Batch is part of CartService.
func (s *Server) Batch(ctx context.Context, req *cartv1.BatchRequest) (*cartv1.BatchResponse, error) {
	if s.batches == nil {
		return nil, fault.New(fault.Unimplemented, "no_batches", "This replica takes no batches.")
	}
	if n := len(req.GetOperations()); n == 0 || n > maxOperations {
		return nil, fault.New(fault.Invalid, "invalid_batch", "A batch has 1 to %d operations.", maxOperations)
	}
	parts := make([]part, len(req.GetOperations()))
	steps := make([]*Step, 0, len(parts))
	for i, op := range req.GetOperations() {
		p := &parts[i]
		method, asked := call(op)
		p.Operation = s.batches.calls.Begin(method, time.Duration(op.GetTimeLeft())*time.Microsecond)
		p.ctx, p.end = tracing.Answered(ctx, op.GetTraceparent(), method)
		p.err = p.Guard(p.ctx, func() error { return s.prepare(p, op, asked) })
		if p.err == nil && !p.apart {
			steps = append(steps, &p.step)
		}
	}
	if len(steps) > 0 {
		s.batches.store.Batch(ctx, steps)
	}
	resp := &cartv1.BatchResponse{Outcomes: make([]*cartv1.Outcome, len(parts))}
	lines := 0
	for i := range parts {
		p := &parts[i]
		lines += len(p.step.Result.Cart.Lines)
		resp.Outcomes[i] = s.outcome(p, lines)
	}
	return resp, nil
}

// call is what an operation stands for; nil for nothing that may be in a batch.
func call(op *cartv1.Operation) (method string, req interface{ GetOwner() string }) {
	switch r := op.GetRequest().(type) {
	case *cartv1.Operation_GetCart:
		return cartv1.CartService_GetCart_FullMethodName, r.GetCart
	case *cartv1.Operation_AddItems:
		return cartv1.CartService_AddItems_FullMethodName, r.AddItems
	case *cartv1.Operation_SetItem:
		return cartv1.CartService_SetItem_FullMethodName, r.SetItem
	case *cartv1.Operation_RemoveItem:
		return cartv1.CartService_RemoveItem_FullMethodName, r.RemoveItem
	case *cartv1.Operation_ClearCart:
		return cartv1.CartService_ClearCart_FullMethodName, r.ClearCart
	}
	return cartv1.CartService_Batch_FullMethodName, nil
}

// prepare makes a step of an operation. A ticket that the keys at hand do not fit
// may fit newer ones, for which auth must be asked: that takes a call by itself,
// which is also refused there if it is to be.
func (s *Server) prepare(p *part, op *cartv1.Operation, asked interface{ GetOwner() string }) (err error) {
	if asked == nil {
		return fault.New(fault.Invalid, "invalid_operation", "An operation of a batch is a reading or a change of a cart.")
	}
	if p.apart = !s.batches.ring.holds(asked.GetOwner(), op.GetTicket()); p.apart {
		return nil
	}
	if req, ok := asked.(changeRequest); ok {
		p.step.Owner, p.change, err = s.wanted(req)
		p.step.Change = &p.change
		return err
	}
	p.step.Owner, err = ParseOwner(asked.GetOwner())
	return err
}

// outcome answers one operation, which with those before it has so many lines.
func (s *Server) outcome(p *part, lines int) *cartv1.Outcome {
	if p.apart || p.step.Apart || p.err == nil && lines > maxAnswered {
		p.end(nil)
		return &cartv1.Outcome{Result: &cartv1.Outcome_Apart{Apart: true}}
	}
	out := &cartv1.Outcome{}
	if p.err == nil {
		p.err = p.Guard(p.ctx, func() error {
			switch {
			case p.step.Err != nil:
				return p.step.Err
			case p.step.Change == nil:
				out.Result = &cartv1.Outcome_GetCart{GetCart: &cartv1.GetCartResponse{Cart: s.priced(p.step.Result.Cart, false)}}
			default:
				out.Result = &cartv1.Outcome_Change{Change: s.changed(p.change, p.step.Result)}
			}
			return nil
		})
	}
	if p.err != nil {
		f := fault.From(p.err)
		out.Result = &cartv1.Outcome_Failure{Failure: &cartv1.Failure{Code: uint32(f.GRPCCode()), Reason: f.Code, Message: f.Message}}
	}
	p.End(p.ctx, p.err)
	p.end(p.err)
	return out
}
