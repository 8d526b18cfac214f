package test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	podsecurity "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// rules are what must hold of every shape; each returns the faults it finds.
var rules = map[string]func(manifests) faults{
	"unique":      unique,
	"restricted":  restricted,
	"hardened":    hardened,
	"stateless":   stateless,
	"drain":       drain,
	"rollout":     rollout,
	"autoscaled":  autoscaled,
	"budgets":     budgets,
	"environment": environment,
	"files":       files,
	"selectors":   selectors,
	"ports":       ports,
	"probes":      probes,
	"store":       store,
	"rights":      rights,
	"secured":     secured,
}

func TestRules(t *testing.T) {
	for name, m := range everything(t) {
		t.Run(name, func(t *testing.T) {
			if len(m.stateless()) != 3 {
				t.Fatalf("%d Deployments of gateway, auth and cart", len(m.stateless()))
			}
			for rule, check := range rules {
				for _, fault := range check(m) {
					t.Errorf("%s: %s", rule, fault)
				}
			}
		})
	}
}

type faults []string

func (f *faults) addf(format string, args ...any) { *f = append(*f, fmt.Sprintf(format, args...)) }

// unique: no object is there twice.
func unique(m manifests) (found faults) {
	seen := map[string]bool{}
	for _, id := range m.ids {
		if seen[id] {
			found.addf("%s is there twice", id)
		}
		seen[id] = true
	}
	return found
}

// restricted: the Pod Security Standard of that name holds, newest version.
func restricted(m manifests) (found faults) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks())
	if err != nil {
		found.addf("%v", err)
		return found
	}
	level := podsecurity.LevelVersion{Level: podsecurity.LevelRestricted, Version: podsecurity.LatestVersion()}
	for _, w := range m.workloads() {
		for _, result := range evaluator.EvaluatePod(level, &w.template.ObjectMeta, &w.template.Spec) {
			if !result.Allowed {
				found.addf("%s: %s: %s", w.id, result.ForbiddenReason, result.ForbiddenDetail)
			}
		}
	}
	return found
}

// hardened: what the standard leaves open.
func hardened(m manifests) (found faults) {
	automount := map[string]bool{}
	for _, a := range m.accounts {
		automount[a.Name] = a.AutomountServiceAccountToken == nil || *a.AutomountServiceAccountToken
	}
	for _, w := range m.workloads() {
		spec := w.template.Spec
		if mounts := spec.AutomountServiceAccountToken == nil || *spec.AutomountServiceAccountToken; mounts != (w.component() == keyRotation) {
			found.addf("%s: mounts a token of the API server: %v", w.id, mounts)
		}
		if token, ok := automount[spec.ServiceAccountName]; w.component() != "test" && (!ok || token) {
			found.addf("%s: its service account %q is not there, or gives a token", w.id, spec.ServiceAccountName)
		}
		if spec.EnableServiceLinks == nil || *spec.EnableServiceLinks {
			found.addf("%s: gets variables of all Services in the namespace", w.id)
		}
		if c := spec.SecurityContext; c == nil || c.RunAsUser == nil || *c.RunAsUser < 10000 || c.RunAsGroup == nil || *c.RunAsGroup < 10000 {
			found.addf("%s: must run as a user and group from 10000, which no node has", w.id)
		}
		for _, c := range spec.Containers {
			if c.SecurityContext == nil || c.SecurityContext.ReadOnlyRootFilesystem == nil || !*c.SecurityContext.ReadOnlyRootFilesystem {
				found.addf("%s: container %s may write to its image", w.id, c.Name)
			}
			if c.Resources.Requests.Cpu().IsZero() || c.Resources.Requests.Memory().IsZero() || c.Resources.Limits.Memory().IsZero() {
				found.addf("%s: container %s must request CPU and memory, and have a memory limit", w.id, c.Name)
			}
			for name, limit := range c.Resources.Limits {
				if request := c.Resources.Requests[name]; request.Cmp(limit) > 0 {
					found.addf("%s: container %s requests more %s than it may have", w.id, c.Name, name)
				}
			}
			if !strings.Contains(c.Image, "@sha256:") && (!strings.Contains(c.Image, ":") || strings.HasSuffix(c.Image, ":latest")) {
				found.addf("%s: image %s has no fixed tag", w.id, c.Image)
			}
		}
	}
	return found
}

