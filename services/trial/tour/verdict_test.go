package tour

import (
	"strings"
	"testing"
	"time"
)

// sound is a record that passes; each test breaks one thing in it.
func sound() Record {
	rec := Record{
		Replicas: []string{"gateway-1", "auth-1", "cart-1"},
		Killed:   []string{"cart-1", "gateway-1", "auth-1"},
		Carts: map[string]map[string]int{
			"ada":       {"mug": 3},
			"shopper-1": {"mug": 8, "tee": 2},
		},
		Orders:     map[string]map[string]map[string]int{"ada": {"o1": {"mug": 2, "tee": 1}}},
		Checks:     []Check{{"a new cart is empty", true}},
		Recoveries: []Recovery{{"outage", time.Second}, {"crash", recoveryLimit}},
		PerSecond:  10,
		Shopped:    2 * time.Second,
		Complete:   true,
	}
	ok := []Attempt{{Status: 200}}
	for range 8 {
		rec.Requests = append(rec.Requests, Request{Kind: Add, Cart: "shopper-1", Lines: map[string]int{"mug": 1}, Acknowledged: true, OK: true, Attempts: ok})
	}
	rec.Requests = append(rec.Requests,
		Request{Kind: Add, Cart: "shopper-1", Lines: map[string]int{"tee": 2}, Acknowledged: true, OK: true, Attempts: []Attempt{{Status: 0}, {Status: 200}}},
		Request{Kind: Read, Cart: "shopper-1", Floor: 10, Seen: 10, Acknowledged: true, OK: true, Attempts: ok},
		Request{Kind: Read, Cart: "ada", Floor: 3, Outage: true, Unknown: true, Attempts: []Attempt{{Status: 503, RetryAfter: true, Outage: true}}},
		Request{Kind: Add, Cart: "ada", Lines: map[string]int{"mug": 5, "tee": 1}, Acknowledged: true, OK: true, Attempts: ok},
		Request{Kind: Checkout, Cart: "ada", Order: "o1", Lines: map[string]int{"mug": 2, "tee": 1}, Acknowledged: true, OK: true, Attempts: []Attempt{{Status: 201}}},
		Request{Kind: Other, Cart: "ada", OK: true, Attempts: []Attempt{{Status: 412}}},
	)
	return rec
}

