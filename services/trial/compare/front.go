package compare

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// routing says which replica a request goes to.
type routing struct {
	needs string // what the front must be able to do for it
	// order returns the replicas in the order to try; ready is never empty.
	order func(r *http.Request, ready []*backend, turn uint64) []*backend
	// answered may add to the answer that b gave.
	answered func(h http.Header, r *http.Request, b *backend)
}

var roundRobin = routing{
	needs:    "any front",
	order:    func(_ *http.Request, ready []*backend, turn uint64) []*backend { return rotate(ready, turn) },
	answered: func(http.Header, *http.Request, *backend) {},
}

func rotate(ready []*backend, turn uint64) []*backend {
	at := int(turn % uint64(len(ready)))
	return append(append([]*backend{}, ready[at:]...), ready[:at]...)
}

// front is the public address of every way. It asks each replica whether it is
// ready, and sends a request on to another one when a connection is refused;
// after that, what became of it is the client's to find out.
type front struct {
	routing
	backends  []*backend
	transport *http.Transport
	server    *http.Server
	url       string
	turn      atomic.Uint64
	stop      context.CancelFunc
	watchers  sync.WaitGroup
}

type backend struct {
	replica
	ready atomic.Bool
	count atomic.Int64 // answers
}

func openFront(replicas []replica, how routing) (*front, error) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	f := &front{
		routing: how, url: "http://" + lis.Addr().String(), stop: cancel,
		transport: &http.Transport{MaxIdleConnsPerHost: 64, DialContext: (&net.Dialer{Timeout: 500 * time.Millisecond}).DialContext},
	}
	f.server = &http.Server{Handler: f, ReadHeaderTimeout: 5 * time.Second}
	for _, r := range replicas {
		b := &backend{replica: r}
		f.backends = append(f.backends, b)
		f.watchers.Go(func() { b.watch(ctx) })
	}
	go func() { _ = f.server.Serve(lis) }()
	return f, nil
}

func (f *front) close() {
	f.stop()
	f.watchers.Wait()
	_ = f.server.Close()
	f.transport.CloseIdleConnections()
}

// watch asks whether the replica wants requests. One that says no, or refuses
// the connection, gets none at once; one that is slow to answer, after a third
// time: a busy machine must not move clients about.
func (b *backend) watch(ctx context.Context) {
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	slow := 0
	for {
		err := readyAt(ctx, client, b.Admin)
		timeout, ok := errors.AsType[net.Error](err)
		if ok && timeout.Timeout() {
			slow++
		} else {
			slow = 0
		}
		if slow == 0 || slow >= 3 {
			b.ready.Store(err == nil)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// awaitReady returns once n replicas are ready.
func (f *front) awaitReady(ctx context.Context, n int) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		ready := 0
		for _, b := range f.backends {
			if b.ready.Load() {
				ready++
			}
		}
		if ready >= n {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.New("the replicas do not become ready")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// ServeHTTP is a request's way through the front.
func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil {
		http.Error(w, "body", http.StatusBadRequest)
		return
	}
	var ready []*backend
	for _, b := range f.backends {
		if b.ready.Load() {
			ready = append(ready, b)
		}
	}
	if len(ready) == 0 {
		http.Error(w, "no replica is ready", http.StatusServiceUnavailable)
		return
	}
	for _, b := range f.order(r, ready, f.turn.Add(1)) {
		resp, err := f.send(r, b, body)
		if refused, ok := errors.AsType[*net.OpError](err); ok && refused.Op == "dial" {
			b.ready.Store(false)
			continue
		}
		if err != nil {
			break
		}
		b.count.Add(1)
		h := w.Header()
		for name, values := range resp.Header {
			h[name] = values
		}
		h.Del("Connection")
		f.answered(h, r, b)
		w.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(w, resp.Body)
		_ = resp.Body.Close()
		return
	}
	http.Error(w, "no answer", http.StatusBadGateway)
}

func (f *front) send(r *http.Request, b *backend, body []byte) (*http.Response, error) {
	out, err := http.NewRequestWithContext(r.Context(), r.Method, "http://"+b.Address+r.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	out.GetBody = nil // sent once
	out.Header = r.Header.Clone()
	return f.transport.RoundTrip(out)
}

// readyAt returns nil if every address answers that it is ready.
func readyAt(ctx context.Context, client *http.Client, admins []string) error {
	for _, admin := range admins {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/readyz", nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return errors.New(admin + " is not ready")
		}
	}
	return nil
}
