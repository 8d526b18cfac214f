package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"go.opentelemetry.io/otel/trace"

	"coatcheck/chassis/fault"
)

// retryAfter is what 429 and 503 ask a client to wait at least.
const retryAfter = time.Second

// problem is an error as RFC 9457 has it, with a stable word for programs.
type problem struct {
	Type     string `json:"type"`
	Title    string `json:"title"`
	Status   int    `json:"status"`
	Detail   string `json:"detail"`
	Instance string `json:"instance"`
	Code     string `json:"code"`
	TraceID  string `json:"trace_id,omitzero"`
	Cart     *cart  `json:"cart,omitzero"`
}

// refusal is an error with a status that no kind of fault stands for, or with a
// cart to show.
type refusal struct {
	status       int
	code, detail string
	cart         *cart
	after        time.Duration // to wait before another try, if that is known
}

func refuse(status int, code, detail string) *refusal {
	return &refusal{status: status, code: code, detail: detail}
}

func (r *refusal) Error() string { return r.code + ": " + r.detail }

// statusOf is the only place where a kind of fault becomes a status.
func statusOf(kind fault.Kind) int {
	switch kind {
	case fault.Invalid:
		return http.StatusBadRequest
	case fault.Refused:
		return http.StatusUnprocessableEntity
	case fault.Unauthenticated:
		return http.StatusUnauthorized
	case fault.Forbidden:
		return http.StatusForbidden
	case fault.Absent:
		return http.StatusNotFound
	case fault.Conflict:
		return http.StatusConflict
	case fault.Stale:
		return http.StatusPreconditionFailed
	case fault.Exhausted:
		return http.StatusTooManyRequests
	case fault.Unavailable:
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}

// toRefusal says how an error is answered.
func toRefusal(err error) *refusal {
	if own, ok := errors.AsType[*refusal](err); ok {
		return own
	}
	f := fault.From(err)
	status := statusOf(f.Kind)
	switch f.Code {
	case "cart_moved", "account_closed":
		status = http.StatusConflict
	case "login_required":
		status = http.StatusUnauthorized
	}
	r := refuse(status, f.Code, f.Message)
	r.after = f.After
	return r
}

// setCommon sets what every answer carries; last is of its connection.
func (g *Gateway) setCommon(w *answer, last bool) {
	w.set("Served-By", g.instance)
	w.set("X-Content-Type-Options", "nosniff")
	w.set("Cache-Control", "no-store")
	if last {
		w.set("Connection", "close") // on HTTP/2 net/http makes a GOAWAY of it
	}
}

// bodies are what answers are written in before they are sent, of those that were
// no larger than most.
var bodies = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// reply answers value as JSON.
func reply(w *answer, status int, value any) error {
	body := bodies.Get().(*bytes.Buffer)
	body.Reset()
	err := encodeJSON(body, value)
	if err != nil {
		return fmt.Errorf("encoding the answer: %w", err)
	}
	body.WriteByte('\n')
	send(w, status, "application/json", body.Bytes())
	if body.Cap() <= 16<<10 {
		bodies.Put(body)
	}
	return nil
}

// replyEmpty answers a status that has no body.
func replyEmpty(w *answer, status int) error {
	w.WriteHeader(status)
	return nil
}

// shortBody is the length, in bytes, up to which net/http tells by itself how
// long a body is, for less than a header of ours costs.
const shortBody = 2048

// send is the one writer of answers with a body.
func send(w *answer, status int, contentType string, body []byte) {
	w.set("Content-Type", contentType)
	if len(body) > shortBody {
		w.set("Content-Length", strconv.Itoa(len(body)))
	}
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that has gone needs no answer
}

// fail answers an error.
func (g *Gateway) fail(w *answer, r *http.Request, err error) {
	p := toRefusal(err)
	switch p.status {
	case http.StatusUnauthorized:
		challenge := `Bearer realm="coatcheck"`
		if p.code == "invalid_token" {
			challenge += `, error="invalid_token"`
		}
		w.set("WWW-Authenticate", challenge)
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		w.set("Retry-After", strconv.Itoa(int(math.Ceil(max(p.after, retryAfter).Seconds()))))
	}
	if p.code == "invalid_session" {
		g.clearCookie(w, g.cookies.session)
	}
	w.err = err
	body, err := json.Marshal(problem{
		Type:     "about:blank",
		Title:    http.StatusText(p.status),
		Status:   p.status,
		Detail:   p.detail,
		Instance: r.URL.EscapedPath(),
		Code:     p.code,
		TraceID:  w.id.String(),
		Cart:     p.cart,
	})
	if err != nil {
		panic(fmt.Sprintf("encoding a problem: %v", err))
	}
	send(w, p.status, "application/problem+json", append(body, '\n'))
}

// recover answers 500 for a handler that panicked.
func (g *Gateway) recover(a *answer, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if p == http.ErrAbortHandler || a.status != 0 {
		panic(http.ErrAbortHandler) // the answer is begun: only a cut says that it is not whole
	}
	g.log.ErrorContext(r.Context(), "panic", "route", a.route, a.named(r.Context()), "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	g.fail(a, r, fault.New(fault.Internal, "internal", "Something went wrong on our side."))
}

// answer remembers what was answered, for the log and the metrics.
type answer struct {
	http.ResponseWriter
	id     trace.TraceID // names the request in the log and in a problem
	status int
	route  string
	err    error
	body   []byte     // of the request, as admit read it
	end    time.Time  // of the time that admit gave it
	values [12]string // see set
	used   int
	rates  []byte // see left
	room   [64]byte
}

// set sets a header. Its value stays here: by itself it would be an allocation,
// and there are a dozen.
func (a *answer) set(name, value string) {
	h := a.Header()
	name = http.CanonicalHeaderKey(name)
	if before := h[name]; len(before) == 1 {
		before[0] = value
		return
	}
	if a.used == len(a.values) {
		h[name] = []string{value}
		return
	}
	a.values[a.used] = value
	h[name] = a.values[a.used : a.used+1 : a.used+1]
	a.used++
}

// left says with the answer how many requests of a limit are left; there are more
// within a second.
func (a *answer) left(limit string, requests int) {
	if a.rates == nil {
		a.rates = a.room[:0]
	} else {
		a.rates = append(a.rates, ", "...)
	}
	a.rates = append(append(append(a.rates, '"'), limit...), `";r=`...)
	a.rates = append(strconv.AppendInt(a.rates, int64(max(requests, 0)), 10), ";t=1"...)
}

func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
		if a.rates != nil {
			a.set(rateLimit, string(a.rates))
		}
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(b []byte) (int, error) {
	if a.status == 0 {
		a.WriteHeader(http.StatusOK)
	}
	return a.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }
