package run

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"coatcheck/trial/check"
	"coatcheck/trial/report"
)

// shownFindings is how many violations are printed; the report has more.
const shownFindings = 5

// input is the judgement as the report wants it.
func input(verdict Verdict, v check.Verdict) report.Input {
	f := v.Figures
	in := report.Input{
		Verdict: verdict, Line: v.Line, Reasons: v.Inconclusive,
		Judged: report.Judged{
			Acknowledged: f.Acknowledged, Lost: f.Lost, Doubled: f.Doubled, Failed: f.FailedLogical, FailedInOutages: f.FailedInOutages,
			Quiet: f.Quiet.P99, AfterKill: f.AfterKill.P99,
		},
	}
	for _, r := range v.Results {
		in.Checks = append(in.Checks, report.Check{Name: r.Check, Looked: r.Looked, Of: r.Of, Violations: r.Violations})
	}
	for _, x := range v.Findings {
		in.Findings = append(in.Findings, report.Finding{Check: x.Check, Cart: x.Cart, Text: x.Text, Ops: x.Ops, Drawing: x.Drawing})
	}
	return in
}

// summary prints what came out, but for the verdict.
func summary(out io.Writer, v check.Verdict) {
	f := v.Figures
	faults, made := 0, []string{}
	for _, kind := range slices.Sorted(maps.Keys(f.Faults)) {
		faults += f.Faults[kind]
		made = append(made, fmt.Sprintf("%s %d", kind, f.Faults[kind]))
	}
	var failed []string
	for _, on := range []string{"nothing", "hidden", "gateway", "outage"} {
		failed = append(failed, fmt.Sprintf("%d with %s on", f.FailedAttempts[on], on))
	}
	var recovered []string
	for _, kind := range slices.Sorted(maps.Keys(f.Recoveries)) {
		recovered = append(recovered, fmt.Sprintf("%s %v (no attempt: %v)", kind, short(f.RequestRecoveries[kind]), short(f.Recoveries[kind])))
	}
	apart := ""
	if f.Gap > 0 {
		apart = fmt.Sprintf(", one every %v", f.Gap.Round(100*time.Millisecond))
	}
	slower := ""
	if f.Quiet.P99 > 0 {
		slower = fmt.Sprintf(" (%.1f times that)", float64(f.AfterKill.P99)/float64(f.Quiet.P99))
	}
	fmt.Fprintln(out)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	rows := [][2]string{
		{"requests", fmt.Sprintf("%d, %d changes acknowledged, %d refused, %d unknown, %d missed", f.Requests, f.Acknowledged, f.Refused, f.Unknown, f.Missed)},
		{"faults", fmt.Sprintf("%d: %s%s", faults, strings.Join(made, ", "), apart)},
		{"failed attempts", strings.Join(failed, ", ")},
		{"retries", fmt.Sprintf("%d, of %d requests; %d requests were in flight at a kill or retried across one", f.Retries, f.Retried, f.AcrossKills)},
		{"failed requests", fmt.Sprintf("%d, and %d in outages", f.FailedLogical, f.FailedInOutages)},
		{"p99", fmt.Sprintf("quiet %v, within 5 s after a kill %v%s, in outages %v", short(f.Quiet.P99), short(f.AfterKill.P99), slower, short(f.InOutage.P99))},
		{"outages", "no request failed any more after at most: " + cmp.Or(strings.Join(recovered, ", "), "there was none")},
		{"trial's CPU", fmt.Sprintf("%.0f %% of the machine", 100*f.TrialCPU)},
	}
	if f.LeastShare != nil {
		rows = append(rows, [2]string{"new cart pods", fmt.Sprintf("%.0f %% of an equal share at least", 100**f.LeastShare)})
	}
	for _, row := range rows {
		fmt.Fprintf(table, "%s\t%s\n", row[0], row[1])
	}
	fmt.Fprintln(table)
	for _, r := range v.Results {
		state := "ok"
		switch {
		case r.Violations > 0:
			state = fmt.Sprintf("%d VIOLATIONS", r.Violations)
		case r.Looked == 0:
			state = "nothing to look at"
		}
		fmt.Fprintf(table, "%s\t%d %s\t%s\n", r.Check, r.Looked, r.Of, state)
	}
	_ = table.Flush()
	fmt.Fprintln(out)
	for _, x := range v.Findings[:min(len(v.Findings), shownFindings)] {
		fmt.Fprintf(out, "%s: %s: %s\n", x.Check, x.Cart, x.Text)
	}
	if more := len(v.Findings) - shownFindings; more > 0 {
		fmt.Fprintf(out, "and %d more in the report\n", more)
	}
}

// short rounds to what is worth reading.
func short(d time.Duration) time.Duration {
	if d > time.Second {
		return d.Round(10 * time.Millisecond)
	}
	return d.Round(100 * time.Microsecond)
}
