package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"coatcheck/trial/fault"
	"coatcheck/trial/history"
	"coatcheck/trial/local"
	"coatcheck/trial/report"
	trial "coatcheck/trial/run"
)

// TestEveryFault makes one fault of each kind on a real shop, which is whole
// after each.
func TestEveryFault(t *testing.T) {
	t.Parallel()
	network := fault.NewNetwork()
	t.Cleanup(network.Close)
	shop, err := local.Start(local.Options{
		State: filepath.Join(t.TempDir(), "state"), Bin: bin, Gateways: 2, Auths: 2, Carts: 2,
		Spares: 1, RestartDelay: 300 * time.Millisecond, Through: network.Through,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(shop.Close)
	ready, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := shop.AwaitReady(ready); err != nil {
		t.Fatal(err)
	}
	demo, _ := fault.Named("demo")
	all := slices.Collect(demo.Faults(1, shop.Processes()))
	rotation, _ := fault.Named("rotation")
	for f := range rotation.Faults(1, shop.Processes()) {
		all = append(all, f) // the first
		break
	}
	made := map[string]bool{}
	for _, f := range all {
		// The list is for the shop as every fault of it leaves it.
		if scales := f.Kind == fault.ScaleUp || f.Kind == fault.ScaleDown; made[f.Kind] && !scales {
			continue
		}
		made[f.Kind] = true
		before := shop.Processes()
		if err := f.Inject(t.Context(), fault.Env{Shop: shop, Network: network}); err != nil {
			t.Error(err)
		}
		for i, now := range shop.Processes() {
			hit := now.Name == f.Target || f.Kind == fault.Roll && now.Role == f.Target && before[i].State == local.Running
			restarts := slices.Contains([]string{fault.Kill, fault.Term, fault.Roll, fault.RedisKill, fault.RedisStop}, f.Kind)
			switch {
			case hit && restarts:
				if now.PID == before[i].PID || now.Restarts != before[i].Restarts+1 || now.State != local.Running {
					t.Errorf("%s: %+v", f.Name, now)
				}
			case hit && f.Kind == fault.ScaleDown:
				if now.State != local.Stopped {
					t.Errorf("%s: %+v", f.Name, now)
				}
			case hit && f.Kind == fault.ScaleUp:
				if now.State != local.Running {
					t.Errorf("%s: %+v", f.Name, now)
				}
			case now.PID != before[i].PID:
				t.Errorf("%s hit %s too", f.Name, now.Name)
			}
		}
	}
	if len(made) != 11 {
		t.Errorf("made %v", made)
	}
}

// TestTrial is a whole trial, though a short and slow one. A machine that is
// busy with other tests may let a request run into its time-out, so here this
// is not held against the shop.
func TestTrial(t *testing.T) {
	t.Parallel()
	demo, _ := fault.Named("demo")
	dir := filepath.Join(t.TempDir(), "trial")
	var out bytes.Buffer
	o := trial.Options{Dir: dir, Scenario: demo, Seed: 7, Rate: 60, Length: 14 * time.Second, Bin: bin, Out: &out}
	verdict, err := trial.Run(t.Context(), o)
	if err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	t.Logf("%s", &out)
	said := strings.Split(strings.TrimSpace(out.String()), "\n")
	if last := said[len(said)-1]; strings.HasPrefix(last, "PASS") != (verdict == report.Pass) {
		t.Errorf("the last line is %q, the verdict %s", last, verdict)
	}
	faults, ops, ended := 0, 0, false
	path := filepath.Join(dir, "history.jsonl")
	if err := history.Scan(path, func(r history.Record) error {
		switch {
		case r.Fault != nil:
			faults++
			if r.Fault.Error != "" || r.Fault.End <= r.Fault.Start {
				t.Errorf("%+v", r.Fault)
			}
		case r.Op != nil:
			ops++
		case r.End != nil:
			ended = r.End.OwnCPU > 0 && r.End.TotalCPU > r.End.OwnCPU
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if faults < 2 || ops < 600 || !ended {
		t.Errorf("%d faults, %d requests, ended %v", faults, ops, ended)
	}
	var twin struct {
		Figures struct {
			Acknowledged int `json:"acknowledged_changes"`
			Lost         int `json:"lost"`
			Doubled      int `json:"doubled"`
		} `json:"figures"`
		Findings []struct {
			Check string `json:"check"`
			Text  string `json:"text"`
		} `json:"findings"`
	}
	content, err := os.ReadFile(filepath.Join(dir, "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(content, &twin); err != nil {
		t.Fatal(err)
	}
	if twin.Figures.Acknowledged < 200 || twin.Figures.Lost > 0 || twin.Figures.Doubled > 0 {
		t.Errorf("%+v", twin.Figures)
	}
	for _, f := range twin.Findings {
		if f.Check != "hidden" && f.Check != "logical" {
			t.Errorf("%s: %s", f.Check, f.Text)
		}
	}
	if page, err := os.ReadFile(filepath.Join(dir, "report.html")); err != nil || !bytes.Contains(page, []byte("</html>")) {
		t.Errorf("the page: %d bytes, %v", len(page), err)
	}
	out.Reset()
	if again, err := trial.Judge(path, &out); err != nil || again != verdict {
		t.Errorf("judged again: %s, %v", again, err)
	}
}
