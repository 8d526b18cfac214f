package mapstore_test

import (
	"sync/atomic"
	"testing"
	"time"

	"coatcheck/cart"
	"coatcheck/cart/mapstore"
	"coatcheck/cart/storetest"
)

func backend(*testing.T) storetest.Backend {
	var ahead atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	store := mapstore.New(mapstore.Settings{
		GuestCartLife: storetest.GuestCartLife, UserCartLife: storetest.UserCartLife, OrderLife: storetest.OrderLife,
		Window: storetest.Window, Limits: cart.Limits{Quantity: storetest.MaxQuantity, Lines: storetest.MaxLines}, Now: now,
	})
	return storetest.Backend{
		Open:    func(*testing.T) storetest.Store { return store },
		Now:     now,
		Advance: func(_ *testing.T, d time.Duration) { ahead.Add(int64(d)) },
	}
}

func TestStore(t *testing.T) { storetest.Run(t, backend) }

func TestModel(t *testing.T) { storetest.Model(t, backend, 10_000) }
