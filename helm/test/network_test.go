package test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// place is where a packet comes from or goes to: a pod of the shop, one
// elsewhere, or a host outside the cluster, which has no namespace.
type place struct {
	name      string
	namespace string
	labels    map[string]string
	address   netip.Addr
	ports     []corev1.ContainerPort
}

// outside is what a cluster has around a shop.
func outside() []place {
	namespaced := func(name, namespace string, labels map[string]string, ports ...corev1.ContainerPort) place {
		return place{name: name, namespace: namespace, labels: labels, address: netip.MustParseAddr("10.0.0.9"), ports: ports}
	}
	tcp := func(number int32) corev1.ContainerPort {
		return corev1.ContainerPort{ContainerPort: number, Protocol: corev1.ProtocolTCP}
	}
	web := []corev1.ContainerPort{tcp(443), tcp(6379), tcp(6380), tcp(6443), tcp(26379)}
	return []place{
		namespaced("dns", "kube-system", map[string]string{"k8s-app": "kube-dns"}, tcp(53), corev1.ContainerPort{ContainerPort: 53, Protocol: corev1.ProtocolUDP}),
		namespaced("proxy", "kube-system", map[string]string{"k8s-app": "kube-proxy"}, tcp(53)),
		namespaced("ingress", "ingress", nil, tcp(80)),
		namespaced("their prometheus", "monitoring", map[string]string{"app.kubernetes.io/name": "prometheus"}, tcp(9090)),
		namespaced("their grafana", "monitoring", map[string]string{"app.kubernetes.io/name": "grafana"}, tcp(3000)),
		namespaced("collector", "tracing", map[string]string{"app.kubernetes.io/name": "collector"}, tcp(4317)),
		namespaced("neighbour", "shop", map[string]string{"app.kubernetes.io/name": "other"}, tcp(6379), tcp(9090)),
		namespaced("other shop's cart", "shop", map[string]string{"app.kubernetes.io/name": "coatcheck", "app.kubernetes.io/instance": "other", "app.kubernetes.io/component": "cart"}, tcp(9090)),
		{name: "host in 192.0.2.0", address: netip.MustParseAddr("192.0.2.7"), ports: web},
		{name: "internet", address: netip.MustParseAddr("203.0.113.7"), ports: web},
	}
}

// allowed lists every way that the policies leave open from or to a pod of the
// shop, as "from > to:port".
func allowed(m manifests) []string {
	var shop []place
	for _, w := range m.workloads() {
		p := place{name: w.component(), namespace: "shop", labels: w.template.Labels, address: netip.MustParseAddr("10.0.0.8")}
		for _, c := range w.template.Spec.Containers {
			p.ports = append(p.ports, c.Ports...)
		}
		if !slices.ContainsFunc(shop, func(other place) bool { return other.name == p.name }) {
			shop = append(shop, p)
		}
	}
	// A part that nobody wrote a policy for yet must be cut off.
	later := place{name: "later part", namespace: "shop", labels: maps.Clone(shop[0].labels), address: netip.MustParseAddr("10.0.0.8"), ports: []corev1.ContainerPort{{ContainerPort: 9090}}}
	later.labels["app.kubernetes.io/component"] = "later"
	shop = append(shop, later)
	all := append(slices.Clone(shop), outside()...)
	var ways []string
	for i, from := range all {
		for j, to := range all {
			if i >= len(shop) && j >= len(shop) {
				continue // none of ours
			}
			for _, port := range to.ports {
				if opens(m, from, to, port) {
					ways = append(ways, fmt.Sprintf("%s > %s:%d%s", from.name, to.name, port.ContainerPort, suffix(port.Protocol)))
				}
			}
		}
	}
	slices.Sort(ways)
	return slices.Compact(ways)
}

func suffix(p corev1.Protocol) string {
	if p == corev1.ProtocolUDP {
		return "/udp"
	}
	return ""
}

