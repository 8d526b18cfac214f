package chassis

import (
	"bytes"
	"context"
	"strings"
	"testing"

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
		if got := strings.TrimSpace(out.String()); !strings.HasSuffix(got, tt.want) {
			t.Errorf("%s\nshould end in %s", got, tt.want)
		}
	}
}
