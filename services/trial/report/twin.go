package report

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"coatcheck/trial/history"
)

// Of each check this many findings are shown, of each finding this many
// requests; how many were left out is said.
const (
	maxFindings = 20
	maxOps      = 100
)

// twin is the content of report.json. Its names are stable; what has a unit
// names it. The page shows the same figures.
type twin struct {
	Format       int           `json:"format"` // 1
	Verdict      Verdict       `json:"verdict"`
	Line         string        `json:"line"`
	Reasons      []string      `json:"reasons"`
	Complete     bool          `json:"complete"` // the history has an end
	Run          twinRun       `json:"run"`
	End          twinEnd       `json:"end"`
	History      string        `json:"history"`
	HistoryBytes int64         `json:"history_bytes"`
	Figures      twinFigures   `json:"figures"`
	Checks       []twinCheck   `json:"checks"`
	Findings     []twinFinding `json:"findings"`
	// FindingsLeftOut counts the findings that are not in Findings.
	FindingsLeftOut int           `json:"findings_left_out"`
	Faults          []twinFault   `json:"faults"`
	Pods            []twinPods    `json:"pods,omitempty"` // of a shop on a cluster
	Kinds           []twinGroup   `json:"kinds"`
	Protocols       []twinGroup   `json:"protocols"`
	Services        []twinService `json:"services"`
	Seconds         []twinSecond  `json:"seconds"`
}

type twinRun struct {
	Started       time.Time `json:"started"`
	Scenario      string    `json:"scenario"`
	Seed          uint64    `json:"seed,string"` // a string: JSON numbers end at 2^53 for some
	Target        string    `json:"target"`
	RatePerSecond float64   `json:"rate_per_second"`
	LengthSeconds float64   `json:"length_seconds"`
	Machine       string    `json:"machine"`
	Version       string    `json:"version"`
	Repeat        string    `json:"repeat"`
}

type twinEnd struct {
	AtSeconds       float64 `json:"at_seconds"`
	Missed          int     `json:"missed"`
	OwnCPUSeconds   float64 `json:"own_cpu_seconds"`
	TotalCPUSeconds float64 `json:"total_cpu_seconds"`
}

type twinFigures struct {
	Requests            int      `json:"requests"`
	AcknowledgedChanges int      `json:"acknowledged_changes"`
	Lost                int      `json:"lost"`
	Doubled             int      `json:"doubled"`
	FailedLogical       int      `json:"failed_logical_requests"`
	FailedInOutages     int      `json:"failed_logical_requests_in_outages"`
	OK                  int      `json:"ok"`
	Refused             int      `json:"refused"`
	Failed              int      `json:"failed"`
	Unknown             int      `json:"unknown"`
	Attempts            int      `json:"attempts"`
	FailedAttempts      int      `json:"failed_attempts"`
	Retries             int      `json:"retries"`
	RetriedRequests     int      `json:"retried_requests"`
	Replayed            int      `json:"replayed"`
	LastReadings        int      `json:"last_readings"`
	LastReadingsOK      int      `json:"last_readings_ok"`
	Faults              int      `json:"faults"` // made, as are the next three
	FaultsHidden        int      `json:"faults_hidden"`
	FaultsGateway       int      `json:"faults_gateway"`
	FaultsOutage        int      `json:"faults_outage"`
	FaultsNotMade       int      `json:"faults_not_made"`
	P50Seconds          *float64 `json:"p50_seconds"`
	P99Seconds          *float64 `json:"p99_seconds"`
	P99QuietSeconds     *float64 `json:"p99_quiet_seconds"`
	P99AfterKillSeconds *float64 `json:"p99_after_kill_seconds"`
}

type twinCheck struct {
	Name       string `json:"name"`
	Means      string `json:"means"`
	Looked     int    `json:"looked_at"`
	Of         string `json:"of"`
	Violations int    `json:"violations"`
	Result     string `json:"result"` // passed, failed, or nothing: there was nothing to look at
}

type twinFinding struct {
	Check string   `json:"check"`
	Cart  string   `json:"cart"`
	Text  string   `json:"text"`
	Ops   []twinOp `json:"ops"`
	// OpsLeftOut counts the requests that are not in Ops.
	OpsLeftOut int `json:"ops_left_out"`
	drawing    []byte
}

