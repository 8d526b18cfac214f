package tour

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// Record is what the tour asked and was answered, and nothing else: the verdict
// is computed from it alone.
type Record struct {
	Requests []Request
	// Replicas are those that were to be killed, Killed those that were.
	Replicas, Killed []string
	// Carts are the carts as read at the end: quantities by SKU.
	Carts map[string]map[string]int
	// Orders are the orders as listed at the end, by cart and order id.
	Orders map[string]map[string]map[string]int
	Checks []Check
	// Recoveries say how long after an outage the first change was acknowledged.
	Recoveries []Recovery
	// PerSecond is the rate at which the shoppers were to change their carts,
	// and Shopped for how long.
	PerSecond int
	Shopped   time.Duration
	// Complete says that every step was gone through.
	Complete bool
}

// Kind is what a request was for.
type Kind int

// The kinds of requests.
const (
	Other Kind = iota
	Add
	Read
	Checkout
)

// Request is one logical request: up to three attempts under one
// Idempotency-Key.
type Request struct {
	Kind Kind
	Cart string // the name under which the tour counts
	// Lines are the quantities that an Add adds, or that an order took.
	Lines map[string]int
	Order string // the id of the order that a Checkout was answered
	// Acknowledged: answered 2xx. Unknown: nobody can say whether it was applied.
	Acknowledged, Unknown bool
	// OK: answered as it had to be.
	OK bool
	// Outage: Redis was kept from answering at some time while it was under way.
	Outage bool
	// Floor is how many units were acknowledged before a Read was sent, Seen how
	// many it showed.
	Floor, Seen int
	Attempts    []Attempt
}

// Attempt is one HTTP request.
type Attempt struct {
	Status     int // 0: no answer
	RetryAfter bool
	Outage     bool // as in Request
}

// Check is one thing that a step looked at.
type Check struct {
	What string
	OK   bool
}

// Recovery is the way back from one outage.
type Recovery struct {
	From string
	Took time.Duration
}

// recorder collects a Record from many goroutines.
type recorder struct {
	mu     sync.Mutex
	record Record
	// phase is odd while Redis is kept from answering.
	phase atomic.Int64
}

func newRecorder() *recorder {
	return &recorder{record: Record{Carts: map[string]map[string]int{}, Orders: map[string]map[string]map[string]int{}}}
}

// outage begins or ends a time in which Redis is kept from answering.
func (r *recorder) outage() { r.phase.Add(1) }

// touched tells whether any time since phase began was an outage.
func (r *recorder) touched(phase int64) bool { return phase%2 == 1 || r.phase.Load() != phase }

func (r *recorder) request(q Request) {
	r.edit(func(rec *Record) { rec.Requests = append(rec.Requests, q) })
}

func (r *recorder) check(what string, ok bool) {
	r.edit(func(rec *Record) { rec.Checks = append(rec.Checks, Check{What: what, OK: ok}) })
}

func (r *recorder) edit(change func(*Record)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.record)
}

// answers counts the answers of outages from the first-th request on, by status.
func (r *recorder) answers(first int) map[int]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	count := map[int]int{}
	for _, q := range r.record.Requests[first:] {
		for _, a := range q.Attempts {
			if a.Outage {
				count[a.Status]++
			}
		}
	}
	return count
}

func (r *recorder) len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.record.Requests)
}

// take returns what was recorded until now.
func (r *recorder) take() Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := r.record
	rec.Requests = append([]Request(nil), rec.Requests...)
	rec.Carts, rec.Orders = maps.Clone(rec.Carts), maps.Clone(rec.Orders)
	return rec
}
