package panels

import (
	"cmp"
	"context"
	"fmt"
	"html"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
)

// Sizes are in pixels; a dashboard is 24 columns wide.
const (
	column, unitHeight = 50, 34
	gap                = 8
	titleHeight        = 31
	legendLine         = 15
	axisWidth          = 58
	letter             = 7.2 // of the legend, about
)

// style has a light and a dark side, of which whoever shows the picture takes the
// one that fits. Lines are coloured by the classes c0 to c11.
const style = `svg{--page:#f4f5f5;--panel:#fff;--rule:#dfe1e4;--text:#24292e;--soft:#646b73;--mark:#c4671b;--green:#2a8134;--yellow:#a67c00;--orange:#d05f00;--red:#cf2230;` +
	`--0:#3d8b37;--1:#b88a00;--2:#2389a0;--3:#d0662a;--4:#c9302c;--5:#2f6fc4;--6:#9a2f8a;--7:#7b64c4;--8:#2f5f22;--9:#8a6d00;--10:#27538c;--11:#a2531b}` +
	`@media(prefers-color-scheme:dark){svg{--page:#111217;--panel:#181b1f;--rule:#2c3036;--text:#ccccdc;--soft:#8e8ea0;--mark:#ff9830;--green:#73bf69;--yellow:#fade2a;--orange:#ff9830;--red:#f2495c;` +
	`--0:#7eb26d;--1:#eab839;--2:#6ed0e0;--3:#ef843c;--4:#e24d42;--5:#5f9fe0;--6:#ca53b9;--7:#b7a6f0;--8:#629051;--9:#cca300;--10:#5a8fd0;--11:#d17c57}}` +
	`text{font:11px system-ui,sans-serif;fill:var(--text)}.t{font-size:13px;font-weight:600}.r{font-size:15px;font-weight:600}` +
	`.h{font-size:20px;font-weight:600}.a{fill:var(--soft);font-size:10px}.e{text-anchor:end}.v{font-size:24px;font-weight:600}` +
	`.b{fill:var(--page)}.p{fill:var(--panel);stroke:var(--rule)}.g{stroke:var(--rule)}.m{fill:none;stroke:var(--mark);stroke-opacity:.35;stroke-dasharray:2 3}` +
	`.l{fill:none;stroke:currentColor;stroke-width:1.5;stroke-linejoin:round}.f{fill:currentColor;fill-opacity:.3}.k{fill:currentColor}.o{fill:currentColor;fill-opacity:.7}` +
	`.green{fill:var(--green)}.yellow{fill:var(--yellow)}.orange{fill:var(--orange)}.red{fill:var(--red)}` +
	`.c0{color:var(--0)}.c1{color:var(--1)}.c2{color:var(--2)}.c3{color:var(--3)}.c4{color:var(--4)}.c5{color:var(--5)}.c6{color:var(--6)}.c7{color:var(--7)}.c8{color:var(--8)}.c9{color:var(--9)}.c10{color:var(--10)}.c11{color:var(--11)}`

const colours = 12

// canvas collects one picture.
type canvas struct{ strings.Builder }

func (c *canvas) addf(format string, args ...any) { fmt.Fprintf(c, format, args...) }

func (c *canvas) text(class string, x, y float64, s string) {
	c.addf(`<text class="%s" x="%.1f" y="%.1f">%s</text>`, class, x, y, html.EscapeString(s))
}

// Draw writes the dashboard as it is over the range, as SVG.
func (b Board) Draw(ctx context.Context, w io.Writer, prometheus string, r Range) error {
	height := 0
	for _, p := range b.Panels {
		height = max(height, p.GridPos.Y+p.GridPos.H)
	}
	const width, head = 24*column + gap, 40
	c := &canvas{}
	c.addf(`<svg xmlns="http://www.w3.org/2000/svg" width="%[1]d" height="%[2]d" viewBox="0 0 %[1]d %[2]d" role="img" aria-label="%[3]s"><style>%[4]s</style>`+
		`<rect class="b" width="100%%" height="100%%"/>`, width, height*unitHeight+head, html.EscapeString(b.Title), style)
	c.text("h", gap, 27, b.Title)
	c.text("a e", float64(width)-gap, 27, r.From.UTC().Format("2006-01-02 15:04:05")+" to "+r.To.UTC().Format("15:04:05")+" UTC")
	marks, err := b.marks(ctx, prometheus, r)
	if err != nil {
		return err
	}
	for _, p := range b.Panels {
		if err := draw(ctx, c, p, head, prometheus, r, marks); err != nil {
			return fmt.Errorf("%s: %s: %w", b.UID, p.Title, err)
		}
	}
	c.addf("</svg>\n")
	_, err = io.WriteString(w, c.String())
	return err
}