type twinOp struct {
	SentSeconds     float64         `json:"sent_seconds"`
	AnsweredSeconds float64         `json:"answered_seconds"`
	Client          string          `json:"client"`
	Protocol        string          `json:"protocol"`
	Kind            history.Kind    `json:"kind"`
	Cart            string          `json:"cart"`
	From            string          `json:"from,omitempty"`
	Lines           []history.Line  `json:"lines"`
	IfMatch         string          `json:"if_match,omitempty"`
	Outcome         history.Outcome `json:"outcome"`
	Status          int             `json:"status"`
	Code            string          `json:"code,omitempty"`
	Attempts        int             `json:"attempts"`
	Version         uint64          `json:"version"`
	ETag            string          `json:"etag,omitempty"`
	Replayed        bool            `json:"replayed"`
	ServedBy        string          `json:"served_by,omitempty"` // of the last attempt
	Shown           []history.Line  `json:"shown,omitempty"`
	Ordered         []history.Order `json:"ordered,omitempty"`
	Last            bool            `json:"last_reading"`
}

type twinFault struct {
	Name            string        `json:"name"`
	Kind            string        `json:"kind"`
	Target          string        `json:"target"`
	Class           history.Class `json:"class"`
	StartSeconds    float64       `json:"start_seconds"`
	DurationSeconds float64       `json:"duration_seconds"`
	InFlight        int           `json:"in_flight"`
	// FailedAttempts are those of any client that failed while it was on.
	FailedAttempts int    `json:"failed_attempts"`
	Error          string `json:"error,omitempty"`
}

type twinPods struct {
	AtSeconds float64        `json:"at_seconds"`
	All       map[string]int `json:"all"` // by part
	Ready     map[string]int `json:"ready"`
}

type twinGroup struct {
	Name       string   `json:"name"`
	Requests   int      `json:"requests"`
	OK         int      `json:"ok"`
	Refused    int      `json:"refused"`
	Failed     int      `json:"failed"`
	Unknown    int      `json:"unknown"`
	P50Seconds *float64 `json:"p50_seconds"`
	P99Seconds *float64 `json:"p99_seconds"`
}

type twinService struct {
	Service  string        `json:"service"`
	Answers  int           `json:"answers"`
	MaxMean  float64       `json:"max_over_mean"`
	Replicas []twinReplica `json:"replicas"`
}

type twinReplica struct {
	Replica string  `json:"replica"`
	Answers int     `json:"answers"`
	Share   float64 `json:"share"`
}

type twinSecond struct {
	Second         int      `json:"second"` // what ended in [second, second+1)
	OK             int      `json:"ok"`
	Refused        int      `json:"refused"`
	Failed         int      `json:"failed"`
	Unknown        int      `json:"unknown"`
	FailedAttempts int      `json:"failed_attempts"`
	Retries        int      `json:"retries"`
	P50Seconds     *float64 `json:"p50_seconds"`
	P99Seconds     *float64 `json:"p99_seconds"`
}