// stateless: nothing that a service's pod could keep, nothing that binds a client to it.
func stateless(m manifests) (found faults) {
	for _, w := range m.workloads() {
		if !w.service() {
			continue
		}
		for _, v := range w.template.Spec.Volumes {
			if v.Secret == nil && v.ConfigMap == nil {
				found.addf("%s: volume %s can be written", w.id, v.Name)
			}
		}
		for _, c := range w.template.Spec.Containers {
			for _, mount := range c.VolumeMounts {
				if !mount.ReadOnly {
					found.addf("%s: %s is not mounted read-only", w.id, mount.MountPath)
				}
			}
		}
		if len(w.template.Spec.InitContainers) > 0 {
			found.addf("%s: has init containers, which no rule here looks at", w.id)
		}
	}
	for _, s := range m.services {
		if s.Spec.SessionAffinity == corev1.ServiceAffinityClientIP {
			found.addf("Service %s binds clients to pods", s.Name)
		}
		// What is only scraped is best seen while it starts and drains, and of Redis there is one pod.
		onlyScraped := len(s.Spec.Ports) == 1 && s.Spec.Ports[0].TargetPort.StrVal == "admin"
		if slices.Contains(parts, s.Spec.Selector["app.kubernetes.io/component"]) && s.Spec.PublishNotReadyAddresses && !onlyScraped {
			found.addf("Service %s names pods that are not ready", s.Name)
		}
	}
	return found
}

// drain: a pod gets the time that it takes to end, and as much more as it takes to see that it does not.
func drain(m manifests) (found faults) {
	const spare = 45 * time.Second
	for _, w := range m.workloads() {
		if !w.service() {
			continue
		}
		whole, err := drainLimit(w)
		if err != nil {
			found.addf("%s: %v", w.id, err)
		}
		grace := w.template.Spec.TerminationGracePeriodSeconds
		if grace == nil || time.Duration(*grace)*time.Second < whole+spare {
			found.addf("%s: the grace period must be at least %v", w.id, whole+spare)
		}
	}
	return found
}

// drainLimit is how long a service may take to end.
func drainLimit(w workload) (limit time.Duration, err error) {
	env := variables(w.template.Spec.Containers[0])
	for _, name := range []string{"COATCHECK_DRAIN_DELAY", "COATCHECK_STOP_TIMEOUT"} {
		d, bad := time.ParseDuration(env[name])
		if bad != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", name, bad))
		}
		limit += d
	}
	return limit, err
}

// TestDrainIsSeen: a pod that is stuck lives for two scrapes, by either Prometheus, after DrainStuck holds.
func TestDrainIsSeen(t *testing.T) {
	const late = 5 * time.Second // rules/replicas.yaml: so long after the limit it holds
	text, err := template(t, "helm", chart, "--set", "plainHTTP=true,prometheus.enabled=true,metrics.serviceMonitor.enabled=true,networkPolicy.metricsFrom[0].podSelector.matchLabels.app=prometheus")
	if err != nil {
		t.Fatal(err)
	}
	m, err := parse(text)
	if err != nil {
		t.Fatal(err)
	}
	intervals := []string{string(m.monitors[0].Spec.Endpoints[0].Interval)}
	if _, own, found := strings.Cut(text, "scrape_interval: "); found {
		intervals = append(intervals, own[:strings.IndexByte(own, ',')])
	}
	if len(intervals) != 2 {
		t.Fatalf("the intervals are %v, want one of each Prometheus", intervals)
	}
	for _, w := range m.workloads() {
		if !w.service() {
			continue
		}
		limit, err := drainLimit(w)
		if err != nil {
			t.Fatal(err)
		}
		seen := time.Duration(*w.template.Spec.TerminationGracePeriodSeconds)*time.Second - limit - late
		for _, interval := range intervals {
			if every, err := time.ParseDuration(interval); err != nil || seen < 2*every {
				t.Errorf("%s: is killed %v after it is known to be stuck; scraped every %s (%v)", w.id, seen, interval, err)
			}
		}
	}
}

