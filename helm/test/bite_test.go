package test

import (
	"strings"
	"testing"
)

// TestRulesBite breaks a good shape once for each thing that a rule looks at;
// the rule must find it.
func TestRulesBite(t *testing.T) {
	shapes := map[string]string{"plain-http": shape(t, "plain-http").text, "small": shape(t, "small").text, "everything": shape(t, "everything").text, "secure": shape(t, "secure").text, "production": shape(t, "production").text}
	for _, test := range []struct{ rule, shape, old, new string }{
		{"unique", "plain-http", "name: shop-coatcheck-cart-pods", "name: shop-coatcheck-auth-pods"},
		{"restricted", "plain-http", "allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true"},
		{"restricted", "plain-http", "drop: [ALL]", "drop: [NET_RAW]"},
		{"restricted", "plain-http", "seccompProfile: { type: RuntimeDefault }", "seccompProfile: { type: Unconfined }"},
		{"restricted", "plain-http", "runAsNonRoot: true", "runAsNonRoot: false"},
		{"hardened", "plain-http", "automountServiceAccountToken: false", "automountServiceAccountToken: true"},
		{"hardened", "plain-http", "serviceAccountName: shop-coatcheck-cart", "serviceAccountName: default"},
		{"hardened", "plain-http", "enableServiceLinks: false", "enableServiceLinks: true"},
		{"hardened", "plain-http", "runAsUser: 10001", "runAsUser: 1000"},
		{"hardened", "plain-http", "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false"},
		{"hardened", "plain-http", "memory: 192Mi", "memory: 0"},
		{"hardened", "plain-http", "memory: 96Mi", "memory: 960Mi"},
		{"hardened", "plain-http", "image: coatcheck/cart:0.1.0", "image: coatcheck/cart:latest"},
		{"hardened", "plain-http", "image: coatcheck/cart:0.1.0", "image: coatcheck/cart"},
		{"stateless", "plain-http", "secret:\n            secretName: shop-coatcheck-auth\n            defaultMode: 0440\n            items: [{ key: signing-keys.pem, path: signing-keys.pem }]", "emptyDir: {}"},
		{"stateless", "plain-http", "mountPath: /etc/coatcheck/auth, readOnly: true", "mountPath: /etc/coatcheck/auth"},
		{"stateless", "plain-http", "  clusterIP: None\n", "  clusterIP: None\n  sessionAffinity: ClientIP\n"},
		{"stateless", "plain-http", "  clusterIP: None\n", "  clusterIP: None\n  publishNotReadyAddresses: true\n"},
		{"stateless", "plain-http", "      containers:\n        - name: cart", "      initContainers: [{ name: first }]\n      containers:\n        - name: cart"},
		{"drain", "plain-http", "terminationGracePeriodSeconds: 65", "terminationGracePeriodSeconds: 20"},
		{"drain", "plain-http", `value: "10s"`, `value: "20s"`},
		{"drain", "plain-http", "COATCHECK_DRAIN_DELAY", "COATCHECK_DRAIN"},
		{"rollout", "plain-http", "maxUnavailable: 0,", "maxUnavailable: 1,"},
		{"rollout", "plain-http", "minReadySeconds: 5", "minReadySeconds: 0"},
		{"rollout", "plain-http", "topologyKey: kubernetes.io/hostname", "topologyKey: kubernetes.io/os"},
		{"rollout", "plain-http", "matchLabelKeys: [pod-template-hash]", "matchLabelKeys: []"},
		{"rollout", "plain-http", "nodeTaintsPolicy: Honor", "nodeTaintsPolicy: Ignore"},
		{"autoscaled", "plain-http", "  minReadySeconds: 5", "  replicas: 3\n  minReadySeconds: 5"},
		{"autoscaled", "small", "  replicas: 1\n  revisionHistoryLimit: 3\n  minReadySeconds", "  revisionHistoryLimit: 3\n  minReadySeconds"},
		{"autoscaled", "plain-http", "minReplicas: 3", "minReplicas: 2"},
		{"autoscaled", "plain-http", "averageUtilization: 70", "averageUtilization: 95"},
		{"autoscaled", "plain-http", "kind: Deployment, name: shop-coatcheck-cart", "kind: Deployment, name: shop-cart"},
		{"autoscaled", "plain-http", "  behavior:\n    scaleDown:", "  behavior:\n    scaleUp: {}\n  x:\n    scaleDown:"},
		{"budgets", "plain-http", "unhealthyPodEvictionPolicy: AlwaysAllow", "unhealthyPodEvictionPolicy: IfHealthyBudget"},
		{"budgets", "plain-http", "  maxUnavailable: 1\n", "  maxUnavailable: 0\n"},
		{"budgets", "small", "  replicas: 1\n  revisionHistoryLimit: 3\n  minReadySeconds", "  replicas: 2\n  revisionHistoryLimit: 3\n  minReadySeconds"},
		{"environment", "plain-http", `value: "shop-coatcheck-redis:6379"`, "valueFrom: { secretKeyRef: { name: a, key: b } }"},
		{"environment", "plain-http", "COATCHECK_REDIS_ADDRS", "COATCHECK_DRAIN_DELAY"},
		{"environment", "plain-http", "          env:\n", "          envFrom: [{ secretRef: { name: shop } }]\n          env:\n"},
		{"files", "plain-http", "mountPath: /etc/coatcheck/redis, ", "mountPath: /etc/coatcheck/store, "},
		{"files", "plain-http", "defaultMode: 0440", "defaultMode: 0444"},
		{"files", "small", "  requirepass.conf: ", "  requirepass.txt: "},
		{"files", "plain-http", "  users.acl: ", "  users.txt: "},
		{"files", "plain-http", "  cart-password: ", "  password-cart: "},
		{"files", "secure", "mountPath: /etc/coatcheck/tls,", "mountPath: /etc/coatcheck/certificates,"},
		{"rights", "secure", "resourceNames: [shop-signing-keys]", "resourceNames: []"},
		{"rights", "secure", "resourceNames: [shop-signing-keys]", "resourceNames: [shop-signing-keys, shop-redis]"},
		{"rights", "secure", "verbs: [get, patch]", "verbs: [get, patch, list]"},
		{"rights", "secure", "resources: [secrets]", "resources: [\"*\"]"},
		{"rights", "secure", "kind: ServiceAccount, name: shop-coatcheck-key-rotation,", "kind: ServiceAccount, name: shop-coatcheck-auth,"},
		{"rights", "secure", "[rotate-keys, -secret, shop-signing-keys,", "[rotate-keys, -secret, other-keys,"},
		{"rights", "secure", "concurrencyPolicy: Forbid", "concurrencyPolicy: Allow"},
		{"hardened", "secure", "automountServiceAccountToken: true", "automountServiceAccountToken: false"},
		{"hardened", "secure", "serviceAccountName: shop-coatcheck-key-rotation", "serviceAccountName: default"},
		{"secured", "production", "    - shop-coatcheck-auth-pods\n", "    - shop-coatcheck-auth\n"},
		{"secured", "production", "    - shop-coatcheck-gateway.shop.svc\n", "    - shop-coatcheck-gateway\n"},
		{"secured", "production", "client auth", "code signing"},
		{"secured", "production", "shop-coatcheck-gateway.shop.svc,shop-coatcheck-cart.shop.svc", ""},
		{"secured", "secure", "COATCHECK_TLS_CA_FILE", "COATCHECK_TLS_CAS_FILE"},
		{"secured", "secure", "COATCHECK_REDIS_TLS, value: \"true\"", "COATCHECK_REDIS_TLS, value: \"false\""},
		{"files", "everything", "  catalogue.json: ", "  catalogue.txt: "},
		{"selectors", "plain-http", "  selector:\n    app.kubernetes.io/name: coatcheck\n    app.kubernetes.io/instance: shop\n    app.kubernetes.io/component: cart", "  selector:\n    app.kubernetes.io/name: coatcheck"},
		{"selectors", "plain-http", "      app.kubernetes.io/component: cart\n  template", "      app.kubernetes.io/component: auth\n  template"},
		{"selectors", "plain-http", "      app.kubernetes.io/component: cart\n  template", "      app.kubernetes.io/component: cart\n      app.kubernetes.io/version: 0.1.0\n  template"},
		{"ports", "plain-http", "targetPort: grpc", "targetPort: rpc"},
		{"ports", "plain-http", "dns:///shop-coatcheck-cart-pods:9090", "dns:///shop-coatcheck-cart-pods:9091"},
		{"ports", "plain-http", "shop-coatcheck-redis:6379", "shop-redis:6379"},
		{"ports", "plain-http", "http://shop-coatcheck-gateway:80", "http://shop-coatcheck-gateway:8080"},
		{"ports", "plain-http", `prometheus.io/port: "9100"`, `prometheus.io/port: "9101"`},
		{"ports", "everything", "port: { name: http }", "port: { name: web }"},
		{"ports", "everything", "          port: 8443", "          port: 8444"},
		{"ports", "everything", "- port: admin\n      path", "- port: metrics\n      path"},
		{"probes", "plain-http", "httpGet: { path: /livez, port: admin }", "httpGet: { path: /livez, port: admin, host: 127.0.0.1 }"},
		{"probes", "plain-http", "httpGet: { path: /readyz, port: admin }", "exec: { command: [sh] }"},
		{"probes", "plain-http", "tcpSocket: { port: redis }", "tcpSocket: { port: 6380 }"},
		{"probes", "plain-http", "clusterIP: None", "clusterIP: 10.0.0.1"},
		{"store", "plain-http", "  replicas: 1\n  serviceName", "  replicas: 2\n  serviceName"},
		{"store", "plain-http", "whenDeleted: Retain", "whenDeleted: Delete"},
		{"store", "plain-http", "appendfsync always", "appendfsync everysec"},
		{"store", "plain-http", "maxmemory-policy noeviction", "maxmemory-policy allkeys-lru"},
		{"store", "plain-http", "maxmemory 300mb", "maxmemory 480mb"},
		{"store", "plain-http", "  publishNotReadyAddresses: true\n", ""},
		{"store", "plain-http", "terminationGracePeriodSeconds: 60", "terminationGracePeriodSeconds: 10"},
		{"store", "plain-http", "app.kubernetes.io/part-of: coatcheck\n      annotations:\n        checksum/config", "helm.sh/chart: coatcheck-0.1.0\n      annotations:\n        checksum/config"},
	} {
		t.Run(test.rule+"/"+test.new, func(t *testing.T) {
			good := shapes[test.shape]
			broken := strings.ReplaceAll(good, test.old, test.new)
			if broken == good {
				t.Fatalf("the shape %s has no %q", test.shape, test.old)
			}
			m, _ := parse(broken) // a field that does not exist is what parse is for
			if len(rules[test.rule](m)) == 0 {
				t.Errorf("%s finds nothing wrong with %q", test.rule, test.new)
			}
		})
	}
}

// TestParseBites: what the API does not have, or has once, is an error.
func TestParseBites(t *testing.T) {
	good := shape(t, "everything").text
	for _, test := range []struct{ old, new string }{
		{"minReadySeconds: 5", "minimumReadySeconds: 5"},
		{"minReadySeconds: 5", "minReadySeconds: five"},
		{"minReadySeconds: 5", "minReadySeconds: 5\n  minReadySeconds: 5"},
		{"parentRefs:", "parents:"},
		{"endpoints:", "endpoint:"},
		{"kind: PodDisruptionBudget", "kind: DisruptionBudget"},
	} {
		broken := strings.ReplaceAll(good, test.old, test.new)
		if broken == good {
			t.Fatalf("nothing says %q", test.old)
		}
		if _, err := parse(broken); err == nil {
			t.Errorf("nothing wrong is found with %q", test.new)
		}
	}
}
