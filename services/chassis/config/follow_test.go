package config

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestFollowFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("one\n")
	ctx, cancel := context.WithCancel(t.Context())
	heard, ended := make(chan string, 10), make(chan struct{})
	go func() {
		FollowFile(ctx, path, "one", time.Millisecond, func(text string) { heard <- text })
		close(ended)
	}()
	silent := func(what string) {
		t.Helper()
		select {
		case text := <-heard:
			t.Errorf("%s: heard %q", what, text)
		case <-time.After(20 * time.Millisecond):
		}
	}
	silent("nothing has changed")
	// As Kubernetes replaces the files of a Secret: another file under the name.
	next := path + ".next"
	if err := os.WriteFile(next, []byte("two\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, path); err != nil {
		t.Fatal(err)
	}
	if text := <-heard; text != "two" {
		t.Errorf("heard %q", text)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	silent("it is gone")
	write("two")
	silent("it is back")
	write("one")
	if text := <-heard; text != "one" {
		t.Errorf("heard %q", text)
	}
	cancel()
	<-ended
}
