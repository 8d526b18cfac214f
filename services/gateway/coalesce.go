package gateway

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"coatcheck/chassis/fault"
	"coatcheck/chassis/measure"
	"coatcheck/chassis/rpc"
	"coatcheck/chassis/ticket"
	"coatcheck/chassis/tracing"
	cartv1 "coatcheck/proto/coatcheck/cart/v1"
)

const (
	// maxBatch bounds the calls that are made together, maxBatchLines and
	// maxBatchVersions each of them: a large one is no cheaper in company.
	maxBatch, maxBatchLines, maxBatchVersions = 64, 10, 4
	// maxWaiting bounds the calls that wait: what has eight batches before it
	// would be answered too late.
	maxWaiting = 8 * maxBatch
	// askAlone is how often a call goes by itself whatever is under way, since a
	// replica under suspicion is asked by no more than one.
	askAlone = time.Second
)

// errWaiting is the answer to a call that was not made and need not be tried
// again: all replicas are behind.
var errWaiting = fault.New(fault.Unavailable, "overloaded", "Too many requests are waiting; try again soon.")

// coalescer lets few calls to the cart service be under way, so many for each
// replica. One that finds room is made at once, as if there were no coalescer;
// the others wait for one to end, and then go together, in a batch. So nothing
// waits for a timer, and the busier the shop is, the less a call costs.
//
// The hazard is a call that is harmed by its company. Each has an answer of its
// own, under its own key and within its own time, and one that has to be tried
// again is made by itself. A replica that stalls keeps what was sent there and no
// more: the others take all that waits.
type coalescer struct {
	perReplica int
	sizes      prometheus.Histogram
	refused    prometheus.Counter
	waits      prometheus.CounterFunc

	mu        sync.Mutex
	room      int // calls that may be under way
	underWay  int
	waiting   []*waiter     // the oldest first
	waited    time.Duration // by all calls, until countedAt
	countedAt time.Time
	askedAt   time.Time // when a call last went by itself for want of room
}

// waiter is a call that waits for room, and then for its answer.
type waiter struct {
	ctx     context.Context
	method  string
	op      cartv1.Operation
	end     time.Time // of its try, once that was sent
	verdict           // once over is closed
	over    chan struct{}
}

// answer ends the wait.
func (w *waiter) answer(v verdict) {
	w.verdict = v
	close(w.over)
}

// verdict is how a wait ends: with the outcome or the error of a batch, or that
// the call is to be made by itself, in the room that comes with that, if any does.
type verdict struct {
	outcome outcome
	header  metadata.MD
	err     error
	alone   bool
	room    bool
}

// Coalesce is what the connection to the cart service is opened with: calls take
// their tickets along, and are coalesced unless the settings are against it.
func Coalesce(s Settings, reg prometheus.Registerer) []grpc.DialOption {
	_, options := coalesce(s, reg)
	return options
}

func coalesce(s Settings, reg prometheus.Registerer) (*coalescer, []grpc.DialOption) {
	if s.CartBatches == 0 {
		return nil, []grpc.DialOption{grpc.WithChainUnaryInterceptor(ticket.Attach)}
	}
	c := newCoalescer(s.CartBatches, reg)
	return c, []grpc.DialOption{grpc.WithChainUnaryInterceptor(c.call)}
}

func newCoalescer(perReplica int, reg prometheus.Registerer) *coalescer {
	f := promauto.With(reg)
	c := &coalescer{
		perReplica: perReplica,
		room:       perReplica,
		sizes: f.NewHistogram(measure.Histogram("coatcheck_gateway_batch_operations",
			"Calls to the cart service that were made together, for each batch; a call that went by itself is none.", []float64{2, 4, 8, 16, 32, maxBatch})),
		refused: f.NewCounter(prometheus.CounterOpts{
			Name: "coatcheck_gateway_waiting_refused_total",
			Help: "Calls to the cart service that were not made because too many were waiting.",
		}),
	}
	c.waits = f.NewCounterFunc(prometheus.CounterOpts{
		Name: "coatcheck_gateway_waited_seconds_total",
		Help: "Time that calls to the cart service waited for those under way to end; its rate is how many wait, on average.",
	}, func() float64 {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.count()
		return c.waited.Seconds()
	})
	return c
}

