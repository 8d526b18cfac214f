package run

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"coatcheck/trial/check"
	"coatcheck/trial/fault"
	"coatcheck/trial/history"
	"coatcheck/trial/report"
)

// mostCPU is the share of the machine that a trial may take, so that it does not
// measure itself.
const mostCPU = 1.0 / 3

// Verdict is how a trial ended.
type Verdict = report.Verdict

// Judge checks the history in the file, writes report.html and report.json
// beside it, and prints what came out, the verdict in the last line.
func Judge(path string, out io.Writer) (Verdict, error) {
	verdict, _, err := judge(path, out)
	return verdict, err
}

// judge answers the verdict in a line, too.
func judge(path string, out io.Writer) (Verdict, string, error) {
	limits, wrong, err := limitsOf(path)
	if err != nil {
		return "", "", err
	}
	v, err := check.Check(path, limits)
	if err != nil {
		return "", "", err
	}
	if share := v.Figures.TrialCPU; share > mostCPU {
		wrong = append(wrong, fmt.Sprintf("the trial itself took %.0f %% of the machine, of at most %.0f %%", 100*share, 100*mostCPU))
	}
	if len(wrong) > 0 {
		v.Inconclusive = append(v.Inconclusive, wrong...)
		if v.Pass {
			v.Pass, v.Line = false, "FAIL INCONCLUSIVE"+strings.TrimPrefix(v.Line, "PASS")+": "+strings.Join(wrong, "; ")
		}
	}
	verdict := report.Pass
	switch {
	case len(v.Findings) > 0:
		verdict = report.Fail
	case !v.Pass:
		verdict = report.Inconclusive
	}
	if err := report.Write(filepath.Dir(path), path, input(verdict, v)); err != nil {
		return verdict, v.Line, err
	}
	summary(out, v)
	fmt.Fprintf(out, "report  %s\n%s\n", filepath.Join(filepath.Dir(path), "report.html"), v.Line)
	return verdict, v.Line, nil
}

// limitsOf are what a trial such as the one in the file must have shown, and
// what went wrong with its faults.
func limitsOf(path string) (limits check.Limits, wrong []string, err error) {
	var run *history.Run
	err = history.Scan(path, func(r history.Record) error {
		if r.Run != nil {
			run = r.Run
		}
		if r.Fault != nil && r.Fault.Error != "" {
			wrong = append(wrong, "a fault went wrong: "+r.Fault.Error)
		}
		return nil
	})
	if err == nil && run == nil {
		err = errors.New("the history does not say what was run")
	}
	if err != nil {
		return limits, nil, err
	}
	limits = check.DefaultLimits()
	limits.BeforeFaults = int(min(float64(limits.BeforeFaults), run.Rate*quiet(run.Length).Seconds()/2))
	shown := least(run.Scenario, run.Length, run.Rate)
	limits.Faults, limits.Acknowledged = shown.faults, shown.changes
	if s, known := fault.Named(run.Scenario); known {
		limits.AcrossKills = shown.acrossKills
		limits.Rate, limits.NewCarts = s.LeastRate*min(1, run.Rate/s.Rate), s.LeastNewCarts
		limits.Gap = s.MostGap
	}
	return limits, wrong, nil
}

// shown is what a trial must have shown to say anything.
type shown struct {
	faults, changes int
	acrossKills     int // requests in flight at a kill, or retried across one
}

// least is what a trial of that length and rate must have shown.
func least(scenario string, length time.Duration, rate float64) shown {
	s, known := fault.Named(scenario)
	if !known {
		return shown{}
	}
	part := share(s, length)
	l := shown{faults: int(float64(s.LeastFaults) * part), changes: int(float64(s.LeastChanges) * part * min(1, rate/s.Rate))}
	if !s.KillsNothing {
		l.acrossKills = int(float64(check.DefaultLimits().AcrossKills) * min(1, part))
	}
	return l
}

// share is how much of the scenario fits into the length; one with an end, once.
func share(s fault.Scenario, length time.Duration) float64 {
	part := length.Seconds() / s.Length.Seconds()
	if s.Ends {
		part = min(1, part)
	}
	return part
}
