package gateway

import (
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // the codec of all other messages
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// gotCart and changed are what the cart service answers to a reading (its
// GetCartResponse) and to a change (the one field of AddItemsResponse and the
// like, a Change). They hold what a client is shown, and are decoded by hand:
// generated code makes some thirty objects of a cart of three lines, most of what
// a request would allocate.
type (
	gotCart struct {
		cart
		incarnation, revision string
	}
	changed struct {
		gotCart
		ledTo    uint64 // the version that it led to when it was made first
		replayed bool
	}
	// outcomes are those of a BatchResponse, not yet decoded: each is for another
	// request, which does that for itself.
	outcomes []outcome
	outcome  struct {
		result protowire.Number // which one of the oneof; 0 for none
		value  encoded
	}
)

// The results of an Outcome, by their field numbers.
const (
	resultGetCart protowire.Number = 1
	resultChange  protowire.Number = 2
	resultFailure protowire.Number = 3
	resultApart   protowire.Number = 4
)

// codec is proto's for all messages but those that decode themselves.
type codec struct{ encoding.CodecV2 }

// decodesItself is for calls whose answer does.
var decodesItself = grpc.ForceCodecV2(codec{encoding.GetCodecV2("proto")})

// Unmarshal is part of encoding.CodecV2.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	if own, ok := v.(interface{ DecodeWire(message string) error }); ok {
		return own.DecodeWire(string(data.Materialize()))
	}
	return c.CodecV2.Unmarshal(data, v)
}

// DecodeWire reads a GetCartResponse.
func (g *gotCart) DecodeWire(message string) error {
	return encoded(message).fields(func(n protowire.Number, _ uint64, value encoded) error {
		if n == 1 {
			return g.decodeCart(value)
		}
		return nil
	})
}

// DecodeWire reads the response to a change.
func (c *changed) DecodeWire(message string) error {
	return encoded(message).fields(func(n protowire.Number, _ uint64, value encoded) error {
		if n == 1 {
			return c.decodeChange(value)
		}
		return nil
	})
}

func (c *changed) decodeChange(w encoded) error {
	return w.fields(func(n protowire.Number, number uint64, value encoded) error {
		switch n {
		case 1:
			return c.decodeCart(value)
		case 2:
			c.ledTo = number
		case 3:
			c.replayed = number != 0
		}
		return nil
	})
}

// DecodeWire reads a BatchResponse.
func (o *outcomes) DecodeWire(message string) error {
	return encoded(message).fields(func(n protowire.Number, _ uint64, value encoded) error {
		if n != 1 {
			return nil
		}
		var one outcome
		err := value.fields(func(n protowire.Number, _ uint64, value encoded) error {
			one = outcome{n, value}
			return nil
		})
		*o = append(*o, one)
		return err
	})
}

func (g *gotCart) decodeCart(w encoded) error {
	const line = 50 // a line has about as many bytes, or more
	if g.Items == nil {
		g.Items = make([]item, 0, len(w)/line+1)
	}
	return w.fields(func(n protowire.Number, _ uint64, value encoded) error {
		switch n {
		case 1:
			return value.fields(func(n protowire.Number, number uint64, value encoded) error {
				switch n {
				case 1:
					g.incarnation = string(value)
				case 2:
					g.Version = number
				}
				return nil
			})
		case 2:
			var i item
			err := i.decode(value)
			g.Items = append(g.Items, i)
			return err
		case 3:
			return g.Total.decode(value)
		case 4:
			var seconds, nanos int64
			err := value.fields(func(n protowire.Number, number uint64, _ encoded) error {
				switch n {
				case 1:
					seconds = int64(number)
				case 2:
					nanos = int64(int32(number))
				}
				return nil
			})
			g.ExpiresAt = time.Unix(seconds, nanos).UTC()
			return err
		case 5:
			g.revision = string(value)
		}
		return nil
	})
}

func (i *item) decode(w encoded) error {
	return w.fields(func(n protowire.Number, number uint64, value encoded) error {
		switch n {
		case 1:
			i.SKU = string(value)
		case 2:
			i.Name = string(value)
		case 3:
			i.Quantity = int64(number)
		case 4:
			return i.UnitPrice.decode(value)
		case 5:
			return i.LineTotal.decode(value)
		case 6:
			i.Unavailable = number != 0
		}
		return nil
	})
}

func (m *money) decode(w encoded) error {
	return w.fields(func(n protowire.Number, number uint64, value encoded) error {
		switch n {
		case 1:
			m.Amount = int64(number)
		case 2:
			m.Currency = string(value)
		}
		return nil
	})
}

// encoded is a message, or a string in one, as protobuf encodes it. What is cut out
// of it shares its memory.
type encoded string

var errWire = errors.New("a message of the cart service is malformed")

// fields calls each for each field in turn: with the number of a varint, or with
// what a string, a message or bytes hold. It passes over what the messages read
// here have no fields of.
func (w encoded) fields(each func(n protowire.Number, number uint64, value encoded) error) error {
	for w != "" {
		tag, rest, ok := w.varint()
		if !ok {
			return errWire
		}
		var number uint64
		var value encoded
		switch protowire.Type(tag & 7) {
		case protowire.VarintType:
			number, w, ok = rest.varint()
		case protowire.BytesType:
			number, rest, ok = rest.varint()
			if ok = ok && number <= uint64(len(rest)); ok {
				value, w = rest[:number], rest[number:]
			}
		case protowire.Fixed32Type:
			if ok = len(rest) >= 4; ok {
				w = rest[4:]
			}
		case protowire.Fixed64Type:
			if ok = len(rest) >= 8; ok {
				w = rest[8:]
			}
		default:
			ok = false
		}
		if !ok {
			return errWire
		}
		err := each(protowire.Number(tag>>3), number, value)
		if err != nil {
			return err
		}
	}
	return nil
}

func (w encoded) varint() (number uint64, rest encoded, ok bool) {
	for i := range min(len(w), 10) {
		number |= uint64(w[i]&0x7f) << (7 * i)
		if w[i] < 0x80 {
			return number, w[i+1:], true
		}
	}
	return 0, "", false
}
