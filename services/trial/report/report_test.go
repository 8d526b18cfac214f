package report_test

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"html"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"coatcheck/trial/history"
	"coatcheck/trial/report"
)

const ms = time.Millisecond

// written is a history as a file, the report of it, and what the JSON says.
func written(t *testing.T, run history.Run, records []history.Record, end *history.End, in report.Input) (page string, twin map[string]any) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "history.jsonl")
	records = append([]history.Record{{Run: &run}}, records...)
	if end != nil {
		records = append(records, history.Record{End: end})
	}
	var file strings.Builder
	for _, r := range records {
		line, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		file.WriteString(string(line) + "\n")
	}
	if err := os.WriteFile(path, []byte(file.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := report.Write(filepath.Join(dir, "out"), path, in); err != nil {
		t.Fatal(err)
	}
	return load(t, filepath.Join(dir, "out"))
}

func load(t *testing.T, dir string) (page string, twin map[string]any) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &twin); err != nil {
		t.Fatal(err)
	}
	data, err = os.ReadFile(filepath.Join(dir, "report.html"))
	if err != nil {
		t.Fatal(err)
	}
	return string(data), twin
}

// at follows keys and indexes into the JSON.
func at(t *testing.T, v any, path ...any) any {
	t.Helper()
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, ok := v.(map[string]any)
			if !ok {
				t.Fatalf("%v: no object at %q", path, p)
			}
			if v, ok = m[p]; !ok {
				t.Fatalf("%v: no %q", path, p)
			}
		case int:
			l, ok := v.([]any)
			if !ok || p >= len(l) {
				t.Fatalf("%v: no element %d", path, p)
			}
			v = l[p]
		}
	}
	return v
}

func small() (history.Run, []history.Record) {
	run := history.Run{Started: time.Date(2026, 11, 23, 16, 0, 0, 0, time.UTC), Scenario: "small", Seed: 1<<63 + 1, Target: "http://127.0.0.1:1", Rate: 2, Length: 5 * time.Second, Machine: "one", Version: "v"}
	op := func(kind history.Kind, protocol string, outcome history.Outcome, sent, answered time.Duration, status int, attempts ...history.Attempt) history.Record {
		return history.Record{Op: &history.Op{Client: "s1", Protocol: protocol, Kind: kind, Cart: "s1.g1", Sent: sent, Answered: answered, Outcome: outcome, Status: status, Attempts: attempts}}
	}
	one := func(sent, answered time.Duration, status int, by string) history.Attempt {
		return history.Attempt{Sent: sent, Answered: answered, Status: status, ServedBy: by}
	}
	return run, []history.Record{
		op(history.Add, "h2c", history.OK, 100*ms, 100*ms+20*time.Microsecond, 200, one(100*ms, 100*ms+20*time.Microsecond, 200, "gateway-1 cart-2")),
		op(history.Add, "h2c", history.OK, 200*ms, 200*ms+30*time.Microsecond, 200, one(200*ms, 200*ms+30*time.Microsecond, 200, "gateway-1 cart-1")),
		op(history.CondSet, "keep-alive", history.Failed, 900*ms, 1001*ms, 412, one(900*ms, 1001*ms, 412, "gateway-2 cart-1")),
		op(history.Read, "keep-alive", history.OK, 1100*ms, 2200*ms, 200, one(1100*ms, 1150*ms, 0, ""), one(2100*ms, 2200*ms, 200, "gateway-1 cart-2")),
		// The fault is recorded after what failed during it.
		op(history.Checkout, "new-connection", history.Unknown, 1200*ms, 4300*ms, 503,
			one(1200*ms, 1250*ms, 0, ""), one(2200*ms, 2230*ms, 0, ""), one(4290*ms, 4300*ms, 503, "gateway-1")),
		{Fault: &history.Fault{Name: "kill -9 redis", Kind: "redis-kill", Target: "redis", Class: history.Outage, Start: 2230 * ms, End: 2800 * ms, InFlight: 1, Error: "slow"}},
		{Fault: &history.Fault{Name: "kill -9 gateway-1", Kind: "kill", Target: "gateway-1", Class: history.Gateway, Start: 1100 * ms, End: 2230 * ms, InFlight: 4}},
		op(history.Add, "h2c", history.Failed, 4400*ms, 4410*ms, 0, one(4400*ms, 4410*ms, 0, "")),
		{Op: &history.Op{Client: "s1", Kind: history.Read, Outcome: history.OK, Sent: 6 * time.Second, Answered: 6100 * ms, Last: true}},
	}
}

