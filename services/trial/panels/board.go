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
	UID    string
	Title  string
	Panels []panel
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
