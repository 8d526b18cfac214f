// Command reference serves one of the servers that the shop's cost is measured
// against. It is no part of the shop.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"coatcheck/trial/bench/reference"
)

func main() {
	kind := flag.String("kind", "", "direct, naive or echo")
	listen := flag.String("listen", "", "address to serve")
	redisAddr := flag.String("redis", "", "address of the Redis; echo needs none")
	catalogue := flag.String("catalogue", "", "file of products; echo needs none")
	script := flag.String("script", "", "file with the shop's script for changes; for direct")
	slack := flag.Duration("timer-slack", 0, "how late sleeps may end, so that they end together; 0 for the system's own way")
	flag.Parse()
	if *slack > 0 {
		if err := slackTimers(*slack); err != nil {
			fmt.Fprintln(os.Stderr, "reference: timer slack:", err)
			os.Exit(1)
		}
	}
	handler, err := newHandler(*kind, *redisAddr, *catalogue, *script)
	if err == nil {
		err = serve(*listen, handler)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "reference:", err)
		os.Exit(1)
	}
}

func newHandler(kind, redisAddr, catalogueFile, scriptFile string) (http.Handler, error) {
	if kind == "echo" {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<10))
			if err != nil {
				http.Error(w, "body", http.StatusBadRequest)
				return
			}
			_, _ = w.Write(body)
		}), nil
	}
	catalogue, err := reference.ReadCatalogue(catalogueFile)
	if err != nil {
		return nil, err
	}
	// The pool that served the direct way best; no retries, as in the shop.
	rdb := redis.NewClient(&redis.Options{
		Addr: redisAddr, PoolSize: 64, MaxRetries: -1, ContextTimeoutEnabled: true, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	switch kind {
	case "direct":
		script, err := os.ReadFile(scriptFile)
		if err != nil {
			return nil, err
		}
		return reference.Handler(reference.NewDirect(rdb, string(script), catalogue), catalogue), nil
	case "naive":
		return reference.Handler(reference.NewNaive(rdb, catalogue), catalogue), nil
	}
	return nil, errors.New("-kind must be direct, naive or echo")
}

func serve(addr string, handler http.Handler) error {
	mux := http.NewServeMux()
	mux.Handle("/", handler)
	// As the Go runtime's metrics of the shop's processes have it.
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		_, _ = fmt.Fprintf(w, "go_memstats_mallocs_total %d\n", m.Mallocs)
	})
	server := &http.Server{Addr: addr, Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	return server.ListenAndServe()
}
