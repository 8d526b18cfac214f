// Package cart is what is in a cart: the rules, the store's contract, the
// catalogue's prices and the gRPC service.
//
// The hazard is the lost update: two adds at once of which one vanishes, as
// happens wherever a cart is read, changed and written back. Here every change
// is one atomic step of the store, and a service process holds nothing between
// two requests, so any replica serves any of them.
package cart

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strings"
	"time"

	"coatcheck/chassis/fault"
)

// Owner is whose cart it is: "g_" for a guest or "u_" for a user, then 22
// characters of unpadded base64url (128 bits).
type Owner string

// ParseOwner answers fault.Invalid for anything that is not an Owner.
func ParseOwner(s string) (Owner, error) {
	const random = 22
	if len(s) == len("u_")+random && (s[0] == 'g' || s[0] == 'u') && s[1] == '_' &&
		!strings.ContainsFunc(s[2:], func(r rune) bool { return !isAlphanumeric(r) && r != '-' && r != '_' }) {
		return Owner(s), nil
	}
	return "", fault.New(fault.Invalid, "invalid_owner", "The owner is not a guest's or a user's id.")
}

// Guest reports whether the owner is a guest rather than a user.
func (o Owner) Guest() bool { return strings.HasPrefix(string(o), "g_") }

// ValidSKU reports whether s can name a product: 1 to 64 of A-Z a-z 0-9 . _ -,
// the first a letter or a digit. At most 64 bytes, because a longer hash field
// makes Redis store the whole cart in three times the memory.
func ValidSKU(s string) bool {
	if len(s) == 0 || len(s) > 64 || !isAlphanumeric(rune(s[0])) {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool { return !isAlphanumeric(r) && r != '.' && r != '_' && r != '-' })
}

func isAlphanumeric(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
}

// Version names one state of one cart.
type Version struct {
	// Incarnation is new for each cart that starts, so that version 3 of one
	// cart never passes for version 3 of the next; "" for an absent cart.
	Incarnation string
	// Number rises by one with each effective change; 0 for an absent cart.
	Number uint64
}

// Line is a quantity of one product.
type Line struct {
	SKU      string
	Quantity int64
}

// Cart is what is in a cart. The zero Cart is an absent one.
type Cart struct {
	Version Version
	Lines   []Line // by SKU
	// Expires is when the cart goes away unless it is changed; zero while it
	// does not (absent, or a merge is under way).
	Expires time.Time
}

// Quantity is the quantity of the SKU, 0 if it is not in the cart.
func (c Cart) Quantity(sku string) int64 {
	for _, l := range c.Lines {
		if l.SKU == sku {
			return l.Quantity
		}
	}
	return 0
}

// SortLines puts lines in the order in which carts show them.
func SortLines(lines []Line) {
	slices.SortFunc(lines, func(a, b Line) int { return strings.Compare(a.SKU, b.SKU) })
}

// Limits bind adds and sets, never merges.
type Limits struct {
	Quantity int64 // of one line
	Lines    int   // of one cart
}

// Kind is what a Change does.
type Kind byte

// The kinds of change; the bytes are those that scripts and fingerprints know.
const (
	Add   Kind = 'a' // add to the quantities of the lines
	Set   Kind = 's' // set the quantity of the one line; 0 removes it
	Clear Kind = 'c' // remove all lines
)

// Operation is what makes a change safe to repeat, and conditional if it is.
type Operation struct {
	// Key names the operation among the owner's: 1 to 128 visible ASCII characters.
	Key string
	// Conditional says that the operation is for one of the Versions only; with
	// none of them it is always stale.
	Conditional bool
	Versions    []Version
}

// Change is one change of a cart.
type Change struct {
	Operation
	Kind Kind
	// Lines are distinct. Add: one or more, quantities of at least 1. Set: one. Clear: none.
	Lines []Line
	// Minimal asks for the lines named, in place of the whole cart.
	Minimal bool
}

// Fingerprint is 8 bytes that differ for another request under the same key
// (but for chance): a keyed hash of all that decides what the change does.
// It leaves out how it is to be answered.
func (c Change) Fingerprint() [8]byte {
	lines := c.Lines
	if len(lines) > 1 {
		lines = slices.Clone(lines)
		SortLines(lines)
	}
	return c.fingerprint(byte(c.Kind), lines)
}

// CheckoutFingerprint is Fingerprint for a checkout.
func (o Operation) CheckoutFingerprint() [8]byte { return o.fingerprint('o', nil) }

func (o Operation) fingerprint(kind byte, lines []Line) [8]byte {
	all := append(make([]byte, 0, 128), kind) // room for what most ask for
	for _, l := range lines {
		all = append(append(all, l.SKU...), 0)
		all = binary.BigEndian.AppendUint64(all, uint64(l.Quantity))
	}
	if o.Conditional {
		all = append(all, 1)
		for _, v := range o.Versions {
			all = append(append(all, v.Incarnation...), 0)
			all = binary.BigEndian.AppendUint64(all, v.Number)
		}
	}
	return keyedHash(o.Key, all)
}

// keyedHash begins HMAC-SHA256 of the text, as crypto/hmac has it: replicas of
// other releases compare with it. That would allocate six times for each change.
func keyedHash(key string, text []byte) [8]byte {
	var inner, outer [sha256.BlockSize]byte
	if len(key) > len(inner) {
		sum := sha256.Sum256([]byte(key))
		copy(inner[:], sum[:])
	} else {
		copy(inner[:], key)
	}
	for i, b := range inner {
		inner[i], outer[i] = b^0x36, b^0x5c
	}
	sum := sha256.Sum256(append(append(make([]byte, 0, 256), inner[:]...), text...))
	sum = sha256.Sum256(append(append(make([]byte, 0, 2*sha256.BlockSize), outer[:]...), sum[:]...))
	return [8]byte(sum[:8])
}

// Result is what a change led to.
type Result struct {
	// Cart is the cart after the change; in a replay, as it is now.
	Cart Cart
	// Version is the one that the change led to; in a replay that of the first time.
	Version uint64
	// Replayed says that the operation was done before and nothing changed now.
	Replayed bool
}

// Money is an amount in minor units of a currency (ISO 4217).
type Money struct {
	Amount   int64
	Currency string
}

// Item is a line with its name and price.
type Item struct {
	SKU       string
	Name      string
	Quantity  int64
	UnitPrice Money
	LineTotal Money
	// Unavailable says that the SKU has left the catalogue; the prices are 0.
	Unavailable bool
}

// Order is a cart that was checked out, at the prices of that moment.
type Order struct {
	// ID sorts by time of creation, see NewOrderID.
	ID      string
	Items   []Item
	Total   Money
	Created time.Time
}