// rollout: no pod goes before its successor serves, and pods spread.
func rollout(m manifests) (found faults) {
	for _, d := range m.stateless() {
		u := d.Spec.Strategy.RollingUpdate
		if u == nil || u.MaxUnavailable == nil || *u.MaxUnavailable != intstr.FromInt32(0) || u.MaxSurge == nil || *u.MaxSurge != intstr.FromInt32(1) {
			found.addf("Deployment %s: must roll with maxUnavailable 0 and maxSurge 1", d.Name)
		}
		if d.Spec.MinReadySeconds < 5 {
			found.addf("Deployment %s: minReadySeconds must be at least 5, or clients don't know a pod yet when the next one goes", d.Name)
		}
		var keys []string
		for _, c := range d.Spec.Template.Spec.TopologySpreadConstraints {
			if matches(c.LabelSelector, d.Spec.Template.Labels) && slices.Contains(c.MatchLabelKeys, "pod-template-hash") &&
				c.NodeTaintsPolicy != nil && *c.NodeTaintsPolicy == corev1.NodeInclusionPolicyHonor {
				keys = append(keys, c.TopologyKey)
			}
		}
		if !slices.Contains(keys, "kubernetes.io/hostname") || !slices.Contains(keys, "topology.kubernetes.io/zone") {
			found.addf("Deployment %s: its pods must spread over nodes and zones that take pods, and not count those of an earlier roll-out; spread over %v", d.Name, keys)
		}
	}
	return found
}

// autoscaled: one owner of the number of pods, one that has sense.
func autoscaled(m manifests) (found faults) {
	scaled := map[string]bool{}
	for _, h := range m.autoscalers {
		if h.Spec.ScaleTargetRef.Kind != "Deployment" || h.Spec.ScaleTargetRef.APIVersion != "apps/v1" {
			found.addf("autoscaler %s: must scale a Deployment of apps/v1", h.Name)
		}
		scaled[h.Spec.ScaleTargetRef.Name] = true
		if h.Spec.MinReplicas == nil || *h.Spec.MinReplicas < 3 {
			found.addf("autoscaler %s: fewer than 3 pods can't lose one unnoticed", h.Name)
		}
		if h.Spec.Behavior == nil || h.Spec.Behavior.ScaleUp == nil || h.Spec.Behavior.ScaleDown == nil {
			found.addf("autoscaler %s: has no behaviour", h.Name)
		}
		for _, metric := range h.Spec.Metrics {
			if r := metric.Resource; r == nil || r.Target.AverageUtilization == nil || *r.Target.AverageUtilization < 60 || *r.Target.AverageUtilization > 80 {
				found.addf("autoscaler %s: must aim at 60 to 80 percent of the CPU request", h.Name)
			}
		}
	}
	for _, d := range m.deployments {
		switch {
		case scaled[d.Name] && d.Spec.Replicas != nil:
			found.addf("Deployment %s: replicas beside an autoscaler", d.Name)
		case !scaled[d.Name] && d.Spec.Replicas == nil:
			found.addf("Deployment %s: neither replicas nor an autoscaler", d.Name)
		}
		delete(scaled, d.Name)
	}
	for name := range scaled {
		found.addf("an autoscaler scales %s, which is not there", name)
	}
	return found
}

// budgets: of several pods one may be evicted at a time, broken ones at any time; one alone has no budget, or its node could never be drained.
func budgets(m manifests) (found faults) {
	for _, d := range m.deployments {
		var own int
		for _, b := range m.budgets {
			if !matches(b.Spec.Selector, d.Spec.Template.Labels) {
				continue
			}
			own++
			if b.Spec.MaxUnavailable == nil || *b.Spec.MaxUnavailable != intstr.FromInt32(1) {
				found.addf("budget %s: maxUnavailable must be 1", b.Name)
			}
			if p := b.Spec.UnhealthyPodEvictionPolicy; p == nil || *p != "AlwaysAllow" {
				found.addf("budget %s: must always allow the eviction of broken pods", b.Name)
			}
		}
		want := 1
		if d.Spec.Replicas != nil && *d.Spec.Replicas == 1 {
			want = 0
		}
		if own != want {
			found.addf("Deployment %s: %d budgets, want %d", d.Name, own, want)
		}
	}
	return found
}

