package run

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"coatcheck/trial/local"
	"coatcheck/trial/panels"
)

// watch is the address of the shop's Prometheus.
func (t *trial) watch() string {
	processes := t.env.Shop.Processes()
	i := slices.IndexFunc(processes, func(p local.Process) bool { return p.Role == local.Prometheus })
	return processes[i].Address
}

// draw draws the dashboards as they were over the traffic.
func (t *trial) draw(ctx context.Context) error {
	files, err := filepath.Glob(filepath.Join(t.Watch, "dashboards", "*.json"))
	if err != nil || len(files) == 0 {
		return fmt.Errorf("no dashboards (*.json) in %s", filepath.Join(t.Watch, "dashboards"))
	}
	folder := filepath.Join(t.Dir, "dashboards")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("the pictures' folder: %w", err)
	}
	over := panels.Range{From: t.began, To: time.Now(), Step: local.ScrapeInterval, Scrape: local.ScrapeInterval}
	for _, file := range files {
		board, err := panels.Read(file)
		if err != nil {
			return err
		}
		picture, err := os.Create(filepath.Join(folder, strings.TrimSuffix(filepath.Base(file), ".json")+".svg"))
		if err != nil {
			return fmt.Errorf("a picture: %w", err)
		}
		err = board.Draw(ctx, picture, "http://"+t.watch(), over)
		if closeErr := picture.Close(); err == nil {
			err = closeErr
		}
		if err != nil {
			return err
		}
	}
	fmt.Fprintf(t.view, "dashboards %s\n", filepath.Join(folder, "*.svg"))
	return nil
}
