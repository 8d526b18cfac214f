package rediscrash

import (
	"strings"
	"testing"
)

func TestSyncedLength(t *testing.T) {
	const file = "/tmp/x/appendonly.aof.1.incr.aof"
	for name, tt := range map[string]struct {
		trace string
		want  int64
	}{
		"nothing": {"", 0},
		"written and not synced": {`
10 write(7</tmp/x/appendonly.aof.1.incr.aof>, ""..., 28) = 28
10 +++ killed by SIGKILL +++`, 0},
		"synced in the same thread": {`
10    write(7</tmp/x/appendonly.aof.1.incr.aof>, ""..., 28) = 28
10    fdatasync(7</tmp/x/appendonly.aof.1.incr.aof>) = 0
10    write(8<socket:[1]>, ""..., 5) = 5
10    write(7</tmp/x/appendonly.aof.1.incr.aof>, ""..., 30) = 30`, 28},
		"what is written during a sync does not count": {`
10 write(7</tmp/x/appendonly.aof.1.incr.aof>, ""..., 28) = 28
11 fdatasync(7</tmp/x/appendonly.aof.1.incr.aof> <unfinished ...>
10 write(7</tmp/x/appendonly.aof.1.incr.aof>, ""..., 30) = 30
11 <... fdatasync resumed>)          = 0`, 28},
		"a write that had begun before the sync and ended after it does not count": {`
10 write(7</tmp/x/appendonly.aof.1.incr.aof>, ""..., 28 <unfinished ...>
11 fdatasync(7</tmp/x/appendonly.aof.1.incr.aof> <unfinished ...>
10 <... write resumed>) = 28
11 <... fdatasync resumed>) = 0`, 0},
		"killed in the sync": {`
10 write(7</tmp/x/appendonly.aof.1.incr.aof>, ""..., 28) = 28
10 fdatasync(7</tmp/x/appendonly.aof.1.incr.aof>) = ?
10 +++ killed by SIGKILL +++`, 0},
		"a sync that failed, one of another file, a call of another kind": {`
10 write(7</tmp/x/appendonly.aof.1.incr.aof>, ""..., 28) = 28
10 fdatasync(7</tmp/x/appendonly.aof.1.incr.aof>) = -1 EIO (Input/output error)
10 fdatasync(9</tmp/x>) = 0
11 fdatasync(9</tmp/x> <unfinished ...>
11 <... fdatasync resumed>) = 0
10 write(8<socket:[1]>, ""..., 5 <unfinished ...>
10 <... write resumed>) = 5`, 0},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := syncedLength(strings.NewReader(tt.trace), file)
			if err != nil || got != tt.want {
				t.Errorf("%d, %v, want %d", got, err, tt.want)
			}
		})
	}
}