func newTwin(c *counts, in Input) *twin {
	t := &twin{
		Format: 1, Verdict: in.Verdict, Line: in.Line, Reasons: append([]string{}, in.Reasons...), Complete: c.end != nil,
		Run: twinRun{
			Started: c.run.Started, Scenario: c.run.Scenario, Seed: c.run.Seed, Target: c.run.Target, RatePerSecond: c.run.Rate,
			LengthSeconds: c.run.Length.Seconds(), Machine: c.run.Machine, Version: c.run.Version, Repeat: cmp.Or(in.Repeat, repeat(c.run)),
		},
		Checks: []twinCheck{}, Findings: []twinFinding{}, Faults: []twinFault{}, Seconds: []twinSecond{},
		Kinds: twinGroups(c.kinds), Protocols: twinGroups(c.protocols), Services: twinServices(c.replicas),
	}
	if c.end != nil {
		t.End = twinEnd{AtSeconds: c.end.At.Seconds(), Missed: c.end.Missed, OwnCPUSeconds: c.end.OwnCPU, TotalCPUSeconds: c.end.TotalCPU}
	}
	all := newTwinGroup("", &c.all)
	t.Figures = twinFigures{
		Requests: c.all.total(), AcknowledgedChanges: in.Judged.Acknowledged, Lost: in.Judged.Lost, Doubled: in.Judged.Doubled,
		FailedLogical: in.Judged.Failed, FailedInOutages: in.Judged.FailedInOutages,
		OK: c.all.ok, Refused: c.all.refused, Failed: c.all.failed, Unknown: c.all.unknown,
		Attempts: c.attempts, FailedAttempts: c.failed, Retries: c.retries, RetriedRequests: c.retried, Replayed: c.replayed,
		LastReadings: c.lastReading.total(), LastReadingsOK: c.lastReading.ok,
		P50Seconds: all.P50Seconds, P99Seconds: all.P99Seconds,
		P99QuietSeconds: known(in.Judged.Quiet, in.Judged.Quiet > 0), P99AfterKillSeconds: known(in.Judged.AfterKill, in.Judged.AfterKill > 0),
	}
	slices.SortStableFunc(c.faults, func(a, b history.Fault) int { return cmp.Compare(a.Start, b.Start) })
	for _, f := range c.faults {
		t.Faults = append(t.Faults, twinFault{
			Name: f.Name, Kind: f.Kind, Target: f.Target, Class: f.Class, StartSeconds: f.Start.Seconds(), DurationSeconds: (f.End - f.Start).Seconds(),
			InFlight: f.InFlight, FailedAttempts: c.failedDuring(f.Start, f.End), Error: f.Error,
		})
		if f.Error != "" {
			t.Figures.FaultsNotMade++
			continue
		}
		t.Figures.Faults++
		switch f.Class {
		case history.Hidden:
			t.Figures.FaultsHidden++
		case history.Gateway:
			t.Figures.FaultsGateway++
		case history.Outage:
			t.Figures.FaultsOutage++
		}
	}
	for _, p := range c.pods {
		ready := map[string]int{}
		for part, names := range p.Ready {
			ready[part] = len(names)
		}
		t.Pods = append(t.Pods, twinPods{p.At.Seconds(), p.All, ready})
	}
	found := map[string]int{} // violations by check
	for _, k := range in.Checks {
		row := twinCheck{Name: k.Name, Means: cmp.Or(k.Means, meaning(k.Name)), Looked: k.Looked, Of: k.Of, Violations: k.Violations, Result: "passed"}
		switch {
		case k.Violations > 0:
			row.Result = "failed"
		case k.Looked == 0:
			row.Result = "nothing"
		}
		t.Checks = append(t.Checks, row)
		found[k.Name] = k.Violations
	}
	shown := map[string]int{}
	for _, f := range in.Findings {
		shown[f.Check]++
		found[f.Check] = max(found[f.Check], shown[f.Check])
		if shown[f.Check] <= maxFindings {
			t.Findings = append(t.Findings, newTwinFinding(f))
		}
	}
	for check, n := range found {
		t.FindingsLeftOut += n - min(shown[check], maxFindings)
	}
	for i, s := range c.seconds {
		row := twinSecond{Second: i}
		if s != nil {
			row.OK, row.Refused, row.Failed, row.Unknown = s.ok, s.refused, s.failed, s.unknown
			row.FailedAttempts, row.Retries = s.failedAttempts(), s.retries
			row.P50Seconds, row.P99Seconds = known(s.latency.quantile(0.5)), known(s.latency.quantile(0.99))
		}
		t.Seconds = append(t.Seconds, row)
	}
	return t
}

// known is a duration in seconds, or null.
func known(d time.Duration, ok bool) *float64 {
	if !ok {
		return nil
	}
	s := d.Seconds()
	return &s
}

func repeat(run history.Run) string {
	return fmt.Sprintf("trial run -scenario %s -rate %g -length %s -seed %d", run.Scenario, run.Rate, run.Length, run.Seed)
}

