package traffic

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"coatcheck/trial/history"
)

// register makes the account. It is recorded.
func (c *client) register(ctx context.Context) error {
	op := c.op(history.Register, c.account)
	a := c.insist(ctx, op, c.credentials("/v1/users", ""))
	c.t.Sink(op)
	if op.Outcome != history.OK {
		return fmt.Errorf("registering %s: status %d %s", c.account, a.status, a.code)
	}
	return nil
}

// logInAgain logs in, with no guest's cart to move. It is recorded.
func (c *client) logInAgain(ctx context.Context, last bool) error {
	op, req := c.planLogIn("")
	op.Last = last
	a := c.insist(ctx, op, req)
	c.t.Sink(op)
	if op.Outcome != history.OK || a.session == "" {
		return fmt.Errorf("logging in to %s: status %d %s", c.account, a.status, a.code)
	}
	c.session, c.used = a.session, true
	return nil
}

// Finish reads, when Run has returned, each cart that may hold anything with the
// ticket of its owner, a sample of the guests whose carts moved (which must
// answer 409 cart_moved), and all orders of each user. Each request is repeated
// until it is answered, at most 30 s; these have Last. Before that it waits until
// nothing that is unknown can still be under way in the shop, and log-ins that
// are unknown are settled. The error names what could not be read.
func (t *Traffic) Finish(ctx context.Context) error {
	t.mu.Lock()
	doubt, others := t.doubt, append(t.left, t.moved.kept...)
	t.left = nil
	for _, c := range t.visitors.clients {
		if c.guest != "" {
			others = append(others, identity{c.cart(), c.guest})
		}
	}
	t.mu.Unlock()
	if !doubt.IsZero() {
		pause(ctx, time.Until(doubt.Add(t.timing.calm)))
	}
	owners := t.shoppers.clients
	for _, c := range t.hot.clients {
		if c.empties {
			owners = append(owners[:len(owners):len(owners)], c)
		}
	}
	share := make(map[*client][]identity, len(owners))
	for i, other := range others {
		c := owners[i%len(owners)]
		share[c] = append(share[c], other)
	}
	errs := make(chan error, len(owners))
	_ = each(owners, 8, func(c *client) error {
		errs <- c.finish(ctx, share[c])
		return nil
	})
	close(errs)
	var all error
	for err := range errs {
		all = errors.Join(all, err)
	}
	for _, r := range []ring{t.shoppers, t.hot, t.visitors, {clients: t.apiClients}} {
		for _, c := range r.clients {
			c.transport.CloseIdleConnections()
		}
	}
	if all != nil {
		return fmt.Errorf("traffic: the last reading: %w", all)
	}
	return nil
}

func (c *client) finish(ctx context.Context, others []identity) (all error) {
	if c.hot == 0 && c.forced() == history.LogIn {
		op, req := c.plan(history.LogIn)
		a := c.insist(ctx, op, req)
		c.learn(op, a)
		c.t.Sink(op)
		if op.Outcome != history.OK {
			all = fmt.Errorf("settling the log-in of %s: status %d %s", op.From, a.status, a.code)
		}
	}
	if c.session == "" && c.guest != "" {
		others = append(others, identity{c.cart(), c.guest})
	}
	for _, other := range others {
		_, err := c.readLast(ctx, history.Read, other, "/v1/cart")
		all = errors.Join(all, err)
	}
	if !c.used {
		return all
	}
	for try := 1; ; try++ {
		if c.session == "" {
			if err := c.logInAgain(ctx, true); err != nil {
				return errors.Join(all, err)
			}
		}
		owner := identity{c.account, c.session}
		status, err := c.readLast(ctx, history.Read, owner, "/v1/cart")
		if status == http.StatusUnauthorized && try == 1 {
			c.session = ""
			continue
		}
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("the cart %s is refused to its owner: %d", c.account, status)
		}
		_, ordersErr := c.readLast(ctx, history.Orders, owner, "/v1/orders")
		return errors.Join(all, err, ordersErr)
	}
}

// readLast reads a cart, or all pages of the orders into one record. A refusal
// is an answer too.
func (c *client) readLast(ctx context.Context, kind history.Kind, who identity, path string) (status int, err error) {
	op := c.op(kind, who.cart)
	op.Last = true
	defer func() { c.t.Sink(op) }()
	req := request{method: http.MethodGet, path: path, cookie: who.cookie}
	if kind == history.Orders {
		req.query = "page_size=100"
	}
	for {
		a := c.insist(ctx, op, req)
		switch {
		case again(a.status):
			op.Outcome = history.Unknown // whatever earlier pages were
			return a.status, fmt.Errorf("%s of %s: not answered: %d %s", kind, who.cart, a.status, a.code)
		case a.status != http.StatusOK:
			op.Outcome = history.Failed
			return a.status, nil
		case kind == history.Read:
			op.Version, op.Shown = a.content.Version, a.content.Items
			return a.status, nil
		}
		for _, o := range a.content.Orders {
			op.Ordered = append(op.Ordered, history.Order{ID: o.ID, Lines: o.Items})
		}
		if a.content.Next == "" {
			return a.status, nil
		}
		req.query = "page_size=100&page_token=" + url.QueryEscape(a.content.Next)
	}
}
