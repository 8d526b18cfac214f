package watch

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v3"
)

const (
	repository = "../../.."
	chart      = repository + "/helm/coatcheck"
)

// dashboard is what the tests look at of a Grafana dashboard.
type dashboard struct {
	file string

	UID           string
	ID            *int
	Title         string
	Description   string
	Tags          []string
	SchemaVersion int
	Panels        []panel
	Annotations   struct {
		List []struct {
			Name, Expr string
			Datasource source
		}
	}
	Templating struct {
		List []struct{ Name, Type, Query, AllValue string }
	}
}

type panel struct {
	ID          int
	Type        string
	Title       string
	Description string
	GridPos     struct{ X, Y, W, H int }
	Datasource  source
	FieldConfig struct{ Defaults struct{ Unit string } }
	Targets     []struct{ RefID, Expr string }
}

type source struct{ Type, UID string }

func dashboards(t *testing.T) []dashboard {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(chart, "dashboards", "*.json"))
	if err != nil || len(files) != 6 {
		t.Fatalf("%d dashboards: %v", len(files), err)
	}
	var all []dashboard
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		d := dashboard{file: filepath.Base(file)}
		if err := json.Unmarshal(text, &d); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all = append(all, d)
	}
	return all
}

// expression is one question to Prometheus, and who asks.
type expression struct{ where, text string }

// expressions are those of all panels and annotations.
func expressions(t *testing.T) []expression {
	t.Helper()
	var all []expression
	for _, d := range dashboards(t) {
		for _, a := range d.Annotations.List {
			all = append(all, expression{d.UID + ": annotation " + a.Name, a.Expr})
		}
		for _, p := range d.Panels {
			for _, target := range p.Targets {
				all = append(all, expression{fmt.Sprintf("%s: %s, %s", d.UID, p.Title, target.RefID), target.Expr})
			}
		}
	}
	return all
}

// filled has values in the place of Grafana's variables.
func filled(text, rateInterval string) string {
	return strings.NewReplacer("$__rate_interval", rateInterval, "$namespace", ".*").Replace(text)
}

func parse(t *testing.T, e expression, rateInterval string) parser.Expr {
	t.Helper()
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(filled(e.text, rateInterval))
	if err != nil {
		t.Fatalf("%s: %v\n%s", e.where, err, e.text)
	}
	return expr
}

// selectors are those of an expression.
func selectors(expr parser.Expr) []*parser.VectorSelector {
	var all []*parser.VectorSelector
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		if s, ok := node.(*parser.VectorSelector); ok {
			all = append(all, s)
		}
		return nil
	})
	return all
}

func matcher(s *parser.VectorSelector, label string) *labels.Matcher {
	i := slices.IndexFunc(s.LabelMatchers, func(m *labels.Matcher) bool { return m.Name == label })
	if i < 0 {
		return nil
	}
	return s.LabelMatchers[i]
}

// rule is one of a rule file.
type rule struct {
	file                string
	Record, Alert, Expr string
	For                 string
	Labels, Annotations map[string]string
}

// ruleFiles are the files of rules, without their tests.
func ruleFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(chart, "rules", "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	files = slices.DeleteFunc(files, func(f string) bool { return strings.HasSuffix(f, "_test.yaml") })
	if len(files) == 0 {
		t.Fatal("no rules")
	}
	return files
}

func rules(t *testing.T) []rule {
	t.Helper()
	var all []rule
	for _, file := range ruleFiles(t) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var content struct{ Groups []struct{ Rules []rule } }
		if err := yaml.Unmarshal(text, &content); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, g := range content.Groups {
			for _, r := range g.Rules {
				r.file = filepath.Base(file)
				all = append(all, r)
			}
		}
	}
	return all
}

// alerts are the names of all alerts.
func alerts(t *testing.T) []string {
	t.Helper()
	names := map[string]bool{}
	for _, r := range rules(t) {
		if r.Alert != "" {
			names[r.Alert] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}