// environment: plain values, each once; secrets never.
func environment(m manifests) (found faults) {
	for _, w := range m.workloads() {
		for _, c := range w.template.Spec.Containers {
			if len(c.EnvFrom) > 0 {
				found.addf("%s: takes unnamed variables", w.id)
			}
			seen := map[string]bool{}
			for _, e := range c.Env {
				if e.ValueFrom != nil {
					found.addf("%s: %s does not say its value", w.id, e.Name)
				}
				if seen[e.Name] {
					found.addf("%s: %s is there twice", w.id, e.Name)
				}
				seen[e.Name] = true
			}
		}
	}
	return found
}

// files: each file that a setting names is mounted, and secrets can be read by the pod's group only.
func files(m manifests) (found faults) {
	for _, w := range m.workloads() {
		mounted := paths(w.template.Spec)
		for name, value := range variables(w.template.Spec.Containers[0]) {
			if strings.HasSuffix(name, "_FILE") && mounted[value] == (item{}) {
				found.addf("%s: nothing is mounted at %s, which %s names", w.id, value, name)
			}
		}
		for _, v := range w.template.Spec.Volumes {
			if v.Secret != nil && (v.Secret.DefaultMode == nil || *v.Secret.DefaultMode != 0o440 || len(v.Secret.Items) == 0) {
				found.addf("%s: volume %s must hold the keys that are needed, with mode 0440", w.id, v.Name)
			}
		}
		for path, from := range mounted {
			for _, s := range m.secrets {
				if from.secret == s.Name && len(s.Data[from.key]) == 0 {
					found.addf("%s: Secret %s has nothing under %s for %s", w.id, s.Name, from.key, path)
				}
			}
			if from.configMap != "" && !slices.ContainsFunc(m.configMaps, func(c *corev1.ConfigMap) bool {
				return c.Name == from.configMap && (from.key == "" || c.Data[from.key] != "")
			}) {
				found.addf("%s: no ConfigMap %s with %s for %s", w.id, from.configMap, from.key, path)
			}
		}
	}
	return found
}

// selectors: whatever selects pods selects those of one part, and its own.
func selectors(m manifests) (found faults) {
	one := func(id string, selector labels.Selector) {
		components := map[string]bool{}
		for _, w := range m.workloads() {
			if selector.Matches(labels.Set(w.template.Labels)) {
				components[w.component()] = true
			}
		}
		if len(components) != 1 {
			found.addf("%s: selects the pods of %d parts", id, len(components))
		}
	}
	for _, w := range m.workloads() {
		if w.selector == nil {
			continue
		}
		one(w.id, selector(w.selector))
		if !matches(w.selector, w.template.Labels) {
			found.addf("%s: does not select its own pods", w.id)
		}
		for key := range w.selector.MatchLabels {
			if strings.Contains(key, "version") || strings.Contains(key, "chart") {
				found.addf("%s: selects by %s, which changes", w.id, key)
			}
		}
	}
	for _, s := range m.services {
		one("Service "+s.Name, labels.SelectorFromSet(s.Spec.Selector))
	}
	for _, b := range m.budgets {
		one("PodDisruptionBudget "+b.Name, selector(b.Spec.Selector))
	}
	return found
}

