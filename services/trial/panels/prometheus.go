package panels

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"math"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Range is what is drawn.
type Range struct {
	From, To time.Time
	// Step is from one value to the next, and Scrape how often Prometheus asked.
	Step, Scrape time.Duration
}

// ticks are round moments of the range, as many as a plot of that width has room
// for: as shares of the range, with what a clock shows.
func (r Range) ticks(width float64) iter.Seq2[float64, string] {
	const room = 62
	length := r.To.Sub(r.From)
	every := length
	for _, round := range []time.Duration{time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 20 * time.Second, 30 * time.Second,
		time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 20 * time.Minute, 30 * time.Minute, time.Hour} {
		if length.Seconds()/round.Seconds()*room <= width {
			every = round
			break
		}
	}
	return func(yield func(float64, string) bool) {
		for at := r.From.Truncate(every); at.Before(r.To); at = at.Add(every) {
			share := at.Sub(r.From).Seconds() / length.Seconds()
			if share >= 0 && share <= 1-50/width && !yield(share, at.UTC().Format("15:04:05")) {
				return
			}
		}
	}
}

// line is one series of an answer.
type line struct {
	name   string
	labels map[string]string
	points []point
}

// point is a value at a share of the range.
type point struct{ at, value float64 }

// ask has Prometheus answer one query over the range. A value that is no number
// is left out.
func ask(ctx context.Context, prometheus, expr, legend string, r Range) ([]line, error) {
	// As Grafana does it: at least four scrapes.
	interval := max(4*r.Scrape, r.Step+r.Scrape)
	expr = strings.NewReplacer("$__rate_interval", fmt.Sprintf("%ds", int(interval.Seconds())), "$namespace", ".*").Replace(expr)
	form := url.Values{"query": {expr}, "start": {seconds(r.From)}, "end": {seconds(r.To)}, "step": {fmt.Sprint(r.Step.Seconds())}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, prometheus+"/api/v1/query_range", strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("asking Prometheus: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	var answer struct {
		Status, Error string
		Data          struct {
			Result []struct {
				Metric map[string]string
				Values [][2]any
			}
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return nil, fmt.Errorf("asking Prometheus for %s: %w", expr, err)
	}
	if answer.Status != "success" {
		return nil, fmt.Errorf("asking Prometheus for %s: %s", expr, answer.Error)
	}
	var lines []line
	for _, s := range answer.Data.Result {
		l := line{name: named(legend, s.Metric), labels: s.Metric}
		for _, v := range s.Values {
			at, _ := v[0].(float64)
			text, _ := v[1].(string)
			value, err := strconv.ParseFloat(text, 64)
			if err == nil && !math.IsNaN(value) && !math.IsInf(value, 0) {
				l.points = append(l.points, point{(at - float64(r.From.UnixMilli())/1000) / r.To.Sub(r.From).Seconds(), value})
			}
		}
		if len(l.points) > 0 {
			lines = append(lines, l)
		}
	}
	slices.SortFunc(lines, func(a, b line) int { return cmp.Compare(a.name, b.name) })
	return lines, nil
}

func seconds(t time.Time) string {
	return strconv.FormatFloat(float64(t.UnixMilli())/1000, 'f', 3, 64)
}

var label = regexp.MustCompile(`\{\{ *([a-z_]+) *\}\}`)

// named fills a legend in.
func named(legend string, labels map[string]string) string {
	return label.ReplaceAllStringFunc(legend, func(m string) string { return labels[label.FindStringSubmatch(m)[1]] })
}
