package test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

const (
	repository = "../.."
	chart      = "../coatcheck"
)

// kubernetes is what Helm renders for; left to itself, it takes the version of the libraries that it was built with.
var kubernetes = version("KUBERNETES")

// version is one of k8s/versions.env, without its v.
func version(name string) string {
	text, err := os.ReadFile(filepath.Join(repository, "k8s", "versions.env"))
	if err != nil {
		panic(err)
	}
	_, rest, _ := strings.Cut("\n"+string(text), "\n"+name+"=v")
	found, _, _ := strings.Cut(rest, "\n")
	return found
}

// manifests are the objects of one shape of the shop.
type manifests struct {
	text         string
	ids          []string // "Kind name"
	namespaces   []*corev1.Namespace
	deployments  []*appsv1.Deployment
	statefulSets []*appsv1.StatefulSet
	pods         []*corev1.Pod
	cronJobs     []*batchv1.CronJob
	roles        []*rbacv1.Role
	bindings     []*rbacv1.RoleBinding
	certificates []*certificate
	services     []*corev1.Service
	secrets      []*corev1.Secret
	configMaps   []*corev1.ConfigMap
	accounts     []*corev1.ServiceAccount
	autoscalers  []*autoscalingv2.HorizontalPodAutoscaler
	budgets      []*policyv1.PodDisruptionBudget
	policies     []*networkingv1.NetworkPolicy
	ingresses    []*networkingv1.Ingress
	routes       []*gatewayv1.HTTPRoute
	monitors     []*monitoringv1.ServiceMonitor
	rules        []*monitoringv1.PrometheusRule
}

// parse decodes every document into the API's own type; a field that the type
// does not have, or one named twice, is an error.
func parse(text string) (manifests, error) {
	m := manifests{text: text}
	for _, document := range strings.Split("\n"+text, "\n---") {
		var head struct {
			metav1.TypeMeta
			Metadata metav1.ObjectMeta `json:"metadata"`
		}
		err := yaml.Unmarshal([]byte(document), &head)
		if err != nil {
			return m, fmt.Errorf("%w in:\n%s", err, document)
		}
		switch head.APIVersion + " " + head.Kind {
		case " ": // only comments
			continue
		case "v1 Namespace":
			err = add(&m.namespaces, document)
		case "apps/v1 Deployment":
			err = add(&m.deployments, document)
		case "apps/v1 StatefulSet":
			err = add(&m.statefulSets, document)
		case "v1 Pod":
			err = add(&m.pods, document)
		case "batch/v1 CronJob":
			err = add(&m.cronJobs, document)
		case "rbac.authorization.k8s.io/v1 Role":
			err = add(&m.roles, document)
		case "rbac.authorization.k8s.io/v1 RoleBinding":
			err = add(&m.bindings, document)
		case "cert-manager.io/v1 Certificate":
			err = add(&m.certificates, document)
		case "v1 Service":
			err = add(&m.services, document)
		case "v1 Secret":
			err = add(&m.secrets, document)
		case "v1 ConfigMap":
			err = add(&m.configMaps, document)
		case "v1 ServiceAccount":
			err = add(&m.accounts, document)
		case "autoscaling/v2 HorizontalPodAutoscaler":
			err = add(&m.autoscalers, document)
		case "policy/v1 PodDisruptionBudget":
			err = add(&m.budgets, document)
		case "networking.k8s.io/v1 NetworkPolicy":
			err = add(&m.policies, document)
		case "networking.k8s.io/v1 Ingress":
			err = add(&m.ingresses, document)
		case "gateway.networking.k8s.io/v1 HTTPRoute":
			err = add(&m.routes, document)
		case "monitoring.coreos.com/v1 ServiceMonitor":
			err = add(&m.monitors, document)
		case "monitoring.coreos.com/v1 PrometheusRule":
			err = add(&m.rules, document)
		default:
			return m, fmt.Errorf("%s %s %s: no test knows this kind", head.APIVersion, head.Kind, head.Metadata.Name)
		}
		id := head.Kind + " " + head.Metadata.Name
		if err != nil {
			return m, fmt.Errorf("%s: %w", id, err)
		}
		m.ids = append(m.ids, id)
	}
	return m, nil
}

