package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coatcheck/trial/watch"
)

// TestTrialAt: the trial that runs is found without being named, unless there are several.
func TestTrialAt(t *testing.T) {
	folder := t.TempDir()
	if _, err := trialAt(folder, nil); err == nil || !strings.Contains(err.Error(), "trial run") {
		t.Errorf("none runs: %v", err)
	}
	if where, err := trialAt(folder, []string{"http://127.0.0.1:9700"}); where != "http://127.0.0.1:9700" || err != nil {
		t.Errorf("named: %q, %v", where, err)
	}
	for i, name := range []string{"trial/demo", "kind/trial/pods"} {
		dir := filepath.Join(folder, name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, watch.AddressFile), []byte("http://127.0.0.1:1\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		where, err := trialAt(folder, nil)
		if i == 0 && (where != dir || err != nil) || i == 1 && (err == nil || !strings.Contains(err.Error(), dir)) {
			t.Errorf("%d run: %q, %v", i+1, where, err)
		}
	}
}
