package rpc

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"coatcheck/chassis/certtest"
	"coatcheck/chassis/config"
	"coatcheck/chassis/fault"
)

// party is one who calls or is called, with files of its own.
type party struct {
	*certtest.Mount
	TLS
}

func newParty(t *testing.T, files map[string][]byte) party {
	t.Helper()
	m := certtest.NewMount(t, files)
	opened, err := OpenTLS(t.Context(), TLSSettings{m.Path("tls.crt"), m.Path("tls.key"), m.Path("ca.crt")}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return party{m, opened}
}

// secure runs a replica of p that those with the names may call.
func secure(t *testing.T, p party, names ...string) (addr string) {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(slog.New(slog.DiscardHandler), prometheus.NewRegistry(), "one", p.ServerOptions(names)...)
	s.RegisterService(&testService, handler(func(context.Context, string) error { return nil }))
	go func() { _ = s.Serve(lis) }()
	t.Cleanup(s.Close)
	return lis.Addr().String()
}

// reach makes a new connection and one call, in a second.
func reach(t *testing.T, target string, options ...grpc.DialOption) error {
	t.Helper()
	conn, err := Dial(target, NewClientMetrics(prometheus.NewRegistry()), options...)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := AwaitReady(ctx, conn); err != nil {
		return err
	}
	_, err = call(ctx, conn, "")
	return err
}

func TestMutualTLS(t *testing.T) {
	ours, theirs := certtest.New(t, "ours"), certtest.New(t, "theirs")
	newOf := func(a *certtest.Authority, trusted *certtest.Authority, life time.Duration, names ...string) party {
		certificate, key := a.Issue(t, life, names...)
		return newParty(t, certtest.TLS(certificate, key, trusted))
	}
	auth := newOf(ours, ours, time.Hour, "auth", "localhost")
	gateway := newOf(ours, ours, time.Hour, "gateway")
	addr := secure(t, auth, "gateway", "cart")
	_, port, _ := net.SplitHostPort(addr)
	for name, test := range map[string]struct {
		target string
		client []grpc.DialOption
		good   bool
	}{
		"gateway":                        {addr, gateway.DialOptions(), true},
		"one of several":                 {addr + "," + secure(t, newOf(ours, ours, time.Hour, "auth")), gateway.DialOptions(), true},
		"by name":                        {"dns:///localhost:" + port, gateway.DialOptions(), true},
		"cart":                           {addr, newOf(ours, ours, time.Hour, "cart").DialOptions(), true},
		"one of several names":           {addr, newOf(ours, ours, time.Hour, "shop", "cart").DialOptions(), true},
		"without TLS":                    {addr, nil, false},
		"a client of another authority":  {addr, newOf(theirs, ours, time.Hour, "gateway").DialOptions(), false},
		"a server of another authority":  {addr, newOf(ours, theirs, time.Hour, "gateway").DialOptions(), false},
		"an expired client":              {addr, newOf(ours, ours, -time.Second, "gateway").DialOptions(), false},
		"a client that may not call":     {addr, newOf(ours, ours, time.Hour, "redis").DialOptions(), false},
		"a client without a name":        {addr, newOf(ours, ours, time.Hour).DialOptions(), false},
		"no client certificate":          {addr, withoutCertificate(t, gateway), false},
		"an expired server":              {secure(t, newOf(ours, ours, -time.Second, "auth")), gateway.DialOptions(), false},
		"a server that is another":       {"dns:///localhost:" + portOf(secure(t, newOf(ours, ours, time.Hour, "cart"))), gateway.DialOptions(), false},
		"a server without TLS":           {secure(t, party{}), gateway.DialOptions(), false},
		"any of the authority's clients": {secure(t, auth), newOf(ours, ours, time.Hour).DialOptions(), true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := reach(t, test.target, test.client...); (err == nil) != test.good {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestLimit: who may ask for one thing only is refused all others, calls and
// streams, and hears of the server's health.
func TestLimit(t *testing.T) {
	ours := certtest.New(t, "ours")
	newOf := func(names ...string) party {
		certificate, key := ours.Issue(t, time.Hour, names...)
		return newParty(t, certtest.TLS(certificate, key, ours))
	}
	auth := newOf("auth")
	serve := func(methods ...string) string {
		lis, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := NewServer(slog.New(slog.DiscardHandler), prometheus.NewRegistry(), "one", slices.Concat(auth.ServerOptions(nil), auth.Limit([]string{"cart"}, methods...))...)
		s.RegisterService(&testService, handler(func(context.Context, string) error { return nil }))
		go func() { _ = s.Serve(lis) }()
		t.Cleanup(s.Close)
		return lis.Addr().String()
	}
	follow := func(p party, addr string) error {
		conn, err := Dial(addr, NewClientMetrics(prometheus.NewRegistry()), p.DialOptions()...)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/test.Test/Follow")
		if err == nil {
			err = stream.SendMsg(new(request))
		}
		if err == nil {
			err = stream.CloseSend()
		}
		for err == nil {
			err = stream.RecvMsg(new(response))
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	}
	nothing, calls, follows := serve(), serve("/test.Test/Call"), serve("/test.Test/Follow")
	for _, test := range []struct {
		who         string
		p           party
		addr        string
		call, watch bool
	}{
		{"another", newOf("gateway"), nothing, true, true},
		{"who is limited to nothing", newOf("cart"), nothing, false, false},
		{"who has another name too", newOf("gateway", "cart"), nothing, false, false},
		{"who may call", newOf("cart"), calls, true, false},
		{"who may follow", newOf("cart"), follows, false, true},
	} {
		for what, err := range map[string]error{"call": reach(t, test.addr, test.p.DialOptions()...), "follow": follow(test.p, test.addr)} {
			may := test.call
			if what == "follow" {
				may = test.watch
			}
			if may != (err == nil) || err != nil && !fault.Is(err, fault.Forbidden) {
				t.Errorf("%s, to %s: %v", test.who, what, err)
			}
		}
	}
	if len(TLS{}.Limit([]string{"cart"})) != 0 {
		t.Error("without certificates there is nobody to limit")
	}
}

func portOf(addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	return port
}

// withoutCertificate is a client that trusts as p does and shows nothing.
func withoutCertificate(t *testing.T, p party) []grpc.DialOption {
	t.Helper()
	config := p.source.Client()
	config.Certificates = nil
	return []grpc.DialOption{grpc.WithTransportCredentials(credentials.NewTLS(config))}
}

// TestCertificatesChange replaces the certificates of both sides and then the
// authority, as one does who has to: trust both, change, trust the new one. Calls on
// connections old and new go on; who still comes with the old one is refused then.
func TestCertificatesChange(t *testing.T) {
	before, after := certtest.New(t, "before"), certtest.New(t, "after")
	server, client := newParty(t, issue(t, before, "auth")), newParty(t, issue(t, before, "gateway"))
	left := newParty(t, issue(t, before, "gateway"))
	addr := secure(t, server, "gateway")
	if err := reach(t, addr, left.DialOptions()...); err != nil {
		t.Fatal(err)
	}

	conn, err := Dial(addr, NewClientMetrics(prometheus.NewRegistry()), client.DialOptions()...)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	var calls atomic.Int64
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-over:
				return
			case <-time.After(10 * time.Millisecond):
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			if _, err := call(ctx, conn, ""); err != nil {
				t.Errorf("on the old connection: %v", err)
			}
			cancel()
			if err := reach(t, addr, client.DialOptions()...); err != nil {
				t.Errorf("on a new connection: %v", err)
			}
			calls.Add(2)
		}
	}()
	issued := map[party][2][]byte{}
	for _, p := range []party{server, client} {
		certificate, key := after.Issue(t, time.Hour, "auth", "gateway")
		issued[p] = [2][]byte{certificate, key}
	}
	replace := func(files func(p party) map[string][]byte) {
		for _, p := range []party{server, client} {
			p.Replace(t, files(p))
			time.Sleep(1300 * time.Millisecond) // one side has it, the other does not yet
		}
	}
	old := map[party]map[string][]byte{server: issue(t, before, "auth"), client: issue(t, before, "gateway")}
	replace(func(p party) map[string][]byte {
		return certtest.TLS(old[p]["tls.crt"], old[p]["tls.key"], before, after)
	})
	replace(func(p party) map[string][]byte { return certtest.TLS(issued[p][0], issued[p][1], before, after) })
	// A file that is no certificate changes nothing.
	replace(func(p party) map[string][]byte { return certtest.TLS(issued[p][0], []byte("no key"), after) })
	if err := reach(t, addr, left.DialOptions()...); err == nil || !strings.Contains(err.Error(), "no connection") {
		t.Errorf("a server with a new certificate passes for one of the old authority: %v", err)
	}
	replace(func(p party) map[string][]byte { return certtest.TLS(issued[p][0], issued[p][1], after) })
	close(over)
	<-ended
	both := certtest.TLS(old[client]["tls.crt"], old[client]["tls.key"], before, after)
	if err := reach(t, addr, newParty(t, both).DialOptions()...); err == nil {
		t.Error("a certificate of the old authority is still taken")
	}
	if calls.Load() < 100 {
		t.Errorf("%d calls are too few to mean anything", calls.Load())
	}
	t.Logf("%d calls", calls.Load())
}

// issue makes files with a new certificate of the authority.
func issue(t *testing.T, a *certtest.Authority, name string) map[string][]byte {
	t.Helper()
	certificate, key := a.Issue(t, time.Hour, name)
	return certtest.TLS(certificate, key, a)
}

func TestTLSSettings(t *testing.T) {
	for name, test := range map[string]struct {
		environ []string
		want    string
	}{
		"none": {nil, ""},
		"all":  {[]string{"COATCHECK_TLS_CERT_FILE=a", "COATCHECK_TLS_KEY_FILE=b", "COATCHECK_TLS_CA_FILE=c"}, ""},
		"one":  {[]string{"COATCHECK_TLS_CERT_FILE=a"}, "COATCHECK_TLS_KEY_FILE"},
		"two":  {[]string{"COATCHECK_TLS_CERT_FILE=a", "COATCHECK_TLS_KEY_FILE=b"}, "COATCHECK_TLS_CA_FILE"},
	} {
		_, err := config.Load[TLSSettings](test.environ)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := OpenTLS(t.Context(), TLSSettings{"none", "none", "none"}, nil); err == nil {
		t.Error("files that are not there are taken")
	}
}
