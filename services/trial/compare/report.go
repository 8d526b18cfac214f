package compare

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

// Report is what was measured; compare.json is it.
type Report struct {
	Started     time.Time    `json:"started"`
	Took        string       `json:"took"`
	Machine     string       `json:"machine"`
	Sessions    int          `json:"sessions"`
	Ways        []Measured   `json:"ways"`
	SessionWays []SessionWay `json:"session_ways"`
	Assumptions []string     `json:"assumptions"`
}

// Measured is one way's numbers. Times are in nanoseconds in JSON.
type Measured struct {
	Key   string `json:"key"`
	Title string `json:"title"`

	MemoryPerSession float64 `json:"memory_per_session_bytes"`
	// CookieBytes are those of each request of a user with three lines in the cart,
	// CookieBytesEmpty with none, CookieBytesLargest with the largest cart.
	CookieBytes        int `json:"cookie_bytes"`
	CookieBytesEmpty   int `json:"cookie_bytes_empty"`
	CookieBytesLargest int `json:"cookie_bytes_largest"`

	Lines     int      `json:"lines_of_code"` // 0: there was no source
	Programs  []string `json:"programs"`
	Processes int      `json:"processes"`
	Front     string   `json:"front"`

	Requests        int64 `json:"requests"` // that came with a cart that has lines
	WithoutCart     int64 `json:"without_cart"`
	SessionRequests int64 `json:"session_requests"`
	WithoutSession  int64 `json:"without_session"`
	LoadQuiet       Load  `json:"load_quiet"`
	LoadAfterDeath  Load  `json:"load_after_death"`

	Death   Loss `json:"death"`
	Rollout Loss `json:"rollout"`

	NewReplica NewReplica `json:"new_replica"`

	Adds     int `json:"concurrent_adds"`
	AddsLost int `json:"concurrent_adds_lost"`

	Largest        int    `json:"largest_cart_lines"`
	LargestRefusal string `json:"largest_cart_refusal"`

	LogOuts        int           `json:"log_outs"`
	LogOutsHeld    int           `json:"log_outs_held"`
	LogOutSlowest  time.Duration `json:"log_out_slowest"` // of those that held
	LogOutPatience time.Duration `json:"log_out_patience"`

	CPU CPU `json:"cpu"`
}

// Load is how evenly requests fell on the replicas: 1 and 0 are even.
type Load struct {
	MaxOverMean float64 `json:"max_over_mean"`
	CV          float64 `json:"coefficient_of_variation"`
}

// Loss is what there was before a fault, what of it was gone after, and how the
// requests meanwhile fared.
type Loss struct {
	Carts        int   `json:"carts"`
	CartsLost    int   `json:"carts_lost"` // wholly or in part
	Sessions     int   `json:"sessions"`
	SessionsLost int   `json:"sessions_lost"`
	Requests     int64 `json:"requests"`
	Failed       int64 `json:"failed"` // after three tries
}

// NewReplica is what became of a replica that was added.
type NewReplica struct {
	Shares     []float64     `json:"shares"`     // of the requests, second by second
	FairAfter  time.Duration `json:"fair_after"` // until four fifths of a fair share; -1: not while it was watched
	Shoppers   int64         `json:"shoppers"`
	OutOfReach int64         `json:"out_of_reach"` // of them, who were shown a cart with less than before
}

// CPU is what a request takes, of all processes of the way together.
type CPU struct {
	PerRequest time.Duration `json:"per_request"`
	Reference  time.Duration `json:"reference"` // server memory, in turn with it
	Ratio      float64       `json:"ratio"`
	Least      float64       `json:"least"` // of one pair
	Most       float64       `json:"most"`
	// Parts is PerRequest by program.
	Parts map[string]time.Duration `json:"parts,omitempty"`
	Note  string                   `json:"note,omitempty"`
}

// row is a line of the table.
type row struct {
	Title string
	Cells []string
}

