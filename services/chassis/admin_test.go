package chassis

import (
	"testing"

	"coatcheck/chassis/measuretest"
)

func TestMetricsKeepTheConventions(t *testing.T) {
	reg := NewRegistry()
	newAdmin("cart", Settings{Instance: "cart-1"}, reg)
	measuretest.Check(t, reg)
}
