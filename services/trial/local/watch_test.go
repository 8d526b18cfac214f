package local

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// watchOptions are testOptions with a stand-in for Prometheus, and rules.
func watchOptions(t *testing.T) Options {
	t.Helper()
	o := testOptions(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(o.Bin, Prometheus)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", o.Bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	o.Watch = t.TempDir()
	if err := os.Mkdir(filepath.Join(o.Watch, "rules"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"shop.yaml", "shop_test.yaml"} {
		if err := os.WriteFile(filepath.Join(o.Watch, "rules", name), []byte("groups: []\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return o
}

// targets are whom Prometheus is told to scrape.
func targets(t *testing.T, o Options) []string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(o.State, Prometheus, "targets.json"))
	if err != nil {
		t.Fatal(err)
	}
	var groups []struct {
		Targets []string
		Labels  struct{ Job, Namespace string }
	}
	if err := json.Unmarshal(content, &groups); err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, g := range groups {
		for _, target := range g.Targets {
			all = append(all, g.Labels.Namespace+" "+g.Labels.Job+" "+target)
		}
	}
	slices.Sort(all)
	return all
}

// TestTargetsFollowReplicas: whoever runs or is back in a moment is scraped, and nobody else.
func TestTargetsFollowReplicas(t *testing.T) {
	o := watchOptions(t)
	o.Spares, o.Trial = 1, "127.0.0.1:9"
	shop := open(t, o)
	want := func(but ...string) (all []string) {
		all = append(all, "local coatcheck-trial "+o.Trial)
		for _, p := range shop.Processes() {
			if p.Admin != "" && !slices.Contains(but, p.Name) {
				all = append(all, "local coatcheck-"+p.Role+" "+p.Admin)
			}
		}
		slices.Sort(all)
		return all
	}
	if got := targets(t, o); !slices.Equal(got, want("gateway-3", "auth-3", "cart-4")) {
		t.Errorf("before the spares come: %v", got)
	}
	if err := shop.StartProcess("cart-4"); err != nil {
		t.Fatal(err)
	}
	if got := targets(t, o); !slices.Equal(got, want("gateway-3", "auth-3")) {
		t.Errorf("with one more cart: %v", got)
	}
	if err := shop.StopProcess("auth-1"); err != nil {
		t.Fatal(err)
	}
	if err := shop.Kill("cart-1", syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	within(t, time.Second, "cart-1 is down", func() bool { return byName(t, shop.Processes(), "cart-1").State == Restarting })
	if got := targets(t, o); !slices.Equal(got, want("gateway-3", "auth-3", "auth-1")) {
		t.Errorf("with one auth less and a cart that is back in a moment: %v", got)
	}

	bounds, err := os.ReadFile(filepath.Join(o.State, Prometheus, "replicas.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range []string{
		"{ record: shop:replicas:min, expr: vector(3), labels: { job: coatcheck-cart, namespace: local } }",
		"{ record: shop:replicas:max, expr: vector(4), labels: { job: coatcheck-cart, namespace: local } }",
		"{ record: shop:replicas:max, expr: vector(3), labels: { job: coatcheck-gateway, namespace: local } }",
	} {
		if !strings.Contains(string(bounds), rule) {
			t.Errorf("no %s in\n%s", rule, bounds)
		}
	}
	config, err := os.ReadFile(filepath.Join(o.State, Prometheus, "prometheus.yml"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(config, []byte("shop.yaml")) || bytes.Contains(config, []byte("shop_test.yaml")) {
		t.Errorf("the rules and not their tests must be loaded:\n%s", config)
	}
}

// TestWatchIsListed: who watches shows in ps and in what up says, and a shop without spares has no maximum.
func TestWatchIsListed(t *testing.T) {
	o := watchOptions(t)
	shop := open(t, o)
	watch := byName(t, shop.Processes(), Prometheus)
	var out bytes.Buffer
	if err := List(t.Context(), o.State, &out); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), watch.Address) {
		t.Errorf("ps shows\n%s", out.String())
	}
	out.Reset()
	hints(t.Context(), info{Address: shop.Address(), Processes: shop.Processes()}, &out)
	if !strings.Contains(out.String(), "http://"+watch.Address) {
		t.Errorf("up says\n%s", out.String())
	}
	if strings.Contains(shop.bounds(), "max") {
		t.Error("a shop that can't grow has a maximum")
	}
}

// TestWatchNeeds: what is missing is said before anything starts.
func TestWatchNeeds(t *testing.T) {
	o := watchOptions(t)
	o.Watch = t.TempDir()
	if shop, err := Start(o); err == nil || !strings.Contains(err.Error(), o.Watch) {
		if shop != nil {
			shop.Close()
		}
		t.Errorf("without rules: %v", err)
	}
	o = watchOptions(t)
	redis := t.TempDir()
	t.Setenv("PATH", redis)
	if err := os.Symlink("/bin/true", filepath.Join(redis, "redis-server")); err != nil {
		t.Fatal(err)
	}
	if shop, err := Start(o); err == nil || !strings.Contains(err.Error(), "prometheus not found") {
		if shop != nil {
			shop.Close()
		}
		t.Errorf("without Prometheus: %v", err)
	}
}
