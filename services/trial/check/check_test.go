package check

import (
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"coatcheck/trial/history"
)

// good is a history in which all went well: a guest adds, logs in, sets, checks
// out, and goes; a request was retried, and one of a hot cart is unknown.
func good() *tale {
	return told().
		op(history.Read, "s1.g1", shows(0, "")).
		op(history.Add, "s1.g1", of("u1 a2"), unique, shows(1, "a2 u1")).
		op(history.Set, "s1.g1", of("c3"), shows(2, "a2 c3 u1")).
		op(history.Add, "s1.g1", of("a1"), again, replayed, shows(3, "a3 c3 u1")).
		op(history.LogIn, "s1.u", from("s1.g1")).
		op(history.Read, "s1.u", shows(1, "a3 c3 u1")).
		op(history.Set, "s1.u", of("c3"), shows(1, "a3 c3 u1")). // changes nothing
		op(history.CondSet, "s1.u", of("c1"), ifMatch(1), shows(2, "a3 c1 u1")).
		op(history.CondSet, "s1.u", of("c9"), ifMatch(1), refused(412, "stale_version"), now(2, "a3 c1 u1")).
		op(history.Remove, "s1.u", of("c0"), shows(3, "a3 u1")).
		op(history.Checkout, "s1.u", ifMatch(3), placed("o1", "a3 u1")).
		op(history.LogOut, "s1.u").
		op(history.Probe, "s1.u", refused(401, "invalid_session")).
		op(history.Add, "hot.1", of("v1"), unique, by("h1"), during(100, 110), led(1)).
		op(history.Add, "hot.1", of("a1"), by("h2"), during(105, 115), shows(2, "a1 v1")).
		op(history.Add, "hot.1", of("b5"), by("h3"), during(106, 120), unknown).
		op(history.Add, "hot.1", of("a1"), by("h1"), during(121, 125), shows(4, "a2 b5 v1")).
		op(history.Read, "s1.u", last, shows(4, "")).
		op(history.Orders, "s1.u", last, placed("o1", "a3 u1")).
		op(history.Read, "s1.g1", last, refused(409, "cart_moved")).
		op(history.Read, "hot.1", last, shows(4, "a2 b5 v1")).
		fault("kill", history.Gateway, 5, 6).
		fault("roll", history.Gateway, 10, 12).
		fault("cut", history.Outage, 100, 125).
		end()
}

func TestGood(t *testing.T) {
	v := good().judge(t, "", Limits{})
	if !v.Pass {
		t.Errorf("%s\n%s", v.Line, strings.Join(v.texts(), "\n"))
	}
	if want := "PASS  0 lost  0 doubled  0 failed of 11 acknowledged changes under 3 faults"; v.Line != want {
		t.Errorf("line %q, want %q", v.Line, want)
	}
	for _, r := range v.Results {
		if r.Looked == 0 && r.Check != "share" && r.Check != "unavailable" { // those have tests of their own
			t.Errorf("%s looked at nothing", r.Check)
		}
	}
}

