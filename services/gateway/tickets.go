package gateway

import (
	"crypto/sha256"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"coatcheck/chassis/ticket"
)

const (
	// trusted is how long a ticket counts as verified at most. The inside ticket
	// that goes with it lives some seconds longer, for the calls that take it along.
	trusted = ticket.InsideLife - 10*time.Second
	// silence is how old what is known of revocations may be.
	silence = 500 * time.Millisecond
	// longest is the longest ticket that is remembered; auth makes none longer.
	longest = ticket.MaxLength
)

// kind is a kind of ticket. One kind never passes for another.
type kind uint8

const (
	guestTicket kind = iota
	sessionToken
	accessToken
)

// tickets remembers what auth said of tickets, so that auth need not be asked of
// each request. All of it is safe to lose.
//
// The hazard is a session that was ended and is remembered as live. So each hit
// is held against the users whose sessions were ended since auth was asked (also
// when auth's answer came after that news), and counts only while the news is at
// most 500 ms old: a log-out that auth acknowledged holds here half a second
// later, whatever has died or hangs. Tickets are known by their hash.
type tickets struct {
	start time.Time
	known *lru.Cache[ticketKey, *verified] // nil: nothing is remembered

	mu    sync.RWMutex
	ended map[string]time.Duration // by user: when the end of sessions was last heard of
	swept time.Duration
	lost  time.Duration // nothing verified before counts, for nobody

	fresh   atomic.Int64 // until when the news counts, as a time.Duration
	checks  [3][4]prometheus.Counter
	revoked prometheus.Counter
	gaps    prometheus.Counter
}

type ticketKey struct {
	kind kind
	hash [sha256.Size]byte
}

// keyOf takes tickets of up to longest bytes; copied, so that they cost no memory
// of the heap.
func keyOf(k kind, shown string) ticketKey {
	var text [longest]byte
	n := copy(text[:], shown)
	return ticketKey{k, sha256.Sum256(text[:n])}
}

// verified is what auth said of a ticket; times are on tickets' clock.
type verified struct {
	caller
	asked, until time.Duration
}

// What became of the check of a ticket.
const (
	cached  = iota // remembered
	missed         // not, or no longer
	revoked        // remembered, and ended since, as far as is known
	blind          // remembered, and the news is too old
)

func newTickets(size int, reg prometheus.Registerer) *tickets {
	t := &tickets{start: time.Now(), ended: map[string]time.Duration{}}
	if size > 0 {
		t.known, _ = lru.New[ticketKey, *verified](size) // fails for sizes below 1
	}
	f := promauto.With(reg)
	checks := f.NewCounterVec(prometheus.CounterOpts{
		Name: "coatcheck_gateway_ticket_checks_total",
		Help: "Tickets checked: from memory (cached), or by asking auth because the ticket was not remembered (missed), sessions of the user had ended (revoked), or the news of that was too old (blind).",
	}, []string{"ticket", "result"})
	for k, name := range []string{"guest", "session", "access"} {
		for r, result := range []string{"cached", "missed", "revoked", "blind"} {
			t.checks[k][r] = checks.WithLabelValues(name, result)
		}
	}
	t.revoked = f.NewCounter(prometheus.CounterOpts{
		Name: "coatcheck_gateway_revocations_total",
		Help: "Users whose sessions were ended, as heard from auth.",
	})
	t.gaps = f.NewCounter(prometheus.CounterOpts{
		Name: "coatcheck_gateway_revocation_gaps_total",
		Help: "How often news of revocations was missed for good, and all remembered tickets of sessions were given up for it.",
	})
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "coatcheck_gateway_revocations_age_seconds",
		Help: "Everything revoked longer ago than this is known here; beyond 0.5 every request with a session asks auth.",
	}, func() float64 { return (t.now() - time.Duration(t.fresh.Load()) + silence).Seconds() })
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "coatcheck_gateway_revocations_whole",
		Help: "1 while the news of revocations is young enough to check tickets from memory.",
	}, func() float64 {
		if t.whole() {
			return 1
		}
		return 0
	})
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "coatcheck_gateway_tickets",
		Help: "Tickets that are remembered.",
	}, func() float64 {
		if t.known == nil {
			return 0
		}
		return float64(t.known.Len())
	})
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "coatcheck_gateway_tickets_max",
		Help: "Tickets that are remembered at most.",
	}, func() float64 { return float64(size) })
	return t
}

// now is the time since the start, on a clock that nobody sets.
func (t *tickets) now() time.Duration { return time.Since(t.start) }

// whole reports whether all revocations but the youngest are known.
func (t *tickets) whole() bool { return t.now() < time.Duration(t.fresh.Load()) }

// check answers whose the ticket is if that is remembered and still counts.
func (t *tickets) check(k kind, shown string) (caller, bool) {
	if t.known == nil {
		return caller{}, false
	}
	result := missed
	var found *verified
	if len(shown) <= longest {
		found, _ = t.known.Get(keyOf(k, shown))
	}
	if now := t.now(); found != nil && now < found.until {
		result = t.judge(k, found, now)
	}
	t.checks[k][result].Inc()
	if result != cached {
		return caller{}, false
	}
	return found.caller, true
}

// judge holds what is remembered against what has ended since. A guest's ticket
// never ends before its time.
func (t *tickets) judge(k kind, v *verified, now time.Duration) int {
	if k == guestTicket {
		return cached
	}
	// In this order: what is heard of later can only be younger.
	if now >= time.Duration(t.fresh.Load()) {
		return blind
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	if ended, ok := t.ended[v.owner]; ok && ended >= v.asked || t.lost >= v.asked {
		return revoked
	}
	return cached
}

// keep remembers what auth answered. asked is when it was asked, not when it
// answered: what ended in between must count.
func (t *tickets) keep(k kind, shown string, who caller, asked time.Duration, ends *timestamppb.Timestamp) {
	if t.known == nil || len(shown) > longest || ends == nil {
		return
	}
	until := min(asked+trusted, t.now()+time.Until(ends.AsTime()))
	t.known.Add(keyOf(k, shown), &verified{caller: who, asked: asked, until: until})
}

// end notes that sessions of the users have ended: what auth was asked before
// counts for them no more.
func (t *tickets) end(users ...string) {
	if len(users) == 0 || t.known == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	for _, user := range users {
		t.ended[user] = now
	}
	if now-t.swept > trusted {
		t.swept = now
		for user, at := range t.ended {
			if now-at > 2*trusted { // all that was verified before is forgotten by now
				delete(t.ended, user)
			}
		}
	}
}

// endAll is end for everybody.
func (t *tickets) endAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lost = t.now()
}

// trust says that everything revoked before then is noted.
func (t *tickets) trust(then time.Duration) {
	until := int64(then + silence)
	for {
		before := t.fresh.Load()
		if before >= until || t.fresh.CompareAndSwap(before, until) {
			return
		}
	}
}
