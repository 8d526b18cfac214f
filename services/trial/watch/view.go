package watch

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode"

	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"

	"coatcheck/trial/history"
	"coatcheck/trial/report"
)

// Styles are of the sixteen colours that each terminal has in its own shades, and
// say nothing that the text does not.
type styles struct{ plain, bold, soft, good, warn, bad lipgloss.Style }

func newStyles() styles {
	base := lipgloss.NewStyle()
	return styles{
		plain: base, bold: base.Bold(true), soft: base.Faint(true), good: base.Foreground(lipgloss.Green),
		warn: base.Foreground(lipgloss.Yellow), bad: base.Bold(true).Foreground(lipgloss.Red),
	}
}

// of is the style of a count that should be 0.
func (st styles) of(n int, alarm lipgloss.Style) lipgloss.Style {
	if n > 0 {
		return alarm
	}
	return st.plain
}

// figure is one of the view: "retried 12".
type figure struct {
	name, value string
	style       lipgloss.Style
}

func (s State) figures(st styles) []figure {
	p99 := "–"
	if s.P99 > 0 {
		p99 = report.Latency(s.P99)
	}
	all := []figure{
		{"rate", fmt.Sprintf("%.0f/s", s.Rate), st.plain},
		{"acknowledged", report.Number(s.Acknowledged), st.bold},
		{"in flight", report.Number(s.InFlight), st.plain},
		{"p99", p99, st.plain},
		{"retried", report.Number(s.Retried), st.plain},
		{"failed", report.Number(s.Failed), st.of(s.Failed, st.bad)},
		{"unknown", report.Number(s.Unknown), st.of(s.Unknown, st.warn)},
		{"lost", report.Number(s.Lost), st.of(s.Lost, st.bad)},
	}
	if s.Missed > 0 {
		all = append(all, figure{"missed", report.Number(s.Missed), st.warn})
	}
	return append(all, figure{"faults", report.Number(s.Made), st.plain})
}

// lastFault is the last one that is over.
func (s State) lastFault() string {
	for _, f := range slices.Backward(s.Faults) {
		if f.End > 0 {
			return printable(cmp.Or(f.Error, f.Name))
		}
	}
	return ""
}

// plain is the State as a line.
func (s State) plain() string {
	parts := []string{fmt.Sprintf("%s of %s", whole(s.Elapsed), report.Length(s.Run.Length))}
	for _, f := range s.figures(styles{}) {
		parts = append(parts, f.name+" "+f.value)
	}
	line := strings.Join(parts, ", ")
	if last := s.lastFault(); last != "" {
		line += "  " + last
	}
	if s.Doing != "" {
		line += ", " + printable(s.Doing)
	}
	return line
}

// view is the State as lines, of at most so many columns and as many of them as
// there are rows for.
func (s State) view(columns, rows int) string {
	st := newStyles()
	lines := slices.Concat(s.head(st, columns), []string{""}, s.counted(st, columns))
	// From here on each part is shown if there is room for it.
	for _, part := range [][]string{s.people(st, columns), s.curves(st, columns), s.log(st, rows)} {
		if len(part) > 0 && len(lines)+1+len(part) <= rows-1 {
			lines = append(append(lines, ""), part...)
		}
	}
	lines = lines[:max(1, min(len(lines), rows-1))]
	for i, line := range lines {
		lines[i] = ansi.Truncate(line, max(1, columns-1), "")
	}
	return strings.Join(lines, "\n")
}

// head says what runs and how far it is.
func (s State) head(st styles, columns int) []string {
	state := fmt.Sprintf("%s of %s", whole(s.Elapsed), report.Length(s.Run.Length))
	if left := s.Run.Length - s.Elapsed; left > 0 && !s.Over {
		state += ", " + whole(left+time.Second-1) + " left"
	}
	if s.Doing != "" {
		state += ", " + printable(s.Doing)
	}
	title := " " + st.bold.Render("trial "+printable(s.Run.Scenario))
	if s.Over {
		style := st.warn
		switch s.Verdict {
		case report.Pass:
			style = st.good.Bold(true)
		case report.Fail:
			style = st.bad
		}
		return []string{title + "  " + st.soft.Render(state), " " + style.Render(printable(s.Line))}
	}
	share := 1.0
	if s.Run.Length > 0 {
		share = min(1, s.Elapsed.Seconds()/s.Run.Length.Seconds())
	}
	room := max(1, min(60, columns-3))
	full := int(share * float64(room))
	return []string{
		title + "  " + state,
		" " + st.good.Render(strings.Repeat("━", full)) + st.soft.Render(strings.Repeat("╌", room-full)),
	}
}

