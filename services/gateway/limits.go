package gateway

import (
	"net/netip"
	"strconv"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"golang.org/x/time/rate"

	"coatcheck/chassis/fault"
)

// maxBuckets is how many addresses, and how many owners, are counted at once.
// Whoever was not seen for the longest is forgotten first, and begins anew.
const maxBuckets = 20_000

// As net/http keeps them: any other spelling would cost memory. On the wire case is
// nothing.
const (
	rateLimit       = "Ratelimit"
	rateLimitPolicy = "Ratelimit-Policy"
)

// errRateLimited is made once: refusing must be cheap.
var errRateLimited = fault.New(fault.Exhausted, "rate_limited", "Too many requests. Try again in a second; RateLimit-Policy says how many are taken.")

// limits bound how many requests a second this replica takes from one client
// address, and for one owner of tickets, however many of them: the carts of a
// shop are in the hands of those who hold the tickets.
//
// They are this replica's alone, and nothing is asked for them: a client that is
// spread over n replicas may have n times as much. Owners are counted by what auth
// said of their tickets, so that nobody fills the table with tickets of their own
// making, or spends what is another's.
type limits struct {
	addresses *buckets[netip.Addr] // nil: no limit
	owners    *buckets[string]     // nil: no limit
	policy    string               // RateLimit-Policy; empty without limits
}

func newLimits(s Settings, reg prometheus.Registerer) *limits {
	refused := promauto.With(reg).NewCounterVec(prometheus.CounterOpts{
		Name: "coatcheck_gateway_rate_limited_total",
		Help: "Requests refused because there were too many, by what had too many: one client address, or the owner of a ticket.",
	}, []string{"limit"})
	l := &limits{
		addresses: newBuckets[netip.Addr]("address", s.AddressRate, refused),
		owners:    newBuckets[string]("ticket", s.TicketRate, refused),
	}
	var policies []string
	if l.addresses != nil {
		policies = append(policies, l.addresses.policy())
	}
	if l.owners != nil {
		policies = append(policies, l.owners.policy())
	}
	l.policy = strings.Join(policies, ", ")
	return l
}

// address counts a request of a client address, and shows the limits as
// draft-ietf-httpapi-ratelimit-headers-10 has them.
func (l *limits) address(w *answer, client netip.Addr) error {
	if l.policy != "" {
		w.set(rateLimitPolicy, l.policy)
	}
	return l.addresses.count(w, client)
}

// owner counts a request of whom a ticket is for.
func (l *limits) owner(w *answer, owner string) error { return l.owners.count(w, owner) }

// buckets are one token bucket for each key: it holds what may be taken in a
// second, and fills within one.
type buckets[K comparable] struct {
	name    string
	rate    int // a second
	known   *lru.Cache[K, *rate.Limiter]
	refused prometheus.Counter
}

func newBuckets[K comparable](name string, perSecond int, refused *prometheus.CounterVec) *buckets[K] {
	counter := refused.WithLabelValues(name)
	if perSecond == 0 {
		return nil
	}
	known, _ := lru.New[K, *rate.Limiter](maxBuckets) // fails for sizes below 1
	return &buckets[K]{name: name, rate: perSecond, known: known, refused: counter}
}

// take takes one from the key's bucket, if there is one, and answers how many are
// left.
func (b *buckets[K]) take(key K, now time.Time) (left int, ok bool) {
	bucket, found := b.known.Get(key)
	if !found {
		bucket = rate.NewLimiter(rate.Limit(b.rate), b.rate)
		if other, found, _ := b.known.PeekOrAdd(key, bucket); found {
			bucket = other // of a request at the same moment
		}
	}
	ok = bucket.AllowN(now, 1)
	return int(bucket.TokensAt(now)), ok
}

func (b *buckets[K]) count(w *answer, key K) error {
	if b == nil {
		return nil
	}
	left, ok := b.take(key, time.Now())
	w.left(b.name, left)
	if !ok {
		b.refused.Inc()
		return errRateLimited
	}
	return nil
}

// policy is the item of RateLimit-Policy: so many in a second.
func (b *buckets[K]) policy() string {
	return `"` + b.name + `";q=` + strconv.Itoa(b.rate) + ";w=1"
}
