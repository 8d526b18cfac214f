package bench

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Report is what was measured; bench.json is it.
type Report struct {
	Started     time.Time     `json:"started"`
	Took        string        `json:"took"`
	Machine     string        `json:"machine"`
	Pairs       int           `json:"pairs"`
	Block       string        `json:"block"`
	Comparisons []*Comparison `json:"comparisons"`
	Figures     []Figure      `json:"figures"`
	HIncrBy     *HIncrBy      `json:"hincrby,omitempty"`
	Survivors   []Survivors   `json:"survivors,omitempty"`
	Memory      []Memory      `json:"memory,omitempty"`
	Gateway     *Connections  `json:"connections,omitempty"`
	Growth      []Growth      `json:"growth,omitempty"`
	Counts      []Counts      `json:"counts,omitempty"`
	Audits      []Audit       `json:"audits"`
	Assumptions []string      `json:"assumptions"`
}

// Audit is what the carts of one kind held at the end.
type Audit struct {
	Carts        string `json:"carts"` // whose, and of how many lines
	Acknowledged int64  `json:"acknowledged"`
	Lost         int64  `json:"lost"`
	Surplus      int64  `json:"surplus"` // there, and never acknowledged
}

// row is one line of a table.
type row []string

// sides has a row for each side of each comparison: medians.
func (r *Report) sides() []row {
	rows := []row{{"", "requests/s", "p50 ms", "p99 ms", "CPU µs", "of which", "allocations", "generator µs", "sent late, p99 ms"}}
	for _, c := range r.Comparisons {
		for _, s := range []struct {
			title string
			of    func(Round) Block
		}{{c.A, func(r Round) Block { return r.A }}, {c.B, func(r Round) Block { return r.B }}} {
			median := func(f func(Block) float64) float64 {
				return c.of(func(r Round) float64 { return f(s.of(r)) }).Median
			}
			each := func(f func(Block) map[string]float64) string {
				roles := map[string]bool{}
				for _, round := range c.Rounds {
					for role := range f(s.of(round)) {
						roles[role] = true
					}
				}
				var parts []string
				for _, role := range slices.Sorted(maps.Keys(roles)) {
					parts = append(parts, role+" "+short(median(func(b Block) float64 { return f(b)[role] })))
				}
				return strings.Join(parts, ", ")
			}
			rows = append(rows, row{
				s.title, fmt.Sprintf("%.0f", median(func(b Block) float64 { return b.PerSecond })),
				short(median(func(b Block) float64 { return b.P50 })), short(median(func(b Block) float64 { return b.P99 })),
				orDash(median(Block.sum)), each(func(b Block) map[string]float64 { return b.CPU }),
				each(func(b Block) map[string]float64 { return b.Mallocs }), short(median(func(b Block) float64 { return b.Generator })),
				orDash(median(func(b Block) float64 { return b.LateP99 })),
			})
		}
	}
	return rows
}

// orDash is a figure that is never 0 where it was taken.
func orDash(v float64) string {
	if v == 0 {
		return "-"
	}
	return short(v)
}

// ratios has a row for each comparison.
func (r *Report) ratios() []row {
	rows := []row{{"", "CPU ×", "requests/s ×", "p50 ×", "p99 ×", "pairs", "left out"}}
	for _, c := range r.Comparisons {
		kept := c.kept()
		cpu := "-" // of processes that were killed it can't be told
		if all := c.CPU(); all.Median > 0 {
			cpu = all.String()
		}
		rows = append(rows, row{c.Title + ": " + c.A + " against " + c.B, cpu, c.Rate().String(), c.P50().String(), c.P99().String(), fmt.Sprint(kept), fmt.Sprint(len(c.Rounds) - kept)})
	}
	return rows
}

func (c *Comparison) kept() (n int) {
	for _, round := range c.Rounds {
		if round.Kept {
			n++
		}
	}
	return n
}

func (r *Report) figures() []row {
	rows := []row{{"", "measured", "limit", "", ""}}
	for _, f := range r.Figures {
		rows = append(rows, row{f.Title, f.Range.String() + f.Unit, f.Bound(), f.Verdict(), f.Note})
	}
	return rows
}

