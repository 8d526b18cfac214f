package watch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"coatcheck/trial/history"
	"coatcheck/trial/report"
)

func serve(t *testing.T, w *Watch) (s *Server, dir string) {
	t.Helper()
	dir = t.TempDir()
	s, err := Serve(w, "127.0.0.1:0", dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s, dir
}

func get(t *testing.T, url string) (*http.Response, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// TestPage: the page and all that it names come from here, and nothing else may.
func TestPage(t *testing.T) {
	s, _ := serve(t, New())
	resp, page := get(t, s.URL()+"/")
	policy := resp.Header.Get("Content-Security-Policy")
	if resp.StatusCode != 200 || !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") || strings.Contains(policy, "http") {
		t.Errorf("%d, policy %q", resp.StatusCode, policy)
	}
	names := regexp.MustCompile(`(?:href|src)="([^"]+)"`).FindAllStringSubmatch(page, -1)
	for _, m := range names {
		if strings.HasPrefix(m[1], "data:") || m[1] == "events" {
			continue
		}
		if resp, body := get(t, s.URL()+"/"+m[1]); resp.StatusCode != 200 || len(body) < 200 {
			t.Errorf("%s: %d, %d bytes", m[1], resp.StatusCode, len(body))
		}
	}
	if len(names) < 5 || strings.Contains(page, "://") && !strings.Contains(page, "http://www.w3.org/2000/svg") || regexp.MustCompile(` on[a-z]+=|style=`).MatchString(page) {
		t.Errorf("%d references, or something inline", len(names))
	}
	for _, path := range []string{"/index.html", "/page/page.js", "/dashboards/overview.svg", "/dashboards/..%2f..%2fsecret.svg"} {
		if resp, _ := get(t, s.URL()+path); resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
	}
	if _, metrics := get(t, s.URL()+"/metrics"); !strings.Contains(metrics, "coatcheck_trial_lines_lost_total 0") {
		t.Errorf("metrics:\n%s", metrics)
	}
}

// TestFollow: whoever finds a trial by its folder follows it to its end, which
// waits for those who watch.
func TestFollow(t *testing.T) {
	w := New()
	s, dir := serve(t, w)
	url, err := Find(dir)
	if err != nil || url != s.URL() {
		t.Fatalf("%q, %v", url, err)
	}
	if same, err := Find(url + "/"); same != url || err != nil {
		t.Errorf("%q, %v", same, err)
	}
	rest := w.Begin(history.Run{Scenario: "demo", Length: time.Minute}, nothing, nil)
	w.Op(add("u", "a"))
	var states []State
	first, ended := make(chan struct{}), make(chan error)
	var once sync.Once
	go func() {
		ended <- Follow(t.Context(), url, func(s State) {
			states = append(states, s)
			once.Do(func() { close(first) })
		})
	}()
	<-first
	w.Op(&history.Op{Kind: history.Read, Cart: "u", Outcome: history.OK, Shown: cart()})
	rest()
	w.End(report.Fail, "FAIL  1 lost")
	s.Close()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	before, after := states[0], states[len(states)-1]
	if before.Seconds == nil || before.Replicas == nil || before.Faults == nil {
		t.Errorf("what is none must be an empty list: %+v", before)
	}
	if before.Run.Scenario != "demo" || before.OK != 1 || before.Over {
		t.Errorf("at first %+v", before)
	}
	if !after.Over || after.Verdict != report.Fail || after.Line != "FAIL  1 lost" || after.Lost != 1 || after.Lines != 1 {
		t.Errorf("at last %+v", after)
	}
	if _, err := Find(dir); err == nil || !strings.Contains(err.Error(), "trial run") {
		t.Errorf("a trial that is over is found: %v", err)
	}
}

// TestFollowNobody: what is no trial, or ends without a word, is an error that says so.
func TestFollowNobody(t *testing.T) {
	w := New()
	s, dir := serve(t, w)
	if err := Follow(t.Context(), s.URL()+"/metrics", nil); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("no trial: %v", err)
	}
	ctx, leave := context.WithCancel(t.Context())
	if err := Follow(ctx, s.URL(), func(State) { leave() }); !errors.Is(err, context.Canceled) {
		t.Errorf("whoever leaves: %v", err)
	}
	gone := make(chan error)
	begun := make(chan struct{}, 100)
	go func() { gone <- Follow(t.Context(), s.URL(), func(State) { begun <- struct{}{} }) }()
	<-begun
	_ = s.http.Close() // as if the process had died
	if err := <-gone; err == nil {
		t.Error("a trial that died is taken for one that is over")
	}
	if err := Follow(t.Context(), s.URL(), nil); err == nil || !strings.Contains(err.Error(), "no trial is shown") {
		t.Errorf("nobody listens: %v", err)
	}
	if _, err := Serve(w, "nowhere", dir); err == nil || !strings.Contains(err.Error(), "-listen") {
		t.Errorf("a wrong address: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, AddressFile)); err != nil {
		t.Errorf("a second server that failed took the first one's file: %v", err)
	}
}

// TestDashboards: however many ask for a dashboard, it is drawn once in a while;
// what can't be drawn is an error.
func TestDashboards(t *testing.T) {
	w := New()
	s, _ := serve(t, w)
	var drawn atomic.Int32
	w.Draws([]string{"overview", "broken"}, func(_ context.Context, board string, to io.Writer) error {
		if board == "broken" {
			return errors.New("no Prometheus")
		}
		_, err := fmt.Fprintf(to, "<svg>%s %d</svg>", board, drawn.Add(1))
		return err
	})
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			resp, svg := get(t, s.URL()+"/dashboards/overview.svg?1")
			if svg != "<svg>overview 1</svg>" || resp.Header.Get("Content-Type") != "image/svg+xml" || !strings.HasPrefix(resp.Header.Get("Content-Security-Policy"), "default-src 'none'; style") {
				t.Errorf("%s, %v", svg, resp.Header)
			}
		})
	}
	all.Wait()
	if resp, body := get(t, s.URL()+"/dashboards/broken.svg"); resp.StatusCode != 503 || !strings.Contains(body, "no Prometheus") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}
