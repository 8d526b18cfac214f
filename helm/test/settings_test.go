package test

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// sources is where the settings of each service are declared; what comes later stands for what came before.
var sources = map[string][]string{
	"gateway": {"chassis/run.go", "chassis/rpc/tls.go", "gateway/gateway.go"},
	"auth":    {"chassis/run.go", "chassis/redisconn/redisconn.go", "chassis/rpc/tls.go", "auth/settings.go"},
	"cart":    {"chassis/run.go", "chassis/redisconn/redisconn.go", "chassis/rpc/tls.go", "cart/settings.go"},
}

// chartsOwn are settings that values can't set by name: the chart makes them, or
// a value of its own does.
var chartsOwn = []string{
	"INSTANCE", // the pod's name
	"ADMIN_ADDR", "HTTP_ADDR", "GRPC_ADDR", "CART_ADDR", "AUTH_ADDR",
	"DRAIN_DELAY", "STOP_TIMEOUT", // the grace period follows from them
	"PLAIN_HTTP", "STOREFRONT", "TRUSTED_PROXIES", "CATALOGUE_FILE", "SIGNING_KEYS_FILE",
	"REDIS_ADDRS", "REDIS_MASTER", "REDIS_CLUSTER", "REDIS_USERNAME", "REDIS_PASSWORD_FILE",
	"REDIS_TLS", "REDIS_TLS_CA_FILE", "REDIS_TLS_CERT_FILE", "REDIS_TLS_KEY_FILE",
	"TLS_CERT_FILE", "TLS_KEY_FILE", "TLS_CA_FILE", "TLS_CLIENTS", "TLS_KEY_READERS",
}

// declared are a service's settings and their defaults, as its code has them.
func declared(t *testing.T, service string) map[string]string {
	t.Helper()
	tag := regexp.MustCompile(`env:"([A-Z_]+)[^"]*"(?: envDefault:"([^"]*)")?`)
	all := map[string]string{}
	for _, file := range sources[service] {
		code, err := os.ReadFile(filepath.Join(repository, "services", file))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range tag.FindAllStringSubmatch(string(code), -1) {
			all[m[1]] = m[2]
		}
	}
	if len(all) < 8 {
		t.Fatalf("%s declares only %v", service, all)
	}
	return all
}

