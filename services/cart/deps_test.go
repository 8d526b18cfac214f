package cart_test

import (
	"os/exec"
	"strings"
	"testing"
)

// TestDependencies keeps out of the shipped binary what must not be in it.
func TestDependencies(t *testing.T) {
	never := map[string]string{
		"coatcheck/cart/mapstore":     "a cart service that could keep carts in memory would one day do so by mistake",
		"coatcheck/cart/storetest":    "tests are no part of what ships",
		"coatcheck/chassis/redistest": "tests are no part of what ships",
		"testing":                     "tests are no part of what ships",
		"coatcheck/auth":              "services know each other by their protos only",
		"coatcheck/gateway":           "services know each other by their protos only",
	}
	out, err := exec.Command("go", "list", "-deps", "./cmd/cart").Output()
	if err != nil {
		t.Fatal(err)
	}
	deps := strings.Fields(string(out))
	if len(deps) < 100 {
		t.Fatalf("go list names only %d packages", len(deps))
	}
	for _, dep := range deps {
		if why, bad := never[dep]; bad {
			t.Errorf("cmd/cart links %s: %s", dep, why)
		}
	}
}