// ports: what is called is served: by Services, Ingress, routes, monitors, settings.
func ports(m manifests) (found faults) {
	served := map[string]bool{} // "service:port"
	for _, s := range m.services {
		for _, p := range s.Spec.Ports {
			served[fmt.Sprintf("%s:%d", s.Name, p.Port)] = true
			served[s.Name+":"+p.Name] = true
			if !slices.ContainsFunc(m.workloads(), func(w workload) bool {
				return labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(w.template.Labels)) && containerPort(w, p.TargetPort) != 0
			}) {
				found.addf("Service %s: no pod has its port %s", s.Name, p.TargetPort.String())
			}
		}
	}
	called := func(id, address string) {
		if !served[address] {
			found.addf("%s: nothing serves %s", id, address)
		}
	}
	external := len(m.statefulSets) == 0
	for _, w := range m.workloads() {
		for name, value := range variables(w.template.Spec.Containers[0]) {
			if strings.HasSuffix(name, "_ADDR") || name == "COATCHECK_REDIS_ADDRS" && !external {
				called(w.id, strings.TrimPrefix(value, "dns:///"))
			}
		}
		for _, arg := range w.template.Spec.Containers[0].Args {
			if url, ok := strings.CutPrefix(arg, "http://"); ok {
				called(w.id, url)
			}
		}
		if scraped := w.template.Annotations["prometheus.io/port"]; scraped != "" && containerPort(w, intstr.Parse(scraped)) == 0 {
			found.addf("%s: is to be scraped at %s, which is no port of it", w.id, scraped)
		}
	}
	for _, i := range m.ingresses {
		for _, r := range i.Spec.Rules {
			for _, p := range r.HTTP.Paths {
				called("Ingress "+i.Name, p.Backend.Service.Name+":"+p.Backend.Service.Port.Name)
			}
		}
	}
	for _, r := range m.routes {
		for _, rule := range r.Spec.Rules {
			for _, b := range rule.BackendRefs {
				called("HTTPRoute "+r.Name, fmt.Sprintf("%s:%d", b.Name, *b.Port))
			}
		}
	}
	for _, monitor := range m.monitors {
		scraped := map[string]bool{}
		for _, s := range m.services {
			for _, p := range s.Spec.Ports {
				if matches(&monitor.Spec.Selector, s.Labels) && p.Name == monitor.Spec.Endpoints[0].Port {
					scraped[s.Spec.Selector["app.kubernetes.io/component"]] = true
				}
			}
		}
		if len(scraped) != 3 {
			found.addf("ServiceMonitor %s: scrapes %v, want gateway, auth and cart", monitor.Name, scraped)
		}
	}
	return found
}

// probes: every lasting container has all three, on a port it has, and without a host, which newer clusters refuse; gRPC is spread by a headless Service.
func probes(m manifests) (found faults) {
	for _, w := range m.workloads() {
		if w.selector == nil {
			continue
		}
		c := w.template.Spec.Containers[0]
		for name, probe := range map[string]*corev1.Probe{"startup": c.StartupProbe, "readiness": c.ReadinessProbe, "liveness": c.LivenessProbe} {
			var port intstr.IntOrString
			var host string
			switch {
			case probe != nil && probe.HTTPGet != nil:
				port, host = probe.HTTPGet.Port, probe.HTTPGet.Host
			case probe != nil && probe.TCPSocket != nil:
				port, host = probe.TCPSocket.Port, probe.TCPSocket.Host
			default:
				found.addf("%s: no %s probe that works without a shell", w.id, name)
				continue
			}
			if containerPort(w, port) == 0 || host != "" {
				found.addf("%s: the %s probe asks %s:%s, which is no port of it", w.id, name, host, port.String())
			}
		}
		for name, value := range variables(c) {
			target, dns := strings.CutPrefix(value, "dns:///")
			if !dns {
				continue
			}
			host, _, _ := strings.Cut(target, ":")
			if !slices.ContainsFunc(m.services, func(s *corev1.Service) bool { return s.Name == host && s.Spec.ClusterIP == corev1.ClusterIPNone }) {
				found.addf("%s: %s names no headless Service: all calls would stay with one pod", w.id, name)
			}
		}
	}
	return found
}

// TestIdleCost: what is installed by default requests less than a core and a GiB.
func TestIdleCost(t *testing.T) {
	m := shape(t, "plain-http")
	var cpu, memory int64
	for _, w := range m.workloads() {
		if w.selector == nil {
			continue
		}
		pods := int64(1)
		for _, d := range m.deployments {
			if w.id == "Deployment "+d.Name && d.Spec.Replicas != nil {
				pods = int64(*d.Spec.Replicas)
			}
		}
		for _, h := range m.autoscalers {
			if w.id == "Deployment "+h.Spec.ScaleTargetRef.Name {
				pods = int64(*h.Spec.MinReplicas)
			}
		}
		for _, c := range w.template.Spec.Containers {
			cpu += pods * c.Resources.Requests.Cpu().MilliValue()
			memory += pods * c.Resources.Requests.Memory().Value()
		}
	}
	t.Logf("an idle shop requests %d m of CPU and %d MiB", cpu, memory>>20)
	if cpu >= 1000 || memory >= 1<<30 || cpu == 0 || memory == 0 {
		t.Errorf("an idle shop requests %d m of CPU and %d MiB, want less than 1000 m and 1024 MiB", cpu, memory>>20)
	}
}

