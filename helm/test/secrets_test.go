package test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// keyRotation is the component that may call the API server, and the only one.
const keyRotation = "key-rotation"

// certificate is what the chart uses of cert-manager's Certificate.
type certificate struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		SecretName  string          `json:"secretName"`
		IssuerRef   issuerRef       `json:"issuerRef"`
		Duration    metav1.Duration `json:"duration"`
		RenewBefore metav1.Duration `json:"renewBefore"`
		PrivateKey  struct {
			Algorithm      string `json:"algorithm"`
			Size           int    `json:"size"`
			RotationPolicy string `json:"rotationPolicy"`
		} `json:"privateKey"`
		Usages   []string `json:"usages"`
		DNSNames []string `json:"dnsNames"`
	} `json:"spec"`
}

type issuerRef struct {
	Name  string `json:"name"`
	Kind  string `json:"kind"`
	Group string `json:"group"`
}

// rights: nobody has any, but key rotation to the one Secret that auth reads its keys from.
func rights(m manifests) (found faults) {
	signing := ""
	for _, w := range m.workloads() {
		if w.component() == "auth" {
			signing = paths(w.template.Spec)[variables(w.template.Spec.Containers[0])["COATCHECK_SIGNING_KEYS_FILE"]].secret
		}
	}
	accounts := map[string]string{} // of whom
	for _, w := range m.workloads() {
		accounts[w.template.Spec.ServiceAccountName] = w.component()
	}
	for _, r := range m.roles {
		for _, rule := range r.Rules {
			if fmt.Sprint(rule.APIGroups, rule.Resources, rule.ResourceNames, rule.Verbs) != fmt.Sprintf("[] [secrets] [%s] [get patch]", signing) {
				found.addf("Role %s: allows %v", r.Name, rule)
			}
		}
	}
	for _, b := range m.bindings {
		for _, s := range b.Subjects {
			if s.Kind != "ServiceAccount" || accounts[s.Name] != keyRotation || s.Namespace != b.Namespace || b.RoleRef.Kind != "Role" {
				found.addf("RoleBinding %s: gives rights to %s %s", b.Name, s.Kind, s.Name)
			}
		}
		if !slices.Contains(m.ids, "Role "+b.RoleRef.Name) {
			found.addf("RoleBinding %s: no role %s", b.Name, b.RoleRef.Name)
		}
	}
	if len(m.cronJobs) != len(m.roles) || len(m.roles) != len(m.bindings) {
		found.addf("%d CronJobs, %d Roles and %d RoleBindings", len(m.cronJobs), len(m.roles), len(m.bindings))
	}
	for _, c := range m.cronJobs {
		args := strings.Join(c.Spec.JobTemplate.Spec.Template.Spec.Containers[0].Args, " ")
		if !strings.HasPrefix(args, "rotate-keys -secret "+signing+" -key ") {
			found.addf("CronJob %s: runs %s, and auth's keys are in %s", c.Name, args, signing)
		}
		if c.Spec.ConcurrencyPolicy != batchv1.ForbidConcurrent || c.Spec.JobTemplate.Spec.ActiveDeadlineSeconds == nil {
			found.addf("CronJob %s: one at a time, and none for ever", c.Name)
		}
	}
	return found
}

