package cart_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"strings"
	"testing"

	"coatcheck/cart"
)

// TestFingerprint: it is the beginning of an HMAC, for keys and texts of any
// length, as it is for replicas of other releases.
func TestFingerprint(t *testing.T) {
	for _, size := range []int{1, 36, 63, 64, 65, 128} {
		for _, lines := range []int{0, 1, 4, 100} {
			c := cart.Change{Operation: cart.Operation{Key: strings.Repeat("k", size)}, Kind: cart.Add}
			text := "a"
			for i := range lines {
				sku := "sku-" + strings.Repeat("a", i)
				c.Lines = append([]cart.Line{{SKU: sku, Quantity: 3}}, c.Lines...) // in another order
				text += sku + "\x00\x00\x00\x00\x00\x00\x00\x00\x03"
			}
			mac := hmac.New(sha256.New, []byte(c.Key))
			mac.Write([]byte(text))
			if got := c.Fingerprint(); got != [8]byte(mac.Sum(nil)) {
				t.Errorf("a key of %d bytes and %d lines: %x, want %x", size, lines, got, mac.Sum(nil))
			}
		}
	}
}
