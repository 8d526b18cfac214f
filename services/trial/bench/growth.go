package bench

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"

	"coatcheck/trial/process"
)

// Growth is what one size led to, over some blocks in turn.
type Growth struct {
	Of        string             `json:"of"` // "lines", "tickets" or "replicas"
	Size      int                `json:"size"`
	What      string             `json:"what"` // that was asked: "add" or "read", of whom
	PerSecond Range              `json:"per_second"`
	CPU       map[string]float64 `json:"cpu_us"` // by role, medians
	Sum       Range              `json:"cpu_us_sum"`
	Resident  map[string]int64   `json:"resident_bytes,omitempty"` // by role
}

// grow runs the sides in turn, there and back, and returns one Growth of each.
func (r *run) grow(ctx context.Context, of string, sizes []int, sides []side) ([]Growth, error) {
	blocks := make([][]Block, len(sides))
	for turn := range min(4, max(2, r.Pairs)) {
		order := make([]int, len(sides))
		for i := range order {
			order[i] = i
		}
		if turn%2 == 1 {
			slices.Reverse(order)
		}
		for _, i := range order {
			b, err := r.block(ctx, sides[i])
			if err != nil {
				return nil, err
			}
			blocks[i] = append(blocks[i], b)
		}
	}
	var all []Growth
	for i, s := range sides {
		g := Growth{Of: of, Size: sizes[i], What: s.title, CPU: map[string]float64{}}
		var rates, sums []float64
		byRole := map[string][]float64{}
		for _, b := range blocks[i] {
			rates, sums = append(rates, b.PerSecond), append(sums, b.sum())
			for role, us := range b.CPU {
				byRole[role] = append(byRole[role], us)
			}
		}
		for role, values := range byRole {
			g.CPU[role] = rangeOf(values).Median
		}
		g.PerSecond, g.Sum = rangeOf(rates), rangeOf(sums)
		all = append(all, g)
	}
	r.report.Growth = append(r.report.Growth, all...)
	return all, nil
}

// growLines is an add and a read in ever longer carts.
func (r *run) growLines(ctx context.Context) error {
	for _, tt := range []struct {
		title         string
		site          *site
		read, minimal bool
	}{
		{"shop: add, return=minimal", r.shop.site, false, true},
		{"naive: add, return=minimal", r.naive, false, true},
		{"shop: read", r.shop.site, true, false},
		{"direct: read", r.direct, true, false},
	} {
		sizes := []int{1, 10, 100, 500}
		var sides []side
		for _, lines := range sizes {
			s, err := r.closed(ctx, tt.title, tt.site, lines, tt.read, tt.minimal)
			if err != nil {
				return err
			}
			sides = append(sides, s)
		}
		if _, err := r.grow(ctx, "lines", sizes, sides); err != nil {
			return err
		}
	}
	return nil
}

// growTickets asks on behalf of ever more guests, who come in no order.
func (r *run) growTickets(ctx context.Context) error {
	s, err := r.openShop(ctx, "shop of many guests", 1, 1, 1, nil)
	if err != nil {
		return err
	}
	defer s.close()
	guests := &carts{site: s.site, lines: 1, keys: r.keys}
	for _, n := range []int{1000, 10_000, 100_000} {
		more := make([]string, n-len(guests.heads))
		err := s.each(ctx, len(more), func(c *conn, i int) error {
			ticket, err := s.newGuest(c)
			more[i] = "Host: shop\r\nUser-Agent: bench\r\nCookie: guest=" + ticket + "\r\n"
			return err
		})
		if err != nil {
			return fmt.Errorf("%d tickets: %w", n, err)
		}
		guests.heads = append(guests.heads, more...)
		// Once each, so that who can be remembered is.
		err = s.each(ctx, len(guests.heads), func(c *conn, i int) error {
			_, err := c.do(guests.reading(nil, i))
			return err
		})
		if err != nil {
			return err
		}
		all, err := r.grow(ctx, "tickets", []int{n}, []side{{"shop: read of an empty cart", s.site, load{carts: guests, reads: true, conns: conns, warm: warm, length: r.Block}}})
		if err != nil {
			return err
		}
		if r.report.Growth[len(r.report.Growth)-1].Resident, err = s.resident(); err != nil {
			return err
		}
		r.say("%d tickets: %s µs", n, all[0].Sum)
	}
	return nil
}

// growReplicas has all of a shop on one core, and the generator on another: what
// is seen is what more replicas cost, not what they can do together.
func (r *run) growReplicas(ctx context.Context) (err error) {
	if runtime.NumCPU() < 2 {
		r.say("left out: it needs two cores")
		return nil
	}
	all := make([]int, runtime.NumCPU())
	for i := range all {
		all[i] = i
	}
	before := all
	if r.mine != nil {
		before = r.mine
	}
	defer func() {
		if pinErr := process.Pin(os.Getpid(), before); err == nil {
			err = pinErr
		}
	}()
	var sizes []int
	var sides []side
	for n := 1; n <= 4; n++ {
		s, err := r.openShop(ctx, "shop of "+strconv.Itoa(n)+" each", n, n, n, nil)
		if err != nil {
			return err
		}
		defer s.close()
		c, err := newCarts(ctx, s.site, r.keys, r.skus, r.Carts/2, 3)
		if err != nil {
			return err
		}
		for _, p := range s.programs() {
			if err := process.Pin(p.pid, all[:1]); err != nil {
				return err
			}
		}
		sizes = append(sizes, n)
		sides = append(sides, side{"shop on one core: add", s.site, load{carts: c, conns: conns, warm: warm, length: r.Block}})
	}
	if err := process.Pin(os.Getpid(), all[1:]); err != nil {
		return err
	}
	if _, err := r.grow(ctx, "replicas", sizes, sides); err != nil {
		return err
	}
	for _, s := range sides {
		if err := s.load.carts.whole(ctx); err != nil {
			return err
		}
	}
	return nil
}
