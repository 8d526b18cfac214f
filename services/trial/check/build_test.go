package check

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"coatcheck/trial/history"
)

// tale builds a history by hand. Times are in milliseconds; unless it is told
// otherwise, a request takes 1 ms and the next is sent 1 ms later.
type tale struct {
	records []history.Record
	now     int
}

// told starts a tale; each of its own requests is one client's.
func told() *tale {
	return &tale{records: []history.Record{{Run: &history.Run{Scenario: "hand-written"}}}}
}

type with func(*history.Op)

// op adds a request that was acknowledged, with 200.
func (t *tale) op(kind history.Kind, cart string, with ...with) *tale {
	ms := time.Millisecond
	op := &history.Op{Client: cart, Kind: kind, Cart: cart, Outcome: history.OK, Status: 200, Sent: time.Duration(t.now) * ms, Answered: time.Duration(t.now+1) * ms}
	for _, w := range with {
		w(op)
	}
	if op.Attempts == nil {
		op.Attempts = []history.Attempt{{Sent: op.Sent, Answered: op.Answered, Status: op.Status, Code: op.Code, RetryAfter: op.Status == 503}}
	}
	t.now = max(t.now, int(op.Answered/ms)+1)
	t.records = append(t.records, history.Record{Op: op})
	return t
}

func (t *tale) fault(kind string, class history.Class, from, to int) *tale {
	t.records = append(t.records, history.Record{Fault: &history.Fault{
		Name: kind, Kind: kind, Class: class, Start: time.Duration(from) * time.Millisecond, End: time.Duration(to) * time.Millisecond,
	}})
	return t
}

func (t *tale) end() *tale {
	t.records = append(t.records, history.Record{End: &history.End{At: time.Duration(t.now) * time.Millisecond}})
	return t
}

// lines reads "a2 b1": two of a, one of b.
func lines(text string) []history.Line {
	out := []history.Line{}
	for _, word := range strings.Fields(text) {
		n, err := strconv.ParseInt(word[1:], 10, 64)
		if err != nil {
			panic(err)
		}
		out = append(out, history.Line{SKU: word[:1], Quantity: n})
	}
	return out
}

func etag(version uint64) string {
	if version == 0 {
		return `"0.0.r"`
	}
	return fmt.Sprintf(`"inc.%d.r"`, version)
}

func of(text string) with    { return func(o *history.Op) { o.Lines = lines(text) } }
func unique(o *history.Op)   { o.Unique = true }
func replayed(o *history.Op) { o.Replayed = true }
func last(o *history.Op)     { o.Last = true }
func from(cart string) with  { return func(o *history.Op) { o.From = cart } }
func by(client string) with  { return func(o *history.Op) { o.Client = client } }

// shows is what the answer shows: the cart at a version, to which a change led.
func shows(version uint64, text string) with {
	return func(o *history.Op) { o.Version, o.ETag, o.Shown = version, etag(version), lines(text) }
}

// now is the cart that a replay, or a refusal, shows beside it.
func now(version uint64, text string) with {
	return func(o *history.Op) { o.ETag, o.Shown = etag(version), lines(text) }
}

// led is the version that an answer that shows nothing names.
func led(version uint64) with { return func(o *history.Op) { o.Version = version } }

func ifMatch(version uint64) with { return func(o *history.Op) { o.IfMatch = etag(version) } }

// placed is an order that was answered or listed.
func placed(id, text string) with {
	return func(o *history.Op) { o.Ordered = append(o.Ordered, history.Order{ID: id, Lines: lines(text)}) }
}

func during(sent, answered int) with {
	return func(o *history.Op) {
		o.Sent, o.Answered = time.Duration(sent)*time.Millisecond, time.Duration(answered)*time.Millisecond
	}
}

// unknown is three attempts that got no answer.
func unknown(o *history.Op) {
	o.Outcome, o.Status, o.Code = history.Unknown, 0, "reset"
	for range 3 {
		o.Attempts = append(o.Attempts, history.Attempt{Sent: o.Sent, Answered: o.Answered, Code: "reset"})
	}
}

// again is an answer to the second attempt.
func again(o *history.Op) {
	o.Attempts = []history.Attempt{{Sent: o.Sent, Answered: o.Sent, Code: "reset"}, {Sent: o.Sent, Answered: o.Answered, Status: o.Status}}
}

// broken is an attempt without an answer; cutShort, one of which something came.
func broken(code string) with {
	return func(o *history.Op) {
		o.Outcome, o.Status, o.Code = history.Unknown, 0, code
		o.Attempts = []history.Attempt{{Sent: o.Sent, Answered: o.Answered, Code: code}}
	}
}

func cutShort(o *history.Op) { o.Attempts[0].ServedBy = "gateway-1" }
func alone(o *history.Op)    { o.Protocol = "new-connection" }

func refused(status int, code string) with {
	return func(o *history.Op) { o.Outcome, o.Status, o.Code = history.Failed, status, code }
}

// judge judges the tale, with the check and the limits asked for; none but the
// check asked for is made.
func (t *tale) judge(tb testing.TB, check string, limits Limits) Verdict {
	tb.Helper()
	if check != "" {
		limits.Checks = []string{check}
	}
	v, err := judged(func(each func(history.Record) error) error {
		for _, r := range t.records {
			if err := each(r); err != nil {
				return err
			}
		}
		return nil
	}, limits)
	if err != nil {
		tb.Fatal(err)
	}
	return v
}

// texts are the findings, "check cart: text".
func (v Verdict) texts() []string {
	var texts []string
	for _, f := range v.Findings {
		texts = append(texts, fmt.Sprintf("%s %s: %s", f.Check, f.Cart, f.Text))
	}
	slices.Sort(texts)
	return texts
}
