// Package measuretest holds the metrics of a service against what all of them
// must keep to.
package measuretest

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
)

// MaxSeries is how many series one pod may have at most.
const MaxSeries = 1500

// Check fails the test if a metric of reg breaks the conventions of Prometheus
// or its series are too many. It returns their number.
func Check(t testing.TB, reg prometheus.Gatherer) int {
	t.Helper()
	problems, err := testutil.GatherAndLint(reg)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	series := 0
	for _, f := range families {
		n := 0
		for _, m := range f.GetMetric() {
			n += Series(m)
		}
		t.Logf("%4d series: %s", n, f.GetName())
		series += n
	}
	if series >= MaxSeries {
		t.Errorf("%d series, which must be fewer than %d", series, MaxSeries)
	}
	return series
}

// Series is how many series a metric is; it counts as a Prometheus without native histograms would store it.
func Series(m *dto.Metric) int {
	switch {
	case m.GetHistogram() != nil:
		return len(m.GetHistogram().GetBucket()) + 3 // +Inf, _sum, _count
	case m.GetSummary() != nil:
		return len(m.GetSummary().GetQuantile()) + 2
	default:
		return 1
	}
}