func (r Report) rows() []row {
	of := func(title string, cell func(m Measured) string) row {
		made := row{Title: title}
		for _, m := range r.Ways {
			made.Cells = append(made.Cells, cell(m))
		}
		return made
	}
	share := func(part, all int64) string {
		if all == 0 {
			return "-"
		}
		return fmt.Sprintf("%.3g %% (%d/%d)", 100*float64(part)/float64(all), part, all)
	}
	lost := func(l Loss) string {
		return fmt.Sprintf("%d/%d, %d/%d", l.CartsLost, l.Carts, l.SessionsLost, l.Sessions)
	}
	load := func(l Load) string { return fmt.Sprintf("%.2f, %.2f", l.MaxOverMean, l.CV) }
	return []row{
		of(fmt.Sprintf("Memory per open session, at %d", r.Sessions), func(m Measured) string { return fmt.Sprintf("%.0f B", m.MemoryPerSession) }),
		of("Cookies in each request, 3 lines", func(m Measured) string { return fmt.Sprintf("%d B", m.CookieBytes) }),
		of("Lines of code", func(m Measured) string {
			if m.Lines == 0 {
				return "no source here"
			}
			return fmt.Sprint(m.Lines)
		}),
		of("Parts that run", func(m Measured) string { return strings.Join(m.Programs, ", ") }),
		of("Front that it needs", func(m Measured) string { return m.Front }),
		of("Requests that met a server without the cart", func(m Measured) string { return share(m.WithoutCart, m.Requests) }),
		of("… without the session", func(m Measured) string { return share(m.WithoutSession, m.SessionRequests) }),
		of("Lost at the death of one replica: carts, sessions", func(m Measured) string { return lost(m.Death) }),
		of("… requests that failed, after 3 tries", func(m Measured) string { return fmt.Sprintf("%d/%d", m.Death.Failed, m.Death.Requests) }),
		of("Lost at a roll-out: carts, sessions", func(m Measured) string { return lost(m.Rollout) }),
		of("… requests that failed, after 3 tries", func(m Measured) string { return fmt.Sprintf("%d/%d", m.Rollout.Failed, m.Rollout.Requests) }),
		of("Load per replica: max/mean, CV", func(m Measured) string { return load(m.LoadQuiet) }),
		of("… when the dead one is back", func(m Measured) string { return load(m.LoadAfterDeath) }),
		of("New replica's share after 1 s, at the end (fair: 25 %)", func(m Measured) string {
			s := m.NewReplica.Shares
			if len(s) == 0 {
				return "-"
			}
			return fmt.Sprintf("%.0f %%, %.0f %%", 100*s[0], 100*s[len(s)-1])
		}),
		of("… time to four fifths of a fair share", func(m Measured) string {
			if m.NewReplica.FairAfter < 0 {
				return fmt.Sprintf("not within %d s", len(m.NewReplica.Shares))
			}
			return fmt.Sprintf("%.0f s", m.NewReplica.FairAfter.Seconds())
		}),
		of("… shoppers whose cart it put out of reach", func(m Measured) string { return share(m.NewReplica.OutOfReach, m.NewReplica.Shoppers) }),
		of("Lost updates, 8 adds at once", func(m Measured) string { return share(int64(m.AddsLost), int64(m.Adds)) }),
		of("Largest cart", func(m Measured) string { return fmt.Sprintf("%d lines (%s)", m.Largest, m.LargestRefusal) }),
		of("A log-out holds on every replica", func(m Measured) string {
			if m.LogOutsHeld < m.LogOuts {
				return fmt.Sprintf("not within %v (%d of %d)", m.LogOutPatience, m.LogOuts-m.LogOutsHeld, m.LogOuts)
			}
			return fmt.Sprintf("within %.0f ms", max(1, float64(m.LogOutSlowest)/1e6))
		}),
		of("CPU per request", func(m Measured) string {
			if m.CPU.Note != "" {
				return m.CPU.Note
			}
			cell := fmt.Sprintf("%d µs", m.CPU.PerRequest.Microseconds())
			if len(m.CPU.Parts) > 1 {
				var parts []string
				for _, program := range slices.Sorted(maps.Keys(m.CPU.Parts)) {
					parts = append(parts, fmt.Sprintf("%s %d", program, m.CPU.Parts[program].Microseconds()))
				}
				cell += " (" + strings.Join(parts, ", ") + ")"
			}
			return cell
		}),
		of("… against server memory, in pairs", func(m Measured) string {
			if m.CPU.Note != "" {
				return m.CPU.Note
			}
			return fmt.Sprintf("%.2f × (%.2f to %.2f)", m.CPU.Ratio, m.CPU.Least, m.CPU.Most)
		}),
	}
}

// Text is the table for a terminal.
func (r Report) Text() string {
	var b strings.Builder
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, m := range r.Ways {
		_, _ = fmt.Fprint(table, "\t", m.Title)
	}
	_, _ = fmt.Fprintln(table)
	for _, row := range r.rows() {
		_, _ = fmt.Fprintln(table, row.Title+"\t"+strings.Join(row.Cells, "\t"))
	}
	_ = table.Flush()
	_, _ = fmt.Fprintln(table)
	for _, m := range r.SessionWays {
		_, _ = fmt.Fprint(table, "\t", m.Title)
	}
	_, _ = fmt.Fprintln(table)
	for _, row := range r.sessionRows() {
		_, _ = fmt.Fprintln(table, row.Title+"\t"+strings.Join(row.Cells, "\t"))
	}
	_ = table.Flush()
	b.WriteString("\nEvery cell was measured in this run")
	if r.Took != "" {
		b.WriteString(", which took " + r.Took)
	}
	b.WriteString(" (" + r.Machine + "). The three columns of server memory share one measurement of memory: they are one program.\n")
	for _, line := range r.Assumptions {
		b.WriteString("- " + line + "\n")
	}
	return b.String()
}

//go:embed compare.html.tmpl
var page string

// write puts compare.json and compare.html into dir.
func (r Report) write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	content, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "compare.json"), append(content, '\n'), 0o644); err != nil {
		return err
	}
	t, err := template.New("page").Parse(page)
	if err != nil {
		return err
	}
	var html strings.Builder
	err = t.Execute(&html, map[string]any{"Report": r, "Rows": r.rows(), "SessionRows": r.sessionRows()})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "compare.html"), []byte(html.String()), 0o644)
}
