//go:build !linux

package chassis

import (
	"errors"
	"time"
)

// SlackTimers is only known on Linux.
func SlackTimers(time.Duration) error { return errors.ErrUnsupported }
