package local

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	askEvery    = 200 * time.Millisecond
	dialTimeout = 500 * time.Millisecond
	acceptPause = 10 * time.Millisecond // after an error
)

// front is the public address: it hands each connection to the next gateway
// that is ready. It knows nothing of HTTP, so that a killed gateway looks to a
// client as it would anywhere: a connection that breaks.
type front struct {
	listener net.Listener
	backends []*backend
	next     atomic.Uint32
	stop     context.CancelFunc

	mu     sync.Mutex
	conns  map[net.Conn]struct{}
	closed bool
}

type backend struct {
	address, admin string
	ready          atomic.Bool
}

// run serves until close.
func (f *front) run() {
	ctx, cancel := context.WithCancel(context.Background())
	f.stop, f.conns = cancel, map[net.Conn]struct{}{}
	for _, b := range f.backends {
		go b.watch(ctx)
	}
	go f.accept(ctx)
}

// accept goes on after an error such as that of too many open files, which a
// shop that stalls can lead to: the front must not be what never recovers.
func (f *front) accept(ctx context.Context) {
	for ctx.Err() == nil {
		conn, err := f.listener.Accept()
		if err != nil {
			time.Sleep(acceptPause)
			continue
		}
		go f.serve(conn)
	}
}

// close ends every connection.
func (f *front) close() {
	f.stop()
	_ = f.listener.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for conn := range f.conns {
		_ = conn.Close()
	}
}

// down tells that the process at address has ended, sooner than asking would.
func (f *front) down(address string) {
	for _, b := range f.backends {
		if b.address == address {
			b.ready.Store(false)
		}
	}
}

// watch asks whether the gateway wants connections.
func (b *backend) watch(ctx context.Context) {
	client := &http.Client{Timeout: askEvery + 100*time.Millisecond, Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		resp, err := client.Get("http://" + b.admin + "/readyz")
		if err == nil {
			_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<16))
			_ = resp.Body.Close()
		}
		b.ready.Store(err == nil && resp.StatusCode == http.StatusOK)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// order is the gateways in the order to try: the ready ones in turn, then, in
// case that none takes the connection, the others.
func (f *front) order() []*backend {
	var ready, others []*backend
	for _, b := range f.backends {
		if b.ready.Load() {
			ready = append(ready, b)
		} else {
			others = append(others, b)
		}
	}
	if len(ready) > 0 {
		turn := int(f.next.Add(1)) % len(ready)
		ready = append(ready[turn:len(ready):len(ready)], ready[:turn]...)
	}
	return append(ready, others...)
}

func (f *front) serve(client net.Conn) {
	if !f.keep(client) {
		return
	}
	defer f.drop(client)
	for _, b := range f.order() {
		server, err := net.DialTimeout("tcp", b.address, dialTimeout)
		if err != nil {
			continue
		}
		if f.keep(server) {
			join(client, server)
			f.drop(server)
		}
		return
	}
}

// join copies both ways until the server is done; a client that is done with
// sending still gets its answer.
func join(client, server net.Conn) {
	go func() {
		_, _ = io.Copy(server, client)
		if tcp, ok := server.(*net.TCPConn); ok {
			_ = tcp.CloseWrite()
		}
	}()
	_, _ = io.Copy(client, server)
}

func (f *front) keep(conn net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		_ = conn.Close()
		return false
	}
	f.conns[conn] = struct{}{}
	return true
}

func (f *front) drop(conn net.Conn) {
	_ = conn.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.conns, conn)
}
