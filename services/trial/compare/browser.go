package compare

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"sync"
	"time"
)

// browser is one client: cookies, and the address it comes from.
type browser struct {
	http *http.Client
	url  string

	mu      sync.Mutex
	cookies map[string]string
	bearer  string // an access token
	address string
}

func newBrowser(client *http.Client, url, address string) *browser {
	return &browser{http: client, url: url, cookies: map[string]string{}, address: address}
}

// copy is another browser with the same cookies, at another URL if one is given.
func (b *browser) copy(url string) *browser {
	b.mu.Lock()
	defer b.mu.Unlock()
	other := newBrowser(b.http, b.url, b.address)
	if url != "" {
		other.url = url
	}
	other.cookies, other.bearer = maps.Clone(b.cookies), b.bearer
	return other
}

func (b *browser) move(address string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.address = address
}

// weight is how many bytes of cookies or of a token each request carries.
func (b *browser) weight() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for name, value := range b.cookies {
		if name != pin {
			n += len(name) + len(value) + len("=; ")
		}
	}
	if b.bearer != "" {
		n += len("Authorization: Bearer ") + len(b.bearer)
	}
	return n
}

// answer is what is read of any answer. Status 0: there was none.
type answer struct {
	Status       int    `json:"-"`
	ServedBy     string `json:"-"`
	ServedByCart string `json:"-"`
	Code         string `json:"code"`
	AccessToken  string `json:"access_token"`
	cookies      []*http.Cookie
	Items        []struct {
		SKU      string `json:"sku"`
		Quantity int64  `json:"quantity"`
	} `json:"items"`
}

func (a answer) ok() bool { return a.Status >= 200 && a.Status < 300 }

func (a answer) has() map[string]bool {
	has := map[string]bool{}
	for _, i := range a.Items {
		has[i.SKU] = true
	}
	return has
}

// retriable tells whether another try may be answered.
func (a answer) retriable() bool {
	return a.Status == 0 || a.Status == http.StatusBadGateway || a.Status == http.StatusServiceUnavailable || a.Status == http.StatusGatewayTimeout
}

// do is one logical request: three tries, a second apart, under one key.
func (b *browser) do(ctx context.Context, method, path string, body any) answer {
	key := rand.Text()
	start := time.Now()
	for try := 1; ; try++ {
		a := b.once(ctx, method, path, body, key)
		if !a.retriable() || try == 3 || ctx.Err() != nil {
			return a
		}
		select {
		case <-ctx.Done():
			return a
		case <-time.After(time.Until(start.Add(time.Duration(try) * time.Second))):
		}
	}
}

func (b *browser) once(ctx context.Context, method, path string, body any, key string) answer {
	a := b.send(ctx, method, path, body, key)
	b.take(a)
	return a
}

// send is once without keeping the cookies of the answer.
func (b *browser) send(ctx context.Context, method, path string, body any, key string) answer {
	ctx, cancel := context.WithTimeout(ctx, 2500*time.Millisecond)
	defer cancel()
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return answer{}
		}
		content = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, b.url+path, content)
	if err != nil {
		return answer{}
	}
	req.GetBody = nil // sent once
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if method != http.MethodGet {
		req.Header.Set("Idempotency-Key", key)
	}
	b.mu.Lock()
	req.Header.Set(forwardedFor, b.address)
	for name, value := range b.cookies {
		req.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	if b.bearer != "" {
		req.Header.Set("Authorization", "Bearer "+b.bearer)
	}
	b.mu.Unlock()
	resp, err := b.http.Do(req)
	if err != nil {
		return answer{}
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return answer{}
	}
	a := answer{Status: resp.StatusCode, ServedBy: resp.Header.Get("Served-By"), ServedByCart: resp.Header.Get("Served-By-Cart"), cookies: resp.Cookies()}
	_ = json.Unmarshal(text, &a) // what is no JSON has no items
	return a
}

// take keeps the cookies of an answer as a browser does.
func (b *browser) take(a answer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range a.cookies {
		if c.MaxAge < 0 {
			delete(b.cookies, c.Name)
		} else {
			b.cookies[c.Name] = c.Value
		}
	}
}

type line struct {
	SKU      string `json:"sku"`
	Quantity int    `json:"quantity"`
}

func adding(skus ...string) any {
	var lines []line
	for _, sku := range skus {
		lines = append(lines, line{sku, 1})
	}
	return map[string]any{"items": lines}
}

func (b *browser) add(ctx context.Context, skus ...string) answer {
	return b.do(ctx, http.MethodPost, "/v1/cart/items", adding(skus...))
}

func (b *browser) read(ctx context.Context) answer { return b.do(ctx, http.MethodGet, "/v1/cart", nil) }

func (b *browser) sessions(ctx context.Context) answer {
	return b.do(ctx, http.MethodGet, "/v1/sessions", nil)
}

func (b *browser) logIn(ctx context.Context, email string) answer {
	return b.do(ctx, http.MethodPost, "/v1/sessions", map[string]any{"email": email, "password": password})
}
