package watch

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"coatcheck/trial/fault"
	"coatcheck/trial/history"
	"coatcheck/trial/local"
	"coatcheck/trial/traffic"
	"coatcheck/trial/watch"
)

// steady are metrics that may stay as they are in a good run, with the reason.
// What looks at any other must change.
var steady = map[string]string{
	"shop:replicas:min":                         "a bound",
	"shop:replicas:max":                         "a bound",
	"coatcheck_gateway_slots":                   "a setting, of as many as there are",
	"redis_client_pool_max_connections":         "a setting, of as many as there are",
	"redis_memory_max_bytes":                    "a setting",
	"coatcheck_gateway_tickets_max":             "a setting",
	"coatcheck_auth_revocation_logs_lost_total": "Redis keeps it",
	"coatcheck_gateway_revocation_gaps_total":   "nothing of the log is lost, and nobody is away for long",
	"redis_aof_last_write_status":               "the disk is well",
	"redis_aof_last_bgrewrite_status":           "the disk is well",
	"redis_evicted_keys_total":                  "or carts are lost",
	"redis_expired_keys_total":                  "what goes first, the mark of a log-out, stays for two minutes, as long as most of the test",
	"coatcheck_trial_lines_lost_total":          "or carts are lost",
}

// quiet is how long the shop is watched before anybody comes.
const quiet = 12 * time.Second

