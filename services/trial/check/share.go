package check

import (
	"slices"
	"strings"
	"time"

	"coatcheck/trial/history"
)

const (
	// warm is how long after it was Ready a new replica may still get little, and
	// shareFor how long its share is then counted.
	warm, shareFor second = 10, 10
	// fairShare is the least part of an equal share that it must get.
	fairShare = 0.7
	// enoughAnswers is how many an equal share must be, to tell it from chance.
	enoughAnswers = 50
)

// maxServed bounds how many replicas are told apart.
const maxServed = 10_000

// count notes which cart replicas answered.
func (t *tape) count(o *history.Op) {
	for _, a := range o.Attempts {
		_, rest, _ := strings.Cut(a.ServedBy, " ")
		cart, _, _ := strings.Cut(rest, " ")
		if cart == "" {
			continue
		}
		if t.served[cart] == nil {
			if len(t.served) == maxServed {
				continue
			}
			t.served[cart] = map[second]int{}
		}
		t.served[cart][second(a.Answered/time.Second)]++
	}
}

// share: ten seconds after it was Ready, a new pod of the cart service has its
// part of the requests. Looked at are pods that came while there was traffic and
// stayed long enough.
func (j *judge) share() {
	seen := map[string]bool{}
	for i, sample := range j.pods {
		for _, name := range sample.Ready["cart"] {
			if seen[name] {
				continue
			}
			if seen[name] = true; i == 0 {
				continue // it is not new
			}
			from := second(sample.At/time.Second) + warm
			equal, ok := j.equal(name, sample.At, from, from+shareFor)
			if !ok || equal < enoughAnswers {
				continue
			}
			own := 0
			for s := from; s < from+shareFor; s++ {
				own += j.served[name][s]
			}
			j.looked("share", 1)
			got := float64(own) / equal
			if j.leastShare == nil || got < *j.leastShare {
				j.leastShare = &got
			}
			if got < fairShare {
				j.find("share", nil, nil, "%s was Ready at %s, and from 10 s after that got %.0f %% of an equal share for %d s", name, at(sample.At), 100*got, shareFor)
			}
		}
	}
}

// equal is how many answers each Ready cart would have given in that time if all
// had given the same. It is not ok if the named one was not Ready all the while
// since it came, or nobody looked.
func (j *judge) equal(name string, since time.Duration, from, to second) (answers float64, ok bool) {
	samples, ready := 0, 0
	for _, s := range j.pods {
		at := second(s.At / time.Second)
		if s.At < since || at >= to {
			continue
		}
		if !slices.Contains(s.Ready["cart"], name) {
			return 0, false
		}
		if at >= from {
			samples++
			ready += len(s.Ready["cart"])
		}
	}
	if samples < int(to-from)/2 {
		return 0, false
	}
	total := 0
	for _, replica := range j.served {
		for s := from; s < to; s++ {
			total += replica[s]
		}
	}
	return float64(total) / (float64(ready) / float64(samples)), true
}
