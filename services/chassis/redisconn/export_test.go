package redisconn

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
)

// Measured is what a command passes on its way to next.
func Measured(reg prometheus.Registerer, next redis.ProcessHook) redis.ProcessHook {
	return newHook(reg).ProcessHook(next)
}
