package cart

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"coatcheck/chassis/fault"
)

//go:embed catalogue.json
var builtIn []byte

// Product is what is for sale.
type Product struct {
	SKU       string
	Name      string
	UnitPrice Money
}

// Catalogue names and prices products. It is read once and never changes; a new
// one comes with a restart. Prices never come from a client.
type Catalogue struct {
	// Revision changes whenever the file does.
	Revision string
	Currency string
	Products []Product // in the file's order
	bySKU    map[string]Product
}

// LoadCatalogue reads the file, or the built-in catalogue for "". The error
// names every fault of the file at once.
func LoadCatalogue(file string) (*Catalogue, error) {
	data := builtIn
	if file != "" {
		var err error
		if data, err = os.ReadFile(file); err != nil {
			return nil, fmt.Errorf("catalogue: %w", err)
		}
	}
	c, err := ParseCatalogue(data)
	if err != nil {
		return nil, fmt.Errorf("catalogue %s:\n%w", file, err)
	}
	return c, nil
}

// ParseCatalogue reads
// {"currency": "EUR", "products": [{"sku": "mug-01", "name": "Mug", "unit_price": 1250}, …]}
// with prices in minor units of the one currency.
func ParseCatalogue(data []byte) (*Catalogue, error) {
	var file struct {
		Currency string `json:"currency"`
		Products []struct {
			SKU       string `json:"sku"`
			Name      string `json:"name"`
			UnitPrice *int64 `json:"unit_price"`
		} `json:"products"`
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&file); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the catalogue")
	}
	var faults []error
	bad := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if len(file.Currency) != 3 || strings.ContainsFunc(file.Currency, func(r rune) bool { return r < 'A' || r > 'Z' }) {
		bad("currency %q: must be three capital letters (ISO 4217)", file.Currency)
	}
	if len(file.Products) == 0 {
		bad("products: at least one is needed")
	}
	sum := sha256.Sum256(data)
	c := &Catalogue{Revision: hex.EncodeToString(sum[:4]), Currency: file.Currency, bySKU: map[string]Product{}}
	for i, p := range file.Products {
		_, twice := c.bySKU[p.SKU]
		switch {
		case !ValidSKU(p.SKU):
			bad("product %d: sku %q: must be 1 to 64 of A-Z a-z 0-9 . _ -, the first a letter or a digit", i, p.SKU)
		case twice:
			bad("product %d: sku %q: is there twice", i, p.SKU)
		case strings.TrimSpace(p.Name) == "" || len(p.Name) > 200:
			bad("product %s: name: must be 1 to 200 bytes", p.SKU)
		case p.UnitPrice == nil || *p.UnitPrice < 0 || *p.UnitPrice > maxPrice:
			bad("product %s: unit_price: must be 0 to %d minor units", p.SKU, int64(maxPrice))
		default:
			product := Product{SKU: p.SKU, Name: p.Name, UnitPrice: Money{*p.UnitPrice, file.Currency}}
			c.bySKU[p.SKU] = product
			c.Products = append(c.Products, product)
		}
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return c, nil
}

// maxPrice keeps any total of a cart far from overflow.
const maxPrice = 1_000_000_000

// Has reports whether the SKU is for sale.
func (c *Catalogue) Has(sku string) bool {
	_, ok := c.bySKU[sku]
	return ok
}

// Price names and prices the lines, and sums them up. A line whose SKU has left
// the catalogue is marked and costs nothing.
func (c *Catalogue) Price(lines []Line) ([]Item, Money) {
	items := make([]Item, len(lines))
	total := Money{Currency: c.Currency}
	for i, l := range lines {
		items[i] = c.item(l)
		total.Amount += items[i].LineTotal.Amount
	}
	return items, total
}

func (c *Catalogue) item(l Line) Item {
	p, ok := c.bySKU[l.SKU]
	if !ok {
		p = Product{SKU: l.SKU, Name: l.SKU, UnitPrice: Money{0, c.Currency}}
	}
	return Item{
		SKU: l.SKU, Name: p.Name, Quantity: l.Quantity, UnitPrice: p.UnitPrice,
		LineTotal: Money{p.UnitPrice.Amount * l.Quantity, c.Currency}, Unavailable: !ok,
	}
}

// Order makes an order of a cart.
//
//	fault.Refused cart_empty, item_unavailable
func (c *Catalogue) Order(cart Cart) ([]Item, Money, error) {
	if len(cart.Lines) == 0 {
		return nil, Money{}, fault.New(fault.Refused, "cart_empty", "There is nothing in the cart to check out.")
	}
	items, total := c.Price(cart.Lines)
	for _, item := range items {
		if item.Unavailable {
			return nil, Money{}, fault.New(fault.Refused, "item_unavailable", "%s is no longer for sale. Remove it to check out.", item.SKU)
		}
	}
	return items, total, nil
}