// TestFigures: the JSON says what one counts by hand.
func TestFigures(t *testing.T) {
	run, records := small()
	_, twin := written(t, run, records, &history.End{At: 7 * time.Second, Missed: 2, OwnCPU: 1.5, TotalCPU: 14}, report.Input{
		Verdict: report.Fail, Line: "FAIL  1 lost", Judged: report.Judged{Acknowledged: 2, Lost: 1, Doubled: 3, Failed: 1, FailedInOutages: 4, Quiet: 12 * ms},
		Checks:   []report.Check{{Name: "lost", Looked: 2, Of: "lines", Violations: 50}, {Name: "merges"}, {Name: "own", Means: "All is well.", Looked: 1}},
		Findings: []report.Finding{{Check: "lost", Cart: "s1.g1", Text: "gone", Ops: []history.Op{*records[4].Op}}},
	})
	for _, c := range []struct {
		path []any
		want any
	}{
		{[]any{"format"}, 1.0},
		{[]any{"verdict"}, "FAIL"},
		{[]any{"line"}, "FAIL  1 lost"},
		{[]any{"complete"}, true},
		{[]any{"run", "seed"}, "9223372036854775809"},
		{[]any{"run", "started"}, "2026-11-23T16:00:00Z"},
		{[]any{"run", "length_seconds"}, 5.0},
		{[]any{"run", "repeat"}, "trial run -scenario small -rate 2 -length 5s -seed 9223372036854775809"},
		{[]any{"end", "at_seconds"}, 7.0},
		{[]any{"end", "missed"}, 2.0},
		{[]any{"end", "own_cpu_seconds"}, 1.5},
		{[]any{"figures", "requests"}, 6.0},
		{[]any{"figures", "acknowledged_changes"}, 2.0},
		{[]any{"figures", "lost"}, 1.0},
		{[]any{"figures", "doubled"}, 3.0},
		{[]any{"figures", "failed_logical_requests"}, 1.0},
		{[]any{"figures", "failed_logical_requests_in_outages"}, 4.0},
		{[]any{"figures", "ok"}, 3.0},
		{[]any{"figures", "refused"}, 1.0},
		{[]any{"figures", "failed"}, 1.0},
		{[]any{"figures", "unknown"}, 1.0},
		{[]any{"figures", "attempts"}, 9.0},
		{[]any{"figures", "failed_attempts"}, 5.0},
		{[]any{"figures", "retries"}, 3.0},
		{[]any{"figures", "retried_requests"}, 2.0},
		{[]any{"figures", "last_readings"}, 1.0},
		{[]any{"figures", "faults"}, 1.0},
		{[]any{"figures", "faults_gateway"}, 1.0},
		{[]any{"figures", "faults_outage"}, 0.0},
		{[]any{"figures", "faults_hidden"}, 0.0},
		{[]any{"figures", "faults_not_made"}, 1.0},
		{[]any{"figures", "p99_quiet_seconds"}, 0.012},
		{[]any{"figures", "p99_after_kill_seconds"}, nil},
		{[]any{"checks", 0, "result"}, "failed"},
		{[]any{"checks", 1, "result"}, "nothing"},
		{[]any{"checks", 2, "result"}, "passed"},
		{[]any{"checks", 2, "means"}, "All is well."},
		{[]any{"findings_left_out"}, 49.0},
		{[]any{"findings", 0, "ops", 0, "sent_seconds"}, 1.2},
		{[]any{"findings", 0, "ops", 0, "attempts"}, 3.0},
		// By start, with what failed from start to end, both included.
		{[]any{"faults", 0, "name"}, "kill -9 gateway-1"},
		{[]any{"faults", 0, "start_seconds"}, 1.1},
		{[]any{"faults", 0, "duration_seconds"}, 1.13},
		{[]any{"faults", 0, "failed_attempts"}, 3.0},
		{[]any{"faults", 1, "failed_attempts"}, 1.0},
		{[]any{"faults", 1, "error"}, "slow"},
		{[]any{"kinds", 0, "name"}, "add"},
		{[]any{"kinds", 0, "requests"}, 3.0},
		{[]any{"kinds", 0, "failed"}, 1.0},
		{[]any{"kinds", 0, "p50_seconds"}, 0.00003},
		{[]any{"protocols", 0, "name"}, "h2c"},
		{[]any{"services", 0, "service"}, "gateway"},
		{[]any{"services", 0, "answers"}, 5.0},
		{[]any{"services", 0, "replicas", 0, "answers"}, 4.0},
		{[]any{"services", 0, "max_over_mean"}, 0.8 * 2},
		{[]any{"services", 1, "replicas", 1, "share"}, 0.5},
		{[]any{"seconds", 0, "ok"}, 2.0},
		{[]any{"seconds", 0, "p50_seconds"}, 0.00002},
		{[]any{"seconds", 0, "p99_seconds"}, 0.00003},
		{[]any{"seconds", 1, "refused"}, 1.0},
		{[]any{"seconds", 1, "failed_attempts"}, 2.0},
		{[]any{"seconds", 2, "retries"}, 2.0},
		{[]any{"seconds", 3, "p50_seconds"}, nil},
		{[]any{"seconds", 4, "unknown"}, 1.0},
	} {
		if got := at(t, twin, c.path...); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%v is %v, not %v", c.path, got, c.want)
		}
	}
	if n := len(at(t, twin, "seconds").([]any)); n != 5 {
		t.Errorf("%d seconds: those of the last reading are not of the traffic", n)
	}
	if p99 := at(t, twin, "figures", "p99_seconds").(float64); p99 < 3.1 || p99 > 3.1*1.0625 {
		t.Errorf("p99 of all is %v s, the longest took 3.1", p99)
	}
}

