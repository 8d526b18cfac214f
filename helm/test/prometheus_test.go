package test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
)

// TestPrometheus starts a real Prometheus as the Deployment does, with its files
// in a folder of the test's, and asks it what it runs with.
func TestPrometheus(t *testing.T) {
	m := shape(t, "everything")
	var deployment *appsv1.Deployment
	for _, d := range m.deployments {
		if d.Name == "shop-prometheus" {
			deployment = d
		}
	}
	if deployment == nil {
		t.Fatal("there is none")
	}
	root := t.TempDir()
	files := 0
	for _, c := range m.configMaps {
		if c.Name != deployment.Name {
			continue
		}
		for name, text := range c.Data {
			files++
			if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if files != 2 {
		t.Fatalf("its ConfigMap has %d files, want the configuration and the rules", files)
	}
	if out, err := command("promtool", "check", "config", filepath.Join(root, "prometheus.yml")); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}

	container := deployment.Spec.Template.Spec.Containers[0]
	address := "127.0.0.1:" + strconv.Itoa(freePort(t))
	replaced := strings.NewReplacer("/etc/prometheus", root, "=/prometheus", "="+filepath.Join(root, "data"), "=:9090", "="+address)
	var args []string
	for _, arg := range container.Args {
		args = append(args, replaced.Replace(arg))
	}
	server := exec.Command(container.Command[0], args...)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	})
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		_, err := ask(address, container.ReadinessProbe.HTTPGet.Path)
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}

	var configuration struct{ Data struct{ YAML string } }
	answer(t, address, "/api/v1/status/config", &configuration)
	for _, part := range parts {
		if want := fmt.Sprintf("shop-%s-scrape.shop.svc", part); !strings.Contains(configuration.Data.YAML, want) {
			t.Errorf("it does not look for %s in:\n%s", want, configuration.Data.YAML)
		}
	}
	var loaded struct {
		Data struct {
			Groups []struct {
				Rules []struct {
					Type, Name  string
					Annotations map[string]string
				}
			}
		}
	}
	answer(t, address, "/api/v1/rules", &loaded)
	alerts, bounds := 0, 0
	for _, g := range loaded.Data.Groups {
		for _, r := range g.Rules {
			switch {
			case r.Type == "alerting":
				alerts++
				if want := "https://wiki.example.org/coatcheck#" + strings.ToLower(r.Name); r.Annotations["runbook_url"] != want {
					t.Errorf("%s: its runbook is %q, want %q", r.Name, r.Annotations["runbook_url"], want)
				}
			case strings.HasPrefix(r.Name, "shop:replicas:m"):
				bounds++
			}
		}
	}
	if alerts < 10 || bounds != 6 {
		t.Errorf("it has %d alerts and %d bounds of replicas", alerts, bounds)
	}
}

// TestBounds: where nothing scales, nothing is at its maximum.
func TestBounds(t *testing.T) {
	for set, want := range map[string]string{
		"cart.autoscaling.minReplicas=5":                                "min 5, max 10",
		"cart.autoscaling.enabled=false,cart.replicas=2":                "min 2, max ",
		"cart.autoscaling.minReplicas=4,cart.autoscaling.maxReplicas=4": "min 4, max ",
	} {
		text, err := template(t, "helm", chart, "--set", "plainHTTP=true,metrics.prometheusRule.enabled=true,"+set)
		if err != nil {
			t.Fatal(err)
		}
		m, err := parse(text)
		if err != nil {
			t.Fatal(err)
		}
		bound := map[string]string{}
		for _, g := range m.rules[0].Spec.Groups {
			for _, r := range g.Rules {
				if r.Labels["job"] == "coatcheck-cart" && r.Labels["namespace"] == "shop" {
					bound[r.Record] = strings.NewReplacer("vector(", "", ")", "").Replace(r.Expr.String())
				}
			}
		}
		if got := "min " + bound["shop:replicas:min"] + ", max " + bound["shop:replicas:max"]; got != want {
			t.Errorf("%s: %s, want %s", set, got, want)
		}
	}
}

func answer(t *testing.T, address, path string, into any) {
	t.Helper()
	text, err := ask(address, path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func ask(address, path string) ([]byte, error) {
	resp, err := http.Get("http://" + address + path)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answers %d: %s", path, resp.StatusCode, text)
	}
	return text, err
}
