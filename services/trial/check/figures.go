package check

import (
	"slices"
	"time"

	"coatcheck/trial/history"
)

// Figures are what a history counts.
type Figures struct {
	Requests     int                  `json:"requests"`
	ByKind       map[history.Kind]int `json:"by_kind"`
	Attempts     int                  `json:"attempts"`
	Acknowledged int                  `json:"acknowledged_changes"` // and merges
	Unknown      int                  `json:"unknown"`              // requests of unknown outcome
	Refused      int                  `json:"refused"`              // definitely, with 4xx
	Retried      int                  `json:"retried_requests"`
	Retries      int                  `json:"retries"`
	Readings     int                  `json:"last_readings"`

	Lost            int `json:"lost"`
	Doubled         int `json:"doubled"`
	FailedLogical   int `json:"failed_logical"`
	FailedInOutages int `json:"failed_in_outages"`
	// FailedAttempts are those with 5xx or no answer, by what was on: outage,
	// gateway, hidden, or nothing.
	FailedAttempts map[string]int `json:"failed_attempts"`

	Faults      map[string]int `json:"faults"` // made, by kind
	NotMade     int            `json:"faults_not_made"`
	Gap         time.Duration  `json:"gap"`          // from one fault to the next, on average
	AcrossKills int            `json:"across_kills"` // requests in flight at a kill, or retried across one

	Quiet     Latency `json:"quiet"`      // sent while nothing was on
	AfterKill Latency `json:"after_kill"` // sent within 5 s after a kill of a process, Redis apart
	InOutage  Latency `json:"in_outage"`

	// Recoveries is, by kind of fault, the longest time from the start of an outage
	// until the last attempt that failed for it was over.
	Recoveries map[string]time.Duration `json:"recoveries"`
	// RequestRecoveries are the same of logical requests.
	RequestRecoveries map[string]time.Duration `json:"request_recoveries"`

	// LeastShare is what the new cart pod with the least got of an equal share of
	// the requests, 1 being all of it; nil if none was looked at.
	LeastShare *float64 `json:"least_new_cart_share,omitempty"`

	Missed int `json:"missed"`
	// TrialCPU is the share of the machine that the trial took, 0 to 1.
	TrialCPU float64 `json:"trial_cpu"`
}

// Latency is of logical requests, all attempts and waits included.
type Latency struct {
	Count int           `json:"count"`
	P50   time.Duration `json:"p50"`
	P99   time.Duration `json:"p99"`
	Max   time.Duration `json:"max"`
}

func newLatency(all []time.Duration) Latency {
	if len(all) == 0 {
		return Latency{}
	}
	slices.Sort(all)
	rank := func(percent int) time.Duration { return all[(len(all)*percent+99)/100-1] }
	return Latency{len(all), rank(50), rank(99), all[len(all)-1]}
}

// afterKill is how long after a kill latency is looked at.
const afterKill = 5 * time.Second

func (j *judge) figures() Figures {
	f := Figures{ByKind: map[history.Kind]int{}, FailedAttempts: map[string]int{}, Faults: map[string]int{}, Lost: len(j.gone), Doubled: len(j.twice), FailedInOutages: j.failedInOutages, Gap: j.gap(), LeastShare: j.leastShare}
	if r := j.results["logical"]; r != nil {
		f.FailedLogical = r.Violations
	}
	var kills, after []span
	for _, x := range j.faults {
		if x.Error != "" {
			f.NotMade++
			continue
		}
		f.Faults[x.Kind]++
		if x.Kills() {
			kills = append(kills, span{x.Start, x.End})
			if x.Class != history.Outage {
				after = append(after, span{x.Start, x.Start + afterKill})
			}
		}
	}
	var quiet, killed, out, failed, failedRequests []time.Duration
	for _, o := range j.ops {
		f.Requests++
		f.ByKind[o.kind]++
		f.Attempts += max(1, len(o.attempts))
		switch {
		case o.last:
			f.Readings++
		case o.outcome == history.OK && (o.change() || o.merges()):
			f.Acknowledged++
		}
		switch {
		case o.outcome == history.Unknown:
			f.Unknown++
		case o.outcome == history.Failed && o.status >= 400 && o.status < 500:
			f.Refused++
		}
		if o.retried() {
			f.Retried++
			f.Retries += len(o.attempts) - 1
		}
		for _, a := range o.attempts {
			if a.failed() {
				f.FailedAttempts[j.on(a.sent, a.answered)]++
				failed = append(failed, a.answered)
			}
		}
		if o.failed() {
			failedRequests = append(failedRequests, o.answered)
		}
		if across(kills, o) {
			f.AcrossKills++
		}
		if o.last || !slices.Contains(history.Traffic, o.kind) {
			continue
		}
		took := o.answered - o.sent
		switch {
		case met(j.outages, o.sent, o.answered, j.limits.Settle):
			out = append(out, took)
		case met(after, o.sent, o.sent, 0):
			killed = append(killed, took)
		case j.on(o.sent, o.answered) == "nothing":
			quiet = append(quiet, took)
		}
	}
	f.Recoveries, f.RequestRecoveries = j.recoveries(failed), j.recoveries(failedRequests)
	f.Quiet, f.AfterKill, f.InOutage = newLatency(quiet), newLatency(killed), newLatency(out)
	if j.end != nil {
		f.Missed = j.end.Missed
		if j.end.TotalCPU > 0 {
			f.TrialCPU = j.end.OwnCPU / j.end.TotalCPU
		}
	}
	return f
}

// gap is how long it was from one fault to the next, on average; 0 with fewer than two.
func (j *judge) gap() time.Duration {
	n := len(j.faults) - 1
	if n < 1 {
		return 0
	}
	return (j.faults[n].Start - j.faults[0].Start) / time.Duration(n)
}

// lateFailure is how long after an outage was over a failure is still put down to it.
const lateFailure = 30 * time.Second

// recoveries looks at each outage up to the next fault.
func (j *judge) recoveries(failed []time.Duration) map[string]time.Duration {
	slices.Sort(failed)
	longest := map[string]time.Duration{}
	for i, f := range j.faults {
		if f.Class != history.Outage || f.Error != "" {
			continue
		}
		until := f.End + lateFailure
		if i+1 < len(j.faults) {
			until = min(until, max(f.End, j.faults[i+1].Start))
		}
		after, _ := slices.BinarySearch(failed, until)
		if after > 0 && failed[after-1] >= f.Start {
			longest[f.Kind] = max(longest[f.Kind], failed[after-1]-f.Start)
		} else if _, known := longest[f.Kind]; !known {
			longest[f.Kind] = 0
		}
	}
	return longest
}

// on is the class of fault that was on, the one that excuses most.
func (j *judge) on(from, to time.Duration) string {
	switch settle := j.limits.Settle; {
	case met(j.outages, from, to, settle):
		return "outage"
	case met(j.gateways, from, to, settle):
		return "gateway"
	case met(j.hiddens, from, to, settle):
		return "hidden"
	}
	return "nothing"
}

// across tells whether the request was under way at the moment of a kill, or
// retried while one was being mended.
func across(kills []span, o *op) bool {
	for _, k := range kills {
		if k.from > o.answered {
			return false
		}
		if o.sent <= k.from || o.retried() && o.sent <= k.to {
			return true
		}
	}
	return false
}
