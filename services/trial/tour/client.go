package tour

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// policy is how long a logical request is tried.
type policy struct {
	attempts int
	every    time.Duration // from the start of one attempt to that of the next, at least
	limit    time.Duration // of all attempts together
}

// attemptLimit is more than a gateway takes for all its own tries.
const attemptLimit = 2500 * time.Millisecond

// patient, once and insistent: what a shopper does, what a probe of an outage
// does, and what finds the end of one.
func patient() policy { return policy{attempts: 3, every: time.Second, limit: 5 * time.Second} }
func once() policy    { return policy{attempts: 1, limit: attemptLimit} }
func insistent() policy {
	return policy{attempts: 1000, every: 50 * time.Millisecond, limit: 10 * time.Second}
}

// client is one browser: a cookie jar, and a name under which its cart counts.
type client struct {
	cart string
	url  string
	http *http.Client
	rec  *recorder
	// units is how many units this client knows to be in its cart.
	units atomic.Int64
}

func newClient(cart, url string, transport http.RoundTripper, rec *recorder) *client {
	jar, _ := cookiejar.New(nil) // never fails
	return &client{cart: cart, url: url, http: &http.Client{Transport: transport, Jar: jar, Timeout: attemptLimit}, rec: rec}
}

// call is one logical request.
type call struct {
	kind         Kind
	method, path string
	body         any
	ifMatch      string
	key          string // the Idempotency-Key; "" draws one
	lines        map[string]int
	want         []int // the statuses that are right; none: any success
	policy       policy
}

// reply is the last answer to a call; Status is 0 if there was none.
type reply struct {
	Status     int
	Header     http.Header
	Cart       cart
	OK         bool
	retryAfter bool
	body       []byte
}

// cart is what the tour reads of a cart or an order.
type cart struct {
	ID      string `json:"id"`
	Version int    `json:"version"`
	Items   []struct {
		SKU      string `json:"sku"`
		Quantity int    `json:"quantity"`
	} `json:"items"`
}

func (c cart) lines() map[string]int {
	lines := map[string]int{}
	for _, item := range c.Items {
		lines[item.SKU] += item.Quantity
	}
	return lines
}

func (c cart) units() int {
	n := 0
	for _, item := range c.Items {
		n += item.Quantity
	}
	return n
}

// do sends the call, retries it where that can help, and records it.
func (c *client) do(ctx context.Context, call call) reply {
	if call.policy.attempts == 0 {
		call.policy = patient()
	}
	if call.key == "" {
		call.key = rand.Text()
	}
	request := Request{Kind: call.kind, Cart: c.cart, Lines: call.lines, Floor: int(c.units.Load())}
	begun, phase := time.Now(), c.rec.phase.Load()
	ctx, cancel := context.WithTimeout(ctx, call.policy.limit)
	defer cancel()
	var last reply
	for n := range call.policy.attempts {
		if wait := time.Until(begun.Add(time.Duration(n) * call.policy.every)); n > 0 && !pause(ctx, wait) {
			break
		}
		attempted := c.rec.phase.Load()
		last = c.attempt(ctx, call)
		request.Attempts = append(request.Attempts, Attempt{Status: last.Status, RetryAfter: last.retryAfter, Outage: c.rec.touched(attempted)})
		if !retry(last.Status) || ctx.Err() != nil {
			break
		}
	}
	success := last.Status >= 200 && last.Status < 300
	last.OK = success && len(call.want) == 0 || slices.Contains(call.want, last.Status)
	request.OK, request.Acknowledged = last.OK, success
	// A refusal at the first attempt was surely not applied. After others, and
	// without an answer, or with one that says that nothing is known, it may have been.
	request.Unknown = !success && (retry(last.Status) || last.Status >= 500 || len(request.Attempts) > 1)
	request.Outage = c.rec.touched(phase)
	switch {
	case call.kind == Read:
		request.Seen = last.Cart.units()
	case call.kind == Add && success:
		for _, n := range call.lines {
			c.units.Add(int64(n))
		}
	case call.kind == Checkout && success:
		request.Order, request.Lines = last.Cart.ID, last.Cart.lines()
	}
	c.rec.request(request)
	return last
}

// attempt is one HTTP request.
func (c *client) attempt(ctx context.Context, call call) reply {
	var body io.Reader
	if call.body != nil {
		content, err := json.Marshal(call.body)
		if err != nil {
			return reply{}
		}
		body = bytes.NewReader(content)
	}
	req, err := http.NewRequestWithContext(ctx, call.method, c.url+call.path, body)
	if err != nil {
		return reply{}
	}
	// Else net/http would re-send a change by itself, since it carries a key,
	// and the tour's count of attempts would be wrong.
	req.GetBody = nil
	if call.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if call.method != http.MethodGet {
		req.Header.Set("Idempotency-Key", call.key)
	}
	if call.ifMatch != "" {
		req.Header.Set("If-Match", call.ifMatch)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return reply{}
	}
	defer func() { _ = resp.Body.Close() }()
	content, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return reply{} // an answer that breaks off is none
	}
	answer := reply{Status: resp.StatusCode, Header: resp.Header, body: content, retryAfter: resp.Header.Get("Retry-After") != ""}
	_ = json.Unmarshal(content, &answer.Cart) // what is no cart stays empty, and shows as such
	return answer
}

// retry tells whether the same request may be answered another time.
func retry(status int) bool {
	switch status {
	case 0, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// pause waits, and tells whether ctx is still good.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return ctx.Err() == nil
	}
}

// served names the replicas in an answer.
func (r reply) served() []string {
	var names []string
	for _, header := range []string{"Served-By", "Served-By-Cart"} {
		if name := strings.TrimSpace(r.Header.Get(header)); name != "" {
			names = append(names, name)
		}
	}
	return names
}

// read reads the cart.
func (c *client) read(ctx context.Context, p policy) reply {
	return c.do(ctx, call{kind: Read, method: http.MethodGet, path: "/v1/cart", policy: p})
}

// add adds lines to the cart.
func (c *client) add(ctx context.Context, p policy, lines map[string]int) reply {
	return c.do(ctx, adding(p, lines))
}

func adding(p policy, lines map[string]int) call {
	type line struct {
		SKU      string `json:"sku"`
		Quantity int    `json:"quantity"`
	}
	var items []line
	for _, sku := range sorted(lines) {
		items = append(items, line{sku, lines[sku]})
	}
	return call{kind: Add, method: http.MethodPost, path: "/v1/cart/items", body: map[string]any{"items": items}, lines: lines, policy: p}
}
