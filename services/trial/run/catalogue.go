package run

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// products is enough that no shopper runs out of lines that are in no cart yet.
const products = 400

// writeCatalogue makes a catalogue file for the carts.
func writeCatalogue(file string) error {
	type product struct {
		SKU       string `json:"sku"`
		Name      string `json:"name"`
		UnitPrice int64  `json:"unit_price"`
	}
	var catalogue struct {
		Currency string    `json:"currency"`
		Products []product `json:"products"`
	}
	catalogue.Currency = "EUR"
	for i := range products {
		catalogue.Products = append(catalogue.Products, product{fmt.Sprintf("coat-%03d", i+1), fmt.Sprintf("Coat %d", i+1), int64(100 + 37*i)})
	}
	content, err := json.Marshal(catalogue)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return fmt.Errorf("the catalogue: %w", err)
	}
	if err := os.WriteFile(file, content, 0o600); err != nil {
		return fmt.Errorf("the catalogue: %w", err)
	}
	return nil
}
