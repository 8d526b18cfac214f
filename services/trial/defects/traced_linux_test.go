package defects

import (
	"bytes"
	"errors"
	"os"
	"time"

	"coatcheck/trial/fault"
	"coatcheck/trial/history"
	"coatcheck/trial/rediscrash"
)

// traced are the defects for which Redis must be traced.
func traced() []defect {
	return []defect{{
		name: "everysec", checks: []string{"lost"}, least: 50,
		trial:  trial{weights: guests, slow: 100 * time.Millisecond, faults: crashRedis},
		sound:  double{policy: rediscrash.Always},
		broken: double{policy: rediscrash.EverySec},
	}}
}

// crashRedis kills Redis half a second after it has synced, with all that it has
// not synced since.
func crashRedis(s *stage) error {
	synced := func() int {
		trace, err := os.ReadFile(s.crash.Trace())
		if err != nil {
			return 0
		}
		return bytes.Count(trace, []byte("fdatasync("))
	}
	return s.fault(history.Outage, fault.RedisKill, "redis", func() error {
		before := synced()
		for deadline := time.Now().Add(startBound); synced() == before; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				return errors.New("redis-server syncs nothing")
			}
		}
		time.Sleep(500 * time.Millisecond)
		s.crash.Kill()
		if _, _, err := s.crash.Cut(); err != nil {
			return err
		}
		return s.crash.Start(s.ctx, false)
	})
}