// secured: who speaks TLS has a certificate for the name that it is called by, and who is called asks for those of its callers.
func secured(m manifests) (found faults) {
	names := map[string][]string{} // of the certificate in a Secret
	for _, c := range m.certificates {
		names[c.Spec.SecretName] = c.Spec.DNSNames
		if c.Spec.IssuerRef.Name == "" || c.Spec.RenewBefore.Duration >= c.Spec.Duration.Duration || !slices.Contains(c.Spec.Usages, "client auth") || !slices.Contains(c.Spec.Usages, "server auth") {
			found.addf("Certificate %s: %+v", c.Name, c.Spec)
		}
	}
	holds := map[string]string{} // component to Secret
	for _, w := range m.workloads() {
		if from := paths(w.template.Spec)["/etc/coatcheck/tls/tls.crt"]; from.secret != "" {
			holds[w.component()] = from.secret
		}
	}
	if len(holds) == 0 {
		return found
	}
	has := func(component, name string) {
		if all, made := names[holds[component]]; holds[component] == "" || made && !slices.Contains(all, name) {
			found.addf("the certificate of %s is not for %s: %v", component, name, all)
		}
	}
	for _, w := range m.workloads() {
		env := variables(w.template.Spec.Containers[0])
		if !w.service() {
			continue
		}
		for _, name := range []string{"CERT", "KEY", "CA"} {
			if env["COATCHECK_TLS_"+name+"_FILE"] == "" {
				found.addf("%s: no TLS_%s_FILE", w.id, name)
			}
		}
		for setting, component := range map[string]string{"AUTH_ADDR": "auth", "CART_ADDR": "cart"} {
			if target := env["COATCHECK_"+setting]; target != "" {
				host, _, _ := strings.Cut(strings.TrimPrefix(target, "dns:///"), ":")
				has(component, host)
			}
		}
		clients := strings.Split(env["COATCHECK_TLS_CLIENTS"], ",")
		callers := map[string][]string{"auth": {"gateway", "cart"}, "cart": {"gateway"}, "gateway": nil}[w.component()]
		if len(callers) > 0 && len(clients) != len(callers) {
			found.addf("%s: may be called by %v", w.id, clients)
			continue
		}
		for i, caller := range callers {
			has(caller, clients[i])
		}
		if readers := env["COATCHECK_TLS_KEY_READERS"]; w.component() == "auth" && readers != clients[1] {
			found.addf("%s: %q may ask for the keys only, not %s", w.id, readers, clients[1])
		}
		if addr := env["COATCHECK_REDIS_ADDRS"]; addr != "" && len(m.statefulSets) > 0 {
			host, _, _ := strings.Cut(addr, ":")
			has("redis", host)
			if env["COATCHECK_REDIS_TLS"] != "true" {
				found.addf("%s: speaks to Redis without TLS", w.id)
			}
		}
	}
	return found
}

// TestRedisRulesAreTheServices: what the chart lets auth and cart do in Redis is what they say they need.
func TestRedisRulesAreTheServices(t *testing.T) {
	for user, source := range map[string]string{"auth": "auth/redis.acl", "cart": "cart/redisstore/redis.acl"} {
		want, err := os.ReadFile(filepath.Join(repository, "services", source))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(chart, "acl", user+".acl"))
		if err != nil || string(got) != string(want) {
			t.Errorf("acl/%s.acl is not services/%s: make fix-manifests (%v)", user, source, err)
		}
	}
}

// TestKeyRotationLives: the CronJob keeps keys for as long as the settings of auth say.
func TestKeyRotationLives(t *testing.T) {
	env := variables(shape(t, "secure").cronJobs[0].Spec.JobTemplate.Spec.Template.Spec.Containers[0])
	for name, want := range map[string]time.Duration{"GUEST_TICKET_LIFE": 1440 * time.Hour, "SESSION_LIFE": 24 * time.Hour} {
		got, err := time.ParseDuration(env["COATCHECK_"+name])
		if err != nil || got != want {
			t.Errorf("%s is %v, want %v", name, env["COATCHECK_"+name], want)
		}
	}
	if len(env) != 2 {
		t.Errorf("the CronJob has %v", env)
	}
}

// passwordOf is the key of a Secret that a service's password of Redis comes from.
func passwordOf(w workload) item {
	return paths(w.template.Spec)[variables(w.template.Spec.Containers[0])["COATCHECK_REDIS_PASSWORD_FILE"]]
}

// TestRedisUsersOfShapes: who has users has one for each service, with another password each.
func TestRedisUsersOfShapes(t *testing.T) {
	for name, want := range map[string][2]string{
		"plain-http": {"auth auth-password", "cart cart-password"}, "secure": {"auth auth-password", "cart cart-password"},
		"production": {"auth auth-password", "cart cart-password"}, "sentinel": {"shop pass", "shop pass"}, "small": {" password", " password"},
	} {
		got := map[string]string{}
		for _, w := range shape(t, name).workloads() {
			if c := w.component(); c == "auth" || c == "cart" {
				got[c] = variables(w.template.Spec.Containers[0])["COATCHECK_REDIS_USERNAME"] + " " + passwordOf(w).key
			} else if w.service() && passwordOf(w) != (item{}) {
				t.Errorf("%s: %s has a password of Redis", name, w.id)
			}
		}
		if got["auth"] != want[0] || got["cart"] != want[1] {
			t.Errorf("%s: users and passwords are %v, want %v", name, got, want)
		}
	}
}