// opens says whether a connection passes: the sender's policies must let it out and the receiver's in.
func opens(m manifests, from, to place, port corev1.ContainerPort) bool {
	out, outIsolated, in, inIsolated := false, false, false, false
	for _, p := range m.policies {
		if from.namespace == "shop" && matches(&p.Spec.PodSelector, from.labels) && slices.Contains(p.Spec.PolicyTypes, networkingv1.PolicyTypeEgress) {
			outIsolated = true
			for _, rule := range p.Spec.Egress {
				out = out || anyPort(rule.Ports, port) && anyPeer(rule.To, to)
			}
		}
		if to.namespace == "shop" && matches(&p.Spec.PodSelector, to.labels) && slices.Contains(p.Spec.PolicyTypes, networkingv1.PolicyTypeIngress) {
			inIsolated = true
			for _, rule := range p.Spec.Ingress {
				in = in || anyPort(rule.Ports, port) && anyPeer(rule.From, from)
			}
		}
	}
	return (out || !outIsolated) && (in || !inIsolated)
}

func anyPort(allowed []networkingv1.NetworkPolicyPort, port corev1.ContainerPort) bool {
	protocol := port.Protocol
	if protocol == "" {
		protocol = corev1.ProtocolTCP
	}
	return len(allowed) == 0 || slices.ContainsFunc(allowed, func(a networkingv1.NetworkPolicyPort) bool {
		return *a.Protocol == protocol && a.EndPort == nil && a.Port.IntVal == port.ContainerPort
	})
}

func anyPeer(allowed []networkingv1.NetworkPolicyPeer, p place) bool {
	return len(allowed) == 0 || slices.ContainsFunc(allowed, func(a networkingv1.NetworkPolicyPeer) bool {
		if a.IPBlock != nil {
			return netip.MustParsePrefix(a.IPBlock.CIDR).Contains(p.address)
		}
		if a.NamespaceSelector == nil && p.namespace != "shop" || p.namespace == "" {
			return false
		}
		return (a.NamespaceSelector == nil || matches(a.NamespaceSelector, map[string]string{"kubernetes.io/metadata.name": p.namespace})) &&
			(a.PodSelector == nil || matches(a.PodSelector, p.labels))
	})
}

var everyone = []string{"auth", "cart", "collector", "dns", "gateway", "host in 192.0.2.0", "ingress", "internet", "neighbour", "other shop's cart", "proxy", "redis", "test", "their grafana", "their prometheus"}

// TestPaths lists every open way of each shape: these and no other.
func TestPaths(t *testing.T) {
	dns := func(parts ...string) (ways []string) {
		for _, p := range parts {
			ways = append(ways, p+" > dns:53", p+" > dns:53/udp")
		}
		return ways
	}
	inside := append(dns("auth", "cart", "gateway", "test"), "gateway > auth:9090", "gateway > cart:9090", "cart > auth:9090", "test > gateway:8080")
	own := append(slices.Clone(inside), "auth > redis:6379", "cart > redis:6379")
	open := func(ways []string, more ...string) []string { // to whoever may leave
		ways = append(slices.Clone(ways), more...)
		for _, from := range everyone {
			if !slices.Contains([]string{"auth", "cart", "gateway", "redis", "test"}, from) {
				ways = append(ways, from+" > gateway:8080")
			}
		}
		return ways
	}
	anywhere := func(port string, hosts ...string) (ways []string) {
		for _, h := range hosts {
			ways = append(ways, "auth > "+h+":"+port, "cart > "+h+":"+port)
		}
		return ways
	}
	scraped := func(by string) []string {
		return []string{by + " > auth:9100", by + " > cart:9100", by + " > gateway:9100"}
	}
	watched := append(dns("prometheus"), scraped("prometheus")...)
	for name, want := range map[string][]string{
		"plain-http": open(own),
		"kind":       append(open(own), watched...),
		"everything": slices.Concat(own, watched, dns("grafana"), []string{"grafana > prometheus:9090", "ingress > gateway:8080", "auth > collector:4317", "cart > collector:4317", "gateway > collector:4317", "ingress > prometheus:9090", "ingress > grafana:3000"}, scraped("their prometheus")),
		"production": append(append(append(slices.Clone(inside), "ingress > gateway:8080"), anywhere("6380", "host in 192.0.2.0")...), append([]string{"key-rotation > host in 192.0.2.0:443"}, append(scraped("their prometheus"), scraped("their grafana")...)...)...),
		"secure":     open(own, "key-rotation > host in 192.0.2.0:443", "key-rotation > host in 192.0.2.0:6443", "key-rotation > internet:443", "key-rotation > internet:6443"),
		"sentinel":   open(inside, append(anywhere("6379", "host in 192.0.2.0", "internet", "neighbour"), anywhere("26379", "host in 192.0.2.0", "internet")...)...),
		"cluster":    open(inside, anywhere("6379", "host in 192.0.2.0", "internet", "neighbour")...),
	} {
		t.Run(name, func(t *testing.T) {
			equal(t, allowed(shape(t, name)), want)
		})
	}
	if m := shape(t, "small"); len(m.policies) != 0 {
		t.Errorf("networkPolicy.enabled=false makes %d policies", len(m.policies))
	}
	all := everything(t)
	for _, folder := range []string{"k8s base", "k8s overlays/kind", "k8s overlays/production", "k8s install.yaml"} {
		t.Run(folder, func(t *testing.T) {
			want := slices.DeleteFunc(open(own), func(way string) bool { return strings.HasPrefix(way, "test >") })
			if folder == "k8s overlays/kind" {
				want = append(want, watched...)
			}
			if folder == "k8s overlays/production" {
				want = slices.DeleteFunc(want, func(way string) bool {
					return strings.HasSuffix(way, "> gateway:8080") && !strings.HasPrefix(way, "ingress ")
				})
				want = append(want, scraped("their prometheus")...)
				want = append(want, scraped("their grafana")...)
			}
			equal(t, allowed(all[folder]), want)
		})
	}
}

