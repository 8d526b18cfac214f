package watch

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"coatcheck/chassis/measuretest"
	"coatcheck/trial/history"
	"coatcheck/trial/traffic"
)

// TestMetrics: they follow the rules of all metrics, and say what the State says.
func TestMetrics(t *testing.T) {
	w := New()
	live := traffic.Live{Changes: 7, Retried: 3, InFlight: 2, Missed: 1, Took: 3 * time.Second}
	live.Latency.Add(500 * time.Microsecond)
	live.Latency.Add(1500 * time.Millisecond)
	live.Latency.Add(1500 * time.Millisecond)
	defer w.Begin(history.Run{Scenario: "demo", Version: "abc", Length: time.Minute}, func() traffic.Live { return live }, func() []Replica {
		return []Replica{{Role: "cart", Name: "cart-1", State: "running"}, {Role: "cart", Name: "cart-2", State: "running"}}
	})()
	w.Op(add("u", "a", "b"))
	w.Op(&history.Op{Kind: history.Read, Cart: "u", Outcome: history.OK, Shown: cart("a")})
	w.Op(&history.Op{Outcome: history.Unknown})
	w.Fault(history.Fault{Class: history.Outage})
	w.Fault(history.Fault{Class: history.Hidden})(history.Fault{Class: history.Hidden})

	reg := prometheus.NewRegistry()
	reg.MustRegister(w.Collector())
	if series := measuretest.Check(t, reg); series > 60 {
		t.Errorf("%d series", series)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			got[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
			if h := m.GetHistogram(); h != nil {
				got[name] = h.GetSampleSum()
				for _, b := range h.GetBucket() {
					if want := map[bool]uint64{true: 1, false: 3}[b.GetUpperBound() < 1.5]; b.GetCumulativeCount() != want {
						t.Errorf("%d requests within %v s, want %d", b.GetCumulativeCount(), b.GetUpperBound(), want)
					}
				}
			}
		}
	}
	delete(got, "coatcheck_trial_elapsed_seconds")
	want := map[string]float64{
		"info demo abc": 1, "length_seconds": 60, "requests_total ok": 2, "requests_total failed": 0, "requests_total unknown": 1,
		"request_duration_seconds": 3, "requests_in_flight": 2, "requests_missed_total": 1, "retries_total": 3, "changes_acknowledged_total": 7,
		"lines_total": 2, "lines_lost_total": 1, "faults_total hidden": 1, "faults_total gateway": 0, "faults_total outage": 0,
		"faults_under_way hidden": 0, "faults_under_way gateway": 0, "faults_under_way outage": 1, "replicas cart running": 2,
	}
	for name, value := range want {
		if v, ok := got["coatcheck_trial_"+name]; !ok || v != value {
			t.Errorf("%s is %v (there: %v), want %v", name, v, ok, value)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%v", got)
	}
}
