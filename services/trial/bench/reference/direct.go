package reference

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Direct keeps carts as the shop does and runs the shop's script, with nothing
// in between: no second process, no ticket, no metrics.
type Direct struct {
	rdb       *redis.Client
	script    *redis.Script
	catalogue *Catalogue
}

// NewDirect returns a store on rdb; script is the text of the shop's script for changes.
func NewDirect(rdb *redis.Client, script string, catalogue *Catalogue) *Direct {
	return &Direct{rdb, redis.NewScript(script), catalogue}
}

// Add is part of Store.
func (d *Direct) Add(ctx context.Context, c Change) (any, error) {
	form := "f"
	if c.Minimal {
		form = "l"
	}
	args := []any{"a", fingerprint(c), Window.Milliseconds(), Life.Milliseconds(), incarnation(), "", 1_000_000, 500, form}
	for _, l := range c.Lines {
		args = append(args, l.SKU, l.Quantity)
	}
	key := "cart:{" + c.Owner + "}"
	raw, err := d.script.Run(ctx, d.rdb, []string{key, key + ":op:" + operation(c.Key)}, args...).Text()
	if err != nil {
		return nil, err
	}
	const head = 8 // what the script answers before the lines
	parts := strings.Split(raw, " ")
	if len(parts) <= head {
		return nil, fmt.Errorf("the script answers %d values", len(parts))
	}
	if parts[0] != "o" {
		return nil, fmt.Errorf("%w: %q", errRefused, parts[0])
	}
	fields := make(map[string]string, len(parts)/2)
	for i := head; i+1 < len(parts); i += 2 {
		if !strings.HasPrefix(parts[i], "@") {
			fields[parts[i]] = parts[i+1]
		}
	}
	fields["@v"] = parts[1]
	expires, err := strconv.ParseInt(parts[7], 10, 64)
	if err != nil {
		return nil, err
	}
	return d.cart(fields, expires, c.Minimal)
}

// Get is part of Store.
func (d *Direct) Get(ctx context.Context, owner string) (any, error) {
	key := "cart:{" + owner + "}"
	pipe := d.rdb.Pipeline()
	fields, expires := pipe.HGetAll(ctx, key), pipe.PExpireTime(ctx, key)
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, err
	}
	return d.cart(fields.Val(), expires.Val().Milliseconds(), false)
}

func (d *Direct) cart(fields map[string]string, expires int64, minimal bool) (cart, error) {
	c := cart{Items: make([]item, 0, len(fields))}
	total := money{Currency: d.catalogue.currency}
	for field, value := range fields {
		if field == "@i" {
			continue
		}
		n, err := strconv.ParseInt(value, 10, 64)
		switch {
		case err != nil:
			return c, fmt.Errorf("%s is %q", field, value)
		case field == "@v":
			c.Version = n
		default:
			i := d.catalogue.item(field, n)
			total.Amount += i.LineTotal.Amount
			c.Items = append(c.Items, i)
		}
	}
	slices.SortFunc(c.Items, func(a, b item) int { return strings.Compare(a.SKU, b.SKU) })
	if !minimal {
		c.Total = &total
		if expires > 0 {
			at := time.UnixMilli(expires).UTC()
			c.ExpiresAt = &at
		}
	}
	return c, nil
}

// fingerprint is 8 bytes of what is asked for.
func fingerprint(c Change) []byte {
	h := fnv.New64a()
	_, _ = h.Write([]byte(c.Key))
	for _, l := range c.Lines {
		_, _ = h.Write([]byte(l.SKU))
		_, _ = h.Write(binary.BigEndian.AppendUint64(nil, uint64(l.Quantity)))
	}
	return h.Sum(nil)
}

// operation is 16 bytes, as long as the shop's.
func operation(key string) string {
	h := fnv.New128a()
	_, _ = h.Write([]byte(key))
	return string(h.Sum(nil))
}

// incarnation is 8 characters.
func incarnation() string {
	return fmt.Sprintf("%08x", rand.Uint32())
}
