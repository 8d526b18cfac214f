package traffic

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"coatcheck/trial/history"
)

// MaxAttempts is how often a logical request is sent. A request that has more in
// the history ended unknown, and was then settled (see client.send).
const MaxAttempts = 3

// timing is how long a client tries.
type timing struct {
	every   time.Duration // from the start of one attempt to that of the next, at least
	attempt time.Duration // for one attempt: more than a gateway takes for all its own tries
	limit   time.Duration // for all attempts of a logical request
	settle  time.Duration // and for settling it, from its start
	insist  time.Duration // for a request of set-up or of the last reading
	calm    time.Duration // after which nothing unknown is under way in the shop any more
	holds   time.Duration // after which a log-out must hold everywhere: the session is shown again
}

func defaultTiming() timing {
	return timing{
		every: time.Second, attempt: 2250 * time.Millisecond, limit: 5 * time.Second,
		settle: 15 * time.Second, insist: 30 * time.Second, calm: 5 * time.Second, holds: time.Second,
	}
}

// The ways to connect.
var protocols = [...]string{"keep-alive", "new-connection", "h2c"}

const maxAnswer = 4 << 20 // bytes

// newTransport is of one client, which sends one request at a time: no two
// clients share a connection.
func newTransport(protocol string) *http.Transport {
	transport := &http.Transport{
		DialContext:        (&net.Dialer{Timeout: time.Second}).DialContext,
		DisableCompression: true,
		DisableKeepAlives:  protocol == "new-connection",
		IdleConnTimeout:    50 * time.Second, // less than the shop's, so that the shop is not the one to hang up
	}
	if protocol == "h2c" {
		transport.Protocols = new(http.Protocols)
		transport.Protocols.SetUnencryptedHTTP2(true)
		transport.Protocols.SetHTTP2(true)
	}
	return transport
}

// request is what is sent, the same at each attempt.
type request struct {
	method, path string
	query        string
	content      []byte
	cookie       string // "guest=…" or "session=…"
	bearer       string // an access token
	key, ifMatch string
}

// body keeps net/http from sending a request again by itself, which it does with
// what it takes for harmless: a GET, or anything with an Idempotency-Key, whose
// body is nil, known to be empty, or to be had again by GetBody. This one is none
// of these, even if it is empty.
type body struct{ *bytes.Reader }

func (body) Close() error { return nil }

// answer is what came back; status 0: nothing, and code says how.
type answer struct {
	status         int
	code           string
	servedBy       string
	retryAfter     bool
	etag           string
	replayed       bool
	guest, session string // cookies that were set, "name=value"
	content        content
}

// content is what is read of all kinds of answers.
type content struct {
	ID       string         `json:"id"`
	Version  uint64         `json:"version"`
	Items    []history.Line `json:"items"`
	Code     string         `json:"code"`
	Cart     *content       `json:"cart"`
	Products []history.Line `json:"products"`
	Orders   []content      `json:"orders"`
	Next     string         `json:"next_page_token"`

	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
}

// send makes a logical request: up to three attempts under one key, at 0 s, 1 s
// and 2 s or later, within 5 s. It fills in op's attempts and outcome.
//
// A change of a guest's cart that is unknown then is settled: repeated under the
// same key once a second until it is known, at most until 15 s after its start,
// since the key does not follow the guest through log-in. These are further
// attempts of the same Op, so that there is one Op for each key; as a logical
// request it has failed all the same, which its number of attempts (or, if they
// were slow, its more than 5 s) shows.
func (c *client) send(ctx context.Context, op *history.Op, req request) answer {
	begun := time.Now()
	timing := c.t.timing
	deadline, settling := begun.Add(timing.limit), false
	for n := 1; ; n++ {
		a := c.attempt(ctx, op, req, deadline)
		next := later(time.Now(), begun.Add(time.Duration(n)*timing.every))
		if !settling && (n == MaxAttempts || !next.Before(deadline)) && op.Outcome == history.Unknown && c.settles(op) {
			deadline, settling = begun.Add(timing.settle), true
		}
		if !again(a.status) || n >= MaxAttempts && !settling || !next.Before(deadline) || !pause(ctx, time.Until(next)) {
			return a
		}
	}
}

