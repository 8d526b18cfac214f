package pocket

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"

	"coatcheck/auth"
	"coatcheck/cart"
)

func TestEncoding(t *testing.T) {
	full := cartState{
		owner: cart.Owner("g_" + strings.Repeat("A", 22)), version: cart.Version{Incarnation: "ABCDEFGH", Number: 7},
		expires: time.UnixMilli(1_800_000_000_000).UTC(), lines: []cart.Line{{SKU: "a", Quantity: 1}, {SKU: strings.Repeat("b", 64), Quantity: 999}},
	}
	var read cartState
	if !read.decode(full.encode()) || !reflect.DeepEqual(read, full) {
		t.Errorf("read %+v, want %+v", read, full)
	}
	s := sessionState{user: "u_" + strings.Repeat("A", 22), record: auth.Session{ID: strings.Repeat("x", 43), Created: 1, Expires: 1 << 40, Used: 3, Device: "curl/8"}}
	var again sessionState
	if !again.decode(s.encode()) || again != s {
		t.Errorf("read %+v, want %+v", again, s)
	}
	for n := range s.encode() {
		if cut := (&sessionState{}); cut.decode(s.encode()[:n]) {
			t.Errorf("the first %d bytes pass for a session", n)
		}
	}
}

// FuzzDecode: whatever is signed, reading it neither panics nor leaves half of it.
func FuzzDecode(f *testing.F) {
	f.Add(cartState{owner: "g_AAAAAAAAAAAAAAAAAAAAAA"}.encode())
	f.Add(sessionState{user: "u_AAAAAAAAAAAAAAAAAAAAAA"}.encode())
	f.Add([]byte{})
	f.Add([]byte{format, 'g', 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, payload []byte) {
		var c cartState
		if !c.decode(payload) && !reflect.DeepEqual(c, cartState{}) {
			t.Error("half a cart")
		}
		var s sessionState
		if !s.decode(payload) && s != (sessionState{}) {
			t.Error("half a session")
		}
	})
}

func TestOpen(t *testing.T) {
	p, other := New("secret", true), New("another", true)
	sealed := p.seal("cart", []byte("payload"))
	if got, ok := p.open("cart", sealed); !ok || !bytes.Equal(got, []byte("payload")) {
		t.Error("a good cookie is refused")
	}
	for name, ok := range map[string]bool{
		"other name": second(p.open("session-record", sealed)),
		"other key":  second(other.open("cart", sealed)),
		"none":       second(p.open("cart", "")),
	} {
		if ok {
			t.Errorf("%s: passes", name)
		}
	}
}

func second(_ []byte, ok bool) bool { return ok }
