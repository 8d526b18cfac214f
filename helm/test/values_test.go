package test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	yamlv3 "go.yaml.in/yaml/v3"
)

// TestRefused: what would lose carts, or open the shop unsaid, is refused with a word that says why.
func TestRefused(t *testing.T) {
	plain := "plainHTTP=true"
	external := plain + ",redis.enabled=false,redis.external.addrs={redis:6379}"
	for _, test := range []struct{ name, set, want string }{
		{"neither plain HTTP nor a URL", "", "plainHTTP"},
		{"neither plain HTTP nor a URL, again", "", "publicURL"},
		{"a URL without TLS", "publicURL=http://shop.example.org", "publicURL"},
		{"a URL with a path", "publicURL=https://shop.example.org/shop", "publicURL"},
		{"plain HTTP under an https URL", plain + ",publicURL=https://shop.example.org", "must be Secure"},
		{"a storefront as text", plain + ",gateway.storefront=yes", "storefront"},
		{"plain HTTP as text", "plainHTTP=yes", "plainHTTP"},
		{"plain HTTP behind a certificate", plain + ",publicURL=http://shop.example.org,ingress.enabled=true,ingress.tlsSecret=tls", "must be Secure"},
		{"an unknown value", plain + ",gatway.replicas=3", "gatway"},
		{"an unknown value deep down", plain + ",redis.persistence.enabled=false", "enabled"},
		{"a misspelt setting", plain + ",cart.settings.MAX_LINE=5", "MAX_LINE"},
		{"a setting of the chart's own", plain + ",cart.settings.DRAIN_DELAY=0s", "DRAIN_DELAY"},
		{"a setting of another service", plain + ",gateway.settings.MAX_LINES=5", "MAX_LINES"},
		{"a setting of the wrong kind", plain + ",gateway.settings.TRY_TIMEOUT=5", "TRY_TIMEOUT"},
		{"no processor at all", plain + ",gateway.processors=0", "processors"},
		{"replicas beside an autoscaler", plain + ",cart.replicas=3", "cart.replicas"},
		{"more pods at least than at most", plain + ",cart.autoscaling.minReplicas=11", "maxReplicas"},
		{"an autoscaler without a CPU request", plain + ",cart.resources.requests.cpu=null", "resources.requests.cpu"},
		{"no pods", plain + ",cart.autoscaling.enabled=false,cart.replicas=0", "replicas"},
		{"an endless drain", plain + ",gateway.drainDelaySeconds=301", "drainDelaySeconds"},
		{"no store", plain + ",redis.enabled=false", "redis.external.addrs"},
		{"two stores", plain + ",redis.external.addrs={redis:6379}", "one store"},
		{"a way to a store that is not used", plain + ",redis.external.mode=cluster", "one store"},
		{"a password of a store that is not used", plain + ",redis.external.existingSecret=shop", "one store"},
		{"TLS to a store that is not used", plain + ",redis.external.tls.enabled=true,redis.external.tls.secret=shop", "one store"},
		{"users of a store that is not used", plain + ",redis.external.acl=true,redis.external.existingSecret=shop", "one store"},
		{"a store with a password in its address", plain + ",redis.enabled=false,redis.external.addrs={redis://:secret@redis:6379}", "addrs"},
		{"several single stores", plain + ",redis.enabled=false,redis.external.addrs={a:6379,b:6379}", "sentinel or cluster"},
		{"Sentinel without a primary", external + ",redis.external.mode=sentinel", "master"},
		{"a primary without Sentinel", external + ",redis.external.master=shop", "master"},
		{"a user without a password", external + ",redis.external.username=shop", "existingSecret"},
		{"eviction", plain + ",redis.config.maxmemory-policy=allkeys-lru", "maxmemory-policy"},
		{"eviction in other letters", plain + ",redis.config.Maxmemory-Policy=allkeys-lru", "Maxmemory-Policy"},
		{"eviction through another file", plain + ",redis.config.include=/etc/other.conf", "include"},
		{"syncing now and then", plain + ",redis.config.appendfsync=everysec", "appendfsync"},
		{"a volume that the log outgrows", plain + ",redis.maxMemoryMiB=600", "redis.persistence.size must be at least 4 times"},
		{"a volume of few bytes", plain + ",redis.persistence.size=500000000", "redis.persistence.size must be at least 4 times"},
		{"memory beside maxMemoryMiB", plain + ",redis.resources.requests.memory=1Gi", "memory"},
		{"a tag that moves", plain + ",image.tag=latest", "tag"},
		{"a ServiceMonitor whose scrapes are forbidden", plain + ",metrics.serviceMonitor.enabled=true", "metricsFrom"},
		{"a pod label of the chart's own", plain + `,cart.podLabels.app\.kubernetes\.io/component=web`, "app.kubernetes.io/component"},
		{"a pod annotation of the chart's own", plain + `,gateway.podAnnotations.prometheus\.io/port=1`, "prometheus.io/port"},
		{"a node port without NodePort", plain + ",gateway.service.nodePort=30080", "NodePort"},
		{"an Ingress for no host", plain + ",ingress.enabled=true", "publicURL"},
		{"an Ingress whose users are one address", "publicURL=https://shop.example.org,ingress.enabled=true", "trustedProxies"},
		{"a route whose users are one address", "publicURL=https://shop.example.org,httpRoute.enabled=true,httpRoute.parentRefs[0].name=public", "trustedProxies"},
		{"everybody for a proxy", plain + ",gateway.trustedProxies={0.0.0.0/0}", "trustedProxies"},
		{"a traffic policy inside the cluster", plain + ",gateway.service.externalTrafficPolicy=Local", "NodePort or LoadBalancer"},
		{"a rate below none", plain + ",auth.settings.LOGIN_RATE=-1", "LOGIN_RATE"},
		{"a route without a Gateway", "publicURL=https://shop.example.org,httpRoute.enabled=true", "parentRefs"},
		{"a collector without a port", plain + ",tracing.endpoint=http://collector", "endpoint"},
		{"a collector without a scheme", plain + ",tracing.endpoint=collector:4317", "endpoint"},
		{"more traces than all", plain + ",tracing.samplerRatio=1.5", "samplerRatio"},
		{"a Grafana without a Prometheus", plain + ",grafana.enabled=true", "prometheus.enabled"},
		{"a Prometheus that moves", plain + ",prometheus.image.tag=latest", "tag"},
		{"keys that Helm would bring back", plain + ",keyRotation.enabled=true", "auth.existingSecret"},
		{"a rotation at no time", plain + ",keyRotation.schedule=monthly", "schedule"},
		{"a key that signs before it is known", plain + ",keyRotation.leadMinutes=1", "leadMinutes"},
		{"TLS without certificates", plain + ",tls.enabled=true", "issuerRef"},
		{"TLS with a certificate less", plain + ",tls.enabled=true,tls.existingSecrets.auth=a,tls.existingSecrets.cart=c,tls.existingSecrets.gateway=g", "redis"},
		{"TLS with both", plain + ",tls.enabled=true,tls.issuerRef.name=ca,tls.existingSecrets.auth=a", "either"},
		{"a certificate for nothing", plain + ",tls.existingSecrets.auth=a", "tls.enabled"},
		{"an issuer for nothing", plain + ",tls.issuerRef.name=ca", "tls.enabled"},
		{"TLS of Redis' own", plain + ",redis.config.tls-auth-clients=no", "tls-auth-clients"},
		{"TLS to a Redis of any authority", external + ",redis.external.tls.enabled=true", "redis.external.tls.secret"},
		{"users without passwords", external + ",redis.external.acl=true", "existingSecret"},
		{"users and a user", external + ",redis.external.acl=true,redis.external.username=shop,redis.external.existingSecret=shop", "username"},
		{"an empty peer", plain + ",networkPolicy.metricsFrom[0].cidr=0.0.0.0/0", "metricsFrom"},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, helm := range []string{"helm", "helm3"} {
				_, err := template(t, helm, chart, "--set", test.set)
				if err == nil {
					t.Errorf("%s renders it", helm)
					continue
				}
				// Its first line is the command, which has the value's name in any case.
				if _, said, _ := strings.Cut(err.Error(), "\n"); !strings.Contains(said, test.want) {
					t.Errorf("%s does not speak of %q: %s", helm, test.want, said)
				}
			}
		})
	}
	// A directive's value must not bring another one.
	file := filepath.Join(t.TempDir(), "values.yaml")
	err := os.WriteFile(file, []byte("plainHTTP: true\nredis: { config: { timeout: \"0\\nappendfsync no\" } }\n"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	for _, helm := range []string{"helm", "helm3"} {
		_, err = template(t, helm, chart, "--values", file)
		if err == nil || !strings.Contains(err.Error(), "timeout") {
			t.Errorf("%s takes a second line in a directive: %v", helm, err)
		}
	}
}

// TestVolumeSizes: what is enough for the log of 300 MiB is taken in every spelling.
func TestVolumeSizes(t *testing.T) {
	for _, size := range []string{"1200Mi", "1.2Gi", "2G", "0.01T", "1300000000"} {
		for _, helm := range []string{"helm", "helm3"} {
			if _, err := template(t, helm, chart, "--set", "plainHTTP=true,redis.persistence.size="+size); err != nil {
				t.Errorf("%s does not take %s: %v", helm, size, err)
			}
		}
	}
}

// TestHelm3 makes of every shape what Helm 4 does, and both find nothing to complain of.
func TestHelm3(t *testing.T) {
	// What is drawn anew by each render would differ.
	drawn := regexp.MustCompile(`(?m)^ *(signing-keys.pem|password|auth-password|cart-password|users.acl|requirepass.conf|checksum/redis): .*\n`)
	for name, file := range shapes(t) {
		var texts []string
		for _, helm := range []string{"helm", "helm3"} {
			_, err := command(tool(t, helm), "lint", "--strict", "--kube-version", kubernetes, chart, "--values", file)
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			text, err := template(t, helm, chart, "--values", file)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			documents := strings.Split(drawn.ReplaceAllString(text, ""), "\n---\n")
			for i := range documents {
				documents[i] = strings.TrimSpace(strings.TrimPrefix(documents[i], "---\n"))
			}
			slices.Sort(documents)
			texts = append(texts, strings.Join(documents, "\n---\n"))
		}
		if texts[0] != texts[1] {
			t.Errorf("%s: Helm 3 and 4 differ:\n%s\n======\n%s", name, texts[0], texts[1])
		}
	}
}

// TestSecretsDrawnOnce: all that asks for a generated secret in one render gets the same, and two installs don't.
func TestSecretsDrawnOnce(t *testing.T) {
	sums := map[string]bool{}
	for range 2 {
		m := shape(t, "plain-http")
		for _, s := range m.secrets {
			if _, has := s.Data["password"]; !has {
				continue
			}
			for user, key := range map[string]string{"default": "password", "auth": "auth-password", "cart": "cart-password"} {
				if line := fmt.Sprintf("user %s on #%x ", user, sha256.Sum256(s.Data[key])); !strings.Contains(string(s.Data["users.acl"]), line) {
					t.Errorf("Redis wants another password of %s than there is", user)
				}
			}
		}
		of := map[string]bool{}
		for _, w := range m.workloads() {
			if sum := w.template.Annotations["checksum/redis"]; sum != "" {
				of[sum], sums[sum] = true, true
			}
		}
		if len(of) != 1 {
			t.Errorf("%d checksums of one secret", len(of))
		}
	}
	if len(sums) != 2 {
		t.Errorf("two installs have %d passwords", len(sums))
	}
}

// TestRollsWithCatalogue: another catalogue makes other pods.
func TestRollsWithCatalogue(t *testing.T) {
	sum := func(catalogue string) string {
		text, err := template(t, "helm", chart, "--set", "plainHTTP=true", "--set-literal", "cart.catalogue="+catalogue)
		if err != nil {
			t.Fatal(err)
		}
		m, err := parse(text)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range m.deployments {
			if s := d.Spec.Template.Annotations["checksum/catalogue"]; s != "" {
				return s
			}
		}
		t.Fatal("no checksum of the catalogue")
		return ""
	}
	if sum(`{"currency": "EUR"}`) == sum(`{"currency": "USD"}`) {
		t.Error("pods would keep the catalogue that they started with")
	}
}

// TestTracing: a collector is named to every service in OpenTelemetry's own words, and none is named unasked.
func TestTracing(t *testing.T) {
	for name, want := range map[string]map[string]string{
		"everything": {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector.tracing:4317", "OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25"},
		"plain-http": {},
	} {
		for _, d := range shape(t, name).stateless() {
			got := map[string]string{}
			for variable, value := range variables(d.Spec.Template.Spec.Containers[0]) {
				if strings.HasPrefix(variable, "OTEL_") {
					got[variable] = value
				}
			}
			if !maps.Equal(got, want) {
				t.Errorf("%s: %s has %v, want %v", name, d.Name, got, want)
			}
		}
	}
}

// TestDashboardsAndRules: files that are put into the chart's folders become objects, and none without files.
func TestDashboardsAndRules(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "coatcheck")
	err := os.CopyFS(folder, os.DirFS(chart))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"dashboards", "rules"} {
		err := os.RemoveAll(filepath.Join(folder, f))
		if err != nil {
			t.Fatal(err)
		}
	}
	on := []string{"--set", "plainHTTP=true,metrics.prometheusRule.enabled=true,metrics.dashboards.enabled=true,metrics.dashboards.annotations.grafana_folder=Shops"}
	render := func(args ...string) manifests {
		t.Helper()
		text, err := template(t, "helm", folder, args...)
		if err != nil {
			t.Fatal(err)
		}
		m, err := parse(text)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	without := render(on...)
	if len(without.rules) != 0 {
		t.Error("an empty PrometheusRule")
	}
	const dashboard = `{"title": "Shop", "legend": "{{pod}}"}`
	for name, text := range map[string]string{
		"dashboards/shop.json":  dashboard,
		"rules/shop.yaml":       "groups:\n  - name: shop\n    rules:\n      - alert: Down\n        expr: up == 0\n        annotations: { summary: '{{ $labels.pod }} is down' }\n",
		"rules/more.yaml":       "groups:\n  - name: more\n    rules: []\n",
		"rules/shop_test.yaml":  "tests: []\n",
		"dashboards/notes.text": "none",
	} {
		err := os.MkdirAll(filepath.Dir(filepath.Join(folder, name)), 0o700)
		if err != nil {
			t.Fatal(err)
		}
		err = os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600)
		if err != nil {
			t.Fatal(err)
		}
	}
	with := render(on...)
	if len(with.configMaps) != len(without.configMaps)+1 {
		t.Errorf("%d ConfigMaps more for one dashboard", len(with.configMaps)-len(without.configMaps))
	}
	if !slices.ContainsFunc(with.ids, func(id string) bool { return id == "ConfigMap shop-coatcheck-dashboard-shop" }) {
		t.Errorf("no dashboard in %v", with.ids)
	}
	for _, c := range with.configMaps {
		if c.Name == "shop-coatcheck-dashboard-shop" && (c.Data["shop.json"] != dashboard || c.Labels["grafana_dashboard"] != "1" || c.Annotations["grafana_folder"] != "Shops") {
			t.Errorf("the dashboard is %q with %v and %v", c.Data, c.Labels, c.Annotations)
		}
	}
	// The third says how many replicas there are.
	if len(with.rules) != 1 || len(with.rules[0].Spec.Groups) != 3 || !strings.Contains(with.text, "{{ $labels.pod }} is down") {
		t.Errorf("the rules are %v", with.rules)
	}
	if off := render("--set", "plainHTTP=true"); len(off.ids) != len(without.ids) {
		t.Error("they are made unasked")
	}
}

