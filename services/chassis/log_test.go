package chassis

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/trace"
)

// TestLogNamesTheTrace: a line said in a traced request names its trace, any
// other line none.
func TestLogNamesTheTrace(t *testing.T) {
	var out bytes.Buffer
	log := newLogger(&out, "cart", Settings{Instance: "cart-1"})
	ctx := trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{15: 7}, SpanID: trace.SpanID{7: 1}}))
	for _, tt := range []struct {
		ctx  context.Context
		want string
	}{
		{ctx, `"service":"cart","instance":"cart-1","n":1,"trace_id":"00000000000000000000000000000007"}`},
		{t.Context(), `"service":"cart","instance":"cart-1","n":1}`},
	} {
		out.Reset()
		log.InfoContext(tt.ctx, "said", "n", 1)
		flushLog(log)
		if got := strings.TrimSpace(out.String()); !strings.HasSuffix(got, tt.want) {
			t.Errorf("%s\nshould end in %s", got, tt.want)
		}
	}
}

// writes keeps each write that is made.
type writes struct {
	mu  sync.Mutex
	all []string
}

func (w *writes) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, string(b))
	return len(b), nil
}

// lines is how many lines each write had.
func (w *writes) lines() (n []int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, text := range w.all {
		n = append(n, strings.Count(text, "\n"))
	}
	return n
}

// TestLogLinesGoTogether: lines are written many at once, in order, soon, and a
// warning takes with it at once what waits.
func TestLogLinesGoTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out writes
		log := newLogger(&out, "cart", Settings{})
		expect := func(when string, want ...int) {
			t.Helper()
			synctest.Wait()
			if got := out.lines(); !slices.Equal(got, want) {
				t.Fatalf("%s: writes of %v lines, want %v", when, got, want)
			}
		}
		log.Info("one")
		log.With("a", "b").WithGroup("g").Info("two")
		expect("at once")
		time.Sleep(logDelay + time.Millisecond)
		expect("a moment later", 2)
		log.Info("three")
		log.Warn("four")
		expect("after a warning", 2, 2)
		time.Sleep(10 * logDelay)
		expect("with nothing that waits", 2, 2)
		log.Info("five", "text", strings.Repeat("x", logBuffer))
		expect("more than may wait", 2, 2, 1)
		log.Info("six")
		expect("at once again", 2, 2, 1)
		time.Sleep(logDelay + time.Millisecond)
		expect("a moment later again", 2, 2, 1, 1)
		log.Info("seven")
		flushLog(log)
		expect("at the end", 2, 2, 1, 1, 1)
		at := 0
		for _, word := range []string{"one", "two", "three", "four", "five", "six", "seven"} {
			next := strings.Index(strings.Join(out.all, ""), `"msg":"`+word+`"`)
			if next < at {
				t.Errorf("%q is at %d, what came before it at %d", word, next, at)
			}
			at = next
		}
		flushLog(slog.New(slog.DiscardHandler)) // of another's making: nothing waits
	})
}
