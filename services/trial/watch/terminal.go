package watch

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/term"
)

// How often the view is drawn anew: in place, and as plain lines.
const (
	redrawEvery = 250 * time.Millisecond
	lineEvery   = 5 * time.Second
)

// Terminal shows States: on a terminal as a view that is drawn anew in place;
// elsewhere, and where CI is set or TERM is dumb, as a plain line every 5 s.
//
// It is also an io.Writer, for a log that is written meanwhile: what is written
// goes above the view instead of through it.
type Terminal struct {
	out     io.Writer
	program *tea.Program // nil for plain lines
	ended   chan struct{}

	mu     sync.Mutex
	lineAt time.Time
	last   State
	stale  bool // last has not been shown
}

// IsTerminal tells whether out is a terminal that can be drawn on.
func IsTerminal(out io.Writer) bool {
	file, ok := out.(*os.File)
	return ok && os.Getenv("CI") == "" && os.Getenv("TERM") != "dumb" && term.IsTerminal(file.Fd())
}

// NewTerminal begins to show. keys, if not nil, is where q and Ctrl-C come from,
// for which quit is called; without it whatever Ctrl-C does goes on.
func NewTerminal(out io.Writer, keys io.Reader, quit func()) *Terminal {
	t := &Terminal{out: out, ended: make(chan struct{}), lineAt: time.Now()}
	if !IsTerminal(out) {
		close(t.ended)
		return t
	}
	t.run(tea.WithInput(keys), keys != nil, quit)
	return t
}

func (t *Terminal) run(input tea.ProgramOption, keys bool, quit func(), more ...tea.ProgramOption) {
	t.program = tea.NewProgram(screen{keys: keys}, append([]tea.ProgramOption{input, tea.WithOutput(t.out), tea.WithoutSignalHandler()}, more...)...)
	go func() {
		defer close(t.ended)
		_, _ = t.program.Run()
		if quit != nil {
			quit()
		}
	}()
}

// Show shows a State, at once or, as a line, when it is time for one.
func (t *Terminal) Show(s State) {
	if t.program != nil {
		t.program.Send(s)
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last, t.stale = s, true
	if now := time.Now(); now.Sub(t.lineAt) >= lineEvery {
		t.lineAt = t.lineAt.Add(now.Sub(t.lineAt).Truncate(lineEvery))
		t.line()
	}
}

func (t *Terminal) line() {
	t.stale = false
	_, _ = fmt.Fprintln(t.out, t.last.plain())
	if t.last.Over {
		_, _ = fmt.Fprintln(t.out, printable(t.last.Line))
	}
}

// Stop leaves the last State to be seen, and the cursor below it.
func (t *Terminal) Stop() {
	if t.program != nil {
		t.program.Quit()
		<-t.ended
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stale {
		t.line()
	}
}

// Write writes lines of a log above the view.
func (t *Terminal) Write(p []byte) (int, error) {
	select {
	case <-t.ended: // always, for plain lines
		t.mu.Lock()
		defer t.mu.Unlock()
		return t.out.Write(p)
	default:
		t.program.Send(logged(bytes.TrimSuffix(p, []byte("\n"))))
		return len(p), nil
	}
}

// logged is what goes above the view.
type logged string

// screen is the view as Bubble Tea has it.
type screen struct {
	state         State
	columns, rows int
	keys          bool
}

// Init is part of tea.Model.
func (s screen) Init() tea.Cmd { return nil }

// Update is part of tea.Model.
func (s screen) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case State:
		s.state = msg
	case logged:
		return s, tea.Println(string(msg))
	case tea.WindowSizeMsg:
		s.columns, s.rows = msg.Width, msg.Height
	case tea.KeyPressMsg:
		switch msg.String() {
		case "q", "esc", "ctrl+c":
			return s, tea.Quit
		}
	}
	return s, nil
}

// View is part of tea.Model.
func (s screen) View() tea.View {
	if s.columns == 0 {
		return tea.NewView("")
	}
	text := s.state.view(s.columns, s.rows)
	if s.state.Run.Scenario == "" && !s.state.Over { // it has not begun
		text = " " + printable(s.state.Doing)
	}
	if s.keys && !s.state.Over {
		text += "\n" + newStyles().soft.Render(" q: leave; the trial goes on")
	}
	return tea.NewView(text)
}

// Tell shows what w knows on t until stop is called, which shows it once more.
func (w *Watch) Tell(t *Terminal) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(redrawEvery)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				t.Show(w.State())
			}
		}
	}()
	return func() {
		close(done)
		<-ended
		t.Show(w.State())
		t.Stop()
	}
}
