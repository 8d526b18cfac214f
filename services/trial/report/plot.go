package report

import (
	"cmp"
	"fmt"
	"html/template"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A plot is drawn wide units wide and stretched to the page; its labels are
// HTML, so that they keep their size on a phone.
const wide = 1000

// maxBins is how many columns a plot has at most; a longer trial has several
// seconds a column.
const maxBins = 600

// panel is one plot of the timeline. All share the time axis.
type panel struct {
	ID     string
	Title  string
	Unit   string
	Legend []key
	Height int // pixels
	SVG    template.HTML
	Y      []label
	Bars   []label // names in the plot
	Lanes  bool    // Y names lanes, not values
}

type key struct{ Class, Text string }

// label is a text at a share of a plot's height or width, in percent.
type label struct {
	At   float64
	Top  float64 // pixels; of bars only
	Text string
}

// bin is one column: what ended in its seconds.
type bin struct {
	tally
	failedAttempts, retries int
	p50, p99                time.Duration
	answered                bool
}

// timeline is what all plots draw from.
type timeline struct {
	span   time.Duration
	width  int // seconds a bin
	bins   []bin
	rate   float64
	faults []twinFault
	pods   []twinPods
	marks  []mark // violations
}

type mark struct {
	at   float64 // seconds
	text string
}

func newTimeline(c *counts, t *twin) *timeline {
	span := c.span()
	seconds := int(span / time.Second)
	tl := &timeline{span: span, width: (seconds + maxBins - 1) / maxBins, rate: c.run.Rate, faults: t.Faults, pods: t.Pods}
	for from := 0; from < seconds; from += tl.width {
		var b bin
		var h histogram
		for i := from; i < min(from+tl.width, len(c.seconds)); i++ {
			if s := c.seconds[i]; s != nil {
				b.merge(s.tally)
				b.failedAttempts += s.failedAttempts()
				b.retries += s.retries
				h.merge(&s.latency)
			}
		}
		b.p50, b.answered = h.quantile(0.5)
		b.p99, _ = h.quantile(0.99)
		tl.bins = append(tl.bins, b)
	}
	for _, f := range t.Findings {
		for _, op := range f.Ops {
			if !op.Last {
				tl.marks = append(tl.marks, mark{op.SentSeconds, f.Check + ": " + f.Text})
			}
		}
	}
	return tl
}

func (tl *timeline) x(seconds float64) float64 {
	return wide * min(max(seconds, 0), tl.span.Seconds()) / tl.span.Seconds()
}

// column is a bin's left edge and width, with a gap to the next if there is room.
func (tl *timeline) column(i int) (x, w float64) {
	x, end := tl.x(float64(i*tl.width)), tl.x(float64((i+1)*tl.width))
	if len(tl.bins) <= 150 {
		return x + 0.08*(end-x), 0.84 * (end - x)
	}
	return x, end - x
}

// perSecond is a bin's count as a rate. The last bin may be shorter.
func (tl *timeline) perSecond(i, n int) float64 {
	seconds := min(tl.width, int(tl.span/time.Second)-i*tl.width)
	return float64(n) / float64(seconds)
}

func (tl *timeline) panels() []panel {
	p := []panel{tl.rates(), tl.latencies(), tl.attempts()}
	if len(tl.pods) > 0 {
		p = append(p, tl.ready())
	}
	if len(tl.faults)+len(tl.marks) > 0 {
		p = append(p, tl.lanes())
	}
	return p
}

// svg is a drawing in the making. What is told by a user is escaped here.
type svg struct{ strings.Builder }

func newSVG(id, title, desc string, height int) *svg {
	s := new(svg)
	fmt.Fprintf(s, `<svg viewBox="0 0 %d %d" preserveAspectRatio="none" role="img" aria-labelledby="%s-t %s-d"><title id="%s-t">%s</title><desc id="%s-d">%s</desc>`,
		wide, height, id, id, id, template.HTMLEscapeString(title), id, template.HTMLEscapeString(desc))
	return s
}

func (s *svg) rect(class string, x, y, w, h float64, title string) {
	fmt.Fprintf(s, `<rect class="%s" x="%s" y="%s" width="%s" height="%s"`, class, f1(x), f1(y), f1(w), f1(h))
	if title == "" {
		s.WriteString("/>")
		return
	}
	fmt.Fprintf(s, "><title>%s</title></rect>", template.HTMLEscapeString(title))
}

func (s *svg) path(class, d string) {
	if d != "" {
		fmt.Fprintf(s, `<path class="%s" d="%s"/>`, class, d)
	}
}

func (s *svg) horizontal(class string, y float64) {
	fmt.Fprintf(s, `<line class="%s" x1="0" x2="%d" y1="%s" y2="%s"/>`, class, wide, f1(y), f1(y))
}

func (s *svg) done() template.HTML { return template.HTML(s.String() + "</svg>") }

// f1 writes a coordinate.
func f1(v float64) string { return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64) }

