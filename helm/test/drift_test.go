package test

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/equality"
)

// TestDrift: what k8s/generate.sh makes is what is there.
func TestDrift(t *testing.T) {
	folder := t.TempDir()
	_, err := command(filepath.Join(repository, "k8s", "generate.sh"), folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"base/coatcheck.yaml", "install.yaml", "overlays/kind/prometheus.yaml"} {
		made, err := os.ReadFile(filepath.Join(folder, file))
		if err != nil {
			t.Fatal(err)
		}
		kept, err := os.ReadFile(filepath.Join(repository, "k8s", file))
		if err != nil {
			t.Fatal(err)
		}
		if string(made) != string(kept) {
			t.Errorf("k8s/%s is not what the chart makes: make fix-manifests", file)
		}
		if strings.Contains(string(kept), "kind: Secret") {
			t.Errorf("k8s/%s carries a secret", file)
		}
	}
}

// TestNamespace: the API server refuses unrestricted pods beside the shop's.
func TestNamespace(t *testing.T) {
	all := everything(t)
	for _, name := range []string{"k8s base", "k8s overlays/kind", "k8s overlays/production", "k8s install.yaml"} {
		m := all[name]
		if len(m.namespaces) != 1 || m.namespaces[0].Name != "coatcheck" || m.namespaces[0].Labels["pod-security.kubernetes.io/enforce"] != "restricted" {
			t.Errorf("%s: its namespace does not enforce the restricted standard", name)
		}
	}
}

// TestKindShop: on kind, kubectl and Helm make the same of what autoscalers go by, of
// what pods ask for and of how they are set.
func TestKindShop(t *testing.T) {
	of := func(m manifests) map[string]any {
		all := map[string]any{}
		for _, hpa := range m.autoscalers {
			spec := hpa.Spec
			spec.ScaleTargetRef.Name = "" // after the release
			all[hpa.Labels["app.kubernetes.io/component"]+", autoscaler"] = spec
		}
		for _, w := range m.workloads() {
			if w.component() == "test" {
				continue // Helm alone has those
			}
			c := w.template.Spec.Containers[0]
			all[w.component()+", resources"] = c.Resources
			for name, value := range variables(c) {
				all[w.component()+", "+name] = strings.ReplaceAll(value, "shop-coatcheck", "coatcheck") // after the release
			}
		}
		return all
	}
	overlay, byHelm := of(everything(t)["k8s overlays/kind"]), of(shape(t, "kind"))
	for _, what := range []string{"gateway, autoscaler", "gateway, COATCHECK_PLAIN_HTTP", "redis, resources"} {
		if overlay[what] == nil {
			t.Fatalf("no %s among %v", what, slices.Sorted(maps.Keys(overlay)))
		}
	}
	all := maps.Clone(overlay)
	maps.Copy(all, byHelm)
	for what := range all {
		if got, want := overlay[what], byHelm[what]; !equality.Semantic.DeepEqual(got, want) {
			t.Errorf("%s: %+v, by Helm %+v", what, got, want)
		}
	}
}

// TestPromises: helm test tries each promise that the trial knows.
func TestPromises(t *testing.T) {
	code, err := os.ReadFile(filepath.Join(repository, "services", "trial", "promise", "promise.go"))
	if err != nil {
		t.Fatal(err)
	}
	known := regexp.MustCompile(`(?m)^\t\t\{"([a-z-]+)", "`).FindAllStringSubmatch(string(code), -1)
	if len(known) < 5 {
		t.Fatalf("the trial knows only %v", known)
	}
	var want, got []string
	for _, k := range known {
		want = append(want, "promise -target http://shop-coatcheck-gateway:80 "+k[1])
	}
	for _, p := range shape(t, "plain-http").pods {
		if p.Annotations["helm.sh/hook"] == "test" {
			got = append(got, strings.Join(p.Spec.Containers[0].Args, " "))
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("helm test tries %v, want %v", got, want)
	}
}

// TestVersions: k8s/versions.env has the images of others that the chart takes.
func TestVersions(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(repository, "k8s", "versions.env"))
	if err != nil {
		t.Fatal(err)
	}
	image := map[string]string{}
	for _, w := range shape(t, "everything").workloads() {
		image[w.component()] = w.template.Spec.Containers[0].Image
	}
	for _, part := range []string{"redis", "prometheus", "grafana"} {
		want := "\n" + strings.ToUpper(part) + "_IMAGE=" + image[part] + "\n"
		if image[part] == "" || !strings.Contains(string(text), want) {
			t.Errorf("k8s/versions.env does not say%s", want)
		}
	}
}
