package config

import (
	"context"
	"os"
	"strings"
	"time"
)

// FollowFile calls changed with what a file holds, less the line ends behind it,
// each time that this is something else than before, which at first is last. It
// looks every so often until ctx ends. A file that cannot be read, or is empty,
// has not changed: it may be about to be replaced.
func FollowFile(ctx context.Context, path, last string, every time.Duration, changed func(text string)) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		raw, err := os.ReadFile(path)
		text := strings.TrimRight(string(raw), "\r\n")
		if err != nil || text == "" || text == last {
			continue
		}
		last = text
		changed(text)
	}
}
