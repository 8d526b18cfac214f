package auth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"coatcheck/chassis/fault"
	authv1 "coatcheck/proto/coatcheck/auth/v1"
)

const (
	// heartbeat is how long those who watch wait for a word at most.
	heartbeat = 200 * time.Millisecond
	// readWait is how long one reading waits for something new. It is the age of
	// what a heartbeat can say.
	readWait = 50 * time.Millisecond
	// remembered is how long a replica keeps a revocation for those who come
	// back; longer than anything is trusted that was verified before.
	remembered = 2 * time.Minute
	// keptRevocations is how long the store does, for replicas that start.
	keptRevocations = 5 * time.Minute
	// page is how many revocations one reading answers at most.
	page = 1000
)

// Revocations is the log of users whose sessions were ended, some or all. A
// Store writes to it before it answers that they were.
type Revocations interface {
	// ReadRevocations answers up to page of those behind after, oldest first. It
	// waits up to wait for there to be one, and answers none then. Those that are
	// older than five minutes may be missing.
	ReadRevocations(ctx context.Context, after Position, wait time.Duration) ([]Revocation, error)
	// LastRevocation answers the highest position that was ever given, also where
	// there was none yet: of which log that is. It is of another log than one given
	// before, or below it, only if that log was lost.
	LastRevocation(ctx context.Context) (Position, error)
}

// Revocation is one entry of the log; UserID is empty in one that only names it.
type Revocation struct {
	At     Position
	UserID string
}

// Position is a place in a log; the zero Position is before all of any.
type Position struct {
	// Log is which log it is. A log that was lost is followed by one of another
	// name, however much of that there is by the time somebody looks.
	Log        string
	Milli, Seq uint64
}

// Compare orders the positions of one log.
func (p Position) Compare(q Position) int {
	return cmp.Or(cmp.Compare(p.Milli, q.Milli), cmp.Compare(p.Seq, q.Seq))
}

func (p Position) String() string { return p.Log + "/" + p.place() }

func (p Position) place() string { return fmt.Sprintf("%d-%d", p.Milli, p.Seq) }

// ParsePosition takes what String makes; "" is the zero Position. A place alone is
// one in a log without a name.
func ParsePosition(s string) (Position, error) {
	if s == "" {
		return Position{}, nil
	}
	log, place, named := strings.Cut(s, "/")
	if !named {
		log, place = "", s
	}
	milli, seq, _ := strings.Cut(place, "-")
	m, err := strconv.ParseUint(milli, 10, 64)
	n, seqErr := strconv.ParseUint(seq, 10, 64)
	if err = cmp.Or(err, seqErr); err != nil {
		return Position{}, errors.New("a position is the name of a log, a slash, and two numbers with a dash between")
	}
	return Position{log, m, n}, nil
}

// feed follows the log for all who watch this replica, so that they cost the
// store one reader.
//
// The hazard is a watcher that takes silence for "nothing was revoked". So the
// feed says up to when it has read everything, as a time before it asked for it,
// and says nothing at all while the log does not answer.
type feed struct {
	log Revocations

	mu       sync.Mutex
	recent   []heard
	last     Position  // read until here
	dropped  Position  // and kept from here on
	complete time.Time // all that was announced before is read
	watching int       // how many watch
	losses   int       // how often the log was lost
	changed  chan struct{}
	over     bool
}

type heard struct {
	Revocation
	at time.Time
}

func newFeed(log Revocations) *feed { return &feed{log: log, changed: make(chan struct{})} }

// run reads until ctx ends. Those who watch end with it.
func (f *feed) run(ctx context.Context) {
	defer f.end()
	for ctx.Err() == nil {
		if err := f.read(ctx); err != nil {
			select {
			case <-ctx.Done():
			case <-time.After(readWait):
			}
		}
	}
}

// read reads once, and asks afterwards whether that was the log that it had read
// before: one that was lost in between may have taken along what nobody has read.
func (f *feed) read(ctx context.Context) error {
	began := time.Now()
	found, err := f.log.ReadRevocations(ctx, f.last, readWait)
	if err != nil {
		return err
	}
	last, err := f.log.LastRevocation(ctx)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if last.Log != f.last.Log || last.Compare(f.last) < 0 {
		// A log that knows nothing of the one before.
		if f.last.Log != "" {
			f.losses++
		}
		f.recent, f.last, f.dropped, f.complete = nil, Position{Log: last.Log}, Position{}, time.Time{}
		return nil
	}
	now := time.Now()
	for _, r := range found {
		if f.last = r.At; r.UserID != "" {
			f.recent = append(f.recent, heard{r, now})
		}
	}
	old := 0
	for old < len(f.recent) && now.Sub(f.recent[old].at) > remembered {
		old++
	}
	if old > 0 {
		f.dropped = f.recent[old-1].At
		f.recent = append([]heard(nil), f.recent[old:]...)
	}
	if len(found) < page {
		f.complete = began
	}
	f.tell()
	return nil
}

func (f *feed) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.over = true
	f.tell()
}

// tell wakes those who watch. f.mu is held.
func (f *feed) tell() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// watcher is one who watches.
type watcher struct {
	began time.Time
	after Position
}

// next answers what w is to be told, nil if nothing can be said yet, and what
// wakes it when there is more. over says that there will be no more.
func (f *feed) next(w *watcher) (news *authv1.WatchRevocationsResponse, more <-chan struct{}, over bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.over || f.complete.Before(w.began) {
		return nil, f.changed, f.over
	}
	// Where nothing was lost, what w has heard of is read by now. Who has heard of
	// nothing has missed nothing.
	gap := w.after != Position{} &&
		(w.after.Log != f.last.Log || w.after.Compare(f.last) > 0 || w.after.Compare(f.dropped) < 0)
	if gap {
		w.after = Position{}
	}
	news = &authv1.WatchRevocationsResponse{Gap: gap, Complete: durationpb.New(f.complete.Sub(w.began))}
	begin, _ := slices.BinarySearchFunc(f.recent, w.after, func(r heard, after Position) int {
		return cmp.Or(r.At.Compare(after), -1) // behind after, not at it
	})
	unheard := f.recent[begin:]
	w.after, more = f.last, f.changed
	if len(unheard) > page {
		// The rest follows at once; until then, nothing is complete.
		unheard = unheard[:page]
		w.after, more, news.Complete = unheard[page-1].At, ready, nil
	}
	for _, r := range unheard {
		news.UserIds = append(news.UserIds, r.UserID)
	}
	news.Position = w.after.String()
	return news, more, false
}

// ready wakes at once.
var ready = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

func (f *feed) join(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.watching += n
}

// watch tells send what is revoked from after on, until ctx or the feed ends.
func (f *feed) watch(ctx context.Context, after Position, send func(*authv1.WatchRevocationsResponse) error) error {
	f.join(1)
	defer f.join(-1)
	w := &watcher{began: time.Now(), after: after}
	var told time.Time
	for {
		news, more, over := f.next(w)
		if over {
			return fault.New(fault.Unavailable, "draining", "This replica is about to stop. Ask another.")
		}
		if news != nil && (news.GetGap() || len(news.GetUserIds()) > 0 || time.Since(told) >= heartbeat-readWait) {
			if err := send(news); err != nil {
				return err
			}
			told = time.Now()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-more:
		}
	}
}
