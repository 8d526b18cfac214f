package chassis

import (
	"errors"
	"net"
	"net/http"
	"net/http/pprof"
	"regexp"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// The states of a service, as the coatcheck_state metric shows them.
const (
	starting int32 = iota
	ready
	draining
)

// admin serves what only the operator sees, on a port of its own.
type admin struct {
	server   *http.Server
	state    atomic.Int32
	draining atomic.Int64 // since when, in Unix nanoseconds; 0 before
}

// drain tells everyone who asks that the service drains from now on.
func (a *admin) drain() {
	a.draining.Store(time.Now().UnixNano())
	a.state.Store(draining)
}

// NewRegistry returns a registry with the Go runtime's and the process's metrics.
func NewRegistry() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	further := collectors.WithGoCollectorRuntimeMetrics(
		collectors.GoRuntimeMetricsRule{Matcher: regexp.MustCompile(`^/sched/(latencies|pauses/total/gc):seconds$`)})
	reg.MustRegister(collectors.NewGoCollector(further), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return reg
}

func newAdmin(service string, s Settings, reg *prometheus.Registry) *admin {
	a := &admin{}
	promauto.With(reg).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "coatcheck_state",
		Help: "0 starting, 1 ready, 2 draining.",
	}, func() float64 { return float64(a.state.Load()) })
	promauto.With(reg).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "coatcheck_drain_seconds",
		Help: "How long the service has drained; 0 while it does not.",
	}, func() float64 {
		since := a.draining.Load()
		if since == 0 {
			return 0
		}
		return time.Since(time.Unix(0, since)).Seconds()
	})
	promauto.With(reg).NewGauge(prometheus.GaugeOpts{
		Name: "coatcheck_drain_limit_seconds",
		Help: "How long a drain may take (settings DRAIN_DELAY and STOP_TIMEOUT).",
	}).Set((s.DrainDelay + s.StopTimeout).Seconds())
	promauto.With(reg).NewGaugeFunc(prometheus.GaugeOpts{
		Name:        "coatcheck_build_info",
		Help:        "1, with what was built and which replica runs it as labels.",
		ConstLabels: buildInfo(service, s.InstanceName()),
	}, func() float64 { return 1 })

	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{EnableOpenMetrics: true}))
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("ok\n"))
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		switch a.state.Load() {
		case ready:
			_, _ = w.Write([]byte("ready\n"))
		case draining:
			http.Error(w, "draining", http.StatusServiceUnavailable)
		default:
			http.Error(w, "starting", http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	a.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	return a
}

func buildInfo(service, instance string) prometheus.Labels {
	labels := prometheus.Labels{"service": service, "instance_name": instance, "version": "unknown", "revision": "unknown", "goversion": runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return labels
	}
	labels["version"] = info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			labels["revision"] = s.Value
		}
	}
	return labels
}

func (a *admin) serve(lis net.Listener) error {
	if err := a.server.Serve(lis); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (a *admin) close() { _ = a.server.Close() }