// store: one Redis that keeps what it acknowledged, with memory to rewrite its log.
func store(m manifests) (found faults) {
	for _, s := range m.statefulSets {
		if s.Spec.Replicas == nil || *s.Spec.Replicas != 1 {
			found.addf("%s: several would know nothing of each other", s.Name)
		}
		if r := s.Spec.PersistentVolumeClaimRetentionPolicy; r == nil || r.WhenDeleted != "Retain" || r.WhenScaled != "Retain" {
			found.addf("%s: its volume must outlive it", s.Name)
		}
		if len(s.Spec.VolumeClaimTemplates) != 1 {
			found.addf("%s: no volume", s.Name)
		}
		if g := s.Spec.Template.Spec.TerminationGracePeriodSeconds; g == nil || *g < 30 {
			found.addf("%s: needs time to end in order", s.Name)
		}
		for _, service := range m.services {
			if service.Name == s.Spec.ServiceName && !service.Spec.PublishNotReadyAddresses {
				found.addf("Service %s: waits until its one pod is Ready, and with it all clients", service.Name)
			}
		}
		for key := range s.Spec.Template.Labels {
			if strings.Contains(key, "version") || strings.Contains(key, "chart") {
				found.addf("%s: label %s would restart it with each upgrade of the shop", s.Name, key)
			}
		}
		conf := ""
		for _, c := range m.configMaps {
			conf += c.Data["redis.conf"]
		}
		held := map[string]string{}
		for line := range strings.Lines(conf) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
			held[name] = value
		}
		for name, value := range map[string]string{"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction", "dir": "/data"} {
			if held[name] != value {
				found.addf("redis.conf: %s is %q, want %s", name, held[name], value)
			}
		}
		for i, arg := range s.Spec.Template.Spec.Containers[0].Args {
			if name, ok := strings.CutPrefix(arg, "--"); ok { // these count more than the file
				held[name] = s.Spec.Template.Spec.Containers[0].Args[i+1]
			}
		}
		var limit int64
		fmt.Sscanf(held["maxmemory"], "%dmb", &limit)
		if have := s.Spec.Template.Spec.Containers[0].Resources.Limits.Memory().Value() >> 20; limit == 0 || limit*10 > have*7 {
			found.addf("redis.conf: maxmemory %s in %d MiB leaves too little for rewriting the log", held["maxmemory"], have)
		}
	}
	return found
}

func selector(s *metav1.LabelSelector) labels.Selector {
	parsed, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return labels.Nothing()
	}
	return parsed
}

func matches(s *metav1.LabelSelector, set map[string]string) bool {
	return selector(s).Matches(labels.Set(set))
}

func variables(c corev1.Container) map[string]string {
	all := map[string]string{}
	for _, e := range c.Env {
		all[e.Name] = e.Value
	}
	return all
}

// containerPort is the number behind a port's name or number, 0 if there is none.
func containerPort(w workload, port intstr.IntOrString) int32 {
	for _, c := range w.template.Spec.Containers {
		for _, p := range c.Ports {
			if port.StrVal == p.Name && p.Name != "" || port.Type == intstr.Int && port.IntVal == p.ContainerPort {
				return p.ContainerPort
			}
		}
	}
	return 0
}

// item is where the content of a file comes from.
type item struct{ secret, configMap, key string }

// paths are the files that are mounted into the first container.
func paths(spec corev1.PodSpec) map[string]item {
	all := map[string]item{}
	for _, mount := range spec.Containers[0].VolumeMounts {
		for _, v := range spec.Volumes {
			if v.Name != mount.Name {
				continue
			}
			from, items := item{}, []corev1.KeyToPath(nil)
			switch {
			case v.Secret != nil:
				from.secret, items = v.Secret.SecretName, v.Secret.Items
			case v.ConfigMap != nil:
				from.configMap, items = v.ConfigMap.Name, v.ConfigMap.Items
				if len(items) == 0 {
					all[mount.MountPath] = from
				}
			}
			for _, i := range items {
				from.key = i.Key
				all[mount.MountPath+"/"+i.Path] = from
			}
		}
	}
	return all
}
