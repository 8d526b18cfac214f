package check

import (
	"fmt"
	"slices"
	"time"

	"coatcheck/trial/history"
)

// inconclusive answers why a history proves too little.
func (j *judge) inconclusive(v *Verdict) []string {
	reasons := []string{}
	because := func(so bool, format string, args ...any) {
		if so {
			reasons = append(reasons, fmt.Sprintf(format, args...))
		}
	}
	f, l := v.Figures, j.limits
	because(j.run == nil, "the history does not say what was run")
	because(j.end == nil, "the history was cut short")
	because(f.Acknowledged < l.Acknowledged, "%d changes were acknowledged, of at least %d", f.Acknowledged, l.Acknowledged)

	if l.Rate > 0 {
		rate := float64(f.Acknowledged) / max(1, j.lasted().Seconds())
		because(rate < l.Rate, "%.0f changes a second were acknowledged, of at least %.0f", rate, l.Rate)
	}
	looked := 0
	if r := j.results["share"]; r != nil {
		looked = r.Looked
	}
	because(looked < l.NewCarts, "the share of %d new cart pods was looked at, of at least %d", looked, l.NewCarts)

	made := 0
	for _, n := range f.Faults {
		made += n
	}
	because(made < l.Faults, "%d faults were made, of at least %d (%d could not be)", made, l.Faults, f.NotMade)
	because(l.Gap > 0 && f.Gap > l.Gap, "faults were %v apart, of at most %v", f.Gap.Round(10*time.Millisecond), l.Gap)
	because(f.AcrossKills < l.AcrossKills, "%d requests were in flight or retried across kills, of at least %d", f.AcrossKills, l.AcrossKills)
	if len(j.faults) > 0 {
		before := 0
		for _, o := range j.ops {
			if o.outcome == history.OK && o.answered < j.faults[0].Start {
				before++
			}
		}
		because(before < l.BeforeFaults, "%d requests were answered before the first fault, of at least %d", before, l.BeforeFaults)
	}

	total := 0
	for _, kind := range history.Traffic {
		total += f.ByKind[kind]
	}
	for _, kind := range history.Traffic {
		share := float64(f.ByKind[kind]) / float64(max(1, total))
		because(share < l.Share, "%.1f %% of the requests were of kind %s, of at least %.1f %%", 100*share, kind, 100*l.Share)
	}
	missed := float64(f.Missed) / float64(max(1, f.Missed+total))
	because(missed > l.Missed, "%.1f %% of the requests that were due were not sent, of at most %.1f %%", 100*missed, 100*l.Missed)

	because(f.Readings == 0, "no cart was read at the end")
	if !l.Empty {
		unread := 0
		for _, family := range j.families {
			if !family.whole {
				unread++
			}
		}
		because(unread > 0, "%d owners' carts and orders were not all read at the end", unread)
		because(j.unsearched > 0, "%d hot carts can't be searched: what a log-in brought is not certain", j.unsearched)
		for _, r := range v.Results {
			// Few scenarios have gateways end in order, or pods come and stay, or attempts fail.
			rare := r.Check == "drained" && len(j.ending) == 0 || r.Check == "share" || r.Check == "unavailable"
			because(r.Looked == 0 && !rare, "the check %s had nothing to look at", r.Check)
		}
	}
	return reasons
}

// lasted is how long there was traffic.
func (j *judge) lasted() time.Duration {
	var from, to time.Duration
	for _, o := range j.ops {
		if o.last || !slices.Contains(history.Traffic, o.kind) {
			continue
		}
		if to == 0 {
			from = o.sent
		}
		from, to = min(from, o.sent), max(to, o.answered)
	}
	return to - from
}
