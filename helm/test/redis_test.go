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

// TestRedis starts a real redis-server as the StatefulSet does, with its files
// in a folder of the test's, and asks it what it runs with. Directives from
// redis.config must not undo what keeps changes.
func TestRedis(t *testing.T) {
	m := shape(t, "everything")
	spec := m.statefulSets[0].Spec.Template.Spec
	root := t.TempDir()
	for path, from := range map[string]item{
		"redis.conf":       {configMap: m.statefulSets[0].Name, key: "redis.conf"},
		"requirepass.conf": paths(spec)["/etc/coatcheck/redis-password/requirepass.conf"],
	} {
		text := strings.NewReplacer("/etc/coatcheck/redis-password", root, "dir /data", "dir "+root, "bind * -::*", "bind 127.0.0.1").Replace(string(content(t, m, from)))
		err := os.WriteFile(filepath.Join(root, path), []byte(text), 0o600)
		if err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"redis-server", "/etc/coatcheck/redis/redis.conf"}; strings.Join(spec.Containers[0].Command, " ") != strings.Join(want, " ") {
		t.Fatalf("it is started by %v", spec.Containers[0].Command)
	}
	port := strconv.Itoa(freePort(t))
	server := exec.Command("redis-server", filepath.Join(root, "redis.conf"), "--port", port)
	err := server.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	})
	var password string
	for _, s := range m.secrets {
		if strings.HasSuffix(s.Name, "-redis") {
			password = string(s.Data["password"])
		}
	}
	ask := func(password string, args ...string) string {
		out, _ := exec.Command("redis-cli", append([]string{"-p", port, "--no-auth-warning", "-a", password}, args...)...).CombinedOutput()
		return string(out)
	}
	for range 100 {
		if strings.Contains(ask(password, "PING"), "PONG") {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	for directive, want := range map[string]string{
		"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction", "maxmemory": strconv.Itoa(300 << 20), "save": "",
		"maxclients": "5000", // from redis.config
	} {
		if got := ask(password, "CONFIG", "GET", directive); strings.TrimRight(got, "\n") != directive+"\n"+want && got != directive+"\n"+want+"\n" {
			t.Errorf("%s is %q, want %q", directive, got, want)
		}
	}
	if got := ask("guessed", "PING"); !strings.Contains(got, "NOAUTH") && !strings.Contains(got, "WRONGPASS") {
		t.Errorf("without the password it answers %q", got)
	}
}
