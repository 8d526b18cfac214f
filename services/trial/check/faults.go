package check

import (
	"fmt"
	"net/http"
	"strings"

	"coatcheck/trial/history"
)

// hidden: no attempt fails (5xx, or no answer) but near a fault that clients may
// notice. A fault of auth or cart is not one of these.
func (j *judge) hidden() {
	for _, o := range j.ops {
		tries := o.attempts
		if tries == nil {
			tries = []attempt{{sent: o.sent, answered: o.answered, status: o.status}}
		}
		for i, a := range tries {
			if met(j.outages, a.sent, a.answered, j.limits.Settle) || met(j.gateways, a.sent, a.answered, j.limits.Settle) {
				continue
			}
			j.looked("hidden", 1)
			if a.failed() {
				j.find("hidden", o.cart, []*op{o}, "attempt %d of a %s at %s failed with status %d: %s", i+1, o.kind, at(a.answered), a.status, j.near(a))
			}
		}
	}
}

func (j *judge) near(a attempt) string {
	for _, f := range j.faults {
		if f.Start <= a.answered && f.End+j.limits.Settle >= a.sent {
			return "only " + f.Name + " was on"
		}
	}
	return "no fault was on"
}

// maxAttempts is how often a request may be sent. One that was settled by more
// has failed as a logical request, though its outcome is known.
const maxAttempts = 3

// logical: no request ends without success or a refusal but near an outage.
func (j *judge) logical() {
	for _, o := range j.ops {
		if met(j.outages, o.sent, o.answered, j.limits.Settle) {
			if o.failed() {
				j.failedInOutages++
			}
			continue
		}
		j.looked("logical", 1)
		if o.failed() {
			j.find("logical", o.cart, []*op{o}, "a %s sent at %s failed: %s after %d attempt(s), status %s",
				o.kind, at(o.sent), o.outcome, max(1, len(o.attempts)), strings.TrimSpace(fmt.Sprint(o.status, " ", o.code)))
		}
	}
}

// unavailable: whatever is on, an attempt that is answered and fails says that it
// may be tried again, and when.
func (j *judge) unavailable() {
	for _, o := range j.ops {
		for i, a := range o.attempts {
			if a.status < 500 {
				continue
			}
			j.looked("unavailable", 1)
			if a.status != 503 || !a.retryAfter {
				j.find("unavailable", o.cart, []*op{o}, "attempt %d of a %s at %s failed with status %d, Retry-After %v", i+1, o.kind, at(a.answered), a.status, a.retryAfter)
			}
		}
	}
}

// revoked: a session that an acknowledged log-out has ended is refused, by every
// replica and soon.
func (j *judge) revoked() {
	out := map[int32]*op{} // the last log-out of each client
	for _, o := range j.ops {
		switch {
		case o.kind == history.LogOut:
			out[o.client] = o
		case o.kind != history.Probe || o.outcome == history.Unknown:
		case out[o.client] != nil && (out[o.client].outcome != history.OK || out[o.client].answered+j.limits.Holds > o.sent):
		default:
			ops := []*op{o}
			if out[o.client] != nil {
				ops = []*op{out[o.client], o}
			}
			if j.looked("revoked", 1); o.outcome == history.OK {
				j.find("revoked", o.cart, ops, "a session that was ended was accepted at %s", at(o.answered))
			}
		}
	}
}

// reused: a refresh token that was used up is refused: one of those who have had
// it must not. That the session is over then, revoked tells.
func (j *judge) reused() {
	for _, o := range j.ops {
		if o.kind != history.Reuse || o.outcome == history.Unknown {
			continue
		}
		if j.looked("reused", 1); o.outcome == history.OK {
			j.find("reused", o.cart, []*op{o}, "a refresh token that was used up was good for another at %s", at(o.answered))
		}
	}
}

// refused: nobody's ticket is refused before its session has ended, whatever is
// on: neither by 401 or 403, nor, a guest's, by the ticket of a new guest.
//
// A log-out that was sent again is excused: the first attempt may have been the one.
func (j *judge) refused() {
	for _, o := range j.ops {
		switch o.kind {
		case history.Register, history.LogIn, history.Tokens: // by password
			continue
		case history.Probe, history.Reuse: // of what has ended
			continue
		case history.LogOut:
			if o.retried() {
				continue
			}
		}
		if o.status == 0 || o.status >= 500 {
			continue // for want of whom to ask, and not for the ticket
		}
		switch j.looked("refused", 1); {
		case o.status == http.StatusUnauthorized || o.status == http.StatusForbidden:
			j.find("refused", o.cart, []*op{o}, "%s refused at %s with status %d %s, though nobody had logged out", o.kind, at(o.answered), o.status, o.code)
		case o.newGuest:
			j.find("refused", o.cart, []*op{o}, "%s of a guest who was taken for a new one at %s", o.kind, at(o.answered))
		}
	}
}
