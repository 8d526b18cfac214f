package gateway

import (
	"bytes"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// encodeJSON writes value as JSON. A cart is what nearly every request is answered
// with, and is written by hand: to find its fields by reflection costs six times as
// much. The bytes are the same, to which FuzzEncode holds it.
func encodeJSON(to *bytes.Buffer, value any) error {
	c, ok := value.(*cart)
	if !ok {
		return json.MarshalWrite(to, value)
	}
	b, err := c.appendJSON(to.AvailableBuffer())
	if err != nil {
		return err
	}
	to.Write(b)
	return nil
}

// appendJSON fails for text that is no UTF-8 and for a year beyond 9999.
func (c *cart) appendJSON(b []byte) ([]byte, error) {
	b = append(b, `{"version":`...)
	b = strconv.AppendUint(b, c.Version, 10)
	b = append(b, `,"items":[`...)
	var err error
	for i := range c.Items {
		if i > 0 {
			b = append(b, ',')
		}
		b, err = c.Items[i].appendJSON(b)
		if err != nil {
			return b, err
		}
	}
	b = append(b, ']')
	if c.Total != (money{}) {
		b, err = c.Total.appendJSON(append(b, `,"total":`...))
		if err != nil {
			return b, err
		}
	}
	if !c.ExpiresAt.IsZero() {
		b, err = c.ExpiresAt.AppendText(append(b, `,"expires_at":"`...))
		if err != nil {
			return b, err
		}
		b = append(b, '"')
	}
	return append(b, '}'), nil
}

func (i *item) appendJSON(b []byte) ([]byte, error) {
	b, err := jsontext.AppendQuote(append(b, `{"sku":`...), i.SKU)
	if err != nil {
		return b, err
	}
	b, err = jsontext.AppendQuote(append(b, `,"name":`...), i.Name)
	if err != nil {
		return b, err
	}
	b = append(b, `,"quantity":`...)
	b = strconv.AppendInt(b, i.Quantity, 10)
	b, err = i.UnitPrice.appendJSON(append(b, `,"unit_price":`...))
	if err != nil {
		return b, err
	}
	b, err = i.LineTotal.appendJSON(append(b, `,"line_total":`...))
	if err != nil {
		return b, err
	}
	if i.Unavailable {
		b = append(b, `,"unavailable":true`...)
	}
	return append(b, '}'), nil
}

func (m money) appendJSON(b []byte) ([]byte, error) {
	b = append(b, `{"amount":`...)
	b = strconv.AppendInt(b, m.Amount, 10)
	b, err := jsontext.AppendQuote(append(b, `,"currency":`...), m.Currency)
	return append(b, '}'), err
}
