package redisstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"coatcheck/cart"
	"coatcheck/chassis/redisconn"
)

// storedOrder is how an order lies in Redis. Orders outlive releases: members
// may be added here, never renamed.
type storedOrder struct {
	ID       string       `json:"id"`
	Created  time.Time    `json:"created"`
	Currency string       `json:"currency"`
	Items    []storedItem `json:"items"`
}

type storedItem struct {
	SKU       string `json:"sku"`
	Name      string `json:"name"`
	Quantity  int64  `json:"quantity"`
	UnitPrice int64  `json:"unit_price"` // minor units
}

func encodeOrder(o cart.Order) ([]byte, error) {
	stored := storedOrder{ID: o.ID, Created: o.Created, Currency: o.Total.Currency}
	for _, i := range o.Items {
		stored.Items = append(stored.Items, storedItem{SKU: i.SKU, Name: i.Name, Quantity: i.Quantity, UnitPrice: i.UnitPrice.Amount})
	}
	data, err := json.Marshal(stored)
	if err != nil {
		return nil, fmt.Errorf("encoding an order: %w", err)
	}
	return data, nil
}

func decodeOrder(data []byte) (cart.Order, error) {
	var stored storedOrder
	if err := json.Unmarshal(data, &stored); err != nil {
		return cart.Order{}, fmt.Errorf("decoding an order: %w", err)
	}
	o := cart.Order{ID: stored.ID, Created: stored.Created, Total: cart.Money{Currency: stored.Currency}}
	for _, i := range stored.Items {
		item := cart.Item{
			SKU: i.SKU, Name: i.Name, Quantity: i.Quantity,
			UnitPrice: cart.Money{Amount: i.UnitPrice, Currency: stored.Currency},
			LineTotal: cart.Money{Amount: i.UnitPrice * i.Quantity, Currency: stored.Currency},
		}
		o.Items = append(o.Items, item)
		o.Total.Amount += item.LineTotal.Amount
	}
	return o, nil
}

// oldestOrder is the smallest id of an order that is still kept.
func (s *Store) oldestOrder() string { return cart.OldestOrderID(s.Now().Add(-s.OrderLife)) }

// Order is part of cart.Store.
func (s *Store) Order(ctx context.Context, owner cart.Owner, id string) (cart.Order, error) {
	data, err := s.rdb.Get(ctx, orderKey(owner, id)).Bytes()
	switch {
	case errors.Is(err, redis.Nil):
		return cart.Order{}, cart.ErrNoSuchOrder
	case err != nil:
		return cart.Order{}, redisconn.Unavailable(err)
	}
	return decodeOrder(data)
}

// Orders is part of cart.Store.
func (s *Store) Orders(ctx context.Context, owner cart.Owner, before string, limit int) ([]cart.Order, error) {
	top := "+"
	if before != "" {
		top = "(" + before
	}
	ids, err := s.rdb.ZRangeArgs(ctx, redis.ZRangeArgs{
		Key: ordersKey(owner), ByLex: true, Rev: true, Start: top, Stop: "[" + s.oldestOrder(), Count: int64(limit),
	}).Result()
	if err != nil {
		return nil, redisconn.Unavailable(err)
	}
	if len(ids) == 0 {
		return nil, nil
	}
	keys := make([]string, len(ids))
	for i, id := range ids {
		keys[i] = orderKey(owner, id)
	}
	values, err := s.rdb.MGet(ctx, keys...).Result()
	if err != nil {
		return nil, redisconn.Unavailable(err)
	}
	orders := make([]cart.Order, 0, len(values))
	for _, v := range values {
		data, ok := v.(string)
		if !ok {
			continue // it expired between the two commands
		}
		o, err := decodeOrder([]byte(data))
		if err != nil {
			return nil, err
		}
		orders = append(orders, o)
	}
	return orders, nil
}
