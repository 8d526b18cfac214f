package redisconn_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"coatcheck/chassis/measuretest"
	"coatcheck/chassis/redistest"
)

// said are the metrics that begin with redis_ and are no client's, by name, and
// the servers that they speak of.
func said(t *testing.T, reg prometheus.Gatherer) (values map[string]float64, servers []string) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values = map[string]float64{}
	of := map[string]bool{}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "redis_") || strings.HasPrefix(f.GetName(), "redis_client_") {
			continue
		}
		for _, m := range f.GetMetric() {
			values[f.GetName()] += m.GetGauge().GetValue() + m.GetCounter().GetValue()
			of[m.GetLabel()[0].GetValue()] = true
		}
	}
	return values, slices.Sorted(maps.Keys(of))
}

// TestInfo: a scrape shows what a real Redis says of itself, and soon that it says nothing.
func TestInfo(t *testing.T) {
	server := redistest.Start(t, "--maxmemory", "100mb")
	reg := prometheus.NewRegistry()
	rdb := open(t, reg, "COATCHECK_REDIS_ADDRS="+server.Addr)
	for i := range 3 {
		if err := rdb.Set(t.Context(), fmt.Sprint("coat-", i), "here", 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	measuretest.Check(t, reg)
	got, servers := said(t, reg)
	for name, want := range map[string]float64{
		"redis_up": 1, "redis_memory_max_bytes": 100 << 20, "redis_db_keys": 3, "redis_evicted_keys_total": 0, "redis_expired_keys_total": 0,
		"redis_aof_enabled": 1, "redis_aof_last_write_status": 1, "redis_aof_last_bgrewrite_status": 1,
	} {
		if value, ok := got[name]; !ok || value != want {
			t.Errorf("%s is %v, want %v", name, value, want)
		}
	}
	for name, least := range map[string]float64{"redis_memory_used_bytes": 100_000, "redis_connected_clients": 1, "redis_commands_processed_total": 3, "redis_aof_current_size_bytes": 50} {
		if got[name] < least {
			t.Errorf("%s is %v, want at least %v", name, got[name], least)
		}
	}
	if len(got) != 13 || !slices.Equal(servers, []string{server.Addr}) {
		t.Errorf("%d metrics of %v", len(got), servers)
	}

	// One that hangs costs a scrape no more than its bound.
	server.Signal(t, syscall.SIGSTOP)
	start := time.Now()
	got, _ = said(t, reg)
	if took := time.Since(start); took > 600*time.Millisecond {
		t.Errorf("a scrape waits %v for a Redis that hangs", took)
	}
	if value, ok := got["redis_up"]; !ok || value != 0 || len(got) != 1 {
		t.Errorf("of a Redis that hangs: %v", got)
	}
	server.Signal(t, syscall.SIGCONT)
	server.Kill()
	if got, _ = said(t, reg); len(got) != 1 || got["redis_up"] != 0 {
		t.Errorf("of a Redis that is gone: %v", got)
	}
}

// TestInfoOfFailures: an append-only file that is off or can't be rewritten shows.
func TestInfoOfFailures(t *testing.T) {
	server := redistest.Start(t)
	reg := prometheus.NewRegistry()
	rdb := open(t, reg, "COATCHECK_REDIS_ADDRS="+server.Addr)
	if err := rdb.ConfigSet(t.Context(), "appendonly", "no").Err(); err != nil {
		t.Fatal(err)
	}
	if got, _ := said(t, reg); got["redis_aof_enabled"] != 0 {
		t.Errorf("with the log off: %v", got)
	}
}

// TestInfoOfACluster: each master speaks for itself.
func TestInfoOfACluster(t *testing.T) {
	cluster := redistest.StartCluster(t, 3)
	reg := prometheus.NewRegistry()
	rdb := open(t, reg, "COATCHECK_REDIS_ADDRS="+cluster[0].Addr, "COATCHECK_REDIS_CLUSTER=true")
	for i := range 30 {
		if err := rdb.Set(t.Context(), fmt.Sprint("coat-", i), "here", 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	got, servers := said(t, reg)
	if got["redis_up"] != 3 || got["redis_db_keys"] != 30 || len(servers) != 3 {
		t.Errorf("%v of %v", got, servers)
	}
}