// TestReadme: the README's table has every value with its default and description, in the order of values.yaml.
func TestReadme(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(chart, "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var document yamlv3.Node
	err = yamlv3.Unmarshal(text, &document)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	describe(t, document.Content[0], "", &want)
	readme, err := os.ReadFile(filepath.Join(chart, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	_, table, _ := strings.Cut(string(readme), "\n## Values\n") // there are others before it
	for line := range strings.Lines(table) {
		if strings.HasPrefix(line, "| `") {
			got = append(got, strings.TrimSpace(line))
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("the table must be:\n%s", strings.Join(want, "\n"))
	}
}

// describe appends a row for each value that has a comment "# -- …"; a value without one must have values in it.
func describe(t *testing.T, node *yamlv3.Node, prefix string, rows *[]string) {
	for i := 0; i < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		name := prefix + key.Value
		comment, described := strings.CutPrefix(key.HeadComment, "# -- ")
		if !described {
			if value.Kind != yamlv3.MappingNode || len(value.Content) == 0 {
				t.Errorf("values.yaml does not say what %s is", name)
				continue
			}
			describe(t, value, name+".", rows)
			continue
		}
		var v any
		err := value.Decode(&v)
		if err != nil {
			t.Fatal(err)
		}
		var shown bytes.Buffer
		encoder := json.NewEncoder(&shown)
		encoder.SetEscapeHTML(false)
		err = encoder.Encode(v)
		if err != nil {
			t.Fatal(err)
		}
		if cell := strings.TrimSpace(shown.String()); len(cell) <= 100 {
			*rows = append(*rows, fmt.Sprintf("| `%s` | `%s` | %s |", name, cell, comment))
		} else {
			*rows = append(*rows, fmt.Sprintf("| `%s` | in values.yaml | %s |", name, comment))
		}
	}
}