func TestJudge(t *testing.T) {
	add := func(q Request) func(*Record) { return func(r *Record) { r.Requests = append(r.Requests, q) } }
	tests := []struct {
		name  string
		spoil func(*Record)
		want  string // a part of the only fault; "" is PASS
	}{
		{"sound", func(*Record) {}, ""},
		{"one unit lost", func(r *Record) { r.Carts["shopper-1"]["mug"]-- }, "1 acknowledged units"},
		{"a line lost", func(r *Record) { delete(r.Carts["shopper-1"], "tee") }, "2 acknowledged units"},
		{"a cart lost", func(r *Record) { delete(r.Carts, "shopper-1") }, "10 acknowledged units"},
		{"one unit doubled", func(r *Record) { r.Carts["shopper-1"]["tee"]++ }, "1 units or orders are there"},
		{"a line from nowhere", func(r *Record) { r.Carts["ada"]["hat"] = 4 }, "4 units or orders are there"},
		{"lost in one cart, doubled in another", func(r *Record) {
			r.Carts["shopper-1"]["mug"]--
			r.Carts["ada"]["mug"]++
		}, "1 acknowledged units"},
		{"unknown and not applied", add(Request{Kind: Add, Cart: "ada", Lines: map[string]int{"mug": 1}, Unknown: true, Outage: true}), ""},
		{"unknown and applied", func(r *Record) {
			add(Request{Kind: Add, Cart: "ada", Lines: map[string]int{"mug": 1}, Unknown: true, Outage: true})(r)
			r.Carts["ada"]["mug"]++
		}, ""},
		{"unknown and applied twice", func(r *Record) {
			add(Request{Kind: Add, Cart: "ada", Lines: map[string]int{"mug": 1}, Unknown: true, Outage: true})(r)
			r.Carts["ada"]["mug"] += 2
		}, "1 units or orders are there"},
		{"refused and applied", func(r *Record) {
			add(Request{Kind: Add, Cart: "ada", Lines: map[string]int{"mug": 1}, Outage: true})(r)
			r.Carts["ada"]["mug"]++
		}, "1 units or orders are there"},
		{"a request failed", add(Request{Kind: Read, Cart: "ada", Attempts: []Attempt{{}, {}, {}}}), "1 requests failed"},
		{"a request failed in an outage", add(Request{Kind: Read, Cart: "ada", Outage: true, Attempts: []Attempt{{Status: 503, RetryAfter: true, Outage: true}}}), ""},
		{"500 in an outage", add(Request{Kind: Read, Cart: "ada", Outage: true, Attempts: []Attempt{{Status: 500, Outage: true}}}), "1 answers in an outage"},
		{"404 in an outage", add(Request{Kind: Read, Cart: "ada", Outage: true, Attempts: []Attempt{{Status: 404, Outage: true}}}), "1 answers in an outage"},
		{"401 in an outage", add(Request{Kind: Read, Cart: "ada", Outage: true, Attempts: []Attempt{{Status: 401, Outage: true}}}), "1 answers in an outage"},
		{"no answer in an outage", add(Request{Kind: Read, Cart: "ada", Outage: true, Attempts: []Attempt{{Outage: true}}}), "1 answers in an outage"},
		{"503 without Retry-After", add(Request{Kind: Read, Cart: "ada", Outage: true, Attempts: []Attempt{{Status: 503, Outage: true}}}), "1 answers in an outage"},
		{"an empty cart in an outage", add(Request{Kind: Read, Cart: "ada", OK: true, Acknowledged: true, Outage: true, Floor: 3, Attempts: []Attempt{{Status: 200, Outage: true}}}), "1 times a cart was shown"},
		{"a cart that is behind", add(Request{Kind: Read, Cart: "shopper-1", OK: true, Acknowledged: true, Floor: 10, Seen: 9, Attempts: []Attempt{{Status: 200}}}), "1 times a cart was shown"},
		{"nobody felt the outage", func(r *Record) { r.Requests[10].Attempts[0].Outage = false }, "no request met the Redis outage"},
		{"too few changes", func(r *Record) { r.PerSecond = 12 }, "only 11 changes"},
		{"no shoppers' rate and no changes", func(r *Record) { *r = emptied(*r) }, "only 0 changes"},
		{"a replica was never killed", func(r *Record) { r.Killed = r.Killed[1:] }, "cart-1 was never killed"},
		{"no replicas", func(r *Record) { r.Replicas = nil }, "no replicas"},
		{"broken off", func(r *Record) { r.Complete = false }, "did not come to its end"},
		{"slow recovery", func(r *Record) { r.Recoveries[1].Took += time.Millisecond }, "after the crash it took"},
		{"no recovery", func(r *Record) { r.Recoveries = r.Recoveries[:1] }, "1 recoveries"},
		{"a check failed", func(r *Record) { r.Checks[0].OK = false }, "not so: a new cart is empty"},
		{"no checks", func(r *Record) { r.Checks = nil }, "nothing was checked"},
		{"an order lost, its units still in the cart", func(r *Record) {
			delete(r.Orders["ada"], "o1")
			r.Carts["ada"]["mug"], r.Carts["ada"]["tee"] = 5, 1
		}, "1 acknowledged units or orders are lost"},
		{"an order twice, for nothing", func(r *Record) { r.Orders["ada"]["o2"] = map[string]int{} }, "1 units or orders are there"},
		{"an order changed", func(r *Record) {
			r.Orders["ada"]["o1"]["mug"]--
			r.Carts["ada"]["mug"]++
		}, "order o1 is not what was answered"},
		{"an unknown order", func(r *Record) {
			add(Request{Kind: Checkout, Cart: "ada", Unknown: true, Outage: true})(r)
			r.Orders["ada"]["o2"] = map[string]int{"mug": 3}
			r.Carts["ada"]["mug"] = 0
		}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			rec := sound()
			test.spoil(&rec)
			v := Judge(rec)
			switch {
			case test.want == "":
				if !v.Pass() {
					t.Errorf("FAIL: %q", v.Faults)
				}
			case v.Pass() || len(v.Faults) != 1 && !strings.Contains(test.name, "another"):
				t.Errorf("faults %q, want one: %q", v.Faults, test.want)
			case !strings.Contains(v.Faults[0], test.want):
				t.Errorf("faults %q, want %q", v.Faults, test.want)
			}
		})
	}
}

// emptied is the record of a tour in which nobody bought anything.
func emptied(rec Record) Record {
	rec.PerSecond = 0
	rec.Carts, rec.Orders = nil, nil
	kept := rec.Requests[:0]
	for _, q := range rec.Requests {
		if q.Kind == Read || q.Kind == Other {
			q.Floor = 0
			kept = append(kept, q)
		}
	}
	rec.Requests = kept
	return rec
}
