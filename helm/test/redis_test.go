package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// running is a real redis-server, started as the StatefulSet starts it, with its
// files in a folder of the test's.
type running struct{ port, root string }

func startRedis(t *testing.T, m manifests) running {
	t.Helper()
	spec := m.statefulSets[0].Spec.Template.Spec
	if want := []string{"redis-server", "/etc/coatcheck/redis/redis.conf"}; strings.Join(spec.Containers[0].Command, " ") != strings.Join(want, " ") {
		t.Fatalf("it is started by %v", spec.Containers[0].Command)
	}
	r := running{strconv.Itoa(freePort(t)), t.TempDir()}
	files := paths(spec)
	files["/etc/coatcheck/redis/redis.conf"] = item{configMap: m.statefulSets[0].Name, key: "redis.conf"}
	delete(files, "/etc/coatcheck/redis")
	for path, from := range files {
		text := content(t, m, from)
		if filepath.Base(path) == "users.acl" && len(m.secrets) == 0 {
			text = []byte("user default on >pass ~* &* +@all\nuser cart on >pass ~cart:* +@all\n")
		}
		text = []byte(strings.NewReplacer("/etc/coatcheck", r.root, "dir /data", "dir "+r.root, "bind * -::*", "bind 127.0.0.1", "port 6379", "port "+r.port).Replace(string(text)))
		path = filepath.Join(r.root, strings.TrimPrefix(path, "/etc/coatcheck"))
		err := os.MkdirAll(filepath.Dir(path), 0o700)
		if err != nil {
			t.Fatal(err)
		}
		err = os.WriteFile(path, text, 0o600)
		if err != nil {
			t.Fatal(err)
		}
	}
	server := exec.Command("redis-server", filepath.Join(r.root, "redis", "redis.conf"))
	err := server.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	})
	return r
}

// ask sends one command; further are arguments of redis-cli.
func (r running) ask(user, password string, further []string, command ...string) string {
	args := append([]string{"-p", r.port, "--no-auth-warning", "--user", user, "--pass", password}, further...)
	out, _ := exec.Command("redis-cli", append(args, command...)...).CombinedOutput()
	return strings.TrimSpace(string(out))
}

func (r running) await(t *testing.T, password string, further ...string) {
	t.Helper()
	for range 100 {
		if r.ask("default", password, further, "PING") == "PONG" {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("it does not answer: %s", r.ask("default", password, further, "PING"))
}

// passwords are those of the release's own Secret, by its keys.
func passwords(m manifests) map[string]string {
	all := map[string]string{}
	for _, s := range m.secrets {
		for key, value := range s.Data {
			all[key] = string(value)
		}
	}
	return all
}

// TestRedis asks what it runs with. Directives from redis.config must not undo
// what keeps changes.
func TestRedis(t *testing.T) {
	for name, further := range map[string]string{"everything": "5000", "small": ""} {
		m := shape(t, name)
		r, secret := startRedis(t, m), passwords(m)
		r.await(t, secret["password"])
		for directive, want := range map[string]string{
			"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction", "maxmemory": strconv.Itoa(300 << 20), "save": "", "maxclients": further,
		} {
			if name == "small" && (directive == "maxmemory" || directive == "maxclients") {
				continue
			}
			if got := r.ask("default", secret["password"], nil, "CONFIG", "GET", directive); got != strings.TrimSpace(directive+"\n"+want) {
				t.Errorf("%s: %s is %q, want %q", name, directive, got, want)
			}
		}
		if got := r.ask("default", "guessed", nil, "PING"); !strings.Contains(got, "NOAUTH") && !strings.Contains(got, "WRONGPASS") {
			t.Errorf("%s: without the password it answers %q", name, got)
		}
	}
}

// TestRedisUsers: each service's user may what it needs and no more.
func TestRedisUsers(t *testing.T) {
	m := shape(t, "plain-http")
	r, secret := startRedis(t, m), passwords(m)
	r.await(t, secret["password"])
	const refused = "NOPERM"
	for _, try := range []struct{ user, want, command string }{
		{"auth", "0", "HSET user:{u_1} password phc"},
		{"auth", "", "HGETALL sessions:{u_1}"},
		{"auth", refused, "HGETALL cart:{u_1}"},
		{"auth", refused, "KEYS *"},
		{"cart", "", "HGETALL cart:{u_1}"},
		{"cart", refused, "HGETALL sessions:{u_1}"},
		{"cart", refused, "HGET user:{u_1} password"},
		{"cart", refused, "FLUSHALL"},
		{"cart", refused, "CONFIG SET appendonly no"},
		{"gateway", "WRONGPASS", "PING"},
	} {
		password := secret[try.user+"-password"]
		if try.user == "gateway" {
			password = secret["cart-password"]
		}
		got := r.ask(try.user, password, nil, strings.Fields(try.command)...)
		if strings.Contains(got, refused) != (try.want == refused) || try.want == "WRONGPASS" && !strings.Contains(got, try.want) {
			t.Errorf("%s: %s is answered %q", try.user, try.command, got)
		}
	}
	if secret["auth-password"] == secret["cart-password"] || secret["password"] == secret["cart-password"] || len(secret["cart-password"]) < 32 {
		t.Error("passwords are short, or the same")
	}
	// A changed file is taken without a restart.
	users := filepath.Join(r.root, "redis-password", "users.acl")
	text, err := os.ReadFile(users)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(text), "user cart on ", "user cart on >another ", 1)
	err = os.WriteFile(users, []byte(changed), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if got := r.ask("default", secret["password"], nil, "ACL", "LOAD"); got != "OK" {
		t.Fatalf("ACL LOAD answers %q", got)
	}
	for _, password := range []string{"another", secret["cart-password"]} {
		if got := r.ask("cart", password, nil, "PING"); got != "PONG" {
			t.Errorf("after another password came, it answers %q", got)
		}
	}
}

// TestRedisTLS: with TLS it speaks nothing else, and wants a certificate.
func TestRedisTLS(t *testing.T) {
	r := startRedis(t, shape(t, "secure"))
	file := func(name string) string { return filepath.Join(r.root, "tls", name) }
	trust := []string{"--tls", "--cacert", file("ca.crt")}
	whole := append(trust[:3:3], "--cert", file("tls.crt"), "--key", file("tls.key"))
	r.await(t, "pass", whole...)
	for name, further := range map[string][]string{"without TLS": nil, "without a certificate": trust} {
		if got := r.ask("default", "pass", further, "PING"); got == "PONG" || got == "" {
			t.Errorf("%s it answers %q", name, got)
		}
	}
	if got := r.ask("cart", "pass", whole, "GET", "user:{u_1}"); !strings.Contains(got, "NOPERM") {
		t.Errorf("a user that may not is answered %q", got)
	}
}