// TestFindings: each check finds what is wrong, and the same history without it passes.
func TestFindings(t *testing.T) {
	end := func(t *tale, version uint64, text string) *tale {
		return t.op(history.Read, "u", last, shows(version, text))
	}
	for name, c := range map[string]struct {
		check     string
		good, bad *tale
		limits    Limits
		want      []string
	}{
		"lost": {
			check: "lost",
			good:  end(told().op(history.Add, "u", of("a1"), unique, shows(1, "a1")), 1, "a1"),
			bad:   end(told().op(history.Add, "u", of("a1"), unique, shows(1, "a1")), 1, ""),
			want:  []string{"lost u: lost: a, acknowledged at 0.001 s, is in no cart and no order at the end"},
		},
		"lost, though an order before has the same": {
			check: "lost",
			good: told().op(history.Add, "u", of("a1"), unique, shows(1, "a1")).op(history.Checkout, "u", ifMatch(1), placed("o", "a1")).
				op(history.Add, "u", of("a1"), unique, shows(3, "a1")).op(history.Orders, "u", last, placed("o", "a1")).op(history.Read, "u", last, shows(3, "a1")),
			bad: told().op(history.Add, "u", of("a1"), unique, shows(1, "a1")).op(history.Checkout, "u", ifMatch(1), placed("o", "a1")).
				op(history.Add, "u", of("a1"), unique, shows(3, "a1")).op(history.Orders, "u", last, placed("o", "a1"), placed("p", "")).op(history.Read, "u", last, shows(3, "")),
			want: []string{"lost u: lost: a, acknowledged at 0.005 s, is in no cart and no order at the end"},
		},
		"stale": {
			check: "lost",
			good:  end(told().op(history.Add, "u", of("a1"), unique, during(0, 10)).op(history.Read, "u", by("x"), during(9, 20), shows(0, "")), 1, "a1"),
			bad:   end(told().op(history.Add, "u", of("a1"), unique, during(0, 10)).op(history.Read, "u", by("x"), during(11, 20), shows(0, "")), 1, "a1"),
			want:  []string{"lost u: stale: a, acknowledged at 0.010 s, was not shown at 0.020 s and was there later"},
		},
		"gone, though a checkout that is unknown may have taken it": {
			check: "lost",
			good: told().op(history.Add, "u", of("a1"), unique, shows(1, "a1")).op(history.Checkout, "u", ifMatch(1), unknown).op(history.Read, "u", shows(2, "")).
				op(history.Orders, "u", last, placed("o", "a1")).op(history.Read, "u", last, shows(2, "")),
			bad: told().op(history.Add, "u", of("a1"), unique, shows(1, "a1")).op(history.Checkout, "u", ifMatch(1), unknown).op(history.Read, "u", shows(2, "")).
				op(history.Orders, "u", last, placed("o", "b1")).op(history.Read, "u", last, shows(2, "")),
			want: []string{"lost u: lost: a, acknowledged at 0.001 s, is in no cart and no order at the end"},
		},
		"gone after log-in": {
			check: "lost",
			good:  end(told().op(history.Add, "g", of("a1"), unique, shows(1, "a1")).op(history.LogIn, "u", from("g")).op(history.Read, "u", shows(1, "a1")), 1, "a1"),
			bad:   end(told().op(history.Add, "g", of("a1"), unique, shows(1, "a1")).op(history.LogIn, "u", from("g")).op(history.Read, "u", shows(0, "")), 1, "a1"),
			want:  []string{"lost g: stale: a, acknowledged at 0.001 s, was not shown at 0.005 s and was there later"},
		},
		"sum too small": {
			check: "bounds",
			good:  end(told().op(history.Add, "u", of("a2"), led(1)).op(history.Add, "u", of("a1"), unknown), 1, "a2"),
			bad:   end(told().op(history.Add, "u", of("a2"), led(1)).op(history.Add, "u", of("a1"), unknown), 1, "a1"),
			want: []string{
				"bounds u: a: 1 in carts and orders at the end, but 2 were acknowledged",
				"bounds u: is shown a: 1 instead of 2 to 3",
			},
		},
		"set and seen": {
			check: "bounds",
			good:  end(told().op(history.Add, "u", of("a2"), unknown).op(history.Set, "u", of("a5"), led(1)).op(history.Add, "u", of("a1"), led(2)), 3, "a8"),
			bad:   end(told().op(history.Add, "u", of("a2"), unknown).op(history.Set, "u", of("a5"), led(1)).op(history.Add, "u", of("a1"), led(2)), 3, "a9"),
			want:  []string{"bounds u: is shown a: 9 instead of 6 to 8"},
		},
		"an unknown set may come late": {
			check: "bounds",
			good: end(told().op(history.Set, "u", of("a2"), led(1)).op(history.Set, "u", of("a7"), unknown).op(history.Read, "u", shows(1, "a2")).
				op(history.Add, "u", of("a1"), led(2)), 3, "a7"),
			bad: end(told().op(history.Set, "u", of("a2"), led(1)).op(history.Set, "u", of("a7"), unknown).op(history.Read, "u", shows(1, "a2")).
				op(history.Add, "u", of("a1"), led(2)), 3, "a1"),
			want: []string{"bounds u: is shown a: 1 instead of 3 to 8"},
		},
		"doubled": {
			check: "doubled",
			good:  end(told().op(history.Add, "u", of("a2"), led(1)).op(history.Add, "u", of("a1"), unknown), 2, "a3"),
			bad:   end(told().op(history.Add, "u", of("a2"), led(1)).op(history.Add, "u", of("a1"), unknown), 3, "a4"),
			want:  []string{"doubled u: a: 4 in carts and orders at the end, but only 3 were added (2 acknowledged, 1 unknown)"},
		},
		"doubled under a set": {
			check: "doubled",
			good:  end(told().op(history.Set, "u", of("a1"), led(1)).op(history.Set, "u", of("a3"), again, led(2)), 2, "a3"),
			bad:   end(told().op(history.Set, "u", of("a1"), led(1)).op(history.Set, "u", of("a3"), again, led(3)), 3, "a3"),
			want:  []string{"doubled u: nothing led to 1 version(s) up to 3, where a request led to 3 that was sent 2 times"},
		},
		"a version for two changes": {
			check: "versions",
			good:  told().op(history.Add, "u", of("a1"), during(0, 10), led(1)).op(history.Set, "u", of("b1"), by("x"), during(0, 10), led(1)),
			bad:   told().op(history.Add, "u", of("a1"), during(0, 10), led(1)).op(history.Add, "u", of("b1"), by("x"), during(0, 10), led(1)),
			want:  []string{"versions u: two changes led to version 1"},
		},
		"a version with two contents": {
			check: "versions",
			good:  told().op(history.Set, "u", of("a1"), shows(1, "a1")).op(history.Read, "u", shows(1, "a1")),
			bad:   told().op(history.Set, "u", of("a1"), shows(1, "a1")).op(history.Read, "u", shows(1, "a2")),
			want:  []string{"versions u: version 1 was shown with two contents"},
		},
		"a version missing": {
			check: "versions",
			good:  told().op(history.Add, "u", of("b1"), unknown).op(history.Add, "u", of("a1"), shows(2, "a1 b1")),
			bad:   told().op(history.Add, "u", of("a1"), shows(2, "a1 b1")).op(history.Add, "u", of("b1"), unknown),
			want:  []string{"versions u: 1 version(s) up to 2 that no known request can have led to"},
		},
		"a version back": {
			check: "versions",
			good:  told().op(history.Add, "u", of("a1"), during(0, 10), led(2)).op(history.Add, "u", of("b1"), by("x"), during(10, 20), led(1)),
			bad:   told().op(history.Add, "u", of("a1"), during(0, 10), led(2)).op(history.Add, "u", of("b1"), by("x"), during(11, 20), led(1)),
			want:  []string{"versions u: a change led to version 1 after version 2 was answered"},
		},
		"a stale version": {
			check: "versions",
			good:  told().op(history.Add, "u", of("a1"), led(1)).op(history.Read, "u", shows(1, "a1")),
			bad:   told().op(history.Add, "u", of("a1"), led(1)).op(history.Read, "u", shows(0, "")),
			want:  []string{"versions u: version 0 was shown after version 1: a stale reading, or changes undone"},
		},
		"a condition that did not hold": {
			check: "versions",
			good:  told().op(history.Add, "u", of("a1"), led(1)).op(history.CondSet, "u", of("a2"), ifMatch(1), led(2)),
			bad:   told().op(history.Add, "u", of("a1"), led(1)).op(history.Add, "u", of("a1"), led(2)).op(history.CondSet, "u", of("a2"), ifMatch(1), led(3)),
			want:  []string{"versions u: a change for version 1 led to version 3"},
		},
		"started anew": {
			check: "versions",
			good:  told().op(history.Add, "u", of("a1"), shows(1, "a1")).op(history.Add, "u", of("a1"), shows(2, "a2")),
			bad: told().op(history.Add, "u", of("a1"), shows(1, "a1")).
				op(history.Add, "u", of("a1"), func(o *history.Op) { o.Version, o.ETag = 1, `"other.1.r"` }),
			want: []string{"versions u: the cart was gone and started anew"},
		},
		"an order missing, and its lines": {
			check: "accounts",
			good:  told().op(history.Add, "u", of("a1"), led(1)).op(history.Checkout, "u", ifMatch(1), placed("o", "a1")).op(history.Orders, "u", last, placed("o", "a1")).op(history.Read, "u", last, shows(2, "")),
			bad:   told().op(history.Add, "u", of("a1"), led(1)).op(history.Checkout, "u", ifMatch(1), placed("o", "a1")).op(history.Orders, "u", last).op(history.Read, "u", last, shows(2, "")),
			want:  []string{"accounts u: of 1 units acknowledged, 1 are neither in carts nor in orders", "accounts u: order o was acknowledged and is not listed"},
		},
		"an order twice, and another than was answered": {
			check: "accounts",
			good:  told().op(history.Checkout, "u", ifMatch(1), placed("o", "a1")).op(history.Orders, "u", last, placed("o", "a1")).op(history.Read, "u", last, shows(2, "")),
			bad:   told().op(history.Checkout, "u", ifMatch(1), placed("o", "a1")).op(history.Orders, "u", last, placed("o", "a1"), placed("o", "a2")).op(history.Read, "u", last, shows(2, "")),
			want:  []string{"accounts u: order o is listed twice", "accounts u: order o is not listed with the lines that were answered"},
		},
		"an order of nobody": {
			check: "accounts",
			good:  told().op(history.Read, "u", shows(1, "a1")).op(history.Checkout, "u", ifMatch(1), unknown).op(history.Orders, "u", last, placed("o", "a1")),
			bad:   told().op(history.Read, "u", shows(1, "a1")).op(history.Checkout, "u", ifMatch(1), unknown).op(history.Orders, "u", last, placed("o", "a1"), placed("p", "a1")),
			want:  []string{"accounts u: order p is of no checkout that anybody tried"},
		},
		"an order of another version": {
			check: "accounts",
			good:  told().op(history.Read, "u", shows(1, "a1")).op(history.Checkout, "u", ifMatch(1), placed("o", "a1")),
			bad:   told().op(history.Read, "u", shows(1, "a1")).op(history.Checkout, "u", ifMatch(1), placed("o", "a2")),
			want:  []string{"accounts u: order o is not what the cart was at version 1"},
		},
		"an order of two owners": {
			check: "accounts",
			good:  told().op(history.Checkout, "u", ifMatch(1), placed("o", "a1")).op(history.Orders, "u", last, placed("o", "a1")).op(history.Orders, "v", last),
			bad: told().op(history.Checkout, "u", ifMatch(1), placed("o", "a1")).op(history.Checkout, "v", ifMatch(1), unknown).
				op(history.Orders, "u", last, placed("o", "a1")).op(history.Orders, "v", last, placed("o", "a1")),
			want: []string{"accounts v: order o is also one of u"},
		},
		"hidden": {
			check:  "hidden",
			limits: Limits{Settle: 10 * time.Millisecond},
			good:   told().op(history.Read, "u").op(history.Add, "u", of("a1"), during(130, 140), again).fault("kill", history.Gateway, 100, 120).fault("kill", history.Hidden, 100, 200),
			bad:    told().op(history.Add, "u", of("a1"), during(131, 140), again).fault("kill", history.Gateway, 100, 120).fault("kill", history.Hidden, 100, 200),
			want:   []string{"hidden u: attempt 1 of a add at 0.131 s failed with status 0: only kill was on"},
		},
		"hidden, under nothing": {
			check: "hidden",
			good:  told().op(history.Read, "u", refused(429, "slow_down")),
			bad:   told().op(history.Read, "u", refused(500, "internal")),
			want:  []string{"hidden u: attempt 1 of a read at 0.001 s failed with status 500: no fault was on"},
		},
		"drained": {
			check:  "drained",
			limits: Limits{Settle: 10 * time.Millisecond},
			good: told().op(history.Read, "u").op(history.Add, "u", of("a1"), during(110, 115), again). // it crossed the hanging up
															op(history.Add, "v", of("a1"), during(220, 225), again).fault("roll", history.Gateway, 100, 200). // it is too late
															op(history.Read, "v", during(325, 327), broken("refused")).fault("term", history.Gateway, 300, 400).fault("kill", history.Gateway, 300, 320).
															op(history.Read, "v", during(525, 527), broken("refused")).fault("roll", history.Gateway, 500, 600).fault("redis-kill", history.Outage, 500, 520),
			bad:  told().op(history.Add, "u", of("a1"), during(110, 115), again).fault("roll", history.Gateway, 100, 200),
			want: []string{"drained u: attempt 1 of a add at 0.110 s failed with status 0: only roll was on"},
		},
		"drained, with a connection for each request": {
			check: "drained",
			good:  told().op(history.Read, "u").op(history.Read, "u", during(110, 111), broken("reset")).fault("scale-down", history.Gateway, 100, 200),
			bad:   told().op(history.Read, "u").op(history.Read, "u", during(110, 111), broken("reset"), alone).fault("scale-down", history.Gateway, 100, 200),
			want:  []string{"drained u: attempt 1 of a read at 0.111 s failed with status 0: only scale-down was on"},
		},
		"drained, refused": {
			check: "drained",
			good:  told().op(history.Read, "u").op(history.Read, "u", during(110, 111), broken("eof")).fault("term", history.Gateway, 100, 200),
			bad:   told().op(history.Read, "u").op(history.Read, "u", during(110, 111), broken("refused")).fault("term", history.Gateway, 100, 200),
			want:  []string{"drained u: attempt 1 of a read at 0.111 s failed with status 0: only term was on"},
		},
		"drained, cut in progress": {
			check: "drained",
			good:  told().op(history.Read, "u").op(history.Read, "u", during(110, 600), broken("eof")).fault("scale-up", history.Gateway, 100, 200),
			bad: told().op(history.Read, "u").op(history.Read, "u", during(110, 611), broken("eof")).
				op(history.Read, "v").op(history.Read, "v", during(120, 125), broken("eof"), cutShort).fault("scale-up", history.Gateway, 100, 200),
			want: []string{
				"drained u: attempt 1 of a read at 0.611 s failed with status 0: only scale-up was on",
				"drained v: attempt 1 of a read at 0.125 s failed with status 0: only scale-up was on",
			},
		},
		"logical": {
			check: "logical",
			good:  told().op(history.Add, "u", of("a1"), during(50, 99), again).op(history.Add, "u", of("a1"), during(101, 110), unknown).fault("redis-kill", history.Outage, 100, 101),
			bad:   told().op(history.Add, "u", of("a1"), during(50, 99), unknown).fault("redis-kill", history.Outage, 100, 101).fault("kill", history.Gateway, 50, 60),
			want:  []string{"logical u: a add sent at 0.050 s failed: unknown after 3 attempt(s), status 0 reset"},
		},
		"logical, settled late": {
			check: "logical",
			good:  told().op(history.Add, "u", of("a1"), func(o *history.Op) { o.Attempts = make([]history.Attempt, 3) }),
			bad:   told().op(history.Add, "u", of("a1"), func(o *history.Op) { o.Attempts = make([]history.Attempt, 4) }),
			want:  []string{"logical u: a add sent at 0.000 s failed: ok after 4 attempt(s), status 200"},
		},
		"logical, a session forgotten": {
			check: "logical",
			good:  told().op(history.Add, "u", of("a1"), refused(412, "stale_version")),
			bad:   told().op(history.Add, "u", of("a1"), refused(401, "invalid_session")),
			want:  []string{"logical u: a add sent at 0.000 s failed: failed after 1 attempt(s), status 401 invalid_session"},
		},
		"unavailable": {
			check: "unavailable",
			good:  told().op(history.Add, "u", of("a1"), refused(503, "store_unavailable")).op(history.Add, "u", of("a1"), again).op(history.Add, "u", refused(412, "stale_version")),
			bad: told().op(history.Add, "u", of("a1"), refused(500, "internal")).fault("redis-kill", history.Outage, 0, 100).
				op(history.Add, "u", of("a1"), refused(503, "store_unavailable"), func(o *history.Op) { o.Attempts = []history.Attempt{{Sent: o.Sent, Answered: o.Answered, Status: 503}} }),
			want: []string{
				"unavailable u: attempt 1 of a add at 0.001 s failed with status 500, Retry-After false",
				"unavailable u: attempt 1 of a add at 0.003 s failed with status 503, Retry-After false",
			},
		},
		"merged in part": {
			check: "merges",
			good:  told().op(history.Set, "u", of("a1"), shows(1, "a1")).op(history.Add, "g", of("a1 b1"), led(1)).op(history.LogIn, "u", from("g")).op(history.Read, "u", shows(2, "a2 b1")),
			bad:   told().op(history.Set, "u", of("a1"), shows(1, "a1")).op(history.Add, "g", of("a1 b1"), led(1)).op(history.LogIn, "u", from("g")).op(history.Read, "u", shows(2, "a2")),
			want:  []string{"merges u: after the log-in that moved g here is shown b: 0 instead of 1"},
		},
		"merged twice": {
			check: "merges",
			good:  told().op(history.Add, "g", of("a2"), led(1)).op(history.Add, "g", of("a1"), unknown).op(history.LogIn, "u", from("g")).op(history.Read, "u", shows(2, "a3")),
			bad:   told().op(history.Add, "g", of("a2"), led(1)).op(history.Add, "g", of("a1"), unknown).op(history.LogIn, "u", from("g")).op(history.Read, "u", shows(2, "a4")),
			want:  []string{"merges u: after the log-in that moved g here is shown a: 4 instead of 2 to 3"},
		},
		"merged again, later": {
			check: "merges",
			good:  told().op(history.Add, "g", of("a2"), led(1)).op(history.LogIn, "u", from("g")).op(history.Read, "u", shows(1, "a2")).op(history.Add, "u", of("a1"), shows(2, "a3")),
			bad:   told().op(history.Add, "g", of("a2"), led(1)).op(history.LogIn, "u", from("g")).op(history.Read, "u", shows(1, "a2")).op(history.Add, "u", of("a1"), shows(3, "a5")),
			want:  []string{"merges u: after the log-in that moved g here is shown a: 5 instead of 3"},
		},
		"merged, though the log-in was not answered": {
			check: "merges",
			good: told().op(history.Add, "g", of("a2"), led(1)).op(history.LogIn, "u", from("g"), unknown).op(history.LogIn, "u", from("h")).op(history.Read, "u", shows(1, "a2")).
				op(history.Add, "h2", of("b1"), led(1)).op(history.LogIn, "u", from("h2")).op(history.Read, "u", shows(2, "a2 b1")),
			bad: told().op(history.Add, "g", of("a2"), led(1)).op(history.LogIn, "u", from("g"), unknown).op(history.LogIn, "u", from("h")).op(history.Read, "u", shows(1, "a2")).
				op(history.Add, "h2", of("b1"), led(1)).op(history.LogIn, "u", from("h2")).op(history.Read, "u", shows(2, "a2")),
			want: []string{"merges u: after the log-in that moved h2 here is shown b: 0 instead of 1"},
		},
		"linearizable, without versions": {
			check: "linearizable",
			good: told().op(history.Add, "u", of("a1"), during(0, 10)).op(history.Add, "u", by("x"), of("a2"), during(5, 20), unknown).
				op(history.Read, "u", during(30, 40), func(o *history.Op) { o.Shown = lines("a1") }).op(history.Read, "u", during(50, 60), func(o *history.Op) { o.Shown = lines("a3") }),
			bad: told().op(history.Add, "u", of("a1"), during(0, 10)).op(history.Add, "u", by("x"), of("a2"), during(5, 20), unknown).
				op(history.Read, "u", during(30, 40), func(o *history.Op) { o.Shown = lines("a3") }).op(history.Read, "u", during(50, 60), func(o *history.Op) { o.Shown = lines("a1") }),
			want: []string{"linearizable u: no order of 4 requests, versions 0 to 0, explains their answers; the best one leaves 1 over"},
		},
		"linearizable, a change undone": {
			check: "linearizable",
			good: told().op(history.Add, "u", of("a1"), during(0, 10), shows(1, "a1")).op(history.Set, "u", by("x"), of("b1"), during(5, 20), unknown).
				op(history.Set, "u", of("a4"), by("y"), during(6, 30), shows(3, "a4 b1")),
			bad: told().op(history.Add, "u", of("a1"), during(0, 10), shows(1, "a1")).op(history.Set, "u", by("x"), of("b1"), during(5, 20), unknown).
				op(history.Set, "u", of("a4"), by("y"), during(6, 30), shows(3, "a4")),
			want: []string{"linearizable u: no order of 2 requests, versions 1 to 3, explains their answers; the best one leaves 1 over"},
		},
		"linearizable, by versions alone": {
			check: "linearizable",
			good:  told().op(history.Add, "u", of("a1"), during(0, 10), led(2)).op(history.Add, "u", by("x"), of("b1"), during(9, 20), led(1)),
			bad:   told().op(history.Add, "u", of("a1"), during(0, 10), led(2)).op(history.Add, "u", by("x"), of("b1"), during(11, 20), led(1)).op(history.Read, "u", by("y"), during(0, 30), shows(2, "a1 b1")),
			want:  []string{"linearizable u: no order of 3 requests, versions 0 to 2, explains their answers; the best one leaves 3 over"},
		},
		"linearizable, an old version of the same content": {
			check: "linearizable",
			good: told().op(history.Set, "u", of("a1"), during(0, 10), led(1)).op(history.Set, "u", by("x"), of("a2"), during(5, 20), led(2)).
				op(history.Set, "u", of("a1"), during(15, 30), led(3)).op(history.Read, "u", during(20, 50), shows(1, "a1"), during(8, 50)),
			bad: told().op(history.Set, "u", of("a1"), during(0, 10), led(1)).op(history.Set, "u", by("x"), of("a2"), during(5, 20), led(2)).
				op(history.Set, "u", of("a1"), during(15, 30), led(3)).op(history.Read, "u", during(40, 50), shows(1, "a1")),
			want: []string{"linearizable u: no order of 4 requests, versions 0 to 3, explains their answers; the best one leaves 1 over"},
		},
		"linearizable, in pieces": {
			check: "linearizable",
			good:  crowd().op(history.Read, "u", by("x"), during(5, 2000), shows(1, "a1")),
			bad:   crowd().op(history.Read, "u", by("x"), during(1500, 2000), shows(1, "a1")),
			want:  []string{"linearizable u: version 201 was answered before a request was sent that tells of version 1"},
		},
		"gone, though a checkout of an older cart is unknown": {
			check: "lost",
			good:  told().op(history.Checkout, "u", ifMatch(2), unknown).op(history.Add, "u", of("a1"), unique, led(2)).op(history.Read, "u", shows(3, "")),
			bad:   told().op(history.Checkout, "u", ifMatch(1), unknown).op(history.Add, "u", of("a1"), unique, led(2)).op(history.Read, "u", shows(3, "")),
			want:  []string{"lost u: lost: a, acknowledged at 0.003 s, is in no cart and no order at the end"},
		},
		"an unknown add comes once": {
			check: "bounds",
			good:  told().op(history.Add, "u", of("a1"), led(1)).op(history.Add, "u", of("a2"), unknown).op(history.Read, "u", shows(2, "a3")).op(history.Read, "u", shows(2, "a3")),
			bad:   told().op(history.Add, "u", of("a1"), led(1)).op(history.Add, "u", of("a2"), unknown).op(history.Read, "u", shows(2, "a3")).op(history.Read, "u", shows(3, "a5")),
			want:  []string{"bounds u: is shown a: 5 instead of 3"},
		},
		"a version missing, though the guest logged in twice": {
			check: "versions",
			good:  told().op(history.Add, "g", of("a1"), led(1)).op(history.LogIn, "u", from("g")).op(history.LogIn, "u", from("g")).op(history.Read, "u", shows(1, "a1")),
			bad:   told().op(history.Add, "g", of("a1"), led(1)).op(history.LogIn, "u", from("g")).op(history.LogIn, "u", from("g")).op(history.Read, "u", shows(2, "a2")),
			want:  []string{"versions u: 1 version(s) up to 2 that no known request can have led to"},
		},
		"foreign": {
			check: "foreign",
			good:  told().op(history.Add, "g", of("a1"), refused(422, "line_limit")).op(history.LogIn, "u", from("g"), unknown).op(history.Read, "u", shows(1, "a1")),
			bad:   told().op(history.Add, "g", of("a1"), refused(422, "line_limit")).op(history.Read, "u", shows(1, "a1")).op(history.LogIn, "u", from("g"), unknown),
			want:  []string{"foreign u: a is shown, which nobody has put there"},
		},
		"revoked": {
			check: "revoked",
			good:  told().op(history.LogOut, "u", unknown).op(history.Probe, "u").op(history.LogOut, "u").op(history.Probe, "u", refused(401, "invalid_session")),
			bad:   told().op(history.LogOut, "u").op(history.Probe, "u"),
			want:  []string{"revoked u: a session that was ended was accepted at 0.003 s"},
		},
		"revoked, with tokens": {
			check: "revoked",
			good:  told().op(history.Tokens, "m").op(history.Reuse, "m", refused(401, "invalid_grant")).op(history.Probe, "m", refused(401, "invalid_token")),
			bad:   told().op(history.Tokens, "m").op(history.Reuse, "m", refused(401, "invalid_grant")).op(history.Probe, "m"),
			want:  []string{"revoked m: a session that was ended was accepted at 0.005 s"},
		},
		"reused": {
			check: "reused",
			good: told().op(history.Tokens, "m").op(history.Refresh, "m").op(history.Refresh, "m").op(history.Reuse, "m", refused(401, "invalid_grant")).
				op(history.Reuse, "m", unknown),
			bad:  told().op(history.Tokens, "m").op(history.Refresh, "m").op(history.Refresh, "m").op(history.Reuse, "m"),
			want: []string{"reused m: a refresh token that was used up was good for another at 0.007 s"},
		},
		"refused": {
			check: "refused",
			good: told().op(history.Read, "u").op(history.LogOut, "u", unknown, refused(401, "invalid_session")).op(history.LogIn, "u", refused(401, "wrong_credentials")).
				op(history.LogOut, "u").op(history.Probe, "u", refused(401, "invalid_session")).op(history.Tokens, "m").op(history.Reuse, "m", refused(401, "invalid_grant")),
			bad: told().fault("redis-kill", history.Outage, 0, 100).op(history.Read, "u", refused(401, "invalid_session")).op(history.LogOut, "u", refused(401, "invalid_session")).
				op(history.Refresh, "m", unknown, refused(401, "invalid_grant")),
			want: []string{
				"refused m: refresh refused at 0.005 s with status 401 invalid_grant, though nobody had logged out",
				"refused u: log-out refused at 0.003 s with status 401 invalid_session, though nobody had logged out",
				"refused u: read refused at 0.001 s with status 401 invalid_session, though nobody had logged out",
			},
		},
		"refused, by the cart": {
			check: "refused",
			good:  told().op(history.Add, "u", of("a1"), refused(422, "line_limit")).op(history.Add, "u", of("a1"), unknown),
			bad:   told().op(history.Add, "u", of("a1"), refused(403, "wrong_ticket")),
			want:  []string{"refused u: add refused at 0.001 s with status 403 wrong_ticket, though nobody had logged out"},
		},
		"refused, a guest": {
			check: "refused",
			good:  told().op(history.Read, "g").op(history.Add, "g", of("a1"), led(1)),
			bad:   told().op(history.Read, "g").op(history.Add, "g", of("a1"), led(1), func(o *history.Op) { o.NewGuest = true }),
			want:  []string{"refused g: add of a guest who was taken for a new one at 0.003 s"},
		},
		"a refresh that is refused": {
			check: "logical",
			good:  told().op(history.Tokens, "m").op(history.Refresh, "m").op(history.Reuse, "m", refused(401, "invalid_grant")).op(history.Probe, "m", refused(401, "invalid_token")),
			bad:   told().op(history.Tokens, "m").op(history.Refresh, "m", refused(401, "invalid_grant")).op(history.Read, "m", refused(401, "invalid_token")),
			want: []string{
				"logical m: a read sent at 0.004 s failed: failed after 1 attempt(s), status 401 invalid_token",
				"logical m: a refresh sent at 0.002 s failed: failed after 1 attempt(s), status 401 invalid_grant",
			},
		},
		"revoked soon": {
			check:  "revoked",
			limits: Limits{Holds: 10 * time.Millisecond},
			good: told().op(history.LogOut, "u", during(0, 5)).op(history.Probe, "u", during(6, 20)).op(history.Probe, "u", during(14, 20)).
				op(history.Probe, "u", during(15, 20), refused(401, "invalid_session")),
			bad:  told().op(history.LogOut, "u", during(0, 5)).op(history.Probe, "u", during(15, 20)),
			want: []string{"revoked u: a session that was ended was accepted at 0.020 s"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if v := c.good.judge(t, c.check, c.limits); len(v.Findings) > 0 {
				t.Errorf("the good one:\n%s", strings.Join(v.texts(), "\n"))
			} else if v.Results[0].Looked == 0 {
				t.Error("looked at nothing in the good one")
			}
			v := c.bad.judge(t, c.check, c.limits)
			if got := v.texts(); !slices.Equal(got, c.want) {
				t.Errorf("found\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
			for _, f := range v.Findings {
				if len(f.Ops) == 0 || f.Ops[0].Client == "" {
					t.Errorf("%q shows no requests", f.Text)
				}
			}
			if v := c.good.judge(t, c.check, c.limits); v.Figures.Lost+v.Figures.Doubled > 0 {
				t.Errorf("the good one: %s", v.Line)
			}
			if v.Pass || !strings.HasPrefix(v.Line, "FAIL  ") {
				t.Errorf("verdict %q", v.Line)
			}
		})
	}
}

// crowd is a hot cart that takes more than one search: 250 adds, two at once.
func crowd() *tale {
	t := told()
	for i := range 125 {
		t.op(history.Add, "u", of("a1"), during(10*i, 10*i+5), shows(uint64(2*i+1), fmt.Sprintf("a%d", 2*i+1)))
		t.op(history.Add, "u", by("y"), of("a1"), during(10*i+4, 10*i+9), shows(uint64(2*i+2), fmt.Sprintf("a%d", 2*i+2)))
	}
	return t
}

// TestSearchTimeOut: an order that is not found in time is a violation, by the
// clock and by the number of steps.
func TestSearchTimeOut(t *testing.T) {
	hard := told()
	total := 0
	for i := range 40 {
		// The sum of some of these is shown, but which? No versions tell.
		hard.op(history.Add, "u", by(fmt.Sprint(i)), of(fmt.Sprintf("a%d", 1000+3*i)), during(0, 10), unknown)
		total += i % 2 * (1000 + 3*i)
	}
	hard.op(history.Read, "u", during(20, 30), func(o *history.Op) { o.Shown = lines(fmt.Sprintf("a%d", total+1)) })
	hard.op(history.Read, "u", during(40, 50), func(o *history.Op) { o.Shown = lines(fmt.Sprintf("a%d", total)) })
	want := "linearizable u: whether 42 requests have an order was not found out in time, which counts as a violation"
	for _, limits := range []Limits{{Search: time.Millisecond}, {}} {
		v := hard.judge(t, "linearizable", limits)
		if got := v.texts(); v.Pass || !slices.Equal(got, []string{want}) {
			t.Errorf("within %v: %s\n%s", limits.Search, v.Line, strings.Join(got, "\n"))
		}
	}
}

// TestDrawing: a hot cart that has no order is drawn.
func TestDrawing(t *testing.T) {
	v := told().op(history.Add, "u", of("a1"), during(0, 10), shows(1, "a1")).op(history.Add, "u", by("x"), of("b1"), during(5, 20), shows(2, "b1")).judge(t, "linearizable", Limits{})
	if len(v.Findings) != 1 || !strings.Contains(string(v.Findings[0].Drawing), "<html") || len(v.Findings[0].Ops) == 0 {
		t.Errorf("%s %v", v.Line, v.texts())
	}
}

func TestInconclusive(t *testing.T) {
	enough := Limits{Acknowledged: 11, BeforeFaults: 2, Faults: 3, AcrossKills: 2, Share: 0.02}
	if v := good().judge(t, "", enough); !v.Pass {
		t.Fatalf("%s\n%s", v.Line, strings.Join(v.texts(), "\n"))
	}
	if v := good().judge(t, "", Limits{Rate: 11}); !v.Pass {
		t.Errorf("%s", v.Line)
	}
	change := func(f func(*Limits)) Limits { l := enough; f(&l); return l }
	for want, c := range map[string]struct {
		tale   *tale
		limits Limits
	}{
		"11 changes were acknowledged, of at least 12":                        {good(), change(func(l *Limits) { l.Acknowledged++ })},
		"11 changes a second were acknowledged, of at least 12":               {good(), change(func(l *Limits) { l.Rate = 12 })},
		"the share of 0 new cart pods was looked at, of at least 1":           {good(), change(func(l *Limits) { l.NewCarts = 1 })},
		"3 faults were made, of at least 4 (0 could not be)":                  {good(), change(func(l *Limits) { l.Faults++ })},
		"faults were 50ms apart, of at most 1ms":                              {good(), change(func(l *Limits) { l.Gap = time.Millisecond })},
		"2 requests were in flight or retried across kills, of at least 3":    {good(), change(func(l *Limits) { l.AcrossKills++ })},
		"2 requests were answered before the first fault, of at least 3":      {good(), change(func(l *Limits) { l.BeforeFaults++ })},
		"5.6 % of the requests were of kind remove, of at least 6.0 %":        {good(), change(func(l *Limits) { l.Share = 0.06 })},
		"the history was cut short":                                           {&tale{records: good().records[:len(good().records)-1]}, enough},
		"the history does not say what was run":                               {&tale{records: good().records[1:]}, enough},
		"1 owners' carts and orders were not all read at the end":             {without(good(), "hot.1"), enough},
		"no cart was read at the end":                                         {without(good(), ""), enough},
		"the check revoked had nothing to look at":                            {without(good(), history.Probe), enough},
		"5.3 % of the requests that were due were not sent, of at most 0.0 %": {missed(good()), enough},
		"1 hot carts can't be searched: what a log-in brought is not certain": {uncertain(), Limits{}},
		"2 faults were made, of at least 3 (1 could not be)":                  {unmade(good()), enough},
		"0.0 % of the requests were of kind checkout, of at least 2.0 %":      {without(good(), history.Checkout), enough},
		"0 requests were in flight or retried across kills, of at least 2":    {told().end(), enough},
		"0 changes were acknowledged, of at least 11":                         {told().end(), enough},
		"the check linearizable had nothing to look at":                       {told().end(), enough},
	} {
		v := c.tale.judge(t, "", c.limits)
		if v.Pass || !slices.Contains(v.Inconclusive, want) {
			t.Errorf("inconclusive for %q, want %q", v.Inconclusive, want)
		}
		if len(v.Findings) == 0 && !strings.HasPrefix(v.Line, "FAIL INCONCLUSIVE  ") {
			t.Errorf("line %q", v.Line)
		}
	}
}

// without leaves out the last readings of a cart ("": of all), or a kind of request.
func without[T ~string](t *tale, what T) *tale {
	t.records = slices.DeleteFunc(t.records, func(r history.Record) bool {
		return r.Op != nil && (string(r.Op.Kind) == string(what) || r.Op.Last && (what == "" || r.Op.Cart == string(what)))
	})
	return t
}

func missed(t *tale) *tale {
	t.records[len(t.records)-1].End.Missed = 1
	return t
}

func unmade(t *tale) *tale {
	for _, r := range t.records {
		if r.Fault != nil && r.Fault.Kind == "cut" {
			r.Fault.Error = "there is nothing to cut"
		}
	}
	return t
}

func uncertain() *tale {
	return told().op(history.Add, "g", of("a1"), unknown).op(history.LogIn, "u", from("g")).op(history.Add, "u", of("b1"), during(10, 20), led(1)).
		op(history.Add, "u", by("x"), of("b1"), during(15, 30), led(2)).end()
}

// TestMany: more violations than are kept are counted, and only the checks asked
// for are made.
func TestMany(t *testing.T) {
	many := told()
	for range 2 * MaxFindings {
		many.op(history.Probe, "u")
	}
	v := many.judge(t, "revoked", Limits{})
	if len(v.Findings) != MaxFindings || len(v.Results) != 1 || v.Results[0].Violations != 2*MaxFindings {
		t.Errorf("%d findings, results %v", len(v.Findings), v.Results)
	}
}

func TestCheckFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.jsonl")
	w, err := history.Create(path, history.Run{})
	if err != nil {
		t.Fatal(err)
	}
	bad := told().op(history.Add, "u", of("a1"), unique, shows(1, "a1")).op(history.Read, "u", shows(1, "")).op(history.Read, "u", last, shows(1, "a1"))
	for _, r := range bad.records[1:] {
		w.Write(r)
	}
	if err := w.Close(history.End{}); err != nil {
		t.Fatal(err)
	}
	v, err := Check(path, Limits{Checks: []string{"lost"}})
	if err != nil || len(v.Findings) != 1 || len(v.Findings[0].Ops) != 3 || v.Findings[0].Ops[1].ETag != etag(1) {
		t.Errorf("%v %+v", err, v.Findings)
	}
	if _, err := Check(path, Limits{Checks: []string{"list"}}); err == nil || !strings.Contains(err.Error(), `no check "list"; there are lost, `) {
		t.Errorf("a check that is not: %v", err)
	}
	if _, err := Check(path+"x", Limits{}); err == nil {
		t.Error("a file that is not was checked")
	}
}

// TestFigures: what is counted, by what was on.
func TestFigures(t *testing.T) {
	f := told().
		op(history.Add, "u", of("a1"), during(0, 10), led(1)).
		op(history.Add, "u", of("a1"), during(20, 50), again, led(2)).
		op(history.Read, "u", during(5000, 5004), shows(2, "a2")).
		op(history.Read, "u", during(6000, 6001), unknown).
		op(history.Read, "u", during(9000, 9002), refused(503, "unavailable")).
		op(history.Read, "u", last, shows(2, "a2")).
		fault("kill", history.Gateway, 30, 40).
		fault("redis-kill", history.Outage, 6000, 6100).
		fault("stop", history.Hidden, 8000, 9000).
		end().judge(t, "", Limits{}).Figures
	want := Figures{
		Gap:      3985 * time.Millisecond,
		Requests: 6, ByKind: map[history.Kind]int{history.Add: 2, history.Read: 4}, Attempts: 9, Acknowledged: 2, Unknown: 1, Retried: 2, Retries: 3, Readings: 1,
		FailedLogical: 1, FailedInOutages: 1, FailedAttempts: map[string]int{"nothing": 1, "outage": 3, "hidden": 1},
		Faults: map[string]int{"kill": 1, "redis-kill": 1, "stop": 1}, AcrossKills: 2,
		Recoveries: map[string]time.Duration{"redis-kill": ms}, RequestRecoveries: map[string]time.Duration{"redis-kill": ms},
		Quiet: Latency{1, 10 * ms, 10 * ms, 10 * ms}, AfterKill: Latency{1, 4 * ms, 4 * ms, 4 * ms}, InOutage: Latency{1, ms, ms, ms},
	}
	if !reflect.DeepEqual(f, want) {
		t.Errorf("got  %+v\nwant %+v", f, want)
	}
}

// TestShare: of a history by hand, in which a fourth cart comes after 20 s.
func TestShare(t *testing.T) {
	const traffic = 60 // seconds
	// tell has the new cart's answers begin at from and every nth go to it.
	tell := func(from, nth, gone int) *tale {
		tale := told()
		for s := range traffic {
			pods := &history.Pods{At: time.Duration(s)*time.Second + 500*ms, All: map[string]int{"cart": 4}, Ready: map[string][]string{"cart": {"a", "b", "c"}}}
			if s >= 20 && s < gone {
				pods.Ready["cart"] = append(pods.Ready["cart"], "new")
			}
			tale.records = append(tale.records, history.Record{Pods: pods})
			for i := range 40 {
				replica := []string{"a", "b", "c"}[i%3]
				if s >= from && i%nth == 0 {
					replica = "new"
				}
				tale.op(history.Read, "u", during(s*1000+i*20, s*1000+i*20+5), func(o *history.Op) {
					o.Attempts = []history.Attempt{{Sent: o.Sent, Answered: o.Answered, Status: 200, ServedBy: "gateway " + replica}}
				})
			}
		}
		return tale.end()
	}
	for name, tt := range map[string]struct {
		from, nth, gone int
		looked          int
		findings        []string
	}{
		"its share at once":            {20, 4, traffic, 1, nil},
		"its share just in time":       {30, 4, traffic, 1, nil},
		"three quarters of it":         {20, 5, traffic, 1, nil},
		"half of it":                   {20, 8, traffic, 1, []string{"share : new was Ready at 20.500 s, and from 10 s after that got 50 % of an equal share for 10 s"}},
		"its share too late":           {35, 4, traffic, 1, []string{"share : new was Ready at 20.500 s, and from 10 s after that got 50 % of an equal share for 10 s"}},
		"nothing, but it did not stay": {traffic, 4, 39, 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			v := tell(tt.from, tt.nth, tt.gone).judge(t, "share", Limits{})
			if v.Results[0].Looked != tt.looked || !slices.Equal(v.texts(), tt.findings) {
				t.Errorf("looked at %d, found %q", v.Results[0].Looked, v.texts())
			}
			if least := v.Figures.LeastShare; (least != nil) != (tt.looked > 0) || least != nil && (*least < 0.7) != (len(tt.findings) > 0) {
				t.Errorf("the least share is %v", least)
			}
		})
	}
}

