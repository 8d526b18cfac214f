package fault

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"coatcheck/trial/local"
)

// echo answers what it is told.
func echo(t *testing.T) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lis.Close() })
	go func() {
		for {
			conn, err := lis.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			}()
		}
	}()
	return lis.Addr().String()
}

// said is how long an answer to one word took.
func said(conn net.Conn, limit time.Duration) (time.Duration, error) {
	began := time.Now()
	_ = conn.SetDeadline(began.Add(limit))
	if _, err := conn.Write([]byte("coat")); err != nil {
		return 0, err
	}
	_, err := io.ReadFull(conn, make([]byte, 4))
	return time.Since(began), err
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func TestNetwork(t *testing.T) {
	n := NewNetwork()
	t.Cleanup(n.Close)
	addrs := map[string]string{}
	for _, way := range [][2]string{{local.Gateway, "cart-1"}, {local.Gateway, "cart-2"}, {local.Cart, "redis"}} {
		addr, err := n.Through(way[0], way[1], echo(t))
		if err != nil {
			t.Fatal(err)
		}
		addrs[way[0]+">"+way[1]] = addr
	}
	shop := newShop(2, 0)
	conns := map[string]net.Conn{}
	for way, addr := range addrs {
		conns[way] = dial(t, addr)
		if _, err := said(conns[way], time.Second); err != nil {
			t.Fatalf("%s: %v", way, err)
		}
	}

	during := func(f Fault, look func()) {
		done := make(chan error)
		go func() { done <- f.Inject(t.Context(), Env{Shop: shop, Network: n}) }()
		time.Sleep(200 * time.Millisecond)
		look()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	during(cut(local.Gateway, local.Cart), func() {
		for way, conn := range conns {
			_, err := said(conn, 100*time.Millisecond)
			if cut := strings.HasPrefix(way, "gateway>"); cut != (err != nil) {
				t.Errorf("while the gateway is cut from the carts, %s: %v", way, err)
			}
		}
	})
	for way, addr := range addrs {
		if _, err := said(dial(t, addr), time.Second); err != nil {
			t.Errorf("after the cut, a new connection %s: %v", way, err)
		}
	}
	during(slow(local.Cart, local.Redis), func() {
		if took, err := said(conns["cart>redis"], 2*time.Second); err != nil || took < 200*time.Millisecond {
			t.Errorf("while cart to redis is slow: %v, %v", took, err)
		}
	})
	if took, err := said(conns["cart>redis"], time.Second); err != nil || took > 100*time.Millisecond {
		t.Errorf("after the slowness: %v, %v", took, err)
	}
	if err := slow(local.Auth, local.Redis).Inject(t.Context(), Env{Shop: shop, Network: n}); err == nil {
		t.Error("a way that is not there was slowed")
	}
}