var outside = regexp.MustCompile(`(?i)(src|href|action|data|poster|background|formaction|ping|srcset)\s*=\s*["']?\s*(https?:)?//|url\(|@import|<link|<base|<script[^>]+src`)

// TestSelfContained: the page asks nobody for anything, and its drawings are well formed.
func TestSelfContained(t *testing.T) {
	s := newSample(20*time.Second, 100, 20)
	path := filepath.Join(t.TempDir(), "history.jsonl")
	s.write(t, path)
	for name, in := range map[string]report.Input{"pass": s.passed(), "fail": s.small()} {
		dir := t.TempDir()
		if err := report.Write(dir, path, in); err != nil {
			t.Fatal(err)
		}
		page, twin := load(t, dir)
		if found := outside.FindString(strings.ReplaceAll(page, "url(#", "")); found != "" {
			t.Errorf("%s: the page refers outside: %s", name, found)
		}
		if n := strings.Count(strings.ReplaceAll(page, s.run.Target, ""), "://"); n != 0 {
			t.Errorf("%s: %d addresses in the page", name, n)
		}
		if !strings.Contains(page, `http-equiv="Content-Security-Policy" content="default-src 'none';`) {
			t.Errorf("%s: the page does not forbid requests", name)
		}
		drawings := regexp.MustCompile(`(?s)<svg .*?</svg>`).FindAllString(page, -1)
		if len(drawings) != 4 {
			t.Errorf("%s: %d drawings", name, len(drawings))
		}
		for _, d := range drawings {
			wellFormed(t, d)
			for _, part := range []string{"<title id=", "<desc id=", `role="img"`} {
				if !strings.Contains(d, part) {
					t.Errorf("%s: a drawing without %s", name, part)
				}
			}
		}
		text := html.UnescapeString(page)
		for _, f := range s.downs {
			if n := strings.Count(text, f.Name); n < 2 {
				t.Errorf("%s: fault %q is named %d times, not in plot and table", name, f.Name, n)
			}
		}
		for _, c := range in.Checks {
			if !strings.Contains(page, `<th scope="row">`+c.Name+"</th>") {
				t.Errorf("%s: check %q is not named", name, c.Name)
			}
			if means := at(t, twin, "checks").([]any); len(means) != len(in.Checks) || strings.Contains(page, `<td class="prose"></td>`) {
				t.Errorf("%s: a check without a meaning", name)
			}
		}
		if want := map[string]string{"pass": "✓</span> PASS", "fail": "✕</span> FAIL"}[name]; !strings.Contains(page, want) {
			t.Errorf("%s: no %q", name, want)
		}
		if strings.Contains(page, `id="violations"`) != (name == "fail") || strings.Contains(page, "ZgotmplZ") {
			t.Errorf("%s: violations or values are not shown as they have to be", name)
		}
	}
}