// TestShop opens a shop with a Prometheus beside it, lets customers in, makes
// every fault of the trial's demo, all of it shown as a trial shows itself, and
// then asks everything that the dashboards ask. The trial's kills must make
// ReplicaRestartsAgain fire; at last Redis is held down, and RedisDown must.
func TestShop(t *testing.T) {
	show := watch.New()
	shown, err := watch.Serve(show, "127.0.0.1:0", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(shown.Close)
	addr, of := autoscalers(t, shown.Addr())
	shop, network := open(t, addr)
	of.Store(shop)
	began := time.Now()
	prometheus := server(t, shop)
	time.Sleep(quiet)

	customers, err := traffic.New(t.Context(), traffic.Options{
		Target: "http://" + shop.Address(), Rate: 60, Length: 20 * time.Second, Shoppers: 20, Hot: 1, Seed: 1,
		More: func() bool { return t.Context().Err() == nil }, Sink: show.Op,
	})
	if err != nil {
		t.Fatal(err)
	}
	rest := show.Begin(history.Run{Scenario: "demo"}, customers.Live, func() (all []watch.Replica) {
		for _, p := range shop.Processes() {
			all = append(all, watch.Replica{Role: p.Role, Name: p.Name, State: p.State})
		}
		return all
	})
	t.Cleanup(rest)
	ctx, leave := context.WithCancel(t.Context())
	gone := make(chan struct{})
	go func() {
		_ = customers.Run(ctx)
		close(gone)
	}()
	t.Cleanup(func() {
		leave()
		<-gone
	})

	demo, ok := fault.Named("demo")
	if !ok {
		t.Fatal("the trial has no demo")
	}
	faults := 0
	inject := func(f fault.Fault) {
		made := history.Fault{Name: f.Name, Target: f.Target, Class: f.Class}
		over := show.Fault(made)
		if err := f.Inject(ctx, fault.Env{Shop: shop, Network: network}); err != nil {
			t.Fatal(err)
		}
		over(made)
		faults++
	}
	if n := prometheus.firing("ReplicaRestartsAgain"); n != 0 {
		t.Errorf("ReplicaRestartsAgain fires %d times before anything is killed", n)
	}
	for f := range demo.Faults(1, shop.Processes()) {
		inject(f)
		time.Sleep(f.Gap)
	}
	// The demo spreads its kills so that a replica ends three or four times, of which
	// a scrape may miss one. A few more, each of them scraped, must do.
	rotation, ok := fault.Named("rotation")
	if !ok {
		t.Fatal("the trial has no rotation")
	}
	more := 0
	for f := range rotation.Faults(1, shop.Processes()) {
		if prometheus.firing("ReplicaRestartsAgain") > 0 || more == 12 {
			break
		}
		if f.Kind == fault.Kill {
			inject(f)
			more++
			time.Sleep(2 * step)
		}
	}
	t.Logf("ReplicaRestartsAgain fires for %d replicas after %d kills more than the demo's", prometheus.firing("ReplicaRestartsAgain"), more)
	if prometheus.firing("ReplicaRestartsAgain") == 0 {
		t.Error("nobody is told of replicas that are killed again and again")
	}
	// The demo scales for a moment only, which a scrape may miss.
	spares := slices.DeleteFunc(shop.Processes(), func(p local.Process) bool { return p.State != local.Stopped })
	for _, p := range spares {
		if err := shop.StartProcess(p.Name); err != nil {
			t.Fatal(err)
		}
	}
	prometheus.await(30*time.Second, "scrapes of four carts", func() bool {
		return slices.Contains(values0(prometheus.over(`count(up{job="coatcheck-cart"})`, began, time.Now())), 4)
	})
	time.Sleep(2 * step)
	for _, p := range spares {
		if err := shop.StopProcess(p.Name); err != nil {
			t.Fatal(err)
		}
	}
	if n := prometheus.firing("RedisDown"); n != 0 {
		t.Errorf("RedisDown fires %d times on a shop whose Redis is there", n)
	}

	// The outage that the demo makes is over before anybody should be woken.
	stopped := time.Now()
	if err := shop.StopProcess(local.Redis); err != nil {
		t.Fatal(err)
	}
	prometheus.await(90*time.Second, "RedisDown fires", func() bool { return prometheus.firing("RedisDown") == 1 })
	t.Logf("RedisDown fired %v after Redis had stopped", time.Since(stopped).Round(time.Second))
	if err := shop.StartProcess(local.Redis); err != nil {
		t.Fatal(err)
	}
	prometheus.await(30*time.Second, "RedisDown is over", func() bool { return prometheus.firing("RedisDown") == 0 })
	time.Sleep(10 * time.Second)
	live := customers.Live()
	t.Logf("%d changes acknowledged, %d faults", live.Changes, faults)
	if live.Changes < 1000 || faults < 40 {
		t.Error("that is too little to say anything")
	}

	end := time.Now()
	asked := expressions(t)
	answered := 0
	for _, e := range asked {
		found := prometheus.over(filled(e.text, "20s"), began, end)
		reason := whySteady(t, e)
		switch {
		case values(found) == 0:
			t.Errorf("%s: no data: %s", e.where, e.text)
		case reason == "" && !changed(found, end.Sub(began)):
			t.Errorf("%s: never changes: %s", e.where, e.text)
		default:
			answered++
		}
	}
	t.Logf("%d of %d expressions have data that changes as it should", answered, len(asked))

	// However calls fail, a replica has no more series than it may.
	var roles int
	for _, s := range prometheus.at(`max by (job) (max_over_time(scrape_samples_scraped{job=~"coatcheck-(gateway|auth|cart)"}[10m]))`) {
		most := numbers(s)[0]
		t.Logf("%s: a replica had %.0f series at most", s.Metric["job"], most)
		if most >= 1500 {
			t.Errorf("%s: that must be fewer than 1,500", s.Metric["job"])
		}
		roles++
	}
	if roles != 3 {
		t.Errorf("the series of %d roles were counted", roles)
	}

	// Replicas that come and go are scraped as they do, once each has been for the first time.
	carts := values0(prometheus.over(`count(up{job="coatcheck-cart"})`, began.Add(quiet), end))
	if slices.Min(carts) != 3 || slices.Max(carts) != 4 {
		t.Errorf("between %v and %v carts were scraped, want 3 and, scaled up, 4", slices.Min(carts), slices.Max(carts))
	}
}

// autoscalers shows beside the trial's metrics what kube-state-metrics would of
// autoscalers, which a shop without a cluster has none of: how many replicas of
// each part there are to be.
func autoscalers(t *testing.T, trial string) (addr string, of *atomic.Pointer[local.Shop]) {
	t.Helper()
	of = &atomic.Pointer[local.Shop]{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		resp, err := http.Get("http://" + trial + "/metrics")
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer func() { _ = resp.Body.Close() }()
		w.Header().Set("Content-Type", resp.Header.Get("Content-Type"))
		_, _ = io.Copy(w, resp.Body)
		shop := of.Load()
		if shop == nil {
			return
		}
		desired := map[string]int{}
		for _, p := range shop.Processes() {
			if p.State != local.Stopped {
				desired[p.Role]++
			}
		}
		for _, part := range []string{local.Gateway, local.Auth, local.Cart} {
			_, _ = fmt.Fprintf(w, "kube_horizontalpodautoscaler_status_desired_replicas{horizontalpodautoscaler=\"coatcheck-%s\"} %d\n", part, desired[part])
		}
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://"), of
}

// open opens a shop as the trial does: three of each and a spare, and a network that can be cut.
// trial is where the trial's own metrics are.
func open(t *testing.T, trial string) (*local.Shop, *fault.Network) {
	t.Helper()
	network := fault.NewNetwork()
	t.Cleanup(network.Close)
	shop, err := local.Start(local.Options{
		State: filepath.Join(t.TempDir(), "shop"), Bin: filepath.Join(repository, ".bin"), Watch: chart, Trial: trial,
		Gateways: 3, Auths: 3, Carts: 3, Spares: 1, RestartDelay: 300 * time.Millisecond, Through: network.Through,
		Env: map[string][]string{
			local.Auth: {"COATCHECK_MAX_PASSWORD_HASHES=1"},
			// So few customers would seldom wait for one of sixteen connections in vain.
			local.Cart: {"COATCHECK_REDIS_POOL_SIZE=1"},
		},
	})
	if err != nil {
		t.Fatalf("%v\nmake test-dashboards builds what it needs", err)
	}
	t.Cleanup(shop.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := shop.AwaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	return shop, network
}

// client asks one Prometheus.
type client struct {
	t    *testing.T
	base string
}

func server(t *testing.T, shop *local.Shop) client {
	t.Helper()
	for _, p := range shop.Processes() {
		if p.Role == local.Prometheus {
			return client{t, "http://" + p.Address}
		}
	}
	t.Fatal("nobody watches the shop")
	return client{}
}

// series is one of an answer: what Prometheus sends for it.
type series struct {
	Metric map[string]string
	Value  [2]any // of one moment
	Values [][2]any
}

// step is from one value asked for to the next: as often as Prometheus scrapes.
const step = local.ScrapeInterval

// over asks for the values between start and end.
func (c client) over(expr string, start, end time.Time) []series {
	c.t.Helper()
	return c.ask("/api/v1/query_range", url.Values{
		"query": {expr}, "step": {fmt.Sprint(step.Seconds())},
		"start": {strconv.FormatFloat(float64(start.UnixMilli())/1000, 'f', 3, 64)},
		"end":   {strconv.FormatFloat(float64(end.UnixMilli())/1000, 'f', 3, 64)},
	})
}

// firing is how many alerts of this name fire now.
func (c client) firing(alert string) int {
	c.t.Helper()
	return len(c.at(fmt.Sprintf("ALERTS{alertname=%q, alertstate=\"firing\"}", alert)))
}

// at asks for the values of now.
func (c client) at(expr string) []series {
	c.t.Helper()
	found := c.ask("/api/v1/query", url.Values{"query": {expr}})
	for i := range found {
		found[i].Values = [][2]any{found[i].Value}
	}
	return found
}

func (c client) ask(path string, form url.Values) []series {
	c.t.Helper()
	resp, err := http.PostForm(c.base+path, form)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var answer struct {
		Status, Error string
		Data          struct{ Result []series }
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.Status != "success" {
		c.t.Fatalf("%s: %v %s", form.Get("query"), err, answer.Error)
	}
	return answer.Data.Result
}

func (c client) await(limit time.Duration, what string, holds func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(limit); !holds(); time.Sleep(time.Second) {
		if time.Now().After(deadline) {
			c.t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

// values0 are the numbers of the first series.
func values0(found []series) []float64 {
	if len(found) == 0 {
		return []float64{0}
	}
	return numbers(found[0])
}

// numbers are a series' values without those that are none.
func numbers(s series) []float64 {
	var all []float64
	for _, v := range s.Values {
		if n, err := strconv.ParseFloat(v[1].(string), 64); err == nil && !math.IsNaN(n) && !math.IsInf(n, 0) {
			all = append(all, n)
		}
	}
	return all
}

func values(found []series) int {
	n := 0
	for _, s := range found {
		n += len(numbers(s))
	}
	return n
}

// changed says whether a value moved, or a series had values for a part of the time only.
func changed(found []series, over time.Duration) bool {
	for _, s := range found {
		all := numbers(s)
		if len(all) > 0 && (slices.Min(all) != slices.Max(all) || len(all) < int(over/step)/2) {
			return true
		}
	}
	return false
}

// TestChanged: a series without a number changes as little as one that stays as it is.
func TestChanged(t *testing.T) {
	of := func(values ...string) (s series) {
		for i, v := range values {
			s.Values = append(s.Values, [2]any{float64(i), v})
		}
		return s
	}
	for name, tt := range map[string]struct {
		found []series
		want  bool
	}{
		"no series":        {nil, false},
		"no number":        {[]series{of("NaN", "NaN", "NaN", "NaN")}, false},
		"one that stays":   {[]series{of("1", "1", "1", "1")}, false},
		"one that moves":   {[]series{of("1", "1", "1", "1"), of("1", "2", "2", "2")}, true},
		"one of a moment":  {[]series{of("NaN", "NaN", "NaN", "1")}, true},
		"most of the time": {[]series{of("1", "1", "NaN", "1")}, false},
	} {
		if got := changed(tt.found, 4*step); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// whySteady is the reason for which the expression may stay as it is, "" if it must change.
func whySteady(t *testing.T, e expression) (reason string) {
	for _, s := range selectors(parse(t, e, "20s")) {
		if reason = steady[s.Name]; reason == "" {
			return ""
		}
	}
	return reason
}
