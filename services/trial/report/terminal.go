package report

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode"
)

// Status is how a running trial stands: counts since its start.
type Status struct {
	// Doing is a word or two when it is not traffic and faults ("reading all
	// carts"); may be empty.
	Doing        string
	OK           int // logical requests, as are the next two
	Failed       int
	Unknown      int
	Acknowledged int // changes
	Retried      int
	InFlight     int
	Missed       int // due, and not sent because too many were waiting
	Lost         int // as far as LostKnown says that it is known
	LostKnown    bool
	P99          time.Duration // 0: not known
	Faults       int
	LastFault    string
}

// How often the view is drawn anew: in place, and as plain lines.
const (
	redrawEvery = 250 * time.Millisecond
	lineEvery   = 5 * time.Second
)

// Terminal shows a running trial. On a terminal it is a block that is drawn
// anew in place; elsewhere, and where CI is set or TERM is dumb, a plain line
// every 5 s. Where NO_COLOR is set it has no colours.
//
// It is also an io.Writer, for a log that is written meanwhile: what is written
// goes above the block instead of through it.
type Terminal struct {
	out    io.Writer
	length time.Duration
	live   func() Status
	// size is nil for plain lines.
	size  func() (columns, rows int)
	color bool

	mu      sync.Mutex
	began   time.Time
	samples []rateSample
	drawn   int // lines of the block on the screen
	running bool
	stop    chan struct{}
	done    sync.WaitGroup
}

type rateSample struct {
	at    time.Time
	ended int
}

// NewTerminal makes the view of a trial whose traffic lasts length. live is
// called from a goroutine of the view's own and must not block.
func NewTerminal(out io.Writer, length time.Duration, live func() Status) *Terminal {
	t := &Terminal{out: out, length: length, live: live, color: os.Getenv("NO_COLOR") == ""}
	file, ok := out.(*os.File)
	if ok && os.Getenv("CI") == "" && os.Getenv("TERM") != "dumb" {
		if _, _, ok := windowSize(file); ok {
			t.size = func() (columns, rows int) {
				columns, rows, _ = windowSize(file)
				return columns, rows
			}
		}
	}
	return t
}

// Start shows the view until Stop.
func (t *Terminal) Start() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.running {
		return
	}
	t.running, t.began, t.stop = true, time.Now(), make(chan struct{})
	t.samples = []rateSample{{t.began, 0}}
	every := lineEvery
	if t.size != nil {
		every = redrawEvery
		t.write(hideCursor)
		t.draw()
	}
	t.done.Go(func() {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-t.stop:
				return
			case <-ticker.C:
				t.mu.Lock()
				t.draw()
				t.mu.Unlock()
			}
		}
	})
}

// Stop shows the view a last time and leaves the cursor below it. It may be
// called again, and without a Start.
func (t *Terminal) Stop() {
	t.mu.Lock()
	if !t.running {
		t.mu.Unlock()
		return
	}
	t.running = false
	close(t.stop)
	t.mu.Unlock()
	t.done.Wait()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.draw()
	if t.size != nil {
		t.drawn = 0
		t.write("\n" + showCursor)
	}
}

// Write writes lines of a log above the block.
func (t *Terminal) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.running || t.size == nil {
		return t.out.Write(p)
	}
	t.write(t.erase() + string(bytes.TrimSuffix(p, []byte("\n"))) + "\n")
	t.drawn = 0
	t.draw()
	return len(p), nil
}

func (t *Terminal) write(s string) { _, _ = io.WriteString(t.out, s) }

const (
	hideCursor = "\x1b[?25l"
	showCursor = "\x1b[?25h"
)

// erase clears the block and leaves the cursor where it began.
func (t *Terminal) erase() string {
	switch t.drawn {
	case 0:
		return ""
	case 1:
		return "\r\x1b[J"
	}
	return fmt.Sprintf("\r\x1b[%dA\x1b[J", t.drawn-1)
}

func (t *Terminal) draw() {
	now, s := time.Now(), t.live()
	rate := t.rate(now, s.OK+s.Failed+s.Unknown)
	if t.size == nil {
		t.write(t.line(now.Sub(t.began), rate, s) + "\n")
		return
	}
	columns, rows := t.size()
	if columns <= 0 {
		columns, rows = 80, 24
	}
	// The last column stays empty: some terminals wrap when it is written.
	lines := t.block(now.Sub(t.began), rate, s, columns-1)
	lines = lines[:min(len(lines), max(1, rows-1))]
	erase := t.erase()
	t.drawn = len(lines)
	t.write(erase + strings.Join(lines, "\n"))
}

