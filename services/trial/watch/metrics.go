package watch

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"coatcheck/trial/history"
)

// classes of faults always have their series, so that the first is an increase.
var classes = []history.Class{history.Hidden, history.Gateway, history.Outage}

// metrics are the State as Prometheus reads it, at each scrape. Labels are few
// and the trial's own words: no cart, no SKU, no replica's name.
type metrics struct {
	watch *Watch

	info, elapsed, length              *prometheus.Desc
	requests, duration, inFlight       *prometheus.Desc
	missed, retries, changes           *prometheus.Desc
	lines, lost, faults, underWay, are *prometheus.Desc
}

// Collector returns the metrics of the trial.
func (w *Watch) Collector() prometheus.Collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("coatcheck_trial_"+name, help, labels, nil)
	}
	return &metrics{
		watch:    w,
		info:     desc("info", "1, with what is run as labels.", "scenario", "version"),
		elapsed:  desc("elapsed_seconds", "How long the traffic has gone on."),
		length:   desc("length_seconds", "How long the traffic was meant to last, at least."),
		requests: desc("requests_total", "Logical requests that are over, by outcome: ok (a refusal is an answer), failed or unknown.", "outcome"),
		duration: desc("request_duration_seconds", "From when a logical request was due until it was over, with all its attempts."),
		inFlight: desc("requests_in_flight", "Logical requests under way."),
		missed:   desc("requests_missed_total", "Logical requests that were due and not sent, because too many waited for the shop."),
		retries:  desc("retries_total", "Attempts of clients after the first one."),
		changes:  desc("changes_acknowledged_total", "Changes of carts that the shop acknowledged."),
		lines:    desc("lines_total", "Acknowledged lines that nobody else touches, which each later answer must show."),
		lost:     desc("lines_lost_total", "Those of them that a later answer did not show. The checks at the end may find more."),
		faults:   desc("faults_total", "Faults that are over, by class: hidden, gateway or outage.", "class"),
		underWay: desc("faults_under_way", "Faults from their first effect until the shop is whole again.", "class"),
		are:      desc("replicas", "Replicas of the shop that the trial knows of, by what it last knew of them.", "role", "state"),
	}
}

// Describe is part of prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		m.info, m.elapsed, m.length, m.requests, m.duration, m.inFlight, m.missed, m.retries, m.changes, m.lines, m.lost, m.faults, m.underWay, m.are,
	} {
		ch <- d
	}
}

// Collect is part of prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	s := m.watch.State()
	send := func(d *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, value, labels...)
	}
	const gauge, counter = prometheus.GaugeValue, prometheus.CounterValue
	if s.Run.Scenario != "" {
		send(m.info, gauge, 1, s.Run.Scenario, s.Run.Version)
	}
	send(m.elapsed, gauge, s.Elapsed.Seconds())
	send(m.length, gauge, s.Run.Length.Seconds())
	send(m.requests, counter, float64(s.OK), "ok")
	send(m.requests, counter, float64(s.Failed), "failed")
	send(m.requests, counter, float64(s.Unknown), "unknown")
	buckets := map[float64]uint64{}
	// The histogram's own bounds, so that no count is a guess: a millisecond, and
	// twice in each octave up to sixteen seconds.
	for us := 1 << 10; us < 1<<24; us *= 2 {
		for _, bound := range []time.Duration{time.Duration(us) * time.Microsecond, time.Duration(us+us/2) * time.Microsecond} {
			buckets[bound.Seconds()] = uint64(s.counts.Latency.Below(bound))
		}
	}
	ch <- prometheus.MustNewConstHistogram(m.duration, uint64(s.counts.Latency.Below(time.Hour)), s.counts.Took.Seconds(), buckets)
	send(m.inFlight, gauge, float64(s.InFlight))
	send(m.missed, counter, float64(s.Missed))
	send(m.retries, counter, float64(s.Retried))
	send(m.changes, counter, float64(s.Acknowledged))
	send(m.lines, counter, float64(s.Lines))
	send(m.lost, counter, float64(s.Lost))
	underWay := map[history.Class]int{}
	for _, f := range s.Faults {
		if f.End == 0 {
			underWay[f.Class]++
		}
	}
	for _, class := range classes {
		send(m.faults, counter, float64(s.made[class]), string(class))
		send(m.underWay, gauge, float64(underWay[class]), string(class))
	}
	replicas := map[[2]string]int{}
	for _, r := range s.Replicas {
		state := r.State
		if state == "" {
			state = "answering"
		}
		replicas[[2]string{r.Role, state}]++
	}
	for of, n := range replicas {
		send(m.are, gauge, float64(n), of[0], of[1])
	}
}
