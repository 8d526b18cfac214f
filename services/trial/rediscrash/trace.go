package rediscrash

import (
	"bufio"
	"fmt"
	"io"
	"regexp"
	"strconv"
)

// syncedLength answers how many bytes of the file are surely on the disk: those
// whose writing had ended when the last successful sync of it began. The trace is
// of strace -f -y: a call is on one line, or it begins on one and is resumed on
// another of the same thread.
func syncedLength(trace io.Reader, file string) (int64, error) {
	begun := regexp.MustCompile(`^(\d+) +(write|fdatasync)\(\d+<` + regexp.QuoteMeta(file) + `>(.*)$`)
	resumed := regexp.MustCompile(`^(\d+) +<\.\.\. (write|fdatasync) resumed>(.*)$`)
	result := regexp.MustCompile(`\) += (-?\d+)`)

	var written, synced int64
	pending := map[string]int64{} // by thread: what was written when its call began
	ended := func(call, rest string, writtenBefore int64) error {
		m := result.FindStringSubmatch(rest)
		if m == nil {
			return nil // it was killed in the call
		}
		n, err := strconv.ParseInt(m[1], 10, 64)
		switch {
		case err != nil:
			return err
		case call == "write" && n > 0:
			written += n
		case call == "fdatasync" && n == 0:
			synced = max(synced, writtenBefore)
		}
		return nil
	}
	lines := bufio.NewScanner(trace)
	for lines.Scan() {
		line := lines.Text()
		if m := begun.FindStringSubmatch(line); m != nil {
			if result.MatchString(m[3]) {
				if err := ended(m[2], m[3], written); err != nil {
					return 0, fmt.Errorf("the trace: %q: %w", line, err)
				}
			} else {
				pending[m[1]] = written
			}
		} else if m := resumed.FindStringSubmatch(line); m != nil {
			before, ours := pending[m[1]]
			delete(pending, m[1])
			if !ours {
				continue
			}
			if err := ended(m[2], m[3], before); err != nil {
				return 0, fmt.Errorf("the trace: %q: %w", line, err)
			}
		}
	}
	if err := lines.Err(); err != nil {
		return 0, fmt.Errorf("the trace: %w", err)
	}
	return synced, nil
}
