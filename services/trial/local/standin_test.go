package local

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestMain lets the test binary be, beside itself, each of the programs that a
// shop consists of: a stand-in when it is called by a service's name, and the
// supervisor when its first argument says so.
func TestMain(m *testing.M) {
	switch role := filepath.Base(os.Args[0]); {
	case role == Gateway || role == Auth || role == Cart:
		os.Exit(standIn(role))
	case role == Prometheus:
		os.Exit(watchStandIn(os.Args[1:]))
	case len(os.Args) > 1 && os.Args[1] == "supervise":
		os.Exit(superviseHere(os.Args[2:]))
	}
	os.Exit(m.Run())
}

// standIn listens as the service would and answers what the supervisor asks.
func standIn(role string) int {
	needed := map[string][]string{
		Gateway: {"COATCHECK_HTTP_ADDR", "COATCHECK_AUTH_ADDR", "COATCHECK_CART_ADDR", "COATCHECK_PLAIN_HTTP"},
		Auth:    {"COATCHECK_GRPC_ADDR", "COATCHECK_REDIS_ADDRS", "COATCHECK_REDIS_PASSWORD_FILE", "COATCHECK_SIGNING_KEYS_FILE"},
		Cart:    {"COATCHECK_GRPC_ADDR", "COATCHECK_REDIS_ADDRS", "COATCHECK_REDIS_PASSWORD_FILE"},
	}
	for _, name := range needed[role] {
		if os.Getenv(name) == "" {
			fmt.Fprintln(os.Stderr, name, "is not set")
			return 2
		}
	}
	if os.Getenv("COATCHECK_STRAY") != "" {
		fmt.Fprintln(os.Stderr, "COATCHECK_STRAY: no such setting")
		return 2
	}
	var draining atomic.Bool
	ready := func(w http.ResponseWriter, _ *http.Request) {
		if draining.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}
	admin := http.NewServeMux()
	admin.HandleFunc("GET /readyz", ready)
	public := http.NewServeMux()
	public.HandleFunc("GET /", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Served-By", os.Getenv("COATCHECK_INSTANCE"))
		_, _ = w.Write([]byte(`{"version": 0, "items": []}`))
	})
	addr := os.Getenv("COATCHECK_HTTP_ADDR") + os.Getenv("COATCHECK_GRPC_ADDR")
	for addr, handler := range map[string]http.Handler{addr: public, os.Getenv("COATCHECK_ADMIN_ADDR"): admin} {
		lis, err := net.Listen("tcp", addr)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		go func() { _ = http.Serve(lis, handler) }()
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	<-ctx.Done()
	draining.Store(true)
	if role == Gateway {
		time.Sleep(600 * time.Millisecond)
	}
	return 0
}

// watchStandIn answers that it is ready, and scrapes nothing.
func watchStandIn(args []string) int {
	for _, arg := range args {
		if addr, ok := strings.CutPrefix(arg, "--web.listen-address="); ok {
			fmt.Fprintln(os.Stderr, http.ListenAndServe(addr, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
		}
	}
	return 1
}

func superviseHere(args []string) int {
	flags := flag.NewFlagSet("supervise", flag.ExitOnError)
	o := Options{Log: slog.New(slog.NewJSONHandler(os.Stderr, nil))}
	flags.IntVar(&o.Port, "port", 0, "")
	flags.StringVar(&o.State, "state", "", "")
	flags.StringVar(&o.Bin, "bin", "", "")
	_ = flags.Parse(args)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := Supervise(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