func (s *sample) small() report.Input {
	in := s.passed()
	in.Verdict = report.Fail
	in.Findings = []report.Finding{{Check: "lost", Text: "gone", Ops: s.ops[:3]}}
	return in
}

func wellFormed(t *testing.T, drawing string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(drawing))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatalf("a drawing is not well formed: %v\n%.300s", err, drawing)
		}
	}
}

// TestHostile: nothing that a history or a check says becomes markup.
func TestHostile(t *testing.T) {
	const evil = `</title></script><script>alert("x")</script><img src=x onerror='y'>&amp;`
	run, records := small()
	run.Scenario, run.Target, run.Machine, run.Version = evil, evil, evil, evil
	records[0].Op.Client, records[0].Op.Kind, records[0].Op.Protocol, records[0].Op.Cart, records[0].Op.From = evil, evil, evil, evil, evil
	records[0].Op.Lines, records[0].Op.Code, records[0].Op.IfMatch = []history.Line{{SKU: evil, Quantity: 1}}, evil, evil
	records[0].Op.Shown = records[0].Op.Lines
	records[0].Op.Ordered = []history.Order{{ID: evil, Lines: records[0].Op.Lines}}
	records[0].Op.Attempts[0].ServedBy = evil
	f := records[5].Fault
	f.Name, f.Kind, f.Target, f.Class, f.Error = evil, evil, evil, evil, evil
	const drawing = `<p title="&quot;">a "drawing"</p>`
	page, _ := written(t, run, records, nil, report.Input{
		Verdict: "<b>", Line: evil, Reasons: []string{evil}, Repeat: evil,
		Checks:   []report.Check{{Name: evil, Means: evil, Of: evil, Violations: 1}},
		Findings: []report.Finding{{Check: evil, Cart: evil, Text: evil, Ops: []history.Op{*records[0].Op}, Drawing: []byte(drawing)}},
	})
	if n := strings.Count(page, "<script"); n != 2 {
		t.Errorf("%d scripts in the page", n)
	}
	for _, bad := range []string{"<img", "alert(\"x\")</script>", "<b>"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page has %s", bad)
		}
	}
	if n := strings.Count(page, "alert("); n < 20 {
		t.Errorf("the text is shown %d times only", n)
	}
	frame := regexp.MustCompile(`<iframe sandbox="allow-scripts" [^>]*srcdoc="([^"]*)"`).FindStringSubmatch(page)
	if frame == nil || html.UnescapeString(frame[1]) != drawing {
		t.Errorf("the drawing's frame is %q", frame)
	}
	for _, d := range regexp.MustCompile(`(?s)<svg .*?</svg>`).FindAllString(page, -1) {
		wellFormed(t, d)
	}
	if !strings.Contains(page, "The history has no end") {
		t.Error("nothing says that the history was cut short")
	}
}

