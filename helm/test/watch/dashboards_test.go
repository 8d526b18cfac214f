package watch

import (
	"errors"
	"html"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql/parser"
)

// TestConventions: dashboards that can be imported anywhere, and panels that say
// what they show.
func TestConventions(t *testing.T) {
	units := []string{"reqps", "ops", "s", "short", "percentunit", "bytes"}
	uids := map[string]bool{}
	for _, d := range dashboards(t) {
		t.Run(d.file, func(t *testing.T) {
			if d.UID != "coatcheck-"+strings.TrimSuffix(d.file, ".json") || uids[d.UID] {
				t.Errorf("uid %q", d.UID)
			}
			uids[d.UID] = true
			if d.ID != nil || d.Title == "" || d.Description == "" || !slices.Contains(d.Tags, "coatcheck") || d.SchemaVersion < 39 {
				t.Errorf("id %v, title %q, description %q, tags %v, schema %d", d.ID, d.Title, d.Description, d.Tags, d.SchemaVersion)
			}
			variables := map[string]string{}
			for _, v := range d.Templating.List {
				variables[v.Name] = v.Type
			}
			if variables["datasource"] != "datasource" || variables["namespace"] != "query" {
				t.Errorf("variables %v", variables)
			}
			taken := map[[2]int]int{} // by x, y
			ids := map[int]bool{}
			for _, p := range d.Panels {
				if ids[p.ID] {
					t.Errorf("%q: another panel has its id %d", p.Title, p.ID)
				}
				ids[p.ID] = true
				for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
					for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
						if other, ok := taken[[2]int{x, y}]; ok {
							t.Fatalf("%q: lies over panel %d", p.Title, other)
						}
						taken[[2]int{x, y}] = p.ID
					}
				}
				if p.GridPos.X+p.GridPos.W > 24 {
					t.Errorf("%q: is wider than the page", p.Title)
				}
				if p.Type == "row" {
					continue
				}
				if p.Title == "" || !strings.HasSuffix(p.Description, ".") {
					t.Errorf("panel %d %q: says of itself %q", p.ID, p.Title, p.Description)
				}
				if !slices.Contains(units, p.FieldConfig.Defaults.Unit) {
					t.Errorf("%q: unit %q", p.Title, p.FieldConfig.Defaults.Unit)
				}
				if len(p.Targets) == 0 || p.Datasource != (source{"prometheus", "${datasource}"}) {
					t.Errorf("%q: asks %v of %v", p.Title, p.Targets, p.Datasource)
				}
			}
			for _, a := range d.Annotations.List {
				if a.Datasource != (source{"prometheus", "${datasource}"}) {
					t.Errorf("annotation %q: asks %v", a.Name, a.Datasource)
				}
			}
		})
	}
}

// TestPictures: the README's pictures are of the dashboards as they are.
func TestPictures(t *testing.T) {
	drawn := regexp.MustCompile(`<text class="[rt]"[^>]*>([^<]*)</text>`) // a row's title, or a panel's
	pictures := 0
	for _, d := range dashboards(t) {
		picture, err := os.ReadFile(filepath.Join(repository, ".github", strings.TrimSuffix(d.file, ".json")+".svg"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		pictures++
		var want, got []string
		for _, p := range d.Panels {
			want = append(want, p.Title)
		}
		for _, m := range drawn.FindAllStringSubmatch(string(picture), -1) {
			got = append(got, html.UnescapeString(m[1]))
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("the picture of %s has %q, want %q; make pictures draws it", d.file, got, want)
		}
	}
	if pictures != 3 {
		t.Errorf("%d pictures of dashboards, want 3", pictures)
	}
}

// TestExpressions: every expression parses with Prometheus' own parser, looks at
// the chosen shop only, takes rates over the interval that fits the picture, and
// makes up no data.
func TestExpressions(t *testing.T) {
	const interval = 4321 * time.Second
	for _, e := range expressions(t) {
		expr := parse(t, e, "4321s")
		for _, s := range selectors(expr) {
			if m := matcher(s, "namespace"); m == nil || m.Value != ".*" {
				t.Errorf("%s: %s looks at every shop", e.where, s)
			}
			if job := matcher(s, "job"); job == nil && !recorded.MatchString(s.Name) && s.Name != "ALERTS" && excused[s.Name] == "" {
				t.Errorf("%s: %s looks at other programs too", e.where, s)
			}
		}
		parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
			switch n := node.(type) {
			case *parser.Call:
				if n.Func.Name == "vector" || n.Func.Name == "absent" {
					t.Errorf("%s: %s is data that nobody measured", e.where, n)
				}
				if n.Func.Name == "rate" || n.Func.Name == "increase" {
					if m := n.Args[0].(*parser.MatrixSelector); m.Range != interval {
						t.Errorf("%s: a rate over %v, want $__rate_interval", e.where, m.Range)
					}
				}
			case *parser.SubqueryExpr:
				t.Errorf("%s: a subquery belongs into a recording rule", e.where)
			}
			return nil
		})
	}
}

// recorded are the names that rules make.
var recorded = regexp.MustCompile(`^shop:[a-z_]+:[a-z0-9_]+$`)
