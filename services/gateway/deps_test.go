package gateway

import (
	"os/exec"
	"strings"
	"testing"
)

func TestDependencies(t *testing.T) {
	forbidden := map[string]string{
		"github.com/redis/go-redis":   "carts and sessions are behind cart and auth; a gateway with a store of its own would hold state",
		"coatcheck/chassis/redisconn": "as go-redis",
		"coatcheck/cart":              "services never import each other: they meet at the protos",
		"coatcheck/auth":              "services never import each other: they meet at the protos",
		"coatcheck/trial":             "the trial is no part of the shop",
		"github.com/getkin":           "the contract is checked in tests; the shop does not carry the checker",
		"testing":                     "test code has no place in the binary",
	}
	out, err := exec.Command("go", "list", "-deps", "./cmd/gateway").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for dep := range strings.Lines(string(out)) {
		dep = strings.TrimSpace(dep)
		for path, reason := range forbidden {
			if dep == path || strings.HasPrefix(dep, path+"/") {
				t.Errorf("the gateway links %s: %s", dep, reason)
			}
		}
	}
}