// TestTooMuch: what is left out is counted.
func TestTooMuch(t *testing.T) {
	run, records := small()
	many := report.Finding{Check: "lost", Text: "gone", Ops: make([]history.Op, 130)}
	in := report.Input{Verdict: report.Inconclusive, Reasons: []string{"too little traffic"}, Findings: make([]report.Finding, 0, 25)}
	for range 25 {
		in.Findings = append(in.Findings, many)
	}
	in.Findings = append(in.Findings, report.Finding{Check: "doubled", Text: "twice"})
	page, twin := written(t, run, records, &history.End{}, in)
	if n, left := len(at(t, twin, "findings").([]any)), at(t, twin, "findings_left_out"); n != 21 || left != 5.0 {
		t.Errorf("%d findings are shown and %v left out", n, left)
	}
	if n, left := len(at(t, twin, "findings", 0, "ops").([]any)), at(t, twin, "findings", 0, "ops_left_out"); n != 100 || left != 30.0 {
		t.Errorf("%d requests are shown and %v left out", n, left)
	}
	for _, want := range []string{"not shown: 5 more", "Not shown: 30 more requests", "?</span> INCONCLUSIVE", "too little traffic", "twice"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
}

// TestUnusable: a file that is no history, or not of a trial, has no report.
func TestUnusable(t *testing.T) {
	for name, content := range map[string]string{
		"cut":       "{\"run\":{\"scenario\":\"x\"}}\n{\"op\":{\"cli",
		"no run":    "{\"end\":{}}\n",
		"too late":  "{\"run\":{\"scenario\":\"x\"}}\n{\"op\":{\"answered\":9000000000000000000}}\n",
		"backwards": "{\"run\":{\"scenario\":\"x\"}}\n{\"fault\":{\"start\":5,\"end\":4}}\n",
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "history.jsonl")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := report.Write(dir, path, report.Input{}); err == nil {
			t.Errorf("%s: a report was written", name)
		}
	}
	if err := report.Write(t.TempDir(), filepath.Join(t.TempDir(), "none"), report.Input{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing history: %v", err)
	}
}

// TestNothing: a history without a request or a fault has a page.
func TestNothing(t *testing.T) {
	page, _ := written(t, history.Run{Scenario: "none"}, nil, &history.End{}, report.Input{Verdict: report.Pass})
	for _, bad := range []string{"NaN", "Inf", "ZgotmplZ"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page has %s: %.200s", bad, page[strings.Index(page, bad)-100:])
		}
	}
	if !strings.Contains(page, "There were none.") {
		t.Error("nothing says that there was no fault")
	}
}

// TestManyTargets: faults of pods that each die once share lanes by kind.
func TestManyTargets(t *testing.T) {
	run, records := small()
	for i := range 60 {
		records = append(records, history.Record{Fault: &history.Fault{Name: fmt.Sprintf("delete pod-%d", i), Kind: []string{"delete", "evict"}[i%2], Target: fmt.Sprintf("pod-%d", i), Class: history.Hidden, Start: time.Duration(i) * 50 * ms, End: time.Duration(i+1) * 50 * ms}})
	}
	page, _ := written(t, run, records, &history.End{}, report.Input{})
	lanes := regexp.MustCompile(`title="(delete|evict|kill|redis-kill|pod-\d+)"`).FindAllString(page, -1)
	if len(lanes) != 4 {
		t.Errorf("the lanes are %v", lanes)
	}
}

// TestPods: on a cluster the page draws the pods over time.
func TestPods(t *testing.T) {
	run, records := small()
	if page, _ := written(t, run, records, &history.End{}, report.Input{}); strings.Contains(page, `id="pods-t"`) {
		t.Error("pods are drawn where there are none")
	}
	for i, ready := range []int{3, 2, 4} {
		carts, gateways := []string{"a", "b", "c", "d"}[:ready], []string{"e", "f", "g"}
		records = append(records, history.Record{Pods: &history.Pods{
			At: time.Duration(i) * time.Second, All: map[string]int{"cart": 4, "gateway": 3}, Ready: map[string][]string{"cart": carts, "gateway": gateways},
		}})
	}
	page, twin := written(t, run, records, &history.End{}, report.Input{})
	for _, part := range []string{`id="pods-t"`, "4 at the end, 4 at most, at least 2 Ready", "3 at the end, 3 at most, at least 3 Ready", "pods-ready"} {
		if !strings.Contains(page, part) {
			t.Errorf("no %q in the page", part)
		}
	}
	pods, _ := twin["pods"].([]any)
	if len(pods) != 3 || fmt.Sprint(pods[1]) != "map[all:map[cart:4 gateway:3] at_seconds:1 ready:map[cart:2 gateway:3]]" {
		t.Errorf("%v", pods)
	}
}
