package cart

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"time"
)

// orderIDs is base32 in an alphabet whose order is that of the values, so that
// ids sort by time.
var orderIDs = base32.HexEncoding.WithPadding(base32.NoPadding)

// NewOrderID returns an id of 26 characters: 48 bits of milliseconds since 1970
// and 80 random bits.
func NewOrderID(now time.Time) string {
	var b [16]byte
	putMillis(&b, now)
	_, _ = rand.Read(b[6:]) // never fails: crypto/rand ends the process instead
	return orderIDs.EncodeToString(b[:])
}

// OldestOrderID is the smallest id that an order of that time can have.
func OldestOrderID(at time.Time) string {
	var b [16]byte
	putMillis(&b, at)
	return orderIDs.EncodeToString(b[:])
}

// ValidOrderID reports whether s has the form of an order's id.
func ValidOrderID(s string) bool {
	b, err := orderIDs.DecodeString(s)
	return err == nil && len(b) == 16 && orderIDs.EncodeToString(b) == s
}

func putMillis(b *[16]byte, at time.Time) {
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(max(at.UnixMilli(), 0)))
	copy(b[:6], ms[2:])
}
