package redisconn_test

import (
	"bytes"
	"crypto/tls"
	"encoding/pem"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"coatcheck/chassis/certtest"
	"coatcheck/chassis/config"
	"coatcheck/chassis/redisconn"
	"coatcheck/chassis/redistest"
)

// TestPasswordChanges: the password of a user is replaced as one does it, both
// taken meanwhile, and new connections use the one that is in the file.
func TestPasswordChanges(t *testing.T) {
	server := redistest.Start(t, "--requirepass", "one")
	admin := redis.NewClient(&redis.Options{Addr: server.Addr, Password: "one", MaxRetries: -1})
	defer func() { _ = admin.Close() }()
	do := func(args ...any) {
		t.Helper()
		if err := admin.Do(t.Context(), args...).Err(); err != nil {
			t.Fatalf("%v: %v", args[:2], err)
		}
	}
	do("ACL", "SETUSER", "cart", "on", ">one", "~*", "+@all")
	file := filepath.Join(t.TempDir(), "password")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("one\n")
	rdb := open(t, prometheus.NewRegistry(), "COATCHECK_REDIS_ADDRS="+server.Addr, "COATCHECK_REDIS_USERNAME=cart", "COATCHECK_REDIS_PASSWORD_FILE="+file)
	// anew has every connection opened again, before the next command.
	anew := func() error {
		t.Helper()
		do("CLIENT", "KILL", "USER", "cart")
		time.Sleep(50 * time.Millisecond)
		return rdb.Incr(t.Context(), "count").Err()
	}
	steps := []struct {
		what string
		do   func()
		good bool
	}{
		{"the first", func() {}, true},
		{"both are taken", func() { do("ACL", "SETUSER", "cart", ">two") }, true},
		{"the file has the second", func() { write("two\n") }, true},
		{"the first is gone", func() { do("ACL", "SETUSER", "cart", "<one") }, true},
		{"the file has a third that Redis does not take", func() { write("three") }, false},
		{"the file is empty for a moment, and the password of the start is gone", func() { write("") }, false},
		{"the file has the second again", func() { write("two") }, true},
	}
	for _, step := range steps {
		step.do()
		if err := anew(); (err == nil) != step.good {
			t.Errorf("%s: %v", step.what, err)
		}
	}
	// Of the start, while there is no file.
	do("ACL", "SETUSER", "cart", ">one")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := anew(); err != nil {
		t.Errorf("without the file: %v", err)
	}
}