func newTwinFinding(f Finding) twinFinding {
	t := twinFinding{Check: f.Check, Cart: f.Cart, Text: f.Text, Ops: []twinOp{}, OpsLeftOut: max(0, len(f.Ops)-maxOps), drawing: f.Drawing}
	for _, op := range f.Ops[:min(len(f.Ops), maxOps)] {
		row := twinOp{
			SentSeconds: op.Sent.Seconds(), AnsweredSeconds: op.Answered.Seconds(), Client: op.Client, Protocol: op.Protocol, Kind: op.Kind,
			Cart: op.Cart, From: op.From, Lines: append([]history.Line{}, op.Lines...), IfMatch: op.IfMatch, Outcome: op.Outcome,
			Status: op.Status, Code: op.Code, Attempts: len(op.Attempts), Version: op.Version, ETag: op.ETag, Replayed: op.Replayed,
			Shown: op.Shown, Ordered: op.Ordered, Last: op.Last,
		}
		if n := len(op.Attempts); n > 0 {
			row.ServedBy = op.Attempts[n-1].ServedBy
		}
		t.Ops = append(t.Ops, row)
	}
	return t
}

func newTwinGroup(name string, g *group) twinGroup {
	return twinGroup{
		Name: name, Requests: g.total(), OK: g.ok, Refused: g.refused, Failed: g.failed, Unknown: g.unknown,
		P50Seconds: known(g.latency.quantile(0.5)), P99Seconds: known(g.latency.quantile(0.99)),
	}
}

// twinGroups are the groups, the largest first.
func twinGroups(groups map[string]*group) []twinGroup {
	rows := []twinGroup{}
	for name, g := range groups {
		rows = append(rows, newTwinGroup(name, g))
	}
	slices.SortFunc(rows, func(a, b twinGroup) int {
		return cmp.Or(cmp.Compare(b.Requests, a.Requests), strings.Compare(a.Name, b.Name))
	})
	return rows
}

func twinServices(replicas map[string]map[string]int) []twinService {
	rows := []twinService{}
	for _, service := range []string{"gateway", "cart"} {
		row := twinService{Service: service, Replicas: []twinReplica{}}
		for _, name := range slices.SortedFunc(maps.Keys(replicas[service]), natural) {
			row.Answers += replicas[service][name]
		}
		for _, name := range slices.SortedFunc(maps.Keys(replicas[service]), natural) {
			share := float64(replicas[service][name]) / float64(row.Answers)
			row.Replicas = append(row.Replicas, twinReplica{Replica: name, Answers: replicas[service][name], Share: share})
			row.MaxMean = max(row.MaxMean, share*float64(len(replicas[service])))
		}
		if row.Answers > 0 {
			rows = append(rows, row)
		}
	}
	return rows
}

// meaning is what it says if the check of that name passes.
func meaning(check string) string {
	switch check {
	case "lost":
		return "Every acknowledged add of a line that nobody else touched was there to the end, in its cart or in an order."
	case "bounds":
		return "Each quantity lies between the sum of what was acknowledged and that sum plus what is unknown."
	case "doubled":
		return "No change was applied twice, however often it was sent."
	case "versions":
		return "Each acknowledged change raised its cart's version by one: no version is shared, none is missing that an unknown change does not explain."
	case "accounts":
		return "Carts and orders together account for every acknowledged line."
	case "hidden":
		return "No client saw a failed attempt while only auth or cart processes were hit."
	case "drained":
		return "No client saw a failed attempt while gateways ended in order, but for requests that crossed the hanging up of an idle connection."
	case "logical":
		return "No logical request failed except while Redis or the network was away."
	case "unavailable":
		return "Every answer with 5xx was 503 and named a time to try again."
	case "share":
		return "Ten seconds after it was Ready, each new cart pod got at least 70 % of an equal share of the requests."
	case "merges":
		return "Each log-in moved the guest's cart into the user's exactly once."
	case "linearizable":
		return "Each hot cart behaved like a single cart that takes one change at a time; a search that ran out of time counts as a violation."
	case "foreign":
		return "No cart and no order shows a line that its own clients did not put there."
	case "reused":
		return "A refresh token that was used up was refused, and no session went on by it."
	case "revoked":
		return "A session that was ended was refused from then on."
	case "refused":
		return "Nobody who had not logged out was refused for their ticket, and no guest was taken for a new one."
	case "inconclusive":
		return "There was enough traffic, of every kind, before and during the faults, for the other checks to mean something."
	}
	return ""
}
