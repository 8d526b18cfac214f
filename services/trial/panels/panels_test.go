package panels

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

var over = Range{From: time.Unix(1_000_000, 0), To: time.Unix(1_000_060, 0), Step: 5 * time.Second, Scrape: 5 * time.Second}

// prometheus answers every query with the series that answer makes of it.
func prometheus(t *testing.T, answer func(query string) string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"status": "success", "data": {"resultType": "matrix", "result": [%s]}}`, answer(r.FormValue("query")))
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// picture draws a dashboard and sees that it is whole.
func picture(t *testing.T, b Board, url string) string {
	t.Helper()
	var out strings.Builder
	if err := b.Draw(t.Context(), &out, url, over); err != nil {
		t.Fatal(err)
	}
	for d := xml.NewDecoder(strings.NewReader(out.String())); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("%v in\n%s", err, out.String())
		}
	}
	return out.String()
}

// TestChartsDashboards draws all of them: each panel with its title, its queries asked with values for Grafana's variables.
func TestChartsDashboards(t *testing.T) {
	files, err := filepath.Glob("../../../helm/coatcheck/dashboards/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d dashboards: %v", len(files), err)
	}
	url := prometheus(t, func(query string) string {
		if strings.Contains(query, "$") || strings.Contains(query, "rate(") && !strings.Contains(query, "[20s]") {
			t.Errorf("asked for %s", query)
		}
		return `{"metric": {"instance_name": "cart-1", "job": "coatcheck-cart"}, "values": [[1000000, "1"], [1000005, "2"], [1000030, "0"]]},
			{"metric": {"instance_name": "a<b", "job": "coatcheck-auth"}, "values": [[1000000, "NaN"], [1000005, "0.5"]]}`
	})
	for _, file := range files {
		b, err := Read(file)
		if err != nil {
			t.Fatal(err)
		}
		svg := picture(t, b, url)
		for _, p := range b.Panels {
			if !strings.Contains(svg, ">"+strings.ReplaceAll(p.Title, "'", "&#39;")+"<") {
				t.Errorf("%s: no panel %q", b.UID, p.Title)
			}
		}
		if strings.Contains(svg, "no data") || strings.Contains(svg, "NaN") {
			t.Errorf("%s: shows no data where there is some", b.UID)
		}
	}
}

func board(kind, unit string, target string) Board {
	b := Board{UID: "u", Title: "T", Panels: make([]panel, 1)}
	p := &b.Panels[0]
	p.Type, p.Title = kind, "panel"
	p.GridPos.W, p.GridPos.H = 12, 8
	p.FieldConfig.Defaults.Unit = unit
	p.Targets = append(p.Targets, struct{ Expr, LegendFormat string }{target, "{{name}}"})
	return b
}

// TestGap: what was not measured is not drawn over.
func TestGap(t *testing.T) {
	whole := `{"metric": {"name": "one"}, "values": [[1000000, "1"], [1000005, "1"], [1000010, "1"], [1000015, "1"]]}`
	torn := `{"metric": {"name": "one"}, "values": [[1000000, "1"], [1000005, "1"], [1000015, "1"], [1000020, "1"]]}`
	for series, want := range map[string]int{whole: 1, torn: 2} {
		svg := picture(t, board("timeseries", "s", "x"), prometheus(t, func(string) string { return series }))
		if got := strings.Count(svg, `<path class="l `); got != want {
			t.Errorf("%d lines, want %d", got, want)
		}
	}
}

// TestNothing: a query without an answer is drawn as one, and an error is one.
func TestNothing(t *testing.T) {
	b := board("timeseries", "s", "x")
	if svg := picture(t, b, prometheus(t, func(string) string { return "" })); !strings.Contains(svg, ">no data<") {
		t.Error("nothing says that there is no data")
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, `{"status": "error", "error": "parse error"}`, http.StatusBadRequest)
	}))
	defer server.Close()
	if err := b.Draw(t.Context(), io.Discard, server.URL, over); err == nil || !strings.Contains(err.Error(), "parse error") {
		t.Errorf("%v, want Prometheus' own word", err)
	}
}

