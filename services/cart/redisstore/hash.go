package redisstore

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"coatcheck/cart"
)

// hash is a cart as Redis has it.
type hash struct {
	version cart.Version
	lines   []cart.Line // in no order
	pending bool        // whether merges into it are under way
	guest   string      // guest state; of what change.lua answers its first letter alone
	intents []intent    // none of what change.lua answers
	expires int64       // Unix milliseconds; not positive: none
	broken  error       // what in it is not a cart's; merges and erasing have no need of that
}

// intent is a field @m… and its value.
type intent struct{ field, value string }

// put reads a field.
func (h *hash) put(field, value string) {
	var err error
	switch {
	case !strings.HasPrefix(field, "@"):
		line := cart.Line{SKU: field}
		if line.Quantity, err = strconv.ParseInt(value, 10, 64); err != nil {
			h.broken = fmt.Errorf("line %s has quantity %q", field, value)
		} else if line.Quantity != 0 { // a named line that is not in the cart is answered as 0
			h.lines = append(h.lines, line)
		}
	case field == "@v" && value != "":
		if h.version.Number, err = strconv.ParseUint(value, 10, 64); err != nil {
			h.broken = fmt.Errorf("cart has version %q", value)
		}
	case field == "@i":
		h.version.Incarnation = value
	case field == "@p":
		h.pending = value != ""
	case field == "@g":
		h.guest = value
	case strings.HasPrefix(field, "@m"):
		h.intents = append(h.intents, intent{field, value})
	}
}

// merging reports whether a merge with this cart may have to be completed.
func (h hash) merging() bool {
	return h.pending || strings.HasPrefix(h.guest, "h") || strings.HasPrefix(h.guest, "s")
}

// moved reports whether the guest's cart is sealed or a tombstone.
func (h hash) moved() bool { return strings.HasPrefix(h.guest, "s") || h.guest == "t" }

// refusal is why the cart answers nothing: it has moved, or it is closed.
func (h hash) refusal() error {
	switch {
	case h.guest == "e":
		return cart.ErrClosed
	case h.moved():
		return cart.ErrMoved
	}
	return nil
}

func (h hash) cart() (cart.Cart, error) {
	if h.broken != nil {
		return cart.Cart{}, h.broken
	}
	c := cart.Cart{Version: h.version}
	if len(h.lines) > 0 {
		c.Lines = h.lines
		cart.SortLines(c.Lines)
	}
	if h.expires > 0 {
		c.Expires = time.UnixMilli(h.expires).UTC()
	}
	return c, nil
}

// answer is what change.lua answers.
type answer struct {
	outcome  string
	ledTo    uint64
	replayed bool
	hash     hash
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

func parseAnswer(raw string) (answer, error) {
	var head [8]string
	for i := range head {
		var ok bool
		if head[i], raw, ok = strings.Cut(raw, " "); !ok {
			return answer{}, fmt.Errorf("change script answered %d values", i+1)
		}
	}
	a := answer{outcome: head[0], replayed: head[2] == "1", hash: hash{guest: head[6]}}
	a.hash.put("@i", head[4])
	a.hash.put("@p", head[5])
	a.hash.put("@v", head[3]) // 0 of an absent cart
	var err error
	if a.ledTo, err = strconv.ParseUint(head[1], 10, 64); err != nil {
		return answer{}, fmt.Errorf("change script answered version %q", head[1])
	}
	if a.hash.expires, err = strconv.ParseInt(head[7], 10, 64); err != nil {
		return answer{}, fmt.Errorf("change script answered expiry %q", head[7])
	}
	if n := strings.Count(raw, " "); n > 0 {
		a.hash.lines = make([]cart.Line, 0, n/2+1)
	}
	for raw != "" {
		var field, value string
		field, raw, _ = strings.Cut(raw, " ")
		value, raw, _ = strings.Cut(raw, " ")
		if !strings.HasPrefix(field, "@") {
			a.hash.put(field, value)
		}
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
