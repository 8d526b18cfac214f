package e2e_test

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"coatcheck/trial/promise"
)

// tamper is a connection to the shop that is broken on purpose.
type tamper func(r *http.Request) (*http.Response, error)

func (t tamper) RoundTrip(r *http.Request) (*http.Response, error) { return t(r) }

// TestPromises: a real shop keeps each promise, and each script sees the shop
// break it.
func TestPromises(t *testing.T) {
	_, url := openShop(t)
	without := func(header string) func() tamper {
		return func() tamper {
			return func(r *http.Request) (*http.Response, error) {
				r.Header.Del(header)
				return http.DefaultTransport.RoundTrip(r)
			}
		}
	}
	// swallowed acknowledges the second request of a kind without sending it, with
	// the answer to the first.
	swallowed := func(method, path string) func() tamper {
		return func() tamper {
			var n atomic.Int32
			var mu sync.Mutex
			var first []byte
			var header http.Header
			return func(r *http.Request) (*http.Response, error) {
				if r.Method != method || r.URL.Path != path {
					return http.DefaultTransport.RoundTrip(r)
				}
				mu.Lock()
				defer mu.Unlock()
				if n.Add(1) == 2 {
					return &http.Response{StatusCode: 200, Header: header, Body: io.NopCloser(strings.NewReader(string(first)))}, nil
				}
				resp, err := http.DefaultTransport.RoundTrip(r)
				if err != nil {
					return nil, err
				}
				defer func() { _ = resp.Body.Close() }()
				first, err = io.ReadAll(resp.Body)
				header = resp.Header.Clone()
				resp.Body = io.NopCloser(strings.NewReader(string(first)))
				return resp, err
			}
		}
	}
	broken := map[string]map[string]func() tamper{
		"add-read": {"an add is lost": swallowed("POST", "/v1/cart/items"), "all guests are one": func() tamper {
			var mu sync.Mutex
			var ticket string
			return func(r *http.Request) (*http.Response, error) {
				mu.Lock()
				defer mu.Unlock()
				if ticket != "" {
					r.Header.Set("Cookie", ticket)
				}
				resp, err := http.DefaultTransport.RoundTrip(r)
				if err == nil && len(resp.Cookies()) > 0 {
					ticket = resp.Cookies()[0].Name + "=" + resp.Cookies()[0].Value
				}
				return resp, err
			}
		}},
		"idempotent":      {"keys are ignored": without("Idempotency-Key")},
		"if-match":        {"conditions are ignored": without("If-Match")},
		"concurrent-adds": {"an update is lost": swallowed("POST", "/v1/cart/items")},
		"merge-at-log-in": {"the guest's cart is left behind": func() tamper {
			return func(r *http.Request) (*http.Response, error) {
				if r.URL.Path == "/v1/sessions" {
					r.Header.Del("Cookie")
				}
				return http.DefaultTransport.RoundTrip(r)
			}
		}},
		"checkout": {"an add is lost": swallowed("POST", "/v1/cart/items"), "any version will do": func() tamper {
			var mu sync.Mutex
			etag := ""
			return func(r *http.Request) (*http.Response, error) {
				mu.Lock()
				defer mu.Unlock()
				if r.Header.Get("If-Match") != "" {
					r.Header.Set("If-Match", etag)
				}
				resp, err := http.DefaultTransport.RoundTrip(r)
				if err == nil && resp.Header.Get("ETag") != "" {
					etag = resp.Header.Get("ETag")
				}
				return resp, err
			}
		}},
		"log-out": {"the session lives on": func() tamper {
			return func(r *http.Request) (*http.Response, error) {
				if r.Method != http.MethodDelete {
					return http.DefaultTransport.RoundTrip(r)
				}
				header := http.Header{"Set-Cookie": {"session=; Max-Age=0", "guest=; Max-Age=0"}}
				return &http.Response{StatusCode: http.StatusNoContent, Header: header, Body: http.NoBody}, nil
			}
		}},
	}
	for _, p := range promise.All() {
		t.Run(p.Name, func(t *testing.T) {
			if err := p.Try(t.Context(), url, nil); err != nil {
				t.Fatal(err)
			}
			if len(broken[p.Name]) == 0 {
				t.Fatal("no way to break it is known")
			}
			for how, transport := range broken[p.Name] {
				err := p.Try(t.Context(), url, transport())
				if err == nil {
					t.Errorf("%s, and it was not seen", how)
				}
				t.Logf("%s: %v", how, err)
			}
		})
	}
}
