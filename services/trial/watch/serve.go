package watch

import (
	"bufio"
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"coatcheck/trial/report"
)

const (
	// tellEvery is how often whoever watches is told.
	tellEvery = 500 * time.Millisecond
	// drawEvery is how old a drawn dashboard may be: there is nothing newer to see
	// before the next scrape, and each drawing asks Prometheus for all its panels.
	drawEvery = 5 * time.Second
	// farewell bounds how long the end waits for those who watch to hear of it.
	farewell = 2 * time.Second
)

//go:embed page
var pageFiles embed.FS

// policy lets the page load what this server has, and nothing else from anywhere.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"require-trusted-types-for 'script'; trusted-types 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Server shows a Watch as a page, as events (the State as JSON, twice a second)
// and as metrics.
type Server struct {
	watch *Watch
	http  *http.Server
	addr  string
	dir   string

	drawing sync.Mutex
	drawn   map[string]drawing
}

type drawing struct {
	at  time.Time
	svg []byte
}

// Serve listens at addr, host:port. dir, a trial's folder, is told where, for
// Find. The caller closes the server.
func Serve(w *Watch, addr, dir string) (*Server, error) {
	lis, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("showing the trial (-listen): %w", err)
	}
	s := &Server{watch: w, addr: lis.Addr().String(), dir: dir, drawn: map[string]drawing{}}
	s.http = &http.Server{Handler: s.handler(), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	if err := os.WriteFile(filepath.Join(dir, AddressFile), []byte(s.URL()+"\n"), 0o644); err != nil {
		_ = lis.Close()
		return nil, fmt.Errorf("the trial's folder: %w", err)
	}
	go func() { _ = s.http.Serve(lis) }()
	return s, nil
}

// Addr is where it listens, host:port.
func (s *Server) Addr() string { return s.addr }

// URL is the page's.
func (s *Server) URL() string { return "http://" + s.addr }

// Close ends it, once whoever watches has heard of the end.
func (s *Server) Close() {
	_ = os.Remove(filepath.Join(s.dir, AddressFile))
	ctx, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	_ = s.http.Shutdown(ctx)
	_ = s.http.Close()
}

func (s *Server) handler() http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(s.watch.Collector())
	mux := http.NewServeMux()
	mux.HandleFunc("GET /colours.css", file("colours.css", []byte(report.Colours)))
	for name, path := range map[string]string{"index.html": "/{$}", "page.css": "/page.css", "page.js": "/page.js"} {
		content, _ := pageFiles.ReadFile("page/" + name) // embedded, so it is there
		mux.HandleFunc("GET "+path, file(name, content))
	}
	mux.HandleFunc("GET /events", s.events)
	mux.HandleFunc("GET /dashboards/{name}", s.dashboard)
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{EnableOpenMetrics: true}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", policy)
		mux.ServeHTTP(w, r)
	})
}

func file(name string, content []byte) http.HandlerFunc {
	types := map[string]string{".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", types[filepath.Ext(name)]+"; charset=utf-8")
		http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(content))
	}
}

// events sends the State until it is over, or the client goes.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	flush := http.NewResponseController(w).Flush
	for {
		state := s.watch.State()
		data, err := json.Marshal(state)
		if err == nil {
			_, err = fmt.Fprintf(w, "data: %s\n\n", data)
		}
		if err = errors.Join(err, flush()); err != nil || state.Over {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-s.watch.over:
		case <-time.After(tellEvery):
		}
	}
}

// dashboard draws one, at most every drawEvery however many ask.
func (s *Server) dashboard(w http.ResponseWriter, r *http.Request) {
	name, svg := strings.CutSuffix(r.PathValue("name"), ".svg")
	s.watch.mu.Lock()
	boards, draw := s.watch.state.Boards, s.watch.draw
	s.watch.mu.Unlock()
	if !svg || !slices.Contains(boards, name) {
		http.Error(w, "no such dashboard", http.StatusNotFound)
		return
	}
	s.drawing.Lock()
	defer s.drawing.Unlock()
	d := s.drawn[name]
	if time.Since(d.at) > drawEvery {
		var picture bytes.Buffer
		if err := draw(r.Context(), name, &picture); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		d = drawing{time.Now(), picture.Bytes()}
		s.drawn[name] = d
	}
	// Its style is its own; opened by itself it runs nothing.
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	w.Header().Set("Content-Type", "image/svg+xml")
	_, _ = w.Write(d.svg)
}

// AddressFile is in the folder of a trial that is shown.
const AddressFile = "watch"

// Find returns the URL of the trial at where: a URL, or the folder of one that runs.
func Find(where string) (string, error) {
	if strings.HasPrefix(where, "http://") || strings.HasPrefix(where, "https://") {
		return strings.TrimRight(where, "/"), nil
	}
	content, err := os.ReadFile(filepath.Join(where, AddressFile))
	if errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("no trial runs in %s: start one (trial run), or name its URL or its folder", where)
	}
	return strings.TrimSpace(string(content)), err
}

// Follow calls each with the State of the trial at url, as often as it is told,
// and returns nil when that is over.
func Follow(ctx context.Context, url string, each func(State)) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/events", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("no trial is shown at %s: %w", url, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		return fmt.Errorf("no trial is shown at %s: it answers %s", url, resp.Status)
	}
	scanner := bufio.NewScanner(resp.Body)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		data, ok := strings.CutPrefix(scanner.Text(), "data: ")
		if !ok {
			continue
		}
		var state State
		if err := json.Unmarshal([]byte(data), &state); err != nil {
			return fmt.Errorf("%s: %w", url, err)
		}
		if each(state); state.Over {
			return nil
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return fmt.Errorf("the trial at %s is gone without a word", url)
}
