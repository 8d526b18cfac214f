package promise

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// How a logical request is tried: three attempts, a second apart, each longer
// than a gateway takes for all its own tries.
const (
	attempts     = 3
	attemptEvery = time.Second
	attemptLimit = 2500 * time.Millisecond
)

// browser is one client: a cookie jar and a connection. It sends its cookies over
// plain HTTP too, Secure or not, as what ends TLS in front of a shop does.
type browser struct {
	url       string
	transport http.RoundTripper
	cookies   map[string]string
}

// request is one logical request. The zero want is any success.
type request struct {
	method, path string
	body         any
	key          string // Idempotency-Key; "" draws one
	ifMatch      string
	want         int
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	cart   cart // or the order, or the cart in a problem
	body   []byte
}

type cart struct {
	ID      string `json:"id"`
	Version int    `json:"version"`
	Items   []item `json:"items"`
}

type item struct {
	SKU      string `json:"sku"`
	Quantity int    `json:"quantity"`
}

func (c cart) units() (n int) {
	for _, i := range c.Items {
		n += i.Quantity
	}
	return n
}

// do sends the request until it is answered. An error says that it never was, or
// that the answer is not the one that is wanted.
func (b *browser) do(ctx context.Context, r request) (a answer, err error) {
	if r.key == "" {
		r.key = rand.Text()
	}
	for n := range attempts {
		if n > 0 {
			select {
			case <-ctx.Done():
				return a, ctx.Err()
			case <-time.After(attemptEvery):
			}
		}
		a, err = b.attempt(ctx, r)
		if err == nil && !slices.Contains([]int{http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout}, a.status) {
			break
		}
	}
	switch {
	case err != nil:
		return a, fmt.Errorf("%s %s: %w", r.method, r.path, err)
	case r.want == 0 && a.status/100 == 2, r.want == a.status:
		return a, nil
	case r.want == 0:
		return a, fmt.Errorf("%s %s answers %d, want success: %s", r.method, r.path, a.status, a.code())
	}
	return a, fmt.Errorf("%s %s answers %d, want %d: %s", r.method, r.path, a.status, r.want, a.code())
}

func (b *browser) attempt(ctx context.Context, r request) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptLimit)
	defer cancel()
	var body io.Reader
	if r.body != nil {
		content, err := json.Marshal(r.body)
		if err != nil {
			return answer{}, err
		}
		body = bytes.NewReader(content)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, b.url+r.path, body)
	if err != nil {
		return answer{}, err
	}
	for name, value := range b.cookies {
		req.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	if r.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if r.method != http.MethodGet {
		req.Header.Set("Idempotency-Key", r.key)
	}
	if r.ifMatch != "" {
		req.Header.Set("If-Match", r.ifMatch)
	}
	resp, err := b.transport.RoundTrip(req)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	a := answer{status: resp.StatusCode, header: resp.Header}
	if a.body, err = io.ReadAll(io.LimitReader(resp.Body, 1<<20)); err != nil {
		return answer{}, err
	}
	for _, c := range resp.Cookies() {
		if c.MaxAge < 0 {
			delete(b.cookies, c.Name)
		} else {
			b.cookies[c.Name] = c.Value
		}
	}
	if strings.Contains(resp.Header.Get("Content-Type"), "json") {
		var problem struct {
			cart
			Cart *cart `json:"cart"`
		}
		if err := json.Unmarshal(a.body, &problem); err != nil {
			return answer{}, fmt.Errorf("not JSON: %w", err)
		}
		if a.cart = problem.cart; problem.Cart != nil {
			a.cart = *problem.Cart
		}
	}
	return a, nil
}

// code is the problem's code, "" if the answer is none.
func (a answer) code() string {
	var problem struct {
		Code string `json:"code"`
	}
	_ = json.Unmarshal(a.body, &problem) // what is no problem has no code
	return problem.Code
}

// read reads the cart.
func (b *browser) read(ctx context.Context) (answer, error) {
	return b.do(ctx, request{method: http.MethodGet, path: "/v1/cart"})
}

// add adds one line.
func (b *browser) add(ctx context.Context, sku string, quantity int) (answer, error) {
	return b.do(ctx, adding(sku, quantity))
}

func adding(sku string, quantity int) request {
	return request{method: http.MethodPost, path: "/v1/cart/items", body: map[string]any{"items": []item{{sku, quantity}}}}
}
