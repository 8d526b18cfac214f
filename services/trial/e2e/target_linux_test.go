package e2e_test

import (
	"bytes"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"coatcheck/trial/fault"
	"coatcheck/trial/history"
	trial "coatcheck/trial/run"
)

// TestTarget is a trial of a shop that runs already, with faults by a command.
func TestTarget(t *testing.T) {
	shop, url := openShop(t)
	before := 0
	for _, p := range shop.Processes() {
		before += p.Restarts
	}
	kill := fmt.Sprintf(`for p in /proc/[0-9]*; do if [ "$(readlink $p/exe)" = %q ]; then kill -9 ${p#/proc/}; break; fi; done; sleep 2; echo kill -9 a cart`,
		filepath.Join(bin, "cart"))
	none, _ := fault.Named("none")
	dir := t.TempDir()
	var out bytes.Buffer
	verdict, err := trial.Run(t.Context(), trial.Options{
		Dir: dir, Scenario: none, Seed: 7, Rate: 50, Length: 10 * time.Second, Out: &out,
		Target: url, Command: kill, Class: history.Hidden, Every: time.Second,
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	t.Logf("%s\n%s", verdict, &out)
	faults, ok := 0, 0
	if err := history.Scan(filepath.Join(dir, "history.jsonl"), func(r history.Record) error {
		switch {
		case r.Fault != nil:
			faults++
			if r.Fault.Name != "kill -9 a cart" || r.Fault.Class != history.Hidden || r.Fault.Error != "" || r.Fault.End-r.Fault.Start < 2*time.Second {
				t.Errorf("%+v", r.Fault)
			}
		case r.Op != nil && r.Op.Outcome == history.OK:
			ok++
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	restarts := -before
	for _, p := range shop.Processes() {
		restarts += p.Restarts
	}
	if faults < 1 || restarts != faults || ok < 400 {
		t.Errorf("%d faults, %d restarts, %d requests answered", faults, restarts, ok)
	}
}
