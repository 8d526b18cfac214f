package check

import (
	"slices"
	"time"

	"coatcheck/trial/history"
)

// longestRace is how long after it was sent a request that crossed the hanging
// up of an idle connection may be found out, by a client that hardly gets a CPU.
const longestRace = 500 * time.Millisecond

// graceful tells whether the fault ends gateways in order, or adds one.
func graceful(f history.Fault) bool {
	return f.Class == history.Gateway && slices.Contains([]string{"term", "roll", "scale-up", "scale-down", "delete", "evict"}, f.Kind)
}

// drained: while gateways end in order, and nothing is on that clients may
// notice, no attempt fails (5xx, or no answer).
//
// One thing no server can help: it hangs up a connection that it takes for idle
// at the moment at which the next request is sent there. What looks like that is
// excused: the connection of the client's answer before, which broke, soon and
// before anything of an answer came. On a connection of its own, a request is
// never excused, and neither is one that was refused, or that was being worked on.
func (j *judge) drained() {
	reuses := map[int32]bool{} // whether the client may have a connection from before
	for _, o := range j.ops {
		tries := o.attempts
		if tries == nil {
			tries = []attempt{{sent: o.sent, answered: o.answered, status: o.status}}
		}
		for i, a := range tries {
			raced := reuses[o.client] && !o.alone && a.broke && a.answered-a.sent < longestRace
			reuses[o.client] = a.status != 0
			within := func(spans []span) bool { return met(spans, a.sent, a.answered, j.limits.Settle) }
			if !within(j.ending) || within(j.outages) || within(j.breaking) {
				continue
			}
			j.looked("drained", 1)
			if a.failed() && !raced {
				j.find("drained", o.cart, []*op{o}, "attempt %d of a %s at %s failed with status %d: %s", i+1, o.kind, at(a.answered), a.status, j.near(a))
			}
		}
	}
}
