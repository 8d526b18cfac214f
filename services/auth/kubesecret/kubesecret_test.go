package kubesecret_test

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"coatcheck/auth/kubesecret"
)

// apiServer answers as a Kubernetes API server does about one Secret, to one
// token.
type apiServer struct {
	mu      sync.Mutex
	version int
	data    map[string]string
	writes  int
	refuse  int             // status of every patch, if set
	before  func(patch int) // called before the nth patch is looked at
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fail := func(status int, reason string) {
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, `{"kind": "Status", "reason": %q, "message": "about %s"}`, reason, s.data["keys"])
	}
	switch {
	case r.Header.Get("Authorization") != "Bearer token-2":
		fail(http.StatusUnauthorized, "Unauthorized")
		return
	case r.URL.Path != "/api/v1/namespaces/shop/secrets/shop-keys":
		fail(http.StatusForbidden, "Forbidden")
		return
	case r.Method == http.MethodPatch:
		s.writes++
		if s.before != nil {
			s.before(s.writes)
		}
		if s.refuse != 0 {
			fail(s.refuse, "Invalid")
			return
		}
		var patch struct {
			Metadata struct{ ResourceVersion string }
			Data     map[string]string
		}
		if r.Header.Get("Content-Type") != "application/merge-patch+json" || json.NewDecoder(r.Body).Decode(&patch) != nil {
			fail(http.StatusUnsupportedMediaType, "UnsupportedMediaType")
			return
		}
		if patch.Metadata.ResourceVersion != strconv.Itoa(s.version) {
			fail(http.StatusConflict, "Conflict")
			return
		}
		for key, value := range patch.Data {
			text, _ := base64.StdEncoding.DecodeString(value)
			s.data[key] = string(text)
		}
		s.version++
	case r.Method != http.MethodGet:
		fail(http.StatusMethodNotAllowed, "MethodNotAllowed")
		return
	}
	data := map[string]string{}
	for key, value := range s.data {
		data[key] = base64.StdEncoding.EncodeToString([]byte(value))
	}
	_ = json.NewEncoder(w).Encode(map[string]any{
		"kind": "Secret", "metadata": map[string]any{"resourceVersion": strconv.Itoa(s.version)}, "data": data})
}

// start runs the server and returns a client as a pod of it has it.
func start(t *testing.T, s *apiServer) *kubesecret.Client {
	t.Helper()
	server := httptest.NewTLSServer(s)
	t.Cleanup(server.Close)
	return client(t, server, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
}

func client(t *testing.T, server *httptest.Server, authority []byte) *kubesecret.Client {
	t.Helper()
	folder := t.TempDir()
	for name, text := range map[string]string{"namespace": "shop", "ca.crt": string(authority), "token": "token-1"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	host, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	c, err := kubesecret.New(host, port, folder)
	if err != nil {
		t.Fatal(err)
	}
	// As the kubelet replaces it while the pod lives.
	if err := os.WriteFile(filepath.Join(folder, "token"), []byte("token-2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return c
}

func add(text string) func(string) (string, error) {
	return func(value string) (string, error) { return value + text, nil }
}

func TestUpdate(t *testing.T) {
	s := &apiServer{version: 7, data: map[string]string{"keys": "one", "other": "kept"}}
	c := start(t, s)
	if err := c.Update(t.Context(), "shop-keys", "keys", add(" two")); err != nil {
		t.Fatal(err)
	}
	if s.data["keys"] != "one two" || s.data["other"] != "kept" || s.writes != 1 {
		t.Errorf("the Secret holds %v after %d writes", s.data, s.writes)
	}
	if err := c.Update(t.Context(), "shop-keys", "keys", add("")); err != nil || s.writes != 1 {
		t.Errorf("what stays as it is was written: %v", err)
	}
}

// TestAnotherWriter: a change in between is kept, and the own one made of it.
func TestAnotherWriter(t *testing.T) {
	s := &apiServer{version: 7, data: map[string]string{"keys": "one"}}
	s.before = func(patch int) {
		if patch <= 2 {
			s.data["keys"] += " theirs"
			s.version++
		}
	}
	c := start(t, s)
	if err := c.Update(t.Context(), "shop-keys", "keys", add(" own")); err != nil {
		t.Fatal(err)
	}
	if s.data["keys"] != "one theirs theirs own" {
		t.Errorf("the Secret holds %q", s.data["keys"])
	}
	s.before = func(int) { s.version++ }
	if err := c.Update(t.Context(), "shop-keys", "keys", add(" own")); err == nil || !strings.Contains(err.Error(), "others wrote it 5 times") {
		t.Errorf("against a writer without end: %v", err)
	}
}

func TestRefused(t *testing.T) {
	s := &apiServer{version: 7, data: map[string]string{"keys": "hunter2"}}
	c := start(t, s)
	broken := errors.New("no keys")
	for name, test := range map[string]struct {
		secret, key string
		change      func(string) (string, error)
		refuse      int
		want        string
	}{
		"no right":     {"another", "keys", add("x"), 0, "403 Forbidden"},
		"no such key":  {"shop-keys", "passwords", add("x"), 0, "no key passwords"},
		"no change":    {"shop-keys", "keys", func(string) (string, error) { return "", broken }, 0, "no keys"},
		"refused":      {"shop-keys", "keys", add("x"), http.StatusUnprocessableEntity, "422 Invalid"},
		"a bad answer": {"shop-keys", "keys", add("x"), http.StatusAccepted, "202"},
	} {
		s.refuse = test.refuse
		err := c.Update(t.Context(), test.secret, test.key, test.change)
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if s.data["keys"] != "hunter2" {
		t.Errorf("the Secret holds %q", s.data["keys"])
	}
}

// TestAnotherServer: who is not the API server is told no token.
func TestAnotherServer(t *testing.T) {
	asked := false
	impostor := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	defer impostor.Close()
	c := client(t, impostor, anotherAuthority(t))
	if err := c.Update(t.Context(), "shop-keys", "keys", add("x")); err == nil || asked {
		t.Errorf("asked %v: %v", asked, err)
	}
}

func TestNew(t *testing.T) {
	for name, test := range map[string]struct{ host, port, folder string }{
		"not in a pod": {"", "", t.TempDir()},
		"no files":     {"127.0.0.1", "1", t.TempDir()},
	} {
		if _, err := kubesecret.New(test.host, test.port, test.folder); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// anotherAuthority is a certificate that has signed nobody's.
func anotherAuthority(t *testing.T) []byte {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(nil, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
