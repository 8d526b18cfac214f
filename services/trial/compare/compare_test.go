package compare

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// build returns a folder with the binaries.
func build(t *testing.T) string {
	t.Helper()
	bin := t.TempDir()
	cmd := exec.Command("go", "build", "-o", bin+"/", "./services/gateway/cmd/gateway", "./services/auth/cmd/auth", "./services/cart/cmd/cart", "./services/trial/cmd/stateful")
	cmd.Dir = "../../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	return bin
}

// TestRun takes three ways through all phases, briefly, and holds the numbers
// against what is known of each.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	var out strings.Builder
	if err := Run(ctx, Options{Bin: build(t), Dir: dir, Source: "../../..", Sessions: 500, Short: true, Ways: []string{"memory", "cookie", "redis"}}, &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	var report Report
	content, err := os.ReadFile(filepath.Join(dir, "compare.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(content, &report); err != nil {
		t.Fatal(err)
	}
	way := map[string]Measured{}
	for _, m := range report.Ways {
		way[m.Key] = m
	}
	if len(way) != 3 {
		t.Fatalf("%d ways were measured", len(way))
	}
	check := func(what string, ok bool) {
		t.Helper()
		if !ok {
			t.Errorf("%s\n%s", what, out.String())
		}
	}
	for key, m := range way {
		check(key+": no memory, code or CPU", key == "cookie" || m.MemoryPerSession > 100)
		check(key+": lines", m.Lines > 1000)
		check(key+": requests fail", m.Rollout.Failed*10 <= m.Rollout.Requests)
		stateful := strings.HasPrefix(key, "memory")
		check(key+": carts lost at a roll-out", (m.Rollout.CartsLost == m.Rollout.Carts) == stateful && (m.Rollout.CartsLost == 0) != stateful)
		check(key+": sessions lost at a roll-out", (m.Rollout.SessionsLost == m.Rollout.Sessions) == stateful && (m.Rollout.SessionsLost == 0) != stateful)
		check(key+": lost at a death", stateful || m.Death.CartsLost+m.Death.SessionsLost == 0)
		check(key+": lost updates", (m.AddsLost > 0) == (key == "cookie"))
		check(key+": size", (m.Largest == maxLines) == (key != "cookie") && m.Largest > 50)
		check(key+": wrong server", (m.WithoutCart*2 > m.Requests) == (key == "memory"))
	}
	check("memory: lost at a death", way["memory"].Death.CartsLost > 0 && way["memory"].Death.SessionsLost > 0)
	check("cookie: log-out", way["cookie"].LogOutsHeld == 0 && way["redis"].LogOutsHeld == way["redis"].LogOuts)
	check("cookie: bytes", way["cookie"].CookieBytes > way["redis"].CookieBytes+100 && way["cookie"].CookieBytesLargest > 4000)
	session := map[string]SessionWay{}
	for _, m := range report.SessionWays {
		session[m.Key] = m
		held, lost := m.Key != "jwt", m.Key == "memory"
		check("sessions, "+m.Key+": log-outs", m.LogOuts > 0 && (m.LogOutsHeld == m.LogOuts) == held && (m.LogOutsHeld == 0) != held)
		check("sessions, "+m.Key+": lost", m.Sessions > 0 && (m.SessionsLost > 0) == lost && m.SessionsLost < m.Sessions)
		check("sessions, "+m.Key+": bytes", m.Bytes > 40)
	}
	check("sessions: look-ups", session["memory"].LookUps == 1 && session["shared"].LookUps == 1 && session["jwt"].LookUps == 0 && session["coatcheck"].LookUps < 0.1)
	check("sessions: CPU", session["shared"].Check > 4*session["coatcheck"].Check && session["shared"].Check > session["memory"].Check)
	page, err := os.ReadFile(filepath.Join(dir, "compare.html"))
	if err != nil || strings.Count(string(page), "<td>") != 3*len(report.rows())+4*len(report.sessionRows()) {
		t.Errorf("the page has %d cells: %v", strings.Count(string(page), "<td>"), err)
	}
}

func TestWays(t *testing.T) {
	err := Run(t.Context(), Options{Ways: []string{"disk"}}, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "disk") {
		t.Errorf("got %v", err)
	}
}

func backends(names ...string) []*backend {
	var list []*backend
	for _, name := range names {
		list = append(list, &backend{replica: replica{Name: name}})
	}
	return list
}

func names(list []*backend) string {
	var names []string
	for _, b := range list {
		names = append(names, b.Name)
	}
	return strings.Join(names, " ")
}

func TestRoundRobin(t *testing.T) {
	for turn, want := range []string{"a b c", "b c a", "c a b", "a b c"} {
		if got := names(roundRobin.order(nil, backends("a", "b", "c"), uint64(turn))); got != want {
			t.Errorf("turn %d goes to %s, want %s", turn, got, want)
		}
	}
}

func TestByCookie(t *testing.T) {
	request := func(pinned string) *http.Request {
		r := httptest.NewRequest("GET", "/", nil)
		if pinned != "" {
			r.AddCookie(&http.Cookie{Name: pin, Value: pinned})
		}
		return r
	}
	list := backends("a", "b", "c")
	for turn := range uint64(3) {
		if got := byCookie.order(request("b"), list, turn)[0].Name; got != "b" {
			t.Errorf("pinned to b, sent to %s", got)
		}
	}
	if got := names(byCookie.order(request("gone"), list, 1)); got != "b c a" {
		t.Errorf("pinned to one that is gone: %s", got)
	}
	for pinned, want := range map[string]bool{"": true, "a": true, "b": false} {
		h := http.Header{}
		byCookie.answered(h, request(pinned), list[1])
		if set := strings.HasPrefix(h.Get("Set-Cookie"), "pin=b;"); set != want {
			t.Errorf("pinned to %q and answered by b: the answer sets %q", pinned, h.Get("Set-Cookie"))
		}
	}
}

// TestByAddress: an address keeps its replica while that is there, and only
// about a share of the addresses moves when one is added.
func TestByAddress(t *testing.T) {
	three, four := backends("a", "b", "c"), backends("a", "b", "c", "d")
	moved, count := 0, map[string]int{}
	const all = 1000
	for i := range all {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set(forwardedFor, string(rune('a'+i%26))+strings.Repeat("x", i/26))
		before, after := byAddress.order(r, three, uint64(i))[0].Name, byAddress.order(r, four, 0)[0].Name
		count[after]++
		if before != after {
			moved++
			if after != "d" {
				t.Errorf("moved from %s to %s", before, after)
			}
		}
	}
	if moved < all/5 || moved > all*3/10 || len(count) != 4 {
		t.Errorf("%d of %d moved: %v", moved, all, count)
	}
}

// TestFront: a refused connection goes on to the next replica, one that breaks
// later does not.
func TestFront(t *testing.T) {
	var hits atomic.Int64
	good := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/break" {
			hits.Add(1)
			panic(http.ErrAbortHandler)
		}
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Served-By", "good")
		_, _ = w.Write(append([]byte(r.Header.Get("X")+" "), body...))
	}))
	defer good.Close()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	host := func(s *httptest.Server) string { return strings.TrimPrefix(s.URL, "http://") }
	f, err := openFront([]replica{{Name: "gone", Address: host(gone), Admin: []string{host(good)}}, {Name: "good", Address: host(good), Admin: []string{host(good)}}}, roundRobin)
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	if err := f.awaitReady(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		req, _ := http.NewRequest("POST", f.url+"/x?y=z", strings.NewReader("body"))
		req.Header.Set("X", "header")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if string(text) != "header body" || resp.Header.Get("Served-By") != "good" {
			t.Fatalf("got %d %q", resp.StatusCode, text)
		}
	}
	resp, err := http.Post(f.url+"/break", "text/plain", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusBadGateway || hits.Load() != 1 {
		t.Errorf("a request that broke was answered %d and sent %d times", resp.StatusCode, hits.Load())
	}
}

func TestSpread(t *testing.T) {
	for _, tt := range []struct {
		counts map[string]int
		want   Load
	}{
		{nil, Load{}},
		{map[string]int{"a": 5, "b": 5, "c": 5}, Load{1, 0}},
		{map[string]int{"a": 9}, Load{3, 1.4142135623730951}},
		{map[string]int{"a": 3, "b": 6, "c": 9}, Load{1.5, 0.408248290463863}},
	} {
		if got := spread(tt.counts); got.MaxOverMean != tt.want.MaxOverMean || got.CV-tt.want.CV > 1e-9 || tt.want.CV-got.CV > 1e-9 {
			t.Errorf("%v: got %v, want %v", tt.counts, got, tt.want)
		}
	}
}
