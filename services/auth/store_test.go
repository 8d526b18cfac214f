package auth_test

import (
	"os/exec"
	"strings"
	"testing"

	"coatcheck/auth"
	"coatcheck/auth/storetest"
	"coatcheck/chassis/redistest"
)

func TestRedisStore(t *testing.T) {
	server := redistest.Start(t)
	storetest.Run(t, func(t *testing.T) auth.Store { return auth.NewRedisStore(server.Client(t)) })
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
