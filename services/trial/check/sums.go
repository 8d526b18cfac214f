package check

import (
	"fmt"

	"coatcheck/trial/history"
)

// sum is what became of one SKU of a family that is only ever added.
type sum struct {
	acknowledged, unknown, there int64
	unique                       bool
}

// sums of the adds of the family, by SKU.
func (f *family) sums() map[sku]*sum {
	overwritten := f.overwritten()
	sums := map[sku]*sum{}
	of := func(s sku) *sum {
		if overwritten[s] {
			return new(sum)
		}
		if sums[s] == nil {
			sums[s] = new(sum)
		}
		return sums[s]
	}
	for _, o := range f.ops {
		if o.kind != history.Add {
			continue
		}
		for _, l := range o.lines {
			s := of(l.sku)
			s.unique = s.unique || o.unique
			switch o.outcome {
			case history.OK:
				s.acknowledged += int64(l.n)
			case history.Unknown:
				s.unknown += int64(l.n)
			}
		}
	}
	for _, c := range f.carts {
		if c.final != nil {
			for _, l := range c.final.shown {
				of(l.sku).there += int64(l.n)
			}
		}
		for _, b := range c.bought {
			for _, l := range b.lines {
				of(l.sku).there += int64(l.n)
			}
		}
	}
	return sums
}

// sums compares what is there at the end, in carts and in orders, with what was
// added: at least what was acknowledged, at most that and what is unknown. It
// holds whatever overlaps, since adds commute. It can't see SKUs that were
// also set or removed.
func (j *judge) sums() {
	for _, f := range j.families {
		if !f.whole {
			continue
		}
		for s, sum := range f.sums() {
			j.looked("bounds", 1)
			j.looked("doubled", 1)
			key := fmt.Sprintf("%s %d", f.main().name, s)
			switch {
			case sum.there < sum.acknowledged:
				if !sum.unique { // else lost says which
					j.lose("bounds", key)
				}
				j.find("bounds", f.main(), f.naming(s), "%s: %d in carts and orders at the end, but %d were acknowledged",
					j.skus[s], sum.there, sum.acknowledged)
			case sum.there > sum.acknowledged+sum.unknown:
				j.double("doubled", key)
				j.find("doubled", f.main(), f.naming(s), "%s: %d in carts and orders at the end, but only %d were added (%d acknowledged, %d unknown)",
					j.skus[s], sum.there, sum.acknowledged+sum.unknown, sum.acknowledged, sum.unknown)
			}
		}
	}
}
