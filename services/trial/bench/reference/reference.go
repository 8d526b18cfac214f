// Package reference is what the shop's cost is measured against: small servers
// that answer as the shop does and have fewer parts.
//
// The hazard is a reference that shares the shop's slowness, or its cleverness:
// so nothing here imports a package of the shop. Direct runs the same script,
// whose text it is given, since what is measured is the way there.
package reference

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"time"
)

// Life is how long a cart lives after its last change, Window how long an
// operation is recognised: the shop's defaults.
const (
	Life   = 168 * time.Hour
	Window = 10 * time.Minute
)

// Line is a quantity of one product.
type Line struct {
	SKU      string `json:"sku"`
	Quantity int64  `json:"quantity"`
}

// Change is one request to add lines.
type Change struct {
	Owner, Key string
	Minimal    bool // answer the named lines only
	Lines      []Line
}

// Store keeps carts. What it answers is written as JSON.
type Store interface {
	Add(ctx context.Context, c Change) (any, error)
	Get(ctx context.Context, owner string) (any, error)
}

type money struct {
	Amount   int64  `json:"amount"`
	Currency string `json:"currency"`
}

type item struct {
	SKU       string `json:"sku"`
	Name      string `json:"name"`
	Quantity  int64  `json:"quantity"`
	UnitPrice money  `json:"unit_price"`
	LineTotal money  `json:"line_total"`
}

// cart is a cart as the shop answers it; a minimal one has no total and no expires_at.
type cart struct {
	Version   int64      `json:"version"`
	Items     []item     `json:"items"`
	Total     *money     `json:"total,omitempty"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
}

// Catalogue names and prices products.
type Catalogue struct {
	currency string
	products map[string]product
}

type product struct {
	SKU       string `json:"sku"`
	Name      string `json:"name"`
	UnitPrice int64  `json:"unit_price"`
}

// ReadCatalogue reads a file such as the shop's.
func ReadCatalogue(path string) (*Catalogue, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var file struct {
		Currency string    `json:"currency"`
		Products []product `json:"products"`
	}
	if err := json.Unmarshal(content, &file); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	c := &Catalogue{currency: file.Currency, products: map[string]product{}}
	for _, p := range file.Products {
		c.products[p.SKU] = p
	}
	return c, nil
}

func (c *Catalogue) item(sku string, quantity int64) item {
	p := c.products[sku]
	return item{sku, p.Name, quantity, money{p.UnitPrice, c.currency}, money{p.UnitPrice * quantity, c.currency}}
}

func (c *Catalogue) knows(lines []Line) bool {
	for _, l := range lines {
		if _, ok := c.products[l.SKU]; !ok || l.Quantity < 1 {
			return false
		}
	}
	return len(lines) > 0
}

// Handler serves a store: GET /v1/cart and POST /v1/cart/items. Who asks is
// whatever the cookie guest says.
func Handler(store Store, catalogue *Catalogue) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/cart", func(w http.ResponseWriter, r *http.Request) {
		guest, err := r.Cookie("guest")
		if err != nil {
			http.Error(w, "no guest", http.StatusUnauthorized)
			return
		}
		answer, err := store.Get(r.Context(), guest.Value)
		reply(w, answer, err)
	})
	mux.HandleFunc("POST /v1/cart/items", func(w http.ResponseWriter, r *http.Request) {
		guest, err := r.Cookie("guest")
		if err != nil {
			http.Error(w, "no guest", http.StatusUnauthorized)
			return
		}
		var in struct {
			Items []Line `json:"items"`
		}
		err = json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&in)
		if err != nil || !catalogue.knows(in.Items) {
			http.Error(w, "wrong body", http.StatusBadRequest)
			return
		}
		answer, err := store.Add(r.Context(), Change{
			Owner: guest.Value, Key: r.Header.Get("Idempotency-Key"), Minimal: r.Header.Get("Prefer") == "return=minimal", Lines: in.Items,
		})
		reply(w, answer, err)
	})
	return mux
}

// errRefused is an answer of the script's that is not ok.
var errRefused = errors.New("refused")

func reply(w http.ResponseWriter, answer any, err error) {
	if errors.Is(err, errRefused) {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	body, isDocument := answer.([]byte)
	if !isDocument {
		if body, err = json.Marshal(answer); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body)
}