// bands shades the times of the faults.
func (tl *timeline) bands(s *svg, height int) {
	for _, f := range tl.faults {
		x := tl.x(f.StartSeconds)
		s.rect("band "+className(f.Class), x, 0, max(1.5, tl.x(f.StartSeconds+f.DurationSeconds)-x), float64(height), "")
	}
}

// grid draws a line at each value and answers their labels.
func grid(s *svg, height int, values []float64, y func(float64) float64, text func(float64) string) []label {
	var labels []label
	for _, v := range values {
		s.horizontal("grid", y(v))
		labels = append(labels, label{At: 100 * y(v) / float64(height), Text: text(v)})
	}
	return labels
}

// steps are round values from 0 to at least top, five at most.
func steps(top float64) []float64 {
	top = max(top, 1)
	size := math.Pow(10, math.Floor(math.Log10(top/4)))
	for _, m := range []float64{1, 2, 2.5, 5, 10} {
		if m*size*4 >= top && m*size >= 1 && m*size == math.Trunc(m*size) {
			size *= m
			break
		}
	}
	size = max(size, 1)
	values := []float64{0}
	for v := size; v < top+size; v += size {
		values = append(values, v)
	}
	return values
}

func plain(v float64) string { return Number(int(v)) }

func (tl *timeline) rates() panel {
	const height = 190
	top, total := tl.rate, tally{}
	for i, b := range tl.bins {
		top = max(top, tl.perSecond(i, b.total()))
		total.merge(b.tally)
	}
	ticks := steps(top)
	y := func(v float64) float64 { return height * (1 - v/ticks[len(ticks)-1]) }
	s := newSVG("rates", "Answers a second", fmt.Sprintf("Logical requests that ended, by second and outcome: %s ok, %s refused, %s failed, %s unknown.",
		Number(total.ok), Number(total.refused), Number(total.failed), Number(total.unknown)), height)
	tl.bands(s, height)
	labels := grid(s, height, ticks, y, plain)
	layers := []struct {
		class string
		of    func(tally) int
	}{
		{"ok", func(t tally) int { return t.ok }},
		{"refused", func(t tally) int { return t.refused }},
		{"unknown", func(t tally) int { return t.unknown }},
		{"failed", func(t tally) int { return t.failed }},
	}
	floor := make([]float64, len(tl.bins)) // where the next layer starts
	for _, layer := range layers {
		var d strings.Builder
		for i, b := range tl.bins {
			n := layer.of(b.tally)
			if n == 0 {
				continue
			}
			// One request in hundreds would be thinner than a pixel.
			h := max(height-y(tl.perSecond(i, n)), 2.5)
			x, w := tl.column(i)
			fmt.Fprintf(&d, "M%s %sh%sv%sh-%sz", f1(x), f1(height-floor[i]), f1(w), f1(-h), f1(w))
			floor[i] += h
		}
		s.path("bar "+layer.class, d.String())
	}
	legend := []key{{"ok", "ok"}, {"refused", "refused (a definite no, such as a stale version)"}, {"unknown", "unknown"}, {"failed", "failed"}}
	if tl.rate > 0 {
		s.horizontal("target", y(tl.rate))
		legend = append(legend, key{"target", fmt.Sprintf("set rate, %g/s", tl.rate)})
	}
	return panel{ID: "rates", Title: "Answers", Unit: "a second", Legend: legend, Height: height, SVG: s.done(), Y: labels}
}

