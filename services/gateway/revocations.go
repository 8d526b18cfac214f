package gateway

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"

	"coatcheck/chassis/fault"
	"coatcheck/chassis/rpc"
	authv1 "coatcheck/proto/coatcheck/auth/v1"
)

// tooLate is how old the first word of a stream may be. How long a stream took to
// begin counts as age of all it says, so one that began slowly is no good.
const tooLate = 300 * time.Millisecond

// follower hears from auth whose sessions have ended, and tells tickets.
type follower struct {
	conn     *grpc.ClientConn
	auth     authv1.AuthServiceClient
	tickets  *tickets
	log      *slog.Logger
	position string // of the last word heard
	whole    bool   // when that was last looked at, the tickets were
}

var errOld = errors.New("nothing was heard for too long, or what was heard is too old")

// run follows until the connection is closed. A stream that ends or falls silent
// is followed by one to another replica, as long as there is one.
func (f *follower) run() {
	ctx := rpc.NewCall(context.Background())
	f.whole = true // so that it is told if the first stream already fails
	for f.conn.GetState() != connectivity.Shutdown {
		err := f.follow(ctx)
		ctx = rpc.Elsewhere(context.Background(), ctx)
		f.look(err)
		pause := minPause + rand.N(minPause)
		if fault.Is(err, fault.Unimplemented) {
			pause = time.Second // an auth of before: it will be replaced
		}
		time.Sleep(pause)
	}
}

// look tells the operator, once, that tickets are no longer checked from memory.
func (f *follower) look(why error) {
	before := f.whole
	f.whole = f.tickets.whole()
	if before && !f.whole {
		f.log.Warn("revocations are not heard of: auth is asked of each request with a session", "err", why)
	}
}

// follow follows one stream to its end.
func (f *follower) follow(ctx context.Context) error {
	ctx, hangUp := context.WithCancel(ctx)
	defer hangUp()
	waiting, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	err := rpc.AwaitReady(waiting, f.conn)
	if err != nil {
		return err
	}
	patience := time.AfterFunc(silence, hangUp)
	defer patience.Stop()
	// Before the call begins: what auth says of the time since then is said of a
	// time that was not later here.
	began := f.tickets.now()
	stream, err := f.auth.WatchRevocations(ctx, &authv1.WatchRevocationsRequest{After: f.position})
	if err != nil {
		return err
	}
	for first := true; ; first = false {
		news, err := stream.Recv()
		if fault.Is(err, fault.Invalid) {
			f.position = "" // of another version of auth; the next stream begins anew
		}
		if err != nil {
			return err
		}
		patience.Reset(silence)
		if f.position != "" { // before the very first word there was nothing to hear
			f.look(errOld)
		}
		complete := began + news.GetComplete().AsDuration()
		if first && news.GetComplete() != nil && f.tickets.now()-complete > tooLate {
			return errors.New("the stream began too slowly")
		}
		if news.GetGap() || f.position == "" {
			f.tickets.endAll() // what ended before this is not known here
		}
		if news.GetGap() {
			f.tickets.gaps.Inc()
			f.log.Warn("news of revocations was missed for good: all sessions are verified anew")
		}
		f.tickets.end(news.GetUserIds()...)
		f.tickets.revoked.Add(float64(len(news.GetUserIds())))
		f.position = news.GetPosition()
		if news.GetComplete() != nil {
			f.tickets.trust(complete)
			f.whole = f.whole || f.tickets.whole() // that they are not any more is for look to tell
		}
	}
}
