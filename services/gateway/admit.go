package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
)

// maxBody is the longest body that is read, in bytes.
const maxBody = 64 << 10

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
		select {
		case g.slots <- struct{}{}:
			defer func() { <-g.slots }()
		default:
			return refuse(http.StatusServiceUnavailable, "overloaded", "Too many requests are being worked on; try again soon.")
		}
		ctx, cancel := context.WithTimeout(r.Context(), g.settings.RequestTimeout)
		defer cancel()
		r = r.WithContext(ctx)
		r.Body = io.NopCloser(bytes.NewReader(body))
		return next(w, r)
	}
}

func readBody(w *answer, r *http.Request) ([]byte, error) {
	tooLarge := refuse(http.StatusRequestEntityTooLarge, "body_too_large", "Send at most 64 KiB.")
	if r.ContentLength > maxBody {
		return nil, tooLarge // before a client that expects 100-continue sends it
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err == nil {
		return body, nil
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, tooLarge
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
