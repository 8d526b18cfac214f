// Package pocket keeps the cart and the session in cookies of the client, signed
// with HMAC-SHA256; the server keeps neither.
//
// It exists to be compared with, and does what can be done this way. What cannot:
//
//   - Revocation. A log-out takes the cookie away from the one browser that asks
//     for it; a copy of it is good until the session's end. A new password ends
//     no other session.
//   - The end of an account. A copy of its cart is as good as before.
//   - Two tabs. Both send the same cart, each gets back one with its own change
//     in it, and the browser keeps the one that came last.
//   - Rollback. An old cookie is as good as a new one: whoever keeps it has the
//     old cart back, and can check it out again.
//   - Idempotency keys. There is nowhere to remember them. A repeat of a change
//     whose answer was lost is safe all the same, since the change was lost with
//     the answer; a repeat of one whose answer came is a second change.
//   - Size. A browser keeps 4096 bytes of a cookie, and sends all of it with
//     every request.
//   - A cart on two devices, or one that outlives the next guest on this one: the
//     browser has room for one cart.
package pocket

import (
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"
	"time"
)

// MaxCookie is how many bytes of name and value together a browser keeps.
const MaxCookie = 4096

// Names are the names of the two cookies.
type Names struct{ Cart, Session string }

// Pockets opens and seals what clients carry.
type Pockets struct {
	names  Names
	secure bool
	key    []byte
}

// New returns pockets signed with a key that is derived from secret, which all
// replicas share. plain is for clients that reach the shop without TLS.
func New(secret string, plain bool) *Pockets {
	key, err := hkdf.Key(sha256.New, []byte(secret), nil, "coatcheck pocket", sha256.Size)
	if err != nil {
		panic(err) // the length is right
	}
	if plain {
		return &Pockets{names: Names{Cart: "cart", Session: "session-record"}, key: key}
	}
	return &Pockets{names: Names{Cart: "__Host-cart", Session: "__Host-session-record"}, secure: true, key: key}
}

// Names are the names of the cookies.
func (p *Pockets) Names() Names { return p.names }

// pocket is what one request carries, and what its answer is to carry. It
// belongs to that request's goroutine.
type pocket struct {
	cart       cartState
	session    sessionState
	forged     bool // the cart's cookie is not one that we signed
	newCart    bool // the answer sets it
	newSession bool
}

type pocketKey struct{}

// of returns the request's pocket; the empty one where there is none.
func of(ctx context.Context) *pocket {
	p, ok := ctx.Value(pocketKey{}).(*pocket)
	if !ok {
		return &pocket{}
	}
	return p
}

// With returns a context with an empty pocket in it, as of a client that comes
// for the first time.
func With(ctx context.Context) context.Context {
	return context.WithValue(ctx, pocketKey{}, &pocket{})
}

// Handler has next find in its context what the request carries, and sets with
// the answer what became of it.
func (p *Pockets) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		carried := &pocket{}
		if value := cookie(r, p.names.Cart); value != "" {
			payload, ok := p.open(p.names.Cart, value)
			ok = ok && carried.cart.decode(payload)
			carried.forged, carried.newCart = !ok, !ok
		}
		// A session that cannot be read is none: the answer is 401.
		if payload, ok := p.open(p.names.Session, cookie(r, p.names.Session)); ok {
			_ = carried.session.decode(payload)
		}
		out := &writer{ResponseWriter: w, pockets: p, pocket: carried}
		next.ServeHTTP(out, r.WithContext(context.WithValue(r.Context(), pocketKey{}, carried)))
	})
}

func cookie(r *http.Request, name string) string {
	c, err := r.Cookie(name)
	if err != nil {
		return ""
	}
	return c.Value
}

// seal signs a payload for one cookie, so that it is good in no other.
func (p *Pockets) seal(name string, payload []byte) string {
	return base64.RawURLEncoding.EncodeToString(payload) + "." + base64.RawURLEncoding.EncodeToString(p.mac(name, payload))
}

func (p *Pockets) open(name, value string) ([]byte, bool) {
	left, right, _ := strings.Cut(value, ".")
	payload, err := base64.RawURLEncoding.Strict().DecodeString(left)
	if err != nil {
		return nil, false
	}
	mac, err := base64.RawURLEncoding.Strict().DecodeString(right)
	if err != nil || !hmac.Equal(mac, p.mac(name, payload)) {
		return nil, false
	}
	return payload, true
}

func (p *Pockets) mac(name string, payload []byte) []byte {
	h := hmac.New(sha256.New, p.key)
	h.Write([]byte(name))
	h.Write([]byte{0})
	h.Write(payload)
	return h.Sum(nil)
}

// size is what a cart's cookie counts against MaxCookie.
func (p *Pockets) size(c cartState) int {
	return len(p.names.Cart) + base64.RawURLEncoding.EncodedLen(len(c.encode())) + 1 + base64.RawURLEncoding.EncodedLen(sha256.Size)
}

// writer sets the cookies before the answer's first byte.
type writer struct {
	http.ResponseWriter
	pockets *Pockets
	pocket  *pocket
	begun   bool
}

func (w *writer) WriteHeader(status int) {
	w.begin()
	w.ResponseWriter.WriteHeader(status)
}

func (w *writer) Write(b []byte) (int, error) {
	w.begin()
	return w.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *writer) begin() {
	if w.begun {
		return
	}
	w.begun = true
	p := w.pocket
	if p.newCart {
		w.set(w.pockets.names.Cart, p.cart.encode(), p.cart.expires, p.cart.owner == "")
	}
	if p.newSession {
		w.set(w.pockets.names.Session, p.session.encode(), time.UnixMilli(p.session.record.Expires), p.session.user == "")
	}
}

func (w *writer) set(name string, payload []byte, expires time.Time, empty bool) {
	c := &http.Cookie{Name: name, Path: "/", MaxAge: -1, Secure: w.pockets.secure, HttpOnly: true, SameSite: http.SameSiteLaxMode}
	if !empty {
		c.Value = w.pockets.seal(name, payload)
		c.MaxAge = max(int(time.Until(expires).Seconds()), 1)
	}
	http.SetCookie(w.ResponseWriter, c)
}
