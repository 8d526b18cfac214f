package tour

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// recoveryLimit is how soon after an outage service must be there again.
const recoveryLimit = 2 * time.Second

// Verdict is what a record proves.
type Verdict struct {
	Acknowledged int // changes
	// Lost and Doubled are units (and orders) missing from, or too many in, the
	// carts and orders as read at the end.
	Lost, Doubled int
	// Unknown changes widen what a cart may hold.
	Unknown int
	// Failed are the logical requests outside outages that were not answered as they had to be.
	Failed int
	// WrongInOutage are the answers in an outage other than success and 503 with Retry-After.
	WrongInOutage int
	// ShortReads are carts shown with less in them than had been acknowledged.
	ShortReads int
	// Faults say in words what is wrong. None: the verdict is PASS.
	Faults []string
}

// Judge computes the verdict. It needs nothing but the record.
func Judge(rec Record) Verdict {
	var v Verdict
	fault := func(wrong bool, format string, args ...any) {
		if wrong {
			v.Faults = append(v.Faults, fmt.Sprintf(format, args...))
		}
	}
	refusals := 0
	for _, q := range rec.Requests {
		if q.Kind == Add || q.Kind == Checkout {
			if q.Acknowledged {
				v.Acknowledged++
			} else if q.Unknown {
				v.Unknown++
			}
		}
		if !q.OK && !q.Outage {
			v.Failed++
		}
		if q.Kind == Read && q.Acknowledged && q.Seen < q.Floor {
			v.ShortReads++
		}
		for _, a := range q.Attempts {
			success := a.Status >= 200 && a.Status < 300
			refusal := a.Status == 503 && a.RetryAfter
			if a.Outage && refusal {
				refusals++
			}
			if a.Outage && !success && !refusal {
				v.WrongInOutage++
			}
		}
	}
	if rec.Complete || len(rec.Carts) > 0 {
		v.count(rec)
	}

	fault(!rec.Complete, "the tour did not come to its end")
	fault(v.Lost > 0, "%d acknowledged units or orders are lost", v.Lost)
	fault(v.Doubled > 0, "%d units or orders are there that nobody asked for", v.Doubled)
	fault(v.Failed > 0, "%d requests failed while Redis was up", v.Failed)
	fault(v.WrongInOutage > 0, "%d answers in an outage were neither a success nor 503 with Retry-After", v.WrongInOutage)
	fault(v.ShortReads > 0, "%d times a cart was shown with less than was acknowledged", v.ShortReads)
	fault(refusals == 0, "no request met the Redis outage")
	fault(len(rec.Recoveries) < 2, "%d recoveries of Redis were seen, want 2", len(rec.Recoveries))
	for _, r := range rec.Recoveries {
		fault(r.Took > recoveryLimit, "after the %s it took %.1f s until a change was acknowledged", r.From, r.Took.Seconds())
	}
	want := int(float64(rec.PerSecond) * rec.Shopped.Seconds() / 2)
	fault(v.Acknowledged < max(want, 1), "only %d changes were acknowledged, want at least %d", v.Acknowledged, max(want, 1))
	fault(len(rec.Replicas) == 0, "the shop has no replicas to kill")
	for _, name := range rec.Replicas {
		fault(!slices.Contains(rec.Killed, name), "%s was never killed", name)
	}
	fault(len(rec.Checks) == 0, "nothing was checked")
	for _, c := range rec.Checks {
		fault(!c.OK, "not so: %s", c.What)
	}
	return v
}

// count compares what was acknowledged with what is there.
func (v *Verdict) count(rec Record) {
	type line struct{ cart, sku string }
	acknowledged, unknown, there := map[line]int{}, map[line]int{}, map[line]int{}
	orders, unknownOrders := map[string]map[string]bool{}, map[string]int{}
	seen := map[line]bool{}
	note := func(into map[line]int, cart string, lines map[string]int) {
		for sku, n := range lines {
			into[line{cart, sku}] += n
			seen[line{cart, sku}] = true
		}
	}
	for _, q := range rec.Requests {
		switch {
		case q.Kind == Add && q.Acknowledged:
			note(acknowledged, q.Cart, q.Lines)
		case q.Kind == Add && q.Unknown:
			note(unknown, q.Cart, q.Lines)
		case q.Kind == Checkout && q.Acknowledged:
			if orders[q.Cart] == nil {
				orders[q.Cart] = map[string]bool{}
			}
			orders[q.Cart][q.Order] = true
			if !slices.Contains(sorted(rec.Orders[q.Cart]), q.Order) {
				v.Lost++
			} else if !maps.Equal(rec.Orders[q.Cart][q.Order], q.Lines) {
				v.Faults = append(v.Faults, "order "+q.Order+" is not what was answered at checkout")
			}
		case q.Kind == Checkout && q.Unknown:
			unknownOrders[q.Cart]++
		}
	}
	for cart, lines := range rec.Carts {
		note(there, cart, lines)
	}
	for cart, list := range rec.Orders {
		extra := -unknownOrders[cart]
		for id, lines := range list {
			note(there, cart, lines)
			if !orders[cart][id] {
				extra++
			}
		}
		v.Doubled += max(extra, 0)
	}
	for l := range seen {
		v.Lost += max(acknowledged[l]-there[l], 0)
		v.Doubled += max(there[l]-acknowledged[l]-unknown[l], 0)
	}
}

// Pass tells whether nothing is wrong.
func (v Verdict) Pass() bool { return len(v.Faults) == 0 }