// TestSettings: the schema lets values set each setting of a service that is not the chart's own, and no other.
func TestSettings(t *testing.T) {
	var schema struct {
		Properties map[string]struct {
			Properties struct {
				Settings struct{ Properties map[string]any }
			}
		}
	}
	text, err := os.ReadFile(filepath.Join(chart, "values.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	err = json.Unmarshal(text, &schema)
	if err != nil {
		t.Fatal(err)
	}
	for service := range sources {
		got := slices.Sorted(maps.Keys(schema.Properties[service].Properties.Settings.Properties))
		var want []string
		for name := range declared(t, service) {
			if !slices.Contains(chartsOwn, name) {
				want = append(want, name)
			}
		}
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s.settings: the schema has %v, the service %v", service, got, want)
		}
	}
}

// TestProcessors: values bound what the Go runtime of a pod uses, and leave it alone else.
func TestProcessors(t *testing.T) {
	for name, want := range map[string]map[string]string{
		"everything": {"gateway": "2"},
		"kind":       {"gateway": "1", "auth": "1"},
		"small":      {},
	} {
		got := map[string]string{}
		for _, d := range shape(t, name).stateless() {
			if n, ok := variables(d.Spec.Template.Spec.Containers[0])["GOMAXPROCS"]; ok {
				got[d.Spec.Template.Labels["app.kubernetes.io/component"]] = n
			}
		}
		if !maps.Equal(got, want) {
			t.Errorf("%s: GOMAXPROCS is %v, want %v", name, got, want)
		}
	}
}

// TestPorts: the chart leaves the ports to the services' defaults, so they must be the ones that it names.
func TestPorts(t *testing.T) {
	for _, d := range shape(t, "plain-http").stateless() {
		service := d.Spec.Template.Labels["app.kubernetes.io/component"]
		defaults := declared(t, service)
		for _, p := range d.Spec.Template.Spec.Containers[0].Ports {
			setting := map[string]string{"http": "HTTP_ADDR", "grpc": "GRPC_ADDR", "admin": "ADMIN_ADDR"}[p.Name]
			if want := fmt.Sprintf(":%d", p.ContainerPort); defaults[setting] != want {
				t.Errorf("%s: port %s is %s, and %s is %s by default", service, p.Name, want, setting, defaults[setting])
			}
		}
	}
}

// TestBinaries starts the real services under the environment and with the
// files of every shape: each must accept its settings, and answer its probes.
func TestBinaries(t *testing.T) {
	bin := t.TempDir()
	for service := range sources {
		build := exec.Command("go", "build", "-o", filepath.Join(bin, service), "./cmd/"+service)
		build.Dir = filepath.Join(repository, "services", service)
		build.Env = append(os.Environ(), "GOWORK=off")
		out, err := build.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	for name, m := range everything(t) {
		for _, d := range m.stateless() {
			service := d.Spec.Template.Labels["app.kubernetes.io/component"]
			t.Run(name+"/"+service, func(t *testing.T) {
				env := environ(t, m, d.Spec.Template.Spec, nil)
				answers := start(t, filepath.Join(bin, service), env, d.Spec.Template.Spec.Containers[0])
				if answers == nil {
					t.Error("it refuses to start")
				}
				for probe, answer := range answers {
					if answer != http.StatusOK && answer != http.StatusServiceUnavailable {
						t.Errorf("%s answers %d", probe, answer)
					}
				}
			})
		}
	}
	// The same must fail where it should.
	m := shape(t, "plain-http")
	for _, d := range m.stateless() {
		env := environ(t, m, d.Spec.Template.Spec, map[string]string{"COATCHECK_DRAIN_DELAY": "soon"})
		service := d.Spec.Template.Labels["app.kubernetes.io/component"]
		if answers := start(t, filepath.Join(bin, service), env, d.Spec.Template.Spec.Containers[0]); answers != nil {
			t.Errorf("%s starts with a drain delay of \"soon\"", service)
		}
	}
}

// environ is what the container sees, with the files that it would have in a folder of the test's.
func environ(t *testing.T, m manifests, spec corev1.PodSpec, instead map[string]string) []string {
	t.Helper()
	root := t.TempDir()
	for path, from := range paths(spec) {
		err := os.MkdirAll(filepath.Dir(filepath.Join(root, path)), 0o700)
		if err != nil {
			t.Fatal(err)
		}
		err = os.WriteFile(filepath.Join(root, path), content(t, m, from), 0o600)
		if err != nil {
			t.Fatal(err)
		}
	}
	// Not the ports of other tests; everything else as it would be.
	env := []string{"COATCHECK_HTTP_ADDR=127.0.0.1:0", "COATCHECK_GRPC_ADDR=127.0.0.1:0"}
	if strings.HasPrefix(spec.Containers[0].Name, "gateway") {
		env = env[:1]
	} else {
		env = env[1:]
	}
	for name, value := range variables(spec.Containers[0]) {
		if v, ok := instead[name]; ok {
			value = v
		}
		if strings.HasSuffix(name, "_FILE") {
			value = filepath.Join(root, value)
		}
		env = append(env, name+"="+value)
	}
	return env
}

// content is what is in a file; a Secret that is none of the manifests' gets what the documents say it should have.
func content(t *testing.T, m manifests, from item) []byte {
	t.Helper()
	for _, s := range m.secrets {
		if s.Name == from.secret {
			return s.Data[from.key]
		}
	}
	for _, c := range m.configMaps {
		if c.Name == from.configMap {
			return []byte(c.Data[from.key])
		}
	}
	switch from.key {
	case "tls.crt", "ca.crt", "tls.key":
		return selfSigned(t)[from.key]
	}
	if !strings.HasSuffix(from.key, ".pem") {
		return []byte("a password")
	}
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// selfSigned are a certificate and its key, the same ones for as long as the tests run.
func selfSigned(t *testing.T) map[string][]byte {
	t.Helper()
	made, err := makeSelfSigned()
	if err != nil {
		t.Fatal(err)
	}
	return made
}

var makeSelfSigned = sync.OnceValues(func() (map[string][]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return map[string][]byte{"tls.crt": certificate, "ca.crt": certificate, "tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})}, nil
})

// start runs a service until it answers its probes, and returns their statuses by path; nil if it refused to start.
func start(t *testing.T, program string, env []string, c corev1.Container) map[string]int {
	t.Helper()
	admin := freePort(t)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, program)
	cmd.Env = append(env, "COATCHECK_ADMIN_ADDR=127.0.0.1:"+strconv.Itoa(admin))
	var said strings.Builder
	cmd.Stderr = &said
	err := cmd.Start()
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	answers := map[string]int{}
	for {
		for _, p := range []*corev1.Probe{c.StartupProbe, c.ReadinessProbe, c.LivenessProbe} {
			resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d%s", admin, p.HTTPGet.Path))
			if err == nil {
				answers[p.HTTPGet.Path] = resp.StatusCode
				_ = resp.Body.Close()
			}
		}
		select {
		case err := <-ended:
			t.Logf("%v: %s", err, said.String())
			return nil
		case <-time.After(20 * time.Millisecond):
		}
		if len(answers) == 2 {
			cancel()
			<-ended
			return answers
		}
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	return lis.Addr().(*net.TCPAddr).Port
}
