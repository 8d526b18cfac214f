package fault

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"coatcheck/trial/history"
)

// Command is a fault of the user's own: a line for sh. It must return when what
// it broke is whole again, and print what that was as its last line. The class
// says what clients may notice.
//
// Only it knows its name and target, so it returns them when it is done.
func Command(ctx context.Context, line string, class history.Class) (Fault, error) {
	f := Fault{Name: line, Kind: Other, Class: class}
	ctx, cancel := context.WithTimeout(ctx, commandBound)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", line)
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if last := lines[len(lines)-1]; last != "" {
		f.Name = last
	}
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return f, fmt.Errorf("%s: %w", line, ctx.Err())
	case errors.As(err, &exit) && len(exit.Stderr) > 0:
		return f, fmt.Errorf("%s: %w: %s", line, err, strings.TrimSpace(string(exit.Stderr)))
	case err != nil:
		return f, fmt.Errorf("%s: %w", line, err)
	}
	return f, nil
}

// commandBound is longer than Bound: clusters take their time.
const commandBound = 5 * time.Minute