func (tl *timeline) latencies() panel {
	const height = 170
	least, most := time.Duration(math.MaxInt64), time.Duration(0)
	for _, b := range tl.bins {
		if b.answered {
			least, most = min(least, b.p50), max(most, b.p99)
		}
	}
	if most == 0 {
		least, most = time.Millisecond, time.Second
	}
	low := math.Floor(math.Log10(max(least.Seconds(), 1e-5)))
	high := max(math.Ceil(math.Log10(max(most.Seconds(), 1e-5))), low+1)
	var ticks []float64
	for e := low; e <= high; e++ {
		ticks = append(ticks, math.Pow(10, e))
	}
	y := func(v float64) float64 {
		return height * (1 - (math.Log10(max(v, ticks[0]))-low)/(high-low))
	}
	s := newSVG("latency", "Latency", fmt.Sprintf("Median and 99th percentile of the time from the first attempt to the last answer, by second, on a logarithmic scale; the highest 99th percentile is %s.", Latency(most)), height)
	tl.bands(s, height)
	labels := grid(s, height, ticks, y, func(v float64) string {
		if v < 1 {
			return fmt.Sprintf("%g ms", math.Round(v*1e5)/100)
		}
		return fmt.Sprintf("%g s", v)
	})
	var p50, p99, between strings.Builder
	for i := 0; i < len(tl.bins); {
		if !tl.bins[i].answered {
			i++
			continue
		}
		from := i
		var back []string
		for ; i < len(tl.bins) && tl.bins[i].answered; i++ {
			x, w := tl.column(i)
			c := f1(x + w/2)
			move := "L"
			if i == from {
				move = "M"
			}
			upper, lower := f1(y(tl.bins[i].p99.Seconds())), f1(y(tl.bins[i].p50.Seconds()))
			if from == i && (i+1 == len(tl.bins) || !tl.bins[i+1].answered) {
				// A second alone has no line: draw a dash.
				fmt.Fprintf(&p99, "M%s %sh%s", f1(x), upper, f1(w))
				fmt.Fprintf(&p50, "M%s %sh%s", f1(x), lower, f1(w))
			}
			fmt.Fprintf(&p99, "%s%s %s", move, c, upper)
			fmt.Fprintf(&p50, "%s%s %s", move, c, lower)
			fmt.Fprintf(&between, "%s%s %s", move, c, upper)
			back = append(back, "L"+c+" "+lower)
		}
		slices.Reverse(back)
		between.WriteString(strings.Join(back, "") + "Z")
	}
	s.path("between", between.String())
	s.path("line p50", p50.String())
	s.path("line p99", p99.String())
	return panel{ID: "latency", Title: "Latency", Unit: "logarithmic", Legend: []key{{"p99", "p99"}, {"p50", "p50, the median"}}, Height: height, SVG: s.done(), Y: labels}
}

func (tl *timeline) attempts() panel {
	const height = 110
	top, failed, retries := 1.0, 0, 0
	for i, b := range tl.bins {
		top = max(top, tl.perSecond(i, b.failedAttempts), tl.perSecond(i, b.retries))
		failed, retries = failed+b.failedAttempts, retries+b.retries
	}
	ticks := steps(top)
	y := func(v float64) float64 { return height * (1 - v/ticks[len(ticks)-1]) }
	s := newSVG("attempts", "Failed attempts and retries", fmt.Sprintf("By second: %s failed in all, %s followed.",
		plural(failed, "attempt", "attempts"), plural(retries, "retry", "retries")), height)
	tl.bands(s, height)
	labels := grid(s, height, ticks, y, plain)
	var bars, line strings.Builder
	for i, b := range tl.bins {
		x, w := tl.column(i)
		if b.failedAttempts > 0 {
			h := max(height-y(tl.perSecond(i, b.failedAttempts)), 2.5)
			fmt.Fprintf(&bars, "M%s %dh%sv%sh-%sz", f1(x), height, f1(w), f1(-h), f1(w))
		}
		if b.retries > 0 {
			fmt.Fprintf(&line, "M%s %sh%s", f1(x), f1(min(y(tl.perSecond(i, b.retries)), height-2.5)), f1(w))
		}
	}
	s.path("bar failed", bars.String())
	s.path("line retries", line.String())
	return panel{ID: "attempts", Title: "Failed attempts and retries", Unit: "a second", Legend: []key{{"failed", "failed attempts"}, {"retries", "retries"}}, Height: height, SVG: s.done(), Y: labels}
}

