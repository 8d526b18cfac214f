package tour

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// walkThrough goes through the tour on a fake and returns what it printed.
func walkThrough(t *testing.T, f *fakeShop, transport http.RoundTripper) (pass bool, printed string) {
	t.Helper()
	t.Cleanup(f.server.Close)
	var out bytes.Buffer
	pass, err := Run(t.Context(), f, Options{URL: f.server.URL, Out: &out, Transport: transport, PerSecond: 100, Outage: 300 * time.Millisecond, settle: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	last := lines[len(lines)-1]
	if want := map[bool]string{true: "VERDICT  PASS  ", false: "VERDICT  FAIL  "}[pass]; !strings.HasPrefix(last, want) {
		t.Errorf("the last line is %q, want %q", last, want)
	}
	return pass, out.String()
}

func TestTourPassesOnASoundShop(t *testing.T) {
	t.Parallel()
	pass, out := walkThrough(t, newFakeShop(), nil)
	if !pass {
		t.Errorf("FAIL:\n%s", out)
	}
	for _, part := range []string{"kill -9 gateway-1", "kill -9 auth-1", "kill -9 cart-2", "lost 0  doubled 0  failed 0", "killed 4 of 4"} {
		if !strings.Contains(out, part) {
			t.Errorf("no %q in\n%s", part, out)
		}
	}
}

func TestTourFailsOnABrokenShop(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(*fakeShop)
		want  string
	}{
		{"a key applied twice", func(f *fakeShop) { f.forgetsKeys = true }, "doubled 3"},
		{"an empty cart in the outage", func(f *fakeShop) { f.emptyOutage = true }, "times a cart was shown with less"},
		{"500 in the outage", func(f *fakeShop) { f.wrongOutage = true }, "neither a success nor 503"},
		{"failures after a kill", func(f *fakeShop) { f.failsOnKill = true }, "requests failed while Redis was up"},
		{"a change lost in the crash", func(f *fakeShop) { f.losesOnCrash = true }, "are lost"},
		{"If-Match ignored", func(f *fakeShop) { f.ignoresMatch = true }, "not so: a change of a stale version"},
		{"a session outlives log-out", func(f *fakeShop) { f.staysLogged = true }, "not so: a copied session cookie"},
		{"a guest's cart dropped at log-in", func(f *fakeShop) { f.dropsMerge = true }, "are lost"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := newFakeShop()
			test.spoil(f)
			pass, out := walkThrough(t, f, nil)
			if pass || !strings.Contains(out, test.want) {
				t.Errorf("pass %v, want FAIL with %q:\n%s", pass, test.want, out)
			}
		})
	}
}

// dropOneAdd acknowledges the n-th add itself and does not pass it on.
type dropOneAdd struct {
	n    int64
	seen atomic.Int64
}

func (d *dropOneAdd) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Method == http.MethodPost && strings.HasSuffix(req.URL.Path, "/cart/items") && d.seen.Add(1) == d.n {
		return &http.Response{
			StatusCode: 200, ProtoMajor: 1, ProtoMinor: 1, Request: req,
			Header: http.Header{"Content-Type": {"application/json"}},
			Body:   io.NopCloser(strings.NewReader(`{"version": 1, "items": []}`)),
		}, nil
	}
	return http.DefaultTransport.RoundTrip(req)
}

func TestTourFindsOneDroppedAdd(t *testing.T) {
	t.Parallel()
	pass, out := walkThrough(t, newFakeShop(), &dropOneAdd{n: 20})
	if pass || !strings.Contains(out, "lost 1  doubled 0") {
		t.Errorf("pass %v, want lost 1:\n%s", pass, out)
	}
}

func TestTourBrokenOffIsAnError(t *testing.T) {
	f := newFakeShop()
	t.Cleanup(f.server.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if pass, err := Run(ctx, f, Options{URL: f.server.URL, Out: io.Discard}); pass || err == nil {
		t.Errorf("pass %v, %v", pass, err)
	}
}

// answers is a shop that gives one answer after the other, the last for ever.
func answers(t *testing.T, statuses ...int) (url string, keys func() []string) {
	t.Helper()
	var got []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status := statuses[min(len(got), len(statuses)-1)]
		got = append(got, r.Header.Get("Idempotency-Key"))
		if status == 0 {
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(server.Close)
	return server.URL, func() []string { return got }
}

func TestLogicalRequest(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name                string
		statuses            []int
		attempts            int
		acknowledged, known bool
		least               time.Duration
	}{
		{"at once", []int{200}, 1, true, true, 0},
		{"after a broken connection", []int{0, 200}, 2, true, true, time.Second},
		{"after 502, 504", []int{502, 504, 200}, 3, true, true, 2 * time.Second},
		{"never", []int{503}, 3, false, false, 2 * time.Second},
		{"refused", []int{422}, 1, false, true, 0},
		{"refused after no answer", []int{0, 422}, 2, false, false, time.Second},
		{"a defect is not retried", []int{500}, 1, false, false, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			url, keys := answers(t, test.statuses...)
			rec := newRecorder()
			begun := time.Now()
			newClient("ada", url, http.DefaultTransport, rec).add(t.Context(), patient(), map[string]int{"mug": 1})
			took := time.Since(begun)
			q := rec.take().Requests[0]
			if len(q.Attempts) != test.attempts || q.Acknowledged != test.acknowledged || q.Unknown == test.known && !test.acknowledged {
				t.Errorf("%+v", q)
			}
			if took < test.least || took > 5*time.Second {
				t.Errorf("took %v", took)
			}
			for _, key := range keys() {
				if key == "" || key != keys()[0] {
					t.Errorf("keys %q", keys())
				}
			}
		})
	}
}
