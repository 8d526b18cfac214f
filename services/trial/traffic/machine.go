package traffic

import (
	"context"
	"net/http"
	"time"

	"coatcheck/trial/history"
)

// refreshes is how often a machine refreshes its tokens in a life: a refresh token
// is surely used up when the one that followed it was used too.
const refreshes = 2

// machines has each machine live one life after the other until over is closed.
// They come on top of the rate: they are few.
func (t *Traffic) machines(ctx context.Context, over <-chan struct{}) {
	for _, c := range t.apiClients {
		t.ops.Go(func() {
			for c.live(ctx, over) {
			}
		})
	}
}

// live is the life of a machine, a client that has tokens and no cookie: it logs
// in, reads, refreshes, and goes on with what it got. Then it shows its first
// refresh token once more, which ends the session, and a while later the access
// token that it has. It tells whether there is to be another life.
func (c *client) live(ctx context.Context, over <-chan struct{}) bool {
	step := c.t.timing.every / 4
	next := func(kind history.Kind, req request) (*history.Op, answer) {
		op, a := c.machineDoes(ctx, kind, req)
		select {
		case <-over:
			return op, answer{}
		case <-time.After(step):
		}
		return op, a
	}
	refresh := func(token string) request {
		return request{method: http.MethodPost, path: "/v1/tokens", content: encode(map[string]string{"grant_type": "refresh_token", "refresh_token": token})}
	}
	read := func(access string) request {
		return request{method: http.MethodGet, path: "/v1/cart", bearer: access}
	}
	alive := func() bool {
		select {
		case <-over:
			return false
		case <-time.After(c.t.timing.every):
			return ctx.Err() == nil
		}
	}
	_, a := next(history.Tokens, request{method: http.MethodPost, path: "/v1/tokens", content: encode(map[string]string{
		"grant_type": "password", "email": c.email, "password": c.password,
	})})
	first := a.content.RefreshToken
	for range refreshes {
		if a.content.RefreshToken == "" {
			return alive()
		}
		if _, seen := next(history.Read, read(a.content.AccessToken)); seen.status == 0 {
			return alive()
		}
		_, a = next(history.Refresh, refresh(a.content.RefreshToken))
	}
	if a.content.RefreshToken == "" {
		return alive()
	}
	op, _ := next(history.Reuse, refresh(first))
	if op.Status == http.StatusUnauthorized && pause(ctx, c.t.timing.holds) {
		c.machineDoes(ctx, history.Probe, read(a.content.AccessToken))
	}
	return alive()
}

func (c *client) machineDoes(ctx context.Context, kind history.Kind, req request) (*history.Op, answer) {
	due := time.Now()
	t := c.t
	t.mu.Lock()
	t.live.Sent++
	t.live.InFlight++
	t.mu.Unlock()
	op := c.op(kind, c.account)
	a := c.send(ctx, op, req)
	c.show(op, a)
	t.Sink(op)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.live.count(op, time.Since(due))
	return op, a
}