// TestTLS talks to a real Redis over TLS that wants certificates of its clients,
// and goes on when those of both sides are replaced.
func TestTLS(t *testing.T) {
	ours, theirs := certtest.New(t, "ours"), certtest.New(t, "theirs")
	certificate, key := ours.Issue(t, time.Hour, "redis")
	served := certtest.NewMount(t, certtest.TLS(certificate, key, ours))
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := lis.Addr().String()
	_ = lis.Close()
	_, port, _ := net.SplitHostPort(addr)
	server := redistest.Start(t, "--tls-port", port, "--tls-auth-clients", "yes",
		"--tls-cert-file", served.Path("tls.crt"), "--tls-key-file", served.Path("tls.key"), "--tls-ca-cert-file", served.Path("ca.crt"))

	client := func(files map[string][]byte, addr string, without ...string) redis.UniversalClient {
		t.Helper()
		m := certtest.NewMount(t, files)
		environ := []string{"COATCHECK_REDIS_ADDRS=" + addr, "COATCHECK_REDIS_TLS=true"}
		for setting, name := range map[string]string{"CA": "ca.crt", "CERT": "tls.crt", "KEY": "tls.key"} {
			if !strings.Contains(strings.Join(without, " "), setting) {
				environ = append(environ, "COATCHECK_REDIS_TLS_"+setting+"_FILE="+m.Path(name))
			}
		}
		settings := load(t, environ...)
		source, err := settings.Certificates(t.Context(), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		rdb := redisconn.Open(settings, prometheus.NewRegistry(), source)
		t.Cleanup(func() { _ = rdb.Close() })
		return rdb
	}
	issue := func(a *certtest.Authority, trusted *certtest.Authority, life time.Duration) map[string][]byte {
		certificate, key := a.Issue(t, life, "cart")
		return certtest.TLS(certificate, key, trusted)
	}
	_, plain, _ := net.SplitHostPort(server.Addr)
	for name, test := range map[string]struct {
		rdb  redis.UniversalClient
		good bool
	}{
		"ours":                             {client(issue(ours, ours, time.Hour), addr), true},
		"a server of another authority":    {client(issue(ours, theirs, time.Hour), addr), false},
		"the system's authorities":         {client(issue(ours, ours, time.Hour), addr, "CA"), false},
		"a client of another authority":    {client(issue(theirs, ours, time.Hour), addr), false},
		"an expired client":                {client(issue(ours, ours, -time.Second), addr), false},
		"no client certificate":            {client(issue(ours, ours, time.Hour), addr, "CERT", "KEY"), false},
		"a server that is another":         {client(issue(ours, ours, time.Hour), "localhost:"+port), false},
		"TLS to a server that speaks none": {client(issue(ours, ours, time.Hour), "127.0.0.1:"+plain), false},
		"no TLS to a server that wants it": {open(t, prometheus.NewRegistry(), "COATCHECK_REDIS_ADDRS="+addr), false},
	} {
		if err := redisconn.Ping(t.Context(), test.rdb); (err == nil) != test.good {
			t.Errorf("%s: %v", name, err)
		}
	}

	// Redis' certificate is replaced, by one of another authority too.
	admin := server.Client(t)
	both := issue(ours, ours, time.Hour)
	both["ca.crt"] = append(both["ca.crt"], theirs.PEM...)
	rdb := client(both, addr)
	if err := rdb.Incr(t.Context(), "count").Err(); err != nil {
		t.Fatal(err)
	}
	for _, by := range []*certtest.Authority{ours, theirs} {
		certificate, key := by.Issue(t, time.Hour, "redis")
		served.Replace(t, certtest.TLS(certificate, key, ours))
		// Redis reads its files again when it is told to.
		if err := admin.ConfigSet(t.Context(), "tls-cert-file", served.Path("tls.crt")).Err(); err != nil {
			t.Fatal(err)
		}
		if shown := shownBy(t, addr); !bytes.Equal(shown, certificate) {
			t.Error("Redis shows the certificate of before")
		}
		if err := rdb.Incr(t.Context(), "count").Err(); err != nil {
			t.Errorf("on an old connection: %v", err)
		}
		if err := admin.Do(t.Context(), "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes").Err(); err != nil {
			t.Fatal(err)
		}
		// A connection over TLS that was closed is found out by the command that it fails.
		var err error
		for range 16 {
			if err = rdb.Incr(t.Context(), "count").Err(); err == nil {
				break
			}
		}
		if err != nil {
			t.Errorf("on a new connection: %v", err)
		}
	}
}

// shownBy is the certificate that a server shows.
func shownBy(t *testing.T, addr string) []byte {
	t.Helper()
	conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: conn.ConnectionState().PeerCertificates[0].Raw})
}

func TestTLSSettings(t *testing.T) {
	const one = "COATCHECK_REDIS_ADDRS=a:1"
	for name, test := range map[string]struct {
		environ []string
		want    string
	}{
		"files without TLS": {[]string{one, "COATCHECK_REDIS_TLS_CA_FILE=ca"}, "COATCHECK_REDIS_TLS: "},
		"half a pair":       {[]string{one, "COATCHECK_REDIS_TLS=true", "COATCHECK_REDIS_TLS_CERT_FILE=c"}, "COATCHECK_REDIS_TLS_CERT_FILE: "},
		"not a switch":      {[]string{one, "COATCHECK_REDIS_TLS=perhaps"}, "COATCHECK_REDIS_TLS: "},
	} {
		_, err := config.Load[redisconn.Settings](test.environ)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	settings := load(t, one, "COATCHECK_REDIS_TLS=true", "COATCHECK_REDIS_TLS_CA_FILE="+filepath.Join(t.TempDir(), "none"))
	if _, err := settings.Certificates(t.Context(), nil); err == nil {
		t.Error("an authority that is not there is taken")
	}
	if source, err := load(t, one).Certificates(t.Context(), nil); source != nil || err != nil {
		t.Errorf("TLS unasked: %v, %v", source, err)
	}
}
