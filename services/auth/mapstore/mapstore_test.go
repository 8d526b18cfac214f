package mapstore_test

import (
	"testing"

	"coatcheck/auth"
	"coatcheck/auth/mapstore"
	"coatcheck/auth/storetest"
)

func TestStore(t *testing.T) {
	store := mapstore.New()
	storetest.Run(t, func(*testing.T) auth.Store { return store })
}

// TestAnotherProcess: what this way of keeping sessions can't do.
func TestAnotherProcess(t *testing.T) {
	storetest.Strangers(t, mapstore.New(), mapstore.New())
}
