package rpc

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
)

// Announce tells the caller that its call has arrived and is worked on, ahead of
// the answer: it sends the headers. A handler whose work is long and dear begins
// with it, so that a caller of TryAnnounced can tell it from one that is dead.
func Announce(ctx context.Context) { _ = grpc.SendHeader(ctx, nil) } // who is not asked over gRPC has nobody to tell

// TryAnnounced is Try for a call that its server announces (see Announce). It
// also ends, as if its time were over, when the server is silent for so long. On
// a connection that was opened without Announced nothing would be heard: there it
// is Try.
func TryAnnounced(ctx context.Context, silence, length time.Duration, last time.Time) context.Context {
	t := Try(ctx, length, last).(*timedTry)
	t.silence = silence
	return t
}

// Announced is an option for connections over which TryAnnounced is used. It
// costs all their calls some allocations.
func Announced() grpc.DialOption { return grpc.WithStatsHandler(listener{}) }

var errSilent = errors.New("the server did not announce the call in time")

func silent(ctx context.Context) bool { return context.Cause(ctx) == errSilent }

type awaitedKey struct{}

// awaited is the context of a try that ends when nothing is heard.
type awaited struct {
	context.Context
	silence time.Duration
	cancel  context.CancelCauseFunc
	timer   *time.Timer
}

func (w *awaited) Value(key any) any {
	if key == (awaitedKey{}) {
		return w
	}
	return w.Context.Value(key)
}

// invokeAwaited makes a call that ends by the silence of the server, and then as
// at a deadline.
func invokeAwaited(ctx context.Context, silence time.Duration, invoke func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w := &awaited{Context: ctx, silence: silence, cancel: cancel}
	err := invoke(w)
	w.heard()
	if err != nil && silent(ctx) {
		return status.Error(codes.DeadlineExceeded, errSilent.Error())
	}
	return err
}

// begin may come more than once: what gRPC could not send, it sends elsewhere.
func (w *awaited) begin() {
	if w.timer == nil {
		w.timer = time.AfterFunc(w.silence, func() { w.cancel(errSilent) })
	}
	w.timer.Reset(w.silence)
}

func (w *awaited) heard() {
	if w.timer != nil {
		w.timer.Stop()
	}
}

// listener hears the headers of an answer.
type listener struct{}

func (listener) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context {
	if w, ok := ctx.Value(awaitedKey{}).(*awaited); ok {
		w.begin()
	}
	return ctx
}

func (listener) HandleRPC(ctx context.Context, s stats.RPCStats) {
	if _, ok := s.(*stats.InHeader); !ok {
		return
	}
	if w, ok := ctx.Value(awaitedKey{}).(*awaited); ok {
		w.heard()
	}
}

func (listener) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

func (listener) HandleConn(context.Context, stats.ConnStats) {}
