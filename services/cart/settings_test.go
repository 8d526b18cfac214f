package cart_test

import (
	"strings"
	"testing"

	"coatcheck/cart"
	"coatcheck/chassis/config"
)

func TestSettings(t *testing.T) {
	settings, err := config.Load[cart.Settings]([]string{"COATCHECK_REDIS_ADDRS=127.0.0.1:6379", "COATCHECK_AUTH_ADDR=dns:///auth:9090"})
	if err != nil {
		t.Fatal(err)
	}
	if settings.Limits() != (cart.Limits{Quantity: 999, Lines: 100}) || settings.UserCartLife.Hours() != 90*24 || settings.OrderLife.Hours() != 400*24 {
		t.Errorf("defaults: %+v", settings)
	}
	_, err = config.Load[cart.Settings]([]string{
		"COATCHECK_GUEST_CART_LIFE=1s", "COATCHECK_USER_CART_LIFE=0s", "COATCHECK_ORDER_LIFE=1m", "COATCHECK_IDEMPOTENCY_WINDOW=1s",
		"COATCHECK_MAX_QUANTITY=0", "COATCHECK_MAX_LINES=501", "COATCHECK_DRAIN_DELAY=soon", "COATCHECK_MAX_LINE=3", "COATCHECK_AUTH_ADDR=auth",
	})
	if err == nil {
		t.Fatal("nothing is wrong")
	}
	for _, name := range []string{"REDIS_ADDRS", "AUTH_ADDR", "GUEST_CART_LIFE", "USER_CART_LIFE", "ORDER_LIFE", "IDEMPOTENCY_WINDOW", "MAX_QUANTITY", "MAX_LINES", "DRAIN_DELAY", "MAX_LINE"} {
		if !strings.Contains(err.Error(), "COATCHECK_"+name+":") {
			t.Errorf("no word of %s in:\n%v", name, err)
		}
	}
}
