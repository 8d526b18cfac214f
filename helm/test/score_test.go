package test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// exceptions are checks of kube-score that the shop does not follow, with the
// reason; object is a pattern of "Kind name", detail of what is complained of.
var exceptions = []struct{ check, object, detail, reason string }{
	{"container-resources", "", "CPU limit is not set", "it would turn a busy moment into slow answers; requests share a node fairly"},
	{"container-image-pull-policy", "", "not set to Always", "tags do not move, so Always would only make a start depend on the registry"},
	{"deployment-has-host-podantiaffinity", "^Deployment ", "", "topology spread does it, and still places a pod when there are fewer nodes than pods"},
	{"statefulset-has-servicename", "^StatefulSet ", "", "it asks for a headless Service; one pod needs an address that outlives it instead"},
	{"pod-probes-identical", "^StatefulSet ", "", "both ask whether Redis listens: while it reads its log it must be neither ended nor unreachable"},
	{"pod-networkpolicy", "^(Deployment|StatefulSet) shop-(gateway|auth|cart|redis)$", "", "the shape small has no policies"},
	{"service-type", "^Service .*-gateway$", "type NodePort", "chosen where there is no load balancer: in the shape small, and on kind"},
	{"deployment-replicas", "^Deployment shop-(gateway|auth|cart)$", "", "the shape small has one pod of each"},
	{"deployment-replicas", "-(prometheus|grafana)$", "", "to look at: a second one would have nothing that the first one has"},
}

// TestScore runs kube-score on every shape. An exception that nothing needs any more is a fault too.
func TestScore(t *testing.T) {
	needed := map[int]bool{} // by the index of the exception
	for name, m := range everything(t) {
		for _, c := range score(t, m.text) {
			excused := false
			for i, e := range exceptions {
				if e.check == c.check && regexp.MustCompile(e.object).MatchString(c.object) && regexp.MustCompile(e.detail).MatchString(c.detail) {
					excused, needed[i] = true, true
				}
			}
			if !excused {
				t.Errorf("%s: %s: %s: %s", name, c.object, c.check, c.detail)
			}
		}
	}
	for i, e := range exceptions {
		if !needed[i] {
			t.Errorf("nothing needs the exception from %s for %q any more", e.check, e.object)
		}
	}
}

type complaint struct{ check, object, detail string }

// score returns what kube-score finds less than perfect.
func score(t *testing.T, text string) []complaint {
	t.Helper()
	file := filepath.Join(t.TempDir(), "manifests.yaml")
	err := os.WriteFile(file, []byte(text), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	out, failed := command(tool(t, "kube-score"), "score", "--output-format", "json", "--kubernetes-version", "v"+kubernetes[:strings.LastIndex(kubernetes, ".")], file)
	var objects []struct {
		Type     struct{ Kind string } `json:"type_meta"`
		Metadata struct{ Name string } `json:"object_meta"`
		Checks   []struct {
			Check    struct{ ID string }
			Grade    int
			Skipped  bool
			Comments []struct{ Path, Summary, Description string }
		}
	}
	err = json.Unmarshal([]byte(out), &objects)
	if err != nil || len(objects) < 5 {
		t.Fatalf("kube-score saw %d objects: %v: %v", len(objects), err, failed)
	}
	var found []complaint
	for _, o := range objects {
		for _, c := range o.Checks {
			const perfect = 10
			if c.Grade < perfect && !c.Skipped {
				for _, comment := range c.Comments { // an exception excuses one of them, not what comes with it
					found = append(found, complaint{c.Check.ID, o.Type.Kind + " " + o.Metadata.Name, comment.Path + ": " + comment.Summary + ": " + comment.Description})
				}
				if len(c.Comments) == 0 {
					found = append(found, complaint{c.Check.ID, o.Type.Kind + " " + o.Metadata.Name, ""})
				}
			}
		}
	}
	return found
}
