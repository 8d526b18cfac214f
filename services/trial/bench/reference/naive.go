package reference

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"github.com/redis/go-redis/v9"
)

// Naive is what one writes first: the cart is one JSON document, which is read,
// changed and written back. Two changes at once lose one of them.
type Naive struct {
	rdb       *redis.Client
	catalogue *Catalogue
}

// NewNaive returns a store on rdb.
func NewNaive(rdb *redis.Client, catalogue *Catalogue) *Naive { return &Naive{rdb, catalogue} }

func (n *Naive) read(ctx context.Context, owner string) ([]byte, error) {
	document, err := n.rdb.Get(ctx, "naive:"+owner).Bytes()
	if errors.Is(err, redis.Nil) {
		return []byte(`{"version":0,"items":[]}`), nil
	}
	return document, err
}

// Add is part of Store.
func (n *Naive) Add(ctx context.Context, c Change) (any, error) {
	document, err := n.read(ctx, c.Owner)
	if err != nil {
		return nil, err
	}
	var now cart
	if err := json.Unmarshal(document, &now); err != nil {
		return nil, err
	}
	var named []item
	for _, l := range c.Lines {
		at := slices.IndexFunc(now.Items, func(i item) bool { return i.SKU == l.SKU })
		if at < 0 {
			at = len(now.Items)
			now.Items = append(now.Items, item{SKU: l.SKU})
		}
		now.Items[at] = n.catalogue.item(l.SKU, now.Items[at].Quantity+l.Quantity)
		named = append(named, now.Items[at])
	}
	total := money{Currency: n.catalogue.currency}
	for _, i := range now.Items {
		total.Amount += i.LineTotal.Amount
	}
	now.Version, now.Total = now.Version+1, &total
	if document, err = json.Marshal(now); err != nil {
		return nil, err
	}
	if err := n.rdb.Set(ctx, "naive:"+c.Owner, document, Life).Err(); err != nil {
		return nil, err
	}
	if c.Minimal {
		return cart{Version: now.Version, Items: named}, nil
	}
	return document, nil
}

// Get is part of Store.
func (n *Naive) Get(ctx context.Context, owner string) (any, error) { return n.read(ctx, owner) }