// rate is how many requests ended a second in the last two seconds, or since
// the last line if that is longer ago.
func (t *Terminal) rate(now time.Time, ended int) float64 {
	for len(t.samples) > 1 && now.Sub(t.samples[1].at) >= 2*time.Second {
		t.samples = t.samples[1:]
	}
	first := t.samples[0]
	t.samples = append(t.samples, rateSample{now, ended})
	if now.Sub(first.at) < 100*time.Millisecond {
		return 0
	}
	return float64(ended-first.ended) / now.Sub(first.at).Seconds()
}

// field is a figure of the view: "retried 12".
type field struct{ name, value, style string }

func fields(rate float64, s Status) []field {
	alarm := func(n int, style string) string {
		if n > 0 {
			return style
		}
		return ""
	}
	p99, lost := "–", "not known yet"
	if s.P99 > 0 {
		p99 = latency(s.P99)
	}
	if s.LostKnown {
		lost = number(s.Lost)
	}
	f := []field{
		{"rate", fmt.Sprintf("%.0f/s", rate), ""},
		{"acknowledged", number(s.Acknowledged), bold},
		{"in flight", number(s.InFlight), ""},
		{"p99", p99, ""},
		{"retried", number(s.Retried), ""},
		{"failed", number(s.Failed), alarm(s.Failed, red)},
		{"unknown", number(s.Unknown), alarm(s.Unknown, yellow)},
		{"lost", lost, alarm(s.Lost, red)},
	}
	if s.Missed > 0 {
		f = append(f, field{"missed", number(s.Missed), yellow})
	}
	faults := field{"faults", number(s.Faults), ""}
	if s.LastFault != "" {
		faults.value += "  " + printable(s.LastFault)
	}
	return append(f, faults)
}

// line is the view as a plain line.
func (t *Terminal) line(elapsed time.Duration, rate float64, s Status) string {
	parts := []string{fmt.Sprintf("%s of %s", whole(elapsed), length(t.length))}
	for _, f := range fields(rate, s) {
		parts = append(parts, f.name+" "+f.value)
	}
	if s.Doing != "" {
		parts = append(parts, printable(s.Doing))
	}
	return strings.Join(parts, ", ")
}

// The styles of the block.
const (
	bold   = "1"
	dim    = "2"
	red    = "1;31"
	green  = "32"
	yellow = "33"
)

// block is the view as lines of at most so many columns.
func (t *Terminal) block(elapsed time.Duration, rate float64, s Status, columns int) []string {
	share := 1.0
	if t.length > 0 {
		share = min(1, elapsed.Seconds()/t.length.Seconds())
	}
	state := fmt.Sprintf("%3.0f %%  %s of %s", 100*share, whole(elapsed), length(t.length))
	if left := t.length - elapsed; left > 0 {
		state += ", " + whole(left+time.Second-1) + " left"
	}
	if s.Doing != "" {
		state += ", " + printable(s.Doing)
	}
	top := &row{columns: columns, color: t.color}
	if room := min(40, columns-cells(state)-3); room >= 8 {
		full := int(share * float64(room))
		top.add(" ", "")
		top.add(strings.Repeat("━", full), green)
		top.add(strings.Repeat("╌", room-full), dim)
	}
	top.add(" "+state, "")
	lines := []string{top.String()}

	r := &row{columns: columns, color: t.color}
	for _, f := range fields(rate, s) {
		// The faults, which end with a name, have a line of their own.
		if r.used > 0 && (f.name == "faults" || r.used+3+cells(f.name)+1+cells(f.value) > columns) {
			lines = append(lines, r.String())
			r = &row{columns: columns, color: t.color}
		}
		if r.used > 0 {
			r.add("  ", "")
		}
		r.add(" "+f.name+" ", dim)
		r.add(f.value, f.style)
	}
	return append(lines, r.String())
}

// row is a line in the making; what does not fit is cut off.
type row struct {
	strings.Builder
	columns, used int
	color         bool
}

func (r *row) add(text, style string) {
	end := 0
	for i, c := range text {
		if r.used+cellsOf(c) > r.columns {
			break
		}
		r.used += cellsOf(c)
		end = i + len(string(c))
	}
	if text = text[:end]; text == "" {
		return
	}
	if style != "" && r.color {
		text = "\x1b[" + style + "m" + text + "\x1b[0m"
	}
	r.WriteString(text)
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

func cells(s string) (n int) {
	for _, c := range s {
		n += cellsOf(c)
	}
	return n
}

// cellsOf is how many columns a character may take: two from the scripts on
// whose characters are wide. Too many is harmless, a line is cut sooner.
func cellsOf(c rune) int {
	if c >= 0x1100 && (c < 0x2010 || c > 0x2600) {
		return 2
	}
	return 1
}