// call is the interceptor. Calls by themselves take their tickets along.
func (c *coalescer) call(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if !small(req) || rpc.Tried(ctx) {
		return ticket.Attach(ctx, method, req, reply, conn, invoke, opts...)
	}
	if !c.enter() {
		v := c.wait(ctx, method, req, conn)
		if !v.alone {
			return v.take(reply, opts)
		}
		ctx = rpc.Restart(ctx)
		if !v.room {
			return ticket.Attach(ctx, method, req, reply, conn, invoke, opts...)
		}
	}
	ctx = rpc.Together(ctx, ctx)
	defer c.leave(ctx, conn)
	return ticket.Attach(ctx, method, req, reply, conn, invoke, opts...)
}

// enter takes room, if there is any.
func (c *coalescer) enter() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.underWay >= c.room {
		now := time.Now()
		if now.Sub(c.askedAt) < askAlone {
			return false
		}
		c.askedAt = now
	}
	c.underWay++
	return true
}

// leave gives back the room of a call, or of a batch, that was made with ctx.
func (c *coalescer) leave(ctx context.Context, conn *grpc.ClientConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := rpc.Replicas(ctx); n > 0 {
		c.room = n * c.perReplica
	}
	c.underWay--
	c.next(conn)
}

// count adds up how long calls have waited; mu is held, and their number is about
// to change.
func (c *coalescer) count() {
	now := time.Now()
	c.waited += time.Duration(len(c.waiting)) * now.Sub(c.countedAt)
	c.countedAt = now
}

// next gives the room that there is to those that wait; mu is held.
func (c *coalescer) next(conn *grpc.ClientConn) {
	for c.underWay < c.room && len(c.waiting) > 0 {
		c.count()
		n := min(len(c.waiting), maxBatch)
		batch := slices.Clone(c.waiting[:n])
		c.waiting = slices.Delete(c.waiting, 0, n)
		c.underWay++
		if n == 1 {
			batch[0].answer(verdict{alone: true, room: true})
		} else {
			go c.send(batch, conn)
		}
	}
}

// timers are those of waits that are over.
var timers = sync.Pool{New: func() any { return time.NewTimer(time.Hour) }}

// wait waits for room and an answer, until the last moment or the end of ctx. The
// time that a try may take begins when there is room: if it ran before, the calls
// that wait while a shop is behind would give up, and come again as further tries.
func (c *coalescer) wait(ctx context.Context, method string, req any, conn *grpc.ClientConn) verdict {
	w := &waiter{ctx: ctx, method: method, over: make(chan struct{})}
	w.op.Ticket = ticket.Sent(ctx)
	want(&w.op, req)
	c.mu.Lock()
	if len(c.waiting) >= maxWaiting {
		c.mu.Unlock()
		c.refused.Inc()
		return verdict{err: errWaiting}
	}
	c.count()
	now := c.countedAt
	c.waiting = append(c.waiting, w)
	c.next(conn) // there may be room by now
	c.mu.Unlock()
	timer := timers.Get().(*time.Timer)
	_, last := rpc.Restarted(ctx)
	timer.Reset(last.Sub(now))
	defer func() {
		timer.Stop()
		timers.Put(timer)
	}()
	reason := context.DeadlineExceeded
	select {
	case <-w.over:
		return w.verdict
	case <-timer.C:
	case <-ctx.Done():
		reason = ctx.Err()
	}
	c.giveUp(w, conn)
	return verdict{err: status.FromContextError(reason).Err()}
}

// giveUp has the call wait no longer. One that is in a batch may still be made;
// room that it was given meanwhile goes to the next.
func (c *coalescer) giveUp(w *waiter, conn *grpc.ClientConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.Index(c.waiting, w); i >= 0 {
		c.count()
		c.waiting = slices.Delete(c.waiting, i, i+1)
		return
	}
	select {
	case <-w.over:
		if w.room {
			c.underWay--
			c.next(conn)
		}
	default:
	}
}

