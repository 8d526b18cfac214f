package cart

import (
	"context"

	"coatcheck/chassis/fault"
)

// Store keeps carts and orders. Every method is safe for use by any number of
// goroutines in any number of processes at once.
//
// Each change MUST be one atomic step that does all of: recognise an operation
// seen before, check the condition and the limits, change the lines, raise the
// version, set the expiry, and remember the operation and its outcome (also a
// refusal) for the time that the store is set to. No caller may ever see or
// leave half of it, whatever dies when.
//
// Absent is not broken: an absent cart is the zero Cart, and a backend that does
// not answer is fault.Unavailable, never an empty cart. After Unavailable the
// outcome is unknown, and the caller repeats the operation under its key.
type Store interface {
	// Get answers the cart as it is.
	//   ErrMoved: the guest's cart was merged into a user's
	Get(ctx context.Context, owner Owner) (Cart, error)

	// Change makes the change. A change that changes nothing (setting what is
	// set) succeeds and leaves version and expiry alone.
	//   ErrStale, ErrQuantityLimit, ErrLineLimit, ErrKeyReused, ErrMoved
	Change(ctx context.Context, owner Owner, change Change) (Result, error)

	// Checkout stores the order that price makes of the cart and empties the
	// cart, in one step, if the cart is still at the version that price was
	// given; it answers the order and whether it is a replay. The operation must
	// be conditional. An error of price is answered as it is and is not
	// remembered.
	//   ErrStale, ErrKeyReused
	Checkout(ctx context.Context, owner Owner, op Operation, price func(Cart) (Order, error)) (Order, bool, error)

	// Merge moves the guest's lines into the user's cart, exactly once, however
	// often and by however many it is called and wherever it is interrupted:
	// whoever touches either cart next completes it. The quantities are summed;
	// limits do not bind. Afterwards, also for a guest that had no cart, the
	// guest's cart answers ErrMoved for as long as guests' carts live.
	// Until a merge is complete neither cart expires.
	Merge(ctx context.Context, guest, user Owner) error

	// Order answers an order of the owner; ErrNoSuchOrder if there is none.
	Order(ctx context.Context, owner Owner, id string) (Order, error)

	// Orders answers up to limit orders of the owner with ids before the one
	// given ("": from the newest), newest first.
	Orders(ctx context.Context, owner Owner, before string, limit int) ([]Order, error)
}

// Eraser deletes all that a Store keeps of a user but the records of operations,
// which hold nothing of a cart and expire. It is apart from Store because only
// the end of an account needs it.
//
// For an hour afterwards the cart is closed, to changes, merges and checkouts:
// ErrClosed. So what was under way when the account ended brings nothing back.
// Done again, wherever it was cut short, it has the same result.
type Eraser interface {
	Erase(ctx context.Context, owner Owner) error
}

// Batcher does at once what many ask of a Store. It is apart from Store because a
// store is whole without it.
type Batcher interface {
	// Batch does each step as Get or Change would, in one round trip to the
	// backend: the steps of one owner in their order, and each with an outcome of
	// its own, which no other step has a part in.
	Batch(ctx context.Context, steps []*Step)
}

// Step is one reading or change in a batch, and what came of it.
type Step struct {
	Owner  Owner
	Change *Change // nil: a reading
	// Result is of a reading the cart alone.
	Result Result
	Err    error
	// Apart says that it takes more than one round trip: there is no result, and
	// the same is to be asked of Get or Change. It may have been done in part.
	Apart bool
}

// BatchStore is a Store that takes batches.
type BatchStore interface {
	Store
	Batcher
}

// The refusals of a Store. They are final: the cart was not changed.
var (
	ErrStale         = fault.New(fault.Stale, "stale_version", "The cart is at another version than the one named.")
	ErrQuantityLimit = fault.New(fault.Refused, "quantity_limit", "A line would hold more of one product than the shop allows.")
	ErrLineLimit     = fault.New(fault.Refused, "line_limit", "The cart would hold more lines than the shop allows.")
	ErrKeyReused     = fault.New(fault.Refused, "idempotency_key_reused", "The idempotency key was used for another request. Draw a new key for each request.")
	ErrMoved         = fault.New(fault.Refused, "cart_moved", "This guest's cart has moved into a user's cart at log-in.")
	ErrClosed        = fault.New(fault.Refused, "account_closed", "This account is being deleted. Delete it again if that did not succeed, or wait for an hour.")
	ErrNoSuchOrder   = fault.New(fault.Absent, "no_such_order", "There is no such order.")
)
