// Package panels draws the chart's dashboards without a Grafana: each panel's own
// queries, asked of Prometheus, as one SVG picture a dashboard.
//
// It knows the kinds of panel that these dashboards have, and draws them plainly.
// The hazard is a picture that shows what no Grafana would: titles, queries,
// units, legends and places all come from the dashboard's file, and a query
// without an answer is drawn as such.
package panels

import (
	"encoding/json"
	"fmt"
	"os"
)

// Board is a dashboard.
type Board struct {
	UID         string
	Title       string
	Panels      []panel
	Annotations struct{ List []annotation }
}

// annotation is what is marked in all panels: the moments at which its query has
// a value or, if that is one itself, the moment in it.
type annotation struct {
	Expr            string
	UseValueForTime bool
}

type panel struct {
	Type, Title string
	GridPos     struct{ X, Y, W, H int }
	FieldConfig struct {
		Defaults struct {
			Unit, NoValue string
			Decimals      *int
			Custom        struct {
				DrawStyle         string
				LineInterpolation string
				Stacking          struct{ Mode string }
			}
			Mappings []struct {
				Options map[string]struct{ Text, Color string }
			}
			Thresholds struct {
				Steps []struct {
					Color string
					Value *float64 // nil is from the bottom on
				}
			}
		}
	}
	Targets []struct {
		Expr, LegendFormat string
	}
}

// Read reads a dashboard's file.
func Read(path string) (Board, error) {
	var b Board
	text, err := os.ReadFile(path)
	if err != nil {
		return b, fmt.Errorf("the dashboard: %w", err)
	}
	if err := json.Unmarshal(text, &b); err != nil {
		return b, fmt.Errorf("the dashboard %s: %w", path, err)
	}
	return b, nil
}

// text is what a value is shown as: its mapping's word, or the number with its unit.
func (p panel) text(v float64) string {
	for _, m := range p.FieldConfig.Defaults.Mappings {
		if o, ok := m.Options[fmt.Sprint(v)]; ok {
			return o.Text
		}
	}
	return format(v, p.FieldConfig.Defaults.Unit, p.FieldConfig.Defaults.Decimals)
}

// colour is that of the last threshold that a value has reached.
func (p panel) colour(v float64) string {
	colour := "green"
	for _, step := range p.FieldConfig.Defaults.Thresholds.Steps {
		if step.Value == nil || v >= *step.Value {
			colour = step.Color
		}
	}
	return colour
}
