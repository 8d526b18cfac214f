package watch

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// excused are metrics that the shop does not export, with the reason.
var excused = map[string]string{
	"kube_horizontalpodautoscaler_status_desired_replicas": "only the cluster knows what an autoscaler wants; the panel shows it where kube-state-metrics is scraped, for which TestShop has a stand-in",
}

// ofPrometheus are those that Prometheus itself makes.
var ofPrometheus = []string{"up", "scrape_samples_scraped", "ALERTS"}

// ofChart are recorded by rules that the chart renders from its values.
var ofChart = []string{"shop:replicas:min", "shop:replicas:max"}

// exported are the metrics in METRICS.md, which is made from the code.
func exported(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(chart, "METRICS.md"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_:]+)` \\|").FindAllStringSubmatch(string(text), -1) {
		names = append(names, m[1])
	}
	if len(names) < 30 {
		t.Fatalf("METRICS.md lists only %v", names)
	}
	return names
}

// TestNames: nothing asks for a metric that nobody exports.
func TestNames(t *testing.T) {
	known := slices.Concat(exported(t), ofPrometheus, ofChart)
	var records []string
	asked := expressions(t)
	for _, r := range rules(t) {
		if r.Record != "" {
			records = append(records, r.Record)
		}
		asked = append(asked, expression{r.file + ": " + r.Record + r.Alert, r.Expr})
	}
	used := map[string]bool{}
	for _, e := range asked {
		for _, s := range selectors(parse(t, e, "1m")) {
			used[s.Name] = true
			if strings.HasPrefix(s.Name, "go_") || strings.HasPrefix(s.Name, "process_") {
				continue // of every Go program; METRICS.md leaves them out, and TestShop sees them
			}
			base := s.Name
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				base = strings.TrimSuffix(base, suffix)
			}
			if !slices.Contains(known, s.Name) && !slices.Contains(known, base) && !slices.Contains(records, s.Name) && excused[s.Name] == "" {
				t.Errorf("%s: nobody exports %s", e.where, s.Name)
			}
		}
	}
	for _, name := range slices.Concat(records, ofChart) {
		if !used[name] || !recorded.MatchString(name) {
			t.Errorf("%s is recorded and looked at by nothing, or not named level:metric:operation", name)
		}
	}
	for name := range excused {
		if !used[name] {
			t.Errorf("nothing needs the exception of %s any more", name)
		}
	}
}
