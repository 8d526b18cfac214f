package run

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"coatcheck/trial/local"
	"coatcheck/trial/panels"
	"coatcheck/trial/watch"
)

// mostDrawn is how far back a dashboard is drawn while the trial runs.
const mostDrawn = 10 * time.Minute

// boards are the chart's dashboards, drawn of the shop's Prometheus.
type boards struct {
	byName     map[string]panels.Board
	prometheus string // URL
	began      time.Time
}

func readBoards(folder, prometheus string, began time.Time) (boards, error) {
	b := boards{map[string]panels.Board{}, "http://" + prometheus, began}
	files, err := filepath.Glob(filepath.Join(folder, "dashboards", "*.json"))
	if err != nil || len(files) == 0 {
		return b, fmt.Errorf("no dashboards (*.json) in %s", filepath.Join(folder, "dashboards"))
	}
	for _, file := range files {
		if b.byName[strings.TrimSuffix(filepath.Base(file), ".json")], err = panels.Read(file); err != nil {
			return b, err
		}
	}
	return b, nil
}

func (b boards) names() []string { return slices.Sorted(maps.Keys(b.byName)) }

// live draws one as it is now.
func (b boards) live(ctx context.Context, name string, to io.Writer) error {
	now := time.Now()
	from := b.began
	if now.Sub(from) > mostDrawn {
		from = now.Add(-mostDrawn)
	}
	return b.draw(ctx, name, to, from, now)
}

// write draws all of them as they were over the traffic.
func (b boards) write(ctx context.Context, folder string, end time.Time) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("the pictures' folder: %w", err)
	}
	for _, name := range b.names() {
		picture, err := os.Create(filepath.Join(folder, name+".svg"))
		if err != nil {
			return fmt.Errorf("a picture: %w", err)
		}
		err = b.draw(ctx, name, picture, b.began, end)
		if closeErr := picture.Close(); err == nil {
			err = closeErr
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (b boards) draw(ctx context.Context, name string, to io.Writer, from, end time.Time) error {
	// A plot is some hundred pixels wide: more values than that can't be seen.
	step := max(local.ScrapeInterval, end.Sub(from)/200).Round(time.Second)
	return b.byName[name].Draw(ctx, to, b.prometheus, panels.Range{From: from, To: end, Step: step, Scrape: local.ScrapeInterval})
}

// prometheus is the address of the shop's Prometheus.
func (t *trial) prometheus() string {
	processes := t.env.Shop.Processes()
	i := slices.IndexFunc(processes, func(p local.Process) bool { return p.Role == local.Prometheus })
	return processes[i].Address
}

// replicas answers who is there, as the shop or the cluster knows it; nil if
// nobody does.
func (t *trial) replicas() func() []watch.Replica {
	switch {
	case t.env.Shop != nil:
		return func() (all []watch.Replica) {
			for _, p := range t.env.Shop.Processes() {
				if p.Role != local.Prometheus {
					all = append(all, watch.Replica{Role: p.Role, Name: p.Name, State: p.State})
				}
			}
			return all
		}
	case t.cluster != nil:
		return func() (all []watch.Replica) {
			for _, p := range t.cluster.Pods() {
				state := "not ready"
				switch {
				case p.Terminating:
					state = "leaving"
				case p.Ready:
					state = "ready"
				}
				all = append(all, watch.Replica{Role: p.Part, Name: p.Name, State: state})
			}
			return all
		}
	}
	return nil
}
