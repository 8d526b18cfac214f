package gateway

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"time"
)

// maxBody is the longest body that is read, in bytes.
const maxBody = 64 << 10

// smallBody is how long bodies mostly are at most, in bytes.
const smallBody = 1 << 10

// admit bounds a request: how many its client may send, its body's size, how many
// are worked on at once, and the time for that. The body is read before the last
// two, so that a client that sends it slowly holds neither a slot nor a deadline,
// and can never end as a 5xx.
func (g *Gateway) admit(next handler) handler {
	return func(w *answer, r *http.Request) error {
		err := g.limits.address(w, g.proxies.client(r))
		if err != nil {
			return err
		}
		body, err := readBody(w, r)
		if err != nil {
			closeAfter(w, r)
			return err
		}
		w.body, w.end = body, time.Now().Add(g.settings.RequestTimeout)
		if !g.enter(r.Context()) {
			return refuse(http.StatusServiceUnavailable, "overloaded", "Too many requests are being worked on; try again soon.")
		}
		defer func() { <-g.slots }()
		return next(w, r)
	}
}

// enter takes a slot, which the caller gives back. While there is none, as many
// requests as there are slots wait for one, in the order of coming and for a
// quarter of the time that they have: here, where it costs nothing, and not
// further on, where calls that all take too long are given up and made again.
func (g *Gateway) enter(ctx context.Context) bool {
	select {
	case g.slots <- struct{}{}:
		return true
	default:
	}
	defer g.waiting.Add(-1)
	if int(g.waiting.Add(1)) > cap(g.slots) {
		return false
	}
	patience := time.NewTimer(g.settings.RequestTimeout / 4)
	defer patience.Stop()
	select {
	case g.slots <- struct{}{}:
		return true
	case <-patience.C:
		return false
	case <-ctx.Done():
		return false
	}
}

var errTooLarge = refuse(http.StatusRequestEntityTooLarge, "body_too_large", "Send at most 64 KiB.")

func readBody(w *answer, r *http.Request) (body []byte, err error) {
	switch {
	case r.ContentLength > maxBody:
		return nil, errTooLarge // before a client that expects 100-continue sends it
	case r.ContentLength == 0:
		return nil, nil
	case 0 < r.ContentLength && r.ContentLength <= smallBody: // what is large takes memory only as it comes
		body = make([]byte, r.ContentLength)
		_, err = io.ReadFull(r.Body, body)
	default:
		body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	}
	if err == nil {
		return body, nil
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, errTooLarge
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, refuse(http.StatusRequestTimeout, "body_timeout", "The body did not arrive in time; send it at once.")
	}
	return nil, refuse(http.StatusBadRequest, "body_unreadable", "The body ended early or is framed wrongly; send it whole.")
}

// closeAfter ends the connection with this answer; on HTTP/2 one stream's fault
// is no reason to.
func closeAfter(w *answer, r *http.Request) {
	if r.ProtoMajor == 1 {
		w.set("Connection", "close")
	}
}
