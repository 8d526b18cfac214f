package report

import (
	"cmp"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"
	"time"
)

//go:embed page.html
var pageHTML string

// Colours is the style sheet with the colours of a trial's pages, light and dark.
//
//go:embed colours.css
var Colours string

//go:embed page.css
var pageCSS string

//go:embed page.js
var pageJS string

// page is what page.html is filled with.
type page struct {
	*twin
	CSS    template.CSS
	Script template.JS
	Series series

	Symbol  string // of the verdict
	Says    string // the verdict's line without the verdict
	Notices []string
	Facts   []fact
	Cards   []card
	Panels  []panel
	Ticks   []label
	Failing []twinCheck // the checks that found a violation
	Groups  []groups
}

type fact struct {
	Name, Value string
	Code        bool
}

// card is one key figure. Tone is good, bad or empty.
type card struct{ Name, Value, Note, Tone string }

type groups struct {
	Title string
	Rows  []twinGroup
}

func writePage(w io.Writer, c *counts, t *twin) error {
	funcs := template.FuncMap{
		"number": Number, "percent": percent, "lines": lines, "class": className, "lower": strings.ToLower,
		"clock":   func(s float64) string { return clock(seconds(s)) },
		"took":    func(s float64) string { return Latency(seconds(s)) },
		"time3":   func(s float64) string { return fmt.Sprintf("%.3f", s) },
		"inc":     func(i int) int { return i + 1 },
		"maybe":   maybe,
		"ratio":   func(v float64) string { return fmt.Sprintf("%.2f", v) },
		"drawing": func(f twinFinding) string { return string(f.drawing) },
	}
	tmpl, err := template.New("page").Funcs(funcs).Parse(pageHTML)
	if err != nil {
		return err
	}
	tl := newTimeline(c, t)
	p := page{
		twin: t, CSS: template.CSS(Colours + pageCSS), Script: template.JS(pageJS), Series: tl.series(),
		Symbol: map[Verdict]string{Pass: "✓", Fail: "✕"}[t.Verdict], Facts: facts(t), Cards: cards(t), Panels: tl.panels(), Ticks: tl.ticks(),
		Groups: []groups{{"By kind of request", t.Kinds}, {"By protocol", t.Protocols}},
	}
	p.Symbol = cmp.Or(p.Symbol, "?")
	p.Says = t.Line
	for _, word := range []Verdict{Pass, Fail, Inconclusive} {
		p.Says = strings.TrimLeft(strings.TrimPrefix(p.Says, string(word)), " :")
	}
	p.Says = strings.ReplaceAll(p.Says, "  ", " · ")
	if !t.Complete {
		p.Notices = append(p.Notices, "The history has no end: the trial was cut short, and what follows is only what was recorded until then.")
	}
	if t.End.Missed > 0 {
		p.Notices = append(p.Notices, fmt.Sprintf("%s due and not sent, because too many were still waiting.", plural(t.End.Missed, "request was", "requests were")))
	}
	if n := t.Figures.FaultsNotMade; n > 0 {
		p.Notices = append(p.Notices, fmt.Sprintf("%s could not be made; the table of faults says why.", plural(n, "fault", "faults")))
	}
	for _, k := range t.Checks {
		if k.Violations > 0 {
			p.Failing = append(p.Failing, k)
		}
	}
	return tmpl.Execute(w, p)
}

func facts(t *twin) []fact {
	f := []fact{
		{Name: "Started", Value: t.Run.Started.UTC().Format("2 January 2006, 15:04:05 UTC")},
		{Name: "Scenario", Value: t.Run.Scenario},
		{Name: "Seed", Value: fmt.Sprint(t.Run.Seed)},
		{Name: "Traffic", Value: fmt.Sprintf("%g requests a second for %s", t.Run.RatePerSecond, Length(seconds(t.Run.LengthSeconds)))},
		{Name: "Shop", Value: t.Run.Target},
		{Name: "Machine", Value: t.Run.Machine},
		{Name: "Version", Value: t.Run.Version},
		{Name: "Run it again", Value: t.Run.Repeat, Code: true},
	}
	return slices.DeleteFunc(f, func(f fact) bool { return f.Value == "" })
}

func cards(t *twin) []card {
	f := t.Figures
	zero := func(n int) string {
		if n > 0 {
			return "bad"
		}
		return "good"
	}
	failedNote := "outside outages"
	if f.FaultsOutage > 0 {
		failedNote = fmt.Sprintf("outside outages; %s while Redis or the network was away", Number(f.FailedInOutages))
	}
	cards := []card{
		{"Acknowledged changes", Number(f.AcknowledgedChanges), "of " + plural(f.Requests, "request", "requests"), ""},
		{"Lost", Number(f.Lost), "acknowledged changes that were gone", zero(f.Lost)},
		{"Doubled", Number(f.Doubled), "changes that were applied twice", zero(f.Doubled)},
		{"Failed logical requests", Number(f.FailedLogical), failedNote, zero(f.FailedLogical)},
		{"Retried", Number(f.RetriedRequests), fmt.Sprintf("requests; %s of %s attempts failed", Number(f.FailedAttempts), Number(f.Attempts)), ""},
		{"Faults", Number(f.Faults), fmt.Sprintf("%s hidden, %s gateway, %s outage", Number(f.FaultsHidden), Number(f.FaultsGateway), Number(f.FaultsOutage)), ""},
		{"p99 after a kill", maybe(f.P99AfterKillSeconds), "within 5 s; when quiet " + maybe(f.P99QuietSeconds), ""},
	}
	if t.End.TotalCPUSeconds > 0 {
		cards = append(cards, card{"The trial’s own CPU", percent(int(1000*t.End.OwnCPUSeconds), int(1000*t.End.TotalCPUSeconds)), "of the machine’s CPU time while it ran", ""})
	} else {
		cards = append(cards, card{"p99", maybe(f.P99Seconds), "of all requests; half within " + maybe(f.P50Seconds), ""})
	}
	return cards
}

// maybe writes seconds as a latency, or that there was none.
func maybe(s *float64) string {
	if s == nil {
		return "–"
	}
	return Latency(time.Duration(*s * float64(time.Second)))
}
