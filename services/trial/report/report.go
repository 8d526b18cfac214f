// Package report shows a trial that is over: a page and its JSON twin.
//
// The hazard is a report that judges, or that flatters. Whether something was
// lost is the check's word and is given; what is counted here is counted from
// the history alone, percentiles are rounded up, what few requests failed is
// drawn large enough to be seen, and a history that was cut short says so.
package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"coatcheck/trial/history"
)

// Verdict is how a trial ended.
type Verdict string

// The verdicts.
const (
	Pass         Verdict = "PASS"
	Fail         Verdict = "FAIL"
	Inconclusive Verdict = "INCONCLUSIVE" // too little happened to mean something
)

// Input is what the report is told: the judgement of the checks. All else it
// reads in the history.
type Input struct {
	Verdict Verdict
	// Line is the verdict in one line; the page leaves out its leading PASS or FAIL.
	Line string
	// Reasons say why a trial is inconclusive.
	Reasons []string
	// Repeat is the command that runs the same trial again; empty: made from
	// the history's Run.
	Repeat   string
	Judged   Judged
	Checks   []Check
	Findings []Finding
}

// Judged are the figures that need a judgement, not only a count.
type Judged struct {
	Acknowledged  int // changes
	Lost, Doubled int // of those
	// Failed counts the logical requests that failed where none may,
	// FailedInOutages those that failed while Redis or the network was away.
	Failed, FailedInOutages int
	// Quiet and AfterKill are the 99th percentiles of latency while nothing was
	// hit and within 5 s after a kill; 0 if there was no such request.
	Quiet, AfterKill time.Duration
}

// Check is the result of one check.
type Check struct {
	Name string
	// Means says in one sentence what holds if it passes; empty: the report's
	// own sentence for the check of that name.
	Means string
	// Looked is how many things it looked at, Of what they are ("unique lines").
	Looked int
	Of     string
	// Violations is how many it found, which may be more than there are Findings.
	Violations int
}

// Finding is one violation.
type Finding struct {
	Check string
	Cart  string
	Text  string
	// Ops are the requests that show it.
	Ops []history.Op
	// Drawing is an HTML page that draws it, shown in a frame that may run its
	// own scripts and fetch nothing; nil if there is none.
	Drawing []byte
}

// Write reads the history in one pass and writes report.html and report.json
// into the folder, which it makes if need be. Memory grows with the seconds of
// the trial (about 2 KB each), not with its requests.
func Write(dir, historyPath string, in Input) error {
	counted, err := count(historyPath)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	twin := newTwin(counted, in)
	twin.History = filepath.Base(historyPath)
	if stat, err := os.Stat(historyPath); err == nil {
		twin.HistoryBytes = stat.Size()
	}
	data, err := json.MarshalIndent(twin, "", " ")
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	var html bytes.Buffer
	if err := writePage(&html, counted, twin); err != nil {
		return fmt.Errorf("report: drawing the page: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	if err := errors.Join(
		os.WriteFile(filepath.Join(dir, "report.json"), append(data, '\n'), 0o644),
		os.WriteFile(filepath.Join(dir, "report.html"), html.Bytes(), 0o644),
	); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}