func add[T any](to *[]*T, document string) error {
	object := new(T)
	err := yaml.UnmarshalStrict([]byte(document), object)
	*to = append(*to, object)
	return err
}

// workload is what makes pods, or a pod of helm test.
type workload struct {
	id       string
	selector *metav1.LabelSelector // nil for what ends by itself
	template corev1.PodTemplateSpec
}

func (w workload) component() string { return w.template.Labels["app.kubernetes.io/component"] }

// service says that it is one that must keep nothing.
func (w workload) service() bool { return slices.Contains(parts, w.component()) }

// parts are the services of the shop.
var parts = []string{"gateway", "auth", "cart"}

// stateless are the Deployments of the shop's services; others only watch them.
func (m manifests) stateless() []*appsv1.Deployment {
	return slices.DeleteFunc(slices.Clone(m.deployments), func(d *appsv1.Deployment) bool {
		return !slices.Contains(parts, d.Spec.Template.Labels["app.kubernetes.io/component"])
	})
}

func (m manifests) workloads() []workload {
	var all []workload
	for _, d := range m.deployments {
		all = append(all, workload{"Deployment " + d.Name, d.Spec.Selector, d.Spec.Template})
	}
	for _, s := range m.statefulSets {
		all = append(all, workload{"StatefulSet " + s.Name, s.Spec.Selector, s.Spec.Template})
	}
	for _, c := range m.cronJobs {
		all = append(all, workload{"CronJob " + c.Name, nil, c.Spec.JobTemplate.Spec.Template})
	}
	for _, p := range m.pods {
		all = append(all, workload{"Pod " + p.Name, nil, corev1.PodTemplateSpec{ObjectMeta: p.ObjectMeta, Spec: p.Spec}})
	}
	return all
}

// tool is a program that make puts into .bin.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(repository, ".bin", name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: make test-manifests builds it", err)
	}
	return path
}

// command runs a program and returns what it prints; its error holds what it complains of.
func command(program string, args ...string) (string, error) {
	var out, complaint bytes.Buffer
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = &out, &complaint
	err := cmd.Run()
	if err != nil {
		return out.String(), fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, complaint.String())
	}
	return out.String(), nil
}

// template renders the chart, with the test pods.
func template(t *testing.T, helm, chart string, args ...string) (string, error) {
	t.Helper()
	return command(tool(t, helm), append([]string{"template", "shop", chart, "--namespace", "shop", "--kube-version", kubernetes}, args...)...)
}

// shapes are the chart's values files for tests, by name.
func shapes(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(chart, "ci", "*-values.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no values files in %s/ci: %v", chart, err)
	}
	all := map[string]string{}
	for _, file := range files {
		all[strings.TrimSuffix(filepath.Base(file), "-values.yaml")] = file
	}
	return all
}

// shape renders one of them with Helm 4.
func shape(t *testing.T, name string) manifests {
	t.Helper()
	text, err := template(t, "helm", chart, "--values", shapes(t)[name])
	if err != nil {
		t.Fatal(err)
	}
	m, err := parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// everything is each shape of the chart and each set of manifests in k8s.
func everything(t *testing.T) map[string]manifests {
	t.Helper()
	all := map[string]manifests{}
	keep := func(name, text string, err error) {
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all[name], err = parse(text)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	for name := range shapes(t) {
		all["chart "+name] = shape(t, name)
	}
	for _, folder := range []string{"base", "overlays/kind", "overlays/production"} {
		made, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), filepath.Join(repository, "k8s", folder))
		if err != nil {
			t.Fatalf("k8s %s: %v", folder, err)
		}
		text, err := made.AsYaml()
		keep("k8s "+folder, string(text), err)
	}
	text, err := os.ReadFile(filepath.Join(repository, "k8s", "install.yaml"))
	keep("k8s install.yaml", string(text), err)
	return all
}
