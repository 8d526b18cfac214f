package auth_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"coatcheck/auth"
	"coatcheck/auth/storetest"
	"coatcheck/chassis/redistest"
)

func TestRedisStore(t *testing.T) {
	server := redistest.Start(t, redistest.User("auth", auth.RedisRules)...)
	storetest.Run(t, func(t *testing.T) auth.Store { return auth.NewRedisStore(server.ClientOf(t, "auth")) })
	refused(t, server)
}

// refused fails the test if a command was refused to a user.
func refused(t *testing.T, server *redistest.Server) {
	t.Helper()
	log, err := server.Client(t).ACLLog(t.Context(), 10).Result()
	if err != nil || len(log) > 0 {
		t.Errorf("Redis refused %v, %v", log, err)
	}
}

// TestRedisRules: a user with the rules can do nothing else.
func TestRedisRules(t *testing.T) {
	server := redistest.Start(t, redistest.User("auth", auth.RedisRules)...)
	rdb := server.ClientOf(t, "auth")
	for _, command := range [][]any{
		{"hgetall", "cart:{u_1}"}, {"get", "order:{u_1}:1"}, {"zrange", "orders:{u_1}", 0, -1}, {"get", "anything"},
		{"eval", "return redis.call('hgetall', 'cart:{u_1}')", 0}, {"eval", "return redis.call('hgetall', KEYS[1])", 1, "cart:{u_1}"},
		{"eval", "return redis.call('keys', '*')", 0},
		{"keys", "*"}, {"scan", 0}, {"flushall"}, {"config", "get", "*"}, {"acl", "list"}, {"acl", "whoami"}, {"client", "list"}, {"monitor"},
		{"shutdown"}, {"replicaof", "no", "one"}, {"script", "flush"}, {"function", "list"}, {"subscribe", "x"}, {"publish", "x", "y"}, {"cluster", "nodes"}, {"dump", "user:{u_1}"}, {"select", 1},
	} {
		if err := rdb.Do(t.Context(), command...).Err(); err == nil || !redis.HasErrorPrefix(err, "NOPERM") && !redis.HasErrorPrefix(err, "The user executing the script") {
			t.Errorf("%v: %v", command, err)
		}
	}
}

// TestDependencies keeps out of the shipped binary what must not be in it.
func TestDependencies(t *testing.T) {
	never := map[string]string{
		"coatcheck/auth/mapstore":           "an auth service that could keep sessions in memory would one day do so by mistake",
		"coatcheck/auth/storetest":          "tests are no part of what ships",
		"coatcheck/chassis/redistest":       "tests are no part of what ships",
		"testing":                           "tests are no part of what ships",
		"coatcheck/cart":                    "services know each other by their protos only",
		"coatcheck/gateway":                 "services know each other by their protos only",
		"coatcheck/proto/coatcheck/cart/v1": "the auth service calls nobody",
	}
	out, err := exec.Command("go", "list", "-deps", "./cmd/auth").Output()
	if err != nil {
		t.Fatal(err)
	}
	deps := strings.Fields(string(out))
	if len(deps) < 100 {
		t.Fatalf("go list names only %d packages", len(deps))
	}
	for _, dep := range deps {
		if why, bad := never[dep]; bad {
			t.Errorf("cmd/auth links %s: %s", dep, why)
		}
	}
}
