package test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestDrift: what k8s/generate.sh makes is what is there.
func TestDrift(t *testing.T) {
	folder := t.TempDir()
	_, err := command(filepath.Join(repository, "k8s", "generate.sh"), folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"base/coatcheck.yaml", "install.yaml"} {
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

// TestVersions: k8s/versions.env has the Redis that the chart takes.
func TestVersions(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(repository, "k8s", "versions.env"))
	if err != nil {
		t.Fatal(err)
	}
	if want := "\nREDIS_IMAGE=" + shape(t, "plain-http").statefulSets[0].Spec.Template.Spec.Containers[0].Image + "\n"; !strings.Contains(string(text), want) {
		t.Errorf("k8s/versions.env does not say%s", want)
	}
}