// TestRecoveries: how long an outage was felt, up to the next fault.
func TestRecoveries(t *testing.T) {
	tale := told()
	for _, span := range [][2]int{{90, 99}, {150, 160}, {510, 520}} {
		tale.op(history.Read, "u", during(span[0], span[1]), refused(503, "store_unavailable"))
	}
	// Its second attempt is answered, so that the request has not failed.
	tale.op(history.Read, "u", during(200, 241), shows(0, ""), func(o *history.Op) {
		o.Attempts = []history.Attempt{{Sent: 200 * ms, Answered: 240 * ms, Status: 503, RetryAfter: true}, {Sent: 240 * ms, Answered: 241 * ms, Status: 200}}
	})
	tale.fault("redis-kill", history.Outage, 100, 200).fault("redis-kill", history.Outage, 300, 400).fault("kill", history.Hidden, 500, 600).fault("cut", history.Outage, 700, 800)
	f := tale.end().judge(t, "logical", Limits{}).Figures
	if got := f.Recoveries; len(got) != 2 || got["redis-kill"] != 140*ms || got["cut"] != 0 {
		t.Errorf("attempts: %v", got)
	}
	if got := f.RequestRecoveries; len(got) != 2 || got["redis-kill"] != 60*ms || got["cut"] != 0 {
		t.Errorf("requests: %v", got)
	}
}
