package e2e_test

import (
	"context"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"coatcheck/chassis/certtest"
	"coatcheck/chassis/fault"
	"coatcheck/chassis/rpc"
	authv1 "coatcheck/proto/coatcheck/auth/v1"
	"coatcheck/trial/local"
)

// TestServicesOverTLS opens a shop whose services show each other certificates,
// and replaces those while customers come and replicas die: nobody notices, and who
// has no certificate gets no answer.
func TestServicesOverTLS(t *testing.T) {
	ours := certtest.New(t, "ours")
	mounts := map[string]*certtest.Mount{}
	issue := func(role string) map[string][]byte {
		certificate, key := ours.Issue(t, time.Hour, role)
		return certtest.TLS(certificate, key, ours)
	}
	env := map[string][]string{
		local.Auth: {"COATCHECK_TLS_CLIENTS=gateway,cart", "COATCHECK_TLS_KEY_READERS=cart"},
		local.Cart: {"COATCHECK_TLS_CLIENTS=gateway"},
	}
	for _, role := range []string{local.Gateway, local.Auth, local.Cart} {
		m := certtest.NewMount(t, issue(role))
		mounts[role] = m
		env[role] = append(env[role], "COATCHECK_TLS_CERT_FILE="+m.Path("tls.crt"), "COATCHECK_TLS_KEY_FILE="+m.Path("tls.key"), "COATCHECK_TLS_CA_FILE="+m.Path("ca.crt"))
	}
	state := t.TempDir()
	shop, err := local.Start(local.Options{State: state, Bin: bin, Gateways: 2, Auths: 2, Carts: 2, RestartDelay: 200 * time.Millisecond, Env: env})
	if err != nil {
		t.Fatal(err)
	}
	defer shop.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	// It asks every probe.
	if err := shop.AwaitReady(ctx); err != nil {
		t.Fatalf("%v\n%s", err, logs(t, filepath.Join(state, "log"))["cart-1.log"])
	}

	// as makes a connection with the certificate, or in plain text.
	as := func(addr string, p *certtest.Mount) *grpc.ClientConn {
		t.Helper()
		settings := rpc.TLSSettings{}
		if p != nil {
			settings = rpc.TLSSettings{Cert: p.Path("tls.crt"), Key: p.Path("tls.key"), CA: p.Path("ca.crt")}
		}
		opened, err := rpc.OpenTLS(ctx, settings, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		conn, err := rpc.Dial(addr, rpc.NewClientMetrics(prometheus.NewRegistry()), opened.DialOptions()...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	plain := func(addr string, p *certtest.Mount) error {
		t.Helper()
		conn := as(addr, p)
		defer func() { _ = conn.Close() }()
		try, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		return rpc.AwaitReady(try, conn)
	}
	stranger := certtest.NewMount(t, issue("redis"))
	for _, p := range shop.Processes() {
		switch p.Role {
		case local.Auth, local.Cart:
			if plain(p.Address, nil) == nil {
				t.Errorf("%s takes calls without TLS", p.Name)
			}
			if plain(p.Address, stranger) == nil {
				t.Errorf("%s takes calls of anybody with a certificate", p.Name)
			}
			if err := plain(p.Address, mounts[local.Gateway]); err != nil {
				t.Errorf("%s does not take the gateway's: %v", p.Name, err)
			}
		}
	}

	for _, p := range shop.Processes() {
		if p.Role != local.Auth {
			continue
		}
		cart, gateway := authv1.NewAuthServiceClient(as(p.Address, mounts[local.Cart])), authv1.NewAuthServiceClient(as(p.Address, mounts[local.Gateway]))
		if _, err := cart.ListSigningKeys(ctx, &authv1.ListSigningKeysRequest{}); err != nil {
			t.Errorf("%s: a cart gets no keys: %v", p.Name, err)
		}
		someone := &authv1.DeleteUserRequest{UserId: "u_AAAAAAAAAAAAAAAAAAAAAA"}
		if _, err := cart.DeleteUser(ctx, someone); !fault.Is(err, fault.Forbidden) {
			t.Errorf("%s: a cart deletes users: %v", p.Name, err)
		}
		if _, err := gateway.DeleteUser(ctx, someone); err != nil {
			t.Errorf("%s: the gateway does not: %v", p.Name, err)
		}
	}

	var answered, failed atomic.Int64
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-over:
				return
			case <-time.After(10 * time.Millisecond):
			}
			resp, err := http.Get("http://" + shop.Address() + "/v1/cart")
			if err != nil {
				t.Error(err)
				failed.Add(1)
				continue
			}
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				failed.Add(1)
			}
			answered.Add(1)
		}
	}()
	for role, m := range mounts {
		m.Replace(t, issue(role))
		time.Sleep(1300 * time.Millisecond)
		// Its successor meets the others' certificates anew.
		if role != local.Gateway {
			if err := shop.Kill(role+"-1", syscall.SIGKILL); err != nil {
				t.Error(err)
			}
			time.Sleep(2 * time.Second)
		}
	}
	close(over)
	<-ended
	if answered.Load() < 300 || failed.Load() > 0 {
		t.Errorf("%d requests, of which %d failed", answered.Load(), failed.Load())
	}
	t.Logf("%d requests", answered.Load())
}
