package e2e_test

import (
	"cmp"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"coatcheck/chassis/measuretest"
	"coatcheck/trial/history"
	"coatcheck/trial/local"
	"coatcheck/trial/promise"
	"coatcheck/trial/traffic"
	"coatcheck/trial/watch"
)

var update = flag.Bool("update", false, "write the page of the metrics")

// page describes the metrics to those who run the shop.
const page = "../../../helm/coatcheck/METRICS.md"

const pageHead = `# Metrics

Made by ` + "`make fix-metrics`" + ` from what the running services export; not written by hand.

Every pod exports them on its admin port, ` + "`:9100/metrics`" + `. Each histogram has classic buckets and, for a Prometheus that scrapes native histograms, a native one too.
That is Prometheus 3.8 or later with ` + "`scrape_native_histograms: true`" + `; with ` + "`always_scrape_classic_histograms: true`" + ` beside it the classic buckets, which the dashboards and rules ask for, stay.
Where requests are traced, histograms carry exemplars with their ` + "`trace_id`" + `. No label holds what a client wrote, so a pod stays under 1,500 series. Beside these there are
those of the Go runtime and the process, as ` + "`go_…` and `process_…`" + `. A trial exports its own where it is shown (` + "`trial run -listen`" + `); histograms have classic buckets there.
`

// TestMetricsPage: the page lists the metrics of running services, all of them,
// as they are.
func TestMetricsPage(t *testing.T) {
	shop, _ := openWith(t, local.Options{Gateways: 1, Auths: 1, Carts: 1})
	for _, p := range promise.All() {
		if err := p.Try(t.Context(), "http://"+shop.Address(), nil); err != nil {
			t.Fatalf("%s: %v", p.Name, err)
		}
	}
	// rows are the lines of the tables, by the services that have them.
	rows := map[string][]string{}
	services := map[string][]string{}
	for _, p := range shop.Processes() {
		if p.Role == local.Redis {
			continue
		}
		families, series := scrape(t, p.Admin)
		if series < 100 || series >= measuretest.MaxSeries {
			t.Errorf("%s has %d series", p.Name, series)
		}
		for _, f := range families {
			if strings.HasPrefix(f.GetName(), "go_") || strings.HasPrefix(f.GetName(), "process_") {
				continue
			}
			row := rowOf(f)
			services[row] = append(services[row], p.Role)
		}
	}
	// A trial has its own, while it runs.
	reg := prometheus.NewRegistry()
	show := watch.New()
	defer show.Begin(history.Run{Scenario: "demo"}, func() traffic.Live { return traffic.Live{} }, func() []watch.Replica {
		return []watch.Replica{{Role: local.Cart, Name: "cart-1", State: local.Running}}
	})()
	reg.MustRegister(show.Collector())
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		rows["trial"] = append(rows["trial"], rowOf(f))
	}
	for row, of := range services {
		slices.Sort(of)
		title := strings.Join(of, ", ")
		rows[title] = append(rows[title], row)
	}
	var text strings.Builder
	text.WriteString(pageHead)
	// What most of them have comes first.
	titles := slices.SortedFunc(maps.Keys(rows), func(a, b string) int {
		return cmp.Or(strings.Count(b, ",")-strings.Count(a, ","), strings.Compare(a, b))
	})
	for _, title := range titles {
		slices.Sort(rows[title])
		fmt.Fprintf(&text, "\n## %s\n\n| name | type | labels | meaning |\n|---|---|---|---|\n%s\n", title, strings.Join(rows[title], "\n"))
	}
	for name, file := range declared(t) {
		if !strings.Contains(text.String(), "`"+name+"`") {
			t.Errorf("%s of %s is exported by no service", name, file)
		}
	}
	if *update {
		if err := os.WriteFile(page, []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	was, err := os.ReadFile(page)
	if err != nil || string(was) != text.String() {
		t.Errorf("%s is not what the services export; run make fix-metrics. %v It should be:\n%s", page, err, &text)
	}
}

func scrape(t *testing.T, admin string) (families map[string]*dto.MetricFamily, series int) {
	t.Helper()
	resp, err := http.Get("http://" + admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err = parser.TextToMetricFamilies(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			series += measuretest.Series(m)
		}
	}
	return families, series
}

func rowOf(f *dto.MetricFamily) string {
	return fmt.Sprintf("| `%s` | %s | %s | %s |", f.GetName(), strings.ToLower(f.GetType().String()), labelsOf(f), f.GetHelp())
}

func labelsOf(f *dto.MetricFamily) string {
	names := map[string]bool{}
	for _, m := range f.GetMetric() {
		for _, l := range m.GetLabel() {
			names[l.GetName()] = true
		}
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(slices.Sorted(maps.Keys(names)), ", ")
}

// declared are the names of metrics in the services' code, with their files.
func declared(t *testing.T) map[string]string {
	t.Helper()
	name := regexp.MustCompile(`(?:Name: +|(?i:histogram|gauge|counter)\()"([a-z_]+_[a-z_]+)"`)
	found := map[string]string{}
	for _, service := range []string{"chassis", "gateway", "auth", "cart"} {
		err := filepath.WalkDir(filepath.Join("../..", service), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			code, err := os.ReadFile(path)
			for _, m := range name.FindAllSubmatch(code, -1) {
				found[string(m[1])] = path
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(found) < 15 {
		t.Fatalf("the code declares only %v", found)
	}
	return found
}