// insist repeats what may be repeated until it is answered.
func (c *client) insist(ctx context.Context, op *history.Op, req request) answer {
	deadline := time.Now().Add(c.t.timing.insist)
	for {
		a := c.attempt(ctx, op, req, deadline)
		next := time.Now().Add(c.t.timing.every / 4)
		if !again(a.status) || !next.Before(deadline) || !pause(ctx, time.Until(next)) {
			return a
		}
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// again tells whether another attempt may be answered otherwise.
func again(status int) bool {
	switch status {
	case 0, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// nothing tells whether the attempt surely had no effect, though another may.
func nothing(a history.Attempt) bool {
	if a.Status == http.StatusServiceUnavailable {
		return a.Code == "overloaded" || a.Code == "starting" || a.Code == "draining"
	}
	return a.Status == 0 && a.Code == "refused"
}

// judge is what a client knows from its attempts, in their order:
//
//   - any 2xx: ok. What came before it was the same operation.
//   - 4xx, if no earlier attempt is in doubt: failed.
//   - 4xx after one in doubt: failed, if the shop keeps that refusal under the
//     key, because an attempt that was applied would have been replayed, and one
//     that is still on its way will be refused in the same way; or if the kind
//     has no effect at all. Ok, if it is what the effect looks like from outside.
//     Unknown otherwise: a session that is over says nothing of the time before.
//   - else failed if each surely had no effect, unknown if any may have had one.
func judge(kind history.Kind, attempts []history.Attempt) history.Outcome {
	doubt := false
	for _, a := range attempts {
		switch {
		case a.Status >= 200 && a.Status < 300:
			return history.OK
		case a.Status >= 400 && a.Status < 500:
			if !doubt {
				return history.Failed
			}
			return afterDoubt(kind, a.Code)
		case !nothing(a):
			doubt = true
		}
	}
	if doubt {
		return history.Unknown
	}
	return history.Failed
}

func afterDoubt(kind history.Kind, code string) history.Outcome {
	switch kind {
	case history.Read, history.Probe, history.Orders, history.Reuse:
		return history.Failed
	case history.LogOut:
		if code == "invalid_session" {
			return history.OK
		}
	case history.Register:
		if code == "email_taken" {
			return history.OK // nobody else draws this address
		}
	case history.LogIn, history.Tokens, history.Refresh: // have no key
	default:
		switch code {
		case "stale_version", "quantity_limit", "line_limit":
			return history.Failed
		}
	}
	return history.Unknown
}

// attempt sends once and records it.
func (c *client) attempt(ctx context.Context, op *history.Op, req request, deadline time.Time) answer {
	sent := time.Now()
	limit := sent.Add(c.t.timing.attempt)
	if deadline.Before(limit) {
		limit = deadline
	}
	ctx, cancel := context.WithDeadline(ctx, limit)
	defer cancel()
	a, err := c.roundTrip(ctx, req)
	if err != nil {
		a = answer{code: word(err), servedBy: a.servedBy}
		if c.protocol == "h2c" {
			// A connection that answers nothing would take the next attempt too.
			c.transport.CloseIdleConnections()
			c.transport = newTransport(c.protocol)
		}
	}
	answered := time.Now()
	if len(op.Attempts) == 0 {
		op.Sent = sent.Sub(c.t.Start)
	}
	op.Answered, op.Status, op.Code = answered.Sub(c.t.Start), a.status, a.code
	op.Attempts = append(op.Attempts, history.Attempt{
		Sent: sent.Sub(c.t.Start), Answered: op.Answered, Status: a.status, Code: a.code, ServedBy: a.servedBy, RetryAfter: a.retryAfter,
	})
	op.Outcome = judge(op.Kind, op.Attempts)
	op.ETag, op.Replayed = a.etag, a.replayed
	// Who shows the ticket of a cart that a log-in has moved is a new guest, rightly.
	op.NewGuest = op.NewGuest || a.guest != "" && isGuest(req.cookie) && a.code != "cart_moved"
	return a
}

// roundTrip reads the answer whole. One that breaks off, or whose content is not
// what it says it is, is none.
func (c *client) roundTrip(ctx context.Context, req request) (answer, error) {
	header := http.Header{}
	if req.content != nil {
		header["Content-Type"] = []string{"application/json"}
	}
	if req.cookie != "" {
		header["Cookie"] = []string{req.cookie}
	}
	if req.bearer != "" {
		header["Authorization"] = []string{"Bearer " + req.bearer}
	}
	if req.key != "" {
		header["Idempotency-Key"] = []string{req.key}
	}
	if req.ifMatch != "" {
		header["If-Match"] = []string{req.ifMatch}
	}
	target := c.t.target
	target.Path, target.RawQuery = req.path, req.query
	r := (&http.Request{
		Method: req.method, URL: &target, Host: target.Host, Header: header,
		Body: body{bytes.NewReader(req.content)}, ContentLength: int64(len(req.content)),
	}).WithContext(ctx)
	resp, err := c.transport.RoundTrip(r)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	a := answer{
		servedBy: strings.TrimSpace(resp.Header.Get("Served-By") + " " + resp.Header.Get("Served-By-Cart")),
	}
	c.read.Reset()
	if _, err := c.read.ReadFrom(io.LimitReader(resp.Body, maxAnswer)); err != nil {
		return a, err
	}
	a.status, a.etag = resp.StatusCode, resp.Header.Get("ETag")
	a.replayed = resp.Header.Get("Idempotency-Replayed") == "true"
	a.retryAfter = resp.Header.Get("Retry-After") != ""
	if c.read.Len() > 0 && strings.Contains(resp.Header.Get("Content-Type"), "json") {
		if err := json.Unmarshal(c.read.Bytes(), &a.content); err != nil {
			return a, err
		}
	}
	if a.status >= 400 {
		a.code = a.content.Code
	}
	if len(resp.Header["Set-Cookie"]) > 0 {
		for _, cookie := range resp.Cookies() {
			if cookie.Value == "" || cookie.MaxAge < 0 {
				continue
			}
			switch strings.TrimPrefix(cookie.Name, "__Host-") {
			case guestCookie:
				a.guest = cookie.Name + "=" + cookie.Value
			case "session":
				a.session = cookie.Name + "=" + cookie.Value
			}
		}
	}
	return a, nil
}

const guestCookie = "guest"

// isGuest reports whether a cookie, "name=value", is a guest's ticket.
func isGuest(cookie string) bool {
	name, _, _ := strings.Cut(cookie, "=")
	return strings.TrimPrefix(name, "__Host-") == guestCookie
}

// word names how a connection broke. "refused" is that there never was one, so
// nothing was sent.
func word(err error) string {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return "refused"
	}
	timeout, ok := errors.AsType[net.Error](err)
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), ok && timeout.Timeout():
		return "timeout"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "reset"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return "eof"
	}
	for text, word := range map[string]string{ // net/http does not name these
		"stream error": "reset", "GOAWAY": "reset", "connection lost": "reset", "server closed": "eof", "connection broken": "eof",
	} {
		if strings.Contains(err.Error(), text) {
			return word
		}
	}
	return "other"
}

func itemPath(sku string) string { return "/v1/cart/items/" + url.PathEscape(sku) }