// parts are those of a shop on a cluster, in the order of a request's way.
var parts = []string{"gateway", "auth", "cart", "redis"}

// ready draws, in a row for each part, the pods that there are and, darker, those
// that are Ready.
func (tl *timeline) ready() panel {
	const row = 44
	most := map[string]int{}
	var rows []string
	for _, part := range parts {
		for _, p := range tl.pods {
			most[part] = max(most[part], p.All[part])
		}
		if most[part] > 0 {
			rows = append(rows, part)
		}
	}
	height := row * len(rows)
	s := newSVG("pods", "Pods", fmt.Sprintf("Pods of %s over time, and how many of them were Ready.", strings.Join(rows, ", ")), height)
	tl.bands(s, height)
	p := panel{ID: "pods", Title: "Pods", Unit: "by part", Height: height, Lanes: true, Legend: []key{{"pods-ready", "Ready"}, {"pods-all", "there, not Ready"}}}
	for i, part := range rows {
		floor := float64((i + 1) * row)
		s.horizontal("grid", floor)
		p.Y = append(p.Y, label{At: 100 * (float64(i) + 0.5) / float64(len(rows)), Text: part})
		unit := (row - 10) / float64(max(most[part], 1))
		for _, layer := range []struct {
			class string
			of    func(twinPods) int
		}{
			{"pods-all", func(p twinPods) int { return p.All[part] }},
			{"pods-ready", func(p twinPods) int { return p.Ready[part] }},
		} {
			var d strings.Builder
			for n, sample := range tl.pods {
				from, to := tl.x(sample.AtSeconds), float64(wide)
				if n+1 < len(tl.pods) {
					to = tl.x(tl.pods[n+1].AtSeconds)
				}
				if h := unit * float64(layer.of(sample)); h > 0 {
					fmt.Fprintf(&d, "M%s %sh%sv%sh-%sz", f1(from), f1(floor), f1(to-from), f1(-h), f1(to-from))
				}
			}
			s.path("bar "+layer.class, d.String())
		}
		last := tl.pods[len(tl.pods)-1]
		least := slices.MinFunc(tl.pods, func(a, b twinPods) int { return a.Ready[part] - b.Ready[part] }).Ready[part]
		p.Bars = append(p.Bars, label{At: 0.3, Top: floor - row + 9, Text: fmt.Sprintf("%d at the end, %d at most, at least %d Ready", last.All[part], most[part], least)})
	}
	p.SVG = s.done()
	return p
}

// maxLanes is how many processes have a lane of their own; of more, such as
// pods that each die once, the faults lie in a lane by kind.
const maxLanes = 20

