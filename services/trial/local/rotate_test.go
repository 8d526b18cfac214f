package local

import (
	"os"
	"strings"
	"testing"
)

// TestRotateKeys: a key joins the one there is, which stays; until it signs there
// is nothing more to do.
func TestRotateKeys(t *testing.T) {
	s := &Shop{options: Options{State: t.TempDir(), Env: map[string][]string{Auth: {"COATCHECK_MAX_PASSWORD_HASHES=1"}}}}
	if _, err := s.RotateKeys(); err == nil {
		t.Error("keys that are not there were rotated")
	}
	if _, err := prepare(s.options.State, 1); err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{true, false} {
		if rotated, err := s.RotateKeys(); err != nil || rotated != want {
			t.Errorf("rotation %d: %v, %v", i+1, rotated, err)
		}
	}
	path := signingKeysPath(s.options.State)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if keys, ends := strings.Count(string(text), "BEGIN PRIVATE KEY"), strings.Count(string(text), "Checks-Until"); keys != 2 || ends != 1 {
		t.Errorf("there are %d keys, of which %d will go", keys, ends)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file is %v, %v", info.Mode(), err)
	}
}
