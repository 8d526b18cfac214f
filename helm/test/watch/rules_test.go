package watch

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// TestPromtool: rules and their tests are what promtool takes and passes.
func TestPromtool(t *testing.T) {
	for _, file := range ruleFiles(t) {
		for _, args := range [][]string{{"check", "rules", file}, {"test", "rules", strings.TrimSuffix(file, ".yaml") + "_test.yaml"}} {
			out, err := exec.Command("promtool", args...).CombinedOutput()
			if err != nil || strings.Contains(string(out), "FAILED") {
				t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
			}
		}
	}
}

// TestFiringAndQuiet: every alert is seen to fire, and seen quiet where it has something to look at.
func TestFiringAndQuiet(t *testing.T) {
	firing, quiet := map[string]bool{}, map[string]bool{}
	for _, file := range ruleFiles(t) {
		text, err := os.ReadFile(strings.TrimSuffix(file, ".yaml") + "_test.yaml")
		if err != nil {
			t.Fatal(err)
		}
		var content struct {
			Tests []struct {
				Input []struct{ Series string } `yaml:"input_series"`
				Rules []struct {
					Alert string `yaml:"alertname"`
					Want  []any  `yaml:"exp_alerts"`
				} `yaml:"alert_rule_test"`
			}
		}
		if err := yaml.Unmarshal(text, &content); err != nil {
			t.Fatal(err)
		}
		for _, test := range content.Tests {
			for _, r := range test.Rules {
				switch {
				case len(r.Want) > 0:
					firing[r.Alert] = true
				case len(test.Input) > 0:
					quiet[r.Alert] = true
				}
			}
		}
	}
	want := alerts(t)
	t.Logf("%d alerts, %d of them seen firing, %d quiet", len(want), len(firing), len(quiet))
	for name, seen := range map[string]map[string]bool{"firing": firing, "quiet": quiet} {
		if got := slices.Sorted(maps.Keys(seen)); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

// TestAlerts: whoever is woken is told what it is and where to read on, and the runbook has no section of nothing.
func TestAlerts(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(chart, "RUNBOOK.md"))
	if err != nil {
		t.Fatal(err)
	}
	var sections []string
	for _, m := range regexp.MustCompile(`(?m)^## ([A-Za-z]+)$`).FindAllStringSubmatch(string(text), -1) {
		sections = append(sections, m[1])
	}
	slices.Sort(sections)
	if want := alerts(t); !slices.Equal(sections, want) {
		t.Errorf("RUNBOOK.md has sections on %v, want %v", sections, want)
	}
	for _, r := range rules(t) {
		if r.Alert == "" {
			continue
		}
		if !strings.HasSuffix(r.Annotations["summary"], ".") || !strings.Contains(r.Annotations["description"], "{{ $labels.namespace }}") {
			t.Errorf("%s: summary %q, description %q", r.Alert, r.Annotations["summary"], r.Annotations["description"])
		}
		if s := r.Labels["severity"]; s != "critical" && s != "warning" {
			t.Errorf("%s: severity %q", r.Alert, s)
		}
	}
}