func (tl *timeline) lanes() panel {
	const row = 24
	var names []string
	lane := func(f twinFault) string { return cmp.Or(f.Target, f.Kind) }
	for range 2 {
		names = nil
		for _, f := range tl.faults {
			if name := lane(f); !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
		if len(names) <= maxLanes {
			break
		}
		lane = func(f twinFault) string { return cmp.Or(f.Kind, "other") }
	}
	slices.SortFunc(names, natural)
	if len(names) > maxLanes {
		names = append(names[:maxLanes-1], "others")
	}
	rows := len(names)
	if len(tl.marks) > 0 {
		rows++
	}
	height := rows * row
	s := newSVG("lanes", "Faults", fmt.Sprintf("%s, each a bar in the lane of what it hit; the table of faults lists them.", plural(len(tl.faults), "fault", "faults")), height)
	s.WriteString(`<defs><pattern id="hatch" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect class="ink" width="1.6" height="5"/></pattern>` +
		`<pattern id="dots" width="5" height="5" patternUnits="userSpaceOnUse"><rect class="ink" width="2" height="2"/></pattern></defs>`)
	p := panel{ID: "lanes", Title: "Faults", Unit: "by what was hit", Height: height, Lanes: true,
		Legend: []key{{"hidden", "hidden: auth or cart, no client may notice"}, {"gateway", "gateway: an attempt may fail, a request may not"}, {"outage", "outage: Redis or the network, requests may fail, nothing may be lost"}}}
	for i, name := range names {
		s.horizontal("grid", float64(i*row)+row)
		p.Y = append(p.Y, label{At: 100 * (float64(i) + 0.5) / float64(rows), Text: name})
	}
	free := make([]float64, rows) // where the lane's next name may start
	for i, f := range tl.faults {
		at := slices.Index(names, lane(f))
		if at < 0 {
			at = len(names) - 1
		}
		x, class := tl.x(f.StartSeconds), className(f.Class)
		w, top := max(3, tl.x(f.StartSeconds+f.DurationSeconds)-x), float64(at*row)
		s.rect("fault "+class, x, top+5, w, row-10, fmt.Sprintf("%d. %s, from %s, for %s", i+1, f.Name, clock(seconds(f.StartSeconds)), Latency(seconds(f.DurationSeconds))))
		if pattern := map[string]string{"gateway": "hatch", "outage": "dots"}[class]; pattern != "" {
			fmt.Fprintf(s, `<rect fill="url(#%s)" x="%s" y="%s" width="%s" height="%d" pointer-events="none"/>`, pattern, f1(x), f1(top+5), f1(w), row-10)
		}
		// The name stands behind its bar if it fits before the lane's next one.
		next := float64(wide)
		for _, later := range tl.faults[i+1:] {
			if slices.Index(names, lane(later)) == at {
				next = tl.x(later.StartSeconds)
				break
			}
		}
		if room := 7*float64(len([]rune(f.Kind))) + 8; f.Kind != names[at] && x >= free[at] && x+w+room <= next {
			p.Bars = append(p.Bars, label{At: (x + w) / wide * 100, Top: top + row/2, Text: f.Kind})
			free[at] = x + w + room
		}
	}
	if len(tl.marks) > 0 {
		p.Y = append(p.Y, label{At: 100 * (float64(rows) - 0.5) / float64(rows), Text: "violations"})
		p.Legend = append(p.Legend, key{"violation", "requests of a violation"})
		for _, m := range tl.marks {
			s.rect("violation", tl.x(m.at)-1, float64(height-row)+4, 2.5, row-8, m.text)
		}
	}
	p.SVG = s.done()
	return p
}

func seconds(s float64) time.Duration { return time.Duration(math.Round(s * float64(time.Second))) }

// ticks are the labels of the time axis: seven at most.
func (tl *timeline) ticks() []label {
	step := time.Hour
	for _, s := range []time.Duration{1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800} {
		if tl.span <= 6*s*time.Second {
			step = s * time.Second
			break
		}
	}
	for tl.span > 6*step {
		step *= 2
	}
	var labels []label
	for at := time.Duration(0); at <= tl.span; at += step {
		text := fmt.Sprintf("%d s", at/time.Second)
		if step >= time.Minute {
			text = fmt.Sprintf("%d min", at/time.Minute)
		}
		labels = append(labels, label{At: 100 * at.Seconds() / tl.span.Seconds(), Text: text})
	}
	return labels
}

// series is what the page's script shows under the pointer.
type series struct {
	Width    int      `json:"width"` // seconds a column
	Span     float64  `json:"span"`  // seconds
	OK       []int    `json:"ok"`
	Refused  []int    `json:"refused"`
	Failed   []int    `json:"failed"`
	Unknown  []int    `json:"unknown"`
	Attempts []int    `json:"attempts"`
	Retries  []int    `json:"retries"`
	P50      []string `json:"p50"`
	P99      []string `json:"p99"`
	Faults   []span   `json:"faults"`
}

type span struct {
	Name string  `json:"name"`
	From float64 `json:"from"`
	To   float64 `json:"to"`
}

func (tl *timeline) series() series {
	s := series{Width: tl.width, Span: tl.span.Seconds()}
	for _, b := range tl.bins {
		p50, p99 := "–", "–"
		if b.answered {
			p50, p99 = Latency(b.p50), Latency(b.p99)
		}
		s.OK, s.Refused, s.Failed, s.Unknown = append(s.OK, b.ok), append(s.Refused, b.refused), append(s.Failed, b.failed), append(s.Unknown, b.unknown)
		s.Attempts, s.Retries = append(s.Attempts, b.failedAttempts), append(s.Retries, b.retries)
		s.P50, s.P99 = append(s.P50, p50), append(s.P99, p99)
	}
	for _, f := range tl.faults {
		s.Faults = append(s.Faults, span{f.Name, f.StartSeconds, f.StartSeconds + f.DurationSeconds})
	}
	return s
}
