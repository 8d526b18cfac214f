package defects

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"
)

// wire is the network in front of Redis. While it loses, the connection breaks
// under every so many-th script: the script has arrived, its answer never does.
type wire struct {
	net.Listener
	network, addr string // of Redis
	every         atomic.Int64
	scripts       atomic.Int64
}

func newWire(t testing.TB, network, addr string) *wire {
	t.Helper()
	w := &wire{Listener: listen(t), network: network, addr: addr}
	go serve(w.Listener, w.join)
	return w
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lis.Close() })
	return lis
}

func serve(lis net.Listener, each func(net.Conn)) {
	for {
		conn, err := lis.Accept()
		if err != nil {
			return
		}
		go each(conn)
	}
}

func (w *wire) join(client net.Conn) {
	defer func() { _ = client.Close() }()
	server, err := net.Dial(w.network, w.addr)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	var script atomic.Bool
	go func() {
		defer func() { _ = server.Close() }()
		copyChunks(server, client, func(sent []byte) bool {
			if bytes.Contains(sent, []byte("evalsha")) {
				script.Store(true)
			}
			return true
		})
	}()
	copyChunks(client, server, func([]byte) bool {
		if every := w.every.Load(); script.Swap(false) && every > 0 {
			return w.scripts.Add(1)%every > 0
		}
		return true
	})
}

// copyChunks copies what pass lets pass, until one of the two is done.
func copyChunks(to, from net.Conn, pass func([]byte) bool) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if err != nil || !pass(buf[:n]) {
			return
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// door is the shop's public address. It hands each connection to the next
// gateway that was ready when it last asked, and does not ask twice: a gateway
// that ends without a word breaks whatever is sent there until then.
type door struct {
	net.Listener
	gateways []*replica
	ready    []atomic.Bool
	next     atomic.Uint64
}

const askEvery = 50 * time.Millisecond

func newDoor(t testing.TB, gateways []*replica) *door {
	t.Helper()
	d := &door{Listener: listen(t), gateways: gateways, ready: make([]atomic.Bool, len(gateways))}
	for i := range gateways {
		go d.watch(t, i)
	}
	go serve(d.Listener, d.join)
	return d
}

func (d *door) watch(t testing.TB, i int) {
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for t.Context().Err() == nil {
		resp, err := client.Get("http://" + d.gateways[i].addr + "/readyz")
		if err == nil {
			_ = resp.Body.Close()
		}
		d.ready[i].Store(err == nil && resp.StatusCode == http.StatusOK)
		time.Sleep(askEvery)
	}
}

// open tells whether all gateways are ready.
func (d *door) open() bool {
	for i := range d.ready {
		if !d.ready[i].Load() {
			return false
		}
	}
	return true
}

func (d *door) join(client net.Conn) {
	defer func() { _ = client.Close() }()
	turn := int(d.next.Add(1))
	for i := range d.gateways {
		i = (i + turn) % len(d.gateways)
		if !d.ready[i].Load() {
			continue
		}
		server, err := net.Dial("tcp", d.gateways[i].addr)
		if err != nil {
			return
		}
		defer func() { _ = server.Close() }()
		go func() {
			_, _ = io.Copy(server, client)
			_ = server.(*net.TCPConn).CloseWrite()
		}()
		_, _ = io.Copy(client, server)
		return
	}
}
