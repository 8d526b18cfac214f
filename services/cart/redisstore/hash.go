package redisstore

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"coatcheck/cart"
	"coatcheck/chassis/redisconn"
)

// hash is a cart's fields as Redis answers them.
type hash struct {
	fields  map[string]string
	expires int64 // Unix milliseconds; not positive: none
}

// merging reports whether a merge with this cart may have to be completed.
func (h hash) merging() bool {
	return h.fields["@p"] != "" || strings.HasPrefix(h.fields["@g"], "h") || strings.HasPrefix(h.fields["@g"], "s")
}

// moved reports whether the guest's cart is sealed or a tombstone.
func (h hash) moved() bool {
	return strings.HasPrefix(h.fields["@g"], "s") || h.fields["@g"] == "t"
}

// refusal is why the cart answers nothing: it has moved, or it is closed.
func (h hash) refusal() error {
	switch {
	case h.fields["@g"] == "e":
		return cart.ErrClosed
	case h.moved():
		return cart.ErrMoved
	}
	return nil
}

func (h hash) cart() (cart.Cart, error) {
	var c cart.Cart
	if v := h.fields["@v"]; v != "" {
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			return c, fmt.Errorf("cart has version %q", v)
		}
		c.Version = cart.Version{Incarnation: h.fields["@i"], Number: n}
	}
	if h.expires > 0 {
		c.Expires = time.UnixMilli(h.expires).UTC()
	}
	for field, value := range h.fields {
		if strings.HasPrefix(field, "@") {
			continue
		}
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return c, fmt.Errorf("line %s has quantity %q", field, value)
		}
		if n != 0 { // a named line that is not in the cart is answered as 0
			if c.Lines == nil {
				c.Lines = make([]cart.Line, 0, len(h.fields))
			}
			c.Lines = append(c.Lines, cart.Line{SKU: field, Quantity: n})
		}
	}
	cart.SortLines(c.Lines)
	return c, nil
}

// answer is what change.lua answers.
type answer struct {
	outcome  string
	ledTo    uint64
	replayed bool
	hash     hash
}

// answerOf is what a run of change.lua answered.
func answerOf(run *redis.Cmd) (answer, error) {
	raw, err := run.Slice()
	if err != nil {
		return answer{}, redisconn.Unavailable(err)
	}
	return parseAnswer(raw)
}

// result is what the change came to, but for the merges that are to be completed.
func (a answer) result() (cart.Result, error) {
	switch a.outcome {
	case "o":
	case "s":
		return cart.Result{}, cart.ErrStale
	case "q":
		return cart.Result{}, cart.ErrQuantityLimit
	case "l":
		return cart.Result{}, cart.ErrLineLimit
	case "r":
		return cart.Result{}, cart.ErrKeyReused
	case "m":
		return cart.Result{}, a.hash.refusal()
	default:
		return cart.Result{}, fmt.Errorf("change script answered outcome %q", a.outcome)
	}
	now, err := a.hash.cart()
	if err != nil {
		return cart.Result{}, err
	}
	if a.hash.refusal() != nil {
		now.Lines = nil // a replay of what was done before the cart moved or closed: it is empty now
	}
	return cart.Result{Cart: now, Version: a.ledTo, Replayed: a.replayed}, nil
}

func parseAnswer(raw []any) (answer, error) {
	const head = 8
	if len(raw) < head || len(raw)%2 != 0 {
		return answer{}, fmt.Errorf("change script answered %d values", len(raw))
	}
	ledTo, err := strconv.ParseUint(text(raw[1]), 10, 64)
	if err != nil {
		return answer{}, fmt.Errorf("change script answered version %q", text(raw[1]))
	}
	a := answer{outcome: text(raw[0]), ledTo: ledTo, replayed: number(raw[2]) == 1,
		hash: hash{fields: make(map[string]string, (len(raw)-head)/2), expires: number(raw[7])}}
	for i := head; i < len(raw); i += 2 {
		a.hash.fields[text(raw[i])] = text(raw[i+1])
	}
	for i, field := range []string{3: "@p", 4: "@g", 5: "@v", 6: "@i"} {
		if value := text(raw[i]); field != "" && value != a.hash.fields[field] {
			a.hash.fields[field] = value
		}
	}
	if a.hash.fields["@i"] == "" {
		a.hash.fields["@v"] = "" // an absent cart
	}
	return a, nil
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

func number(v any) int64 {
	n, _ := v.(int64)
	return n
}
