package pocket

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"time"

	"coatcheck/auth"
	"coatcheck/cart"
)

// format begins every payload.
const format = 1

// cartState is a cart as a client carries it; the zero one is of nobody.
type cartState struct {
	owner   cart.Owner
	version cart.Version
	expires time.Time
	lines   []cart.Line // by SKU
}

// encode is compact, since there is little room: the random part of the owner
// as bytes, numbers as varints, strings behind their length.
func (c cartState) encode() []byte {
	b := []byte{format}
	b = appendID(b, string(c.owner))
	b = appendText(b, c.version.Incarnation)
	b = binary.AppendUvarint(b, c.version.Number)
	b = binary.AppendUvarint(b, uint64(c.expires.UnixMilli()))
	for _, l := range c.lines {
		b = appendText(b, l.SKU)
		b = binary.AppendUvarint(b, uint64(l.Quantity))
	}
	return b
}

// decode reads what encode made. On false c is the zero one.
func (c *cartState) decode(payload []byte) bool {
	r := reader{rest: payload}
	r.format()
	read := cartState{owner: cart.Owner(r.id()), version: cart.Version{Incarnation: r.text(), Number: r.number()}, expires: time.UnixMilli(int64(r.number())).UTC()}
	for r.err == nil && len(r.rest) > 0 {
		read.lines = append(read.lines, cart.Line{SKU: r.text(), Quantity: int64(r.number())})
	}
	if r.err != nil {
		return false
	}
	*c = read
	return true
}

// sessionState is a session as a client carries it; the zero one is none.
type sessionState struct {
	user   string
	record auth.Session
}

// maxDevice is how much of a device's name there is room for, in bytes.
const maxDevice = 200

func (s sessionState) encode() []byte {
	b := []byte{format}
	b = appendID(b, s.user)
	b = appendText(b, s.record.ID)
	for _, n := range []int64{s.record.Created, s.record.Expires, s.record.Used} {
		b = binary.AppendUvarint(b, uint64(n))
	}
	return appendText(b, s.record.Device[:min(len(s.record.Device), maxDevice)])
}

func (s *sessionState) decode(payload []byte) bool {
	r := reader{rest: payload}
	r.format()
	read := sessionState{user: r.id(), record: auth.Session{ID: r.text(), Created: int64(r.number()), Expires: int64(r.number()), Used: int64(r.number()), Device: r.text()}}
	if r.err != nil || len(r.rest) > 0 {
		return false
	}
	*s = read
	return true
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// appendID writes the kind of an owner and its 16 random bytes; a zero for none.
func appendID(b []byte, id string) []byte {
	if len(id) < 2 {
		return append(b, 0)
	}
	raw, _ := base64.RawURLEncoding.DecodeString(id[2:])
	return appendText(append(b, id[0]), string(raw))
}

var errShort = errors.New("the payload ends early")

// reader reads a payload; after an error it reads zeros.
type reader struct {
	rest []byte
	err  error
}

func (r *reader) take(n uint64) []byte {
	if r.err != nil || n > uint64(len(r.rest)) {
		r.err = errShort
		return nil
	}
	head := r.rest[:n]
	r.rest = r.rest[n:]
	return head
}

func (r *reader) format() {
	if head := r.take(1); r.err == nil && head[0] != format {
		r.err = errors.New("another format")
	}
}

func (r *reader) number() uint64 {
	n, size := binary.Uvarint(r.rest)
	if size <= 0 {
		r.err = errShort
		return 0
	}
	r.take(uint64(size))
	return n
}

func (r *reader) text() string { return string(r.take(r.number())) }

func (r *reader) id() string {
	head := r.take(1)
	if r.err != nil || head[0] == 0 {
		return ""
	}
	return string(head) + "_" + base64.RawURLEncoding.EncodeToString([]byte(r.text()))
}
