package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// seeding is how many connections make and check carts: few, since nothing is
// measured meanwhile and a busy machine must not make it fail.
const seeding = 8

// carts are some of one site, of as many lines each. They know what was
// acknowledged, so that at the end it can be told whether it is there.
type carts struct {
	site   *site
	lines  int
	heads  []string // of each cart, the headers that name it
	added  []counter
	bodies []string // of an add, by line
	keys   *keys
}

// counter counts acknowledged units of one line.
type counter = atomic.Int64

// keys are idempotency keys of one run, all of one length.
type keys struct {
	prefix string
	next   atomic.Uint64
}

func newKeys() *keys {
	k := &keys{prefix: fmt.Sprintf("%016x", rand.Uint64())}
	k.next.Store(1 << 60)
	return k
}

func (k *keys) append(to []byte) []byte {
	return strconv.AppendUint(append(to, k.prefix...), k.next.Add(1), 16)
}

// newCarts makes n carts with quantities of 1.
func newCarts(ctx context.Context, s *site, k *keys, skus []string, n, lines int) (*carts, error) {
	c := &carts{site: s, lines: lines, heads: make([]string, n), added: make([]counter, n*lines), keys: k}
	var all []string
	for _, sku := range skus[:lines] {
		all = append(all, fmt.Sprintf(`{"sku":%q,"quantity":1}`, sku))
		c.bodies = append(c.bodies, `{"items":[`+all[len(all)-1]+`]}`)
	}
	everything := `{"items":[` + strings.Join(all, ",") + `]}`
	err := s.each(ctx, n, func(conn *conn, i int) error {
		cookie, err := s.newGuest(conn)
		if err != nil {
			return err
		}
		c.heads[i] = "Host: shop\r\nUser-Agent: bench\r\nCookie: guest=" + cookie + "\r\n"
		_, err = conn.do(c.adding(nil, i, everything, false))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("making carts at %s: %w", s.name, err)
	}
	return c, nil
}

// adding is a request to add what body says.
func (c *carts) adding(buffer []byte, cart int, body string, minimal bool) []byte {
	buffer = append(buffer[:0], "POST /v1/cart/items HTTP/1.1\r\n"...)
	buffer = append(buffer, c.heads[cart]...)
	if minimal {
		buffer = append(buffer, "Prefer: return=minimal\r\n"...)
	}
	buffer = append(buffer, "Content-Type: application/json\r\nIdempotency-Key: "...)
	buffer = c.keys.append(buffer)
	buffer = append(buffer, "\r\nContent-Length: "...)
	buffer = strconv.AppendInt(buffer, int64(len(body)), 10)
	buffer = append(buffer, "\r\n\r\n"...)
	return append(buffer, body...)
}

func (c *carts) reading(buffer []byte, cart int) []byte {
	buffer = append(buffer[:0], "GET /v1/cart HTTP/1.1\r\n"...)
	buffer = append(buffer, c.heads[cart]...)
	return append(buffer, "\r\n"...)
}

// quantities are those that a cart shows, by SKU.
func quantities(body []byte) (map[string]int64, error) {
	var shown struct {
		Items []struct {
			SKU      string `json:"sku"`
			Quantity int64  `json:"quantity"`
		} `json:"items"`
	}
	if err := json.Unmarshal(body, &shown); err != nil {
		return nil, fmt.Errorf("a cart: %w", err)
	}
	all := map[string]int64{}
	for _, i := range shown.Items {
		all[i.SKU] += i.Quantity
	}
	return all, nil
}

// audit reads every cart and counts acknowledged units that are not there, and
// units that nobody was acknowledged.
func (c *carts) audit(ctx context.Context) (lost, surplus int64, err error) {
	var mu sync.Mutex
	skus := make([]string, c.lines)
	for line, body := range c.bodies {
		var named struct{ Items []struct{ SKU string } }
		if err := json.Unmarshal([]byte(body), &named); err != nil {
			return 0, 0, err
		}
		skus[line] = named.Items[0].SKU
	}
	err = c.site.each(ctx, len(c.heads), func(conn *conn, i int) error {
		body, err := conn.do(c.reading(nil, i))
		if err != nil {
			return err
		}
		shown, err := quantities(body)
		if err != nil {
			return err
		}
		if len(shown) != c.lines {
			return fmt.Errorf("a cart of %d lines shows %d", c.lines, len(shown))
		}
		mu.Lock()
		defer mu.Unlock()
		for line, sku := range skus {
			off := shown[sku] - 1 - c.added[i*c.lines+line].Load()
			lost, surplus = lost+max(0, -off), surplus+max(0, off)
		}
		return nil
	})
	if err != nil {
		return lost, surplus, fmt.Errorf("reading the carts at %s: %w", c.site.name, err)
	}
	return lost, surplus, nil
}

// whole is an error unless the carts hold what was acknowledged and nothing else.
func (c *carts) whole(ctx context.Context) error {
	lost, surplus, err := c.audit(ctx)
	if err == nil && lost+surplus > 0 {
		err = fmt.Errorf("%s: %d acknowledged units are lost, and %d are there that were not acknowledged", c.site.name, lost, surplus)
	}
	return err
}

// each calls f for 0 to n-1, over connections of its own.
func (s *site) each(ctx context.Context, n int, f func(c *conn, i int) error) error {
	workers := min(seeding, n)
	failed := make([]error, workers)
	var next atomic.Int64
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			c, err := dial(ctx, s.addr(w))
			if err != nil {
				failed[w] = err
				return
			}
			defer func() { _ = c.Close() }()
			for i := int(next.Add(1)) - 1; i < n && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				if c.ends { // a gateway has its connections come anew now and then
					_ = c.Close()
					again, err := dial(ctx, s.addr(w))
					if failed[w] = err; err != nil {
						return
					}
					c = again
				}
				if failed[w] = f(c, i); failed[w] != nil {
					return
				}
			}
		})
	}
	group.Wait()
	return first(append(failed, ctx.Err())...)
}

// first is the first error of several that most likely have one reason.
func first(all ...error) error {
	for _, err := range all {
		if err != nil {
			return err
		}
	}
	return nil
}
