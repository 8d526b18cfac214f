package run

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"coatcheck/cart"
	"coatcheck/trial/check"
	"coatcheck/trial/fault"
	"coatcheck/trial/history"
)

func TestCatalogueIsOne(t *testing.T) {
	file := filepath.Join(t.TempDir(), "shop", "catalogue.json")
	if err := writeCatalogue(file); err != nil {
		t.Fatal(err)
	}
	c, err := cart.LoadCatalogue(file)
	if err != nil || len(c.Products) != products {
		t.Errorf("%d products, %v", len(c.Products), err)
	}
}

func TestOneTrialAFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "trial")
	unlock, err := prepare(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := prepare(dir); err == nil || !strings.Contains(err.Error(), "-dir") {
		t.Errorf("a second trial: %v", err)
	}
	for _, name := range []string{"history.jsonl", "mine"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	unlock()
	unlock, err = prepare(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if _, err := os.Stat(filepath.Join(dir, "history.jsonl")); err == nil {
		t.Error("the old history is still there")
	}
	if _, err := os.Stat(filepath.Join(dir, "mine")); err != nil {
		t.Error("what is no trial's was removed")
	}
}

func TestLimitsFollowTheRun(t *testing.T) {
	demo, _ := fault.Named("demo")
	for name, tt := range map[string]struct {
		run                          history.Run
		faults, changes, acrossKills int
	}{
		"the demo":              {history.Run{Scenario: "demo", Length: demo.Length, Rate: demo.Rate}, 42, 20_000, 50},
		"a longer one":          {history.Run{Scenario: "demo", Length: 2 * demo.Length, Rate: 2 * demo.Rate}, 42, 20_000, 50},
		"half as long":          {history.Run{Scenario: "demo", Length: demo.Length / 2, Rate: demo.Rate}, 21, 10_000, 25},
		"half, at half":         {history.Run{Scenario: "demo", Length: demo.Length / 2, Rate: demo.Rate / 2}, 21, 5_000, 25},
		"pods for five minutes": {history.Run{Scenario: "pods", Length: 5 * time.Minute, Rate: 190}, 83, 45_000, 50},
		"one without kills":     {history.Run{Scenario: "calm", Length: 150 * time.Second, Rate: 25}, 0, 2_280, 0},
		"of another program":    {history.Run{Scenario: "cluster", Length: time.Minute, Rate: 500}, 0, 0, 50},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "history.jsonl")
			w, err := history.Create(path, tt.run)
			if err != nil {
				t.Fatal(err)
			}
			w.Write(history.Record{Fault: &history.Fault{Name: "one that went well"}})
			w.Write(history.Record{Fault: &history.Fault{Error: "cart-1 is stopped"}})
			if err := w.Close(history.End{}); err != nil {
				t.Fatal(err)
			}
			limits, wrong, err := limitsOf(path)
			if err != nil || limits.Faults != tt.faults || limits.Acknowledged != tt.changes || limits.AcrossKills != tt.acrossKills {
				t.Errorf("%+v, %v", limits, err)
			}
			if !slices.Equal(wrong, []string{"a fault went wrong: cart-1 is stopped"}) {
				t.Errorf("went wrong: %q", wrong)
			}
		})
	}
	if _, err := Judge(filepath.Join(t.TempDir(), "nowhere"), io.Discard); err == nil {
		t.Error("a history that is not there was judged")
	}
}

// TestEnough: on a fast machine few requests are under way at a kill, and a trial
// then needs more kills.
func TestEnough(t *testing.T) {
	pods, _ := fault.Named("pods")
	one := &trial{Options: Options{Scenario: pods, Length: pods.Length, Rate: pods.Rate}}
	one.across.Store(int64(check.DefaultLimits().AcrossKills))
	if one.enough(1000) {
		t.Error("requests that met two kills were counted on")
	}
	one.across.Add(int64(check.DefaultLimits().AcrossKills))
	if !one.enough(pods.LeastFaults) || one.enough(pods.LeastFaults-1) {
		t.Error("enough is not the scenario's number of faults")
	}
}

// TestWithoutAShop: what can't be started has no verdict, and says why.
func TestWithoutAShop(t *testing.T) {
	none, _ := fault.Named("none")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	for name, o := range map[string]Options{
		"no binaries": {Bin: t.TempDir()},
		"no target":   {Target: "http://127.0.0.1:1"},
	} {
		o.Dir, o.Scenario, o.Rate, o.Out = t.TempDir(), none, 10, io.Discard
		if v, err := Run(ctx, o); err == nil || v != "" {
			t.Errorf("%s: %q, %v", name, v, err)
		}
	}
}