// send makes calls together. It takes as long as the one of them that may take
// longest; who can't wait so long has gone by then.
func (c *coalescer) send(batch []*waiter, conn *grpc.ClientConn) {
	c.sizes.Observe(float64(len(batch)))
	req := &cartv1.BatchRequest{Operations: make([]*cartv1.Operation, len(batch))}
	ends := make([]func(error), len(batch))
	for i, w := range batch {
		w.end, _ = rpc.Restarted(w.ctx)
		w.ctx, ends[i] = tracing.Asked(w.ctx, w.method)
		w.op.Traceparent, w.op.TimeLeft = tracing.Header(w.ctx), time.Until(w.end).Microseconds()
		req.Operations[i] = &w.op
	}
	ctx, cancel := together(batch)
	defer cancel()
	var header metadata.MD
	all := make(outcomes, 0, len(batch))
	err := conn.Invoke(ctx, cartv1.CartService_Batch_FullMethodName, req, &all, grpc.Header(&header), decodesItself)
	c.leave(ctx, conn)
	for i, w := range batch {
		v := verdictOf(all, err, i)
		v.header = header
		ends[i](v.err)
		w.answer(v)
	}
}

// verdictOf is how the wait of the i-th call in a batch ends.
func verdictOf(all outcomes, err error, i int) verdict {
	switch {
	case status.Code(err) == codes.Unimplemented:
		return verdict{alone: true} // by a replica of an older release: nothing was done
	case err != nil:
		return verdict{err: err}
	case i >= len(all):
		return verdict{err: errNoOutcome}
	}
	switch one := all[i]; one.result {
	case resultApart:
		return verdict{alone: true}
	case resultFailure:
		var f cartv1.Failure
		err := proto.Unmarshal([]byte(one.value), &f)
		if err != nil {
			return verdict{err: errWire}
		}
		return verdict{err: fault.FromCode(codes.Code(f.GetCode()), f.GetReason(), f.GetMessage())}
	default:
		return verdict{outcome: one}
	}
}

var errNoOutcome = fault.New(fault.Internal, "internal", "Something went wrong on our side.")

// together is the context of a batch. Its trace is that of the first call that
// has one which is kept.
func together(batch []*waiter) (context.Context, context.CancelFunc) {
	calls := make([]context.Context, len(batch))
	first, latest := batch[0], time.Time{}
	for i, w := range batch {
		calls[i] = w.ctx
		if w.end.After(latest) {
			latest = w.end
		}
		if w.op.GetTraceparent() != "" && first.op.GetTraceparent() == "" {
			first = w
		}
	}
	ctx := trace.ContextWithSpan(context.Background(), trace.SpanFromContext(first.ctx))
	return context.WithDeadline(rpc.Together(ctx, calls...), latest)
}

// take makes the reply of the verdict, as if the call had been made by itself.
func (v verdict) take(reply any, opts []grpc.CallOption) error {
	for _, opt := range opts {
		if header, ok := opt.(grpc.HeaderCallOption); ok {
			*header.HeaderAddr = v.header
		}
	}
	if v.err != nil {
		return v.err
	}
	switch reply := reply.(type) {
	case *gotCart:
		if v.outcome.result == resultGetCart {
			return reply.DecodeWire(string(v.outcome.value))
		}
	case *changed:
		if v.outcome.result == resultChange {
			return reply.decodeChange(v.outcome.value)
		}
	}
	return errNoOutcome
}

// small reports whether a request may go in a batch.
func small(req any) bool {
	if add, ok := req.(*cartv1.AddItemsRequest); ok && len(add.GetLines()) > maxBatchLines {
		return false
	}
	if change, ok := req.(interface{ GetIfMatch() *cartv1.Precondition }); ok && len(change.GetIfMatch().GetAnyOf()) > maxBatchVersions {
		return false
	}
	switch req.(type) {
	case *cartv1.GetCartRequest, *cartv1.AddItemsRequest, *cartv1.SetItemRequest, *cartv1.RemoveItemRequest, *cartv1.ClearCartRequest:
		return true
	}
	return false
}

// want has an operation be for what a request is for.
func want(op *cartv1.Operation, req any) {
	switch req := req.(type) {
	case *cartv1.GetCartRequest:
		op.Request = &cartv1.Operation_GetCart{GetCart: req}
	case *cartv1.AddItemsRequest:
		op.Request = &cartv1.Operation_AddItems{AddItems: req}
	case *cartv1.SetItemRequest:
		op.Request = &cartv1.Operation_SetItem{SetItem: req}
	case *cartv1.RemoveItemRequest:
		op.Request = &cartv1.Operation_RemoveItem{RemoveItem: req}
	case *cartv1.ClearCartRequest:
		op.Request = &cartv1.Operation_ClearCart{ClearCart: req}
	}
}
