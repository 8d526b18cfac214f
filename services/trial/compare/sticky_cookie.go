package compare

import "net/http"

// pin is the cookie in which the front notes whose client it is.
const pin = "pin"

// byCookie keeps a client with the replica that first answered it, for as long
// as that is ready; then with the next.
var byCookie = routing{
	needs: "a front that pins by cookie",
	order: func(r *http.Request, ready []*backend, turn uint64) []*backend {
		order := rotate(ready, turn)
		c, err := r.Cookie(pin)
		if err != nil {
			return order
		}
		for i, b := range order {
			if b.Name == c.Value {
				order[0], order[i] = order[i], order[0]
			}
		}
		return order
	},
	answered: func(h http.Header, r *http.Request, b *backend) {
		if c, err := r.Cookie(pin); err != nil || c.Value != b.Name {
			h.Add("Set-Cookie", (&http.Cookie{Name: pin, Value: b.Name, Path: "/", HttpOnly: true}).String())
		}
	},
}