// TestPathsBite: what opens or closes a way changes the list.
func TestPathsBite(t *testing.T) {
	good := allowed(shape(t, "plain-http"))
	for _, test := range []struct {
		policy, name string
		change       func(*networkingv1.NetworkPolicySpec)
	}{
		{"cart", "all peers", func(p *networkingv1.NetworkPolicySpec) { p.Ingress[0].From = nil }},
		{"cart", "a peer less", func(p *networkingv1.NetworkPolicySpec) { p.Ingress = nil }},
		{"redis", "all namespaces", func(p *networkingv1.NetworkPolicySpec) {
			p.Ingress[0].From[0].NamespaceSelector = &metav1.LabelSelector{}
			p.Ingress[0].From[0].PodSelector = nil
		}},
		{"gateway", "all ports", func(p *networkingv1.NetworkPolicySpec) { p.Ingress[0].Ports = nil }},
		{"auth", "only DNS", func(p *networkingv1.NetworkPolicySpec) { p.Egress = p.Egress[:1] }},
		{"auth", "out to all", func(p *networkingv1.NetworkPolicySpec) {
			p.Egress = append(p.Egress, networkingv1.NetworkPolicyEgressRule{})
		}},
		{"cart", "other pods", func(p *networkingv1.NetworkPolicySpec) {
			p.PodSelector.MatchLabels["app.kubernetes.io/component"] = "carts"
		}},
	} {
		m := shape(t, "plain-http")
		for _, p := range m.policies {
			if p.Name == "shop-coatcheck-"+test.policy {
				test.change(&p.Spec)
			}
		}
		if slices.Equal(allowed(m), good) {
			t.Errorf("%s: %s: nobody notices", test.policy, test.name)
		}
	}
	m := shape(t, "plain-http")
	m.policies = slices.DeleteFunc(m.policies, func(p *networkingv1.NetworkPolicy) bool { return p.Name == "shop-coatcheck" })
	for _, p := range m.policies {
		if p.Name == "shop-coatcheck-redis" {
			p.Spec.PolicyTypes = p.Spec.PolicyTypes[:1]
		}
	}
	if slices.Equal(allowed(m), good) {
		t.Error("Redis may call anyone, and nobody notices")
	}
}

func equal(t *testing.T, got, want []string) {
	t.Helper()
	for _, w := range want {
		if !slices.Contains(got, w) {
			t.Errorf("closed: %s", w)
		}
	}
	for _, g := range got {
		if !slices.Contains(want, g) {
			t.Errorf("open: %s", g)
		}
	}
}
