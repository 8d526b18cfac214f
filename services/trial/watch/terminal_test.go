package watch

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/charmbracelet/x/ansi"

	"coatcheck/trial/history"
	"coatcheck/trial/report"
)

// sample is a State in the middle of a trial.
func sample() State {
	s := State{
		Run: history.Run{Scenario: "demo", Length: time.Minute}, Elapsed: 10 * time.Second,
		OK: 3900, Failed: 2, Unknown: 1, Acknowledged: 3510, Retried: 3, InFlight: 7, Lines: 1200, Rate: 400, P99: 12 * time.Millisecond, Made: 1,
		Replicas: []Replica{
			{Role: "gateway", Name: "gateway-1", State: "running", Rate: 106.6}, {Role: "gateway", Name: "gateway-2", State: "stopped"},
			{Role: "cart", Name: "cart-2", State: "restarting", Hit: "kill -9 cart-2"}, {Role: "redis", Name: "redis", State: "running"},
		},
		Faults: []history.Fault{
			{Name: "kill -9 auth-1\x1b[2J", Class: history.Hidden, Start: 6 * time.Second, End: 7200 * time.Millisecond},
			{Name: "kill -9 cart-2", Class: history.Hidden, Start: 9 * time.Second},
		},
	}
	for i := range 10 {
		s.Seconds = append(s.Seconds, Second{At: i, OK: 100 * (i % 5), Failed: i / 9, P99: time.Duration(i) * time.Millisecond})
	}
	return s
}

// TestView: all that there is to see is there where there is room, and what is
// most wanted where there is little.
func TestView(t *testing.T) {
	all := []string{"trial demo", "10 s of 60 s, 50 s left", "━━━━━━━━━━╌", "rate 400/s", "acknowledged 3,510", "in flight 7", "p99 12.0 ms", "retried 3", "failed 2", "unknown 1", "lost 0 of 1,200 lines", "faults 1",
		"gateway  ● gateway-1 107/s  ○ gateway-2 stopped", "cart     ✕ cart-2 restarting", "redis    ● redis running", "requests    ▁▃▄▆█", "≤ 401/s", "≤ 9.00 ms",
		"9 s kill -9 cart-2", "6 s kill -9 auth-1?[2J", "hidden   1.20 s"}
	for _, tt := range []struct {
		columns, rows, want int
	}{{120, 40, len(all)}, {80, 30, len(all)}, {80, 12, 15}, {40, 8, 2}, {10, 3, 0}, {1, 1, 0}} {
		text := ansi.Strip(sample().view(tt.columns, tt.rows))
		lines := strings.Split(text, "\n")
		for _, line := range lines {
			if ansi.StringWidth(line) > max(1, tt.columns-1) {
				t.Errorf("%d columns: %q has %d", tt.columns, line, ansi.StringWidth(line))
			}
		}
		if len(lines) > max(1, tt.rows-1) {
			t.Errorf("%d rows: there are %d lines", tt.rows, len(lines))
		}
		for _, want := range all[:tt.want] {
			if !strings.Contains(text, want) {
				t.Errorf("%d × %d does not say %q:\n%s", tt.columns, tt.rows, want, text)
			}
		}
	}
	for verdict, want := range map[report.Verdict]string{report.Pass: "PASS  0 lost", "": "the shop did not open?[2J"} {
		s := sample()
		s.Over, s.Verdict, s.Line = true, verdict, strings.ReplaceAll(want, "?", "\x1b")
		if text := ansi.Strip(s.view(80, 30)); !strings.Contains(text, want) || strings.Contains(text, "left") {
			t.Errorf("at the end:\n%s", text)
		}
	}
}

// TestPlain: without a terminal there is a line every 5 s, and nothing that steers one.
func TestPlain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		terminal := NewTerminal(&out, nil, nil)
		w := New()
		rest := w.Begin(history.Run{Scenario: "demo", Length: 12 * time.Second}, nothing, nil)
		stop := w.Tell(terminal)
		w.Op(&history.Op{Outcome: history.Unknown})
		w.Fault(history.Fault{Name: "kill -9 redis\x1b[2J"})(history.Fault{Name: "kill -9 redis\x1b[2J"})
		time.Sleep(12*time.Second + time.Millisecond)
		if _, err := terminal.Write([]byte("a line of a log\n")); err != nil {
			t.Error(err)
		}
		w.Do("reading")
		rest()
		stop()
		const counts = "rate 0/s, acknowledged 0, in flight 0, p99 –, retried 0, failed 0, unknown 1, lost 0, faults 1  kill -9 redis?[2J"
		want := "5 s of 12 s, " + counts + "\n10 s of 12 s, " + counts + "\na line of a log\n12 s of 12 s, " + counts + ", reading\n"
		if got := out.String(); got != want {
			t.Errorf("got\n%swant\n%s", got, want)
		}
	})
}

// TestPlainEnd: whoever watches without a terminal hears the verdict.
func TestPlainEnd(t *testing.T) {
	var out bytes.Buffer
	terminal := NewTerminal(&out, nil, nil)
	s := sample()
	s.Over, s.Verdict, s.Line = true, report.Pass, "PASS  0 lost"
	terminal.Show(s)
	terminal.Stop()
	if !strings.HasSuffix(out.String(), "faults 1  kill -9 auth-1?[2J\nPASS  0 lost\n") {
		t.Errorf("got\n%s", out.String())
	}
}

// TestNoTerminal: a file, and a device that is no terminal, get plain lines.
func TestNoTerminal(t *testing.T) {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = null.Close() }()
	if IsTerminal(null) || IsTerminal(new(bytes.Buffer)) {
		t.Error("what is no terminal is taken for one")
	}
}