// marks are the moments that annotations tell of, as shares of the range.
func (b Board) marks(ctx context.Context, prometheus string, r Range) ([]float64, error) {
	seen := map[float64]bool{}
	for _, a := range b.Annotations.List {
		lines, err := ask(ctx, prometheus, a.Expr, "", r)
		if err != nil {
			return nil, fmt.Errorf("%s: an annotation: %w", b.UID, err)
		}
		for _, l := range lines {
			for _, pt := range l.points {
				at := pt.at
				if a.UseValueForTime {
					at = (pt.value - float64(r.From.UnixMilli())) / float64(r.To.Sub(r.From).Milliseconds())
				}
				if at >= 0 && at <= 1 {
					seen[at] = true
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(seen)), nil
}

// box is the room of a panel, or of what is in it.
type box struct{ x, y, w, h float64 }

func draw(ctx context.Context, c *canvas, p panel, head float64, prometheus string, r Range, marks []float64) error {
	at := box{float64(p.GridPos.X*column + gap), head + float64(p.GridPos.Y*unitHeight), float64(p.GridPos.W*column - gap), float64(p.GridPos.H*unitHeight - gap)}
	if p.Type == "row" {
		c.text("r", at.x, at.y+19, p.Title)
		return nil
	}
	var lines []line
	for _, target := range p.Targets {
		answer, err := ask(ctx, prometheus, target.Expr, target.LegendFormat, r)
		if err != nil {
			return err
		}
		lines = append(lines, answer...)
	}
	c.addf(`<g><rect class="p" x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="3"/>`, at.x, at.y, at.w, at.h)
	c.text("t", at.x+10, at.y+18, p.Title)
	inner := box{at.x + 10, at.y + titleHeight, at.w - 20, at.h - titleHeight - 8}
	switch {
	case len(lines) == 0:
		c.text("v", inner.x, inner.y+inner.h/2+8, cmp.Or(p.FieldConfig.Defaults.NoValue, "no data"))
	case p.Type == "stat":
		p.stat(c, inner, lines)
	case p.Type == "state-timeline":
		p.states(c, inner, lines)
	case p.Type == "table":
		p.table(c, inner, lines)
	default:
		p.plot(c, inner, lines, r, marks)
	}
	c.addf("</g>\n")
	return nil
}

// stat shows the last values.
func (p panel) stat(c *canvas, b box, lines []line) {
	each := b.w / float64(len(lines))
	for i, l := range lines {
		x := b.x + float64(i)*each
		last := l.points[len(l.points)-1].value
		c.text("v "+p.colour(last), x, b.y+b.h/2+4, p.text(last))
		if len(lines) > 1 {
			c.text("a", x, b.y+b.h-2, strings.TrimPrefix(l.name, "coatcheck-"))
		}
	}
}

// legend writes the names of the lines at the bottom, as far as there is room, and returns what is left.
func legend(c *canvas, b box, lines []line) box {
	const most = 3
	x, row, rows := b.x, 0, 1
	type entry struct {
		x    float64
		row  int
		name string
		i    int
	}
	var entries []entry
	for i, l := range lines {
		width := 22 + letter*float64(len([]rune(l.name)))
		if x+width > b.x+b.w && x > b.x {
			x, row = b.x, row+1
		}
		if row == most {
			entries[len(entries)-1].name += fmt.Sprintf(" and %d more", len(lines)-i)
			break
		}
		entries = append(entries, entry{x, row, l.name, i})
		rows = row + 1
		x += width
	}
	top := b.y + b.h - float64(rows*legendLine)
	for _, e := range entries {
		y := top + float64(e.row*legendLine) + 12
		c.addf(`<rect class="k c%d" x="%.1f" y="%.1f" width="9" height="3"/>`, e.i%colours, e.x, y-5)
		c.text("", e.x+13, y, e.name)
	}
	b.h -= float64(rows*legendLine) + 4
	return b
}

// plot draws lines, stacked areas or bars.
func (p panel) plot(c *canvas, b box, lines []line, r Range, marks []float64) {
	b = legend(c, b, lines)
	b.y, b.h = b.y+6, b.h-6
	stacked := p.FieldConfig.Defaults.Custom.Stacking.Mode == "normal"
	bars := p.FieldConfig.Defaults.Custom.DrawStyle == "bars"
	base := make([]map[float64]float64, len(lines)) // what lies below, by time
	sum := map[float64]float64{}
	low, high := 0.0, 0.0
	for i, l := range lines {
		base[i] = map[float64]float64{}
		for _, pt := range l.points {
			value := pt.value
			if stacked {
				base[i][pt.at] = sum[pt.at]
				sum[pt.at] += value
				value = sum[pt.at]
			}
			low, high = min(low, value), max(high, value)
		}
	}
	unit := p.FieldConfig.Defaults.Unit
	high = ceiling(high, unit)
	if low < 0 {
		low = -ceiling(-low, unit)
	}
	b.x, b.w, b.h = b.x+axisWidth, b.w-axisWidth, b.h-14
	x := func(at float64) float64 { return b.x + at*b.w }
	y := func(v float64) float64 { return b.y + b.h - (v-low)/(high-low)*b.h }
	for i := range 5 {
		v := low + (high-low)*float64(i)/4
		c.addf(`<line class="g" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/>`, b.x, b.x+b.w, y(v), y(v))
		c.text("a e", b.x-5, y(v)+3, format(v, unit, nil))
	}
	for at, clock := range r.ticks(b.w) {
		c.text("a", x(at), b.y+b.h+12, clock)
	}
	if len(marks) > 0 {
		c.addf(`<path class="m" d="`)
		for _, at := range marks {
			c.addf("M%.0f %.0fv%.0f", x(at), b.y, b.h)
		}
		c.addf(`"/>`)
	}
	step := r.Step.Seconds() / r.To.Sub(r.From).Seconds()
	for i, l := range lines {
		colour := i % colours
		if bars {
			for _, pt := range l.points {
				bottom := base[i][pt.at]
				c.addf(`<rect class="o c%d" x="%.1f" y="%.1f" width="%.1f" height="%.1f"/>`, colour, x(pt.at), y(bottom+pt.value), max(1, min(step*b.w*.8, b.x+b.w-x(pt.at))), y(bottom)-y(bottom+pt.value))
			}
			continue
		}
		for _, run := range unbroken(l.points, step) {
			var path strings.Builder
			for j, pt := range run {
				v := pt.value + base[i][pt.at]
				switch {
				case j == 0:
					fmt.Fprintf(&path, "M%.1f %.1f", x(pt.at), y(v))
				case p.FieldConfig.Defaults.Custom.LineInterpolation == "stepAfter":
					fmt.Fprintf(&path, "H%.1fV%.1f", x(pt.at), y(v))
				default:
					fmt.Fprintf(&path, "L%.1f %.1f", x(pt.at), y(v))
				}
			}
			if stacked {
				area := path.String()
				for j, pt := range slices.Backward(run) {
					if p.FieldConfig.Defaults.Custom.LineInterpolation == "stepAfter" && j < len(run)-1 {
						area += fmt.Sprintf("V%.1fH%.1f", y(base[i][pt.at]), x(pt.at))
						continue
					}
					area += fmt.Sprintf("L%.1f %.1f", x(pt.at), y(base[i][pt.at]))
				}
				c.addf(`<path class="f c%d" d="%sZ"/>`, colour, area)
			}
			c.addf(`<path class="l c%d" d="%s"/>`, colour, path.String())
		}
	}
}

// unbroken cuts points where one is missing, so that a gap is seen as one.
func unbroken(points []point, step float64) (runs [][]point) {
	start := 0
	for i := range points {
		if i > 0 && points[i].at-points[i-1].at > 1.5*step {
			runs = append(runs, points[start:i])
			start = i
		}
	}
	return append(runs, points[start:])
}

// states draws a row for each line, coloured by what its value is called.
func (p panel) states(c *canvas, b box, lines []line) {
	colour := map[string]string{}
	for _, m := range p.FieldConfig.Defaults.Mappings {
		for value, o := range m.Options {
			colour[value] = o.Color
		}
	}
	const names = 80
	row := math.Min(30, b.h/float64(len(lines)))
	for i, l := range lines {
		y := b.y + float64(i)*row
		c.text("", b.x, y+row*.7, l.name)
		step := 1.0
		for j := 1; j < len(l.points); j++ {
			step = min(step, l.points[j].at-l.points[j-1].at)
		}
		for j, pt := range l.points {
			// Neighbours of the same state are one.
			end := pt.at + step
			if j > 0 && l.points[j-1].value == pt.value && pt.at-l.points[j-1].at < 1.5*step {
				continue
			}
			for k := j + 1; k < len(l.points) && l.points[k].value == pt.value && l.points[k].at-l.points[k-1].at < 1.5*step; k++ {
				end = l.points[k].at + step
			}
			left, right := b.x+names+pt.at*(b.w-names), b.x+names+min(1, end)*(b.w-names)
			c.addf(`<rect class="%s" x="%.1f" y="%.1f" width="%.1f" height="%.1f"><title>%s</title></rect>`,
				html.EscapeString(colour[fmt.Sprint(pt.value)]), left, y+2, max(1, right-left), row-4, html.EscapeString(p.text(pt.value)))
		}
	}
}

// table shows the labels of each line.
func (p panel) table(c *canvas, b box, lines []line) {
	var columns []string
	for name := range lines[0].labels {
		if !slices.Contains([]string{"__name__", "instance", "job"}, name) {
			columns = append(columns, name)
		}
	}
	slices.Sort(columns)
	each := b.w / float64(len(columns))
	for i, name := range columns {
		c.text("a", b.x+float64(i)*each, b.y+12, name)
		for j, l := range lines {
			if y := b.y + 28 + float64(j)*16; y < b.y+b.h {
				c.text("", b.x+float64(i)*each, y, short(l.labels[name], int(each/letter)-1))
			}
		}
	}
}

// short cuts a text that has no room.
func short(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:max(0, most-1)]) + "…"
	}
	return s
}