func (r *Report) growth() []row {
	rows := []row{{"", "", "CPU µs per request", "requests/s", "of which", "resident MiB"}}
	for _, g := range r.Growth {
		var parts, resident []string
		for _, role := range slices.Sorted(maps.Keys(g.CPU)) {
			parts = append(parts, role+" "+short(g.CPU[role]))
		}
		for _, role := range slices.Sorted(maps.Keys(g.Resident)) {
			resident = append(resident, fmt.Sprintf("%s %.0f", role, float64(g.Resident[role])/(1<<20)))
		}
		rows = append(rows, row{g.What, fmt.Sprintf("%d %s", g.Size, g.Of), g.Sum.String(), fmt.Sprintf("%.0f", g.PerSecond.Median), strings.Join(parts, ", "), strings.Join(resident, ", ")})
	}
	return rows
}

// statements are what is said in words.
func (r *Report) statements() (lines []string) {
	for _, s := range r.Survivors {
		lines = append(lines, fmt.Sprintf("100 parallel adds to one new cart, all acknowledged: %s has %d of them afterwards (%d to %d, %d times).", s.Who, s.Median, s.Least, s.Most, s.Repetitions))
	}
	if h := r.HIncrBy; h != nil {
		lines = append(lines, fmt.Sprintf("A plain HINCRBY through redis-benchmark: %s a second, %s µs of Redis each.", h.PerSecond, h.RedisCPU))
	}
	for _, a := range r.Audits {
		lines = append(lines, fmt.Sprintf("Carts of %s lines at the end: %d acknowledged units, %d lost, %d that nobody was acknowledged.", a.Carts, a.Acknowledged, a.Lost, a.Surplus))
	}
	if share := r.generator(); len(share.Values) > 0 {
		lines = append(lines, fmt.Sprintf("The load generator itself took %.0f %% of the CPU of a block (median; %.0f to %.0f %%).", 100*share.Median, 100*slices.Min(share.Values), 100*slices.Max(share.Values)))
	}
	return append(lines, r.Assumptions...)
}

// generator is the load generator's share of the CPU that a block used.
func (r *Report) generator() Range {
	var shares []float64
	for _, c := range r.Comparisons {
		for _, round := range c.Rounds {
			for _, b := range []Block{round.A, round.B} {
				if b.sum() > 0 {
					shares = append(shares, b.Generator/(b.Generator+b.sum()))
				}
			}
		}
	}
	return rangeOf(shares)
}

// Text is the tables for a terminal.
func (r *Report) Text() string {
	var b strings.Builder
	for _, table := range [][]row{r.sides(), r.ratios(), r.growth(), r.counts(), r.figures()} {
		if len(table) == 1 {
			continue
		}
		w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		for _, row := range table {
			_, _ = fmt.Fprintln(w, strings.Join(row, "\t"))
		}
		_ = w.Flush()
		b.WriteString("\n")
	}
	for _, line := range r.statements() {
		b.WriteString("- " + line + "\n")
	}
	fmt.Fprintf(&b, "\n%d pairs of blocks of %s, in %s, on %s.\n", r.Pairs, r.Block, r.Took, r.Machine)
	return b.String()
}

//go:embed bench.html.tmpl
var page string

// write puts bench.json and bench.html into dir.
func (r *Report) write(dir string) error {
	content, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "bench.json"), append(content, '\n'), 0o644); err != nil {
		return err
	}
	html, err := r.page()
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "bench.html"), []byte(html), 0o644)
}

func (r *Report) page() (string, error) {
	t, err := template.New("page").Parse(page)
	if err != nil {
		return "", err
	}
	var html strings.Builder
	err = t.Execute(&html, map[string]any{
		"Report": r, "Figures": r.figures(), "Sides": r.sides(), "Ratios": r.ratios(), "Growth": r.growth(), "Counts": r.counts(),
		"Statements": r.statements(), "Pairs": r.pairPlots(), "Curves": r.curves(),
	})
	return html.String(), err
}

// read reads bench.json of dir.
func read(dir string) (*Report, error) {
	content, err := os.ReadFile(filepath.Join(dir, "bench.json"))
	if err != nil {
		return nil, fmt.Errorf("there is no measurement yet: run make bench: %w", err)
	}
	r := new(Report)
	if err := json.Unmarshal(content, r); err != nil {
		return nil, fmt.Errorf("bench.json: %w", err)
	}
	return r, nil
}
