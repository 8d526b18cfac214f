// Package check judges a recorded history: was any acknowledged change of a
// cart lost, or applied twice? It reads the file and nothing else, so anybody
// can judge a run again.
//
// The hazards are a check that cannot fail and one that cries wolf. Therefore
// each result tells how much was looked at, a run that proves too little fails
// as inconclusive, and wherever a history leaves open what happened, every
// possibility passes.
package check

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"coatcheck/trial/history"
)

// Limits say how a history is judged. The zero Limits ask for no least amount
// of anything and allow no settling time.
type Limits struct {
	// Checks are the names of those that are to be made; nil means all.
	Checks []string
	// Settle is how long after a fault its effects are still excused.
	Settle time.Duration
	// Search is how long the search for an order of one hot cart's requests may
	// take; 0 means a minute. Longer is a violation.
	Search time.Duration
	// Holds is how long after its answer a log-out must hold everywhere.
	Holds time.Duration

	// With less than this, a run is inconclusive.
	Acknowledged int           // changes
	Rate         float64       // of these a second
	NewCarts     int           // new cart pods whose share was looked at
	BeforeFaults int           // requests answered before the first fault
	Faults       int           // that could be made
	Gap          time.Duration // at most, from the beginning of one of these to that of the next, on average; 0: any
	AcrossKills  int           // requests in flight at a kill, or retried across one
	Share        float64       // of each kind in history.Traffic, of all of these
	// With more than this share of requests due and not sent, it is, too.
	Missed float64
	// Empty allows checks that had nothing to look at, and carts without a last reading.
	Empty bool
}

// DefaultLimits are those of a demonstration of a minute.
func DefaultLimits() Limits {
	return Limits{
		Settle: 2 * time.Second, Search: time.Minute, Holds: time.Second,
		Acknowledged: 20_000, BeforeFaults: 500, Faults: 40, AcrossKills: 50, Share: 0.02, Missed: 0.01,
	}
}

// Verdict is what a history proves.
type Verdict struct {
	// Pass needs no finding and no reason to be inconclusive.
	Pass bool `json:"pass"`
	// Line is the verdict in one line.
	Line string `json:"line"`
	// Results are those of each check made, in the order of Names.
	Results []Result `json:"results"`
	// Findings are the violations, at most MaxFindings of each check.
	Findings []Finding `json:"findings"`
	// Inconclusive says why the history proves too little, if it does.
	Inconclusive []string `json:"inconclusive"`
	Figures      Figures  `json:"figures"`
}

// MaxFindings is how many findings of each check are kept; Result counts all.
const MaxFindings = 20

// Result is the result of one check.
type Result struct {
	Check      string `json:"check"`
	Looked     int    `json:"looked"` // at so many
	Of         string `json:"of"`     // of these
	Violations int    `json:"violations"`
}

// Finding is one violation.
type Finding struct {
	Check string       `json:"check"`
	Cart  string       `json:"cart"`
	Text  string       `json:"text"`
	Ops   []history.Op `json:"ops"` // the requests that show it
	// Drawing is an HTML page that draws it, nil if there is none.
	Drawing []byte `json:"-"`
}

// pass is one way through the history and the checks that it makes.
type pass struct {
	checks []Result
	run    func(*judge)
}

func passes() []pass {
	return []pass{
		{[]Result{{Check: "lost", Of: "acknowledged unique lines"}}, (*judge).lost},
		{[]Result{{Check: "bounds", Of: "quantities"}, {Check: "doubled", Of: "sums of adds and requests sent again"}}, (*judge).sums},
		{[]Result{{Check: "merges", Of: "carts merged at log-in"}}, (*judge).follow},
		{[]Result{{Check: "versions", Of: "acknowledged changes"}}, (*judge).versions},
		{[]Result{{Check: "accounts", Of: "checkouts and orders"}}, (*judge).accounts},
		{[]Result{{Check: "linearizable", Of: "requests for hot carts"}}, (*judge).linearizable},
		{[]Result{{Check: "foreign", Of: "carts and orders shown"}}, (*judge).foreign},
		{[]Result{{Check: "revoked", Of: "ended sessions shown again"}}, (*judge).revoked},
		{[]Result{{Check: "reused", Of: "used refresh tokens shown again"}}, (*judge).reused},
		{[]Result{{Check: "refused", Of: "answers to those who had not logged out"}}, (*judge).refused},
		{[]Result{{Check: "hidden", Of: "attempts that must not fail"}}, (*judge).hidden},
		{[]Result{{Check: "drained", Of: "attempts while gateways end in order"}}, (*judge).drained},
		{[]Result{{Check: "logical", Of: "requests that must not fail"}}, (*judge).logical},
		{[]Result{{Check: "unavailable", Of: "answers with 5xx"}}, (*judge).unavailable},
		{[]Result{{Check: "share", Of: "new cart pods"}}, (*judge).share},
	}
}

// Names are the names of all checks.
func Names() []string {
	var names []string
	for _, p := range passes() {
		for _, c := range p.checks {
			names = append(names, c.Check)
		}
	}
	return append(names, "inconclusive")
}

// Check judges the history in the file. An error means that it can't be read;
// a history that is bad or too short is a Verdict.
func Check(path string, limits Limits) (Verdict, error) {
	return judged(func(each func(history.Record) error) error { return history.Scan(path, each) }, limits)
}

