package reference

import (
	"os/exec"
	"strings"
	"testing"
)

// TestNothingOfTheShop: what is measured against the shop links none of it.
func TestNothingOfTheShop(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "coatcheck/trial/cmd/reference").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	deps := strings.Fields(string(out))
	if len(deps) < 50 {
		t.Fatalf("go list names only %d packages", len(deps))
	}
	for _, dep := range deps {
		if strings.HasPrefix(dep, "coatcheck/") && dep != "coatcheck/trial/bench/reference" && dep != "coatcheck/trial/cmd/reference" {
			t.Errorf("it links %s", dep)
		}
	}
}
