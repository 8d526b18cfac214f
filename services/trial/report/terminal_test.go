package report

import (
	"bytes"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"
)

// screen is enough of a terminal to see what the view leaves on it.
type screen struct {
	mu      sync.Mutex
	raw     bytes.Buffer
	lines   [][]rune
	row     int
	column  int
	hidden  bool
	longest int
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.raw.Write(p)
	for text := string(p); text != ""; {
		if m := regexp.MustCompile(`^\x1b\[(\?25)?([0-9;]*)([A-Za-z])`).FindStringSubmatch(text); m != nil {
			text = text[len(m[0]):]
			switch m[3] {
			case "A":
				for _, d := range m[2] {
					s.row -= int(d - '0')
				}
			case "J":
				s.lines = s.lines[:s.row+1]
				s.lines[s.row] = s.lines[s.row][:s.column]
			case "l", "h":
				s.hidden = m[3] == "l"
			}
			continue
		}
		c, n := utf8.DecodeRuneInString(text)
		text = text[n:]
		for len(s.lines) <= s.row+1 {
			s.lines = append(s.lines, nil)
		}
		switch c {
		case '\n':
			s.row, s.column = s.row+1, 0
			for len(s.lines) <= s.row {
				s.lines = append(s.lines, nil)
			}
		case '\r':
			s.column = 0
		default:
			s.lines[s.row] = append(s.lines[s.row][:s.column], c)
			s.column++
			s.longest = max(s.longest, s.column)
		}
	}
	return len(p), nil
}

func (s *screen) String() string {
	var b strings.Builder
	for _, l := range s.lines {
		b.WriteString(string(l) + "\n")
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

// TestRedraw: the block is drawn in place, within its width, and leaves the cursor below it.
func TestRedraw(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, status := new(screen), Status{}
		var mu sync.Mutex
		v := NewTerminal(s, time.Minute, func() Status { mu.Lock(); defer mu.Unlock(); return status })
		columns, rows := 72, 24
		v.size, v.color = func() (int, int) { mu.Lock(); defer mu.Unlock(); return columns, rows }, true
		v.Start()
		v.Start()
		if !s.hidden {
			t.Error("the cursor blinks in the block")
		}
		time.Sleep(time.Millisecond) // from now on never at the moment of a drawing
		for i := range 40 {
			mu.Lock()
			status = Status{OK: 100 * i, Acknowledged: 90 * i, Retried: 3, Failed: 2, Unknown: 1, LostKnown: true, InFlight: 7, P99: 12 * time.Millisecond, Faults: i, LastFault: "kill -9 cart-2\x1b[2J"}
			mu.Unlock()
			time.Sleep(redrawEvery)
		}
		synctest.Wait()
		text := s.String()
		for _, want := range []string{"17 %", "10 s of 60 s, 50 s left", "rate 400/s", "acknowledged 3,510", "in flight 7", "p99 12.0 ms", "retried 3", "failed 2", "unknown 1", "lost 0", "faults 39  kill -9 cart-2?[2J"} {
			if !strings.Contains(text, want) {
				t.Errorf("the block does not say %q:\n%s", want, text)
			}
		}
		if n := strings.Count(text, "rate"); n != 1 {
			t.Errorf("the block is there %d times:\n%s", n, text)
		}
		if _, err := v.Write([]byte("a line of a log\n")); err != nil {
			t.Error(err)
		}
		mu.Lock()
		columns, status.LostKnown, status.Doing = 30, false, "reading all carts"
		mu.Unlock()
		s.mu.Lock()
		s.longest = 0
		s.mu.Unlock()
		time.Sleep(redrawEvery)
		synctest.Wait()
		if s.longest >= 30 {
			t.Errorf("a line has %d columns of 30:\n%s", s.longest, s)
		}
		mu.Lock()
		columns, rows = 100, 3
		mu.Unlock()
		time.Sleep(redrawEvery)
		synctest.Wait()
		if n := strings.Count(s.String(), "\n"); n != 3 {
			t.Errorf("%d lines, one of them the log's, on 3 rows:\n%s", n, s)
		}
		mu.Lock()
		rows = 24
		mu.Unlock()
		v.Stop()
		v.Stop()
		text = s.String()
		if !strings.HasPrefix(text, "a line of a log\n") || !strings.Contains(text, "lost not known yet") || !strings.Contains(text, "reading all carts") || strings.Count(text, "rate") != 1 {
			t.Errorf("in the end:\n%s", text)
		}
		if s.hidden || s.column != 0 || s.row != strings.Count(text, "\n") {
			t.Errorf("the cursor is at row %d, column %d, hidden: %v:\n%s", s.row, s.column, s.hidden, text)
		}
		size := s.raw.Len()
		time.Sleep(time.Minute)
		if s.raw.Len() != size {
			t.Error("it is drawn after its end")
		}
	})
}

// TestPlain: without a terminal there is a line every 5 s, and nothing that steers one.
func TestPlain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(screen)
		v := NewTerminal(s, 12*time.Second, func() Status {
			return Status{OK: 2000, Failed: 10, Unknown: 5, Acknowledged: 1500, Missed: 4, Faults: 1, LastFault: "kill -9 redis"}
		})
		v.Start()
		time.Sleep(12 * time.Second)
		if _, err := v.Write([]byte("a line of a log\n")); err != nil {
			t.Error(err)
		}
		v.Stop()
		want := "5 s of 12 s, rate 403/s, acknowledged 1,500, in flight 0, p99 –, retried 0, failed 10, unknown 5, lost not known yet, missed 4, faults 1  kill -9 redis\n" +
			"10 s of 12 s, rate 0/s, acknowledged 1,500, in flight 0, p99 –, retried 0, failed 10, unknown 5, lost not known yet, missed 4, faults 1  kill -9 redis\n" +
			"a line of a log\n" +
			"12 s of 12 s, rate 0/s, acknowledged 1,500, in flight 0, p99 –, retried 0, failed 10, unknown 5, lost not known yet, missed 4, faults 1  kill -9 redis\n"
		if got := s.raw.String(); got != want {
			t.Errorf("got\n%swant\n%s", got, want)
		}
		v.Stop()
		NewTerminal(s, 0, nil).Stop() // without a Start
	})
}

// TestColors: colours say nothing that the text does not, and can be left out.
func TestColors(t *testing.T) {
	t.Setenv("NO_COLOR", "1")
	status := Status{Failed: 1, LostKnown: true, Lost: 2}
	without := NewTerminal(new(screen), time.Minute, nil)
	t.Setenv("NO_COLOR", "")
	with := NewTerminal(new(screen), time.Minute, nil)
	plainText := strings.Join(without.block(time.Second, 1, status, 80), "\n")
	colored := strings.Join(with.block(time.Second, 1, status, 80), "\n")
	if strings.Contains(plainText, "\x1b") || !strings.Contains(colored, "\x1b["+red+"m2\x1b[0m") {
		t.Errorf("without:\n%s\nwith:\n%q", plainText, colored)
	}
	if stripped := regexp.MustCompile(`\x1b\[[0-9;]*m`).ReplaceAllString(colored, ""); stripped != plainText {
		t.Errorf("the texts differ:\n%s\n%s", stripped, plainText)
	}
}

// TestNoTerminal: a file and a device that is no terminal get plain lines.
func TestNoTerminal(t *testing.T) {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = null.Close() }()
	if NewTerminal(null, time.Minute, nil).size != nil {
		t.Error("the null device is taken for a terminal")
	}
}
