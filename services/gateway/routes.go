package gateway

import (
	"net/http"
	"path"
	"strings"
	"time"

	"coatcheck/chassis/fault"
	"coatcheck/chassis/tracing"
)

// handler answers one request; errors it leaves to the caller, who answers them.
type handler func(w *answer, r *http.Request) error

type route struct {
	pattern string
	handle  handler
}

// routes is the whole HTTP surface.
func (g *Gateway) routes() []route {
	routes := []route{
		{"GET /v1/cart", g.admit(private(g.getCart))},
		{"DELETE /v1/cart", g.admit(g.clearCart)},
		{"POST /v1/cart/items", g.admit(g.addItems)},
		{"PUT /v1/cart/items/{sku}", g.admit(g.setItem)},
		{"DELETE /v1/cart/items/{sku}", g.admit(g.removeItem)},
		{"POST /v1/cart/checkout", g.admit(g.checkout)},
		{"GET /v1/orders", g.admit(private(g.listOrders))},
		{"GET /v1/orders/{id}", g.admit(private(g.getOrder))},
		{"GET /v1/products", g.admit(g.listProducts)},

		{"POST /v1/users", g.admit(g.register)},
		{"PUT /v1/users/me/password", g.admit(g.changePassword)},
		{"DELETE /v1/users/me", g.admit(g.deleteUser)},
		{"POST /v1/sessions", g.admit(g.logIn)},
		{"GET /v1/sessions", g.admit(g.listSessions)},
		{"DELETE /v1/sessions", g.admit(g.revokeAllSessions)},
		{"DELETE /v1/sessions/{id}", g.admit(g.revokeSession)},
		{"POST /v1/tokens", g.admit(g.issueTokens)},
		{"GET /.well-known/jwks.json", g.admit(g.signingKeys)},

		{"GET /openapi.json", g.admit(g.openAPI)},
		{"GET /docs", g.admit(g.docsPage)},
		{"GET /docs/{asset}", g.admit(g.docsAsset)},
		{"GET /livez", g.livez},
		{"GET /readyz", g.readyz},
	}
	if g.settings.Storefront {
		routes = append(routes, route{"GET /{$}", g.admit(g.storefrontPage)})
	}
	return routes
}

func (g *Gateway) newMux() *http.ServeMux {
	mux := http.NewServeMux()
	for _, rt := range g.routes() {
		g.metrics.expect(rt.pattern)
		mux.HandleFunc(rt.pattern, func(w http.ResponseWriter, r *http.Request) {
			a := w.(*answer) // as dispatch has it
			err := rt.handle(a, r)
			if err != nil {
				g.fail(a, r, err)
			}
		})
	}
	return mux
}

// ServeHTTP answers one request, whatever it is, and counts and logs it.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a := &answer{ResponseWriter: w, id: tracing.Name(r)}
	g.metrics.inFlight.Inc()
	now := time.Now()
	defer g.observe(a, r, now)
	defer g.recover(a, r)
	g.setCommon(a, g.last(r, now))
	err := g.dispatch(a, r)
	if err != nil {
		g.fail(a, r, err)
	}
}

// dispatch finds the route. The mux alone would answer 404 and 405 in plain
// text, and redirect where a path is not clean.
func (g *Gateway) dispatch(a *answer, r *http.Request) error {
	escaped := r.URL.EscapedPath()
	if escaped != "/" && path.Clean(escaped) != strings.TrimSuffix(escaped, "/") {
		return noSuchRoute()
	}
	found, pattern := g.mux.Handler(r)
	if pattern == "" {
		probe := headerOnly{}
		found.ServeHTTP(probe, r)
		if allow := http.Header(probe).Get("Allow"); allow != "" {
			a.set("Allow", allow)
			return refuse(http.StatusMethodNotAllowed, "method_not_allowed", "Use one of the methods in Allow.")
		}
		return noSuchRoute()
	}
	a.route = pattern
	err := g.crossOrigin.Check(r)
	if err != nil {
		return fault.New(fault.Forbidden, "cross_origin", "A page of another site may not change anything here.")
	}
	if strings.Contains(pattern, "{") {
		found = g.mux // which sets what stands in the path
	}
	found.ServeHTTP(a, r)
	return nil
}

func noSuchRoute() error {
	return refuse(http.StatusNotFound, "no_such_route", "There is nothing at this path; /openapi.json has those that there are.")
}

// headerOnly keeps what a handler sets as headers and drops the rest.
type headerOnly http.Header

func (h headerOnly) Header() http.Header         { return http.Header(h) }
func (h headerOnly) Write(b []byte) (int, error) { return len(b), nil }
func (h headerOnly) WriteHeader(int)             {}

// private marks answers that depend on who asks, which a client may keep for
// itself and ask about. Those to changes keep no-store.
func private(next handler) handler {
	return func(w *answer, r *http.Request) error {
		w.set("Vary", "Cookie, Authorization")
		w.set("Cache-Control", "private, no-cache")
		return next(w, r)
	}
}
