package cluster

import (
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestProxyRefuses: a kubectl that finds no cluster is told of at once, in its own
// words, and so is what the API server refuses.
func TestProxyRefuses(t *testing.T) {
	lost := filepath.Join(t.TempDir(), "kubectl")
	if err := os.WriteFile(lost, []byte("#!/bin/sh\necho no such cluster >&2\nexit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	_, err := openProxy(t.Context(), lost)
	if err == nil || !strings.Contains(err.Error(), "no such cluster") || time.Since(began) > proxied/2 {
		t.Errorf("after %v: %v", time.Since(began), err)
	}
	c := open(t, newFake(t).options())
	if err := c.ask(t.Context(), http.MethodDelete, "nobody", ""); err == nil || !strings.Contains(err.Error(), "there is no pod nobody") {
		t.Errorf("%v", err)
	}
}

// TestProxyEnds: nothing is left of it.
func TestProxyEnds(t *testing.T) {
	p, err := openProxy(t.Context(), newFake(t).program)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(p.dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("others reach it: %v, %v", info.Mode(), err)
	}
	p.close()
	if _, err := os.Stat(p.dir); !errors.Is(err, fs.ErrNotExist) || p.command.ProcessState == nil {
		t.Errorf("%v, %v", err, p.command.ProcessState)
	}
}