// TestStates: a value with a name is shown by it, in its colour.
func TestStates(t *testing.T) {
	b := board("state-timeline", "short", "x")
	defaults := &b.Panels[0].FieldConfig.Defaults
	defaults.Mappings = append(defaults.Mappings, struct {
		Options map[string]struct{ Text, Color string }
	}{map[string]struct{ Text, Color string }{"1": {"ready", "green"}, "2": {"draining", "orange"}}})
	svg := picture(t, b, prometheus(t, func(string) string {
		return `{"metric": {"name": "one"}, "values": [[1000000, "1"], [1000005, "1"], [1000010, "2"], [1000040, "1"]]}`
	}))
	if strings.Count(svg, "<title>ready</title>") != 2 || strings.Count(svg, "<title>draining</title>") != 1 || !strings.Contains(svg, `class="orange"`) {
		t.Errorf("ready, draining, a gap, ready again:\n%s", svg)
	}
}

func TestFormat(t *testing.T) {
	two := 2
	for _, tt := range []struct {
		value    float64
		unit     string
		decimals *int
		want     string
	}{
		{0.0123, "percentunit", nil, "1.23 %"},
		{1, "percentunit", &two, "100.00 %"},
		{0, "s", nil, "0 s"},
		{0.00042, "s", nil, "420 µs"},
		{0.0616, "s", nil, "61.6 ms"},
		{2.5, "s", nil, "2.5 s"},
		{90000, "s", nil, "25 h"},
		{1536, "bytes", nil, "1.5 KiB"},
		{314572800, "bytes", nil, "300 MiB"},
		{320.4, "reqps", nil, "320 req/s"},
		{12345678, "short", nil, "12.3 M"},
	} {
		if got := format(tt.value, tt.unit, tt.decimals); got != tt.want {
			t.Errorf("%g %s: %q, want %q", tt.value, tt.unit, got, tt.want)
		}
	}
	for v, want := range map[float64]float64{0: 1, 0.7: 0.8, 3: 4, 4.1: 5, 8.1: 10, 100: 100, 0.0021: 0.004} {
		if got := ceiling(v, "s"); got < want*0.999 || got > want*1.001 {
			t.Errorf("ceiling of %g is %g, want %g", v, got, want)
		}
	}
	if got := ceiling(300<<20, "bytes"); got != 400<<20 {
		t.Errorf("ceiling of 300 MiB is %g", got)
	}
}

// TestMarks: an annotation is marked in each plot, at its own time or at the one in its value.
func TestMarks(t *testing.T) {
	b := board("timeseries", "s", "x")
	b.Annotations.List = []annotation{{"started", true}, {"under_way", false}}
	url := prometheus(t, func(query string) string {
		switch query {
		case "started": // one within the range, twice; one before it
			return `{"metric": {}, "values": [[1000000, "999990000"], [1000020, "1000015000"], [1000025, "1000015000"]]}`
		case "under_way":
			return `{"metric": {}, "values": [[1000030, "1"]]}`
		}
		return `{"metric": {"name": "one"}, "values": [[1000000, "1"], [1000005, "1"]]}`
	})
	svg := picture(t, b, url)
	_, marks, _ := strings.Cut(svg, `<path class="m" d="`)
	marks, _, _ = strings.Cut(marks, `"`)
	// The plot is 514 wide and begins at 76.
	if marks = regexp.MustCompile(`v\d+`).ReplaceAllString(marks, ""); marks != "M204 77M333 77" {
		t.Errorf("marks at %s", marks)
	}
}

// TestThresholds: a value has the colour of the last threshold that it has reached.
func TestThresholds(t *testing.T) {
	for value, want := range map[string]string{"0": "green", "0.05": "red"} {
		b := board("stat", "short", "x")
		one := 0.01
		steps := &b.Panels[0].FieldConfig.Defaults.Thresholds.Steps
		for _, v := range []*float64{nil, &one} {
			*steps = append(*steps, struct {
				Color string
				Value *float64
			}{map[bool]string{true: "green", false: "red"}[v == nil], v})
		}
		if svg := picture(t, b, prometheus(t, func(string) string { return `{"metric": {}, "values": [[1000000, "` + value + `"]]}` })); !strings.Contains(svg, `class="v `+want+`"`) {
			t.Errorf("%s is not %s:\n%s", value, want, svg)
		}
	}
}

// TestTicks: the clock is shown at round moments, in as much room as it needs.
func TestTicks(t *testing.T) {
	var got []string
	for at, clock := range (Range{From: time.Unix(1_000_003, 0), To: time.Unix(1_000_063, 0)}).ticks(312) {
		got = append(got, fmt.Sprintf("%.2f %s", at, clock))
	}
	if want := "[0.28 13:47:00 0.62 13:47:20]"; fmt.Sprint(got) != want {
		t.Errorf("%s, want %s", got, want)
	}
}