// scan calls a function with every record of a history.
type scan func(func(history.Record) error) error

func judged(records scan, limits Limits) (Verdict, error) {
	for _, name := range limits.Checks {
		if !slices.Contains(Names(), name) {
			return Verdict{}, fmt.Errorf("check: there is no check %q; there are %s", name, strings.Join(Names(), ", "))
		}
	}
	t, err := load(records)
	if err != nil {
		return Verdict{}, fmt.Errorf("check: %w", err)
	}
	j := &judge{tape: t, limits: limits, results: map[string]*Result{}, gone: map[string]bool{}, twice: map[string]bool{}}
	all := passes()
	all = slices.DeleteFunc(all, func(p pass) bool {
		switch p.checks[0].Check {
		case "share": // it is of pods alone
			return len(t.pods) == 0
		case "reused": // of clients that have tokens
			return !slices.ContainsFunc(t.ops, func(o *op) bool { return o.kind == history.Tokens })
		}
		return false
	})
	for _, p := range all {
		for i, c := range p.checks {
			if j.asked(c.Check) {
				j.results[c.Check] = &p.checks[i]
			}
		}
	}
	for _, p := range all {
		p.run(j)
	}
	v := Verdict{Figures: j.figures()}
	for _, p := range all {
		for _, c := range p.checks {
			if j.asked(c.Check) {
				v.Results = append(v.Results, c)
			}
		}
	}
	if j.asked("inconclusive") {
		v.Inconclusive = j.inconclusive(&v)
	}
	if v.Findings, err = j.complete(records); err != nil {
		return Verdict{}, fmt.Errorf("check: %w", err)
	}
	v.Pass = len(v.Findings) == 0 && len(v.Inconclusive) == 0
	v.Line = v.line()
	return v, nil
}

func (v Verdict) line() string {
	f, faults := v.Figures, 0
	for _, n := range f.Faults {
		faults += n
	}
	text := fmt.Sprintf("%d lost  %d doubled  %d failed of %d acknowledged changes under %d faults",
		f.Lost, f.Doubled, f.FailedLogical, f.Acknowledged, faults)
	if v.Pass {
		return "PASS  " + text
	}
	if len(v.Findings) == 0 {
		return "FAIL INCONCLUSIVE  " + text + ": " + strings.Join(v.Inconclusive, "; ")
	}
	var broken []string
	for _, r := range v.Results {
		if r.Violations > 0 {
			broken = append(broken, fmt.Sprintf("%s %d", r.Check, r.Violations))
		}
	}
	text += ": " + strings.Join(broken, ", ")
	if len(v.Inconclusive) > 0 {
		text += "; inconclusive: " + strings.Join(v.Inconclusive, "; ")
	}
	return "FAIL  " + text
}

// judge is one judgement under way.
type judge struct {
	*tape
	limits   Limits
	results  map[string]*Result
	findings []finding
	// gone and twice name what was lost and doubled, each thing once, whichever
	// checks see it.
	gone, twice map[string]bool
	// failedInOutages counts the logical requests that failed where they may.
	failedInOutages int
	// unsearched counts hot carts that can't be searched.
	unsearched int
	drawings   int
	leastShare *float64 // of the new cart pods, see Figures
}

// finding is a Finding whose requests are still to be read.
type finding struct {
	Finding
	ops []*op
}

func (j *judge) asked(check string) bool {
	return j.limits.Checks == nil || slices.Contains(j.limits.Checks, check)
}

func (j *judge) looked(check string, n int) {
	if r := j.results[check]; r != nil {
		r.Looked += n
	}
}

// lose counts a thing that was lost, and double one that is there twice, each
// thing once, if the check was asked for.
func (j *judge) lose(check, thing string) {
	if j.results[check] != nil {
		j.gone[thing] = true
	}
}

func (j *judge) double(check, thing string) {
	if j.results[check] != nil {
		j.twice[thing] = true
	}
}

// find notes a violation.
func (j *judge) find(check string, c *cart, ops []*op, format string, args ...any) {
	r := j.results[check]
	if r == nil {
		return
	}
	if r.Violations++; r.Violations > MaxFindings {
		return
	}
	f := finding{Finding: Finding{Check: check, Text: fmt.Sprintf(format, args...)}, ops: ops}
	if c != nil {
		f.Cart = c.name
	}
	j.findings = append(j.findings, f)
}

// maxOps is how many requests a finding shows.
const maxOps = 12

// complete reads the requests of the findings.
func (j *judge) complete(records scan) ([]Finding, error) {
	wanted := map[int32]*history.Op{}
	for _, f := range j.findings {
		for _, o := range f.ops[:min(len(f.ops), maxOps)] {
			wanted[o.at] = nil
		}
	}
	if len(wanted) > 0 {
		at := int32(0)
		if err := records(func(r history.Record) error {
			if r.Op != nil {
				if _, ok := wanted[at]; ok {
					wanted[at] = r.Op
				}
				at++
			}
			return nil
		}); err != nil {
			return nil, err
		}
	}
	findings := []Finding{}
	for _, name := range Names() {
		for _, f := range j.findings {
			if f.Check != name {
				continue
			}
			for _, o := range f.ops[:min(len(f.ops), maxOps)] {
				f.Ops = append(f.Ops, *wanted[o.at])
			}
			findings = append(findings, f.Finding)
		}
	}
	return findings, nil
}