// counted are the figures, in as many lines as they need.
func (s State) counted(st styles, columns int) []string {
	lines := []string{""}
	for _, f := range s.figures(st) {
		if f.name == "lost" && s.Lines > 0 {
			f.value += st.soft.Render(" of " + report.Number(s.Lines) + " lines")
		}
		text := " " + st.soft.Render(f.name) + " " + f.style.Render(f.value)
		last := &lines[len(lines)-1]
		if *last != "" && ansi.StringWidth(*last)+2+ansi.StringWidth(text) > columns-1 {
			lines = append(lines, "")
			last = &lines[len(lines)-1]
		}
		if *last != "" {
			*last += "  "
		}
		*last += text
	}
	return lines
}

// people are the replicas, a line for each role.
func (s State) people(st styles, columns int) []string {
	var lines []string
	role := "nobody's"
	for _, r := range s.Replicas {
		mark, word := st.good.Render("●"), fmt.Sprintf("%.0f/s", r.Rate)
		switch {
		case r.Hit != "":
			mark, word = st.bad.Render("✕"), printable(cmp.Or(upOr(r), r.State))
		case !r.up():
			mark, word = st.soft.Render("○"), printable(r.State)
		case r.Role == "redis" || r.Role == "auth" && r.Rate == 0:
			word = printable(r.State)
		}
		text := mark + " " + printable(r.Name) + " " + st.soft.Render(word)
		if r.Role != role {
			role = r.Role
			lines = append(lines, fmt.Sprintf(" %-9s", printable(role)))
		} else if ansi.StringWidth(lines[len(lines)-1])+2+ansi.StringWidth(text) > columns-1 {
			lines = append(lines, strings.Repeat(" ", 10))
		} else {
			lines[len(lines)-1] += "  "
		}
		lines[len(lines)-1] += text
	}
	return lines
}

// upOr is what is wrong with a replica that is hit.
func upOr(r Replica) string {
	if r.up() {
		return r.Hit
	}
	return r.State
}

// curves are the last seconds: requests, in red where one failed, and p99.
func (s State) curves(st styles, columns int) []string {
	const name = 12
	seconds := s.Seconds[max(0, len(s.Seconds)-max(0, min(60, columns-name-12))):]
	if len(seconds) < 2 {
		return nil
	}
	most, slowest := 1.0, 1.0
	for _, sec := range seconds {
		most = max(most, float64(sec.OK+sec.Failed+sec.Unknown))
		slowest = max(slowest, float64(sec.P99))
	}
	var requests, p99 strings.Builder
	for _, sec := range seconds {
		style := st.good
		if sec.Failed+sec.Unknown > 0 {
			style = st.bad
		}
		requests.WriteString(style.Render(bar(float64(sec.OK+sec.Failed+sec.Unknown) / most)))
		p99.WriteString(bar(float64(sec.P99) / slowest))
	}
	return []string{
		fmt.Sprintf(" %-*s%s %s", name, "requests", requests.String(), st.soft.Render(fmt.Sprintf("≤ %.0f/s", most))),
		fmt.Sprintf(" %-*s%s %s", name, "p99", p99.String(), st.soft.Render("≤ "+report.Latency(time.Duration(slowest)))),
	}
}

// bar is a share as a character.
func bar(share float64) string {
	const bars = "▁▂▃▄▅▆▇█"
	i := int(math.Round(share * 7))
	return string([]rune(bars)[max(0, min(7, i))])
}

// log is the last faults, the newest first.
func (s State) log(st styles, rows int) []string {
	var lines []string
	for _, f := range slices.Backward(s.Faults) {
		if len(lines) == max(1, min(8, rows-16)) {
			break
		}
		took := "…"
		if f.End > 0 {
			took = report.Latency(f.End - f.Start)
		}
		style := map[history.Class]lipgloss.Style{history.Gateway: st.warn, history.Outage: st.bad}[f.Class]
		text := printable(cmp.Or(f.Error, f.Name))
		lines = append(lines, fmt.Sprintf(" %s %s  %s", st.soft.Render(fmt.Sprintf("%7s", whole(f.Start))), style.Render(fmt.Sprintf("%-32s", text)), st.soft.Render(fmt.Sprintf("%-8s", f.Class)+" "+took)))
	}
	return lines
}

// whole writes a duration in whole seconds: "42 s", "12:05 min".
func whole(d time.Duration) string {
	s := int(d / time.Second)
	if s < 120 {
		return fmt.Sprintf("%d s", s)
	}
	return fmt.Sprintf("%d:%02d min", s/60, s%60)
}

// printable takes from a text what could steer the terminal.
func printable(s string) string {
	return strings.Map(func(c rune) rune {
		if unicode.IsPrint(c) {
			return c
		}
		return '?'
	}, s)
}
