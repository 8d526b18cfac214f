package redisconn

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
)

// infoTimeout bounds what a scrape waits for Redis.
const infoTimeout = 300 * time.Millisecond

// info is what Redis says of itself, asked for at each scrape, so that nobody has
// to run an exporter beside it. Names are those of redis_exporter. All replicas
// ask the same servers: whoever looks takes the largest number, not the sum.
type info struct {
	rdb    redis.UniversalClient
	name   string // of a single server
	up     *prometheus.Desc
	fields []field
}

// field is one number of INFO.
type field struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	read func(answer map[string]string) (float64, bool)
}

func newInfo(rdb redis.UniversalClient, s Settings) *info {
	name := s.Addrs[0]
	if s.Master != "" {
		name = s.Master
	}
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, []string{"server"}, nil)
	}
	is := func(key, word string) func(map[string]string) (float64, bool) {
		return func(answer map[string]string) (float64, bool) {
			text, ok := answer[key]
			if text == word {
				return 1, ok
			}
			return 0, ok
		}
	}
	number := func(key string) func(map[string]string) (float64, bool) {
		return func(answer map[string]string) (float64, bool) {
			n, err := strconv.ParseFloat(answer[key], 64)
			return n, err == nil
		}
	}
	const gauge, counter = prometheus.GaugeValue, prometheus.CounterValue
	return &info{rdb, name, desc("redis_up", "Whether Redis answered when this replica asked."), []field{
		{desc("redis_uptime_in_seconds", "How long Redis has run."), gauge, number("uptime_in_seconds")},
		{desc("redis_memory_used_bytes", "Memory that Redis uses."), gauge, number("used_memory")},
		{desc("redis_memory_max_bytes", "Redis' maxmemory; 0 is no limit."), gauge, number("maxmemory")},
		{desc("redis_connected_clients", "Connections that Redis has open."), gauge, number("connected_clients")},
		{desc("redis_commands_processed_total", "Commands that Redis ran."), counter, number("total_commands_processed")},
		{desc("redis_expired_keys_total", "Keys whose time was over."), counter, number("expired_keys")},
		{desc("redis_evicted_keys_total", "Keys that Redis threw away for want of memory."), counter, number("evicted_keys")},
		{desc("redis_db_keys", "Keys in all databases."), gauge, keys},
		{desc("redis_aof_enabled", "Whether Redis keeps an append-only file."), gauge, is("aof_enabled", "1")},
		{desc("redis_aof_last_write_status", "Whether the append-only file was last written without an error."), gauge, is("aof_last_write_status", "ok")},
		{desc("redis_aof_last_bgrewrite_status", "Whether the append-only file was last rewritten without an error."), gauge, is("aof_last_bgrewrite_status", "ok")},
		{desc("redis_aof_current_size_bytes", "Size of the append-only file."), gauge, number("aof_current_size")},
	}}
}

// keys adds up the keyspace: db0:keys=17,expires=3,….
func keys(answer map[string]string) (float64, bool) {
	total := 0.0
	for key, value := range answer {
		counts, isDB := strings.CutPrefix(value, "keys=")
		if !isDB || !strings.HasPrefix(key, "db") {
			continue
		}
		n, _, _ := strings.Cut(counts, ",")
		count, err := strconv.ParseFloat(n, 64)
		if err != nil {
			return 0, false
		}
		total += count
	}
	return total, true
}

// Describe is part of prometheus.Collector.
func (i *info) Describe(ch chan<- *prometheus.Desc) {
	ch <- i.up
	for _, f := range i.fields {
		ch <- f.desc
	}
}

// Collect is part of prometheus.Collector. A Redis that does not answer has
// redis_up 0 and no other number.
func (i *info) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), infoTimeout)
	defer cancel()
	cluster, ok := i.rdb.(*redis.ClusterClient)
	if !ok {
		i.ask(ctx, i.rdb, i.name, ch)
		return
	}
	// Masters that the client has heard of; none of them is the whole cluster's name.
	err := cluster.ForEachMaster(ctx, func(ctx context.Context, master *redis.Client) error {
		i.ask(ctx, master, master.Options().Addr, ch)
		return nil
	})
	if err != nil {
		ch <- prometheus.MustNewConstMetric(i.up, prometheus.GaugeValue, 0, i.name)
	}
}

func (i *info) ask(ctx context.Context, rdb redis.Cmdable, server string, ch chan<- prometheus.Metric) {
	text, err := rdb.Info(ctx).Result()
	up := 1.0
	if err != nil {
		up = 0
	}
	ch <- prometheus.MustNewConstMetric(i.up, prometheus.GaugeValue, up, server)
	answer := map[string]string{}
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			answer[key] = value
		}
	}
	for _, f := range i.fields {
		if value, ok := f.read(answer); ok && up == 1 {
			ch <- prometheus.MustNewConstMetric(f.desc, f.kind, value, server)
		}
	}
}
