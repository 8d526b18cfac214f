package certs_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"coatcheck/chassis/certs"
	"coatcheck/chassis/certtest"
)

// said keeps what is logged.
type said struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *said) count(part string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Count(s.text.String(), part)
}

func files(m *certtest.Mount) certs.Files {
	return certs.Files{Cert: m.Path("tls.crt"), Key: m.Path("tls.key"), CA: m.Path("ca.crt")}
}

func TestOpen(t *testing.T) {
	a := certtest.New(t, "a")
	certificate, key := a.Issue(t, time.Hour, "one")
	_, another := a.Issue(t, time.Hour, "two")
	whole := certtest.TLS(certificate, key, a)
	if _, err := certs.Open(files(certtest.NewMount(t, whole))); err != nil {
		t.Error(err)
	}
	for name, content := range map[string]map[string][]byte{
		"no file":             {"tls.crt": certificate, "tls.key": key},
		"no authority":        {"tls.crt": certificate, "tls.key": key, "ca.crt": []byte("none")},
		"the key of another":  certtest.TLS(certificate, another, a),
		"a key that is none":  certtest.TLS(certificate, []byte("hunter2"), a),
		"a certificate alone": certtest.TLS(certificate, nil, a),
	} {
		if _, err := certs.Open(files(certtest.NewMount(t, content))); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := certs.Open(certs.Files{}); err != nil {
		t.Errorf("who shows nothing and trusts the system: %v", err)
	}
}

// TestFollow: what changes is taken, and what can't be used is said once and
// changes nothing.
func TestFollow(t *testing.T) {
	a := certtest.New(t, "a")
	issue := func() map[string][]byte {
		certificate, key := a.Issue(t, time.Hour, "one")
		return certtest.TLS(certificate, key, a)
	}
	m := certtest.NewMount(t, issue())
	source, err := certs.Open(files(m))
	if err != nil {
		t.Fatal(err)
	}
	shown := func() string { return string(source.Client().Certificates[0].Certificate[0]) }
	first := shown()
	ctx, cancel := context.WithCancel(t.Context())
	log, ended := &said{}, make(chan struct{})
	go func() {
		source.Follow(ctx, slog.New(slog.NewTextHandler(log, nil)))
		close(ended)
	}()
	broken := issue()
	broken["tls.key"] = []byte("hunter2")
	m.Replace(t, broken)
	time.Sleep(3500 * time.Millisecond)
	if shown() != first || log.count("not taken") != 1 || log.count("hunter2") != 0 {
		t.Errorf("a broken key was taken, or it was said %d times", log.count("not taken"))
	}
	m.Replace(t, issue())
	for deadline := time.Now().Add(5 * time.Second); shown() == first; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a certificate that came is not taken")
		}
	}
	if log.count("certificates taken") != 1 || log.count("expires=") != 1 {
		t.Errorf("it was said %d times", log.count("certificates taken"))
	}
	cancel()
	<-ended
}
